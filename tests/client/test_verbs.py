#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What each verb of stackctl asks for and shows."""
import json
import re
import sys
import time

from fake_stackd import (
    FRAMES,
    HEALTHY,
    HISTORY,
    HOSTILE,
    NOW_US,
    PROCESS,
    STATUS,
    VALUES,
    WINDOW,
    anomaly,
    cluster,
    error,
    flame,
    frame,
    incident,
    point,
    reply,
    summary,
)
from harness import MORE, bad, good, main, run, test

# What readers of folded stacks go by.
FOLDED = re.compile(r"^(.*)\s+(\d+)$")


@test
def status_is_readable():
    done = good("status")
    for line in [
        "stackd 0.1.0 on Linux 6.1.0-18-amd64, 8 CPUs",
        "2h 3min ago",
        "closed (load-low) since Mon 2026-11-23 09:59:00 UTC",
        "auto, opens above 5, closes below 4",
        "0.42 runnable tasks per CPU (by runqueues)",
        "7381, 0 missed",
        "on-cpu by perf_event 49 Hz",
        "off-cpu by tp_btf sched_switch",
        "on-cpu 99.1%, blocked 98.0%",
        "Losses: none",
        "stacks 1.20k of 16.4k",
        "arena 1.0M of 64.0M",
        "1s steps since 2026-11-23 09:45:00: 100k points",
        "1.38 bytes a point",
        "30.0M resident, 12.0M of rings",
        "Source: perf (Source=auto; the kernel has no BTF); no stacks of blocked, brk",
        "73.8s, 1.00% of one CPU",
        "Budget: 0.50% of all CPUs taken of 1% (daemon and helpers 0.20%, in the kernel 0.30%); rates times 0.500; not seen: switches; "
        "budget-left-out ",
        "Stacks: complete 99.00%, frame-pointers 0.75%, table-missing 0.25%\n",
        "86 objects with 604k rows, 1 waiting, 2 without a table; 3 evicted, 0 refused",
        "3 found, 1 suppressed; 1 false alarm a day allowed, told from 1 in 3e7",
        "3 sent",
    ]:
        assert line in done.out, (line, done.out)
    assert "\x1b" not in done.out
    assert good().out.splitlines()[0] == done.out.splitlines()[0], "no verb is status"


@test
def status_shows_losses_by_cause():
    status = {
        **STATUS,
        "losses": [
            {"cause": "stacks-full", "count": 1234},
            {"cause": "quiet", "count": 0},
            {"cause": HOSTILE, "count": 5},
        ],
    }
    done = good("status", answers={"GetStatus": [reply(status=status)]})
    assert "Losses: 1234 stacks-full, 5 \\x1b[31mred" in done.out, done.out
    assert "quiet" not in done.out and "\x1b" not in done.out


@test
def status_report_has_everything():
    done = good("status", "--report")
    document = json.loads(done.out[done.out.index("\n{\n") :])
    assert document["status"] == STATUS and document["gate_history"] == HISTORY
    assert set(document["client"]) == {"version", "system", "kernel", "kernel_version", "machine"}
    assert json.loads(good("status", "--report", "--json").out) == document


@test
def anomalies_oldest_first():
    done = good("anomalies")
    lines = done.out.splitlines()
    assert lines[0].split() == [
        "TIME",
        "TYPE",
        "METRIC",
        "EXPECTED",
        "OBSERVED",
        "FUNCTION",
        "PROCESS",
        "UNIT",
        "CHANCE",
        "STACK",
        "ID",
    ]
    assert [line.split()[-1] for line in lines[1:]] == ["1", "2", "3"]
    assert re.split(r"\s{2,}", lines[1]) == [
        "Nov 23 09:58:21",
        "level-shift",
        "blocked",
        "120ms/s",
        "1.80s/s",
        "do work(int)",
        "gzip[1234]",
        "backup.service",
        "1 in 2e7",
        "00000000000000bb",
        "1",
    ], lines[1]
    assert "TIME" not in good("anomalies", "--no-legend").out


