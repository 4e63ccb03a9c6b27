/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "remedies.h"

#include <ctype.h>
#include <fnmatch.h>

#define BLANKS " \t"
#define ID_MAX 64
#define VALUE_MAX 2048 /* bytes, continued lines included */
#define GLOBS_MAX 32   /* of one key */

struct rule {
	char id[ID_MAX];
	char *name, *explain, *unit;
	uint32_t kinds, metrics; /* bits; 0: any */
	size_t n_frames, n_try;
	char *frames[GLOBS_MAX];
	char *try[REMEDY_TRY_MAX];
};

struct remedies {
	size_t n, size;
	struct rule *rules;
};

static void rule_done(struct rule *r)
{
	free(r->name);
	free(r->explain);
	free(r->unit);
	for (size_t i = 0; i < r->n_frames; i++)
		free(r->frames[i]);
	for (size_t i = 0; i < r->n_try; i++)
		free(r->try[i]);
	*r = (struct rule){};
}

struct remedies *remedies_free(struct remedies *r)
{
	if (!r)
		return NULL;
	for (size_t i = 0; i < r->n; i++)
		rule_done(&r->rules[i]);
	free(r->rules);
	free(r);
	return NULL;
}

size_t remedies_count(const struct remedies *r)
{
	return r ? r->n : 0;
}

/* ---- reading ---- */

struct reader {
	struct remedies *remedies;
	const char *file;
	remedies_mistake_fn fn;
	void *userdata;

	unsigned line; /* of what is being looked at */
	bool in_rule, bad; /* bad: the rule is left out */
	unsigned rule_line;
	struct rule rule;
};

