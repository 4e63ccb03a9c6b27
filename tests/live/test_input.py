# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input of every kind gets a clear error, changes nothing, and the daemon keeps its ticks meanwhile."""
import contextlib
import json
import socket
import time

from lib.daemon import Daemon
from lib.environment import require_root
from lib.tap import check, note, run
from lib.varlink import Client, VarlinkError

GET_STATUS = b'{"method":"org.stackd.GetStatus"}\0'
REQUEST_LIMIT = 64 * 1024
CONNECTS = 1000

require_root()
daemon = Daemon()


def expect_close(what, data):
    """The daemon closes the connection, with or without an error before."""
    with daemon.client(timeout=10) as client:
        try:
            client.send_bytes(data)
            replies = 0
            while client.receive() is not None:
                replies += 1
                check(replies < 100, f"{what}: goes on answering")
        except (ConnectionResetError, BrokenPipeError):
            pass
        except socket.timeout:
            check(False, f"{what}: the connection stays open")


def expect_error(what, method, parameters, error, detail=None):
    try:
        with daemon.client() as client:
            reply = client.call(method, parameters)
        check(False, f"{what}: no error but {json.dumps(reply)[:200]}")
    except VarlinkError as got:
        note(f"{what}: {got}")
        check(got.name == error, f"{what}: {got} instead of {error}")
        if detail is not None:
            check(detail in json.dumps(got.parameters), f"{what}: {got} does not name {detail}")


def alive():
    check(daemon.status()["pid"] == daemon.process.pid, "GetStatus does not answer")


def test_malformed():
    with daemon.tick_keeper():
        for what, data in (
            ("no JSON", b"hello\0"),
            ("an empty message", b"\0"),
            ("half an object", b'{"method":\0'),
            ("an array", b"[]\0"),
            ("a number", b"42\0"),
            ("no method", b"{}\0"),
            ("a method that is a number", b'{"method":1}\0'),
            ("invalid UTF-8", b'{"method":"\xff\xfe"}\0'),
            ("a NaN", b'{"method":"org.stackd.GetStatus","parameters":{"x":NaN}}\0'),
            ("two flags", b'{"method":"org.stackd.GetStatus","more":true,"oneway":true}\0'),
            ("a flag that is no boolean", b'{"method":"org.stackd.GetStatus","more":1}\0'),
            (
                "a hundred levels",
                b'{"method":"org.stackd.GetStatus","parameters":'
                + b'{"a":' * 100
                + b"1"
                + b"}" * 101
                + b"\0",
            ),
            ("duplicate keys", b'{"method":"org.stackd.GetStatus","method":"org.stackd.GetGate"}\0'),
        ):
            expect_close(what, data)
            alive()


def test_wrong_calls():
    with daemon.tick_keeper():
        service = "org.varlink.service."
        expect_error("an unknown method", "org.stackd.Nonsense", {}, service + "MethodNotFound")
        expect_error("an unknown interface", "org.example.Foo", {}, service + "InterfaceNotFound")
        for method, parameters, name in (
            ("GetFlame", {"metric": "bogus"}, "metric"),
            ("GetFlame", {"metric": 5}, "metric"),
            ("GetFlame", {"filter": []}, "filter"),
            ("GetFlame", {"filter": {"pid": "x"}}, "pid"),
            ("GetTop", {"limit": "many"}, "limit"),
            ("GetStack", {}, "stack"),
            ("GetStack", {"stack": 7}, "stack"),
            ("SetGate", {"mode": "ajar"}, "mode"),
            ("SetGate", {}, "mode"),
            ("ListAnomalies", {"type": "odd"}, "type"),
            ("GetStatus", {"surplus": 1}, "surplus"),
        ):
            expect_error(
                f"{method} {parameters}",
                "org.stackd." + method,
                parameters,
                service + "InvalidParameter",
                name,
            )
        expect_error(
            "a stack that is not there",
            "org.stackd.GetStack",
            {"stack": "0123456789abcdef"},
            "org.stackd.NotFound",
        )


