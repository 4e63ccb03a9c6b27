/* SPDX-License-Identifier: GPL-2.0-or-later */
/* perf script prints a head for each sample, then a line for each frame, innermost first, then an empty line:
 *
 *   a thread  1234/1240 [000]  4794564.109216:    5025125 cpu-clock:u:
 *           55d0c3a4b1a9 inner+0x19 (/usr/bin/program)
 *           55d0c3a4b1d2 [unknown] (/usr/bin/program)
 *
 * Without callers the frame is at the end of the head. Fields that -F has taken out may be missing, but the thread and the event. */
#include "perf_text.h"

#include <ctype.h>

#include "source.h"

#define LINE_SIZE_MAX (64U << 10)
#define TEXT_MAX (128U << 10) /* all names of a stack */

enum kind { KIND_UNKNOWN, KIND_SCRIPT, KIND_FOLDED };

struct text {
	const struct stack_options *options;
	stack_fn fn;
	void *userdata;
	enum kind kind;
	bool open;    /* a sample whose frames are being read */
	bool skipped; /* it is of another event */
	bool any_event; /* all, or there was none yet */
	uint64_t others;
	bool met; /* the wanted event, or any */
	char comm[64], event[64], wanted[64];
	char other[64]; /* the first that is not the wanted one */
	char exe[68]; /* "[comm]" */
	uint64_t time_ns, period;
	uint32_t tid;
	size_t n, used;
	struct names_frame frames[STACK_FRAMES_MAX];
	char names[TEXT_MAX];
};

static const char *keep(struct text *t, const char *name, size_t n)
{
	char *kept = t->names + t->used;

	memcpy(kept, name, n);
	kept[n] = '\0';
	t->used += n + 1;
	return kept;
}

static void put_frame(struct text *t, const char *name, size_t n, const char *object, size_t n_object)
{
	struct names_frame *f = &t->frames[t->n];

	if (t->n == STACK_FRAMES_MAX || n + n_object + 2 > TEXT_MAX - t->used)
		return;
	*f = (struct names_frame){ .is_named = true, .name = keep(t, name, n), .object = keep(t, object, n_object) };
	t->n++;
}

static int end_stack(struct text *t)
{
	struct stack stack = {
		.comm = t->comm,
		.frames = t->frames,
		.n = t->n,
		.event = t->event,
		.time_ns = t->time_ns,
		.period = t->period,
		.pid = t->tid,
		.process_comm = t->comm,
		.exe = t->exe,
	};
	bool told = t->open && !t->skipped;

	t->open = false;
	t->n = t->used = 0;
	return told ? stack_tell_sample(t->options, &stack, t->fn, t->userdata) : 0;
}

/* ---- perf script ---- */

static const char *skip_blanks(const char *s)
{
	return s + strspn(s, " \t");
}

static const char *skip_word(const char *s)
{
	return s + strcspn(s, " \t");
}

/* "4794564.109216:" */
static bool is_time(const char *word, size_t n)
{
	size_t whole = strspn(word, "0123456789"), part = whole < n && word[whole] == '.' ? strspn(word + whole + 1, "0123456789") : 0;

	return whole > 0 && part > 0 && whole + 1 + part + 1 == n && word[n - 1] == ':';
}

static bool is_thread(const char *word, size_t n)
{
	size_t first = strspn(word, "0123456789"), second = first > 0 && first < n && word[first] == '/' ? strspn(word + first + 1, "0123456789") : 0;

	return first > 0 && (first == n || (second > 0 && first + 1 + second == n));
}

/* The thread is the last word of its form before the time, and what is before it is the name, which may have blanks. */
static bool find_head(const char *line, const char **ret_thread, const char **ret_time)
{
	const char *thread = NULL;

	for (const char *word = skip_blanks(line); *word; word = skip_blanks(skip_word(word))) {
		size_t n = strcspn(word, " \t");

		if (is_time(word, n)) {
			*ret_thread = thread;
			*ret_time = word;
			return thread != NULL;
		}
		if (word > line && is_thread(word, n))
			thread = word;
	}
	return false;
}

/* As the native reader has it: the base name of a file, "[kernel]". *n is its length, in and out. */
static const char *object_name(const char *object, size_t *n)
{
	const char *slash = memrchr(object, '/', *n);

	if (*n == strlen("[unknown]") && strncmp(object, "[unknown]", *n) == 0) {
		*n = 0;
	} else if (strncmp(object, "[kernel.kallsyms]", strlen("[kernel.kallsyms]")) == 0) {
		*n = strlen("[kernel]");
		return "[kernel]";
	} else if (slash && object[0] != '[') {
		*n -= (size_t)(slash + 1 - object);
		return slash + 1;
	}
	return object;
}

