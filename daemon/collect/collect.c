/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which source it is, and whoever asks is sent there. */
#include "bpf_source.h"
#include "budget.h"
#include "helper.h"
#include "sample_tables.h"
#include "sampler.h"

struct collect {
	struct bpf_source *bpf;  /* one of them */
	struct sampler *sampler;
	char reason[160];
	struct helper *helper;         /* borrowed */
	struct collect_config config;  /* as it was asked for: the source has what the budget leaves of it */
	struct budget budget;
	bool cost_measured;            /* the kernel's part */
	const char *budget_cause;
	uint64_t budget_changed_us;
	uint64_t tick_ns, user_ns, helpers_ns; /* at the end of the last tick: CLOCK_MONOTONIC, CPU time */
};

/* ---- budget ---- */

static const char *const event_names[BUDGET_EVENTS] = {
	[BUDGET_SWITCHES] = "switches", [BUDGET_MAPS] = "address-spaces", [BUDGET_RSS] = "resident-memory"
};

static uint64_t helpers_cpu_ns(const struct collect *c)
{
	return process_cpu_ns(helper_opener_pid(c->helper)) + process_cpu_ns(helper_parser_pid(c->helper));
}

static void get_gate(const struct collect *c, bool *ret_open, double *ret_load)
{
	if (c->bpf)
		bpf_source_get_gate(c->bpf, ret_open, ret_load);
	else
		sampler_get_gate(c->sampler, ret_open, ret_load);
}

/* What the daemon took since the last call, and its programs. A helper that was started anew begins at 0. */
static void read_cost(struct collect *c, struct budget_reading *r)
{
	uint64_t now = clock_monotonic_ns(), user = process_cpu_ns(getpid()), helpers = helpers_cpu_ns(c);
	double load;

	*r = (struct budget_reading){
		.wall_ns = now - c->tick_ns,
		.cpus = (uint32_t)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L),
		.user_ns = user - c->user_ns,
		.helpers_ns = helpers > c->helpers_ns ? helpers - c->helpers_ns : 0,
	};
	get_gate(c, &r->open, &load);
	c->cost_measured = c->bpf && bpf_source_get_cost(c->bpf, r);
	c->tick_ns = now;
	c->user_ns = user;
	c->helpers_ns = helpers;
}

static int apply_budget(struct collect *c)
{
	const struct budget_state *s = budget_state(&c->budget, c->budget.open);
	struct collect_config config;

	budget_lower(s, &c->config, &config);
	if (!c->bpf)
		return sampler_reconfigure(c->sampler, &config);
	bpf_source_leave_out(c->bpf, s->left_out);
	return bpf_source_reconfigure(c->bpf, &config);
}

static void follow_budget(struct collect *c, const struct collect_sink *sink, void *userdata)
{
	struct collect_gate_change change = { .time_us = clock_realtime_us() };
	struct budget_reading reading;

	read_cost(c, &reading);
	if (!budget_tick(&c->budget, &reading, &change.cause))
		return;
	apply_budget(c);
	if (!change.cause)
		return;
	c->budget_cause = change.cause;
	c->budget_changed_us = change.time_us;
	get_gate(c, &change.open, &change.load);
	log_info("%s: %.2f %% of the machine were taken, %.2f by programs in the kernel; rates are multiplied by %.3f", change.cause,
	         100 * c->budget.used, 100 * c->budget.kernel, budget_factor(budget_state(&c->budget, c->budget.open)->level));
	sink->gate(userdata, &change);
}

static void get_budget(const struct collect *c, struct collect_budget *ret)
{
	const struct budget_state *s = budget_state(&c->budget, c->budget.open);

	*ret = (struct collect_budget){
		.allowed = s->share,
		.user = c->budget.user,
		.kernel = c->budget.kernel,
		.measured = c->cost_measured,
		.judged = budget_judges(&c->budget),
		.rates = budget_factor(s->level),
		.cause = c->budget_cause,
		.changed_us = c->budget_changed_us,
	};
	_Static_assert(ELEMENTS_OF(ret->left_out) == BUDGET_EVENTS, "room for all");
	for (size_t i = 0; i < BUDGET_EVENTS; i++)
		if (s->left_out[i])
			ret->left_out[ret->n_left_out++] = event_names[i];
}

