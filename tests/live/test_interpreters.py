# SPDX-License-Identifier: GPL-2.0-or-later
"""Code that is made at run time: its functions have their names and their callers, by the map that its maker writes."""
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from lib.daemon import Daemon
from lib.environment import require_root, tool
from lib.tap import check, note, run

WARM_UP_S = 5
SECONDS = 5
LEAST_SHARE = 0.8  # of the weight in the function that does all the work

NODE = """
function leaf(a) { let s = 0; for (let i = 0; i < a.length; i++) s += Math.imul(a[i], i) % 7; return s; }
function middle(a) { let s = 0; for (let i = 0; i < 20; i++) s += leaf(a); return s; }
function outer(a) { let s = 0; for (let i = 0; i < 20; i++) s += middle(a); return s; }
%NeverOptimizeFunction(outer);
const a = Array.from({ length: 20000 }, (_, i) => i);
for (;;) outer(a);
"""
JAVA = """
public class Loop {
    static int leaf(int[] a) { int s = 0; for (int i = 0; i < a.length; i++) s += a[i] * i % 7; return s; }
    static int middle(int[] a) { int s = 0; for (int i = 0; i < 20; i++) s += leaf(a); return s; }
    static int outer(int[] a) { int s = 0; for (int i = 0; i < 20; i++) s += middle(a); return s; }
    public static void main(String[] arguments) {
        int[] a = new int[20000];
        for (int i = 0; i < a.length; i++) a[i] = i;
        int s = 0;
        while (s != 1) s += outer(a) | 2;
    }
}
"""

require_root()
daemon = Daemon()
work = pathlib.Path(tempfile.mkdtemp(prefix="stackd-interpreters-"))


def flame_of(command, before=None):
    process = subprocess.Popen(command, cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(WARM_UP_S)
        check(process.poll() is None, f"{command[0]} ended with {process.returncode}")
        if before:
            before(process.pid)
            time.sleep(12)  # a map that was not there is looked for again after 10 s
        since_us = int(time.time() * 1e6)
        time.sleep(SECONDS)
        until_us = int(time.time() * 1e6)
        return daemon.settled_flame("on_cpu", pid=process.pid, since_us=since_us, until_us=until_us)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        pathlib.Path(f"/tmp/perf-{process.pid}.map").unlink(missing_ok=True)


def check_callers(flame, functions, is_function):
    """All of it is below each of these, from the innermost on, and called by the next."""
    good = 0
    for stack in flame.stacks:
        at = [
            next((i for i, f in enumerate(stack.frames) if f["object"] == "[jit]" and is_function(f["name"], function)), None)
            for function in functions
        ]
        if None not in at and at == sorted(at):
            good += stack.value
        else:
            note(f"{stack.value / flame.total * 100:.2f} %: " + " < ".join(f["name"] for f in stack.frames[:12]))
    note(f"{good / flame.total * 100:.1f} % in {' < '.join(functions)}")
    check(good > LEAST_SHARE * flame.total, "too little is in the functions that ran")


def test_node():
    command = [tool("node"), "--allow-natives-syntax", "--perf-basic-prof", "--interpreted-frames-native-stack", "--no-turbo-inlining"]
    script = work / "loop.js"
    script.write_text(NODE)
    flame = flame_of([*command, script])
    check_callers(flame, ["leaf", "middle", "outer"], lambda name, function: name.startswith("JS:") and name[3:].lstrip("*^~+").startswith(function + " "))


def test_java():
    (work / "Loop.java").write_text(JAVA)
    # Not inlined, so that each is a function of its own.
    options = ["-XX:+PreserveFramePointer", "-Xmx64m", *(f"-XX:CompileCommand=dontinline,Loop.{f}" for f in ("leaf", "middle", "outer"))]
    flame = flame_of(
        [tool("java"), *options, "Loop.java"],
        lambda pid: subprocess.run([tool("jcmd"), str(pid), "Compiler.perfmap"], check=True, capture_output=True, timeout=30),
    )
    check_callers(flame, ["leaf", "middle"], lambda name, function: f"Loop.{function}" in name or f"Loop::{function}" in name)


def set_up():
    work.chmod(0o755)
    daemon.start()
    daemon.stackctl("gate", "open")


def clean_up():
    shutil.rmtree(work, ignore_errors=True)
    daemon.remove()


run(
    [
        ("Node.js with --perf-basic-prof", test_node),
        ("a JVM with jcmd Compiler.perfmap", test_java),
    ],
    setup=set_up,
    cleanup=clean_up,
    on_failure=daemon.note_log,
)
