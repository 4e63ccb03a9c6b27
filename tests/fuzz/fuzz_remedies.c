/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whatever the rules are, each is taken or left out with a place and a reason, and what is taken can be asked. And whatever an image of
 * clusters holds, it is taken whole or refused. */
#include "remedies.h"

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void on_mistake(void *userdata, const char *file, unsigned line, unsigned column, const char *reason)
{
	size_t *n = userdata;

	check(file && line > 0 && column > 0 && *reason);
	++*n;
}

static void ask(const struct remedies *r)
{
	const char *frames[] = { "futex_wait", "main", "" };
	char buf[REMEDY_TEXT_MAX];

	for (unsigned k = 0; k < CLUSTER_KIND_N; k++) {
		const struct remedy_case c = { .kind = k, .metric = METRIC_BLOCKED, .unit = "a.service", .function = "futex_wait", .pid = 1,
			                       .n_frames = ELEMENTS_OF(frames), .frames = frames };
		struct remedy found;

		if (!remedies_find(r, &c, &found))
			continue;
		check(*found.id && *found.name && *found.explain && found.n_try > 0);
		for (size_t i = 0; i < found.n_try; i++)
			check(strlen(remedy_fill(buf, found.try[i], &c)) < REMEDY_TEXT_MAX);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct cluster_config config = { .max_clusters = 8, .max_incidents = 16 };
	_cleanup_(remedies_freep) struct remedies *r = NULL;
	_cleanup_(clusters_freep) struct clusters *c = NULL;
	size_t mistakes = 0;
	int n = remedies_parse(&r, "fuzz", (const char *)data, size, on_mistake, &mistakes);

	check(n >= 0 && (size_t)n == remedies_count(r) && n <= REMEDIES_MAX);
	ask(r);
	check(clusters_new(&c, &config) == 0);
	if (clusters_load(c, data, size) == 0)
		clusters_tick(c, 1, NULL, NULL, NULL);
	return 0;
}
