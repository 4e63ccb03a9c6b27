/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>

#include "workload.h"

__thread uint64_t workload_sink = 1;

static uint64_t started_ns, started_us;

void fail(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(1);
}

void pin_to_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		fail("sched_setaffinity");
}

void workload_parse(int argc, char **argv, struct workload_options *options)
{
	static const struct option longopts[] = {
		{"seconds", required_argument, NULL, 's'}, {"threads", required_argument, NULL, 't'},
		{"n", required_argument, NULL, 'n'},       {"mode", required_argument, NULL, 'm'},
		{"first-uid", required_argument, NULL, 'u'}, {"second-uid", required_argument, NULL, 'v'},
		{"cpu", required_argument, NULL, 'c'},     {"hold", no_argument, NULL, 'h'},
		{"linger", no_argument, NULL, 'l'},        {0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longopts, NULL)) >= 0) {
		switch (c) {
		case 's':
			options->seconds = atof(optarg);
			break;
		case 't':
			options->threads = atoi(optarg);
			break;
		case 'n':
			options->n = strtoull(optarg, NULL, 10);
			break;
		case 'm':
			options->mode = optarg;
			break;
		case 'u':
			options->first_uid = atoi(optarg);
			break;
		case 'v':
			options->second_uid = atoi(optarg);
			break;
		case 'c':
			options->cpu = atoi(optarg);
			break;
		case 'h':
			options->hold = true;
			break;
		case 'l':
			options->linger = true;
			break;
		default:
			fprintf(stderr, "usage: %s [--seconds S] [--threads N] [--n N] [--mode MODE]\n"
			        "       [--cpu N] [--first-uid UID] [--second-uid UID] [--hold] [--linger]\n", argv[0]);
			exit(2);
		}
	}
}

void workload_ready(const struct workload_options *options)
{
	int c;

	printf("{\"ready\": true, \"pid\": %d}\n", getpid());
	fflush(stdout);
	if (options->hold)
		while ((c = getchar()) != '\n' && c != EOF)
			;
	started_us = realtime_us();
	started_ns = wall_ns();
}

uint64_t workload_started_ns(void)
{
	return started_ns;
}

void workload_result(const struct workload_options *options, const char *format, ...)
{
	struct rusage usage;
	uint64_t wall = wall_ns() - started_ns;
	va_list ap;

	getrusage(RUSAGE_SELF, &usage);
	printf("{\"pid\": %d, \"started_us\": %llu, \"ended_us\": %llu, \"wall_ns\": %llu, "
	       "\"process_cpu_ns\": %llu, \"faults_minor\": %ld, \"faults_major\": %ld, ", getpid(),
	       (unsigned long long)started_us, (unsigned long long)realtime_us(), (unsigned long long)wall,
	       (unsigned long long)clock_ns(CLOCK_PROCESS_CPUTIME_ID), usage.ru_minflt, usage.ru_majflt);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("}\n");
	fflush(stdout);
	if (options->linger)
		while (getchar() != EOF)
			;
}
