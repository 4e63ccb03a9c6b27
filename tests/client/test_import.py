#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""stackctl import with the real stackd beside it, which reads and answers: no daemon runs."""
import collections
import fcntl
import json
import os
import pty
import re
import shutil
import stat
import subprocess
import sys
import time

from harness import DIRECTORY, ENVIRONMENT, SOURCE, STACKCTL, TIMEOUT, main, test

STACKD = os.path.abspath(sys.argv[2])
RECORDINGS = os.path.join(SOURCE, "tests/unit/recordings")
KEPT = os.path.join(RECORDINGS, "spinner.perfdata")  # 49 Hz, one process of a static program that is nowhere now
RECORDED = os.path.join(RECORDINGS, "spin.stackrec")  # of stackd record: a program begins to spin
CACHE = os.path.join(DIRECTORY, "cache")
IMPORTS = os.path.join(CACHE, "stackd/imports")
HERE = {**ENVIRONMENT, "XDG_CACHE_HOME": CACHE, "PATH": os.path.dirname(STACKD) + ":" + os.environ["PATH"], "STACKD_SOCKET": "/nowhere"}
IMPORTS_MAX = 32
HZ = 99
BEGIN = 4794  # s of the recording's clock
TROUBLE, SECONDS = 840, 900
USUAL = {("web", "main", "serve", "parse"): 6, ("web", "main", "log"): 1, ("db server", "main", "query"): 4}  # hits a second
SPIN = {("web", "main", "retry_forever"): 2 * HZ}


def run(*args, env=None, **options):
    done = subprocess.run([STACKCTL, *args], capture_output=True, timeout=TIMEOUT, env={**HERE, **(env or {})}, **options)
    done.out, done.err = done.stdout.decode(errors="replace"), done.stderr.decode()
    assert "Sanitizer" not in done.err and "runtime error" not in done.err, done.err
    return done


def good(*args, **options):
    done = run(*args, **options)
    assert done.returncode == 0, (args, done.err)
    return done


def bad(*args, **options):
    done = run(*args, **options)
    assert done.returncode == 1 and done.out == "" and done.err, (args, done)
    return done.err


def replay(*args):
    done = subprocess.run([STACKD, "replay", *args], capture_output=True, timeout=TIMEOUT, env=HERE, text=True)
    assert done.returncode == 0, done
    return folded(done.stdout)


def replay_text(text, *args):
    done = subprocess.run([STACKD, "replay", *args, "-"], input=text, capture_output=True, timeout=TIMEOUT, env=HERE)
    assert done.returncode == 0, done
    return folded(done.stdout.decode())


def folded(text):
    """The mark of kernel frames is the picture's; of threads the import knows the process."""
    stacks = collections.Counter()
    for line in text.splitlines():
        names, value = line.rsplit(" ", 1)
        stacks[names.replace("_[k]", "")] += int(value)
    return stacks


def near(value, expected):
    """What is more than 256 in a step of the history is kept to one part in 512."""
    assert abs(value - expected) <= expected / 512 + 1, (value, expected)


def near_all(ours, expected):
    assert set(ours) == set(expected), (ours, expected)
    for stack, value in expected.items():
        near(ours[stack], value)


def fresh():
    shutil.rmtree(CACHE, ignore_errors=True)


def sample(time_s, stack, pid):
    comm, *frames = stack
    lines = [f"{comm} {pid} [001] {time_s:.6f}: {round(1e9 / HZ)} cpu-clock: "]
    lines += [f"\t    {0x1000 + i:x} {name}+0x{i:x} (/usr/bin/{comm.split()[0]})" for i, name in enumerate(reversed(frames))]
    return "\n".join(lines) + "\n\n"


def trouble(path):
    """A quarter of an hour as perf script prints it, in whose last minute a program spins on two CPUs."""
    with open(path, "w") as file:
        for second in range(SECONDS):
            now = {**USUAL, **(SPIN if second >= TROUBLE else {})}
            for stack, hits in now.items():
                for i in range(hits + (hits < HZ and (second * 7 + hits) % 5 == 0)):
                    file.write(sample(BEGIN + second + (i + 0.5) / (2 * HZ + 2), stack, 100 if stack[0] == "web" else 200))
    return path


