# SPDX-License-Identifier: GPL-2.0-or-later
"""The recorder survives what it records: no memory, dying helpers, a restart."""
import contextlib
import os
import pathlib
import shutil
import subprocess
import time

from lib.daemon import Daemon, kill
from lib.environment import program, require_root, tool
from lib.tap import check, note, run
from lib.workload import Workload

STRESS_S = 15
STRESS_BYTES = 1 << 30

require_root()
daemon = Daemon()


@contextlib.contextmanager
def memory_cgroup(limit):
    """A memory cgroup, of whichever version the machine has, as a prefix that runs a command in it."""
    v1, v2 = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup")
    old = (v1 / "memory.limit_in_bytes").exists()
    group = (v1 if old else v2) / f"stackd-live-{os.getpid()}"
    if not old:
        (v2 / "cgroup.subtree_control").write_text("+memory")
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(limit))
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"], group
    finally:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                group.rmdir()
                break
            except OSError:
                for pid in (group / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        kill(int(pid))
                time.sleep(0.1)


def oom_kills(group):
    for name in ("memory.oom_control", "memory.events"):
        if (group / name).exists():
            for line in (group / name).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def test_out_of_memory():
    with memory_cgroup(STRESS_BYTES) as (prefix, group):
        with daemon.tick_keeper():
            stress = f"--cpu 64 --vm 4 --vm-bytes {4 * STRESS_BYTES} --vm-populate -t {STRESS_S} -q".split()
            silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(
                [*prefix, tool("stress-ng"), *stress], check=False, timeout=STRESS_S + 60, **silent
            )
            kills = oom_kills(group)
        note(f"{kills} processes were killed for memory")
        check(kills > 0, "memory did not run out: nothing was tested")
    check(any(row["open"] for row in daemon.call("GetGate")["history"]), "the gate did not open under it")
    watchdog = [when for when, text in daemon.notifications if "WATCHDOG=1" in text]
    gaps = [b - a for a, b in zip(watchdog, watchdog[1:])]
    note(f"{len(watchdog)} watchdog messages, longest gap {max(gaps, default=0):.2f} s")
    check(watchdog and max(gaps) < 15, "the watchdog was not fed")


def named(load):
    return "spin_seventy" in daemon.flame("on_cpu", pid=load.pid).names()


def test_parser_dies():
    before = daemon.status()
    with daemon.tick_keeper():
        kill(before["parser_pid"])
        deadline = time.monotonic() + 5
        while daemon.status()["parser_restarts"] == before["parser_restarts"] and time.monotonic() < deadline:
            time.sleep(0.2)
        after = daemon.status()
        check(after["parser_pid"] not in (0, before["parser_pid"]), f"no new parser: {after['parser_pid']}")
        daemon.stackctl("gate", "open")
        copy = str(daemon.dir / "wl_spin_copy")
        shutil.copy(program("wl_spin_split"), copy)
        with Workload("spin_split", path=copy, seconds=4) as load:
            load.go()
            load.result()
            daemon.settled_flame("on_cpu", pid=load.pid)
            check(named(load), "a program that was started after it has no names")


def test_opener_dies():
    opener = daemon.status()["opener_pid"]
    with daemon.tick_keeper():
        kill(opener)
        with Workload("spin_split", seconds=4) as load:
            load.go()
            account = load.result()
            flame = daemon.settled_flame("on_cpu", pid=load.pid)
            check(flame.total > 0.8 * account["process_cpu_ns"], "sampling has stopped")
            check(named(load), "names are gone")
    check(daemon.status()["opener_pid"] == 0, "status still shows an opener")


def test_restart_keeps_history():
    with Workload("spin_split", seconds=3) as load:
        load.go()
        load.result()
        before = daemon.settled_flame("on_cpu", pid=load.pid)
        gates = daemon.call("GetGate")["history"]
        pid = load.pid
    check(before.total > 0, "nothing was recorded")
    check(daemon.stop() == 0, f"exit code {daemon.process.returncode}")
    daemon.start()
    note(f"ready {daemon.ready_after:.2f} s after its start")
    after = daemon.flame("on_cpu", pid=pid)
    check(after.total == before.total, f"on-CPU ns before: {before.total}, after: {after.total}")
    check({s.id for s in after.stacks} == {s.id for s in before.stacks}, "the stacks are others")
    check(after.names() == before.names(), "the names are others")
    kept = daemon.call("GetGate")["history"]
    check([row for row in kept if row in gates] == gates, "the gate's history is gone")
    daemon.wait_ticks(2)


run(
    [
        ("no tick is missed while memory runs out", test_out_of_memory),
        ("names come back after the parser was killed", test_parser_dies),
        ("goes on without the opener", test_opener_dies),
        ("a restart keeps the history", test_restart_keeps_history),
    ],
    setup=daemon.start,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
