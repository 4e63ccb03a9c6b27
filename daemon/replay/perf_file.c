/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "perf_file.h"

#include <linux/perf_event.h>

#include "bpf_names.h"
#include "frame_tables.h"
#include "kernel_names.h"
#include "perfdata.h"
#include "switches.h"
#include "tasks.h"
#include "walk.h"

#define ANY_EVENT UINT32_MAX

struct reading {
	struct perfdata *file;
	struct tasks *tasks;
	struct names *names;
	struct frame_tables *tables;
	struct kernel_names *kernel; /* made when the first kernel address is met: where it lies has been told by then */
	uint64_t kernel_text;
	struct bpf_names *bpf;
	struct switches *switches; /* NULL: waits are not asked for */
	uint32_t event; /* the one that is told */
	uint64_t others, cut;
	const struct stack_options *options;
	stack_fn fn;
	void *userdata;
	struct names_frame frames[STACK_FRAMES_MAX];
};

static void free_parts(struct reading *r)
{
	switches_free(r->switches);
	bpf_names_free(r->bpf);
	kernel_names_free(r->kernel);
	frame_tables_free(r->tables);
	names_free(r->names);
	tasks_free(r->tasks);
	perfdata_free(r->file);
	free(r);
}
DEFINE_CLEANUP(struct reading *, free_parts)

/* ---- what is mapped ---- */

static bool is_kernel_image(const char *path)
{
	return strncmp(path, "[kernel.kallsyms]", 17) == 0 || strncmp(path, "[guest.kernel.kallsyms]", 23) == 0;
}

static void take_mapping(struct reading *r, const struct perfdata_record *record)
{
	struct perfdata_build_id id = record->mapping.build_id;
	uint64_t file;

	if (record->mapping.kernel) {
		/* The name says which symbol, the offset where it was linked to be. */
		if (is_kernel_image(record->mapping.path) && strstr(record->mapping.path, "]_text"))
			r->kernel_text = record->mapping.offset;
		return;
	}
	if (!record->mapping.code)
		return;
	if (id.size == 0)
		id = perfdata_build_id(r->file, record->mapping.path);
	file = names_add_file(r->names, record->mapping.path, id);
	tasks_map(r->tasks, record->pid, record->mapping.start, record->mapping.size, record->mapping.offset, file,
		  record->mapping.path);
}

/* ---- samples ---- */

static int kernel_frame(struct reading *r, uint64_t address, struct names_frame *ret)
{
	const char *name;

	if (!r->kernel) {
		int e = kernel_names_new(&r->kernel, r->file, r->kernel_text);

		if (e < 0)
			return e;
	}
	name = bpf_names_find(r->bpf, address);
	if (!name)
		name = kernel_names_find(r->kernel, address);
	*ret = (struct names_frame){ .is_named = true, .name = name ? name : "[kernel]", .object = "[kernel]" };
	return 0;
}

static void user_frame(const struct reading *r, uint32_t pid, uint64_t address, struct names_frame *ret)
{
	*ret = (struct names_frame){};
	(void)tasks_find(r->tasks, pid, address, &ret->file, &ret->offset);
}

struct walker {
	const struct reading *r;
	uint32_t pid;
};

static bool find_rule(void *userdata, uint64_t address, const struct unwind_rule **ret_rule)
{
	const struct walker *w = userdata;
	uint64_t file, offset, in_file;

	if (!tasks_find(w->r->tasks, w->pid, address, &file, &offset))
		return false;
	*ret_rule = file ? frame_tables_find(w->r->tables, file, offset, &in_file) : NULL;
	return true;
}

static size_t walked_frames(const struct reading *r, const struct perfdata_record *record, struct names_frame *ret, size_t max)
{
	struct walker w = { r, record->pid };
	uint64_t addresses[STACK_FRAMES_MAX];
	struct walk_end end;
	size_t n = walk_stack(&record->sample.carried, find_rule, &w, addresses, max, &end);

	for (size_t i = 0; i < n; i++)
		user_frame(r, record->pid, addresses[i] - (i > 0), &ret[i]);
	return n;
}

static bool is_marker(uint64_t address)
{
	return address >= PERF_CONTEXT_MAX;
}

static bool repeats_nothing(const struct reading *r, size_t n)
{
	const struct names_frame *last = &r->frames[n];

	return n > 0 && last->is_named && streq(last->name, "[kernel]") && r->frames[n - 1].is_named &&
		streq(r->frames[n - 1].name, last->name);
}

