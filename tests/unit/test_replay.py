# SPDX-License-Identifier: GPL-2.0-or-later
"""stackd replay on recordings that are made here: text as perf script prints it, of a quarter of an hour of two programs."""
import os
import random
import subprocess
import sys

import tap

STACKD = sys.argv[1]
RECORDINGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "recordings")
HZ = 99
BEGIN = 4794  # s of the recording's clock
TROUBLE = 840  # s later
SECONDS = 900
# Share of a CPU by stack, outermost first.
USUAL = {
    ("web", "main", "serve", "parse"): 0.06,
    ("web", "main", "serve", "reply"): 0.05,
    ("web", "main", "log"): 0.01,
    ("db server", "main", "query", "lookup"): 0.04,
    ("db server", "main", "query", "sort"): 0.03,
}
SPIN = {("web", "main", "serve", "retry_forever"): 1.9}


def sample(time, stack, pid, event="cpu-clock"):
    comm, *frames = stack
    lines = [f"{comm} {pid} [001] {time:.6f}: {round(1e9 / HZ)} {event}: "]
    lines += [f"\t    {0x1000 + i:x} {name}+0x{i:x} (/usr/bin/{comm.split()[0]})" for i, name in enumerate(reversed(frames))]
    return "\n".join(lines) + "\n\n"


def recording(trouble=True, seed=7):
    chance = random.Random(seed)
    text = []
    for second in range(SECONDS):
        shares = {**USUAL, **(SPIN if trouble and second >= TROUBLE else {})}
        for tick in range(HZ):
            time = BEGIN + second + tick / HZ
            for stack, share in shares.items():
                for _ in range(int(share) + (chance.random() < share % 1)):
                    text.append(sample(time, stack, 100 if stack[0] == "web" else 200))
    return "".join(text)


def replay(*arguments, text):
    return subprocess.run([STACKD, "replay", *arguments, "-"], input=text, capture_output=True, text=True, timeout=100)


def report(text, *arguments):
    """(time, line, stack) of anomalies; lines of incidents."""
    done = replay("--report", *arguments, text=text)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr
    anomalies, incidents = done.stdout.split("\nAnomalies: ")[1].split("\nIncidents: ")
    lines = anomalies.splitlines()[1:]
    found = [(float(lines[i].split()[0]), lines[i], lines[i + 1].strip()) for i in range(0, len(lines) - 1, 2)]
    return found, incidents.splitlines()[1:]


def test_a_spin_is_told():
    found, incidents = report(recording())
    for _, line, stack in found:
        print(f"# {line}\n#   {stack}")
    print("\n".join(f"# {line}" for line in incidents))
    early = [line for time, line, _ in found if time <= BEGIN + TROUBLE]
    assert not early, early
    hits = [time for time, line, stack in found if stack == "main;serve;retry_forever" and "on-cpu" in line]
    assert hits and min(hits) <= BEGIN + TROUBLE + 30, found
    assert any("retry_forever" in line and "CPU spin" in line and "web[100]" in line for line in incidents), incidents


def test_nothing_is_told_of_what_is_as_ever():
    found, incidents = report(recording(trouble=False))
    assert not found and not incidents, (found, incidents)


def test_it_is_the_same_each_time():
    text = recording()
    assert replay("--report", text=text).stdout == replay("--report", text=text).stdout


def test_seconds_without_samples_are_ticks_too():
    quiet = "".join(sample(BEGIN + s, ("web", "main"), 100) for s in (1, 1200, 3000))
    done = replay("--report", text=quiet)
    assert done.returncode == 0 and done.stdout.startswith("3 samples in 2999 s"), done


def test_a_clock_that_jumps():
    done = replay("--report", text=sample(10, ("web", "main"), 100) + sample(1e9, ("web", "main"), 100))
    assert done.returncode == 0 and "jumps 1 times" in done.stderr, done


def test_nothing_to_score():
    for text in (sample(5, ("web", "main"), 100, event="sched:sched_switch"), "web;main 12\n"):
        done = replay("--report", text=text)
        assert done.returncode == 1 and "nothing to score" in done.stderr and done.stdout == "", done