@test
def events_of_the_same_time():
    """cpu-clock and task-clock both count it: it isn't twice as long."""
    def second(i, event, period):
        return f"web 7/7 [000] {BEGIN + i}.5: {period} {event}: \n\t10 work+0x1 (/bin/web)\n\t20 main+0x1 (/bin/web)\n\n"

    both = [second(i, event, 10**7) for i in range(100) for event in ("cpu-clock/freq=99/", "task-clock:u")]
    good("import", "--name=twice", "-", input="".join(both).encode())
    assert sum(folded(good("flame", "--import=twice").out).values()) == 100 * 10**7
    assert sum(folded(good("flame", "--import=twice", "--metric=hits").out).values()) == 200
    assert sum(replay_text("".join(both).encode(), "--folded", "--metric=on-cpu").values()) == 100 * 10**7
    apart = [second(i, event, 10**7) for i in range(100) for event in ("cycles:u", "cycles:k", "cpu-clock:u", "cpu-clock:k")]
    good("import", "--name=apart", "-", input="".join(apart).encode())
    assert sum(folded(good("flame", "--import=apart").out).values()) == 200 * 10**7
    assert sum(replay_text("".join(apart).encode(), "--folded", "--metric=on-cpu").values()) == 200 * 10**7
    for name in "twice", "apart":
        good("import", "--remove", name)


@test
def a_recording_of_perf_that_was_kept():
    fresh()
    done = good("import", KEPT)
    assert "(perf.data)" in done.out and re.search(r"Samples: (\d+), of which \1 cpu-clock:u as on-cpu; 0 lost, 0 left out", done.out), done.out
    assert "by the recording's own clock" in done.out, done.out
    assert "stackctl flame --import spinner.perfdata -o" in done.out, done.out
    expected = replay("--folded", KEPT)
    assert folded(good("flame", "--import", "spinner.perfdata", "--metric=hits").out) == expected and sum(expected.values()) > 40
    assert folded(good("flame", "--import", "spinner.perfdata").out) == replay("--folded", "--metric=on-cpu", KEPT)
    path = os.path.join(IMPORTS, "spinner.perfdata")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and stat.S_IMODE(os.stat(IMPORTS).st_mode) == 0o700
    assert os.listdir(IMPORTS) == ["spinner.perfdata"]


@test
def what_perf_records_now():
    fresh()
    data, command = os.path.join(DIRECTORY, "now.data"), [sys.executable, "-c", "import time\nwhile time.process_time() < 1: pass"]
    perf = shutil.which("perf")
    if not perf or subprocess.run([perf, "record", "-q", "-k", "CLOCK_MONOTONIC", "-F", "199", "-e", "cpu-clock", "-g", "-o", data, *command], capture_output=True).returncode != 0:
        print("# perf can't record here", flush=True)
        return
    info = json.loads(good("import", "--json", data, "--name", "now").out)
    expected = replay("--folded", data)
    assert info["clock"] == "realtime" and abs(info["until_us"] / 1e6 - time.time()) < 60, info
    assert info["samples"] == sum(expected.values()) > 50 and info["lost"] == 0, (info, expected)
    # The process goes by its own name; a sample or two may be of the time before it had it.
    ours = folded(good("flame", "--import=now", "--metric=hits").out)
    without = lambda stacks: collections.Counter({k.split(";", 1)[1]: 0 for k in stacks if ";" in k})
    assert set(without(ours)) == set(without(expected)) and sum(ours.values()) == sum(expected.values()), (ours, expected)