/* ---- the door ---- */

/* What BPF is refused with; 0 and the source where it isn't. */
static int try_bpf(struct collect *c, const struct collect_config *config, struct helper *helper, char *ret_why, size_t size)
{
	const char *missing = config->source == COLLECT_AUTO ? bpf_source_missing() : NULL;
	int r;

	if (missing) {
		copy_string(ret_why, size, missing);
		return -ENOENT;
	}
	r = bpf_source_new(&c->bpf, config, helper);
	if (r < 0)
		snprintf(ret_why, size, "BPF is refused: %s", strerror(-r));
	return r;
}

/* Without memory no other source would do better. */
static int choose(struct collect *c, const struct collect_config *config, struct helper *helper)
{
	char why[128] = "";
	int r;

	if (config->source != COLLECT_PERF) {
		r = try_bpf(c, config, helper, why, sizeof why);
		if (r >= 0 || r == -ENOMEM || config->source == COLLECT_BPF) {
			snprintf(c->reason, sizeof c->reason, "Source=%s", config->source == COLLECT_BPF ? "bpf" : "auto");
			return r;
		}
		log_warning("No BPF source: %s; perf events are counted by the daemon instead", why);
		snprintf(c->reason, sizeof c->reason, "Source=auto; %s", why);
	} else {
		copy_string(c->reason, sizeof c->reason, "Source=perf");
	}
	return sampler_new(&c->sampler, config, helper);
}

int collect_new(struct collect **ret, const struct collect_config *config, struct helper *helper)
{
	_cleanup_(collect_freep) struct collect *c = calloc(1, sizeof *c);
	int r;

	if (!c)
		return -ENOMEM;
	if (!config->max_stacks || !config->max_counts || !config->max_processes || !config->sample_hz || !config->max_heap_blocks)
		return -EINVAL;
	r = choose(c, config, helper);
	if (r < 0)
		return r;
	c->helper = helper;
	c->config = *config;
	budget_init(&c->budget, config->cpu_budget_closed, config->cpu_budget_open);
	c->tick_ns = clock_monotonic_ns();
	c->user_ns = process_cpu_ns(getpid());
	c->helpers_ns = helpers_cpu_ns(c);
	*ret = TAKE_PTR(c);
	return 0;
}

struct collect *collect_free(struct collect *c)
{
	if (!c)
		return NULL;
	bpf_source_free(c->bpf);
	sampler_free(c->sampler);
	free(c);
	return NULL;
}

int collect_reconfigure(struct collect *c, const struct collect_config *config)
{
	if (!config->sample_hz)
		return -EINVAL;
	c->config = *config;
	budget_configure(&c->budget, config->cpu_budget_closed, config->cpu_budget_open);
	return apply_budget(c);
}

int collect_tick(struct collect *c, const struct collect_sink *sink, void *userdata)
{
	int r = c->bpf ? bpf_source_tick(c->bpf, sink, userdata) : sampler_tick(c->sampler, sink, userdata);

	if (r >= 0)
		follow_budget(c, sink, userdata);
	return r;
}

int collect_mappings_fd(const struct collect *c)
{
	return c->bpf ? bpf_source_mappings_fd(c->bpf) : sampler_mappings_fd(c->sampler);
}

void collect_mappings_dispatch(struct collect *c, const struct collect_sink *sink, void *userdata)
{
	if (c->bpf)
		bpf_source_mappings_dispatch(c->bpf, sink, userdata);
	else
		sampler_mappings_dispatch(c->sampler, sink, userdata);
}

int collect_frames(struct collect *c, uint64_t raw_id, struct collect_frames *ret)
{
	return c->bpf ? bpf_source_frames(c->bpf, raw_id, ret) : sampler_frames(c->sampler, raw_id, ret);
}

void collect_get_status(const struct collect *c, struct collect_status *ret)
{
	if (c->bpf)
		bpf_source_get_status(c->bpf, ret);
	else
		sampler_get_status(c->sampler, ret);
	get_budget(c, &ret->budget);
	ret->source = c->bpf ? "bpf" : "perf";
	ret->source_reason = c->reason;
}

/* ---- the gate ---- */

