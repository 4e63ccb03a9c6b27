# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's memory on request: what it holds for a program, by stack, against the size of its objects."""
import math
import time

from lib.daemon import Daemon
from lib.environment import require_root
from lib.tap import check, note, run, within
from lib.varlink import VarlinkError
from lib.workload import Workload

require_root()
N = 1500
HOOKS = ("kmalloc", "kfree", "kmem_cache_alloc", "kmem_cache_free")
# What opening N pipes and N pairs of sockets takes of each cache: by the function that calls the allocator.
OBJECTS = {
    ("open_pipes", "alloc_empty_file"): ("filp", 2 * N),
    ("open_pipes", "__d_alloc"): ("dentry", N),
    ("open_sockets", "alloc_empty_file"): ("filp", 2 * N),
    ("open_sockets", "sock_alloc_inode"): ("sock_inode_cache", 2 * N),
    ("open_sockets", "__d_alloc"): ("dentry", 2 * N),
}
ALL = {"Collect": {"HeapSampleBytes": 0, "HeapBudget": 100, "MaxHeapBlocks": 262144}}
daemon = Daemon(ALL)


def watch(*options):
    return daemon.stackctl("watch-memory", "--kernel", *options)


def unwatch():
    daemon.stackctl("unwatch-memory", "--kernel")
    nothing_is_attached()


def kernel_watch():
    """The latest."""
    return [w for w in daemon.call("ListMemoryWatches")["watches"] if w["kind"] == "kernel"][-1]


def object_sizes():
    with open("/proc/slabinfo") as f:
        return {row.split()[0]: int(row.split()[3]) for row in f if not row.startswith(("#", "slabinfo"))}


def attached():
    """The hooks of the daemon's links, and the sizes of its tables of blocks that are made in advance."""
    hooks, tables = [], []
    for info in daemon.descriptor_infos():
        if info.get("tp_name") in HOOKS:
            hooks.append(info["tp_name"])
        if (info.get("map_type"), info.get("key_size"), info.get("map_flags")) == ("1", "16", "0x0") and info["value_size"] == "24":
            tables.append(int(info["max_entries"]))
    return sorted(hooks), tables


def nothing_is_attached():
    check(attached() == ([], []), f"something is there still: {attached()}")
    check(daemon.limit_used("kernel-blocks") == 0, "blocks are kept still")


def held(pid, metric="kmem"):
    """Bytes by (function of the program, function that called the allocator), and of all."""
    flame = daemon.flame(metric, pid=pid)
    sums = {}
    for stack in flame.stacks:
        names = [f["name"] for f in stack.frames]
        for key in ((name, names[0]) for name in ("open_pipes", "open_sockets") if name in names):
            sums[key] = sums.get(key, 0) + stack.value
    return sums, flame


def leaked_inodes(pid):
    rows = daemon.call("ListLeaks", {"pid": pid, "limit": 1000})["leaks"]
    return [r for r in rows if r["frames"][-1]["name"] == "sock_alloc_inode" and any(f["name"] == "open_sockets" for f in r["frames"])]


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"not within {seconds} s: {what}")
        time.sleep(0.5)


def losses():
    return {loss["cause"]: loss["count"] for loss in daemon.status()["losses"] if loss["cause"].startswith("kernel")}


def open_and_close(mode):
    sizes = object_sizes()
    expected = {key: sizes[cache] * n for key, (cache, n) in OBJECTS.items()}
    with Workload("kernel_objects", n=N, mode=mode) as load:
        told = watch().stdout
        note(told.strip().replace("\n", " "))
        check("Watching the kernel's memory" in told and "times a second" in told, f"stackctl does not say what it does: {told}")
        check(attached() == (sorted(HOOKS), [262144]), f"not seen, so it could not be missed later: {attached()}")
        load.go().result()
        wait_until(lambda: all(abs(held(load.pid)[0].get(k, 0) / v - 1) < 0.01 for k, v in expected.items()), 20,
                   f"{expected}: {held(load.pid)[0]}")
        sums, flame = held(load.pid)
        for key, value in expected.items():
            note(f"{' '.join(key)}: {sums[key]}, expected {value}")
        most = flame.total
        wait_until(lambda: abs(sum(r["blocks"] for r in leaked_inodes(load.pid)) / (2 * N) - 1) < 0.01, 10,
                   f"{2 * N} inodes of sockets are among the leaks: {leaked_inodes(load.pid)}")
        inodes = leaked_inodes(load.pid)
        check({(r["kind"], r["comm"], r["pid"]) for r in inodes} == {("kernel", "wl_kernel_objec", load.pid)}, f"whose they are: {inodes}")
        text = daemon.stackctl("leaks", "--pid", load.pid, "--full").stdout
        check(any("kernel" in line.split() and "sock_alloc_inode" in line for line in text.splitlines()), f"leaks shows:\n{text}")
        folded = daemon.stackctl("flame", "--metric", "kmem", "--pid", load.pid).stdout
        check(";open_sockets;" in folded and "sock_alloc_inode_[k]" in folded, f"the flame graph lacks it:\n{folded[:2000]}")
        load.account = None
        load.go().result()
        wait_until(lambda: sum(held(load.pid)[0].values()) < 0.02 * most, 20, f"little is held: {held(load.pid)[0]}")
        sums, flame = held(load.pid)
        note(f"{most} bytes were held, {flame.total} are; {losses()}")
        check(min(sums.values()) >= 0, f"less than nothing is held: {sums}")
        others = [s for s in daemon.flame("kmem").stacks if s.comm == "wl_kernel_objec" and s.value < 0]
        check(not others, f"a release counts for who released: {others}")
    unwatch()


