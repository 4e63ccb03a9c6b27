# SPDX-License-Identifier: GPL-2.0-or-later
"""User stacks of programs without frame pointers: exactly the chains that ran, from the innermost function to the root."""
import shutil
import subprocess

from lib.daemon import Daemon
from lib.environment import program, require_root, tool
from lib.tap import check, note, run
from lib.workload import Workload

SECONDS = 8
LEAST_SHARE = 0.1  # of the time that the kernel knows of: some dozens of samples each, so this says that it was seen at all
LEAST_SHARE_OF_ALL = 0.8
SYSTEM = ("libc.so.6", "ld-linux-x86-64.so.2", "libgcc_s.so.1", "[vdso]")

CHAINS = {  # innermost first, without the system's own functions
    "recursion": ["leaf"] + ["descend"] * 100 + ["main", "_start"],
    "qsort": ["leaf", "compare", "sorting", "main", "_start"],
    "signal": ["leaf", "handler", "interrupted", "main", "_start"],
    "signal-stack": ["leaf", "handler", "interrupted", "main", "_start"],
    "library": ["leaf", "call_back", "through_library", "main", "_start"],
    "dlopen": ["leaf", "plugin_call_back", "opened", "main", "_start"],
    "exception": ["leaf", "clean_up", "to_be_left"],  # a thread: its root is libc's
    "stub": ["through_stub", "main", "_start"],
    "vdso": ["ask_for_time", "main", "_start"],
}
NAMES = {name for chain in CHAINS.values() for name in chain}
SLEEPING = ("recursion", "signal")

require_root()
daemon = Daemon()
flames = {}  # (mode, path) → flame, account
shares = {}  # of each test that was made


def start_all(runs):
    """All at once: what they map is learnt while they wait, and so long as they run they share the CPUs."""
    loads = {run: Workload("unwind", path=run[1], mode=run[0], seconds=SECONDS) for run in runs}
    try:
        daemon.wait_ticks(8)
        for load in loads.values():
            load.go()
        accounts = {run: load.result() for run, load in loads.items()}
        # One that is settled says that the others are: their names are asked for at the same time.
        daemon.settled_flame("on_cpu", since_us=min(a["started_us"] for a in accounts.values()), until_us=max(a["ended_us"] for a in accounts.values()))
        for run, load in loads.items():
            metric = "off_cpu" if run[0].endswith("-sleep") else "on_cpu"
            window = {"since_us": accounts[run]["started_us"], "until_us": accounts[run]["ended_us"]}
            flames[run] = daemon.flame(metric, pid=load.pid, **window), accounts[run]
    finally:
        for load in loads.values():
            load.kill()


def set_up():
    daemon.start()
    daemon.stackctl("gate", "open")
    stripped = str(daemon.dir / "wl_unwind_stripped")
    shutil.copy(program("wl_unwind_static"), stripped)
    subprocess.run([tool("strip"), "-s", stripped], check=True)
    dynamic, static = program("wl_unwind"), program("wl_unwind_static")
    start_all(
        [(mode, dynamic) for mode in CHAINS]
        + [(mode + "-sleep", dynamic) for mode in SLEEPING]
        + [(mode, static) for mode in ("recursion", "qsort", "signal", "signal-sleep")]
        + [("recursion", stripped)]
    )


def names_of(stack):
    """The names of our functions; what a compiler split off is part of its function."""
    names = [f["name"].split(".")[0] for f in stack.frames if f["kind"] != "kernel" and f["object"] not in SYSTEM]
    return [name for name in names if name in NAMES]


def strangers_of(stack):
    """Frames that belong neither to us nor to the system: what a wrong walk finds."""
    objects = ("wl_unwind", "wl_unwind_static", "libwl_unwind_callee.so", "libwl_unwind_plugin.so")
    frames = [f for f in stack.frames if f["kind"] != "kernel" and f["object"] not in SYSTEM]
    return [f["name"] for f in frames if f["object"] not in objects]


