#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""test_cluster_oracle.py TEST_CLUSTER: our clusters, found one incident after the other, against those that DBSCAN (Ester et al. 1996) and OPTICS
(Ankerst et al. 1999) find with all incidents before them, by the same likeness. How near is near is chosen without looking at causes: by
the silhouette (Rousseeuw 1987)."""
import subprocess
import sys

try:
    import numpy
    from sklearn.cluster import DBSCAN, OPTICS
    from sklearn.metrics import adjusted_rand_score, silhouette_score, v_measure_score
except ImportError as e:
    print(f"1..0 # SKIP {e} (python3-sklearn)")
    sys.exit(0)

ORDERS = 10
STACKS_SHARE = 0.75  # of likeness, as in daemon/cluster/classes.c
ALIKE = 0.95  # adjusted Rand index, and V-measure


def read(program, order):
    """Causes, our clusters, and the distances between incidents."""
    lines = subprocess.run([program, f"--vectors={order}"], capture_output=True, check=True, text=True).stdout.splitlines()
    causes, found, signatures, stacks, columns = [], [], [], [], {}
    for line in lines:
        cause, cluster, *rest = line.split()
        causes.append(int(cause))
        found.append(cluster)
        signatures.append([float(v) for v in rest if ":" not in v])
        stacks.append({columns.setdefault(f, len(columns)): float(v) for f, v in (p.split(":") for p in rest if ":" in p)})
    matrix = numpy.zeros((len(lines), len(columns)))
    for row, stack in enumerate(stacks):
        for column, weight in stack.items():
            matrix[row, column] = weight
    signatures = numpy.array(signatures)
    likeness = STACKS_SHARE * matrix @ matrix.T + (1 - STACKS_SHARE) * signatures @ signatures.T
    distances = numpy.clip(1 - likeness, 0, None)
    numpy.fill_diagonal(distances, 0)
    return causes, found, distances


def dbscan(distances):
    """Of the clusterings by ever larger neighbourhoods the one with the best silhouette."""
    best, best_score = None, -2
    for eps in numpy.arange(0.05, 0.95, 0.05):
        labels = DBSCAN(eps=eps, min_samples=2, metric="precomputed").fit_predict(distances)
        # Noise is alone.
        labels = [label if label >= 0 else 1000 + i for i, label in enumerate(labels)]
        if 1 < len(set(labels)) < len(labels):
            score = silhouette_score(distances, labels, metric="precomputed")
            if score > best_score:
                best, best_score = labels, score
    return best


def optics(distances):
    # Incidents that are the same have no distance, which it divides by.
    with numpy.errstate(divide="ignore"):
        return list(OPTICS(min_samples=3, metric="precomputed", cluster_method="xi").fit_predict(distances))


def main(program):
    print(f"1..{ORDERS}")
    failed = 0
    for order in range(ORDERS):
        causes, found, distances = read(program, order)
        by_dbscan, by_optics = dbscan(distances), optics(distances)
        ours = adjusted_rand_score(found, by_dbscan)
        truth = [adjusted_rand_score(causes, labels) for labels in (found, by_dbscan, by_optics)]
        v = v_measure_score(causes, found)
        good = ours >= ALIKE and min(truth[0], v) >= ALIKE and truth[0] >= max(truth[1], truth[2]) - (1 - ALIKE)
        good = good and len(set(found)) == len(set(causes))
        failed += not good
        print(f"{'ok' if good else 'not ok'} {order + 1} - order {order}")
        print(
            f"# adjusted Rand: ours and DBSCAN {ours:.3f}; with the causes: ours {truth[0]:.3f} (V-measure {v:.3f}), DBSCAN {truth[1]:.3f}, OPTICS {truth[2]:.3f};"
            f" clusters: {len(set(found))}, {len(set(by_dbscan))}, {len(set(by_optics))} of {len(set(causes))}",
            flush=True,
        )
    return 1 if failed else 0


sys.exit(main(sys.argv[1]))