def test_self():
    open_and_close("self")


def test_other():
    open_and_close("child")


def test_sampled():
    """The bounds are three standard deviations."""
    sizes = object_sizes()
    mean = 8 << 10
    daemon.reload({"Collect": {"HeapSampleBytes": mean, "HeapBudget": 100}})
    with Workload("kernel_objects", n=N) as load:
        watch()
        load.go().result()
        flame = daemon.settled_flame("kmem", "open_sockets", pid=load.pid)
        sums, _ = held(load.pid)
        for key, (cache, n) in OBJECTS.items():
            value = sizes[cache] * n
            # Each of n is drawn with p and stands for size / p.
            p = -math.expm1(-sizes[cache] / mean)
            within(f"{' '.join(key)}, a sample every {mean >> 10} KiB", sums.get(key, 0), value, relative=3 * math.sqrt((1 - p) / (p * n)) + 0.01)
        most = flame.total
        load.account = None
        load.go().result()
        wait_until(lambda: sum(held(load.pid)[0].values()) < 0.02 * most, 20, f"little is held: {held(load.pid)[0]}")
    unwatch()
    daemon.reload(ALL)


def test_cost_is_bounded():
    with Workload("kernel_objects", mode="churn", seconds=40) as load:
        load.go()
        told = watch().stdout
        note(told.strip().replace("\n", " "))
        row = kernel_watch()
        check(row["calls_per_s"] > 100000 and row["share"] > 0.02, f"a loop of socketpair and close is said to cost little: {row}")
        daemon.reload({"Collect": {"HeapSampleBytes": 0, "HeapBudget": 1, "MaxHeapBlocks": 262144}})
        wait_until(lambda: kernel_watch()["state"] == "ended", 10, "it is ended")
        note(kernel_watch()["reason"])
        check("more than HeapBudget=1 allows" in kernel_watch()["reason"], f"unexpected: {kernel_watch()}")
        nothing_is_attached()
        result = daemon.stackctl("watch-memory", "--kernel", check_exit=False)
        check(result.returncode == 1 and "more than HeapBudget=1 allows" in result.stderr, f"not refused: {result}")
        nothing_is_attached()
    daemon.reload(ALL)


def test_ends():
    told = watch("--for", "3s").stdout
    check("until" in told, f"no end is told: {told}")
    wait_until(lambda: kernel_watch()["state"] == "ended", 10, "it is ended")
    check(kernel_watch()["reason"] == "its time is over", f"unexpected: {kernel_watch()}")
    nothing_is_attached()
    watch("--for", "60s")
    until = kernel_watch()["until_us"]
    check("until" in watch("--for", "5min").stdout and kernel_watch()["until_us"] > until, "a second call does not prolong it")
    check(len([w for w in daemon.call("ListMemoryWatches")["watches"] if w["kind"] == "kernel" and w["state"] == "watched"]) == 1, "it is watched twice")
    unwatch()
    watch()
    daemon.stop()
    daemon.start()
    nothing_is_attached()


def test_full():
    """A table that is full loses what is counted, and what it has is right."""
    daemon.stop()
    daemon.write_config({"Collect": {"HeapSampleBytes": 0, "HeapBudget": 100, "MaxHeapBlocks": 1024}})
    daemon.start()
    with Workload("kernel_objects", n=N) as load:
        watch()
        load.go().result()
        wait_until(lambda: losses().get("kernel-blocks-full", 0) > N, 10, f"losses are counted: {losses()}")
        check(daemon.limit_used("kernel-blocks") <= 1024, f"{daemon.limit_used('kernel-blocks')} blocks")
        daemon.wait_ticks(3)
        total = sum(v for v in held(load.pid)[0].values())
        check(total < 1024 * 4096, f"{total} bytes are told of at most 1024 blocks")
        load.account = None
        load.go().result()
        wait_until(lambda: abs(sum(held(load.pid)[0].values())) < 4096, 20, f"nothing is held: {held(load.pid)[0]}")
    unwatch()


def test_refusals():
    result = daemon.stackctl("watch-memory", "--kernel", "--pid", 1, check_exit=False)
    check(result.returncode == 1 and "one only" in result.stderr, f"unexpected: {result}")
    result = daemon.stackctl("unwatch-memory", "--kernel", check_exit=False)
    note(result.stderr.strip())
    check(result.returncode == 1 and "not watched" in result.stderr, f"unexpected: {result}")
    result = daemon.stackctl("flame", "--kernel", check_exit=False)
    check(result.returncode != 0 and "--kernel" in result.stderr, f"unexpected: {result}")
    try:
        daemon.client(uid=65534).call("org.stackd.WatchMemory", {"kernel": True})
        check(False, "anybody may watch the kernel's memory")
    except VarlinkError as error:
        note(error.name)
    nothing_is_attached()


run(
    [
        ("what a program has the kernel hold is right, and given back", test_self),
        ("what another process gives back counts for who took it", test_other),
        ("sampled it is right within its error", test_sampled),
        ("its cost is told first, and kept to the budget", test_cost_is_bounded),
        ("it ends with its time, on request, and with the daemon", test_ends),
        ("a full table loses and counts", test_full),
        ("what can't be done is refused", test_refusals),
    ],
    setup=daemon.start,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