@test
def anomalies_ask_for_what_was_said():
    done = good(
        "anomalies",
        "--since",
        "2026-11-23 09:00",
        "--until=@1795428000.5",
        "--pid",
        "12",
        "--unit=a.service",
        "--cgroup",
        "/x",
        "--comm=c",
        "--exe=/e",
        "--type",
        "level-shift",
        "-n",
        "7",
    )
    assert done.calls == [
        (
            "ListAnomalies",
            {
                "filter": {
                    "pid": 12,
                    "unit": "a.service",
                    "cgroup": "/x",
                    "comm": "c",
                    "exe": "/e",
                    "since_us": 1795424400000000,
                    "until_us": 1795428000500000,
                },
                "type": "level_shift",
                "limit": 7,
            },
            MORE,
        )
    ], done.calls
    before = time.time()
    since = good("anomalies", "--since", "10m").calls[0][1]["filter"]["since_us"] / 1e6
    assert before - 601 < since < time.time() - 599


@test
def anomalies_in_pages():
    pages = [
        reply(True, anomalies=[anomaly(4), anomaly(3)], missed=0),
        reply(anomalies=[anomaly(2), anomaly(1)], missed=0),
    ]
    done = good("anomalies", "--no-legend", answers={"ListAnomalies": pages})
    assert [line.split()[-1] for line in done.out.splitlines()] == ["1", "2", "3", "4"]
    document = json.loads(good("anomalies", "--json", answers={"ListAnomalies": pages}).out)
    assert [a["id"] for a in document["anomalies"]] == [1, 2, 3, 4]


@test
def no_anomalies():
    nothing = {"ListAnomalies": [reply(anomalies=[], missed=0)]}
    assert good("anomalies", answers=nothing).out == "-- No anomalies --\n"
    assert good("anomalies", "-q", answers=nothing).out == ""
    assert json.loads(good("anomalies", "--json", answers=nothing).out) == {"anomalies": [], "missed": 0}


@test
def anomalies_with_odd_values():
    odd = anomaly(
        1,
        process=None,
        unit="",
        cgroup="",
        frames=[],
        score=400.0,
        p_value=0.0,
        metric="faults_minor",
        observed=0.25,
    )
    line = good("anomalies", "--no-legend", answers={"ListAnomalies": [reply(anomalies=[odd], missed=0)]}).out
    assert re.split(r"\s{2,}", line.strip())[2:] == [
        "faults-minor",
        "120M faults/s",
        "0.25 faults/s",
        "-",
        "-",
        "-",
        "1 in 1e400",
        "00000000000000bb",
        "1",
    ], line


@test
def flame_is_folded():
    done = good("flame", "--pid=12", "--metric", "off-cpu", "--stack=00000000000000BB")
    assert (
        done.out == "my_prog;main;do_work(int);vfs_read_[k] 500\ngzip;[truncated];do_work(int);read 200\n"
    ), done.out
    assert done.err == ""
    assert done.calls == [
        ("GetFlame", {"metric": "off_cpu", "filter": {"pid": 12}, "stack": "00000000000000bb"}, MORE)
    ]


@test
def flame_goes_on_over_pages():
    pages = [flame(frames=[frame("main")], stacks=[], continues=True)]
    for i in range(1, 300):
        row = {"stack": f"{i:016x}", "value": i, "truncated": False, "comm": "c;d", "frames": [0, i, i - 1]}
        pages.append(flame(frames=[frame(f"f{i}")], stacks=[row], continues=i < 299))
    done = good("flame", answers={"GetFlame": pages})
    lines = done.out.splitlines()
    assert len(lines) == 299 and lines[-1] == "c:d;main;f299;f298 299", lines[-1]
    document = json.loads(good("flame", "--json", answers={"GetFlame": pages}).out)
    assert (
        len(document["frames"]) == 300
        and document["stacks"][-1]["frames"] == [0, 299, 298]
        and document["total"] == 700
    )


@test
def flame_lines_can_be_read_back():
    names = [
        "a b",
        "x;y",
        "tab\there",
        "new\nline",
        "cr\rlf",
        "nbsp\u00a0em\u2003sep\u2028x",
        "trailing 12",
        "",
        " ",
        "caf\u00e9",
        HOSTILE,
        "\u0085",
        "a" * 5000,
    ]
    frames = [frame(name) for name in names]
    row = {
        "stack": "00000000000000bb",
        "value": 7,
        "truncated": False,
        "comm": "we ird;\n",
        "frames": list(range(len(names))),
    }
    out = good("flame", answers={"GetFlame": [flame(frames=frames, stacks=[row])]}).out
    assert out.count("\n") == 1 and "\x1b" not in out
    stack, value = FOLDED.match(out.rstrip("\n")).groups()
    assert value == "7" and len(stack.split(";")) == 1 + len(names), stack.split(";")
    assert len(out.encode().split()) == 2, "but for the one before the value there are no blanks"


