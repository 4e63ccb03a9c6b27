/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two helpers as the daemon meets them: what they may do, what they answer, and how they die. */
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "demangle.h"
#include "elf_plt.c"
#include "helper.c"
#include "ask_parser.c"

static struct helper *start(void)
{
	struct helper *h = NULL;

	assert_int_equal(helper_start(&h), 0);
	return h;
}

#define HELPER _cleanup_(helper_stopp) struct helper *h = start()

static char *status_field(pid_t pid, const char *name)
{
	static char line[256];
	char path[64];
	_cleanup_fclose_ FILE *f = NULL;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		size_t n = strlen(name);

		if (strncmp(line, name, n) == 0 && line[n] == ':') {
			line[strcspn(line, "\n")] = '\0';
			return line + n + 1 + strspn(line + n + 1, "\t ");
		}
	}
	fail_msg("no field %s", name);
	return NULL;
}

#define SYS_ADMIN_AND_PERFMON ((1ULL << 21) | (1ULL << 38))

static void test_confined(void **state _unused_)
{
	HELPER;
	pid_t opener = helper_opener_pid(h), parser = helper_parser_pid(h);

	assert_true(opener > 0 && parser > 0 && opener != parser);
	assert_string_equal(status_field(opener, "Name"), "stackd-opener");
	assert_string_equal(status_field(parser, "Name"), "stackd-parser");
	if (geteuid() == 0) {
		assert_true(strtoull(status_field(opener, "CapEff"), NULL, 16) == SYS_ADMIN_AND_PERFMON);
		assert_true(strtoull(status_field(opener, "CapPrm"), NULL, 16) == SYS_ADMIN_AND_PERFMON);
		assert_true(strtoull(status_field(parser, "CapBnd"), NULL, 16) == 0);
		assert_int_not_equal(strtoul(status_field(parser, "Uid"), NULL, 10), 0);
	}
	assert_true(strtoull(status_field(parser, "CapEff"), NULL, 16) == 0);
	assert_true(strtoull(status_field(parser, "CapPrm"), NULL, 16) == 0);
	assert_true(strtoull(status_field(parser, "CapInh"), NULL, 16) == 0);
	assert_string_equal(status_field(opener, "Seccomp"), "2");
	assert_string_equal(status_field(parser, "Seccomp"), "2");
	assert_string_equal(status_field(opener, "NoNewPrivs"), "1");
	assert_string_equal(status_field(parser, "NoNewPrivs"), "1");
}

static size_t count_fds(pid_t pid)
{
	char path[64];
	size_t n = 0;

	for (int fd = 0; fd < 256; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		n += faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	}
	return n;
}

static void test_inherits_no_descriptors(void **state _unused_)
{
	int extra = dup(STDERR_FILENO); /* without close-on-exec */
	HELPER;

	assert_int_equal(count_fds(helper_opener_pid(h)), 4); /* 0, 1, 2 and its socket */
	assert_int_equal(count_fds(helper_parser_pid(h)), 4);
	close(extra);
}

/* Runs fn in a confined child of that kind and gives how it ended. */
static int run_confined(enum child_kind kind, void (*fn)(void))
{
	int status;
	pid_t parent = getpid(), pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = open("/dev/null", O_RDWR);

		if (confine(kind, fd, parent, NOBODY, NOBODY) < 0)
			_exit(99);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void do_nothing(void)
{
}

static void do_socket(void)
{
	socket(AF_UNIX, SOCK_STREAM, 0);
}

static void do_exec(void)
{
	execl("/bin/true", "true", NULL);
}

static void do_fork(void)
{
	if (fork() == 0)
		_exit(0);
}

static void do_open(void)
{
	_exit(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES ? 0 : 98);
}

static void do_write_to_stderr(void)
{
	if (pwrite(STDERR_FILENO, "x", 1, 0) < 0)
		_exit(97);
}

static void do_write_by_a_large_number(void)
{
	syscall(SYS_pwrite64, (1ULL << 32) + STDERR_FILENO, "x", 1, 0ULL);
}

static void do_duplicate(void)
{
	if (fcntl(STDERR_FILENO, F_DUPFD, 5) < 0)
		_exit(97);
}

static void do_spin(void)
{
	struct itimerval timer = { .it_value.tv_usec = 50000 };

	setitimer(ITIMER_REAL, &timer, NULL);
	for (;;)
		__asm__ volatile("");
}

/* A daemon that may not kill the parser relies on this. */
static void test_parser_has_its_own_timer(void **state _unused_)
{
	int status = run_confined(CHILD_PARSER, do_spin);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGALRM);
}

static void test_forbidden_calls_kill(void **state _unused_)
{
	static void (*const forbidden[])(void) = { do_socket, do_exec, do_fork, do_write_to_stderr,
						   do_write_by_a_large_number, do_duplicate };

	for (enum child_kind kind = CHILD_OPENER; kind <= CHILD_PARSER; kind++) {
		assert_int_equal(run_confined(kind, do_nothing), 0);
		assert_int_equal(run_confined(kind, do_open), 0);
		for (size_t i = 0; i < ELEMENTS_OF(forbidden); i++) {
			int status = run_confined(kind, forbidden[i]);

			assert_true(WIFSIGNALED(status));
			assert_int_equal(WTERMSIG(status), SIGSYS);
		}
	}
}

static void test_dies_with_the_daemon(void **state _unused_)
{
	int pipe_fds[2], status;
	pid_t pids[2], daemon;

	assert_int_equal(pipe(pipe_fds), 0);
	daemon = fork();
	if (daemon == 0) {
		struct helper *h;

		if (helper_start(&h) < 0)
			_exit(1);
		pids[0] = helper_opener_pid(h);
		pids[1] = helper_parser_pid(h);
		if (write(pipe_fds[1], pids, sizeof(pids)) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(pipe_fds[0], pids, sizeof(pids)), sizeof(pids));
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	/* whatever they are at: they don't get to see that their socket is closed */
	kill(pids[0], SIGSTOP);
	kill(pids[1], SIGSTOP);
	kill(daemon, SIGKILL);
	waitpid(daemon, &status, 0);
	for (int i = 0; i < 2; i++) {
		int tries = 0;
		char path[64], state_path[64];

		snprintf(path, sizeof(path), "/proc/%d", pids[i]);
		snprintf(state_path, sizeof(state_path), "/proc/%d/status", pids[i]);
		/* without an init that reaps they may stay as zombies */
		while (access(path, F_OK) == 0 && status_field(pids[i], "State")[0] != 'Z' && tries++ < 100)
			usleep(10000);
		assert_true(tries < 100);
	}
}

/* ---- opener ---- */

static void need_root(void)
{
	if (geteuid() != 0) {
		print_message("# perf events need root\n");
		skip();
	}
}

static void test_opens_events(void **state _unused_)
{
	static const struct {
		enum opener_event event;
		bool freq;
		uint64_t value;
	} cases[] = {
		{ OPENER_CPU_CLOCK, true, 49 },    { OPENER_CPU_CLOCK, false, 20408163 },
		{ OPENER_FAULTS_MINOR, true, 99 }, { OPENER_FAULTS_MINOR, false, 1 },
		{ OPENER_FAULTS_MAJOR, false, 1 },
	};

	need_root();
	HELPER;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		_cleanup_close_ int fd = -EBADF;
		uint64_t count;

		assert_int_equal(
			helper_open_perf_event(h, cases[i].event, 0, cases[i].freq, cases[i].value, &fd), 0);
		assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		/* disabled until asked, and it counts then */
		usleep(2000);
		assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
		assert_true(count == 0);
		assert_int_equal(ioctl(fd, PERF_EVENT_IOC_ENABLE, 0), 0);
		if (cases[i].event == OPENER_CPU_CLOCK) {
			usleep(2000);
			assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
			assert_true(count > 0);
		}
	}
}

