/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parser of varlink interface descriptions. */
#include "idl.h"

#include <ctype.h>

#define TYPE_DEPTH_MAX 32
#define MEMBERS_MAX 1024
#define FIELDS_MAX 256
#define TOKEN_MAX 256

struct parser {
	const char *p, *end;
	unsigned line, depth;
	char *error;
	size_t error_size;
};

static int bad(struct parser *p, const char *what)
{
	if (p->error)
		snprintf(p->error, p->error_size, "line %u: %s", p->line, what);
	return -EBADMSG;
}

static struct type *type_free(struct type *t)
{
	if (!t)
		return NULL;
	type_free(t->element);
	for (size_t i = 0; i < t->n_fields; i++) {
		free(t->fields[i].name);
		type_free(t->fields[i].type);
	}
	free(t->fields);
	free(t->name);
	free(t);
	return NULL;
}
DEFINE_CLEANUP(struct type *, type_free)

struct idl *idl_free(struct idl *i)
{
	if (!i)
		return NULL;
	for (size_t n = 0; n < i->n_members; n++) {
		free(i->members[n].name);
		type_free(i->members[n].input);
		type_free(i->members[n].output);
	}
	free(i->members);
	free(i->text);
	free(i->name);
	free(i);
	return NULL;
}

static void skip_space(struct parser *p)
{
	for (; p->p < p->end; p->p++) {
		if (*p->p == '#')
			while (p->p + 1 < p->end && p->p[1] != '\n')
				p->p++;
		else if (*p->p == '\n')
			p->line++;
		else if (*p->p != ' ' && *p->p != '\t' && *p->p != '\r')
			return;
	}
}

static bool take(struct parser *p, const char *token)
{
	size_t n = strlen(token);

	skip_space(p);
	if ((size_t)(p->end - p->p) < n || memcmp(p->p, token, n) != 0)
		return false;
	p->p += n;
	return true;
}

/* Letters, digits and what more allows; begins with a letter. Neither begins a part with a separator nor ends
 * in one. */
static int take_name(struct parser *p, const char *separators, char **ret)
{
	const char *start;

	skip_space(p);
	start = p->p;
	while (p->p < p->end && (isalnum((unsigned char)*p->p) || (*p->p && strchr(separators, *p->p)))) {
		bool separator = !isalnum((unsigned char)*p->p);

		if (separator && (p->p == start || !isalnum((unsigned char)p->p[-1])))
			return bad(p, "a name has two separators in a row");
		p->p++;
	}
	if (p->p == start || !isalpha((unsigned char)*start))
		return bad(p, "a name is missing");
	if (!isalnum((unsigned char)p->p[-1]))
		return bad(p, "a name ends in a separator");
	if (p->p - start > TOKEN_MAX)
		return bad(p, "a name is too long");
	*ret = strndup(start, p->p - start);
	return *ret ? 0 : -ENOMEM;
}

static int parse_type(struct parser *p, struct type **ret);

static int add_field(struct parser *p, struct type *t, char *name, struct type *type)
{
	struct field *fields;

	for (size_t i = 0; i < t->n_fields; i++)
		if (streq(t->fields[i].name, name))
			return bad(p, "a field is there twice");
	if (t->n_fields == FIELDS_MAX)
		return bad(p, "too many fields");
	fields = realloc(t->fields, (t->n_fields + 1) * sizeof(*fields));
	if (!fields)
		return -ENOMEM;
	t->fields = fields;
	t->fields[t->n_fields++] = (struct field){ .name = name, .type = type };
	return 0;
}

/* "name: type" of a struct or "name" of an enum; the first field says which of the two it is. */
static int parse_field(struct parser *p, struct type *t)
{
	_cleanup_(type_freep) struct type *type = NULL;
	_cleanup_free_ char *name = NULL;
	bool has_type;
	int r;

	r = take_name(p, "_", &name);
	if (r < 0)
		return r;
	has_type = take(p, ":");
	if (t->n_fields == 0)
		t->kind = has_type ? TYPE_STRUCT : TYPE_ENUM;
	else if (has_type != (t->kind == TYPE_STRUCT))
		return bad(p, "fields with and without a type");
	if (has_type) {
		r = parse_type(p, &type);
		if (r < 0)
			return r;
	}
	r = add_field(p, t, name, type);
	if (r < 0)
		return r;
	TAKE_PTR(name);
	TAKE_PTR(type);
	return 0;
}

/* After "(". */
static int parse_fields(struct parser *p, struct type *t)
{
	int r;

	t->kind = TYPE_STRUCT;
	if (take(p, ")"))
		return 0;
	do {
		r = parse_field(p, t);
		if (r < 0)
			return r;
	} while (take(p, ","));
	return take(p, ")") ? 0 : bad(p, "\",\" or \")\" is missing");
}

static int parse_named(struct parser *p, struct type *t)
{
	static const struct {
		const char *name;
		enum type_kind kind;
	} basic[] = {
		{ "bool", TYPE_BOOL },     { "int", TYPE_INT },       { "float", TYPE_FLOAT },
		{ "string", TYPE_STRING }, { "object", TYPE_OBJECT }, { "any", TYPE_ANY },
	};
	int r;

	r = take_name(p, "", &t->name);
	if (r < 0)
		return r;
	t->kind = TYPE_NAMED;
	for (size_t i = 0; i < ELEMENTS_OF(basic); i++)
		if (streq(t->name, basic[i].name)) {
			t->kind = basic[i].kind;
			return 0;
		}
	return isupper((unsigned char)t->name[0]) ? 0 : bad(p, "an unknown type");
}