@test
def flame_verbose_tells_the_window_apart():
    done = good("flame", "-v")
    assert (
        "12 lost" in done.err and "on-cpu from 2026-11-23 09:45:00 to 2026-11-23 10:00:00" in done.err
    ), done.err
    assert all(FOLDED.match(line) for line in done.out.splitlines())


@test
def empty_flame():
    nothing = {"GetFlame": [flame(frames=[], stacks=[], total=0)]}
    done = good("flame", answers=nothing)
    assert done.out == "" and "Nothing was recorded" in done.err
    assert good("flame", "-q", answers=nothing).err == ""


@test
def top_by_function():
    done = good("top", "-n", "2", "--by=function", "-m", "on-cpu")
    rows = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()]
    assert rows == [
        ["CHILDREN%", "SELF%", "SELF", "+/-", "FUNCTION", "OBJECT"],
        ["90.0%", "70.0%", "700ms", "14%", "do work(int)", "prog"],
        ["30.0%", "30.0%", "300ms", "-", "vfs_read", "[kernel]"],
    ], rows
    assert done.calls == [("GetTop", {"by": "function", "metric": "on_cpu", "limit": 2}, MORE)], done.calls


@test
def top_by_stack():
    row = {
        "stack": "00000000000000bb",
        "frame": frame("vfs_read", "[kernel]", "kernel"),
        "frames": FRAMES,
        "self": 10,
        "total": 10,
        "self_standard_error": 0,
        "total_standard_error": 0,
    }
    done = good(
        "top",
        "--by",
        "stack",
        answers={"GetTop": [reply(metric="hits", window=WINDOW, total=40, rows=[row])]},
    )
    assert re.split(r"\s{2,}", done.out.splitlines()[1].strip()) == [
        "25.0%",
        "10 hits",
        "0%",
        "00000000000000bb",
        "vfs_read",
        "[kernel]",
    ], done.out
    assert (
        good("top", answers={"GetTop": [reply(metric="hits", window=WINDOW, total=0, rows=[])]}).out
        == "-- No functions --\n"
    )


@test
def stacks_list():
    done = good("stacks", "--pid", "1234", "-n", "all")
    rows = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()]
    assert rows[1] == ["00000000000000bb", "2.50s", "2.0%", "vfs_read < entry_SYSCALL_64 < read < 2 more"], rows
    assert rows[2][-1].endswith("< 2 more < [truncated]")
    assert done.calls[0][1]["filter"] == {"pid": 1234} and done.calls[0][1]["limit"] == 10000


@test
def stacks_one():
    done = good("stacks", "00000000000000bb", "--since=@1595427100")
    assert done.calls == [
        ("GetStack", {"stack": "00000000000000bb", "filter": {"since_us": 1595427100000000}}, MORE)
    ]
    assert "Stack 00000000000000bb, from 2026-11-23 09:45:00 to 2026-11-23 10:00:00" in done.out
    lines = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()]
    assert ["0", "vfs_read", "[kernel]", "kernel"] in lines and ["4", "main", "prog", "user"] in lines
    spark = next(line for line in lines if line[0] == "on-cpu")
    assert (
        spark[1:4] == ["2.50s", "2.0%", "899us/s"]
        and len(spark[4]) >= 50
        and spark[4][0] == "█"
        and spark[4][-1] == "▁"
    ), spark
    assert [
        "1234",
        "gzip",
        "backup.service",
        "2.50s",
        "7.00s",
        "0ns",
        "4.20k",
        "Nov 23 09:00:00",
    ] in lines, lines


