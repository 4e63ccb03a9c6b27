/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stacks of stackd's replies to a question, on their way into a flame graph; and what the graph says of them. What goes wrong is told to
 * the user here; the functions that give a bool then give false. */
#pragma once

#include "call.h"
#include "flame.h"
#include "flame_lines.h"

/* Of a reply, how its figures came about. */
struct provenance {
	bool exact; /* of samples' times, not of whole ticks */
	bool waits; /* of threads' waits; those shorter than drawn_ns are an estimate */
	int64_t drawn_ns;
	uint64_t since_us, until_us;
	double load;
	long long gate_open_s, lost;
};

/* Where a reply's stacks go. */
struct intake {
	struct flame *flame;
	enum flame_side side;
	enum flame_kind state;     /* FLAME_ON_CPU or FLAME_OFF_CPU puts that frame above the process; else none */
	bool as_saved;             /* frames are what they are once they were saved as folded stacks: names without an object */
	struct flame_lines *lines; /* NULL: no inlined functions are asked for */
	struct provenance provenance; /* of the first reply */

	const struct options *options;
	uint32_t *ids; /* by a reply's number of a frame */
	size_t n_ids, ids_allocated;
};

/* Tells of an error. False: there was one. */
bool flame_tell(int r);

/* Of a GetFlame, as the options ask for it. NULL: told. */
struct json_writer *flame_parameters(const struct options *o);
/* Asks, and adds what comes. */
bool intake_take(struct intake *in, const struct options *o);

/* The metric that the options ask for. */
enum metric flame_metric(const struct options *o);
#define FLAME_OF_ALL ", all processes"
/* The title: what, and of whom by the options' filter, or whose, when there is none; more: programs beside the one of o. */
int flame_set_title(struct flame_meta *meta, const struct options *o, size_t more, const char *what, const char *whose);
void flame_set_window(struct flame_meta *meta, enum metric m, const struct provenance *p);
int flame_note_window(struct flame_meta *meta, const char *prefix, const struct provenance *p);
/* Builds the tree, notes its total, and hands it over. */
bool flame_finish(struct flame **ret, struct flame **f, struct flame_meta *meta);