static void mistake(struct reader *r, unsigned line, size_t column, const char *format, ...) _printf_(4, 5);
static void mistake(struct reader *r, unsigned line, size_t column, const char *format, ...)
{
	char reason[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(reason, sizeof(reason), format, ap);
	va_end(ap);
	r->bad = true;
	if (r->fn)
		r->fn(r->userdata, r->file, line, (unsigned)column, reason);
}

static int append_rule(struct remedies *m, const struct rule *rule)
{
	if (m->n == m->size) {
		size_t size = MAX(2 * m->size, (size_t)16);
		struct rule *rules = reallocarray(m->rules, size, sizeof(*rules));

		if (!rules)
			return -ENOMEM;
		m->rules = rules;
		m->size = size;
	}
	m->rules[m->n++] = *rule;
	return 0;
}

static int end_rule(struct reader *r)
{
	int e = 0;

	if (!r->in_rule)
		return 0;
	if (!r->bad && !r->rule.name)
		mistake(r, r->rule_line, 1, "[%s] has no Name=", r->rule.id);
	if (!r->bad && !r->rule.explain)
		mistake(r, r->rule_line, 1, "[%s] has no Explain=", r->rule.id);
	if (!r->bad && r->rule.n_try == 0)
		mistake(r, r->rule_line, 1, "[%s] has no Try=", r->rule.id);
	if (!r->bad && r->remedies->n == REMEDIES_MAX)
		mistake(r, r->rule_line, 1, "there are %d rules already", REMEDIES_MAX);
	if (!r->bad)
		e = append_rule(r->remedies, &r->rule);
	if (r->bad || e < 0)
		rule_done(&r->rule);
	r->rule = (struct rule){};
	r->in_rule = r->bad = false;
	return e;
}

static int begin_rule(struct reader *r, const char *text, size_t n)
{
	int e = end_rule(r);
	size_t id = 0;

	if (e < 0)
		return e;
	r->in_rule = true;
	r->rule_line = r->line;
	if (text[n - 1] != ']') {
		mistake(r, r->line, n + 1, "']' is missing");
		return 0;
	}
	for (size_t i = 1; i < n - 1; i++)
		if (!isalnum((unsigned char)text[i]) && text[i] != '-') {
			mistake(r, r->line, i + 1, "a name has letters, digits and '-' only");
			return 0;
		}
	id = MIN(n - 2, (size_t)ID_MAX - 1);
	if (id == 0) {
		mistake(r, r->line, 2, "the name is empty");
		return 0;
	}
	memcpy(r->rule.id, text + 1, id);
	return 0;
}

/* Calls fn for each word of the value; stops at the first that it refuses. */
static bool each_word(struct reader *r, char *value, size_t column, bool (*fn)(struct reader *r, const char *word, size_t column))
{
	char *at = value;

	for (;;) {
		size_t n;
		char end;

		at += strspn(at, BLANKS);
		n = strcspn(at, BLANKS);
		if (n == 0)
			return true;
		end = at[n];
		at[n] = 0;
		if (!fn(r, at, column + (size_t)(at - value)))
			return false;
		at[n] = end;
		at += n;
	}
}

static bool add_kind(struct reader *r, const char *word, size_t column)
{
	enum cluster_kind kind;

	if (cluster_kind_from_string(word, &kind) < 0) {
		mistake(r, r->line, column, "unknown kind '%.40s'", word);
		return false;
	}
	r->rule.kinds |= 1U << kind;
	return true;
}

static bool add_metric(struct reader *r, const char *word, size_t column)
{
	enum metric m;

	if (metric_from_string(word, &m) < 0 || (m >= METRIC_HITS && m != METRIC_RSS)) {
		mistake(r, r->line, column, "unknown metric '%.40s'", word);
		return false;
	}
	r->rule.metrics |= 1U << m;
	return true;
}

static bool add_frame(struct reader *r, const char *word, size_t column)
{
	if (r->rule.n_frames == GLOBS_MAX) {
		mistake(r, r->line, column, "more than %d patterns", GLOBS_MAX);
		return false;
	}
	r->rule.frames[r->rule.n_frames] = strdup(word);
	if (r->rule.frames[r->rule.n_frames])
		r->rule.n_frames++;
	return true;
}

static void set_text(struct reader *r, const char *key, char **field, const char *value)
{
	if (*field) {
		mistake(r, r->line, 1, "%s= is there twice", key);
		return;
	}
	*field = strdup(value);
}

static void take_key(struct reader *r, const char *key, char *value, size_t column)
{
	if (!*value) {
		mistake(r, r->line, column, "%s= is empty", key);
		return;
	}
	if (streq(key, "Kind"))
		each_word(r, value, column, add_kind);
	else if (streq(key, "Metric"))
		each_word(r, value, column, add_metric);
	else if (streq(key, "Frames"))
		each_word(r, value, column, add_frame);
	else if (streq(key, "Unit"))
		set_text(r, key, &r->rule.unit, value);
	else if (streq(key, "Name"))
		set_text(r, key, &r->rule.name, value);
	else if (streq(key, "Explain"))
		set_text(r, key, &r->rule.explain, value);
	else if (!streq(key, "Try"))
		mistake(r, r->line, 1, "unknown key '%.40s': Kind, Metric, Frames, Unit, Name, Explain or Try", key);
	else if (r->rule.n_try == REMEDY_TRY_MAX)
		mistake(r, r->line, 1, "more than %d times Try=", REMEDY_TRY_MAX);
	else if ((r->rule.try[r->rule.n_try] = strdup(value)))
		r->rule.n_try++;
}

static void take_assignment(struct reader *r, char *text)
{
	char *equals = strchr(text, '='), *value;
	size_t n;

	if (!r->in_rule) {
		mistake(r, r->line, 1, "before the first [section]");
		r->bad = false;
		return;
	}
	/* One mistake a rule is enough to mend. */
	if (r->bad)
		return;
	if (!equals) {
		mistake(r, r->line, 1, "neither [section] nor Key=value");
		return;
	}
	*equals = 0;
	for (n = strlen(text); n > 0 && strchr(BLANKS, text[n - 1]); n--)
		text[n - 1] = 0;
	value = equals + 1 + strspn(equals + 1, BLANKS);
	take_key(r, text, value, (size_t)(value - text) + 1);
}

/* Without the blanks at its end, and what is no text is no part of a rule. */
static size_t copy_line(char *to, size_t room, const char *from, size_t n)
{
	while (n > 0 && strchr(" \t\r", from[n - 1]))
		n--;
	n = MIN(n, room);
	for (size_t i = 0; i < n; i++)
		to[i] = (unsigned char)from[i] < 0x20 && from[i] != '\t' ? ' ' : from[i];
	return n;
}

int remedies_parse(struct remedies **m, const char *file, const char *text, size_t size, remedies_mistake_fn fn, void *userdata)
{
	struct reader r = { .file = file, .fn = fn, .userdata = userdata };
	char line[VALUE_MAX + 1];
	unsigned number = 0;
	size_t held = 0;
	int e = 0;

	if (!*m && !(*m = calloc(1, sizeof(**m))))
		return -ENOMEM;
	r.remedies = *m;
	/* One more turn than there are lines, for the last one that is held. */
	for (size_t at = 0; e >= 0 && at <= size;) {
		const char *newline = at < size ? memchr(text + at, '\n', size - at) : NULL;
		size_t n = newline ? (size_t)(newline - (text + at)) : size - at;
		const char *begin = text + at;
		bool last = at == size, continues = !last && n > 0 && (*begin == ' ' || *begin == '\t') && held > 0;

		at += n + 1;
		number += !last;
		if (continues) {
			size_t blanks = 0;

			while (blanks < n && strchr(BLANKS, begin[blanks]))
				blanks++;
			if (held < VALUE_MAX)
				line[held++] = ' ';
			held += copy_line(line + held, VALUE_MAX - held, begin + blanks, n - blanks);
			continue;
		}
		if (held > 0) {
			line[held] = 0;
			take_assignment(&r, line);
			held = 0;
		}
		r.line = number;
		if (last || n == 0 || *begin == '#' || *begin == ';')
			continue;
		if (*begin == '[') {
			held = copy_line(line, VALUE_MAX, begin, n);
			e = begin_rule(&r, line, held);
			held = 0;
			continue;
		}
		if (n > VALUE_MAX)
			mistake(&r, number, VALUE_MAX, "the line is longer than %d bytes", VALUE_MAX);
		held = copy_line(line, VALUE_MAX, begin, n);
	}
	if (e >= 0 && held > 0) {
		line[held] = 0;
		take_assignment(&r, line);
	}
	if (e >= 0)
		e = end_rule(&r);
	rule_done(&r.rule);
	return e < 0 ? e : (int)r.remedies->n;
}

/* ---- matching ---- */

void incident_case(const struct cluster_incident *incident, const struct cluster_class *class, const char **frames, struct remedy_case *ret)
{
	*ret = (struct remedy_case){
		.kind = incident->kind,
		.metric = incident->series[0].metric,
		.unit = incident->workloads[0].unit,
		.function = class->n_common > 0 ? class->common[0] : "",
		.pid = incident->workloads[0].pid,
		.n_frames = class->n_common,
		.frames = frames,
	};
	for (size_t i = 0; i < class->n_common; i++)
		frames[i] = class->common[i];
}

static bool any_frame(const struct rule *r, const struct remedy_case *c)
{
	for (size_t f = 0; f < c->n_frames; f++)
		for (size_t i = 0; i < r->n_frames; i++)
			if (fnmatch(r->frames[i], c->frames[f], 0) == 0)
				return true;
	return r->n_frames == 0;
}

static bool matches(const struct rule *r, const struct remedy_case *c)
{
	return (!r->kinds || r->kinds & 1U << c->kind) && (!r->metrics || r->metrics & 1U << c->metric) &&
	       (!r->unit || (c->unit && fnmatch(r->unit, c->unit, 0) == 0)) && any_frame(r, c);
}

bool remedies_find(const struct remedies *m, const struct remedy_case *c, struct remedy *ret)
{
	for (size_t i = 0; m && i < m->n; i++) {
		const struct rule *r = &m->rules[i];

		if (!matches(r, c))
			continue;
		*ret = (struct remedy){ .id = r->id, .name = r->name, .explain = r->explain, .n_try = r->n_try };
		for (size_t k = 0; k < r->n_try; k++)
			ret->try[k] = r->try[k];
		return true;
	}
	return false;
}

#define OF_UNIT "--unit %u"

static bool has_unit(const struct remedy_case *c)
{
	return c->unit && *c->unit;
}

/* The process that stands for the unit that there is none of. */
static bool is_of_process(const char *text, const struct remedy_case *c)
{
	return !has_unit(c) && c->pid > 0 && strncmp(text, OF_UNIT, strlen(OF_UNIT)) == 0;
}

bool remedy_fits(const char *text, const struct remedy_case *c)
{
	for (; *text; text++) {
		if (is_of_process(text, c))
			text += strlen(OF_UNIT) - 1;
		else if (*text == '%' && ((text[1] == 'f' && !(c->function && *c->function)) || (text[1] == 'p' && c->pid <= 0) ||
					  (text[1] == 'u' && !has_unit(c))))
			return false;
		else if (*text == '%' && text[1])
			text++;
	}
	return true;
}

char *remedy_fill(char buf[static REMEDY_TEXT_MAX], const char *text, const struct remedy_case *c)
{
	size_t n = 0;

	for (; *text && n + 1 < REMEDY_TEXT_MAX; text++) {
		char pid[16];
		const char *insert = NULL;

		if (is_of_process(text, c)) {
			n += (size_t)snprintf(buf + n, REMEDY_TEXT_MAX - n, "--pid %d", (int)c->pid);
			n = MIN(n, (size_t)REMEDY_TEXT_MAX - 1);
			text += strlen(OF_UNIT) - 1;
			continue;
		}
		if (*text == '%' && text[1]) {
			snprintf(pid, sizeof(pid), "%d", (int)c->pid);
			insert = text[1] == 'f'   ? (c->function && *c->function ? c->function : "?")
			         : text[1] == 'p' ? (c->pid > 0 ? pid : "?")
			         : text[1] == 'u' ? (has_unit(c) ? c->unit : "?")
			         : text[1] == '%' ? "%"
			                          : NULL;
		}
		if (!insert) {
			buf[n++] = *text;
			continue;
		}
		n += (size_t)snprintf(buf + n, REMEDY_TEXT_MAX - n, "%s", insert);
		n = MIN(n, (size_t)REMEDY_TEXT_MAX - 1);
		text++;
	}
	buf[n] = 0;
	return buf;
}
