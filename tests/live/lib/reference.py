# SPDX-License-Identifier: GPL-2.0-or-later
"""What other tools say of the same run: perf record and offcputime of libbpf-tools.

offcputime names a thread id where perf names a process, so its samples are told apart by function."""
import collections
import os
import re
import signal
import subprocess
import tempfile
import time

from .environment import tool

Sample = collections.namedtuple("Sample", "comm pid weight frames tid", defaults=[None])  # frames: (name, object), innermost first


def _interrupt(process):
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)


class Perf:
    """perf record -a over everything that runs while it is entered; call_graph as its option is."""

    def __init__(self, hz=99, call_graph="fp"):
        self.hz = hz
        self.call_graph = call_graph
        self.samples = []

    def __enter__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="stackd-perf-")
        self.data = os.path.join(self.dir.name, "perf.data")
        command = [
            tool("perf"),
            "record",
            "-q",
            "-a",
            "--call-graph",
            self.call_graph,
            "-e",
            "cpu-clock",
            "-F",
            str(self.hz),
            "-o",
            self.data,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not os.path.exists(self.data) and time.monotonic() < deadline and self.process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.3)
        return self

    def __exit__(self, kind, *_):
        _interrupt(self.process)
        if kind is None:
            command = [tool("perf"), "script", "--no-inline", "-i", self.data, "-F", "comm,pid,tid,ip,sym,dso"]
            script = subprocess.run(command, check=True, capture_output=True, text=True, errors="replace")
            self.samples = parse_perf_script(script.stdout)
        self.dir.cleanup()


def parse_perf_script(text):
    samples = []
    comm, pid, tid, frames = None, None, None, []
    for line in text.splitlines() + [""]:
        if not line.strip():
            if comm is not None and frames:
                samples.append(Sample(comm, pid, 1, frames, tid))
            comm, frames = None, []
        elif line[0].isspace() and comm is not None:
            match = re.match(r"\s+[0-9a-f]+ (.*) \(([^()]*(?:\([^()]*\))?[^()]*)\)$", line)
            if match:
                frames.append((match[1], os.path.basename(match[2])))
        else:
            match = re.match(r"\s*(.+?)\s+(\d+)/(\d+)\s*$", line)
            comm, pid, tid = (match[1], int(match[2]), int(match[3])) if match else (None, None, None)
    return samples


class OffCpu:
    """offcputime of libbpf-tools: weights are microseconds, blocked and runnable together."""

    def __init__(self, pid=None):
        self.pid = pid
        self.samples = []

    def __enter__(self):
        command = [tool("offcputime"), "--stack-storage-size", "65536"]
        if self.pid:
            command += ["-p", str(self.pid)]
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command + ["99999"], stdout=self.output, stderr=subprocess.DEVNULL)
        time.sleep(1.5)
        return self

    def __exit__(self, kind, *_):
        _interrupt(self.process)
        self.output.seek(0)
        self.samples = parse_offcputime(self.output.read())
        self.output.close()


def parse_offcputime(text):
    samples, frames = [], []
    header = None
    for line in text.splitlines():
        owner = re.match(r"    -\s+(.*) \((\d+)\)$", line)
        if owner:
            header = owner
        elif header:
            if line.strip().isdigit():
                samples.append(Sample(header[1], int(header[2]), int(line), frames))
            header, frames = None, []
        elif line.strip():
            frames.append((line.strip(), ""))
    return samples


def self_weights(samples):
    """Weight by innermost function."""
    weights = collections.Counter()
    for sample in samples:
        weights[sample.frames[0]] += sample.weight
    return weights


def weight_with(samples, function):
    return sum(s.weight for s in samples if any(name == function for name, _ in s.frames))
