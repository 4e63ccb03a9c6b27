# SPDX-License-Identifier: GPL-2.0-or-later
"""stackctl compare-perf: stackd and perf on the same program at the same time, whose shares are known."""
import json
import os
import pathlib
import re

from lib.daemon import Daemon
from lib.environment import program, require_root, tool
from lib.tap import check, note, run, within
from lib.workload import Workload

SECONDS = 20
SHARES = {"spin_seventy": 70, "spin_thirty": 30}

require_root()
tool("perf")
os.environ["PATH"] = f"{pathlib.Path(program('stackd')).parent}:{os.environ['PATH']}"
daemon = Daemon({"Collect": {"SampleHz": 499}})


def set_up():
    daemon.start()
    daemon.stackctl("gate", "open")
    daemon.wait_ticks(3)


def test_they_agree():
    load = Workload("spin_split", seconds=SECONDS)
    load.go()
    done = daemon.stackctl("compare-perf", "--for=10s", f"--pid={load.pid}", check_exit=False, timeout=60)
    load.kill()
    text = done.stdout
    note(text)
    check(done.returncode == 0 and "They agree within 5 points" in text, f"{done}")
    for function, share in SHARES.items():
        row = re.search(rf"([\d.]+)% +([\d.]+)% +([-+][\d.]+) .* {function}\b", text)
        check(row, f"no {function} in {text}")
        within(f"{function} by stackd", float(row[1]), share, absolute=5)
        within(f"{function} by perf", float(row[2]), share, absolute=7)
    check(not list(pathlib.Path("/tmp").glob("stackctl-perf-*")), "files are left in /tmp")


def test_command():
    done = daemon.stackctl(
        "compare-perf", "--json=short", "--", program("wl_spin_split"), "--seconds", SECONDS, "--threads", 1, check_exit=False, timeout=90
    )
    check(done.returncode == 0, f"{done}")
    report = json.loads(done.stdout)
    check(report["agree"] and report["differ"] == 0, f"{report}")
    functions = {f["name"]: f for f in report["functions"]}
    for function, share in SHARES.items():
        for side, points in (("stackd", 5), ("perf", 7)):
            within(f"{function} by {side}", 100 * functions[function]["with_callees"][side], share, absolute=points)
    check(functions["spin_split"]["with_callees"]["stackd"] > 0.95, f"spin_split called them: {functions['spin_split']}")
    check(report["perf_samples"] > 500 and report["perf"]["lost"] == 0, f"{report['perf_samples']} samples, {report['perf']}")
    check(0 < report["stackd"]["cpu_s"] < SECONDS and 0 < report["perf"]["cpu_s"] < SECONDS, f"{report['stackd']}, {report['perf']}")


def test_failing_command():
    done = daemon.stackctl("compare-perf", "--", "/nonexistent/program", check_exit=False, timeout=60)
    check(done.returncode == 1 and "Can't run /nonexistent/program" in done.stderr, f"{done}")


def fails(*arguments):
    done = daemon.stackctl("compare-perf", *arguments, check_exit=False)
    check(done.returncode == 1 and not done.stdout, f"{done}")
    return done.stderr


def test_what_it_does_not_take():
    check("from 1s to 10min" in fails("--for=1h"), "no reason")
    check("a command, or" in fails("--for=2s", "--", "true"), "no reason")


def test_without_perf():
    path = os.environ["PATH"]
    try:
        os.environ["PATH"] = "/nonexistent"
        check("perf is needed" in fails("--for=1s"), "no reason")
    finally:
        os.environ["PATH"] = path


if __name__ == "__main__":
    run(
        [(name[5:].replace("_", " "), function) for name, function in list(globals().items()) if name.startswith("test_")],
        setup=set_up,
        cleanup=daemon.remove,
    )
