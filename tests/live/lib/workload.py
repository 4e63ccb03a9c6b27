# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts the workloads of tests/live/workloads and reads their own account."""
import json
import os
import signal
import subprocess

from .environment import program


class Workload:
    """Held back until go(), and lingers after its work until finish(), so that it can be looked at alive."""

    def __init__(self, name, path=None, prefix=(), hold=True, linger=True, **options):
        command = [*prefix, path or program("wl_" + name)]
        for key, value in options.items():
            command += ["--" + key.replace("_", "-"), str(value)]
        if hold:
            command.append("--hold")
        if linger:
            command.append("--linger")
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self._line()
        self.pid = self.ready["pid"]
        self.account = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self.process.wait()}")
        return json.loads(line)

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self

    def result(self):
        """Waits until it has done its work."""
        if self.account is None:
            self.account = self._line()
        return self.account

    def signal(self, number):
        os.kill(self.pid, number)

    def finish(self):
        account = self.result()
        self.process.stdin.close()
        self.process.wait(timeout=20)
        return account

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream.close()
            except BrokenPipeError:
                pass
