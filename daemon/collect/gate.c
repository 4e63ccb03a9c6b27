/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "gate.h"

void gate_configure(struct gate *g, const struct collect_config *config)
{
	g->open_above = config->open_above;
	g->close_below = config->close_below;
	g->close_after_us = config->close_after_us;
	g->cooldown_us = config->cooldown_us;
}

void gate_init(struct gate *g, const struct collect_config *config)
{
	*g = (struct gate){ .mode = GATE_AUTO, .until_us = USEC_INFINITY };
	gate_configure(g, config);
}

static bool change(struct gate *g, struct gate_time now, bool open, double load, const char *cause)
{
	if (g->open == open)
		return false;
	g->open = open;
	g->low_since_us = 0;
	if (g->n_changes == GATE_CHANGES_MAX) {
		memmove(g->changes, g->changes + 1, sizeof g->changes - sizeof g->changes[0]);
		g->n_changes--;
	}
	g->changes[g->n_changes++] = (struct collect_gate_change){
		.time_us = now.real_us, .open = open, .load = load, .cause = cause,
	};
	return true;
}

static bool cooling(const struct gate *g, struct gate_time now)
{
	return g->closed_us && now.mono_us < g->closed_us + g->cooldown_us;
}

bool gate_load_crossed(struct gate *g, struct gate_time now, double load)
{
	if (g->mode != GATE_AUTO || load <= g->open_above || cooling(g, now))
		return false;
	g->low_since_us = 0;
	return change(g, now, true, load, "load");
}

bool gate_pressed(struct gate *g, struct gate_time now, double load, const char *cause)
{
	if (g->mode != GATE_AUTO || cooling(g, now))
		return false;
	g->low_since_us = 0;
	return change(g, now, true, load, cause);
}

static bool close_when_low(struct gate *g, struct gate_time now, double load)
{
	if (load >= g->close_below) {
		g->low_since_us = 0;
		return false;
	}
	if (!g->low_since_us)
		g->low_since_us = now.mono_us;
	if (now.mono_us - g->low_since_us < g->close_after_us)
		return false;
	g->closed_us = now.mono_us;
	return change(g, now, false, load, "load-low");
}

/* Back to auto: the load decides afresh, without hysteresis. */
static bool override_ends(struct gate *g, struct gate_time now, double load, const char *cause)
{
	g->mode = GATE_AUTO;
	g->until_us = USEC_INFINITY;
	g->closed_us = 0;
	return change(g, now, load > g->open_above, load, cause);
}

bool gate_tick(struct gate *g, struct gate_time now, double load)
{
	if (g->mode != GATE_AUTO)
		return now.real_us >= g->until_us && override_ends(g, now, load, "manual-expired");
	if (g->open)
		return close_when_low(g, now, load);
	return gate_load_crossed(g, now, load);
}

bool gate_set(struct gate *g, struct gate_time now, double load, enum collect_gate_mode mode, uint64_t until_us)
{
	if (mode == GATE_AUTO)
		return g->mode != GATE_AUTO && override_ends(g, now, load, "manual");
	g->mode = mode;
	g->until_us = until_us;
	return change(g, now, mode == GATE_FORCED_OPEN, load, "manual");
}

bool gate_wants_crossing(const struct gate *g, uint64_t *ret_from_us)
{
	if (g->open || g->mode != GATE_AUTO)
		return false;
	*ret_from_us = g->closed_us ? g->closed_us + g->cooldown_us : 0;
	return true;
}

bool gate_take_change(struct gate *g, struct collect_gate_change *ret)
{
	if (!g->n_changes)
		return false;
	*ret = g->changes[0];
	memmove(g->changes, g->changes + 1, --g->n_changes * sizeof g->changes[0]);
	return true;
}
