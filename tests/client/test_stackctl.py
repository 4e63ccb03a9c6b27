#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""stackctl against a scripted server: what a user sees, what is asked, and what happens when things go wrong."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from fake_stackd import *  # noqa: F403

STACKCTL = sys.argv[1]
FOLDED = re.compile(r"^(.*)\s+(\d+)$")
TIMEOUT = 60
DIRECTORY = tempfile.mkdtemp(prefix="stackctl-test-")
SOCKET = os.path.join(DIRECTORY, "org.stackd")
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("SYSTEMD_", "NO_COLOR", "COLUMNS", "LC_"))}
ENVIRONMENT.update(STACKD_SOCKET=SOCKET, TZ="UTC", LANG="C.UTF-8", TERM="xterm")
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
        process = subprocess.Popen([STACKCTL, *args], stdin=slave, stdout=slave, stderr=slave, close_fds=True,
                                   env={**ENVIRONMENT, "COLUMNS": str(columns), **(env or {})})
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


# ---- every verb ----

@test
def status_is_readable():
    done = good("status")
    for line in ["stackd 0.1.0 on Linux 6.1.0-18-amd64, 8 CPUs", "2h 3min ago", "closed (load-low) since Mon 2026-11-23 09:59:00 UTC",
                 "auto, opens above 5, closes below 4", "0.42 runnable tasks per CPU (by runqueues)", "7381, 0 missed", "on-cpu by perf_event 49 Hz",
                 "off-cpu by tp_btf sched_switch", "on-cpu 99.1%, blocked 98.0%", "Losses: none", "stacks 1.20k of 16.4k", "arena 1.0M of 64.0M",
                 "1s steps since 2026-11-23 09:45:00: 100k points", "1.38 bytes a point", "30.0M resident, 12.0M of BPF maps",
                 "73.8s, 1.00% of one CPU", "3 found, 1 suppressed; 1 false alarm a day allowed, told from 1 in 3e7", "3 sent"]:
        assert line in done.out, (line, done.out)
    assert "\x1b" not in done.out
    assert good().out.splitlines()[0] == done.out.splitlines()[0], "no verb is status"


@test
def status_shows_losses_by_cause():
    status = {**STATUS, "losses": [{"cause": "stacks-full", "count": 1234}, {"cause": "quiet", "count": 0}, {"cause": HOSTILE, "count": 5}]}
    done = good("status", answers={"GetStatus": [reply(status=status)]})
    assert "Losses: 1234 stacks-full, 5 \\x1b[31mred" in done.out, done.out
    assert "quiet" not in done.out and "\x1b" not in done.out


@test
def status_report_has_everything():
    done = good("status", "--report")
    document = json.loads(done.out[done.out.index("\n{\n"):])
    assert document["status"] == STATUS and document["gate_history"] == HISTORY
    assert set(document["client"]) == {"version", "system", "kernel", "kernel_version", "machine"}
    assert json.loads(good("status", "--report", "--json").out) == document


@test
def anomalies_oldest_first():
    done = good("anomalies")
    lines = done.out.splitlines()
    assert lines[0].split() == ["TIME", "TYPE", "METRIC", "EXPECTED", "OBSERVED", "FUNCTION", "PROCESS", "UNIT", "CHANCE", "STACK", "ID"]
    assert [line.split()[-1] for line in lines[1:]] == ["1", "2", "3"]
    assert re.split(r"\s{2,}", lines[1]) == ["Nov 23 09:58:21", "level-shift", "blocked", "120ms/s", "1.80s/s", "do work(int)", "gzip[1234]",
                                             "backup.service", "1 in 2e7", "00000000000000bb", "1"], lines[1]
    assert "TIME" not in good("anomalies", "--no-legend").out


@test
def anomalies_ask_for_what_was_said():
    done = good("anomalies", "--since", "2026-11-23 09:00", "--until=@1795428000.5", "--pid", "12", "--unit=a.service", "--cgroup", "/x",
                "--comm=c", "--exe=/e", "--type", "level-shift", "-n", "7")
    assert done.calls == [("ListAnomalies", {"filter": {"pid": 12, "unit": "a.service", "cgroup": "/x", "comm": "c", "exe": "/e",
                                                        "since_us": 1795424400000000, "until_us": 1795428000500000},
                                             "type": "level_shift", "limit": 7}, MORE)], done.calls
    before = time.time()
    since = good("anomalies", "--since", "10m").calls[0][1]["filter"]["since_us"] / 1e6
    assert before - 601 < since < time.time() - 599


