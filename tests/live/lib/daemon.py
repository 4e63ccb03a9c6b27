# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the freshly built daemon as its unit would, and asks it through its socket and through stackctl."""
import collections
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from . import varlink
from .environment import NOBODY, program, tool
from .tap import check, note

Stack = collections.namedtuple("Stack", "id comm value truncated frames")  # frames: dicts, innermost first


class Flame:
    """A decoded GetFlame."""

    def __init__(self, metric, replies):
        self.metric = metric
        frames = [frame for reply in replies for frame in reply["frames"]]
        self.total = replies[-1]["total"]
        self.window = replies[-1]["window"]
        self.stacks = [
            Stack(
                row["stack"],
                row["comm"],
                row["value"],
                row["truncated"],
                [frames[i] for i in reversed(row["frames"])],
            )
            for reply in replies
            for row in reply["stacks"]
        ]

    def sum(self):
        return sum(stack.value for stack in self.stacks)

    def with_function(self, function):
        return sum(s.value for s in self.stacks if any(f["name"] == function for f in s.frames))

    def self_weights(self):
        weights = collections.Counter()
        for stack in self.stacks:
            if stack.frames:
                weights[(stack.frames[0]["name"], stack.frames[0]["object"])] += stack.value
        return weights

    def names(self):
        return {frame["name"] for stack in self.stacks for frame in stack.frames}


