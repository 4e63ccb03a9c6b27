# SPDX-License-Identifier: GPL-2.0-or-later
"""Control groups below system.slice: to stackd the processes in one are a unit."""
import contextlib
import os
import pathlib
import signal
import sys
import time


def hierarchy():
    for place in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if os.path.exists(f"{place}/cgroup.procs") and os.access(place, os.W_OK):
            return pathlib.Path(place)
    print("1..0 # SKIP cgroup v2 is not there, or can't be written")
    sys.exit(0)


ROOT = hierarchy()
TOP = ROOT / "system.slice"
MADE = not TOP.exists()


@contextlib.contextmanager
def group(name):
    """A control group below system.slice; its processes end with it."""
    path = TOP / name
    TOP.mkdir(exist_ok=True)
    path.mkdir()
    try:
        yield path
    finally:
        empty(path)
        path.rmdir()
        if MADE:
            with contextlib.suppress(OSError):  # another is in it
                TOP.rmdir()


def empty(path):
    deadline = time.monotonic() + 10
    while (pids := (path / "cgroup.procs").read_text().split()) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.05)


def enter(path, pid):
    (path / "cgroup.procs").write_text(str(pid))