@test
def anomalies_in_pages():
    pages = [reply(True, anomalies=[anomaly(4), anomaly(3)], missed=0), reply(anomalies=[anomaly(2), anomaly(1)], missed=0)]
    done = good("anomalies", "--no-legend", answers={"ListAnomalies": pages})
    assert [line.split()[-1] for line in done.out.splitlines()] == ["1", "2", "3", "4"]
    document = json.loads(good("anomalies", "--json", answers={"ListAnomalies": pages}).out)
    assert [a["id"] for a in document["anomalies"]] == [1, 2, 3, 4]


@test
def no_anomalies():
    nothing = {"ListAnomalies": [reply(anomalies=[], missed=0)]}
    assert good("anomalies", answers=nothing).out == "-- No anomalies --\n"
    assert good("anomalies", "-q", answers=nothing).out == ""
    assert json.loads(good("anomalies", "--json", answers=nothing).out) == {"anomalies": [], "missed": 0}


@test
def anomalies_with_odd_values():
    odd = anomaly(1, process=None, unit="", cgroup="", frames=[], score=400.0, p_value=0.0, metric="faults_minor", observed=0.25)
    line = good("anomalies", "--no-legend", answers={"ListAnomalies": [reply(anomalies=[odd], missed=0)]}).out
    assert re.split(r"\s{2,}", line.strip())[2:] == ["faults-minor", "120M faults/s", "0.25 faults/s", "-", "-", "-", "1 in 1e400", "00000000000000bb", "1"], line


