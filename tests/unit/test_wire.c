/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "wire.h"

/* ---- framing ---- */

static void feed(struct wire_framer *f, const char *bytes, size_t n)
{
	while (n > 0) {
		size_t room;
		void *p;

		assert_int_equal(wire_framer_space(f, &p, &room), 0);
		assert_true(room > 0);
		room = MIN(room, n);
		memcpy(p, bytes, room);
		wire_framer_added(f, room);
		bytes += room;
		n -= room;
		if (n > 0) {
			const char *m;
			size_t size;

			assert_int_equal(wire_framer_next(f, &m, &size), 0);
		}
	}
}

static void framer_splits_and_joins(void **state _unused_)
{
	static const char stream[] = "{}\0\0{\"a\":1}\0rest";
	_cleanup_(wire_framer_freep) struct wire_framer *f = NULL;
	const char *m;
	size_t size;

	assert_int_equal(wire_framer_new(&f, 100), 0);
	feed(f, stream, sizeof(stream) - 1);
	assert_int_equal(wire_framer_next(f, &m, &size), 1);
	assert_string_equal(m, "{}");
	assert_int_equal(wire_framer_next(f, &m, &size), 1);
	assert_int_equal(size, 0);
	assert_int_equal(wire_framer_next(f, &m, &size), 1);
	assert_string_equal(m, "{\"a\":1}");
	assert_int_equal(wire_framer_next(f, &m, &size), 0);
	assert_int_equal(wire_framer_pending(f), 4);
	feed(f, "", 1);
	assert_int_equal(wire_framer_next(f, &m, &size), 1);
	assert_string_equal(m, "rest");
	assert_int_equal(wire_framer_pending(f), 0);
}

static void framer_takes_single_bytes(void **state _unused_)
{
	_cleanup_(wire_framer_freep) struct wire_framer *f = NULL;
	static const char text[] = "{\"method\":\"x.y.Z\"}";
	const char *m;
	size_t size;

	assert_int_equal(wire_framer_new(&f, 100), 0);
	for (size_t i = 0; i < sizeof(text); i++) {
		assert_int_equal(wire_framer_next(f, &m, &size), 0);
		feed(f, text + i, 1);
	}
	assert_int_equal(wire_framer_next(f, &m, &size), 1);
	assert_string_equal(m, text);
}

static void framer_is_bounded(void **state _unused_)
{
	enum { MAX = 50000 };
	_cleanup_free_ char *long_text = calloc(1, MAX + 2);
	const char *m;
	size_t size;

	memset(long_text, 'x', MAX + 1);
	for (size_t length = MAX - 1; length <= MAX + 1; length++) {
		_cleanup_(wire_framer_freep) struct wire_framer *f = NULL;
		int r = 0;

		assert_int_equal(wire_framer_new(&f, MAX), 0);
		for (size_t at = 0; at < length && r == 0; at += MIN((size_t)1000, length - at)) {
			feed(f, long_text + at, MIN((size_t)1000, length - at));
			r = wire_framer_next(f, &m, &size);
		}
		if (r == 0) {
			feed(f, "", 1);
			r = wire_framer_next(f, &m, &size);
		}
		assert_int_equal(r, length <= MAX ? 1 : -EMSGSIZE);
		if (r == 1)
			assert_int_equal(size, length);
	}
}

/* ---- parsing ---- */

static int parse(const char *text, struct json **ret)
{
	return json_parse(text, strlen(text), ret, NULL);
}

