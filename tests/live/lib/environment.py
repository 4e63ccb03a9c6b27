# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things are, and what the tests need of the machine."""
import os
import pathlib
import shutil
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[3]
NOBODY = 65534


def build_dir():
    path = os.environ.get("STACKD_BUILD")
    if not path:
        sys.exit("set STACKD_BUILD to the meson build directory")
    return pathlib.Path(path)


def program(name):
    """A program of ours in the build directory."""
    for path in (
        build_dir() / name,
        build_dir() / "daemon" / name,
        build_dir() / "client" / name,
        build_dir() / "tests/live/workloads" / name,
    ):
        if path.is_file():
            return str(path)
    raise FileNotFoundError(f"{name} is not in {build_dir()}: build it first")


def tool(name):
    """A program of the distribution."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise FileNotFoundError(f"{name} is not installed")
    return path


def require_root():
    if os.geteuid() != 0:
        sys.exit("these tests load programs into the kernel: run them as root")