@test
def anomalies_follow():
    stream = [reply(True, anomalies=[anomaly(1)], missed=0), Sleep(0.5), reply(True, anomalies=[anomaly(2)], missed=3), Hold()]
    with FakeStackd(SOCKET, {"ListAnomalies": stream}) as fake:
        process = subprocess.Popen([STACKCTL, "anomalies", "-f", "--no-legend"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
        first, second = process.stdout.readline(), process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
    assert first.split()[-1] == b"1" and second.split()[-1] == b"2" and out == b""
    assert b"3 anomalies were missed" in err, err
    assert process.returncode == -signal.SIGINT, process.returncode
    assert fake.calls == [("ListAnomalies", {"limit": 10, "follow": True}, MORE)], fake.calls


@test
def anomalies_follow_json_is_a_document_a_line():
    stream = [reply(True, anomalies=[anomaly(1), anomaly(2)], missed=0), reply(anomalies=[anomaly(3)], missed=0)]
    lines = good("anomalies", "-f", "--json=short", answers={"ListAnomalies": stream}).out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [1, 2, 3]


@test
def follow_ends_when_the_reader_has_gone():
    stream = [reply(True, anomalies=[anomaly(1)], missed=0), Hold()]
    with FakeStackd(SOCKET, {"ListAnomalies": stream}):
        begin = time.monotonic()
        done = subprocess.run(["bash", "-c", '"$0" anomalies -f --no-legend | head -1; echo "${PIPESTATUS[0]}"', STACKCTL], capture_output=True,
                              timeout=TIMEOUT, env=ENVIRONMENT)
    assert time.monotonic() - begin < 20
    assert done.stderr == b"" and done.stdout.splitlines()[-1] == b"0", done


@test
def follow_says_when_the_server_dies():
    stream = [reply(True, anomalies=[anomaly(1)], missed=0), Close()]
    done = run("anomalies", "-f", answers={"ListAnomalies": stream})
    assert done.returncode == 1 and "closed the connection" in done.err and " 1\n" in done.out


@test
def flame_is_folded():
    done = good("flame", "--pid=12", "--metric", "off-cpu", "--stack=00000000000000BB")
    assert done.out == "my_prog;main;do_work(int);vfs_read_[k] 500\ngzip;[truncated];do_work(int);read 200\n", done.out
    assert done.err == ""
    assert done.calls == [("GetFlame", {"metric": "off_cpu", "filter": {"pid": 12}, "stack": "00000000000000bb"}, MORE)]


@test
def flame_goes_on_over_pages():
    pages = [flame(frames=[frame("main")], stacks=[], continues=True)]
    for i in range(1, 300):
        row = {"stack": f"{i:016x}", "value": i, "truncated": False, "comm": "c;d", "frames": [0, i, i - 1]}
        pages.append(flame(frames=[frame(f"f{i}")], stacks=[row], continues=i < 299))
    done = good("flame", answers={"GetFlame": pages})
    lines = done.out.splitlines()
    assert len(lines) == 299 and lines[-1] == "c:d;main;f299;f298 299", lines[-1]
    document = json.loads(good("flame", "--json", answers={"GetFlame": pages}).out)
    assert len(document["frames"]) == 300 and document["stacks"][-1]["frames"] == [0, 299, 298] and document["total"] == 700


@test
def flame_lines_can_be_read_back():
    names = ["a b", "x;y", "tab\there", "new\nline", "cr\rlf", "nbsp\u00a0em\u2003sep\u2028x", "trailing 12", "", " ", "caf\u00e9", HOSTILE, "\u0085", "a" * 5000]
    frames = [frame(name) for name in names]
    row = {"stack": "00000000000000bb", "value": 7, "truncated": False, "comm": "we ird;\n", "frames": list(range(len(names)))}
    out = good("flame", answers={"GetFlame": [flame(frames=frames, stacks=[row])]}).out
    assert out.count("\n") == 1 and "\x1b" not in out
    stack, value = FOLDED.match(out.rstrip("\n")).groups()
    assert value == "7" and len(stack.split(";")) == 1 + len(names), stack.split(";")
    assert len(out.encode().split()) == 2, "but for the one before the value there are no blanks"


@test
def flame_verbose_tells_the_window_apart():
    done = good("flame", "-v")
    assert "12 lost" in done.err and "on-cpu from 2026-11-23 09:45:00 to 2026-11-23 10:00:00" in done.err, done.err
    assert all(FOLDED.match(line) for line in done.out.splitlines())


@test
def empty_flame():
    nothing = {"GetFlame": [flame(frames=[], stacks=[], total=0)]}
    done = good("flame", answers=nothing)
    assert done.out == "" and "Nothing was recorded" in done.err
    assert good("flame", "-q", answers=nothing).err == ""


@test
def top_by_function():
    done = good("top", "-n", "2", "--by=function", "-m", "on-cpu")
    rows = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()]
    assert rows == [["CHILDREN%", "SELF%", "SELF", "FUNCTION", "OBJECT"], ["90.0%", "70.0%", "700ms", "do work(int)", "prog"],
                    ["30.0%", "30.0%", "300ms", "vfs_read", "[kernel]"]], rows
    assert done.calls == [("GetTop", {"by": "function", "metric": "on_cpu", "limit": 2}, MORE)], done.calls


@test
def top_by_stack():
    row = {"stack": "00000000000000bb", "frame": frame("vfs_read", "[kernel]", "kernel"), "frames": FRAMES, "self": 10, "total": 10}
    done = good("top", "--by", "stack", answers={"GetTop": [reply(metric="hits", window=WINDOW, total=40, rows=[row])]})
    assert re.split(r"\s{2,}", done.out.splitlines()[1].strip()) == ["25.0%", "10 hits", "00000000000000bb", "vfs_read", "[kernel]"], done.out
    assert good("top", answers={"GetTop": [reply(metric="hits", window=WINDOW, total=0, rows=[])]}).out == "-- No functions --\n"


@test
def stacks_list():
    done = good("stacks", "--pid", "1234", "-n", "all")
    rows = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()]
    assert rows[1] == ["00000000000000bb", "2.50s", "83.3%", "vfs_read < entry_SYSCALL_64 < read < 2 more"], rows
    assert rows[2][-1].endswith("< 2 more < [truncated]")
    assert done.calls[0][1]["filter"] == {"pid": 1234} and done.calls[0][1]["limit"] == 10000


@test
def stacks_one():
    done = good("stacks", "00000000000000bb", "--since=@1795427100")
    assert done.calls == [("GetStack", {"stack": "00000000000000bb", "filter": {"since_us": 1795427100000000}}, MORE)]
    assert "Stack 00000000000000bb, from 2026-11-23 09:45:00 to 2026-11-23 10:00:00" in done.out
    lines = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()]
    assert ["0", "vfs_read", "[kernel]", "kernel"] in lines and ["4", "main", "prog", "user"] in lines
    spark = next(line for line in lines if line[0] == "on-cpu")
    assert spark[1:3] == ["2.50s", "899us/s"] and len(spark[3]) == 60 and spark[3][0] == "█" and spark[3][-1] == "▁", spark
    assert ["1234", "gzip", "backup.service", "2.50s", "7.00s", "0ns", "4.20k", "Nov 23 09:00:00"] in lines, lines


@test
def stacks_series_of_mixed_steps():
    points = [point(60 * m, 60, on_cpu=60 * 10**9) for m in range(14, 0, -1)] + [point(s, 1, on_cpu=10**9) for s in range(59, -1, -1)]
    done = good("stacks", "00000000000000bb", answers={"GetStack": [reply(window=WINDOW, stack=summary(), points=points, slices=[])]})
    line = next(line for line in done.out.splitlines() if line.startswith("on-cpu"))
    assert "1.00s/s" in line and line.endswith("█" * 60), line


