/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "watch_groups.h"

#include <fcntl.h>

#include "members.h"

#define VECTOR_MAX 4096 /* of the auxiliary vector, which has some hundred bytes */

struct member {
	pid_t pid;
	uint64_t image;
	bool tried;
	bool first;   /* it was there when somebody asked for the group, who waits for it */
	bool settled; /* it executed its program a look ago, so that its libraries are there */
};

struct group {
	struct api_memory_group shown;
	uint64_t asked_until_us; /* 0: nobody did */
	bool looked, told_of_left_out;
	struct member *members;  /* by pid */
	size_t n;
};

struct watch_groups {
	int cgroups;
	struct group items[API_MEMORY_GROUPS];
	size_t n;
	uint32_t last_id;
	struct members found;
};

int watch_groups_new(struct watch_groups **ret, int cgroups)
{
	struct watch_groups *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->cgroups = cgroups;
	*ret = g;
	return 0;
}

static void drop_members(struct group *i)
{
	free(i->members);
	i->members = NULL;
	i->n = i->shown.processes = i->shown.watched = i->shown.left_out = 0;
}

struct watch_groups *watch_groups_free(struct watch_groups *g)
{
	if (!g)
		return NULL;
	for (size_t k = 0; k < g->n; k++)
		drop_members(&g->items[k]);
	free(g);
	return NULL;
}

uint64_t process_image(pid_t pid)
{
	char path[32], vector[VECTOR_MAX];
	_cleanup_close_ int fd = -EBADF;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/auxv", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, vector, sizeof(vector));
	return n > 0 ? hash64(vector, (size_t)n, 0) : 0;
}

/* ---- groups ---- */

static bool is_active(const struct group *i)
{
	return i->shown.state != API_MEMORY_ENDED;
}

static struct group *find(const struct watch_groups *g, const char *name)
{
	for (size_t k = 0; k < g->n; k++)
		if (is_active(&g->items[k]) && streq(g->items[k].shown.name, name))
			return (struct group *)&g->items[k];
	return NULL;
}

/* A place at the end; the oldest that is over gives way. */
static struct group *add(struct watch_groups *g, const char *name)
{
	struct group *i;
	size_t k = 0;

	if (g->n == ELEMENTS_OF(g->items)) {
		while (k < g->n && is_active(&g->items[k]))
			k++;
		if (k == g->n)
			return NULL;
		memmove(g->items + k, g->items + k + 1, (g->n - k - 1) * sizeof(g->items[0]));
		g->n--;
	}
	i = &g->items[g->n++];
	*i = (struct group){ .shown = { .id = ++g->last_id, .state = API_MEMORY_WATCHED, .since_us = clock_realtime_us() } };
	copy_string(i->shown.name, sizeof(i->shown.name), name);
	return i;
}

static void end(struct group *i, const char *reason)
{
	bool began = i->shown.state == API_MEMORY_WATCHED;

	drop_members(i);
	i->shown.state = API_MEMORY_ENDED;
	i->shown.ended_us = clock_realtime_us();
	copy_string(i->shown.reason, sizeof(i->shown.reason), reason);
	if (began)
		log_notice("the heaps of %s are no longer watched: %s", i->shown.name, reason);
}

static void set_until(struct group *i)
{
	i->shown.until_us = i->shown.configured ? USEC_INFINITY : i->asked_until_us;
}

/* ---- who is in them ---- */

