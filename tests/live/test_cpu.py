# SPDX-License-Identifier: GPL-2.0-or-later
"""On-CPU shares and totals against the workloads' own account and against perf record of the same run."""
import collections
import subprocess
import time

from lib.daemon import Daemon
from lib.environment import require_root, tool
from lib.pulses import check_pulses
from lib.reference import Perf, self_weights
from lib.tap import check, note, run, within
from lib.workload import Workload

SHARE_POINTS = 0.05  # stackd and perf may differ by this much of the whole
PERF_LEAST_SHARE = 0.02  # functions below it are too rare to be compared

require_root()
daemon = Daemon()
split = {}


def normalized(name, object_name):
    """One spelling for what both tools show: kernel symbols by name, what has no name by its object.

    glibc's debug file has two names for some functions, f and __GI_f: perf shows the longer one, stackd the other."""
    if name.startswith("[") or name == "[unknown]":
        return f"[{object_name}]"
    return name.split("@")[0].removeprefix("__GI_")


def shares(weights):
    merged = collections.Counter()
    for (name, object_name), weight in weights.items():
        merged[normalized(name, object_name)] += weight
    total = sum(merged.values())
    return {name: weight / total for name, weight in merged.items()}


def compare_with_perf(what, stackd_weights, perf_weights):
    ours, theirs = shares(stackd_weights), shares(perf_weights)
    worst = []
    for name, share in sorted(theirs.items(), key=lambda item: -item[1]):
        if share < PERF_LEAST_SHARE:
            break
        note(f"{what}: {name}: stackd {ours.get(name, 0) * 100:.1f} %, perf {share * 100:.1f} %")
        if abs(ours.get(name, 0) - share) > SHARE_POINTS:
            worst.append(name)
    check(
        not worst, f"{what}: shares differ by more than {SHARE_POINTS * 100:.0f} points: {', '.join(worst)}"
    )


def record_split():
    daemon.start()
    daemon.stackctl("gate", "open")
    with Workload("spin_split", seconds=14, threads=2, prefix=["nice", "-n", "-10"]) as workload:
        with Perf() as perf:
            daemon.wait_ticks(1)
            workload.go()
            account = workload.result()
        flame = daemon.settled_flame("on_cpu", pid=workload.pid)
        split.update(
            account=account,
            pid=workload.pid,
            perf=perf,
            flame=flame,
            threads=[
                row
                for reply in daemon.replies("GetFlame", {"threads": True, "filter": {"pid": workload.pid}})
                for row in reply["stacks"]
            ],
            conservation={c["metric"]: c["ratio"] for c in daemon.status()["conservation"]},
            top=daemon.call(
                "GetTop",
                {
                    "by": "function",
                    "metric": "on_cpu",
                    "limit": 50,
                    "filter": {"pid": workload.pid, "since_us": account["started_us"] - 2000000},
                },
            ),
        )


def test_split_shares():
    account, flame = split["account"]["on_cpu"], split["flame"]
    seventy, thirty = flame.with_function("spin_seventy"), flame.with_function("spin_thirty")
    within(
        "share of spin_seventy",
        seventy / (seventy + thirty),
        account["spin_seventy"] / (account["spin_seventy"] + account["spin_thirty"]),
        absolute=0.03,
    )


def test_split_total():
    within(
        "on-CPU ns of the process", split["flame"].total, split["account"]["process_cpu_ns"], relative=0.05
    )
    check(split["flame"].sum() == split["flame"].total, "the total is not the sum of the stacks")


def test_split_like_perf():
    samples = [s for s in split["perf"].samples if s.pid == split["pid"]]
    check(len(samples) > 300, f"perf has only {len(samples)} samples")
    compare_with_perf("spin_split", split["flame"].self_weights(), self_weights(samples))


