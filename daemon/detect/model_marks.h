/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What series of stacks (model.c) and totals (model_totals.c) have in common; for these only. */
#pragma once

#include "model.h"

#define SHORT_TICKS 8.0f
#define LONG_TICKS 64.0f
#define MEAN_TICKS 4096.0f

/* Marks fall back to the mean in a day of visits: the daily peak is known the next day. */
#define FADE_TICKS 86400.0f
#define YOUNG_GROWTH 4.0f /* divided by the number of active ticks */

/* ln(mark / mean) is taken for at least this: marks of a constant series are where the next jitter is. */
#define SPREAD_MIN 0.15f
#define SPREAD_YOUNG 1.5f
#define SPREAD_YOUNG_TICKS 64.0f

/* Below this a score is never told, and what samples can carry need not be asked. */
#define S_PLAIN 6.0f
#define SILENCE_FADE_TICKS 3600u
#define SILENCE_MOST (1u << 30) /* ticks */
#define ACTIVE_MIN 32 /* active ticks before a fall means anything */

/* How much a mark may grow in a tick. */
extern const float model_growth[CHANNELS_UP];

/* Some waits are seen with the gate open only: they are not many times as long then. */
bool model_is_summed(unsigned m, const struct tick_context *c);
/* Since the series was seen last. */
void model_prepare_sums(struct stack_series *t, uint32_t tick);
/* x: of this tick, before it is learnt; quantum: what a sample stands for; silent: ticks before it. */
void model_score_sum(const struct population *p, const struct tick_context *c, struct stack_series *series, unsigned m, float x, float quantum,
		     uint32_t silent, struct findings *f, bool *outside);
void model_add_finding(struct findings *f, unsigned family, enum metric metric, float s, float observed, float expected);
/* The part of a rise that all series share, as ln. */
float model_common_rise(const struct population *p, const struct tick_context *c, unsigned m, unsigned channel);
/* A value beyond its mark raises it slowly, and to its height when that is over; rate: how much in a tick. */
void model_learn_mark(float *mark, uint16_t *pending, float value, float mean, float floor, float rate);
/* The longest silence that is remembered falls back in a day, too: to what is usual. */
void model_fade_silence(struct series_state *s, uint32_t tick, float usual);
/* Silences are counted in ticks: gives how many of these were one of those in which the series was seen last, and has its silence counted from here if
 * that is another length. */
float model_ticks_then(const struct tick_context *c, struct series_state *s);
/* Makes a new state of what can't be one. Gives false then. */
bool model_check_state(uint32_t tick, struct series_state *s);
/* outside: any value is beyond its marks. */
void model_end_visit(const struct tick_context *c, struct series_state *s, bool outside);