/* What the native reader calls code without a name: by its object. */
static void put_unnamed(struct text *t, const char *object, size_t n)
{
	char name[256];

	n = MIN(n, sizeof(name) - 3);
	snprintf(name, sizeof(name), n == 0 ? "[unknown]" : object[0] == '[' ? "%.*s" : "[%.*s]", (int)n, object);
	put_frame(t, name, strlen(name), object, n);
}

/* Without "+0x19". */
static size_t name_length(const char *name, size_t n)
{
	for (size_t i = n; i-- > 3;)
		if (!isxdigit((unsigned char)name[i]))
			return name[i] == 'x' && name[i - 1] == '0' && name[i - 2] == '+' && i + 1 < n ? i - 2 : n;
	return n;
}

/* What is between the last parenthesis and its partner: names have some, too, and paths "(deleted)". NULL: there is none. */
static const char *find_object(const char *line, size_t *ret_n)
{
	const char *end = strrchr(line, ')');
	size_t depth = 0;

	for (const char *p = end; p && p > line; p--) {
		depth += *p == ')';
		depth -= *p == '(';
		if (depth == 0 && p[-1] == ' ') {
			*ret_n = strcspn(p + 1, " )");
			return p + 1;
		}
	}
	return NULL;
}

/* "55d0c3a4b1a9 inner+0x19 (/usr/bin/program)" */
static bool take_frame(struct text *t, const char *line)
{
	const char *name, *object = NULL, *base = "";
	size_t digits, n, n_base = 0;

	line = skip_blanks(line);
	digits = strspn(line, "0123456789abcdef");
	if (digits == 0 || (line[digits] != ' ' && line[digits] != '\t'))
		return false;
	name = skip_blanks(line + digits);
	object = find_object(name, &n_base);
	n = name_length(name, object ? (size_t)(MAX(object - 2, name) - name) : strlen(name));
	if (object)
		base = object_name(object, &n_base);
	if (n == strlen("[unknown]") && strncmp(name, "[unknown]", n) == 0)
		put_unnamed(t, base, n_base);
	else
		put_frame(t, name, n, base, n_base);
	return true;
}

/* "5025125 cpu-clock:u:", the period, which may be missing, and the event; what follows is of the event itself. */
static const char *take_event(struct text *t, const char *rest)
{
	size_t n = strcspn(rest, " \t");

	t->period = 1;
	if (n > 0 && strspn(rest, "0123456789") == n) {
		t->period = strtoull(rest, NULL, 10);
		rest = skip_blanks(rest + n);
		n = strcspn(rest, " \t");
	}
	if (n > 0 && rest[n - 1] == ':')
		snprintf(t->event, sizeof(t->event), "%.*s", (int)MIN(n - 1, sizeof(t->event) - 1), rest);
	else
		t->event[0] = '\0';
	return skip_blanks(rest + n);
}

/* ns of "4794564.109216:", of which nine digits of the fraction count. */
static uint64_t parse_time(const char *time)
{
	uint64_t ns = 0, digit = NSEC_PER_SEC;

	for (const char *c = strchr(time, '.') + 1; *c >= '0' && *c <= '9' && digit > 1; c++) {
		digit /= 10;
		ns += (uint64_t)(*c - '0') * digit;
	}
	return MIN(strtoull(time, NULL, 10), UINT64_MAX / NSEC_PER_SEC - 1) * NSEC_PER_SEC + ns;
}