@test
def stacks_lines():
    done = good("stacks", "00000000000000bb", "--lines")
    assert done.calls == [("GetLines", {"stack": "00000000000000bb"}, MORE)]
    text = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()]
    assert text[0] == ["50.0 % of it this way:"] and ["40.0 % of it this way:"] in text, text  # what has the same lines is one way
    assert ["0", "check (inlined)", "/src/check.h:3", "libc.so.6"] in text and ["2", "main", "/src/prog.c:10", "prog"] in text, text
    assert ["1", "main", "/src/prog.c:12", "prog"] in text and ["0", "read", "libc.so.6"] in text, text
    assert done.out.endswith("No lines of libz.so.1: no debug information.\n")
    assert good("stacks", "00000000000000bb", "--lines", answers={"GetLines": [reply(stack="00000000000000bb", variants=[], missing=[])]}).out == (
        "stackd has no addresses of this stack: they are kept for as long as it is met now and then.\n"
    )
    assert "takes a stack" in bad("stacks", "--lines")
    assert good("stacks", "--lines", "7").calls[0][1]["limit"] == 7


@test
def missing_debug_files():
    done = good("missing-debug")
    assert done.calls == [("ListMissingDebug", {}, MORE)], done.calls
    assert [line.split() for line in done.out.splitlines()[1:]] == [["0a1b2c3d", "libz.so.1.2.13"], ["ffee0011", "shop"]], done.out
    assert good("missing-debug", answers={"ListMissingDebug": [reply(files=[])]}).out == "-- No files without debug information --\n"


@test
def stacks_series_of_mixed_steps():
    points = [point(60 * m, 60, on_cpu=60 * 10**9) for m in range(14, 0, -1)] + [
        point(s, 1, on_cpu=10**9) for s in range(59, -1, -1)
    ]
    done = good(
        "stacks",
        "00000000000000bb",
        answers={"GetStack": [reply(window=WINDOW, stack=summary(), points=points, slices=[])]},
    )
    line = next(line for line in done.out.splitlines() if line.startswith("on-cpu"))
    assert "1.00s/s" in line and line.endswith("█" * 60), line


@test
def explain_tells_the_whole_story():
    moved = dict(incident()["moved"][0], anomaly=2)
    answers = {"ListIncidents": [reply(incidents=[incident(9), incident(7, moved=[moved])])]}
    done = good("explain", "2", answers=answers)
    assert "Anomaly 2: blocked of do work(int) in gzip[1234], backup.service" in done.out, done.out
    assert "The level of blocked has moved from 120ms/s to 1.80s/s, since 2026-11-23 09:58:10; it was told 12s later." in done.out
    assert "chance alone does that 1 in 2e7 times (score 7.3)" in done.out, done.out
    assert "6.50 runnable tasks per CPU, and the gate was open" in done.out
    assert 'incident 7, "lock contention in pool_get" (12 anomalies). What to do: stackctl clusters 00000000000000c1' in done.out
    assert "▁" in done.out and "vfs_read" in done.out and "stackctl flame --anomaly 2" in done.out
    method, parameters, _ = next(call for call in done.calls if call[0] == "GetStack")
    assert parameters["stack"] == "00000000000000bb" and parameters["filter"]["exe"] == "/usr/bin/gzip", parameters
    assert parameters["filter"]["until_us"] - parameters["filter"]["since_us"] <= 732 * 10**6


@test
def explain_says_it_by_type():
    for kind, text in (
        ("new_stack", "A stack that was not seen before has 1.80s/s of blocked"),
        ("vanished_stack", "The stack is gone: it had 120ms/s of blocked, now 1.80s/s"),
        ("spike", "There is 1.80s/s of blocked where 120ms/s was to be expected"),
        ("drop", "There is 1.80s/s of blocked where 120ms/s was to be expected"),
    ):
        answers = {"ListAnomalies": [reply(anomalies=[anomaly(5, type=kind)], missed=0)], "ListIncidents": [reply(incidents=[])]}
        done = good("explain", "5", answers=answers)
        assert text in done.out and "incident" not in done.out, done.out


@test
def explain_needs_one_that_is_kept():
    assert "takes its number" in bad("explain")
    assert "is no anomaly's number" in bad("explain", "x")
    assert "No such anomaly is kept: 99" in bad("explain", "99")


@test
def processes_list():
    done = good("processes", "-u", "backup")
    assert re.split(r"\s{2,}", done.out.splitlines()[1].strip()) == [
        "1234",
        "gzip",
        "Nov 23 09:00:00",
        "backup.service",
        "2.50s",
        "7.00s",
        "0ns",
        "4.20k",
        "0",
    ], done.out
    assert done.calls == [("ListProcesses", {"filter": {"unit": "backup"}}, MORE)]


