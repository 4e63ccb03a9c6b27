# SPDX-License-Identifier: GPL-2.0-or-later
"""What each thread of a process waited, against the threads' own account and the process's sums."""
import collections
import re

from lib.daemon import Daemon
from lib.environment import require_root
from lib.tap import check, note, run, within
from lib.varlink import VarlinkError
from lib.workload import Workload

SECONDS = 12
FUNCTIONS = {"sleep_for", "compete"}

require_root()
# Every wait is walked: what that sampling adds is not the question here. So many are noted that sums are good to some percent.
daemon = Daemon({"Collect": {"OffCPUStacksPerSec": 0}, "Store": {"ThreadWaitsSize": "16M"}})
seen = {}


def by_thread(metric, **parameters):
    """{tid: ns} while it did what it keeps an account of, how long the waits are that were drawn, and what all rows come to."""
    sums, rows = collections.Counter(), 0
    replies = daemon.replies("GetFlame", {"metric": metric, "threads": True, **parameters})
    frames = [frame["name"] for reply in replies for frame in reply["frames"]]
    for row in (row for reply in replies for row in reply["stacks"]):
        rows += row["value"]
        if FUNCTIONS & {frames[i] for i in row["frames"]}:
            sums[row["tid"]] += row["value"]
    check(rows == replies[-1]["total"], f"rows are {rows}, all is {replies[-1]['total']}")
    return sums, replies[0].get("drawn_ns", 0), rows


def record_all():
    daemon.start()
    daemon.stackctl("gate", "open")
    with Workload("thread_waits", seconds=SECONDS, prefix=["nice", "-n", "-10"]) as load:
        daemon.wait_ticks(1)
        load.go()
        while not seen.get("while it sleeps"):
            daemon.wait_ticks(1)
            kept, _, _ = by_thread("blocked", filter={"pid": load.pid})
            # The one that is in its only sleep is known before that ends.
            if max(kept.values(), default=0) > 4e9:
                seen["while it sleeps"] = kept
        seen["account"] = load.result()
        daemon.settled_flame("blocked", pid=load.pid, function="sleep_for")
        window = daemon.call("GetFlame", {"metric": "blocked", "threads": True})["window"]
        # Of the window that is kept by thread, so that both are of the same.
        mine = {"pid": load.pid, "since_us": window["since_us"], "until_us": window["until_us"]}
        for metric in ("blocked", "runnable", "off_cpu"):
            seen[metric] = by_thread(metric, filter=mine)
            seen["process " + metric] = daemon.flame(metric, **mine)
        seen["tid"] = {}
        for thread in seen["account"]["threads"]:
            seen["tid"][thread["tid"]] = daemon.call("GetFlame", {"metric": "blocked", "tid": thread["tid"], "filter": mine})["total"]
        seen["folded"] = daemon.stackctl("flame", "--threads", "--metric", "blocked", "--pid", load.pid).stdout
        seen["svg"] = daemon.stackctl("flame", "--threads", "--metric", "blocked", "--pid", load.pid, "--format", "svg").stdout
        seen["status"] = daemon.status()


def spread(account, drawn_ns, metric):
    """What is drawn has the standard deviation of so many units: three of them, and what a tick more or less makes."""
    return 3 * (drawn_ns * account[metric]) ** 0.5 + 0.03 * account[metric] + 30e6


def check_metric(metric):
    sums, drawn, _ = seen[metric]
    note(f"drawn below {drawn / 1e6:.3f} ms")
    for account in seen["account"]["threads"]:
        within(f"{metric} ns of the thread that sleeps {account['sleep_us']} us", sums[account["tid"]], account[metric], absolute=spread(account, drawn, metric))


def test_blocked():
    check_metric("blocked")


def test_runnable():
    check_metric("runnable")
    competing = [t for t in seen["account"]["threads"] if t["sleep_us"] == 0]
    check(all(seen["runnable"][0][t["tid"]] > SECONDS * 1e9 / 4 for t in competing), "two that share a CPU wait for it")


def test_sums_are_the_processes():
    for metric in ("blocked", "runnable", "off_cpu"):
        sums, drawn, _ = seen[metric]
        process = sum(seen["process " + metric].with_function(f) for f in FUNCTIONS)
        within(metric, sum(sums.values()), process, absolute=3 * (drawn * process) ** 0.5 + 0.03 * process)
    check(seen["off_cpu"][2] == seen["blocked"][2] + seen["runnable"][2], "off-cpu is both")


def test_one_thread():
    for tid, total in seen["tid"].items():
        check(total >= seen["blocked"][0][tid], f"--tid {tid}: {total}, by thread {seen['blocked'][0][tid]}")
    check(sum(seen["tid"].values()) <= seen["blocked"][2], f"{seen['tid']} are more than all: {seen['blocked'][2]}")


def test_while_it_goes_on():
    sleeper = next(t["tid"] for t in seen["account"]["threads"] if t["sleep_us"] < 0)
    others = [ns for tid, ns in seen["while it sleeps"].items() if tid != sleeper]
    check(seen["while it sleeps"][sleeper] > 4e9, f"it slept: {seen['while it sleeps']}")
    check(len(others) >= 3, f"so did others: {seen['while it sleeps']}")


def test_client():
    roots = {line.split(";")[0] for line in seen["folded"].splitlines()}
    for thread in seen["account"]["threads"][:5]:
        check(any(root.endswith(f"/{thread['tid']}") for root in roots), f"{thread['tid']} is no root of {roots}")
    check(re.search(r"estimate: waits shorter than \S+ were drawn by their length", seen["svg"]), "the picture says that it is an estimate")


def test_refusals():
    for parameters in ({"metric": "rss", "threads": True}, {"metric": "faults_minor", "tid": 1}):
        try:
            daemon.call("GetFlame", parameters)
        except VarlinkError as error:
            check(error.name == "org.stackd.NotKept" and "by thread" in error.parameters["reason"], f"{error}")
        else:
            check(False, f"{parameters} was answered")


def test_nothing_was_lost():
    losses = {loss["cause"]: loss["count"] for loss in seen["status"]["losses"]}
    check("thread-waits-full" not in losses, f"lost: {losses}")
    limits = {limit["name"]: limit for limit in seen["status"]["limits"]}
    check(limits["thread-waits"]["used"] > 100 and limits["waiting-threads"]["used"] > 10, f"{limits}")


run(
    [
        ("blocked, of each thread, is its own account", test_blocked),
        ("so is runnable", test_runnable),
        ("threads' sums are the process's", test_sums_are_the_processes),
        ("one thread has its row", test_one_thread),
        ("a wait is known while it goes on", test_while_it_goes_on),
        ("stackctl draws threads, and says that it is an estimate", test_client),
        ("what is not kept by thread is refused", test_refusals),
        ("nothing was lost", test_nothing_was_lost),
    ],
    setup=record_all,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
