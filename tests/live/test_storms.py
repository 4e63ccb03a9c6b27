# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads made to hurt who watches them: stackd keeps its budget, by an account that is not its own, its ticks, and its memory."""
import collections
import contextlib
import os
import pathlib
import signal
import subprocess
import time

from lib.daemon import Daemon
from lib.environment import program, require_root, tool
from lib.tap import check, note, run

require_root()
SHARE = 0.02  # small, so that it has to be kept
daemon = Daemon({"Collect": {"CPUBudgetClosed": 100, "CPUBudgetOpen": 100 * SHARE}})
CPUS = os.cpu_count()
FIRST_TICKS = 10  # that are not judged
ASKING = 0.01  # of the machine
MEMORY_GROWTH_KIB = 64 << 10  # what the tables take that are made for so much, and are touched by it first

STATS = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")

@contextlib.contextmanager
def run_time_counted():
    before = STATS.read_text()
    STATS.write_text("1")
    try:
        yield
    finally:
        STATS.write_text(before)


@contextlib.contextmanager
def storm(*command):
    """A load that lasts as long as the block, and ends by itself if something goes wrong."""
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    limited = [tool("timeout"), "-s", "KILL", "30", tool(command[0]), *command[1:]]
    load = subprocess.Popen(limited, start_new_session=True, **silent)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(load.pid, signal.SIGKILL)
        load.wait()


def cpu_seconds():
    total = 0
    for pid in daemon.pids():
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def program_seconds():
    """Of the programs that the daemon has descriptors of, as the kernel counted them."""
    total = 0
    pid = daemon.status()["pid"]
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(entry.path) == "anon_inode:bpf-prog":
                text = pathlib.Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()
                fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
                total += int(fields.get("run_time_ns", 0))
    return total / 1e9


class Account:
    """Shares of the machine, tick by tick: what /proc and the kernel's account of BPF say, and what the status says."""

    def __init__(self, ticks):
        self.seen, self.told, self.left_out = [], [], set()
        before = self.reading()
        for _ in range(ticks):
            daemon.wait_ticks(1)
            now = self.reading()
            machine = (now[0] - before[0]) * CPUS
            self.seen.append((now[1] - before[1]) / machine)
            budget = daemon.status()["budget"]
            self.told.append(budget["user"] + budget["kernel"])
            self.left_out.update(budget["left_out"])
            before = now
        note("seen " + " ".join(f"{100 * x:.1f}" for x in self.seen) + " % of the machine")
        note("told " + " ".join(f"{100 * x:.1f}" for x in self.told) + f" %; left out: {sorted(self.left_out)}")

    @staticmethod
    def reading():
        return time.monotonic(), cpu_seconds() + program_seconds()


def longest(values, limit):
    longest, now = 0, 0
    for value in values:
        now = now + 1 if value > limit else 0
        longest = max(longest, now)
    return longest


def keeps_its_budget(ticks, *command):
    with run_time_counted(), storm(*command), daemon.tick_keeper():
        account = Account(ticks)
    # what it costs that this test asks, once a second, is not the storm's
    check(longest(account.seen, 2 * SHARE + ASKING) <= 2, f"over twice the budget for long: {account.seen}")


def test_switches():
    keeps_its_budget(8, "stress-ng", "--switch", "1", "-q")


def test_faults():
    keeps_its_budget(5, "stress-ng", "--fault", "2", "-q")


def test_forks():
    keeps_its_budget(6, "stress-ng", "--fork", "2", "-q")


def test_many_stacks():
    before = daemon.private_kib()
    many = (program("wl_many_stacks"), "--n", "1000000", "--threads", "4", "--seconds", "25")
    keeps_its_budget(8, *many)
    after = daemon.private_kib()
    note(f"private memory {before} KiB before, {after} KiB after")
    check(after - before < MEMORY_GROWTH_KIB, f"it grew by {after - before} KiB")
    for limit in daemon.status()["limits"]:
        check(limit["used"] <= limit["max"] or limit["max"] == 0, f"beyond its limit: {limit}")


def test_says_why():
    rows = [row for row in daemon.call("GetGate")["history"] if row["cause"].startswith("budget-")]
    causes = collections.Counter(row["cause"] for row in rows)
    note(str(dict(causes)))
    budget = daemon.status()["budget"]
    check(budget["kernel_measured"], "the programs' time was not measured")
    check("budget-lowered" in causes, "nothing was lowered")
    check("Budget: " in daemon.stackctl("status").stdout, "stackctl status has no budget")


def start():
    daemon.start()
    daemon.set_gate("open")
    daemon.wait_ticks(FIRST_TICKS)


run(
    [
        ("a million distinct stacks", test_many_stacks),
        ("a storm of forks", test_forks),
        ("a storm of page faults", test_faults),
        ("a storm of switches", test_switches),
        ("the history and the status say why", test_says_why),
    ],
    setup=start,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
