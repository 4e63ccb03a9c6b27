/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is known of clusters, on disk and back: the state as a whole ("clusters"), and what people have said ("decisions"), which holds on where the
 * other is of another version or size, is damaged, or has forgotten the cluster. */
#pragma once

#include "cluster.h"

struct cluster_files;

/* Reads what was kept; a damaged file is set aside, with a message. state_dir NULL: nothing is kept, and *ret is NULL. Both are borrowed. */
int cluster_files_new(struct cluster_files **ret, const char *state_dir, struct clusters *clusters);
/* Waits for a write that is going on. */
struct cluster_files *cluster_files_free(struct cluster_files *f); /* accepts NULL, returns NULL */
DEFINE_CLEANUP(struct cluster_files *, cluster_files_free)

/* Each takes NULL: nothing is kept. */

/* A thread writes a copy, unless it is still at the last one; gives whether it will. That a write has failed is told. */
bool cluster_files_save_later(struct cluster_files *f, uint64_t now_us);
/* The last one: it is waited for. */
void cluster_files_save(struct cluster_files *f, uint64_t now_us);
