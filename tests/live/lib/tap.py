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


def run(tests, setup=None, cleanup=None, on_failure=None):
    """Runs setup, then (name, function) pairs in order; each is one test. Exits with 1 when one failed."""
    print("TAP version 13", flush=True)
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    try:
        if setup:
            setup()
        for number, (name, function) in enumerate(tests, 1):
            failed += not run_one(number, name, function)
    except Exception as error:
        note(reason(error))
        failed += 1
        print("Bail out! cannot be set up", flush=True)
    finally:
        if failed and on_failure:
            on_failure()
        if cleanup:
            cleanup()
    sys.exit(1 if failed else 0)


def run_one(number, name, function):
    begin = time.monotonic()
    try:
        function()
        print(f"ok {number} - {name}", flush=True)
        return True
    except Exception as error:
        print(f"not ok {number} - {name}", flush=True)
        note(reason(error))
        return False
    finally:
        note(f"took {time.monotonic() - begin:.1f} s")


def reason(error):
    return error if isinstance(error, Failure) else traceback.format_exc()
