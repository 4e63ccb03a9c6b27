/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "heat.h"

struct step {
	uint64_t end_us;
	uint32_t length_s;
	double value;
};

struct steps {
	struct step *items;
	size_t n;
};

static int read_steps(struct steps *s, const struct json *points, enum metric m, struct fields *f)
{
	s->n = json_length(points);
	if (s->n == 0)
		return -ENODATA;
	s->items = calloc(s->n, sizeof(*s->items));
	if (!s->items)
		return -ENOMEM;
	for (size_t i = 0; i < s->n; i++) {
		const struct json *point = json_at(points, i);
		struct step *step = &s->items[i];

		step->end_us = field_int(f, point, "time_us");
		step->length_s = field_int(f, point, "step_s");
		step->value = metric_magnitude(m, field_value(field_object(f, point, "values"), m));
		if (step->length_s == 0 || (i > 0 && step->end_us <= step[-1].end_us))
			f->bad = "points";
	}
	return f->bad ? -EBADMSG : 0;
}

static uint64_t begin_of(const struct step *s)
{
	uint64_t length_us = s->length_s * USEC_PER_SEC;

	return s->end_us - MIN(s->end_us, length_us);
}

/* Whether cells of this length show most of the time as finely as it is kept. */
static bool is_long_enough(const struct steps *s, uint32_t cell_s)
{
	uint64_t all_s = 0, fits_s = 0;

	for (size_t i = 0; i < s->n; i++) {
		all_s += s->items[i].length_s;
		fits_s += s->items[i].length_s <= cell_s ? s->items[i].length_s : 0;
	}
	return 2 * fits_s >= all_s;
}

/* Columns of whole minutes or of what divides them, as short as they may be to fit. */
static void choose_shape(struct heat *h, const struct steps *s, size_t columns_max)
{
	static const uint32_t cells[] = { 1, 10, 60, 600, 3600, 86400 };
	static const size_t rows[] = { 10, 15, 20, 30, 60 };
	uint64_t span_us = s->items[s->n - 1].end_us - begin_of(&s->items[0]);

	for (size_t i = 0; i < ELEMENTS_OF(cells); i++)
		for (size_t k = 0; k < ELEMENTS_OF(rows) && is_long_enough(s, cells[i]); k++) {
			h->cell_us = cells[i] * USEC_PER_SEC;
			h->rows = rows[k];
			/* Neither the first nor the last need begin where a column does. */
			h->columns = span_us / heat_column_span_us(h) + 2;
			if (h->columns <= columns_max)
				return;
		}
	/* Longer than anything is kept: its end is not shown. */
	h->cell_us = cells[ELEMENTS_OF(cells) - 1] * USEC_PER_SEC;
	h->rows = rows[ELEMENTS_OF(rows) - 1];
	h->columns = columns_max;
}

/* Columns begin at whole multiples of their length, but for the part of a second by which stackd's steps are off. */
static void place(struct heat *h, const struct steps *s)
{
	uint64_t phase_us = s->items[s->n - 1].end_us % USEC_PER_SEC, first_us = begin_of(&s->items[0]);
	uint64_t span_us = heat_column_span_us(h);

	first_us -= MIN(first_us, phase_us);
	h->begin_us = first_us / span_us * span_us + phase_us;
	h->columns = MIN(h->columns, (s->items[s->n - 1].end_us - MIN(s->items[s->n - 1].end_us, h->begin_us) + span_us - 1) / span_us);
	h->columns = MAX(h->columns, (size_t)1);
}

static void add(struct heat *h, double at_us, double value, double length_s)
{
	double i = (at_us - h->begin_us) / h->cell_us;
	struct heat_cell *cell;

	if (!(i >= 0 && i < h->columns * h->rows))
		return;
	cell = &h->cells[(size_t)i];
	cell->sum += value;
	cell->covered_s += length_s;
}

/* To the cell that its middle is in. One that is longer than a cell is spread evenly: no more is known of it. */
static void add_step(struct heat *h, const struct step *s)
{
	size_t parts = MAX(s->length_s * USEC_PER_SEC / h->cell_us, (uint64_t)1);
	double part_s = (double)s->length_s / parts;

	for (size_t i = 0; i < parts; i++)
		add(h, s->end_us - (i + 0.5) * part_s * USEC_PER_SEC, s->value / parts, part_s);
}

static double column_sum(const struct heat *h, size_t column)
{
	double sum = 0;

	for (size_t r = 0; r < h->rows; r++)
		sum += h->cells[column * h->rows + r].sum;
	return sum;
}

static void find_most(struct heat *h)
{
	for (size_t c = 0; c < h->columns; c++) {
		if (column_sum(h, c) > column_sum(h, h->hottest))
			h->hottest = c;
		for (size_t r = 0; r < h->rows; r++)
			h->most = MAX(h->most, heat_rate(h, c, r));
	}
}

