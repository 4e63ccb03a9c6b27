# SPDX-License-Identifier: GPL-2.0-or-later
"""What a program does to its memory, by stack, against the program's own account."""

from lib.daemon import Daemon
from lib.environment import require_root
from lib.tap import check, note, run, within
from lib.workload import Workload

require_root()
# Every change is walked: what sampling adds is a question of its own.
NO_LIMIT = {"MemoryStacksPerSec": 0, "MemoryBaselineStacksPerSec": 0}
daemon = Daemon({"Collect": NO_LIMIT})


def agree(flame, expected):
    """Every number is whole MiB, which the store keeps exactly."""
    for function, value in expected.items():
        got = flame.with_function(function)
        note(f"{flame.metric}: {function}: {got}, expected {value}")
        check(got == value, f"{flame.metric}: {function}: got {got}, expected {value}")


def changes_are_exact(**options):
    with Workload("maps", **options) as load:
        account = load.go().result()
        flames = {
            metric: daemon.settled_flame(metric, function, pid=load.pid)
            for metric, function in (("brk", "grow_brk"), ("mmap", "map_64"))
        }
        for metric, flame in flames.items():
            agree(flame, account[metric])
        return load.pid


def test_closed():
    check(not daemon.status()["gate"]["open"], "the gate is open")
    changes_are_exact()


def test_open():
    daemon.set_gate("open")
    pid = changes_are_exact(threads=8)
    rows = daemon.call("ListStacks", {"metric": "mmap", "filter": {"pid": pid}})["stacks"]
    sizes = [abs(row["values"].get("mmap", 0)) for row in rows]
    check(sizes == sorted(sizes, reverse=True), f"stacks are not ordered by what they changed: {sizes}")
    listed = daemon.stackctl("stacks", "--metric", "mmap", "--pid", pid, "--full").stdout
    for line, function in (("64.0MiB", "map_64"), ("-16.0MiB", "unmap_middle"), ("-512MiB", "thread_unmap")):
        check(
            any(line in row.split() and function in row for row in listed.splitlines()),
            f"stackctl stacks does not show {line} by {function}:\n{listed}",
        )
    folded = daemon.stackctl("flame", "--metric", "mmap", "--pid", pid).stdout
    check("map_64" in folded, f"stackctl flame does not show what was mapped:\n{folded}")
    check("unmap_middle" not in folded, f"stackctl flame shows what was released as if it were a size:\n{folded}")


def test_strict():
    """BaselineHz=0: while the gate is closed nothing is seen, and what happened then is nobody's afterwards."""
    daemon.set_gate("auto")
    daemon.reload({"Gate": {"OpenAbove": 1000, "BaselineHz": 0}, "Collect": NO_LIMIT})
    daemon.wait_ticks(1)
    with Workload("maps") as load:
        load.go().result()
        daemon.set_gate("open")
        daemon.wait_ticks(3)
        for metric in ("brk", "mmap"):
            flame = daemon.flame(metric, pid=load.pid)
            check(flame.with_function("main") == 0, f"{metric}: {flame.total} bytes while nobody looked")


def test_sampled():
    """Beyond the limit small changes are drawn, with weights; of the large ones none is left out or made larger."""
    daemon.reload({"Collect": {"MemoryStacksPerSec": 200}})
    daemon.set_gate("open")
    with Workload("maps", threads=8, n=512) as load:
        account = load.go().result()
        flame = daemon.settled_flame("mmap", "thread_map", pid=load.pid)
        for function in ("thread_map", "thread_unmap"):
            within(f"{function}: bytes", flame.with_function(function), account["mmap"][function], relative=0.35)


run(
    [
        ("brk and mmap by stack are exact while the gate is closed", test_closed),
        ("and while it is open, with threads at once", test_open),
        ("sampled changes weigh as much as all of them", test_sampled),
        ("what happens while nothing runs is not made up for", test_strict),
    ],
    setup=daemon.start,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