@test
def processes_list():
    done = good("processes", "-u", "backup")
    assert re.split(r"\s{2,}", done.out.splitlines()[1].strip()) == ["1234", "gzip", "Nov 23 09:00:00", "backup.service", "2.50s", "7.00s", "0ns",
                                                                     "4.20k", "0"], done.out
    assert done.calls == [("ListProcesses", {"filter": {"unit": "backup"}}, MORE)]


@test
def gate_shows_history_oldest_first():
    out = good("gate").out
    rows = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines() if line]
    assert rows[-3:] == [["TIME", "STATE", "LOAD", "CAUSE"], ["Nov 23 09:58:00", "open", "7.25", "load"],
                         ["Nov 23 09:59:00", "closed", "0.40", "load-low"]], rows
    assert "closed (load-low) since" in out
    assert good("gate", "-n1").out.splitlines()[-1].endswith("load-low") and "7.25" not in good("gate", "-n1").out


@test
def gate_is_set():
    done = good("gate", "open", "--for", "60s")
    assert done.calls == [("SetGate", {"mode": "open", "duration_us": 60000000}, MORE)]
    assert "held open until Mon 2026-11-23 10:01:00 UTC" in done.out, done.out
    assert good("gate", "close").calls[0][1] == {"mode": "closed"}
    assert good("gate", "auto", "-q").out == ""


@test
def lists_go_on_from_reply_to_reply():
    def paged(method, *keys):
        """The healthy answer, a row of each list in a reply of its own."""
        whole = HEALTHY[method][0]["parameters"]
        rest = {k: v for k, v in whole.items() if k not in keys}
        pages = [reply(True, **rest, **{k: [row] if k == key else [] for k in keys}) for key in keys for row in whole[key]]
        return {method: pages + [reply(**rest, **{k: [] for k in keys})]}

    for args, method, keys in [(["top"], "GetTop", ["rows"]), (["stacks"], "ListStacks", ["stacks"]),
                               (["stacks", "00000000000000bb"], "GetStack", ["slices", "points"]),
                               (["processes"], "ListProcesses", ["processes"]), (["gate"], "GetGate", ["history"]),
                               (["flame"], "GetFlame", ["frames", "stacks"])]:
        assert good(*args, answers=paged(method, *keys)).out == good(*args).out, args
        assert json.loads(good(*args, "--json", answers=paged(method, *keys)).out) == HEALTHY[method][0]["parameters"], args


@test
def json_is_the_reply():
    for args, method in [(["status"], "GetStatus"), (["flame"], "GetFlame"), (["top"], "GetTop"), (["stacks"], "ListStacks"),
                         (["stacks", "00000000000000bb"], "GetStack"), (["processes"], "ListProcesses"), (["gate"], "GetGate"),
                         (["gate", "open"], "SetGate")]:
        short = good(*args, "--json=short").out
        assert short.count("\n") == 1 and json.loads(short) == HEALTHY[method][0]["parameters"], (args, short)
        pretty = good(*args, "--json=pretty").out
        assert pretty.count("\n") > 3 and json.loads(pretty) == json.loads(short)
        assert good(*args, "-j").out == short and good(*args, "--json").out == short
        assert good(*args, "--json=off").out == good(*args).out


# ---- hostile and broken servers ----

