# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that people run, as Debian builds them: their stacks reach the root, as often as those of perf record --call-graph
dwarf of the same run or more often, and both see the same functions."""
import collections
import functools
import math
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time

from lib.daemon import Daemon
from lib.environment import require_root, tool
from lib.reference import Perf
from lib.tap import check, note, run

SECONDS = 25
WARM_UP_TICKS = 5  # the first walks of a process are by frame pointers, until its tables are there
SAMPLE_HZ = 499
PERF_HZ = 199
PERF_CALL_GRAPH = "dwarf,65528"  # all of the stack that perf can take along
LEAST_WHOLE = 0.99  # of the weight of user stacks
SHARE_POINTS = 0.05
LEAST_SHARE = 0.02  # functions below it are too rare to be compared
LEAST_SAMPLES = 200
PERF_WHOLE = 0.95  # perf's stacks are compared by callers when so many are whole
# Where a thread's first frame is: the program's entry, the loader's, or the C library's start of a thread.
# "[entry]" stands for _start where a stripped program doesn't name it.
ROOTS = {"_start", "[entry]", "_dl_start_user", "__clone3", "clone3", "__clone", "clone", "__GI___clone3", "__GI___clone", "start_thread"}

PYTHON = """
import json, re
words = re.compile(r"[a-z]+")
text = json.dumps({"k%d" % i: [i] * 8 for i in range(200)})
def work():
    return sorted(words.findall(text)) + sorted(json.loads(text).items(), key=str)
while True:
    work()
"""
PERL = r"""
my $text = join " ", map { "k$_=" . ($_ * 7) } 1 .. 2000;
sub work { my %seen; $seen{$1} += $2 while $text =~ /(k\d+)=(\d+)/g; return join ",", sort { $seen{$a} <=> $seen{$b} } keys %seen }
work() while 1;
"""
SQL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, printf('%d-%s', i, hex(i)) FROM n WHERE i % 977 = 0 AND lower(hex(i)) LIKE '%zz%';
"""
NODE = """
function leaf(a) { let s = 0; for (let i = 0; i < a.length; i++) s += a[i] * i % 7; return s; }
function middle(n) { const a = Array.from({ length: n }, (_, i) => i); return leaf(a) + JSON.stringify(a).length; }
function outer() { let s = 0; for (let i = 0; i < 50; i++) s += middle(2000); return s; }
for (;;) outer();
"""
RUST = """
use std::sync::atomic::{AtomicU64, Ordering};
static SINK: AtomicU64 = AtomicU64::new(1);
static DEPTHS: AtomicU64 = AtomicU64::new(0);
#[inline(never)]
fn leaf(seed: u64) -> u64 {
    let mut x = seed | 1;
    for _ in 0..200000 { x ^= x << 13; x ^= x >> 7; x ^= x << 17; }
    x
}
#[inline(never)]
fn recurse(depth: u32, seed: u64) -> u64 {
    let x = if depth == 0 { leaf(seed) } else { recurse(depth - 1, seed) };
    DEPTHS.fetch_add(depth as u64, Ordering::Relaxed); // so that it stays a call
    x
}
mod inner {
    pub trait Work { fn work(&self, seed: u64) -> u64; }
    pub struct Worker;
    impl Work for Worker {
        #[inline(never)]
        fn work(&self, seed: u64) -> u64 { super::recurse(20, seed).rotate_left(3) }
    }
}
fn main() {
    let worker: Box<dyn inner::Work + Send> = Box::new(inner::Worker);
    std::thread::spawn(move || loop { SINK.store(worker.work(SINK.load(Ordering::Relaxed)), Ordering::Relaxed); }).join().unwrap();
}
"""
RUST_CHAIN = ["wl_rust::leaf"] + ["wl_rust::recurse"] * 21 + ["<wl_rust::inner::Worker as wl_rust::inner::Work>::work"]
POSTGRES_USER = "postgres"
LIBC = "/lib/x86_64-linux-gnu/libc.so.6"
ENTRY_SIZE = 64  # of _start, with room to spare

require_root()
daemon = Daemon({"Collect": {"SampleHz": SAMPLE_HZ}})
work = pathlib.Path(tempfile.mkdtemp(prefix="stackd-programs-"))
processes = []
flame, perf_samples = None, None


def big_source():
    """A C file that a compiler is busy with for long enough."""
    path = work / "big.c"
    functions = [
        f"int f{i}(int *a, int n) {{ int s = {i}; for (int i = 0; i < n; i++) {{ switch (a[i] % 17) "
        + "{"
        + " ".join(f"case {c}: s += a[i] * {c + i % 5}; if (s > {c * i}) s ^= a[(i + {c}) % n]; break;" for c in range(17))
        + "} for (int j = i; j < n; j++) a[j] += s * j; } return s; }"
        for i in range(6000)
    ]
    path.write_text("\n".join(functions))
    return path


