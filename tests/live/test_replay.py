# SPDX-License-Identifier: GPL-2.0-or-later
"""stackd replay against perf script, on files that perf recorded just now of programs whose stacks are known."""
import collections
import json
import os
import re
import shutil
import subprocess
import tempfile

from lib.environment import NOBODY, program, require_root, tool
from lib.tap import check, note, run, within

HZ = 199
SECONDS = 3
STEP = 64  # bytes between the places where a file is cut off
SHARE_OFF_MOST = 0.01  # of all samples, by function: symbols that share an address may be called by another of their names
UNSIZED = {"[unknown]", "_dl_start_user"}  # the table says no size of it: stackd gives no name to what no symbol covers
ALIASES = ("__GI_", "__libc_", "__pi_", "__")

PROGRAMS = ("wl_unwind", "spin_split", "many_stacks")

require_root()
said = {}
directory = tempfile.mkdtemp(prefix="stackd-replay-")
os.chmod(directory, 0o755)


def at(name):
    return os.path.join(directory, name)


def record(name, *options, command):
    """Gives what the program said."""
    command = [tool("perf"), "record", "-q", "-o", at(name), *options, *command]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    os.chmod(at(name), 0o644)
    return done.stdout


def set_up():
    for name in PROGRAMS[1:]:
        shutil.copy(program("wl_" + name), at(name))
    sampled = ("-F", str(HZ), "-e", "cpu-clock", "-g", "--call-graph", "fp")
    spin = [at("spin_split"), "--seconds", str(SECONDS)]
    said["cpu_s"] = json.loads(record("spin.data", *sampled, command=spin).splitlines()[-1])["process_cpu_ns"] / 1e9
    both = 'exec 2>&1; "$0" --seconds 1 & "$1" --seconds 1; wait'
    record("both.data", *sampled, "-a", command=["sh", "-c", both, at("many_stacks"), at("spin_split")])
    record("events.data", "-F", "99", "-e", "task-clock,cpu-clock", "-g", command=[*spin[:2], "1"])
    record("packed.data", "-z", *sampled, command=[*spin[:2], "1"])
    # Without frame pointers.
    record("dwarf.data", "-F", "99", "-e", "cpu-clock", "--call-graph", "dwarf", command=[program("wl_unwind"), "--seconds", "1", "--n", "20"])
    waits = "exec 2>&1; \"$0\" --seconds 1 & for i in $(seq 20); do sleep 0.02; done; wait"
    record("waits.data", "-a", "-c", "1", "-g", "-e", "sched:sched_switch,sched:sched_wakeup,sched:sched_wakeup_new,page-faults", "-m", "4M",
           command=["sh", "-c", waits, at("spin_split")])
    # A small one: perf puts its build IDs and its idea of the machine in otherwise.
    record("small.data", "-N", "-B", "-F", "19", "-e", "cpu-clock", "-g", command=[*spin[:2], "1"])


def replay(*arguments, file=None, prefix=(), stdin=None):
    return subprocess.run(
        [*prefix, program("stackd"), "replay", "--folded", *arguments, file or "-"],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=60,
    )


def stacks_of(done):
    check(done.returncode == 0, f"stackd replay failed: {done.stderr.decode()}")
    stacks = collections.Counter()
    for line in done.stdout.decode().splitlines():
        names, value = line.rsplit(" ", 1)
        stacks[tuple(names.split(";"))] += int(value)
    return stacks


def by_perf(name, *options):
    """As perf script has it, read by nothing of ours: (comm, frames innermost first) of each sample."""
    command = [tool("perf"), "script", "--no-inline", "-i", at(name), "-F", "comm,ip,sym", *options]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    samples = []
    for block in text.split("\n\n"):
        comm, *frames = [line for line in block.splitlines() if line.strip()] or [""]
        if comm:
            samples.append((comm.strip(), [line.split(None, 1)[1].strip() for line in frames]))
    return samples


def plain(function):
    function = function.split("@")[0]
    for prefix in ALIASES:
        function = function.removeprefix(prefix)
    return function


def is_ours(comm):
    return comm == "sh" or comm in PROGRAMS


