# SPDX-License-Identifier: GPL-2.0-or-later
"""Source lines and inlined functions: the lines that ran, by the shares in which they did."""
import os
import pathlib
import re
import socket
import subprocess
import time

from lib.daemon import Daemon
from lib.environment import SOURCE, build_dir, program, require_root, tool
from lib.tap import check, note, run
from lib.workload import Workload

SECONDS = 8
FILE = "inlined.c"
WORKLOADS = SOURCE / "tests/live/workloads"
TEXT = (WORKLOADS / FILE).read_text().splitlines()
SHARE = {"inlined_heavy": 0.75, "inlined_light": 0.25}
SHARE_POINTS = 0.06

require_root()
daemon = Daemon({"Collect": {"SampleHz": 499}})
flames = {}


def line_of(mark):
    return next(i for i, line in enumerate(TEXT, 1) if f"/* {mark} */" in line)


def set_up():
    daemon.start()
    daemon.stackctl("gate", "open")
    stripped, split, debug = (str(daemon.dir / name) for name in ("wl_stripped", "wl_split", "wl_split.debug"))
    original = program("wl_inlined")
    subprocess.run([tool("strip"), "-g", "-o", stripped, original], check=True)
    subprocess.run([tool("objcopy"), "--only-keep-debug", original, debug], check=True)
    subprocess.run([tool("objcopy"), "--strip-all", f"--add-gnu-debuglink={debug}", original, split], check=True, cwd=daemon.dir)
    loads = {name: Workload("inlined", path=path, seconds=SECONDS) for name, path in (("plain", original), ("stripped", stripped), ("split", split))}
    daemon.wait_ticks(5)
    for load in loads.values():
        load.go()
    for name, load in loads.items():
        load.result()
    daemon.settled_flame("on_cpu", function="both")
    for name, load in loads.items():
        flames[name] = daemon.flame("on_cpu", pid=load.pid), load


def biggest(name):
    flame, _ = flames[name]
    return max((s for s in flame.stacks if any(f["name"] == "both" for f in s.frames) and not s.truncated), key=lambda s: s.value)


def check_lines(name):
    """Every way in which it was called goes through one of the two, called on its line."""
    replies = daemon.replies("GetLines", {"stack": biggest(name).id, "filter": {"pid": flames[name][1].pid}})
    seen = {}
    for variant in (v for reply in replies for v in reply["variants"]):
        places = [(p["name"], pathlib.Path(p["file"]).name, p["line"]) for p in variant["places"] if p["inlined"] or p["name"] == "both"]
        inlined = [p for p in places if p[0] in SHARE]
        if not inlined:
            continue
        seen[inlined[0][0]] = seen.get(inlined[0][0], 0) + variant["share"]
        mark = inlined[0][0].removeprefix("inlined_")
        check(("both", FILE, line_of(f"calls {mark}")) in places, f"{mark} is not called from its line: {places}")
    note(f"{name}: {seen}")
    total = sum(seen.values())
    for function, share in SHARE.items():
        check(abs(seen.get(function, 0) / total - share) < SHARE_POINTS, f"{function} has {seen.get(function, 0) / total * 100:.1f} %")


def test_lines():
    check_lines("plain")


def test_split():
    check_lines("split")


def test_no_debug_information():
    text = daemon.stackctl("stacks", biggest("stripped").id, "--lines", f"--pid={flames['stripped'][1].pid}").stdout
    note(text)
    check("No lines of wl_stripped: no debug information." in text, "it is not said why there are no lines")
    check(FILE not in text and "both" in text, "lines from nowhere, or no stack")


def test_folded():
    """The folded stacks add up to the same, whether or not inlined functions are drawn."""
    pid = f"--pid={flames['plain'][1].pid}"
    plain, inlined = (daemon.stackctl("flame", pid, *more).stdout.splitlines() for more in ([], ["--inlines", "-q"]))
    total = sum(int(line.rpartition(" ")[2]) for line in plain)
    check(total == sum(int(line.rpartition(" ")[2]) for line in inlined), "the sums differ")
    sums = {f: sum(int(line.rpartition(" ")[2]) for line in inlined if f";both;{f}_[i]" in line) for f in SHARE}
    note(f"{sums} of {total}")
    for function, share in SHARE.items():
        check(abs(sums[function] / sum(sums.values()) - share) < SHARE_POINTS, f"{function} has {sums[function]}")
    check(sum(sums.values()) > 0.8 * total, "too little is in the inlined functions")


