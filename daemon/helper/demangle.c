/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <libiberty/demangle.h>
#include <setjmp.h>

#include "demangle.h"

#define PLT_SUFFIX "@plt"
#define MANGLED_MAX 4096 /* bytes; libiberty's stack grows with it */

struct output {
	char *text;
	size_t length, size;
	jmp_buf full;
};

static void put(struct output *o, const char *text, size_t n)
{
	size_t room = o->size - 1 - o->length, m = MIN(n, room);

	memcpy(o->text + o->length, text, m);
	o->length += m;
	o->text[o->length] = '\0';
	if (n > room) {
		if (o->size > 3)
			memset(o->text + o->size - 4, '.', 3);
		/* A name of a hundred bytes can stand for gigabytes. libiberty's callbacks can't end its work, but it holds
		 * nothing that this would leak: all its memory is on the stack. */
		longjmp(o->full, 1);
	}
}

static void take_part(const char *text, size_t n, void *userdata)
{
	put(userdata, text, n);
}

/* False when it isn't mangled, or not well. */
static bool demangle_base(const char *name, struct output *o)
{
	/* Rust first: its older scheme is a subset of C++'s. Both work without malloc(). */
	if (rust_demangle_callback(name, DMGL_NO_OPTS, take_part, o))
		return true;
	o->length = 0; /* of what it took for well-formed */
	return cplus_demangle_v3_callback(name, DMGL_NO_OPTS, take_part, o);
}

static void put_name(struct output *o, const char *name)
{
	size_t n = strlen(name), suffix = strlen(PLT_SUFFIX);
	bool plt = n > suffix && streq(name + n - suffix, PLT_SUFFIX);
	char base[MANGLED_MAX];

	if (name[0] == '_' && (name[1] == 'Z' || name[1] == 'R') && n < sizeof(base)) {
		copy_string(base, sizeof(base), name);
		if (plt)
			base[n - suffix] = '\0';
		if (demangle_base(base, o)) {
			put(o, PLT_SUFFIX, plt ? suffix : 0);
			return;
		}
		o->length = 0;
	}
	put(o, name, n);
}

size_t demangle(const char *name, char *ret, size_t size)
{
	struct output o = { .text = ret, .size = size };

	*ret = '\0';
	if (setjmp(o.full) == 0)
		put_name(&o, name);
	return o.length;
}
