# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs test functions and tells their outcome as TAP 13."""
import sys
import time
import traceback


class Failure(AssertionError):
    """What a user would notice is not as it should be."""


def note(text):
    for line in str(text).splitlines():
        print(f"# {line}", flush=True)


def check(condition, text):
    if not condition:
        raise Failure(text)


def within(what, got, expected, relative=0.0, absolute=0.0):
    """got is expected to within the relative or the absolute tolerance; the figures are noted either way."""
    allowed = max(abs(expected) * relative, absolute)
    off = f" ({(got / expected - 1) * 100:+.1f} %)" if expected else ""
    note(f"{what}: {got:.6g}, expected {expected:.6g}{off}, allowed +-{allowed:.6g}")
    check(abs(got - expected) <= allowed, f"{what}: got {got:.6g}, expected {expected:.6g} +-{allowed:.6g}")


def run(tests, cleanup=None, on_failure=None):
    """Runs (name, function) pairs in order; each is one test. Exits with 1 when one failed."""
    print("TAP version 13", flush=True)
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    try:
        for number, (name, function) in enumerate(tests, 1):
            begin = time.monotonic()
            try:
                function()
                print(f"ok {number} - {name}", flush=True)
            except Exception as error:
                failed += 1
                print(f"not ok {number} - {name}", flush=True)
                note(error if isinstance(error, Failure) else traceback.format_exc())
                if on_failure:
                    on_failure()
            note(f"took {time.monotonic() - begin:.1f} s")
    finally:
        if cleanup:
            cleanup()
    sys.exit(1 if failed else 0)