@test
def nothing_of_a_name_reaches_the_terminal():
    process = {**PROCESS, "comm": HOSTILE, "unit": HOSTILE, "exe": HOSTILE, "cgroup": HOSTILE}
    frames = [frame(HOSTILE, HOSTILE)]
    gate = {**GATE, "source": HOSTILE}
    history = [{**HISTORY[0], "cause": HOSTILE}]
    answers = {
        "GetStatus": [reply(status={**STATUS, "version": HOSTILE, "kernel": HOSTILE, "gate": gate, "collectors": [{"name": HOSTILE, "source": HOSTILE}],
                                    "limits": [{"name": HOSTILE, "unit": HOSTILE, "used": 1, "max": 2}]})],
        "ListAnomalies": [reply(anomalies=[anomaly(1, process=process, unit=HOSTILE, frames=frames, type=HOSTILE)], missed=0)],
        "GetFlame": [flame(frames=frames, stacks=[{"stack": "", "value": 1, "truncated": False, "comm": HOSTILE, "frames": [0]}])],
        "GetTop": [reply(metric="on_cpu", window=WINDOW, total=1, rows=[{"stack": HOSTILE, "frame": frames[0], "frames": [], "self": 1, "total": 1}])],
        "ListStacks": [reply(window=WINDOW, stacks=[summary(HOSTILE, frames=frames)])],
        "GetStack": [reply(window=WINDOW, stack=summary(HOSTILE, frames=frames), points=[], slices=[{"process": process, "values": VALUES}])],
        "ListProcesses": [reply(window=WINDOW, processes=[{"process": process, "values": VALUES}])],
        "GetGate": [reply(gate=gate, history=history)],
    }
    for args in [["status"], ["anomalies"], ["flame"], ["top"], ["top", "--by=stack"], ["stacks"], ["stacks", "00000000000000bb"], ["processes"], ["gate"]]:
        for env in [{"NO_COLOR": "1"}, {"NO_COLOR": "1", "LANG": "C"}]:
            text, status = in_terminal(*args, "--no-pager", answers=answers, env=env)
            assert status == 0, (args, text)
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text), (args, text)
            assert "\\x1b[31mred" in text, (args, text)
            assert "LANG" not in env or text.isascii(), (args, text)
    error_text = {"GetTop": [error("PermissionDenied", reason=HOSTILE)], "GetFlame": [error("NotFound", what=HOSTILE)], "GetStatus": [error("x." + HOSTILE)]}
    for verb in ["top", "flame", "status"]:
        assert "\x1b" not in bad(verb, answers=error_text)


@test
def errors_are_told():
    def answer(verb, name, *args, **parameters):
        return bad(verb, *args, answers={m: [error(name, **parameters)] for m in HEALTHY})

    assert answer("stacks", "NotFound", "--pid=1234", what="process 1234").endswith("No such process recorded: 1234\n")
    assert "No such stack recorded: 00000000000000ff" in answer("stacks", "NotFound", "00000000000000ff", what="stack 00000000000000ff")
    assert "ends before it begins: from 2026-11-23 10:00:00 to 2026-11-23 09:00:00" in answer("top", "InvalidRange", since_us=NOW_US, until_us=NOW_US - 3600 * 10**6)
    assert "could not answer: no memory" in answer("top", "Failed", reason="no memory")
    assert "too large" in answer("top", "TooLarge", limit=1048576)
    assert "Permission denied: only root may" in answer("gate", "PermissionDenied", "open", reason="only root may")
    assert "as many connections as it takes" in answer("status", "TooManyConnections", limit=16)
    assert 'does not take the parameter "filter.pid"' in answer("top", "org.varlink.service.InvalidParameter", parameter="filter.pid")
    assert "of another version" in answer("top", "org.varlink.service.MethodNotFound", method="GetTop")
    assert "stackd answers: org.stackd.Surprise" in answer("top", "Surprise")


@test
def garbage_is_refused():
    answers = [b"hello\0", b"[]\0", b"\0", b"{}x\0", b'{"parameters":3}\0', b'{"parameters":{},"continues":"yes"}\0', b'{"error":5}\0', b"\xff\xfe\0",
               b'{"parameters":{"a":1e999}}\0', b"x" * (2 << 20)]
    for garbage in answers:
        for verb in ["status", "flame", "top"]:
            err = bad(verb, answers={m: [garbage] for m in HEALTHY})
            assert "is no answer of stackd's" in err, (garbage[:40], err)


@test
def replies_that_lack_something_are_refused():
    def cut(value, path):
        """Without what path names."""
        if len(path) == 1:
            return {k: v for k, v in value.items() if k != path[0]} if isinstance(value, dict) else value[:path[0]]
        changed = dict(value) if isinstance(value, dict) else list(value)
        changed[path[0]] = cut(value[path[0]], path[1:])
        return changed

    for args, method, path in [(["status"], "GetStatus", ["status", "ticks"]), (["status"], "GetStatus", ["status", "losses"]), (["status"], "GetStatus", ["status"]),
                               (["status"], "GetStatus", ["status", "gate", "open"]), (["anomalies"], "ListAnomalies", ["anomalies", 0, "score"]),
                               (["anomalies"], "ListAnomalies", ["anomalies"]), (["top"], "GetTop", ["rows", 0, "frame"]), (["top"], "GetTop", ["total"]),
                               (["flame"], "GetFlame", ["stacks"]), (["flame"], "GetFlame", ["metric"]), (["stacks"], "ListStacks", ["stacks", 0, "values"]),
                               (["stacks", "00000000000000bb"], "GetStack", ["stack"]), (["processes"], "ListProcesses", ["processes", 0, "process", "pid"]),
                               (["gate"], "GetGate", ["gate"]), (["gate", "open"], "SetGate", ["gate"])]:
        broken = reply(**cut(HEALTHY[method][0]["parameters"], path))
        done = run(*args, answers={method: [broken]})
        assert done.returncode == 1 and f'lacks a good "{path[-1]}"' in done.err, (args, path, done.returncode, done.err)
    nothing = run("top", answers={"GetTop": [{}]})
    assert nothing.returncode == 1 and "lacks" in nothing.err
    stray = [flame(stacks=[{"stack": "", "value": 1, "truncated": False, "comm": "x", "frames": [99]}])]
    assert "did not send" in bad("flame", answers={"GetFlame": stray})


