# SPDX-License-Identifier: GPL-2.0-or-later
"""Heaps that are watched by unit, by control group, or as the configuration says: of processes that come and go."""
import contextlib
import subprocess
import tempfile
import time

from lib.daemon import Daemon
from lib.environment import program, require_root
from lib.groups import ROOT, enter, group
from lib.tap import check, note, run
from lib.varlink import VarlinkError
from lib.workload import Workload

require_root()
ALL = {"Collect": {"HeapSampleBytes": 0, "HeapBudget": 100}}
# Waits for a line, then executes the same again: another program, as far as its heap goes.
AGAIN = "read -r line; exec /bin/bash -c 'read -r line; sleep 60'"
# Waits for a line, then has a child that it does not execute.
FORKS = "exec 3<&0; read -r line; (read -r line <&3; :) & wait"
daemon = Daemon(ALL)


@contextlib.contextmanager
def shell(path, script):
    process = subprocess.Popen(["/bin/bash", "-c", script], stdin=subprocess.PIPE, text=True)
    try:
        enter(path, process.pid)
        yield process
    finally:
        process.kill()
        process.wait()


def say(process):
    process.stdin.write("\n")
    process.stdin.flush()


def listed():
    return daemon.call("ListMemoryWatches")


def watched():
    return sorted(w["pid"] for w in listed()["watches"] if w["state"] == "watched")


def reason_of(pid):
    return next((w.get("reason") for w in reversed(listed()["watches"]) if w["pid"] == pid), None)


def wait_for(what, condition, timeout=15):
    deadline = time.monotonic() + timeout
    while not condition():
        check(time.monotonic() < deadline, f"{what} did not come: {listed()}")
        time.sleep(0.2)


def refused(reason, *options):
    result = daemon.stackctl("watch-memory", *options, check_exit=False)
    note(result.stderr.strip())
    check(result.returncode == 1 and reason in result.stderr, f"not refused with {reason!r}: {result}")


def nothing_is_attached():
    check(not watched(), f"watched still: {listed()}")
    used = {l["name"]: l["used"] for l in daemon.status()["limits"]}
    check(used["heap-watches"] == 0 and used["heap-blocks"] == 0, f"kept still: {used}")
    for info in daemon.descriptor_infos():
        check("uprobe" not in str(info), f"a probe is attached still: {info}")


def test_unit():
    with group("shop.service") as path, Workload("heap", threads=1, n=64) as load, shell(path, FORKS) as forks:
        enter(path, load.pid)
        told = daemon.stackctl("watch-memory", "--unit", "shop", "--full").stdout
        note(told.strip())
        check("shop.service: 2 of 2 processes watched" in told, f"stackctl does not say what it does: {told}")
        check(watched() == sorted([load.pid, forks.pid]), f"watched are {watched()}")
        row = next(w for w in listed()["watches"] if w["pid"] == load.pid)
        check(row["unit"] == row["group"] == "shop.service", f"the unit is not named: {row}")
        check("calls_per_s" in row and "share" in row, f"the cost is not told: {row}")
        status = daemon.stackctl("status").stdout
        check("shop.service 2 of 2 processes" in status, f"status does not name the unit:\n{status}")
        say(forks)
        wait_for("the child's watch", lambda: len(watched()) == 3)
        account = load.go().result()["heap"]
        flame = daemon.account_flame("heap", account, pid=load.pid)
        for function, value in account.items():
            check(flame.with_function(function) == value, f"{function}: {flame.with_function(function)}, not {value} bytes")
        with Workload("heap") as later:  # as a service that is started again
            enter(path, later.pid)
            load.kill()
            wait_for("the watch of a later process", lambda: later.pid in watched() and load.pid not in watched())
            enter(ROOT, later.pid)
            wait_for("the end of one that left", lambda: later.pid not in watched())
            check(reason_of(later.pid) == "it left shop.service", f"it says: {reason_of(later.pid)}")
        daemon.stackctl("unwatch-memory", "--unit", "shop.service")
        check(reason_of(forks.pid) == "uid 0 asked for it", f"unexpected: {reason_of(forks.pid)}")
        nothing_is_attached()
        daemon.wait_ticks(3)
        nothing_is_attached()


def test_exec():
    with group("again.scope") as path, shell(path, AGAIN) as process:
        daemon.stackctl("watch-memory", "--cgroup", f"{ROOT}/system.slice/again.scope".replace("/unified", ""))
        say(process)
        wait_for("the end with the program", lambda: reason_of(process.pid) == "the process executed another program" or len(
            [w for w in listed()["watches"] if w["pid"] == process.pid]) > 1)
        wait_for("the watch of the next program", lambda: process.pid in watched())
        of_it = [(w["state"], w["group"]) for w in listed()["watches"] if w["pid"] == process.pid]
        check(of_it == [("ended", "/system.slice/again.scope"), ("watched", "/system.slice/again.scope")], f"unexpected: {of_it}")
        daemon.stackctl("unwatch-memory", "--pid", process.pid)
        daemon.wait_ticks(3)
        check(process.pid not in watched(), "one whose watch was ended is watched again")
        daemon.stackctl("unwatch-memory", "--cgroup", "/system.slice/again.scope")
        nothing_is_attached()


def test_time():
    with group("brief.service") as path, Workload("heap") as load:
        enter(path, load.pid)
        told = daemon.stackctl("watch-memory", "--unit", "brief", "--for", "4s").stdout
        check("until" in told, f"no end is told: {told}")
        wait_for("the end", lambda: not watched())
        check(reason_of(load.pid) == "its time is over", f"it says: {reason_of(load.pid)}")
        nothing_is_attached()
        # Asked for by itself, a process goes on when its group does not.
        daemon.stackctl("watch-memory", "--pid", load.pid)
        daemon.stackctl("watch-memory", "--unit", "brief")
        daemon.stackctl("unwatch-memory", "--unit", "brief")
        check(watched() == [load.pid], "what was asked for by itself has ended with its group")
        daemon.stackctl("unwatch-memory", "--pid", load.pid)
        nothing_is_attached()