static void parser_refuses(void **state _unused_)
{
	static const char *const texts[] = {
		"",
		" ",
		"{",
		"}",
		"[]",
		"1",
		"\"x\"",
		"null",
		"{}{}",
		"{} x",
		"{},",
		"{]",
		"[}",
		"{\"a\"}",
		"{\"a\":}",
		"{a:1}",
		"{'a':1}",
		"{\"a\":1,}",
		"{\"a\":[1,]}",
		"{,}",
		"{\"a\":1 \"b\":2}",
		"{\"a\":1,,\"b\":2}",
		"{\"a\"::1}",
		"{\"a\":1:2}",
		"{\"a\":NaN}",
		"{\"a\":nan}",
		"{\"a\":Infinity}",
		"{\"a\":-Infinity}",
		"{\"a\":1e999}",
		"{\"a\":-1e999}",
		"{\"a\":True}",
		"{\"a\":nulll}",
		"{\"a\":tru}",
		"{\"a\":01}",
		"{\"a\":+1}",
		"{\"a\":.5}",
		"{\"a\":5.}",
		"{\"a\":1e}",
		"{\"a\":-}",
		"{\"a\":0x10}",
		"{\"a\":1-2}",
		"{\"a\":1\"b\":2}",
		"{\"a\":1}/*c*/",
		"{/*c*/\"a\":1}",
		"{\"a\":1}//c",
		"{\"a\":1,\"a\":2}",
		"{\"b\":{\"a\":1,\"a\":1}}",
		"{\"a\":1,\"\\u0061\":2}",
		"{\"b\":[{\"a\":1,\"b\":2,\"a\":1}]}",
		"{\"a\":\"\x01\"}",
		"{\"a\":\"\n\"}",
		"{\"a\":\"\\x\"}",
		"{\"a\":\"\\u12\"}",
		"{\"a\":\"\\u00zz\"}",
		"{\"a\":\"\\u0000\"}",
		"{\"a\":\"\\ud800\"}",
		"{\"a\":\"\\udc00\"}",
		"{\"a\":\"\\ud800\\u0041\"}",
		"{\"a\":\"\\ud800x\"}",
		"{\"a\":\"",
		"{\"a\":\"\\",
		"{\"a\":\"\\\"}",
		"{\"a\":\"\\u\"}",
		"{\"a\":\"\xff\"}",
		"{\"a\":\"\xc0\x80\"}",
		"{\"a\":\"\xc3\"}",
		"{\"a\":\"\xe0\x80\x80\"}",
		"{\"a\":\"\xed\xa0\x80\"}",
		"{\"a\":\"\xf4\x90\x80\x80\"}",
		"{\"a\":\"\xf0\x80\x80\x80\"}",
		"{\"\xff\":1}",
		"\xef\xbb\xbf{}",
		"{\"a\":\v1}",
		"{\"a\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}",
	};

	for (size_t i = 0; i < ELEMENTS_OF(texts); i++) {
		_cleanup_(json_freep) struct json *v = NULL;
		const char *reason = NULL;

		if (json_parse(texts[i], strlen(texts[i]), &v, &reason) != -EBADMSG || !reason)
			fail_msg("accepted: %s", texts[i]);
	}
	/* A NUL within. */
	for (size_t n = 0; n < 9; n++) {
		char text[] = "{\"a\":\"b\"}";
		struct json *v;

		text[n] = '\0';
		assert_int_equal(json_parse(text, sizeof(text) - 1, &v, NULL), -EBADMSG);
	}
}

static void parser_accepts(void **state _unused_)
{
	static const char *const texts[] = {
		"{}",
		" \t\r\n{ } ",
		"{\"a\":-0.5e+3}",
		"{\"a\":0}",
		"{\"a\":-0}",
		"{\"a\":1e5}",
		"{\"a\":[1,[],{}]}",
		"{\"\":1}",
		"{\"a\":\"\\ud83d\\ude00\"}",
		"{\"a\":\"\xf0\x9f\x98\x80\xc3\xa9\"}",
		"{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}",
		"{\"a\":99999999999999999999999999}",
		"{\"a\":\":,{}[]\"}",
		"{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"}",
		"{\"a\":[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]}",
	};

	for (size_t i = 0; i < ELEMENTS_OF(texts); i++) {
		_cleanup_(json_freep) struct json *v = NULL;
		const char *reason = NULL;

		if (parse(texts[i], &v) != 0)
			fail_msg("refused (%s): %s", reason, texts[i]);
	}
}

