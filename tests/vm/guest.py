#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in the guest, as root: does with stackd what its manual says one can do, and prints TAP. Steps build on one another."""

import contextlib
import json
import os
import pathlib
import platform
import pwd
import re
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
SUITE = sys.argv[1]
SOCKET = "/run/stackd/org.stackd"
DROP_IN = pathlib.Path("/etc/stackd/stackd.conf.d/50-test.conf")
SAVED = pathlib.Path("/var/lib/stackd")
MESSAGE_OPENED = "258eb2f5a1d14274827af207c3597d9f"
MESSAGE_CLOSED = "75900cd7157747ec99bab69c34f62971"

# linux/capability.h
CAPABILITIES = {"DAC_READ_SEARCH": 2, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYSLOG": 34, "PERFMON": 38, "BPF": 39,
                "CHECKPOINT_RESTORE": 40}
SECURITY_MAX = 2.2

# Emulated, and on a busy host, everything takes up to fifty times as long.
SOON = 30       # seconds: what happens within a tick or two
BASELINE = 60   # ticks of quiet before a load, for the detectors to see
BASELINE_WITHIN = 180  # seconds that they may take
LOAD = 90       # seconds that an anomaly may take from the load's start to the report

# So many samples a second, of kernels whose interrupts are slow here, make more stacks than the default keeps for these minutes; and an emulated
# machine's time for them says nothing of a budget.
ROOM = DROP_IN.with_name("40-room.conf")
SETTINGS = "[Gate]\nCloseAfter=3s\nBaselineHz=100\n[Collect]\nSampleHz=499\n"

steps = []
load = {}  # since: when the victim began to spin


class Failed(Exception):
    """What a user would have seen go wrong."""


def step(function=None, *, fatal=False, suites=()):
    """Registers a step; its doc string is its name. Without a fatal one the rest makes no sense."""
    if function is None:
        return lambda f: step(f, fatal=fatal, suites=suites)
    if not suites or SUITE in suites:
        steps.append((function, fatal))
    return function


# ---- helpers ----

def run(*command, user=None, timeout=60, ok=True):
    """Runs a command and gives its completed process; it failing is a failure of the step, unless ok is False or None (either
    will do)."""
    as_user = {}
    if user:
        entry = pwd.getpwnam(user)
        as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                            timeout=timeout, **as_user)
    if ok is not None and (result.returncode == 0) != ok:
        raise Failed(f"{' '.join(command)}: exit code {result.returncode}\n{result.stdout[-1500:]}{result.stderr[-1500:]}")
    return result


def output(*command, **kwargs):
    return run(*command, **kwargs).stdout


def stackctl(*arguments, **kwargs):
    return output("stackctl", "--no-pager", *arguments, **kwargs)


def query(*arguments, **kwargs):
    return json.loads(stackctl("--json=short", *arguments, **kwargs))


def status():
    return query("status")["status"]


def expect(condition, message):
    if not condition:
        raise Failed(message)


def wait_for(condition, what, seconds=SOON, every=0.5):
    """Waits until the condition gives something true, and gives that. A Failed in it counts as not yet."""
    deadline = time.monotonic() + seconds
    reason = ""
    while True:
        try:
            value = condition()
            if value:
                return value
        except Failed as e:
            reason = f"\n{e}"
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s{reason}")
        time.sleep(every)


def unit_property(unit, name):
    return output("systemctl", "show", "--value", "-p", name, unit).strip()


def main_pid():
    return int(unit_property("stackd.service", "MainPID"))


def process_status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def capabilities(pid, kind):
    mask = int(process_status(pid)[kind], 16)
    names = {bit: name for name, bit in CAPABILITIES.items()}
    return {names.get(bit, str(bit)) for bit in range(64) if mask >> bit & 1}


def victim_is_kept(window):
    """Its stacks are in the history still; if not, what is."""
    own = stackctl("flame", f"--since={window}", "--unit=victim")
    if not has_function(own, "burn_victim"):
        everything = stackctl("flame", f"--since={window}")
        of_it = [line for line in everything.splitlines() if "burn_victim" in line]
        raise Failed(f"the victim's stacks are gone; of the unit there are:\n{own[:600]}\nof all {len(everything.splitlines())} stacks its are:\n"
                     + "\n".join(of_it)[:600] + "\nprocesses:\n" + stackctl("processes", f"--since={window}", "-n", "all")[:1500])


def ticks_go_on():
    before = status()["ticks"]
    wait_for(lambda: status()["ticks"] >= before + 2, "two more ticks")


def journal(*arguments):
    run("journalctl", "--sync")
    return output("journalctl", "--no-pager", "-q", *arguments)


