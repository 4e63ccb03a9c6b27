# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon itself needs: a tick against the number of live stacks, memory, queries, its start."""
import statistics
import time

from lib.daemon import Daemon, resident_kib
from lib.workload import Workload
from slowdown import CPU_BUDGET

NO_LIMIT = {"Collect": {"OffCPUStacksPerSec": 0, "MaxStacks": 32768}}


def median_ms(values):
    return statistics.median(values) * 1000


def timed(function):
    begin = time.monotonic()
    function()
    return time.monotonic() - begin


def raw_call(daemon, message):
    """Seconds until the last byte of the last reply is here; nothing is decoded meanwhile."""
    with daemon.client() as client:
        begin = time.monotonic()
        client.send_bytes(message + b"\0")
        received = bytearray()
        while not is_complete(received):
            data = client.socket.recv(1 << 20)
            if not data:
                raise ConnectionError("closed in the middle of an answer")
            received += data
        return time.monotonic() - begin, len(received)


def is_complete(received):
    if not received.endswith(b"\0"):
        return False
    last = received[received.rfind(b"\0", 0, len(received) - 1) + 1 :]
    return b'"continues":true' not in last.replace(b" ", b"")


def start_times(n):
    ready, first_tick = [], []
    for _ in range(n):
        with Daemon(CPU_BUDGET) as daemon:
            ready.append(daemon.ready_after)
            while daemon.status()["ticks"] < 1:
                time.sleep(0.01)
            first_tick.append(time.monotonic() - daemon.spawned)
    return ready, first_tick


def with_live_stacks(n, seconds):
    """Makes n stacks live in every second and looks at the daemon meanwhile."""
    found = {"stacks": n}
    with Daemon(NO_LIMIT) as daemon, Workload("many_stacks", n=n, seconds=seconds + 20, linger=False) as load:
        daemon.set_gate("open")
        load.go()
        time.sleep(4)
        before = daemon.status()
        costs = []
        for _ in range(seconds):
            time.sleep(1)
            costs.append(daemon.status()["tick_cost_ns"])
        after = daemon.status()
        found["tick_ms"] = [cost / 1e6 for cost in costs]
        found["cpu_share"] = (after["cpu_ns"] - before["cpu_ns"]) / (
            (after["now_us"] - before["now_us"]) * 1000
        )
        now = after["now_us"]
        live = daemon.flame("off_cpu", pid=load.pid, since_us=now - 2000000, until_us=now - 1000000)
        found["seen"] = len({s.id for s in live.stacks})
        finest = after["tiers"][0]
        found["bytes_per_point"] = finest["bytes"] / finest["points"]
        found["points"] = finest["points"]
        private, shared = resident_kib(after["pid"])
        found["private_mib"], found["shared_mib"] = private / 1024, shared / 1024
        found["helpers_mib"] = (
            sum(resident_kib(p)[0] for p in (after["opener_pid"], after["parser_pid"]) if p) / 1024
        )
        found["maps_mib"] = after["map_bytes"] / (1 << 20)
        found["losses"] = {loss["cause"]: loss["count"] for loss in after["losses"] if loss["count"]}
        queries(daemon, now, found)
    return found


def queries(daemon, now, found):
    anomalies = b'{"method":"org.stackd.ListAnomalies","parameters":{"limit":1000}}'
    flame = (
        b'{"method":"org.stackd.GetFlame","more":true,'
        b'"parameters":{"metric":"off_cpu","filter":{"since_us":%d}}}' % (now - 3600000000)
    )
    found["anomalies_ms"] = median_ms([raw_call(daemon, anomalies)[0] for _ in range(7)])
    answers = [raw_call(daemon, flame) for _ in range(7)]
    found["flame_ms"] = median_ms([seconds for seconds, _ in answers])
    found["flame_kib"] = answers[-1][1] / 1024
    found["flame_stacks"] = len(daemon.flame("off_cpu", since_us=now - 3600000000).stacks)
    found["stackctl_flame_ms"] = median_ms(
        [timed(lambda: daemon.stackctl("flame", "--metric", "off-cpu", "--since", "-1h")) for _ in range(3)]
    )


def idle(seconds):
    """The daemon's share of one CPU while it is closed and while it is held open, with nothing to do."""
    shares = {}
    with Daemon(CPU_BUDGET) as daemon:
        for mode in ("closed", "open"):
            daemon.set_gate(mode)
            time.sleep(2)
            before = daemon.status()
            time.sleep(seconds)
            after = daemon.status()
            shares[mode] = (after["cpu_ns"] - before["cpu_ns"]) / (
                (after["now_us"] - before["now_us"]) * 1000
            )
    return shares
