# SPDX-License-Identifier: GPL-2.0-or-later
"""An ordinary user sees what is theirs, and nothing of anyone else: not in a list, not in a sum."""
import json

from lib.daemon import Daemon, as_user
from lib.environment import NOBODY, require_root
from lib.tap import check, note, run
from lib.varlink import VarlinkError
from lib.workload import Workload

OTHERS = (
    "spin_seventy",
    "spin_thirty",
    "spin_split",
    "wl_spin_split",
)  # what root's workload would give away

require_root()
daemon = Daemon()
state = {}


def ask(method, parameters=None, uid=NOBODY):
    with daemon.client(uid=uid) as client:
        return list(client.replies("org.stackd." + method, parameters, more=method == "GetFlame"))


def frames_and_processes(replies):
    """All names and pids anywhere in the replies."""
    names, pids = set(), set()

    def walk(value):
        if isinstance(value, dict):
            if "name" in value and "object" in value:
                names.add(value["name"])
            if "pid" in value and "comm" in value:
                pids.add((value["pid"], value["comm"], value.get("uid")))
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(replies)
    return names, pids


def check_own_only(what, replies):
    names, pids = frames_and_processes(replies)
    check(not [n for n in names if n in OTHERS], f"{what}: another user's frames: {names & set(OTHERS)}")
    check(not [p for p in pids if p[2] not in (NOBODY, None)], f"{what}: other users' processes: {pids}")
    text = json.dumps(replies)
    check(not any(other in text for other in OTHERS), f"{what}: traces of another user")


def set_up():
    daemon.start()
    daemon.stackctl("gate", "open")
    state["theirs"] = Workload("spin_split", seconds=7).go()
    state["mine"] = Workload("blocker", seconds=7, prefix=as_user()).go()
    state["switching"] = Workload("uid_switch", seconds=6).go()
    for load in (state["theirs"], state["mine"], state["switching"]):
        load.result()
        daemon.settled_flame("on_cpu", pid=load.pid)


def test_root():
    names = daemon.flame("on_cpu").names()
    check(
        {"spin_seventy", "compute", "spin_as_first", "spin_as_second"} <= names,
        "root does not see everything",
    )


def test_flame():
    for metric in ("on_cpu", "blocked", "runnable", "off_cpu", "faults_minor", "hits"):
        replies = ask("GetFlame", {"metric": metric})
        check_own_only(f"flame of {metric}", replies)
        values = sum(row["value"] for reply in replies for row in reply["stacks"])
        check(values == replies[-1]["total"], f"flame of {metric}: the total holds more than what is shown")
    names, _ = frames_and_processes(ask("GetFlame", {"metric": "on_cpu"}))
    check("compute" in names, "the user's own process is missing")


def test_others_by_name():
    """Asking for another's process, stack or command is like asking for one that does not exist."""
    for filter in ({"pid": state["theirs"].pid}, {"comm": "wl_spin_split"}):
        try:
            replies = ask("GetFlame", {"metric": "on_cpu", "filter": filter})
            check(
                replies[-1]["total"] == 0 and not any(r["stacks"] for r in replies),
                f"flame of {filter}: shown",
            )
        except VarlinkError as error:
            note(f"{filter}: {error}")
            check(error.name == "org.stackd.NotFound", str(error))
    stack = next(s.id for s in daemon.flame("on_cpu", pid=state["theirs"].pid).stacks)
    try:
        replies = ask("GetStack", {"stack": stack})
        check(False, f"another user's stack is shown: {replies}")
    except VarlinkError as error:
        check(error.name == "org.stackd.NotFound", str(error))


def test_lists():
    top = {by: ask("GetTop", {"by": by, "filter": {"since_us": 1}}) for by in ("stack", "function")}
    for by, replies in top.items():
        check_own_only(f"top by {by}", replies)
    own = ask("GetFlame", {"metric": "on_cpu", "filter": {"since_us": 1}})[-1]["total"]
    check(abs(top["stack"][0]["total"] - own) <= 0.2 * own, "top's total holds more than the user's own")
    check_own_only("stacks", ask("ListStacks"))
    check_own_only("processes", ask("ListProcesses"))
    check_own_only("anomalies", ask("ListAnomalies"))
    _, pids = frames_and_processes(ask("ListProcesses"))
    check(any(p[0] == state["mine"].pid for p in pids), "the user's own process is not in the list")


def test_switched_user():
    """What a process did before it became this user is not theirs to see."""
    try:
        replies = ask("GetFlame", {"metric": "on_cpu", "filter": {"pid": state["switching"].pid}})
        names, _ = frames_and_processes(replies)
        check("spin_as_first" not in names, "shows what the process did as root")
    except VarlinkError as error:
        note(f"nothing of it is shown: {error}")
        check(error.name == "org.stackd.NotFound", str(error))


def test_stackctl():
    for arguments in (("flame",), ("top",), ("stacks",), ("anomalies",)):
        text = daemon.stackctl(*arguments, user=NOBODY, check_exit=False)
        check(
            not any(other in text.stdout for other in OTHERS),
            f"stackctl {arguments[0]}: another user's frames",
        )
    folded = daemon.stackctl("flame", user=NOBODY).stdout
    check("compute" in folded, f"stackctl flame does not show the user's own:\n{folded}")


def test_changes_nothing():
    refused = daemon.stackctl("gate", "close", user=NOBODY, check_exit=False)
    check(refused.returncode != 0 and refused.stderr, "an ordinary user may close the gate")
    note(refused.stderr)
    check(daemon.call("GetGate")["gate"]["mode"] == "open", "the gate was changed")


def cleanup():
    for load in state.values():
        load.kill()
    daemon.remove()


run(
    [
        ("root sees everything", test_root),
        ("flame: own stacks and own sums only", test_flame),
        ("another's process and stack are as if they were not there", test_others_by_name),
        ("top, stacks, processes and anomalies: own only", test_lists),
        ("what a process did as another user stays hidden", test_switched_user),
        ("stackctl as an ordinary user", test_stackctl),
        ("an ordinary user changes nothing", test_changes_nothing),
    ],
    setup=set_up,
    cleanup=cleanup,
    on_failure=daemon.note_log,
)
