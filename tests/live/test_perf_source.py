# SPDX-License-Identifier: GPL-2.0-or-later
"""Source=perf: what the daemon counts of perf events itself, without BPF, against the workloads' own account."""
import collections
import contextlib
import signal
import subprocess
import time

from lib.daemon import Daemon
from lib.environment import require_root, tool
from lib.tap import check, note, run, within
from lib.workload import Workload

SAMPLE_HZ = 199
SECONDS = 14
WHOLE_SECONDS = 5  # at the end: until the tables of a process are there, its stacks are walked by frame pointers
LEAST_WHOLE = 0.99
MODES = ("nanosleep", "futex", "pipe")
ROOTS = {"clone3", "__clone3", "__GI___clone3", "clone", "__clone", "_start"}
UNSEEN = {"brk", "mmap", "heap", "rss", "faults_file", "kmem", "faults_anon"}


class WithoutBpf(Daemon):
    """May open perf events, but load no program."""

    def command(self):
        return [tool("setpriv"), "--bounding-set", "-bpf,-sys_admin", *super().command()]


require_root()
daemon = Daemon({"Collect": {"Source": "perf", "SampleHz": SAMPLE_HZ}})
# Every wait is walked: what sampling adds is not the question here.
all_waits = Daemon({"Collect": {"Source": "perf", "OffCPUStacksPerSec": 0}})


def losses(of=None):
    return {loss["cause"]: loss["count"] for loss in (of or daemon).status()["losses"]}


def undisturbed(measure):
    """While the machine switches so often that the source gives up waits, it says so, and there is nothing to compare."""
    causes = ("switches-unseen", "waits-undrawn", "waits-forgotten", "ring-full")
    for _ in range(2):
        before = losses(all_waits)
        found = measure()
        after = losses(all_waits)
        if all(before.get(cause, 0) == after.get(cause, 0) for cause in causes):
            return found
        note(f"the machine is too busy with other things: {after}")
    return None


def set_up():
    daemon.start()
    daemon.stackctl("gate", "open")


def test_shares():
    with Workload("spin_split", seconds=SECONDS, threads=2, prefix=["nice", "-n", "-10"]) as load:
        account = load.go().result()
        warm_us = int((time.time() - WHOLE_SECONDS) * 1e6)
        flame = daemon.settled_flame("on_cpu", pid=load.pid)
        warm = daemon.flame("on_cpu", pid=load.pid, since_us=warm_us)
    own = account["on_cpu"]
    seventy, thirty = flame.with_function("spin_seventy"), flame.with_function("spin_thirty")
    within("share of spin_seventy", seventy / (seventy + thirty), own["spin_seventy"] / sum(own.values()), absolute=0.05)
    within("on-CPU ns of the process", flame.total, account["process_cpu_ns"], relative=0.05)
    whole = sum(s.value for s in warm.stacks if not s.truncated and s.frames[-1]["name"] in ROOTS)
    note(f"{whole / warm.total * 100:.2f} % of the weight reaches the root")
    check(whole >= LEAST_WHOLE * warm.total, f"only {whole / warm.total * 100:.2f} % reach the root")


def test_totals():
    """What /proc says of the process is what the stacks sum to."""
    with Workload("spin_split", seconds=6, prefix=["nice", "-n", "-10"]) as load:
        account = load.go().result()
        flame = daemon.settled_flame("on_cpu", pid=load.pid)
        exact = daemon.flame("on_cpu", exact=True, pid=load.pid)
        rows = daemon.call("ListProcesses", {"filter": {"pid": load.pid}})["processes"]
    check(len(rows) == 1, f"{len(rows)} processes of that pid: {rows}")
    within("its total", rows[0]["values"]["on_cpu"], account["process_cpu_ns"], relative=0.05)
    within("its stacks", flame.total, rows[0]["values"]["on_cpu"], relative=0.1)
    within("its samples by their times", exact.total, flame.total, relative=0.01)


def test_faults():
    with Workload("faults", seconds=8, n=400, threads=0) as load:
        account = load.go().result()["minor"]
        flame = daemon.settled_flame("faults_minor", "touch_own", pid=load.pid)
    for function in ("touch_own", "copy_pages"):
        within(f"{function}: faults", flame.with_function(function), account[function], relative=0.2)


def measure_waits():
    with contextlib.ExitStack() as stack:
        loads = {mode: stack.enter_context(Workload("blocker", mode=mode, seconds=6)) for mode in MODES}
        pair = stack.enter_context(Workload("preempted_pair", seconds=6, prefix=["nice", "-n", "-10"]))
        for load in (*loads.values(), pair):
            load.go()
        for load in (*loads.values(), pair):
            load.result()
        blocked = {
            mode: (all_waits.settled_flame("blocked", pid=load.pid, function="wait_" + mode), load.account["blocked"])
            for mode, load in loads.items()
        }
        return blocked, {metric: all_waits.flame(metric, pid=pair.pid) for metric in ("blocked", "runnable")}, pair.account["runnable"]


def measure_sleep():
    seen = 0
    with subprocess.Popen([tool("sleep"), "7"]) as sleeper:
        while sleeper.poll() is None:
            seen = max(seen, all_waits.flame("blocked", pid=sleeper.pid).total)
            time.sleep(0.5)
        all_waits.wait_ticks(3)
        return seen, all_waits.flame("blocked", pid=sleeper.pid).total


