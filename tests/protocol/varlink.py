# SPDX-License-Identifier: GPL-2.0-or-later
"""A varlink client of the tests' own, and a reader of descriptions; neither shares code with the product."""
import json
import re
import socket

TOKEN = re.compile(r"#[^\n]*|\s+|->|\[string\]|\[\]|[():,?]|[A-Za-z][A-Za-z0-9_.-]*")

BASIC = {"bool": bool, "string": str, "int": int, "float": float, "object": dict}


class Description:
    """types, methods and errors by name; a type is ("struct", {name: type}), ("enum", [names]),
    ("array"|"map"|"nullable", type), or the name of a basic or defined type."""

    def __init__(self, text):
        tokens, at = [], 0
        while at < len(text):
            m = TOKEN.match(text, at)
            if not m:
                raise ValueError("bad description at: " + text[at : at + 30])
            if not m[0].isspace() and m[0][0] != "#":
                tokens.append(m[0])
            at = m.end()
        self.tokens = tokens
        self.types, self.methods, self.errors = {}, {}, {}
        self.expect("interface")
        self.name = self.tokens.pop(0)
        while self.tokens:
            kind, name = self.tokens.pop(0), self.tokens.pop(0)
            if kind == "type":
                self.types[name] = self.type()
            elif kind == "error":
                self.errors[name] = self.type()
            else:
                call = self.type()
                self.expect("->")
                self.methods[name] = (call, self.type())

    def expect(self, token):
        got = self.tokens.pop(0)
        if got != token:
            raise ValueError(f"{token} expected, not {got}")

    def type(self):
        token = self.tokens.pop(0)
        if token == "?":
            return ("nullable", self.type())
        if token == "[]":
            return ("array", self.type())
        if token == "[string]":
            return ("map", self.type())
        if token != "(":
            return token
        fields, names = {}, []
        while self.tokens[0] != ")":
            name = self.tokens.pop(0)
            if self.tokens[0] == ":":
                self.tokens.pop(0)
                fields[name] = self.type()
            else:
                names.append(name)
            if self.tokens[0] == ",":
                self.tokens.pop(0)
        self.expect(")")
        return ("enum", names) if names else ("struct", fields)

    def check(self, t, v, path=""):
        """What is wrong with the value, or None."""
        if isinstance(t, str) and t in BASIC:
            return (
                None
                if type(v) is BASIC[t] and (t != "int" or -(2**63) <= v < 2**63)
                else f"{path}: {v!r} is no {t}"
            )
        if isinstance(t, str):
            return self.check(self.types[t], v, path)
        kind, inner = t
        if kind == "nullable":
            return None if v is None else self.check(inner, v, path)
        if kind == "enum":
            return None if v in inner else f"{path}: {v!r} is none of {inner}"
        if kind == "array":
            if not isinstance(v, list):
                return f"{path}: no array"
            if isinstance(inner, str) and inner in BASIC and set(map(type, v)) <= {BASIC[inner]}:
                return None
            return next(filter(None, (self.check(inner, x, f"{path}[{i}]") for i, x in enumerate(v))), None)
        if not isinstance(v, dict):
            return f"{path}: no object"
        if kind == "map":
            return next(filter(None, (self.check(inner, x, f"{path}.{k}") for k, x in v.items())), None)
        for key in v:
            if key not in inner:
                return f"{path}.{key}: not described"
        for name, field in inner.items():
            if name not in v:
                if field[0] != "nullable":
                    return f"{path}.{name}: missing"
                continue
            wrong = self.check(field, v[name], f"{path}.{name}")
            if wrong:
                return wrong
        return None


def refuse_duplicates(pairs):
    if len({k for k, _ in pairs}) != len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def refuse_constant(name):
    raise ValueError(name + " is not JSON")


class Client:
    """Checks every reply against the descriptions and remembers which methods and errors it saw."""

    descriptions = {}
    seen_methods, seen_errors = set(), set()

    def __init__(self, path, timeout=20):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.buffer = b""
        self.method = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send_bytes(self, data):
        self.socket.sendall(data)

    def send(self, method, parameters=None, **flags):
        message = {"method": method, **flags}
        if parameters is not None:
            message["parameters"] = parameters
        self.method = method
        self.send_bytes(json.dumps(message).encode() + b"\0")

    def receive_bytes(self):
        """The next message; None when the server closed."""
        while b"\0" not in self.buffer:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                if self.buffer:
                    raise ValueError("closed within a message")
                return None
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\0", 1)
        if len(message) > 1 << 20:
            raise ValueError("a message of more than 1 MiB")
        return message

    def receive(self, method=None):
        """(error or None, parameters, continues) of the next reply to method, checked; None at the end."""
        data = self.receive_bytes()
        if data is None:
            return None
        message = json.loads(
            data.decode(), object_pairs_hook=refuse_duplicates, parse_constant=refuse_constant
        )
        extra = set(message) - {"error", "parameters", "continues"}
        if extra:
            raise ValueError(f"unknown keys {extra}")
        error, parameters = message.get("error"), message.get("parameters", {})
        interface, name = (error or method or self.method).rsplit(".", 1)
        description = self.descriptions[interface]
        t = description.errors[name] if error else description.methods[name][1]
        wrong = description.check(t, parameters, name)
        if wrong:
            raise ValueError(wrong)
        (self.seen_errors if error else self.seen_methods).add(f"{interface}.{name}")
        return error, parameters, message.get("continues", False)

    def call(self, method, parameters=None, **flags):
        """(error or None, parameters) of a call with one reply."""
        self.send(method, parameters, **flags)
        error, result, continues = self.receive()
        if continues:
            raise ValueError("more replies than asked for")
        return error, result

    def call_more(self, method, parameters=None):
        """All replies' parameters; an error is raised."""
        self.send(method, parameters, more=True)
        result, continues = [], True
        while continues:
            error, parameters, continues = self.receive()
            if error:
                raise ValueError(error)
            result.append(parameters)
        return result
