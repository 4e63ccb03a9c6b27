/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loads and attaches what this kernel allows. What may be missing is found by trying, in order of preference. */
#include <bpf/btf.h>
#include <fcntl.h>

#include "internal.h"
#include "stackd.skel.h"

/* Which of the programs that are not always needed are to be loaded, by name. */
struct wish {
	const char *program;
	bool wanted;
	const char *instead; /* what is lost or used when the kernel refuses it */
};

enum {
	WISH_WAKEUP,
	WISH_PELT_CFS,
	WISH_PELT_RT,
	WISH_NR_RUNNING,
	WISH_GATE_FENTRY,
	WISH_GATE_KPROBE,
	WISH_ONCPU_FENTRY,
	WISH_ONCPU_KPROBE,
	WISH_SLEEPABLE,
	WISH_PLAIN,
	WISH_MAPS_LOCK,
	WISH_MAPS_LOCK_WITH_PATH,
	WISH_MAPS_UNLOCK,
	WISH_RSS,
	WISH_RSS_END,
	WISH_HEAP_SESSION,
	WISH_HEAP_ENTRY,
	WISH_HEAP_RETURN,
	WISH_KMALLOC,
	WISH_CACHE_ALLOC,
	WISH_KFREE,
	WISH_CACHE_FREE,
	WISH_N,
};

/* Where the tracepoints of memory are called, and where a page fault enters the kernel. */
static const struct hook hooks[HOOKS] = {
	[HOOK_MAPS] = { .name = "__mmap_lock_do_trace_released" },
	[HOOK_RSS] = { .name = "mm_trace_rss_stat" },
	[HOOK_FAULT] = { .name = "asm_exc_page_fault" },
};

static char refused_program[64];

/* libbpf names the program that the kernel refused only in its messages. */
static int on_libbpf_message(enum libbpf_print_level level, const char *format, va_list args)
{
	char text[2048], name[sizeof refused_program];
	size_t n;

	if (level == LIBBPF_DEBUG)
		return 0;
	vsnprintf(text, sizeof text, format, args);
	if (sscanf(text, "libbpf: prog '%63[^']': failed to load", name) == 1 ||
	    sscanf(text, "libbpf: prog '%63[^']': failed to find kernel BTF", name) == 1)
		copy_string(refused_program, sizeof refused_program, name);
	n = strlen(text);
	while (n > 0 && text[n - 1] == '\n')
		text[--n] = 0;
	log_debug("%s", text);
	return 0;
}

static bool has_tracepoint(const struct btf *btf, const char *name)
{
	char type[64];

	snprintf(type, sizeof type, "btf_trace_%s", name);
	return btf__find_by_name_kind(btf, type, BTF_KIND_TYPEDEF) > 0;
}

/* How many arguments a tracepoint has; 0: there is no such one. */
static unsigned tracepoint_arguments(const struct btf *btf, const char *name)
{
	const struct btf_type *type;
	char typedef_name[64];
	int id;

	snprintf(typedef_name, sizeof typedef_name, "btf_trace_%s", name);
	id = btf__find_by_name_kind(btf, typedef_name, BTF_KIND_TYPEDEF);
	if (id < 0)
		return 0;
	type = btf__type_by_id(btf, btf__type_by_id(btf, (uint32_t)id)->type);
	if (!btf_is_ptr(type))
		return 0;
	type = btf__type_by_id(btf, type->type);
	/* The first is the tracepoint's own. */
	return btf_is_func_proto(type) && btf_vlen(type) > 0 ? btf_vlen(type) - 1U : 0;
}

/* The lock of an address space, with or without a cgroup's path among the arguments. */
static void look_at_maps(struct programs *p, const struct btf *btf)
{
	unsigned released = tracepoint_arguments(btf, "mmap_lock_released"),
	         acquired = tracepoint_arguments(btf, "mmap_lock_acquire_returned");

	p->maps_offered = acquired == released + 1 && (released == 2 || released == 3);
	p->maps_with_path = released == 3;
	p->maps_cheap = btf__find_by_name_kind(btf, "lock_vma_under_rcu", BTF_KIND_FUNC) > 0;
}

