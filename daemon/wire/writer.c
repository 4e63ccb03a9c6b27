/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wire.h"

#include <locale.h>
#include <math.h>

#include "utf8.h"

#define WRITER_SIZE_MIN 4096
#define NUMBER_MAX 32 /* characters of any number */

struct level {
	bool object;
	bool empty;
	bool has_key; /* a key is written, its value isn't */
};

struct json_writer {
	char *buffer;
	size_t size, used, max;
	int error;
	bool pretty;
	unsigned depth;
	struct level levels[WIRE_DEPTH_MAX];
};

int json_writer_new(struct json_writer **ret, size_t max)
{
	struct json_writer *w;

	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->max = max;
	*ret = w;
	return 0;
}

struct json_writer *json_writer_free(struct json_writer *w)
{
	if (w)
		free(w->buffer);
	free(w);
	return NULL;
}

void json_writer_reset(struct json_writer *w)
{
	w->used = 0;
	w->error = 0;
	w->depth = 0;
}

void json_writer_set_pretty(struct json_writer *w, bool pretty)
{
	w->pretty = pretty;
}

size_t json_writer_size(const struct json_writer *w)
{
	return w->used;
}

int json_writer_error(const struct json_writer *w)
{
	return w->error;
}

static void fail(struct json_writer *w, int error)
{
	if (w->error == 0)
		w->error = error;
}

static bool grow(struct json_writer *w, size_t n)
{
	size_t size;
	char *buffer;

	if (n > w->max - w->used) {
		fail(w, -EMSGSIZE);
		return false;
	}
	size = MAX(2 * (w->used + n + 1), (size_t)WRITER_SIZE_MIN);
	size = MIN(size, w->max + 1);
	buffer = realloc(w->buffer, size);
	if (!buffer) {
		fail(w, -ENOMEM);
		return false;
	}
	w->buffer = buffer;
	w->size = size;
	return true;
}

/* Room for n bytes and the NUL: where to write them, or NULL. */
static inline char *reserve(struct json_writer *w, size_t n)
{
	if (w->error < 0 || (w->used + n >= w->size && !grow(w, n)))
		return NULL;
	return w->buffer + w->used;
}

static void append(struct json_writer *w, const char *bytes, size_t n)
{
	char *p = reserve(w, n);

	if (!p)
		return;
	memcpy(p, bytes, n);
	w->used += n;
}

static inline void append_char(struct json_writer *w, char c)
{
	char *p = reserve(w, 1);

	if (!p)
		return;
	*p = c;
	w->used++;
}

static void new_line(struct json_writer *w)
{
	if (!w->pretty)
		return;
	append_char(w, '\n');
	for (unsigned i = 0; i < w->depth; i++)
		append(w, "  ", 2);
}

/* What goes between the last value and the next one. */
static void separate(struct json_writer *w, struct level *l)
{
	if (!l->empty)
		append_char(w, ',');
	l->empty = false;
	new_line(w);
}

static bool begin_value(struct json_writer *w)
{
	struct level *l;

	if (w->error < 0)
		return false;
	if (w->depth == 0) {
		if (w->used > 0)
			fail(w, -EINVAL);
		return w->error == 0;
	}
	l = &w->levels[w->depth - 1];
	if (!l->object)
		separate(w, l);
	else if (l->has_key)
		l->has_key = false;
	else
		fail(w, -EINVAL);
	return w->error == 0;
}

static void open_level(struct json_writer *w, bool object)
{
	if (!begin_value(w))
		return;
	if (w->depth == WIRE_DEPTH_MAX) {
		fail(w, -EINVAL);
		return;
	}
	append_char(w, object ? '{' : '[');
	w->levels[w->depth++] = (struct level){ .object = object, .empty = true };
}

static void close_level(struct json_writer *w, bool object)
{
	struct level *l = w->depth > 0 ? &w->levels[w->depth - 1] : NULL;

	if (!l || l->object != object || l->has_key) {
		fail(w, -EINVAL);
		return;
	}
	w->depth--;
	if (!l->empty)
		new_line(w);
	append_char(w, object ? '}' : ']');
}

void json_open_object(struct json_writer *w)
{
	open_level(w, true);
}

void json_close_object(struct json_writer *w)
{
	close_level(w, true);
}

void json_open_array(struct json_writer *w)
{
	open_level(w, false);
}

void json_close_array(struct json_writer *w)
{
	close_level(w, false);
}

static void append_escaped(struct json_writer *w, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	char out[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };

	for (const char *s = shorts; *s; s += 2)
		if (*s == (char)c) {
			out[1] = s[1];
			append(w, out, 2);
			return;
		}
	append(w, out, sizeof(out));
}

size_t json_string_size(const char *v)
{
	const unsigned char *s = (const unsigned char *)v, *end = s + strlen(v);
	size_t size = 2;

	while (s < end) {
		size_t length = utf8_sequence(s, end - s);

		if (length == 0)
			size += 3;
		else if (*s == '"' || *s == '\\' || (*s < 0x20 && strchr("\b\f\n\r\t", *s)))
			size += 2;
		else
			size += *s < 0x20 ? 6 : length;
		s += MAX(length, (size_t)1);
	}
	return size;
}

static void append_string(struct json_writer *w, const char *v, size_t n)
{
	const unsigned char *s = (const unsigned char *)v, *end = s + n, *plain = s;

	append_char(w, '"');
	while (s < end) {
		size_t length = *s >= 0x20 && *s != '"' && *s != '\\' ? utf8_sequence(s, end - s) : 0;

		if (length > 0) {
			s += length;
			continue;
		}
		append(w, (const char *)plain, s - plain);
		if (*s < 0x80)
			append_escaped(w, *s);
		else
			append(w, "\xef\xbf\xbd", 3);
		plain = ++s;
	}
	append(w, (const char *)plain, s - plain);
	append_char(w, '"');
}

