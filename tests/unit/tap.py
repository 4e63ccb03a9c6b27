# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs what is called test_... in a module, and tells the results as TAP."""


def run(module):
    """Gives the exit status."""
    tests, failed = {name: f for name, f in module.items() if name.startswith("test_")}, 0
    print(f"1..{len(tests)}")
    for i, (name, test) in enumerate(tests.items(), 1):
        try:
            test()
            result = "ok"
        except Exception as error:
            failed += 1
            print("\n".join(f"# {line}" for line in f"{type(error).__name__}: {error}"[:4000].splitlines()))
            result = "not ok"
        print(f"{result} {i} - {name[5:].replace('_', ' ')}", flush=True)
    return failed > 0