@test
def the_usual_verbs_in_the_usual_shapes():
    fresh()
    good("import", trouble(os.path.join(DIRECTORY, "trouble.txt")), "--name=trouble")
    assert "retry_forever" in good("top", "--import=trouble").out.splitlines()[1]
    rows = json.loads(good("stacks", "--import=trouble", "--json").out)["stacks"]
    assert len(rows) == len(USUAL) + 1 and rows[0]["frames"][-1]["name"] == "retry_forever", rows
    window = json.loads(good("flame", "--import=trouble", "--json").out)["window"]
    assert (window["since_us"], window["until_us"]) == (BEGIN * 10**6, (BEGIN + SECONDS) * 10**6), window
    anomalies = json.loads(good("anomalies", "--import=trouble", "--json").out)["anomalies"]
    spins = [a for a in anomalies if a["frames"][-1]["name"] == "retry_forever"]
    assert spins and all(a["process"]["comm"] == "web" and a["time_us"] >= (BEGIN + TROUBLE) * 10**6 for a in spins), anomalies
    assert str(spins[0]["id"]) == good("anomalies", "--import=trouble").out.splitlines()[1].split()[-1]
    assert "retry_forever" in good("explain", str(spins[0]["id"]), "--import=trouble").out
    assert "goes on" in good("incidents", "--import=trouble").out and "CPU spin in retry_forever" in good("incidents", "--import=trouble").out
    cluster = json.loads(good("clusters", "--import=trouble", "--json").out)["clusters"][0]
    shown = good("clusters", cluster["id"], "--import=trouble").out
    assert f"stackctl flame --import trouble --cluster {cluster['id']}" in shown, shown
    assert "db server" in good("processes", "--import=trouble").out
    assert re.search(r"flame --metric on-cpu --import trouble --since @5\d{3}\.", good("heat", "--import=trouble").out)
    within = good("heat", "--import=trouble", f"--since=@{BEGIN + 10}", f"--until=@{BEGIN + 40}", f"@{BEGIN + 20}/+250ms").out
    assert "a column 1s, a row 50ms of it" in within, within
    offered = within.splitlines()[-1].removesuffix(" -o flame.svg").split()[1:]
    assert "--exact" in offered, offered
    expected = {}
    for stack, hits in USUAL.items():
        hits += hits < HZ and (20 * 7 + hits) % 5 == 0
        expected[stack[-1]] = sum((i + 0.5) / (2 * HZ + 2) < 0.25 for i in range(hits))
    got = collections.Counter()
    for stack, hits in folded(good(*offered, "--metric=hits").out).items():
        got[stack.split(";")[-1]] += hits
    assert +got == +collections.Counter(expected) and sum(got.values()) > 2, (got, expected)
    svg = good("flame", "--import=trouble", f"--cluster={cluster['id']}", "-o", os.path.join(DIRECTORY, "x.svg"))
    assert svg.out == "" and b"retry_forever" in open(os.path.join(DIRECTORY, "x.svg"), "rb").read()
    for form in ("svg", "html", "speedscope", "pprof", "d3"):
        assert good("flame", "--import=trouble", "--format", form, "-o", "-").stdout, form


@test
def times_are_of_the_recording():
    assert good("flame", "--import=trouble", "-v").err.startswith(f"on-cpu from {BEGIN}.000000 to {BEGIN + SECONDS}.000000,")
    last = folded(good("flame", "--import=trouble", "--since=60s", "--metric=hits").out)
    near(last["web;main;retry_forever"], 2 * HZ * (SECONDS - TROUBLE))
    assert "web;main;retry_forever" not in folded(good("flame", "--import=trouble", f"--until=@{BEGIN + TROUBLE}").out)
    changed = [line for line in good("flame", "--import=trouble", "--diff=1min").out.splitlines() if "retry_forever" in line]
    assert [line.split(" ")[-2] for line in changed] == ["0"], changed
    windows = f"@{BEGIN}/+1min..@{BEGIN + TROUBLE}/+1min"
    assert "retry_forever 0 " in good("flame", "--import=trouble", "--diff", windows).out
    assert "begins in the future" in bad("flame", "--import=trouble", f"--since=@{BEGIN + SECONDS + 5}")


def lines_of(text):
    """{stack: (before, after)}"""
    return {line.rsplit(" ", 2)[0]: tuple(map(int, line.rsplit(" ", 2)[1:])) for line in text.splitlines()}


