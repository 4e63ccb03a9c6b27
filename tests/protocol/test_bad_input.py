# SPDX-License-Identifier: GPL-2.0-or-later
"""What isn't varlink closes the connection; what isn't a valid call is answered; and the service goes on."""
import json
import socket

from harness import Server, equal, test, wait_until
from varlink import Client

STATUS = b'{"method":"org.stackd.GetStatus"}\0'
MALFORMED = [
    b"\0",
    b" \0",
    b"x\0",
    b"[]\0",
    b"1\0",
    b"null\0",
    b'"x"\0',
    b"{}\0",
    b"{\0",
    b'{"method"}\0',
    b'{"method":}\0',
    b"{method:1}\0",
    b'{"method":1}\0',
    b'{"method":null}\0',
    b'{"method":["x"]}\0',
    b'{"Method":"org.stackd.GetStatus"}\0',
    b'{"method":"org.stackd.GetStatus",}\0',
    b'{"method":"org.stackd.GetStatus"}}\0',
    b'{"method":"org.stackd.GetStatus"} x\0',
    b'{"method":"org.stackd.GetStatus"}{}\0',
    b"{'method':'org.stackd.GetStatus'}\0",
    b'/**/{"method":"org.stackd.GetStatus"}\0',
    b'{"method":"org.stackd.GetStatus","method":"org.stackd.GetStatus"}\0',
    b'{"method":"org.stackd.GetStatus","parameters":{"a":1,"a":1}}\0',
    b'{"method":"org.stackd.GetStatus","x":NaN}\0',
    b'{"method":"org.stackd.GetStatus","x":Infinity}\0',
    b'{"method":"org.stackd.GetStatus","x":-Infinity}\0',
    b'{"method":"org.stackd.GetStatus","x":1e999}\0',
    b'{"method":"org.stackd.GetStatus","x":01}\0',
    b'{"method":"org.stackd.GetStatus","x":True}\0',
    b'{"method":"org.stackd.GetStat\xff"}\0',
    b'{"method":"\xc0\x80"}\0',
    b'{"method":"\xed\xa0\x80"}\0',
    b'{"method":"\xf4\x90\x80\x80"}\0',
    b'{"method":"\\ud800"}\0',
    b'{"method":"a\\u0000b"}\0',
    b'{"method":"\n"}\0',
    b"\xef\xbb\xbf" + STATUS,
    b'{"method":"org.stackd.GetStatus","more":1}\0',
    b'{"method":"org.stackd.GetStatus","more":"true"}\0',
    b'{"method":"org.stackd.GetStatus","oneway":[]}\0',
    b'{"method":"org.stackd.GetStatus","upgrade":{}}\0',
    b'{"method":"org.stackd.GetStatus","more":true,"oneway":true}\0',
    b'{"method":"org.stackd.GetStatus","more":true,"upgrade":true}\0',
    b'{"method":"org.stackd.GetStatus","oneway":true,"upgrade":true}\0',
    b'{"method":"org.stackd.GetStatus","x":' + b"[" * 16 + b"]" * 16 + b"}\0",
    b"[" * 60000 + b"\0",
    b'{"a":' * 10000 + b"\0",
    b"x" * 70000,
    b'{"method":"' + b"x" * 65536 + b'"}\0',
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\0",
]


@test
def what_is_not_varlink_closes():
    with Server() as s:
        for data in MALFORMED:
            with Client(s.path) as c:
                try:
                    c.send_bytes(data)
                except BrokenPipeError:
                    pass
                equal(c.receive_bytes(), None, data[:80])
        with Client(s.path) as c:
            equal(c.call("org.stackd.GetStatus")[1]["status"]["errors"], len(MALFORMED))


@test
def what_came_before_is_answered():
    with Server() as s, Client(s.path) as c:
        c.send_bytes(STATUS + b"nonsense\0" + STATUS)
        equal(c.receive("org.stackd.GetStatus")[0], None)
        equal(c.receive_bytes(), None)


@test
def limits_of_a_request_are_exact():
    with Server() as s, Client(s.path) as c:
        for size in (65535, 65536):
            message = b'{"method":"org.stackd.GetStatus","padding":"' + b"x" * (size - 46) + b'"}'
            equal(len(message), size)
            c.send_bytes(message + b"\0")
            equal(c.receive("org.stackd.GetStatus")[0], None, size)
        # Deep, but not too deep: the message itself is the first level.
        c.send_bytes(b'{"method":"org.stackd.GetStatus","x":' + b"[" * 15 + b"]" * 15 + b"}\0")
        equal(c.receive("org.stackd.GetStatus")[0], None)