int heat_new(struct heat **ret, const struct json *points, enum metric m, size_t columns_max, struct fields *f)
{
	_cleanup_(heat_freep) struct heat *h = calloc(1, sizeof(*h));
	struct steps steps = {};
	int r;

	if (!h)
		return -ENOMEM;
	h->metric = m;
	r = read_steps(&steps, points, m, f);
	if (r >= 0) {
		choose_shape(h, &steps, columns_max);
		place(h, &steps);
		h->cells = calloc(h->columns * h->rows, sizeof(*h->cells));
		r = h->cells ? 0 : -ENOMEM;
	}
	for (size_t i = 0; r >= 0 && i < steps.n; i++)
		add_step(h, &steps.items[i]);
	free(steps.items);
	if (r < 0)
		return r;
	h->since_us = h->begin_us;
	h->until_us = heat_column_us(h, h->columns);
	find_most(h);
	*ret = TAKE_PTR(h);
	return 0;
}

/* ---- within seconds ---- */

/* Which cells are kept, at least by half: a sample in a sliver would be more than there ever is. */
static void cover(struct heat *h)
{
	for (size_t i = 0; i < h->columns * h->rows; i++) {
		uint64_t begin = h->begin_us + i * h->cell_us, from = MAX(begin, h->since_us), to = MIN(begin + h->cell_us, h->until_us);

		h->cells[i].covered_s = to > from && 2 * (to - from) >= h->cell_us ? (double)h->cell_us / USEC_PER_SEC : 0;
	}
}

static void take_samples(struct heat *h, const struct json *steps, struct fields *f)
{
	const char *key = h->metric == METRIC_HITS ? "hits" : "on_cpu";

	for (size_t i = 0; i < json_length(steps); i++) {
		const struct json *step = json_at(steps, i);

		add(h, field_int(f, step, "time_us") + h->cell_us / 2.0, field_int(f, step, key), 0);
	}
}

int heat_new_within(struct heat **ret, const struct json *reply, enum metric m, size_t columns_max, struct fields *f)
{
	_cleanup_(heat_freep) struct heat *h = calloc(1, sizeof(*h));
	const struct json *steps = field_array(f, reply, "steps");
	uint64_t end_us;

	if (!h)
		return -ENOMEM;
	h->metric = m;
	h->within = true;
	h->cell_us = field_int(f, reply, "step_us");
	json_get_u64(reply, "since_us", &h->since_us);
	json_get_u64(reply, "until_us", &h->until_us);
	if (h->cell_us == 0 || USEC_PER_SEC % h->cell_us != 0)
		f->bad = "step_us";
	if (f->bad)
		return -EBADMSG;
	if (h->since_us >= h->until_us)
		return -ENODATA;
	h->rows = USEC_PER_SEC / h->cell_us;
	h->begin_us = h->since_us / USEC_PER_SEC * USEC_PER_SEC;
	end_us = (h->until_us + USEC_PER_SEC - 1) / USEC_PER_SEC * USEC_PER_SEC;
	h->columns = MIN((end_us - h->begin_us) / USEC_PER_SEC, columns_max);
	h->begin_us = end_us - h->columns * USEC_PER_SEC;
	h->cells = calloc(h->columns * h->rows, sizeof(*h->cells));
	if (!h->cells)
		return -ENOMEM;
	cover(h);
	take_samples(h, steps, f);
	if (f->bad)
		return -EBADMSG;
	find_most(h);
	*ret = TAKE_PTR(h);
	return 0;
}

struct heat *heat_free(struct heat *h)
{
	if (h)
		free(h->cells);
	free(h);
	return NULL;
}

double heat_rate(const struct heat *h, size_t column, size_t row)
{
	const struct heat_cell *cell = &h->cells[column * h->rows + row];

	return cell->covered_s > 0 ? cell->sum / cell->covered_s : -1;
}

double heat_window_rate(const struct heat *h, uint64_t since_us, uint64_t until_us)
{
	double sum = 0, covered_s = 0;

	for (size_t i = (since_us - h->begin_us) / h->cell_us; i < h->columns * h->rows && h->begin_us + i * h->cell_us < until_us; i++) {
		sum += h->cells[i].sum;
		covered_s += h->cells[i].covered_s;
	}
	return covered_s > 0 ? sum / covered_s : -1;
}

uint64_t heat_column_span_us(const struct heat *h)
{
	return h->cell_us * h->rows;
}

uint64_t heat_column_us(const struct heat *h, size_t column)
{
	return h->begin_us + column * heat_column_span_us(h);
}

uint64_t heat_margin_us(const struct heat *h)
{
	return h->within ? 0 : h->cell_us / 10;
}
