# SPDX-License-Identifier: GPL-2.0-or-later
"""What the methods answer, against the figures that server.c put into the store."""
import threading
import time

from harness import NOBODY, Server, equal, test, wait_until
from varlink import Client

TEXTS = {}
UNIT = 1 << 26
TICKS = 60
SPIN, FIB, WAIT, ODD = "00000000000000a1", "00000000000000a2", "00000000000000a3", "00000000000000a4"


def flame(client, **parameters):
    """{(folded, comm): value} and the total, from all pages."""
    frames, rows, total = [], {}, None
    for page in client.call_more("org.stackd.GetFlame", parameters):
        frames += page["frames"]
        total = page["total"]
        for row in page["stacks"]:
            key = (";".join(frames[i]["name"] for i in row["frames"]), row["comm"])
            if key in rows:
                raise AssertionError(f"{key} is there twice")
            rows[key] = row["value"]
    return rows, total


@test
def service_describes_itself():
    with Server() as s, Client(s.path) as c:
        error, info = c.call("org.varlink.service.GetInfo")
        equal(info["interfaces"], ["org.stackd", "org.varlink.service"])
        for name in info["interfaces"]:
            error, reply = c.call("org.varlink.service.GetInterfaceDescription", {"interface": name})
            equal(reply["description"], TEXTS[name])
        error, reply = c.call("org.varlink.service.GetInterfaceDescription", {"interface": "org.nowhere"})
        equal((error, reply), ("org.varlink.service.InterfaceNotFound", {"interface": "org.nowhere"}))


@test
def unknown_names_are_told():
    with Server() as s, Client(s.path) as c:
        for method, error, parameters in (
            ("org.stackd.Nothing", "MethodNotFound", {"method": "org.stackd.Nothing"}),
            ("org.stackd.Metric", "MethodNotFound", {"method": "org.stackd.Metric"}),
            ("org.stackd.", "MethodNotFound", {"method": "org.stackd."}),
            ("org.stackd", "InterfaceNotFound", {"interface": "org"}),
            ("org.nowhere.GetStatus", "InterfaceNotFound", {"interface": "org.nowhere"}),
            ("GetStatus", "InterfaceNotFound", {"interface": "GetStatus"}),
            ("", "InterfaceNotFound", {"interface": ""}),
        ):
            c.send(method)
            equal(
                c.receive("org.stackd.GetStatus"), ("org.varlink.service." + error, parameters, False), method
            )


