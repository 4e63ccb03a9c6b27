# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a module's test_* functions and prints TAP."""
import traceback


def run(module):
    tests = {name: f for name, f in vars(module).items() if name.startswith("test_")}
    print(f"1..{len(tests)}")
    for i, (name, test) in enumerate(tests.items(), 1):
        try:
            test()
            result = "ok"
        except Exception:
            for line in traceback.format_exc().splitlines():
                print(f"# {line}")
            result = "not ok"
        print(f"{result} {i} - {name[5:].replace('_', ' ')}", flush=True)