__attribute__((noinline)) static void probed(void)
{
	__asm__ volatile("" ::: "memory");
}

/* Where it is in our executable. */
static uint64_t offset_of_probed(void)
{
	_cleanup_fclose_ FILE *maps = fopen("/proc/self/maps", "re");
	uint64_t at = (uintptr_t)probed, start, end, offset;
	char line[4352];

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64, &start, &end, &offset) == 3 && at >= start && at < end)
			return at - start + offset;
	return 0;
}

static void test_opens_uprobes(void **state _unused_)
{
	_cleanup_close_ int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	uint32_t type;
	int fd = -EBADF;

	need_root();
	HELPER;
	assert_true(read_small_file(AT_FDCWD, "/sys/bus/event_source/devices/uprobe/type", 64, &text, NULL) >= 0);
	type = (uint32_t)strtoul(text, NULL, 10);
	for (int at_return = 0; at_return < 2; at_return++) {
		uint64_t count;

		assert_int_equal(helper_open_uprobe(h, file, offset_of_probed(), at_return, type, getpid(), &fd), 0);
		assert_int_equal(ioctl(fd, PERF_EVENT_IOC_ENABLE, 0), 0);
		for (int i = 0; i < 3; i++)
			probed();
		assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
		assert_int_equal(count, 3);
		fd = close_fd(fd);
	}
	assert_int_equal(helper_open_uprobe(h, file, offset_of_probed(), false, 1, getpid(), &fd), -EINVAL);
	assert_int_equal(helper_open_uprobe(h, file, offset_of_probed(), false, type, -1, &fd), -EINVAL);
	assert_int_equal(helper_open_uprobe(h, file, UINT64_MAX, false, type, getpid(), &fd), -EINVAL);
	assert_int_equal(helper_open_uprobe(h, -EBADF, offset_of_probed(), false, type, getpid(), &fd), -EBADMSG);
	assert_true(helper_open_uprobe(h, file, 1ULL << 39, false, type, getpid(), &fd) < 0);
	assert_int_equal(fd, -EBADF);
}

static void test_opens_run_time(void **state _unused_)
{
	_cleanup_close_ int fd = -EBADF;

	need_root();
	HELPER;
	assert_int_equal(helper_open_run_time(h, &fd), 0);
	assert_true(fd >= 0);
	assert_int_equal(count_fds(helper_opener_pid(h)), 4); /* it keeps no descriptor */
}

static void test_refuses_requests(void **state _unused_)
{
	int fd = -EBADF;

	need_root();
	HELPER;
	assert_int_equal(helper_open_perf_event(h, (enum opener_event)3, 0, true, 49, &fd), -EINVAL);
	assert_int_equal(helper_open_perf_event(h, OPENER_RUN_TIME, 0, false, 1, &fd), -EINVAL);
	assert_int_equal(helper_open_perf_event(h, OPENER_CPU_CLOCK, -1, true, 49, &fd), -EINVAL);
	assert_int_equal(helper_open_perf_event(h, OPENER_CPU_CLOCK, 9000, true, 49, &fd), -EINVAL);
	assert_int_equal(helper_open_perf_event(h, OPENER_CPU_CLOCK, 0, true, 0, &fd), -EINVAL);
	assert_int_equal(helper_open_perf_event(h, OPENER_CPU_CLOCK, 0, true, 1000000, &fd), -EINVAL);
	assert_int_equal(helper_open_perf_event(h, OPENER_CPU_CLOCK, 0, false, 1, &fd), -EINVAL);
	assert_int_equal(helper_open_perf_event(h, OPENER_FAULTS_MINOR, 0, false, 0, &fd), -EINVAL);
	assert_int_equal(helper_open_perf_event(h, OPENER_FAULTS_MINOR, 0, false, UINT64_MAX, &fd), -EINVAL);
	/* a CPU that is not there: what perf_event_open says */
	assert_true(helper_open_perf_event(h, OPENER_CPU_CLOCK, 8191, true, 49, &fd) < 0);
	assert_int_equal(fd, -EBADF);
	assert_int_equal(helper_open_perf_event(h, OPENER_CPU_CLOCK, 0, true, 49, &fd), 0);
	close(fd);
}

static int open_sampler(struct helper *h, enum opener_event event, bool freq, uint64_t value, uint32_t copy, uint32_t watermark)
{
	int fd = -EBADF, r = helper_open_sampler(h, event, 0, freq, value, copy, watermark, &fd);

	if (r >= 0)
		close(fd);
	return r;
}

static void test_samplers_are_checked(void **state _unused_)
{
	int fd = -EBADF;

	need_root();
	HELPER;
	assert_int_equal(open_sampler(h, OPENER_CPU_CLOCK, false, 20408163, 8192, 65536), 0);
	assert_int_equal(open_sampler(h, OPENER_FAULTS_MINOR, false, 127, 0, 65536), 0);
	assert_int_equal(open_sampler(h, OPENER_CPU_CLOCK, false, 20408163, 8191, 65536), -EINVAL);
	assert_int_equal(open_sampler(h, OPENER_CPU_CLOCK, false, 20408163, OPENER_COPY_MAX + 8, 65536), -EINVAL);
	assert_int_equal(open_sampler(h, OPENER_CPU_CLOCK, false, 20408163, 8, UINT32_MAX), -EINVAL);
	assert_int_equal(open_sampler(h, OPENER_MAPPINGS, false, 1, 8, 65536), -EINVAL);
	assert_int_equal(open_sampler(h, OPENER_UPROBE, false, 1, 8, 65536), -EBADMSG);
	assert_int_equal(open_sampler(h, OPENER_CYCLES, false, 1000000, 8, 65536), -EINVAL);
	assert_int_equal(open_sampler(h, OPENER_SWITCHES, false, 3, 8192, 65536), 0);
	assert_int_equal(open_sampler(h, OPENER_SWITCHES, true, 3, 8192, 65536), -EINVAL);
	assert_int_equal(open_sampler(h, OPENER_WAKEUPS, false, 1, 0, 65536), -EINVAL);
	assert_int_equal(helper_open_perf_event(h, OPENER_SWITCHES, 0, false, 3, &fd), -EINVAL);
	assert_int_equal(helper_open_wakeups(h, 65536, 0, 65536, &fd), -EINVAL);
	assert_int_equal(helper_open_wakeups(h, 1, 0, 0, &fd), -EINVAL);
	/* The hardware's clock is there for samplers only. */
	assert_int_equal(helper_open_perf_event(h, OPENER_CYCLES, 0, true, 49, &fd), -EINVAL);
}