def start_workload(name, kind, threads, user="root", cpu=None):
    # Nice, so that the load does not slow down what the test asks meanwhile; a nice task is as runnable as another.
    properties = ["-p", f"User={user}", "-p", "Nice=15", "-p", "CollectMode=inactive-or-failed"]
    if cpu is not None:
        properties += ["-p", f"CPUAffinity={cpu}"]
    run("systemd-run", "-q", f"--unit={name}", *properties, str(HERE / "workload"), kind, str(threads))


def signal_workload(name, signal):
    run("systemctl", "kill", f"--signal={signal}", f"{name}.service")


@contextlib.contextmanager
def workload(name, kind, threads, **kwargs):
    """A unit of that name that spins while the context lasts."""
    start_workload(name, kind, threads, **kwargs)
    try:
        # The signal must find its handler.
        time.sleep(1)
        signal_workload(name, "SIGUSR1")
        yield int(unit_property(f"{name}.service", "MainPID"))
    finally:
        run("systemctl", "stop", f"{name}.service", ok=None)


def configure(text):
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text(text)


def reload_service():
    run("systemctl", "reload", "stackd.service")


def frames_of(folded):
    """{function: value} over all stacks in folded text."""
    sums = {}
    for line in folded.splitlines():
        stack, _, value = line.rpartition(" ")
        for frame in set(stack.split(";")):
            sums[frame] = sums.get(frame, 0) + int(value)
    return sums


def has_function(folded, name):
    return any(name == frame or frame.startswith((name + " ", name + "+")) for frame in frames_of(folded))


def anomalies(*arguments):
    return query("anomalies", "--since=10m", *arguments)["anomalies"]


# ---- steps ----

@step(fatal=True)
def service_starts():
    """systemctl enable --now stackd brings up the service and its socket"""
    ROOM.parent.mkdir(parents=True, exist_ok=True)
    ROOM.write_text("[Store]\nStoreSize=128M\n[Collect]\nCPUBudgetClosed=100\nCPUBudgetOpen=100\n")
    # As systemd/install does it.
    run("systemd-sysusers", "stackd.conf")
    run("systemd-tmpfiles", "--create", "stackd.conf")
    run("journalctl", "--update-catalog")
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "--now", "stackd", timeout=120)
    for unit in "stackd.service", "stackd.socket":
        expect(output("systemctl", "is-active", unit).strip() == "active", f"{unit} is not active")
        expect(output("systemctl", "is-enabled", unit).strip() == "enabled", f"{unit} is not enabled")
    mode = os.stat(SOCKET).st_mode & 0o777
    expect(mode == 0o666, f"the socket's mode is {mode:o}")


@step(fatal=True)
def records():
    """the service records: its first tick comes, and ticks go on"""
    wait_for(lambda: status()["ticks"] > 0, "a tick")
    ticks_go_on()


@step
def tells_where_it_runs():
    """status names the kernel, and stackctl without a verb shows it to a reader"""
    expect(status()["kernel"].find(platform.release()) >= 0, f"not {platform.release()}: {status()['kernel']}")
    expect(platform.release() in stackctl(), "the kernel's release is not shown")


