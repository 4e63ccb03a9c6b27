# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures of a unit and of a control group: what ran in it and nothing else, and in wall time all of it."""
import collections
import os
import re
import time

from lib.daemon import Daemon
from lib.environment import require_root
from lib.groups import group
from lib.tap import check, run, within
from lib.workload import Workload

require_root()
SECONDS = 8
daemon = Daemon({"Collect": {"SampleHz": 199}})
accounts, windows, threads = {}, {}, {}


def started(name, path):
    """In the group before it is executed, as systemd does it."""
    enter = ["/bin/sh", "-c", f"echo $$ >{path}/cgroup.procs && exec \"$@\"", "sh"]
    return Workload(name, prefix=enter, seconds=SECONDS)


def set_up():
    daemon.start()
    daemon.set_gate("open")
    with group("seen-spins.service") as spins, group("seen-waits.service") as waits:
        with started("spin_split", spins) as spin, started("blocker", waits) as blocker:
            daemon.wait_ticks(3)
            windows["before"] = time.time() - 2, time.time()
            spin.go()
            blocker.go()
            begun = time.time()
            time.sleep(2)
            for unit, pid in ("seen-spins", spin.pid), ("seen-waits", blocker.pid):
                threads[unit] = len(os.listdir(f"/proc/{pid}/task"))
            accounts["spin"], accounts["blocker"] = spin.result(), blocker.result()
            windows["during"] = begun + 1, begun + SECONDS - 2
            daemon.wait_ticks(2)


def window(name):
    since, until = windows[name]
    return f"@{since:.6f}/@{until:.6f}"


def during():
    since, until = windows["during"]
    return f"--since=@{since:.6f}", f"--until=@{until:.6f}"


def folded(*arguments):
    stacks = collections.Counter()
    for line in daemon.stackctl("flame", *arguments).stdout.splitlines():
        names, value = line.rsplit(" ", 1)
        stacks[tuple(names.split(";"))] += int(value)
    return stacks


def check_only(stacks, comm, function, foreign):
    check(stacks and {stack[0] for stack in stacks} == {comm}, f"not only of {comm}: {collections.Counter(s[0] for s in stacks)}")
    check(any(function in stack for stack in stacks), f"{function} is missing")
    check(not any(foreign in name for stack in stacks for name in stack), f"{foreign} is in it")


def test_a_unit_and_its_control_group():
    for unit in "seen-spins", "seen-spins.service":
        check_only(folded(f"--unit={unit}"), "wl_spin_split", "spin_seventy", "wait_")
    by_unit, by_group = folded("--unit=seen-spins"), folded("--cgroup=/system.slice/seen-spins.service")
    check(by_unit == by_group, f"{sum(by_unit.values())} ns by unit, {sum(by_group.values())} by control group")
    within("its CPU time", sum(by_unit.values()), accounts["spin"]["process_cpu_ns"], relative=0.1)
    check_only(folded("--unit=seen-waits", "--metric=blocked"), "wl_blocker", "wait_nanosleep", "spin_")
    both = folded("--cgroup=/system.slice")
    check({"wl_spin_split", "wl_blocker"} <= {stack[0] for stack in both}, f"{ {stack[0] for stack in both} }")


def test_wall_time_adds_up():
    """Of threads that were there all the time: each of them second for second."""
    for unit, comm, side in ("seen-spins", "wl_spin_split", "[on-CPU]"), ("seen-waits", "wl_blocker", "[off-CPU]"):
        reply = daemon.stackctl("flame", f"--unit={unit}", "--hot-cold", "--verbose", *during())
        stacks = folded(f"--unit={unit}", "--hot-cold", *during())
        check({stack[0] for stack in stacks} == {comm}, f"{ {stack[0] for stack in stacks} }")
        check({stack[1] for stack in stacks} == {"[on-CPU]", "[off-CPU]"}, f"{ {stack[1] for stack in stacks} }")
        seconds = sum(stacks.values()) / 1e9 / threads[unit]
        check(round(seconds) in range(SECONDS - 3, SECONDS), f"{seconds} s of wall time: {reply.stderr}")
        within(f"wall time of a thread of {unit}", seconds, round(seconds), absolute=0.1)
        check(any(side in stack for stack in stacks), f"{side} is missing")
    off = sum(value for stack, value in folded("--unit=seen-waits", "--hot-cold", *during()).items() if "wait_nanosleep" in stack)
    check(off / 1e9 > 0.5 * (SECONDS - 3), f"{off / 1e9} s in wait_nanosleep")


def test_differences():
    diff = daemon.stackctl("flame", "--unit=seen-spins", f"--diff={window('before')}..{window('during')}").stdout.splitlines()
    check(diff and all(line.startswith("wl_spin_split;") for line in diff), diff[:3])
    rows = [line.rsplit(" ", 2) for line in diff if "spin_seventy" in line]
    check(rows and all(int(before) == 0 < int(after) for _, before, after in rows), rows[:3])


def test_pictures():
    for option, title in ("--unit=seen-spins", "seen-spins"), ("--cgroup=/system.slice/seen-spins.service", "/system.slice/seen-spins.service"):
        for form in "svg", "html":
            for more in (), ("--hot-cold",), (f"--diff={window('before')}..{window('during')}",):
                text = daemon.stackctl("flame", option, f"--format={form}", *more).stdout
                check("spin_seventy" in text and "wl_blocker" not in text and "wait_nanosleep" not in text, (option, form, more))
                check(re.search(re.escape(title), text), f"the title of {form} {more} doesn't say {title}")


if __name__ == "__main__":
    run(
        [(name[5:].replace("_", " "), function) for name, function in list(globals().items()) if name.startswith("test_")],
        setup=set_up,
        cleanup=daemon.remove,
    )
