# SPDX-License-Identifier: GPL-2.0-or-later
"""A varlink client of a few lines: JSON objects on a Unix socket, each closed by one NUL."""
import json
import socket


class VarlinkError(Exception):
    def __init__(self, name, parameters):
        super().__init__(f"{name} {json.dumps(parameters)}")
        self.name = name
        self.parameters = parameters


class Client:
    def __init__(self, path, timeout=20):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send_bytes(self, data):
        self.socket.sendall(data)

    def send(self, method, parameters=None, **flags):
        message = {"method": method, "parameters": parameters or {}, **flags}
        self.send_bytes(json.dumps(message).encode() + b"\0")

    def receive(self):
        """The next reply, or None when the daemon has closed the connection."""
        while b"\0" not in self.buffer:
            data = self.socket.recv(1 << 16)
            if not data:
                return None
            self.buffer += data
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def replies(self, method, parameters=None, more=True):
        self.send(method, parameters, more=True) if more else self.send(method, parameters)
        while True:
            reply = self.receive()
            if reply is None:
                raise ConnectionError(f"{method}: connection closed before the reply")
            if "error" in reply:
                raise VarlinkError(reply["error"], reply.get("parameters", {}))
            yield reply.get("parameters", {})
            if not reply.get("continues"):
                return

    def call(self, method, parameters=None):
        return next(iter(list(self.replies(method, parameters, more=False))))
