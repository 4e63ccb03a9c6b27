/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "views.h"

/* In values. */
#define SLOW 1000
#define FAST 8
#define WINDOW VIEW_WINDOW_LENGTH
#define RESIDUAL_SMOOTH 12
#define HOUR_MEMORY 48 /* of an hour of the week: four weeks of such */

#define RESONANCE 0.05  /* of the range: what is nearer is the same shape */
#define SHAPE_STEP 0.05 /* by how much a shape moves to one like it */
/* Of the square of the usual deviation, added to a variance, so that its logarithm exists. */
#define VARIANCE_LITTLE 1e-4
#define ROUNDING 1e-12 /* of a value: differences that are not there */

const char *view_to_string(enum view v)
{
	static const char *const names[VIEW_N] = {
		[VIEW_FAST] = "fast",   [VIEW_DIFFERENCE] = "difference", [VIEW_WINDOW] = "window",
		[VIEW_BURST] = "burst", [VIEW_SHAPE] = "shape",           [VIEW_RANGE] = "range",
		[VIEW_SEASON] = "season",
	};

	return v < VIEW_N ? names[v] : NULL;
}

static void learn_mean(struct fading_mean *m, uint32_t memory, double x)
{
	if (m->n < memory)
		m->n++;
	m->mean += (x - m->mean) / m->n;
}

/* x - from, without what is but rounding: the mean of what is constant isn't exactly that. */
static double departure(double x, double from)
{
	double d = x - from;

	return fabs(d) <= ROUNDING * MAX(fabs(x), fabs(from)) ? 0 : d;
}

static double in_terms_of(double x, double usual)
{
	if (x == 0)
		return 0;
	return usual > 0 ? MAX(-VIEW_INCOMPARABLE, MIN(x / usual, VIEW_INCOMPARABLE)) : copysign(VIEW_INCOMPARABLE, x);
}

/* How far x lies outside, in terms of the range's width; then it is inside. */
static double stretch(struct value_range *r, double x)
{
	double beyond = 0, width = r->high - r->low;

	if (!r->known)
		*r = (struct value_range){ x, x, true };
	else if (x > r->high)
		beyond = x - r->high;
	else if (x < r->low)
		beyond = x - r->low;
	r->low = MIN(r->low, x);
	r->high = MAX(r->high, x);
	if (beyond == 0)
		return 0;
	/* What was constant so far has no width to compare with. */
	return width > 0 ? in_terms_of(beyond, width) : copysign(1, beyond);
}

/* The value that came so many before the newest. */
static double back(const struct views *w, unsigned ago)
{
	return w->ring[(w->n - 1 - ago) % VIEW_WINDOW_LENGTH];
}

static double mean_of_window(const struct views *w)
{
	double sum = 0;

	for (unsigned i = 0; i < WINDOW; i++)
		sum += back(w, i);
	return sum / WINDOW;
}

static double variance_of_window(const struct views *w, double mean)
{
	double sum = 0;

	for (unsigned i = 0; i < WINDOW; i++) {
		double d = departure(back(w, i), mean);

		sum += d * d;
	}
	return sum / WINDOW;
}

static void look_at_windows(struct views *w, double ret[static VIEW_N])
{
	double usual = w->deviation.mean, mean, variance;

	if (w->n <= WINDOW)
		return;
	mean = mean_of_window(w);
	ret[VIEW_WINDOW] = in_terms_of(departure(mean, w->slow.mean), usual);
	variance = variance_of_window(w, mean) + VARIANCE_LITTLE * usual * usual;
	if (variance > 0) {
		double l = log(variance);

		if (w->log_variance.n >= WINDOW)
			ret[VIEW_BURST] = l - w->log_variance.mean;
		learn_mean(&w->log_variance, SLOW, l);
	}
}

static double distance(const double a[static SHAPE_LENGTH], const double b[static SHAPE_LENGTH])
{
	double sum = 0;

	for (unsigned i = 0; i < SHAPE_LENGTH; i++)
		sum += fabs(a[i] - b[i]);
	return sum / SHAPE_LENGTH;
}

static struct shape *nearest_shape(struct views *w, const double v[static SHAPE_LENGTH], double *ret_distance)
{
	struct shape *best = NULL;
	double least = INFINITY;

	for (uint32_t i = 0; i < w->n_shapes; i++) {
		double d = distance(w->shapes[i].values, v);

		if (d < least) {
			least = d;
			best = &w->shapes[i];
		}
	}
	*ret_distance = least;
	return best;
}

static struct shape *rarest_shape(struct views *w)
{
	struct shape *rarest = &w->shapes[0];

	for (uint32_t i = 1; i < SHAPES; i++)
		if (w->shapes[i].count < rarest->count)
			rarest = &w->shapes[i];
	return rarest;
}

static double look_at_shape(struct views *w)
{
	double v[SHAPE_LENGTH], width = w->range.high - w->range.low, novelty;
	struct shape *s;

	if (w->n <= SHAPE_LENGTH)
		return 0;
	for (unsigned i = 0; i < SHAPE_LENGTH; i++)
		v[i] = back(w, i);
	s = nearest_shape(w, v, &novelty);
	if (s && novelty <= RESONANCE * width) {
		for (unsigned i = 0; i < SHAPE_LENGTH; i++)
			s->values[i] += SHAPE_STEP * (v[i] - s->values[i]);
		s->count++;
		return width > 0 ? novelty / width : 0;
	}
	novelty = s && width > 0 ? novelty / width : 0;
	s = w->n_shapes < SHAPES ? &w->shapes[w->n_shapes++] : rarest_shape(w);
	memcpy(s->values, v, sizeof(v));
	s->count++;
	return novelty;
}

size_t views_hour(uint64_t time_us)
{
	return time_us / (3600 * USEC_PER_SEC) % HOURS_OF_WEEK;
}

static double look_at_season(struct views *w, uint64_t time_us, double x)
{
	struct fading_mean *hour = &w->week[views_hour(time_us)];
	double seen = 0;

	if (hour->n > 0) {
		double r = departure(x, hour->mean);

		learn_mean(&w->residual_smooth, RESIDUAL_SMOOTH, r);
		seen = in_terms_of(w->residual_smooth.mean, w->residual_deviation.mean);
		learn_mean(&w->residual_deviation, SLOW, fabs(r));
	}
	learn_mean(hour, HOUR_MEMORY, x);
	return seen;
}

void views_add(struct views *w, uint64_t time_us, double value, double ret[static VIEW_N])
{
	double step = w->n > 0 ? value - back(w, 0) : 0;

	memset(ret, 0, VIEW_N * sizeof(*ret));
	w->ring[w->n++ % VIEW_WINDOW_LENGTH] = value;
	if (w->n > 1) {
		ret[VIEW_FAST] = in_terms_of(departure(value, w->fast.mean), w->deviation.mean);
		ret[VIEW_DIFFERENCE] = in_terms_of(step, w->step.mean);
	}
	look_at_windows(w, ret);
	ret[VIEW_SEASON] = look_at_season(w, time_us, value);
	ret[VIEW_RANGE] = stretch(&w->range, value);
	ret[VIEW_SHAPE] = look_at_shape(w);
	if (w->n > 1) {
		learn_mean(&w->deviation, SLOW, fabs(departure(value, w->slow.mean)));
		learn_mean(&w->step, SLOW, fabs(step));
	}
	learn_mean(&w->slow, SLOW, value);
	learn_mean(&w->fast, FAST, value);
}