static int take_script_line(struct text *t, const char *line)
{
	const char *thread, *end, *time;
	int r;

	if (line[0] == '#')
		return 0;
	if (line[0] == '\0')
		return end_stack(t);
	if (t->open && isspace((unsigned char)line[0]) && take_frame(t, line))
		return 0;
	if (!find_head(line, &thread, &time))
		return t->open ? 0 : -EBADMSG; /* more of the event's own text */
	r = end_stack(t);
	if (r < 0)
		return r;
	line = skip_blanks(line);
	for (end = thread; end > line && isspace((unsigned char)end[-1]);)
		end--;
	snprintf(t->comm, sizeof(t->comm), "%.*s", (int)MIN((size_t)(end - line), sizeof(t->comm) - 1), line);
	snprintf(t->exe, sizeof(t->exe), "[%s]", t->comm);
	t->tid = (uint32_t)strtoul(thread, NULL, 10);
	t->time_ns = parse_time(time);
	line = take_event(t, skip_blanks(skip_word(time)));
	if (t->any_event && !t->options->all_events) {
		copy_string(t->wanted, sizeof(t->wanted), t->event);
		t->any_event = false;
	}
	t->skipped = !t->any_event && !stack_is_event(t->event, t->wanted);
	if (!t->any_event && !t->skipped)
		copy_string(t->wanted, sizeof(t->wanted), t->event);
	t->others += t->skipped;
	t->met |= !t->skipped;
	if (t->skipped && t->other[0] == '\0')
		copy_string(t->other, sizeof(t->other), t->event);
	t->open = true;
	(void)take_frame(t, line);
	return 0;
}

/* ---- folded ---- */

static int take_folded_line(struct text *t, char *line)
{
	struct stack stack = { .comm = line, .frames = t->frames, .metric = METRIC_ALL_N };
	char *value = strrchr(line, ' '), *name;

	if (line[0] == '\0' || line[0] == '#')
		return 0;
	if (!value || parse_u64(value + 1, &stack.value) < 0)
		return -EBADMSG;
	*value = '\0';
	t->n = 0;
	(void)strsep(&line, ";");
	while ((name = strsep(&line, ";")) && t->n < STACK_FRAMES_MAX)
		t->frames[t->n++] = (struct names_frame){ .is_named = true, .name = name, .object = "" };
	for (size_t i = 0; i < t->n / 2; i++) {
		struct names_frame f = t->frames[i];

		t->frames[i] = t->frames[t->n - 1 - i];
		t->frames[t->n - 1 - i] = f;
	}
	stack.n = t->n;
	return stack_tell(t->options, &stack, t->fn, t->userdata);
}

/* The first line that says something decides. */
static enum kind find_kind(const char *line)
{
	const char *value = strrchr(line, ' '), *ignored;
	uint64_t n;

	if (line[0] == '\0' || line[0] == '#')
		return KIND_UNKNOWN;
	if (find_head(line, &ignored, &ignored))
		return KIND_SCRIPT;
	return value && parse_u64(value + 1, &n) == 0 ? KIND_FOLDED : KIND_SCRIPT;
}

static int take_line(struct text *t, char *line)
{
	line[strcspn(line, "\r")] = '\0';
	if (t->kind == KIND_UNKNOWN)
		t->kind = find_kind(line);
	if (t->kind == KIND_FOLDED && t->options->event)
		return -ENOENT;
	return t->kind == KIND_FOLDED ? take_folded_line(t, line) : take_script_line(t, line);
}

int perf_text_read(struct source *source, const struct stack_options *options, stack_fn fn, void *userdata, struct stack_error *ret_error,
		   struct stack_origin *ret_origin)
{
	_cleanup_free_ struct text *t = calloc(1, sizeof(*t));
	uint64_t n = 0;
	char *line;
	int r;

	*ret_error = (struct stack_error){ .is_line = true };
	if (!t)
		return -ENOMEM;
	t->options = options;
	t->fn = fn;
	t->userdata = userdata;
	t->any_event = !options->event;
	if (options->event)
		copy_string(t->wanted, sizeof(t->wanted), options->event);
	while ((r = source_line(source, LINE_SIZE_MAX, &line)) > 0) {
		n++;
		r = take_line(t, line);
		if (r < 0)
			break;
	}
	if (r == -EBADMSG) {
		ret_error->place = n + (n == 0);
		copy_string(ret_error->what, sizeof(ret_error->what),
			    t->kind == KIND_FOLDED ? "not a folded stack (comm;caller;callee 12)"
						   : "neither a file of perf record, nor what perf script prints, nor folded stacks");
	}
	if (r >= 0)
		r = end_stack(t);
	ret_origin->format = t->kind == KIND_FOLDED ? "folded stacks" : "perf script";
	if (r == -ENOENT)
		snprintf(ret_error->what, sizeof(ret_error->what), "folded stacks have no events, such as '%.40s'", options->event);
	if (r < 0 || !options->event || t->met || t->others == 0) {
		stack_say_others(options, t->others, t->wanted);
		return r;
	}
	snprintf(ret_error->what, sizeof(ret_error->what), "no event '%.40s'; there is %s", options->event, t->other);
	return -ENOENT;
}
