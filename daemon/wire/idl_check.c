/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checks values against an interface description. Recursion is bounded by the depth of the JSON: each step
 * into a type that nests steps into a value. */
#include "idl.h"

struct check {
	char path[IDL_FIELD_MAX];
	size_t used; /* a path that is too long loses its tail */
};

static int check_type(struct check *c, const struct type *t, const struct json *v);

static void path_add(struct check *c, const char *format, ...) _printf_(2, 3);
static void path_add(struct check *c, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(c->path + c->used, sizeof(c->path) - c->used, format, args);
	va_end(args);
	if (n > 0)
		c->used = MIN(c->used + n, sizeof(c->path) - 1);
}

static void path_cut(struct check *c, size_t used)
{
	c->used = used;
	c->path[used] = '\0';
}

static void path_add_field(struct check *c, const char *name)
{
	path_add(c, "%s%s", c->used > 0 ? "." : "", name);
}

struct unknown {
	struct check *check;
	const struct type *type;
};

static int refuse_unknown(void *userdata, const char *key, const struct json *value _unused_)
{
	struct unknown *u = userdata;

	for (size_t i = 0; i < u->type->n_fields; i++)
		if (streq(u->type->fields[i].name, key))
			return 0;
	path_add_field(u->check, key);
	return -EINVAL;
}

static int check_struct(struct check *c, const struct type *t, const struct json *v)
{
	struct unknown unknown = { .check = c, .type = t };
	int r;

	if (v && json_kind(v) != JSON_OBJECT)
		return -EINVAL;
	r = json_visit(v, refuse_unknown, &unknown);
	if (r < 0)
		return r;
	for (size_t i = 0; i < t->n_fields; i++) {
		size_t used = c->used;

		path_add_field(c, t->fields[i].name);
		r = check_type(c, t->fields[i].type, json_get(v, t->fields[i].name));
		if (r < 0)
			return r;
		path_cut(c, used);
	}
	return 0;
}

static int check_enum(const struct type *t, const struct json *v)
{
	const char *s;

	if (json_as_string(v, &s) < 0)
		return -EINVAL;
	for (size_t i = 0; i < t->n_fields; i++)
		if (streq(t->fields[i].name, s))
			return 0;
	return -EINVAL;
}

static int check_array(struct check *c, const struct type *t, const struct json *v)
{
	size_t used = c->used;
	int r;

	if (json_kind(v) != JSON_ARRAY)
		return -EINVAL;
	for (size_t i = 0; i < json_length(v); i++) {
		path_add(c, "[%zu]", i);
		r = check_type(c, t->element, json_at(v, i));
		if (r < 0)
			return r;
		path_cut(c, used);
	}
	return 0;
}

static int check_entry(void *userdata, const char *key, const struct json *value)
{
	struct unknown *map = userdata;
	size_t used = map->check->used;
	int r;

	path_add_field(map->check, key);
	r = check_type(map->check, map->type->element, value);
	if (r < 0)
		return r;
	path_cut(map->check, used);
	return 0;
}

static int check_type(struct check *c, const struct type *t, const struct json *v)
{
	struct unknown map = { .check = c, .type = t };
	int64_t i;

	switch (t->kind) {
	case TYPE_NULLABLE:
		return v ? check_type(c, t->element, v) : 0;
	case TYPE_ANY:
		return v ? 0 : -EINVAL;
	case TYPE_BOOL:
		return json_kind(v) == JSON_BOOL ? 0 : -EINVAL;
	case TYPE_INT:
		return json_as_int(v, &i) < 0 ? -EINVAL : 0;
	case TYPE_FLOAT:
		return json_kind(v) == JSON_FLOAT || json_kind(v) == JSON_INT ? 0 : -EINVAL;
	case TYPE_STRING:
		return json_kind(v) == JSON_STRING ? 0 : -EINVAL;
	case TYPE_OBJECT:
		return json_kind(v) == JSON_OBJECT ? 0 : -EINVAL;
	case TYPE_STRUCT:
		return v ? check_struct(c, t, v) : -EINVAL;
	case TYPE_ENUM:
		return check_enum(t, v);
	case TYPE_ARRAY:
		return check_array(c, t, v);
	case TYPE_MAP:
		return json_kind(v) == JSON_OBJECT ? json_visit(v, check_entry, &map) : -EINVAL;
	case TYPE_NAMED:
		return check_type(c, t->named->input, v);
	}
	return -EINVAL;
}

/* parameters that are absent are an empty object. */
static int check(const struct type *t, const struct json *parameters, char ret_field[static IDL_FIELD_MAX])
{
	struct check c = { 0 };
	int r;

	r = check_struct(&c, t, parameters);
	if (r < 0)
		copy_string(ret_field, IDL_FIELD_MAX, c.path);
	return r;
}

int idl_check_call(const struct idl *i, const char *method, const struct json *parameters,
                   char ret_field[static IDL_FIELD_MAX])
{
	const struct member *m = idl_find(i, MEMBER_METHOD, method);

	return m ? check(m->input, parameters, ret_field) : -ENOENT;
}

int idl_check_reply(const struct idl *i, const char *method, const struct json *parameters,
                    char ret_field[static IDL_FIELD_MAX])
{
	const struct member *m = idl_find(i, MEMBER_METHOD, method);

	return m ? check(m->output, parameters, ret_field) : -ENOENT;
}

int idl_check_error(const struct idl *i, const char *error, const struct json *parameters,
                    char ret_field[static IDL_FIELD_MAX])
{
	const struct member *m = idl_find(i, MEMBER_ERROR, error);

	return m ? check(m->input, parameters, ret_field) : -ENOENT;
}