@test
def members_of_later_versions_are_no_trouble():
    later = {**HEALTHY["GetTop"][0]["parameters"], "surprise": {"a": [1]}}
    good("top", answers={"GetTop": [reply(**later)]})


@test
def server_that_dies():
    half = json.dumps(flame(), ensure_ascii=False).encode()[:200]
    for answers in [[Close()], [half, Close()], [flame(continues=True), Close()]]:
        done = run("flame", answers={"GetFlame": answers})
        assert done.returncode == 1 and "closed the connection before its answer was complete" in done.err, done
    assert "closed the connection" in bad("anomalies", answers={"ListAnomalies": [reply(True, anomalies=[anomaly(1)], missed=0), Close()]})


@test
def slow_server_is_waited_for():
    text = json.dumps(flame()).encode() + b"\0"
    pieces = [piece for i in range(0, len(text), len(text) // 5 + 1) for piece in (Sleep(0.3), text[i:i + len(text) // 5 + 1])]
    assert good("flame", answers={"GetFlame": pieces}).out == good("flame").out


@test
def no_server():
    err = bad("status", server=False)
    assert "No such file or directory. Is stackd running? See: systemctl status stackd" in err, err
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(SOCKET)
    listener.close()
    try:
        assert "Connection refused. Is stackd running?" in bad("status", server=False)
    finally:
        os.unlink(SOCKET)
    assert "File name too long" in bad("status", "--socket=/" + "x" * 200, server=False)


@test
def no_permission():
    if os.geteuid() != 0:
        with FakeStackd(SOCKET, HEALTHY):
            os.chmod(SOCKET, 0)
            assert "Join the group stackd" in bad("status", server=False)
        return
    os.chmod(DIRECTORY, 0o711)
    with FakeStackd(SOCKET, HEALTHY):
        os.chmod(SOCKET, 0o600)
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", STACKCTL, "status"]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, env=ENVIRONMENT)
    err = done.stderr.decode()
    assert done.returncode == 1 and "Permission denied. Join the group stackd (usermod -aG stackd USER, then log in again), or run as root." in err, err


# ---- the command line ----

@test
def usage_errors():
    def refused(*args):
        return bad(*args, server=False)

    assert 'Unknown verb "anomolies". Did you mean "anomalies"?' in refused("anomolies")
    assert 'Unknown verb "xyzzy". Try "stackctl --help"' in refused("xyzzy")
    assert '"stackctl top" does not take --follow' in refused("top", "-f")
    assert '"stackctl status" does not take --since' in refused("--since=10m")
    assert 'Too many arguments: "extra"' in refused("top", "extra")
    assert "is no stack" in refused("stacks", "12")
    assert "Unknown state" in refused("gate", "ajar")
    assert "--for needs" in refused("gate", "--for=5s")
    assert "does not take --for" in refused("gate", "auto", "--for=5s")
    assert "does not take --since" in refused("gate", "open", "--since=1h")
    assert "from 1 to 10000" in refused("top", "-n", "10001") and "with --follow only" in refused("anomalies", "-n0")
    assert "does not take --metric" in refused("stacks", "00000000000000bb", "-m", "hits")
    assert "Unknown metric" in refused("top", "--metric=cpu") and "faults-minor" in refused("top", "--metric=cpu")
    assert "is no process id" in refused("top", "--pid=abc")
    assert 'Can\'t take "25:00" as --since: the hour must be from 0 to 23.' in refused("anomalies", "--since", "25:00")
    assert "ends before it begins" in refused("anomalies", "--since=10m", "--until=20m")
    assert "Try \"stackctl --help\"" in refused("--frobnicate") and "unrecognized option" in refused("--frobnicate")
    assert "requires an argument" in refused("top", "--pid")


@test
def options_come_before_or_after():
    assert good("-n", "2", "top").calls == good("top", "-n", "2").calls
    assert good("--socket", SOCKET, "top", env={"STACKD_SOCKET": "/nowhere"}).out == good("top").out


@test
def help_and_version():
    for args in [["--help"], ["-h"], ["help"], ["top", "--help"]]:
        done = run(*args, server=False)
        assert done.returncode == 0 and done.stdout.startswith(b"stackctl [OPTIONS...]") and done.stderr == b""
        assert max(len(line) for line in done.stdout.decode().splitlines()) <= 90
    assert re.fullmatch(rb"stackctl \d+\.\d+\.\d+\n", run("--version", server=False).stdout)


# ---- what is written about it ----

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|-[a-zA-Z])(?![\w-])")
VERBS = ["status", "anomalies", "flame", "top", "stacks", "processes", "gate"]


def source(path):
    with open(os.path.join(SOURCE, path)) as file:
        return file.read()


def options_in_help():
    text = run("--help", server=False).stdout.decode()
    return {option for line in text.splitlines() if line.startswith("  ") for option in OPTION.findall(line[:22])}


def options_that_work():
    """What getopt takes, by asking for each."""
    for option in sorted(options_in_help()):
        err = subprocess.run([STACKCTL, option], capture_output=True, env=ENVIRONMENT, timeout=TIMEOUT).stderr.decode()
        assert "unrecognized" not in err and "invalid option" not in err, (option, err)
        yield option


@test
def man_page_and_completions_know_every_option():
    known = set(options_that_work())
    assert len(known) > 30, known
    in_code = set(re.findall(r'^\t\{ "([a-z-]+)", \w+_argument', source("client/options.c"), re.M))
    assert {"--" + name for name in in_code} == {option for option in known if option.startswith("--")}
    man = source("docs/stackctl.1").replace("\\-", "-")
    described = {option for line in re.findall(r"^\.TP\n(.*)$", man, re.M) for option in OPTION.findall(line)}
    assert described == known, described ^ known
    bash, zsh = source("client/completion/stackctl"), source("client/completion/_stackctl")
    for option in known:
        pattern = rf"(?<![\w-]){option}(?![\w-])"
        assert re.search(pattern, zsh) or re.search(rf"[{{,]{option}\+?[,}}=]", zsh), ("zsh", option)
        assert not option.startswith("--") or re.search(pattern, bash), ("bash", option)
    for verb in VERBS:
        assert re.search(rf"^(\.B|\.BR) {verb}\b", man, re.M) and f"\n  {verb}" in run("--help", server=False).stdout.decode()
        assert f"'{verb}:" in zsh


@test
def man_page_has_no_faults():
    done = subprocess.run(["man", "--warnings", "-l", os.path.join(SOURCE, "docs/stackctl.1")], capture_output=True, timeout=TIMEOUT,
                          env={**ENVIRONMENT, "MANPAGER": "cat", "MANWIDTH": "100"})
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    assert b"FOLDED STACKS" in done.stdout


def complete(*words):
    script = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _stackctl; printf "%s\\n" "${COMPREPLY[@]}"'
    command = ["bash", "--norc", "-c", script, os.path.join(SOURCE, "client/completion/stackctl"), "stackctl", *words]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, env=ENVIRONMENT)
    assert done.stderr == b"", done.stderr
    return done.stdout.decode().split()


