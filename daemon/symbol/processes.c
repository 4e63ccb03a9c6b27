/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <signal.h>
#include <time.h>

#include "cgroups.h"
#include "mapping_log.h"
#include "processes.h"
#include "unit.h"

/* Processes that may be read a second: more than that are a burst of short ones, and must not eat the tick.
 */
#define READS_PER_SEC 200
/* At first everything is new: the machine's processes may be read at once (50 us each). */
#define READS_AT_START 1000
/* A process whose name is not the one in the kernel's record has executed something else since, or renamed
 * itself: the next record will tell which. After this many looks it is taken for what it is. */
#define NAME_TRIES 3
#define RETRY_NS NSEC_PER_SEC
/* Mappings of all processes together, 100 bytes and a path each. */
#define ALL_MAPPINGS_MAX 65536
/* Mappings are read again for an address that is in none. Huge maps may take at most a hundredth of the time;
 * and processes whose stacks can't be walked yield addresses that never are, so that the pause grows while it
 * is in vain. */
#define MAPS_PAUSE_MIN_NS NSEC_PER_SEC
#define MAPS_PAUSE_MAX_NS (8 * NSEC_PER_SEC)
#define MAPS_COST_FACTOR 100
/* No process maps anything below (vm.mmap_min_addr), nor in the kernel's half. */
#define USER_ADDRESS_MIN 65536
#define FORGET_NS (60 * NSEC_PER_SEC)
#define STAT_MAX 4096
/* Processes that are gone and whose mappings are kept: their stacks are resolved within a tick or two. */
#define GONE_KEPT 256
/* Servers whose children come and go are few at a time; they are read again after a second. */
#define BASES 16
#define BASE_AGE_NS NSEC_PER_SEC
#define CGROUP_MAX 16384

/* A process from before the log whose children are gone: what it executed and had mapped when it was read. */
struct base {
	pid_t pid; /* 0: none */
	uint64_t start_ns, read_ns; /* since boot; CLOCK_MONOTONIC */
	struct mappings mappings;
	char exe[256];
};

struct processes {
	struct cgroups *cgroups;
	struct mapping_log *log;
	struct base bases[BASES];
	uint32_t gone_kept[GONE_KEPT]; /* slots plus 1, the oldest at next_gone */
	size_t next_gone;
	struct process *slots;
	struct map64 *index;  /* hash of the key → slot */
	struct map64 *newest; /* hash of pid and start → highest exec_id seen */
	uint32_t n, max, hand;
	uint32_t *free_slots, n_free;
	size_t n_mappings;
	uint64_t ns_per_tick;
	double reads; /* a token bucket of READS_PER_SEC */
	uint64_t reads_ns;
	uint64_t gone, recalled, deferred;
};

int processes_new(struct processes **ret, uint32_t max, struct cgroups *cgroups, struct mapping_log *log)
{
	_cleanup_(processes_freep) struct processes *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->cgroups = cgroups;
	p->log = log;
	p->max = max;
	p->ns_per_tick = NSEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK);
	p->reads = READS_AT_START;
	p->reads_ns = clock_monotonic_ns();
	p->slots = calloc(max, sizeof(*p->slots));
	p->free_slots = calloc(max, sizeof(*p->free_slots));
	if (!p->slots || !p->free_slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < max; i++)
		p->free_slots[p->n_free++] = max - 1 - i;
	r = map64_new(&p->index, max);
	if (r < 0)
		return r;
	r = map64_new(&p->newest, 2 * (size_t)max);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(p);
	return 0;
}

struct processes *processes_free(struct processes *p)
{
	if (!p)
		return NULL;
	for (uint32_t i = 0; p->slots && i < p->max; i++)
		if (p->slots[i].info.key.pid != 0)
			mappings_clear(&p->slots[i].mappings);
	for (size_t i = 0; i < BASES; i++)
		mappings_clear(&p->bases[i].mappings);
	free(p->slots);
	free(p->free_slots);
	map64_free(p->index);
	map64_free(p->newest);
	free(p);
	return NULL;
}

/* ---- the cache ---- */

