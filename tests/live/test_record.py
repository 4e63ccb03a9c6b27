# SPDX-License-Identifier: GPL-2.0-or-later
"""stackd record: what is replayed of its file is what it computed itself, and what programs did that are known."""
import collections
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

from lib.environment import NOBODY, program, require_root, tool
from lib.tap import check, note, run, within

SECONDS = 14
SPIN = 8

require_root()
directory = tempfile.mkdtemp(prefix="stackd-record-")
os.chmod(directory, 0o755)
said = {}


def at(name):
    return os.path.join(directory, name)


def stackd(*arguments, **options):
    return subprocess.run([program("stackd"), *arguments], capture_output=True, text=True, timeout=120, **options)


def wait_until_ready(process):
    for line in process.stderr:
        said.setdefault("start", []).append(line)
        if "ready" in line:
            return
    raise AssertionError(f"stackd record ended: {said['start']}")


def set_up():
    with open(at("stackd.conf"), "w") as config:
        config.write("[Gate]\nBaselineHz=49\n[Collect]\nSampleHz=99\n")
    process = subprocess.Popen(
        [program("stackd"), "record", f"--for={SECONDS}s", f"--config={at('stackd.conf')}", at("file.stackrec")],
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until_ready(process)
    spin = subprocess.run([program("wl_spin_split"), "--seconds", str(SPIN)], capture_output=True, text=True, check=True)
    said["cpu_s"] = json.loads(spin.stdout.splitlines()[-1])["process_cpu_ns"] / 1e9
    said["end"] = process.stderr.read()
    said["status"] = process.wait(timeout=60)
    said["mode"] = os.stat(at("file.stackrec")).st_mode & 0o777
    os.chmod(at("file.stackrec"), 0o644)


def test_it_ends_by_itself():
    note(said["end"].strip())
    check(said["status"] == 0 and "recorded " in said["end"], said)
    check(said["mode"] == 0o600, f"others may read it: {said['mode']:o}")


def test_series_and_scores_are_the_same():
    done = stackd("replay", "--verify", at("file.stackrec"))
    note(done.stdout.strip())
    check(done.returncode == 0 and "the same series and scores" in done.stdout and not done.stderr, f"{done}")
    ticks = int(done.stdout.split()[0])
    check(ticks >= SECONDS // 2, f"{ticks} ticks in {SECONDS} s")


def test_without_privileges():
    shutil.copy(program("stackd"), at("stackd"))
    prefix = [tool("setpriv"), "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    with open(at("file.stackrec"), "rb") as file:
        done = subprocess.run([*prefix, at("stackd"), "replay", "--report", "-"], stdin=file, capture_output=True, text=True, timeout=60)
    check(done.returncode == 0 and not done.stderr and "Anomalies:" in done.stdout, f"{done}")


def folded(metric):
    done = stackd("replay", "--folded", f"--metric={metric}", at("file.stackrec"))
    check(done.returncode == 0, done.stderr)
    stacks = collections.Counter()
    for line in done.stdout.splitlines():
        names, value = line.rsplit(" ", 1)
        stacks[tuple(names.split(";"))] += int(value)
    return stacks


def test_what_a_program_did():
    stacks = {stack: value for stack, value in folded("on-cpu").items() if stack[0] == "wl_spin_split"}
    total = sum(stacks.values())
    within("CPU time", total / 1e9, said["cpu_s"], relative=0.15)
    seventy = sum(value for stack, value in stacks.items() if "spin_seventy" in stack)
    within("share of spin_seventy", seventy / total, 0.7, absolute=0.08)
    check(sum(folded("blocked").values()) > 0, "nobody waited")


def test_when_it_ran():
    """An import of it shows within seconds when a program ran, and has its stacks there."""
    path = os.path.dirname(program("stackd")) + ":" + os.environ["PATH"]

    def stackctl(*arguments):
        done = subprocess.run(
            [program("stackctl"), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "XDG_CACHE_HOME": at("cache"), "PATH": path},
        )
        check(done.returncode == 0, f"{arguments}: {done.stderr}")
        return done.stdout

    stackctl("import", "--name=r", at("file.stackrec"))
    heat = json.loads(stackctl("heat", "--import=r", "--comm=wl_spin_split", "--json"))
    check(heat["step_us"] == 50000, heat["step_us"])
    steps = {s["time_us"]: s["on_cpu"] for s in heat["steps"] if s["on_cpu"] > 0}
    total = sum(value for stack, value in folded("on-cpu").items() if stack[0] == "wl_spin_split")
    within("CPU time within seconds", sum(steps.values()), total, relative=0.05)
    within("s from its first to its last", (max(steps) - min(steps)) / 1e6, SPIN, absolute=1)
    middle = sorted(steps)[len(steps) // 2]
    window = [f"--since=@{middle / 1e6:.6f}", f"--until=@{middle / 1e6 + 0.5:.6f}"]
    exact = stackctl("flame", "--import=r", "--exact", "--comm=wl_spin_split", *window)
    sampled = sum(int(line.rsplit(" ", 1)[1]) for line in exact.splitlines() if "spin_" in line)
    within("of half a second", sampled, sum(value for time, value in steps.items() if middle <= time < middle + 500000), relative=0.05)


def test_interrupted():
    process = subprocess.Popen([program("stackd"), "record", at("short")], stderr=subprocess.PIPE, text=True)
    wait_until_ready(process)
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    check(process.wait(timeout=60) == 0, rest)
    done = stackd("replay", "--verify", at("short"))
    check(done.returncode == 0 and "the same" in done.stdout, f"{done}")


def test_what_cannot_be_written():
    for arguments, says in (
        (["/dev/full"], "No space left"),
        ([at("none/file")], "No such file"),
        (["--for=0", at("x")], "--for=0"),
        ([], "one FILE"),
    ):
        done = stackd("record", *arguments)
        check(done.returncode == 1 and says in done.stderr, f"{arguments}: {done}")


def test_damaged_files():
    with open(at("file.stackrec"), "rb") as file:
        whole = file.read()
    with open(at("cut"), "wb") as file:
        file.write(whole[: len(whole) // 2])
    done = stackd("replay", "--report", at("cut"))
    check(done.returncode == 1 and "at byte " in done.stderr and "Anomalies:" in done.stdout, f"{done}")


if __name__ == "__main__":
    run(
        [(name[5:].replace("_", " "), function) for name, function in list(globals().items()) if name.startswith("test_")],
        setup=set_up,
        cleanup=lambda: shutil.rmtree(directory),
    )