@test
def bash_completes():
    assert complete("") == VERBS
    assert complete("a") == ["anomalies"]
    assert complete("gate", "") == ["open", "close", "auto"]
    assert complete("top", "--b") == ["--by"] and complete("flame", "--b") == []
    assert complete("top", "--by", "=", "s") == ["stack"] and complete("top", "--by", "=") == ["function", "stack"]
    assert complete("flame", "-m", "faults") == ["faults-minor", "faults-major"]
    assert complete("status", "--json", "=", "") == ["pretty", "short", "off"] and complete("status", "--json", "") == []
    assert str(os.getpid()) in complete("top", "--pid", str(os.getpid())[:1])


@test
def what_bash_completes_is_taken():
    for verb in VERBS:
        for option in complete(verb, "--"):
            err = subprocess.run([STACKCTL, verb, option], capture_output=True, env=ENVIRONMENT, timeout=TIMEOUT).stderr.decode()
            assert "does not take" not in err and "unrecognized" not in err, (verb, option, err)


# ---- the terminal ----

@test
def colour_only_on_a_terminal():
    for verb in ["status", "anomalies", "top", "gate"]:
        assert "\x1b" not in good(verb).out
        assert "\x1b[0;" in in_terminal(verb, "--no-pager")[0]
        assert "\x1b" not in in_terminal(verb, "--no-pager", env={"NO_COLOR": "1"})[0]
        assert "\x1b" not in in_terminal(verb, "--no-pager", env={"TERM": "dumb"})[0]
        assert "\x1b" not in in_terminal(verb, "--no-pager", env={"SYSTEMD_COLORS": "0"})[0]
        assert "\x1b[0;" in good(verb, env={"SYSTEMD_COLORS": "1"}).out
        assert "\x1b[0;" in in_terminal(verb, "--no-pager", env={"SYSTEMD_COLORS": "1", "NO_COLOR": "1"})[0]


