/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counts as the collectors do, as fast as it is called. */
#include "kernel.h"
#include "records.h"
#include "stacks.bpf.h"

struct exits_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct stackd_exit_key);
	__type(value, struct stackd_exit);
};
struct exits_map exits_0 SEC(".maps");
struct exits_map exits_1 SEC(".maps");

SEC("raw_tp")
int hammer(void *ctx)
{
	struct stackd_guard *guard = enter();
	struct stackd_count *count = count_get(bpf_get_prandom_u32() % 512 + 1, bpf_get_current_task_btf());

	if (count) {
		__sync_fetch_and_add(&count->values[STACKD_HITS], 1);
		__sync_fetch_and_add(&count->values[STACKD_BLOCKED], 3);
	}
	leave(guard);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