def check_chain(mode, path):
    flame, account = flames[(mode, path)]
    chain = CHAINS[mode.removesuffix("-sleep")]
    innermost = chain[0]
    good = bad = 0
    for stack in flame.stacks:
        names = names_of(stack)
        if innermost not in names:
            continue  # before or behind the chain
        at = names.index(innermost)
        if names[at:] == chain and not strangers_of(stack) and not stack.truncated:
            good += stack.value
        else:
            bad += stack.value
            note(f"{mode}: {stack.value} truncated={stack.truncated}: " + " < ".join(f["name"] for f in stack.frames))
    expected = account["process_cpu_ns"] if not mode.endswith("-sleep") else account["wall_ns"] - account["process_cpu_ns"]
    note(f"{mode}: {good / expected * 100:.1f} % in the chain, {bad / expected * 100:.2f} % in others like it")
    shares[(mode, path)] = good, expected
    check(bad == 0, f"{mode}: other stacks than the one that ran")
    check(good > LEAST_SHARE * expected, f"{mode}: too little of the time is in the chain")


def chain_test(mode, file="wl_unwind"):
    return lambda: check_chain(mode, program(file))


def test_all():
    """All programs together have samples enough to say that little of their time is elsewhere."""
    share = sum(good for good, _ in shares.values()) / sum(expected for _, expected in shares.values())
    note(f"{share * 100:.1f} % of the time of {len(shares)} programs is in the chains that ran")
    check(share > LEAST_SHARE_OF_ALL, "too little of the time is in the chains")


def test_stripped():
    """No names, and no section headers that say where anything is: still a hundred calls from one place, and a root."""
    flame = next(f for (mode, path), (f, _) in flames.items() if path.endswith("stripped"))
    total = sum(s.value for s in flame.stacks)
    whole = 0
    for stack in flame.stacks:
        names = [f["name"] for f in stack.frames if f["object"] == "wl_unwind_stripped"]
        most = max((names.count(name) for name in names), default=0)
        whole += stack.value if most >= 99 and not stack.truncated else 0
    note(f"{whole / total * 100:.1f} % of {len(flame.stacks)} stacks")
    check(whole > LEAST_SHARE_OF_ALL * total, "the recursion is not seen")


def test_status():
    """Walks are counted by how they ended, and the tables by what they take."""
    status = daemon.status()
    walks = {w["end"]: w["count"] for w in status["walks"]}
    limits = {limit["name"]: limit for limit in status["limits"]}
    note(f"{walks}")
    check(walks["complete"] > 1000, "few walks are complete")
    check(status["unwind_rows"] > 20000, "libc alone has more rows")
    check(0 < limits["unwind-tables"]["used"] <= limits["unwind-tables"]["max"], "no memory is told")
    text = daemon.stackctl("status").stdout
    check("Unwinding:" in text and "complete" in text, f"stackctl status does not say it:\n{text}")


run(
    [
        ("a recursion of 100 frames", chain_test("recursion")),
        ("called back by qsort", chain_test("qsort")),
        ("in a signal handler", chain_test("signal")),
        ("in a signal handler on a stack of its own", chain_test("signal-stack")),
        ("through a shared object", chain_test("library")),
        ("in a linker's stub", chain_test("stub")),
        ("through an object opened at run time", chain_test("dlopen")),
        ("in the kernel's code in the process", chain_test("vdso")),
        ("while a thread is being unwound", chain_test("exception")),
        ("asleep in a recursion", chain_test("recursion-sleep")),
        ("asleep in a signal handler", chain_test("signal-sleep")),
        ("a static program at any address: recursion", chain_test("recursion", "wl_unwind_static")),
        ("a static program: called back by qsort", chain_test("qsort", "wl_unwind_static")),
        ("a static program: in a signal handler", chain_test("signal", "wl_unwind_static")),
        ("a static program: asleep in a signal handler", chain_test("signal-sleep", "wl_unwind_static")),
        ("all of them together", test_all),
        ("a stripped static program", test_stripped),
        ("status tells how walks ended and what tables take", test_status),
    ],
    setup=set_up,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