static int parse_type_inner(struct parser *p, struct type *t)
{
	int r;

	if (take(p, "(")) {
		return parse_fields(p, t);
	} else if (take(p, "[]")) {
		t->kind = TYPE_ARRAY;
	} else if (take(p, "[string]")) {
		t->kind = TYPE_MAP;
	} else if (take(p, "?")) {
		t->kind = TYPE_NULLABLE;
	} else {
		return parse_named(p, t);
	}
	r = parse_type(p, &t->element);
	if (r < 0)
		return r;
	if (t->kind == TYPE_NULLABLE && t->element->kind == TYPE_NULLABLE)
		return bad(p, "nullable twice");
	return 0;
}

static int parse_type(struct parser *p, struct type **ret)
{
	_cleanup_(type_freep) struct type *t = NULL;
	int r;

	if (p->depth == TYPE_DEPTH_MAX)
		return bad(p, "nested too deeply");
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	p->depth++;
	r = parse_type_inner(p, t);
	p->depth--;
	if (r < 0)
		return r;
	*ret = TAKE_PTR(t);
	return 0;
}

/* A parenthesized type: what a type definition, an error and both sides of a method are. */
static int parse_parenthesized(struct parser *p, bool is_struct, struct type **ret)
{
	skip_space(p);
	if (p->p == p->end || *p->p != '(')
		return bad(p, "\"(\" is missing");
	int r = parse_type(p, ret);
	if (r < 0)
		return r;
	return is_struct && (*ret)->kind != TYPE_STRUCT ? bad(p, "fields need types here") : 0;
}

static int parse_member(struct parser *p, enum member_kind kind, struct member *m)
{
	int r;

	m->kind = kind;
	r = take_name(p, "", &m->name);
	if (r < 0)
		return r;
	if (!isupper((unsigned char)m->name[0]))
		return bad(p, "the name of a type, method or error begins with a capital");
	r = parse_parenthesized(p, kind != MEMBER_TYPE, &m->input);
	if (r < 0 || kind != MEMBER_METHOD)
		return r;
	if (!take(p, "->"))
		return bad(p, "\"->\" is missing");
	return parse_parenthesized(p, true, &m->output);
}

static int parse_members(struct parser *p, struct idl *i)
{
	for (;;) {
		enum member_kind kind;
		struct member *members;
		int r;

		skip_space(p);
		if (p->p == p->end)
			return 0;
		if (take(p, "type "))
			kind = MEMBER_TYPE;
		else if (take(p, "method "))
			kind = MEMBER_METHOD;
		else if (take(p, "error "))
			kind = MEMBER_ERROR;
		else
			return bad(p, "\"type\", \"method\" or \"error\" is missing");
		if (i->n_members == MEMBERS_MAX)
			return bad(p, "too many members");
		members = realloc(i->members, (i->n_members + 1) * sizeof(*members));
		if (!members)
			return -ENOMEM;
		i->members = members;
		i->members[i->n_members++] = (struct member){ 0 };
		r = parse_member(p, kind, &i->members[i->n_members - 1]);
		if (r < 0)
			return r;
		for (size_t n = 0; n + 1 < i->n_members; n++)
			if (streq(i->members[n].name, i->members[i->n_members - 1].name))
				return bad(p, "a name is defined twice");
	}
}

static int resolve(struct parser *p, const struct idl *i, struct type *t)
{
	int r;

	if (!t)
		return 0;
	if (t->kind == TYPE_NAMED) {
		t->named = idl_find(i, MEMBER_TYPE, t->name);
		if (!t->named) {
			if (p->error)
				snprintf(p->error, p->error_size, "type %s is not defined", t->name);
			return -EBADMSG;
		}
	}
	for (size_t n = 0; n < t->n_fields; n++) {
		r = resolve(p, i, t->fields[n].type);
		if (r < 0)
			return r;
	}
	return resolve(p, i, t->element);
}

int idl_parse(const char *text, size_t size, struct idl **ret, char *error, size_t error_size)
{
	_cleanup_(idl_freep) struct idl *i = NULL;
	struct parser p = { .line = 1, .error = error, .error_size = error_size };
	int r;

	i = calloc(1, sizeof(*i));
	if (!i)
		return -ENOMEM;
	i->text = strndup(text, size);
	if (!i->text)
		return -ENOMEM;
	p.p = i->text;
	p.end = i->text + strlen(i->text);
	if (!take(&p, "interface "))
		return bad(&p, "\"interface\" is missing");
	r = take_name(&p, ".-", &i->name);
	if (r < 0)
		return r;
	if (!strchr(i->name, '.'))
		return bad(&p, "an interface's name has a dot");
	r = parse_members(&p, i);
	if (r < 0)
		return r;
	for (size_t n = 0; n < i->n_members; n++) {
		r = resolve(&p, i, i->members[n].input);
		if (r >= 0)
			r = resolve(&p, i, i->members[n].output);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(i);
	return 0;
}

const struct member *idl_find(const struct idl *i, enum member_kind kind, const char *name)
{
	for (size_t n = 0; n < i->n_members; n++)
		if (i->members[n].kind == kind && streq(i->members[n].name, name))
			return &i->members[n];
	return NULL;
}

const char *idl_name(const struct idl *i)
{
	return i->name;
}

const char *idl_text(const struct idl *i)
{
	return i->text;
}

size_t idl_n_methods(const struct idl *i)
{
	size_t n_methods = 0;

	for (size_t n = 0; n < i->n_members; n++)
		n_methods += i->members[n].kind == MEMBER_METHOD;
	return n_methods;
}

const char *idl_method(const struct idl *i, size_t index)
{
	for (size_t n = 0; n < i->n_members; n++)
		if (i->members[n].kind == MEMBER_METHOD && index-- == 0)
			return i->members[n].name;
	return NULL;
}

bool idl_has_method(const struct idl *i, const char *method)
{
	return idl_find(i, MEMBER_METHOD, method) != NULL;
}
