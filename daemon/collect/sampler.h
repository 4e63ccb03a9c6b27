/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source without BPF: samples that the kernel writes into rings (perf_event_open(2)), counted here.
 *
 *   rings ──samples──▶ process (sample_processes.h), user stack by unwind tables (sample_tables.h) ─▶ raw id (sample_stacks.h) ─▶ counts
 *         ──switches─▶ waits (sample_waits.h) ─▶ counts
 *   mapping_events.c ─▶ processes' begin, exec and mappings
 *   /proc ────────────▶ totals, memory, load
 *
 * It sees what is executed, page faults, and while the gate is open waits. Resident memory, brk, mmap, and heaps have no stacks here. */
#pragma once

#include "collect.h"

struct sampler;
struct sample_tables;

int sampler_new(struct sampler **ret, const struct collect_config *config, struct helper *helper);
struct sampler *sampler_free(struct sampler *s);
DEFINE_CLEANUP(struct sampler *, sampler_free)

/* As the functions collect_... */
int sampler_tick(struct sampler *s, const struct collect_sink *sink, void *userdata);
int sampler_mappings_fd(const struct sampler *s);
void sampler_mappings_dispatch(struct sampler *s, const struct collect_sink *sink, void *userdata);
int sampler_frames(struct sampler *s, uint64_t raw_id, struct collect_frames *ret);
int sampler_gate_fd(const struct sampler *s);
int sampler_gate_dispatch(struct sampler *s);
int sampler_gate_open_for(struct sampler *s, const char *cause);
int sampler_gate_set(struct sampler *s, enum collect_gate_mode mode, uint64_t until_us);
int sampler_reconfigure(struct sampler *s, const struct collect_config *config);
void sampler_get_gate(const struct sampler *s, bool *ret_open, double *ret_load);
void sampler_get_status(const struct sampler *s, struct collect_status *ret);
/* For the functions collect_unwind_... */
struct sample_tables *sampler_tables(struct sampler *s);
