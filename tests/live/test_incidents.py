# SPDX-License-Identifier: GPL-2.0-or-later
"""Six troubles befall the instances of a service, one into the next and again: one incident each, six clusters in all, of the right kinds, which a
restart of the daemon does not change."""
import contextlib
import pathlib
import time

from lib.daemon import Daemon
from lib.environment import require_root
from lib.groups import enter, group
from lib.tap import check, note, run
from lib.workload import Workload

KINDS = {
    "spin": "cpu_spin",
    "convoy": "lock_contention",
    "starve": "run_queue_starvation",
    "backend": "network_wait",
    "storm": "fault_storm",
    "disk": "io_stall",
}
# Which of a round's instances each befalls. A unit is told again only of what is another metric.
INSTANCE = {"spin": 0, "convoy": 1, "starve": 2, "backend": 0, "storm": 2, "disk": 3}
ROUNDS = 3
BASELINE_S = 75
EVERY_S, LASTS_S = 6, 8
SETTLES_S = 6  # after which what has begun is told, and in its cluster
LATE_S = 3  # it may begin to be told so long after its end; the unit's next comes later
WORKERS = 10
WORTH = 0.1  # CPUs' worth; a false alarm that the budget has room for, and what others on the machine do to one's own, may come to less

require_root()
# A trouble every few seconds after a minute of experience: no small budget of false alarms has room for that.
daemon = Daemon({"Collect": {"SampleHz": 499}, "Detect": {"FalseAlarmsPerDay": 5000}, "Store": {"StoreSize": "512M"}})
stack = contextlib.ExitStack()
services = {}
befell = []  # (round, trouble, unit, begin, end)
spared = set()  # (round, trouble) of what befell nobody as it was meant to
known = {}  # the cluster of each trouble


def start(unit, n=1, **options):
    path = stack.enter_context(group(unit))
    services[unit] = []
    for _ in range(n):
        service = stack.enter_context(Workload("service", linger=False, **options))
        enter(path, service.pid)
        services[unit].append(service.go())


def say(service, trouble):
    service.process.stdin.write(trouble + "\n")
    service.process.stdin.flush()


def set_up():
    for r in range(ROUNDS):
        for i in set(INSTANCE.values()):
            start(f"shop-{r}{i}.service")
    for unit in ("both-a.service", "both-b.service"):
        start(unit)
    start("pool.service", WORKERS, threads=2)
    daemon.start()
    daemon.stackctl("gate", "open")
    time.sleep(BASELINE_S)