def compare(name):
    """By process for all, by function for programs of ours: of others perf may use another name at the same address."""
    perf, ours = by_perf(name), stacks_of(replay(file=at(name)))
    total = len(perf)
    note(f"{name}: {total} samples")
    comms = collections.Counter(comm.replace(" ", "_") for comm, _ in perf)
    our_comms, functions, our_functions = (collections.Counter() for _ in range(3))
    for stack, value in ours.items():
        our_comms[stack[0]] += value
        if not is_ours(stack[0]):
            continue
        for function in {plain(f) for f in stack[1:]}:
            our_functions[function] += value
    for comm, frames in perf:
        if not is_ours(comm):
            continue
        # perf looks up where a call returns to, which behind one that never does is what comes next: padding.
        functions.update({plain(f) for f in frames if not f.startswith("__pfx_")})
    check(our_comms == comms, f"samples by process: {dict(our_comms)} instead of {dict(comms)}")
    for function in sorted(functions, key=functions.get, reverse=True):
        if function not in UNSIZED and functions[function] > SHARE_OFF_MOST * total:
            off = abs(our_functions[function] - functions[function]) / total
            check(
                off <= SHARE_OFF_MOST,
                f"{function}: {our_functions[function]} of {total} samples instead of {functions[function]}",
            )


def test_one_program():
    compare("spin.data")
    ours = stacks_of(replay(file=at("spin.data")))
    total = sum(ours.values())
    within("samples", total, HZ * said["cpu_s"], relative=0.1)
    for function, share in (("spin_seventy", 0.7), ("spin_thirty", 0.3)):
        got = sum(v for stack, v in ours.items() if stack[-2:] == ("spin_split", function))
        within(f"share of {function} in spin_split", got / total, share, absolute=0.05)


def test_the_whole_machine():
    compare("both.data")


def test_stacks_that_samples_carry():
    compare("dwarf.data")
    ours = stacks_of(replay(file=at("dwarf.data")))
    whole = sum(value for stack, value in ours.items() if stack[1] in ("_start", "clone3", "__clone3"))
    within("samples that are walked to the root", whole, sum(ours.values()), relative=0.05)


