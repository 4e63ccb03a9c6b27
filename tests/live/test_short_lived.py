# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that are gone before anyone can look at them have names all the same, from what the kernel said of them."""
import collections

from lib.daemon import Daemon
from lib.environment import require_root
from lib.tap import check, note, run, within
from lib.workload import Workload

N = 50
NAMED_LEAST = 0.95  # of what user code did

require_root()
daemon = Daemon({"Collect": {"SampleHz": 997}})
seen = {}


def set_up():
    daemon.start()
    daemon.stackctl("gate", "open")
    daemon.wait_ticks(2)
    with Workload("short_lived", n=N) as load:
        seen["pid"] = load.pid
        load.go()
        seen["account"] = load.result()
        daemon.wait_ticks(3)
        seen["flame"] = daemon.flame("on_cpu", since_us=seen["account"]["started_us"] - 1000000)
        seen["status"] = daemon.status()


def weight_of(function):
    total = seen["flame"].with_function(function)
    within(f"on-CPU ns in {function}", total, seen["account"]["each_ns"], relative=1 - NAMED_LEAST + 0.03)


def test_forked():
    weight_of("life_forked")


def test_executed():
    weight_of("life_executed")


def test_loaded():
    weight_of("life_loaded")
    with_library = sum(
        s.value
        for s in seen["flame"].stacks
        if {"life_loaded", "plugin_call_back"} <= {f["name"] for f in s.frames}
    )
    # The library has no frame pointers, and of a process that is gone there are no unwind tables: a sample in what the function
    # calls shows the function without its caller.
    note(f"of it below the library's function: {with_library / 1e9:.2f} s")
    check(with_library >= 0.5 * seen["account"]["each_ns"], "less than half of it is below the library's function")


def test_apart():
    weight_of("life_apart")


def test_hardly_unknown():
    """Of the short processes' stacks nearly all end in a name."""
    weights = collections.Counter()
    for stack in seen["flame"].stacks:
        user = [f for f in stack.frames if f["kind"] != "kernel"]
        if user and stack.comm in ("short", "exe", "wl_short_lived", "wl_short_copy"):
            weights["unknown" if user[0]["kind"] == "unknown" else "known"] += stack.value
    note(f"innermost user frame: {dict(weights)}")
    check(
        weights["unknown"] <= 0.02 * (weights["unknown"] + weights["known"]),
        "more than 2 % have an unknown innermost frame",
    )


def test_identified():
    """They are what they executed, not nameless."""
    rows = daemon.call(
        "ListProcesses", {"filter": {"since_us": seen["account"]["started_us"]}, "limit": 10000}
    )["processes"]
    exes = collections.Counter(
        row["process"]["exe"].rsplit("/", 1)[-1]
        for row in rows
        if row["process"]["comm"] in ("short", "exe", "wl_short_lived", "wl_short_copy")
    )
    note(f"executables: {dict(exes)}")
    check(exes["wl_short_copy"] > 0, "none of the copy")
    # Who was seen in the moment between being made and being told of is not known.
    check(exes[""] <= 2, f"{exes['']} without an executable")


def test_losses():
    lost = {l["cause"]: l["count"] for l in seen["status"]["losses"] if l["count"]}
    note(f"losses: {lost}")
    check("mappings-lost" not in lost, "mappings were lost")
    used = {l["name"]: l for l in seen["status"]["limits"]}["mapping-log"]
    check(0 < used["used"] <= used["max"], f"mapping-log: {used}")


run(
    [
        ("of processes that only fork, the function is seen", test_forked),
        ("of processes that execute a program, the function is seen", test_executed),
        ("and so is a library that they load", test_loaded),
        ("and a program that only their own mount namespace has", test_apart),
        ("hardly any frame is unknown", test_hardly_unknown),
        ("the processes are known by what they executed", test_identified),
        ("nothing was lost, and the log keeps to its limit", test_losses),
    ],
    setup=set_up,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
