# SPDX-License-Identifier: GPL-2.0-or-later
"""Where waits are drawn, what a stack has is an estimate, and it says how sure it is. What it ought to be is known of processes that wait in one
place: the kernel's account of each is exact."""
from lib.daemon import Daemon
from lib.environment import require_root
from lib.tap import check, note, run, within
from lib.workload import Workload

SECONDS = 14
NAMES_S = 5  # until then what a tick had may be told with a later one, as its names are asked for
PROCESSES = 40
NSEC = 1e9

require_root()


def estimates(per_second, seconds=SECONDS, metric="blocked"):
    """Of each sleeper: what its stacks have, its exact account, and the standard error of the former."""
    with Daemon({"Collect": {"OffCPUStacksPerSec": per_second}}) as daemon:
        daemon.set_gate("open")
        daemon.wait_ticks(2)
        with Workload("sleepers", seconds=seconds, n=PROCESSES) as w:
            w.go()
            started_us = w.result()["started_us"]
            daemon.wait_ticks(3)
            window = {"since_us": started_us + NAMES_S * 1000000, "until_us": started_us + (seconds - 1) * 1000000}
            processes = [p for r in daemon.replies("ListProcesses", {"filter": {"comm": "wl_sleepers", **window}, "limit": 100}) for p in r["processes"]]
            found = {}
            for p in processes:
                pid = p["process"]["pid"]
                if pid == w.pid:
                    continue
                rows = [row for r in daemon.replies("GetFlame", {"metric": metric, "filter": {"pid": pid, **window}}) for row in r["stacks"]]
                error = sum(row["standard_error"] ** 2 for row in rows) ** 0.5
                found[pid] = (sum(row["value"] for row in rows), p["values"][metric], error)
            listed = daemon.stackctl("stacks", "--metric", metric, "--pid", next(iter(found))).stdout
    check(len(found) == PROCESSES, f"{len(found)} sleepers of {PROCESSES}")
    return found, listed


def the_stated_error_holds():
    found, listed = estimates(400)
    sure = [(estimate - exact) / error for estimate, exact, error in found.values() if error > 0]
    relative = sorted(error / exact for _, exact, error in found.values())
    rms = (sum(z * z for z in sure) / len(sure)) ** 0.5
    note(f"standard errors of {100 * relative[0]:.0f} to {100 * relative[-1]:.0f} %, errors of {rms:.2f} of them")
    check(len(sure) == PROCESSES and 0.02 < relative[PROCESSES // 2] < 0.5, "the estimates say that they are sure, or that nothing is known")
    within("errors in units of the stated one, root mean square", rms, 1, absolute=0.45)
    inside = sum(abs(z) < 1.96 for z in sure)
    check(inside >= 0.85 * PROCESSES, f"{inside} of {PROCESSES} are within what is stated for 19 of 20")
    within("all together", sum(e for e, _, _ in found.values()), sum(x for _, x, _ in found.values()), relative=0.1)
    check("+/-" in listed and "%" in listed, f"stackctl stacks doesn't say it:\n{listed}")


def what_is_not_drawn_is_exact():
    found, _ = estimates(0, seconds=9)
    check(not any(error for _, _, error in found.values()), f"an error is stated where there is none: {found}")
    for estimate, exact, _ in found.values():
        check(abs(estimate - exact) < 0.03 * exact + 0.02 * NSEC, f"{estimate / NSEC:.3f} s of {exact / NSEC:.3f} s")


run([(f.__name__.replace("_", " "), f) for f in (the_stated_error_holds, what_is_not_drawn_is_exact)])
