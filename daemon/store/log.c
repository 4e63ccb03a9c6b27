/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Anomalies and gate changes: rings of fixed records, the oldest give way. */
#include "internal.h"

/* A quarter of a log stays free: what the last commit says is in use must not be written over before the
 * next. */
static uint32_t log_limit(uint64_t size)
{
	return (uint32_t)(size - size / 4);
}

/* The slot for one more record; LOG_NONE when a single commit wants too many. */
uint32_t store_log_slot(struct log_state *l, const struct log_state *published, uint64_t size)
{
	uint32_t slot = (l->first + l->n) % (uint32_t)size;

	if ((slot + (uint32_t)size - published->first) % (uint32_t)size < published->n)
		return LOG_NONE;
	if (l->n >= log_limit(size)) {
		l->first = (l->first + 1) % (uint32_t)size;
		l->n--;
	}
	l->n++;
	return slot;
}

static struct anomaly_record *anomaly_at(const struct store *s, uint32_t position)
{
	const struct section *log = &s->layout.anomalies;

	return (struct anomaly_record *)store_at(s, log->offset) +
	       (s->c.anomalies.first + position) % (uint32_t)log->n;
}

static struct gate_record *gate_at(const struct store *s, uint32_t position)
{
	const struct section *log = &s->layout.gates;

	return (struct gate_record *)store_at(s, log->offset) +
	       (s->c.gates.first + position) % (uint32_t)log->n;
}

uint32_t store_anomalies_max(const struct store *s)
{
	return log_limit(s->layout.anomalies.n);
}

int store_add_anomaly(struct store *s, struct store_anomaly *a)
{
	uint32_t slot = store_log_slot(&s->c.anomalies, &store_published(s)->anomalies,
	                               s->layout.anomalies.n);
	struct anomaly_record *r;

	if (slot == LOG_NONE) {
		s->c.full++;
		return -ENOSPC;
	}
	r = (struct anomaly_record *)store_at(s, s->layout.anomalies.offset) + slot;
	a->id = ++s->c.anomaly_id;
	*r = (struct anomaly_record){
		.id = a->id,
		.time_us = a->time_us,
		.since_us = a->since_us,
		.score = a->score,
		.p_value = a->p_value,
		.observed = a->observed,
		.expected = a->expected,
		.load = a->load,
		.series_id = a->series_id,
		.stack_id = a->stack_id,
		.process_start_us = a->process_start_us,
		.uid = a->uid,
		.pid = (uint32_t)a->pid,
		.type = a->type,
		.metric = a->metric,
		.gate_open = a->gate_open,
	};
	copy_string(r->comm, sizeof(r->comm), a->comm);
	copy_string(r->exe, sizeof(r->exe), a->exe);
	copy_string(r->unit, sizeof(r->unit), a->unit);
	copy_string(r->cgroup, sizeof(r->cgroup), a->cgroup);
	store_pin(s, a->time_us);
	if (!s->in_tick)
		store_commit_publish(s);
	return 0;
}

static void read_anomaly(const struct anomaly_record *r, struct store_anomaly *ret)
{
	*ret = (struct store_anomaly){
		.id = r->id,
		.time_us = r->time_us,
		.since_us = r->since_us,
		.score = r->score,
		.p_value = r->p_value,
		.observed = r->observed,
		.expected = r->expected,
		.load = r->load,
		.series_id = r->series_id,
		.stack_id = r->stack_id,
		.process_start_us = r->process_start_us,
		.uid = r->uid,
		.pid = (pid_t)r->pid,
		.type = r->type,
		.metric = r->metric,
		.gate_open = r->gate_open != 0,
	};
	/* Whatever lies in the arena, what is given out ends. */
	memcpy(ret->comm, r->comm, sizeof(ret->comm) - 1);
	memcpy(ret->exe, r->exe, sizeof(ret->exe) - 1);
	memcpy(ret->unit, r->unit, sizeof(ret->unit) - 1);
	memcpy(ret->cgroup, r->cgroup, sizeof(ret->cgroup) - 1);
}

static bool anomaly_matches(const struct store_filter *f, const struct store_anomaly *a)
{
	if (a->time_us <= f->since_us || (f->until_us && a->time_us > f->until_us))
		return false;
	if (f->viewer_uid && f->viewer_uid != STORE_ANY_UID && f->viewer_uid != a->uid)
		return false;
	return (!f->pid || f->pid == a->pid) && (!f->stack_id || f->stack_id == a->stack_id) &&
	       (!f->series_id || f->series_id == a->series_id) && (!f->comm || streq(f->comm, a->comm)) &&
	       (!f->exe || streq(f->exe, a->exe)) && store_unit_matches(f->unit, a->unit) &&
	       store_cgroup_matches(f->cgroup, a->cgroup);
}

int store_visit_anomalies(const struct store *s, const struct store_filter *filter, store_anomaly_fn fn,
                          void *userdata)
{
	for (uint32_t k = s->c.anomalies.n; k-- > 0;) {
		struct store_anomaly a;
		int r;

		read_anomaly(anomaly_at(s, k), &a);
		if (!anomaly_matches(filter, &a))
			continue;
		r = fn(userdata, &a);
		if (r != 0)
			return r;
	}
	return 0;
}

int store_add_gate_change(struct store *s, const struct store_gate_change *change)
{
	uint32_t slot = store_log_slot(&s->c.gates, &store_published(s)->gates, s->layout.gates.n);
	struct gate_record *r;

	if (slot == LOG_NONE) {
		s->c.full++;
		return -ENOSPC;
	}
	r = (struct gate_record *)store_at(s, s->layout.gates.offset) + slot;
	*r = (struct gate_record) { .time_us = change->time_us, .load = change->load, .open = change->open };
	copy_string(r->cause, sizeof(r->cause), change->cause);
	if (!s->in_tick)
		store_commit_publish(s);
	return 0;
}

int store_visit_gate(const struct store *s, uint64_t since_us, uint64_t until_us, store_gate_fn fn,
                     void *userdata)
{
	for (uint32_t k = s->c.gates.n; k-- > 0;) {
		const struct gate_record *r = gate_at(s, k);
		struct store_gate_change change = { .time_us = r->time_us,
			                            .open = r->open != 0,
			                            .load = r->load };
		int ret;

		if (r->time_us <= since_us || (until_us && r->time_us > until_us))
			continue;
		memcpy(change.cause, r->cause, sizeof(change.cause) - 1);
		ret = fn(userdata, &change);
		if (ret != 0)
			return ret;
	}
	return 0;
}
