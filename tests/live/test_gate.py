# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate: opens at once, closes with hysteresis, takes orders with a deadline, and keeps why."""
import os
import time

from lib.daemon import Daemon
from lib.environment import require_root
from lib.tap import check, note, run, within
from lib.workload import Workload

OPEN_WITHIN_US = 10000
CLOSE_AFTER_S = 2
CPUS = os.cpu_count()

require_root()
QUICK = {"CloseAfter": f"{CLOSE_AFTER_S}s", "Cooldown": "1s"}
daemon = Daemon({"Gate": {"OpenAbove": 5.0, "CloseBelow": 4.0, **QUICK}})
opened = {}


def gate():
    return daemon.call("GetGate")["gate"]


def history(since_us=0):
    """Oldest first."""
    return sorted(daemon.call("GetGate", {"since_us": since_us})["history"], key=lambda row: row["time_us"])


def wait_for(open_, timeout=30):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if gate()["open"] == open_:
            return
        time.sleep(0.1)
    check(False, f"the gate did not {'open' if open_ else 'close'} within {timeout} s: {gate()}")


def hits(pid, since_us, until_us):
    return daemon.flame("hits", pid=pid, since_us=since_us, until_us=until_us).total


def test_opens():
    wait_for(False)
    daemon.wait_ticks(1)
    with Workload("hog", threads=8 * CPUS, seconds=6) as hog:
        hog.go()
        account = hog.result()
        daemon.wait_ticks(2)
    opened.update(account)
    rows = [row for row in history(account["released_us"] - 500000) if row["open"]]
    check(rows, "the history has no opening")
    note(f"opened {(rows[0]['time_us'] - account['released_us']) / 1000:.2f} ms after the load: {rows[0]}")
    check(
        -1000 <= rows[0]["time_us"] - account["released_us"] <= OPEN_WITHIN_US,
        f"opened {rows[0]['time_us'] - account['released_us']} us after the load",
    )
    check(rows[0]["cause"] == "load" and rows[0]["load"] > 5.0, f"the opening's cause is not told: {rows[0]}")


def test_closes():
    wait_for(False)
    daemon.wait_ticks(1)
    rows = [row for row in history(opened["ended_us"] - 1000000) if not row["open"]]
    check(rows, "the history has no closing")
    after = (rows[0]["time_us"] - opened["ended_us"]) / 1e6
    note(f"closed {after:.2f} s after the load was gone: {rows[0]}")
    check(CLOSE_AFTER_S - 0.5 <= after <= CLOSE_AFTER_S + 3, f"closed {after:.2f} s after the load was gone")
    check(
        rows[0]["cause"] == "load-low" and rows[0]["load"] < 4.0,
        f"the closing's cause is not told: {rows[0]}",
    )


def test_hysteresis():
    """Between the two thresholds the gate stays as it is."""
    daemon.reload({"Gate": {"OpenAbove": 8.0, "CloseBelow": 2.0, **QUICK}})
    check(gate()["open_above"] == 8.0, "the reload did not change the threshold")
    wait_for(False)
    with Workload("hog", threads=5 * CPUS, seconds=14) as between:
        between.go()
        time.sleep(4)
        check(not gate()["open"], f"opened below its threshold: {gate()}, {history()[-3:]}")
        with Workload("hog", threads=8 * CPUS, seconds=2) as above:
            above.go()
            wait_for(True, 2)
            above.result()
        time.sleep(CLOSE_AFTER_S + 2)
        check(gate()["open"], f"closed above its lower threshold: {gate()}, {history()[-3:]}")
        between.result()
    wait_for(False)


def test_weights():
    """Closed, few samples stand for as much time as many do when it is open.

    On one CPU: of the samples of a task that goes from one CPU to another, whose clocks are out of step, chance decides
    how many there are. Forty of them would be off by a tenth as often as not."""
    for mode, least, most in (("closed", 2, 15), ("open", 40, 60)):
        daemon.stackctl("gate", "close" if mode == "closed" else "open")
        daemon.wait_ticks(2)
        with Workload("spin_split", seconds=8, prefix=["taskset", "-c", "0", "nice", "-n", "-15"]) as load:
            load.go()
            account = load.result()
            daemon.settled_flame("on_cpu", pid=load.pid)
            since, until = account["started_us"] - 1000000, account["ended_us"] + 1000000
            rate = hits(load.pid, since, until) / (account["process_cpu_ns"] / 1e9)
            note(f"{mode}: {rate:.1f} samples in a second of CPU time")
            check(least <= rate <= most, f"{mode}: {rate:.1f} samples in a second of CPU time")
            within(
                f"{mode}: on-CPU ns",
                daemon.flame("on_cpu", pid=load.pid).total,
                account["process_cpu_ns"],
                relative=0.05 if mode == "open" else 0.15,
            )
    daemon.stackctl("gate", "auto")


def test_override():
    wait_for(False)
    begin_us = int(time.time() * 1e6)
    shown = daemon.stackctl("gate", "open", "--for", "3s").stdout
    state = gate()
    check(state["open"] and state["mode"] == "open", f"gate open did not open: {shown} {state}")
    within("the deadline, seconds from now", (state["until_us"] - begin_us) / 1e6, 3, absolute=0.5)
    time.sleep(4.5)
    check(gate()["mode"] == "auto" and "until_us" not in gate(), f"the override did not end: {gate()}")
    wait_for(False)
    daemon.wait_ticks(1)
    causes = [(row["open"], row["cause"]) for row in history(begin_us - 1000)]
    note(f"causes: {causes}")
    check((True, "manual") in causes, f"the override is not in the history: {causes}")
    check((False, "manual-expired") in causes, f"its end is not in the history: {causes}")


def test_held_closed():
    daemon.stackctl("gate", "close")
    with Workload("hog", threads=10 * CPUS, seconds=3) as hog:
        hog.go()
        time.sleep(2)
        check(not gate()["open"], "opened although it was held closed")
        hog.result()
    text = daemon.stackctl("gate").stdout
    check("closed" in text, f"stackctl gate does not say that it is closed: {text}")
    daemon.stackctl("gate", "auto")
    check(gate()["mode"] == "auto", "gate auto did not end the override")


run(
    [
        ("opens within 10 ms of the load crossing 5.0", test_opens),
        ("closes after the load stayed low", test_closes),
        ("stays as it is between its thresholds", test_hysteresis),
        ("few samples weigh as much as many", test_weights),
        ("an override opens it until its deadline", test_override),
        ("an override holds it closed", test_held_closed),
    ],
    setup=daemon.start,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
