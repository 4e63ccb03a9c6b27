/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "parser.h"

#include <ctype.h>
#include <strings.h>

#include "table.h"

#define BLANKS " \t\r"
#define QUOTE_MAX 64     /* bytes of the user's text that an error repeats */
#define CLOSE_TO_OPEN 0.8 /* CloseBelow= when only OpenAbove= is given: the ratio of their defaults */

void conf_defaults(struct conf *ret)
{
	struct conf c = {};

	for (size_t i = 0; i < n_conf_keys; i++)
		conf_key_set(conf_keys + i, "", &c);
	*ret = c;
}

void conf_parser_init(struct conf_parser *p)
{
	*p = (struct conf_parser){};
	conf_defaults(&p->conf);
}

void conf_parser_done(struct conf_parser *p)
{
	free(p->open_above.file);
	free(p->close_below.file);
	free(p->error);
	*p = (struct conf_parser){};
}

int conf_fail(struct conf_parser *p, int r, const char *file, unsigned line, const char *format, ...)
{
	_cleanup_free_ char *reason = NULL;
	char *error;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&reason, format, ap);
	va_end(ap);
	if (n < 0) {
		reason = NULL;
		return -ENOMEM;
	}

	n = line > 0 ? asprintf(&error, "%s:%u: %s", file, line, reason) : asprintf(&error, "%s: %s", file, reason);
	if (n < 0)
		return -ENOMEM;
	free(p->error);
	p->error = error;
	return r;
}

/* The user's text as an error may show it: quoted, cut, and without what would upset a terminal. */
static char *quote(char buf[static QUOTE_MAX * 4 + 8], const char *s)
{
	size_t at = 0, n = 0;

	buf[at++] = '\'';
	for (; *s && n < QUOTE_MAX; s++, n++) {
		unsigned char c = (unsigned char) *s;

		if (c >= 0x20 && c < 0x7f)
			buf[at++] = (char) c;
		else
			at += (size_t) sprintf(buf + at, "\\x%02x", c);
	}
	if (*s)
		at += (size_t) sprintf(buf + at, "...");
	buf[at++] = '\'';
	buf[at] = 0;
	return buf;
}

#define NAME_MAX_BYTES 32 /* no section or key is longer; what is longer is no near miss */

/* Levenshtein's distance without regard to case. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[NAME_MAX_BYTES + 1];
	size_t n = strlen(b);

	if (strlen(a) > NAME_MAX_BYTES || n > NAME_MAX_BYTES)
		return UINT32_MAX;
	for (size_t j = 0; j <= n; j++)
		row[j] = (unsigned) j;
	for (size_t i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned) i;
		for (size_t j = 1; j <= n; j++) {
			bool same = tolower((unsigned char) a[i - 1]) == tolower((unsigned char) b[j - 1]);
			unsigned above = row[j];

			row[j] = MIN(above, row[j - 1]) + 1;
			row[j] = MIN(row[j], diagonal + !same);
			diagonal = above;
		}
	}
	return row[n];
}

static bool near_miss(unsigned d, const char *right)
{
	return d <= MAX(1U, (unsigned) strlen(right) / 4);
}

static const char *nearest_section(const char *name)
{
	const char *best = NULL;
	unsigned best_distance = UINT32_MAX;

	for (size_t i = 0; i < n_conf_keys; i++) {
		unsigned d = distance(name, conf_keys[i].section);

		if (d < best_distance && near_miss(d, conf_keys[i].section)) {
			best = conf_keys[i].section;
			best_distance = d;
		}
	}
	return best;
}

static const struct conf_key *nearest_key(const char *name)
{
	const struct conf_key *best = NULL;
	unsigned best_distance = UINT32_MAX;

	for (size_t i = 0; i < n_conf_keys; i++) {
		unsigned d = distance(name, conf_keys[i].name);

		if (d < best_distance && near_miss(d, conf_keys[i].name)) {
			best = conf_keys + i;
			best_distance = d;
		}
	}
	return best;
}

static const struct conf_key *find_key(const char *name)
{
	for (size_t i = 0; i < n_conf_keys; i++)
		if (streq(conf_keys[i].name, name))
			return conf_keys + i;
	return NULL;
}

static char *strip(char *s)
{
	size_t n;

	s += strspn(s, BLANKS);
	for (n = strlen(s); n > 0 && strchr(BLANKS, s[n - 1]); n--)
		s[n - 1] = 0;
	return s;
}

static int parse_section(struct conf_parser *p, const char *file, unsigned line, char *text, const char **section)
{
	char shown[QUOTE_MAX * 4 + 8];
	const char *nearest;
	size_t n = strlen(text);

	if (text[n - 1] != ']')
		return conf_fail(p, -EINVAL, file, line, "%s does not end in ']'", quote(shown, text));
	text[n - 1] = 0;
	text++;

	for (size_t i = 0; i < n_conf_keys; i++)
		if (streq(conf_keys[i].section, text)) {
			*section = conf_keys[i].section;
			return 0;
		}

	nearest = nearest_section(text);
	if (nearest)
		return conf_fail(p, -EINVAL, file, line, "unknown section %s, did you mean [%s]?", quote(shown, text), nearest);
	return conf_fail(p, -EINVAL, file, line, "unknown section %s", quote(shown, text));
}

static int fail_unknown_key(struct conf_parser *p, const char *file, unsigned line, const char *name)
{
	const struct conf_key *nearest = nearest_key(name);
	char shown[QUOTE_MAX * 4 + 8];

	if (nearest)
		return conf_fail(p, -EINVAL, file, line, "unknown key %s, did you mean %s= in [%s]?", quote(shown, name),
				 nearest->name, nearest->section);
	return conf_fail(p, -EINVAL, file, line, "unknown key %s", quote(shown, name));
}

/* Remembers where the last word on a key was said; an empty value takes it back. */
static int note_place(struct conf_place *place, const char *file, unsigned line, bool set)
{
	char *copy = NULL;

	if (set) {
		copy = strdup(file);
		if (!copy)
			return -ENOMEM;
	}
	free(place->file);
	*place = (struct conf_place){ .file = copy, .line = line };
	return 0;
}

