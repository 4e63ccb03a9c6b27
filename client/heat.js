// SPDX-License-Identifier: GPL-2.0-or-later
// Picks a window of a heat map: the first click begins it, the second ends it, the third begins another.
"use strict";
(() => {
	const picture = document.getElementById("heat"), command = document.getElementById("command");
	const cells = [...picture.querySelectorAll(".c")], length = Number(picture.dataset.cell), margin = Number(picture.dataset.margin);
	let begun = null;

	// Microseconds as "--since" takes them.
	const time = us => "@" + Math.floor(us / 1e6) + "." + String(us % 1e6).padStart(6, "0");

	// The first and the last cell may reach beyond what is known.
	function pick(begin, end) {
		const from = Math.max(begin, Number(picture.dataset.since)), until = Math.min(end, Number(picture.dataset.end));
		for (const cell of cells)
			cell.classList.toggle("picked", Number(cell.dataset.us) + length > from && Number(cell.dataset.us) < until);
		command.textContent = `${picture.dataset.command} --since ${time(from + margin)} --until ${time(until - margin)} -o flame.svg`;
	}

	picture.addEventListener("click", event => {
		if (!event.target.matches(".c"))
			return;
		const at = Number(event.target.dataset.us);
		if (begun === null) {
			begun = at;
			pick(at, at + length);
		} else {
			pick(Math.min(begun, at), Math.max(begun, at) + length);
			begun = null;
		}
	});
	pick(Number(picture.dataset.from), Number(picture.dataset.until));
})();