static void getters_tell_absent_from_wrong(void **state _unused_)
{
	_cleanup_(json_freep) struct json *v = NULL;
	const struct json *child = NULL;
	const char *s = "kept";
	uint64_t u = 7;
	int64_t i = 7;
	double d = 7;
	bool b;

	assert_int_equal(parse("{\"i\":-5,\"big\":9223372036854775807,\"over\":9223372036854775808,\"under\":"
	                       "-9223372036854775809,"
	                       "\"huge\":99999999999999999999,\"d\":0.5,\"s\":\"x\",\"n\":null,\"b\":true,"
	                       "\"id\":\"00000000deadBEEF\",\"a\":[1,null]}",
	                       &v),
			 0);
	assert_int_equal(json_get_int(v, "none", &i), 0);
	assert_int_equal(json_get_int(v, "n", &i), 0);
	assert_int_equal(i, 7);
	assert_true(json_has(v, "n", &child));
	assert_null(child);
	assert_false(json_has(v, "none", &child));
	assert_int_equal(json_get_int(v, "i", &i), 1);
	assert_int_equal(i, -5);
	assert_int_equal(json_get_u64(v, "i", &u), -ERANGE);
	assert_int_equal(json_get_int(v, "big", &i), 1);
	assert_true(i == INT64_MAX);
	assert_int_equal(json_get_int(v, "over", &i), -ERANGE);
	assert_int_equal(json_get_int(v, "under", &i), -ERANGE);
	assert_int_equal(json_get_int(v, "huge", &i), -ERANGE);
	assert_int_equal(json_get_int(v, "d", &i), -EINVAL);
	assert_int_equal(json_get_int(v, "s", &i), -EINVAL);
	assert_int_equal(json_get_float(v, "d", &d), 1);
	assert_true(d == 0.5);
	assert_int_equal(json_get_float(v, "i", &d), 1);
	assert_int_equal(json_get_string(v, "i", &s), -EINVAL);
	assert_string_equal(s, "kept");
	assert_int_equal(json_get_bool(v, "i", &b), -EINVAL);
	assert_int_equal(json_get_bool(v, "b", &b), 1);
	assert_int_equal(json_get_id(v, "id", &u), 1);
	assert_true(u == 0xdeadbeef);
	assert_int_equal(json_get_id(v, "s", &u), -EINVAL);
	assert_int_equal(json_get_array(v, "id", &child), -EINVAL);
	assert_int_equal(json_get_array(v, "a", &child), 1);
	assert_int_equal(json_length(child), 2);
	assert_null(json_at(child, 1));
	assert_null(json_at(child, 2));
	assert_int_equal(json_get_int(NULL, "x", &i), 0);
}

/* ---- writing ---- */

static const char *finish(struct json_writer *w)
{
	const char *text;
	size_t size;

	assert_int_equal(json_writer_finish(w, &text, &size), 0);
	assert_int_equal(strlen(text), size);
	return text;
}

static void writer_writes(void **state _unused_)
{
	_cleanup_(json_writer_freep) struct json_writer *w = NULL;

	assert_int_equal(json_writer_new(&w, 10000), 0);
	json_open_object(w);
	json_put_int(w, "min", INT64_MIN);
	json_put_u64(w, "max", UINT64_MAX);
	json_put_float(w, "f", 5);
	json_put_id(w, "id", 0xab);
	json_put_string(w, "absent", NULL);
	json_key(w, "a");
	json_open_array(w);
	json_write_int(w, 0);
	json_write_bool(w, false);
	json_write_null(w);
	json_open_object(w);
	json_close_object(w);
	json_close_array(w);
	json_close_object(w);
	assert_string_equal(finish(w), "{\"min\":-9223372036854775808,\"max\":9223372036854775807,\"f\":5.0,"
	                               "\"id\":\"00000000000000ab\",\"a\":[0,false,null,{}]}");
}

static void writer_sanitizes(void **state _unused_)
{
	_cleanup_(json_writer_freep) struct json_writer *w = NULL;

	assert_int_equal(json_writer_new(&w, 10000), 0);
	json_write_string_n(w, "a\"\\\n\x01\x7f\xff\xc3\xa9\xe2\x82\xed\xa0\x80\0z", 16);
	assert_string_equal(finish(w), "\"a\\\"\\\\\\n\\u0001\x7f\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd"
	                               "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\\u0000z\"");
	for (unsigned c = 1; c < 256; c++) {
		const char bytes[] = { (char)c, (char)c, 'x', '\0' };
		const char *text;
		size_t size;

		json_writer_reset(w);
		json_write_string(w, bytes);
		assert_int_equal(json_writer_finish(w, &text, &size), 0);
		assert_int_equal(json_string_size(bytes), size);
	}
}

