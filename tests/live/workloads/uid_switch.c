/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Computes as one user, then becomes another for good and computes on: --first-uid and --second-uid. */
#include "workload.h"

static struct workload_options options = {.seconds = 6, .first_uid = 0, .second_uid = 65534};

NAMED uint64_t spin_as_first(uint64_t ns)
{
	return SPIN_CPU(ns);
}

NAMED uint64_t spin_as_second(uint64_t ns)
{
	return SPIN_CPU(ns);
}

static void become(int uid)
{
	if (setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) < 0)
		fail("setresuid");
}

int main(int argc, char **argv)
{
	uint64_t first, second, switched_us;

	workload_parse(argc, argv, &options);
	if (options.first_uid != 0)
		become(options.first_uid);
	workload_ready(&options);
	first = spin_as_first((uint64_t)(options.seconds / 2 * (double)SEC));
	if ((int)getuid() != options.second_uid)
		become(options.second_uid);
	switched_us = realtime_us();
	second = spin_as_second((uint64_t)(options.seconds / 2 * (double)SEC));
	workload_result(&options, "\"switched_us\": %llu, "
	                "\"on_cpu\": {\"spin_as_first\": %llu, \"spin_as_second\": %llu}",
	                (unsigned long long)switched_us, (unsigned long long)first, (unsigned long long)second);
	return 0;
}
