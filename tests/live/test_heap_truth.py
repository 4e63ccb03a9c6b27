# SPDX-License-Identifier: GPL-2.0-or-later
"""Watched heaps where accounts go wrong, with the allocators that Debian has: each program's own account, by function."""
import glob

from lib.daemon import Daemon
from lib.environment import require_root
from lib.tap import check, note, run
from lib.workload import Workload

require_root()
# These programs do little else than allocate.
daemon = Daemon({"Collect": {"HeapSampleBytes": 0, "HeapBudget": 100}})
PRELOADS = {
    "glibc": None,
    "jemalloc": "libjemalloc.so.2",
    "tcmalloc": "libtcmalloc.so.4",
    "tcmalloc, minimal": "libtcmalloc_minimal.so.4",
    "mimalloc": "libmimalloc.so.2",
}


def compare(name, workload, **options):
    library = PRELOADS[name]
    prefix = ()
    if library:
        path = glob.glob(f"/usr/lib/*-linux-gnu/{library}")
        check(path, f"{library} is not installed")
        prefix = ("env", f"LD_PRELOAD={path[0]}")
    with Workload(workload, prefix=prefix, **options) as load:
        note(daemon.stackctl("watch-memory", "--pid", load.pid).stdout.strip())
        account = load.go().result()["heap"]
        flame = daemon.account_flame("heap", account, pid=load.pid)
        wrong = []
        for function, value in account.items():
            got = flame.with_function(function)
            if got != value:
                wrong.append(f"{function}: {got}, not {value}")
        daemon.stackctl("unwatch-memory", "--pid", load.pid)
        check(not wrong, f"{name}: {'; '.join(wrong)}")


run(
    [
        (f"{name}: {workload}", lambda name=name, workload=workload, options=options: compare(name, workload, **options))
        for name in PRELOADS
        for workload, options in (("heap_edges", {}), ("heap", {"threads": 4, "n": 1024}))
    ],
    setup=daemon.start,
    cleanup=daemon.remove,
    on_failure=daemon.note_log,
)