@test
def processes_not_told_apart():
    others = {"process": dict(PROCESS, pid=0, start_us=0), "values": VALUES}
    done = good("processes", answers={"ListProcesses": [reply(window=WINDOW, processes=[others])]})
    row = re.split(r"\s{2,}", done.out.splitlines()[1].strip())
    assert row[:2] == ["(others)", "gzip"], done.out


@test
def gate_shows_history_oldest_first():
    out = good("gate").out
    rows = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines() if line]
    assert rows[-4:] == [
        ["TIME", "STATE", "LOAD", "CAUSE"],
        ["Nov 23 09:58:00", "open", "7.25", "load"],
        ["Nov 23 09:59:00", "closed", "0.40", "load-low"],
        ["Nov 23 09:59:30", "closed", "0.30", "budget-lowered"],
    ], rows
    assert "closed (load-low) since" in out
    assert (
        good("gate", "-n1").out.splitlines()[-1].endswith("budget-lowered")
        and "7.25" not in good("gate", "-n1").out
    )


@test
def gate_is_set():
    done = good("gate", "open", "--for", "60s")
    assert done.calls == [("SetGate", {"mode": "open", "duration_us": 60000000}, MORE)]
    assert "held open until Mon 2026-11-23 10:01:00 UTC" in done.out, done.out
    assert good("gate", "close").calls[0][1] == {"mode": "closed"}
    assert good("gate", "auto", "-q").out == ""


@test
def lists_go_on_from_reply_to_reply():
    def paged(method, *keys):
        """The healthy answer, a row of each list in a reply of its own."""
        whole = HEALTHY[method][0]["parameters"]
        rest = {k: v for k, v in whole.items() if k not in keys}
        pages = [
            reply(True, **rest, **{k: [row] if k == key else [] for k in keys})
            for key in keys
            for row in whole[key]
        ]
        return {method: pages + [reply(**rest, **{k: [] for k in keys})]}

    for args, method, keys in [
        (["top"], "GetTop", ["rows"]),
        (["stacks"], "ListStacks", ["stacks"]),
        (["stacks", "00000000000000bb"], "GetStack", ["slices", "points"]),
        (["processes"], "ListProcesses", ["processes"]),
        (["gate"], "GetGate", ["history"]),
        (["flame"], "GetFlame", ["frames", "stacks"]),
    ]:
        assert good(*args, answers=paged(method, *keys)).out == good(*args).out, args
        assert (
            json.loads(good(*args, "--json", answers=paged(method, *keys)).out)
            == HEALTHY[method][0]["parameters"]
        ), args


def leak(stack, **fields):
    sizes = {"bytes": 3 << 20, "older_1min": 2 << 20, "older_10min": 1 << 20, "older_1h": 0, "blocks": 768}
    return {"kind": "process", "pid": 7, "comm": HOSTILE, "stack": stack, "frames": FRAMES, "truncated": False, **sizes, **fields}


@test
def leaks_tell_what_grows():
    watches = [{"kind": "process", "pid": p, "comm": "web", "state": s, "functions": 9} for p, s in ((7, "watched"), (8, "ended"))]
    rows = [leak("a" * 16, per_minute=5 << 20, grows=True), leak("b" * 16, per_minute=-(1 << 20), grows=False), leak("c" * 16)]
    answer = {"counted_us": NOW_US, "bytes": 9 << 20, "unnamed": 2048, "left_out": 0, "leaks": rows}
    answers = {"ListMemoryWatches": [reply(watches=watches)], "ListLeaks": [reply(**answer)]}
    done = good("leaks", "--full", answers=answers)
    lines = done.out.splitlines()
    assert "9.00MiB held" in lines[0] and "2026-11-23 10:00:00" in lines[0] and "2.00KiB by stacks whose names" in lines[0], done.out
    assert "no room" not in lines[0] and lines[2].split()[:3] == ["STACK", "HELD", "BLOCKS"], done.out
    for word in ("5.00MiB yes", "3.00MiB", "2.00MiB", "1.00MiB", "768", "[7]", "do work(int) < main"):
        assert word in " ".join(lines[3].split()), (word, lines[3])
    assert "-1.00MiB no" in " ".join(lines[4].split()) and "768 - -" in " ".join(lines[5].split()), done.out
    assert "\x1b" not in done.out
    assert json.loads(good("leaks", "--json", answers=answers).out) == answer
    pages = [reply(True, **{**answer, "leaks": rows[:2]}), reply(**{**answer, "leaks": rows[2:]})]
    assert good("leaks", "--full", answers={**answers, "ListLeaks": pages}).out == done.out
    early = {**answers, "ListLeaks": [reply(bytes=0, unnamed=0, left_out=0, leaks=[])]}
    done = good("leaks", "--pid=7", "-n", "3", answers=early)
    assert done.calls[-1][:2] == ("ListLeaks", {"pid": 7, "limit": 3}), done.calls
    assert "Nothing has been counted yet" in done.out, done.out
    assert "process 8 is not watched" in bad("leaks", "--pid=8", answers=answers)
    nothing = {"ListMemoryWatches": [reply(watches=watches[1:])]}
    assert 'No heap is watched: "stackctl watch-memory --pid=PID"' in bad("leaks", answers=nothing)


