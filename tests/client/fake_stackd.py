# SPDX-License-Identifier: GPL-2.0-or-later
"""A server that answers org.stackd calls from a script, so that what stackctl makes of them can be told."""
import json
import os
import socket
import threading
import time

INTERFACE = "org.stackd."
NOW_US = 1795428000 * 10**6  # Mon 2026-11-23 10:00:00 UTC
HOSTILE = "\x1b[31mred\x07\u202e"


class Sleep:
    """Waits before the next reply."""

    def __init__(self, seconds):
        self.seconds = seconds


class Close:
    """Ends the connection."""


class Hold:
    """Leaves the connection open and says no more."""


def error(name, **parameters):
    return {"error": name if "." in name else INTERFACE + name, "parameters": parameters}


def reply(continues=False, **parameters):
    message = {"parameters": parameters}
    if continues:
        message["continues"] = True
    return message


class FakeStackd:
    """answers: method name -> list of what is sent for a call (dict, bytes as is, Sleep, Close, Hold, or a function of the
    parameters that gives one of these).
    calls: what was asked, as (method, parameters, flags)."""

    def __init__(self, path, answers):
        self.path, self.answers, self.calls = path, answers, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Or else its accept() may take a connection to the next server, whose listener has the same number.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join()
        self.listener.close()
        os.unlink(self.path)

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        received = b""
        with connection:
            try:
                while True:
                    while b"\0" not in received:
                        data = connection.recv(65536)
                        if not data:
                            return
                        received += data
                    text, received = received.split(b"\0", 1)
                    if not self._answer(connection, json.loads(text)):
                        return
            except OSError:
                return

    def _answer(self, connection, call):
        method = call.pop("method")
        assert method.startswith(INTERFACE), method
        method = method.removeprefix(INTERFACE)
        parameters = call.pop("parameters", {})
        self.calls.append((method, parameters, call))
        actions = self.answers.get(method, [error("org.varlink.service.MethodNotFound", method=method)])
        for action in actions:
            if callable(action):
                action = action(parameters)
            if isinstance(action, Sleep):
                time.sleep(action.seconds)
            elif isinstance(action, Close):
                return False
            elif isinstance(action, Hold):
                while connection.recv(65536):
                    pass
                return False
            else:
                connection.sendall(
                    action if isinstance(action, bytes) else json.dumps(action).encode() + b"\0"
                )
        return True


# ---- answers as a daemon in good health would give ----


def frame(name, object="prog", kind="user"):
    return {"name": name, "object": object, "kind": kind}


