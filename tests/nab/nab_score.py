# SPDX-License-Identifier: GPL-2.0-or-later
"""The Numenta Anomaly Benchmark's rules of scoring (Lavin, Ahmad 2015: "Evaluating real-time anomaly detection
algorithms"): what a detection is worth by where in a window it comes, which threshold is used, what is 0 and what 100."""
import bisect
import csv
import json
import math
import pathlib
from datetime import datetime

PROFILES = {"standard": (0.11, 1), "low FP": (0.22, 1), "low FN": (0.11, 2)}  # what a false and a missed one cost


def sigmoid(p):
    return -1.0 if p > 3 else 2 / (1 + math.exp(5 * p)) - 1


def probation(n):
    return min(int(0.15 * n), 750)


class File:
    """windows: first and last row of each, in order."""

    def __init__(self, name, rows, windows):
        self.name, self.rows, self.windows = name, rows, windows
        self.family = name.split("/")[0]
        self.weights = [self.weigh(row) for row in range(rows)]

    def weigh(self, row):
        """(index of the window or None, weight)"""
        before = None
        for k, (a, b) in enumerate(self.windows):
            if a <= row <= b:
                return k, sigmoid(-(b - row + 1) / (b - a + 1)) / sigmoid(-1)
            if b < row:
                before = (a, b)
        if not before:
            return None, -1.0
        a, b = before
        return None, sigmoid((row - b) / (b - a) if b > a else math.inf)


def score_steps(file, scores, fp, fn):
    """What lowering the threshold to a score adds to the file's raw score, which starts at -fn a window: [(score, gain)]"""
    steps, best = [], [None] * len(file.windows)
    start = probation(file.rows)
    for row in sorted(range(start, file.rows), key=lambda row: -scores[row]):
        k, weight = file.weights[row]
        if k is None:
            steps.append((scores[row], fp * weight))
        elif best[k] is None:
            steps.append((scores[row], weight + fn))
            best[k] = weight
        elif weight > best[k]:
            steps.append((scores[row], weight - best[k]))
            best[k] = weight
    return steps


def best_threshold(steps):
    """(threshold, what it gains): the best for all, of all thresholds that there are; more than any score if nothing is best."""
    best, total = (math.inf, 0.0), 0.0
    steps = sorted(steps, key=lambda step: -step[0])
    for i, (score, gain) in enumerate(steps):
        total += gain
        last_of_its_score = i + 1 == len(steps) or steps[i + 1][0] != score
        if last_of_its_score and total > best[1]:
            best = (score, total)
    return best


def gain_at(steps, threshold):
    return sum(gain for score, gain in steps if score >= threshold)


def normalise(gain, windows, fn):
    """gain: raw less what an idle detector has, which is -fn a window. A perfect one has 1 a window."""
    return 100 * gain / (windows * (1 + fn))


def evaluate(files, scores, profile):
    """(score, score with each family's threshold taken from the other families, threshold). scores: {name: [score]}"""
    fp, fn = PROFILES[profile]
    windows = sum(len(f.windows) for f in files)
    steps = {f.name: score_steps(f, scores[f.name], fp, fn) for f in files}
    threshold, gain = best_threshold([s for f in files for s in steps[f.name]])
    across = 0.0
    for family in {f.family for f in files}:
        theirs, _ = best_threshold([s for f in files if f.family != family for s in steps[f.name]])
        across += sum(gain_at(steps[f.name], theirs) for f in files if f.family == family)
    return normalise(gain, windows, fn), normalise(across, windows, fn), threshold


def read_corpus(directory):
    """[File] of a directory with windows.json and data/."""
    directory = pathlib.Path(directory)
    files = []
    for name, windows in sorted(json.loads((directory / "windows.json").read_text()).items()):
        with open(directory / "data" / name, newline="") as f:
            times = [datetime.fromisoformat(row["timestamp"]) for row in csv.DictReader(f)]
        rows = []
        for start, end in (map(datetime.fromisoformat, window) for window in windows):
            rows.append((bisect.bisect_left(times, start), bisect.bisect_right(times, end) - 1))
        files.append(File(name, len(times), sorted(rows)))
    return files
