# SPDX-License-Identifier: GPL-2.0-or-later
"""Page faults told apart by whose page it was, against the kernel's own account of the thread that took them."""
import contextlib
import os
import pathlib
import time

from lib.daemon import Daemon
from lib.environment import require_root
from lib.tap import check, note, run, within
from lib.workload import Workload

require_root()
OF_FILE = {"touch_own": False, "touch_shared": True, "read_pages": True, "copy_pages": True}
daemon = Daemon()


def losses():
    return {loss["cause"]: loss["count"] for loss in daemon.status()["losses"]}


def told_apart(threads):
    with Workload("faults", seconds=8, n=400, threads=threads) as load:
        account = load.go().result()["minor"]
        whole = daemon.settled_flame("faults_minor", "touch_own", pid=load.pid)
        flames = {True: daemon.flame("faults_file", pid=load.pid), False: daemon.flame("faults_anon", pid=load.pid)}
        for function, of_file in OF_FILE.items():
            got, other = (flames[kind].with_function(function) for kind in (of_file, not of_file))
            note(f"{function}: {got} of its kind, {other} of the other, {account[function]} taken")
            check(other == 0, f"{function}: {other} faults in pages of the wrong kind")
            check(got == whole.with_function(function), f"{function}: {whole.with_function(function)} faults, but {got} of its kind")
            # 199 samples a second; read_pages has few faults, since the kernel maps what is around a page.
            if account[function] > sum(account.values()) / 10:
                within(f"{function}: faults", got, account[function], relative=0.2)
        return load.pid


def test_kinds():
    daemon.set_gate("open")
    pid = told_apart(threads=0)
    folded = daemon.stackctl("flame", "--metric", "faults-anon", "--pid", pid).stdout
    check("touch_own" in folded and "copy_pages" not in folded, f"stackctl flame --metric faults-anon:\n{folded}")
    listed = daemon.stackctl("stacks", "--metric", "faults-file", "--pid", pid).stdout
    check("copy_pages" in listed and "touch_own" not in listed, f"stackctl stacks --metric faults-file:\n{listed}")


def test_busy():
    """While others change the address space a mapping can't always be looked at: the sums stay right, and it is counted how often."""
    told_apart(threads=4)
    note(f"not looked at: {losses().get('fault-mapping-busy', 0)}")


def test_closed():
    daemon.set_gate("closed")
    daemon.wait_ticks(2)
    with Workload("faults", seconds=10, n=400) as load:
        load.go().result()
        flames = {of_file: daemon.settled_flame(metric, None, pid=load.pid) for of_file, metric in ((True, "faults_file"), (False, "faults_anon"))}
        check(flames[True].with_function("touch_own") == 0 and flames[False].with_function("copy_pages") == 0, "pages of the wrong kind")
        check(flames[True].with_function("copy_pages") > 0 and flames[False].with_function("touch_own") > 0, "a kind was not seen")


def fault_events(pid):
    """How many perf events the daemon has open now."""
    found = 0
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found += "perf_event" in os.readlink(fd)
    return found


def test_storm():
    """The event that samples minor faults costs each of them: it is gone before the tick is over in which many begin, and what they were is told."""
    daemon.set_gate("closed")
    daemon.wait_ticks(2)
    pid = daemon.status()["pid"]
    usual = fault_events(pid)
    for _ in range(8):
        before = unseen()
        with Workload("fixed_work", mode="faults", n=400000, linger=False) as load:
            daemon.wait_ticks(1)
            tick = daemon.status()["ticks"]
            load.go()
            while fault_events(pid) == usual and daemon.status()["ticks"] == tick:
                time.sleep(0.002)
            told = daemon.status()["ticks"] == tick
            load.result()
        got, lost = daemon.settled_flame("faults_minor", "work_faults", pid=load.pid).with_function("work_faults"), unseen() - before
        note(f"the event went {'before' if told else 'at'} the end of the tick; {got} faults told, {lost} as unseen")
        within("faults by work_faults, and unseen", got + lost, 400000, relative=0.1)
        if told:
            check(got > 400000 * 0.75, f"{lost} of 400000 faults of a storm of half a second are in no stack")
            return
    check(False, "the event was there until the end of each tick")


def unseen():
    return next((loss["count"] for loss in daemon.status()["losses"] if loss["cause"] == "faults-unseen"), 0)


def test_windows(gate="closed", n=4000000):
    """With many faults minor ones are seen only part of the time, since that costs each of them; the sums are right all the same, and so they are in
    the first tick, of which more is sampled than is walked."""
    daemon.set_gate(gate)
    daemon.wait_ticks(2)
    before = unseen()
    with Workload("fixed_work", mode="faults", n=n, linger=False) as load:
        load.go()
        daemon.wait_ticks(3)
        source = next(c["source"] for c in daemon.status()["collectors"] if c["name"] == "faults")
        note(source)
        check("% of the time" in source, f"many faults are seen all the time: {source}")
        load.result()
        flame = daemon.settled_flame("faults_minor", "work_faults", pid=load.pid)
        # Of the tick in which the work ends the window may come after it: that part is told as a loss.
        got, lost = flame.with_function("work_faults"), unseen() - before
        note(f"{got} faults by work_faults, {lost} told as unseen")
        within("faults by work_faults, and unseen", got + lost, n, relative=0.1)
        check(got > n / 2, f"{got} of {n} are told")
    daemon.wait_ticks(2)
    source = next(c["source"] for c in daemon.status()["collectors"] if c["name"] == "faults")
    check("% of the time" not in source, f"few faults are not seen all the time: {source}")


run(
    [
        ("faults in files and others are told apart", test_kinds),
        ("and while the address space is busy", test_busy),
        ("and while the gate is closed", test_closed),
        ("many faults are seen part of the time while it is closed", test_windows),
        ("a storm is noticed as it begins", test_storm),
        ("and while it is open", lambda: test_windows("open", 3000000)),
    ],
    setup=daemon.start,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
