# SPDX-License-Identifier: GPL-2.0-or-later
"""perf.data of machines with the other byte order: what is recorded here, turned into what such a machine writes, is replayed to the same."""
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

import big_endian
import tap

STACKD = sys.argv[1]
KEPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "recordings/spinner.perfdata")
PERF, ZSTD = shutil.which("perf"), shutil.which("zstd")
SPIN = "import os, time\nfor i in range(4):\n  if os.fork() == 0:\n    t = time.time()\n    while time.time() < t + 0.3: bytes(1 << 20)\n    time.sleep(0.05)\n    os._exit(0)\nfor i in range(4): os.wait()"
SCHEDULER = ["-e", "sched:sched_switch", "-e", "sched:sched_wakeup"]
DIRECTORY = tempfile.mkdtemp(prefix="stackd-endian-")


def path(name):
    return os.path.join(DIRECTORY, name)


def write(name, content):
    with open(path(name), "wb") as file:
        file.write(content)
    return path(name)


def read(name):
    with open(name, "rb") as file:
        return file.read()


def zstd(*arguments):
    """perf record doesn't end its stream, of which zstd complains when it has written all there is."""
    return lambda data: subprocess.run([ZSTD, "-q", "-c", *arguments], input=data, capture_output=True).stdout


def convert(data):
    return big_endian.convert(data, zstd("-d"), zstd("-3"))


def replay(file, *arguments):
    done = subprocess.run([STACKD, "replay", *arguments, file], capture_output=True, text=True, timeout=100)
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr.replace(file, "FILE")


def same(native, foreign, *arguments):
    """Gives what both print."""
    ours, theirs = replay(native, *arguments), replay(foreign, *arguments)
    assert ours == theirs, (arguments, ours, theirs)
    return ours[1]


def record(name, *arguments):
    """None: perf can't do that here."""
    if not PERF:
        print("# there is no perf", flush=True)
        return None
    done = subprocess.run([PERF, "record", "-q", "-o", path(name), *arguments, "--", sys.executable, "-c", SPIN], capture_output=True, text=True, timeout=100)
    if done.returncode != 0:
        print(f"# perf can't record {' '.join(arguments)} here: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return None
    return path(name)


def test_a_kept_recording():
    foreign = write("kept", convert(read(KEPT)))
    assert read(foreign)[:8] == b"2ELIFREP"
    stacks = same(KEPT, foreign, "--folded")
    assert sum(int(line.rsplit(" ", 1)[1]) for line in stacks.splitlines()) > 40, stacks
    same(KEPT, foreign, "--folded", "--periods")
    same(KEPT, foreign, "--report")


def test_several_events_and_waits():
    native = record("events", "-a", "-k", "CLOCK_MONOTONIC", "-F", "99", "-g", "-e", "cpu-clock", "-e", "page-faults", *SCHEDULER, "--switch-events", "--no-bpf-event")
    if not native:
        return
    foreign = write("events.foreign", convert(read(native)))
    assert "python3" in same(native, foreign, "--folded")
    same(native, foreign, "--report")
    for metric in ("on-cpu", "off-cpu", "faults-minor"):
        assert same(native, foreign, "--folded", f"--metric={metric}"), metric
    for event in ("page-faults", "sched:sched_wakeup"):
        assert same(native, foreign, "--folded", f"--event={event}"), event


def test_perf_reads_the_same_from_it():
    """What is compared with is right: perf script says of both what it says of one."""
    native = path("events")
    if not os.path.exists(native):
        return
    fields = ["-F", "comm,tid,pid,cpu,time,event,ip,period,trace", "--show-task-events", "--show-lost-events"]
    done = [subprocess.run([PERF, "script", "-i", file, *fields], capture_output=True, text=True, timeout=100, errors="replace")
            for file in (native, path("events.foreign"))]
    ours, theirs = (d.stdout.splitlines() for d in done)
    codes = [d.returncode for d in done]
    assert len(ours) > 300 and any("prev_state" in line for line in ours), (codes, len(ours), ours[:20])
    assert ours == theirs, (codes, len(ours), len(theirs), [(a, b) for a, b in zip(ours, theirs) if a != b][:3], done[1].stderr[-300:])


def test_compressed():
    native = ZSTD and record("packed", "-z", "-F", "499", "-g", "-e", "cpu-clock")
    if not native:
        return
    foreign = write("packed.foreign", convert(read(native)))
    assert "python3" in same(native, foreign, "--folded")


def test_from_a_pipe():
    native = record("stream", "-F", "499", "-g", "-e", "cpu-clock")
    if not native:
        return
    stream = subprocess.run([PERF, "record", "-q", "-F", "499", "-g", "-e", "cpu-clock", "-o", "-", "--", sys.executable, "-c", SPIN],
                            capture_output=True, timeout=100).stdout
    native, foreign = write("stream", stream), write("stream.foreign", big_endian.convert_stream(stream))
    assert "python3" in same(native, foreign, "--folded")


def test_stacks_that_are_carried_can_not_be_walked():
    native = record("carried", "-F", "199", "--call-graph", "dwarf,4096", "-e", "cpu-clock:u")
    if not native:
        return
    code, stacks, said = replay(write("carried.foreign", convert(read(native))), "--folded")
    assert code == 0 and "not x86-64" in said and stacks, (stacks, said)
    assert sum(int(line.rsplit(" ", 1)[1]) for line in stacks.splitlines()) == int(re.search(r"(\d+) samples carry", said)[1]), (stacks, said)


def test_damaged_ones_are_told_with_their_place():
    whole, chance = convert(read(KEPT)), random.Random(5)
    for at in [*range(13, 200, 13), *(chance.randrange(len(whole)) for _ in range(16))]:
        code, _, said = replay(write("cut", whole[:at]), "--folded")
        assert code == 0 and "no end" in said or code == 1 and ("at byte" in said or at < 8), (at, said)
    for _ in range(24):
        at = chance.randrange(len(whole))
        code, _, said = replay(write("turned", whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :]), "--folded")
        assert code == 0 or code == 1 and "at byte" in said or at < 8, (at, said)
    begin = int.from_bytes(whole[40:48], "big")
    code, _, said = replay(write("short", whole[: begin + 6] + b"\0\x04" + whole[begin + 8 :]), "--folded")
    assert code == 1 and f"at byte {begin}: a record of type" in said and "can't have 4 bytes" in said, said


if __name__ == "__main__":
    status = tap.run(globals())
    shutil.rmtree(DIRECTORY)
    sys.exit(status)