@test
def differences_of_imports():
    fresh()
    kernel = "\tffffffff81000000 do_futex ([kernel.kallsyms])\n"
    for name, seconds in (("minute", 60), ("two-minutes", 120)):
        text = "".join(sample(BEGIN + s + i / 10, stack, 7) for s in range(seconds) for i, stack in enumerate(
            [("db server", "main", "query; x"), ("db server", "main", "sort"), *([("db server", "main", "new")] * 2 if seconds > 60 else [])]))
        text += f"db server 7 [001] {BEGIN + seconds:.6f}: 1 cpu-clock: \n{kernel}\t1000 wait+0x1 (/usr/bin/db)\n\n"
        good("import", "-", f"--name={name}", input=text.encode())
    changed = lines_of(good("flame", "--diff=minute..two-minutes", "--metric=hits").out)
    assert changed["db_server;main;new"] == (0, 240) and abs(changed["db_server;main;sort"][0] - 120) <= 4, changed
    assert changed["db_server;main;sort"][1] == 120 and changed["db_server;wait;do_futex_[k]"][1] == 1, changed
    back = lines_of(good("flame", "--diff=two-minutes..minute", "--metric=hits").out)
    assert back["db_server;main;new"][1] == 0, back
    svg = good("flame", "--diff=minute..two-minutes", "--metric=hits", "--format=svg").out
    assert "hits, minute (before) and two-minutes (after), all processes" in svg and "before is multiplied by" in svg, svg[:2000]
    assert "Nothing was recorded" in bad("flame", "--diff=minute..two-minutes", "--metric=hits", "--comm=nobody")

    # With what was saved of it there is no difference: blanks, semicolons and the kernel's frames are written otherwise there.
    saved = os.path.join(DIRECTORY, "saved.folded")
    good("flame", "--import=minute", "--metric=hits", "-o", saved)
    for diff, where in ((f"minute..{saved}", None), (f"{saved}..minute", None), ("minute..saved.folded", DIRECTORY), ("../" + os.path.basename(DIRECTORY) + "/saved.folded..minute", DIRECTORY)):
        same = lines_of(good("flame", "--diff", diff, "--metric=hits", cwd=where).out)
        assert len(same) == 3 and all(before == after > 0 for before, after in same.values()), (diff, same)
    assert "which has no times, as it is" in good("flame", f"--diff=minute..{saved}", "--metric=hits", "--format=svg").out
    # Whether its values are times nobody knows.
    for diff, unit in ((f"minute..{saved}", ""), (f"{saved}..minute", "s")):
        shares = lines_of(good("flame", f"--diff={diff}").out)
        before, after = (sum(v[i] for v in shares.values()) for i in (0, 1))
        assert abs(before - after) <= 3 and before > 0, shares
        svg = good("flame", f"--diff={diff}", "--format=svg").out
        assert "to compare shares" in svg and re.search(rf"total [0-9.]+{unit} before", svg), (diff, svg[:3000])
        assert ">unchanged<" in svg
    files = lines_of(good("flame", "--diff=saved.folded..saved.folded", cwd=DIRECTORY).out)
    assert len(files) == 3 and all(before == after for before, after in files.values()), files
    # Folded stacks that were imported have no times by which they could be scaled.
    good("import", "-", "--name=f", input=b"db server;main;sort 5\n")
    assert lines_of(good("flame", "--diff=f..minute", "--metric=hits").out)["db_server;main;sort"] == (5, 60)
    assert "nothing of on-cpu in f: choose another --metric" in bad("flame", "--diff=f..minute")

    assert '"nowhere" is neither an import' in bad("flame", "--diff=minute..nowhere") and "SINCE/UNTIL" in bad("flame", "--diff=10:00..11:00")
    assert "two windows" in bad("flame", "--import=minute", "--diff=minute..two-minutes")
    assert "no unit to choose by" in bad("flame", f"--diff=minute..{saved}", "-u", "x")
    assert "no metric to choose by" in bad("flame", "--diff=saved.folded..saved.folded", "-m", "hits", cwd=DIRECTORY)
    assert "can't be together" in bad("flame", "--diff=minute..two-minutes", "--since=1min")
    good("import", "--remove=two-minutes")
    assert '"two-minutes" is neither' in bad("flame", "--diff=minute..two-minutes")
    with open(os.path.join(IMPORTS, "f"), "r+b") as file:
        file.truncate(os.path.getsize(file.name) - 3)
    assert "damaged" in bad("flame", "--diff=f..minute", "--metric=hits")


