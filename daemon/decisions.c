/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "decisions.h"

#include <inttypes.h>
#include <math.h>

#define TITLE "stackd decisions "
#define VERSION 1
#define SUM "sum "
#define SUM_SIZE (sizeof(SUM) - 1 + 16 + 1)
#define LINE_MAX_SIZE 512
#define SEED 0x64656369

static enum metric metric_of_axis(unsigned axis)
{
	return axis == CLUSTER_MEMORY ? METRIC_RSS : (enum metric)axis;
}

/* ---- written ---- */

static void write_one(void *userdata, const struct cluster_decision *d)
{
	FILE *file = userdata;

	fprintf(file, "%016" PRIx64 " %" PRIu64 " %s %" PRIu32 " %" PRIu32 " %" PRIu64, d->id, d->muted_until_us,
		d->has_kind ? cluster_kind_to_string(d->kind) : "-", d->n_real, d->n_false, d->evidence_us);
	for (unsigned axis = 0; axis < CLUSTER_METRICS; axis++)
		if (d->evidence[axis] != 0)
			fprintf(file, " %s=%.6f", metric_to_string(metric_of_axis(axis)), d->evidence[axis]);
	fputc('\n', file);
}

int decisions_format(const struct clusters *c, uint64_t now_us, char **ret, size_t *ret_size)
{
	_cleanup_free_ char *text = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&text, &size);
	bool failed;

	if (!file)
		return -ENOMEM;
	fprintf(file, TITLE "%d\n", VERSION);
	clusters_visit_decisions(c, now_us, write_one, file);
	failed = fflush(file) != 0 || ferror(file);
	if (!failed)
		fprintf(file, SUM "%016" PRIx64 "\n", hash64(text, size, SEED));
	failed |= ferror(file);
	if (fclose(file) != 0 || failed)
		return -ENOMEM;
	*ret = TAKE_PTR(text);
	*ret_size = size;
	return 0;
}

/* ---- read ---- */

static bool parse_evidence(char *text, struct cluster_decision *d)
{
	char *save = NULL;

	for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		char *value = strchr(word, '='), *end;
		enum metric m;
		double decades;

		if (!value)
			return false;
		*value++ = 0;
		decades = strtod(value, &end);
		if (*end || end == value || metric_from_string(word, &m) < 0 || (m >= METRIC_HITS && m != METRIC_RSS) ||
		    !(decades >= CLUSTER_EVIDENCE_LEAST && decades <= CLUSTER_EVIDENCE_MOST))
			return false;
		d->evidence[cluster_axis(m)] = decades;
	}
	return true;
}

static bool parse_line(const char *line, size_t n, struct cluster_decision *d)
{
	char text[LINE_MAX_SIZE], kind[32];
	int end = 0;

	if (n >= sizeof(text))
		return false;
	memcpy(text, line, n);
	text[n] = 0;
	*d = (struct cluster_decision){};
	if (strlen(text) != n ||
	    sscanf(text, "%" SCNx64 " %" SCNu64 " %31s %" SCNu32 " %" SCNu32 " %" SCNu64 "%n", &d->id, &d->muted_until_us, kind, &d->n_real,
		   &d->n_false, &d->evidence_us, &end) != 6 ||
	    !d->id)
		return false;
	d->has_kind = !streq(kind, "-");
	return (!d->has_kind || cluster_kind_from_string(kind, &d->kind) >= 0) && parse_evidence(text + end, d);
}

/* Without the title and the sum. c NULL: only looks whether each line is good. */
static int take_lines(struct clusters *c, const char *at, const char *end)
{
	int n = 0;

	while (at < end) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		struct cluster_decision d;

		if (!newline || !parse_line(at, (size_t)(newline - at), &d))
			return -EBADMSG;
		if (c)
			clusters_decide(c, &d);
		at = newline + 1;
		n++;
	}
	return n;
}

int decisions_parse(struct clusters *c, const char *text, size_t size)
{
	const char *begin = size > 0 ? memchr(text, '\n', size) : NULL, *end;
	char title[32], sum[SUM_SIZE + 1];
	int r;

	if (!begin || size < SUM_SIZE + sizeof(TITLE) || strncmp(text, TITLE, sizeof(TITLE) - 1) != 0)
		return -EBADMSG;
	begin++;
	end = text + size - SUM_SIZE;
	snprintf(sum, sizeof(sum), SUM "%016" PRIx64 "\n", hash64(text, size - SUM_SIZE, SEED));
	if (end < begin || memcmp(end, sum, SUM_SIZE) != 0)
		return -EBADMSG;
	snprintf(title, sizeof(title), TITLE "%d\n", VERSION);
	if ((size_t)(begin - text) != strlen(title) || memcmp(text, title, strlen(title)) != 0)
		return -EPROTO;
	r = take_lines(NULL, begin, end);
	if (r < 0)
		return r;
	/* All mutes there are: a state of before knows some that were taken back. */
	clusters_unmute_all(c);
	return take_lines(c, begin, end);
}
