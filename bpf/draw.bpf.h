/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changes of memory are walked up to a budget. Beyond it they are drawn by their size: one of at least the threshold always,
 * a smaller one with the probability size / threshold, and it then stands for the threshold. Sums stay unbiased, and what is
 * large is never left out nor made larger (threshold sampling: Duffield, Lund, Thorup, "Learn more, sample less", 2005). The
 * threshold depends on the past only. */
#pragma once

#define DRAW_WINDOW_NS 1000000000ULL
#define THRESHOLD_MIN (64ULL << 10)
#define THRESHOLD_MAX (1ULL << 31)

/* Whose budget it is: many small changes of one kind don't make those of another rarer. */
enum draw_kind { DRAW_MAPS, DRAW_RSS, DRAW_KINDS };

struct draw_slot {
	u64 window_ns;  /* when the window began */
	u64 threshold;  /* 0: everything is taken */
	u32 taken;      /* since the window began or the threshold was raised */
	u32 raised;     /* in this window */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DRAW_KINDS);
	__type(key, u32);
	__type(value, struct draw_slot);
} draw_slots SEC(".maps");

/* What a change of this size stands for; 0: it is not taken. */
static __always_inline u64 draw_size(u32 kind, u64 size)
{
	u32 budget = control.memory_budget;
	struct draw_slot *slot = bpf_map_lookup_elem(&draw_slots, &kind);
	u64 now, threshold;

	if (!slot || !budget)
		return size;
	now = bpf_ktime_get_ns();
	if (now - slot->window_ns > DRAW_WINDOW_NS) {
		if (now - slot->window_ns > 2 * DRAW_WINDOW_NS || slot->threshold <= THRESHOLD_MIN)
			slot->threshold = slot->raised ? slot->threshold : 0;
		else if (!slot->raised && slot->taken < budget / 4)
			slot->threshold /= 2;
		slot->window_ns = now;
		slot->taken = slot->raised = 0;
	}
	threshold = slot->threshold;
	if (size < threshold && (u64)bpf_get_prandom_u32() * threshold >> 32 >= size)
		return 0;
	if (++slot->taken >= budget) {
		if (threshold < THRESHOLD_MAX)
			slot->threshold = threshold ? threshold * 2 : THRESHOLD_MIN;
		slot->taken = 0;
		slot->raised = 1;
	}
	return size < threshold ? threshold : size;
}

static __always_inline u64 magnitude(s64 v)
{
	return v < 0 ? -v : v;
}

/* A part of a change of `size` that stands for `weight` bytes. */
static __always_inline s64 weighted(s64 part, u64 size, u64 weight)
{
	u64 counted;

	if (weight == size || !size)
		return part;
	counted = magnitude(part) * weight / size;
	return part < 0 ? -counted : counted;
}