static uint64_t hash_key(const struct symbols_process_key *key)
{
	uint64_t parts[] = { (uint64_t)key->pid, key->exec_id, key->start_ns };

	return hash64(parts, sizeof(parts), 0);
}

static uint64_t hash_task(const struct symbols_process_key *key)
{
	uint64_t parts[] = { (uint64_t)key->pid, key->start_ns };

	return hash64(parts, sizeof(parts), 1);
}

static void drop_mappings(struct processes *all, struct process *p)
{
	all->n_mappings -= p->mappings.n;
	mappings_clear(&p->mappings);
}

static void evict(struct processes *all, struct process *p)
{
	uint32_t slot = p->slot;

	drop_mappings(all, p);
	map64_remove(all->index, hash_key(&p->info.key));
	*p = (struct process){};
	all->free_slots[all->n_free++] = slot;
	all->n--;
}

/* Second chance: whoever was seen since the hand came by last stays one more round. */
static struct process *next_victim(struct processes *all, const struct process *spared)
{
	for (;;) {
		struct process *p = &all->slots[all->hand];

		all->hand = (all->hand + 1) % all->max;
		if (p->info.key.pid == 0 || p == spared)
			continue;
		if (!p->referenced)
			return p;
		p->referenced = false;
	}
}

static struct process *add(struct processes *all, const struct symbols_process_key *key,
			   const struct process_record *record)
{
	struct process *p;
	uint32_t slot;

	if (all->n_free == 0)
		evict(all, next_victim(all, NULL));
	slot = all->free_slots[--all->n_free];
	p = &all->slots[slot];
	*p = (struct process){
		.slot = slot,
		.cgroup_id = record->cgroup_id,
		.info = { .key = *key,
			  .uid = record->uid,
			  .kernel_thread = record->kernel_thread,
			  .cgroup = "/" },
	};
	(void)map64_put(all->index, hash_key(key), slot);
	all->n++;
	return p;
}

/* True when this process has executed something else since: /proc tells about that now. */
static bool is_superseded(struct processes *all, const struct symbols_process_key *key)
{
	uint64_t task = hash_task(key), newest;

	if (map64_get(all->newest, task, &newest) && newest > key->exec_id)
		return true;
	if (map64_put(all->newest, task, key->exec_id) == -ENOSPC) {
		map64_clear(all->newest);
		(void)map64_put(all->newest, task, key->exec_id);
	}
	return false;
}

/* ---- /proc ---- */

int stat_parse(const char *text, char ret_comm[static 16], uint64_t *ret_start_ticks)
{
	const char *open = strchr(text, '('), *close = strrchr(text, ')'), *field;
	unsigned long long start;
	size_t n;

	if (!open || !close || close < open)
		return -EBADMSG;
	field = close;
	for (int i = 2; i < 22; i++) { /* field 2 is the name: the only one that can hold spaces */
		field = strchr(field + 1, ' ');
		if (!field)
			return -EBADMSG;
	}
	if (sscanf(field, "%llu", &start) != 1)
		return -EBADMSG;
	n = MIN((size_t)(close - open - 1), (size_t)15);
	memcpy(ret_comm, open + 1, n);
	ret_comm[n] = '\0';
	*ret_start_ticks = start;
	return 0;
}

