# SPDX-License-Identifier: GPL-2.0-or-later
"""Heaps that are watched on request: what a program holds, by the stack that allocated, against the program's own account."""
import math
import os
import struct
import subprocess
import tempfile
import time

from lib.daemon import Daemon
from lib.environment import program, require_root
from lib.tap import check, note, run, within
from lib.varlink import VarlinkError
from lib.workload import Workload

require_root()
MIB = 1 << 20
# These programs do little else than allocate.
ALL = {"Collect": {"HeapSampleBytes": 0, "HeapBudget": 100}}
daemon = Daemon(ALL)


def watch(pid, *options):
    return daemon.stackctl("watch-memory", "--pid", pid, *options)


def refused(pid, reason):
    result = daemon.stackctl("watch-memory", "--pid", pid, check_exit=False)
    note(result.stderr.strip())
    check(result.returncode == 1 and reason in result.stderr, f"not refused with {reason!r}: {result}")


def program_of_32_bits():
    """It waits for a signal, over and over: mov $29, %eax; int $0x80; jmp."""
    code = b"\xb8\x1d\x00\x00\x00\xcd\x80\xeb\xf7"
    base, start = 0x8048000, 52 + 32
    header = struct.pack(
        "<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, base + start, 52, 0, 0, 52, 32, 1, 0, 0, 0
    )
    size = start + len(code)
    return header + struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 5, 4096) + code


def watches():
    return {w["pid"]: w for w in daemon.call("ListMemoryWatches")["watches"]}


def uprobe_links():
    """Links of the daemon to probes."""
    return sum("uprobe" in info.get("link_type", "") for info in daemon.descriptor_infos())


def nothing_is_attached():
    check(daemon.limit_used("heap-watches") == 0, "processes are watched still")
    check(daemon.limit_used("heap-blocks") == 0, "blocks are kept of processes that are not watched")
    check(uprobe_links() == 0, "probes are attached still")


def test_exact():
    with Workload("heap", threads=4, n=1024) as load:
        told = watch(load.pid).stdout
        note(told.strip())
        check(uprobe_links() > 0, "no probe is seen, so none could be missed later")
        check(f"Watching the memory of {load.pid} (wl_heap)" in told, f"stackctl does not say what it does: {told}")
        account = load.go().result()["heap"]
        flame = daemon.account_flame("heap", account, pid=load.pid)
        for function, value in account.items():
            got = flame.with_function(function)
            note(f"{function}: {got}, expected {value}")
        for function, value in account.items():
            check(flame.with_function(function) == value, f"{function}: {flame.with_function(function)}, not {value} bytes")
        rows = daemon.stackctl("stacks", "--metric", "heap", "--pid", load.pid, "--full").stdout
        check(
            any("4.00MiB" in row.split() and "alloc_calloc" in row for row in rows.splitlines()),
            f"stackctl stacks does not show 4 MiB by alloc_calloc:\n{rows}",
        )
        daemon.stackctl("unwatch-memory", "--pid", load.pid)
        nothing_is_attached()


def test_sampled():
    """The bounds are three standard deviations."""
    for mean, size in ((512 << 10, 128), (16 << 10, 64)):
        daemon.reload({"Collect": {"HeapSampleBytes": mean, "HeapBudget": 100}})
        with Workload("heap", mode="many", n=size) as load:
            watch(load.pid)
            account = load.go().result()["heap"]
            flame = daemon.settled_flame("heap", "alloc_large", pid=load.pid)
            for function, value in account.items():
                if value > mean:
                    within(
                        f"{function}, a sample every {mean >> 10} KiB",
                        flame.with_function(function),
                        value,
                        relative=3 * math.sqrt(mean / value),
                    )
    daemon.reload(ALL)


def test_cost_is_told_and_bounded():
    with Workload("heap", mode="churn", seconds=12) as load:
        load.go()
        told = watch(load.pid).stdout
        note(told.strip())
        row = watches()[load.pid]
        check(f"It calls them {row['calls_per_s']:.0f} times a second" in told, f"stackctl does not say what it costs: {told}")
        check(row["calls_per_s"] > 1000 and row["share"] > 0.5, f"a loop of malloc and free is said to cost little: {row}")
        daemon.reload({"Collect": {"HeapSampleBytes": 0, "HeapBudget": 20}})
        deadline = time.monotonic() + 8
        while watches()[load.pid]["state"] != "ended" and time.monotonic() < deadline:
            time.sleep(0.5)
        row = watches()[load.pid]
        note(row.get("reason", ""))
        check(row["state"] == "ended" and "more than HeapBudget=20 allows" in row["reason"], f"it goes on: {row}")
        nothing_is_attached()
        refused(load.pid, "more than HeapBudget=20 allows")
        nothing_is_attached()
        load.result()
    daemon.reload(ALL)