@step
def privileges_are_dropped():
    """the three processes have the capabilities that the manual says, and no more"""
    s = status()
    expected = {
        "pid": {"BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "SYSLOG", "CHECKPOINT_RESTORE"},
        "opener_pid": {"SYS_ADMIN", "PERFMON"},
        "parser_pid": set(),
    }
    for who, allowed in expected.items():
        pid = s[who]
        expect(pid > 0, f"{who} is {pid}")
        for kind in "CapEff", "CapPrm":
            has = capabilities(pid, kind)
            expect(has <= allowed, f"{who}: {kind} has {sorted(has - allowed)} beyond what it should")
        expect(not capabilities(pid, "CapInh") and not capabilities(pid, "CapAmb"), f"{who} can hand capabilities on")
        expect(process_status(pid)["NoNewPrivs"] == "1", f"{who}: NoNewPrivs is not set")
        expect(process_status(pid)["Seccomp"] == "2", f"{who}: no system call filter")
    expect(s["pid"] == main_pid(), "status tells another pid than systemd")


@step
def security_figure():
    """systemd-analyze security finds little exposure"""
    text = output("systemd-analyze", "security", "--no-pager", "stackd.service", timeout=120)
    found = re.search(r"Overall exposure level for stackd.service: ([0-9.]+)", text)
    expect(found, text[-500:])
    print(f"# systemd-analyze security: {found[1]}")
    expect(float(found[1]) <= SECURITY_MAX, f"{found[1]} is above {SECURITY_MAX}")


@step
def load_opens_the_gate():
    """a load above OpenAbove= opens the gate, with load as its cause"""
    # What takes hours with the defaults must show after a minute: more samples and a larger budget make up for it.
    configure(SETTINGS + "[Detect]\nFalseAlarmsPerDay=1000\n")
    reload_service()
    start_workload("victim", "victim", 14)
    enough = status()["ticks"] + BASELINE
    wait_for(lambda: status()["ticks"] >= enough, f"{BASELINE} ticks", BASELINE_WITHIN, every=5)
    load["since"] = time.time()
    signal_workload("victim", "SIGUSR1")
    wait_for(lambda: status()["gate"]["open"], "the gate open")
    # The change gets its row in the history with the tick in which it happened.
    wait_for(lambda: [c for c in query("gate")["history"] if c["open"] and c["cause"] == "load"],
             "the opening in the history, with load as its cause")


@step
def anomaly_is_found():
    """stackctl anomalies --since 10m shows the victim"""
    def found():
        return [a for a in anomalies() if a["unit"] == "victim.service"]

    try:
        first = wait_for(found, "an anomaly of victim.service", LOAD)[0]
    finally:
        signal_workload("victim", "SIGUSR2")
    print(f"# first anomaly: {first['type']} {first['metric']} score {first['score']:.1f}")
    expect("victim.service" in stackctl("anomalies", "--since", "10m", "--full"), "not in the table")
    expect(anomalies("--unit=victim"), "none with --unit=victim")
    others = [a for a in anomalies("--unit=no-such-unit")]
    expect(not others, "some with another unit")


@step
def flame_graph_has_the_function():
    """stackctl flame --pid N has the function that spins, above its callers"""
    pid = int(unit_property("victim.service", "MainPID"))
    folded = wait_for(lambda: stackctl("flame", f"--pid={pid}", f"--since=@{load['since']:.0f}"), "folded stacks")
    sums = frames_of(folded)
    total = sum(int(line.rpartition(" ")[2]) for line in folded.splitlines())
    hot = sums.get("burn_victim", 0)
    print(f"# burn_victim: {100 * hot / max(total, 1):.1f} % of {total / 1e9:.1f} s")
    expect(hot > 0.5 * total, f"burn_victim has {hot} of {total}:\n{folded[:1500]}")
    expect(re.search(r"work;burn_victim;spin\b", folded), f"no work;burn_victim;spin:\n{folded[:1500]}")


@step
def journal_has_the_record():
    """journalctl MESSAGE_ID=... -u victim.service shows the incident"""
    def records_of_victim():
        text = journal("-o", "json", f"MESSAGE_ID={MESSAGE_OPENED}")
        return [r for r in map(json.loads, text.splitlines()) if r.get("OBJECT_SYSTEMD_UNIT") == "victim.service"]

    record = wait_for(records_of_victim, "a record with OBJECT_SYSTEMD_UNIT=victim.service")[0]
    expect(record.get("OBJECT_PID") == unit_property("victim.service", "MainPID"), f"OBJECT_PID is {record.get('OBJECT_PID')}")
    for field in "STACKD_INCIDENT", "STACKD_CLUSTER", "STACKD_KIND", "STACKD_SEVERITY", "STACKD_SCORE", "STACKD_STACK", "STACKD_METRIC":
        expect(any(name.startswith(field) for name in record), f"no {field}* in {sorted(record)}")
    expect(journal("-u", "victim.service", f"MESSAGE_ID={MESSAGE_OPENED}"), "not with -u victim.service")


@step
def catalog_explains():
    """journalctl -x explains the record"""
    plain = journal(f"MESSAGE_ID={MESSAGE_OPENED}", "-n", "1")
    explained = journal("-x", f"MESSAGE_ID={MESSAGE_OPENED}", "-n", "1")
    expect("-- Subject:" in explained or "░░ Subject:" in explained, f"no catalog entry:\n{explained}")
    expect(len(explained) > len(plain), "nothing more than without -x")
    catalog = output("journalctl", "--no-pager", "--dump-catalog", MESSAGE_OPENED)
    expect("stackctl" in catalog, "the catalog names no next step")
    expect("- " in explained and "stackctl clusters" in explained, f"no remedy, or no way to it:\n{explained}")


def incidents_of_victim():
    return [i for i in query("incidents")["incidents"] if any(w["unit"] == "victim.service" for w in i["workloads"])]


@step
def incident_is_one():
    """what the load did is one incident, of a cluster with a remedy, which can be muted"""
    found = incidents_of_victim()
    # Newest first; with so large a budget the minute before may have brought one too.
    expect(1 <= len(found) <= 2, f"{len(found)} incidents: {found}"[:3000])
    expect(found[0]["moved"] and found[0]["anomalies"] >= 1, f"nothing moved: {found[0]}"[:1500])
    cluster = found[0]["cluster"]
    text = stackctl("clusters", cluster)
    print(f"# {found[0]['name']}: {found[0]['kind']}, {found[0]['severity']}, {found[0]['anomalies']} anomalies")
    expect("burn_victim" in text or "spin" in text, f"the function is not named:\n{text}")
    expect("Try" in text, f"no remedy:\n{text}")
    expect(cluster in stackctl("clusters", "--full"), "the cluster is not listed")
    expect("victim.service" in stackctl("incidents", "--full"), "the incident is not listed")
    run("stackctl", "mute", cluster, "--for", "1h", user="alice", ok=False)
    run("stackctl", "mute", cluster, "--for", "1h")
    expect(incidents_of_victim()[0]["muted"], "not muted")
    run("stackctl", "unmute", cluster)
    expect(not incidents_of_victim()[0]["muted"], "still muted")
    run("stackctl", "label", str(found[0]["id"]), "real", "cpu-spin")
    expect(incidents_of_victim()[0]["label"] == "real", "not labelled")


@step
def gate_closes():
    """the gate closes when the load is over, and says so in its history"""
    wait_for(lambda: not status()["gate"]["open"], "the gate closed", 40)
    run("systemctl", "stop", "victim.service")
    expect(any(not change["open"] for change in query("gate")["history"]), "no closing in the history")


@step
def incident_ends():
    """the incident is over with the load, and the journal says so"""
    wait_for(lambda: all("closed_us" in i for i in incidents_of_victim()), "the incident closed", 60)
    wait_for(lambda: [r for r in map(json.loads, journal("-o", "json", f"MESSAGE_ID={MESSAGE_CLOSED}").splitlines())
                      if r.get("OBJECT_SYSTEMD_UNIT") == "victim.service"], "a record of its end")


@step
def gate_by_hand():
    """stackctl gate open --for holds the gate open, only for root, and auto ends it"""
    run("stackctl", "gate", "open", "--for", "60s", user="alice", ok=False)
    run("stackctl", "gate", "open", "--for", "60s")
    wait_for(lambda: status()["gate"]["open"], "the gate open")
    expect(status()["gate"]["mode"] == "open" and status()["gate"]["until_us"] > 0, f"{status()['gate']}")
    run("stackctl", "gate", "auto")
    expect(status()["gate"]["mode"] == "auto", "still by hand")
    wait_for(lambda: not status()["gate"]["open"], "the gate closed", 40)


@step
def new_processes_have_names():
    """mappings of a process started after the privileges were dropped, and kernel functions, have names"""
    with workload("reader", "kernel", 2) as pid:
        run("stackctl", "gate", "open", "--for", "5min")
        folded = wait_for(lambda: has_function(stackctl("flame", f"--pid={pid}"), "call_kernel") and
                          stackctl("flame", f"--pid={pid}"), "call_kernel in the flame graph", 40)
        # The window that the map within seconds offers has it, too.
        offered = stackctl("heat", f"--pid={pid}").splitlines()[-1].removesuffix(" -o flame.svg")
        expect(" --exact " in offered, f"heat offers {offered}")
        expect(has_function(stackctl(*offered.split()[1:]), "call_kernel"), f"call_kernel is not in {offered}")
        run("stackctl", "gate", "auto")
    names = frames_of(folded)
    kernel = [name for name in names if re.search(r"(sys_read|vfs_read|read_zero|read_iter_zero|do_syscall_64)", name)]
    expect(kernel, f"no kernel function that reads /dev/zero:\n{folded[:1500]}")


@step
def resident_memory_has_stacks():
    """stacks --metric rss has what a process touches and what it lets go, about as much of both"""
    def sums(pid):
        rows = query("stacks", "--metric=rss", f"--pid={pid}", "--lines=all")["stacks"]
        of = lambda name: sum(r["values"].get("rss", 0) for r in rows if any(f["name"] == name for f in r["frames"]))
        return of("touch_pages"), of("drop_pages")

    run("stackctl", "gate", "open", "--for", "5min")
    with workload("pages", "pages", 1) as pid:
        # Not from its start on: what is touched may have its names before what is dropped has.
        began = wait_for(lambda: (lambda s: s if s[0] > 0 and s[1] < 0 else None)(sums(pid)),
                         "touch_pages and drop_pages among the stacks", 40)
        since = lambda: [now - then for now, then in zip(sums(pid), began)]
        touched, dropped = wait_for(lambda: (lambda s: s if s[0] - s[1] > 3 << 30 else None)(since()),
                                    "3 GiB that came or went", 120)
    run("stackctl", "gate", "auto")
    print(f"# touched {touched >> 20} MiB, dropped {dropped >> 20} MiB")
    # Each may be the sum of only some 50 samples, which stand for the same size.
    expect(0.4 < touched / -(dropped or 1) < 2.5, f"touched {touched}, dropped {dropped}")


@step
def heaps_are_watched():
    """watch-memory knows to the byte what a program holds, and leaves nothing behind"""
    configure("[Collect]\nHeapSampleBytes=0\nHeapBudget=100\n")
    reload_service()
    start_workload("keep", "keep", 2)
    try:
        time.sleep(1)
        pid = int(unit_property("keep.service", "MainPID"))
        print("#", run("stackctl", "watch-memory", f"--pid={pid}", timeout=120).stdout.strip().replace("\n", "; "))
        source = next(c["source"] for c in status()["collectors"] if c["name"] == "heap")
        expect(source == {"bookworm": "uprobes, one event a function", "trixie": "multi-uprobes"}[SUITE], f"by {source}")
        signal_workload("keep", "SIGUSR1")

        def held():
            rows = query("stacks", "--metric=heap", f"--pid={pid}", "--lines=all")["stacks"]
            return sum(r["values"].get("heap", 0) for r in rows if any(f["name"] == "keep_blocks" for f in r["frames"]))

        wait_for(lambda: held() >= 2 << 20, "2 MiB by keep_blocks", 60)
        expect(held() == 2 << 20, f"{held()} bytes, not 2 MiB")
        leaks = query("leaks", f"--pid={pid}")
        mine = [leak for leak in leaks["leaks"] if any(f["name"] == "keep_blocks" for f in leak["frames"])]
        expect(sum(leak["bytes"] for leak in mine) == 2 << 20, f"leaks has something else: {leaks}")
        run("stackctl", "unwatch-memory", f"--pid={pid}")
        expect("not watched" in run("stackctl", "leaks", f"--pid={pid}", ok=False).stderr, "it is watched still")
    finally:
        run("systemctl", "stop", "keep.service", ok=None)
        configure("")
        reload_service()


@step
def heaps_of_a_unit_are_watched():
    """watch-memory --unit watches what a service runs now, and what it runs after it was restarted"""
    def held(pid):
        rows = query("leaks", f"--pid={pid}")["leaks"]
        return sum(row["bytes"] for row in rows if any(f["name"] == "keep_blocks" for f in row["frames"]))

    def main_of_unit(other_than=0):
        pid = int(unit_property("keep.service", "MainPID"))
        watches = query("watch-memory")["watches"] if pid not in (0, other_than) else []
        return next((pid for w in watches if w["pid"] == pid and w["state"] == "watched" and w["group"] == "keep.service"), 0)

    configure("[Collect]\nHeapSampleBytes=0\nHeapBudget=100\n")
    reload_service()
    start_workload("keep", "keep", 2)
    try:
        time.sleep(1)
        print("#", run("stackctl", "watch-memory", "--unit=keep.service", timeout=120).stdout.strip().replace("\n", "; "))
        first = wait_for(main_of_unit, "the service's process watched", 60)
        signal_workload("keep", "SIGUSR1")
        wait_for(lambda: held(first) == 2 << 20, "2 MiB by keep_blocks", 60)
        run("systemctl", "restart", "keep.service")
        second = wait_for(lambda: main_of_unit(first), "the process watched that the service runs since", 60)
        signal_workload("keep", "SIGUSR1")
        wait_for(lambda: held(second) == 2 << 20, "2 MiB by keep_blocks, again", 60)
        run("stackctl", "unwatch-memory", "--unit=keep.service")
        wait_for(lambda: not main_of_unit(), "that it is watched no more")
    finally:
        run("systemctl", "stop", "keep.service", ok=None)
        configure("")
        reload_service()


@step
def good_configuration_is_reloaded():
    """systemctl reload takes a new configuration without a restart"""
    pid = main_pid()
    configure("[Gate]\nOpenAbove=2.5\nCloseAfter=3s\n")
    reload_service()
    wait_for(lambda: status()["gate"]["open_above"] == 2.5, "OpenAbove=2.5")
    expect(status()["gate"]["close_below"] == 2.0, f"close_below is {status()['gate']['close_below']}")
    expect(main_pid() == pid, "the service was restarted")


@step
def bad_configuration_is_refused():
    """a bad configuration is refused with file and line, and the old settings stay"""
    pid = main_pid()
    configure("[Gate]\n# three\nOpenAbove=abc\n")
    run("systemctl", "reload", "stackd.service", ok=None)
    reason = f"{DROP_IN}:3: OpenAbove=: 'abc' is not a number from 0.1 to 1000"
    wait_for(lambda: reason in journal("-u", "stackd.service", "-b"), f"'{reason}' in the journal")
    expect(status()["gate"]["open_above"] == 2.5, f"open_above is {status()['gate']['open_above']}")
    expect(main_pid() == pid and output("systemctl", "is-active", "stackd").strip() == "active", "the service did not go on")
    ticks_go_on()
    configure(SETTINGS)
    reload_service()
    wait_for(lambda: status()["gate"]["open_above"] == 5, "OpenAbove=5")


@step
def unprivileged_users_see_their_own():
    """a user sees no other user's stacks: not in flame, stacks, top, processes or anomalies; a member of the group does"""
    with workload("alice", "alice", 1, user="alice"), workload("bob", "bob", 1, user="bob") as bob_pid:
        run("stackctl", "gate", "open", "--for", "5min")
        wait_for(lambda: has_function(stackctl("flame", "--since=1min"), "burn_bob"), "burn_bob in root's flame graph", 40)
        wait_for(lambda: has_function(stackctl("flame", "--since=1min", user="alice"), "burn_alice"),
                 "burn_alice in alice's flame graph", 40)
        for verb in ["flame"], ["stacks"], ["top"], ["top", "--by=stack"], ["processes"], ["anomalies"]:
            text = stackctl(*verb, "--json=short", user="alice", ok=None)
            # systemd itself is no other's: what it forks is alice's before it executes her program.
            others = re.search(r"(?s).{,300}(bob|swapper|kworker|systemd-journal).{,300}", text)
            expect(not others, f"alice sees others in {' '.join(verb)}: …{others and others[0]}…")
        hidden = run("stackctl", "flame", f"--pid={bob_pid}", user="alice", ok=None)
        expect("burn_bob" not in hidden.stdout, "alice sees bob's process when she asks for it")
        # What of a stack is shared by all, such as spin(), has her own share only.
        mine, everyones = (frames_of(stackctl("flame", "--since=1min", user=user)).get("spin", 0) for user in ("alice", None))
        expect(0 < mine < 0.8 * everyones, f"alice's share of spin is {mine} of {everyones}")
        run("stackctl", "gate", "auto")


@step
def cpu_goes_and_comes():
    """a CPU that goes offline and comes back is sampled again, by the opener"""
    online = pathlib.Path("/sys/devices/system/cpu/cpu1/online")
    online.write_text("0")
    wait_for(lambda: status()["online_cpus"] == 1, "one CPU")
    ticks_go_on()
    online.write_text("1")
    wait_for(lambda: status()["online_cpus"] == 2, "two CPUs")
    with workload("pinned", "pinned", 1, cpu=1) as pid:
        wait_for(lambda: has_function(stackctl("flame", f"--pid={pid}"), "burn_pinned"), "burn_pinned, which runs on CPU 1", 40)


@step
def history_outlives_kill():
    """kill -9: systemd starts the daemon again, and the history is kept"""
    before = {a["id"] for a in anomalies()}
    restarts = int(unit_property("stackd.service", "NRestarts"))
    pid = main_pid()
    os.kill(pid, 9)
    wait_for(lambda: main_pid() not in (0, pid) and status()["ticks"] > 0, "the daemon back", 60)
    expect(int(unit_property("stackd.service", "NRestarts")) == restarts + 1, "not restarted by systemd")
    expect(before and before <= {a["id"] for a in anomalies()}, "anomalies are gone")
    victim_is_kept("10m")


@step
def history_outlives_restart():
    """systemctl restart keeps the history"""
    before = {a["id"] for a in anomalies()}
    run("systemctl", "restart", "stackd.service", timeout=120)
    wait_for(lambda: status()["ticks"] > 0, "a tick")
    expect(before and before <= {a["id"] for a in anomalies()}, "anomalies are gone")
    victim_is_kept("10m")


@step
def history_outlives_stop():
    """systemctl stop saves the history and the clusters, systemctl start reads them back"""
    before = {a["id"] for a in anomalies()}
    classes = {c["id"] for c in query("clusters")["clusters"]}
    run("systemctl", "stop", "stackd.service", "stackd.socket", timeout=120)
    expect(unit_property("stackd.service", "Result") == "success", f"stopped as {unit_property('stackd.service', 'Result')}")
    saved = [path for path in SAVED.iterdir() if path.stat().st_size > 0]
    expect(saved, f"nothing in {SAVED}")
    expect(SAVED.stat().st_mode & 0o77 == 0, "others can read the saved history")
    expect(not os.path.exists(SOCKET), "the socket is still there")
    run("systemctl", "start", "stackd.service", timeout=120)
    wait_for(lambda: status()["ticks"] > 0, "a tick")
    expect(before and before <= {a["id"] for a in anomalies()}, "anomalies are gone")
    expect(classes and classes <= {c["id"] for c in query("clusters")["clusters"]}, "clusters are gone")
    victim_is_kept("15m")


@step
def kernel_memory_is_watched():
    """watch-memory --kernel knows what the kernel holds for a program, and that it is given back"""
    # Behind what looks at history: each stack of the machine that allocates is one of the store's, and the oldest give way.
    configure("[Collect]\nHeapSampleBytes=0\nHeapBudget=100\n")
    reload_service()
    pipes = []
    try:
        print("#", run("stackctl", "watch-memory", "--kernel", timeout=120).stdout.strip().replace("\n", "; "))
        with open("/proc/slabinfo") as f:
            size = next(int(row.split()[3]) for row in f if row.startswith("filp "))
        for _ in range(400):
            pipes += os.pipe()
        expected = len(pipes) * size

        def held():
            rows = query("stacks", "--metric=kmem", f"--pid={os.getpid()}", "--lines=all")["stacks"]
            return sum(r["values"].get("kmem", 0) for r in rows if r["frames"][-1]["name"] in ("alloc_empty_file", "__alloc_file"))

        wait_for(lambda: abs(held() / expected - 1) < 0.02, f"{expected} bytes of open files", 60)
        wait_for(lambda: query("leaks", f"--pid={os.getpid()}")["leaks"], "leaks of this process", 60)
        leaks = query("leaks", f"--pid={os.getpid()}")["leaks"]
        expect({leak["kind"] for leak in leaks} == {"kernel"}, f"leaks has something else: {leaks}")
        while pipes:
            os.close(pipes.pop())
        wait_for(lambda: abs(held()) < 0.02 * expected, "that they are given back", 60)
        print("#", {loss["cause"]: loss["count"] for loss in status()["losses"] if loss["cause"].startswith("kernel-")})
        run("stackctl", "unwatch-memory", "--kernel")
        expect("not watched" in run("stackctl", "unwatch-memory", "--kernel", ok=False).stderr, "it is watched still")
    finally:
        while pipes:
            os.close(pipes.pop())
        run("stackctl", "unwatch-memory", "--kernel", ok=None)
        configure("")
        reload_service()


@step(suites=("trixie",))
def python_functions_have_names():
    """functions of python3 -X perf have names and callers"""
    # Behind what looks at history: the interpreter is stripped, so each of its instructions that is met is a stack of its own, and
    # at this rate they push out what the store has not seen for longest.
    script = pathlib.Path("/tmp/spin.py")
    script.write_text("def innermost():\n    while True:\n        sum(range(1000))\n\n\ndef caller():\n    innermost()\n\n\ncaller()\n")
    run("systemd-run", "-q", "--unit=snake", "-p", "Nice=15", "python3", "-X", "perf", str(script))
    try:
        pid = int(unit_property("snake.service", "MainPID"))
        run("stackctl", "gate", "open", "--for", "5min")
        chain = rf"py::caller:{script};[^\n]*py::innermost:{script}"
        wait_for(lambda: re.search(chain, stackctl("flame", f"--pid={pid}")), "caller and innermost in the flame graph", 60)
    finally:
        run("stackctl", "gate", "auto")
        run("systemctl", "stop", "snake.service", ok=None)


@step
def update_rq_clock():
    """OnCPUSource=update-rq-clock samples by that hook"""
    configure(SETTINGS + "OnCPUSource=update-rq-clock\n")
    reload_service()
    wait_for(lambda: "OnCPUSource=" in journal("-u", "stackd.service", "-b"), "the journal telling that a restart is needed")
    run("systemctl", "restart", "stackd.service", timeout=120)
    wait_for(lambda: status()["ticks"] > 0, "a tick")
    sources = [c["source"] for c in status()["collectors"]]
    expect(any("update_rq_clock" in source for source in sources), f"sources: {sources}")
    print(f"# sources: {'; '.join(sources)}")
    with workload("clocked", "pinned", 8) as pid:
        run("stackctl", "gate", "open", "--for", "2min")
        wait_for(lambda: has_function(stackctl("flame", f"--pid={pid}"), "burn_pinned"), "burn_pinned", 40)
        run("stackctl", "gate", "auto")
    DROP_IN.unlink()
    ROOM.unlink()
    run("systemctl", "restart", "stackd.service", timeout=120)
    wait_for(lambda: status()["ticks"] > 0, "a tick")


@step
def bad_configuration_fails_the_start():
    """with a bad configuration the service does not start, and says why"""
    configure("[Gate]\nOpenAbov=3\n")
    run("systemctl", "restart", "stackd.service", timeout=120, ok=False)
    wait_for(lambda: f"{DROP_IN}:2: unknown key 'OpenAbov', did you mean OpenAbove= in [Gate]?" in journal("-u", "stackd.service", "-b"),
             "the reason in the journal")
    DROP_IN.unlink()
    run("systemctl", "reset-failed", "stackd.service", "stackd.socket", ok=None)
    run("systemctl", "start", "stackd.socket", "stackd.service", timeout=120)
    wait_for(lambda: status()["ticks"] > 0, "a tick")


@step(suites=["trixie"])
def varlinkctl_introspects():
    """varlinkctl introspects and calls the service"""
    info = output("varlinkctl", "info", SOCKET)
    expect("org.stackd" in info, info)
    text = output("varlinkctl", "introspect", SOCKET, "org.stackd")
    expect("interface org.stackd" in text and "method GetStatus" in text, text[:1500])
    reply = json.loads(output("varlinkctl", "call", "--json=short", SOCKET, "org.stackd.GetStatus", "{}"))
    expect(reply["status"]["ticks"] > 0, f"{reply}"[:1500])
    run("varlinkctl", "call", SOCKET, "org.stackd.NoSuchMethod", "{}", ok=False)


@step
def memory_and_losses():
    """no tick was missed, and the daemon's memory keeps to its bounds"""
    s = status()
    losses = ", ".join(f"{loss['cause']} {loss['count']}" for loss in s["losses"])
    print(f"# resident {s['resident_bytes'] / 2**20:.1f} MiB, tick {s['tick_cost_ns'] / 1e6:.1f} ms, losses: {losses or 'none'}")
    expect(s["ticks_missed"] == 0, f"{s['ticks_missed']} ticks were missed")


@step
def manuals_and_completions():
    """manual pages and completions are installed"""
    for path in ("/usr/share/man/man8/stackd.8", "/usr/share/man/man5/stackd.conf.5", "/usr/share/man/man1/stackctl.1",
                 "/usr/share/bash-completion/completions/stackctl", "/usr/share/zsh/vendor-completions/_stackctl",
                 "/etc/stackd/stackd.conf", "/usr/share/stackd/org.stackd.varlink", "/usr/share/stackd/remedies.conf"):
        expect(any(os.path.exists(path + end) for end in ("", ".gz")) or
               os.path.exists(path.replace("vendor-completions", "site-functions")), f"{path} is not there")


@step
def units_are_sound():
    """systemd-analyze verify has nothing to say about the units"""
    result = run("systemd-analyze", "verify", "--man=no", "stackd.service", "stackd.socket", "stackd-debuginfod.timer", "stackd-debuginfod.service", timeout=120)
    ours = [line for line in (result.stdout + result.stderr).splitlines() if "stackd" in line]
    expect(not ours, "\n".join(ours))


@step
def journal_is_clean():
    """systemd found nothing to complain about in how the service behaves"""
    text = journal("-b", "_PID=1", "UNIT=stackd.service", "-p", "warning")
    lines = [line for line in text.splitlines()
             if "stackd" in line and not re.search(r"code=killed, status=9|code=exited, status=1|Failed with result|"
                                                   r"Failed to start|start request repeated", line)]
    expect(not lines, "\n".join(lines))


@step
def uninstall_leaves_nothing():
    """systemd/install --uninstall leaves nothing behind"""
    run("bash", str(HERE / "install"), "--uninstall", timeout=120)
    # Paths that systemd makes for the transient workloads, and these tests, are not the product's.
    found = output("find", "/etc", "/usr", "/var", "/run", "/lib/systemd", "(", "-name", "*stackd*", "-o", "-name", "*stackctl*",
                   ")", "-not", "-name", "*stackd-test*").split()
    expect(not found, "still there: " + " ".join(found))
    for database in "passwd", "group":
        run("getent", database, "stackd", ok=False)
    for unit in "stackd.service", "stackd.socket":
        expect(unit_property(unit, "LoadState") == "not-found", f"{unit} is still known")
    expect(MESSAGE_OPENED not in output("journalctl", "--no-pager", "--list-catalog"), "the catalog still has its entries")
    names = [pathlib.Path(f"/proc/{pid}/comm").read_text() for pid in os.listdir("/proc") if pid.isdigit()
             if os.path.exists(f"/proc/{pid}/comm")]
    expect(not [name for name in names if name.startswith("stackd") and "stackd-test" not in name], "a process still runs")


# ---- running them ----

def diagnose(text):
    for line in text.rstrip().splitlines():
        print("# " + line.replace("\r", ""))


def run_step(number, function):
    name = function.__doc__.splitlines()[0]
    start = time.monotonic()
    try:
        function()
    except Exception as e:
        print(f"not ok {number} - {name}")
        diagnose(str(e) if isinstance(e, Failed) else traceback.format_exc())
        with contextlib.suppress(Exception):
            diagnose("journal:\n" + journal("-b", "-u", "stackd.service", "-n", "12", "-o", "cat"))
        return False
    print(f"ok {number} - {name}")
    print(f"# {time.monotonic() - start:.1f} s")
    return True


def main():
    words = re.findall(r"stackd\.only=(\S+)", pathlib.Path("/proc/cmdline").read_text())
    chosen = [(f, fatal) for f, fatal in steps if not words or fatal or any(word in f.__name__ for word in words)]
    print(f"1..{len(chosen)}")
    print(f"# Linux {platform.release()}, {output('systemctl', '--version').splitlines()[0]}, up {time.monotonic():.1f} s")
    hopeless = False
    for number, (function, fatal) in enumerate(chosen, 1):
        if hopeless:
            print(f"not ok {number} - {function.__doc__.splitlines()[0]} (not tried)")
        elif not run_step(number, function):
            hopeless = fatal


if __name__ == "__main__":
    main()