def test_folded():
    text = sample(5, ("a thread", "main", "in;ner"), 100) + sample(6, ("a thread", "main", "in;ner"), 100)
    text += sample(7, ("sh", "main"), 7, event="page-faults")
    done = replay("--folded", text=text)
    assert done.stdout == "a_thread;main;in:ner 2\n", done
    assert "1 samples are of other events than cpu-clock" in done.stderr, done
    done = replay("--folded", "--periods", text=text)
    assert done.stdout == f"a_thread;main;in:ner {2 * round(1e9 / HZ)}\n", done
    done = replay("--folded", "--event=page-faults", text=text)
    assert done.stdout == "sh;main 1\n", done
    done = replay("--folded", "--event=faults", text=text)
    assert done.returncode == 1 and "no event 'faults'" in done.stderr, done
    done = replay("--folded", text="")
    assert done.returncode == 0 and done.stdout == "" and "there are no samples in it" in done.stderr, done


def test_events_with_terms():
    """perf names an event by all that it was asked for: it is of the same metric, and is chosen by its name alone."""
    text = sample(5, ("a", "main"), 100, event="cpu-clock/freq=499/u") + sample(6, ("b", "main"), 7, event="cpu_core/cycles/")
    assert replay("--folded", "--event=cpu-clock", text=text).stdout == "a;main 1\n"
    assert replay("--folded", "--event=cycles", text=text).stdout == "b;main 1\n"
    assert replay("--folded", "--metric=on-cpu", text=text).stdout.startswith("a;main ")
    text += sample(7, ("c", "main"), 7, event="cycles:u")
    assert replay("--folded", "--event=cycles", text=text).stdout == "b;main 1\n"
    assert replay("--folded", "--event=cycles:u", text=text).stdout == "c;main 1\n"


def test_names_that_are_missing():
    head = "x 1 5.000000: 1 cycles:u: \n"
    frames = "\t 10 [unknown] (/usr/lib/libc.so.6)\n\t 20 f(int)+0x12 (/opt/a (deleted))\n\t 28 [unknown] (/opt/b (deleted))\n\t 30 [unknown] ([unknown])\n"
    frames += "\tffffffff81000000 [unknown] ([kernel.kallsyms])\n"
    done = replay("--folded", text=head + frames)
    assert done.stdout == "x;[kernel];[unknown];[b];f(int);[libc.so.6] 1\n", done


def test_a_kept_recording():
    """test_recorder FILE wrote it: of a scripted machine, in which a program begins to spin. With the detector the scores may change and the
    report, which is written anew then (stackd replay --report); what is stored may not."""
    kept = os.path.join(RECORDINGS, "spin.stackrec")
    with open(os.path.join(RECORDINGS, "spin.report")) as file:
        expected = file.read()
    for argument, path in (("--report", kept), ("--verify", kept)):
        done = subprocess.run([STACKD, "replay", argument, path], capture_output=True, text=True, timeout=100)
        if argument == "--report":
            assert done.returncode == 0 and done.stdout == expected, done
        else:
            assert "240 ticks" in done.stdout or "of 240 ticks the series of 0 and" in done.stderr, done
    done = subprocess.run([STACKD, "replay", "--folded", "--metric=on-cpu", kept], capture_output=True, text=True, timeout=100)
    spin = [int(line.rsplit(" ", 1)[1]) for line in done.stdout.splitlines() if "retry_forever" in line]
    assert len(spin) == 1 and abs(spin[0] - 40 * 1.8e9) < 1e9, spin
    for arguments, says in (["--folded", "--event=x"], "no events"), (["--folded", "--periods"], "no events"):
        done = subprocess.run([STACKD, "replay", *arguments, kept], capture_output=True, text=True, timeout=100)
        assert done.returncode == 1 and says in done.stderr, done
    done = replay("--verify", text="web;main 12\n")
    assert done.returncode == 1 and "stackd record" in done.stderr, done


def test_wrong_usage():
    for arguments, says in ((("--folded", "--report"), "either"), ((), "either"), (("--report", "--false-alarms-per-day=x"), "number"),
                            (("--nonsense",), "nonsense")):
        done = replay(*arguments, text="")
        assert done.returncode == 1 and says in done.stderr and done.stdout == "", done


if __name__ == "__main__":
    sys.exit(tap.run(globals()))
