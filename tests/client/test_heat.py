# SPDX-License-Identifier: GPL-2.0-or-later
"""stackctl heat: which cell a second is in, what the hottest column is, and the picture in which a window is picked."""
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from fake_stackd import HEALTHY, HOSTILE, NOW_US, WINDOW, error, reply
from harness import DIRECTORY, TIMEOUT, bad, good, in_terminal, main, run, test

MINUTE = 60
PHASE_US = 370_000  # of stackd's ticks
SVG = "{http://www.w3.org/2000/svg}"


def point(seconds, step_s=1, **values):
    """A step that ends so many seconds after 09:50:00.37."""
    time_us = NOW_US - 600 * 10**6 + PHASE_US + seconds * 10**6
    return {"time_us": time_us, "step_s": step_s, "gate_open": False, "load": 0.5, "lost": 0, "values": values}


def series(points):
    """Of a time of which nothing else is known."""
    return {"GetSeries": [reply(window=WINDOW, points=points)], "GetHeat": [reply(window=WINDOW, step_us=50000, steps=[])]}


FIRST = NOW_US - 20 * 10**6  # of what is kept within seconds


def within(steps, step_us=50000, since_us=FIRST, until_us=NOW_US - 400_000):
    """steps: (us after FIRST, on_cpu, hits). In two replies."""
    steps = [{"time_us": FIRST + at, "on_cpu": on_cpu, "hits": hits} for at, on_cpu, hits in steps]
    common = {"window": WINDOW, "since_us": since_us, "until_us": until_us, "step_us": step_us}
    return {"GetHeat": [reply(continues=True, steps=steps[:3], **common), reply(steps=steps[3:], **common)]}