static void expect_refusal(struct helper *h, const void *packet, size_t size, const int *fds, size_t n_fds)
{
	struct opener_reply reply;
	int stray = -EBADF;

	assert_int_equal(packet_send(h->opener.fd, packet, size, 0, fds, n_fds), 0);
	assert_int_equal(packet_receive(h->opener.fd, &reply, sizeof(reply), 0, &stray, 1), sizeof(reply));
	assert_int_equal(reply.error, -EBADMSG);
	assert_int_equal(stray, -EBADF);
}

static void test_malformed_packets(void **state _unused_)
{
	struct opener_request good = {
		.magic = HELPER_MAGIC_OPENER, .event = OPENER_CPU_CLOCK, .freq = 1, .value = 49
	};
	struct opener_request bad = good;
	static const int strays[PACKET_FDS_MAX] = { STDERR_FILENO, STDERR_FILENO };
	char large[4096] = {};
	int fd = -EBADF;

	HELPER;
	bad.magic++;
	expect_refusal(h, &bad, sizeof(bad), NULL, 0);
	expect_refusal(h, &good, sizeof(good) - 1, NULL, 0);
	expect_refusal(h, &good, 1, NULL, 0);
	expect_refusal(h, large, sizeof(large), NULL, 0);
	for (size_t n = 1; n <= PACKET_FDS_MAX; n++)
		expect_refusal(h, &good, sizeof(good), strays, n);
	assert_int_equal(count_fds(helper_opener_pid(h)), 4); /* it has kept none */
	if (geteuid() == 0) {
		assert_int_equal(helper_open_perf_event(h, OPENER_CPU_CLOCK, 0, true, 49, &fd), 0);
		close(fd);
	}
}

static void test_opener_dies(void **state _unused_)
{
	HELPER;
	int fd;

	assert_int_equal(kill(helper_opener_pid(h), SIGKILL), 0);
	for (int i = 0; i < 1000 && helper_opener_pid(h); i++)
		usleep(10000);
	assert_int_equal(helper_opener_pid(h), 0);
	assert_int_equal(helper_open_perf_event(h, OPENER_CPU_CLOCK, 0, true, 49, &fd), -EPIPE);
	assert_int_equal(helper_open_perf_event(h, OPENER_CPU_CLOCK, 0, true, 49, &fd), -EPIPE);
	assert_true(helper_parser_pid(h) > 0);
}

static void test_opener_hangs(void **state _unused_)
{
	HELPER;
	uint64_t before = clock_monotonic_ns();
	pid_t pid = helper_opener_pid(h);
	int fd;

	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(helper_open_perf_event(h, OPENER_CPU_CLOCK, 0, true, 49, &fd), -ETIMEDOUT);
	assert_in_range(clock_monotonic_ns() - before, 900000000, 1500000000);
	/* the late answer is not taken for the next one's */
	assert_int_equal(kill(pid, SIGCONT), 0);
	assert_int_equal(helper_open_perf_event(h, OPENER_CPU_CLOCK, 0, true, 0, &fd), -EINVAL);
}

/* ---- parser ---- */

static struct parser_reply reply; /* large */

extern char __executable_start[];

static int next_reply(struct helper *h)
{
	for (int tries = 0; tries < 200; tries++) {
		struct pollfd p = { .fd = parser_fd(h), .events = POLLIN };
		int r = parser_next(h, &reply);

		if (r != 0)
			return r;
		poll(&p, 1, 100);
	}
	return 0;
}

static void ask(struct helper *h, uint64_t object, int fd, const uint64_t *offsets, size_t n)
{
	uint64_t request;

	assert_int_equal(parser_ask(h, object, fd, offsets, n, &request), 0);
	assert_int_equal(next_reply(h), 1);
	assert_true(reply.request == request);
}

/* What libelf says straight: is there any sized function that covers the address, and one of that name. */
struct truth {
	struct {
		uint64_t start, size;
		char *name;
	} * symbols;
	size_t n;
	uint64_t text_offset, text_address, text_size; /* the executable segment */
};

static void read_truth(struct truth *t, int fd)
{
	Elf *elf;
	Elf_Scn *section = NULL;
	GElf_Shdr h, target;
	size_t n, max = 0;

	*t = (struct truth){};
	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
	assert_non_null(elf);
	elf_getphdrnum(elf, &n);
	for (size_t i = 0; i < n; i++) {
		GElf_Phdr p;

		gelf_getphdr(elf, (int)i, &p);
		if (p.p_type == PT_LOAD && p.p_flags & PF_X) {
			t->text_offset = p.p_offset;
			t->text_address = p.p_vaddr;
			t->text_size = p.p_filesz;
		}
	}
	while ((section = elf_nextscn(elf, section))) {
		Elf_Data *data;

		gelf_getshdr(section, &h);
		if (h.sh_type != SHT_SYMTAB && h.sh_type != SHT_DYNSYM)
			continue;
		data = elf_getdata(section, NULL);
		for (size_t i = 0; i < h.sh_size / h.sh_entsize; i++) {
			GElf_Sym s;
			unsigned type;

			gelf_getsym(data, (int)i, &s);
			type = GELF_ST_TYPE(s.st_info);
			if ((type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE) ||
			    s.st_shndx == SHN_UNDEF || s.st_shndx >= SHN_LORESERVE || s.st_size == 0 ||
			    !gelf_getshdr(elf_getscn(elf, s.st_shndx), &target) ||
			    !(target.sh_flags & SHF_EXECINSTR))
				continue;
			if (t->n == max) {
				max = max ? 2 * max : 1024;
				t->symbols = realloc(t->symbols, max * sizeof(*t->symbols));
			}
			t->symbols[t->n].start = s.st_value;
			t->symbols[t->n].size = s.st_size;
			t->symbols[t->n].name = strdup(elf_strptr(elf, h.sh_link, s.st_name));
			t->symbols[t->n].name[strcspn(t->symbols[t->n].name, "@")] = '\0';
			t->n++;
		}
	}
	elf_end(elf);
}

static void free_truth(struct truth *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->symbols[i].name);
	free(t->symbols);
}

static bool is_true(const struct truth *t, const struct parser_symbol *s)
{
	size_t n = strlen(s->name);
	bool covered = false, stub = n > 4 && streq(s->name + n - 4, "@plt");

	for (size_t i = 0; i < t->n; i++)
		if (s->address - t->symbols[i].start < t->symbols[i].size) {
			char name[PARSER_NAME_MAX];

			covered = true;
			(void)demangle(t->symbols[i].name, name, sizeof(name));
			if (streq(name, s->name) && t->symbols[i].start == s->start &&
			    t->symbols[i].size == s->size)
				return true;
		}
	return (s->name[0] == '\0' || stub) && !covered; /* which stub, test_names_agree.py looks at */
}