@test
def units_are_watched():
    group = {"unit": "web.service", "configured": False, "state": "watched", "processes": 3, "watched": 2, "left_out": 1, "since_us": NOW_US}
    kept = {**group, "configured": True, "left_out": 0, "cgroup": "/a" + HOSTILE, "until_us": NOW_US}
    del kept["unit"]
    over = {**group, "state": "ended", "reason": "uid 0 asked for it", "ended_us": NOW_US}
    watch = {"kind": "process", "pid": 7, "comm": HOSTILE, "unit": "web.service", "group": "web.service", "state": "watched", "functions": 9, "since_us": NOW_US}
    done = good("watch-memory", "--unit=web", "--for=1min", "--full", answers={"WatchMemory": [reply(group=group, watches=[watch])]})
    assert done.calls[-1][:2] == ("WatchMemory", {"unit": "web", "duration_us": 60 * 10**6}), done.calls
    assert "web.service: 2 of 3 processes watched, no room for 1." in done.out and "--metric=heap --unit=web.service" in done.out, done.out
    assert "\x1b" not in done.out
    answers = {"ListMemoryWatches": [reply(watches=[watch], groups=[group, kept, over])]}
    done = good("watch-memory", "--full", answers=answers)
    for line in ("no room for 1.", "until Mon 2026-11-23 10:00:00 UTC, as WatchMemory= says.", "web.service: no longer watched: uid 0 asked for it."):
        assert line in done.out, (line, done.out)
    assert "\x1b" not in done.out and "UNIT" in done.out
    lone = {**watch, "pid": 8, "comm": "job"}
    del lone["group"]
    status = {**STATUS, "memory_watches": [watch, lone], "memory_groups": [group]}
    shown = good(answers={**HEALTHY, "GetStatus": [reply(status=status)]}).out
    assert "Heaps: web.service 2 of 3 processes, job[8] of web.service" in shown, shown
    assert "Heaps" not in good().out
    error = {"error": "org.stackd.NotWatched", "parameters": {"unit": "web.service", "reason": "it has no processes"}}
    assert "The memory of web.service can't be watched: it has no processes." in bad("watch-memory", "-u", "web", answers={"WatchMemory": [error]})
    assert "web.service: it has no processes." in bad("unwatch-memory", "-u", "web", answers={"UnwatchMemory": [error]})
    assert "one only" in bad("watch-memory", "-u", "web", "-p", "3") and "one only" in bad("unwatch-memory", "-u", "web", "--cgroup=/a")
    assert "--for needs" in bad("watch-memory", "--for=1s") and "Whose?" in bad("unwatch-memory")