class Daemon:
    def __init__(self, config=None, state_dir=None, realtime=True):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="stackd-live-"))
        self.dir.chmod(0o755)
        self.socket_path = str(self.dir / "stackd.sock")
        self.config_path = self.dir / "stackd.conf"
        self.log_path = self.dir / "log"
        self.state_dir = pathlib.Path(state_dir) if state_dir else self.dir / "state"
        self.state_dir.mkdir(exist_ok=True)
        self.realtime = realtime
        self.notifications = []
        self.process = None
        self.write_config(config or {})

    def write_config(self, config):
        """config: {"Gate": {"OpenAbove": 5.0}}, or the text itself."""
        if not isinstance(config, str):
            config = "".join(
                f"[{section}]\n" + "".join(f"{k}={v}\n" for k, v in keys.items())
                for section, keys in config.items()
            )
        # What tests compare exactly must not depend on what else the machine does.
        if "CPUBudget" not in config:
            config += "[Collect]\nCPUBudgetClosed=100\nCPUBudgetOpen=100\n"
        self.config_path.write_text(config)

    # ---- life ----

    def command(self):
        wrapper = [tool("setpriv"), "--pdeathsig", "KILL"]
        if self.realtime:
            wrapper += [tool("chrt"), "--rr", "1"]
        return wrapper + [
            program("stackd"),
            "--foreground",
            "--config",
            str(self.config_path),
            "--socket",
            self.socket_path,
            "--state-dir",
            str(self.state_dir),
            "--log-level",
            "debug",
        ]

    def _listen_for_notifications(self):
        path = self.dir / "notify"
        path.unlink(missing_ok=True)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(str(path))
        notifications = self.notifications = []

        def listen():
            while True:
                notifications.append((time.monotonic(), receiver.recv(4096).decode(errors="replace")))

        threading.Thread(target=listen, daemon=True).start()
        return str(path)

    def _as_the_unit_does(self):
        """Containers may not lower their score; there the daemon is as likely a victim as any."""
        with contextlib.suppress(PermissionError), open("/proc/self/oom_score_adj", "w") as f:
            f.write("-900")

    def spawn(self):
        """Starts it and does not wait."""
        self.process = None
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": self._listen_for_notifications(),
            "WATCHDOG_USEC": "30000000",
        }
        environment.pop("JOURNAL_STREAM", None)
        self.spawned = time.monotonic()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                preexec_fn=self._as_the_unit_does,
            )
        return self

    def wait_for_notification(self, text, timeout=30, since=0.0):
        """When a notification with this text came in, on the monotonic clock."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for when, message in list(self.notifications):
                if when >= since and text in message.split("\n"):
                    return when
            check(
                self.process.poll() is None,
                f"the daemon ended with {self.process.returncode} before {text}:\n{self.log_tail()}",
            )
            time.sleep(0.02)
        check(False, f"no {text} within {timeout} s:\n{self.log_tail()}")

    def reload(self, config):
        """Returns when the new configuration was taken, or refused."""
        self.write_config(config)
        asked = time.monotonic()
        self.process.send_signal(signal.SIGHUP)
        self.wait_for_notification("READY=1", since=asked)

    def start(self):
        self.spawn()
        self.ready_after = self.wait_for_notification("READY=1") - self.spawned
        return self

    def stop(self):
        """An orderly end; gives the exit code."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        return self.process.returncode

    def remove(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.remove()

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines=25):
        return "\n".join(self.log().splitlines()[-lines:])

    def note_log(self):
        note(self.log_tail())

    # ---- questions ----

    def client(self, timeout=20, uid=None):
        """A connection; with uid, one that the daemon sees as that user's."""
        with identity(uid):
            return varlink.Client(self.socket_path, timeout)

    def replies(self, method, parameters=None, more=True):
        with self.client() as client:
            return list(client.replies("org.stackd." + method, parameters, more))

    def call(self, method, parameters=None):
        return self.replies(method, parameters, more=False)[0]

    def status(self):
        return self.call("GetStatus")["status"]

    def flame(self, metric, exact=False, **filter):
        """Empty when nothing is known, of that process or at all."""
        try:
            return Flame(metric, self.replies("GetFlame", {"metric": metric, "filter": filter, "exact": exact}))
        except varlink.VarlinkError as error:
            if error.name != "org.stackd.NotFound":
                raise
            return Flame(metric, [{"frames": [], "stacks": [], "total": 0, "window": None}])

    def set_gate(self, mode, seconds=None):
        parameters = {"mode": mode}
        if seconds is not None:
            parameters["duration_us"] = int(seconds * 1e6)
        return self.call("SetGate", parameters)["gate"]

    def stackctl(self, *arguments, user=None, check_exit=True, timeout=30):
        command = [program("stackctl"), "--socket", self.socket_path, *map(str, arguments)]
        if user is not None:
            command = [*as_user(user), *command]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
        )
        if check_exit:
            check(
                result.returncode == 0,
                f"stackctl {' '.join(map(str, arguments))} gave {result.returncode}: {result.stderr}",
            )
        return result

    def stackctl_json(self, *arguments, **options):
        """What --json prints: one object a reply."""
        text = self.stackctl(*arguments, "--json", **options).stdout
        decoder, position, values = json.JSONDecoder(), 0, []
        while text[position:].strip():
            position += len(text[position:]) - len(text[position:].lstrip())
            value, position = decoder.raw_decode(text, position)
            values.append(value)
        return values[0] if len(values) == 1 else values

    # ---- time ----

    def wait_ticks(self, n=2, timeout=30):
        """Until n more ticks are stored, so that what is over by now is in."""
        target = self.status()["ticks"] + n
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.status()["ticks"] >= target:
                return
            time.sleep(0.1)
        check(False, f"{n} ticks took longer than {timeout} s")

    def settled_flame(self, metric, function=None, timeout=30, **filter):
        """A flame of what is over, once it no longer changes: names may take a while on a busy machine."""
        self.wait_ticks(3)
        value, deadline = None, time.monotonic() + timeout
        while True:
            flame = self.flame(metric, **filter)
            before, value = value, flame.with_function(function) if function else flame.total
            if (value and value == before) or time.monotonic() > deadline:
                return flame
            self.wait_ticks(2)

    def account_flame(self, metric, account, timeout=15, **filter):
        """A flame of what is over, once it has the values by function that it should have, or when the time is over: the names of some stacks
        may come later than those of others."""
        self.wait_ticks(3)
        deadline = time.monotonic() + timeout
        while True:
            flame = self.flame(metric, **filter)
            if all(flame.with_function(f) == value for f, value in account.items()) or time.monotonic() > deadline:
                return flame
            self.wait_ticks(1)

    @contextlib.contextmanager
    def tick_keeper(self):
        """Within it the daemon must keep its ticks."""
        before = self.status()
        yield
        check_ticks(before, self.status())

    # ---- itself ----

    def pids(self):
        status = self.status()
        return [pid for pid in (status["pid"], status["opener_pid"], status["parser_pid"]) if pid]

    def descriptors(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids())

    def limit_used(self, name):
        return next(limit for limit in self.status()["limits"] if limit["name"] == name)["used"]

    def descriptor_infos(self):
        """What the kernel says of each of the daemon's descriptors, those of BPF's maps and links among them."""
        directory = f"/proc/{self.process.pid}/fdinfo"
        for fd in os.listdir(directory):
            try:
                with open(f"{directory}/{fd}") as f:
                    yield {key: value.strip() for key, value in (line.split(":", 1) for line in f if ":" in line)}
            except FileNotFoundError:
                pass  # it was closed meanwhile

    def private_kib(self):
        """Resident memory of all three processes but for the arena, which is shared and has a size of its own."""
        return sum(resident_kib(pid)[0] for pid in self.pids())


def resident_kib(pid):
    """(private, shared)"""
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    kib = {key: int(fields[key].split()[0]) for key in ("RssAnon", "RssFile", "RssShmem")}
    return kib["RssAnon"] + kib["RssFile"], kib["RssShmem"]


def check_ticks(before, after):
    """Between two states none was missed, and there was one a second."""
    seconds = (after["now_us"] - before["now_us"]) / 1e6
    missed = after["ticks_missed"] - before["ticks_missed"]
    ticks = after["ticks"] - before["ticks"]
    note(
        f"{ticks} ticks in {seconds:.1f} s, {missed} missed, the costliest {after['tick_cost_max_ns'] / 1e6:.1f} ms"
    )
    check(missed == 0, f"{missed} ticks were missed")
    check(ticks >= seconds - 2, f"only {ticks} ticks in {seconds:.1f} s")


@contextlib.contextmanager
def identity(uid):
    """This process is an ordinary user within; the socket remembers who connected."""
    if uid is None:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def as_user(uid=NOBODY):
    """A prefix that runs a command as an ordinary user."""
    return [tool("setpriv"), "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]


def kill(pid):
    os.kill(pid, signal.SIGKILL)
