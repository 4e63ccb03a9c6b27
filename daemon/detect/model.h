/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the detector keeps. Nothing here is a pointer, so that the caller may move it, store it and bring
 * it back.
 *
 * One series keeps, by metric, the means of three windows and the highest mark that each has reached:
 *
 *     rate of this tick ──────────────▶ peak[TICK]     compared with what one tick of this series has ever shown
 *       └▶ short (8 ticks) ───────────▶ peak[SHORT]    the same for 8 ticks: bursts are no news, but lasting ones are
 *       │                  └──────────▶ low            what 8 ticks have sunk to
 *       └▶ long (64 ticks) ───────────▶ peak[LONG]     a shift of level
 *       └▶ mean (4096 ticks) ─────────▶ what is expected
 *
 * A value inside the marks is not news. Beyond them its nonconformity s is -ln of its tail probability, if
 * the mark is what the largest of n values should be, ln n. Two shapes are mixed by how well counting
 * alone explains the mark: a Poisson tail (few samples, light tail),
 *
 *     s = ln(n + 1) * D(value | mean) / D(mark | mean)            D: deviance of the samples behind the value
 *
 * and a Pareto tail (bursts, heavy tail), where rates have a quantum (what one sample is worth) added:
 *
 *     s = ln(n + 1) * ln(value / mean) / ln(mark / mean)
 *
 * Beside the marks there are sums, of on-CPU and blocked time, which need no window: sums.h.
 *
 * An excursion raises a mark slowly while it lasts, and to its full height when it is over: then it has
 * been seen, and is no news. So a series of bursts needs much to surprise, a steady one little, and a
 * young one can't. What all series share is taken off first. Series that appear are measured by their total after 4, 16 and 64 ticks,
 * those that fall silent by how long they were regular, each against all others'.
 *
 * Beside the series of stacks there is one of each unit, and one of the machine, of what they use in all:
 * the kernel counts that exactly, and they are so few that minutes of experience are enough to tell a unit
 * that takes the machine. They have a hundredth of the machine added, so that what is little to it is little
 * to them, and are judged by what they keep up, in every quarter of 4, 16 and 64 ticks; marks as above. Starting
 * takes any program a whole CPU, for a second or two.
 *
 *     s = ln(ticks + 1) * ln(value / mean) / max(ln(mark / mean), 1)
 *
 * So is what its threads do but wait: how many of them wait where they did not in the last minute, and are missed elsewhere (waits.c).
 *
 * A unit that always does something has a spread of its own, which takes the place of the 1, and what it falls to is
 * measured in the same way. One that comes and goes and then stays away:
 *
 *     s = ln(times + 1) * (silence - mean silence) / max(longest silence before - mean silence, what the clock's ticks leave open) */
#pragma once

#include "detect.h"
#include "growth.h"
#include "shares.h"
#include "streams.h"
#include "sums.h"

#define SCORED_METRICS METRIC_HITS /* on-cpu .. faults-major; hits say how many samples on-cpu rests on */

enum channel { CHANNEL_TICK, CHANNEL_SHORT, CHANNEL_LONG, CHANNEL_DOWN, CHANNEL_SUM, CHANNEL_BIRTH, CHANNEL_BIRTH_SHORT, CHANNEL_BIRTH_LONG, CHANNEL_N };
#define CHANNELS_UP 3
#define BIRTH_CHANNELS (CHANNEL_N - CHANNEL_BIRTH)

/* One family of tests, calibrated by itself: a channel of a metric, or the silences of whole series. */
#define FAMILY_VANISHED (SCORED_METRICS * CHANNEL_N)
/* The totals of units, by metric and by how long they keep it up: of units that do something now and then, of such
 * as always do something, and of these what falls; and their silences. */
enum total_kind { TOTAL_RISES, TOTAL_STEADY_RISES, TOTAL_STEADY_FALLS, TOTAL_KIND_N };
#define FAMILY_TOTALS (FAMILY_VANISHED + 1)
#define FAMILY_UNIT_SILENT (FAMILY_TOTALS + TOTAL_KIND_N * SCORED_METRICS * CHANNELS_UP)
/* Units whose memory grows and is not given back. */
#define FAMILY_GROWTH (FAMILY_UNIT_SILENT + 1)
/* What units' samples are of: on-CPU time, page faults. Waits that move from one stack to another are waits.c's. */
enum shared { SHARED_ON_CPU, SHARED_FAULTS, SHARED_N };
#define FAMILY_SHARES (FAMILY_GROWTH + 1)
/* The machine's totals by hour and shape. */
#define FAMILY_STREAM (FAMILY_SHARES + SHARED_N * SHARE_CHANGE_N)
#define FAMILIES (FAMILY_STREAM + 1)

static inline unsigned family_of_share(enum shared of, enum share_change change)
{
	return FAMILY_SHARES + of * SHARE_CHANGE_N + change;
}

static inline unsigned family_of_total(enum total_kind kind, unsigned metric, unsigned channel)
{
	return FAMILY_TOTALS + (kind * SCORED_METRICS + metric) * CHANNELS_UP + channel;
}

static inline bool family_is_total(unsigned family)
{
	return family >= FAMILY_TOTALS;
}

/* What a unit's threads have moved to wait elsewhere: in the place of the rises of blocked, which are not asked for. */
#define MOVED_CHANNELS 2 /* 4 and 16 ticks: later that is where they wait */
static inline bool family_is_moved(unsigned family)
{
	return family >= family_of_total(TOTAL_RISES, METRIC_BLOCKED, 0) && family < family_of_total(TOTAL_RISES, METRIC_BLOCKED, MOVED_CHANNELS);
}

static inline bool family_is_silence(unsigned family)
{
	return family == FAMILY_VANISHED || family == FAMILY_UNIT_SILENT;
}

/* Not of silences. */
static inline enum channel family_channel(unsigned family)
{
	if (!family_is_total(family))
		return family % CHANNEL_N;
	if (family >= family_of_total(TOTAL_STEADY_FALLS, 0, 0))
		return CHANNEL_DOWN;
	return (family - FAMILY_TOTALS) % CHANNELS_UP;
}

/* Of a series: sums.h. */
static inline bool family_is_sum(unsigned family)
{
	return family < FAMILY_VANISHED && family % CHANNEL_N == CHANNEL_SUM;
}

static inline bool family_is_birth_or_death(unsigned family)
{
	return family_is_silence(family) || family_channel(family) >= CHANNEL_BIRTH;
}

struct metric_state {
	float short_mean, long_mean, mean; /* unit per second */
	float peak[CHANNELS_UP];
	float low;
	uint16_t pending[CHANNELS_UP],
		pending_low; /* how far the excursion has gone that is on; upper half of a float; 0 = none is */
	uint16_t active;     /* ticks that were not zero, at most UINT16_MAX */
	uint16_t
		learnt; /* three bits a channel: the highest level of s in this excursion that calibration has learnt */
};

struct series_state {
	uint32_t tag;        /* layout; 0 = new */
	uint32_t born, seen; /* global tick numbers; seen: last that was not silent */
	uint32_t excursion;  /* tick number at which the values left the marks; 0 = they are inside */
	uint32_t told;       /* tick number of the last alarm; 0 = none */
	float told_level;    /* fades: known trouble of the same size is not news */
	uint32_t gap_max;    /* longest silence, in ticks */
	uint8_t told_metric;
	uint8_t birth_stage;   /* next birth milestone */
	uint8_t silence_stage; /* next milestone of this silence */
	uint8_t held;          /* the last visit left a wait that may go on; of a total: what was told has not been back yet */
	struct metric_state metrics[SCORED_METRICS];
};

/* On-CPU and blocked time: what is counted, and what is not. */
enum summed { SUM_ON_CPU, SUM_BLOCKED, SUM_N };

struct stack_series {
	struct series_state state;
	struct series_sum sums[SUM_N];
};
_Static_assert(sizeof(struct stack_series) == 256, "the store keeps one for each series");

/* Bins of nonconformity: eight an octave from 1/2 to 2^15. */
#define BINS 128

struct family_state {
	double n[2]; /* tests, gate closed and open; of totals, which the gate does not change, closed only */
	float bins[2][BINS];
	double per_tick[2]; /* tests in a tick; the gate as above */
	uint32_t ticks[2];  /* since the first of them, that this is the mean of */
	double told;     /* alarms in the last day, fading */
	double recent;   /* what calibration has learnt of late, fading */
};

/* What series that are judged by one another have in common. */
struct population {
	uint32_t quantum_n[SCORED_METRICS][2];
	float quantum[SCORED_METRICS]
		     [2]; /* ln of what one sample is worth, unit per second, gate closed and open */
	float floor[SCORED_METRICS];             /* the same, slow, both gate states */
	float window_quantum[SCORED_METRICS][2]; /* ln, mean over the short and the long window */
	float common[SCORED_METRICS];            /* median ln(value / mean) over the series */
	float common_base[SCORED_METRICS][2];
	float common_window[SCORED_METRICS]
			   [2]; /* mean of exp(common - base) - 1 over the short and the long window */
};

/* What was kept up, and down to, for a window: the least, and the greatest, of its quarters' means. */
#define QUARTERS 4
struct total_window {
	float sum; /* of the quarter that is not over */
	float quarters[QUARTERS];
	float low;        /* mark of what was kept down to */
	uint32_t outside; /* tick since which what was kept up or down to is beyond the marks; 0: it is not */
};

struct total_series {
	struct series_state state; /* metrics' low: in how large a part of the ticks there was something */
	uint32_t times;            /* how often it did something after it had done nothing */
	float gap_mean;            /* of the silences that this ended, ticks */
	struct total_window windows[SCORED_METRICS][CHANNELS_UP];
	struct metric_state moved; /* waits: mean and marks */
	struct total_window moved_windows[MOVED_CHANNELS];
};

/* What a unit uses in all. The one used longest ago makes room for a new one. */
#define TOTALS_MAX 256
struct total_state {
	uint64_t key; /* 0 = free */
	struct total_series series;
	struct growth growth; /* of its memory */
};

/* How long ticks are from one on: silences are counted in them. */
#define TICK_LENGTHS 4
struct tick_length {
	uint32_t from; /* tick */
	float seconds; /* 0: there is none */
};

struct global_state {
	uint64_t tag;
	uint32_t tick; /* counts from 1 */
	struct tick_length lengths[TICK_LENGTHS]; /* newest first */
	uint32_t gate_ticks[2];
	uint32_t total_told; /* tick number of the last alarm of a total; 0 = none */
	float blanks;        /* in how large a part of the ticks all units begin to do nothing */
	float total_rise;    /* how much more that was than usual, in hundredths of the machine */
	uint64_t scored, alarms, suppressed;
	double tick_s;          /* typical length */
	double open_share;      /* of the last hour's ticks, those with the gate open */
	double recent_alarms;   /* fading count */
	double live, live_slow; /* series that were not silent, short and long mean */
	struct population stacks, totals;
	struct family_state families[FAMILIES];
	struct total_series machine; /* the sum of all units */
	struct total_state units[TOTALS_MAX];
	struct unit_shares shares[SHARES_UNITS];
	struct streams streams;
};

/* What a tick's series are judged by; made once a tick from the global state. */
struct tick_context {
	uint32_t tick;
	bool gate_open;
	float seconds;
	float trust;       /* 0..1: what loss leaves of the score of what falls or appears; what rises would be more without it */
	float activity;    /* 0..1: how many series are active, compared with the usual */
	float common_step; /* how far one series may move the common mode */
	float quantum[SCORED_METRICS], floor[SCORED_METRICS], window_quantum[SCORED_METRICS][2];
	const struct tick_length *lengths;
	bool other_length;       /* ticks are of another length than silences are counted in; if they stay so, they will be */
	bool blank;              /* nothing was measured of units */
	uint64_t most[METRIC_N]; /* more can't be, in this tick */
};

/* A test whose value was outside the marks. */
struct finding {
	uint8_t family;
	enum metric metric;
	float s;
	float observed, expected;
	uint32_t since; /* tick; 0: since the series' excursion began */
	bool explained; /* by what was told of another series: to be learnt, not to be told */
};

struct findings {
	size_t n;
	struct finding all[FAMILIES];
	uint32_t tests[FAMILIES]; /* of this tick, over all series; cleared by who owns it */
};

/* Gives the values, or, in the room for them, those that there would be if what can't be were as usual. The state: one that was checked, or new. */
const uint64_t *model_possible(const struct tick_context *c, const struct series_state *s, const uint64_t values[static METRIC_N],
			       uint64_t room[static METRIC_N]);
/* One visit: scores the values against what was, then learns them. Gives false for a series that is
 * silent. */
bool model_visit(struct population *p, const struct tick_context *c, struct stack_series *t,
		 const uint64_t values[static METRIC_N], uint32_t silent_ticks, struct findings *f);
/* The same for a total, in every tick. */
void model_visit_total(const struct population *p, const struct tick_context *c, struct total_series *t,
		       const uint64_t values[static METRIC_N], struct findings *f);
/* Whether it can be of a detector that is at this tick, but for what a visit finds out. */
bool model_total_valid(const struct total_series *t, uint32_t tick);
/* The common mode that is usual with the gate so, as ln. */
float model_common_base(const struct population *p, unsigned m, bool gate_open);
/* Waits of a unit that have moved, ns a second; in every tick, after model_visit_total(). */
void model_visit_moved(const struct tick_context *c, struct total_series *t, float moved, struct findings *f);
/* How much more a series is blocked than in the last minute, ns a second; negative: less. Asked before it is visited. */
float model_wait_rise(const struct tick_context *c, const struct series_state *s, uint64_t blocked, uint32_t silent_ticks);
/* By how much that is beyond what any tick of it has shown, if it has been watched for long enough to say; else all. Not less than nothing. */
float model_wait_beyond(const struct tick_context *c, const struct series_state *s, uint64_t blocked);
/* Ticks that a series has been known for; 0: it is new. */
uint32_t model_age(const struct tick_context *c, const struct series_state *s);
/* ln of a total in proportion to its mean, of a state that was visited before. */
float model_total_rise(const struct tick_context *c, const struct series_state *s, unsigned m, uint64_t value);
/* What a total used of the CPUs in this tick, ns a second. */
float model_on_cpu(const struct tick_context *c, const struct total_series *t);
/* A unit that is known well enough to be measured by itself: so much of what is little to the machine is little to it. */
#define MODEL_LITTLE_TO_UNIT 0.3f
/* Whether it is of something that is over: to be learnt, not to be told. */
static inline bool model_is_over(const struct finding *f)
{
	return f->family == FAMILY_UNIT_SILENT && f->observed > 0;
}
/* Whether calibration is to learn of a finding; remembers that it did. */
bool model_new_height(struct series_state *s, const struct finding *f);