int collect_gate_fd(const struct collect *c)
{
	return c->bpf ? bpf_source_gate_fd(c->bpf) : sampler_gate_fd(c->sampler);
}

int collect_gate_dispatch(struct collect *c)
{
	return c->bpf ? bpf_source_gate_dispatch(c->bpf) : sampler_gate_dispatch(c->sampler);
}

int collect_gate_open_for(struct collect *c, const char *cause)
{
	return c->bpf ? bpf_source_gate_open_for(c->bpf, cause) : sampler_gate_open_for(c->sampler, cause);
}

int collect_gate_set(struct collect *c, enum collect_gate_mode mode, uint64_t until_us)
{
	return c->bpf ? bpf_source_gate_set(c->bpf, mode, until_us) : sampler_gate_set(c->sampler, mode, until_us);
}

/* ---- unwinding ---- */

struct stackd_unwind_tables *collect_unwind_tables(struct collect *c)
{
	return c->bpf ? bpf_source_unwind_tables(c->bpf) : sample_tables_shared(sampler_tables(c->sampler));
}

int collect_unwind_slab(struct collect *c, uint32_t index, struct stackd_unwind_slab **ret)
{
	return c->bpf ? bpf_source_unwind_slab(c->bpf, index, ret) : sample_tables_slab(sampler_tables(c->sampler), index, ret);
}

int collect_unwind_set_process(struct collect *c, const struct stackd_unwind_key *key, const struct stackd_unwind_process *process)
{
	return c->bpf ? bpf_source_unwind_set_process(c->bpf, key, process)
	              : sample_tables_set_process(sampler_tables(c->sampler), key, process);
}

size_t collect_unwind_wanted(struct collect *c, struct stackd_unwind_key *keys, struct stackd_unwind_wanted *wanted, size_t max)
{
	return c->bpf ? bpf_source_unwind_wanted(c->bpf, keys, wanted, max)
	              : sample_tables_take_wanted(sampler_tables(c->sampler), keys, wanted, max);
}

/* The sampler walks nothing while others change its tables. */
bool collect_unwind_settled(const struct collect *c)
{
	return !c->bpf || bpf_source_unwind_settled(c->bpf);
}

/* ---- heaps: with BPF only ---- */

bool collect_heap_is_possible(const struct collect *c)
{
	return c->bpf && bpf_source_heap_is_possible(c->bpf);
}

int collect_heap_begin(struct collect *c, pid_t pid, uint32_t *ret_id)
{
	return c->bpf ? bpf_source_heap_begin(c->bpf, pid, ret_id) : -EOPNOTSUPP;
}

int collect_heap_attach(struct collect *c, uint32_t id, const char *path, const struct collect_heap_function *functions, size_t n)
{
	return c->bpf ? bpf_source_heap_attach(c->bpf, id, path, functions, n) : -EOPNOTSUPP;
}

int collect_heap_start(struct collect *c, uint32_t id)
{
	return c->bpf ? bpf_source_heap_start(c->bpf, id) : -EOPNOTSUPP;
}

int collect_heap_get_cost(struct collect *c, uint32_t id, struct collect_heap_cost *ret)
{
	return c->bpf ? bpf_source_heap_get_cost(c->bpf, id, ret) : -ENOENT;
}

bool collect_heap_process(const struct collect *c, uint32_t id, struct collect_process *ret)
{
	return c->bpf && bpf_source_heap_process(c->bpf, id, ret);
}

bool collect_heap_executed(const struct collect *c, uint32_t id)
{
	return c->bpf && bpf_source_heap_executed(c->bpf, id);
}

int collect_kmem_begin(struct collect *c, uint32_t *ret_id)
{
	return c->bpf ? bpf_source_kmem_begin(c->bpf, ret_id) : -EOPNOTSUPP;
}

void collect_heap_end(struct collect *c, uint32_t id)
{
	if (c->bpf)
		bpf_source_heap_end(c->bpf, id);
}

bool collect_heap_census(struct collect *c, const struct collect_heap_stack **ret, size_t *ret_n, int64_t *ret_left_out)
{
	return c->bpf && bpf_source_heap_census(c->bpf, ret, ret_n, ret_left_out);
}