@test
def sums_of_a_quarter_of_an_hour():
    fresh()
    good("import", os.path.join(DIRECTORY, "trouble.txt"), "--name=trouble")
    near_all(folded(good("flame", "--import=trouble", "--metric=hits").out), replay("--folded", os.path.join(DIRECTORY, "trouble.txt")))


@test
def folded_stacks_have_no_times():
    fresh()
    text = "a b;main;work 700000\nsh;main 3\nsh;main;x 4\n"
    done = good("import", "-", "--name=f", input=text.encode())
    assert "has no times" in done.out and "flame --import f --metric hits" in done.out, done.out
    near_all(folded(good("flame", "--import=f", "--metric=hits").out), folded(text.replace("a b", "a_b")))
    assert good("flame", "--import=f").out == ""
    good("import", "-", "--name=g", "--metric=blocked", input=text.encode())
    near_all(folded(good("flame", "--import=g", "--metric=blocked").out), folded(text.replace("a b", "a_b")))
    assert "sum of two" in bad("import", "-", "--name=h", "--metric=off-cpu", input=text.encode())
    assert "-" == good("import").out.splitlines()[1].split()[3]


@test
def one_of_several_events():
    fresh()
    text = "".join(sample(BEGIN + s, ("web", "main", "serve"), 100) + sample(BEGIN + s + 0.5, ("web", "main", "fault"), 100).replace(f"{round(1e9 / HZ)} cpu-clock: ", "1 page-faults:u: ")
                   for s in range(30)).encode()
    every = good("import", "-", "--name=all", input=text)
    assert "of which 30 cpu-clock as on-cpu, 30 page-faults:u as faults-minor" in every.out and every.err == "", every
    one = good("import", "-", "--name=one", "--event=page-faults:u", input=text)
    assert "Samples: 30, of which 30 page-faults:u as faults-minor; 0 lost" in one.out, one.out
    assert "30 samples are of other events than page-faults:u, and left out" in one.err, one.err
    assert good("flame", "--import=one").out == ""
    assert folded(good("flame", "--import=one", "--metric=faults-minor").out) == {"web;main;fault": 30} == replay_text(text, "--folded", "--event=page-faults:u")
    assert "no event 'cycles'; there is cpu-clock" in bad("import", "-", "--name=x", "--event=cycles", input=text)
    assert "no event 'cycles'; there are: cpu-clock:u" in bad("import", KEPT, "--event=cycles")
    assert "cpu-clock:u" in good("import", KEPT, "--event=cpu-clock:u").out
    assert "folded stacks have no events" in bad("import", "-", "--name=x", "--event=cycles", input=b"a;b 3\n")
    assert "has metrics, no events" in bad("import", RECORDED, "--event=cycles")
    assert "without a file does not take --event" in bad("import", "--event=cycles") and "does not take --event" in bad("top", "--event=cycles")


@test
def what_stackd_record_wrote():
    fresh()
    done = good("import", RECORDED)
    assert "(stackd record)" in done.out and "2020-09-13 12:26:40 to " in done.out, done.out
    report = open(os.path.join(RECORDINGS, "spin.report")).read()
    n = int(re.search(r"Anomalies: (\d+)", report)[1])
    anomalies = json.loads(good("anomalies", "--import", "spin.stackrec", "--json").out)["anomalies"]
    assert len(anomalies) == n > 0, (len(anomalies), report)
    ours = good("flame", "--import", "spin.stackrec").out.replace("[truncated];", "")
    assert folded(ours) == replay("--folded", "--metric=on-cpu", RECORDED)
    assert "has metrics, no events" in bad("import", RECORDED, "--name=x", "--metric=blocked")


