/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "record.h"

#include <sys/mman.h>

#define BRANCH_ENTRY_SIZE 24
#define BRANCH_COUNTERS (1U << 19) /* PERF_SAMPLE_BRANCH_COUNTERS: Linux 6.8 */
#define MISC_BUILD_ID_SIZE (1U << 15)
#define BUILD_ID_ROOM 24 /* 20 bytes, the size, 3 that mean nothing */

static bool has(const struct perfdata_event *e, uint64_t bit)
{
	return e->sample_type & bit;
}

static unsigned count(const struct perfdata_event *e, uint64_t bits)
{
	return (unsigned)__builtin_popcountll(e->sample_type & bits);
}

struct perf_event_header record_header(const void *bytes, bool swapped)
{
	struct perf_event_header h;

	memcpy(&h, bytes, sizeof(h));
	if (swapped)
		h = (struct perf_event_header){ __builtin_bswap32(h.type), __builtin_bswap16(h.misc), __builtin_bswap16(h.size) };
	return h;
}

struct cursor record_body(const void *bytes, size_t size, bool swapped)
{
	const uint8_t *b = bytes;

	return (struct cursor){ b + sizeof(struct perf_event_header), b + size, swapped };
}

/* ---- whose it is ---- */

#define BEFORE_TIME (PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID)
#define BEFORE_ID (BEFORE_TIME | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR)
/* What ends every other record, each of 8 bytes: TID TIME ID STREAM_ID CPU IDENTIFIER. */
#define BEHIND_ID (PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_CPU | PERF_SAMPLE_IDENTIFIER)
#define BEHIND_TIME (PERF_SAMPLE_ID | BEHIND_ID)

bool record_layout_agrees(const struct record_layout *l)
{
	const struct perfdata_event *first = &l->events[0];

	for (size_t i = 1; i < l->n_events; i++) {
		const struct perfdata_event *e = &l->events[i];

		if (has(e, PERF_SAMPLE_IDENTIFIER) != has(first, PERF_SAMPLE_IDENTIFIER))
			return false;
		if (has(e, PERF_SAMPLE_IDENTIFIER))
			continue;
		if (!has(e, PERF_SAMPLE_ID) || !has(first, PERF_SAMPLE_ID) || count(e, BEFORE_ID) != count(first, BEFORE_ID) ||
		    count(e, BEHIND_ID) != count(first, BEHIND_ID))
			return false;
	}
	return true;
}

/* What lies so many words before its end. */
static bool find_back(const struct record_layout *l, const void *bytes, size_t size, size_t words, struct cursor *ret)
{
	*ret = record_body(bytes, size, l->swapped);
	return words * sizeof(uint64_t) <= cursor_left(ret) && cursor_skip(ret, cursor_left(ret) - words * sizeof(uint64_t));
}

static bool read_back(const struct record_layout *l, const void *bytes, size_t size, size_t words, uint64_t *ret)
{
	struct cursor c;

	return find_back(l, bytes, size, words, &c) && cursor_u64(&c, ret);
}

static bool read_forward(const struct record_layout *l, const void *bytes, size_t size, size_t words, uint64_t *ret)
{
	struct cursor c = record_body(bytes, size, l->swapped);

	return cursor_skip(&c, words * sizeof(uint64_t)) && cursor_u64(&c, ret);
}

/* NULL: its id is nobody's. */
static const struct perfdata_event *find_event(const struct record_layout *l, const void *bytes, size_t size, bool is_sample)
{
	const struct perfdata_event *first = &l->events[0];
	bool identifier = has(first, PERF_SAMPLE_IDENTIFIER);
	uint64_t id, index;
	bool ok;

	if (l->n_events < 2)
		return l->n_events == 1 ? first : NULL;
	if (is_sample)
		ok = read_forward(l, bytes, size, identifier ? 0 : count(first, BEFORE_ID), &id);
	else if (!first->sample_id_all)
		return first;
	else
		ok = read_back(l, bytes, size, identifier ? 1 : 1 + count(first, BEHIND_ID), &id);
	if (!ok)
		return NULL;
	if (id == 0 && !is_sample)
		return first; /* perf's own, about what ran before it */
	return map64_get(l->ids, id, &index) ? &l->events[index] : NULL;
}

