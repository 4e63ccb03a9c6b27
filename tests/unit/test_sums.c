/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What users would notice of the sums of a series: that several times as much is told in a few ticks, and noise and bursts are not. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sums.h"

#define ENOUGH 21.0f /* as much as 3,000 series need at an alarm a day */
#define DAY 86400

static uint64_t rng;

static double uniform(void)
{
	rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
	return ((double)(rng >> 33) + 0.5) / 2147483648.0;
}

static double exponential(void)
{
	return -log(uniform());
}

/* Of a whole shape. */
static double gamma_noise(unsigned shape)
{
	double sum = 0;

	for (unsigned i = 0; i < shape; i++)
		sum += exponential();
	return sum / shape;
}

static unsigned poisson(double mean)
{
	unsigned n = 0;

	for (double at = exponential(); at < mean; at += exponential())
		n++;
	return n;
}

static struct sum_tick counted(double mean, double value)
{
	return (struct sum_tick){ .value = (float)value, .mean = (float)mean, .usual = 1, .mean_ticks = 4096, .counted = true };
}

static struct sum_tick waited(double value)
{
	return (struct sum_tick){ .value = (float)value, .mean = 1, .usual = 1, .mean_ticks = 4096 };
}

/* Gives the highest s. */
static float live(struct series_sum *u, unsigned ticks, double samples, unsigned shape)
{
	float most = 0;

	for (unsigned i = 0; i < ticks; i++) {
		double noise = gamma_noise(shape);
		struct sum_tick t = samples > 0 ? counted(samples, poisson(samples * noise)) : waited(noise);
		float s = sum_move(u, &t);

		most = s > most ? s : most;
	}
	return most;
}

static void test_noise_comes_no_higher_than_chance_has_it(void **state)
{
	static const double samples[] = { 0.02, 0.15, 1.5, 15, 0 };

	(void)state;
	rng = 1;
	for (size_t i = 0; i < ELEMENTS_OF(samples); i++)
		for (unsigned shape = 1; shape <= 16; shape *= 4) {
			struct series_sum u;
			float most;

			sum_new(&u);
			live(&u, 4096, samples[i], shape);
			most = live(&u, DAY, samples[i], shape);
			/* ln of the ticks is 11.4 */
			printf("# %.2f samples, shape %u: %.1f\n", samples[i], shape, (double)most);
			assert_true(most < 16);
		}
}

/* Mean of the ticks until it is told. */
static double ticks_until_told(double samples, unsigned shape, double times)
{
	unsigned ticks = 0;

	for (unsigned run = 0; run < 50; run++) {
		struct series_sum u;
		float s = 0;

		sum_new(&u);
		live(&u, 4096, samples, shape);
		for (unsigned i = 0; i < 100 && s < ENOUGH; i++, ticks++) {
			double now = times * gamma_noise(shape);
			struct sum_tick t = samples > 0 ? counted(samples, poisson(samples * now)) : waited(now);

			s = sum_move(&u, &t);
		}
	}
	printf("# %.2f samples, shape %u, %.0f times as much: told after %.2f ticks\n", samples, shape, times, ticks / 50.0);
	return ticks / 50.0;
}

static void test_several_times_as_much_is_told_in_some_ticks(void **state)
{
	(void)state;
	rng = 2;
	/* One who knows the noise, and how many times as much it is, has ENOUGH nats after 3.5, 2.2, 0.7 and 1.1 ticks; 5 more are in time. */
	assert_true(ticks_until_told(0.5, 8, 10) < 3.5 + 5);
	assert_true(ticks_until_told(5, 8, 5) < 2.2 + 5);
	assert_true(ticks_until_told(0, 2, 20) < 0.7 + 5);
	assert_true(ticks_until_told(0, 8, 5) < 1.1 + 5);
	/* A sample in 30 s, and then a CPU: the noise of what has so few is not known. */
	assert_true(ticks_until_told(1.0 / 30, 8, 150) < 10);
}

/* Two seconds in a minute, of heights that are a power law. */
static float bursts(struct series_sum *u, unsigned n)
{
	float most = 0;

	for (unsigned i = 0; i < n; i++) {
		double height = 15 * pow(uniform(), -0.6);

		for (unsigned k = 0; k < 2; k++) {
			struct sum_tick t = waited(height * exponential());
			float s;

			t.silent = k == 0 ? 58 : 0;
			s = sum_move(u, &t);
			most = s > most ? s : most;
		}
	}
	return most;
}

static void test_bursts_are_not_told(void **state)
{
	struct series_sum u;

	(void)state;
	rng = 3;
	sum_new(&u);
	assert_true(bursts(&u, 3 * 1440) < ENOUGH / 2);
}

static void test_what_was_told_is_no_noise(void **state)
{
	struct series_sum told, untold;

	(void)state;
	rng = 4;
	sum_new(&told);
	live(&told, 4096, 0.5, 8);
	untold = told;
	for (unsigned i = 0; i < 20; i++) {
		struct sum_tick t = counted(0.5, 5);

		sum_move(&told, &t);
		sum_move(&untold, &t);
		if (i == 10)
			sum_told(&told);
	}
	live(&told, 200, 0.5, 8);
	live(&untold, 200, 0.5, 8);
	assert_true(told.noise < 0.5f);
	assert_true(untold.noise > 2 * told.noise);
	/* Either knows that it can be so high, which is forgotten in days. */
	assert_true(told.most > 100 && untold.most > 100);
	for (uint32_t hour = 0; hour < 48; hour++)
		sum_fade(&told, hour);
	assert_true(told.most < untold.most / 4);
}

static void test_silence_ends_an_excursion(void **state)
{
	struct series_sum u;
	struct sum_tick t = counted(0.5, 4);

	(void)state;
	rng = 5;
	sum_new(&u);
	live(&u, 4096, 0.5, 8);
	sum_move(&u, &t);
	sum_move(&u, &t);
	assert_true(u.now > 0);
	t = counted(0.5, 1);
	t.silent = 3600;
	assert_true(sum_move(&u, &t) == 0);
	assert_true(u.peak <= 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_noise_comes_no_higher_than_chance_has_it),
		cmocka_unit_test(test_several_times_as_much_is_told_in_some_ticks),
		cmocka_unit_test(test_bursts_are_not_told),
		cmocka_unit_test(test_what_was_told_is_no_noise),
		cmocka_unit_test(test_silence_ends_an_excursion),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
