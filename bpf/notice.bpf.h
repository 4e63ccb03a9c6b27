/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the daemon is told at once, not at the end of the tick. */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} notices SEC(".maps");

static __always_inline bool tell(u32 kind, u32 running)
{
	struct stackd_notice *notice = bpf_ringbuf_reserve(&notices, sizeof *notice, 0);

	if (!notice)
		return false;
	notice->kind = kind;
	notice->running = running;
	bpf_ringbuf_submit(notice, BPF_RB_FORCE_WAKEUP);
	return true;
}