/* Callers' addresses are those to return to: one before is in the call. */
static int make_frames(struct reading *r, const struct perfdata_record *record, size_t *ret_n)
{
	const uint64_t *chain = record->sample.n_chain > 0 ? record->sample.chain : &record->sample.ip;
	size_t n_chain = MAX(record->sample.n_chain, (size_t)1), n = 0;
	bool kernel = record->sample.kernel, interrupted = true, carried = record->sample.carried.size > 0;

	if (record->sample.n_chain == 0 && carried && !kernel)
		n_chain = 0; /* the walk begins there */

	for (size_t i = 0; i < n_chain; i++) {
		int e = 0;

		if (is_marker(chain[i])) {
			kernel = chain[i] == PERF_CONTEXT_KERNEL;
			interrupted = true; /* by a system call or an interrupt */
			continue;
		}
		if (!kernel && carried)
			continue;
		if (n == STACK_FRAMES_MAX) {
			r->cut++;
			break;
		}
		if (kernel)
			e = kernel_frame(r, chain[i] - !interrupted, &r->frames[n]);
		else
			user_frame(r, record->pid, chain[i] - !interrupted, &r->frames[n]);
		if (e < 0)
			return e;
		interrupted = false;
		if (!repeats_nothing(r, n))
			n++;
	}
	if (carried)
		n += walked_frames(r, record, r->frames + n, STACK_FRAMES_MAX - n);
	*ret_n = n;
	return 0;
}

static int take_sample(struct reading *r, const struct perfdata_record *record)
{
	struct stack stack = {
		.frames = r->frames,
		.time_ns = record->time,
		.period = record->sample.period,
		.pid = record->pid,
	};
	const struct perfdata_event *events;
	struct task_process process;
	struct perfdata_sched sched;
	char comm[TASK_NAME_SIZE];
	bool waits = r->switches && perfdata_sched(r->file, record, &sched);
	int e;

	if (r->event == ANY_EVENT)
		r->event = record->sample.event;
	if (record->sample.event != r->event && !r->options->all_events) {
		r->others++;
		return 0;
	}
	if (waits && sched.kind == PERFDATA_WAKEUP) {
		switches_woken(r->switches, sched.to, record->time);
		return 0;
	}
	e = make_frames(r, record, &stack.n);
	if (e < 0)
		return e;
	names_resolve(r->names, r->frames, stack.n);
	(void)perfdata_events(r->file, &events);
	tasks_get_process(r->tasks, record->pid, &process);
	stack.comm = tasks_get_name(r->tasks, record->tid, comm);
	stack.event = events[record->sample.event].name;
	stack.hz = events[record->sample.event].hz;
	stack.cpus = perfdata_cpus(r->file);
	stack.begun_ns = process.begun_ns;
	stack.process_comm = process.comm;
	stack.exe = process.exe;
	if (!waits)
		return stack_tell_sample(r->options, &stack, r->fn, r->userdata);
	e = sched.dead ? 0 : switches_out(r->switches, sched.from, sched.runnable, &stack);
	return e < 0 ? e : switches_in(r->switches, sched.to, record->time);
}

static int tell_wait(void *userdata, const struct stack *stack)
{
	struct reading *r = userdata;
	struct stack told = *stack;

	return stack_tell(r->options, &told, r->fn, r->userdata);
}

static int take_kernel_symbol(struct reading *r, const struct perfdata_record *record)
{
	if (!record->symbol.gone)
		return bpf_names_add(r->bpf, record->symbol.start, record->symbol.size, record->symbol.name);
	bpf_names_remove(r->bpf, record->symbol.start);
	return 0;
}

static int take(struct reading *r, const struct perfdata_record *record)
{
	int e = r->switches ? switches_advance(r->switches, record->time) : 0;

	if (e < 0)
		return e;
	switch (record->kind) {
	case PERFDATA_SAMPLE:
		return take_sample(r, record);
	case PERFDATA_MAPPING:
		take_mapping(r, record);
		return 0;
	case PERFDATA_COMM:
		tasks_name(r->tasks, record->pid, record->tid, record->comm.name, record->comm.exec, record->time);
		return 0;
	case PERFDATA_FORK:
		tasks_fork(r->tasks, record->pid, record->tid, record->fork.parent_pid, record->fork.parent_tid, record->fork.exec,
			   record->time);
		return 0;
	case PERFDATA_EXIT:
		tasks_exit(r->tasks, record->tid);
		return 0;
	case PERFDATA_SWITCHED_IN:
		return r->switches ? switches_in(r->switches, record->tid, record->time) : 0;
	case PERFDATA_KERNEL_SYMBOL:
		return take_kernel_symbol(r, record);
	}
	return 0;
}

/* ---- all of it ---- */

static void note_origin(const struct reading *r, struct stack_origin *ret)
{
	struct perfdata_status s;
	int64_t ahead;

	perfdata_get_status(r->file, &s);
	*ret = (struct stack_origin){
		.format = "perf.data",
		.lost = s.lost + s.lost_samples,
		.realtime = r->options->realtime && perfdata_realtime(r->file, &ahead),
	};
}

