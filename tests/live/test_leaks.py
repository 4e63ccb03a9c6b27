# SPDX-License-Identifier: GPL-2.0-or-later
"""stackctl leaks: what a watched program holds, how old it is and whether it grows. And what grows is found without being watched."""
import os
import shutil
import tempfile
import time

from lib.daemon import Daemon
from lib.environment import program, require_root
from lib.tap import check, note, run
from lib.workload import Workload

require_root()
# So many false alarms a day are a small part of one in these minutes, and let the detector learn fast.
daemon = Daemon({"Collect": {"HeapSampleBytes": 0}, "Detect": {"FalseAlarmsPerDay": 1000}})
directory = tempfile.TemporaryDirectory()
unwatched = None


def leaks(pid):
    """By the function that called malloc, and when they were counted."""
    reply = daemon.call("ListLeaks", {"pid": pid})
    named = {}
    for row in reply["leaks"]:
        for name in (f["name"] for f in row["frames"]):
            if name in ("leak_4k", "fill_cache"):
                named[name] = row
    return named, reply


def wait_for(condition, pid, seconds, what):
    deadline = time.monotonic() + seconds
    while True:
        named, reply = leaks(pid)
        if condition(named):
            return named, reply
        watch = next(w for w in daemon.call("ListMemoryWatches")["watches"] if w["pid"] == pid)
        check(watch["state"] == "watched", f"not watched: {watch}")
        check(time.monotonic() < deadline, f"not within {seconds} s: {what}: {reply}")
        time.sleep(1)


def start():
    """The program that nobody watches is one of its own: what it has is not that of the one that is watched."""
    global unwatched
    daemon.start()
    path = os.path.join(directory.name, "wl_grows")
    shutil.copy(program("wl_leak"), path)
    unwatched = Workload("leak", path=path, seconds=600)
    unwatched.go()


def stop():
    unwatched.kill()
    daemon.remove()
    directory.cleanup()


def test_nothing_watched():
    result = daemon.stackctl("leaks", check_exit=False)
    check(result.returncode == 1 and "No heap is watched" in result.stderr, f"unexpected: {result}")
    result = daemon.stackctl("leaks", "--pid", 1, check_exit=False)
    check(result.returncode == 1 and "process 1 is not watched" in result.stderr, f"unexpected: {result}")
    check(daemon.call("ListLeaks")["leaks"] == [], "something is held where nothing is watched")


def test_leak_and_cache():
    with Workload("leak", seconds=82) as load:
        daemon.stackctl("watch-memory", "--pid", load.pid)
        load.go()
        named, _ = wait_for(lambda n: len(n) == 2, load.pid, 20, "both functions are listed")
        used = next(l for l in daemon.status()["limits"] if l["name"] == "leak-stacks")
        check(2 <= used["used"] < used["max"], f"the limit of leaks: {used}")
        check(not any(row["older_1min"] for row in named.values()), f"older than the program: {named}")
        check(not any(row.get("grows") for row in named.values()), f"said to grow at once: {named}")
        named, reply = wait_for(lambda n: n["leak_4k"].get("grows"), load.pid, 100, "the leak is said to grow")
        leak, cache = named["leak_4k"], named["fill_cache"]
        note(f"{leak['bytes'] / 2**20:.1f} MiB, {leak['per_minute'] / 2**20:.1f} MiB/min; cache {cache['per_minute']}")
        check(not cache["grows"], f"a cache that is full is said to grow: {cache}")
        check(abs(cache["per_minute"]) <= 2 * 16384, f"a cache that is full grows: {cache}")
        check(leak["bytes"] == 4096 * leak["blocks"], f"blocks are 4 KiB each: {leak}")
        check(0 < leak["per_minute"] < leak["bytes"], f"it grows by {leak['per_minute']} a minute and holds {leak['bytes']}")
        check(reply["leaks"][0]["stack"] == leak["stack"], "what leaks is not listed first")
        check((leak["pid"], leak["comm"]) == (load.pid, "wl_leak"), f"held by {leak}")
        text = daemon.stackctl("leaks", "--full").stdout
        first = text.splitlines()[3]
        note(first)
        check("yes" in first.split() and "leak_4k" in first, f"not what stackctl shows first:\n{text}")
        check("counted" in text.splitlines()[0], f"how old the figures are is not told:\n{text}")
        check("leak_4k" in daemon.stackctl("stacks", leak["stack"]).stdout, "the stack can't be looked at")
        account = load.result()["heap"]
        named, reply = wait_for(
            lambda n: {name: n[name]["bytes"] for name in account} == account, load.pid, 10, f"the account is {account}"
        )
        leak, cache = named["leak_4k"], named["fill_cache"]
        note(f"{leak['older_1min']} of {leak['bytes']} bytes are older than a minute")
        check(0 < leak["older_1min"] < leak["bytes"], f"no age: {leak}")
        check(leak["older_10min"] == 0 and cache["older_1min"] == 0, f"too old: {named}")
        check(0 <= time.time() - reply["counted_us"] / 1e6 < 30, f"counted at {reply['counted_us']}")
    deadline = time.monotonic() + 10
    while daemon.call("ListLeaks")["leaks"]:
        check(time.monotonic() < deadline, "the process has ended and holds memory still")
        time.sleep(0.5)


def test_growth_is_found():
    """It takes seventeen blocks of sixteen ticks at least."""
    deadline = time.monotonic() + 420
    told = []
    while not told:
        check(time.monotonic() < deadline, "a program that grows by 48 MiB a minute was not told of")
        time.sleep(2)
        told = [a for a in daemon.call("ListAnomalies")["anomalies"] if a["type"] == "slow_growth"]
    anomaly = told[0]
    note(f"{anomaly['observed'] / 2**10:.0f} KiB/s, since {time.time() - anomaly['since_us'] / 1e6:.0f} s")
    check(anomaly["exe"].endswith("/wl_grows"), f"not the one that grows: {anomaly}")
    check(any(f["name"] == "leak_4k" for f in anomaly["frames"]), f"not the stack that grows: {anomaly}")
    check(anomaly["metric"] == "rss" and 0.5 < anomaly["observed"] / (200 * 4096) < 1.1, f"grows by {anomaly['observed']}")
    time.sleep(5)
    rows = daemon.stackctl("incidents", "--full").stdout
    check(any("memory leak in" in row and "goes on" in row for row in rows.splitlines()), f"no incident of it:\n{rows}")
    daemon.stackctl("explain", anomaly["id"])


run(
    [
        ("without a watch it says how to begin one", test_nothing_watched),
        ("a leak grows and a full cache does not", test_leak_and_cache),
        ("what grows is told without being watched", test_growth_is_found),
    ],
    setup=start,
    cleanup=stop,
    on_failure=daemon.note_log,
)
