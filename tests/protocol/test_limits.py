# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections, time-outs, slow and silent clients."""
import os
import socket
import time

from harness import NOBODY, Server, as_user, equal, test, wait_until
from varlink import Client

REFUSED = ("org.stackd.TooManyConnections", False)


def is_served(client):
    """Whether the connection was admitted."""
    try:
        client.send("org.stackd.GetStatus")
    except (BrokenPipeError, ConnectionResetError):
        pass
    reply = client.receive()
    return reply is not None and reply[0] is None


@test
def one_user_gets_so_many_connections():
    with Server(uid_max=16) as s:
        clients = [Client(s.path) for _ in range(16)]
        equal([is_served(c) for c in clients], [True] * 16)
        with Client(s.path) as c:
            error, parameters, _ = c.receive("org.stackd.GetStatus")
            equal(
                (error, parameters, c.receive_bytes()), ("org.stackd.TooManyConnections", {"limit": 16}, None)
            )
        # Another user is not affected, and a place that is left is free again.
        equal(as_user(NOBODY, NOBODY, [], lambda: is_served(Client(s.path))), True)
        clients.pop().socket.close()
        wait_until(lambda: s.status()["connections"] == 15)
        with Client(s.path) as c:
            equal(is_served(c), True)


@test
def all_together_get_so_many():
    with Server(max=20, uid_max=16) as s:
        clients = [Client(s.path) for _ in range(16)]
        equal([is_served(c) for c in clients], [True] * 16)
        served = as_user(
            NOBODY, NOBODY, [], lambda: [is_served(c) for c in [Client(s.path) for _ in range(10)]]
        )
        equal(served, [True] * 4 + [False] * 6)


@test
def others_do_not_lock_root_out():
    with Server(max=4, uid_max=4) as s:
        # Four connections of nobody, kept open; one of them waits for anomalies.
        ready, done = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            clients = [Client(s.path) for _ in range(4)]
            clients[0].send("org.stackd.Subscribe", {"only": "anomalies"}, more=True)
            clients[0].receive()
            os.write(ready[1], b"x")
            os.read(done[0], 1)
            # The oldest that asked nothing has gone.
            os.write(ready[1], b"".join(b"y" if is_served(c) else b"n" for c in clients[1:]))
            os._exit(0)
        os.read(ready[0], 1)
        with Client(s.path) as c:
            equal(is_served(c), True)
            equal(s.status()["subscribers"], 1)
            os.write(done[1], b"x")
            equal(os.read(ready[0], 3), b"nyy")
        os.waitpid(child, 0)


@test
def a_thousand_connects():
    with Server() as s:
        start = time.monotonic()
        clients = []
        for _ in range(1000):
            c = Client(s.path)
            clients.append(c)
        served = sum(is_served(c) for c in clients)
        equal(served, 16)
        for c in clients:
            c.socket.close()
        wait_until(lambda: s.status()["connections"] == 0)
        equal(s.status()["refused"], 984)
        print(f"# {time.monotonic() - start:.2f} s")
        # One after the other they are all served.
        for _ in range(1000):
            with Client(s.path) as c:
                equal(is_served(c), True)


@test
def half_a_request_times_out():
    with Server(timeout_ms=300) as s, Client(s.path) as idle, Client(s.path) as slow:
        start = time.monotonic()
        slow.send_bytes(b'{"method":')
        with Client(s.path) as trickle:
            # A byte now and then doesn't help.
            closed = False
            while not closed and time.monotonic() - start < 5:
                try:
                    trickle.send_bytes(b" ")
                except BrokenPipeError:
                    closed = True
                time.sleep(0.05)
            equal((closed, 0.25 < time.monotonic() - start < 2), (True, True))
        equal(slow.receive_bytes(), None)
        # Who asks nothing may stay.
        equal(idle.call("org.stackd.GetStatus")[0], None)


@test
def a_client_that_never_reads_is_dropped():
    with Server(timeout_ms=500, many=3000) as s, Client(s.path) as silent, Client(s.path) as other:
        wait_until(lambda: s.status()["connections"] == 2)
        # Pages of a flame, far more than a socket holds.
        silent.send_bytes(
            b'{"method":"org.stackd.GetFlame","more":true,"parameters":{"metric":"faults_minor"}}\0' * 500
        )
        start, slowest = time.monotonic(), 0
        while s.status()["connections"] == 2:
            before = time.monotonic()
            equal(other.call("org.stackd.GetGate")[0], None)
            slowest = max(slowest, time.monotonic() - before)
            equal(time.monotonic() - start < 10, True, "dropped in time")
        print(
            f"# dropped after {time.monotonic() - start:.2f} s, others waited {slowest * 1000:.0f} ms at most"
        )
        equal((slowest < 0.5, time.monotonic() - start > 0.4), (True, True))


