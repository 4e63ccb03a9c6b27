/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an incident costs from its first anomaly to its end, by how many clusters are known: of a trouble that is known, and of one that is not, for
 * which the least of the clusters is forgotten. */
#include "cluster.h"

#include <stdio.h>

#define TIMED 2000
#define LASTS 12 /* ticks, until it is back */

struct world {
	struct clusters *c;
	uint64_t now_us, anomalies;
};

static double observe(void *userdata _unused_, const struct cluster_incident *incident _unused_, const struct cluster_series *series _unused_)
{
	return 0;
}

/* The trouble of that number: a path of its own in a service of its own. */
static void occur(struct world *w, unsigned number)
{
	char names[4][32], unit[32];
	struct cluster_frame frames[8];
	const char *path[8] = { names[0], names[1], names[2], names[3], "handle", "serve", "main", "_start" };

	snprintf(unit, sizeof(unit), "service-%u", number);
	for (unsigned k = 0; k < 4; k++)
		snprintf(names[k], sizeof(names[k]), "function_%u_%u", number, k);
	for (unsigned k = 0; k < 8; k++)
		frames[k] = (struct cluster_frame){ .function = path[k], .object = unit };
	clusters_learn_stack(w->c, frames, 8);
	clusters_add(w->c, &(struct cluster_anomaly){
		.id = ++w->anomalies, .time_us = w->now_us, .series_id = number + 1, .stack_id = number + 1, .metric = METRIC_ON_CPU, .observed = 1e9,
		.expected = 1e7, .score = 8, .pid = 100, .unit = unit, .cgroup = "/", .exe = unit, .comm = unit, .frames = frames, .n_frames = 8,
	}, NULL, NULL);
	for (unsigned k = 0; k < LASTS; k++) {
		w->now_us += USEC_PER_SEC;
		clusters_tick(w->c, w->now_us, observe, NULL, NULL);
	}
}

static double time_of(struct world *w, unsigned from, unsigned step, unsigned n)
{
	uint64_t begun = clock_monotonic_ns();

	for (unsigned k = 0; k < TIMED; k++)
		occur(w, from + k * step % n);
	return (double)(clock_monotonic_ns() - begun) / TIMED / 1e3;
}

static int measure(unsigned n)
{
	const struct cluster_config config = { .max_clusters = n, .max_incidents = 256 };
	struct world w = { .now_us = USEC_PER_SEC };
	struct clusters_status status;
	double known, new;
	int r = clusters_new(&w.c, &config);

	if (r < 0)
		return r;
	for (unsigned k = 0; k < n; k++)
		occur(&w, k);
	known = time_of(&w, 0, 7919, n);
	new = time_of(&w, n, 1, UINT32_MAX);
	clusters_get_status(w.c, &status);
	printf("%6u clusters: a known trouble %6.1f us, a new one %6.1f us; %u clusters, %llu forgotten\n", n, known, new, status.classes,
	       (unsigned long long)status.forgotten);
	clusters_free(w.c);
	return 0;
}

int main(void)
{
	static const unsigned numbers[] = { 100, 1000, 4000, 10000 };

	for (size_t i = 0; i < ELEMENTS_OF(numbers); i++)
		if (measure(numbers[i]) < 0)
			printf("%6u clusters: more than there can be\n", numbers[i]);
	return 0;
}
