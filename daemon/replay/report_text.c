/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "report_text.h"

#include "detect.h"

#define ROWS_MAX 1024 /* the newest */
#define FRAMES_MAX 128
#define RATE_SIZE (FORMAT_MAX + 4)

struct anomalies {
	size_t n;
	struct store_anomaly rows[ROWS_MAX];
};

struct incidents {
	size_t n;
	struct cluster_incident rows[ROWS_MAX];
};

static int take_anomaly(void *userdata, const struct store_anomaly *a)
{
	struct anomalies *all = userdata;

	all->rows[all->n++] = *a;
	return all->n == ROWS_MAX;
}

static int take_incident(void *userdata, const struct cluster_incident *i)
{
	struct incidents *all = userdata;

	all->rows[all->n++] = *i;
	return all->n == ROWS_MAX;
}

/* The recording's clock, as perf script prints it. */
static double seconds(uint64_t us)
{
	return (double)us / (double)USEC_PER_SEC;
}

static char *format_rate(char buf[static RATE_SIZE], enum metric m, double rate)
{
	char value[FORMAT_MAX];

	snprintf(buf, RATE_SIZE, "%s/s", format_metric(value, m, rate > 0 ? (uint64_t)(rate + 0.5) : 0));
	return buf;
}

/* "main;work;inner", the outermost first. */
static void write_stack(FILE *file, const struct store *store, uint64_t stack_id)
{
	struct store_frame frames[FRAMES_MAX];
	bool truncated;
	uint64_t id;
	size_t n;

	if (store_get_stack(store, store_find_stack(store, stack_id), &id, &truncated, frames, FRAMES_MAX, &n) < 0)
		return;
	for (size_t i = MIN(n, (size_t)FRAMES_MAX); i-- > 0;)
		fprintf(file, "%s%s", frames[i].display, i > 0 ? ";" : "");
}

static void write_anomaly(FILE *file, const struct store *store, const struct store_anomaly *a)
{
	char expected[RATE_SIZE], observed[RATE_SIZE];

	fprintf(file, "%.0f  %s of %s: %s instead of %s, one in %.0e, %s[%d]\n    ", seconds(a->time_us),
		detect_type_to_string((enum detect_type)a->type), metric_to_string((enum metric)a->metric),
		format_rate(observed, (enum metric)a->metric, a->observed), format_rate(expected, (enum metric)a->metric, a->expected),
		a->p_value > 0 ? 1 / a->p_value : 1e300, a->comm, (int)a->pid);
	write_stack(file, store, a->stack_id);
	fputc('\n', file);
}

static void write_incident(FILE *file, const struct clusters *clusters, const struct cluster_incident *i)
{
	struct cluster_class class = {};
	char until[32] = "its end";

	(void)clusters_get_class(clusters, i->cluster, &class);
	if (i->closed_us > 0)
		snprintf(until, sizeof(until), "%.0f", seconds(i->closed_us));
	fprintf(file, "%.0f to %s  %s, %s: %.2f CPUs' worth, %u %s, %s[%d]\n", seconds(i->opened_us), until,
		class.name[0] ? class.name : cluster_kind_to_string(i->kind), cluster_severity_to_string(i->severity), i->size,
		i->n_anomalies, i->n_anomalies == 1 ? "anomaly" : "anomalies", i->workloads[0].comm, (int)i->workloads[0].pid);
}

int report_text_write(FILE *file, struct store *store, struct clusters *clusters)
{
	const struct store_filter everything = { .viewer_uid = STORE_ANY_UID };
	_cleanup_free_ struct anomalies *anomalies = calloc(1, sizeof(*anomalies));
	_cleanup_free_ struct incidents *incidents = calloc(1, sizeof(*incidents));

	if (!anomalies || !incidents)
		return -ENOMEM;
	(void)store_visit_anomalies(store, &everything, take_anomaly, anomalies);
	(void)clusters_visit_incidents(clusters, take_incident, incidents);
	fprintf(file, "\nAnomalies: %zu\n", anomalies->n);
	for (size_t i = anomalies->n; i-- > 0;)
		write_anomaly(file, store, &anomalies->rows[i]);
	fprintf(file, "\nIncidents: %zu\n", incidents->n);
	for (size_t i = incidents->n; i-- > 0;)
		write_incident(file, clusters, &incidents->rows[i]);
	return fflush(file) != 0 || ferror(file) ? negative_errno() : 0;
}