static void check_file(struct helper *h, const char *path, uint64_t object, size_t addresses)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t offsets[PARSER_OFFSETS_MAX];
	struct truth t;
	size_t named = 0;

	if (fd < 0) {
		print_message("# %s is not here\n", path);
		return;
	}
	read_truth(&t, fd);
	for (size_t done = 0; done < addresses; done += PARSER_OFFSETS_MAX) {
		for (size_t i = 0; i < PARSER_OFFSETS_MAX; i++)
			offsets[i] = t.text_offset + (uint64_t)random() % t.text_size;
		ask(h, object, fd, offsets, PARSER_OFFSETS_MAX);
		assert_int_equal(reply.error, 0);
		assert_int_equal(reply.n, PARSER_OFFSETS_MAX);
		for (size_t i = 0; i < reply.n; i++) {
			const struct parser_symbol *s = &reply.symbols[i];
			struct parser_symbol edge = *s;

			assert_true(s->offset == offsets[i]);
			assert_true(s->address == offsets[i] - t.text_offset + t.text_address);
			if (!is_true(&t, s))
				fail_msg("%s: %#lx is not in %s", path, (unsigned long)s->address, s->name);
			/* the whole interval that it claims, at both ends */
			edge.address = s->valid_start;
			assert_true(is_true(&t, &edge));
			edge.address = s->valid_end - 1;
			assert_true(is_true(&t, &edge));
			named += s->name[0] != '\0';
		}
	}
	print_message("# %s: %zu symbols, %zu addresses named\n", path, t.n, named);
	if (t.n > 1000)
		assert_true(named > 0);
	free_truth(&t);
}

static void test_names(void **state _unused_)
{
	HELPER;

	srandom(20240607);
	check_file(h, "/proc/self/exe", 1, 4096);
	check_file(h, "/lib/x86_64-linux-gnu/libc.so.6", 2, 4096);
	check_file(h, "/lib/aarch64-linux-gnu/libc.so.6", 3, 4096);
	check_file(h, "/bin/bash", 4, 1024);
	check_file(h, "/usr/bin/python3", 5, 1024);
	check_file(h, "/usr/lib/x86_64-linux-gnu/libstdc++.so.6", 6, 4096);
}

static void test_demangle(void **state _unused_)
{
	static const struct {
		const char *mangled, *name;
	} known[] = {
		{ "main", "main" },
		{ "_Z", "_Z" },
		{ "_ZN9wikipedia7article6formatEv", "wikipedia::article::format" },
		{ "_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back" },
		{ "_ZNSt6vectorIiSaIiEE9push_backERKi@plt", "std::vector<int, std::allocator<int> >::push_back@plt" },
		{ "_Z3addii.cold", "add" },
		{ "_ZZ4mainENKUlvE_clEv", "main::{lambda()#1}::operator()" },
		{ "malloc@plt", "malloc@plt" },
		{ "_RNvCs6GmmlP4bgsG_1r4main", "r::main" },
		{ "_RINvCs6GmmlP4bgsG_1r7computemEB2_", "r::compute::<u32>" },
		{ "_ZN1r7compute17hae2c520551de653aE", "r::compute" },
		{ "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad" },
		{ "_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar17h930b740aa94f1d3aE",
		  "<Test + 'static as foo::Bar<Test>>::bar" },
		{ "_RNvC", "_RNvC" },
		{ "_ZN9truncated", "_ZN9truncated" },
	};
	char name[PARSER_NAME_MAX], small[12];

	for (size_t i = 0; i < ELEMENTS_OF(known); i++) {
		assert_int_equal(demangle(known[i].mangled, name, sizeof(name)), strlen(known[i].name));
		assert_string_equal(name, known[i].name);
	}
	assert_int_equal(demangle("a_name_that_is_long", small, sizeof(small)), sizeof(small) - 1);
	assert_string_equal(small, "a_name_t...");
}

/* Each of its parameters is a pair of the last: as text it would take 10 GB. */
static void test_exploding_name(void **state _unused_)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	_cleanup_free_ char *mangled = NULL;
	char name[PARSER_NAME_MAX];
	uint64_t before = clock_monotonic_ns();
	size_t size;
	FILE *f = open_memstream(&mangled, &size);

	fputs("_Z1fI1pIiiE", f);
	for (int i = 1; i < 30; i++)
		fprintf(f, "S0_IS%c_S%c_E", digits[i], digits[i]);
	fputs("Evv", f);
	fclose(f);
	assert_int_equal(demangle(mangled, name, sizeof(name)), sizeof(name) - 1);
	assert_int_equal(strncmp(name, "f<p<int, int>, p<p<int, int>, p<int, int> >, ", 45), 0);
	assert_string_equal(name + sizeof(name) - 4, "...");
	assert_true(clock_monotonic_ns() - before < 5 * NSEC_PER_SEC);
}

static struct elf_stub stubs_seen[4];
static size_t n_stubs_seen;

static int see_stub(void *userdata _unused_, const struct elf_stub *stub)
{
	assert_true(n_stubs_seen < ELEMENTS_OF(stubs_seen));
	stubs_seen[n_stubs_seen++] = *stub;
	return 0;
}

/* What GNU ld makes for arm64: a header of 32 bytes, a stub, and one with BTI. */
static void test_stubs_of_arm64(void **state _unused_)
{
	static const uint32_t code[] = {
		0xa9bf7bf0, 0x90000110, 0xf947fe11, 0x913fe210, 0xd61f0220, 0xd503201f, 0xd503201f, 0xd503201f,
		0xb0000110, 0xf9400211, 0x91000210, 0xd61f0220,             /* adrp 0x21000 from 0x620 */
		0xd503245f, 0xf0ffff90, 0xf9400611, 0x91002210, 0xd61f0220, /* bti c; adrp -0xd000 + 8 */
	};
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct slot slots[] = { { .address = 0x21000, .symbol = 1 }, { .address = (uint64_t)-0xd000 + 8, .symbol = 1 } };
	struct reader p = { .machine = EM_AARCH64, .slots = slots, .n = ELEMENTS_OF(slots), .fn = see_stub };
	Elf_Scn *section = NULL;
	GElf_Shdr h = {};

	elf_version(EV_CURRENT);
	p.elf = elf_begin(fd, ELF_C_READ, NULL);
	while (h.sh_type != SHT_DYNSYM && (section = elf_nextscn(p.elf, section)))
		assert_non_null(gelf_getshdr(section, &h));
	p.symbols = elf_getdata(section, NULL);
	assert_non_null(p.symbols);
	assert_int_equal(scan_aarch64(&p, (const uint8_t *)code, sizeof(code), 0x600), 0);
	elf_end(p.elf);

	assert_int_equal(n_stubs_seen, 2);
	assert_true(stubs_seen[0].start == 0x620 && stubs_seen[0].size == 16);
	assert_true(stubs_seen[1].start == 0x630 && stubs_seen[1].size == 20);
}

