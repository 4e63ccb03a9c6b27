/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "scheduler.h"

#define FIELD_OFFSET_MAX 4096

/* Of include/linux/sched.h, as the tracepoint shows them. */
#define STATE_SLEEPS 0xcf /* S, D, T, t, P, I */
#define STATE_DEAD 0x30   /* X, Z */

const struct sched_formats sched_default_formats = { .prev_pid = 24, .prev_state = 32, .next_pid = 56, .woken = 24, .waking = 24 };

/* "\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;" */
static void read_field(const char *text, size_t size, const char *field, size_t *ret)
{
	char pattern[48], number[8] = "";
	const char *found;
	uint64_t offset;
	int n = snprintf(pattern, sizeof(pattern), " %s;\toffset:", field);

	found = memmem(text, size, pattern, (size_t)n);
	if (!found)
		return;
	found += n;
	for (size_t i = 0; i + 1 < sizeof(number) && found + i < text + size && found[i] >= '0' && found[i] <= '9'; i++)
		number[i] = found[i];
	if (parse_u64(number, &offset) >= 0 && offset <= FIELD_OFFSET_MAX)
		*ret = offset;
}

/* An event's format: from its name to how it is printed. */
static void read_format(const char *text, size_t size, const char *event, const char *field, size_t *ret)
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

static bool take(const uint8_t *raw, size_t size, size_t offset, uint32_t *ret)
{
	if (size < sizeof(*ret) || offset > size - sizeof(*ret))
		return false;
	memcpy(ret, raw + offset, sizeof(*ret));
	return true;
}

static bool is_event(const char *event, const char *name)
{
	size_t n = strlen(name);

	return strncmp(event, name, n) == 0 && (event[n] == '\0' || event[n] == ':');
}

bool sched_parse(const struct sched_formats *f, const char *event, const uint8_t *raw, size_t size, struct perfdata_sched *ret)
{
	uint32_t state;

	*ret = (struct perfdata_sched){ .kind = PERFDATA_WAKEUP };
	if (is_event(event, "sched:sched_wakeup"))
		return take(raw, size, f->woken, &ret->to);
	if (is_event(event, "sched:sched_waking"))
		return take(raw, size, f->waking, &ret->to);
	if (!is_event(event, "sched:sched_switch") || !take(raw, size, f->prev_pid, &ret->from) || !take(raw, size, f->prev_state, &state) ||
	    !take(raw, size, f->next_pid, &ret->to))
		return false;
	ret->kind = PERFDATA_SWITCH;
	ret->dead = state & STATE_DEAD;
	ret->runnable = !(state & (STATE_SLEEPS | STATE_DEAD));
	return true;
}