@test
def pager_only_on_a_terminal():
    paged = {"SYSTEMD_PAGER": "sed s/^/PAGED:/", "SYSTEMD_PAGERSECURE": "0"}
    for args in [["top"], ["status"], ["--help"], ["flame"], ["stacks", "00000000000000bb"], ["gate"], ["anomalies", "--json=short"]]:
        text, status = in_terminal(*args, env=paged)
        assert status == 0 and all(line.startswith("PAGED:") for line in text.splitlines()), (args, text)
        assert "PAGED" not in in_terminal(*args, "--no-pager", env=paged)[0]
        assert "PAGED" not in good(*args, env=paged).out
    assert "PAGED" in in_terminal("top", env={"PAGER": "sed s/^/PAGED:/", "SYSTEMD_PAGERSECURE": "0"})[0]
    assert "PAGED" not in in_terminal("top", env={**paged, "SYSTEMD_PAGER": "cat"})[0]
    assert "PAGED" not in in_terminal("top", env={"PAGER": "sed s/^/PAGED:/", "SYSTEMD_PAGER": ""})[0]
    options = in_terminal("top", env={"SYSTEMD_PAGER": 'sh -c "cat >/dev/null; echo L=$LESS S=$LESSSECURE"', "SYSTEMD_PAGERSECURE": "1"})[0]
    assert "L=FRSXMK S=1" in options, options
    assert "No such file" in in_terminal("--socket=/nowhere", "top", env=paged)[0] and "PAGED" not in in_terminal("--socket=/nowhere", "top", env=paged)[0]


@test
def pager_that_is_left_early():
    text, status = in_terminal("flame", env={"SYSTEMD_PAGER": "head -1", "SYSTEMD_PAGERSECURE": "0"}, answers={"GetFlame": many_pages()})
    assert status == 0 and text.count("\n") == 1, (status, text[:200])


@test
def rows_fit_the_terminal():
    for columns in [60, 80, 120]:
        rows = [{"stack": "", "frame": frame("f" * 300, "o" * 90), "frames": [], "self": 1, "total": 1}]
        answers = {"GetTop": [reply(metric="on_cpu", window=WINDOW, total=1, rows=rows)]}
        text = in_terminal("top", "--no-pager", env={"NO_COLOR": "1"}, columns=columns, answers=answers)[0]
        assert max(len(line) for line in text.splitlines()) == columns, text
        assert "f" * 300 in in_terminal("top", "--no-pager", "--full", env={"NO_COLOR": "1"}, columns=columns, answers=answers)[0]
        assert "f" * 300 in good("top", answers=answers).out


def many_pages(n=200):
    rows = [{"stack": "00000000000000bb", "value": 1, "truncated": False, "comm": "c", "frames": [0] * 50}] * 100
    return [flame(stacks=rows, continues=i + 1 < n, frames=FRAMES if i == 0 else []) for i in range(n)]


@test
def closed_pipe_is_no_failure():
    for verb in ["flame", "flame --json", "top", "status", "--help"]:
        with FakeStackd(SOCKET, {**HEALTHY, "GetFlame": many_pages()}):
            done = subprocess.run(["bash", "-c", f'"$0" {verb} | head -1 >/dev/null; echo "${{PIPESTATUS[0]}}"', STACKCTL], capture_output=True,
                                  timeout=TIMEOUT, env=ENVIRONMENT)
        assert done.stdout == b"0\n" and done.stderr == b"", (verb, done)


@test
def full_disk_is_a_failure():
    with open("/dev/full", "wb") as full:
        for verb in ["top", "flame", "status"]:
            done = run(verb, stdout=full, stderr=subprocess.PIPE, capture_output=False)
            assert done.returncode == 1 and "No space left" in done.err, (verb, done)


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
    os.rmdir(DIRECTORY)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
