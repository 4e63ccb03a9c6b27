# SPDX-License-Identifier: GPL-2.0-or-later
"""TAP, the server process, and calls as another user."""
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

from varlink import Client

TESTS = []
NOBODY = 65534


def test(f):
    TESTS.append(f)
    return f


def equal(got, want, what=""):
    if got != want:
        raise AssertionError(f"{what}: {got!r} is not {want!r}")


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.01)


class Server:
    program = None

    def __init__(self, **options):
        self.directory = tempfile.mkdtemp(prefix="stackd-protocol-")
        os.chmod(self.directory, 0o755)
        self.path = self.directory + "/socket"
        arguments = [f"{key}={value}" for key, value in options.items()]
        self.process = subprocess.Popen(
            [self.program, self.path, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        word, first, last = self.process.stdout.readline().split()
        equal(word, "ready")
        self.first_us, self.last_us = int(first), int(last)
        self.window = {"since_us": self.first_us, "until_us": self.last_us}

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.process.stdin.close()
        code = self.process.wait(30)
        shutil.rmtree(self.directory)
        if kind is None:
            equal(code, 0, "the server's exit code (1: a leak or an error that a sanitizer found)")

    def command(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def status(self):
        names = ("connections", "subscribers", "accepted", "refused", "calls", "errors", "dropped")
        return dict(zip(names, map(int, self.command("status"))))

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def as_user(uid, gid, groups, f):
    """What f returns, run in a child with these credentials."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            result = (f(), Client.seen_methods, Client.seen_errors, None)
        except BaseException:
            result = (None, set(), set(), traceback.format_exc())
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(result, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        result, methods, errors, trouble = pickle.load(pipe)
    os.waitpid(child, 0)
    if trouble:
        raise AssertionError(trouble)
    Client.seen_methods |= methods
    Client.seen_errors |= errors
    return result


def run_all():
    failed = 0
    print(f"1..{len(TESTS)}", flush=True)
    for number, f in enumerate(TESTS, 1):
        start = time.monotonic()
        try:
            f()
            print(f"ok {number} - {f.__name__} # {time.monotonic() - start:.2f} s", flush=True)
        except Exception:
            failed += 1
            print(f"not ok {number} - {f.__name__}", flush=True)
            for line in traceback.format_exc().splitlines():
                print("# " + line, flush=True)
    sys.exit(1 if failed else 0)