@test
def bytes_one_by_one():
    with Server() as s, Client(s.path) as c:
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        for byte in STATUS * 3:
            c.send_bytes(bytes([byte]))
        for _ in range(3):
            equal(c.receive("org.stackd.GetStatus")[0], None)


@test
def pipelined_calls_are_answered_in_order():
    with Server(many=3000) as s, Client(s.path) as c:
        calls = []
        for i in range(100):
            parameters = {"filter": {"pid": 1000 + i}}
            calls.append(
                b'{"method":"org.stackd.GetFlame","parameters":' + json.dumps(parameters).encode() + b"}\0"
            )
            if i % 10 == 0:
                calls.append(
                    b'{"method":"org.stackd.GetFlame","more":true,"parameters":{"metric":"faults_minor"}}\0'
                )
        c.send_bytes(b"".join(calls))
        for i in range(100):
            error, parameters, _ = c.receive("org.stackd.GetFlame")
            equal((error, parameters), ("org.stackd.NotFound", {"what": f"process {1000 + i}"}))
            if i % 10 == 0:
                n, continues = 0, True
                while continues:
                    error, parameters, continues = c.receive("org.stackd.GetFlame")
                    n += len(parameters["stacks"])
                equal(n, 3000)


@test
def a_client_that_sends_no_more_is_answered():
    with Server() as s, Client(s.path) as c:
        c.send_bytes(STATUS * 5)
        c.socket.shutdown(socket.SHUT_WR)
        for _ in range(5):
            equal(c.receive("org.stackd.GetStatus")[0], None)
        equal(c.receive_bytes(), None)


def wrong_values(description, t):
    """Values that are not of the type."""
    if isinstance(t, str) and t in description.types:
        t = description.types[t]
    if t[0] == "nullable":
        return [v for v in wrong_values(description, t[1]) if v is not None]
    if isinstance(t, tuple) and t[0] == "enum":
        return [None, 1, "", "nothing", [], {}, True, t[1][0].upper()]
    if isinstance(t, tuple) and t[0] == "struct":
        return [None, 1, "x", [], True, {"no_such_field": 1}]
    return {
        "int": [None, "1", 1.5, 1e3, [], {}, True, 2**63, -(2**63) - 1, 10**30],
        "string": [None, 1, [], {}, False],
        "bool": [None, 0, 1, "true", [], {}],
    }[t]


def fields_of(description, t, path=()):
    """Every field of a struct and of the structs in it, as (path, type)."""
    for name, field in t[1].items():
        yield path + (name,), field
        inner = field[1] if field[0] == "nullable" else field
        inner = description.types.get(inner, inner) if isinstance(inner, str) else inner
        if isinstance(inner, tuple) and inner[0] == "struct":
            yield from fields_of(description, inner, path + (name,))


def nested(path, value):
    for name in reversed(path):
        value = {name: value}
    return value


@test
def every_parameter_of_a_wrong_type_is_named():
    n = 0
    needed = {
        "GetInterfaceDescription": {"interface": "org.stackd"},
        "GetStack": {"stack": "00000000000000a1"},
        "GetLines": {"stack": "00000000000000a3"},
        "SetGate": {"mode": "auto"},
        "WatchMemory": {"pid": 2},
        "UnwatchMemory": {"pid": 2},
        "GetCluster": {"cluster": "00000000000000a1"},
        "MuteCluster": {"cluster": "00000000000000a1"},
        "LabelIncident": {"id": 1, "label": "real"},
    }
    with Server() as s, Client(s.path) as c:
        for description in Client.descriptions.values():
            for method, (call, _) in description.methods.items():
                full = f"{description.name}.{method}"
                for path, t in fields_of(description, call):
                    for value in wrong_values(description, t):
                        error, parameters = c.call(full, {**needed.get(method, {}), **nested(path, value)})
                        name = ".".join(path) + (
                            ".no_such_field"
                            if value == {"no_such_field": 1}
                            and isinstance(t, tuple)
                            or value == {"no_such_field": 1}
                            else ""
                        )
                        equal(
                            (error, parameters),
                            ("org.varlink.service.InvalidParameter", {"parameter": name}),
                            (full, path, value),
                        )
                        n += 1
                equal(
                    c.call(full, {**needed.get(method, {}), "no_such_field": 1}),
                    ("org.varlink.service.InvalidParameter", {"parameter": "no_such_field"}),
                    full,
                )
                for name in needed.get(method, {}):
                    rest = {k: v for k, v in needed[method].items() if k != name}
                    equal(c.call(full, rest), ("org.varlink.service.InvalidParameter", {"parameter": name}), full)
                for parameters in ([], 1, "x", True):
                    c.send(full, parameters)
                    equal(
                        c.receive()[:2],
                        ("org.varlink.service.InvalidParameter", {"parameter": "parameters"}),
                        full,
                    )
                c.send_bytes(
                    json.dumps({"method": full, "parameters": None, "oneway": True}).encode() + b"\0"
                )
        equal(c.call("org.stackd.GetStatus")[0], None)
    print(f"# {n} wrong values")


