/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source that counts in the kernel: the programs of bpf/, and what the daemon does for them. Each function is as that of collect.h
 * whose name goes on like its own. */
#pragma once

#include "budget.h"
#include "collect.h"

struct bpf_source;

/* Gives what is missing, for a person to read; or NULL. */
const char *bpf_source_missing(void);

int bpf_source_new(struct bpf_source **ret, const struct collect_config *config, struct helper *helper);
struct bpf_source *bpf_source_free(struct bpf_source *c);
DEFINE_CLEANUP(struct bpf_source *, bpf_source_free)

int bpf_source_tick(struct bpf_source *c, const struct collect_sink *sink, void *userdata);
int bpf_source_mappings_fd(const struct bpf_source *c);
void bpf_source_mappings_dispatch(struct bpf_source *c, const struct collect_sink *sink, void *userdata);
int bpf_source_frames(struct bpf_source *c, uint64_t raw_id, struct collect_frames *ret);

struct stackd_unwind_tables *bpf_source_unwind_tables(struct bpf_source *c);
int bpf_source_unwind_slab(struct bpf_source *c, uint32_t index, struct stackd_unwind_slab **ret);
int bpf_source_unwind_set_process(struct bpf_source *c, const struct stackd_unwind_key *key, const struct stackd_unwind_process *process);
size_t bpf_source_unwind_wanted(struct bpf_source *c, struct stackd_unwind_key *keys, struct stackd_unwind_wanted *wanted, size_t max);
bool bpf_source_unwind_settled(const struct bpf_source *c);

int bpf_source_gate_fd(const struct bpf_source *c);
int bpf_source_gate_dispatch(struct bpf_source *c);
int bpf_source_gate_open_for(struct bpf_source *c, const char *cause);
int bpf_source_gate_set(struct bpf_source *c, enum collect_gate_mode mode, uint64_t until_us);

bool bpf_source_heap_is_possible(const struct bpf_source *c);
int bpf_source_heap_begin(struct bpf_source *c, pid_t pid, uint32_t *ret_id);
int bpf_source_heap_attach(struct bpf_source *c, uint32_t id, const char *path, const struct collect_heap_function *functions, size_t n);
int bpf_source_heap_start(struct bpf_source *c, uint32_t id);
int bpf_source_heap_get_cost(struct bpf_source *c, uint32_t id, struct collect_heap_cost *ret);
bool bpf_source_heap_process(const struct bpf_source *c, uint32_t id, struct collect_process *ret);
bool bpf_source_heap_executed(const struct bpf_source *c, uint32_t id);
int bpf_source_kmem_begin(struct bpf_source *c, uint32_t *ret_id);
void bpf_source_heap_end(struct bpf_source *c, uint32_t id);
bool bpf_source_heap_census(struct bpf_source *c, const struct collect_heap_stack **ret, size_t *ret_n, int64_t *ret_left_out);

/* What it costs the machine in what it interrupts: fills kernel_ns, events_ns, open and cpus for a tick of r->wall_ns. Gives whether it was
 * measured. */
bool bpf_source_get_cost(const struct bpf_source *c, struct budget_reading *r);
/* Doesn't see these events any more, or again. */
void bpf_source_leave_out(struct bpf_source *c, const bool left_out[static BUDGET_EVENTS]);
void bpf_source_get_gate(const struct bpf_source *c, bool *ret_open, double *ret_load);

void bpf_source_get_status(const struct bpf_source *c, struct collect_status *ret);
int bpf_source_reconfigure(struct bpf_source *c, const struct collect_config *config);
