# SPDX-License-Identifier: GPL-2.0-or-later
"""Blocked and runnable time and page faults against the workloads' own account and against offcputime."""
import contextlib
import signal
import time

from lib.daemon import Daemon
from lib.environment import require_root
from lib.reference import OffCpu, weight_with
from lib.tap import check, note, run, within
from lib.workload import Workload

SECONDS = 12
TOLERANCE = 0.05

require_root()
# Every wait is walked: what sampling adds is not the question here.
daemon = Daemon({"Collect": {"OffCPUStacksPerSec": 0}})
seen = {}


def record_all():
    """Everything at once: each keeps its own account, so that they may disturb each other."""
    daemon.start()
    daemon.stackctl("gate", "open")
    with contextlib.ExitStack() as stack:
        loads = {
            mode: stack.enter_context(Workload("blocker", mode=mode, seconds=SECONDS))
            for mode in ("nanosleep", "futex", "pipe")
        }
        loads["pair"] = stack.enter_context(
            Workload("preempted_pair", seconds=SECONDS, prefix=["nice", "-n", "-10"])
        )
        loads["pages"] = stack.enter_context(Workload("page_toucher", seconds=SECONDS, n=100000))
        with OffCpu() as offcpu:
            daemon.wait_ticks(1)
            for load in loads.values():
                load.go()
            for load in loads.values():
                load.result()
        for mode in ("nanosleep", "futex", "pipe"):
            daemon.settled_flame("blocked", pid=loads[mode].pid, function="wait_" + mode)
        seen["offcputime"] = offcpu.samples
        seen["status"] = daemon.status()
        for name, load in loads.items():
            seen[name] = what_is_known(load)


def what_is_known(load):
    metrics = ("on_cpu", "blocked", "runnable", "off_cpu", "faults_minor")
    return {
        "account": load.account,
        "processes": daemon.call("ListProcesses", {"filter": {"pid": load.pid}})["processes"],
        **{metric: daemon.flame(metric, pid=load.pid) for metric in metrics},
    }


def check_blocker(mode):
    mine, function = seen[mode], "wait_" + mode
    within(
        f"{function}: blocked ns",
        mine["blocked"].with_function(function),
        mine["account"]["blocked"],
        relative=TOLERANCE,
    )


def test_nanosleep():
    check_blocker("nanosleep")


def test_futex():
    check_blocker("futex")


def test_pipe():
    check_blocker("pipe")


def test_pair():
    """Which of the two a sampler meets is chance, so it is the sum of both that must be right on the CPU."""
    pair = seen["pair"]
    within(
        "both: on-CPU ns",
        sum(pair["on_cpu"].with_function(function) for function in pair["account"]["on_cpu"]),
        sum(pair["account"]["on_cpu"].values()),
        relative=TOLERANCE,
    )
    for function in ("spin_left", "spin_right"):
        within(
            f"{function}: runnable ns",
            pair["runnable"].with_function(function),
            pair["account"]["runnable"][function],
            relative=TOLERANCE,
        )
        blocked = pair["blocked"].with_function(function)
        check(
            blocked < 0.01 * pair["account"]["runnable"][function],
            f"{function} never blocks, but shows {blocked} ns blocked",
        )


def test_offcputime():
    for mode in ("nanosleep", "futex", "pipe"):
        theirs = weight_with(seen["offcputime"], "wait_" + mode) * 1000
        within(
            f"wait_{mode}: off-CPU ns against offcputime",
            seen[mode]["off_cpu"].with_function("wait_" + mode),
            theirs,
            relative=TOLERANCE,
        )
    for function in ("spin_left", "spin_right"):
        theirs = weight_with(seen["offcputime"], function) * 1000
        within(
            f"{function}: off-CPU ns against offcputime",
            seen["pair"]["off_cpu"].with_function(function),
            theirs,
            relative=TOLERANCE,
        )


def test_exact_totals():
    """The totals by process come from the kernel's accounts: no sampling error in them."""
    for name in ("nanosleep", "futex", "pipe", "pair"):
        mine = seen[name]
        check(len(mine["processes"]) == 1, f"{name}: {len(mine['processes'])} processes of one pid")
        within(
            f"{name}: the process's exact on-CPU ns",
            mine["processes"][0]["values"].get("on_cpu", 0),
            mine["account"]["process_cpu_ns"],
            relative=0.02,
        )