/* Probes in many functions by one link, at entry and return by one program; or by one link each of both; or by one event a function. */
static void look_at_heap(struct programs *p, const struct btf *btf)
{
	p->heap = btf__find_by_name_kind(btf, "bpf_session_is_return", BTF_KIND_FUNC) > 0 &&
	                  btf__find_by_name_kind(btf, "uprobe_multi_link_handler", BTF_KIND_FUNC) > 0
	          ? HEAP_BY_SESSION
	          : btf__find_by_name_kind(btf, "bpf_uprobe_multi_link", BTF_KIND_STRUCT) > 0 ? HEAP_BY_MULTI
	                                                                                     : HEAP_BY_EVENTS;
}

/* As they are since 6.1: (caller, address, ...). */
static void look_at_kmem(struct programs *p, const struct btf *btf)
{
	p->kmem_offered = tracepoint_arguments(btf, "kmalloc") == 6 && tracepoint_arguments(btf, "kmem_cache_alloc") == 5 &&
	                  tracepoint_arguments(btf, "kfree") == 2 && tracepoint_arguments(btf, "kmem_cache_free") == 3;
}

/* Whether the kernel books how long threads wait for a CPU: else wake-ups are seen. */
static bool books_delays(const struct btf *btf)
{
	int id = btf__find_by_name_kind(btf, "sched_info", BTF_KIND_STRUCT);

	return id > 0 && btf_vlen(btf__type_by_id(btf, (uint32_t)id)) > 0;
}

static int make_wishes(struct wish wishes[static WISH_N], struct programs *p, const struct collect_config *config)
{
	struct btf *btf = btf__load_vmlinux_btf();
	bool clock_typed, pelt, nr_running, hook = config->oncpu_source == ONCPU_UPDATE_RQ_CLOCK;

	if (!btf) {
		int r = negative_errno();

		log_error("The kernel offers no BTF (/sys/kernel/btf/vmlinux): %s", strerror(-r));
		return r;
	}
	look_at_maps(p, btf);
	look_at_heap(p, btf);
	look_at_kmem(p, btf);
	pelt = has_tracepoint(btf, "pelt_cfs_tp");
	nr_running = has_tracepoint(btf, "sched_update_nr_running_tp");
	clock_typed = btf__find_by_name_kind(btf, "update_rq_clock", BTF_KIND_FUNC) > 0;
	const struct wish made[WISH_N] = {
		[WISH_WAKEUP] = { "on_wakeup", !books_delays(btf), "waits for a CPU count as blocked" },
		[WISH_PELT_CFS] = { "gate_pelt_cfs", pelt, "the load is looked at elsewhere" },
		[WISH_PELT_RT] = { "gate_pelt_rt", pelt && has_tracepoint(btf, "pelt_rt_tp"),
		                   "real-time tasks alone don't show in the load between ticks" },
		[WISH_NR_RUNNING] = { "gate_nr_running", !pelt && nr_running, "the load is looked at elsewhere" },
		[WISH_GATE_FENTRY] = { "gate_fentry", !pelt && !nr_running && clock_typed, "a kprobe is tried" },
		[WISH_GATE_KPROBE] = { "gate_kprobe", !pelt && !nr_running, "a timer looks at the load" },
		[WISH_ONCPU_FENTRY] = { "on_cpu_fentry", hook && clock_typed, "a kprobe is tried" },
		[WISH_ONCPU_KPROBE] = { "on_cpu_kprobe", hook, "perf events are used" },
		[WISH_SLEEPABLE] = { "visit_tasks_sleepable", true, "long waits have kernel stacks only" },
		[WISH_PLAIN] = { "visit_tasks", false, "there are no totals" },
		[WISH_MAPS_LOCK] = { "on_mmap_lock", p->maps_offered && !p->maps_with_path, "brk and mmap are not seen" },
		[WISH_MAPS_LOCK_WITH_PATH] = { "on_mmap_lock_with_path", p->maps_offered && p->maps_with_path, "brk and mmap are not seen" },
		[WISH_MAPS_UNLOCK] = { "on_mmap_unlock", p->maps_offered, "brk and mmap are not seen" },
		[WISH_RSS] = { "on_rss_stat", has_tracepoint(btf, "rss_stat"), "resident memory is seen at sampled faults only" },
		[WISH_RSS_END] = { "on_exit_mmap", has_tracepoint(btf, "exit_mmap"), "address spaces that ended are forgotten later" },
		[WISH_HEAP_SESSION] = { "heap_session", p->heap == HEAP_BY_SESSION, "every call of an allocator has a return probe" },
		[WISH_HEAP_ENTRY] = { "heap_entry", p->heap != HEAP_BY_SESSION, "heaps can't be watched" },
		[WISH_HEAP_RETURN] = { "heap_return", p->heap != HEAP_BY_SESSION, "heaps can't be watched" },
		[WISH_KMALLOC] = { "kmem_kmalloc", p->kmem_offered, "the kernel's memory can't be watched" },
		[WISH_CACHE_ALLOC] = { "kmem_cache_alloc", p->kmem_offered, "the kernel's memory can't be watched" },
		[WISH_KFREE] = { "kmem_kfree", p->kmem_offered, "the kernel's memory can't be watched" },
		[WISH_CACHE_FREE] = { "kmem_cache_free", p->kmem_offered, "the kernel's memory can't be watched" },
	};

	memcpy(wishes, made, sizeof made);
	btf__free(btf);
	return 0;
}

