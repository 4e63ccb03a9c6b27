/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the task iterator says: exact totals by process, and waits that outlast ticks. */
#include "internal.h"
#include "stackd.skel.h"

/* The kernel's buffer for an iterator is 8 pages and a program whose line doesn't fit is run again. Reading half of
 * that at most makes every line fit, so that accounts are advanced once. */
#define READ_SIZE 16384

void process_from_record(struct collect_process *ret, const struct stackd_process *process)
{
	*ret = (struct collect_process){
		.pid = (pid_t)process->tgid,
		.exec_id = process->exec_id,
		.start_ns = process->start_ns,
		.cgroup_id = process->cgroup_id,
		.seen_ns = process->seen_ns,
		.uid = process->uid,
		.kernel_thread = process->flags & STACKD_PROCESS_KTHREAD,
	};
	memcpy(ret->comm, process->comm, sizeof ret->comm);
	ret->comm[sizeof ret->comm - 1] = 0;
}

int threads_init(struct threads *t, const struct collect_config *config)
{
	int r;

	*t = (struct threads){ .max_totals = config->max_processes, .max_waits = config->max_stacks };
	t->totals = calloc(t->max_totals, sizeof *t->totals);
	t->waits = calloc(t->max_waits, sizeof *t->waits);
	t->buffer = malloc(READ_SIZE);
	t->events = calloc(THREAD_EVENTS_MAX, sizeof *t->events);
	if (!t->totals || !t->waits || !t->buffer || !t->events)
		return -ENOMEM;
	r = map64_new(&t->total_by_key, t->max_totals);
	if (r < 0)
		return r;
	return map64_new(&t->wait_by_id, t->max_waits);
}

void threads_done(struct threads *t)
{
	free(t->totals);
	free(t->waits);
	free(t->buffer);
	free(t->events);
	t->total_by_key = map64_free(t->total_by_key);
	t->wait_by_id = map64_free(t->wait_by_id);
}

static struct total_slot *total_of(struct threads *t, const struct stackd_process *process)
{
	const uint64_t identity[] = { process->start_ns, (uint64_t)process->tgid << 32 | process->exec_id };
	uint64_t key = hash64(identity, sizeof identity, 0), index;
	struct total_slot *slot;

	if (map64_get(t->total_by_key, key, &index))
		return &t->totals[index];
	if (map64_put(t->total_by_key, key, t->n_totals) < 0) {
		t->lost_processes++;
		return NULL;
	}
	slot = &t->totals[t->n_totals++];
	*slot = (struct total_slot){ .process = *process };
	return slot;
}

void threads_add_wait(struct threads *t, uint64_t raw_id, const struct stackd_process *process, int64_t threads)
{
	uint64_t index;

	if (!map64_get(t->wait_by_id, raw_id, &index)) {
		if (threads < 0 || map64_put(t->wait_by_id, raw_id, t->n_waits) < 0) {
			t->lost_waits++;
			return;
		}
		index = t->n_waits++;
		t->waits[index] = (struct wait_slot){ .process = *process, .raw_id = raw_id };
	}
	t->waits[index].pending += threads;
}

static void add_event(struct threads *t, const struct stackd_thread *line)
{
	bool begins = line->wait_delta > 0;

	if (t->n_events >= (begins ? THREAD_EVENTS_MAX / 2 : THREAD_EVENTS_MAX)) {
		t->lost_events++;
		t->forgotten |= !begins;
		return;
	}
	t->events[t->n_events] = (struct thread_event){ .process = line->process, .raw_id = line->wait_id, .tid = line->tid, .begins = begins };
	memcpy(t->events[t->n_events++].comm, line->comm, sizeof line->comm);
}

static void add_line(struct threads *t, const struct stackd_thread *line)
{
	struct total_slot *total = total_of(t, &line->process);

	if (total) {
		total->live = MAX(total->live, line->live);
		total->on_cpu_ns += line->on_cpu_ns;
		total->runnable_ns += line->runnable_ns;
		total->faults_minor += line->faults_minor;
		total->faults_major += line->faults_major;
		total->resident += line->resident;
		total->anonymous += line->anonymous;
		total->unborn_ns += line->unborn_ns;
	}
	if (line->wait_delta) {
		threads_add_wait(t, line->wait_id, &line->process, line->wait_delta);
		add_event(t, line);
	}
}

void threads_add_exit(struct threads *t, const struct stackd_exit *exit)
{
	struct total_slot *total = total_of(t, &exit->process);

	if (!total)
		return;
	total->on_cpu_ns += exit->on_cpu_ns;
	total->runnable_ns += exit->runnable_ns;
	total->faults_minor += exit->faults_minor;
	total->faults_major += exit->faults_major;
	total->resident += exit->resident;
	total->anonymous += exit->anonymous;
	total->alive_ns += exit->alive_ns;
}