static void writer_tells_errors(void **state _unused_)
{
	_cleanup_(json_writer_freep) struct json_writer *w = NULL;
	const char *text;
	size_t size;

	assert_int_equal(json_writer_new(&w, 12), 0);
	assert_int_equal(json_writer_finish(w, &text, &size), -EINVAL);
	json_writer_reset(w);
	json_write_string(w, "0123456789");
	assert_string_equal(finish(w), "\"0123456789\"");
	json_writer_reset(w);
	json_write_string(w, "0123456789a");
	assert_int_equal(json_writer_finish(w, &text, &size), -EMSGSIZE);
	json_writer_reset(w);
	json_write_float(w, NAN);
	assert_int_equal(json_writer_finish(w, &text, &size), -EINVAL);
	json_writer_reset(w);
	json_open_object(w);
	json_write_int(w, 1);
	assert_int_equal(json_writer_finish(w, &text, &size), -EINVAL);
	json_writer_reset(w);
	json_open_array(w);
	json_close_object(w);
	assert_int_equal(json_writer_finish(w, &text, &size), -EINVAL);
	json_writer_reset(w);
	json_write_int(w, 1);
	json_write_int(w, 2);
	assert_int_equal(json_writer_finish(w, &text, &size), -EINVAL);
	json_writer_reset(w);
	json_open_array(w);
	assert_int_equal(json_writer_finish(w, &text, &size), -EINVAL);
}

/* Every double comes back as itself, whatever the locale. */
static void doubles_round_trip(void **state _unused_)
{
	_cleanup_(json_writer_freep) struct json_writer *w = NULL;
	uint64_t seed = clock_realtime_us(), x = seed;

	printf("# seed %llu\n", (unsigned long long)seed);
	setlocale(LC_ALL, "de_DE.UTF-8");
	assert_int_equal(json_writer_new(&w, 1000), 0);
	for (int i = 0; i < 20000; i++) {
		_cleanup_(json_freep) struct json *v = NULL;
		double d, back = NAN;

		x = hash64(&x, sizeof(x), seed);
		memcpy(&d, &x, sizeof(d));
		if (i < 4)
			d = (double[]){ 0.1, DBL_MAX, DBL_MIN / 4, -0.0 }[i];
		if (!isfinite(d))
			continue;
		json_writer_reset(w);
		json_open_object(w);
		json_put_float(w, "d", d);
		json_close_object(w);
		assert_int_equal(parse(finish(w), &v), 0);
		assert_int_equal(json_kind(json_get(v, "d")), JSON_FLOAT);
		assert_int_equal(json_get_float(v, "d", &back), 1);
		assert_true(back == d);
		if (i == 0)
			assert_string_equal(finish(w), "{\"d\":0.1}");
	}
	setlocale(LC_ALL, "C");
}

static void parsed_is_written_as_it_was(void **state _unused_)
{
	static const char text[] = "{\"z\":[1,-2.5,\"\xc3\xa9\\n\",true,null,{\"a\":[]}],\"a\":{}}";
	_cleanup_(json_writer_freep) struct json_writer *w = NULL;
	_cleanup_(json_freep) struct json *v = NULL;

	assert_int_equal(parse(text, &v), 0);
	assert_int_equal(json_writer_new(&w, 1000), 0);
	json_write_value(w, v);
	assert_string_equal(finish(w), text);
	json_writer_reset(w);
	json_writer_set_pretty(w, true);
	json_open_object(w);
	json_key(w, "a");
	json_open_array(w);
	json_write_int(w, 1);
	json_write_int(w, 2);
	json_close_array(w);
	json_key(w, "b");
	json_open_object(w);
	json_close_object(w);
	json_close_object(w);
	assert_string_equal(finish(w), "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}");
}

/* ---- interface descriptions ---- */

static const char idl_text_small[] =
	"# comment\ninterface a.b-c.d\n"
	"type Color (red, green)\n"
	"type Box (n: int, inner: ?Box, tags: ?[string]Color, list: ?[](x: float))\n"
	"method Put(box: Box, what: ?string, how: ?(fast, slow)) -> (ok: bool)\n"
	"method None() -> ()\n"
	"error Bad (why: string) # tail";

static void check_field(const struct idl *i, const char *parameters, const char *field)
{
	_cleanup_(json_freep) struct json *v = NULL;
	char got[IDL_FIELD_MAX] = "-";
	int r;

	assert_int_equal(parse(parameters, &v), 0);
	r = idl_check_call(i, "Put", v, got);
	assert_int_equal(r, field ? -EINVAL : 0);
	assert_string_equal(got, field ?: "-");
}