static struct wish *find_wish(struct wish wishes[static WISH_N], const char *program)
{
	for (size_t i = 0; i < WISH_N; i++)
		if (streq(wishes[i].program, program))
			return &wishes[i];
	return NULL;
}

static int open_once(struct stackd_bpf **ret, const struct collect_config *config, const struct programs *p, struct wish wishes[static WISH_N])
{
	struct stackd_bpf *skel = stackd_bpf__open();

	if (!skel)
		return negative_errno();
	for (size_t i = 0; i < WISH_N; i++)
		bpf_program__set_autoload(bpf_object__find_program_by_name(skel->obj, wishes[i].program), wishes[i].wanted);
	bpf_map__set_max_entries(skel->maps.stacks, config->max_stacks);
	bpf_map__set_max_entries(skel->maps.counts_0, config->max_counts);
	bpf_map__set_max_entries(skel->maps.counts_1, config->max_counts);
	bpf_map__set_max_entries(skel->maps.exits_0, config->max_processes);
	bpf_map__set_max_entries(skel->maps.exits_1, config->max_processes);
	bpf_map__set_max_entries(skel->maps.rss_accounts, config->max_processes);
	bpf_map__set_max_entries(skel->maps.heap_blocks, config->max_heap_blocks);
	bpf_map__set_max_entries(skel->maps.known_stacks, p->known_places);
	bpf_map__set_max_entries(skel->maps.moments, 2 * moments_cpus() * moments_per_cpu(config));
	bpf_map__set_max_entries(skel->maps.wait_sums, wait_sums_entries());
	bpf_map__set_max_entries(skel->maps.thread_waits, 2 * moments_cpus() * thread_waits_per_cpu(config));
	bpf_program__set_expected_attach_type(skel->progs.heap_session, (enum bpf_attach_type)ATTACH_UPROBE_SESSION);
	if (p->heap == HEAP_BY_MULTI) {
		bpf_program__set_expected_attach_type(skel->progs.heap_entry, (enum bpf_attach_type)ATTACH_UPROBE_MULTI);
		bpf_program__set_expected_attach_type(skel->progs.heap_return, (enum bpf_attach_type)ATTACH_UPROBE_MULTI);
	}
	*ret = skel;
	return 0;
}