@test
def replies_that_nobody_reads_stop_the_reading():
    with Server() as s, Client(s.path) as c:
        c.socket.setblocking(False)
        call = b'{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"org.stackd"}}\0'
        sent, start = 0, time.monotonic()
        before = s.resident_bytes()
        while time.monotonic() - start < 1:
            try:
                sent += c.socket.send(call * 100)
            except BlockingIOError:
                time.sleep(0.01)
        equal(sent < 4 << 20, True, "it takes no more than the buffers hold")
        equal(s.resident_bytes() - before < 8 << 20, True)
        # And all that it took is answered, in order, once they are read.
        c.socket.setblocking(True)
        c.socket.settimeout(20)
        whole = sent // len(call)
        for _ in range(whole):
            equal(c.receive("org.varlink.service.GetInterfaceDescription")[0], None)


def bursts_to_who_does_not_read(s, c, n):
    """Anomalies and incidents, far more than the socket takes. The ids of the last of each."""
    c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    c.send("org.stackd.Subscribe", {}, more=True)
    equal(c.receive()[1]["events"], [])
    for i in range(n):
        anomaly = int(s.command("burst 100")[0])
        incident = int(s.command(f"incident 0 f{i}")[0])
        s.command("seconds 4 1e9")
        s.command("seconds 60 0")
    return anomaly, incident


@test
def a_slow_subscriber_misses_and_is_told():
    with Server() as s, Client(s.path) as c:
        last, incident = bursts_to_who_does_not_read(s, c, 20)
        dropped = s.status()["dropped"]
        equal(dropped > 0, True)
        got, missed, changes = [], 0, []
        while not changes or changes[-1] != ("closed", incident):
            error, reply, continues = c.receive()
            equal((error, continues), (None, True))
            got += [e["anomaly"]["id"] for e in reply["events"] if "anomaly" in e]
            changes += [(e["change"], e["incident"]["id"]) for e in reply["events"] if "incident" in e]
            missed += reply["missed"]
        # 20 bursts of 100, and with each an incident that opens and closes.
        equal((len(got) + len(changes) + missed, missed >= dropped), (20 * 102, True))
        equal((got, got[-1]), (sorted(set(got)), last))


@test
def what_waits_for_a_subscriber_is_bounded():
    with Server(queue=16) as s, Client(s.path) as c, Client(s.path) as other:

        def queue():
            limits = other.call("org.stackd.GetStatus")[1]["status"]["limits"]
            return [(l["used"], l["max"]) for l in limits if l["name"] == "subscriber-queue"]

        equal(queue(), [(0, 16)])
        bursts_to_who_does_not_read(s, c, 20)
        before = s.resident_bytes()
        for _ in range(50):
            s.command("burst 100")
        equal(queue(), [(16, 16)])
        status = other.call("org.stackd.GetStatus")[1]["status"]
        equal(status["messages_dropped"] > 4000, True)
        print(f"# grew by {s.resident_bytes() - before} bytes")
        equal(s.resident_bytes() - before < 4 << 20, True)


@test
def a_subscriber_that_leaves_is_noticed():
    def subscribe(s, after=b""):
        c = Client(s.path)
        c.send("org.stackd.Subscribe", {"only": "anomalies"}, more=True)
        c.receive()
        c.send_bytes(after)
        return c

    with Server() as s:
        subscribe(s).socket.close()
        wait_until(lambda: s.status()["connections"] == 0)
        # Calls that wait behind the subscription are not read; the end is noticed all the same.
        c = subscribe(s, b'{"method":"org.stackd.GetStatus"}\0')
        time.sleep(0.1)
        used = s.cpu_seconds()
        time.sleep(0.5)
        equal(s.cpu_seconds() - used < 0.1, True, "nothing spins")
        equal(s.status()["subscribers"], 1)
        c.socket.close()
        wait_until(lambda: s.status()["connections"] == 0)
        # Who only stops to send goes on to receive.
        c = subscribe(s)
        c.socket.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        new = int(s.command("anomaly 100 0")[0])
        equal([e["anomaly"]["id"] for e in c.receive()[1]["events"]], [new])
        c.socket.close()
        wait_until(lambda: s.status()["connections"] == 0)


@test
def without_descriptors_accepting_pauses():
    with Server(files=24, max=1000, uid_max=1000) as s:
        clients = [Client(s.path) for _ in range(40)]
        wait_until(lambda: s.status()["connections"] > 8)
        admitted = s.status()["connections"]
        equal(admitted < 24, True)
        used = s.cpu_seconds()
        time.sleep(2)
        equal(s.cpu_seconds() - used < 0.3, True, "it doesn't spin")
        equal(is_served(clients[0]), True, "who is in is served")
        for c in clients[:admitted]:
            c.socket.close()
        # The others' turn comes.
        clients[admitted].socket.settimeout(10)
        equal(is_served(clients[admitted]), True)