int record_time(const struct record_layout *l, const void *bytes, size_t size, uint64_t *ret)
{
	struct perf_event_header h = record_header(bytes, l->swapped);
	const struct perfdata_event *e;
	bool ok = true;

	*ret = 0;
	e = find_event(l, bytes, size, h.type == PERF_RECORD_SAMPLE);
	if (!e)
		return 0; /* record_parse() will say what is wrong */
	if (!has(e, PERF_SAMPLE_TIME))
		return 0;
	if (h.type == PERF_RECORD_SAMPLE)
		ok = read_forward(l, bytes, size, count(e, BEFORE_TIME), ret);
	else if (e->sample_id_all)
		ok = read_back(l, bytes, size, 1 + count(e, BEHIND_TIME), ret);
	return ok ? 0 : -EBADMSG;
}

/* Of any type but samples. False: it has none. */
static bool record_thread(const struct record_layout *l, const void *bytes, size_t size, struct perfdata_record *ret)
{
	const struct perfdata_event *e = find_event(l, bytes, size, false);
	struct cursor c;

	return e && e->sample_id_all && has(e, PERF_SAMPLE_TID) &&
		find_back(l, bytes, size, 1 + count(e, PERF_SAMPLE_TIME | BEHIND_TIME), &c) && cursor_u32(&c, &ret->pid) &&
		cursor_u32(&c, &ret->tid);
}

/* ---- samples: the fields in the order of their bits, but for IDENTIFIER, which is first ---- */

static bool skip_read(struct cursor *c, uint64_t format)
{
	uint64_t n = 1, times = !!(format & PERF_FORMAT_TOTAL_TIME_ENABLED) + !!(format & PERF_FORMAT_TOTAL_TIME_RUNNING),
		 words = 1 + !!(format & PERF_FORMAT_ID) + !!(format & PERF_FORMAT_LOST);

	if ((format & PERF_FORMAT_GROUP) && !cursor_u64(c, &n))
		return false;
	return n <= PERFDATA_RECORD_MAX && cursor_skip(c, (times + n * words) * sizeof(uint64_t));
}

static bool take_chain(struct cursor *c, uint64_t *chain, struct perfdata_record *ret)
{
	uint64_t n;

	if (!cursor_u64(c, &n) || n > PERFDATA_CHAIN_MAX || n * sizeof(*chain) > cursor_left(c))
		return false;
	for (size_t i = 0; i < n; i++)
		(void)cursor_u64(c, &chain[i]);
	ret->sample.chain = chain;
	ret->sample.n_chain = n;
	return true;
}

static bool take_raw(struct cursor *c, struct perfdata_record *ret)
{
	uint32_t size;

	if (!cursor_u32(c, &size))
		return false;
	ret->sample.raw = c->at;
	ret->sample.raw_size = size;
	return cursor_skip(c, size);
}

static bool skip_branches(struct cursor *c, uint64_t branches)
{
	uint64_t n;

	if (!cursor_u64(c, &n) || n > PERFDATA_RECORD_MAX)
		return false;
	if ((branches & PERF_SAMPLE_BRANCH_HW_INDEX) && !cursor_skip(c, sizeof(uint64_t)))
		return false;
	return cursor_skip(c, n * BRANCH_ENTRY_SIZE) && (!(branches & BRANCH_COUNTERS) || cursor_skip(c, n * sizeof(uint64_t)));
}

