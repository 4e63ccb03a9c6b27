/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scores a file of the Numenta Anomaly Benchmark: reads timestamp,value on stdin, writes timestamp,value,anomaly_score,
 * a row for each row, as soon as it has come. Memory does not depend on how many rows there are. Without options it is the
 * detector as it is; the options take pieces away, to see what they are worth (tests/nab/report). */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "univariate.h"
#include "views.h"

/* Characters; what is beyond is not a number anyway, and is cut off. */
#define LINE_SIZE 4096

static int usage(FILE *to)
{
	fprintf(to, "usage: nab_detect [--without VIEW]... [--memory short|long] [--together] [--uncalibrated]\n"
		    "                  [--refractory VALUES] [--escalation SURPRISE] < CSV\n"
		    "views:");
	for (unsigned v = 0; v < VIEW_N; v++)
		fprintf(to, " %s", view_to_string(v));
	fprintf(to, "\n");
	return to == stdout ? 0 : 2;
}

static int mask_of_view(const char *name, uint32_t *ret)
{
	for (unsigned v = 0; v < VIEW_N; v++)
		if (streq(view_to_string(v), name)) {
			*ret = 1u << v;
			return 0;
		}
	return -EINVAL;
}

static int mask_of_memory(const char *name, uint32_t *ret)
{
	if (streq(name, "short"))
		*ret = UNIVARIATE_SHORT;
	else if (streq(name, "long"))
		*ret = UNIVARIATE_LONG;
	else
		return -EINVAL;
	return 0;
}

static int parse_options(int argc, char *argv[], struct univariate_config *c)
{
	static const struct option options[] = {
		{ "without", required_argument, NULL, 'w' },
		{ "memory", required_argument, NULL, 'm' },
		{ "together", no_argument, NULL, 't' },
		{ "uncalibrated", no_argument, NULL, 'u' },
		{ "refractory", required_argument, NULL, 'r' },
		{ "escalation", required_argument, NULL, 'e' },
		{ 0 },
	};
	uint64_t n;
	uint32_t mask;
	int o, r = 0;

	while (r >= 0 && (o = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (o) {
		case 'w':
			r = mask_of_view(optarg, &mask);
			if (r >= 0)
				c->views &= ~mask;
			break;
		case 'm':
			r = mask_of_memory(optarg, &c->memories);
			break;
		case 't':
			c->apart = false;
			break;
		case 'u':
			c->calibrated = false;
			break;
		case 'r':
			r = parse_u64(optarg, &n);
			if (r >= 0)
				c->refractory = (uint32_t)MIN(n, (uint64_t)UINT32_MAX);
			break;
		case 'e':
			r = parse_double(optarg, &c->escalation);
			break;
		default:
			r = -EINVAL;
		}
	return r < 0 || optind < argc ? -EINVAL : 0;
}

/* A line without its end; what doesn't fit is dropped. False at the end of the input. */
static bool read_row(FILE *from, char line[static LINE_SIZE])
{
	size_t n = 0;
	int c;

	while ((c = getc(from)) != EOF && c != '\n')
		if (n < LINE_SIZE - 1 && c != 0)
			line[n++] = (char)c;
	if (n > 0 && line[n - 1] == '\r')
		n--;
	line[n] = 0;
	return n > 0 || c != EOF;
}

/* As if in UTC: where the clock was is not said. What can't be read comes at the same time as what was before. */
static uint64_t time_of(const char *row, uint64_t before)
{
	struct tm tm = { 0 };
	time_t t;

	if (!strptime(row, "%Y-%m-%d%n%H:%M:%S", &tm) && !strptime(row, "%Y-%m-%dT%H:%M:%S", &tm))
		return before;
	t = timegm(&tm);
	return t < 0 ? before : (uint64_t)t * USEC_PER_SEC;
}

/* Ends the row behind its second field. Gives the value, NaN if there is none. */
static double cut_value(char *row)
{
	char *value = strchr(row, ',');
	double v;

	if (!value)
		return NAN;
	value++;
	value[strcspn(value, ",")] = 0;
	return parse_double(value + strspn(value, " "), &v) < 0 ? NAN : v;
}

static int score_rows(const struct univariate_config *c, struct univariate *u)
{
	char row[LINE_SIZE];
	uint64_t time_us = 0;

	if (!read_row(stdin, row)) /* the names of the columns */
		return 0;
	printf("timestamp,value,anomaly_score\n");
	while (read_row(stdin, row)) {
		double value = cut_value(row);

		if (!*row)
			continue;
		time_us = time_of(row, time_us);
		printf("%s%s,%.10g\n", row, strchr(row, ',') ? "" : ",",
		       univariate_score(univariate_add(u, c, time_us, value)));
	}
	return fflush(stdout) == 0 && !ferror(stdout) && !ferror(stdin) ? 0 : -EIO;
}

int main(int argc, char *argv[])
{
	struct univariate_config config = univariate_default;
	_cleanup_free_ struct univariate *u = NULL;

	if (argc == 2 && streq(argv[1], "--help"))
		return usage(stdout);
	if (parse_options(argc, argv, &config) < 0)
		return usage(stderr);
	u = calloc(1, sizeof(struct univariate));
	if (!u) {
		fprintf(stderr, "nab_detect: out of memory\n");
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (score_rows(&config, u) < 0) {
		fprintf(stderr, "nab_detect: cannot read or write\n");
		return 1;
	}
	return 0;
}