/* A copy of this program without its build ID: the note's name is another. */
static int copy_without_build_id(void)
{
	static char content[32 << 20];
	_cleanup_close_ int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int fd = memfd_create("test", MFD_CLOEXEC);
	ssize_t n = read(self, content, sizeof(content));
	char *note = memmem(content, (size_t)n, "\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU", 16);

	assert_true(n > 0 && (size_t)n < sizeof(content));
	assert_non_null(note);
	memcpy(note + 12, "XXX", 3);
	assert_int_equal(write(fd, content, (size_t)n), n);
	return fd;
}

static void test_build_id_or_hash(void **state _unused_)
{
	HELPER;
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), other = copy_without_build_id();
	uint64_t offset = 0, hash;

	ask(h, 1, fd, &offset, 1);
	assert_int_equal(reply.error, 0);
	assert_int_equal(reply.build_id_size, 20); /* the linker's default: SHA-1 */

	ask(h, 2, other, &offset, 1);
	assert_int_equal(reply.error, 0);
	assert_int_equal(reply.build_id_size, 0);
	hash = reply.content_hash;
	assert_true(hash != 0);
	assert_int_equal(pwrite(other, "?", 1, 40000), 1);
	ask(h, 3, other, &offset, 1);
	assert_true(reply.content_hash != hash);
}

static int file_with(const char *content, size_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, size), size);
	return fd;
}

static void test_not_elf(void **state _unused_)
{
	HELPER;
	_cleanup_close_ int text = file_with("#!/bin/sh\n", 10), empty = file_with("", 0),
			    other = file_with("#!/bin/sh!", 10);
	_cleanup_close_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uint64_t offset = 0, hash;

	ask(h, 1, text, &offset, 1);
	assert_int_equal(reply.error, -ENOEXEC);
	assert_int_equal(reply.n, 0);
	hash = reply.content_hash;
	ask(h, 2, other, &offset, 1);
	assert_true(reply.content_hash != hash);
	ask(h, 3, empty, &offset, 1);
	assert_int_equal(reply.error, -ENOEXEC);
	ask(h, 4, null, &offset, 1);
	assert_int_equal(reply.error, -ENOEXEC);
	assert_true(helper_parser_pid(h) > 0);
}

/* A file that shrinks after it was opened must not be able to kill the parser. */
static void test_shrinking_file(void **state _unused_)
{
	HELPER;
	_cleanup_close_ int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC),
			    fd = memfd_create("test", MFD_CLOEXEC);
	static char head[100000];
	uint64_t offset = 4096;
	pid_t parser = helper_parser_pid(h);

	assert_int_equal(pread(self, head, sizeof(head), 0), sizeof(head));
	for (off_t size = sizeof(head); size > 0; size = size * 2 / 3) {
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, head, (size_t)size, 0), size);
		ask(h, (uint64_t)size, fd, &offset, 1);
		assert_true(reply.error <= 0);
	}
	assert_int_equal(helper_parser_pid(h), parser);
}

static void test_queue_is_bounded(void **state _unused_)
{
	HELPER;
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	uint64_t offset = 0, request, before;
	size_t asked = 0, answered = 0;
	int r;

	assert_int_equal(parser_ask(h, 1, fd, &offset, 0, &request), -EINVAL);
	assert_int_equal(parser_ask(h, 1, fd, &offset, PARSER_OFFSETS_MAX + 1, &request), -EINVAL);
	assert_int_equal(parser_ask(h, 1, fd, &(uint64_t){ 1ULL << 63 }, 1, &request), -EINVAL);
	kill(helper_parser_pid(h), SIGSTOP);
	before = clock_monotonic_ns();
	while ((r = parser_ask(h, 1, fd, &offset, 1, &request)) == 0)
		asked++;
	assert_int_equal(r, -EAGAIN);
	assert_in_range(asked, 8, REQUESTS_MAX);
	assert_true(clock_monotonic_ns() - before < NSEC_PER_SEC); /* it did not block */
	kill(helper_parser_pid(h), SIGCONT);
	while (answered < asked && next_reply(h) == 1)
		answered++;
	assert_int_equal(answered, asked);
	assert_int_equal(parser_next(h, &reply), 0);
}

static void test_parser_dies(void **state _unused_)
{
	HELPER;
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	uint64_t offset = 0, requests[3];
	pid_t first = helper_parser_pid(h);
	struct pollfd p = { .fd = parser_fd(h), .events = POLLIN };

	kill(first, SIGSTOP);
	for (int i = 0; i < 3; i++)
		assert_int_equal(parser_ask(h, (uint64_t)i + 1, fd, &offset, 1, &requests[i]), 0);
	kill(first, SIGKILL);
	assert_int_equal(poll(&p, 1, 1000), 1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(parser_next(h, &reply), 1);
		assert_int_equal(reply.error, -EPIPE);
		assert_true(reply.request == requests[i]);
	}
	assert_int_equal(parser_next(h, &reply), 0);
	assert_int_equal(helper_parser_restarts(h), 1);
	assert_int_not_equal(helper_parser_pid(h), 0);
	assert_int_not_equal(helper_parser_pid(h), first);
	assert_int_equal(parser_fd(h), p.fd);
	/* the new one works, and is as confined */
	ask(h, 1, fd, &offset, 1);
	assert_int_equal(reply.error, 0);
	assert_string_equal(status_field(helper_parser_pid(h), "Seccomp"), "2");
	assert_true(strtoull(status_field(helper_parser_pid(h), "CapEff"), NULL, 16) == 0);
}