def pulses(step_us=50000):
    """One CPU from 100 to 200 ms of each of 19 seconds, two in the seventh from 150 ms on."""
    return within([(s * 10**6 + at // step_us * step_us, (2 if (s, at) == (7, 150_000) else 1) * 50 * 10**6, 2) for s in range(19) for at in (100_000, 150_000)], step_us)


def busy_each_minute():
    """Ten minutes; a second of on-CPU at the seventh second of each minute, two at the eighth of the fifth minute."""
    points = []
    for s in range(600):
        on_cpu = 10**9 if s % MINUTE == 7 else 2 * 10**9 if s == 5 * MINUTE + 8 else 0
        points.append(point(s + 1, on_cpu=on_cpu, blocked=10**6))
    return points


def cells(out):
    """The map's lines without their labels."""
    return [line[8:] for line in out.splitlines()[2:] if re.match(r" *(0|\d+\w+) ", line)]


@test
def asks_for_the_last_ten_minutes_of_what_was_said():
    done = good("heat", "--step=1s", "--since=@1795428000", "--until=@1795428600", "--unit=a", "--stack=00000000000000bb", answers=series(busy_each_minute()))
    (method, parameters, _), = done.calls
    assert method == "GetSeries" and parameters["stack"] == "00000000000000bb", done.calls
    assert parameters["filter"] == {"unit": "a", "since_us": 1795428000 * 10**6, "until_us": 1795428600 * 10**6}
    done = good("heat", "--step=1s", "--until=@1795428600", answers=series(busy_each_minute()))
    assert done.calls[0][1]["filter"]["since_us"] == 1795428000 * 10**6


@test
def seconds_are_where_they_belong():
    out = good("heat", answers=series(busy_each_minute())).out
    rows = cells(out)
    # 120 columns are room for 60 of ten seconds.
    assert out.startswith("on-cpu, a column 10s, a row 1s of it; █ is 2.00s/s\n"), out
    assert len(rows) == 10 and {len(row) for row in rows} == {60}, rows
    for r, row in enumerate(rows):
        for c, mark in enumerate(row):
            want = "█" if (r, c) == (8, 30) else "▓" if r == 7 and c % 6 == 0 else "·"
            assert mark == want, (r, c, mark, out)
    assert out.splitlines()[12] == " " * 38 + "^", out
    assert out.splitlines()[13].split() == ["09:50:00", "09:52:00", "09:54:00", "09:56:00", "09:58:00"]
    assert "Most is from 2026-11-23 09:55:00 to 2026-11-23 09:55:10, 300ms/s:" in out
    # By as much as stackd's ticks are off the second, and a bit shorter, so that no other tick gets into it.
    assert out.splitlines()[-1] == "stackctl flame --metric on-cpu --since @1795427700.470000 --until @1795427710.270000 -o flame.svg", out


@test
def a_time_picks_its_column():
    out = good("heat", "2026-11-23 09:52:15", "-m", "blocked", answers=series(busy_each_minute())).out
    assert "Picked: from 2026-11-23 09:52:10 to 2026-11-23 09:52:20, 1.00ms/s:" in out, out
    assert out.splitlines()[-1].startswith("stackctl flame --metric blocked --since @1795427530.470000 --until @1795427540.27"), out
    assert "not in the map" in bad("heat", "2026-11-23 11:00", answers=series(busy_each_minute()))
    assert "as a time" in bad("heat", "soon", answers=series(busy_each_minute()))


@test
def command_can_be_given_to_a_shell():
    name = "it's $(a) name; rm"
    out = good("heat", "--comm", name, "--pid=12", "--unit=a@b.service", answers=series(busy_each_minute())).out
    words = subprocess.run(["bash", "-c", "stackctl() { printf '%s\\n' \"$@\"; }; " + out.splitlines()[-1]], capture_output=True, text=True).stdout.splitlines()
    assert words[:9] == ["flame", "--metric", "on-cpu", "--pid", "12", "--unit", "a@b.service", "--comm", name], words


@test
def map_fits_the_terminal():
    for columns, shape in [(72, (10, 60)), (50, (15, 40)), (24, (60, 10))]:
        text = in_terminal("heat", "--no-pager", env={"NO_COLOR": "1"}, columns=columns, answers=series(busy_each_minute()))[0]
        rows = cells(text)
        assert (len(rows), len(rows[0])) == shape, (columns, len(rows), len(rows[0]), text)
    text = in_terminal("heat", "--no-pager", env={"NO_COLOR": "1", "LANG": "C"}, answers=series(busy_each_minute()))[0]
    assert text.isascii() and "#" in text and "*" in text, text
    text = in_terminal("heat", "--no-pager", answers=series(busy_each_minute()))[0]
    assert text.count("\x1b[0;1;31m█\x1b[0m") >= 1, text


@test
def what_is_not_known_is_not_shown_as_nothing():
    points = [p for i, p in enumerate(busy_each_minute()) if not 120 <= i < 180]
    rows = cells(good("heat", answers=series(points)).out)
    assert all(row[12:18] == " " * 6 and " " not in row[:12] + row[18:] for row in rows), rows
    assert "Nothing is recorded" in bad("heat", answers=series([]))
    out = good("heat", answers=series([point(s + 1) for s in range(60)])).out
    assert "There is none of it in that time." in out and "stackctl flame" not in out, out


@test
def older_steps_are_longer():
    # Five minutes of ten-second steps, then ten by the second.
    points = [point(10 * i - 290, 10, on_cpu=10**9) for i in range(30)] + busy_each_minute()
    rows = cells(good("heat", answers=series(points)).out)
    assert {len(row) for row in rows} == {90} and all(set(row[:30]) == {"░"} for row in rows), rows
    # Of hours only.
    points = [point(60 * i, 60, on_cpu=10**9) for i in range(-2880, 1)]
    out = good("heat", answers=series(points)).out
    assert "a row 1min" in out and len(cells(out)[0]) <= 112, out


@test
def signed_and_summed_metrics():
    points = [point(s + 1, brk=-4096 if s == 5 else 1024, blocked=10, runnable=20) for s in range(60)]
    out = good("heat", "-m", "brk", answers=series(points)).out
    assert cells(out)[5][0] == "█" and "4.00KiB/s" in out, out
    assert "30ns/s" in good("heat", "-m", "off-cpu", answers=series(points)).out


def draw(*args, answers=None):
    path = os.path.join(DIRECTORY, "heat.svg")
    good("heat", "-o", path, *args, answers=answers or series(busy_each_minute()))
    assert subprocess.run(["xmllint", "--noout", path], capture_output=True, timeout=TIMEOUT).stderr == b""
    return path, ElementTree.parse(path).getroot()


@test
def picture_has_every_second():
    _, root = draw("--unit=<a&b>")
    found = [c for c in root.iter(SVG + "rect") if c.get("class") == "c"]
    assert len(found) == 600
    colours = {}
    for c in found:
        colours.setdefault(c.get("fill"), []).append(c.find(SVG + "title").text)
    assert colours["#b30000"] == ["2026-11-23 09:55:08: 2.00s/s"], colours
    assert len(colours) == 3 and len(colours["#fff7ec"]) == 589, {k: len(v) for k, v in colours.items()}
    assert root.find(SVG + "title").text == "on-cpu --unit '<a&b>' over time"
    points = busy_each_minute()
    del points[100:110]
    _, root = draw(answers=series(points))
    assert len([c for c in root.iter(SVG + "rect") if c.get("fill") == "#d8d8d8"]) == 10
    _, root = draw("--comm", HOSTILE)
    assert "\\x1b" in root.get("data-command")


@test
def picture_picks_a_window_by_two_clicks():
    path, root = draw()
    us = [int(c.get("data-us")) for c in root.iter(SVG + "rect") if c.get("class") == "c"]
    script = root.find(SVG + "script").text
    page = f"""
    const cells = {us}.map(u => ({{ dataset: {{ us: String(u) }}, on: false,
        classList: {{ toggle(_, on) {{ this.cell.on = on; }} }}, matches: () => true }}));
    for (const c of cells) c.classList.cell = c;
    const command = {{}};
    let clicked;
    const picture = {{ dataset: {{ cell: "{root.get('data-cell')}", margin: "{root.get('data-margin')}",
        since: "{root.get('data-since')}", end: "{root.get('data-end')}", from: "{root.get('data-from')}", until: "{root.get('data-until')}",
        command: "stackctl flame" }}, querySelectorAll: () => cells, addEventListener: (_, f) => clicked = f }};
    const document = {{ getElementById: id => id === "heat" ? picture : command }};
    {script}
    const tell = () => console.log(cells.filter(c => c.on).length + " " + command.textContent);
    tell();
    for (const i of [100, 20, 5]) {{ clicked({{ target: cells[i] }}); tell(); }}
    """
    done = subprocess.run(["node", "-e", page], capture_output=True, text=True, timeout=TIMEOUT)
    window = lambda a, b: f"stackctl flame --since @{NOW_US // 10**6 - 600 + a}.470000 --until @{NOW_US // 10**6 - 600 + b}.270000 -o flame.svg"
    assert done.stdout.splitlines() == ["10 " + window(300, 310), "1 " + window(100, 101), "81 " + window(20, 101), "1 " + window(5, 6)], done


@test
def within_a_second():
    done = good("heat", "--unit=a", "--until=@1795428000", answers=pulses())
    (method, parameters, _), = done.calls
    assert method == "GetHeat" and parameters["step_us"] == 50000, done.calls
    assert parameters["filter"] == {"unit": "a", "since_us": NOW_US - 111 * 10**6, "until_us": NOW_US}, parameters
    lines = done.out.splitlines()
    assert lines[0] == "on-cpu, a column 1s, a row 50ms of it; █ is 2.00s/s", done.out
    rows = cells(done.out)
    assert len(rows) == 20 and {len(row) for row in rows} == {20}, rows
    for r, row in enumerate(rows):
        for c, mark in enumerate(row):
            # What the running second will be is not known.
            want = " " if c == 19 and r >= 12 else "█" if (c, r) == (7, 3) else "▓" if c < 19 and r in (2, 3) else "·"
            assert mark == want, (r, c, mark, done.out)
    assert lines[2].split()[0] == "0" and lines[21].split()[0] == "950ms"
    assert lines[22] == " " * 15 + "^", done.out
    assert "Most is from 2026-11-23 09:59:47 to 2026-11-23 09:59:48, 150ms/s:" in done.out, done.out
    assert lines[-1] == "stackctl flame --metric on-cpu --unit a --exact --since @1795427987.000000 --until @1795427988.000000 -o flame.svg", lines[-1]
    # A second that is not over can be looked into as far as it has come.
    running = good("heat", f"@{NOW_US // 10**6 - 1}.1", answers=pulses()).out.splitlines()[-1]
    assert running.endswith("--exact --since @1795427999.000000 --until @1795427999.600000 -o flame.svg"), running
    assert "hits/s" in good("heat", "-m", "hits", answers=pulses()).out
    # There is room for so many seconds, of which the last are shown.
    text = in_terminal("heat", "--no-pager", env={"NO_COLOR": "1"}, columns=18, answers=pulses())[0]
    assert {len(row) for row in cells(text)} == {10}, text


@test
def a_window_within_a_second_is_picked():
    out = good("heat", "2026-11-23 09:59:50.12/+150ms", answers=pulses()).out
    assert "Picked: from 2026-11-23 09:59:50.120 to 2026-11-23 09:59:50.270, 500ms/s:" in out, out
    assert out.splitlines()[22] == " " * 18 + "^", out
    assert out.splitlines()[-1] == "stackctl flame --metric on-cpu --exact --since @1795427990.120000 --until @1795427990.270000 -o flame.svg", out
    out = good("heat", "@1795427990.9/@1795427992.1", answers=pulses()).out
    assert out.splitlines()[22] == " " * 18 + "^^^", out
    assert "Picked: from 2026-11-23 09:59:51 to" in good("heat", "2026-11-23 09:59:51.5", answers=pulses()).out
    for wrong in ("2026-11-23 09:59:30/+1s", "2026-11-23 09:59:59/+2s"):
        assert "not in the map" in bad("heat", wrong, answers=pulses())
    assert "as a window" in bad("heat", "09:59:50/then", answers=pulses())


@test
def exact_is_handed_on():
    flame = {"GetFlame": [reply(metric="on_cpu", window={**WINDOW, "since_us": FIRST + 120000, "until_us": FIRST + 270000}, total=5,
                                frames=[{"name": "f", "object": "a", "kind": "user"}],
                                stacks=[{"stack": "00000000000000aa", "value": 5, "truncated": False, "comm": "a", "frames": [0]}])]}
    path = os.path.join(DIRECTORY, "exact.svg")
    for more in ((), ("-o", path)):
        done = good("flame", "--exact", "--since", f"@{FIRST + 120000:d}"[:11] + ".12", "-v", *more, answers=flame)
        assert done.calls[0][1]["exact"] is True, done.calls
    with open(path) as f:
        assert "2026-11-23 09:59:40.120 to 2026-11-23 09:59:40.270 (150ms, of samples taken in it alone)" in f.read()
    done = good("stacks", "--exact", answers={"ListStacks": [reply(window=WINDOW, stacks=[])]})
    assert done.calls[0][1] == {"exact": True}


@test
def picture_within_a_second():
    done, root = draw("--comm=x", answers=pulses(20000))
    found = [c for c in root.iter(SVG + "rect") if c.get("class") == "c"]
    assert len(found) == 20 * 50 and sum(c.get("fill") == "#d8d8d8" for c in found) == 20
    assert root.get("data-cell") == "20000" and root.get("data-margin") == "0" and root.get("data-command").endswith("--comm x --exact")
    assert [c.find(SVG + "title").text for c in found if c.get("fill") == "#b30000"] == ["2026-11-23 09:59:47.140: 5.00s/s"]
    assert (root.get("data-from"), root.get("data-until")) == (str(FIRST + 7 * 10**6), str(FIRST + 8 * 10**6))
    assert (root.get("data-since"), root.get("data-end")) == (str(FIRST), str(NOW_US - 400_000))


@test
def faults_are_told():
    assert "let the name" in bad("heat", "-o", "x.png") and "--json" in bad("heat", "--json", "-o", "x.svg")
    assert "No such process" in bad("heat", "--pid=5", answers={"GetHeat": [error("NotFound", what="process 5")]})
    broken = point(1)
    del broken["values"]
    assert '"values"' in bad("heat", answers=series([broken]))
    assert '"points"' in bad("heat", answers=series([point(2), point(1)])) and '"points"' in bad("heat", answers=series([point(1, 0)]))
    assert "does not know GetHeat" in bad("heat", answers={}) and "does not know GetSeries" in bad("heat", "--step=1s", answers={})
    assert '"points"' in good("heat", "--json", "-m", "blocked", answers=series(busy_each_minute())).out
    assert '"steps"' in good("heat", "--json", answers=pulses()).out
    assert '"step_us"' in bad("heat", answers=within([], step_us=70000)) and '"on_cpu"' in bad("heat", answers={"GetHeat": [
        reply(window=WINDOW, since_us=FIRST, until_us=NOW_US, step_us=50000, steps=[{"time_us": FIRST}])]})
    for step in ("30ms", "4ms", "0", "2s", "x"):
        assert "as a step" in bad("heat", "--step", step), step
    assert "whole seconds" in bad("heat", "--step=20ms", "-m", "blocked")
    assert "room for 112 seconds" in bad("heat", "--step=20ms", "--since=-10min")
    assert "Nothing is recorded" in bad("heat", "--step=20ms", answers=series(busy_each_minute()))
    assert "--exact" in bad("flame", "--exact", "--hot-cold") and "--exact" in bad("flame", "--exact", "--anomaly=1")
    kept = error("NotKept", reason="of that window whole seconds are kept, if any", since_us=FIRST, until_us=NOW_US)
    for verb, method in (("flame", "GetFlame"), ("stacks", "ListStacks")):
        said = bad(verb, "--exact", "--since=-1h", answers={method: [kept]})
        assert "not kept: of that window" in said and "from 2026-11-23 09:59:40 to 2026-11-23 10:00:00" in said, said


if __name__ == "__main__":
    sys.exit(main())