def start(command, **options):
    processes.append(
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **options
        )
    )


def start_postgres():
    """A cluster of its own, and one connection that asks for as long as it is let."""
    directory = next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))))
    user = pwd.getpwnam(POSTGRES_USER)
    data = work / "postgres"
    data.mkdir()
    os.chown(data, user.pw_uid, user.pw_gid)
    as_user = [tool("setpriv"), "--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
    subprocess.run([*as_user, directory / "initdb", "-D", data, "--no-sync"], check=True, capture_output=True, cwd=data)
    start([*as_user, directory / "postgres", "-D", data, "-h", "", "-k", data], cwd=data)
    deadline = time.monotonic() + 30
    psql = [*as_user, directory / "psql", "-h", data, "postgres", "-c"]
    while subprocess.run([*psql, "SELECT 1"], capture_output=True, cwd=data).returncode != 0:
        check(time.monotonic() < deadline, "postgres does not start")
        time.sleep(0.1)
    query = "SELECT count(*) FROM generate_series(1, 4000000000) i WHERE md5(i::text) LIKE 'abc%'"
    start([*psql, query], cwd=data)


def start_rust():
    source = work / "wl_rust.rs"
    source.write_text(RUST)
    subprocess.run([tool("rustc"), "-O", "-o", work / "wl_rust", source], check=True, capture_output=True)
    start([work / "wl_rust"])


PROGRAMS = {  # by the name of the process that is looked at
    "sysbench": lambda: start([tool("sysbench"), "cpu", "--threads=1", f"--time={4 * SECONDS}", "run"]),
    "python3": lambda: start(["/usr/bin/python3", "-c", PYTHON]),
    "perl": lambda: start([tool("perl"), "-e", PERL]),
    "sqlite3": lambda: start([tool("sqlite3"), ":memory:", SQL]),
    "cc1": lambda: start([tool("gcc"), "-O2", "-c", big_source(), "-o", "/dev/null"]),
    "node": lambda: start([tool("node"), "--perf-basic-prof", "--interpreted-frames-native-stack", "-e", NODE], cwd=work),
    "postgres": start_postgres,
    "wl_rust": start_rust,
}


@functools.cache
def entry_of(path):
    with open(path, "rb") as f:
        return int.from_bytes(f.read(64)[24:32], "little")


def named_entry(name, object_name):
    """"[entry]" for an address without a name that is where the program begins."""
    match = re.fullmatch(r"\[(.+)\+0x([0-9a-f]+)\]", name)
    path = shutil.which(object_name) if match else None
    return "[entry]" if path and 0 < int(match[2], 16) - entry_of(path) < ENTRY_SIZE else name


def is_of(comm, program):
    return comm == program or comm.startswith(program)


def set_up():
    global flame, perf_samples
    work.chmod(0o755)
    daemon.start()
    daemon.stackctl("gate", "open")
    for begin in PROGRAMS.values():
        begin()
    daemon.wait_ticks(WARM_UP_TICKS)
    with Perf(hz=PERF_HZ, call_graph=PERF_CALL_GRAPH) as perf:
        since_us = int(time.time() * 1e6)
        time.sleep(SECONDS)
        until_us = int(time.time() * 1e6)
    perf_samples = perf.samples
    stop_all()
    flame = daemon.settled_flame("on_cpu", since_us=since_us, until_us=until_us)


def stop_all():
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    processes.clear()


def clean_up():
    stop_all()
    shutil.rmtree(work, ignore_errors=True)
    daemon.remove()


def ours_of(program):
    """Stacks with user frames as (weight, names of the user's frames innermost first, whole)."""
    stacks = []
    for stack in flame.stacks:
        user = [named_entry(f["name"], f["object"]) for f in stack.frames if f["kind"] != "kernel"]
        if is_of(stack.comm, program) and user:
            stacks.append((stack.value, user, not stack.truncated and user[-1] in ROOTS))
    return stacks


def theirs_of(program):
    stacks = []
    for sample in perf_samples:
        user = [name for name, dso in sample.frames if not dso.startswith("[k")]
        if is_of(sample.comm, program) and user:
            # A name that perf doesn't know either, below the C library's start of main().
            unnamed = user[-1] == "[unknown]" and len(user) > 1 and user[-2].startswith("__libc_start_main")
            stacks.append((1, user, unnamed or user[-1].split("+")[0] in ROOTS))
    return stacks


def part_that_is_whole(stacks):
    return sum(weight for weight, _, whole in stacks if whole) / sum(weight for weight, *_ in stacks)


def check_whole(program):
    ours, theirs = ours_of(program), theirs_of(program)
    check(len(theirs) >= LEAST_SAMPLES, f"perf has only {len(theirs)} samples of {program}")
    check(ours, f"no stack of {program}")
    own, other = part_that_is_whole(ours), part_that_is_whole(theirs)
    note(f"{program}: {own * 100:.2f} % of the weight reaches the root, perf: {other * 100:.2f} %")
    ends = collections.Counter()
    for weight, names, whole in ours:
        if not whole:
            ends[(len(names), names[0], names[-1])] += weight
    for (depth, first, last), weight in ends.most_common(5):
        note(f"{program}: {weight / sum(w for w, *_ in ours) * 100:.2f} % ends after {depth} frames, {first} ... {last}")
    check(own >= LEAST_WHOLE, f"{program}: only {own * 100:.2f} % reach the root")
    check(own >= other - 0.002, f"{program}: perf reaches the root more often")


def normalized(name):
    """One spelling: without offsets, versions, clones' numbers and arguments."""
    name = re.sub(r"::h[0-9a-f]{16}$", "", name)
    name = re.sub(r"\([^()]*(\([^()]*\)[^()]*)*\)( const)?$", "", name)
    return name.split("+")[0].split("@")[0].split(".")[0].removeprefix("__GI_")


def debug_file(path):
    """Where names come from: its debug file, if there is one."""
    notes = subprocess.run([tool("readelf"), "-n", path], check=True, capture_output=True, text=True).stdout
    build_id = re.search(r"Build ID: ([0-9a-f]+)", notes)[1]
    debug = pathlib.Path(f"/usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug")
    return str(debug) if debug.exists() else path


@functools.cache
def namesakes(path):
    """Of functions that have several names, each one's first: any of them is right."""
    by_address = collections.defaultdict(set)
    for options in ([], ["-D"]):
        text = subprocess.run([tool("nm"), "-C", "--defined-only", *options, path], capture_output=True, text=True).stdout
        for line in text.splitlines():
            address, kind, name = line.split(" ", 2)
            if kind in "tTwWiI":
                by_address[address].add(normalized(name))
    return {name: min(names) for names in by_address.values() if len(names) > 1 for name in names}


def shares(program, stacks, inclusive):
    total = sum(weight for weight, *_ in stacks)
    result = collections.Counter()
    same = {**namesakes(debug_file(LIBC)), **namesakes(shutil.which(program) or program)}
    for weight, names, _ in stacks:
        plain = [normalized(n) for n in (names if inclusive else names[:1]) if not n.startswith("[")]
        for name in {same.get(n, n) for n in plain}:
            result[name] += weight / total
    return result


def check_shares(program):
    """Callers, too, where perf finds them; else the functions that were executed."""
    ours, theirs = ours_of(program), theirs_of(program)
    inclusive = part_that_is_whole(theirs) > PERF_WHOLE
    sigma = math.sqrt(0.25 / len(theirs))  # at worst, of a share by so few samples
    own, other = shares(program, ours, inclusive), shares(program, theirs, inclusive)
    compared = [name for name in other if other[name] >= LEAST_SHARE]
    worst = sorted(compared, key=lambda name: -abs(own[name] - other[name]))
    for name in worst[:6]:
        note(f"{program}: {name}: stackd {own[name] * 100:.1f} %, perf {other[name] * 100:.1f} %")
    wrong = [name for name in worst if abs(own[name] - other[name]) > SHARE_POINTS + sigma]
    note(f"{program}: {len(compared)} functions compared, {'with' if inclusive else 'without'} callers, {len(wrong)} differ")
    check(compared, f"{program}: nothing to compare")
    check(not wrong, f"{program}: shares differ: {', '.join(wrong)}")


def check_rust():
    """A chain that is known, by the names that a programmer gave."""
    good = total = 0
    for weight, names, whole in ours_of("wl_rust"):
        total += weight
        at = names.index(RUST_CHAIN[0]) if RUST_CHAIN[0] in names else len(names)
        if whole and names[at : at + len(RUST_CHAIN)] == RUST_CHAIN:
            good += weight
        else:
            note(" < ".join(names[:6] + ["..."] + names[-6:]))
    note(f"{good / total * 100:.2f} % in the chain that ran")
    check(good > LEAST_WHOLE * total, "other stacks than the one that ran")


run(
    [(f"{p}: stacks reach the root", lambda p=p: check_whole(p)) for p in PROGRAMS]
    + [(f"{p}: the same functions as perf", lambda p=p: check_shares(p)) for p in PROGRAMS]
    + [("wl_rust: the chain that ran", check_rust)],
    setup=set_up,
    cleanup=clean_up,
    on_failure=daemon.note_log,
)