/* As in the service: the daemon has next to no capability when it needs a new parser. */
static void test_restart_without_privileges(void **state _unused_)
{
	HELPER;
	pid_t parser = helper_parser_pid(h), pid;
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	uint64_t offset = 0;
	int status;

	/* Only the process that has started them can replace them, and it needs its privileges for the other
	 * tests. */
	pid = fork();
	if (pid == 0) {
		struct helper *mine;
		cap_t none = cap_init();

		if (helper_start(&mine) < 0 || cap_set_proc(none) < 0)
			_exit(1);
		child_end(&mine->parser, 0);
		lose_parser(mine);
		restart_parser(mine);
		ask(mine, 1, fd, &offset, 1);
		if (reply.error != 0)
			_exit(2);
		_exit(streq(status_field(helper_parser_pid(mine), "Seccomp"), "2") &&
				      strtoull(status_field(helper_parser_pid(mine), "CapPrm"), NULL, 16) == 0
			      ? 0
			      : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(helper_parser_pid(h), parser);
}

static int new_table(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	return fd;
}

#define TABLE_BYTES (8U << 20)

/* What the table of a file of this machine, whole and cut short, gives: there are some on x86-64 only. */
#if defined(__x86_64__)
#define WHOLE_TABLE 0
#define LARGE_TABLE (-EFBIG)
#else
#define WHOLE_TABLE (-ENOEXEC)
#define LARGE_TABLE (-ENOEXEC)
#endif

static void ask_unwind(struct helper *h, int fd, int table_fd, uint64_t max_bytes)
{
	uint64_t request;

	assert_int_equal(parser_ask_unwind(h, 1, fd, table_fd, max_bytes, &request), 0);
	assert_int_equal(next_reply(h), 1);
	assert_true(reply.request == request);
	assert_int_equal(reply.kind, PARSER_UNWIND);
}

#if defined(__x86_64__)
/* The rule that the table has for an address. */
static const struct unwind_rule *rule_at(const struct unwind_table_header *h, uint64_t address)
{
	const struct unwind_table_page *pages =
		(const void *)((const struct unwind_table_segment *)(h + 1) + h->n_segments);
	const struct unwind_rule *rules = (const void *)(pages + h->n_pages);
	const struct unwind_row *rows = (const void *)(rules + h->n_rules), *found = NULL;
	uint64_t page = (address - h->first_address) >> UNWIND_PAGE_SHIFT;

	assert_true(address >= h->first_address && page < h->n_pages);
	for (uint32_t i = 0; i < pages[page].n_rows; i++)
		if (rows[pages[page].first_row + i].address <= (address & 0xffff))
			found = &rows[pages[page].first_row + i];
	return found ? &rules[found->rule] : &rules[0];
}
#endif

static void test_unwind_table(void **state _unused_)
{
	HELPER;
	_cleanup_close_ int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), table_fd = new_table();
	uint64_t request;

	assert_int_equal(parser_ask_unwind(h, 1, self, -EBADF, TABLE_BYTES, &request), -EBADF);
	assert_int_equal(parser_ask_unwind(h, 1, self, self, 0, &request), -EINVAL);
	ask_unwind(h, self, table_fd, TABLE_BYTES);
	assert_int_equal(reply.error, WHOLE_TABLE);
	assert_int_equal(count_fds(helper_parser_pid(h)), 4); /* it keeps no descriptor */
#if defined(__x86_64__)
	/* the first instruction of a function: nothing but the return address is on the stack */
	const struct unwind_rule *rule;
	const struct unwind_table_header *table;
	size_t size;

	assert_true(reply.unwind.n_functions > 100 && reply.unwind.n_skipped == 0);
	assert_int_equal(unwind_table_open(table_fd, &table, &size), 0);
	assert_memory_equal(table, &reply.unwind, sizeof(*table));
	assert_true(size == unwind_table_size(&reply.unwind));
	rule = rule_at(table, (uint64_t)((char *)(uintptr_t)new_table - __executable_start));
	assert_int_equal(rule->cfa, UNWIND_CFA_RSP);
	assert_int_equal(rule->cfa_offset, 8);
	assert_int_equal(rule->rbp, UNWIND_RBP_SAME);
	/* nobody changes it after it was checked, the parser neither */
	assert_int_equal(pwrite(table_fd, "x", 1, 0), 1);
	assert_memory_equal(table, &reply.unwind, sizeof(*table));
	munmap((void *)table, size);
#endif
}

static void test_no_unwind_table(void **state _unused_)
{
	HELPER;
	_cleanup_close_ int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), small = new_table(), other = new_table(),
			    text = file_with("#!/bin/sh\n", 10);
	const struct unwind_table_header *table;
	size_t size;

	ask_unwind(h, self, small, 1024);
	assert_int_equal(reply.error, LARGE_TABLE);
	assert_int_equal(unwind_table_open(small, &table, &size), -EBADMSG); /* nothing was written */
	ask_unwind(h, text, other, 4096);
	assert_int_equal(reply.error, -ENOEXEC);
}

static void test_vdso_can_be_asked_for(void **state _unused_)
{
	HELPER;
	_cleanup_close_ int fd = vdso_image_fd(), table_fd = new_table();
	uint64_t offset;
	struct truth t;

	assert_true(fd >= 0);
	read_truth(&t, fd);
	offset = t.symbols[0].start - t.text_address + t.text_offset;
	free_truth(&t);
	ask(h, 1, fd, &offset, 1);
	assert_int_equal(reply.error, 0);
	assert_true(reply.symbols[0].name[0] != '\0');
	ask_unwind(h, fd, table_fd, TABLE_BYTES);
	assert_int_equal(reply.error, WHOLE_TABLE);
	assert_true(reply.error < 0 || reply.unwind.n_functions >= 3);
}

struct routed {
	size_t n;
	uint64_t request;
	int error;
};

static void take_routed(void *userdata, const struct parser_reply *r)
{
	struct routed *routed = userdata;

	assert_int_equal(r->kind, PARSER_UNWIND);
	routed->n++;
	routed->request = r->request;
	routed->error = r->error;
}

/* Whoever waits for names sees no tables, also when the parser dies. */
static void test_kinds_are_routed(void **state _unused_)
{
	HELPER;
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), table_fd = new_table(), other = new_table();
	struct routed routed = {};
	uint64_t offset = 0, first, table, last;

	parser_route(h, PARSER_UNWIND, take_routed, &routed);
	for (int dead = 0; dead < 2; dead++) {
		if (dead)
			kill(helper_parser_pid(h), SIGSTOP);
		assert_int_equal(parser_ask(h, 1, fd, &offset, 1, &first), 0);
		assert_int_equal(parser_ask_unwind(h, 1, fd, dead ? other : table_fd, TABLE_BYTES, &table), 0);
		assert_int_equal(parser_ask(h, 1, fd, &offset, 1, &last), 0);
		if (dead)
			kill(helper_parser_pid(h), SIGKILL);
		assert_int_equal(next_reply(h), 1);
		assert_true(reply.request == first);
		assert_int_equal(next_reply(h), 1);
		assert_true(reply.request == last);
		assert_int_equal(reply.kind, PARSER_SYMBOLS);
		assert_int_equal(routed.n, dead + 1);
		assert_true(routed.request == table);
		assert_int_equal(routed.error, dead ? -EPIPE : WHOLE_TABLE);
	}
}

static void kill_at(struct helper *h, enum parser_kind kind, uint64_t object, int fd)
{
	_cleanup_close_ int table_fd = new_table();
	uint64_t offset = 0, request, innocent;

	kill(helper_parser_pid(h), SIGSTOP);
	if (kind == PARSER_UNWIND)
		assert_int_equal(parser_ask_unwind(h, object, fd, table_fd, TABLE_BYTES, &request), 0);
	else
		assert_int_equal(parser_ask(h, object, fd, &offset, 1, &request), 0);
	assert_int_equal(parser_ask(h, 99, fd, &offset, 1, &innocent), 0);
	kill(helper_parser_pid(h), SIGKILL);
	assert_int_equal(next_reply(h), 1);
	assert_int_equal(reply.error, -EPIPE);
	assert_int_equal(next_reply(h), 1);
	while (parser_next(h, &reply) != 0)
		;
}

static void test_poisonous_file(void **state _unused_)
{
	HELPER;
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int table_fd = new_table();
	uint64_t offset = 0, request;

	kill_at(h, PARSER_SYMBOLS, 7, fd);
	kill_at(h, PARSER_UNWIND, 7, fd);
	ask(h, 7, fd, &offset, 1); /* once may be an accident */
	kill_at(h, PARSER_UNWIND, 7, fd);
	assert_int_equal(parser_ask_unwind(h, 7, fd, table_fd, TABLE_BYTES, &request), -ENOTRECOVERABLE);
	ask(h, 7, fd, &offset, 1); /* its names did no harm */
	kill_at(h, PARSER_SYMBOLS, 7, fd);
	assert_int_equal(parser_ask(h, 7, fd, &offset, 1, &request), -ENOTRECOVERABLE);
	ask(h, 99, fd, &offset, 1); /* it was behind both times, and is not to blame */
	assert_int_equal(reply.error, 0);
}

