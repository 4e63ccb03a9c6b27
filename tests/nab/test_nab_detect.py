# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's runner as its user sees it: argument 1 is nab_detect."""
import math
import random
import re
import subprocess
import sys
from datetime import datetime, timedelta

import tap

HEADER = "timestamp,value\n"
START = datetime(2020, 1, 1)


def detect(text, *options):
    """Its rows, without the header."""
    done = subprocess.run([sys.argv[1], *options], input=text, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "timestamp,value,anomaly_score", lines[0]
    return lines[1:]


def rows_of(values, minutes=5):
    return [f"{START + timedelta(minutes=minutes * i)},{value}" for i, value in enumerate(values)]


def text_of(rows):
    return HEADER + "".join(f"{row}\n" for row in rows)


def scores_of(output):
    return [float(row.rsplit(",", 1)[1]) for row in output]


def days(n, seed=1, at=()):
    """A daily curve with noise; what is in at departs."""
    rng = random.Random(seed)
    return [round(100 + 10 * math.sin(2 * math.pi * i / 288) + rng.gauss(0, 1) + (80 if i in at else 0), 4) for i in range(n)]


def test_each_row_is_answered_with_itself_and_a_score():
    rows = rows_of(days(2000, at=[1500]))
    output = detect(text_of(rows))
    assert [o.rsplit(",", 1)[0] for o in output] == rows
    assert all(0 <= s <= 1 for s in scores_of(output))


def test_what_departs_scores_most():
    scores = scores_of(detect(text_of(rows_of(days(4000, at=[3000])))))
    assert scores.index(max(scores)) == 3000 and scores[3000] > 0.5


def test_the_first_part_scores_as_in_the_whole():
    wild = [v * 10.0 ** random.Random(i).randint(-3, 9) for i, v in enumerate(days(1500))]
    series = [days(4000, at=[900, 2500, 2501]), [0] * 500 + [7] * 500 + [0] * 500, wild,
              [random.Random(3 * i).choice([0, 0, 0, 1, 50]) for i in range(3000)]]
    for values in series:
        rows = rows_of(values)
        whole = detect(text_of(rows))
        for n in (0, 1, 99, 101, len(rows) // 3, len(rows) // 2, len(rows) - 1):
            assert detect(text_of(rows[:n])) == whole[:n], f"{n} of {len(rows)}"


def test_what_comes_later_is_not_waited_for():
    process = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    process.stdin.write(HEADER)
    process.stdout.readline()
    for row in rows_of(days(200)):
        process.stdin.write(row + "\n")
        assert process.stdout.readline().startswith(row + ",")
    process.stdin.close()
    process.stdout.close()
    assert process.wait() == 0


def test_rows_that_are_none_score_0_and_are_not_learnt():
    good = rows_of(days(1500, at=[1400]))
    odd = ["nonsense", ",", "2020-01-01 00:00:00,", "2020-01-01 00:00:00,nan", "2020-01-01 00:00:00,inf", ",,,",
           "2020-01-01 00:00:00,1e999", "2020-01-01 00:00:00,0x10", "1,2,3" * 5000]
    output = detect(text_of(good[:1000] + odd + good[1000:]))
    assert len(output) == len(good) + len(odd)
    assert scores_of(output[1000:1000 + len(odd) - 1]) == [0] * (len(odd) - 1)
    output = detect(text_of(good[:1000] + odd[:-1] + good[1000:]))
    assert output[:1000] + output[1000 + len(odd) - 1:] == detect(text_of(good))


def test_ends_of_lines_and_of_the_file_do_not_matter():
    rows = rows_of(days(300))
    expected = detect(text_of(rows))
    assert detect((HEADER + "\n".join(rows)).replace("\n", "\r\n")) == expected
    assert detect(text_of(rows) + "\n\n") == expected
    assert subprocess.run([sys.argv[1]], input="", check=True, capture_output=True, text=True).stdout == ""


def test_memory_does_not_grow_with_the_rows():
    def most_memory():
        status = open(f"/proc/{process.pid}/status").read()
        return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1])

    process = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    process.stdin.write(HEADER)
    process.stdout.readline()
    at = {}
    for i, row in enumerate(rows_of(days(40000))):
        process.stdin.write(row + "\n")
        process.stdout.readline()
        if i in (5000, 39999):
            at[i] = most_memory()
    process.stdin.close()
    process.stdout.close()
    assert process.wait() == 0
    assert at[39999] - at[5000] < 256, at  # KiB; 35,000 rows are more than a million bytes


def test_pieces_can_be_taken_away():
    text = text_of(rows_of(days(3000, at=[2500])))
    whole = detect(text)
    for options in (["--without", "fast"], ["--memory", "short"], ["--memory", "long"], ["--together"],
                    ["--uncalibrated"], ["--refractory", "0"], ["--escalation", "9"]):
        assert detect(text, *options) != whole, options
    for options in (["--without", "nothing"], ["--memory", "none"], ["--refractory", "x"], ["more"]):
        assert subprocess.run([sys.argv[1], *options], input="", capture_output=True, text=True).returncode == 2


tap.run(sys.modules[__name__])