def test_other_stacks():
    """A return probe hides the return address; stacks taken in the allocator must still reach main."""
    with Workload("heap", mode="churn", seconds=4) as load:
        watch(load.pid)
        daemon.set_gate("open")
        load.go().result()
        flame = daemon.settled_flame("on_cpu", "main", pid=load.pid)
        daemon.set_gate("auto")
        in_main = flame.with_function("churn")
        note(f"on-CPU: {in_main / 1e9:.2f} s below churn() of {flame.total / 1e9:.2f} s")
        truncated = sum(s.value for s in flame.stacks if s.truncated)
        note(f"truncated: {truncated / 1e9:.3f} s")
        if in_main <= 0.9 * flame.total:
            for stack in sorted(flame.stacks, key=lambda s: -s.value)[:8]:
                note(f"{stack.value / 1e9:.3f} s {'truncated ' * stack.truncated}{[f['name'] for f in stack.frames]}")
        check(in_main > 0.9 * flame.total, "stacks of a watched process do not reach its own functions")


def test_ends():
    with Workload("heap") as load:
        told = watch(load.pid, "--for", "2s").stdout
        check("until" in told, f"no end is told: {told}")
        deadline = time.monotonic() + 10
        while watches()[load.pid]["state"] != "ended" and time.monotonic() < deadline:
            time.sleep(0.2)
        check(watches()[load.pid].get("reason") == "its time is over", f"it goes on: {watches()[load.pid]}")
        nothing_is_attached()
        watch(load.pid)
        load.kill()
        daemon.wait_ticks(2)
        check(watches()[load.pid].get("reason") == "the process ended", f"unexpected: {watches()[load.pid]}")
        nothing_is_attached()
        listed = daemon.stackctl("watch-memory", "--full").stdout
        check("the process ended" in listed, f"the end is not listed:\n{listed}")


def test_exec():
    shell = subprocess.Popen(
        ["/bin/bash", "-c", "read -r line; exec /bin/bash -c 'read -r line; read -r line'"], stdin=subprocess.PIPE
    )
    try:
        time.sleep(0.3)
        watch(shell.pid)
        shell.stdin.write(b"\n")
        shell.stdin.flush()
        time.sleep(0.3)
        shell.stdin.write(b"\n")
        shell.stdin.flush()
        daemon.wait_ticks(2)
        check(
            watches()[shell.pid].get("reason") == "the process executed another program",
            f"unexpected: {watches()[shell.pid]}",
        )
        nothing_is_attached()
    finally:
        shell.kill()
        shell.wait()


def test_refusals():
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    refused(ended.pid, "there is no such process")
    refused(2, "kernel thread")
    with Workload("heap") as load:
        watch(load.pid)
        check("functions" in watch(load.pid).stdout, "asked twice, it is refused")
    with Workload("unwind_static") as load:
        check("functions" in watch(load.pid).stdout, "an allocator that is linked in is not found")
    with tempfile.TemporaryDirectory() as directory:
        stripped = f"{directory}/stripped"
        subprocess.run(["strip", "-o", stripped, program("wl_unwind_static")], check=True)
        with Workload("unwind", path=stripped) as load:
            refused(load.pid, "no allocator that is known")
        with open(f"{directory}/narrow", "wb") as f:
            f.write(program_of_32_bits())
        os.chmod(f"{directory}/narrow", 0o755)
        try:
            narrow = subprocess.Popen([f"{directory}/narrow"])
        except OSError as error:
            note(f"no 32-bit process can be started here: {error}")
        else:
            refused(narrow.pid, "it is a 32-bit process")
            narrow.kill()
            narrow.wait()
    loads = [Workload("heap") for _ in range(17)]
    try:
        daemon.wait_ticks(2)
        for load in loads[:16]:
            watch(load.pid)
        refused(loads[16].pid, "16 processes are watched already")
    finally:
        for load in loads:
            load.kill()
    daemon.wait_ticks(2)
    nothing_is_attached()
    try:
        daemon.call("UnwatchMemory", {"pid": loads[0].pid})
        check(False, "what is not watched can be unwatched")
    except VarlinkError as error:
        check(error.name == "org.stackd.NotWatched", error.name)


run(
    [
        ("without sampling the account is exact", test_exact),
        ("sampled it is right within its error", test_sampled),
        ("its cost is told first, and kept to the budget", test_cost_is_told_and_bounded),
        ("on-CPU stacks of a watched process stay whole", test_other_stacks),
        ("a watch ends with its time and its process", test_ends),
        ("and when the process executes another program", test_exec),
        ("what can't be watched is refused with the reason", test_refusals),
    ],
    setup=daemon.start,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
