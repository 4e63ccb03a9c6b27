# SPDX-License-Identifier: GPL-2.0-or-later
"""Stacks of waits that are told without a walk are those that a walk gives; and where they are not, it is found out."""
import platform
import re

from lib.daemon import Daemon
from lib.environment import require_root
from lib.tap import check, note, run, within
from lib.workload import Workload

SECONDS = 5
TOLERANCE = 0.05
PATHS = ("path_a", "path_b", "path_c")
WAITS = {"path_a": 9, "path_b": 1, "path_c": 1, "two": 1, "five": 1}  # a round

require_root()
no_walk = re.compile(r"(\d+) of \d+ stacks known without a walk, (\d+) of (\d+) checked were wrong(.*)")


def known(daemon):
    """How many were known, wrong, checked, and what is said behind them."""
    source = next(s["source"] for s in daemon.status()["collectors"] if s["name"] == "off-cpu")
    found = no_walk.search(source)
    check(found, f"the status says nothing of known stacks: {source}")
    return int(found[1]), int(found[2]), int(found[3]), found[4]


def losses(daemon):
    return {loss["cause"]: loss["count"] for loss in daemon.status().get("losses", [])}


def calls(stack, function):
    return sum(frame["name"] == function for frame in stack.frames)


def off_cpu_by_path(daemon):
    """What each way to the wait has, by the stacks and by the program's own account."""
    with Workload("known", mode="paths", seconds=SECONDS) as w:
        daemon.wait_ticks(1)
        w.go()
        account = w.result()
        daemon.settled_flame("off_cpu", pid=w.pid, function="wait_known")
        flame = daemon.flame("off_cpu", pid=w.pid)
    mine = {path: flame.with_function(path) for path in PATHS}
    mine["two"] = sum(s.value for s in flame.stacks if calls(s, "deeper") == 2)
    mine["five"] = sum(s.value for s in flame.stacks if calls(s, "deeper") == 5)
    other = sum(s.value for s in flame.stacks if calls(s, "wait_known") and calls(s, "deeper") not in (0, 2, 5))
    return mine, account, other


def check_paths(config):
    with Daemon({"Collect": {"OffCPUStacksPerSec": 0, **config}}) as daemon:
        daemon.set_gate("open")
        mine, account, other = off_cpu_by_path(daemon)
        # The account's times hold the system calls and the clocks, too: the same for each wait.
        waits = account["rounds"] * sum(WAITS.values())
        around = sum(account[path] - value for path, value in mine.items()) / waits
        within("ns of a wait's account in which it ran", around, 0, absolute=60000)
        for path, value in mine.items():
            within(f"{path}: off-CPU ns", value, account[path] - account["rounds"] * WAITS[path] * around, relative=TOLERANCE)
        check(other == 0, f"{other} ns are on stacks that nobody made")
        return (*known(daemon)[:3], waits) if not config else None


def test_walked():
    check_paths({"KnownStacks": "no"})


def test_known():
    without_walk, wrong, checked, waits = check_paths({})
    note(f"{without_walk} known without a walk, of {waits} of the program and those of others; {wrong} of {checked} wrong")
    check(without_walk > waits / 2, f"only {without_walk} of more than {waits} stacks were known")
    check(checked > 10, f"only {checked} were checked")
    check(wrong == 0, f"{wrong} of {checked} known stacks were wrong")


def test_forged():
    if platform.machine() != "x86_64":
        return note("no code is made here for this machine")
    with Daemon({"Collect": {"OffCPUStacksPerSec": 0}}) as daemon:
        daemon.set_gate("open")
        with Workload("known", mode="forged", seconds=30, linger=False) as w:
            w.go()
            for _ in range(25):
                daemon.wait_ticks(1)
                without_walk, wrong, checked, state = known(daemon)
                if state == ", off":
                    break
        note(f"{without_walk} known without a walk, {wrong} of {checked} wrong{state}; losses: {losses(daemon)}")
        check(wrong > 0, "nothing was found wrong")
        check(losses(daemon).get("known-stack-wrong", 0) >= wrong, "the loss is not told")
        check(state == ", off", f"known stacks are used still{state}")
        check("for 300 s all are walked" in daemon.log(), "the log says nothing of it")


if __name__ == "__main__":
    run([("stacks of waits that are walked", test_walked), ("the same, known", test_known), ("a stack that lies", test_forged)])