def test_split_by_thread_like_perf():
    stackd, perf = collections.Counter(), collections.Counter()
    for row in split["threads"]:
        stackd[row["tid"]] += row["value"]
    perf.update(s.tid for s in split["perf"].samples if s.pid == split["pid"])
    within("on-CPU ns of its threads", stackd.total(), split["flame"].total, relative=0.02)
    for tid, n in perf.items():
        within(f"share of thread {tid}", stackd[tid] / stackd.total(), n / perf.total(), absolute=SHARE_POINTS)
    check({row["comm"] for row in split["threads"]} == {"wl_spin_split"}, "threads' names")
    check(sum(share > 0.3 for share in (n / stackd.total() for n in stackd.values())) == 2, f"two threads: {stackd}")


def perf_self_and_children(samples):
    own, children = collections.Counter(), collections.Counter()
    for sample in samples:
        own[sample.frames[0][0]] += 1
        for name in {name for name, _ in sample.frames}:
            children[name] += 1
    return own, children


def test_top_like_perf_report():
    samples = [s for s in split["perf"].samples if s.pid == split["pid"]]
    own, children = perf_self_and_children(samples)
    top = split["top"]
    rows = {row["frame"]["name"]: row for row in top["rows"]}
    for name in ("spin_seventy", "spin_thirty", "spin_split"):
        check(name in rows, f"top has no {name}")
        within(
            f"{name}: self",
            rows[name]["self"] / top["total"],
            own[name] / len(samples),
            absolute=SHARE_POINTS,
        )
        within(
            f"{name}: children",
            rows[name]["total"] / top["total"],
            children[name] / len(samples),
            absolute=SHARE_POINTS,
        )


def test_conservation():
    ratio = split["conservation"].get("on_cpu")
    check(ratio is not None, "status has no conservation of on-cpu")
    within("conservation of on-cpu under load", ratio, 1.0, absolute=0.1)


def test_within_seconds():
    with Workload("pulses", seconds=6, prefix=["nice", "-n", "-10"]) as workload:
        workload.go()
        account = workload.result()
        whole = daemon.settled_flame("on_cpu", pid=workload.pid)
    check_pulses(daemon, workload.pid, account, whole)


def compare_command(what, command, comm):
    """Runs a foreign load under both profilers and compares by innermost function."""
    since_us = int(time.time() * 1e6)
    with Perf() as perf:
        daemon.wait_ticks(1)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    flame = daemon.settled_flame("on_cpu", since_us=since_us, until_us=int(time.time() * 1e6))
    samples = [s for s in perf.samples if s.comm.startswith(comm)]
    check(len(samples) > 300, f"perf has only {len(samples)} samples of {comm}")
    ours = collections.Counter()
    for stack in flame.stacks:
        if stack.comm.startswith(comm) and stack.frames:
            ours[(stack.frames[0]["name"], stack.frames[0]["object"])] += stack.value
    compare_with_perf(what, ours, self_weights(samples))


def test_stress_ng_like_perf():
    compare_command(
        "stress-ng",
        [
            tool("stress-ng"),
            "--cpu",
            "1",
            "--cpu-method",
            "matrixprod",
            "--switch",
            "1",
            "--vm",
            "1",
            "--vm-bytes",
            "64M",
            "-t",
            "10",
            "-q",
        ],
        "stress-ng",
    )


def test_sysbench_like_perf():
    compare_command("sysbench", [tool("sysbench"), "threads", "--threads=8", "--time=10", "run"], "sysbench")


run(
    [
        ("a 70/30 split is seen as such within 3 points", test_split_shares),
        ("on-CPU time is within 5 % of the process's own", test_split_total),
        ("function shares agree with perf record within 5 points", test_split_like_perf),
        ("threads' shares agree with perf record within 5 points", test_split_by_thread_like_perf),
        ("top by function agrees with perf report, self and children", test_top_like_perf_report),
        ("a window within a second has what ran in it, and no more", test_within_seconds),
        ("the stacks' sum agrees with the kernel's totals", test_conservation),
        ("stress-ng: function shares agree with perf record", test_stress_ng_like_perf),
        ("sysbench: function shares agree with perf record", test_sysbench_like_perf),
    ],
    setup=record_split,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