int threads_visit(struct threads *t, const struct programs *p)
{
	struct bpf_link *link = p->sleepable_iterator ? p->skel->links.visit_tasks_sleepable : p->skel->links.visit_tasks;
	_cleanup_close_ int fd = bpf_iter_create(bpf_link__fd(link));
	size_t kept = 0;

	if (fd < 0)
		return negative_errno();
	for (;;) {
		ssize_t n = read(fd, t->buffer + kept, READ_SIZE - kept);
		size_t at = 0;

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return negative_errno();
		if (n == 0)
			return 0;
		kept += (size_t)n;
		for (; kept - at >= sizeof(struct stackd_thread); at += sizeof(struct stackd_thread)) {
			struct stackd_thread line;

			memcpy(&line, t->buffer + at, sizeof line);
			add_line(t, &line);
		}
		kept -= at;
		memmove(t->buffer, t->buffer + at, kept);
	}
}

void threads_forget_waits(struct threads *t)
{
	for (uint32_t i = 0; i < t->n_waits; i++)
		t->waits[i].pending = -t->waits[i].threads;
	t->n_events = 0;
	t->forgotten = true;
}

bool threads_waits_on(const struct threads *t, uint64_t raw_id)
{
	return map64_get(t->wait_by_id, raw_id, NULL);
}

static void report_total(const struct total_slot *slot, uint64_t wall_ns, const struct collect_sink *sink, void *userdata)
{
	uint64_t present = slot->live * wall_ns + slot->alive_ns, used = slot->unborn_ns + slot->on_cpu_ns + slot->runnable_ns;
	struct collect_total total = {
		.threads = slot->live,
		.values = {
			[METRIC_ON_CPU] = slot->on_cpu_ns,
			[METRIC_BLOCKED] = present > used ? present - used : 0,
			[METRIC_RUNNABLE] = slot->runnable_ns,
			[METRIC_FAULTS_MINOR] = slot->faults_minor,
			[METRIC_FAULTS_MAJOR] = slot->faults_major,
		},
	};

	if (!slot->on_cpu_ns && !slot->runnable_ns && !slot->faults_minor && !slot->faults_major)
		return;
	process_from_record(&total.process, &slot->process);
	sink->total(userdata, &total);
}

static void report_memory(const struct total_slot *slot, const struct collect_sink *sink, void *userdata)
{
	int64_t page_size = sysconf(_SC_PAGESIZE);
	struct collect_memory memory = { .resident = slot->resident * page_size, .anonymous = slot->anonymous * page_size };

	if ((!slot->resident && !slot->anonymous) || !sink->memory)
		return;
	process_from_record(&memory.process, &slot->process);
	sink->memory(userdata, &memory);
}

static void report_wait(struct wait_slot *slot, const struct collect_sink *sink, void *userdata)
{
	struct collect_wait wait = { .raw_id = slot->raw_id, .threads = (int)slot->pending };

	process_from_record(&wait.process, &slot->process);
	sink->wait(userdata, &wait);
	slot->threads += slot->pending;
	slot->pending = 0;
}

/* The last slot takes the place of one that ended. */
static void remove_wait(struct threads *t, uint32_t i)
{
	map64_remove(t->wait_by_id, t->waits[i].raw_id);
	t->n_waits--;
	if (i == t->n_waits)
		return;
	t->waits[i] = t->waits[t->n_waits];
	map64_put(t->wait_by_id, t->waits[i].raw_id, i);
}

uint64_t threads_faults_minor(const struct threads *t)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < t->n_totals; i++)
		n += t->totals[i].faults_minor;
	return n;
}

void threads_report(struct threads *t, uint64_t wall_ns, const struct collect_sink *sink, void *userdata)
{
	t->faults_minor = threads_faults_minor(t);
	t->faults_major = 0;
	for (uint32_t i = 0; i < t->n_totals; i++) {
		t->faults_major += t->totals[i].faults_major;
		report_total(&t->totals[i], wall_ns, sink, userdata);
		report_memory(&t->totals[i], sink, userdata);
	}
	t->n_totals = 0;
	map64_clear(t->total_by_key);
	for (uint32_t i = t->n_waits; i-- > 0;) {
		if (t->waits[i].pending)
			report_wait(&t->waits[i], sink, userdata);
		if (!t->waits[i].threads)
			remove_wait(t, i);
	}
}

void threads_report_events(struct threads *t, const struct collect_sink *sink, void *userdata)
{
	if (t->forgotten && sink->thread_wait)
		sink->thread_wait(userdata, &(struct collect_thread_wait){ .what = COLLECT_WAITS_END });
	for (uint32_t i = 0; sink->thread_wait && i < t->n_events; i++) {
		const struct thread_event *e = &t->events[i];
		struct collect_thread_wait wait = {
			.what = e->begins ? COLLECT_WAIT_BEGINS : COLLECT_WAIT_ENDS, .raw_id = e->raw_id, .tid = e->tid
		};

		process_from_record(&wait.process, &e->process);
		copy_string(wait.comm, sizeof wait.comm, e->comm);
		sink->thread_wait(userdata, &wait);
	}
	t->n_events = 0;
	t->forgotten = false;
}