static bool skip_registers(struct cursor *c, uint64_t mask)
{
	uint64_t abi;

	return cursor_u64(c, &abi) &&
		(abi == PERF_SAMPLE_REGS_ABI_NONE || cursor_skip(c, (uint64_t)__builtin_popcountll(mask) * sizeof(uint64_t)));
}

/* asm/perf_regs.h of x86. */
enum { REGISTER_BP = 6, REGISTER_SP = 7, REGISTER_IP = 8 };

static bool take_registers(struct cursor *c, uint64_t mask, struct perfdata_carried *ret)
{
	uint64_t abi, value;

	if (!cursor_u64(c, &abi))
		return false;
	for (unsigned i = 0; i < 64 && abi != PERF_SAMPLE_REGS_ABI_NONE; i++) {
		if (!(mask >> i & 1))
			continue;
		if (!cursor_u64(c, &value))
			return false;
		if (abi == PERF_SAMPLE_REGS_ABI_64 && i == REGISTER_BP)
			ret->bp = value;
		if (abi == PERF_SAMPLE_REGS_ABI_64 && i == REGISTER_SP)
			ret->sp = value;
		if (abi == PERF_SAMPLE_REGS_ABI_64 && i == REGISTER_IP)
			ret->ip = value;
	}
	return true;
}

static bool take_stack(struct cursor *c, struct perfdata_carried *ret)
{
	uint64_t size, used;

	/* With the size that was used behind it, unless there is no stack. */
	if (!cursor_u64(c, &size))
		return false;
	ret->stack = c->at;
	if (size == 0)
		return true;
	if (!cursor_skip(c, size) || !cursor_u64(c, &used))
		return false;
	/* Without the registers there is no saying where it was. */
	ret->size = ret->sp ? MIN(size, used) : 0;
	return true;
}

static bool skip_aux(struct cursor *c)
{
	uint64_t size;

	return cursor_u64(c, &size) && cursor_skip(c, size);
}

static bool take_if(struct cursor *c, const struct perfdata_event *e, uint64_t bit, uint64_t *ret)
{
	return !has(e, bit) || cursor_u64(c, ret);
}

static const char *parse_sample(const struct perfdata_event *e, struct cursor c, uint64_t *chain, struct perfdata_record *ret)
{
	uint64_t ignored, words = count(e, PERF_SAMPLE_WEIGHT_TYPE | PERF_SAMPLE_DATA_SRC | PERF_SAMPLE_TRANSACTION);

	ret->sample.period = e->period;
	if (!take_if(&c, e, PERF_SAMPLE_IDENTIFIER, &ignored) || !take_if(&c, e, PERF_SAMPLE_IP, &ret->sample.ip))
		return "a sample without its address";
	if (has(e, PERF_SAMPLE_TID) && (!cursor_u32(&c, &ret->pid) || !cursor_u32(&c, &ret->tid)))
		return "a sample without its thread";
	if (!take_if(&c, e, PERF_SAMPLE_TIME, &ret->time) ||
	    !cursor_skip(&c, count(e, PERF_SAMPLE_ADDR | PERF_SAMPLE_ID | PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_CPU) * sizeof(uint64_t)) ||
	    !take_if(&c, e, PERF_SAMPLE_PERIOD, &ret->sample.period))
		return "a sample without its time or period";
	if (has(e, PERF_SAMPLE_READ) && !skip_read(&c, e->read_format))
		return "a sample with more counters than fit into it";
	if (has(e, PERF_SAMPLE_CALLCHAIN) && !take_chain(&c, chain, ret))
		return "a sample with more callers than fit into it";
	if (has(e, PERF_SAMPLE_RAW) && !take_raw(&c, ret))
		return "a sample with more raw data than fits into it";
	if (has(e, PERF_SAMPLE_BRANCH_STACK) && !skip_branches(&c, e->branch_sample_type))
		return "a sample with more branches than fit into it";
	if (has(e, PERF_SAMPLE_REGS_USER) && !take_registers(&c, e->sample_regs_user, &ret->sample.carried))
		return "a sample with more registers than fit into it";
	if (has(e, PERF_SAMPLE_STACK_USER) && !take_stack(&c, &ret->sample.carried))
		return "a sample with more stack than fits into it";
	if (!cursor_skip(&c, words * sizeof(uint64_t)))
		return "a sample without its weight";
	if (has(e, PERF_SAMPLE_REGS_INTR) && !skip_registers(&c, e->sample_regs_intr))
		return "a sample with more registers than fit into it";
	words = count(e, PERF_SAMPLE_PHYS_ADDR | PERF_SAMPLE_CGROUP | PERF_SAMPLE_DATA_PAGE_SIZE | PERF_SAMPLE_CODE_PAGE_SIZE);
	if (!cursor_skip(&c, words * sizeof(uint64_t)))
		return "a sample that ends before its last fields";
	if (has(e, PERF_SAMPLE_AUX) && !skip_aux(&c))
		return "a sample with more trace than fits into it";
	return NULL;
}