@test
def lists_and_removes():
    fresh()
    assert "No imports" in good("import").out and "No imports" in good("imports").out
    good("import", KEPT, "--name", "b")
    good("import", KEPT, "--name", "a")
    lines = good("import").out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "a", "b"] and all("spinner.perfdata" in line for line in lines[1:]), lines
    listed = json.loads(good("imports", "--json").out)["imports"]
    assert [(e["name"], e["import"]["format"]) for e in listed] == [("a", "perf.data"), ("b", "perf.data")], listed
    assert good("import", "--remove", "a").out == "" and os.listdir(IMPORTS) == ["b"]
    assert 'no import "a"' in bad("import", "--remove=a") and 'no import "a"' in bad("flame", "--import=a")


@test
def names_that_are_refused():
    fresh()
    for name in ("../x", "x/y", ".x", "-x", "x y", "a..b", "x" * 65, "\x1b[31m", ""):
        assert "is no name of an import" in bad("import", KEPT, f"--name={name}") if name else "empty" in bad("import", KEPT, "--name="), name
        assert bad("import", f"--remove={name}") and bad("flame", f"--import={name}")
    assert not os.path.exists(CACHE)
    assert "needs a --name" in bad("import", "-")
    good("import", KEPT)
    size = os.path.getsize(os.path.join(IMPORTS, "spinner.perfdata"))
    assert "already" in bad("import", KEPT) and os.path.getsize(os.path.join(IMPORTS, "spinner.perfdata")) == size
    for args in (["import", "--remove=x", KEPT], ["import", "--name=x"], ["import", "--metric=hits"], ["imports", "x"], ["status", "--import=spinner.perfdata"],
                 ["anomalies", "-f", "--import=spinner.perfdata"], ["flame", "--inlines", "--import=spinner.perfdata"], ["flame", KEPT, "--import=spinner.perfdata"]):
        assert bad(*args).startswith("stackctl: "), args


@test
def too_many():
    fresh()
    good("import", KEPT, "--name=i0")
    size = os.path.getsize(os.path.join(IMPORTS, "i0"))
    for i in range(1, IMPORTS_MAX):
        shutil.copy(os.path.join(IMPORTS, "i0"), os.path.join(IMPORTS, f"i{i}"))
        os.chmod(os.path.join(IMPORTS, f"i{i}"), 0o600)
    assert f"There are {IMPORTS_MAX} imports" in bad("import", KEPT, "--name=more")
    assert len(os.listdir(IMPORTS)) == IMPORTS_MAX
    good("import", "--remove=i5")
    good("import", KEPT, "--name=more")
    # Those together may have so much: a hole has, too.
    good("import", "--remove=i6")
    with open(os.path.join(IMPORTS, "i7"), "r+b") as file:
        file.truncate(1 << 30)
    assert "There are 31 imports of 1024 MiB" in bad("import", KEPT, "--name=again")
    os.truncate(os.path.join(IMPORTS, "i7"), (1 << 30) - 30 * size - 100)
    assert "would have" in bad("import", KEPT, "--name=again")
    os.truncate(os.path.join(IMPORTS, "i7"), (1 << 30) - 32 * size)
    good("import", KEPT, "--name=again")