def test_ranges():
    now = int(time.time() * 1e6)
    backwards = {"since_us": now, "until_us": now - 60000000}
    for method in ("GetFlame", "GetTop", "ListStacks", "ListAnomalies", "ListProcesses"):
        expect_error(
            f"{method}, upside down", "org.stackd." + method, {"filter": backwards}, "org.stackd.InvalidRange"
        )
    empty = {"since_us": now - 10000000, "until_us": now - 10000000}
    future = {"since_us": now + 3600000000, "until_us": now + 7200000000}
    for filter in (empty, future):
        check(
            daemon.call("GetFlame", {"filter": filter})["stacks"] == [], f"stacks in an empty range {filter}"
        )
        check(
            daemon.call("ListAnomalies", {"filter": filter})["anomalies"] == [], "anomalies in an empty range"
        )
        check(
            daemon.call("ListProcesses", {"filter": filter})["processes"] == [], "processes in an empty range"
        )


def test_pid_that_does_not_exist():
    for arguments in (("flame", "--pid", 4194303), ("stacks", "--pid", 4194303)):
        result = daemon.stackctl(*arguments, check_exit=False)
        note(f"stackctl {arguments}: {result.returncode}: {result.stdout}{result.stderr}")
        check(result.stderr.strip(), f"stackctl {arguments[0]}: no word about a pid that does not exist")


def test_stackctl_arguments():
    for arguments in (
        ("--since", "yesteryear"),
        ("--pid", "x"),
        ("--metric", "bogus"),
        ("--since", "-1min", "--until", "-2min"),
        ("--nonsense",),
    ):
        result = daemon.stackctl("flame", *arguments, check_exit=False)
        note(f"flame {arguments}: {result.returncode}: {result.stderr.strip()}")
        check(
            result.returncode != 0 and result.stderr.strip() and not result.stdout,
            f"flame {arguments}: accepted",
        )
    check(daemon.stackctl("nonsense", check_exit=False).returncode != 0, "an unknown verb is accepted")


def test_split_and_pipelined():
    with daemon.tick_keeper():
        with daemon.client() as client:
            for byte in GET_STATUS:
                client.send_bytes(bytes([byte]))
                time.sleep(0.001)
            check("parameters" in client.receive(), "a message in single bytes is not answered")
        with daemon.client() as client:
            methods = ["GetStatus", "GetGate"] * 50
            client.send_bytes(
                b"".join(json.dumps({"method": "org.stackd." + m}).encode() + b"\0" for m in methods)
            )
            for method in methods:
                reply = client.receive()
                expected = "status" if method == "GetStatus" else "history"
                check(reply and expected in reply["parameters"], f"pipelined: no {expected} in its turn")


def test_oversized():
    with daemon.tick_keeper():
        padding = b"x" * (2 * REQUEST_LIMIT)
        expect_close(
            "a message above the limit",
            b'{"method":"org.stackd.GetStatus","parameters":{"x":"' + padding + b'"}}\0',
        )
        expect_close("16 MiB without an end", b"{" + b" " * (16 << 20))
        alive()


def test_many_connections():
    with daemon.tick_keeper():
        sockets, refused, before = [], 0, daemon.descriptors()
        for _ in range(CONNECTS):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(2)
            try:
                connection.connect(daemon.socket_path)
                sockets.append(connection)
            except (BlockingIOError, ConnectionRefusedError, socket.timeout):
                refused += 1
                connection.close()
        answered = errors = 0
        for connection in sockets:
            connection.settimeout(0.2)
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(GET_STATUS)
            with contextlib.suppress(OSError):
                data = connection.recv(1 << 16)
                answered += b'"status"' in data
                errors += b"TooManyConnections" in data
            if answered + errors > 100:
                break
        note(f"{len(sockets)} connected, {refused} refused; {answered} answered, {errors} told why not")
        check(errors > 0, "none of them is told why it is refused")
        check(answered <= 64, "more connections are served than allowed")
        for connection in sockets:
            connection.close()
        alive()
        deadline = time.monotonic() + 10
        while daemon.descriptors() >= before + 32 and time.monotonic() < deadline:
            time.sleep(0.2)
        # Unwind tables that come meanwhile have descriptors, too.
        check(daemon.descriptors() < before + 32, f"{daemon.descriptors()} descriptors are left of {before}")