static void idl_checks_values(void **state _unused_)
{
	_cleanup_(idl_freep) struct idl *i = NULL;
	_cleanup_(json_freep) struct json *v = NULL;
	char error[100] = "", field[IDL_FIELD_MAX] = "";

	if (idl_parse(idl_text_small, strlen(idl_text_small), &i, error, sizeof(error)) < 0)
		fail_msg("%s", error);
	assert_string_equal(idl_name(i), "a.b-c.d");
	assert_string_equal(idl_text(i), idl_text_small);
	assert_int_equal(idl_n_methods(i), 2);
	assert_string_equal(idl_method(i, 1), "None");
	assert_null(idl_method(i, 2));
	check_field(i, "{\"box\":{\"n\":1}}", NULL);
	check_field(i,
	            "{\"box\":{\"n\":1,\"inner\":{\"n\":2,\"tags\":{\"a\":\"red\"},\"list\":[{\"x\":1},{"
	            "\"x\":0.5}]}},\"how\":\"fast\"}",
	            NULL);
	check_field(i, "{\"box\":{\"n\":1,\"inner\":null},\"what\":null}", NULL);
	check_field(i, "{}", "box");
	check_field(i, "{\"box\":null}", "box");
	check_field(i, "{\"box\":[]}", "box");
	check_field(i, "{\"box\":{}}", "box.n");
	check_field(i, "{\"box\":{\"n\":1.5}}", "box.n");
	check_field(i, "{\"box\":{\"n\":1e3}}", "box.n");
	check_field(i, "{\"box\":{\"n\":99999999999999999999}}", "box.n");
	check_field(i, "{\"box\":{\"n\":1,\"x\":1}}", "box.x");
	check_field(i, "{\"box\":{\"n\":1},\"Box\":1}", "Box");
	check_field(i, "{\"box\":{\"n\":1,\"tags\":{\"a\":\"blue\"}}}", "box.tags.a");
	check_field(i, "{\"box\":{\"n\":1,\"list\":[{\"x\":1},{\"x\":\"1\"}]}}", "box.list[1].x");
	check_field(i, "{\"box\":{\"n\":1,\"list\":[null]}}", "box.list[0]");
	check_field(i, "{\"box\":{\"n\":1},\"how\":\"red\"}", "how");
	check_field(i, "{\"box\":{\"n\":1},\"what\":5}", "what");
	assert_int_equal(idl_check_call(i, "None", NULL, field), 0);
	assert_int_equal(idl_check_call(i, "Put", NULL, field), -EINVAL);
	assert_int_equal(idl_check_call(i, "Color", NULL, field), -ENOENT);
	assert_int_equal(idl_check_error(i, "Bad", NULL, field), -EINVAL);
	assert_string_equal(field, "why");
	assert_int_equal(parse("{\"ok\":true}", &v), 0);
	assert_int_equal(idl_check_reply(i, "Put", v, field), 0);
	assert_int_equal(idl_check_reply(i, "None", v, field), -EINVAL);
}

static void idl_refuses(void **state _unused_)
{
	static const char *const texts[] = {
		"",
		"interface",
		"interface a",
		"interface a..b",
		"interface a.b.",
		"interface 1.b",
		"interface a.b\ntype a (x: int)",
		"interface a.b\ntype A",
		"interface a.b\ntype A (",
		"interface a.b\ntype A (x: int",
		"interface a.b\ntype A (x: int,)",
		"interface a.b\ntype A (x: int y: int)",
		"interface a.b\ntype A (x: int, y)",
		"interface a.b\ntype A (x, y: int)",
		"interface a.b\ntype A (x: B)",
		"interface a.b\ntype A (x: ??int)",
		"interface a.b\ntype A (x: int, x: int)",
		"interface a.b\ntype A (x: int)\ntype A (y: int)",
		"interface a.b\nmethod A()",
		"interface a.b\nmethod A() -> (x)",
		"interface a.b\nerror A (x)",
		"interface a.b\ntype A int",
		"interface a.b\nfoo",
		"interface a.b\ntype A (_x: int)",
		"interface a.b\ntype A (x__y: int)",
		"interface a.b\ntype A (x_: int)",
		"interface a.b\ntype A (x: [int]int)",
		("interface a.b\ntype A (x: "
		 "[][][][][][][][][][][][][][][][][][][][][][][][][][][][][][][][][][][]int)"),
	};

	for (size_t n = 0; n < ELEMENTS_OF(texts); n++) {
		_cleanup_(idl_freep) struct idl *i = NULL;
		char error[100] = "";

		if (idl_parse(texts[n], strlen(texts[n]), &i, error, sizeof(error)) != -EBADMSG || !error[0])
			fail_msg("accepted: %s", texts[n]);
	}
}

