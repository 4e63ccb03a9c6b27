/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What people say of incidents, and what follows from it for those that are like them. */
#include <math.h>

#include "state.h"

#define STEP_REAL (-0.5) /* decades; a false label moves more than a real one, as it says that something was too little */
#define STEP_FALSE 1.0
#define HALF_LIFE_US (30.0 * 86400 * 1e6) /* programs change, and so does what is normal for them */

static double faded(double decades, uint64_t from_us, uint64_t to_us)
{
	return to_us > from_us ? decades * exp2(-(double)(to_us - from_us) / HALF_LIFE_US) : decades;
}

double cluster_class_evidence(const struct cluster_class *class, enum metric metric, uint64_t now_us)
{
	return faded(class->evidence[cluster_axis(metric)], class->evidence_us, now_us);
}

void class_fade_evidence(struct class_state *class, uint64_t now_us)
{
	for (unsigned m = 0; m < CLUSTER_METRICS; m++)
		class->c.evidence[m] = cluster_class_evidence(&class->c, (enum metric)m, now_us);
	class->c.evidence_us = MAX(class->c.evidence_us, now_us);
}

/* Half of what the incident had beyond what was needed, so that a height that has been called false several times is needed at last. */
static double step_of(const struct incident_state *s, enum cluster_label label, double threshold)
{
	switch (label) {
	case CLUSTER_REAL: return STEP_REAL;
	case CLUSTER_FALSE: return MAX(STEP_FALSE, isfinite(threshold) ? (s->i.score - threshold) / 2 : 0);
	case CLUSTER_UNLABELLED: break;
	}
	return 0;
}

static void move_evidence(struct class_state *class, struct incident_state *s, double step, uint64_t now_us)
{
	bool moved[CLUSTER_METRICS] = {};

	class_fade_evidence(class, now_us);
	for (size_t k = 0; k < CLUSTER_SERIES_MAX; k++) {
		unsigned axis = cluster_axis((enum metric)s->i.series[k].metric);
		double *evidence = &class->c.evidence[axis];

		if (!s->i.series[k].id || moved[axis])
			continue;
		moved[axis] = true;
		/* What an earlier label of the same incident did is taken back. */
		*evidence = MIN(MAX(*evidence + step - s->label_step, CLUSTER_EVIDENCE_LEAST), CLUSTER_EVIDENCE_MOST);
	}
	s->label_step = step;
}

static void count(struct cluster_class *class, enum cluster_label before, enum cluster_label after)
{
	uint32_t *of[] = { [CLUSTER_REAL] = &class->n_real, [CLUSTER_FALSE] = &class->n_false };

	if (before != CLUSTER_UNLABELLED && *of[before] > 0)
		--*of[before];
	if (after != CLUSTER_UNLABELLED)
		++*of[after];
}

int clusters_label(struct clusters *c, uint64_t incident_id, enum cluster_label label, const enum cluster_kind *kind, double threshold,
                   uint64_t now_us)
{
	struct incident_state *s = incident_get(c, incident_id);
	struct class_state *class;

	if (!s)
		return -ENOENT;
	class = class_get(c, s->i.cluster);
	if (class) {
		count(&class->c, s->i.label, label);
		move_evidence(class, s, step_of(s, label, threshold), now_us);
		c->labelled = true;
		class_weigh(c, class);
		if (kind) {
			class->kind_given = (uint8_t)(*kind + 1);
			class_settle_kind(class);
		}
	}
	s->i.label = label;
	if (kind)
		s->i.kind = *kind;
	c->decided++;
	return 0;
}

/* ---- kept apart ---- */

static bool says_something(const struct cluster_decision *d, uint64_t now_us)
{
	bool evidence = false;

	for (unsigned m = 0; m < CLUSTER_METRICS; m++)
		evidence |= d->evidence[m] != 0;
	return d->muted_until_us > now_us || d->has_kind || d->n_real || d->n_false || evidence;
}

static struct cluster_decision decision_of(const struct class_state *class)
{
	struct cluster_decision d = {
		.id = class->c.id,
		.muted_until_us = class->c.muted_until_us,
		.has_kind = class->kind_given > 0,
		.kind = class->kind_given > 0 ? (enum cluster_kind)(class->kind_given - 1) : 0,
		.n_real = class->c.n_real,
		.n_false = class->c.n_false,
		.evidence_us = class->c.evidence_us,
	};

	memcpy(d.evidence, class->c.evidence, sizeof(d.evidence));
	return d;
}

static void apply(struct clusters *c, struct class_state *class, const struct cluster_decision *d)
{
	class->c.muted_until_us = d->muted_until_us;
	class->kind_given = d->has_kind ? (uint8_t)(d->kind + 1) : 0;
	class->c.n_real = d->n_real;
	class->c.n_false = d->n_false;
	class->c.evidence_us = d->evidence_us;
	memcpy(class->c.evidence, d->evidence, sizeof(class->c.evidence));
	class_settle_kind(class);
	class_weigh(c, class);
	c->labelled |= d->evidence_us > 0;
}

static void forget_decision(struct clusters *c, uint32_t at)
{
	memmove(c->decisions + at, c->decisions + at + 1, sizeof(c->decisions[0]) * (--c->n_decisions - at));
}

static void keep(struct clusters *c, const struct cluster_decision *d)
{
	for (uint32_t k = 0; k < c->n_decisions; k++)
		if (c->decisions[k].id == d->id) {
			c->decisions[k] = *d;
			return;
		}
	if (c->n_decisions == CLUSTER_DECISIONS_MAX)
		forget_decision(c, 0);
	c->decisions[c->n_decisions++] = *d;
}

void class_part(struct clusters *c, const struct class_state *class)
{
	const struct cluster_decision d = decision_of(class);

	if (says_something(&d, class->c.last_us))
		keep(c, &d);
}

void class_recall(struct clusters *c, struct class_state *class)
{
	for (uint32_t k = 0; k < c->n_decisions; k++)
		if (c->decisions[k].id == class->c.id) {
			apply(c, class, &c->decisions[k]);
			forget_decision(c, k);
			return;
		}
}

void clusters_decide(struct clusters *c, const struct cluster_decision *d)
{
	struct class_state *class = class_get(c, d->id);

	if (class)
		apply(c, class, d);
	else
		keep(c, d);
}

void clusters_visit_decisions(const struct clusters *c, uint64_t now_us, cluster_decision_fn fn, void *userdata)
{
	for (uint32_t k = 0; k < c->n_decisions; k++)
		if (says_something(&c->decisions[k], now_us))
			fn(userdata, &c->decisions[k]);
	for (uint32_t k = 0; k < c->state->n_classes; k++) {
		const struct cluster_decision d = decision_of(&c->classes[k]);

		if (says_something(&d, now_us))
			fn(userdata, &d);
	}
}

double clusters_evidence(struct clusters *c, const struct cluster_frame *frames, size_t n, enum metric metric, bool rises, uint64_t now_us)
{
	const struct class_state *class;
	struct kind_evidence moved = {};
	struct vector stack;

	if (!c->labelled)
		return 0;
	vector_of_stack(&stack, &c->state->rarity, frames, n);
	(rises ? moved.up : moved.down)[cluster_axis(metric)] = 1;
	class = class_of_stack(c, &stack, &moved);
	return class ? cluster_class_evidence(&class->c, metric, now_us) : 0;
}
