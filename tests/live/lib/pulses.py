# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of wl_pulses within seconds: it burns in pulse_first from 0 to 200 ms of each, in pulse_second from 200 to 400 ms."""
from . import varlink
from .tap import check, within

SECOND = 1000000
MARGIN = 25000  # us, by which it may be late: at the edges of a sampling period, or waiting for a CPU


def check_pulses(daemon, pid, account, whole):
    begin, end = -(-account["started_us"] // SECOND), account["ended_us"] // SECOND
    check(end - begin >= 4, f"only {end - begin} whole seconds")
    for function, at in (("pulse_first", 0), ("pulse_second", 200000)):
        own = total = 0
        for second in range(begin, end):
            since = second * SECOND + at + MARGIN
            flame = daemon.flame("on_cpu", exact=True, pid=pid, since_us=since, until_us=since + 150000)
            own, total = own + flame.with_function(function), total + flame.total
            check(flame.window["until_us"] - flame.window["since_us"] == 150000, f"the window is {flame.window}")
        mean = account["on_cpu"][function] / (account["wall_ns"] / 1e9)
        within(f"on-CPU ns a second in 150 of 200 ms of {function}", total / (end - begin), 0.75 * mean, relative=0.45)
        check(own > 0.98 * total, f"{own} of {total} ns are in {function}")
    replies = daemon.replies("GetHeat", {"step_us": 50000, "filter": {"pid": pid, "since_us": begin * SECOND, "until_us": end * SECOND}})
    check(replies[0]["since_us"] == begin * SECOND and replies[0]["until_us"] == end * SECOND, f"it keeps {replies[0]}")
    rows = [0] * 20
    for step in (step for reply in replies for step in reply["steps"]):
        rows[step["time_us"] % SECOND // 50000] += step["on_cpu"]
    check(min(rows[:8]) > 0 and sum(rows[9:]) < 0.02 * sum(rows), f"by 50 ms: {rows}")
    # All of them are there, as far as the store's seconds know.
    exact = daemon.flame("on_cpu", exact=True, pid=pid)
    within("on-CPU ns by samples' times", exact.total, whole.total, relative=0.01)
    check({s.id for s in exact.stacks} == {s.id for s in whole.stacks}, "not the same stacks")
    try:
        daemon.flame("blocked", exact=True, pid=pid)
        check(False, "exact waits are given")
    except varlink.VarlinkError as error:
        check(error.name == "org.stackd.NotKept", f"it is {error.name}")
