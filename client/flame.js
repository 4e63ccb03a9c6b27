(function () {
"use strict";
const ROW = 17, MARGIN = 10, PADDING = 3, GAP = 0.6, GAP_FROM = 3, THIN = 10;
const svg = document.getElementById("flame");
const by = id => document.getElementById(id);
const total = Number(svg.dataset.total) || 1, rows = Number(svg.dataset.rows), top = Number(svg.dataset.top);
const query = by("query"), details = by("details"), matched = by("matched"), hits = by("hits"), head = by("head");
let icicle = svg.dataset.icicle === "1", width = svg.width.baseVal.value, glyph = 7.23, pattern = null;

const frames = Array.from(svg.getElementsByClassName("f"), g => ({
	g, rect: g.querySelector("rect"), text: g.querySelector("text"), tip: g.querySelector("title").textContent,
	x: Number(g.dataset.x), w: Number(g.dataset.w), d: Number(g.dataset.d), name: g.dataset.n,
}));
const byElement = new Map(frames.map(f => [f.g, f]));
let shown = frames[0];

function measure() {
	const probe = document.createElementNS(svg.namespaceURI, "text");
	probe.textContent = "0".repeat(100);
	svg.appendChild(probe);
	glyph = probe.getComputedTextLength() / 100 || glyph;
	probe.remove();
}

function label(name, pixels) {
	const room = Math.floor((pixels - 2 * PADDING) / glyph), characters = Array.from(name);
	if (characters.length <= room)
		return name;
	return room < 3 ? "" : characters.slice(0, room - 1).join("") + "…";
}

/* Puts every frame where it belongs when the one shown is as wide as the picture. */
function place() {
	const inner = width - 2 * MARGIN, scale = inner / shown.w, end = shown.x + shown.w;
	for (const f of frames) {
		const parent = f.d < shown.d && f.x <= shown.x && f.x + f.w >= end;
		const away = !parent && (f.d < shown.d || f.x < shown.x || f.x + f.w > end);
		f.g.classList.toggle("parent", parent);
		f.g.classList.toggle("away", away);
		if (away)
			continue;
		const x = parent ? MARGIN : MARGIN + (f.x - shown.x) * scale, w = parent ? inner : f.w * scale;
		const y = top + ROW * (icicle ? f.d : rows - 1 - f.d);
		f.g.classList.toggle("thin", w < THIN);
		f.rect.setAttribute("x", x.toFixed(2));
		f.rect.setAttribute("width", (w > GAP_FROM ? w - GAP : w).toFixed(2));
		f.rect.setAttribute("y", y);
		f.text.setAttribute("x", (x + PADDING).toFixed(2));
		f.text.setAttribute("y", y + 12);
		f.text.textContent = label(f.name, w);
	}
}

function zoom(frame) {
	shown = frame;
	place();
}

/* The share is of the whole: what lies on a match that counts already isn't counted again. */
function search(text, ignoreCase) {
	let found = 0, sum = 0, end = -1, message = "";
	pattern = null;
	if (text) {
		try {
			pattern = new RegExp(text, ignoreCase ? "iu" : "u");
		} catch (error) {
			message = "No regular expression: " + error.message;
		}
	}
	for (const f of frames) {
		const match = pattern !== null && f.d > 0 && pattern.test(f.name);
		f.g.classList.toggle("match", match);
		if (!match)
			continue;
		found++;
		if (f.x >= end) {
			sum += f.w;
			end = f.x + f.w;
		}
	}
	if (pattern)
		message = "Matched " + (100 * sum / total).toFixed(2) + "% in " + found + (found === 1 ? " frame" : " frames") +
			(by("left-out") ? " of those shown" : "");
	(hits || matched).textContent = message;
	if (query)
		query.classList.toggle("bad", Boolean(text) && !pattern);
}

function ask() {
	if (query) {
		query.focus();
		query.select();
		return;
	}
	const text = prompt("Search: a regular expression", pattern ? pattern.source : "");
	if (text !== null)
		search(text, true);
}

/* The picture may be taller than the window: what it begins with must be seen. */
function toRoot() {
	window.scrollTo(0, icicle ? 0 : document.documentElement.scrollHeight);
}

function flip() {
	icicle = !icicle;
	place();
	toRoot();
}

/* A page's picture is as wide as its window. */
function fit() {
	if (query) {
		width = Math.max(320, document.documentElement.clientWidth);
		svg.setAttribute("width", width);
		svg.setAttribute("viewBox", "0 0 " + width + " " + svg.height.baseVal.value);
		for (const e of svg.querySelectorAll(":scope > .right"))
			e.setAttribute("x", width - MARGIN);
	}
	place();
}

const frameOf = event => {
	const g = event.target.closest ? event.target.closest(".f") : null;
	return g && byElement.get(g);
};
svg.addEventListener("click", event => {
	const frame = frameOf(event);
	if (frame)
		zoom(frame);
});
svg.addEventListener("mouseover", event => {
	const frame = frameOf(event);
	details.textContent = frame ? frame.tip : "";
});
by("reset").addEventListener("click", () => zoom(frames[0]));
by("flip").addEventListener("click", flip);
if (by("search"))
	by("search").addEventListener("click", ask);
if (query) {
	const again = () => search(query.value, !by("case").checked);
	query.addEventListener("input", again);
	by("case").addEventListener("change", again);
	window.addEventListener("resize", fit);
}
if (head)
	window.addEventListener("scroll", () => head.setAttribute("transform", "translate(0 " + window.scrollY + ")"));
window.addEventListener("keydown", event => {
	if (event.key === "Escape") {
		if (query)
			query.value = "";
		search("", true);
		zoom(frames[0]);
	} else if (event.target !== query && !event.ctrlKey && !event.metaKey && !event.altKey && event.key === "/") {
		event.preventDefault();
		ask();
	}
});
measure();
svg.classList.add("live");
fit();
toRoot();
})();
