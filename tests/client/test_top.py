# SPDX-License-Identifier: GPL-2.0-or-later
"""stackctl top on a pseudo-terminal: what is on the screen, what keys and signals do, and how the terminal is left."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

from fake_stackd import FRAMES, HEALTHY, HOSTILE, STATUS, VALUES, WINDOW, FakeStackd, Hold, error, frame, reply, summary
from harness import ENVIRONMENT, SOCKET, STACKCTL, TIMEOUT, bad, good, main, test

SECOND = 10**9  # ns
LEAVE = "\x1b[?1049l"
FUNCTIONS = [("alpha", "prog", 400, 900), ("beta", "libb.so", 300, 300), ("gamma", "prog", 200, 200), ("main", "prog", 0, 1000)]
# Of ten seconds, in ms; what it was in each second before.
USUAL = {"alpha": 40, "beta": 5}
STACKS = [("00000000000000b1", ["main", "alpha"], 400), ("00000000000000b2", ["main", "alpha", "beta"], 300), ("00000000000000b3", ["main", "gamma"], 200)]


def window(parameters):
    asked = parameters["filter"]
    return {**WINDOW, "since_us": asked["since_us"], "until_us": asked["until_us"]}


def seconds(parameters):
    return (parameters["filter"]["until_us"] - parameters["filter"]["since_us"]) / 10**6


def function(name, object, self, total):
    return {"stack": "", "frame": frame(name, object), "frames": [], "self": self, "total": total}


def get_top(parameters):
    """As stackd would; the time before is told by its length."""
    before = seconds(parameters) > 20
    if parameters["by"] == "stack":
        rows = [
            {"stack": s, "frame": frame(f[-1]), "frames": [frame(x) for x in f], "self": ms * 10**6, "total": ms * 10**6}
            for s, f, ms in STACKS
        ]
    elif before:
        rows = [function(n, o, int(USUAL[n] * 10**6 * seconds(parameters)), 0) for n, o, *_ in FUNCTIONS if n in USUAL]
    else:
        rows = [function(n, o, self * 10**6, total * 10**6) for n, o, self, total in FUNCTIONS]
    return reply(metric=parameters["metric"], window=window(parameters), total=SECOND, rows=rows[: parameters["limit"]])


def old_status(_):
    """Has run for two hours by the clock that stackctl looks at."""
    now = int(time.time() * 10**6)
    tiers = [{**STATUS["tiers"][0], "oldest_us": now - 7200 * 10**6}]
    return reply(status={**STATUS, "started_us": now - 7000 * 10**6, "tiers": tiers})


def get_stack(parameters):
    return reply(window=WINDOW, stack=summary(parameters["stack"]), points=[], slices=[{"process": HEALTHY["ListProcesses"][0]["parameters"]["processes"][0]["process"], "values": VALUES}])


ANSWERS = {"GetTop": [get_top], "GetStatus": [old_status], "GetStack": [get_stack]}


class Top:
    """stackctl top, in a session of its own on a terminal."""

    def __init__(self, *args, answers=None, lines=24, columns=100, env=None):
        self.fake = FakeStackd(SOCKET, {**HEALTHY, **ANSWERS, **(answers or {})})
        self.master, self.slave = pty.openpty()
        self.resize(lines, columns, tell=False)
        self.before = termios.tcgetattr(self.slave)
        self.text = ""
        self.process = subprocess.Popen(
            [STACKCTL, "top", *args],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**ENVIRONMENT, **(env or {})},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(TIMEOUT)
        os.close(self.master)
        os.close(self.slave)
        if self.fake:
            self.fake.__exit__()

    def stop_stackd(self):
        self.fake.__exit__()
        self.fake = None

    def resize(self, lines, columns, tell=True):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def press(self, keys):
        os.write(self.master, keys.encode())

    def read(self, timeout):
        if select.select([self.master], [], [], timeout)[0]:
            self.text += os.read(self.master, 65536).decode(errors="replace")

    def raw_screen(self):
        """The last picture that was drawn to its end, line by line."""
        pictures = re.findall(r"\x1b\[H((?:(?!\x1b\[H).)*?)\x1b\[J", self.text, re.S)
        return pictures[-1].replace("\x1b[K", "").replace("\r", "").split("\n") if pictures else []

    def screen(self):
        return [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in self.raw_screen()]

    def wait(self, condition, what=""):
        """Until the screen is so: a function of its lines, or a text that is on it."""
        deadline = time.monotonic() + 20
        holds = (lambda lines: any(condition in line for line in lines)) if isinstance(condition, str) else condition
        while not holds(self.screen()):
            assert time.monotonic() < deadline, (what or condition, self.screen(), self.text[-500:])
            self.read(0.05)
        return self.screen()

    def rows(self):
        return [line.split() for line in self.screen()[4:-1] if line.strip()]

    def wait_rows(self, names, column=-2):
        self.wait(lambda _: [row[column] for row in self.rows()] == names, names)

    def end(self):
        """The exit status and what was printed after the screen was left."""
        status = self.process.wait(TIMEOUT)
        while select.select([self.master], [], [], 0.1)[0]:
            self.read(0)
        assert termios.tcgetattr(self.slave) == self.before
        assert self.text.count(LEAVE) == 1 and "\x1b[?25h" in self.text and "\x1b[?7h" in self.text, self.text[-300:]
        assert "Sanitizer" not in self.text and "runtime error" not in self.text, self.text[-3000:]
        return status, self.text.split(LEAVE)[1]

    def leaves(self):
        self.press("q")
        assert self.end() == (0, "")


@test
def shows_rates_shares_and_deltas():
    with Top() as top:
        lines = top.wait("alpha")
        top.wait_rows(["alpha", "beta", "gamma", "main"])
        lines = top.screen()
        assert "last 10s" in lines[0] and "load 1.25" in lines[0] and "12 lost" in lines[0], lines[0]
        assert "on-cpu by function" in lines[1] and "100ms/s in all" in lines[1] and "delta to the last 15min" in lines[1], lines[1]
        alpha, beta, gamma, _ = top.rows()
        # 400 ms in 10 s is 40 ms/s, as usual; beta 30 ms/s where 5 are; gamma is new.
        assert alpha[:3] == ["90.0%", "40.0%", "40.0ms/s"] and alpha[3][1:] == "0ns/s", alpha
        assert beta[3] == "+25.0ms/s" and gamma[3] == "new", (beta, gamma)
        assert any("\x1b[0;1;31m" in line and "25.0ms" in line for line in top.raw_screen()), top.raw_screen()
        assert len(lines) == 24 and max(map(len, lines)) <= 100
        top.leaves()


@test
def asks_again_each_second_or_as_told():
    def answered(*args, within):
        with Top(*args) as top:
            top.wait("alpha")
            first = len(top.fake.calls)
            deadline = time.monotonic() + within
            while time.monotonic() < deadline:
                top.read(0.05)
            calls = [c for c in top.fake.calls[first:] if c[0] == "GetTop" and seconds(c[1]) < 20]
            top.leaves()
        return calls

    calls = answered(within=2.5)
    assert 1 <= len(calls) <= 3, calls
    assert len({c[1]["filter"]["until_us"] for c in calls}) == len(calls)
    assert len(answered("-d", "200ms", within=2)) >= 4
    assert answered("--delay=1h", within=1) == []
    assert "as a delay" in bad("top", "-d", "0") and "as a delay" in bad("top", "-d", "2h")


@test
def window_and_filter_are_those_of_the_options():
    with Top("--since=2min", "--unit=backup", "-m", "blocked", "--by=stack") as top:
        top.wait("blocked by stack")
        call = [c for c in top.fake.calls if c[0] == "GetTop"][-1][1]
        assert abs(seconds(call) - 120) < 1 and call["filter"]["unit"] == "backup" and call["metric"] == "blocked", call
        top.leaves()


@test
def keys_choose_the_metric():
    with Top() as top:
        top.wait("on-cpu by function")
        for key, metric in [("2", "blocked"), (">", "runnable"), ("<", "blocked"), ("5", "faults-major"), ("9", "heap"), ("0", "off-cpu"), (">", "faults-anon"), (">", "on-cpu"), ("<", "faults-anon"), ("<", "off-cpu")]:
            top.press(key)
            top.wait(metric + " by function")
            # What was usual of another metric is not taken for this one's.
            asked = [c[1] for c in top.fake.calls if c[0] == "GetTop"][-2:]
            assert [p["metric"] for p in asked] == [metric.replace("-", "_")] * 2, asked
            assert seconds(asked[0]) > 20 > seconds(asked[1]), asked
        top.leaves()


@test
def keys_choose_the_order():
    with Top() as top:
        top.wait_rows(["alpha", "beta", "gamma", "main"])
        top.press("c")
        top.wait_rows(["main", "alpha", "beta", "gamma"])
        top.press("d")
        top.wait_rows(["beta", "gamma", "alpha", "main"])
        top.press("s")
        top.wait_rows(["alpha", "beta", "gamma", "main"])
        # "main" has nothing itself: it is among what is asked for only when all is.
        # The order may change before the next answer is there.
        top.press("c")
        top.wait(lambda _: {c[1]["limit"] for c in top.fake.calls if c[0] == "GetTop" and seconds(c[1]) < 20} == {200, 10000}, "limits")
        top.leaves()


@test
def filter_by_text():
    with Top() as top:
        top.wait_rows(["alpha", "beta", "gamma", "main"])
        top.press("/LIBx")
        top.wait("Filter: LIBx_")
        top.press("\x7f\r")
        top.wait_rows(["beta"])
        top.wait("with LIB")
        top.press("/\x15A\x1b")
        top.wait(lambda lines: "Filter" not in lines[-1])
        assert [row[-2] for row in top.rows()] == ["beta"]
        top.press("\x1b")
        top.wait_rows(["alpha", "beta", "gamma", "main"])
        top.press("/nothing like it\r")
        top.wait("-- Nothing recorded --")
        top.press("\r")
        top.leaves()


@test
def freeze_and_go_on():
    with Top("-d", "200ms") as top:
        top.wait("alpha")
        top.press(" ")
        top.wait("FROZEN")
        time.sleep(0.3)
        n, head = len(top.fake.calls), top.screen()[0]
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            top.read(0.05)
        assert len(top.fake.calls) == n and top.screen()[0] == head
        # Another metric, of the same window.
        until = [c for c in top.fake.calls if c[0] == "GetTop"][-1][1]["filter"]["until_us"]
        top.press("2")
        top.wait("blocked by function")
        assert [c for c in top.fake.calls if c[0] == "GetTop"][-1][1]["filter"]["until_us"] == until
        top.press(" ")
        top.wait(lambda lines: lines and "FROZEN" not in lines[2])
        deadline = time.monotonic() + 10
        while len(top.fake.calls) < n + 6 and time.monotonic() < deadline:
            top.read(0.05)
        assert len(top.fake.calls) >= n + 6
        top.leaves()


@test
def from_a_function_to_its_stacks_to_their_frames_and_back():
    with Top() as top:
        top.wait("alpha")
        top.press("\x1b[B\r")
        lines = top.wait("by stack")
        assert any("beta < alpha < main" in line for line in lines) and not any("gamma" in line for line in lines), lines
        assert "through beta" in lines[2], lines[2]
        top.press("\x1b[C")
        lines = top.wait("Stack 00000000000000b2")
        # The innermost first, then its sums and its processes.
        assert lines[3].split()[:2] == ["0", "vfs_read"] and any("2.50s" in line for line in lines), lines
        assert any("1234" in line and "gzip" in line for line in lines), lines
        top.press("\x1b[D")
        top.wait("by stack")
        top.press("\x1b")
        top.wait_rows(["alpha", "beta", "gamma", "main"])
        top.press("\t")
        top.wait("gamma < main")
        top.press("\t")
        top.wait_rows(["alpha", "beta", "gamma", "main"])
        top.leaves()


@test
def stack_that_is_gone_is_said_on_the_screen():
    with Top("--by=stack", answers={"GetStack": [error("NotFound", what="stack 00000000000000b1")]}) as top:
        top.wait("alpha < main")
        top.press("\r")
        top.wait("No such stack recorded: 00000000000000b1")
        top.press("j")
        top.wait(lambda lines: "No such" not in lines[-1])
        top.leaves()


@test
def row_in_hand_is_always_seen():
    rows = [function(f"f{i:03}", "prog", 1000 - i, 1000 - i) for i in range(200)]
    answer = lambda p: reply(metric="on_cpu", window=window(p), total=SECOND, rows=rows)

    def in_hand(top):
        return [re.search(r"f\d\d\d", line)[0] for line in top.raw_screen() if "\x1b[7m" in line]

    with Top(answers={"GetTop": [answer]}) as top:
        top.wait("f000")
        assert in_hand(top) == ["f000"]
        for keys, row in [("jj", "f002"), ("k", "f001"), ("\x1bOB", "f002"), ("\x1b[6~", "f021"), ("\x1b[F", "f199"), ("\x1b[5~", "f180"), ("\x1b[A", "f179"), ("\x1b[1~", "f000"), ("\x1b[A", "f000")]:
            top.press(keys)
            top.wait(lambda _: in_hand(top) == [row], (keys, row))
        top.leaves()


@test
def help_tells_the_keys():
    with Top(lines=30) as top:
        top.wait("alpha")
        top.press("h")
        top.wait("by delta")
        top.press("\x1b")
        top.wait("alpha")
        top.leaves()


@test
def screen_follows_the_size():
    rows = [function("f" * 200, "o" * 90, 1, 1)] * 100
    answer = lambda p: reply(metric="on_cpu", window=window(p), total=SECOND, rows=rows)
    with Top(answers={"GetTop": [answer]}) as top:
        top.wait(lambda lines: len(lines) == 24 and len(lines[10]) == 100)
        for lines, columns in [(40, 132), (10, 75), (5, 20), (1, 1), (24, 80)]:
            top.resize(lines, columns)
            # A line of fewer columns than the figures take is cut off by the terminal.
            top.wait(lambda text: len(text) == lines and (columns < 75 or max(map(len, text)) == columns), (lines, columns))
        top.leaves()


@test
def terminal_is_restored_however_it_ends():
    for number in [signal.SIGTERM, signal.SIGHUP]:
        with Top() as top:
            top.wait("alpha")
            top.process.send_signal(number)
            assert top.end() == (-number, ""), number
    with Top() as top:
        top.wait("alpha")
        top.press("\x03")
        assert top.end()[0] == -signal.SIGINT
    # Also while stackd doesn't answer.
    with Top(answers={"GetTop": [Hold()]}) as top:
        top.wait("Waiting for stackd")
        top.process.terminate()
        assert top.end()[0] == -signal.SIGTERM


@test
def terminal_is_given_to_the_shell_meanwhile():
    with Top() as top:
        top.wait("alpha")
        for _ in range(2):
            top.press("\x1a")
            deadline = time.monotonic() + 10
            while os.waitpid(top.process.pid, os.WUNTRACED | os.WNOHANG) == (0, 0):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert termios.tcgetattr(top.slave) == top.before
            while LEAVE not in top.text:
                top.read(1)
            top.text = ""
            top.process.send_signal(signal.SIGCONT)
            top.wait("alpha")
            assert termios.tcgetattr(top.slave) != top.before
        top.leaves()


@test
def end_of_stackd_is_told_on_the_terminal_as_it_was():
    with Top() as top:
        top.wait("alpha")
        top.stop_stackd()
        status, text = top.end()
        assert status == 1 and re.fullmatch(r"stackctl: Can't connect to \S+: .*Is stackd running\? See: .*\r\n", text), text
    with Top(answers={"GetTop": [lambda p: get_top(p) if seconds(p) > 20 else b"{}junk\0"]}) as top:
        status, text = top.end()
        assert status == 1 and "no answer of stackd's" in text, text


@test
def terminal_is_not_touched_when_there_is_no_stackd():
    with Top("--socket=/nowhere") as top:
        status = top.process.wait(TIMEOUT)
        top.read(1)
        assert status == 1 and "No such file" in top.text and "\x1b" not in top.text, top.text


@test
def hostile_names_and_failures_do_no_harm():
    rows = [function(HOSTILE, HOSTILE, 1, 1)]
    stacks = [{"stack": "00000000000000b1", "frame": frame(HOSTILE), "frames": [frame(HOSTILE)] * 3, "self": 1, "total": 1}]
    answer = lambda p: reply(metric="on_cpu", window=window(p), total=1, rows=stacks if p["by"] == "stack" else rows)
    with Top(answers={"GetTop": [answer], "GetStack": [error("NotFound", what=HOSTILE)]}) as top:
        top.wait("\\x1b[31mred")
        top.press("\r")
        top.wait("through \\x1b[31mred")
        top.wait("by stack")
        top.press("\r")
        top.wait("Not recorded: \\x1b[31mred")
        top.press("\x1b")
        top.leaves()
        assert "\x1b[31m" not in top.text and "\u202e" not in top.text and "\x07" not in top.text


@test
def what_is_usual_is_not_told_before_it_is_known():
    def young(_):
        now = int(time.time() * 10**6)
        return reply(status={**STATUS, "started_us": now - 30 * 10**6, "tiers": []})

    with Top(answers={"GetStatus": [young]}) as top:
        top.wait("what is usual is not known yet")
        assert {row[3] for row in top.rows()} == {"-"}
        assert all(seconds(c[1]) < 20 for c in top.fake.calls if c[0] == "GetTop")
        top.leaves()


@test
def printed_once_unless_it_is_for_a_terminal():
    for args in [["-b"], ["-n", "5"], ["--json"], ["--until=now"]]:
        with Top(*args, answers={"GetTop": HEALTHY["GetTop"]}, env={"SYSTEMD_PAGER": "cat"}) as top:
            assert top.process.wait(TIMEOUT) == 0
            top.read(1)
            assert LEAVE not in top.text and "prog" in top.text, (args, top.text)
    assert "\x1b" not in good("top").out and good("top", "-b").out == good("top").out


if __name__ == "__main__":
    sys.exit(main())
