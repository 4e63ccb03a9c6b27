# SPDX-License-Identifier: GPL-2.0-or-later
"""2,000 short processes a second for a minute, or half of what the machine can do: bounded memory and descriptors, ticks on time, losses told."""
import time

from lib.daemon import Daemon, check_ticks
from lib.environment import require_root
from lib.tap import check, note, run, within
from lib.workload import Workload

SECONDS = 60
PER_SECOND = 2000
SETTLED_S = 30
FULL = 32768  # processes after which every table of them has been filled

require_root()
daemon = Daemon()
seen = {}


def per_second():
    with Workload("churn", seconds=0.2, n=10000) as load:
        account = load.go().result()
    can = account["processes"] / account["wall_ns"] * 1e9
    note(f"the machine makes {can:.0f} processes a second")
    return int(min(PER_SECOND, can / 2))


def set_up():
    rate = seen["rate"] = per_second()
    daemon.start()
    daemon.stackctl("gate", "open")
    daemon.wait_ticks(2)
    with Workload("churn", seconds=SECONDS, n=rate) as load:
        seen["before"] = daemon.status()
        load.go()
        time.sleep(SETTLED_S)
        seen["settled"] = (daemon.private_kib(), daemon.descriptors())
        seen["account"] = load.result()
        seen["end"] = (daemon.private_kib(), daemon.descriptors())
        seen["after"] = daemon.status()
        daemon.wait_ticks(2)
        # those that run a new program do so as /proc/self/exe
        seen["flames"] = [daemon.flame("on_cpu", comm=comm) for comm in ("wl_churn", "exe")]


def test_ticks():
    account = seen["account"]
    note(f"{account['processes']} processes in {account['wall_ns'] / 1e9:.1f} s")
    check(account["wall_ns"] < (SECONDS + 5) * 1e9, "the machine could not keep up: nothing was tested")
    check_ticks(seen["before"], seen["after"])


def test_memory():
    (settled, _), (end, _) = seen["settled"], seen["end"]
    note(f"beyond the arena: {settled} KiB after {SETTLED_S} s, {end} KiB at the end")
    if seen["rate"] * SETTLED_S < FULL:
        note("the tables of processes fill still: growth says nothing here")
        return
    check(end <= settled * 1.1, f"resident memory grew from {settled} to {end} KiB")


def test_descriptors():
    (_, settled), (_, end) = seen["settled"], seen["end"]
    note(f"descriptors: {settled} after {SETTLED_S} s, {end} at the end")
    check(end <= settled + 8, f"descriptors grew from {settled} to {end}")


def test_limits():
    for limit in seen["after"]["limits"]:
        check(limit["used"] <= limit["max"], f"above its limit: {limit}")
    before = {loss["cause"]: loss["count"] for loss in seen["before"]["losses"]}
    grown = {loss["cause"]: loss["count"] - before.get(loss["cause"], 0) for loss in seen["after"]["losses"]}
    note(f"losses by cause: { {c: n for c, n in grown.items() if n} }")
    note(f"limits: {[(l['name'], l['used'], l['max']) for l in seen['after']['limits']]}")


def test_seen():
    """Processes that are gone before the tick ends are in the account all the same."""
    account = seen["account"]
    expected = account["process_cpu_ns"] + account["children_cpu_ns"]
    ratios = {c["metric"]: c["ratio"] for c in seen["after"]["conservation"]}
    note(f"{sum(len(f.stacks) for f in seen['flames'])} stacks; conservation {ratios}")
    within(
        "on-CPU ns of all of them, by stacks", sum(f.total for f in seen["flames"]), expected, relative=0.15
    )
    within("conservation of on-cpu", ratios["on_cpu"], 1.0, absolute=0.08)


run(
    [
        ("ticks are on time", test_ticks),
        ("memory is flat", test_memory),
        ("descriptors are flat", test_descriptors),
        ("nothing is above its limit, losses are told", test_limits),
        ("what short processes do is seen", test_seen),
    ],
    setup=set_up,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