FRAMES = [
    frame("main"),
    frame("do work(int)"),
    frame("read", "libc.so.6"),
    frame("entry_SYSCALL_64", "[kernel]", "kernel"),
    frame("vfs_read", "[kernel]", "kernel"),
]
WINDOW = {
    "since_us": NOW_US - 900 * 10**6,
    "until_us": NOW_US,
    "load_mean": 1.25,
    "gate_open_s": 30,
    "lost": 12,
}
PROCESS = {
    "pid": 1234,
    "start_us": NOW_US - 3600 * 10**6,
    "uid": 0,
    "comm": "gzip",
    "exe": "/usr/bin/gzip",
    "unit": "backup.service",
    "cgroup": "/system.slice/backup.service",
}
VALUES = {"on_cpu": 2_500_000_000, "blocked": 7_000_000_000, "faults_minor": 4200}
GATE = {
    "open": False,
    "mode": "auto",
    "load": 0.42,
    "open_above": 5.0,
    "close_below": 4.0,
    "source": "runqueues",
}
HISTORY = [
    {"time_us": NOW_US - 30 * 10**6, "open": False, "load": 0.3, "cause": "budget-lowered"},
    {"time_us": NOW_US - 60 * 10**6, "open": False, "load": 0.4, "cause": "load-low"},
    {"time_us": NOW_US - 120 * 10**6, "open": True, "load": 7.25, "cause": "load"},
]
STATUS = {
    "version": "0.1.0",
    "kernel": "6.1.0-18-amd64",
    "pid": 4242,
    "opener_pid": 4243,
    "parser_pid": 4244,
    "parser_restarts": 0,
    "started_us": NOW_US - 7384 * 10**6,
    "now_us": NOW_US,
    "ticks": 7381,
    "ticks_missed": 0,
    "tick_cost_ns": 3_100_000,
    "tick_cost_max_ns": 8_000_000,
    "cpu_ns": 73_840_000_000,
    "resident_bytes": 30 << 20,
    "map_bytes": 12 << 20,
    "source": "perf",
    "source_reason": "Source=auto; the kernel has no BTF",
    "unwind_source": "copies of 8192 bytes of each stack",
    "unmeasured": ["blocked", "brk"],
    "online_cpus": 8,
    "gate": GATE,
    "budget": {
        "allowed": 0.01,
        "user": 0.002,
        "kernel": 0.003,
        "kernel_measured": True,
        "judged": True,
        "rates": 0.5,
        "left_out": ["switches"],
        "cause": "budget-left-out",
        "changed_us": NOW_US - 60 * 10**6,
    },
    "collectors": [
        {"name": "on-cpu", "source": "perf_event 49 Hz"},
        {"name": "off-cpu", "source": "tp_btf sched_switch"},
    ],
    "limits": [
        {"name": "stacks", "unit": "stacks", "used": 1200, "max": 16384},
        {"name": "arena", "unit": "bytes", "used": 1 << 20, "max": 64 << 20},
    ],
    "tiers": [
        {
            "step_s": 1,
            "oldest_us": NOW_US - 900 * 10**6,
            "points": 100000,
            "bytes": 138000,
            "evicted_blocks": 0,
        },
        {"step_s": 60, "points": 0, "bytes": 0, "evicted_blocks": 0},
    ],
    "conservation": [{"metric": "on_cpu", "ratio": 0.991}, {"metric": "blocked", "ratio": 0.98}],
    "losses": [],
    "frames_resolved": 12345,
    "frames_unnamed": 67,
    "walks": [
        {"end": "complete", "count": 9900, "last_tick": 99},
        {"end": "frame-pointers", "count": 75, "last_tick": 1},
        {"end": "table-missing", "count": 25, "last_tick": 0},
        {"end": "depth", "count": 0, "last_tick": 0},
    ],
    "unwind_objects": 86,
    "unwind_objects_failed": 2,
    "unwind_objects_waiting": 1,
    "unwind_rows": 604000,
    "unwind_evictions": 3,
    "unwind_refused": 0,
    "anomalies": 3,
    "anomalies_suppressed": 1,
    "false_alarms_per_day": 1.0,
    "score_threshold": 7.5,
    "journal_sent": 3,
    "journal_suppressed": 0,
    "calls": 9,
    "errors": 1,
    "messages_dropped": 0,
}


def anomaly(number, **changes):
    a = {
        "id": number,
        "time_us": NOW_US - (100 - number) * 10**6,
        "since_us": NOW_US - 110 * 10**6,
        "type": "level_shift",
        "metric": "blocked",
        "score": 7.3,
        "p_value": 5e-8,
        "observed": 1.8e9,
        "expected": 1.2e8,
        "load": 6.5,
        "gate_open": True,
        "series": "00000000000000aa",
        "stack": "00000000000000bb",
        "process": PROCESS,
        "unit": "backup.service",
        "cgroup": "/system.slice/backup.service",
        "exe": "/usr/bin/gzip",
        "frames": FRAMES,
    }
    a.update(changes)
    return a


def place(name, object_name, file="", line=0, inlined=False):
    return {"name": name, "object": object_name, "kind": "user", "inlined": inlined, "file": file, "line": line}


def flame(frames=FRAMES, stacks=None, continues=False, total=700):
    if stacks is None:
        stacks = [
            {
                "stack": "00000000000000bb",
                "value": 500,
                "truncated": False,
                "comm": "my prog",
                "frames": [0, 1, 4],
            },
            {"stack": "00000000000000bc", "value": 200, "truncated": True, "comm": "gzip", "frames": [1, 2]},
        ]
    return reply(continues, metric="on_cpu", window=WINDOW, total=total, frames=frames, stacks=stacks)


def many_pages(n=200):
    rows = [
        {"stack": "00000000000000bb", "value": 1, "truncated": False, "comm": "c", "frames": [0] * 50}
    ] * 100
    return [flame(stacks=rows, continues=i + 1 < n, frames=FRAMES if i == 0 else []) for i in range(n)]


def summary(stack="00000000000000bb", **changes):
    s = {"stack": stack, "frames": FRAMES, "truncated": False, "values": VALUES, "standard_errors": {"on_cpu": 25_000_000}}
    s.update(changes)
    return s


def point(seconds_ago, step_s=1, **values):
    return {
        "time_us": NOW_US - seconds_ago * 10**6,
        "step_s": step_s,
        "gate_open": False,
        "load": 0.5,
        "lost": 0,
        "values": values,
    }