@test
def ranges_are_checked():
    with Server() as s, Client(s.path) as c:
        invalid = "org.varlink.service.InvalidParameter"
        for method in ("GetFlame", "GetTop", "GetSeries", "GetHeat", "ListStacks", "ListProcesses", "ListAnomalies"):
            for field, values in (
                ("pid", (0, -1, 2**31, 2**63 - 1)),
                ("since_us", (-1,)),
                ("until_us", (-1, -(2**63) + 1)),
            ):
                for value in values:
                    equal(
                        c.call("org.stackd." + method, {"filter": {field: value}}),
                        (invalid, {"parameter": "filter." + field}),
                        (method, value),
                    )
            equal(
                c.call("org.stackd." + method, {"filter": {"since_us": 2, "until_us": 1}}),
                ("org.stackd.InvalidRange", {"since_us": 2, "until_us": 1}),
            )
        equal(c.call("org.stackd.GetGate", {"since_us": 2, "until_us": 1})[0], "org.stackd.InvalidRange")
        equal(c.call("org.stackd.GetGate", {"since_us": -1}), (invalid, {"parameter": "since_us"}))
        for method in ("GetTop", "ListStacks", "ListProcesses"):
            for limit in (0, -1, 10001):
                equal(
                    c.call("org.stackd." + method, {"limit": limit}),
                    (invalid, {"parameter": "limit"}),
                    (method, limit),
                )
        equal(c.call("org.stackd.ListAnomalies", {"limit": -1}), (invalid, {"parameter": "limit"}))
        for parameters, field in (
            ({"only": "both"}, "only"),
            ({"type": "odd"}, "type"),
            ({"limit": 10001}, "limit"),
            ({"filter": {"pid": -1}}, "filter.pid"),
            ({"follow": True}, "follow"),
        ):
            equal(c.call("org.stackd.Subscribe", parameters, more=True), (invalid, {"parameter": field}), parameters)
        for stack in ("", "a1", "0" * 16, "g" * 16, "0" * 17, "0x00000000000000a1"[:16], " 0000000000000a1"):
            for method in ("GetStack", "GetFlame", "GetSeries", "GetHeat"):
                equal(
                    c.call("org.stackd." + method, {"stack": stack}), (invalid, {"parameter": "stack"}), stack
                )
        for duration in (0, -1):
            equal(
                c.call("org.stackd.SetGate", {"mode": "open", "duration_us": duration}),
                (invalid, {"parameter": "duration_us"}),
            )
        equal(
            c.call("org.stackd.SetGate", {"mode": "auto", "duration_us": 5}),
            (invalid, {"parameter": "duration_us"}),
        )
        equal(c.call("org.stackd.GetGate")[1]["gate"]["mode"], "auto", "nothing was changed")


@test
def oneway_is_never_answered():
    with Server() as s, Client(s.path) as c:
        for method, parameters in (
            ("org.stackd.GetStatus", {}),
            ("org.stackd.Nothing", {}),
            ("org.stackd.GetFlame", {"filter": {"pid": 0}}),
            ("org.stackd.Subscribe", {}),
            ("org.stackd.SetGate", {"mode": "open"}),
        ):
            c.send(method, parameters, oneway=True)
        error, reply = c.call("org.stackd.GetGate")
        equal((error, reply["gate"]["mode"]), (None, "open"))
        wait_until(lambda: s.status()["subscribers"] == 0)


@test
def more_and_upgrade_on_a_short_answer():
    with Server() as s, Client(s.path) as c:
        for flags in (
            {"more": True},
            {"more": False, "oneway": False, "upgrade": False},
            {"upgrade": True},
            {"more": None},
        ):
            equal(c.call("org.stackd.GetGate", **flags)[0], None, flags)