/* Loads everything that is wished for; takes back the wish that the kernel refuses, and tries again. */
static int load_wishes(struct programs *p, const struct collect_config *config, struct wish wishes[static WISH_N])
{
	for (;;) {
		struct stackd_bpf *skel;
		struct wish *wish;
		int r = open_once(&skel, config, p, wishes);

		if (r < 0) {
			log_error("The BPF object can't be opened: %s", strerror(-r));
			return r;
		}
		refused_program[0] = 0;
		r = stackd_bpf__load(skel);
		if (r == 0) {
			p->skel = skel;
			return 0;
		}
		stackd_bpf__destroy(skel);
		wish = find_wish(wishes, refused_program);
		if (!wish || !wish->wanted) {
			log_error("The BPF programs can't be loaded: %s%s%s", strerror(-r),
			          refused_program[0] ? ", refused: " : "", refused_program);
			return r;
		}
		log_info("This kernel refuses the program %s (%s): %s", wish->program, strerror(-r), wish->instead);
		wish->wanted = false;
		if (wish == &wishes[WISH_SLEEPABLE])
			wishes[WISH_PLAIN].wanted = true;
		if (wish == &wishes[WISH_HEAP_SESSION]) {
			p->heap = HEAP_BY_MULTI;
			wishes[WISH_HEAP_ENTRY].wanted = wishes[WISH_HEAP_RETURN].wanted = true;
		}
		if (wish == &wishes[WISH_HEAP_ENTRY] || wish == &wishes[WISH_HEAP_RETURN])
			p->heap = HEAP_NOT_AT_ALL;
	}
}

/* The object is a part of our own executable file, a megabyte, from which it comes again if it is read again. */
static void let_go_of_object(void)
{
	size_t size;
	const void *bytes = stackd_bpf__elf_bytes(&size);

	memory_give_back((void *)bytes, size);
}

/* Attaches one program if it was loaded. Gives the link, or NULL after having said why. */
static struct bpf_link *attach(struct bpf_program *program, const char *what)
{
	struct bpf_link *link;

	if (!bpf_program__autoload(program))
		return NULL;
	link = bpf_program__attach(program);
	if (!link)
		log_info("%s can't be attached: %s", what, strerror(errno));
	return link;
}

static void attach_load(struct programs *p)
{
	struct stackd_bpf *skel = p->skel;

	skel->links.gate_pelt_cfs = attach(skel->progs.gate_pelt_cfs, "pelt_cfs_tp");
	if (skel->links.gate_pelt_cfs) {
		skel->links.gate_pelt_rt = attach(skel->progs.gate_pelt_rt, "pelt_rt_tp");
		p->load_source = skel->links.gate_pelt_rt ? "pelt_cfs_tp, pelt_rt_tp" : "pelt_cfs_tp";
		return;
	}
	skel->links.gate_nr_running = attach(skel->progs.gate_nr_running, "sched_update_nr_running_tp");
	if (skel->links.gate_nr_running) {
		p->load_source = "sched_update_nr_running_tp";
		return;
	}
	skel->links.gate_fentry = attach(skel->progs.gate_fentry, "update_rq_clock (fentry)");
	if (skel->links.gate_fentry) {
		p->load_source = "update_rq_clock (fentry)";
		return;
	}
	skel->links.gate_kprobe = attach(skel->progs.gate_kprobe, "update_rq_clock (kprobe)");
	if (skel->links.gate_kprobe) {
		p->load_source = "update_rq_clock (kprobe)";
		return;
	}
	p->load_by_timer = true;
	p->load_source = "run queues, by timer";
}

static void attach_oncpu(struct programs *p, const struct collect_config *config)
{
	struct stackd_bpf *skel = p->skel;

	p->oncpu = ONCPU_BY_PERF;
	if (config->oncpu_source != ONCPU_UPDATE_RQ_CLOCK)
		return;
	skel->links.on_cpu_fentry = attach(skel->progs.on_cpu_fentry, "update_rq_clock (fentry)");
	if (skel->links.on_cpu_fentry) {
		p->oncpu = ONCPU_BY_FENTRY;
		return;
	}
	skel->links.on_cpu_kprobe = attach(skel->progs.on_cpu_kprobe, "update_rq_clock (kprobe)");
	if (skel->links.on_cpu_kprobe) {
		p->oncpu = ONCPU_BY_KPROBE;
		return;
	}
	log_warning("update_rq_clock can't be hooked on this kernel; on-CPU time is sampled by perf events instead");
}