def test_ticks_go_on():
    """All that is known, and the largest files that there are: no tick waits for it."""
    with daemon.tick_keeper():
        daemon.stackctl("flame", "--inlines", "-q", timeout=90)
        daemon.wait_ticks(3)
    status = daemon.status()
    used = next(x for x in status["limits"] if x["name"] == "source-lines")
    note(f"{used['used']} bytes of lines; the parser of lines is {status['lines_parser_pid']}")
    check(0 < used["used"] <= used["max"] and status["lines_parser_pid"] > 0, "no lines are kept")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_debuginfod():
    """What is missing is fetched from a server, and found: when somebody says so."""
    served, fetched = daemon.dir / "served", pathlib.Path("/var/cache/stackd/debug/.build-id")
    served.mkdir()
    stripped, debug = str(daemon.dir / "wl_fetched"), str(served / "wl_fetched.debug")
    subprocess.run([tool("gcc"), "-D_GNU_SOURCE", "-O2", "-g", "-pthread", "-o", debug, str(WORKLOADS / FILE), str(WORKLOADS / "workload.c")], check=True)
    subprocess.run([tool("strip"), "-s", "-o", stripped, debug], check=True)
    build_id = re.search(r"Build ID: ([0-9a-f]+)", subprocess.run([tool("readelf"), "-n", stripped], check=True, capture_output=True, text=True).stdout)[1]
    file = fetched / build_id[:2] / (build_id[2:] + ".debug")
    port = free_port()
    server = subprocess.Popen(
        [tool("debuginfod"), "-p", str(port), "-d", ":memory:", "-F", str(served)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with Workload("inlined", path=stripped, seconds=SECONDS) as load:
            daemon.wait_ticks(4)
            load.go()
            load.result()
            flame = daemon.settled_flame("on_cpu", pid=load.pid)
            stack = max((s for s in flame.stacks if not s.truncated), key=lambda s: s.value)
            listed = daemon.stackctl("missing-debug").stdout
            check(re.search(rf"{build_id}\s+wl_fetched", listed), f"it is not listed:\n{listed}")
            script = next(p for p in (build_dir() / "systemd" / "stackd-debuginfod",) if p.exists())
            client = daemon.dir / "stackctl"
            client.write_text(f'#!/bin/sh\nexec {program("stackctl")} --socket {daemon.socket_path} "$@"\n')
            client.chmod(0o755)
            environment = {**os.environ, "STACKCTL": str(client), "DEBUGINFOD_URLS": f"http://127.0.0.1:{port}"}
            deadline = time.monotonic() + 40
            while not file.exists() and time.monotonic() < deadline:  # the server has to look at what it serves first
                done = subprocess.run(["/bin/sh", script], env=environment, capture_output=True, text=True, timeout=120)
                check(done.returncode == 0, done.stderr)
                time.sleep(1)
            note(done.stdout.strip())
            check(file.exists(), f"nothing was fetched: {done.stdout}{done.stderr}")
            text = daemon.stackctl("stacks", stack.id, "--lines", f"--pid={load.pid}").stdout
            check("both" not in " ".join(f["name"] for f in stack.frames), "the names were there before")
            check("inlined_heavy (inlined)" in text and FILE in text, f"no lines by what was fetched:\n{text}")
    finally:
        server.kill()
        server.wait()
        file.unlink(missing_ok=True)


def clean_up():
    for _, load in flames.values():
        load.kill()
    daemon.remove()


run(
    [
        ("the lines and shares of inlined functions", test_lines),
        ("the same by a debug file beside the program", test_split),
        ("without debug information that is said", test_no_debug_information),
        ("a flame graph with inlined functions has the same total", test_folded),
        ("debug files are fetched by debuginfod when asked for", test_debuginfod),
        ("ticks go on while debug information is read", test_ticks_go_on),
    ],
    setup=set_up,
    cleanup=clean_up,
    on_failure=daemon.note_log,
)