@test
def what_is_damaged_is_refused():
    fresh()
    good("import", KEPT, "--name=whole")
    whole = open(os.path.join(IMPORTS, "whole"), "rb").read()
    path = os.path.join(IMPORTS, "bad")

    def write(content):
        with open(path, "wb", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(content)

    def refused(content, says):
        write(content)
        err = bad("flame", "--import=bad")
        assert says in err, (says, err)

    def refused_or_the_same(content):
        """A bit of what is compressed may mean nothing: what comes out is what the checksum is of."""
        write(content)
        done = run("flame", "--import=bad")
        assert done.out == same if done.returncode == 0 else "damaged" in done.err, done
        return done.returncode != 0

    same = good("flame", "--import=whole").out
    head = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    places = [*range(head, len(whole), max(1, (len(whole) - head) // 12)), len(whole) - 1]
    for at in places:
        refused(whole[:at], "damaged")
    flipped = [refused_or_the_same(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :]) for at in places]
    assert sum(flipped) > len(places) // 2, flipped
    for at in (20, 200, head - 3):
        refused(whole[:at] + b"7" + whole[at + 1 :], "damaged")
    refused(whole + b"x", "damaged")
    refused(b"", "damaged")
    refused(whole.replace(b"import 2\n", b"import 3\n", 1), "another version")
    refused(whole[: head - 1], "damaged")
    assert "bad" in good("import").out
    os.chmod(path, 0o666)
    assert "writable by others" in bad("flame", "--import=bad")
    os.unlink(path)
    os.symlink(os.path.join(IMPORTS, "whole"), path)
    assert "not readable" in bad("flame", "--import=bad")
    os.unlink(path)
    os.mkfifo(path)
    assert "no file" in bad("flame", "--import=bad")


@test
def files_that_are_no_recordings():
    fresh()
    kept = open(KEPT, "rb").read()
    places = os.path.join(DIRECTORY, "broken.data")

    def refused(content, says):
        with open(places, "wb") as file:
            file.write(content)
        err = bad("import", places)
        assert says in err and os.listdir(IMPORTS) == [], err

    refused(b"what is this\n", "line 1")
    refused(b"", "no samples")
    refused(b"PERFILE2" + b"\xff" * 200, "at byte")
    refused(kept[:90], "at byte")
    assert "No such file" in bad("import", "/nonexistent") and "Is a directory" in bad("import", "/", "--name=x")
    with open(places, "wb") as file:
        file.write(kept[: len(kept) // 2])
    done = good("import", places)
    assert "at byte" in done.err and "Damaged: at byte" in done.out, done
    some, every = folded(good("flame", "--import=broken.data", "--metric=hits").out), replay("--folded", KEPT)
    assert 0 < sum(some.values()) < sum(every.values()), (some, every)


@test
def without_stackd_or_a_place():
    fresh()
    err = bad("import", KEPT, env={"PATH": "/nonexistent"})
    assert os.path.exists("/usr/sbin/stackd") or "stackd is needed" in err, err
    assert "neither is set" in bad("import", env={"XDG_CACHE_HOME": "relative", "HOME": ""})
    fresh()
    with open(CACHE, "w"):
        pass
    assert "Can't open" in bad("import", KEPT)
    os.unlink(CACHE)
    home = os.path.join(DIRECTORY, "home")
    os.makedirs(home, exist_ok=True)
    good("import", KEPT, env={"XDG_CACHE_HOME": "", "HOME": home})
    assert os.listdir(os.path.join(home, ".cache/stackd/imports")) == ["spinner.perfdata"]


def children_of_imports():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read()
        except OSError:
            continue
        if b"serve\0" in command and CACHE.encode() in command:
            found.append(int(pid))
    return found


@test
def nothing_is_left_behind():
    fresh()
    good("import", KEPT, "--name=k")
    # It can't write all of the picture.
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([STACKCTL, "flame", "--import=k", "--format=svg"], stdout=writer, env=HERE)
    os.close(writer)
    deadline = time.monotonic() + TIMEOUT
    while not children_of_imports() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children_of_imports()
    process.kill()
    process.wait()
    os.close(reader)
    deadline = time.monotonic() + TIMEOUT
    while children_of_imports() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not children_of_imports(), children_of_imports()
    assert not [name for name in os.listdir("/tmp") if name.startswith("stackctl-") and not name.startswith(("stackctl-test-", "stackctl-perf-"))]


@test
def progress_on_a_terminal():
    fresh()
    master, slave = pty.openpty()
    text = os.path.join(DIRECTORY, "long.txt")
    trouble(text)
    with open(text) as file:
        once = file.read()
    with open(text, "w") as file:
        for _ in range(12):
            file.write(once)
    process = subprocess.Popen([STACKCTL, "import", text], stdout=subprocess.DEVNULL, stderr=slave, stdin=subprocess.DEVNULL, env=HERE, close_fds=True)
    os.close(slave)
    shown = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(master)
    assert process.wait(TIMEOUT) == 0 and re.search(rb"Reading: +\d+%\r", shown), shown
    assert shown.endswith(b"\r"), shown[-80:]


if __name__ == "__main__":
    sys.exit(main())