/* ---- the others ---- */

static const char *parse_mapping(struct perf_event_header h, struct cursor c, struct perfdata_record *ret)
{
	bool by_build_id = h.misc & PERF_RECORD_MISC_MMAP_BUILD_ID;
	unsigned mode = h.misc & PERF_RECORD_MISC_CPUMODE_MASK;
	uint8_t identity[BUILD_ID_ROOM];
	uint32_t protection = PROT_EXEC, flags;

	if (!cursor_u32(&c, &ret->pid) || !cursor_u32(&c, &ret->tid) || !cursor_u64(&c, &ret->mapping.start) ||
	    !cursor_u64(&c, &ret->mapping.size) || !cursor_u64(&c, &ret->mapping.offset))
		return "a mapping without its addresses";
	if (h.type == PERF_RECORD_MMAP2) {
		if (!cursor_take(&c, identity, sizeof(identity)) || !cursor_u32(&c, &protection) || !cursor_u32(&c, &flags))
			return "a mapping without its protection";
		if (by_build_id) {
			ret->mapping.build_id.size = MIN((size_t)identity[0], (size_t)PERFDATA_BUILD_ID_MAX);
			memcpy(ret->mapping.build_id.bytes, identity + 4, PERFDATA_BUILD_ID_MAX);
		}
	} else if (h.misc & PERF_RECORD_MISC_MMAP_DATA) {
		protection = 0;
	}
	ret->mapping.path = cursor_string(&c);
	if (!ret->mapping.path)
		return "a mapping whose path has no end";
	ret->mapping.code = protection & PROT_EXEC;
	ret->mapping.kernel = mode == PERF_RECORD_MISC_KERNEL;
	return NULL;
}

static const char *parse_comm(struct perf_event_header h, struct cursor c, struct perfdata_record *ret)
{
	if (!cursor_u32(&c, &ret->pid) || !cursor_u32(&c, &ret->tid))
		return "a name without its thread";
	ret->comm.name = cursor_string(&c);
	ret->comm.exec = h.misc & PERF_RECORD_MISC_COMM_EXEC;
	return ret->comm.name ? NULL : "a thread's name that has no end";
}

static const char *parse_fork(struct perf_event_header h, struct cursor c, struct perfdata_record *ret)
{
	if (!cursor_u32(&c, &ret->pid) || !cursor_u32(&c, &ret->fork.parent_pid) || !cursor_u32(&c, &ret->tid) ||
	    !cursor_u32(&c, &ret->fork.parent_tid))
		return "a thread's beginning or end without its ids";
	ret->fork.exec = h.misc & PERF_RECORD_MISC_FORK_EXEC;
	return NULL;
}

