# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs stackctl against the scripted server, on pipes and on a pseudo-terminal, and tells results as TAP."""
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

from fake_stackd import HEALTHY, FakeStackd

STACKCTL = os.path.abspath(sys.argv[1])
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TIMEOUT = 60
DIRECTORY = tempfile.mkdtemp(prefix="stackctl-test-")
SOCKET = os.path.join(DIRECTORY, "org.stackd")
ENVIRONMENT = {
    k: v for k, v in os.environ.items() if not k.startswith(("SYSTEMD_", "NO_COLOR", "COLUMNS", "LC_"))
}
ENVIRONMENT.update(
    STACKD_SOCKET=SOCKET, TZ="UTC", LANG="C.UTF-8", TERM="xterm", UBSAN_OPTIONS="halt_on_error=1"
)
MORE = {"more": True}
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def run(*args, answers=None, server=True, env=None, **options):
    """Gives the finished process; .calls is what the server was asked."""
    environment = {**ENVIRONMENT, **(env or {})}
    command = [STACKCTL, *args]
    options = {"capture_output": True, "timeout": TIMEOUT, "env": environment, **options}
    if not server:
        return subprocess.run(command, **options)
    with FakeStackd(SOCKET, {**HEALTHY, **(answers or {})}) as fake:
        done = subprocess.run(command, **options)
    done.calls = fake.calls
    done.out, done.err = (done.stdout or b"").decode(), (done.stderr or b"").decode()
    return done


def good(*args, **options):
    done = run(*args, **options)
    assert done.returncode == 0, (args, done.returncode, done.err)
    return done


def bad(*args, **options):
    """Fails with status 1, says why on stderr, nothing on stdout."""
    done = run(*args, **options)
    err = done.stderr.decode()
    assert done.returncode == 1, (args, done.returncode, err)
    assert err.startswith("stackctl: "), err
    assert "Sanitizer" not in err and "runtime error" not in err, err
    assert done.stdout == b"", done.stdout
    return err


def in_terminal(*args, answers=None, env=None, columns=100):
    """Runs on a pseudo-terminal; gives what appears on it, and the exit status."""
    with FakeStackd(SOCKET, {**HEALTHY, **(answers or {})}):
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [STACKCTL, *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            close_fds=True,
            env={**ENVIRONMENT, "COLUMNS": str(columns), **(env or {})},
        )
        os.close(slave)
        text, deadline = b"", time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            try:
                data = os.read(master, 65536)
            except OSError:
                break
            if not data:
                break
            text += data
        os.close(master)
        return text.decode().replace("\r\n", "\n"), process.wait(TIMEOUT)


def main():
    print(f"1..{len(TESTS)}")
    failed = 0
    for number, function in enumerate(TESTS, 1):
        name = function.__name__.replace("_", " ")
        try:
            function()
            print(f"ok {number} - {name}", flush=True)
        except Exception:
            failed += 1
            print(f"not ok {number} - {name}", flush=True)
            for line in traceback.format_exc().splitlines():
                print(f"# {line}", flush=True)
    shutil.rmtree(DIRECTORY)
    return 1 if failed else 0
