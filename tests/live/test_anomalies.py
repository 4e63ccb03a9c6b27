# SPDX-License-Identifier: GPL-2.0-or-later
"""A steady service starts to spin: it is told soon, with the right process and stack, and little else is."""
import signal
import time

from lib.daemon import Daemon
from lib.environment import require_root
from lib.tap import check, note, run
from lib.workload import Workload

BASELINE_S = 90
SEEN_WITHIN_S = 10
FEW = 3  # anomalies that the steady time may bring on a machine that has nothing else to do ...
QUIET = 0.25  # ... whose CPUs are busy for so little of it; what others do may be worth telling

require_root()
# What takes hours with the defaults must show after a minute here: a detector that is asked for one false alarm a
# day wants evidence, and twenty times as many samples and a larger budget make up for the time.
daemon = Daemon({"Collect": {"SampleHz": 997}, "Detect": {"FalseAlarmsPerDay": 1000}})
state = {}


def anomalies(**filter):
    replies = daemon.replies("ListAnomalies", {"filter": filter}, more=False)
    return [a for reply in replies for a in reply["anomalies"]]


def describe(anomaly):
    process = anomaly.get("process") or {}
    leaf = anomaly["frames"][-1]["name"] if anomaly["frames"] else "?"
    return (
        f"{anomaly['type']} of {anomaly['metric']}, score {anomaly['score']:.1f}, {anomaly['observed']:.3g} "
        f"instead of {anomaly['expected']:.3g}, {process.get('comm')} ({process.get('pid')}), in {leaf}"
    )


def cpu_times():
    """Of all CPUs since the boot: idle, and in all."""
    with open("/proc/stat") as f:
        times = [int(n) for n in f.readline().split()[1:9]]
    return times[3] + times[4], sum(times)


def busy_since(then):
    idle, total = (now - before for now, before in zip(cpu_times(), then))
    return 1 - idle / max(total, 1)


def check_few(n, begun, message):
    busy = busy_since(begun)
    note(f"the CPUs were busy for {busy:.0%} of the time")
    check(n <= FEW or busy > QUIET, message)


def set_up():
    daemon.start()
    daemon.stackctl("gate", "open")
    # ahead of whatever else the machine does, so that what it does is up to itself alone
    state["server"] = Workload("server", prefix=["nice", "-n", "-15"], hold=False, linger=False)
    state["baseline"] = cpu_times()
    time.sleep(BASELINE_S)


def test_quiet_baseline():
    server = state["server"]
    found = anomalies()
    for anomaly in found:
        note(describe(anomaly))
    check(
        not [a for a in found if (a.get("process") or {}).get("pid") == server.pid],
        "the service was steady, but has anomalies",
    )
    check_few(len(found), state["baseline"], f"{len(found)} anomalies while nothing happened")


def test_spin_is_told():
    server = state["server"]
    begin_us = state["begin_us"] = int(time.time() * 1e6)
    server.signal(signal.SIGUSR1)
    deadline = time.monotonic() + SEEN_WITHIN_S
    mine = []
    while not mine and time.monotonic() < deadline:
        time.sleep(0.5)
        mine = anomalies(pid=server.pid, since_us=begin_us)
    check(mine, f"nothing was told within {SEEN_WITHIN_S} s")
    state["anomaly"] = first = min(mine, key=lambda a: a["time_us"])
    note(f"told after {(first['time_us'] - begin_us) / 1e6:.1f} s: {describe(first)}")


def test_right_stack():
    """Some of what is told about the process is about the loop it is caught in."""
    server, begin_us = state["server"], state["begin_us"]
    daemon.wait_ticks(4)
    mine = anomalies(pid=server.pid, since_us=begin_us)
    for anomaly in mine:
        note(describe(anomaly))
    check(any(f["name"] == "ask_backend" for a in mine for f in a["frames"]), "none is about the loop")
    check(all(a["process"]["comm"] == "wl_server" for a in mine), "the process's name is wrong")
    # a thousand false alarms a day are asked for: one in 86 ticks
    check(all(a["p_value"] <= 1 / 86 for a in mine), "told although it is not improbable")


def test_stackctl():
    server = state["server"]
    text = daemon.stackctl("anomalies", "--since", "10m").stdout
    note(text)
    check(f"wl_server[{server.pid}]" in text, f"stackctl anomalies does not show it:\n{text}")
    text = daemon.stackctl("anomalies", "--since", "10m", "--pid", server.pid).stdout
    check(f"wl_server[{server.pid}]" in text, "--pid hides it")
    text = daemon.stackctl("anomalies", "--since", "10m", "--comm", "wl_other").stdout
    check("wl_server" not in text, "--comm of another process shows it")
    folded = daemon.stackctl("flame", "--pid", server.pid).stdout
    check("ask_backend" in folded, "the flame graph does not have it")


def grown(*args):
    """By how much on-CPU time in the loop grew, of "stack before after"."""
    before = after = 0
    for line in daemon.stackctl("flame", "--metric", "on-cpu", *args).stdout.splitlines():
        stack, *values = line.rsplit(" ", 2)
        if stack.startswith("wl_server;") and "ask_backend" in stack:
            before, after = before + int(values[0]), after + int(values[1])
    note(f"{args}: {before / 1e9:.2f} s before, {after / 1e9:.2f} s during")
    return after - before


def test_change_is_drawn():
    """The loop takes more of the time during the trouble than of the minute before: less than that was steady."""
    found = [
        i
        for reply in daemon.replies("ListIncidents", {}, more=False)
        for i in reply["incidents"]
        if any(m["anomaly"] == state["anomaly"]["id"] or "ask_backend" in str(m["frames"]) for m in i["moved"])
    ]
    for incident in found:
        note(daemon.stackctl("incidents", incident["id"]).stdout)
    check(found, "no incident is about it")
    check(grown("--anomaly", state["anomaly"]["id"]) > 0, "the picture of the anomaly does not show it grow")
    check(grown("--incident", found[0]["id"]) > 0, "the picture of the incident does not show it grow")
    if "cluster" in found[0]:
        check(grown("--cluster", found[0]["cluster"]) > 0, "the picture of the cluster does not show it grow")


def test_ends():
    server = state["server"]
    server.signal(signal.SIGUSR2)
    time.sleep(5)
    before, begun = len(anomalies()), cpu_times()
    time.sleep(10)
    after = anomalies()
    note(f"{before} anomalies 5 s after its end, {len(after)} 10 s later")
    check_few(len(after) - before, begun, "it goes on being told after its end")


def cleanup():
    if "server" in state:
        state["server"].kill()
    daemon.remove()


run(
    [
        ("a steady service gives no anomalies", test_quiet_baseline),
        ("a spin is told within 10 s", test_spin_is_told),
        ("the right process and stack are told", test_right_stack),
        ("stackctl anomalies and flame show it", test_stackctl),
        ("what changed is drawn", test_change_is_drawn),
        ("it ends when the trouble ends", test_ends),
    ],
    setup=set_up,
    cleanup=cleanup,
    on_failure=daemon.note_log,
)