static int attach_tasks(struct programs *p)
{
	struct stackd_bpf *skel = p->skel;

	p->sleepable_iterator = bpf_program__autoload(skel->progs.visit_tasks_sleepable);
	skel->links.visit_tasks_sleepable = attach(skel->progs.visit_tasks_sleepable, "The task iterator");
	skel->links.visit_tasks = attach(skel->progs.visit_tasks, "The task iterator");
	if (!skel->links.visit_tasks_sleepable && !skel->links.visit_tasks) {
		log_error("There is no task iterator: totals and long waits can't be read");
		return -EOPNOTSUPP;
	}
	skel->links.on_exit = attach(skel->progs.on_exit, "sched_process_exit");
	skel->links.on_free = attach(skel->progs.on_free, "sched_process_free");
	if (!skel->links.on_exit || !skel->links.on_free)
		log_warning("Exits can't be seen: the last moments of processes are missing from the totals");
	return 0;
}

int programs_load(struct programs *p, const struct collect_config *config)
{
	struct wish wishes[WISH_N];
	int r;

	*p = (struct programs){ .known_places = known_places(libbpf_num_possible_cpus()) };
	libbpf_set_print(on_libbpf_message);
	r = make_wishes(wishes, p, config);
	if (r < 0)
		return r;
	r = load_wishes(p, config, wishes);
	if (r < 0)
		return r;
	let_go_of_object();
	p->maps_offered = wishes[p->maps_with_path ? WISH_MAPS_LOCK_WITH_PATH : WISH_MAPS_LOCK].wanted && wishes[WISH_MAPS_UNLOCK].wanted;
	for (size_t i = WISH_KMALLOC; i <= WISH_CACHE_FREE; i++)
		p->kmem_offered &= wishes[i].wanted;
	p->halves = (struct halves){
		.control = &p->skel->bss->control,
		.guards = p->skel->bss->guards,
		.counts = { bpf_map__fd(p->skel->maps.counts_0), bpf_map__fd(p->skel->maps.counts_1) },
		.exits = { bpf_map__fd(p->skel->maps.exits_0), bpf_map__fd(p->skel->maps.exits_1) },
		.losses = bpf_map__fd(p->skel->maps.losses),
	};
	r = attach_tasks(p);
	if (r < 0) {
		programs_unload(p);
		return r;
	}
	memcpy(p->hooks, hooks, sizeof p->hooks);
	kernel_text_find(p->hooks, ELEMENTS_OF(p->hooks), &p->sched_start, &p->sched_end);
	attach_load(p);
	attach_oncpu(p, config);
	p->skel->links.on_exit_mmap = attach(p->skel->progs.on_exit_mmap, "exit_mmap");
	return 0;
}

void programs_unload(struct programs *p)
{
	programs_detach_switch(p);
	programs_detach_maps(p);
	if (p->skel)
		stackd_bpf__destroy(p->skel);
	p->skel = NULL;
}

static void detach_in_order(struct bpf_link **links, size_t n)
{
	while (n-- > 0) {
		bpf_link__destroy(links[n]);
		links[n] = NULL;
	}
}

/* All or none. */
static int attach_in_order(struct bpf_program *const *order, struct bpf_link **links, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (links[i] || !bpf_program__autoload(order[i]))
			continue;
		links[i] = bpf_program__attach(order[i]);
		if (!links[i]) {
			int r = negative_errno();

			detach_in_order(links, n);
			return r;
		}
	}
	return 0;
}

int programs_attach_switch(struct programs *p)
{
	/* Wake-ups first: a wait whose switch-out is seen must not lose its wake-up. */
	struct bpf_program *order[] = { p->skel->progs.on_wakeup, p->skel->progs.on_fork, p->skel->progs.on_switch };

	_Static_assert(ELEMENTS_OF(order) == ELEMENTS_OF(p->switch_links), "one link each");
	return attach_in_order(order, p->switch_links, ELEMENTS_OF(order));
}