@test
def kernel_memory_is_watched_and_listed():
    watch = {"kind": "kernel", "pid": 0, "comm": "", "state": "watched", "functions": 4, "calls_per_s": 1234.0, "share": 0.034}
    done = good("watch-memory", "--kernel", "--for=10m", answers={"WatchMemory": [reply(watch={**watch, "until_us": NOW_US})]})
    assert done.calls == [("WatchMemory", {"kernel": True, "duration_us": 600 * 10**6}, done.calls[0][2])], done.calls
    assert "the kernel's memory" in done.out and "until" in done.out and "1234 times a second" in done.out, done.out
    assert "3.4% of the CPU time that is used" in done.out and "--metric=kmem" in done.out, done.out
    listed = good("watch-memory", "--full", answers={"ListMemoryWatches": [reply(watches=[watch], groups=[])]}).out
    assert listed.splitlines()[1].split()[:4] == ["kernel", "-", "-", "-"], listed
    assert "one only" in bad("watch-memory", "--kernel", "--pid=1", answers={})
    assert "--for needs --pid, --unit, --cgroup or --kernel" in bad("watch-memory", "--for=1m", answers={})
    assert good("unwatch-memory", "--kernel", answers={"UnwatchMemory": [reply()]}).calls[0][:2] == ("UnwatchMemory", {"kernel": True})
    kernel = {"name": "alloc_pipe_info", "object": "[kernel]", "kind": "kernel"}
    row = leak("d" * 16, kind="kernel", frames=[*FRAMES, kernel])
    answers = {"ListMemoryWatches": [reply(watches=[watch])], "ListLeaks": [reply(counted_us=NOW_US, bytes=1, unnamed=0, left_out=0, leaks=[row])]}
    line = good("leaks", "--pid=7", "--full", answers=answers).out.splitlines()[3]
    assert "kernel" in line.split() and "alloc_pipe_info < vfs_read" in line, line


@test
def incidents_oldest_first():
    rows = [incident(8, closed=False, severity="critical"), incident(7)]
    done = good("incidents", answers={"ListIncidents": [reply(incidents=rows)]})
    lines = done.out.splitlines()
    assert lines[0].split()[:4] == ["OPENED", "LASTED", "SEVERITY", "NAME"], done.out
    assert "2min" in lines[1] and "shop.service and 2 more" in lines[1] and lines[1].split()[-1] == "7", done.out
    assert "goes on" in lines[2] and "critical" in lines[2], done.out
    assert "No incidents" in good("incidents", answers={"ListIncidents": [reply(incidents=[])]}).out


@test
def one_incident_in_full():
    done = good("incidents", "7", answers={"ListIncidents": [reply(incidents=[incident()])]})
    for line in ("lock contention in pool_get", "lock-contention", "warning, 1.50 CPUs' worth, 12 anomalies", "shop.service, shop[1234], uid 0",
                 "from 10.0ms/s to 1.50s/s (stack 00000000000000a1, anomaly 42)", "00000000000000c1", "unlabelled"):
        assert line in done.out, (line, done.out)
    for end, line in (("back", "Lasted: 2min\n"), ("gave_way", "Lasted: 2min; it gave way to newer ones, as too many went on\n"),
                      ("usual", "Lasted: 2min; it has become usual\n"), ("ended", "Lasted: 2min; the program has ended\n")):
        done = good("incidents", "7", answers={"ListIncidents": [reply(incidents=[incident(end=end)])]})
        assert line in done.out, (end, done.out)
    assert run("incidents", "x").returncode == 1 and run("incidents", "0").returncode == 1


@test
def clusters_are_listed_and_shown():
    done = good("clusters", "--full", answers={"ListClusters": [reply(clusters=[cluster(), cluster(muted=True, remedy=None)])]})
    lines = done.out.splitlines()
    assert lines[0].split() == ["COUNT", "FIRST", "LAST", "SEVERITY", "NAME", "WHERE", "REMEDY", "ID"], done.out
    assert "A lock of the program" in lines[1] and "shop.service and 1 more" in lines[1], done.out
    assert "muted" in lines[2], done.out
    answers = {"GetCluster": [reply(cluster=cluster(), incidents=[incident()])], "ListAnomalies": [reply(anomalies=[], missed=0)]}
    done = good("clusters", "00000000000000c1", answers=answers)
    changed = done.out[done.out.index("What changed most: "):].splitlines()
    assert "before and during incident 7" in changed[0] and len(changed) > 1, changed
    assert all(re.fullmatch(r"\S+ \d+ \d+", line) for line in changed[1:]), changed
    changes = [abs(int(line.split()[2]) - int(line.split()[1])) for line in changed[1:]]
    assert changes == sorted(changes, reverse=True), changes
    assert "What changed most" not in good("clusters", "00000000000000c1", answers={"GetCluster": [reply(cluster=cluster(), incidents=[])]}).out
    for line in ("critical", "5, the first", "2 real, 1 false",
                 "alarms of on-cpu are told when 91 times less probable than others", "alarms of blocked are told even when 3.2 times as probable as others",
                 "pool_get", "Threads wait.", "Try: look", ": mend", "2min", "Picture: stackctl flame --cluster 00000000000000c1 -o "):
        assert line in done.out, (line, done.out)
    assert HOSTILE not in done.out
    assert run("clusters", "12").returncode == 1


