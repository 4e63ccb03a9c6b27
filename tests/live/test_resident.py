# SPDX-License-Identifier: GPL-2.0-or-later
"""Resident memory by stack, against what a program touched and let go, and against VmRSS."""
from lib.daemon import Daemon
from lib.environment import require_root
from lib.tap import check, note, run, within
from lib.workload import Workload

require_root()
MIB = 1 << 20
# The kernel adds pages up some dozen at a time, by CPU and kind: so much may be another function's.
LAG = 2 * MIB
daemon = Daemon({"Collect": {"MemoryStacksPerSec": 0, "MemoryBaselineStacksPerSec": 0}})


def differ(flame, expected, functions):
    """The functions whose bytes are not what they should be."""
    wrong = []
    for function in functions:
        got, want = flame.with_function(function), expected[function]
        note(f"{function}: {got / MIB:.2f} MiB of {want / MIB:.2f}")
        if abs(got - want) > LAG:
            wrong.append(function)
    return wrong


def rss_source():
    return next(c["source"] for c in daemon.status()["collectors"] if c["name"] == "rss")


def test_open():
    """Every page counts for the function that touched it or let it go, whatever its size and kind."""
    daemon.set_gate("open")
    with Workload("resident") as load:
        account = load.go().result()
        flame = daemon.settled_flame("rss", "thread_touch", pid=load.pid)
        wrong = differ(flame, account["rss"], account["rss"])
        check(not wrong, f"not what was touched or let go: {wrong}")
        note(f"by stacks {flame.with_function('main') / MIB:.2f} MiB, by VmRSS {account['all'] / MIB:.2f}")
        total = flame.total
        check(abs(total - account["all"]) <= 2 * LAG, f"the stacks grew by {total}, VmRSS by {account['all']}")
        rows = daemon.stackctl("stacks", "--metric", "rss", "--pid", load.pid, "--full").stdout
        for line, function in (("64.0MiB", "touch_fresh"), ("-24.0MiB", "advise_away")):
            check(
                any(line[:-6] in row and function in row for row in rows.splitlines()),
                f"stackctl stacks does not show about {line} by {function}:\n{rows}",
            )


def test_closed():
    """Sampled faults get what came since the last one, munmap what it released."""
    daemon.set_gate("closed")
    daemon.wait_ticks(2)
    with Workload("resident", seconds=10, threads=0) as load:
        account = load.go().result()
        flame = daemon.settled_flame("rss", "touch_fresh", pid=load.pid)
        differ(flame, account["rss"], account["rss"])
        # How many faults one stands for depends on what the machine does beside; the first and the last of them are not made up for.
        grown = sum(flame.with_function(f) for f in ("touch_fresh", "touch_huge", "read_file", "copy_file"))
        within("what grew", grown, sum(v for v in account["rss"].values() if v > 0), relative=0.5)
        if "mmap_lock" in rss_source():
            within("unmapped", flame.with_function("unmap_part"), account["rss"]["unmap_part"], relative=0.15)


run(
    [
        ("resident memory by stack while the gate is open", test_open),
        ("and while it is closed", test_closed),
    ],
    setup=daemon.start,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