static void own_descriptions_parse(void **state _unused_)
{
	const char *const texts[] = { wire_idl_stackd, wire_idl_service };

	for (size_t n = 0; n < ELEMENTS_OF(texts); n++) {
		_cleanup_(idl_freep) struct idl *i = NULL;
		char error[100] = "";

		if (idl_parse(texts[n], strlen(texts[n]), &i, error, sizeof(error)) < 0)
			fail_msg("%s", error);
		assert_true(idl_n_methods(i) > 0);
	}
}

/* ---- client ---- */

struct script {
	int fd;
	const char *reply;
	size_t size;
};

/* Takes one connection, reads one message, answers with the script one byte at a time and closes. */
static void *serve(void *userdata)
{
	struct script *s = userdata;
	int fd = accept(s->fd, NULL, NULL);
	char c = 'x';

	while (c != '\0' && read(fd, &c, 1) == 1)
		;
	for (size_t i = 0; i < s->size; i++)
		if (write(fd, s->reply + i, 1) != 1)
			break;
	close(fd);
	return NULL;
}

static void client_reads_replies(void **state _unused_)
{
	static const char reply[] =
		"{\"parameters\":{\"a\":1},\"continues\":true}\0{\"error\":\"a.b.C\"}\0[]";
	_cleanup_(wire_client_freep) struct wire_client *c = NULL;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct script script = { .reply = reply, .size = sizeof(reply) };
	struct wire_reply got;
	pthread_t thread;
	int64_t a;

	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/test_wire.%d", getpid());
	script.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(wire_client_connect(&c, address.sun_path), -ENOENT);
	assert_int_equal(bind(script.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(wire_client_connect(&c, address.sun_path), -ECONNREFUSED);
	assert_int_equal(listen(script.fd, 1), 0);
	assert_int_equal(wire_client_connect(&c, address.sun_path), 0);
	assert_int_equal(wire_client_receive(c, 10000, &got), -ETIMEDOUT);
	assert_int_equal(wire_client_send(c, "a.b.M", "{\"x\":", 0, USEC_PER_SEC), -EBADMSG);
	assert_int_equal(pthread_create(&thread, NULL, serve, &script), 0);
	assert_int_equal(wire_client_send(c, "a.b.M", "{\"x\":1}", WIRE_MORE, USEC_PER_SEC), 0);
	assert_int_equal(wire_client_receive(c, 5 * USEC_PER_SEC, &got), 0);
	assert_true(got.continues);
	assert_null(got.error);
	assert_int_equal(json_get_int(got.parameters, "a", &a), 1);
	assert_int_equal(wire_client_receive(c, USEC_INFINITY, &got), 0);
	assert_string_equal(got.error, "a.b.C");
	assert_false(got.continues);
	assert_int_equal(wire_client_receive(c, USEC_INFINITY, &got), -EBADMSG);
	assert_int_equal(wire_client_receive(c, USEC_INFINITY, &got), -ECONNRESET);
	pthread_join(thread, NULL);
	close(script.fd);
	unlink(address.sun_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(framer_splits_and_joins),
		cmocka_unit_test(framer_takes_single_bytes),
		cmocka_unit_test(framer_is_bounded),
		cmocka_unit_test(parser_refuses),
		cmocka_unit_test(parser_accepts),
		cmocka_unit_test(getters_tell_absent_from_wrong),
		cmocka_unit_test(writer_writes),
		cmocka_unit_test(writer_sanitizes),
		cmocka_unit_test(writer_tells_errors),
		cmocka_unit_test(doubles_round_trip),
		cmocka_unit_test(parsed_is_written_as_it_was),
		cmocka_unit_test(idl_checks_values),
		cmocka_unit_test(idl_refuses),
		cmocka_unit_test(own_descriptions_parse),
		cmocka_unit_test(client_reads_replies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