static struct member *find_member(const struct group *i, pid_t pid)
{
	size_t low = 0, high = i->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (i->members[middle].pid < pid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < i->n && i->members[low].pid == pid ? &i->members[low] : NULL;
}

static bool is_one_of(pid_t pid, const pid_t *pids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

/* What is known of those that are still there, and execute the same, is kept. */
static int take_members(struct group *i, const struct members *found, const pid_t *own, size_t n_own)
{
	struct member *members = calloc(MAX(found->n, (size_t)1), sizeof(*members));
	size_t n = 0;

	if (!members)
		return -ENOMEM;
	for (size_t k = 0; k < found->n; k++) {
		struct member m = { .pid = found->pids[k], .image = process_image(found->pids[k]), .settled = !i->looked, .first = !i->looked };
		const struct member *before = find_member(i, m.pid);

		if ((!m.image && !before) || is_one_of(m.pid, own, n_own))
			continue;
		/* Without an image: its first thread has ended, others go on. */
		if (before && (!m.image || before->image == m.image)) {
			m = *before;
			m.settled = true;
		}
		members[n++] = m;
	}
	free(i->members);
	i->members = members;
	i->n = n;
	i->shown.processes = (uint32_t)n;
	i->looked = true;
	return 0;
}

static int look(struct watch_groups *g, struct group *i, const pid_t *own, size_t n_own)
{
	int r = members_find(g->cgroups, i->shown.name, &g->found);

	/* A service that is started again has none for a moment. */
	if (r == -ENOENT)
		g->found.n = 0;
	else if (r < 0)
		return r;
	return take_members(i, &g->found, own, n_own) < 0 ? -ENOMEM : r;
}

void watch_groups_look(struct watch_groups *g, uint64_t now_us, const pid_t *own, size_t n_own)
{
	for (size_t k = 0; k < g->n; k++) {
		struct group *i = &g->items[k];

		if (!is_active(i))
			continue;
		if (now_us >= i->shown.until_us)
			end(i, "its time is over");
		else
			look(g, i, own, n_own);
	}
}

/* ---- beginning and ending ---- */

int watch_groups_ask(struct watch_groups *g, const char *name, uint64_t until_us, const pid_t *own, size_t n_own, uint32_t *ret_id)
{
	struct group *i = find(g, name);
	int r;

	if (g->cgroups < 0)
		return -ENODEV;
	if (!i) {
		i = add(g, name);
		if (!i)
			return -ENOSPC;
		r = look(g, i, own, n_own);
		if (r >= 0 && i->n == 0)
			r = -ESRCH;
		if (r < 0) {
			drop_members(i);
			g->n--; /* as if it had never been */
			return r;
		}
		i->shown.state = API_MEMORY_BEGINS;
	}
	i->asked_until_us = until_us;
	set_until(i);
	*ret_id = i->shown.id;
	return 0;
}

static bool names_it(const char (*names)[WORKLOAD_NAME_SIZE], size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (streq(names[i], name))
			return true;
	return false;
}

static void configure(struct watch_groups *g, const char *name)
{
	struct group *i = find(g, name);

	if (i && i->shown.configured)
		return;
	if (!i)
		i = add(g, name);
	if (!i) {
		log_warning("WatchMemory=: %s is not watched: %d units and control groups are watched already", name, API_MEMORY_GROUPS);
		return;
	}
	i->shown.configured = true;
	set_until(i);
	log_info("the heaps of %s are to be watched, says WatchMemory=", name);
}

void watch_groups_configure(struct watch_groups *g, const char (*names)[WORKLOAD_NAME_SIZE], size_t n)
{
	if (n > 0 && g->cgroups < 0) {
		log_warning("WatchMemory= has no effect: there is no cgroup v2");
		return;
	}
	for (size_t k = 0; k < g->n; k++) {
		struct group *i = &g->items[k];

		if (!is_active(i) || !i->shown.configured || names_it(names, n, i->shown.name))
			continue;
		i->shown.configured = false;
		set_until(i);
		if (!i->asked_until_us)
			end(i, "WatchMemory= no longer names it");
	}
	for (size_t k = 0; k < n; k++)
		configure(g, names[k]);
}

int watch_groups_stop(struct watch_groups *g, const char *name, const char *reason)
{
	struct group *i = find(g, name);

	if (!i)
		return -ENOENT;
	end(i, reason);
	return 0;
}

const struct api_memory_group *watch_groups_at(const struct watch_groups *g, size_t i)
{
	return i < g->n ? &g->items[i].shown : NULL;
}

const struct api_memory_group *watch_groups_get(const struct watch_groups *g, uint32_t id)
{
	for (size_t k = 0; k < g->n; k++)
		if (g->items[k].shown.id == id)
			return &g->items[k].shown;
	return NULL;
}

/* ---- what is to be watched ---- */

const struct api_memory_group *watch_groups_wanting(const struct watch_groups *g, pid_t pid)
{
	const struct api_memory_group *best = NULL;

	for (size_t k = 0; k < g->n; k++) {
		const struct group *i = &g->items[k];

		if (is_active(i) && find_member(i, pid) && (!best || i->shown.until_us > best->until_us))
			best = &i->shown;
	}
	return best;
}

static void set_tried(struct watch_groups *g, pid_t pid, bool tried)
{
	for (size_t k = 0; k < g->n; k++) {
		struct member *m = find_member(&g->items[k], pid);

		if (m)
			m->tried = tried;
	}
}

bool watch_groups_next(struct watch_groups *g, pid_t *ret)
{
	for (size_t k = 0; k < g->n; k++)
		for (size_t j = 0; j < g->items[k].n; j++) {
			const struct member *m = &g->items[k].members[j];

			if (m->tried || !m->settled)
				continue;
			*ret = m->pid;
			set_tried(g, m->pid, true);
			return true;
		}
	return false;
}

void watch_groups_put_back(struct watch_groups *g, pid_t pid)
{
	set_tried(g, pid, false);
}

/* ---- what became of them ---- */

struct outcome {
	size_t pending, watched, untried;
	const struct api_memory_watch *refused; /* the first */
};

static struct outcome look_at_watches(const struct group *i, bool no_room, watch_of_fn watch_of, void *userdata)
{
	struct outcome o = { 0 };

	for (size_t j = 0; j < i->n; j++) {
		const struct member *m = &i->members[j];
		const struct api_memory_watch *w = m->tried ? watch_of(userdata, m->pid) : NULL;

		o.untried += !m->tried;
		o.pending += m->first && !m->tried && !no_room;
		if (!w)
			continue;
		o.watched += w->state == API_MEMORY_WATCHED;
		o.pending += m->first && w->state == API_MEMORY_BEGINS;
		if (w->state == API_MEMORY_ENDED && !o.refused)
			o.refused = w;
	}
	return o;
}

static void refuse(struct group *i, const struct outcome *o)
{
	char reason[sizeof(i->shown.reason)];

	if (o->untried > 0)
		snprintf(reason, sizeof(reason), "%d processes are watched already", COLLECT_HEAP_WATCHES);
	else if (!o->refused)
		snprintf(reason, sizeof(reason), "its processes ended");
	else if (i->n == 1)
		snprintf(reason, sizeof(reason), "of its only process, %d (%s): %.180s", o->refused->pid, o->refused->comm, o->refused->reason);
	else
		snprintf(reason, sizeof(reason), "none of its %zu processes can be; of the first, %d (%s): %.150s", i->n, o->refused->pid,
		         o->refused->comm, o->refused->reason);
	end(i, reason);
}

static bool settle(struct group *i, bool no_room, watch_of_fn watch_of, void *userdata)
{
	struct outcome o = look_at_watches(i, no_room, watch_of, userdata);
	uint32_t left_out = no_room ? (uint32_t)o.untried : 0;

	if (left_out > 0 && !i->told_of_left_out)
		log_warning("%u of the %u processes of %s are not watched: %d is the most, of all", left_out, i->shown.processes, i->shown.name,
		            COLLECT_HEAP_WATCHES);
	i->told_of_left_out |= left_out > 0;
	i->shown.left_out = left_out;
	i->shown.watched = (uint32_t)o.watched;
	if (i->shown.state != API_MEMORY_BEGINS || o.pending > 0)
		return false;
	if (o.watched == 0) {
		refuse(i, &o);
	} else {
		i->shown.state = API_MEMORY_WATCHED;
		log_notice("the heaps of %s are watched: %u of %u processes", i->shown.name, i->shown.watched, i->shown.processes);
	}
	return true;
}

bool watch_groups_settle(struct watch_groups *g, bool no_room, watch_of_fn watch_of, void *userdata)
{
	bool changed = false;

	for (size_t k = 0; k < g->n; k++)
		if (is_active(&g->items[k]))
			changed |= settle(&g->items[k], no_room, watch_of, userdata);
	return changed;
}
