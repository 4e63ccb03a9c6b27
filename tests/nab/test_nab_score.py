# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's rules, by cases worked by hand."""
import json
import math
import pathlib
import sys
import tempfile

import nab_score
import tap

# 2 / (1 + e^5p) - 1 by a table of e^x: e^-5 = 0.006737947, e^-2.5 = 0.082084999, e^2.5 = 12.182494, e^5 = 148.413159
S_1 = 0.986614298   # s(-1)
S_05 = 0.848283640  # s(-0.5)


def near(a, b):
    assert abs(a - b) < 1e-8, f"{a} is not {b}"


def scores(n, fired, low=0.0):
    return [fired.get(row, low) for row in range(n)]


def standard(files, by_name):
    return nab_score.evaluate(files, by_name, "standard")


def test_sigmoid():
    near(nab_score.sigmoid(-1), S_1)
    near(nab_score.sigmoid(-0.5), S_05)
    near(nab_score.sigmoid(0), 0)
    near(nab_score.sigmoid(1), -S_1)
    assert nab_score.sigmoid(3.0001) == -1
    assert nab_score.sigmoid(3) > -1


def test_probation_is_a_share_of_the_rows_and_bounded():
    assert [nab_score.probation(n) for n in (0, 6, 7, 1000, 4032, 5000, 20000)] == [0, 0, 1, 150, 604, 750, 750]


def test_weights_by_place():
    # one window of 4 rows, 20..23
    f = nab_score.File("a/b.csv", 60, [(20, 23)])
    assert f.weights[0] == (None, -1) and f.weights[19] == (None, -1)
    near(f.weights[20][1], 1)              # p = -4/4
    near(f.weights[22][1], S_05 / S_1)     # p = -2/4
    near(f.weights[23][1], 0.713495203 / 1.286504797 / S_1)  # p = -1/4; e^-1.25 = 0.286504797
    near(f.weights[26][1], -S_1)           # p = 3/3
    near(f.weights[32][1], nab_score.sigmoid(3))
    assert f.weights[33] == (None, -1)     # p = 10/3
    assert [f.weights[row][0] for row in (19, 20, 23, 24)] == [None, 0, 0, None]


def test_outside_counts_from_the_last_window():
    f = nab_score.File("a/b.csv", 100, [(20, 30), (50, 54)])
    near(f.weights[40][1], -S_1)                   # p = 10/10 of the first
    near(f.weights[56][1], -S_05)                  # p = 2/4 of the second
    assert f.weights[52][0] == 1


def test_a_window_earns_its_best_row_once():
    f = nab_score.File("a/b.csv", 60, [(20, 23)])
    # the threshold that is best takes all three: the first row of the window is worth most though its score is least
    score, _, threshold = standard([f], {f.name: scores(60, {20: 0.3, 22: 0.9, 23: 0.5})})
    near(score, 100)
    assert threshold == 0.3


def test_false_ones_cost_by_profile():
    f = nab_score.File("a/b.csv", 60, [(20, 29)])
    by_name = {f.name: scores(60, {10: 0.9, 12: 0.9, 20: 0.5})}
    # raw: 1 - 2 x 0.11; null -1, perfect 1
    near(nab_score.evaluate([f], by_name, "standard")[0], 100 * (1.78 + 0) / 2)
    near(nab_score.evaluate([f], by_name, "low FP")[0], 100 * 1.56 / 2)
    # null -2, perfect 1
    near(nab_score.evaluate([f], by_name, "low FN")[0], 100 * 2.78 / 3)


def test_what_is_fired_in_probation_does_not_count():
    f = nab_score.File("a/b.csv", 100, [(8, 30)])
    # probation is rows 0..14: neither the false one nor that in the window
    near(standard([f], {f.name: scores(100, {2: 0.9, 8: 0.9})})[0], 0)
    near(standard([f], {f.name: scores(100, {2: 0.9, 8: 0.9, 20: 0.9})})[0],
         100 * (1 + nab_score.sigmoid(-11 / 23) / S_1) / 2)


def test_rows_of_the_same_score_fire_together():
    f = nab_score.File("a/b.csv", 200, [(100, 109)])
    # all rows alike: 70 false ones before, and 90 after, cost more than the window is worth: better none
    score, _, threshold = standard([f], {f.name: [0.5] * 200})
    near(score, 0)
    assert threshold == math.inf


def test_one_threshold_serves_all_files():
    a = nab_score.File("x/a.csv", 60, [(20, 29)])
    b = nab_score.File("y/b.csv", 60, [(20, 29)])
    # at 0.4 a is found, and so is b with 3 false ones
    by_name = {a.name: scores(60, {20: 0.4}), b.name: scores(60, {20: 0.9, 10: 0.5, 11: 0.5, 12: 0.5})}
    score, across, threshold = standard([a, b], by_name)
    near(score, 100 * (2 + 2 - 0.33) / 4)
    assert threshold == 0.4
    # across families: a is judged at b's 0.9 (missed: 0), b at a's 0.4 (2 - 0.33)
    near(across, 100 * 1.67 / 4)


def test_files_without_windows_only_cost():
    a = nab_score.File("x/a.csv", 60, [(20, 29)])
    b = nab_score.File("x/b.csv", 60, [])
    near(standard([a, b], {a.name: scores(60, {20: 0.5}), b.name: scores(60, {30: 0.6})})[0], 100 * (2 - 0.11) / 2)


def test_the_extremes():
    f = nab_score.File("a/b.csv", 400, [(200, 209), (300, 309)])
    near(standard([f], {f.name: scores(400, {200: 1, 300: 1})})[0], 100)
    near(standard([f], {f.name: scores(400, {})})[0], 0)
    near(standard([f], {f.name: scores(400, {100: 1, 150: 1})})[0], 0)


def test_windows_are_found_by_their_times():
    with tempfile.TemporaryDirectory() as directory:
        d = pathlib.Path(directory)
        (d / "data/x").mkdir(parents=True)
        rows = "".join(f"2020-01-01 00:{m:02}:00,1\n" for m in range(0, 60, 5))
        (d / "data/x/a.csv").write_text("timestamp,value\n" + rows)
        (d / "windows.json").write_text(json.dumps(
            {"x/a.csv": [["2020-01-01 00:10:00.000000", "2020-01-01 00:20:00.000000"],
                         ["2020-01-01 00:31:00.000000", "2020-01-01 00:41:00.000000"]]}))
        f, = nab_score.read_corpus(d)
    assert f.rows == 12 and f.family == "x"
    assert f.windows == [(2, 4), (7, 8)], f.windows


tap.run(sys.modules[__name__])
