/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The only file that knows json-c. */
#include "wire.h"

#include <json-c/json.h>
#include <math.h>

#include "scan.h"

/* A struct json is json-c's object under our name; nothing is kept beside it. */
static struct json_object *to_jsonc(const struct json *v)
{
	return (struct json_object *)v;
}

static const struct json *from_jsonc(const struct json_object *o)
{
	return (const struct json *)o;
}

/* How many members there are in all objects; -1 when there is a number out of range. */
static ssize_t count_members(struct json_object *o)
{
	ssize_t n = 0, below;

	switch (json_object_get_type(o)) {
	case json_type_double:
		return isfinite(json_object_get_double(o)) ? 0 : -1;
	case json_type_array:
		for (size_t i = 0; i < json_object_array_length(o); i++) {
			below = count_members(json_object_array_get_idx(o, i));
			if (below < 0)
				return below;
			n += below;
		}
		return n;
	case json_type_object: {
		json_object_object_foreach(o, key, value) {
			(void)key;
			below = count_members(value);
			if (below < 0)
				return below;
			n += below + 1;
		}
		return n;
	}
	default:
		return 0;
	}
}

/* What is wrong with what json-c made of the text, or NULL. */
static const char *judge(struct json_object *o, enum json_tokener_error error, const char *rest,
                         size_t members)
{
	ssize_t have;

	if (!o && error == json_tokener_continue)
		return "it ends too early";
	if (json_object_get_type(o) != json_type_object)
		return "not a JSON object";
	if (rest[strspn(rest, " \t\r\n")] != '\0')
		return "something follows the object";
	have = count_members(o);
	if (have < 0)
		return "a number is out of range";
	return (size_t)have == members ? NULL : "a key is there twice";
}

int json_parse(const char *text, size_t size, struct json **ret, const char **ret_reason)
{
	_cleanup_free_ char *copy = NULL;
	struct json_tokener *tokener;
	struct json_object *o;
	const char *reason;
	size_t members;

	reason = json_scan(text, size, &members);
	if (reason)
		goto refuse;
	/* json-c wants the NUL. */
	copy = malloc(size + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, text, size);
	copy[size] = '\0';
	/* Not JSON_TOKENER_STRICT: it refuses integers of more than 64 bits, which are valid JSON and get an
	 * answer that names the parameter. All that it else refuses json_scan() has. Its depth counts
	 * differently: leave it room. */
	tokener = json_tokener_new_ex(WIRE_DEPTH_MAX + 4);
	if (!tokener)
		return -ENOMEM;
	o = json_tokener_parse_ex(tokener, copy, size);
	reason = judge(o, json_tokener_get_error(tokener), copy + json_tokener_get_parse_end(tokener),
	               members);
	json_tokener_free(tokener);
	if (reason) {
		json_object_put(o);
		goto refuse;
	}
	*ret = (struct json *)o;
	return 0;
refuse:
	if (ret_reason)
		*ret_reason = reason;
	return -EBADMSG;
}

struct json *json_free(struct json *root)
{
	json_object_put(to_jsonc(root));
	return NULL;
}

enum json_kind json_kind(const struct json *v)
{
	switch (json_object_get_type(to_jsonc(v))) {
	case json_type_boolean:
		return JSON_BOOL;
	case json_type_int:
		return JSON_INT;
	case json_type_double:
		return JSON_FLOAT;
	case json_type_string:
		return JSON_STRING;
	case json_type_array:
		return JSON_ARRAY;
	case json_type_object:
		return JSON_OBJECT;
	case json_type_null:
		break;
	}
	return JSON_NULL;
}

const char *json_kind_to_string(enum json_kind k)
{
	static const char *const names[] = {
		[JSON_NULL] = "null",     [JSON_BOOL] = "bool",     [JSON_INT] = "int",
		[JSON_FLOAT] = "float",   [JSON_STRING] = "string", [JSON_ARRAY] = "array",
		[JSON_OBJECT] = "object",
	};

	return (size_t)k < ELEMENTS_OF(names) ? names[k] : NULL;
}

bool json_has(const struct json *object, const char *key, const struct json **ret)
{
	struct json_object *o;

	if (json_kind(object) != JSON_OBJECT || !json_object_object_get_ex(to_jsonc(object), key, &o))
		return false;
	*ret = from_jsonc(o);
	return true;
}