def check_waits(blocked, pair, runnable):
    for mode, (flame, expected) in blocked.items():
        within(f"wait_{mode}: blocked ns", flame.with_function("wait_" + mode), expected, relative=0.05)
    for function, expected in runnable.items():
        within(f"{function}: runnable ns", pair["runnable"].with_function(function), expected, relative=0.05)
        check(pair["blocked"].with_function(function) < 0.01 * expected, f"{function} never blocks")


def test_waits():
    """Blocked and waiting for a CPU are told apart, in whichever way a thread comes to either."""
    with all_waits:
        all_waits.stackctl("gate", "open")
        all_waits.wait_ticks(1)
        found = undisturbed(measure_waits)
        slept = undisturbed(measure_sleep)
    if found:
        check_waits(*found)
    if slept:
        # Seen while it lasts, and no more when it ends.
        check(slept[0] > 3e9, f"only {slept[0]} ns were told while it waited")
        within("blocked ns of sleep", slept[1], 7e9, relative=0.05)


def test_forked_and_executed():
    """Who executed something and is gone before the next tick is known by what the kernel said."""
    since_us = int(time.time() * 1e6)
    for _ in range(8):
        subprocess.run([tool("bash"), "-c", "head -c 100000000 /dev/zero | sha256sum"], check=True, stdout=subprocess.DEVNULL)
    flame = daemon.settled_flame("on_cpu", since_us=since_us)
    daemon.wait_ticks(2)
    totals = collections.Counter()
    for row in daemon.call("ListProcesses", {"filter": {"since_us": since_us}, "limit": 1000})["processes"]:
        totals[row["process"]["comm"]] += row["values"].get("on_cpu", 0)
    weights = collections.Counter()
    for stack in flame.stacks:
        weights[stack.comm] += stack.value
    note(f"{weights.most_common(5)}")
    check(weights["sha256sum"] > 0.5e9, "what sha256sum did is not told as its own")
    # What they did between the last look at /proc and their end is most of it.
    within("totals of sha256sum", totals["sha256sum"], weights["sha256sum"], relative=0.1)


def test_status():
    status = daemon.status()
    check(status["source"] == "perf" and status["source_reason"] == "Source=perf", f"{status}")
    check(set(status["unmeasured"]) == UNSEEN, f"{status['unmeasured']}")
    check(not {c["metric"] for c in status["conservation"]} & UNSEEN, f"{status['conservation']}")
    limits = {limit["name"]: limit for limit in status["limits"]}
    check(0 < limits["sampled-processes"]["used"] < limits["sampled-processes"]["max"], f"{limits['sampled-processes']}")
    text = daemon.stackctl("status").stdout
    check("Source: perf (Source=perf); no stacks of brk" in text, text)
    # The latter while something else switches too often.
    sources = ("off-cpu by perf_event context-switches", "off-cpu by none: more than 60000 switches")
    check(any(source in text for source in sources) and "M of rings" in text, text)
    for metric in ("brk", "rss"):
        check(daemon.flame(metric).total == 0, f"there are stacks of {metric}")
    refused = daemon.stackctl("flame", "--metric", "faults-anon", check_exit=False)
    check(refused.returncode == 1 and "does not tell faults apart" in refused.stderr, f"{refused}")


def test_losses_are_counted():
    """A daemon that is held up for seconds can't take what the rings have no room for, and says how much that was."""
    with Workload("spin_split", seconds=8, threads=2) as load:
        load.go()
        crowded = Daemon({"Collect": {"Source": "perf", "SampleHz": 1000, "StackCopyBytes": 32768}})
        with crowded:
            crowded.stackctl("gate", "open")
            crowded.wait_ticks(1)
            crowded.process.send_signal(signal.SIGSTOP)
            time.sleep(2)
            crowded.process.send_signal(signal.SIGCONT)
            crowded.wait_ticks(2)
            lost = losses(crowded).get("ring-full", 0)
    note(f"{lost} samples lost in two seconds")
    check(lost > 500, f"only {lost} of some 4000 samples are told as lost")


def test_auto_without_bpf():
    with WithoutBpf({"Collect": {"SampleHz": SAMPLE_HZ}}) as without:
        status = without.status()
        check(status["source"] == "perf", f"{status['source']}")
        check(status["source_reason"].startswith("Source=auto; BPF is refused"), status["source_reason"])
        without.stackctl("gate", "open")
        with Workload("spin_split", seconds=4) as load:
            load.go().result()
            check(without.settled_flame("on_cpu", pid=load.pid).with_function("spin_seventy") > 0, "no samples")


def test_auto_with_bpf():
    with Daemon() as both:
        status = both.status()
        check(status["source"] == "bpf" and status["unmeasured"] == [], f"{status['source']}, {status['unmeasured']}")


def test_bpf_only():
    refused = WithoutBpf({"Collect": {"Source": "bpf"}})
    try:
        refused.spawn()
        check(refused.process.wait(timeout=20) != 0, "it runs without BPF")
    finally:
        refused.remove()


run(
    [(name[5:].replace("_", " "), function) for name, function in list(globals().items()) if name.startswith("test_")],
    setup=set_up,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
