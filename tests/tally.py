#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts the results of meson test logs (testlog.json), each TAP line for itself, shows what failed and why something was
skipped, and ends with the totals."""

import json
import re
import sys

RESULT = re.compile(r"^(not )?ok\b\s*(\d+)?\s*(?:-\s*)?(.*)$")
DIRECTIVE = re.compile(r"#\s*(SKIP|TODO)\b\S*\s*(.*)$", re.IGNORECASE)
SKIP_ALL = re.compile(r"^1\.\.0\s*#\s*SKIP\b\S*\s*(.*)$", re.IGNORECASE)
TAIL = 80  # lines of a log that a failure shows


class Totals:
    def __init__(self):
        self.passed = 0
        self.failed = []   # (test, description, log)
        self.skipped = []  # (test, description, reason)


def tail(text):
    lines = (text or "").rstrip().splitlines()
    return ([f"... {len(lines) - TAIL} lines before"] if len(lines) > TAIL else []) + lines[-TAIL:]


def explanation(lines, at):
    """The comments and other output that follow a result, up to the next one."""
    end = at + 1
    while end < len(lines) and not RESULT.match(lines[end]) and not lines[end].startswith("1.."):
        end += 1
    return lines[at + 1:end]


def tally_tap(name, test, totals):
    """Gives the number of results and of failures among them."""
    lines = (test.get("stdout") or "").splitlines()
    results = failures = 0
    for at, line in enumerate(lines):
        skip_all = SKIP_ALL.match(line)
        if skip_all:
            totals.skipped.append((name, "all of it", skip_all[1]))
            results += 1
            continue
        match = RESULT.match(line)
        if not match:
            continue
        results += 1
        directive = DIRECTIVE.search(line)
        description = DIRECTIVE.sub("", match[3]).strip() or (directive[2] if directive else "")
        if directive and directive[1].upper() == "SKIP":
            totals.skipped.append((name, description, directive[2] or " ".join(explanation(lines, at)[:1]) or "no reason given"))
        elif match[1]:
            failures += 1
            totals.failed.append((name, description, tail("\n".join(explanation(lines, at)))))
        else:
            totals.passed += 1
    return results, failures


def tally(test, totals):
    name, result = test["name"], test["result"]
    results, failures = tally_tap(name, test, totals)
    log = tail(test.get("stdout")) + tail(test.get("stderr"))
    if result in ("OK", "EXPECTEDFAIL"):
        if results == 0:
            totals.passed += 1
    elif result == "SKIP":
        if results == 0:
            totals.skipped.append((name, "all of it", " ".join(log[-1:]) or "no reason given"))
    elif failures == 0:
        # It died, took too long, or did not keep its plan.
        totals.failed.append((name, f"ended with {result}, {test.get('returncode', '?')}", log))
    elif test.get("stderr"):
        totals.failed[-1][2].extend(["stderr:"] + tail(test["stderr"]))


def main():
    totals = Totals()
    for path in sys.argv[1:]:
        try:
            with open(path, encoding="utf-8") as log:
                for line in log:
                    tally(json.loads(line), totals)
        except (OSError, ValueError) as e:
            totals.failed.append((path, "no results", [str(e)]))

    for test, description, log in totals.failed:
        print(f"\nFAILED {test}: {description}")
        for line in log:
            print(f"    {line}")
    if totals.skipped:
        print("\nSkipped:")
    for test, description, reason in totals.skipped:
        print(f"    {test}: {description}: {reason}")
    print()
    print(f"{totals.passed} passed, {len(totals.failed)} failed, {len(totals.skipped)} skipped")
    return 1 if totals.failed or totals.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
