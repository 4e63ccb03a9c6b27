#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""stackctl --follow: what is told as it happens."""
import json
import re
import signal
import subprocess
import sys
import time

from fake_stackd import Close, FakeStackd, Hold, NOW_US, Sleep, anomaly, error, incident, reply
from harness import ENVIRONMENT, MORE, SOCKET, STACKCTL, TIMEOUT, bad, good, main, run, test


def found(*numbers, missed=0, continues=True):
    return reply(continues, events=[{"time_us": NOW_US, "anomaly": anomaly(n)} for n in numbers], missed=missed)


def change(what, seconds=0, **changes):
    return {"time_us": NOW_US + seconds * 10**6, "change": what, "incident": incident(**changes)}


@test
def anomalies_follow():
    stream = [found(1), Sleep(0.5), found(2, missed=3), Hold()]
    with FakeStackd(SOCKET, {"Subscribe": stream}) as fake:
        process = subprocess.Popen(
            [STACKCTL, "anomalies", "-f", "--no-legend"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        first, second = process.stdout.readline(), process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
    assert first.split()[-1] == b"1" and second.split()[-1] == b"2" and out == b""
    assert b"3 anomalies were missed" in err, err
    assert process.returncode == -signal.SIGINT, process.returncode
    assert fake.calls == [("Subscribe", {"only": "anomalies", "limit": 10}, MORE)], fake.calls


@test
def anomalies_follow_json_is_a_document_a_line():
    lines = good(
        "anomalies", "-f", "--json=short", answers={"Subscribe": [found(1, 2), found(3, continues=False)]}
    ).out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [1, 2, 3]


@test
def incidents_follow():
    stream = [
        reply(True, events=[change("kept", -600)], missed=0),
        reply(True, events=[change("opened", 3, id=8, closed=False, opened_us=NOW_US)], missed=0),
        reply(True, events=[change("grew", 60, id=8, closed=False, opened_us=NOW_US, severity="critical")], missed=2),
        reply(events=[change("closed", 120, id=8, opened_us=NOW_US, closed_us=NOW_US + 120 * 10**6)], missed=0),
    ]
    done = good("incidents", "-f", "-n", "1", answers={"Subscribe": stream})
    lines = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()]
    assert lines[0] == ["TIME", "CHANGE", "LASTED", "SEVERITY", "NAME", "WHERE", "SIZE", "CLUSTER", "ID"], lines
    assert [(line[0], line[1], line[3], line[-1]) for line in lines[1:]] == [
        ("Nov 23 09:50:00", "kept", "warning", "7"),
        ("Nov 23 10:00:03", "opened", "warning", "8"),
        ("Nov 23 10:01:00", "grew", "critical", "8"),
        ("Nov 23 10:02:00", "closed", "warning", "8"),
    ], lines
    assert lines[2][2].startswith("goes on, ") and lines[4][2] == "2min", lines
    # Lines that come one by one stand below each other.
    assert len({line.index("shop.service") for line in done.out.splitlines()[1:]}) == 1, done.out
    assert "2 changes of incidents were missed" in done.err
    assert done.calls == [("Subscribe", {"only": "incidents", "limit": 1}, MORE)], done.calls
    lines = good("incidents", "-f", "--json=short", answers={"Subscribe": stream}).out.splitlines()
    assert [json.loads(line)["change"] for line in lines] == ["kept", "opened", "grew", "closed"]
    assert "takes no ID" in bad("incidents", "7", "--follow")


@test
def follow_ends_when_the_reader_has_gone():
    with FakeStackd(SOCKET, {"Subscribe": [found(1), Hold()]}):
        begin = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", '"$0" anomalies -f --no-legend | head -1; echo "${PIPESTATUS[0]}"', STACKCTL],
            capture_output=True,
            timeout=TIMEOUT,
            env=ENVIRONMENT,
        )
    assert time.monotonic() - begin < 20
    assert done.stderr == b"" and done.stdout.splitlines()[-1] == b"0", done


@test
def follow_says_when_the_server_dies():
    done = run("anomalies", "-f", answers={"Subscribe": [found(1), Close()]})
    assert done.returncode == 1 and "closed the connection" in done.err and " 1\n" in done.out
    for verb in "anomalies", "incidents":
        done = run(verb, "-f", answers={"Subscribe": [reply(True, events=[], missed=0), error("Stopping")]})
        assert (done.returncode, done.out) == (1, ""), done
        assert done.err == "stackctl: stackd is stopping: nothing more comes. Ask again when it runs: systemctl status stackd\n"


@test
def follow_refuses_what_is_no_event():
    for verb, event in (("anomalies", {"time_us": 1}), ("incidents", change("opened", workloads=1)), ("incidents", {})):
        bad(verb, "-f", answers={"Subscribe": [reply(True, events=[event], missed=0), Hold()]})


if __name__ == "__main__":
    sys.exit(main())
