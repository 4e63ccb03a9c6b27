/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An interface description in memory, between the parser (idl.c) and the validator (idl_check.c).
 *
 *   idl ── members: type | method | error, by name
 *            └─ input, output ── type ── fields ── type ...      a named type points to its member
 */
#pragma once

#include "wire.h"

enum type_kind {
	TYPE_BOOL,
	TYPE_INT,
	TYPE_FLOAT,
	TYPE_STRING,
	TYPE_OBJECT,
	TYPE_ANY,
	TYPE_STRUCT,
	TYPE_ENUM,
	TYPE_ARRAY,
	TYPE_MAP,
	TYPE_NULLABLE,
	TYPE_NAMED,
};

struct type {
	enum type_kind kind;
	struct type *element;       /* array, map, nullable */
	struct field *fields;       /* struct; enum: names only */
	size_t n_fields;
	char *name;                 /* named */
	const struct member *named;
};

struct field {
	char *name;
	struct type *type;
};

enum member_kind { MEMBER_TYPE, MEMBER_METHOD, MEMBER_ERROR };

struct member {
	enum member_kind kind;
	char *name;
	struct type *input;  /* a type's and an error's own */
	struct type *output; /* of a method */
};

struct idl {
	char *text;
	char *name;
	struct member *members;
	size_t n_members;
};

const struct member *idl_find(const struct idl *i, enum member_kind kind, const char *name);
