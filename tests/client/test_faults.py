#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile, broken, slow and absent servers."""
import json
import os
import re
import socket
import subprocess
import sys
import time
from random import Random

from fake_stackd import (
    Close,
    FakeStackd,
    GATE,
    HEALTHY,
    HISTORY,
    Hold,
    HOSTILE,
    NOW_US,
    PROCESS,
    STATUS,
    Sleep,
    VALUES,
    WINDOW,
    anomaly,
    error,
    flame,
    frame,
    reply,
    summary,
)
from harness import DIRECTORY, ENVIRONMENT, SOCKET, STACKCTL, TIMEOUT, bad, good, in_terminal, main, run, test


@test
def nothing_of_a_name_reaches_the_terminal():
    process = {**PROCESS, "comm": HOSTILE, "unit": HOSTILE, "exe": HOSTILE, "cgroup": HOSTILE}
    frames = [frame(HOSTILE, HOSTILE)]
    gate = {**GATE, "source": HOSTILE}
    history = [{**HISTORY[0], "cause": HOSTILE}]
    answers = {
        "GetStatus": [
            reply(
                status={
                    **STATUS,
                    "version": HOSTILE,
                    "kernel": HOSTILE,
                    "gate": gate,
                    "collectors": [{"name": HOSTILE, "source": HOSTILE}],
                    "limits": [{"name": HOSTILE, "unit": HOSTILE, "used": 1, "max": 2}],
                }
            )
        ],
        "ListAnomalies": [
            reply(
                anomalies=[anomaly(1, process=process, unit=HOSTILE, frames=frames, type=HOSTILE)], missed=0
            )
        ],
        "GetFlame": [
            flame(
                frames=frames,
                stacks=[{"stack": "", "value": 1, "truncated": False, "comm": HOSTILE, "frames": [0]}],
            )
        ],
        "GetTop": [
            reply(
                metric="on_cpu",
                window=WINDOW,
                total=1,
                rows=[{"stack": HOSTILE, "frame": frames[0], "frames": [], "self": 1, "total": 1}],
            )
        ],
        "ListStacks": [reply(window=WINDOW, stacks=[summary(HOSTILE, frames=frames)])],
        "GetStack": [
            reply(
                window=WINDOW,
                stack=summary(HOSTILE, frames=frames),
                points=[],
                slices=[{"process": process, "values": VALUES}],
            )
        ],
        "ListProcesses": [reply(window=WINDOW, processes=[{"process": process, "values": VALUES}])],
        "GetGate": [reply(gate=gate, history=history)],
    }
    for args in [
        ["status"],
        ["anomalies"],
        ["flame"],
        ["top", "-b"],
        ["top", "-b", "--by=stack"],
        ["stacks"],
        ["stacks", "00000000000000bb"],
        ["processes"],
        ["gate"],
    ]:
        for env in [{"NO_COLOR": "1"}, {"NO_COLOR": "1", "LANG": "C"}]:
            text, status = in_terminal(*args, "--no-pager", answers=answers, env=env)
            assert status == 0, (args, text)
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text), (args, text)
            assert "\\x1b[31mred" in text, (args, text)
            assert "LANG" not in env or text.isascii(), (args, text)
    error_text = {
        "GetTop": [error("PermissionDenied", reason=HOSTILE)],
        "GetFlame": [error("NotFound", what=HOSTILE)],
        "GetStatus": [error("x." + HOSTILE)],
    }
    for verb in ["top", "flame", "status"]:
        assert "\x1b" not in bad(verb, answers=error_text)


@test
def errors_are_told():
    def answer(verb, name, *args, **parameters):
        return bad(verb, *args, answers={m: [error(name, **parameters)] for m in HEALTHY})

    assert answer("stacks", "NotFound", "--pid=1234", what="process 1234").endswith(
        "No such process recorded: 1234\n"
    )
    assert "No such stack recorded: 00000000000000ff" in answer(
        "stacks", "NotFound", "00000000000000ff", what="stack 00000000000000ff"
    )
    assert "ends before it begins: from 2026-11-23 10:00:00 to 2026-11-23 09:00:00" in answer(
        "top", "InvalidRange", since_us=NOW_US, until_us=NOW_US - 3600 * 10**6
    )
    assert "could not answer: no memory" in answer("top", "Failed", reason="no memory")
    assert "too large" in answer("top", "TooLarge", limit=1048576)
    assert "Permission denied: only root may" in answer(
        "gate", "PermissionDenied", "open", reason="only root may"
    )
    assert "as many connections as it takes" in answer("status", "TooManyConnections", limit=16)
    assert 'does not take the parameter "filter.pid"' in answer(
        "top", "org.varlink.service.InvalidParameter", parameter="filter.pid"
    )
    assert "of another version" in answer("top", "org.varlink.service.MethodNotFound", method="GetTop")
    assert "stackd answers: org.stackd.Surprise" in answer("top", "Surprise")