def test_configured():
    with group("kept.service") as path, Workload("heap") as load:
        daemon.reload({"Collect": {**ALL["Collect"], "WatchMemory": "kept.service /system.slice/not-there"}})
        daemon.wait_ticks(1)
        check(not watched(), "something is watched before it is there")
        enter(path, load.pid)
        wait_for("the watch", lambda: watched() == [load.pid])
        row = next(g for g in listed()["groups"] if g.get("unit") == "kept.service" and g["state"] != "ended")
        check(row["configured"] and row["processes"] == 1, f"unexpected: {row}")
        daemon.stop()
        daemon.start()  # from the start on
        wait_for("the watch after a restart", lambda: watched() == [load.pid])
        text = daemon.stackctl("watch-memory", "--full").stdout
        check("kept.service: 1 of 1 processes watched, as WatchMemory= says." in text, f"not listed:\n{text}")
        check("/system.slice/not-there: 0 of 0 processes watched" in text, f"not listed:\n{text}")
        daemon.reload({"Collect": {**ALL["Collect"], "WatchMemory": "a b/c"}})
        check("WatchMemory=: 'a b/c' is not a list of units or absolute paths" in daemon.log_tail(), daemon.log_tail())
        check(watched() == [load.pid], "a bad list ended a good one")
        daemon.reload(ALL)
        check(reason_of(load.pid) == "WatchMemory= no longer names it", f"it says: {reason_of(load.pid)}")
        nothing_is_attached()


def test_budget():
    with group("busy.service") as path, Workload("heap", mode="churn", seconds=20) as load:
        enter(path, load.pid)
        load.go()
        daemon.reload({"Collect": {"HeapSampleBytes": 0, "HeapBudget": 20}})
        refused("more than HeapBudget=20 allows", "--unit", "busy")
        nothing_is_attached()
        before = len(listed()["watches"])
        daemon.reload({"Collect": {"HeapSampleBytes": 0, "HeapBudget": 20, "WatchMemory": "busy"}})
        wait_for("a second refusal", lambda: [w["state"] for w in listed()["watches"][before:]] == ["ended"])
        before = len(listed()["watches"])
        daemon.wait_ticks(3)
        check(len(listed()["watches"]) == before, "what costs too much is tried again and again")
        nothing_is_attached()
        load.kill()
    daemon.reload(ALL)


def test_refusals():
    refused("it does not run, or there is no such unit", "--unit", "no-such")
    refused("there is no such control group", "--cgroup", "/system.slice/no-such")
    refused("one only", "--unit", "a", "--pid", "1")
    with group("empty.service"):
        refused("it has no processes", "--unit", "empty")
    with tempfile.TemporaryDirectory() as directory, group("bare.service") as path:
        subprocess.run(["strip", "-o", f"{directory}/stripped", program("wl_unwind_static")], check=True)
        with Workload("unwind", path=f"{directory}/stripped") as first:
            enter(path, first.pid)
            refused("of its only process", "--unit", "bare")
            with Workload("unwind", path=f"{directory}/stripped") as second:
                enter(path, second.pid)
                refused("none of its 2 processes can be", "--unit", "bare")
                check("no allocator that is known" in reason_of(first.pid), f"it says: {reason_of(first.pid)}")
    for parameters, name in (
        ({}, "pid"),
        ({"unit": "a b"}, "unit"),
        ({"unit": ""}, "unit"),
        ({"cgroup": "a"}, "cgroup"),
        ({"cgroup": "/a/../b"}, "cgroup"),
        ({"unit": "a", "cgroup": "/a"}, "cgroup"),
        ({"unit": "a", "pid": 1}, "unit"),
        ({"unit": "a" * 300}, "unit"),
    ):
        try:
            daemon.call("WatchMemory", parameters)
            check(False, f"{parameters} is taken")
        except VarlinkError as error:
            check(error.parameters == {"parameter": name}, f"{parameters}: {error.name} {error.parameters}")
    result = daemon.stackctl("unwatch-memory", "--unit", "no-such", check_exit=False)
    check(result.returncode == 1 and "no-such.service: its memory is not watched" in result.stderr, f"unexpected: {result}")
    nothing_is_attached()


def test_limit():
    with group("many.service") as path, group("more.service") as other:
        loads = [Workload("heap") for _ in range(19)]
        try:
            for load in loads[:18]:
                enter(path, load.pid)
            enter(other, loads[18].pid)
            told = daemon.stackctl("watch-memory", "--unit", "many", timeout=60).stdout
            check("many.service: 16 of 18 processes watched, no room for 2" in told, f"it says: {told}")
            refused("16 processes are watched already", "--unit", "more")
            loads[0].kill()
            loads[1].kill()
            wait_for("the watch of those that were left out", lambda: loads[16].pid in watched() and loads[17].pid in watched())
            daemon.stackctl("unwatch-memory", "--unit", "many")
            nothing_is_attached()
        finally:
            for load in loads:
                load.kill()


run(
    [
        ("a unit's processes are watched as they come", test_unit),
        ("and anew when they execute another program", test_exec),
        ("as long as was asked for", test_time),
        ("what the configuration names is watched from the start on", test_configured),
        ("within the budget", test_budget),
        ("what can't be watched is refused with the reason", test_refusals),
        ("sixteen of many, and the next when there is room", test_limit),
    ],
    setup=daemon.start,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