void json_key(struct json_writer *w, const char *key)
{
	struct level *l = w->depth > 0 ? &w->levels[w->depth - 1] : NULL;

	if (w->error < 0)
		return;
	if (!l || !l->object || l->has_key) {
		fail(w, -EINVAL);
		return;
	}
	separate(w, l);
	append_string(w, key, strlen(key));
	append(w, ": ", w->pretty ? 2 : 1);
	l->has_key = true;
}

void json_write_null(struct json_writer *w)
{
	if (begin_value(w))
		append(w, "null", 4);
}

void json_write_bool(struct json_writer *w, bool v)
{
	if (begin_value(w))
		append(w, v ? "true" : "false", v ? 4 : 5);
}

void json_write_int(struct json_writer *w, int64_t v)
{
	char digits[NUMBER_MAX], *p = digits + sizeof(digits);
	uint64_t rest = v < 0 ? -(uint64_t)v : (uint64_t)v;

	if (!begin_value(w))
		return;
	do {
		*--p = '0' + rest % 10;
		rest /= 10;
	} while (rest > 0);
	if (v < 0)
		*--p = '-';
	append(w, p, digits + sizeof(digits) - p);
}

void json_write_u64(struct json_writer *w, uint64_t v)
{
	json_write_int(w, v > INT64_MAX ? INT64_MAX : (int64_t)v);
}

/* The shortest of 15, 16 and 17 digits that reads back as v. */
static int format_double(char buf[static NUMBER_MAX], double v)
{
	int n = 0;

	for (int digits = 15; digits <= 17; digits++) {
		n = snprintf(buf, NUMBER_MAX, "%.*g", digits, v);
		if (strtod(buf, NULL) == v)
			break;
	}
	/* "5" would read back as an int. */
	if (!strpbrk(buf, ".e"))
		n += snprintf(buf + n, NUMBER_MAX - n, ".0");
	return n;
}

void json_write_float(struct json_writer *w, double v)
{
	char buf[NUMBER_MAX];
	locale_t c, old;
	int n;

	if (!isfinite(v)) {
		fail(w, -EINVAL);
		return;
	}
	if (!begin_value(w))
		return;
	/* A client may run under a locale whose decimal point is a comma. */
	c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	old = uselocale(c);
	n = format_double(buf, v);
	uselocale(old);
	if (c)
		freelocale(c);
	append(w, buf, n);
}

void json_write_string_n(struct json_writer *w, const char *v, size_t n)
{
	if (begin_value(w))
		append_string(w, v, n);
}

void json_write_string(struct json_writer *w, const char *v)
{
	json_write_string_n(w, v, strlen(v));
}

void json_write_id(struct json_writer *w, uint64_t v)
{
	char buf[17];

	snprintf(buf, sizeof(buf), "%016llx", (unsigned long long)v);
	json_write_string_n(w, buf, 16);
}

static int write_member(void *userdata, const char *key, const struct json *value)
{
	json_key(userdata, key);
	json_write_value(userdata, value);
	return 0;
}

void json_write_value(struct json_writer *w, const struct json *v)
{
	const char *s;
	int64_t i;
	double d;
	bool b;

	switch (json_kind(v)) {
	case JSON_NULL:
		json_write_null(w);
		return;
	case JSON_BOOL:
		json_as_bool(v, &b);
		json_write_bool(w, b);
		return;
	case JSON_INT:
		if (json_as_int(v, &i) < 0)
			fail(w, -EINVAL);
		else
			json_write_int(w, i);
		return;
	case JSON_FLOAT:
		json_as_float(v, &d);
		json_write_float(w, d);
		return;
	case JSON_STRING:
		json_as_string(v, &s);
		json_write_string(w, s);
		return;
	case JSON_ARRAY:
		json_open_array(w);
		for (size_t n = 0; n < json_length(v); n++)
			json_write_value(w, json_at(v, n));
		json_close_array(w);
		return;
	case JSON_OBJECT:
		json_open_object(w);
		json_visit(v, write_member, w);
		json_close_object(w);
		return;
	}
}

int json_writer_finish(struct json_writer *w, const char **ret, size_t *ret_size)
{
	if (w->error == 0 && (w->depth > 0 || w->used == 0))
		fail(w, -EINVAL);
	if (w->error < 0)
		return w->error;
	w->buffer[w->used] = '\0';
	*ret = w->buffer;
	*ret_size = w->used;
	return 0;
}

void json_put_null(struct json_writer *w, const char *key)
{
	json_key(w, key);
	json_write_null(w);
}

void json_put_bool(struct json_writer *w, const char *key, bool v)
{
	json_key(w, key);
	json_write_bool(w, v);
}

void json_put_int(struct json_writer *w, const char *key, int64_t v)
{
	json_key(w, key);
	json_write_int(w, v);
}

void json_put_u64(struct json_writer *w, const char *key, uint64_t v)
{
	json_key(w, key);
	json_write_u64(w, v);
}

void json_put_float(struct json_writer *w, const char *key, double v)
{
	json_key(w, key);
	json_write_float(w, v);
}

void json_put_string(struct json_writer *w, const char *key, const char *v)
{
	if (!v)
		return;
	json_key(w, key);
	json_write_string(w, v);
}

void json_put_id(struct json_writer *w, const char *key, uint64_t v)
{
	json_key(w, key);
	json_write_id(w, v);
}