@test
def clusters_are_muted():
    answers = {"MuteCluster": [reply(cluster=cluster(muted=True))]}
    for arguments, asked in (
        (["mute", "00000000000000c1"], {"cluster": "00000000000000c1"}),
        (["mute", "00000000000000c1", "--for", "1h"], {"cluster": "00000000000000c1", "duration_us": 3600 * 10**6}),
        (["unmute", "00000000000000c1"], {"cluster": "00000000000000c1", "duration_us": 0}),
    ):
        done = good(*arguments, answers=answers)
        assert done.calls[0][1] == asked, (arguments, done.calls)
        assert "Muted: until unmuted" in done.out, done.out
    assert run("mute").returncode == 1


@test
def what_is_unknown_is_named():
    for arguments, method, what in (
        (["clusters", "00000000000000c1"], "GetCluster", "cluster 00000000000000c1"),
        (["mute", "00000000000000c1"], "MuteCluster", "cluster 00000000000000c1"),
        (["incidents", "7"], "ListIncidents", "incident 7"),
        (["label", "7", "real"], "LabelIncident", "incident 7"),
    ):
        done = run(*arguments, answers={method: [error("NotFound", what=what)]})
        assert done.returncode == 1 and f'There is no {what}. "stackctl {what.split()[0]}s" lists those that there are.' in done.err, done.err


@test
def incidents_are_labelled():
    answers = {"LabelIncident": [reply(incident=incident(label="real"))]}
    done = good("label", "7", "real", "lock-contention", answers=answers)
    assert done.calls[0][1] == {"id": 7, "label": "real", "kind": "lock_contention"}, done.calls
    assert "Label: real" in done.out, done.out
    assert run("label", "7").returncode == 1 and run("label", "7", "perhaps").returncode == 1
    wrong = run("label", "7", "real", "lock-convoy")
    assert wrong.returncode == 1 and 'Unknown kind "lock-convoy"' in wrong.err, wrong.err


@test
def check_answers_as_plug_ins_do():
    for rows, status, text in (
        ([], 0, "STACKD OK - no incident goes on | critical=0 warning=0 notice=0"),
        ([incident(closed=False, severity="notice")], 0, "STACKD OK - goes on: lock contention in pool_get | critical=0 warning=0 notice=1"),
        ([incident(closed=False)], 1, "STACKD WARNING - goes on: lock contention in pool_get | critical=0 warning=1 notice=0"),
        (
            [incident(closed=False), incident(closed=False, severity="critical", name="worse")],
            2,
            "STACKD CRITICAL - goes on: worse | critical=1 warning=1 notice=0",
        ),
        ([incident(closed=False, muted=True)], 0, "STACKD OK - no incident goes on | critical=0 warning=0 notice=0"),
    ):
        done = run("check", answers={"ListIncidents": [reply(incidents=rows)]})
        assert (done.returncode, done.out) == (status, text + "\n"), (done.returncode, done.out)
    for arguments, answers in (
        ([], {}),
        ([], {"ListIncidents": [reply(incidents=[{"severity": 7}])]}),
        (["--bogus"], {}),
        (["more"], {}),
        (["--metric", "blocked"], {}),
    ):
        done = run("check", *arguments, answers=answers)
        assert done.returncode == 3 and "STACKD UNKNOWN" in done.out, (arguments, done.returncode, done.out)


@test
def json_is_the_reply():
    for args, method in [
        (["status"], "GetStatus"),
        (["flame"], "GetFlame"),
        (["top"], "GetTop"),
        (["stacks"], "ListStacks"),
        (["stacks", "00000000000000bb"], "GetStack"),
        (["processes"], "ListProcesses"),
        (["gate"], "GetGate"),
        (["gate", "open"], "SetGate"),
    ]:
        short = good(*args, "--json=short").out
        assert short.count("\n") == 1 and json.loads(short) == HEALTHY[method][0]["parameters"], (args, short)
        pretty = good(*args, "--json=pretty").out
        assert pretty.count("\n") > 3 and json.loads(pretty) == json.loads(short)
        assert good(*args, "-j").out == short and good(*args, "--json").out == short
        assert good(*args, "--json=off").out == good(*args).out


if __name__ == "__main__":
    sys.exit(main())
