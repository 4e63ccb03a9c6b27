/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What kind of trouble: by which metrics moved, which way, and by what the stacks pass through. */
#pragma once

#include "cluster.h"

/* What a stack passes through; the last: it is of a unit that waits for CPUs much more than it gets of them. */
enum path { PATH_LOCK, PATH_SPIN_LOCK, PATH_BLOCK_IO, PATH_FAULT, PATH_RECLAIM, PATH_NETWORK, PATH_INTERRUPT, PATH_STARVES, PATH_N };

/* Bits of 1 << enum path. */
uint32_t kind_paths(const struct cluster_frame *frames, size_t n);

/* What moved in an incident, in CPUs' worth. */
struct kind_evidence {
	double up[CLUSTER_METRICS], down[CLUSTER_METRICS];
	double path_up[CLUSTER_METRICS][PATH_N]; /* of up, what passes there */
	double fresh_up;                     /* of up, in stacks that are new */
};
enum cluster_kind kind_of(const struct kind_evidence *e);