const struct json *json_get(const struct json *object, const char *key)
{
	const struct json *v = NULL;

	json_has(object, key, &v);
	return v;
}

int json_as_bool(const struct json *v, bool *ret)
{
	if (json_kind(v) != JSON_BOOL)
		return -EINVAL;
	*ret = json_object_get_boolean(to_jsonc(v));
	return 0;
}

int json_as_int(const struct json *v, int64_t *ret)
{
	int64_t n;

	if (json_kind(v) != JSON_INT)
		return -EINVAL;
	/* json-c saturates: beyond INT64_MAX at UINT64_MAX, below INT64_MIN at INT64_MIN, which therefore is
	 * out of range for us. */
	n = json_object_get_int64(to_jsonc(v));
	if (n == INT64_MIN || json_object_get_uint64(to_jsonc(v)) > INT64_MAX)
		return -ERANGE;
	*ret = n;
	return 0;
}

int json_as_float(const struct json *v, double *ret)
{
	if (json_kind(v) != JSON_INT && json_kind(v) != JSON_FLOAT)
		return -EINVAL;
	*ret = json_object_get_double(to_jsonc(v));
	return 0;
}

int json_as_string(const struct json *v, const char **ret)
{
	if (json_kind(v) != JSON_STRING)
		return -EINVAL;
	*ret = json_object_get_string(to_jsonc(v));
	return 0;
}

/* Each getter: 0 for what is absent or null, else what json_as_…() says, 1 for its 0. */
#define DEFINE_GETTER(name, type, as)                                            \
	int name(const struct json *object, const char *key, type *ret)          \
	{                                                                        \
		const struct json *v = json_get(object, key);                    \
		int r;                                                           \
                                                                                 \
		if (!v)                                                          \
			return 0;                                                \
		r = as(v, ret);                                                  \
		return r < 0 ? r : 1;                                            \
	}

static int as_u64(const struct json *v, uint64_t *ret)
{
	int64_t n;
	int r;

	r = json_as_int(v, &n);
	if (r < 0)
		return r;
	if (n < 0)
		return -ERANGE;
	*ret = n;
	return 0;
}

static int as_id(const struct json *v, uint64_t *ret)
{
	const char *s;
	char *end;

	if (json_as_string(v, &s) < 0 || strlen(s) != 16 || strspn(s, "0123456789abcdefABCDEF") != 16)
		return -EINVAL;
	*ret = strtoull(s, &end, 16);
	return 0;
}

static int as_array(const struct json *v, const struct json **ret)
{
	if (json_kind(v) != JSON_ARRAY)
		return -EINVAL;
	*ret = v;
	return 0;
}

static int as_object(const struct json *v, const struct json **ret)
{
	if (json_kind(v) != JSON_OBJECT)
		return -EINVAL;
	*ret = v;
	return 0;
}

DEFINE_GETTER(json_get_bool, bool, json_as_bool)
DEFINE_GETTER(json_get_int, int64_t, json_as_int)
DEFINE_GETTER(json_get_u64, uint64_t, as_u64)
DEFINE_GETTER(json_get_float, double, json_as_float)
DEFINE_GETTER(json_get_string, const char *, json_as_string)
DEFINE_GETTER(json_get_id, uint64_t, as_id)
DEFINE_GETTER(json_get_array, const struct json *, as_array)
DEFINE_GETTER(json_get_object, const struct json *, as_object)

size_t json_length(const struct json *array)
{
	return json_kind(array) == JSON_ARRAY ? json_object_array_length(to_jsonc(array)) : 0;
}

const struct json *json_at(const struct json *array, size_t index)
{
	return index < json_length(array) ? from_jsonc(json_object_array_get_idx(to_jsonc(array), index))
	                                  : NULL;
}

int json_visit(const struct json *object, json_member_fn fn, void *userdata)
{
	int r;

	if (json_kind(object) != JSON_OBJECT)
		return 0;
	json_object_object_foreach(to_jsonc(object), key, value) {
		r = fn(userdata, key, from_jsonc(value));
		if (r != 0)
			return r;
	}
	return 0;
}