static void test_restarts_are_bounded(void **state _unused_)
{
	HELPER;

	/* One that is killed at once may have said hello before: then its end is seen a turn later. */
	for (int i = 0; i < 100 * RESTARTS_BURST && (i < 3 * RESTARTS_BURST || helper_parser_pid(h) > 0); i++) {
		if (helper_parser_pid(h) > 0) {
			struct pollfd p = { .fd = parser_fd(h), .events = POLLIN };

			kill(helper_parser_pid(h), SIGKILL);
			assert_true(poll(&p, 1, 10000) > 0); /* its end of the socket is closed */
		}
		assert_int_equal(parser_next(h, &reply), 0);
	}
	assert_int_equal(helper_parser_restarts(h), RESTARTS_BURST);
	assert_int_equal(helper_parser_pid(h), 0);
	/* a minute later there is one again */
	h->window_start_ns -= RESTARTS_INTERVAL_NS;
	assert_int_equal(parser_next(h, &reply), 0);
	assert_true(helper_parser_pid(h) > 0);
}

static void test_watchdog(void **state _unused_)
{
	HELPER;
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	pid_t first = helper_parser_pid(h);
	uint64_t offset = 0, request;

	kill(first, SIGSTOP);
	assert_int_equal(parser_ask(h, 1, fd, &offset, 1, &request), 0);
	assert_int_equal(parser_next(h, &reply), 0);
	h->head_since_ns -= PARSER_TIMEOUT_NS; /* as if ten seconds had gone by */
	assert_int_equal(parser_next(h, &reply), 1);
	assert_true(reply.request == request);
	assert_int_equal(reply.error, -EPIPE);
	assert_int_equal(parser_next(h, &reply), 0);
	assert_int_not_equal(helper_parser_pid(h), first);
	ask(h, 1, fd, &offset, 1);
	assert_int_equal(reply.error, 0);
}

/* What a parser that was taken over might send. */
static void test_malformed_replies(void **state _unused_)
{
	HELPER;
	union {
		struct parser_reply_header header;
		uint8_t bytes[2048];
	} packet;
	struct parser_reply_entry *e = (struct parser_reply_entry *)(&packet.header + 1);

	for (int i = 0; i < 15; i++) {
		size_t size = sizeof(packet.header) + sizeof(*e) + 4;

		h->first = 0;
		h->n_requests = 1;
		h->requests[0] = (struct request){ .id = 5, .object = 1, .n = 1, .offsets = { 0x1000 } };
		memset(&packet, 0, sizeof(packet));
		packet.header = (struct parser_reply_header){ .magic = HELPER_MAGIC_PARSER,
							      .request = 5,
							      .n = 1 };
		*e = (struct parser_reply_entry){
			.address = 16, .valid_start = 10, .valid_end = 20, .name_size = 4
		};
		memcpy(e + 1, "main", 4);
		switch (i) {
		case 0: packet.header.magic++; break;
		case 1: packet.header.request = 6; break;
		case 2: packet.header.n = 2; break;
		case 3: packet.header.n = UINT32_MAX; break;
		case 4: packet.header.build_id_size = PARSER_BUILD_ID_MAX + 1; break;
		case 5: packet.header.error = 1; break;
		case 6: packet.header.error = -EBADMSG; break;
		case 7: e->name_size = 5; break;
		case 8: e->name_size = UINT32_MAX; break;
		case 9: e->valid_end = 16; break;
		case 10: e->valid_start = 17; break;
		case 11: size++; break;
		case 12: size = 3; break;
		case 13: ((char *)(e + 1))[1] = '\0'; break;
		case 14: packet.header.kind = PARSER_UNWIND; break;
		}
		memcpy(h->reply, packet.bytes, size);
		if (decode_reply(h, size, &reply) != -EBADMSG)
			fail_msg("case %d was taken", i);
	}
	h->n_requests = 0;
}

/* ---- lines ---- */

static void ask_for_lines(struct helper *h, uint64_t object, int fd, int debug_fd, const uint64_t *offsets, size_t n)
{
	uint64_t request;

	assert_int_equal(parser_ask_lines(h, object, fd, debug_fd, -EBADF, offsets, n, &request), 0);
	assert_true(next_reply(h) > 0);
	assert_true(reply.request == request && reply.kind == PARSER_LINES);
}

static int line_of_marked;

static inline __attribute__((always_inline)) void *here(void)
{
	void *address;

	line_of_marked = __LINE__ + 1;
	__asm__ volatile("lea 0(%%rip), %0" : "=r"(address));
	return address;
}

static __attribute__((noinline)) uint64_t marked(void)
{
	return (uint64_t)here() - 1 - (uint64_t)__executable_start; /* it gave the address behind the instruction */
}

/* In the file as in memory: what the linkers that we know do with the segments of a program of this size. */
static uint64_t offset_of(uint64_t address)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/maps", "re");
	unsigned long start, end, offset;
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx r-xp %lx", &start, &end, &offset) == 3 && address + (uint64_t)__executable_start >= start &&
		    address + (uint64_t)__executable_start < end)
			return address + (uint64_t)__executable_start - start + offset;
	fail();
	return 0;
}

static void test_lines(void **state _unused_)
{
	_cleanup_(helper_stopp) struct helper *h = NULL;
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), other = open("/bin/true", O_RDONLY | O_CLOEXEC);
	uint64_t offset = offset_of(marked());
	const struct parser_lines *l = &reply.lines[0];
	pid_t first;

	assert_int_equal(helper_start_on_demand(&h), 0);
	assert_int_equal(helper_parser_pid(h), 0);
	ask_for_lines(h, 1, fd, -EBADF, &offset, 1);
	first = helper_parser_pid(h);
	assert_true(first > 0);
	assert_int_equal(reply.error, 0);
	assert_int_equal(l->n, 2);
	assert_true(l->places[0].inlined && !l->places[1].inlined);
	assert_string_equal(l->places[0].function, "here");
	assert_string_equal(basename(l->places[0].file), "test_helper.c");
	assert_int_equal(l->places[0].line, line_of_marked);
	ask_for_lines(h, 2, other, -EBADF, &offset, 1);
	assert_int_equal(reply.error, -ENODATA);
	ask_for_lines(h, 3, other, fd, &offset, 1);
	assert_int_equal(reply.error, -ESTALE);
	assert_int_equal(helper_parser_pid(h), first);

	/* It goes when nobody asks, and comes back. */
	helper_rest(h, NSEC_PER_SEC * 3600);
	assert_int_equal(helper_parser_pid(h), first);
	helper_rest(h, 0);
	assert_int_equal(helper_parser_pid(h), 0);
	ask_for_lines(h, 1, fd, -EBADF, &offset, 1);
	assert_int_equal(l->n, 2);
	assert_int_equal(helper_parser_restarts(h), 0);
}