static const char *parse_symbol(struct cursor c, struct perfdata_record *ret)
{
	uint32_t size;
	uint16_t type, flags;

	if (!cursor_u64(&c, &ret->symbol.start) || !cursor_u32(&c, &size) || !cursor_u16(&c, &type) || !cursor_u16(&c, &flags))
		return "a symbol of the kernel without its addresses";
	ret->symbol.size = size;
	ret->symbol.gone = flags & PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER;
	ret->symbol.name = cursor_string(&c);
	return ret->symbol.name ? NULL : "a symbol of the kernel whose name has no end";
}

static int parse_as(enum perfdata_kind kind, const char *reason, struct perfdata_record *ret, const char **ret_reason)
{
	ret->kind = kind;
	*ret_reason = reason;
	return reason ? -EBADMSG : 1;
}

int record_parse(const struct record_layout *l, const void *bytes, size_t size, uint64_t chain[static PERFDATA_CHAIN_MAX],
		 struct perfdata_record *ret, const char **ret_reason)
{
	struct perf_event_header h = record_header(bytes, l->swapped);
	struct cursor c = record_body(bytes, size, l->swapped);
	const struct perfdata_event *e;

	*ret = (struct perfdata_record){};
	if (h.type != PERF_RECORD_SAMPLE && record_time(l, bytes, size, &ret->time) < 0)
		return parse_as(PERFDATA_EXIT, "a record that is too short for its time", ret, ret_reason);
	switch (h.type) {
	case PERF_RECORD_SAMPLE:
		e = find_event(l, bytes, size, true);
		if (!e)
			return parse_as(PERFDATA_SAMPLE, "a sample of an event that the file doesn't describe", ret, ret_reason);
		ret->sample.event = (uint32_t)(e - l->events);
		ret->sample.kernel = (h.misc & PERF_RECORD_MISC_CPUMODE_MASK) == PERF_RECORD_MISC_KERNEL;
		return parse_as(PERFDATA_SAMPLE, parse_sample(e, c, chain, ret), ret, ret_reason);
	case PERF_RECORD_MMAP:
	case PERF_RECORD_MMAP2:
		return parse_as(PERFDATA_MAPPING, parse_mapping(h, c, ret), ret, ret_reason);
	case PERF_RECORD_COMM:
		return parse_as(PERFDATA_COMM, parse_comm(h, c, ret), ret, ret_reason);
	case PERF_RECORD_FORK:
		return parse_as(PERFDATA_FORK, parse_fork(h, c, ret), ret, ret_reason);
	case PERF_RECORD_EXIT:
		return parse_as(PERFDATA_EXIT, parse_fork(h, c, ret), ret, ret_reason);
	case PERF_RECORD_SWITCH:
	case PERF_RECORD_SWITCH_CPU_WIDE:
		if ((h.misc & PERF_RECORD_MISC_SWITCH_OUT) || !record_thread(l, bytes, size, ret))
			return 0;
		return parse_as(PERFDATA_SWITCHED_IN, NULL, ret, ret_reason);
	case PERF_RECORD_KSYMBOL:
		return parse_as(PERFDATA_KERNEL_SYMBOL, parse_symbol(c, ret), ret, ret_reason);
	default:
		return 0;
	}
}

const char *record_build_id(const void *bytes, size_t size, bool swapped, struct perfdata_build_id *ret)
{
	uint8_t room[BUILD_ID_ROOM];
	struct cursor c;
	uint32_t pid;

	if (size < sizeof(struct perf_event_header))
		return NULL;
	c = record_body(bytes, size, swapped);
	if (!cursor_u32(&c, &pid) || !cursor_take(&c, room, sizeof(room)))
		return NULL;
	memcpy(ret->bytes, room, sizeof(ret->bytes));
	ret->size = record_header(bytes, swapped).misc & MISC_BUILD_ID_SIZE ? MIN((size_t)room[PERFDATA_BUILD_ID_MAX], (size_t)PERFDATA_BUILD_ID_MAX)
									    : PERFDATA_BUILD_ID_MAX;
	return cursor_string(&c);
}
