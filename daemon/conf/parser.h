/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads text into a struct conf. Private to conf/; apart from conf.c only its test and its fuzzer call it. */
#pragma once

#include "conf.h"

#define CONF_FILE_MAX (64 * 1024) /* bytes: over ten times the shipped file */
#define CONF_LINE_MAX 1024        /* bytes, without the end of the line */

/* What the text said about a pair of keys that depend on each other; the strings are allocated. */
struct conf_place {
	char *file;
	unsigned line;
};

struct conf_parser {
	struct conf conf;
	struct conf_place open_above, close_below;
	char *error; /* set when conf_parse() or conf_finish() gave less than 0, except -ENOMEM */
};

void conf_parser_init(struct conf_parser *p);
void conf_parser_done(struct conf_parser *p);

/* Takes one file's text; stops at the first mistake. */
int conf_parse(struct conf_parser *p, const char *file, const char *text, size_t size);

/* Checks what can be checked only when every file has been read. */
int conf_finish(struct conf_parser *p);

/* Puts file, line and the formatted reason into p->error and returns r, or -ENOMEM. line 0 is left out. */
int conf_fail(struct conf_parser *p, int r, const char *file, unsigned line, const char *format, ...) _printf_(5, 6);