def test_faults():
    pages = seen["pages"]
    expected = pages["account"]["faults"]
    within(
        "minor faults of the process",
        pages["faults_minor"].total,
        pages["account"]["faults_minor"],
        relative=TOLERANCE,
    )
    for function in expected:
        within(
            f"{function}: minor faults",
            pages["faults_minor"].with_function(function),
            expected[function],
            relative=TOLERANCE,
            absolute=0.02 * sum(expected.values()),
        )


def test_conservation():
    ratios = {c["metric"]: c["ratio"] for c in seen["status"]["conservation"]}
    for metric in ("on_cpu", "runnable"):
        check(metric in ratios, f"status has no conservation of {metric}")
        within(f"conservation of {metric} under load", ratios[metric], 1.0, absolute=0.1)
    note(f"losses: {seen['status']['losses']}")


def test_sampled_waits():
    """With the default limit few of so many waits are walked, and their weights make up for the rest."""
    daemon.reload("")
    with Workload("fixed_work", mode="pipe", n=400000, linger=False) as load:
        load.go()
        account = load.result()
        note(f"{2 * account['n'] / account['work_ns'] * 1e9:.0f} switches a second")
        flame = daemon.settled_flame("off_cpu", pid=load.pid)
    off_cpu = account["work_ns"] - account["process_cpu_ns"]
    within("off-CPU ns of the first of two", flame.total, off_cpu, relative=0.2)


def test_deadlock():
    with Workload("deadlock", linger=False) as load:
        load.go()
        started = time.time()
        wait_until_seen(load, "hold_a_want_b")
        note(f"seen after {time.time() - started:.1f} s")
        # what was held back until it had names came at once: it is older than 4 seconds then
        time.sleep(6)
        daemon.wait_ticks(1)
        lasting = daemon.flame("blocked", pid=load.pid, since_us=int((time.time() - 4) * 1e6))
        for function in ("hold_a_want_b", "hold_b_want_a"):
            within(
                f"{function}: blocked seconds in the last 4, while it lasts",
                lasting.with_function(function) / 1e9,
                4,
                absolute=1.2,
            )
        folded = daemon.stackctl("flame", "--pid", load.pid, "--metric", "blocked").stdout
        check("hold_a_want_b;wait_for_lock;" in folded, f"stackctl flame does not show the wait:\n{folded}")
        whole = daemon.flame("blocked", pid=load.pid).with_function("hold_a_want_b") / 1e9
        within("hold_a_want_b: blocked seconds since it began", whole, time.time() - started, absolute=1.6)
        load.signal(signal.SIGTERM)
        account = load.result()
        daemon.wait_ticks(2)
        within(
            "hold_a_want_b: blocked ns after its end",
            daemon.flame("blocked", pid=load.pid).with_function("hold_a_want_b"),
            account["blocked"]["hold_a_want_b"],
            relative=TOLERANCE,
            absolute=1.2e9,
        )


def wait_until_seen(load, function):
    deadline = time.monotonic() + 20
    while not daemon.flame("blocked", pid=load.pid).with_function(function):
        check(time.monotonic() < deadline, f"{function} is not seen after 20 s")
        time.sleep(0.3)


run(
    [
        ("blocked in nanosleep: within 5 % of the thread's own account", test_nanosleep),
        ("blocked on a futex: within 5 %", test_futex),
        ("blocked on a pipe: within 5 %", test_pipe),
        ("a preempted pair: runnable and on-CPU within 5 %, never blocked", test_pair),
        ("off-CPU time agrees with offcputime within 5 %", test_offcputime),
        ("exact totals by process agree with the processes' own", test_exact_totals),
        ("page faults are within 5 %, by function", test_faults),
        ("the stacks' sums agree with the kernel's totals", test_conservation),
        ("sampled waits weigh as much as all of them", test_sampled_waits),
        ("a deadlock is visible while it lasts", test_deadlock),
    ],
    setup=record_all,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
