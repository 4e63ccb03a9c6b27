/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What experienced people do about a kind of trouble: rules from remedies.conf(5), the first that matches has the word. */
#pragma once

#include "cluster.h"

#define REMEDY_FILE_MAX (256 * 1024) /* bytes of one file */
#define REMEDIES_MAX 1024            /* rules */
#define REMEDY_TRY_MAX 8             /* Try= lines of one */
#define REMEDY_TEXT_MAX 4096         /* bytes of what is given out */

struct remedies;

struct remedies *remedies_free(struct remedies *r); /* accepts NULL, returns NULL */
DEFINE_CLEANUP(struct remedies *, remedies_free)

/* What is wrong with a rule: it is left out, the others are taken. */
typedef void (*remedies_mistake_fn)(void *userdata, const char *file, unsigned line, unsigned column, const char *reason);

/* Appends the rules of one text; *r may be NULL, then it is made. Gives the number of rules, or -ENOMEM. */
int remedies_parse(struct remedies **r, const char *file, const char *text, size_t size, remedies_mistake_fn fn, void *userdata);

size_t remedies_count(const struct remedies *r); /* r may be NULL: 0 */

/* What of a trouble rules look at. */
struct remedy_case {
	enum cluster_kind kind;
	enum metric metric; /* that moved most */
	const char *unit;
	const char *function; /* the most telling frame; for %f */
	pid_t pid;            /* for %p; 0: none */
	size_t n_frames;
	const char *const *frames;
};

/* Of an incident and the class that it is in; class with id 0: none. frames: room for CLUSTER_COMMON_MAX; everything points into the
 * other two. */
void incident_case(const struct cluster_incident *incident, const struct cluster_class *class, const char **frames, struct remedy_case *ret);

struct remedy {
	const char *id, *name; /* of the section; Name= */
	const char *explain;
	size_t n_try;
	const char *try[REMEDY_TRY_MAX]; /* as written: %f, %p, %u to be filled in by remedy_fill() */
};

/* The first rule that matches; false when none does. Strings belong to r. */
bool remedies_find(const struct remedies *r, const struct remedy_case *c, struct remedy *ret);
/* Whether all that it is to be filled with is known. Advice with a hole in it is none. */
bool remedy_fits(const char *text, const struct remedy_case *c);
/* %f: the function; %p: the pid; %u: the unit; %%: %. What is not known is "?"; but where there is no unit, "--unit %u" is the process. */
char *remedy_fill(char buf[static REMEDY_TEXT_MAX], const char *text, const struct remedy_case *c);
