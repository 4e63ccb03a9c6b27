# SPDX-License-Identifier: GPL-2.0-or-later
"""The yardsticks themselves: perf and offcputime agree with the workloads' own account, without stackd."""
import contextlib

from lib.environment import require_root
from lib.reference import OffCpu, Perf, self_weights, weight_with
from lib.tap import check, run, within
from lib.workload import Workload

SECONDS = 8

require_root()
seen = {}


def record():
    with contextlib.ExitStack() as stack:
        loads = {
            name: stack.enter_context(Workload(name, seconds=SECONDS, **options))
            for name, options in (
                ("spin_split", {}),
                ("blocker", {"mode": "futex"}),
                ("preempted_pair", {}),
                ("page_toucher", {"n": 20000}),
            )
        }
        with Perf() as perf, OffCpu() as offcpu:
            for load in loads.values():
                load.go()
            for load in loads.values():
                load.result()
        seen.update(
            {name: load.account for name, load in loads.items()},
            offcpu=offcpu.samples,
            perf=[s for s in perf.samples if s.pid == loads["spin_split"].pid],
        )


def test_runs():
    check(seen["perf"] and seen["offcpu"], "a reference has no samples")


def test_perf():
    own = seen["spin_split"]["on_cpu"]
    weights = self_weights(seen["perf"])
    by_name = {name: weight for (name, _), weight in weights.items()}
    split = by_name["spin_seventy"] + by_name["spin_thirty"]
    within(
        "share of spin_seventy by perf",
        by_name["spin_seventy"] / split,
        own["spin_seventy"] / sum(own.values()),
        absolute=0.03,
    )


def test_offcputime():
    within(
        "wait_futex by offcputime, ns",
        weight_with(seen["offcpu"], "wait_futex") * 1000,
        seen["blocker"]["blocked"],
        relative=0.05,
    )
    for function, own in seen["preempted_pair"]["runnable"].items():
        within(
            f"{function} by offcputime, ns", weight_with(seen["offcpu"], function) * 1000, own, relative=0.05
        )


def test_faults():
    account = seen["page_toucher"]
    within(
        "minor faults by getrusage", account["faults_minor"], sum(account["faults"].values()), relative=0.01
    )


run(
    [
        ("the workloads run beside perf and offcputime", test_runs),
        ("perf sees the 70/30 split", test_perf),
        ("offcputime sees blocked and preempted threads", test_offcputime),
        ("the kernel counts the page toucher's faults", test_faults),
    ],
    setup=record,
)
