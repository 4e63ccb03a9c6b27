# SPDX-License-Identifier: GPL-2.0-or-later
"""Who sees what. The store holds stacks of root, nobody and uid 1000; one is root's and nobody's."""
import os

from harness import NOBODY, Server, as_user, equal, test
from test_methods import lines_of, FIB, ODD, SPIN, TICKS, UNIT, WAIT, flame
from varlink import Client

GROUP = 4711
READING = ("ListAnomalies", "Subscribe", "ListIncidents", "ListClusters", "GetFlame", "GetTop", "ListStacks", "GetStack", "GetLines", "GetHeat", "GetSeries", "ListProcesses", "GetGate")
CHANGING = ("SetGate", "WatchMemory", "UnwatchMemory")


@test
def runs_as_root():
    equal(os.geteuid(), 0, "the effective uid (calls as other users need it)")


def look_around(s):
    """All that a caller learns of stacks, processes and sums."""
    with Client(s.path) as c:
        w = {"filter": s.window}
        return {
            "flame": flame(c, **w),
            "flame of root": flame(c, filter={**s.window, "unit": "web"}),
            "flame of a stack": c.call("org.stackd.GetFlame", {"stack": SPIN, **w}),
            "off_cpu": flame(c, metric="off_cpu", **w),
            "top": [
                (r["frame"]["name"], r["self"], r["total"]) for r in c.call("org.stackd.GetTop", w)[1]["rows"]
            ],
            "top stacks": [
                (r["stack"], r["self"]) for r in c.call("org.stackd.GetTop", {**w, "by": "stack"})[1]["rows"]
            ],
            "total": c.call("org.stackd.GetTop", w)[1]["total"],
            "stacks": [(x["stack"], x["values"]) for x in c.call("org.stackd.ListStacks", w)[1]["stacks"]],
            "waiting stacks": [
                (x["stack"], x["values"]) for x in c.call("org.stackd.ListStacks", {**w, "metric": "off_cpu"})[1]["stacks"]
            ],
            "stack": c.call("org.stackd.GetStack", {"stack": SPIN, **w}),
            "series": {str(p["values"]) for p in c.call("org.stackd.GetSeries", w)[1]["points"]},
            "heat": {(x["on_cpu"], x["hits"]) for x in c.call("org.stackd.GetHeat", w)[1]["steps"]},
            "exact": flame(c, exact=True, **w),
            "root's series": c.call("org.stackd.GetSeries", {"filter": {**s.window, "pid": 100}}),
            "root's stack": c.call("org.stackd.GetStack", {"stack": FIB, **w}),
            "root's lines": c.call("org.stackd.GetLines", {"stack": FIB, **w}),
            "lines": lines_of(s, c, stack=SPIN, **w),
            "another's stack": c.call("org.stackd.GetFlame", {"stack": ODD, **w}),
            "root's process": c.call("org.stackd.GetFlame", {"filter": {**s.window, "pid": 100}}),
            "no process": c.call("org.stackd.GetFlame", {"filter": {"pid": 4242}}),
            "processes": [x["process"]["pid"] for x in c.call("org.stackd.ListProcesses", w)[1]["processes"]],
            "anomalies": [a["id"] for a in c.call("org.stackd.ListAnomalies")[1]["anomalies"]],
            "incidents": [i["id"] for i in c.call("org.stackd.ListIncidents")[1]["incidents"]],
            "clusters": [k["common"] for k in c.call("org.stackd.ListClusters")[1]["clusters"]],
            "label": c.call("org.stackd.LabelIncident", {"id": 1, "label": "unlabelled"})[0],
            "missing debug files": c.call("org.stackd.ListMissingDebug")[0],
            "set": c.call("org.stackd.SetGate", {"mode": "open"})[0],
        }


