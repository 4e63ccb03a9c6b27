/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "read_folded.h"

#include <ctype.h>

#define LINE_MAX_BYTES (1024 * 1024)

/* Takes the last word off the line and reads it. Decimals, which some tools write, are rounded. */
static int take_value(char *line, uint64_t *ret)
{
	size_t n = strlen(line);
	double value;
	char *word;

	while (n > 0 && isspace((unsigned char)line[n - 1]))
		line[--n] = 0;
	while (n > 0 && !isspace((unsigned char)line[n - 1]))
		n--;
	word = line + n;
	if (n == 0 || !isdigit((unsigned char)*word) || word[strspn(word, "0123456789.")])
		return -EBADMSG;
	if (parse_u64(word, ret) < 0) {
		if (!strchr(word, '.') || parse_double(word, &value) < 0)
			return -EBADMSG;
		*ret = value < (double)INT64_MAX ? (uint64_t)(value + 0.5) : INT64_MAX;
	}
	while (n > 0 && isspace((unsigned char)line[n - 1]))
		line[--n] = 0;
	return 0;
}

enum flame_kind folded_kind(char *name, bool first)
{
	size_t n = strlen(name);

	if (n > 4 && streq(name + n - 4, FOLDED_KERNEL)) {
		name[n - 4] = 0;
		return FLAME_KERNEL;
	}
	if (n > 4 && streq(name + n - 4, "_[j]"))
		return FLAME_JIT;
	if (first)
		return FLAME_PROCESS;
	if (streq(name, "[on-CPU]"))
		return FLAME_ON_CPU;
	return streq(name, "[off-CPU]") ? FLAME_OFF_CPU : FLAME_PROGRAM;
}

static int intern_line(struct flame *f, char *line, uint32_t frames[static FLAME_DEPTH_MAX], size_t *ret_n)
{
	char *rest = line, *name;
	size_t n = 0;
	int r;

	while ((name = strsep(&rest, ";"))) {
		enum flame_kind kind;

		if (n == FLAME_DEPTH_MAX) {
			f->cut++;
			break;
		}
		kind = folded_kind(name, n == 0 && rest);
		r = flame_intern(f, name, "", kind, &frames[n++]);
		if (r < 0)
			return r;
	}
	*ret_n = n;
	return 0;
}

/* The next line, without its end. 0: there is none. Not getline(), which keeps whatever comes before the next
 * newline, and there may be none. */
static int read_line(FILE *file, char line[static LINE_MAX_BYTES + 1], const char **ret_reason)
{
	size_t n = 0;
	int c;

	errno = 0;
	while ((c = getc_unlocked(file)) != EOF && c != '\n') {
		if (!c || n == LINE_MAX_BYTES) {
			*ret_reason = c ? "the line is longer than 1 MiB" : "it is not text";
			return -EBADMSG;
		}
		line[n++] = c;
	}
	line[n] = 0;
	if (ferror(file))
		return negative_errno();
	return c != EOF || n > 0;
}

/* The next line that says something. 0: there is none. */
static int next_line(FILE *file, char line[static LINE_MAX_BYTES + 1], struct folded_error *error)
{
	int r;

	do {
		error->line++;
		r = read_line(file, line, &error->reason);
	} while (r > 0 && !line[strspn(line, " \t\r\v\f")]);
	return r;
}

static size_t count_values(const char *line)
{
	_cleanup_free_ char *copy = strdup(line);
	uint64_t value;

	if (!copy || take_value(copy, &value) < 0)
		return 1;
	return take_value(copy, &value) == 0 ? 2 : 1;
}

/* n_values: 0 for as many as the first line has. */
static int read_all(struct flame *f, FILE *file, size_t n_values, enum flame_side side,
                    struct folded_error *ret_error)
{
	uint32_t frames[FLAME_DEPTH_MAX];
	_cleanup_free_ char *line = malloc(LINE_MAX_BYTES + 1);
	size_t n;
	int r;

	*ret_error = (struct folded_error) {};
	if (!line)
		return -ENOMEM;
	while ((r = next_line(file, line, ret_error)) > 0) {
		uint64_t values[2] = {};

		if (n_values == 0)
			n_values = count_values(line);
		if (n_values == 2)
			f->shape = FLAME_DIFF;
		r = 0;
		for (size_t i = n_values; r >= 0 && i-- > 0;)
			r = take_value(line, &values[i]);
		if (r < 0) {
			ret_error->reason = n_values == 2 ? "it does not end with two values"
							  : "it does not end with a value";
			return r;
		}
		r = intern_line(f, line, frames, &n);
		if (r >= 0 && n_values == 1)
			r = flame_add(f, frames, n, side, values[0]);
		for (size_t i = 0; r >= 0 && n_values == 2 && i < 2; i++)
			r = flame_add(f, frames, n, i, values[i]);
		if (r < 0)
			return r;
	}
	return r;
}

int read_folded(struct flame *f, FILE *file, enum flame_side side, struct folded_error *ret_error)
{
	return read_all(f, file, 1, side, ret_error);
}

int read_folded_any(struct flame *f, FILE *file, struct folded_error *ret_error)
{
	return read_all(f, file, 0, FLAME_VALUE, ret_error);
}