@test
def status_tells_everything_and_only_numbers():
    with Server() as s, Client(s.path) as c:
        error, reply = c.call("org.stackd.GetStatus")
        status = reply["status"]
        equal(error, None)
        # No ratio where there is none; an infinite threshold can't be said and comes as the largest double.
        equal([x["metric"] for x in status["conservation"]], ["on_cpu", "faults_minor"])
        equal(status["score_threshold"], 1.7976931348623157e308)
        equal({x["cause"]: x["count"] // TICKS for x in status["losses"]}, {"stacks-full": 3, "faults-unseen": 4, "wakeup-unseen": 20})
        equal(
            [x for x in status["limits"] if x["name"] == "connections"],
            [{"name": "connections", "unit": "connections", "used": 1, "max": 64}],
        )
        equal((status["gate"]["open_above"], status["gate"]["close_below"], status["calls"]), (5.0, 4.0, 1))


@test
def flame_has_every_stack_once():
    with Server() as s, Client(s.path) as c:
        rows, total = flame(c, filter=s.window)
        equal(
            rows,
            {
                ("main;work;spin", "web"): 8 * UNIT * TICKS,
                ("main;work;fib;fib;fib", "web"): 4 * UNIT * TICKS,
                ("main;work;spin", "app"): 2 * UNIT * TICKS,
            },
        )
        equal(total, 14 * UNIT * TICKS)
        rows, total = flame(c, filter=s.window, metric="off_cpu")
        equal(
            rows,
            {
                ("main;wait_for_it;[libc.so.6+0x2718a]", "app"): 16 * UNIT * TICKS,
                ("main;odd\ufffd\"name\n", "tool"): 1 * UNIT * TICKS,
            },
        )
        rows, total = flame(c, filter={**s.window, "comm": "app"}, stack=SPIN)
        equal(rows, {("main;work;spin", "app"): 2 * UNIT * TICKS})
        # Without "more" the same in one reply.
        error, reply = c.call("org.stackd.GetFlame", {"filter": s.window})
        equal((error, reply["total"], len(reply["stacks"])), (None, 14 * UNIT * TICKS, 3))
        equal(reply["window"], {**s.window, "load_mean": 1.5, "gate_open_s": 30, "lost": 3 * TICKS})
        # What faults and waits lack isn't missing in others.
        for metric, lost in (("blocked", 23), ("off_cpu", 23), ("faults_minor", 7), ("rss", 7), ("hits", 3)):
            error, reply = c.call("org.stackd.GetFlame", {"filter": s.window, "metric": metric})
            equal((error, reply["window"]["lost"]), (None, lost * TICKS), metric)


@test
def frames_come_with_their_objects_when_asked():
    with Server() as s, Client(s.path) as c:
        frames = c.call("org.stackd.GetFlame", {"filter": s.window})[1]["frames"]
        equal({tuple(sorted(f)) for f in frames}, {("kind", "name", "object")}, "nobody asked")
        error, reply = c.call("org.stackd.GetFlame", {"filter": s.window, "objects": True})
        equal(error, None)
        equal([(f["name"], f["object"]) for f in reply["frames"]], [(f["name"], f["object"]) for f in frames])
        for f in reply["frames"]:
            known = not f["name"].startswith("[")
            equal((f.get("build_id"), f.get("address", 0) >= 0x1000), ("0123abcd" if known else None, known), f["name"])


@test
def filters_select():
    with Server() as s, Client(s.path) as c:
        whole = 14 * UNIT * TICKS
        for filter, want in (
            ({"pid": 100}, 12),
            ({"pid": 200}, 2),
            ({"unit": "web"}, 12),
            ({"unit": "web.service"}, 12),
            ({"unit": "we"}, 0),
            ({"cgroup": "/system.slice"}, 14),
            ({"cgroup": "/system.slice/web.service"}, 12),
            ({"cgroup": "/system.slice/web"}, 0),
            ({"cgroup": "/"}, 14),
            ({"comm": "web"}, 12),
            ({"exe": "/usr/bin/app"}, 2),
            ({"pid": 100, "comm": "app"}, 0),
        ):
            rows, total = flame(c, filter={**s.window, **filter})
            equal((total, sum(rows.values())), (want * UNIT * TICKS,) * 2, filter)
        equal(whole, flame(c)[1], "the default window")
        middle = s.first_us + 30 * 1000000
        equal(flame(c, filter={"since_us": s.first_us, "until_us": middle})[1], whole // 2, "half of it")


@test
def top_counts_self_and_children():
    with Server() as s, Client(s.path) as c:
        error, reply = c.call("org.stackd.GetTop", {"filter": s.window})
        got = [
            (r["frame"]["name"], r["self"] // TICKS // UNIT, r["total"] // TICKS // UNIT)
            for r in reply["rows"]
        ]
        # fib calls itself: its stack counts once.
        equal(got, [("spin", 10, 10), ("fib", 4, 4), ("main", 0, 14), ("work", 0, 14)])
        equal(reply["total"], 14 * UNIT * TICKS)
        error, reply = c.call("org.stackd.GetTop", {"filter": s.window, "by": "stack", "limit": 1})
        equal(
            [
                (r["stack"], r["frame"]["name"], [f["name"] for f in r["frames"]], r["self"])
                for r in reply["rows"]
            ],
            [(SPIN, "spin", ["main", "work", "spin"], 10 * UNIT * TICKS)],
        )
        error, reply = c.call("org.stackd.GetTop", {"filter": s.window, "metric": "blocked"})
        equal(reply["rows"][0]["frame"], {"name": "[libc.so.6+0x2718a]", "object": "app", "kind": "unknown"})
        error, reply = c.call("org.stackd.GetTop")
        equal((error, reply["window"]["until_us"] - reply["window"]["since_us"]), (None, 10000000))


@test
def stacks_and_their_slices():
    with Server() as s, Client(s.path) as c:
        error, reply = c.call("org.stackd.ListStacks", {"filter": s.window, "metric": "off_cpu", "limit": 2})
        equal(
            [(x["stack"], x["values"], x["truncated"]) for x in reply["stacks"]],
            [(WAIT, {"blocked": 16 * UNIT * TICKS}, False), (ODD, {"runnable": 1 * UNIT * TICKS}, True)],
        )
        # A quarter of each tick; of TICKS of them by their root.
        error = round(4 * UNIT * TICKS**0.5)
        assert abs(reply["stacks"][0]["standard_errors"]["blocked"] / error - 1) < 0.1, (reply["stacks"][0], error)
        equal(reply["stacks"][1]["standard_errors"], {})
        for method, row, key in (("GetTop", "rows", "self_standard_error"), ("GetFlame", "stacks", "standard_error")):
            reply = c.call("org.stackd." + method, {"filter": s.window, "metric": "off_cpu", **({"by": "stack"} if row == "rows" else {})})[1]
            got = {x["stack"]: x[key] for x in reply[row]}
            assert abs(got[WAIT] / error - 1) < 0.1 and got[ODD] == 0, (got, error)
            reply = c.call("org.stackd." + method, {"filter": s.window, "metric": "rss"})[1]
            assert not any(key in x for x in reply[row]), reply
        reply = c.call("org.stackd.GetStack", {"stack": WAIT, "filter": s.window})[1]
        assert abs(reply["stack"]["standard_errors"]["blocked"] / error - 1) < 0.1, reply["stack"]
        # Those that have none of it are not listed.
        error, reply = c.call("org.stackd.ListStacks", {"filter": s.window, "metric": "on_cpu"})
        equal([x["stack"] for x in reply["stacks"]], [SPIN, FIB])
        error, reply = c.call("org.stackd.GetStack", {"stack": SPIN, "filter": s.window})
        equal(reply["stack"]["values"], {"on_cpu": 10 * UNIT * TICKS})
        equal([f["name"] for f in reply["stack"]["frames"]], ["main", "work", "spin"])
        equal(
            [(x["process"]["pid"], x["process"]["uid"], x["values"]) for x in reply["slices"]],
            [(100, 0, {"on_cpu": 8 * UNIT * TICKS}), (200, 65534, {"on_cpu": 2 * UNIT * TICKS})],
        )
        equal(len(reply["points"]), TICKS)
        equal(
            {(p["step_s"], p["load"], p["lost"], p["values"]["on_cpu"]) for p in reply["points"]},
            {(1, 1.5, 27, 10 * UNIT)},
        )
        # Upper case digits are the same id.
        error, reply = c.call("org.stackd.GetStack", {"stack": SPIN.upper(), "filter": {"pid": 200}})
        equal((error, len(reply["slices"])), (None, 1))


def lines_of(s, client, **parameters):
    """GetLines; the server has the lines as soon as it was asked for them."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.call("org.stackd.GetLines", parameters)))
    thread.start()
    wait_until(lambda: not thread.is_alive() or int(s.command("lines")[0]) > 0)
    thread.join(10)
    return answers[0]


@test
def lines_are_waited_for():
    spin = {"name": "spin", "object": "app", "kind": "user", "inlined": False, "file": "/src/app.c", "line": 42}
    tiny = {"name": "tiny", "object": "app", "kind": "user", "inlined": True, "file": "/src/tiny.h", "line": 7}
    main = {"name": "main", "object": "app", "kind": "user", "inlined": False, "file": "", "line": 0}
    work = {**main, "name": "work", "object": "nodebug"}
    with Server() as s, Client(s.path) as c:
        error, reply = lines_of(s, c, stack=SPIN, filter=s.window)
        equal((error, reply["stack"]), (None, SPIN))
        equal([v["share"] for v in reply["variants"]], [0.5, 0.25])
        equal(reply["variants"][0]["places"], [main, work, spin, tiny])
        equal(reply["missing"], [{"object": "nodebug", "reason": "no debug information"}])
        # One process: the shares are of what it did.
        error, reply = lines_of(s, c, stack=SPIN, filter={**s.window, "pid": 200})
        equal([v["share"] for v in reply["variants"]], [1])
        # Known, but met nowhere of late.
        equal(c.call("org.stackd.GetLines", {"stack": WAIT, "filter": s.window}), (None, {"stack": WAIT, "variants": [], "missing": []}))
        equal(c.call("org.stackd.GetLines", {"stack": "0000000000000bad"})[0], "org.stackd.NotFound")


@test
def missing_debug_files_are_listed():
    with Server() as s, Client(s.path) as c:
        error, reply = c.call("org.stackd.ListMissingDebug")
        equal([(f["object"], f["build_id"]) for f in reply["files"]], [("libz.so.1.2.13", "0a1b2c"), ("odd\ufffd\"", "ff")])


@test
def series_sums_all_that_matches():
    with Server() as s, Client(s.path) as c:
        for more, want in (
            ({}, {"on_cpu": 14 * UNIT, "blocked": 16 * UNIT, "runnable": UNIT}),
            ({"stack": SPIN}, {"on_cpu": 10 * UNIT}),
            ({"filter": {**s.window, "unit": "app"}}, {"on_cpu": 2 * UNIT, "blocked": 16 * UNIT}),
            ({"filter": {**s.window, "unit": "none"}}, {}),
        ):
            error, reply = c.call("org.stackd.GetSeries", {"filter": s.window, **more})
            equal(error, None)
            equal([p["time_us"] for p in reply["points"]], [s.first_us + (i + 1) * 10**6 for i in range(TICKS)])
            for p in reply["points"]:
                equal((p["step_s"], p["load"], p["lost"], p["values"]), (1, 1.5, 27, want), more)
            equal(reply["window"], {**s.window, "load_mean": 1.5, "gate_open_s": 30, "lost": 27 * TICKS})
        error, reply = c.call("org.stackd.GetSeries", {"filter": {"pid": 4242}})
        equal((error, reply), ("org.stackd.NotFound", {"what": "process 4242"}))
        error, reply = c.call("org.stackd.GetSeries", {"stack": "none"})
        equal((error, reply), ("org.varlink.service.InvalidParameter", {"parameter": "stack"}))


MS = 10**6  # ns


def steps(client, **parameters):
    """{ms within the window's first second: (on_cpu in ms, hits)} of all pages, each second being alike; and the first page."""
    pages = list(client.call_more("org.stackd.GetHeat", parameters))
    got = {}
    for step in (step for page in pages for step in page["steps"]):
        got.setdefault(step["time_us"] % 10**6 // 1000, []).append((step["on_cpu"] / MS, step["hits"]))
    for ms, values in got.items():
        equal(len(set(values)), 1, f"at {ms} ms")
    return {ms: values[0] for ms, values in got.items()}, {len(values) for values in got.values()}, pages[0]


@test
def threads_are_told_apart():
    def by_thread(**parameters):
        found = {}
        error, reply = c.call("org.stackd.GetFlame", {"filter": s.window, **parameters})
        equal(error, None)
        for row in reply["stacks"]:
            key = (row["comm"], row.get("tid"), reply["frames"][row["frames"][-1]]["name"])
            equal(key in found, False, key)
            found[key] = row["value"] // (MS * TICKS)
        return found

    with Server() as s, Client(s.path) as c:
        worker = {("worker", 101, "spin"): 16, ("worker", 101, "fib"): 8}
        web = {**worker, ("worker", 102, "spin"): 16}
        equal(by_thread(threads=True, filter={**s.window, "unit": "web"}), web)
        everything = {**web, ("app", 200, "spin"): 4, ("gone", 999, "[evicted]"): 1}
        equal(by_thread(threads=True), everything)
        equal(by_thread(threads=True, tid=101), worker)
        equal(by_thread(tid=102), {("web", None, "spin"): 16})
        equal(by_thread(tid=4242), {})
        for metric in ("rss", "faults_minor"):
            for more in ({"threads": True}, {"tid": 101}):
                error, reply = c.call("org.stackd.GetFlame", {"metric": metric, **more})
                equal((error, "by thread" in reply["reason"]), ("org.stackd.NotKept", True))
        for tid in (0, -1, 2**31):
            error, reply = c.call("org.stackd.GetFlame", {"tid": tid})
            equal((error, reply), ("org.varlink.service.InvalidParameter", {"parameter": "tid"}), tid)


@test
def threads_waits_are_told_apart():
    def by_thread(drawn, window, **parameters):
        error, reply = c.call("org.stackd.GetFlame", {"filter": window, "threads": True, **parameters})
        equal((error, reply.get("drawn_ns")), (None, drawn))
        equal({reply["frames"][row["frames"][-1]]["name"] for row in reply["stacks"]}, {"[libc.so.6+0x2718a]"})
        return {(row["comm"], row["tid"]): row["value"] // MS for row in reply["stacks"]}

    with Server() as s, Client(s.path) as c:
        always, half, client = ("worker", 101), ("worker", 102), ("client", 201)
        every = {always: 1000 * TICKS, half: 500 * TICKS, client: 300 * TICKS}
        equal(by_thread(None, s.window, metric="blocked"), every)
        equal(by_thread(50 * MS, s.window, metric="runnable"), {client: 50 * TICKS})
        equal(by_thread(50 * MS, s.window, metric="off_cpu"), {**every, client: 350 * TICKS})
        equal(by_thread(None, s.window, metric="blocked", tid=102), {half: 500 * TICKS})
        equal(by_thread(None, {**s.window, "pid": 200}, metric="blocked"), {client: 300 * TICKS})
        # What goes on counts for its part of the window; what ended, where it ended.
        second = s.first_us + (TICKS // 2 - 1) * 10**6
        part = {"since_us": second + 350000, "until_us": second + 1390000}
        equal(by_thread(None, part, metric="blocked"), {always: 1040, half: 650, client: 300})
        for window in ({"since_us": s.first_us - 1}, {"until_us": s.last_us + 1}):
            error, reply = c.call("org.stackd.GetFlame", {"metric": "blocked", "threads": True, "filter": window})
            equal((error, reply["since_us"], reply["until_us"]), ("org.stackd.NotKept", s.first_us, s.last_us))
        limits = {x["name"]: x for x in c.call("org.stackd.GetStatus")[1]["status"]["limits"]}
        equal(limits["thread-waits"], {"name": "thread-waits", "unit": "waits", "used": 2 * TICKS + 1, "max": 65536 // 24})
        equal(limits["waiting-threads"], {"name": "waiting-threads", "unit": "threads", "used": 1, "max": 32768})


@test
def heat_is_told_within_seconds():
    with Server() as s, Client(s.path) as c:
        got, times, first = steps(c, filter=s.window)
        equal(got, {100: (16, 1), 120: (16, 1), 300: (8, 1), 500: (4, 1), 700: (1, 1)})
        equal((times, first["step_us"]), ({TICKS}, 20000))
        equal((first["since_us"], first["until_us"]), (s.first_us, s.last_us))
        equal(first["window"], {**s.window, "load_mean": 1.5, "gate_open_s": 30, "lost": 3 * TICKS})
        got, _, _ = steps(c, filter=s.window, step_us=100000)
        equal(got, {100: (32, 2), 300: (8, 1), 500: (4, 1), 700: (1, 1)})
        got, _, _ = steps(c, filter={**s.window, "unit": "web"}, step_us=1000000)
        equal(got, {0: (40, 3)})
        got, _, _ = steps(c, filter=s.window, stack=SPIN, step_us=500000)
        equal(got, {0: (32, 2), 500: (4, 1)})
        # Windows begin and end where they are told to; what is asked for beyond is not kept.
        got, times, first = steps(c, filter={"since_us": s.first_us - 10**9, "until_us": s.first_us + 120000}, step_us=500000)
        equal((got, times, first["since_us"], first["until_us"]), ({0: (16, 1)}, {1}, s.first_us, s.first_us + 120000))
        got, _, first = steps(c, filter={"since_us": s.last_us})
        equal((got, "since_us" in first, "until_us" in first), ({}, False, False))
        for step in (0, 999, 1001, 30000, 2000000, -1):
            error, reply = c.call("org.stackd.GetHeat", {"step_us": step})
            equal((error, reply), ("org.varlink.service.InvalidParameter", {"parameter": "step_us"}), step)
        # All at once, and in pages.
        error, reply = c.call("org.stackd.GetHeat", {"filter": s.window, "step_us": 1000})
        equal((error, len(reply["steps"])), (None, 5 * TICKS))
        limit = next(x for x in c.call("org.stackd.GetStatus")[1]["status"]["limits"] if x["name"] == "moments")
        equal(limit, {"name": "moments", "unit": "samples", "used": 5 * TICKS, "max": 65536 // 24})


@test
def exact_windows_have_their_samples_alone():
    with Server() as s, Client(s.path) as c:
        second = s.first_us + 10 * 10**6

        def within(since_ms, until_ms, **parameters):
            window = {"since_us": second + since_ms * 1000, "until_us": second + until_ms * 1000}
            rows, total = flame(c, exact=True, **{**parameters, "filter": {**window, **parameters.get("filter", {})}})
            equal(sum(rows.values()), total)
            return {key: value / MS for key, value in rows.items()}

        spin, fib = ("main;work;spin", "web"), ("main;work;fib;fib;fib", "web")
        equal(within(100, 120), {spin: 16})
        equal(within(100, 121), {spin: 32})
        equal(within(101, 301), {spin: 16, fib: 8})
        equal(within(310, 490), {})
        equal(within(0, 1000), {spin: 32, fib: 8, ("main;work;spin", "app"): 4, ("[evicted]", ""): 1})
        equal(within(0, 2000, filter={"pid": 200}), {("main;work;spin", "app"): 8})
        equal(within(0, 1000, stack=FIB), {fib: 8})
        equal(within(0, 1000, metric="hits", filter={"comm": "web"}), {spin: 2 / MS, fib: 1 / MS})
        # Without it a tick counts whole.
        rows, _ = flame(c, filter={"since_us": second + 310000, "until_us": second + 490000})
        equal(rows[spin], 8 * UNIT)
        rows, total = flame(c, exact=True)
        equal(total, 45 * TICKS * MS, "all that is kept")
        error, reply = c.call("org.stackd.ListStacks", {"exact": True, "filter": {"since_us": second, "until_us": second + 400000}})
        equal([(x["stack"], x["values"]) for x in reply["stacks"]], [(SPIN, {"on_cpu": 32 * MS, "hits": 2}), (FIB, {"on_cpu": 8 * MS, "hits": 1})])
        kept = {"since_us": s.first_us, "until_us": s.last_us}
        for parameters in (
            {"metric": "blocked"},
            {"filter": {"since_us": s.first_us - 1}},
            {"filter": {"until_us": s.last_us + 1}},
        ):
            for method in ("GetFlame", "ListStacks"):
                error, reply = c.call("org.stackd." + method, {"exact": True, **parameters})
                equal((error, {k: v for k, v in reply.items() if k != "reason"}), ("org.stackd.NotKept", kept), parameters)


@test
def processes_have_their_totals():
    with Server() as s, Client(s.path) as c:
        error, reply = c.call("org.stackd.ListProcesses", {"filter": s.window})
        equal(
            [
                (x["process"]["comm"], x["process"]["exe"], x["process"]["unit"], x["values"])
                for x in reply["processes"]
            ],
            [
                ("web", "/usr/bin/web", "web.service", {"on_cpu": 12 * UNIT * TICKS}),
                ("app", "/usr/bin/app", "app.service", {"on_cpu": 2 * UNIT * TICKS}),
            ],
        )
        start = reply["processes"][0]["process"]["start_us"] / 1e6
        if abs(time.time() - 3600 - start) > 5:
            raise AssertionError(f"started at {start}, not an hour ago")
        error, again = c.call("org.stackd.ListProcesses", {"filter": s.window})
        equal(again, reply, "the same question")
        error, reply = c.call("org.stackd.ListProcesses", {"filter": s.window, "limit": 1})
        equal(len(reply["processes"]), 1)


@test
def gate_is_shown_and_set():
    with Server() as s, Client(s.path) as c:
        error, reply = c.call("org.stackd.GetGate")
        equal([x["time_us"] - s.first_us for x in reply["history"]], [2000000, 1000000, 0])
        equal(
            (reply["gate"]["mode"], reply["gate"]["open"], "until_us" in reply["gate"]),
            ("auto", False, False),
        )
        error, reply = c.call(
            "org.stackd.GetGate", {"since_us": s.first_us + 1, "until_us": s.first_us + 1000000}
        )
        equal(len(reply["history"]), 1)
        error, reply = c.call("org.stackd.SetGate", {"mode": "open", "duration_us": 60000000})
        left = reply["gate"]["until_us"] / 1e6 - time.time()
        equal(
            (error, reply["gate"]["mode"], reply["gate"]["open"], 50 < left <= 60), (None, "open", True, True)
        )
        error, reply = c.call("org.stackd.SetGate", {"mode": "closed"})
        equal((reply["gate"]["mode"], "until_us" in reply["gate"]), ("closed", False))
        error, reply = c.call("org.stackd.SetGate", {"mode": "auto"})
        equal(reply["gate"]["mode"], "auto")


@test
def anomalies_are_listed():
    with Server() as s, Client(s.path) as c:
        equal(c.call("org.stackd.ListAnomalies"), (None, {"anomalies": [], "missed": 0}))
        ids = [int(s.command("anomaly 100 0")[0]) for _ in range(5)]
        error, reply = c.call("org.stackd.ListAnomalies")
        equal([a["id"] for a in reply["anomalies"]], ids[::-1])
        a = reply["anomalies"][0]
        equal(
            (a["type"], a["metric"], a["stack"], a["process"]["pid"], [f["name"] for f in a["frames"]]),
            ("level_shift", "on_cpu", SPIN, 100, ["main", "work", "spin"]),
        )
        for parameters, n in (
            ({"limit": 2}, 2),
            ({"limit": 0}, 0),
            ({"type": "level_shift"}, 5),
            ({"type": "spike"}, 0),
            ({"filter": {"unit": "web"}}, 5),
            ({"filter": {"pid": 200}}, 0),
            ({"filter": {"since_us": a["time_us"]}}, 0),
        ):
            error, reply = c.call("org.stackd.ListAnomalies", parameters)
            equal((error, len(reply["anomalies"])), (None, n), parameters)


@test
def long_lists_come_in_pages():
    with Server() as s, Client(s.path) as c:
        for _ in range(8):
            last = int(s.command("burst 250")[0])
        pages = c.call_more("org.stackd.ListAnomalies", {"limit": 10000})
        ids = [a["id"] for page in pages for a in page["anomalies"]]
        # However many the log keeps: none is left out, none is twice.
        equal(ids, list(range(last, last - len(ids), -1)))
        equal((len(pages) > 1, len(ids) > 1000), (True, True))
        error, reply = c.call("org.stackd.ListAnomalies", {"limit": 10000})
        equal((error, reply), ("org.stackd.TooLarge", {"limit": 1 << 20}))
        equal(c.call("org.stackd.GetStatus")[0], None)


@test
def large_flame_comes_in_pages():
    with Server(many=10000) as s, Client(s.path) as c:
        parameters = {"metric": "faults_minor", "filter": s.window}
        start = time.monotonic()
        c.send("org.stackd.GetFlame", parameters, more=True)
        size = 0
        while True:
            data = c.receive_bytes()
            size += len(data)
            if b'"continues":true' not in data[-30:]:
                break
        print(f"# 10,000 stacks of 30 frames: {size} bytes in {(time.monotonic() - start) * 1000:.0f} ms")
        want = 100 * 101 // 2 * 100
        pages = c.call_more("org.stackd.GetFlame", parameters)
        stacks = [r for p in pages for r in p["stacks"]]
        equal(({p["total"] for p in pages}, size > 1 << 20), ({want}, True))
        equal(
            (len(stacks), len({r["stack"] for r in stacks}), sum(r["value"] for r in stacks)),
            (10000, 10000, want),
        )
        equal(
            [r["value"] for r in stacks],
            sorted((r["value"] for r in stacks), reverse=True),
            "the largest first",
        )
        frames = [f["name"] for p in pages for f in p["frames"]]
        equal((len(frames), len(set(frames))), (15015, 15015), "each frame once")
        equal(c.call("org.stackd.GetFlame", parameters)[0], "org.stackd.TooLarge")
        for method, rows in (("ListStacks", "stacks"), ("GetTop", "rows")):
            pages = c.call_more("org.stackd." + method, {**parameters, "limit": 10000})
            equal((len(pages) > 1, sum(len(p[rows]) for p in pages)), (True, 10000), method)
        pages = c.call_more("org.stackd.GetTop", {**parameters, "limit": 10000, "by": "stack"})
        equal(sum(len(p["rows"]) for p in pages), 10000)


def told(c):
    """The events of the next reply to a subscription: (what, id), and how many were missed."""
    error, reply, continues = c.receive()
    equal((error, continues), (None, True))
    events = [
        (e["change"], e["incident"]["id"]) if "incident" in e else ("anomaly", e["anomaly"]["id"])
        for e in reply["events"]
    ]
    return events, reply["missed"]


@test
def subscribers_are_told_of_anomalies():
    with Server() as s, Client(s.path) as c:
        old = [int(s.command("anomaly 100 0")[0]) for _ in range(3)]
        c.send("org.stackd.Subscribe", {"only": "anomalies", "limit": 2}, more=True)
        equal(told(c), ([("anomaly", i) for i in old[1:]], 0), "oldest first")
        for _ in range(3):
            new = int(s.command("anomaly 100 0")[0])
            equal(told(c), ([("anomaly", new)], 0))
        equal(s.status()["subscribers"], 1)
        with Client(s.path) as other:
            other.send(
                "org.stackd.Subscribe",
                {"only": "anomalies", "filter": {"pid": 7}, "type": "level_shift"},
                more=True,
            )
            equal(told(other), ([], 0))
            s.command("anomaly 100 0")
            mine = int(s.command("anomaly 7 0")[0])
            equal(told(other), ([("anomaly", mine)], 0))
    with Server() as s, Client(s.path) as c:
        equal(c.call("org.stackd.Subscribe"), ("org.varlink.service.ExpectedMore", {}))


@test
def subscribers_are_told_what_becomes_of_incidents():
    with Server() as s, Client(s.path) as c, Client(s.path) as app, Client(s.path) as anomalies:
        c.send("org.stackd.Subscribe", {"limit": 2}, more=True)
        events, missed = told(c)
        equal([what for what, _ in events], ["kept", "kept"], "the newest two, anomalies there are none")
        equal(events[0][1] < events[1][1], True, "the oldest first")
        goes_on = events[1][1]
        app.send("org.stackd.Subscribe", {"only": "incidents", "filter": {"unit": "app"}}, more=True)
        anomalies.send("org.stackd.Subscribe", {"only": "anomalies"}, more=True)
        equal((told(app), told(anomalies)), (([], 0), ([], 0)))

        s.command("seconds 4 1e9")
        equal(told(c), ([("opened", goes_on)], 0))
        s.command("seconds 10 2e10")
        equal(told(c), ([("grew", goes_on)], 0))
        new = int(s.command(f"incident {NOBODY} other")[0])
        s.command("seconds 4 2e10")
        equal(told(c), ([("opened", new)], 0))
        now = int(s.command("seconds 60 0")[0])
        error, reply, continues = c.receive()
        equal(
            sorted((e["change"], e["incident"]["id"], now - 60 * 10**6 < e["time_us"] <= now) for e in reply["events"]),
            [("closed", goes_on, True), ("closed", new, True)],
        )
        equal(all(e["incident"]["closed_us"] <= now for e in reply["events"]), True)
        # The filter goes by the programs that take part.
        equal(told(app), ([("opened", new)], 0))
        equal(told(app), ([("closed", new)], 0))
        last = int(s.command("anomaly 100 0")[0])
        equal(told(anomalies), ([("anomaly", last)], 0), "no incidents were told")
        equal(told(c), ([("anomaly", last)], 0))


@test
def a_stop_ends_subscriptions():
    with Server() as s, Client(s.path) as c, Client(s.path) as idle:
        c.send("org.stackd.Subscribe", {}, more=True)
        equal(told(c), ([], 0))
        s.process.stdin.close()
        equal(c.receive(), ("org.stackd.Stopping", {}, False))
        equal((c.receive_bytes(), idle.receive_bytes()), (None, None), "closed, and who asked nothing is told nothing")


@test
def empty_is_not_an_error():
    with Server() as s, Client(s.path) as c:
        future = {"since_us": s.last_us + 10**12}
        past = {"since_us": 1, "until_us": 2}
        for window in (
            future,
            past,
            {"since_us": s.last_us, "until_us": s.last_us},
            {"until_us": 0},
            {"since_us": 0, "until_us": 0},
            {"since_us": 2**63 - 1, "until_us": 2**63 - 1},
        ):
            for method, rows in (
                ("GetFlame", "stacks"),
                ("GetTop", "rows"),
                ("ListStacks", "stacks"),
                ("ListProcesses", "processes"),
                ("GetSeries", "points"),
                ("GetHeat", "steps"),
                ("ListAnomalies", "anomalies"),
            ):
                for filter in (window, {**window, "pid": 100}):
                    error, reply = c.call("org.stackd." + method, {"filter": filter})
                    equal((error, reply and reply.get(rows)), (None, []), (method, filter))
            error, reply = c.call("org.stackd.GetStack", {"stack": SPIN, "filter": window})
            equal(
                (error, reply["points"], reply["slices"], reply["stack"]["values"]),
                (None, [], [], {}),
                window,
            )


@test
def what_is_not_there_is_told():
    with Server() as s, Client(s.path) as c:
        for method in ("GetFlame", "GetTop", "GetSeries", "GetHeat", "ListStacks", "ListProcesses", "ListAnomalies"):
            equal(
                c.call("org.stackd." + method, {"filter": {"pid": 4242}}),
                ("org.stackd.NotFound", {"what": "process 4242"}),
                method,
            )
        for method in ("GetStack", "GetFlame", "GetSeries", "GetHeat"):
            equal(
                c.call("org.stackd." + method, {"stack": "0123456789abcdef"}),
                ("org.stackd.NotFound", {"what": "stack 0123456789abcdef"}),
            )


def incidents(client, **parameters):
    error, reply = client.call("org.stackd.ListIncidents", parameters)
    equal(error, None)
    return reply["incidents"]


@test
def incidents_are_listed_newest_first():
    with Server() as s, Client(s.path) as c:
        rows = incidents(c)
        equal([i["id"] for i in rows], [4, 3, 2, 1])
        equal(["closed_us" in i for i in rows], [False, True, True, True])
        equal([i.get("end") for i in rows], [None, "back", "back", "back"])
        equal([i["id"] for i in incidents(c, open=True)], [4])
        equal([i["id"] for i in incidents(c, limit=2)], [4, 3])
        equal("cluster" in rows[0], False, "not settled yet")
        one = incidents(c, id=3)[0]
        equal((one["kind"], one["anomalies"], one["workloads_count"]), ("cpu_spin", 2, 2))
        equal([w["unit"] for w in one["workloads"]], ["web.service", "app.service"])
        equal([(m["stack"], m["metric"], m["worst"]) for m in one["moved"]], [(WAIT, "on_cpu", 1e9)] * 2)
        for parameters, error in (
            ({"id": 99}, "org.stackd.NotFound"),
            ({"id": -1}, "org.varlink.service.InvalidParameter"),
            ({"limit": 0}, "org.varlink.service.InvalidParameter"),
        ):
            equal(c.call("org.stackd.ListIncidents", parameters)[0], error, parameters)
        equal(c.call("org.stackd.ListIncidents", {"id": 99})[1], {"what": "incident 99"})


@test
def clusters_have_remedies_and_are_muted():
    with Server() as s, Client(s.path) as c:
        rows = c.call("org.stackd.ListClusters")[1]["clusters"]
        equal(sorted(k["common"][0] for k in rows), ["churn", "mixed", "spin"])
        spin = next(k for k in rows if k["common"] == ["spin"])
        equal((spin["name"], spin["incidents"], spin["units"]), ("CPU spin in spin", 1, ["web.service"]))
        equal(spin["remedy"], {"id": "spin", "name": "spin of 101", "explain": "It spins.", "try": ["look at web.service"]})
        error, reply = c.call("org.stackd.GetCluster", {"cluster": spin["id"]})
        equal((reply["cluster"], [i["id"] for i in reply["incidents"]]), (spin, [1]))
        for duration, muted, until in ((None, True, False), (10**6 * 3600, True, True), (0, False, False)):
            parameters = {"cluster": spin["id"], **({} if duration is None else {"duration_us": duration})}
            cluster = c.call("org.stackd.MuteCluster", parameters)[1]["cluster"]
            equal((cluster["muted"], "muted_until_us" in cluster), (muted, until), duration)
            equal(incidents(c, id=1)[0]["muted"], muted)
        for parameters, error in (
            ({"cluster": "0123456789abcdef"}, "org.stackd.NotFound"),
            ({"cluster": "x"}, "org.varlink.service.InvalidParameter"),
            ({"cluster": spin["id"], "duration_us": -1}, "org.varlink.service.InvalidParameter"),
        ):
            equal(c.call("org.stackd.MuteCluster", parameters)[0], error, parameters)
        equal(c.call("org.stackd.GetCluster", {"cluster": "0123456789abcdef"})[1], {"what": "cluster 0123456789abcdef"})


@test
def incidents_are_labelled():
    with Server() as s, Client(s.path) as c:
        incident = c.call("org.stackd.LabelIncident", {"id": 1, "label": "false", "kind": "new_code_path"})[1]["incident"]
        equal((incident["label"], incident["kind"]), ("false", "new_code_path"))
        cluster = c.call("org.stackd.GetCluster", {"cluster": incident["cluster"]})[1]["cluster"]
        equal((cluster["kind"], cluster["labelled_false"], cluster["labelled_real"]), ("new_code_path", 1, 0))
        equal([(e["metric"], round(e["decades"], 3)) for e in cluster["evidence"]], [("on_cpu", 1.0)])
        c.call("org.stackd.LabelIncident", {"id": 1, "label": "unlabelled"})
        cluster = c.call("org.stackd.GetCluster", {"cluster": incident["cluster"]})[1]["cluster"]
        equal((cluster["kind"], [e for e in cluster["evidence"] if abs(e["decades"]) > 1e-6]), ("new_code_path", []))
        equal(c.call("org.stackd.LabelIncident", {"id": 99, "label": "real"})[0], "org.stackd.NotFound")
        equal(c.call("org.stackd.LabelIncident", {"id": 1, "label": "maybe"})[0], "org.varlink.service.InvalidParameter")


@test
def memory_is_watched():
    with Server() as s, Client(s.path) as c:
        watch = c.call("org.stackd.WatchMemory", {"pid": 2, "duration_us": 60 * 10**6})[1]["watch"]
        equal((watch["pid"], watch["comm"], watch["state"], watch["functions"]), (2, "web", "watched", 9))
        if not 50 < watch["until_us"] / 1e6 - time.time() < 70:
            raise AssertionError(f"it ends at {watch['until_us']}, not in a minute")
        equal("until_us" in c.call("org.stackd.WatchMemory", {"pid": 2})[1]["watch"], False)
        equal(
            c.call("org.stackd.WatchMemory", {"pid": 1}),
            ("org.stackd.NotWatched", {"pid": 1, "reason": "it has no allocator"}),
        )
        error, parameters = c.call("org.stackd.WatchMemory", {"pid": 3})
        equal((error, parameters["pid"]), ("org.stackd.NotWatched", 3))
        for parameters, name in (({"pid": 0}, "pid"), ({"pid": -1}, "pid"), ({"pid": 2, "duration_us": 0}, "duration_us")):
            equal(
                c.call("org.stackd.WatchMemory", parameters),
                ("org.varlink.service.InvalidParameter", {"parameter": name}),
            )
        rows = c.call("org.stackd.ListMemoryWatches")[1]["watches"]
        equal([(w["pid"], w["state"], w.get("reason")) for w in rows], [(1, "ended", "it has no allocator"), (2, "watched", None), (0, "ended", "its time is over")])
        equal([w["kind"] for w in rows], ["process", "process", "kernel"])
        watch = c.call("org.stackd.WatchMemory", {"kernel": True})[1]["watch"]
        equal((watch["kind"], watch["pid"], watch["state"]), ("kernel", 0, "watched"))
        for method in ("WatchMemory", "UnwatchMemory"):
            for parameters, name in (({"kernel": True, "pid": 2}, "kernel"), ({"kernel": True, "unit": "a"}, "kernel"), ({"kernel": False}, "pid"), ({}, "pid")):
                equal(c.call(f"org.stackd.{method}", parameters), ("org.varlink.service.InvalidParameter", {"parameter": name}))
        equal(c.call("org.stackd.UnwatchMemory", {"kernel": True})[0], None)
        equal(c.call("org.stackd.UnwatchMemory", {"kernel": True})[1]["pid"], 0)
        equal(c.call("org.stackd.UnwatchMemory", {"pid": 2})[0], None)
        equal(c.call("org.stackd.UnwatchMemory", {"pid": 2})[0], "org.stackd.NotWatched")


@test
def memory_of_a_unit_is_watched():
    with Server() as s, Client(s.path) as c:
        status = lambda: c.call("org.stackd.GetStatus")[1]["status"]
        equal(([w["pid"] for w in status()["memory_watches"]], status()["memory_groups"]), ([2], []))
        reply = c.call("org.stackd.WatchMemory", {"unit": "web"})[1]
        equal(("watch" in reply, [w["pid"] for w in reply["watches"]], reply["watches"][0]["group"]), (False, [2], "web.service"))
        group = reply["group"]
        equal((group["unit"], "cgroup" in group, group["state"], group["configured"]), ("web.service", False, "watched", False))
        equal((group["processes"], group["watched"], group["left_out"], "until_us" in group), (2, 1, 1, False))
        equal("until_us" in c.call("org.stackd.WatchMemory", {"unit": "web.service", "duration_us": 10**6})[1]["group"], True)
        equal([g["unit"] for g in status()["memory_groups"]], ["web.service"])
        error, parameters = c.call("org.stackd.WatchMemory", {"unit": "none"})
        equal((error, parameters["unit"], "pid" in parameters), ("org.stackd.NotWatched", "none.service", False))
        equal(
            c.call("org.stackd.WatchMemory", {"cgroup": "/sys/fs/cgroup/a.slice/"}),
            ("org.stackd.NotWatched", {"cgroup": "/a.slice", "reason": "it has no processes"}),
        )
        for parameters, name in (
            ({}, "pid"),
            ({"unit": "web", "pid": 2}, "unit"),
            ({"unit": "web", "cgroup": "/a"}, "cgroup"),
            ({"unit": "a b"}, "unit"),
            ({"unit": "getty@.service"}, "unit"),
            ({"unit": "x" * 249}, "unit"),
            ({"cgroup": "a"}, "cgroup"),
            ({"cgroup": "/a/.."}, "cgroup"),
        ):
            for method in ("WatchMemory", "UnwatchMemory"):
                equal(
                    c.call("org.stackd." + method, parameters),
                    ("org.varlink.service.InvalidParameter", {"parameter": name}),
                )
        equal(c.call("org.stackd.ListMemoryWatches")[1]["groups"][0]["state"], "watched")
        equal(c.call("org.stackd.UnwatchMemory", {"unit": "web"})[0], None)
        equal(c.call("org.stackd.UnwatchMemory", {"unit": "web"})[0], "org.stackd.NotWatched")


@test
def leaks_are_listed():
    with Server() as s, Client(s.path) as c:
        reply = c.call("org.stackd.ListLeaks")[1]
        equal((reply["counted_us"], reply["bytes"], reply["unnamed"], reply["left_out"]), (5, 1062, 8, 4))
        grows, holds = reply["leaks"]
        equal((grows["pid"], grows["comm"], grows["bytes"], grows["blocks"]), (2, "web", 50, 3))
        equal((grows["per_minute"], grows["grows"], "grows" in holds, "per_minute" in holds), (7, True, False, False))
        equal((holds["older_1min"], holds["older_10min"], holds["older_1h"]), (600, 30, 1))
        equal(grows["frames"][0]["name"], "main")
        equal((grows["kind"], holds["kind"]), ("process", "kernel"))
        equal(len(c.call("org.stackd.ListLeaks", {"pid": 2, "limit": 1})[1]["leaks"]), 1)
        equal(c.call("org.stackd.ListLeaks", {"pid": 3})[1]["leaks"], [])
        for parameters, name in (({"pid": 0}, "pid"), ({"pid": -1}, "pid"), ({"limit": 0}, "limit")):
            equal(c.call("org.stackd.ListLeaks", parameters), ("org.varlink.service.InvalidParameter", {"parameter": name}))


@test
def a_caller_who_does_not_wait_for_a_watch_is_forgotten():
    with Server() as s, Client(s.path) as c:
        with Client(s.path) as gone:
            gone.send("org.stackd.WatchMemory", {"pid": 2})
        time.sleep(0.2)
        equal(c.call("org.stackd.ListMemoryWatches")[1]["watches"][1]["state"], "watched")