@test
def others_see_only_their_own():
    with Server() as s:
        s.command("anomaly 100 0")
        own = int(s.command(f"anomaly 200 {NOBODY}")[0])
        s.command("anomaly 300 1000")
        seen = as_user(NOBODY, NOBODY, [], lambda: look_around(s))
        spin, wait = 2 * UNIT * TICKS, 16 * UNIT * TICKS
        equal(seen["flame"], ({("main;work;spin", "app"): spin}, spin))
        equal(seen["flame of root"], ({}, 0))
        equal(seen["heat"], {(4 * 10**6, 1)})
        equal(seen["exact"], ({("main;work;spin", "app"): 4 * 10**6 * TICKS}, 4 * 10**6 * TICKS))
        equal([(r["comm"], r["value"]) for r in seen["flame of a stack"][1]["stacks"]], [("app", spin)])
        equal(seen["off_cpu"], ({("main;wait_for_it;[libc.so.6+0x2718a]", "app"): wait}, wait))
        equal(seen["top"], [("spin", spin, spin), ("main", 0, spin), ("work", 0, spin)])
        equal((seen["top stacks"], seen["total"]), ([(SPIN, spin)], spin))
        equal(seen["stacks"], [(SPIN, {"on_cpu": spin})])
        equal(seen["waiting stacks"], [(WAIT, {"blocked": wait})])
        error, reply = seen["stack"]
        equal(
            (reply["stack"]["values"], [x["process"]["pid"] for x in reply["slices"]]),
            ({"on_cpu": spin}, [200]),
        )
        equal({p["values"]["on_cpu"] for p in reply["points"]}, {2 * UNIT})
        equal(seen["series"], {str({"on_cpu": 2 * UNIT, "blocked": 16 * UNIT})})
        equal(seen["root's series"], ("org.stackd.NotFound", {"what": "process 100"}))
        # One that another has part in is not his own.
        equal((seen["incidents"], seen["clusters"]), ([2], [["churn"]]))
        equal(seen["label"], "org.stackd.PermissionDenied")
        equal(seen["missing debug files"], "org.stackd.PermissionDenied")
        # What is another's looks as if it weren't there.
        equal(seen["root's stack"], ("org.stackd.NotFound", {"what": "stack " + FIB}))
        equal(seen["root's lines"], ("org.stackd.NotFound", {"what": "stack " + FIB}))
        equal([v["share"] for v in seen["lines"][1]["variants"]], [1], "the lines of another's process with the same stack")
        equal(seen["another's stack"], ("org.stackd.NotFound", {"what": "stack " + ODD}))
        equal(seen["root's process"], ("org.stackd.NotFound", {"what": "process 100"}))
        equal(seen["no process"], ("org.stackd.NotFound", {"what": "process 4242"}))
        equal(
            (seen["processes"], seen["anomalies"], seen["set"]), ([200], [own], "org.stackd.PermissionDenied")
        )


@test
def a_stranger_sees_nothing():
    with Server() as s:
        s.command("anomaly 100 0")
        seen = as_user(1234, 1234, [], lambda: look_around(s))
        for key in ("flame", "flame of root", "off_cpu"):
            equal(seen[key], ({}, 0), key)
        equal(seen["series"], {"{}"})
        equal(
            [seen[k] for k in ("top", "top stacks", "stacks", "processes", "anomalies", "incidents", "clusters", "total")],
            [[], [], [], [], [], [], [], 0],
        )
        equal(
            [seen[k][0] for k in ("stack", "flame of a stack", "root's process")], ["org.stackd.NotFound"] * 3
        )


@test
def members_of_the_group_see_everything_and_change_nothing():
    with Server(group=GROUP) as s:
        root = look_around(s)
        equal((root.pop("set"), root.pop("label"), root.pop("missing debug files")), (None,) * 3)
        for gid, groups in (
            (GROUP, []),
            (NOBODY, [5, GROUP, 6]),
            (NOBODY, list(range(5000, 5100)) + [GROUP]),
        ):
            seen = as_user(NOBODY, gid, groups, lambda: look_around(s))
            equal((seen.pop("set"), seen.pop("label"), seen.pop("missing debug files")), ("org.stackd.PermissionDenied",) * 3)
            equal(seen, root, groups[:3])
        seen = as_user(NOBODY, NOBODY, [5, 6], lambda: look_around(s))
        equal(seen["processes"], [200])


@test
def without_users_see_own_others_are_refused():
    def ask(s):
        with Client(s.path) as c:
            refused = [
                m
                for m in READING + CHANGING
                if c.call("org.stackd." + m)[0] == "org.stackd.PermissionDenied"
            ]
            return refused, c.call("org.stackd.GetStatus")[0], c.call("org.varlink.service.GetInfo")[0]

    with Server(own=0, group=GROUP) as s:
        equal(as_user(NOBODY, NOBODY, [], lambda: ask(s)), (list(READING + CHANGING), None, None))
        equal(as_user(NOBODY, GROUP, [], lambda: ask(s))[0], list(CHANGING))


@test
def subscribers_are_told_only_their_own():
    def follow(s, ready):
        with Client(s.path) as c:
            c.send("org.stackd.Subscribe", {"limit": 10}, more=True)
            _, reply, _ = c.receive()
            seen = [("kept", u["uid"]) for e in reply["events"] for u in e["incident"]["workloads"]]
            os.write(ready, b"x")
            while len(seen) < 4:
                for e in c.receive()[1]["events"]:
                    if "anomaly" in e:
                        seen.append(("anomaly", e["anomaly"]["process"]["uid"]))
                    else:
                        seen += [(e["change"], u["uid"]) for u in e["incident"]["workloads"]]
            return seen

    with Server() as s:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            # Tells of others first, then of nobody's own.
            os.read(read, 1)
            s.command("anomaly 100 0")
            s.command("anomaly 300 1000")
            s.command("incident 0 others")
            s.command("seconds 4 1e9")
            s.command(f"anomaly 200 {NOBODY}")
            s.command("seconds 60 0")
            s.command(f"incident {NOBODY} own")
            s.command("seconds 4 1e9")
            s.command(f"anomaly 200 {NOBODY}")
            os._exit(0)
        seen = as_user(NOBODY, NOBODY, [], lambda: follow(s, write))
        os.waitpid(child, 0)
        equal(seen, [(what, NOBODY) for what in ("kept", "anomaly", "opened", "anomaly")])