/* Whatever is in a file: there is an answer, or the parser has died of it, and goes on with the next one. */
static void test_hostile_debug_information(void **state _unused_)
{
	_cleanup_(helper_stopp) struct helper *h = NULL;
	_cleanup_close_ int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	uint64_t offset = offset_of(marked()), size = (uint64_t)lseek(self, 0, SEEK_END), request;
	_cleanup_free_ uint8_t *bytes = malloc(size);
	unsigned died = 0, refused = 0, answered = 0;

	assert_int_equal(helper_start_on_demand(&h), 0);
	assert_true(bytes && pread(self, bytes, size, 0) == (ssize_t)size);
	srandom(20240607);
	for (uint64_t i = 1; i <= 40; i++) {
		_cleanup_close_ int fd = memfd_create("hostile", MFD_CLOEXEC);
		int r;

		assert_int_equal(write(fd, bytes, size), size);
		/* Behind the code: there debug information lies. */
		for (int j = 0; j < 400; j++) {
			uint8_t byte = (uint8_t)random();

			assert_int_equal(pwrite(fd, &byte, 1, (off_t)(size / 2 + (uint64_t)random() % (size / 2))), 1);
		}
		r = parser_ask_lines(h, i, fd, -EBADF, -EBADF, &offset, 1, &request);
		if (r == -EAGAIN)
			break; /* it has died too often lately */
		assert_int_equal(r, 0);
		assert_true(next_reply(h) > 0);
		died += reply.error == -EPIPE;
		refused += reply.error < 0 && reply.error != -EPIPE;
		answered += reply.error == 0;
		(void)parser_next(h, &reply);
	}
	print_message("# %u answered, %u refused, %u died\n", answered, refused, died);
	assert_true(answered + refused > 0);
}

static void test_malformed_replies_about_lines(void **state _unused_)
{
	HELPER;
	struct {
		struct parser_reply_header header;
		uint8_t count;
		struct parser_reply_place place;
		char text[16];
	} __attribute__((packed)) packet;

	for (int i = 0; i < 12; i++) {
		size_t size = offsetof(typeof(packet), text) + 7;

		h->first = 0;
		h->n_requests = 1;
		h->requests[0] = (struct request){ .id = 5, .object = 1, .kind = PARSER_LINES, .n = 1, .offsets = { 0x1000 } };
		memset(&packet, 0, sizeof(packet));
		packet.header = (struct parser_reply_header){ .magic = HELPER_MAGIC_PARSER, .kind = PARSER_LINES, .request = 5, .n = 1 };
		packet.count = 1;
		packet.place = (struct parser_reply_place){ .line = 7, .function_size = 4, .file_size = 3, .inlined = 1 };
		memcpy(packet.text, "maina.c", 7);
		switch (i) {
		case 0: packet.header.n = 2; break;
		case 1: packet.header.n = UINT32_MAX; break;
		case 2: packet.count = 2; break;
		case 3: packet.count = PARSER_PLACES_MAX + 1; break;
		case 4: packet.place.inlined = 2; break;
		case 5: packet.place.inlined = 0; break;
		case 6: packet.place.function_size = PARSER_NAME_MAX; break;
		case 7: packet.place.file_size = 4; break;
		case 8: packet.text[1] = '\0'; break;
		case 9: size -= 1; break;
		case 10: packet.header.error = -ENODATA; break;
		case 11: size = sizeof(packet.header); break;
		}
		memcpy(h->reply, &packet, size);
		if (decode_reply(h, size, &reply) != -EBADMSG)
			fail_msg("case %d was taken", i);
	}
	h->n_requests = 0;
}

static void test_malformed_unwind_replies(void **state _unused_)
{
	HELPER;
	struct {
		struct parser_reply_header header;
		struct unwind_table_header table;
	} packet;

	for (int i = 0; i < 9; i++) {
		size_t size = sizeof(packet);

		h->first = 0;
		h->n_requests = 1;
		h->requests[0] = (struct request){ .id = 5, .object = 1, .kind = PARSER_UNWIND };
		packet.header = (struct parser_reply_header){ .magic = HELPER_MAGIC_PARSER,
							      .kind = PARSER_UNWIND,
							      .request = 5 };
		packet.table = (struct unwind_table_header){ .magic = UNWIND_TABLE_MAGIC,
							     .version = UNWIND_TABLE_VERSION,
							     .n_rules = 1 };
		switch (i) {
		case 1: packet.header.kind = PARSER_SYMBOLS; break;
		case 2: packet.header.n = 1; break;
		case 3: packet.header.error = -ENODATA; break;
		case 4: size--; break;
		case 5: packet.table.magic++; break;
		case 6: packet.table.first_address = 4096; break;
		case 7: packet.table.n_segments = UNWIND_TABLE_SEGMENTS_MAX + 1; break;
		case 8: packet.table.n_rules = 0; break;
		}
		memcpy(h->reply, &packet, size);
		if (decode_reply(h, size, &reply) != (i == 0 ? 0 : -EBADMSG))
			fail_msg("case %d", i);
	}
	h->n_requests = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_confined),
		cmocka_unit_test(test_inherits_no_descriptors),
		cmocka_unit_test(test_forbidden_calls_kill),
		cmocka_unit_test(test_parser_has_its_own_timer),
		cmocka_unit_test(test_dies_with_the_daemon),
		cmocka_unit_test(test_opens_events),
		cmocka_unit_test(test_opens_uprobes),
		cmocka_unit_test(test_opens_run_time),
		cmocka_unit_test(test_refuses_requests),
		cmocka_unit_test(test_samplers_are_checked),
		cmocka_unit_test(test_malformed_packets),
		cmocka_unit_test(test_opener_dies),
		cmocka_unit_test(test_opener_hangs),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_demangle),
		cmocka_unit_test(test_exploding_name),
		cmocka_unit_test(test_stubs_of_arm64),
		cmocka_unit_test(test_build_id_or_hash),
		cmocka_unit_test(test_not_elf),
		cmocka_unit_test(test_shrinking_file),
		cmocka_unit_test(test_unwind_table),
		cmocka_unit_test(test_no_unwind_table),
		cmocka_unit_test(test_vdso_can_be_asked_for),
		cmocka_unit_test(test_kinds_are_routed),
		cmocka_unit_test(test_queue_is_bounded),
		cmocka_unit_test(test_parser_dies),
		cmocka_unit_test(test_restart_without_privileges),
		cmocka_unit_test(test_poisonous_file),
		cmocka_unit_test(test_restarts_are_bounded),
		cmocka_unit_test(test_watchdog),
		cmocka_unit_test(test_malformed_replies),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_hostile_debug_information),
		cmocka_unit_test(test_malformed_replies_about_lines),
		cmocka_unit_test(test_malformed_unwind_replies),
	};

	log_setup("test_helper", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("helper", tests, NULL, NULL);
}
