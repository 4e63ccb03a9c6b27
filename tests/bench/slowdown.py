# SPDX-License-Identifier: GPL-2.0-or-later
"""How much longer fixed work takes while something watches, as ratios between runs that are close in time."""
import contextlib
import json
import math
import os
import re
import signal
import statistics
import subprocess
import tempfile
import time

from lib.daemon import Daemon
from lib.environment import program, tool

AHEAD = ["nice", "-n", "-19"]  # of whatever else the machine does
SETTLE_S = 2  # after a tool has started: what it does at its start is not what it costs


class Load:
    """Fixed work; run() gives the seconds that it took. repeats: how often it is run in each condition, for the median; once where the first run is
    what matters."""

    def __init__(self, name, what, n, short_n, repeats=1):
        self.name, self.what, self.n, self.short_n, self.repeats = name, what, n, short_n, repeats

    def run(self, short):
        n = str(self.short_n if short else self.n)
        command = [*AHEAD, program("wl_fixed_work"), "--mode", self.name, "--n", n]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        return json.loads(result.stdout.splitlines()[-1])["work_ns"] / 1e9


class SysbenchThreads(Load):
    def run(self, short):
        n = str(self.short_n if short else self.n)
        command = [*AHEAD, tool("sysbench"), "threads", "--threads=8", "--events=" + n, "--time=0", "run"]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(re.search(r"total time:\s+([0-9.]+)s", result.stdout)[1])


LOADS = [
    Load("pipe", "pinned pipe", 200000, 5000),
    SysbenchThreads("threads", "sysbench threads", 1500, 100, repeats=3),
    Load("faults", "page faults", 400000, 20000),
    Load("getpid", "getpid loop", 8000000, 200000, repeats=3),
    Load("cpu", "CPU loop", 90000, 2000, repeats=7),
]


@contextlib.contextmanager
def nothing():
    yield None


# Its own default, which the daemon of the tests is without.
CPU_BUDGET = {"Collect": {"CPUBudgetClosed": 1, "CPUBudgetOpen": 10}}


@contextlib.contextmanager
def stackd(mode, config=CPU_BUDGET):
    with Daemon(config) as daemon:
        daemon.set_gate(mode)
        time.sleep(SETTLE_S)
        yield daemon


@contextlib.contextmanager
def foreign(command):
    with tempfile.TemporaryDirectory(prefix="stackd-bench-") as directory:
        with open(os.path.join(directory, "out"), "wb") as output:
            process = subprocess.Popen(command, cwd=directory, stdout=output, stderr=subprocess.DEVNULL)
        try:
            time.sleep(SETTLE_S)
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}")
            yield None
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


CONDITIONS = {
    "without": nothing,
    "closed": lambda: stackd("closed"),
    "open": lambda: stackd("open"),
    "open, no limit": lambda: stackd("open", {"Collect": {"OffCPUStacksPerSec": 0}}),
    "perf record": lambda: foreign([tool("perf"), "record", "-a", "-g", "-F", "49", "-o", "perf.data"]),
    "offcputime": lambda: foreign([tool("offcputime"), "--stack-storage-size", "16384", "99999"]),
}
BUDGETS = {
    "closed": {"pipe": 1.02, "threads": 1.03, "faults": 1.02, "getpid": 1.02, "cpu": 1.002},
    "open, no limit": {"pipe": 1.30, "threads": 1.40, "faults": 1.15, "getpid": 1.10, "cpu": 1.005},
}


def measure(rounds, short, tell, loads=LOADS, conditions=CONDITIONS, observe=None):
    """{condition: {load: [ratio by round]}} and {load: [seconds without]}; every run with a tool lies between two without."""
    ratios = {condition: {load.name: [] for load in loads} for condition in conditions if condition != "without"}
    base = {load.name: [] for load in loads}
    for number in range(rounds):
        order = [c for c in conditions if c != "without"]
        order = order[number % len(order) :] + order[: number % len(order)]
        before = run_loads("without", short, loads, conditions)
        for condition in order:
            during = run_loads(condition, short, loads, conditions, observe)
            after = run_loads("without", short, loads, conditions)
            for load in loads:
                bare = (before[load.name] + after[load.name]) / 2
                base[load.name].append(bare)
                ratios[condition][load.name].append(during[load.name] / bare)
            before = after
            tell(
                f"round {number + 1}/{rounds}: {condition}: "
                + ", ".join(f"{load.name} {ratios[condition][load.name][-1]:.3f}" for load in loads)
            )
    return ratios, base


def run_loads(condition, short, loads, conditions, observe=None):
    """observe(condition, load, daemon) is a context around each load that runs with stackd."""
    seconds = {}
    with conditions[condition]() as daemon:
        for load in loads:
            with observe(condition, load, daemon) if observe and daemon else nothing():
                seconds[load.name] = statistics.median(load.run(short) for _ in range(1 if short else load.repeats))
    return seconds


def finite(ratios):
    return all(
        math.isfinite(r) and r > 0 for by_load in ratios.values() for rs in by_load.values() for r in rs
    )


def table(ratios, base):
    """The medians with the smallest and the largest, budgets beside them."""
    lines = [
        "| time with the tool / without | " + " | ".join(load.what for load in LOADS) + " |",
        "|---" * (len(LOADS) + 1) + "|",
    ]
    for condition, by_load in ratios.items():
        name = condition if condition in ("perf record", "offcputime") else "stackd, " + condition
        lines.append(
            f"| {name} | " + " | ".join(cell(condition, load, by_load[load.name]) for load in LOADS) + " |"
        )
    lines.append(
        "| seconds without | "
        + " | ".join(f"{statistics.median(base[load.name]):.3f}" for load in LOADS)
        + " |"
    )
    return lines


def cell(condition, load, values):
    text = f"{statistics.median(values):.3f}"
    if len(values) > 1:
        text += f" ({min(values):.3f} to {max(values):.3f})"
    budget = BUDGETS.get(condition, {}).get(load.name)
    if budget:
        text += f"; budget {budget:.4g}" + ("" if statistics.median(values) <= budget else ", missed")
    return text