/* Gives a descriptor of /proc/PID, and the name that the process has now. */
static int open_checked(const struct processes *all, const struct symbols_process_key *key,
			char ret_comm[static 16])
{
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ char *text = NULL;
	char path[32];
	uint64_t ticks, expected = key->start_ns / all->ns_per_tick;
	int r;

	snprintf(path, sizeof(path), "/proc/%d", key->pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return negative_errno();
	r = read_small_file(fd, "stat", STAT_MAX, &text, NULL);
	if (r < 0)
		return r;
	r = stat_parse(text, ret_comm, &ticks);
	if (r < 0)
		return r;
	if (ticks + 1 < expected || ticks > expected + 1)
		return -ESRCH; /* another process has got its pid */
	return TAKE_FD(fd);
}

int process_open(struct processes *all, struct process *p)
{
	char comm[16];
	int fd;

	if (p->gone || p->info.kernel_thread || is_superseded(all, &p->info.key))
		return -ESRCH;
	fd = open_checked(all, &p->info.key, comm);
	p->gone = fd == -ENOENT || fd == -ESRCH;
	return fd;
}

int process_open_relative(const struct process *p)
{
	char path[32];
	int fd = -ENOENT;

	if (p->parent > 0) {
		snprintf(path, sizeof(path), "/proc/%d", p->parent);
		fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0)
		fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? negative_errno() : fd;
}

/* The path as the process sees it: below its own root. */
static void read_exe(int fd, char *ret, size_t size)
{
	static const char deleted[] = " (deleted)";
	char exe[4096], root[4096];
	ssize_t n = readlinkat(fd, "exe", exe, sizeof(exe) - 1),
		m = readlinkat(fd, "root", root, sizeof(root) - 1);
	const char *path = exe;

	if (n < 0)
		return;
	exe[n] = '\0';
	if ((size_t)n >= sizeof(deleted) && streq(exe + n - strlen(deleted), deleted))
		exe[n - (ssize_t)strlen(deleted)] = '\0';
	if (m > 1 && strncmp(exe, root, (size_t)m) == 0 && exe[m] == '/')
		path = exe + m;
	copy_string(ret, size, path);
}

static void read_cgroup(struct processes *all, struct process *p, int fd)
{
	const struct cgroup *c = cgroups_find(all->cgroups, p->cgroup_id);
	_cleanup_free_ char *text = NULL;

	if (c) {
		memcpy(p->info.cgroup, c->path, sizeof(p->info.cgroup));
		memcpy(p->info.unit, c->unit, sizeof(p->info.unit));
		if (!streq(c->path, "/"))
			return;
	}
	/* systemd may use a hierarchy of its own beside an unused unified one */
	if (fd < 0 || read_small_file(fd, "cgroup", CGROUP_MAX, &text, NULL) < 0)
		return;
	cgroup_from_proc(text, p->info.cgroup, sizeof(p->info.cgroup));
	unit_from_cgroup(p->info.cgroup, p->info.unit);
}

/* Takes the mappings over. */
static void set_mappings(struct processes *all, struct process *p, struct mappings *m)
{
	drop_mappings(all, p);
	p->mappings = *m;
	all->n_mappings += m->n;
	*m = (struct mappings){};
	while (all->n_mappings > ALL_MAPPINGS_MAX && all->n > 1)
		evict(all, next_victim(all, p));
}

/* What is mapped in a process that is gone is known for long enough when so many others have gone since. */
static void set_gone_mappings(struct processes *all, struct process *p, struct mappings *m)
{
	uint32_t *oldest = &all->gone_kept[all->next_gone];

	if (p->mappings.n == 0) {
		if (*oldest && all->slots[*oldest - 1].gone)
			drop_mappings(all, &all->slots[*oldest - 1]);
		*oldest = p->slot + 1;
		all->next_gone = (all->next_gone + 1) % GONE_KEPT;
	}
	set_mappings(all, p, m);
}

static int read_maps_of(int process_fd, struct mappings *ret)
{
	int fd = openat(process_fd, "maps", O_RDONLY | O_CLOEXEC), r;
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

	if (!f) {
		r = negative_errno();
		close_fd(fd);
		return r;
	}
	r = mappings_read(ret, f);
	fclose(f);
	return r;
}

static int64_t boot_ahead_ns(void)
{
	struct timespec boot;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	return (int64_t)((uint64_t)boot.tv_sec * NSEC_PER_SEC + (uint64_t)boot.tv_nsec - clock_monotonic_ns());
}

static bool may_read(struct processes *all)
{
	uint64_t now = clock_monotonic_ns();

	if (all->reads < READS_PER_SEC)
		all->reads = MIN(all->reads + (double)(now - all->reads_ns) / NSEC_PER_SEC * READS_PER_SEC,
				 (double)READS_PER_SEC);
	all->reads_ns = now;
	if (all->reads < 1)
		return false;
	all->reads -= 1;
	return true;
}

static int read_base(struct processes *all, pid_t pid, struct base *ret)
{
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ char *text = NULL;
	char path[32], comm[16];
	uint64_t ticks;
	int r;

	mappings_clear(&ret->mappings);
	*ret = (struct base){ .read_ns = clock_monotonic_ns() };
	if (!may_read(all)) {
		all->deferred++;
		return -EAGAIN;
	}
	snprintf(path, sizeof(path), "/proc/%d", pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return negative_errno();
	r = read_small_file(fd, "stat", STAT_MAX, &text, NULL);
	if (r >= 0)
		r = stat_parse(text, comm, &ticks);
	if (r >= 0)
		r = read_maps_of(fd, &ret->mappings);
	if (r < 0)
		return r;
	read_exe(fd, ret->exe, sizeof(ret->exe));
	ret->start_ns = ticks * all->ns_per_tick;
	ret->pid = pid;
	return 0;
}

/* An ancestor from before the log: what it has mapped now is what it had, unless it has executed something since, or is another
 * process that got its pid. */
static int find_base(struct processes *all, const struct mapping_image *image, const struct base **ret)
{
	struct base *base = &all->bases[(uint32_t)image->base % BASES];
	int r;

	if (base->pid != image->base || clock_monotonic_ns() - base->read_ns > BASE_AGE_NS ||
	    mapping_log_has_changed(all->log, base->pid, base->read_ns)) {
		r = read_base(all, image->base, base);
		if (r < 0)
			return r;
	}
	if ((int64_t)base->start_ns > (int64_t)image->base_ns + boot_ahead_ns() ||
	    mapping_log_has_changed(all->log, image->base, image->base_ns))
		return -ESRCH;
	*ret = base;
	return 0;
}

/* Of a process that is gone: what it had executed when it was seen, and what was mapped; ret_mappings may be NULL. */
static int recall(struct processes *all, struct process *p, struct mappings *ret_mappings)
{
	const struct base *base = NULL;
	struct mapping_image image;
	_cleanup_(mappings_clear) struct mappings m = {};
	int r = p->info.key.seen_ns ? mapping_log_image(all->log, p->info.key.pid, p->info.key.seen_ns, &image) : -ENOENT;

	if (r < 0)
		return r;
	p->parent = image.parent;
	if (image.base)
		r = find_base(all, &image, &base);
	if (r >= 0)
		copy_string(p->info.exe, sizeof(p->info.exe), base ? base->exe : image.exe);
	if (r >= 0 && ret_mappings && base)
		r = mappings_copy(&m, &base->mappings);
	for (size_t i = 0; r >= 0 && ret_mappings && i < image.mappings.n; i++) {
		r = mappings_put(&m, &image.mappings.items[i]);
		image.mappings.items[i].path = NULL;
	}
	mapping_image_done(&image);
	if (r >= 0 && ret_mappings) {
		*ret_mappings = m;
		m = (struct mappings){};
	}
	return r;
}

static void settle_as_gone(struct processes *all, struct process *p)
{
	p->info.settled = p->gone = true;
	p->info.identified = recall(all, p, NULL) >= 0 && p->info.exe[0];
	if (p->info.identified)
		all->recalled++;
	else
		all->gone++;
}

static void look(struct processes *all, struct process *p, const struct process_record *record)
{
	_cleanup_close_ int fd = -EBADF;
	char comm[16];

	if (is_superseded(all, &p->info.key)) {
		read_cgroup(all, p, -EBADF);
		settle_as_gone(all, p);
		return;
	}
	fd = open_checked(all, &p->info.key, comm);
	if (fd < 0) {
		read_cgroup(all, p, -EBADF);
		settle_as_gone(all, p);
		return;
	}
	read_cgroup(all, p, fd);
	if (record->comm && strncmp(comm, record->comm, sizeof(comm)) != 0 && ++p->tries < NAME_TRIES) {
		p->retry_ns = clock_monotonic_ns() + RETRY_NS;
		return;
	}
	read_exe(fd, p->info.exe, sizeof(p->info.exe));
	if (p->info.exe[0] == '\0') { /* a zombie */
		settle_as_gone(all, p);
		return;
	}
	if (p->info.comm[0] == '\0')
		memcpy(p->info.comm, comm, sizeof(comm));
	p->info.identified = p->info.settled = true;
}

static void look_if_allowed(struct processes *all, struct process *p, const struct process_record *record)
{
	if (p->info.kernel_thread) {
		read_cgroup(all, p, -EBADF);
		p->info.identified = p->info.settled = true;
		return;
	}
	if (p->retry_ns > clock_monotonic_ns())
		return;
	/* Most of a burst is over by now, and costs nothing more. */
	if (kill(p->info.key.pid, 0) < 0 && errno == ESRCH) {
		read_cgroup(all, p, -EBADF);
		settle_as_gone(all, p);
		return;
	}
	if (!may_read(all)) {
		if (p->retry_ns == 0)
			read_cgroup(all, p, -EBADF);
		p->retry_ns = clock_monotonic_ns() + RETRY_NS;
		all->deferred++;
		return;
	}
	look(all, p, record);
}

struct process *processes_get(struct processes *all, const struct symbols_process_key *key,
			      const struct process_record *record)
{
	struct process *p = NULL;
	uint64_t slot;

	if (map64_get(all->index, hash_key(key), &slot))
		p = &all->slots[slot];
	if (!p)
		p = add(all, key, record);
	p->referenced = true;
	p->info.key.seen_ns = MAX(p->info.key.seen_ns, key->seen_ns);
	p->seen_ns = clock_monotonic_ns();
	if (record->comm) {
		p->info.uid = record->uid;
		copy_string(p->info.comm, sizeof(p->info.comm), record->comm);
		if (record->cgroup_id != 0 && record->cgroup_id != p->cgroup_id) { /* it was moved */
			p->cgroup_id = record->cgroup_id;
			read_cgroup(all, p, -EBADF);
		}
	}
	if (!p->info.settled)
		look_if_allowed(all, p, record);
	return p;
}

/* ---- mappings ---- */

static int read_mappings(struct processes *all, struct process *p)
{
	_cleanup_close_ int process_fd = -EBADF;
	uint64_t before = clock_monotonic_ns(), after;
	struct mappings m;
	int r;

	if (!p->info.settled)
		return -EAGAIN;
	process_fd = process_open(all, p);
	r = process_fd < 0 ? recall(all, p, &m) : read_maps_of(process_fd, &m);
	if (r < 0)
		return r;
	if (m.n == 0 &&
	    p->mappings.n > 0) { /* it is just ending: what was there is what the addresses mean */
		mappings_clear(&m);
		return 0;
	}
	if (process_fd < 0)
		set_gone_mappings(all, p, &m);
	else
		set_mappings(all, p, &m);
	after = clock_monotonic_ns();
	p->maps_pause_ns = MAX(p->maps_pause_ns, (after - before) * MAPS_COST_FACTOR);
	return 0;
}

struct mapping *process_mapping(struct processes *all, struct process *p, uint64_t address)
{
	struct mapping *m = mappings_find(&p->mappings, address);
	uint64_t now;

	if (m || p->info.kernel_thread || address < USER_ADDRESS_MIN || address > INT64_MAX)
		return m;
	now = clock_monotonic_ns();
	if (now < p->maps_retry_ns)
		return NULL;
	p->maps_pause_ns = MIN(MAX(2 * p->maps_pause_ns, MAPS_PAUSE_MIN_NS), MAPS_PAUSE_MAX_NS);
	if (read_mappings(all, p) >= 0)
		m = mappings_find(&p->mappings, address);
	if (m)
		p->maps_pause_ns = 0;
	p->maps_retry_ns = now + MAX(p->maps_pause_ns, MAPS_PAUSE_MIN_NS);
	return m;
}

/* ---- upkeep ---- */

void processes_forget(struct processes *all, uint64_t now_ns)
{
	for (uint32_t i = 0; i < all->max; i++) {
		struct process *p = &all->slots[i];

		if (p->info.key.pid != 0 && now_ns - p->seen_ns > FORGET_NS && kill(p->info.key.pid, 0) < 0 &&
		    errno == ESRCH)
			evict(all, p);
	}
}

void processes_get_status(const struct processes *p, struct processes_status *ret)
{
	*ret = (struct processes_status){
		.processes = p->n,
		.processes_max = p->max,
		.mappings = (uint32_t)p->n_mappings,
		.gone = p->gone,
		.recalled = p->recalled,
		.deferred = p->deferred,
	};
}