static void to_realtime(const struct reading *r, struct perfdata_record *record)
{
	int64_t ahead;

	if (record->time > 0 && r->options->realtime && perfdata_realtime(r->file, &ahead))
		record->time += (uint64_t)ahead;
}

static int choose_event(struct reading *r, struct stack_error *error)
{
	const struct perfdata_event *events;
	size_t n = perfdata_events(r->file, &events), used;

	r->event = ANY_EVENT;
	if (!r->options->event)
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (r->event == ANY_EVENT && stack_is_event(events[i].name, r->options->event))
			r->event = (uint32_t)i;
		if (streq(events[i].name, r->options->event)) {
			r->event = (uint32_t)i;
			break;
		}
	}
	if (r->event != ANY_EVENT)
		return 0;
	used = (size_t)snprintf(error->what, sizeof(error->what), "no event '%.40s'; there are:", r->options->event);
	for (size_t i = 0; i < n && used < sizeof(error->what); i++)
		used += (size_t)snprintf(error->what + used, sizeof(error->what) - used, " %s", events[i].name);
	return -ENOENT;
}

static void tell_missing_waits(const struct reading *r)
{
	struct switches_status s;

	switches_get_status(r->switches, &s);
	if (s.open > 0)
		log_warning("the end of %llu waits was not recorded, and they are missing: record all CPUs (-a), or with --switch-events",
			    (unsigned long long)s.open);
	if (s.dropped > 0)
		log_warning("%llu waits were too many at a time, and are missing", (unsigned long long)s.dropped);
}

static void tell_missing(const struct reading *r)
{
	const struct perfdata_event *events;
	struct perfdata_status s;

	(void)perfdata_events(r->file, &events);
	perfdata_get_status(r->file, &s);
	if (r->event != ANY_EVENT)
		stack_say_others(r->options, r->others, events[r->event].name);
	if (s.lost + s.lost_samples > 0)
		log_warning("the recording lacks %llu records that the kernel had no room for", (unsigned long long)(s.lost + s.lost_samples));
	if (s.unfinished)
		log_warning("the recording has no end: build IDs, and what the machine was, are missing");
	if (s.foreign_stacks > 0)
		log_warning("%llu samples carry a stack of a machine that is not x86-64: it can't be walked, and they have their innermost frame only",
			    (unsigned long long)s.foreign_stacks);
	if (s.unordered > 0)
		log_warning("%llu records came too late to be put into order", (unsigned long long)s.unordered);
	if (r->bpf && bpf_names_dropped(r->bpf) > 0)
		log_warning("%llu BPF programs were too many: they have no names", (unsigned long long)bpf_names_dropped(r->bpf));
	if (r->switches)
		tell_missing_waits(r);
	if (tasks_dropped(r->tasks) > 0)
		log_warning("%llu threads or mappings were too many: some names are missing", (unsigned long long)tasks_dropped(r->tasks));
	if (r->cut > 0)
		log_warning("%llu stacks were cut to their innermost %d frames", (unsigned long long)r->cut, STACK_FRAMES_MAX);
}

int perf_file_read(struct source *source, struct helper *helper, const struct stack_options *options, stack_fn fn, void *userdata,
		   struct stack_error *ret_error, struct stack_origin *ret_origin)
{
	_cleanup_(free_partsp) struct reading *r = calloc(1, sizeof(*r));
	struct perfdata_error error;
	struct perfdata_record record;
	int e;

	*ret_error = (struct stack_error){};
	if (!r)
		return -ENOMEM;
	r->options = options;
	r->fn = fn;
	r->userdata = userdata;
	e = perfdata_open(&r->file, source, &error);
	if (e >= 0)
		e = choose_event(r, ret_error);
	if (e >= 0)
		e = tasks_new(&r->tasks);
	if (e >= 0)
		e = names_new(&r->names, helper);
	if (e >= 0)
		e = bpf_names_new(&r->bpf);
	if (e >= 0 && options->waits)
		e = switches_new(&r->switches, options->ticks, tell_wait, r);
	if (e >= 0)
		e = frame_tables_new(&r->tables, r->names, helper);
	if (e >= 0) {
		while ((e = perfdata_next(r->file, &record, &error)) > 0) {
			to_realtime(r, &record);
			e = take(r, &record);
			if (e < 0)
				break;
		}
		if (r->switches && (e == 0 || e == -EBADMSG)) {
			int ended = switches_end(r->switches);

			e = ended < 0 ? ended : e;
		}
		tell_missing(r);
		note_origin(r, ret_origin);
	}
	if (e == -EBADMSG) {
		ret_error->place = error.offset;
		copy_string(ret_error->what, sizeof(ret_error->what), error.what);
	}
	return e;
}