def waits_by_perf(name):
    """ns that threads of each name were blocked and runnable, and page faults, from what perf script says of each event."""
    command = [tool("perf"), "script", "--ns", "-i", at(name), "-G", "-F", "comm,tid,time,event,trace"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    out, sums, opened, last = {}, collections.Counter(), 0, 0
    for line in text.splitlines():
        if not line.strip():
            continue
        head = re.match(r"(.*?)\s+(-?\d+)\s+(\d+)\.(\d+):\s+(\S+):\s*(.*)", line)
        check(head, f"perf script says {line!r}")
        comm, event, rest = head[1].strip().replace(" ", "_"), head[5], head[6]
        last = int(head[3]) * 10**9 + int(head[4])
        if event == "page-faults":
            sums["faults-minor", comm] += 1
        elif event == "sched:sched_switch":
            said = re.search(r"prev_pid=(\d+) prev_prio=\S+ prev_state=(\S+) ==> .*next_pid=(\d+)", rest)
            before, state, after = said[1], said[2], said[3]
            if before != "0" and state[0] not in "XZ":
                opened += before in out
                out[before] = [last, last if state[0] == "R" else None, comm]
            if after in out:
                finish(out.pop(after), last, sums)
        else:
            woken = re.search(r" pid=(\d+) prio", rest)[1]
            if woken in out and out[woken][1] is None:
                out[woken][1] = last
    for wait in out.values():
        finish(wait, last, sums)
    return sums, opened


def finish(wait, end, sums):
    begin, woken, comm = wait
    woken = end if woken is None else woken
    sums["blocked", comm] += woken - begin
    sums["runnable", comm] += end - woken
    sums["off-cpu", comm] += end - begin


def test_waits_and_faults():
    expected, opened = waits_by_perf("waits.data")
    note(f"{sum(v for (m, _), v in expected.items() if m == 'off-cpu') / 1e9:.3f} s of waits, {opened} without their end")
    for metric in ("blocked", "runnable", "off-cpu", "faults-minor"):
        done = replay("--metric", metric, file=at("waits.data"))
        check(opened == 0 or metric == "faults-minor" or f"the end of {opened} waits" in done.stderr.decode(), done.stderr.decode())
        ours = collections.Counter()
        for stack, value in stacks_of(done).items():
            ours[stack[0]] += value
        theirs = {comm: value for (m, comm), value in expected.items() if m == metric and value > 0}
        check(dict(ours) == theirs, f"{metric}: {dict(ours)} instead of {theirs}")
    done = subprocess.run([program("stackd"), "replay", "--report", at("waits.data")], capture_output=True, text=True, timeout=60)
    check(done.returncode == 0 and " samples in " in done.stdout, f"{done}")
    sleeping = [stack for stack in stacks_of(replay("--metric=blocked", file=at("waits.data"))) if stack[0] == "sleep"]
    check(any("schedule" in stack for stack in sleeping), f"sleep blocks in {sleeping}")


def test_compressed():
    compare("packed.data")


def test_text_of_perf_script():
    text = subprocess.run([tool("perf"), "script", "--no-inline", "-i", at("spin.data")], check=True, capture_output=True).stdout
    native, read = stacks_of(replay(file=at("spin.data"))), stacks_of(replay(stdin=text))
    check(native == read, f"{native} is not {read}")


def test_folded_stacks():
    done = replay(file=at("both.data"))
    again = replay(stdin=done.stdout)
    check(again.stdout == done.stdout, "folded stacks are not what they were")


def test_several_events():
    of = {e: stacks_of(replay("--event=" + e, file=at("events.data"))) for e in ("cpu-clock", "task-clock")}
    for event, stacks in of.items():
        expected = len([1 for line in perf_events("events.data") if line == event])
        check(sum(stacks.values()) == expected, f"{sum(stacks.values())} samples of {event} instead of {expected}")
    first = stacks_of(replay(file=at("events.data")))
    check(first in of.values(), "without --event it is neither of them")
    wrong = replay("--event=cycles", file=at("events.data"))
    check(wrong.returncode == 1 and b"task-clock" in wrong.stderr, f"no list of events: {wrong.stderr}")


def perf_events(name):
    text = subprocess.run([tool("perf"), "script", "-i", at(name), "-F", "event"], check=True, capture_output=True, text=True)
    return [line.strip().rstrip(":") for line in text.stdout.splitlines() if line.strip().endswith(":")]


def test_report():
    done = subprocess.run([program("stackd"), "replay", "--report", at("both.data")], capture_output=True, text=True, timeout=60)
    check(done.returncode == 0 and not done.stderr, f"{done}")
    total = len(by_perf("both.data"))
    check(done.stdout.startswith(f"{total} samples in "), f"{done.stdout} of {total} samples")


def test_periods():
    period = round(1e9 / HZ)
    count, ns = (stacks_of(replay(*o, file=at("spin.data"))) for o in ((), ("--periods",)))
    for stack, n in count.items():
        within("ns of " + stack[-1], ns[stack], n * period, relative=0.01)


def test_from_a_pipe():
    quiet = ["sh", "-c", 'exec "$0" --seconds 1 >/dev/null']
    piped = subprocess.run(
        [tool("perf"), "record", "-q", "-o", "-", "-F", str(HZ), "-e", "cpu-clock", "-g", *quiet, at("spin_split")],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ).stdout
    stacks = stacks_of(replay(stdin=piped))
    check(any(s[-1] == "spin_seventy" for s in stacks), f"{stacks}")


def test_without_privileges():
    setpriv = [tool("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    copy = at("stackd")
    shutil.copy(program("stackd"), copy)
    done = subprocess.run([*setpriv, copy, "replay", "--folded", at("spin.data")], capture_output=True, timeout=60)
    users = {s: v for s, v in stacks_of(done).items() if s[-1].startswith("spin_")}
    expected = {s: v for s, v in stacks_of(replay(file=at("spin.data"))).items() if s[-1].startswith("spin_")}
    check(users == expected and users, f"{users} instead of {expected}")


def test_cut_off():
    whole = open(at("small.data"), "rb").read()
    total = sum(stacks_of(replay(file=at("small.data"))).values())
    note(f"{len(whole)} bytes, of which {len(whole[::STEP])} places are tried")
    for n in range(0, len(whole), STEP):
        with open(at("cut.data"), "wb") as file:
            file.write(whole[:n])
        done = replay(file=at("cut.data"))
        err = done.stderr.decode()
        check(done.returncode in (0, 1) and "Sanitizer" not in err, f"cut at {n}: status {done.returncode}, {err}")
        check(n == 0 or done.returncode == 0 or "at byte" in err or "line" in err, f"cut at {n}: {err}")
        got = sum(int(line.rsplit(" ", 1)[1]) for line in done.stdout.decode().splitlines())
        check(got <= total, f"cut at {n}: {got} samples of {total}")
    check(got == total, f"{got} samples are left of {total} when but the end is missing")


def test_nonsense():
    for bytes_, what in ((b"PERFILE2" + b"\xff" * 200, b"at byte"), (b"2ELIFREP" + b"\xff" * 200, b"at byte"),
                         (b"\x7fELF" + bytes(200), b"line 1"), (b"what is this\n", b"line 1")):
        done = replay(stdin=bytes_)
        check(done.returncode == 1 and what in done.stderr and not done.stdout, f"{bytes_[:12]}: {done}")
    done = replay(file="/nonexistent")
    check(done.returncode == 1 and b"/nonexistent: No such file" in done.stderr, f"{done}")


if __name__ == "__main__":
    run(
        [(name[5:].replace("_", " "), function) for name, function in list(globals().items()) if name.startswith("test_")],
        setup=set_up,
        cleanup=lambda: shutil.rmtree(directory),
    )
