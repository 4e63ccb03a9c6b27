# SPDX-License-Identifier: GPL-2.0-or-later
"""Names and identity: the same stack on every run, no wrong name, an honest place-holder for no name."""
import pathlib
import re
import subprocess
import time

from lib.daemon import Daemon
from lib.environment import program, require_root, tool
from lib.tap import check, note, run
from lib.workload import Workload

require_root()
daemon = Daemon()
runs = {}  # flames that several tests look at


def symbols(path):
    """{name: (start, end)} of the functions in an ELF file."""
    text = subprocess.run(
        [tool("nm"), "-S", "--defined-only", path], check=True, capture_output=True, text=True
    ).stdout
    found = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[2] in "tTwW":
            found[fields[3]] = (int(fields[0], 16), int(fields[0], 16) + int(fields[1], 16))
    return found


def text_base(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith(name) and " r-xp " in line:
            return line.split("-")[0]
    return None


def run_once(name, path=None, metric="on_cpu", **options):
    """The flame of one run of a workload, and where its code was."""
    with Workload(name, path=path, **options) as load:
        base = text_base(load.pid, pathlib.Path(path or program("wl_" + name)).name)
        # The first walks of a process are by frame pointers, until its unwind tables are there.
        daemon.wait_ticks(4)
        load.go()
        load.result()
        # blocked time goes on while it lingers
        until_us = int(time.time() * 1e6) + 1000000
        return daemon.settled_flame(metric, pid=load.pid, until_us=until_us), base


def ids_of(flame, function):
    return {s.id for s in flame.stacks if s.frames and s.frames[0]["name"] == function}


def set_up():
    daemon.start()
    daemon.stackctl("gate", "open")
    runs["spin_split"], runs["base"] = run_once("spin_split", seconds=3)
    runs["blocker"], _ = run_once("blocker", metric="blocked", seconds=3)


def test_aslr():
    first, first_base = runs["spin_split"], runs["base"]
    second, second_base = run_once("spin_split", seconds=3)
    check(first_base != second_base, "address space randomization is off: nothing was tested")
    for function in ("spin_seventy", "spin_thirty"):
        a, b = ids_of(first, function), ids_of(second, function)
        note(f"{function}: {sorted(a)} and {sorted(b)}, code at {first_base} and {second_base}")
        check(a and a == b, f"{function}: other stacks in the second run: {sorted(a)}, {sorted(b)}")
        check(len(a) == 1, f"{function}: one call path gave {len(a)} stacks")


def user_names(flame, object_name):
    return {f["name"] for s in flame.stacks for f in s.frames if f["object"] == object_name}


def test_right_names():
    """Every name shown for our programs is one of their functions, below the functions that call it."""
    callers = {
        "spin_seventy": {"spin_split"},
        "spin_thirty": {"spin_split"},
        "compute": {"block_and_compute"},
        "block_and_compute": {"main"},
    }
    for name in ("spin_split", "blocker"):
        flame = runs[name]
        known = symbols(program("wl_" + name))
        shown = user_names(flame, "wl_" + name)
        check(shown, f"no frame in wl_{name}")
        wrong = {n for n in shown if n not in known and not n.startswith("[")}
        check(not wrong, f"wl_{name} has no such functions: {sorted(wrong)}")
        for stack in flame.stacks:
            for inner, outer in zip(stack.frames, stack.frames[1:]):
                if inner["name"] in callers and outer["object"] == "wl_" + name:
                    check(
                        outer["name"] in callers[inner["name"]], f"{inner['name']} called by {outer['name']}"
                    )


def test_kernel_names():
    flame = runs["blocker"]
    known = {line.split()[2] for line in pathlib.Path("/proc/kallsyms").read_text().splitlines()}
    shown = {f["name"] for s in flame.stacks for f in s.frames if f["kind"] == "kernel"}
    check(
        any("nanosleep" in name for name in shown),
        f"the kernel part of the wait has no names: {sorted(shown)}",
    )
    wrong = {n for n in shown if n not in known and not n.startswith("[")}
    check(not wrong, f"the kernel has no such functions: {sorted(wrong)}")
    ours = {n for n in shown if n.startswith("bpf_prog_") or n.startswith("bpf_trace_run")}
    check(not ours, f"stackd's own programs are in the stacks: {sorted(ours)}")


def test_unnamed():
    """Without a symbol table there is an offset into the object, which lies in the function that ran."""
    original = program("wl_spin_split")
    stripped = str(daemon.dir / "wl_stripped")
    subprocess.run([tool("strip"), "-s", "-o", stripped, original], check=True)
    flame, _ = run_once("spin_split", path=stripped, seconds=3)
    ranges = symbols(original)
    inside = 0
    for stack in flame.stacks:
        leaf = stack.frames[0]
        if leaf["object"] != "wl_stripped":
            continue
        match = re.fullmatch(r"\[wl_stripped\+0x([0-9a-f]+)\]", leaf["name"])
        check(match, f"a name where there can be none: {leaf}")
        offset = int(match[1], 16)
        check(
            any(start <= offset < end for start, end in ranges.values()), f"{leaf['name']} is in no function"
        )
        if any(ranges[n][0] <= offset < ranges[n][1] for n in ("spin_seventy", "spin_thirty")):
            inside += stack.value
    note(f"{inside / flame.total * 100:.1f} % in the two functions, {len(flame.stacks)} stacks")
    check(inside > 0.9 * flame.total, "the offsets do not lie in the functions that ran")


def test_depth():
    for depth, truncated in ((60, False), (400, True)):
        flame, _ = run_once("many_stacks", mode="deep", n=depth, seconds=3)
        stacks = [s for s in flame.stacks if s.frames and s.frames[0]["name"] == "descend"]
        check(stacks, f"depth {depth}: the recursion is not seen")
        deepest = max(stacks, key=lambda s: s.value)
        frames = sum(1 for f in deepest.frames if f["name"] == "descend")
        note(f"depth {depth}: {frames} frames of it, truncated: {deepest.truncated}")
        if truncated:
            check(deepest.truncated, f"{frames} of {depth} frames, not marked as truncated")
        else:
            check(frames == depth, f"{frames} of {depth} frames")


run(
    [
        ("two runs of a program at other addresses give one stack", test_aslr),
        ("no wrong name in user stacks", test_right_names),
        ("kernel names are the kernel's, stackd's own frames are not shown", test_kernel_names),
        ("code without symbols is shown as object and offset", test_unnamed),
        ("deep stacks are whole or marked as truncated", test_depth),
    ],
    setup=set_up,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