HEALTHY = {
    "GetStatus": [reply(status=STATUS)],
    "ListAnomalies": [reply(anomalies=[anomaly(3), anomaly(2), anomaly(1)], missed=0)],
    "GetFlame": [flame()],
    "GetTop": [
        reply(
            metric="on_cpu",
            window=WINDOW,
            total=1_000_000_000,
            rows=[
                {
                    "stack": "",
                    "frame": frame("do work(int)"),
                    "frames": [],
                    "self": 700_000_000,
                    "total": 900_000_000,
                    "self_standard_error": 50_000_000,
                    "total_standard_error": 60_000_000,
                },
                {
                    "stack": "",
                    "frame": frame("vfs_read", "[kernel]", "kernel"),
                    "frames": [],
                    "self": 300_000_000,
                    "total": 300_000_000,
                },
            ],
        )
    ],
    "ListStacks": [
        reply(
            window=WINDOW,
            stacks=[summary(), summary("00000000000000bc", truncated=True, values={"on_cpu": 500_000_000}, standard_errors={})],
        )
    ],
    "GetStack": [
        reply(
            window=WINDOW,
            stack=summary(),
            points=[point(s, on_cpu=s * 1000) for s in range(899, -1, -1)],
            slices=[{"process": PROCESS, "values": VALUES}],
        )
    ],
    "GetLines": [
        reply(
            True,
            stack="00000000000000bb",
            variants=[
                {"share": 0.5, "places": [place("main", "prog", "/src/prog.c", 10), place("read", "libc.so.6"), place("check", "libc.so.6", "/src/check.h", 3, True)]},
                {"share": 0.25, "places": [place("main", "prog", "/src/prog.c", 12), place("read", "libc.so.6")]},
            ],
            missing=[],
        ),
        reply(
            stack="00000000000000bb",
            variants=[{"share": 0.15, "places": [place("main", "prog", "/src/prog.c", 12), place("read", "libc.so.6")]}],
            missing=[{"object": "libz.so.1", "reason": "no debug information"}],
        ),
    ],
    "ListMissingDebug": [reply(files=[{"object": "libz.so.1.2.13", "build_id": "0a1b2c3d"}, {"object": "shop", "build_id": "ffee0011"}])],
    "ListProcesses": [reply(window=WINDOW, processes=[{"process": PROCESS, "values": VALUES}])],
    "GetGate": [reply(gate=GATE, history=HISTORY)],
    "SetGate": [reply(gate={**GATE, "open": True, "mode": "open", "until_us": NOW_US + 60 * 10**6})],
}


def incident(id=7, closed=True, **changes):
    i = {
        "id": id,
        "cluster": "00000000000000c1",
        "name": "lock contention in pool_get",
        "kind": "lock_contention",
        "severity": "warning",
        "label": "unlabelled",
        "muted": False,
        "opened_us": NOW_US - 600 * 10**6,
        "last_us": NOW_US - 590 * 10**6,
        "size": 1.5,
        "score": 7.25,
        "anomalies": 12,
        "workloads_count": 3,
        "workloads": [
            {"unit": "shop.service", "cgroup": "/system.slice/shop.service", "exe": "/usr/bin/shop", "comm": "shop", "uid": 0, "pid": 1234}
        ],
        "moved": [
            {
                "anomaly": 42,
                "stack": "00000000000000a1",
                "metric": "blocked",
                "expected": 1e7,
                "worst": 1.5e9,
                "frames": FRAMES,
            }
        ],
    }
    if closed:
        i["closed_us"] = NOW_US - 480 * 10**6
    return {**i, **changes}


def cluster(**changes):
    return {
        "id": "00000000000000c1",
        "name": "lock contention in pool_get",
        "kind": "lock_contention",
        "severity": "critical",
        "incidents": 5,
        "first_us": NOW_US - 86400 * 10**6,
        "last_us": NOW_US - 600 * 10**6,
        "muted": False,
        "labelled_real": 2,
        "labelled_false": 1,
        "evidence": [{"metric": "on_cpu", "decades": 1.96}, {"metric": "blocked", "decades": -0.5}],
        "common": ["pool_get", HOSTILE],
        "members": [7],
        "units": ["shop.service", "mail.service"],
        "remedy": {"id": "futex", "name": "A lock of the program", "explain": "Threads wait.", "try": ["look", "mend"]},
        **changes,
    }
