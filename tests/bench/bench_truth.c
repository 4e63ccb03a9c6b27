/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bench_truth [MACHINES [HOURS [SEED]]]: the table of docs/detection-truth.md. Troubles of known truth befall copies of that
 * many simulated machines, of that seed and the next ones, after that many hours of their ordinary life, at the default budget. */
#include "truth.h"

static void print(const struct truth_run *run)
{
	unsigned begun = 0, told = 0, mine = 0, others = 0;

	printf("| trouble | told | recall | visible after, ticks | told after | within 5 ticks of that (leak: 300) | alarms a trouble | others' |\n"
	       "|---|---|---|---|---|---|---|---|\n");
	for (enum trouble t = 0; t < TROUBLE_N; t++) {
		const struct truth *r = &run->troubles[t];

		printf("| %s | %u of %u | %.2f | %u | %u | %.2f | %.1f | %u |\n", trouble_to_string(t), r->told, r->begun,
		       (double)r->told / r->begun, r->visible_median, r->delay_median, (double)r->on_time / r->begun,
		       (double)r->alarms / r->begun, r->others);
		begun += r->begun;
		told += r->told;
		mine += r->alarms;
		others += r->others;
	}
	printf("\n%u of %u deploys before them told.", run->deploy_alarms, run->deploys);
	printf("\nRecall %.3f. Precision %.3f: of %u alarms in the troubles' time %u are not about them. Before them: %u alarms "
	       "in %.1f days.\n",
	       (double)told / begun, mine + others ? (double)mine / (mine + others) : 1, mine + others, others,
	       run->quiet_alarms, run->quiet_days);
}

int main(int argc, char *argv[])
{
	uint64_t machines = 48, hours = 4, seed = 1;
	struct truth_run run;
	int r;

	if (argc > 4 || (argc > 1 && (parse_u64(argv[1], &machines) < 0 || machines == 0)) ||
	    (argc > 2 && parse_u64(argv[2], &hours) < 0) || (argc > 3 && parse_u64(argv[3], &seed) < 0)) {
		fprintf(stderr, "usage: %s [MACHINES [HOURS [SEED]]]\n", argv[0]);
		return 2;
	}
	r = truth_run(&run, seed, (unsigned)MIN(machines, (uint64_t)TRUTH_MACHINES_MAX), (unsigned)MIN(hours, 240u) * 3600, 1);
	if (r < 0) {
		fprintf(stderr, "%s\n", strerror(-r));
		return 1;
	}
	print(&run);
	return 0;
}