@test
def garbage_is_refused():
    answers = [
        b"hello\0",
        b"[]\0",
        b"\0",
        b"{}x\0",
        b'{"parameters":3}\0',
        b'{"parameters":{},"continues":"yes"}\0',
        b'{"error":5}\0',
        b"\xff\xfe\0",
        b'{"parameters":{"a":1e999}}\0',
        b"x" * (2 << 20),
    ]
    for garbage in answers:
        for verb in ["status", "flame", "top"]:
            err = bad(verb, answers={m: [garbage] for m in HEALTHY})
            assert "is no answer of stackd's" in err, (garbage[:40], err)


@test
def replies_that_lack_something_are_refused():
    def cut(value, path):
        """Without what path names."""
        if len(path) == 1:
            return (
                {k: v for k, v in value.items() if k != path[0]}
                if isinstance(value, dict)
                else value[: path[0]]
            )
        changed = dict(value) if isinstance(value, dict) else list(value)
        changed[path[0]] = cut(value[path[0]], path[1:])
        return changed

    for args, method, path in [
        (["status"], "GetStatus", ["status", "ticks"]),
        (["status"], "GetStatus", ["status", "losses"]),
        (["status"], "GetStatus", ["status"]),
        (["status"], "GetStatus", ["status", "gate", "open"]),
        (["anomalies"], "ListAnomalies", ["anomalies", 0, "score"]),
        (["anomalies"], "ListAnomalies", ["anomalies"]),
        (["top"], "GetTop", ["rows", 0, "frame"]),
        (["top"], "GetTop", ["total"]),
        (["flame"], "GetFlame", ["stacks"]),
        (["flame"], "GetFlame", ["metric"]),
        (["stacks"], "ListStacks", ["stacks", 0, "values"]),
        (["stacks", "00000000000000bb"], "GetStack", ["stack"]),
        (["processes"], "ListProcesses", ["processes", 0, "process", "pid"]),
        (["gate"], "GetGate", ["gate"]),
        (["gate", "open"], "SetGate", ["gate"]),
    ]:
        broken = reply(**cut(HEALTHY[method][0]["parameters"], path))
        done = run(*args, answers={method: [broken]})
        assert done.returncode == 1 and f'lacks a good "{path[-1]}"' in done.err, (
            args,
            path,
            done.returncode,
            done.err,
        )
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
        assert (
            done.returncode == 1 and "closed the connection before its answer was complete" in done.err
        ), done
    assert "closed the connection" in bad(
        "anomalies", answers={"ListAnomalies": [reply(True, anomalies=[anomaly(1)], missed=0), Close()]}
    )


@test
def slow_server_is_waited_for():
    text = json.dumps(flame()).encode() + b"\0"
    pieces = [
        piece
        for i in range(0, len(text), len(text) // 5 + 1)
        for piece in (Sleep(0.3), text[i : i + len(text) // 5 + 1])
    ]
    assert good("flame", answers={"GetFlame": pieces}).out == good("flame").out


@test
def hung_server_is_given_up():
    with FakeStackd(SOCKET, {"GetStatus": [Hold()]}):
        begin = time.monotonic()
        done = subprocess.run([STACKCTL], capture_output=True, timeout=TIMEOUT, env=ENVIRONMENT)
    assert 25 < time.monotonic() - begin < 45
    assert done.returncode == 1 and b"stackd did not answer within 30 s" in done.stderr, done


def damage(value, random):
    """The value with one thing in it changed to something that is well-formed but odd."""
    if isinstance(value, (dict, list)) and value and random.random() < 0.9:
        changed = dict(value) if isinstance(value, dict) else list(value)
        key = random.choice(list(value)) if isinstance(value, dict) else random.randrange(len(value))
        changed[key] = damage(value[key], random)
        return changed
    odd = [
        None,
        True,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        1e308,
        -1e-308,
        0.5,
        "",
        HOSTILE,
        "on_cpu",
        [],
        {},
        [[]],
        [{}],
    ]
    return random.choice(odd)


@test
def odd_values_do_no_harm():
    seed = int(os.environ.get("SEED", time.time()))
    print(f"# SEED={seed}")
    random = Random(seed)
    verbs = [
        ("status", "GetStatus"),
        ("anomalies", "ListAnomalies"),
        ("flame", "GetFlame"),
        ("top", "GetTop"),
        ("stacks", "ListStacks"),
        ("stacks 00000000000000bb", "GetStack"),
        ("processes", "ListProcesses"),
        ("gate", "GetGate"),
    ]
    for _ in range(25):
        for args, method in verbs:
            parameters = HEALTHY[method][0]["parameters"]
            for _ in range(random.choice([1, 1, 1, 5])):
                parameters = damage(parameters, random)
            done = run(*args.split(), answers={method: [{"parameters": parameters}]})
            assert done.returncode in (0, 1), (args, json.dumps(parameters), done)
            assert "Sanitizer" not in done.err and "runtime error" not in done.err, (args, done.err)
            assert "\x1b" not in done.out + done.err and "\u202e" not in done.out + done.err, (args, done)
            assert done.returncode == 0 or done.err.startswith("stackctl: "), (args, done)


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
    assert (
        done.returncode == 1
        and "Permission denied. Join the group stackd (usermod -aG stackd USER, then log in again), or run"
        in err
    ), err


if __name__ == "__main__":
    sys.exit(main())