def test_never_reads():
    before = daemon.private_kib()
    with daemon.tick_keeper():
        deaf = []
        for _ in range(8):
            client = Client(daemon.socket_path)
            client.socket.setblocking(False)
            try:
                while True:
                    client.socket.send(b'{"method":"org.stackd.GetFlame","more":true}\0' * 100)
            except BlockingIOError:
                pass
            deaf.append(client)
        begin = time.monotonic()
        for _ in range(10):
            alive()
            time.sleep(0.5)
        note(f"10 calls in {time.monotonic() - begin - 5:.2f} s, {daemon.private_kib() - before} KiB more")
        check(time.monotonic() - begin < 8, "others are slowed down by clients that never read")
        check(daemon.private_kib() - before < 32 * 1024, "memory grows with clients that never read")
        for client in deaf:
            client.close()


def test_garbage_at_start():
    for what, text, line, key in (
        ("no number", "[Gate]\nOpenAbove=abc\n", 2, "OpenAbove"),
        ("an unknown key", "[Gate]\nOpenAbove=5\nOpenAbout=3\n", 3, "OpenAbout"),
        ("an unknown section", "[Gat]\nOpenAbove=5\n", 1, "Gat"),
        ("out of range", "\n\n[Collect]\nSampleHz=100000\n", 4, "SampleHz"),
        ("bytes", "\x01\x02\x7f\n", 1, None),
    ):
        other = Daemon(text)
        try:
            other.spawn()
            code = other.process.wait(timeout=10)
            note(f"{what}: exit {code}: {other.log_tail(2)}")
            check(code != 0, f"{what}: starts with a bad configuration")
            check(f"stackd.conf:{line}:" in other.log(), f"{what}: the line is not named: {other.log_tail()}")
            check(key is None or key in other.log(), f"{what}: {key} is not named: {other.log_tail()}")
        finally:
            other.remove()


def test_garbage_on_reload():
    with daemon.tick_keeper():
        before = daemon.call("GetGate")["gate"]["open_above"]
        daemon.reload("[Gate]\nOpenAbove=7\nCloseBelow=six\n")
        check("stackd.conf:3:" in daemon.log(), f"the refusal does not name the line: {daemon.log_tail()}")
        note("\n".join(line for line in daemon.log().splitlines() if "stackd.conf:3:" in line))
        check(daemon.call("GetGate")["gate"]["open_above"] == before, "half of a bad file was taken")
        daemon.reload("[Gate]\nOpenAbove=7\n")
        check(daemon.call("GetGate")["gate"]["open_above"] == 7.0, "a good file after a bad one is not taken")


def test_ends_well():
    check(daemon.stop() == 0, f"exit code {daemon.process.returncode}:\n{daemon.log_tail()}")


run(
    [
        ("malformed messages close the connection", test_malformed),
        ("wrong calls get an error that names the trouble", test_wrong_calls),
        ("upside-down ranges are refused, empty ones are empty", test_ranges),
        ("a pid that does not exist is told", test_pid_that_does_not_exist),
        ("stackctl refuses bad arguments", test_stackctl_arguments),
        ("split and pipelined messages are answered in order", test_split_and_pipelined),
        ("oversized messages close the connection", test_oversized),
        ("1,000 connections", test_many_connections),
        ("clients that never read", test_never_reads),
        ("a bad configuration at start: file, line, key, exit code", test_garbage_at_start),
        ("a bad configuration on reload is refused whole", test_garbage_on_reload),
        ("ends well after all that", test_ends_well),
    ],
    setup=daemon.start,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