static int parse_assignment(struct conf_parser *p, const char *file, unsigned line, const char *section, char *text)
{
	char shown[QUOTE_MAX * 4 + 8], expects[CONF_EXPECT_MAX], *name, *value, *equals = strchr(text, '=');
	const struct conf_key *key;
	int r;

	if (!equals)
		return conf_fail(p, -EINVAL, file, line, "%s has no '=' (a line is Key=value, [Section], or a comment after '#')",
				 quote(shown, text));
	*equals = 0;
	name = strip(text);
	value = strip(equals + 1);

	key = find_key(name);
	if (!key)
		return fail_unknown_key(p, file, line, name);
	if (!section)
		return conf_fail(p, -EINVAL, file, line, "%s= stands before any section, it belongs in [%s]", key->name, key->section);
	if (!streq(section, key->section))
		return conf_fail(p, -EINVAL, file, line, "%s= stands in [%s], it belongs in [%s]", key->name, section, key->section);

	r = conf_key_set(key, value, &p->conf);
	if (r == -EINVAL || r == -ERANGE)
		return conf_fail(p, r, file, line, "%s=: %s is not %s", key->name, quote(shown, value), conf_key_expects(key, expects));
	if (r < 0)
		return r;

	if (key->offset == offsetof(struct conf, open_above))
		return note_place(&p->open_above, file, line, *value);
	if (key->offset == offsetof(struct conf, close_below))
		return note_place(&p->close_below, file, line, *value);
	return 0;
}

int conf_parse(struct conf_parser *p, const char *file, const char *text, size_t size)
{
	const char *section = NULL, *end = text + size;
	unsigned line = 0;
	int r = 0;

	if (size > CONF_FILE_MAX)
		return conf_fail(p, -EFBIG, file, 0, "larger than %d bytes", CONF_FILE_MAX);
	if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) /* the byte order mark of some editors */
		text += 3;

	while (text < end && r >= 0) {
		const char *newline = memchr(text, '\n', (size_t) (end - text)), *stop = newline ? newline : end;
		size_t n = (size_t) (stop - text);
		char buf[CONF_LINE_MAX + 1], *s;

		line++;
		if (n > CONF_LINE_MAX)
			return conf_fail(p, -E2BIG, file, line, "line is longer than %d bytes", CONF_LINE_MAX);
		if (memchr(text, 0, n))
			return conf_fail(p, -EINVAL, file, line, "line has a NUL byte: this is not a text file");
		memcpy(buf, text, n);
		buf[n] = 0;
		text = newline ? newline + 1 : end;

		s = strip(buf);
		if (!*s || *s == '#' || *s == ';')
			continue;
		r = *s == '[' ? parse_section(p, file, line, s, &section) : parse_assignment(p, file, line, section, s);
	}
	return r;
}

int conf_finish(struct conf_parser *p)
{
	struct conf *c = &p->conf;

	if (!p->close_below.file) {
		if (p->open_above.file)
			c->close_below = c->open_above * CLOSE_TO_OPEN;
		return 0;
	}
	if (c->close_below > c->open_above)
		return conf_fail(p, -EINVAL, p->close_below.file, p->close_below.line,
				 "CloseBelow=: '%g' is above OpenAbove=, which is %g: the gate would close as it opens",
				 c->close_below, c->open_above);
	return 0;
}
