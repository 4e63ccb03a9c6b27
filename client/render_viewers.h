/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The formats of other viewers. Each gives -errno when file can't be written, else 0. */
#pragma once

#include "flame.h"

/* speedscope's file format (https://www.speedscope.app/file-format-schema.json): one sampled profile, two for a
 * FLAME_DIFF. */
int write_speedscope(const struct flame *f, const struct flame_meta *m, FILE *file);
/* The tree that d3-flame-graph takes: name, value, children; for a FLAME_DIFF also delta, before and after, where
 * value is the width. */
int write_d3(const struct flame *f, const struct flame_meta *m, FILE *file);
/* pprof's profile.proto, gzipped (https://github.com/google/pprof/blob/main/proto/profile.proto). */
int write_pprof(const struct flame *f, const struct flame_meta *m, FILE *file);
