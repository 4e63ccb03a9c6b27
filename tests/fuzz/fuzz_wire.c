/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What comes over the socket. The first byte says what the rest is: a stream of messages, an interface
 * description, or a string to be written. */
#include "wire.h"

#define STREAM_MAX 4096 /* small, so that the limit is met */

static const char description[] = "interface org.example.fuzz\n"
                                  "type Kind (one, two)\n"
                                  "type Inner (n: int, f: ?float, kind: ?Kind, more: ?Inner)\n"
                                  "method All(b: ?bool, i: ?int, s: ?string, inner: ?Inner, list: ?[]Inner, "
                                  "map: ?[string]int, o: ?object, a: ?any) -> ()\n"
                                  "method Need(inner: Inner) -> (x: int)\n"
                                  "error Bad (why: string)\n";

static void require(bool condition)
{
	if (!condition)
		abort();
}

static struct idl *get_idl(void)
{
	static struct idl *i;

	if (!i)
		require(idl_parse(description, strlen(description), &i, NULL, 0) == 0);
	return i;
}

/* Getters of every kind on every member: none may touch what isn't there. */
static int get_all(void *userdata, const char *key, const struct json *value)
{
	const struct json *object = userdata, *v;
	const char *s;
	uint64_t u;
	int64_t i;
	double d;
	bool b;

	require(json_has(object, key, &v) && v == value);
	json_get_bool(object, key, &b);
	json_get_int(object, key, &i);
	json_get_u64(object, key, &u);
	json_get_id(object, key, &u);
	if (json_get_float(object, key, &d) > 0)
		require(d - d == 0);
	if (json_get_string(object, key, &s) > 0)
		require(strlen(s) <= STREAM_MAX);
	for (size_t n = 0; n <= json_length(value); n++)
		(void)json_at(value, n);
	if (json_kind(value) == JSON_OBJECT)
		json_visit(value, get_all, (void *)value);
	return 0;
}

/* What was accepted can be written, is accepted again, and is written the same again. */
static void round_trip(const struct json *v)
{
	_cleanup_(json_writer_freep) struct json_writer *first = NULL, *second = NULL;
	_cleanup_(json_freep) struct json *again = NULL;
	const char *a, *b;
	size_t n, m;

	require(json_writer_new(&first, 1 << 20) == 0 && json_writer_new(&second, 1 << 20) == 0);
	json_write_value(first, v);
	/* Integers of more than 64 bits can't be. */
	if (json_writer_finish(first, &a, &n) < 0)
		return;
	require(json_parse(a, n, &again, NULL) == 0);
	json_write_value(second, again);
	require(json_writer_finish(second, &b, &m) == 0);
	require(n == m && memcmp(a, b, n) == 0);
}

static void take_message(const char *text, size_t size)
{
	_cleanup_(json_freep) struct json *v = NULL;
	char field[IDL_FIELD_MAX] = "";
	const char *reason = NULL;

	require(text[size] == '\0' && strlen(text) == size);
	if (json_parse(text, size, &v, &reason) < 0) {
		require(reason);
		return;
	}
	json_visit(v, get_all, v);
	idl_check_call(get_idl(), "All", v, field);
	idl_check_call(get_idl(), "Need", json_get(v, "inner"), field);
	idl_check_error(get_idl(), "Bad", v, field);
	require(strlen(field) < IDL_FIELD_MAX);
	round_trip(v);
}

/* In pieces of the given size the stream gives the same messages as in one. */
static size_t take_stream(const uint8_t *data, size_t size, size_t piece, bool parse)
{
	_cleanup_(wire_framer_freep) struct wire_framer *f = NULL;
	size_t messages = 0, room, n;
	const char *text;
	void *p;
	int r;

	require(wire_framer_new(&f, STREAM_MAX) == 0);
	while (size > 0) {
		require(wire_framer_space(f, &p, &room) == 0 && room > 0);
		n = MIN(MIN(size, piece), room);
		memcpy(p, data, n);
		wire_framer_added(f, n);
		data += n;
		size -= n;
		while ((r = wire_framer_next(f, &text, &n)) > 0) {
			require(n <= STREAM_MAX);
			messages++;
			if (parse)
				take_message(text, n);
		}
		if (r < 0)
			return messages;
	}
	return messages;
}

static void take_description(const uint8_t *data, size_t size)
{
	_cleanup_(idl_freep) struct idl *i = NULL;
	char error[64] = "", field[IDL_FIELD_MAX];

	if (idl_parse((const char *)data, size, &i, error, sizeof(error)) < 0) {
		require(error[0]);
		return;
	}
	for (size_t n = 0; n < idl_n_methods(i); n++) {
		require(idl_has_method(i, idl_method(i, n)));
		idl_check_call(i, idl_method(i, n), NULL, field);
		idl_check_reply(i, idl_method(i, n), NULL, field);
	}
}

/* Any bytes become a string that is valid. */
static void take_string(const uint8_t *data, size_t size)
{
	_cleanup_(json_writer_freep) struct json_writer *w = NULL;
	_cleanup_(json_freep) struct json *v = NULL;
	const char *text, *reason = NULL;
	size_t n;

	require(json_writer_new(&w, 1 << 20) == 0);
	json_open_object(w);
	json_key(w, "s");
	json_write_string_n(w, (const char *)data, size);
	json_close_object(w);
	if (json_writer_finish(w, &text, &n) < 0)
		return;
	/* A NUL is written as \u0000, which the parser refuses: nobody's strings end early. */
	require(json_parse(text, n, &v, &reason) == 0 || memchr(data, '\0', size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t whole;

	if (size == 0)
		return 0;
	switch (data[0] % 4) {
	case 0:
		take_description(data + 1, size - 1);
		break;
	case 1:
		take_string(data + 1, size - 1);
		break;
	default:
		whole = take_stream(data + 1, size - 1, SIZE_MAX, true);
		require(take_stream(data + 1, size - 1, 1 + data[0] / 4, false) == whole);
	}
	return 0;
}
