/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "stack.h"

/* "cpu-clock:u" and "cpu-clock/freq=499/" are cpu-clock; "cpu_core/cycles/u" is cycles. */
static const char *base_of(const char *event, size_t *ret_n)
{
	static const char *const units[] = { "cpu/", "cpu_core/", "cpu_atom/" };

	for (size_t i = 0; i < ELEMENTS_OF(units); i++)
		if (strncmp(event, units[i], strlen(units[i])) == 0) {
			event += strlen(units[i]);
			break;
		}
	*ret_n = strcspn(event, ":/,");
	return event;
}

bool stack_is_event(const char *event, const char *wanted)
{
	size_t n;
	const char *base = base_of(event, &n);

	return streq(event, wanted) || (n > 0 && strlen(wanted) == n && strncmp(base, wanted, n) == 0);
}

static bool is_same_event(const char *a, const char *b)
{
	size_t n_a, n_b;
	const char *base_a = base_of(a, &n_a), *base_b = base_of(b, &n_b);

	return n_a == n_b && strncmp(base_a, base_b, n_a) == 0;
}

bool stack_tells_twice(char first[static STACK_EVENT_SIZE], const struct stack *stack)
{
	if (!stack->event)
		return false;
	if (!first[0])
		copy_string(first, STACK_EVENT_SIZE, stack->event);
	return !is_same_event(first, stack->event);
}

static void measure(struct stack *stack)
{
	static const struct {
		const char *event;
		enum metric metric;
	} events[] = {
		{ "cpu-clock", METRIC_ON_CPU },      { "task-clock", METRIC_ON_CPU },     { "page-faults", METRIC_FAULTS_MINOR },
		{ "faults", METRIC_FAULTS_MINOR },   { "minor-faults", METRIC_FAULTS_MINOR }, { "major-faults", METRIC_FAULTS_MAJOR },
	};
	size_t n;
	const char *event = base_of(stack->event ?: "", &n);

	stack->metric = METRIC_ALL_N;
	stack->amount = stack->period;
	for (size_t i = 0; n > 0 && i < ELEMENTS_OF(events); i++)
		if (strlen(events[i].event) == n && strncmp(event, events[i].event, n) == 0)
			stack->metric = events[i].metric;
	/* So many samples a second of a CPU that is busy. */
	if (stack->hz > 0 && ((n == 6 && strncmp(event, "cycles", n) == 0) || (n == 10 && strncmp(event, "cpu-cycles", n) == 0))) {
		stack->metric = METRIC_ON_CPU;
		stack->amount = NSEC_PER_SEC / stack->hz;
	}
}

static bool is_wanted(const struct stack_options *options, enum metric metric)
{
	return options->metric == metric || (options->metric == METRIC_OFF_CPU && (metric == METRIC_BLOCKED || metric == METRIC_RUNNABLE));
}

int stack_tell_sample(const struct stack_options *options, struct stack *stack, stack_fn fn, void *userdata)
{
	stack->value = options->periods ? stack->period : 1;
	measure(stack);
	return stack_tell(options, stack, fn, userdata);
}

int stack_tell(const struct stack_options *options, struct stack *stack, stack_fn fn, void *userdata)
{
	if (options->metric != METRIC_ALL_N) {
		if (!is_wanted(options, stack->metric))
			return 0;
		stack->value = stack->amount;
	}
	return fn(userdata, stack);
}

void stack_say_others(const struct stack_options *options, uint64_t others, const char *event)
{
	if (others > 0)
		log_warning("%llu samples are of other events than %s%s", (unsigned long long)others, event,
			    options->event ? ", and left out" : "; --event=NAME chooses");
}
