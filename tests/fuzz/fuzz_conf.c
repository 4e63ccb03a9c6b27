/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whatever the configuration file holds, it is taken or refused with a reason, and what is taken keeps to the ranges. */
#include "parser.h"
#include "table.h"

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void check_taken(const struct conf *c)
{
	check(c->open_above >= 0.1 && c->open_above <= 1000 && c->close_below > 0 && c->close_below <= c->open_above);
	check(c->close_after_us <= 3600 * USEC_PER_SEC && c->baseline_hz <= 100 && c->sample_hz >= 1 && c->sample_hz <= 1000);
	check(c->store_size >= 8 << 20 && c->n_pressures <= CONF_PRESSURE_MAX);
	for (size_t i = 0; i < c->n_pressures; i++)
		check(c->pressures[i].stall_us > 0 && c->pressures[i].stall_us <= c->pressures[i].window_us);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf_parser p;
	int r;

	conf_parser_init(&p);
	r = conf_parse(&p, "fuzz.conf", (const char *) data, size);
	if (r >= 0)
		r = conf_finish(&p);
	if (r >= 0)
		check_taken(&p.conf);
	else {
		check(p.error && strncmp(p.error, "fuzz.conf:", 10) == 0);
		for (const char *s = p.error; *s; s++)
			check(*s >= 0x20 && *s < 0x7f);
	}
	conf_parser_done(&p);
	return 0;
}