void programs_detach_switch(struct programs *p)
{
	detach_in_order(p->switch_links, ELEMENTS_OF(p->switch_links));
}

int programs_attach_maps(struct programs *p)
{
	struct bpf_program *order[] = {
		p->skel->progs.on_mmap_unlock,
		p->maps_with_path ? p->skel->progs.on_mmap_lock_with_path : p->skel->progs.on_mmap_lock,
	};

	_Static_assert(ELEMENTS_OF(order) == ELEMENTS_OF(p->maps_links), "one link each");
	if (!p->maps_offered)
		return -EOPNOTSUPP;
	return attach_in_order(order, p->maps_links, ELEMENTS_OF(order));
}

void programs_detach_maps(struct programs *p)
{
	detach_in_order(p->maps_links, ELEMENTS_OF(p->maps_links));
}

int programs_attach_rss(struct programs *p)
{
	struct bpf_program *program = p->skel->progs.on_rss_stat;

	if (!bpf_program__autoload(program))
		return -EOPNOTSUPP;
	if (!p->skel->links.on_rss_stat)
		p->skel->links.on_rss_stat = bpf_program__attach(program);
	return p->skel->links.on_rss_stat ? 0 : negative_errno();
}

void programs_detach_rss(struct programs *p)
{
	bpf_link__destroy(p->skel->links.on_rss_stat);
	p->skel->links.on_rss_stat = NULL;
}

uint64_t map_memlock(int fd)
{
	_cleanup_free_ char *text = NULL;
	char path[64];
	const char *at;

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	if (read_small_file(AT_FDCWD, path, 8192, &text, NULL) < 0)
		return 0;
	at = strstr(text, "memlock:");
	return at ? strtoull(at + strlen("memlock:"), NULL, 10) : 0;
}

uint64_t programs_map_bytes(const struct programs *p)
{
	struct bpf_map *map;
	uint64_t sum = 0;

	bpf_object__for_each_map(map, p->skel->obj)
		sum += map_memlock(bpf_map__fd(map));
	return sum;
}

static bool program_info(const struct bpf_program *program, struct bpf_prog_info *ret)
{
	uint32_t size = sizeof *ret;
	int fd = bpf_program__fd(program);

	memset(ret, 0, sizeof *ret);
	return fd >= 0 && bpf_obj_get_info_by_fd(fd, ret, &size) == 0;
}

uint64_t programs_run_ns(const struct programs *p)
{
	struct bpf_program *program;
	struct bpf_prog_info info;
	uint64_t sum = 0;

	bpf_object__for_each_program(program, p->skel->obj)
		if (bpf_program__autoload(program) && program_info(program, &info))
			sum += info.run_time_ns;
	return sum;
}

static uint64_t sum_skipped(const struct bpf_program *const *programs, size_t n)
{
	struct bpf_prog_info info;
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		if (bpf_program__autoload(programs[i]) && program_info(programs[i], &info))
			sum += info.recursion_misses;
	return sum;
}

uint64_t programs_skipped(const struct programs *p)
{
	const struct bpf_program *counted[] = {
		p->skel->progs.on_switch, p->skel->progs.on_wakeup, p->skel->progs.on_fork, p->skel->progs.on_exit,
		p->skel->progs.on_free, p->skel->progs.on_cpu_fentry, p->skel->progs.on_cpu_kprobe, p->skel->progs.on_mmap_unlock,
		p->skel->progs.on_mmap_lock, p->skel->progs.on_mmap_lock_with_path,
		p->skel->progs.on_rss_stat,
	};

	return sum_skipped(counted, ELEMENTS_OF(counted));
}

uint64_t programs_skipped_kmem(const struct programs *p)
{
	const struct bpf_program *counted[] = {
		p->skel->progs.kmem_kmalloc, p->skel->progs.kmem_cache_alloc, p->skel->progs.kmem_kfree, p->skel->progs.kmem_cache_free,
	};

	return sum_skipped(counted, ELEMENTS_OF(counted));
}
