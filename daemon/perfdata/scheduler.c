/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "scheduler.h"

#define FIELD_OFFSET_MAX 4096

/* Of include/linux/sched.h, as the tracepoint shows them. */
#define STATE_SLEEPS 0xcf /* S, D, T, t, P, I */
#define STATE_DEAD 0x30   /* X, Z */

const struct sched_formats sched_default_formats = {
	.prev_pid = { 24, false },
	.prev_state = { 32, true },
	.next_pid = { 56, false },
	.woken = { 24, false },
	.waking = { 24, false },
};

/* The digits that begin there. */
static int read_number(const char *text, size_t size, uint64_t *ret)
{
	char number[8] = "";

	for (size_t i = 0; i + 1 < sizeof(number) && i < size && text[i] >= '0' && text[i] <= '9'; i++)
		number[i] = text[i];
	return parse_u64(number, ret);
}

/* "\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;" */
static void read_field(const char *text, size_t size, const char *field, struct sched_field *ret)
{
	static const char size_key[] = ";\tsize:";
	const char *end = text + size, *found, *key;
	char pattern[48];
	uint64_t offset, n_bytes;
	int n = snprintf(pattern, sizeof(pattern), " %s;\toffset:", field);

	found = memmem(text, size, pattern, (size_t)n);
	if (!found)
		return;
	found += n;
	key = memmem(found, (size_t)(end - found), size_key, sizeof(size_key) - 1);
	if (!key)
		return;
	key += sizeof(size_key) - 1;
	if (read_number(found, (size_t)(end - found), &offset) >= 0 && read_number(key, (size_t)(end - key), &n_bytes) >= 0 &&
	    offset <= FIELD_OFFSET_MAX && (n_bytes == sizeof(uint32_t) || n_bytes == sizeof(uint64_t)))
		*ret = (struct sched_field){ .offset = offset, .is_long = n_bytes == sizeof(uint64_t) };
}

/* An event's format: from its name to how it is printed. */
static void read_format(const char *text, size_t size, const char *event, const char *field, struct sched_field *ret)
{
	char pattern[48];
	const char *begin, *end;
	int n = snprintf(pattern, sizeof(pattern), "name: %s\n", event);

	begin = memmem(text, size, pattern, (size_t)n);
	if (!begin)
		return;
	end = memmem(begin, size - (size_t)(begin - text), "print fmt:", 10);
	read_field(begin, (size_t)((end ? end : text + size) - begin), field, ret);
}

void sched_read_formats(struct sched_formats *f, const char *text, size_t size)
{
	read_format(text, size, "sched_switch", "prev_pid", &f->prev_pid);
	read_format(text, size, "sched_switch", "prev_state", &f->prev_state);
	read_format(text, size, "sched_switch", "next_pid", &f->next_pid);
	read_format(text, size, "sched_wakeup", "pid", &f->woken);
	read_format(text, size, "sched_waking", "pid", &f->waking);
}

/* Of eight bytes the low half. */
static bool take(struct cursor raw, struct sched_field field, uint32_t *ret)
{
	uint64_t value;

	if (!cursor_skip(&raw, field.offset))
		return false;
	if (!field.is_long)
		return cursor_u32(&raw, ret);
	if (!cursor_u64(&raw, &value))
		return false;
	*ret = (uint32_t)value;
	return true;
}

static bool is_event(const char *event, const char *name)
{
	size_t n = strlen(name);

	return strncmp(event, name, n) == 0 && (event[n] == '\0' || event[n] == ':');
}

bool sched_parse(const struct sched_formats *f, const char *event, struct cursor raw, struct perfdata_sched *ret)
{
	uint32_t state;

	*ret = (struct perfdata_sched){ .kind = PERFDATA_WAKEUP };
	if (is_event(event, "sched:sched_wakeup"))
		return take(raw, f->woken, &ret->to);
	if (is_event(event, "sched:sched_waking"))
		return take(raw, f->waking, &ret->to);
	if (!is_event(event, "sched:sched_switch") || !take(raw, f->prev_pid, &ret->from) || !take(raw, f->prev_state, &state) ||
	    !take(raw, f->next_pid, &ret->to))
		return false;
	ret->kind = PERFDATA_SWITCH;
	ret->dead = state & STATE_DEAD;
	ret->runnable = !(state & (STATE_SLEEPS | STATE_DEAD));
	return true;
}