def account(service):
    """How long all its threads have run, and waited for a CPU, by the kernel's own account: s."""
    run = waited = 0
    for path in pathlib.Path(f"/proc/{service.pid}/task").glob("*/schedstat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            a, b, _ = path.read_text().split()
            run, waited = run + int(a), waited + int(b)
    return run / 1e9, waited / 1e9


def is_starved(run, waited, seconds):
    """Whoever else is on the machine may leave it so little that it is not spinning but starving."""
    starved = run < seconds / 2 or waited > 1.5 * run
    note(f"ran {run:.1f} s and waited for CPUs {waited:.1f} s" + (": that is no spin" if starved else ""))
    return starved


def incidents():
    """Those that are of our services, the oldest first."""
    found = [i for reply in daemon.replies("ListIncidents", {"limit": 500}, more=False) for i in reply["incidents"]]
    return [i for i in reversed(found) if i["workloads"] and i["workloads"][0]["unit"] in services]


def describe(i):
    moved = "; ".join(
        f"{m['metric']} {m['expected']:.3g} to {m['worst']:.3g} in {m['frames'][-1]['name'] if m['frames'] else '?'}" for m in i["moved"]
    )
    units = [w["unit"] or w["comm"] for w in i["workloads"]]
    return f"{i['id']} {i['kind']} \"{i['name']}\" {i.get('cluster')} of {units} at {i['opened_us'] / 1e6 % 10000:.1f}: {moved}"


def befall(r, schedule):
    """schedule: of (begins after, trouble, unit)."""
    begun = time.time()
    accounts = {}
    steps = [(at, trouble, trouble, unit) for at, trouble, unit in schedule] + [(at + LASTS_S, "calm", trouble, unit) for at, trouble, unit in schedule]
    for at, what, trouble, unit in sorted(steps):
        time.sleep(max(begun + at - time.time(), 0))
        service = services[unit][0]
        if what == "calm":
            run, waited = (now - before for now, before in zip(account(service), accounts[unit]))
            befell.append((r, trouble, unit, begun + at - LASTS_S, time.time()))
            note(f"{trouble} in {unit} from {(begun + at - LASTS_S) % 10000:.1f}")
            if trouble == "spin" and is_starved(run, waited, LASTS_S):
                spared.add((r, trouble))
        accounts[unit] = account(service)
        say(service, what)


def told(r):
    """What was told of each trouble of that round: about its unit, while it lasted."""
    found = [i for i in incidents() if i["size"] >= WORTH]
    return {
        trouble: [
            i
            for i in found
            if i["workloads"][0]["unit"] == unit and begin - 1 <= i["last_us"] / 1e6 and i["opened_us"] / 1e6 <= end + LATE_S
        ]
        for its_round, trouble, unit, begin, end in befell
        if its_round == r
    }


def check_told(r, troubles):
    by_trouble = told(r)
    for i in incidents():
        note(describe(i))
    for trouble in troubles:
        if (r, trouble) in spared:
            continue
        found = by_trouble[trouble]
        check(len(found) == 1, f"{trouble}: {len(found)} incidents")
        check(found[0]["kind"] == KINDS[trouble], f"{trouble}: told as {found[0]['kind']}")
    return {trouble: by_trouble[trouble][0]["cluster"] for trouble in troubles if (r, trouble) not in spared}


def check_same(clusters):
    """As in the rounds before."""
    for trouble, cluster in clusters.items():
        check(known.setdefault(trouble, cluster) == cluster, f"{trouble}: in cluster {cluster}, which was {known[trouble]}")


def one_round(r):
    befall(r, [(n * EVERY_S, trouble, f"shop-{r}{INSTANCE[trouble]}.service") for n, trouble in enumerate(KINDS)])
    time.sleep(SETTLES_S)
    clusters = check_told(r, KINDS)
    check(len(set(clusters.values())) == len(clusters), f"{len(set(clusters.values()))} clusters: {clusters}")
    check_same(clusters)


def test_first():
    one_round(0)


def test_again():
    one_round(1)


def test_after_restart():
    daemon.stop()
    daemon.start()
    daemon.stackctl("gate", "open")
    one_round(2)


def test_two_at_once():
    befall("both", [(0, "spin", "both-a.service"), (0, "convoy", "both-b.service")])
    time.sleep(SETTLES_S)
    check_same(check_told("both", ("spin", "convoy")))


def test_moves():
    """From one worker process to the next."""
    begun, run, waited = time.time(), 0, 0
    for service in services["pool.service"]:
        before = account(service)
        say(service, "spin")
        time.sleep(1.2)
        run, waited = (sum(n) for n in zip((run, waited), (now - was for now, was in zip(account(service), before))))
        say(service, "calm")
    time.sleep(SETTLES_S)
    found = [i for i in incidents() if i["size"] >= WORTH and i["workloads"][0]["unit"] == "pool.service" and i["last_us"] / 1e6 >= begun - 1]
    for i in found:
        note(describe(i))
    if is_starved(run, waited, 1.2 * WORKERS):
        return
    check(len(found) == 1, f"{len(found)} incidents")
    check(found[0]["kind"] == "cpu_spin", f"told as {found[0]['kind']}")
    check_same({"spin": found[0]["cluster"]})


def test_clusters():
    """What is listed at the end."""
    listed = {c["id"]: c for reply in daemon.replies("ListClusters", {}, more=False) for c in reply["clusters"]}
    note(daemon.stackctl("clusters").stdout)
    for trouble, cluster in known.items():
        times = sum(what == trouble and (r, what) not in spared for r, what, *_ in befell)
        check(listed[cluster]["kind"] == KINDS[trouble], f"{trouble}: a cluster of {listed[cluster]['kind']}")
        check(listed[cluster]["incidents"] >= times, f"{trouble}: {listed[cluster]['incidents']} incidents in its cluster")


run(
    [
        ("six troubles are six incidents in six clusters, of the right kinds", test_first),
        ("so they are the second time, in the same clusters", test_again),
        ("so they are after a restart", test_after_restart),
        ("two at once in two services are two incidents", test_two_at_once),
        ("a trouble that moves through ten workers is one incident", test_moves),
        ("there are six clusters", test_clusters),
    ],
    setup=set_up,
    cleanup=lambda: (stack.close(), daemon.remove()),
    on_failure=daemon.note_log,
)
