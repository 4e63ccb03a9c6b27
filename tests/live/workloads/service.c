/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A service whose workers take a request now and then, until a line on stdin names a trouble that befalls it, and another line, "calm", ends that.
 * Each trouble has a function of its own. --n: bytes of the file that "disk" reads, made and unlinked where --mode says. */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>

#include "workload.h"

#define REQUEST_INTERVAL_NS (250 * MSEC)
#define REQUEST_COST_NS (MSEC / 20)
#define LOCK_HELD_NS (50 * MSEC)
#define ANSWERED_AFTER_NS (400 * MSEC)
#define BURST_THREADS_A_CPU 8
#define BUFFER_SIZE (8UL << 20)
#define PAGE 4096
#define BLOCK (1UL << 20)
#define THREADS_MAX 64

enum trouble { CALM, SPIN, CONVOY, DISK, BACKEND, STORM, STARVE };
static const char *const troubles[] = {"calm", "spin", "convoy", "disk", "backend", "storm", "starve"};

static struct workload_options options = {.seconds = 3600, .threads = 8, .mode = "/var/tmp", .n = 8UL << 20};
static volatile int trouble;
static uint32_t pool_lock; /* 0: free, 1: held, 2: waited for */
static int file;
static int asking[THREADS_MAX], answering[THREADS_MAX];
static int busy; /* workers that a trouble of some befalls */

static void sleep_ns(uint64_t ns)
{
	struct timespec t = {.tv_sec = (time_t)(ns / SEC), .tv_nsec = (long)(ns % SEC)};

	inline_syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (long)&t, 0);
}

NAMED void wait_for_request(uint64_t ns)
{
	sleep_ns(ns);
	KEEP_FRAME();
}

NAMED void answer_request(void)
{
	uint64_t begin = cpu_ns();

	while (cpu_ns() - begin < REQUEST_COST_NS)
		workload_sink = arithmetic(workload_sink);
}

/* ---- troubles ---- */

NAMED void rebuild_index(void)
{
	while (trouble == SPIN)
		workload_sink = arithmetic(workload_sink);
	KEEP_FRAME();
}

NAMED void take_connection(void)
{
	uint32_t is = 0;

	if (__atomic_compare_exchange_n(&pool_lock, &is, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(&pool_lock, 2, __ATOMIC_ACQUIRE) != 0)
		inline_syscall(SYS_futex, (long)&pool_lock, FUTEX_WAIT_PRIVATE, 2, 0);
	KEEP_FRAME();
}

NAMED void use_connection(void)
{
	sleep_ns(LOCK_HELD_NS);
	if (__atomic_exchange_n(&pool_lock, 0, __ATOMIC_RELEASE) == 2)
		inline_syscall(SYS_futex, (long)&pool_lock, FUTEX_WAKE_PRIVATE, 1, 0);
	KEEP_FRAME();
}

NAMED void read_table(unsigned worker)
{
	static _Thread_local char *block;
	uint64_t blocks = options.n / BLOCK;

	if (!block && posix_memalign((void **)&block, PAGE, BLOCK) != 0)
		fail("posix_memalign");
	for (uint64_t i = worker; trouble == DISK; i += 7)
		inline_syscall(SYS_pread64, file, (long)block, BLOCK, (long)(i % blocks * BLOCK));
	KEEP_FRAME();
}

NAMED void ask_backend(unsigned worker)
{
	char c = 0;

	inline_syscall(SYS_write, asking[worker], (long)&c, 1, 0);
	inline_syscall(SYS_read, asking[worker], (long)&c, 1, 0);
	KEEP_FRAME();
}

NAMED void load_images(void)
{
	static _Thread_local char *buffer;

	if (!buffer) {
		buffer = mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (buffer == MAP_FAILED)
			fail("mmap");
		madvise(buffer, BUFFER_SIZE, MADV_NOHUGEPAGE);
	}
	while (trouble == STORM) {
		for (size_t at = 0; at < BUFFER_SIZE; at += PAGE)
			((volatile char *)buffer)[at] = 1;
		inline_syscall(SYS_madvise, (long)buffer, BUFFER_SIZE, MADV_DONTNEED, 0);
	}
	KEEP_FRAME();
}

NAMED void *serve_burst(void *userdata)
{
	while (trouble == STARVE)
		workload_sink = arithmetic(workload_sink);
	return userdata;
}

NAMED void take_burst(void)
{
	int n = BURST_THREADS_A_CPU * get_nprocs();
	pthread_t *threads = calloc((size_t)n, sizeof(*threads));

	if (!threads)
		fail("calloc");
	for (int i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, serve_burst, NULL) != 0)
			fail("pthread_create");
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	free(threads);
}

/* ---- the service ---- */

NAMED void *serve(void *userdata)
{
	unsigned worker = (unsigned)(uintptr_t)userdata;

	wait_for_request(REQUEST_INTERVAL_NS * worker / (unsigned)options.threads);
	for (;;) {
		switch (trouble) {
		case CONVOY:
			take_connection();
			use_connection();
			break;
		case DISK:
			read_table(worker);
			break;
		case BACKEND:
			ask_backend(worker);
			break;
		case SPIN:
			if ((int)worker < busy)
				rebuild_index();
			break;
		case STORM:
			if ((int)worker < busy)
				load_images();
			break;
		case STARVE:
			if (worker == 0)
				take_burst();
			break;
		}
		answer_request();
		if (trouble != CONVOY && trouble != BACKEND)
			wait_for_request(REQUEST_INTERVAL_NS);
	}
	return NULL;
}

static void answer_late(void)
{
	char c;

	sleep_ns(ANSWERED_AFTER_NS);
	for (int i = 0; i < options.threads; i++)
		if (recv(answering[i], &c, 1, MSG_DONTWAIT) == 1 && write(answering[i], &c, 1) != 1)
			fail("write");
}

/* The peer that has become slow. It does not wake up otherwise, so that all that this service does at other times is waiting for requests. */
static void *be_backend(void *userdata)
{
	for (;;) {
		for (int is = trouble; is != BACKEND; is = trouble)
			inline_syscall(SYS_futex, (long)&trouble, FUTEX_WAIT_PRIVATE, is, 0);
		do
			answer_late();
		while (trouble == BACKEND);
		/* Who asked at the last moment. */
		answer_late();
	}
	return userdata;
}

static void connect_backend(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, options.threads) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &size) < 0)
		fail("listen");
	for (int i = 0; i < options.threads; i++) {
		asking[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (asking[i] < 0 || connect(asking[i], (struct sockaddr *)&address, size) < 0)
			fail("connect");
		answering[i] = accept(listener, NULL, NULL);
		if (answering[i] < 0)
			fail("accept");
	}
	close(listener);
}

static void make_file(void)
{
	char *block = calloc(1, BLOCK), path[4096];

	snprintf(path, sizeof(path), "%s/wl_service-XXXXXX", options.mode);
	file = mkostemp(path, O_CLOEXEC);
	if (file < 0 || !block)
		fail(path);
	unlink(path);
	for (uint64_t at = 0; at < options.n; at += BLOCK)
		if (write(file, block, BLOCK) != (ssize_t)BLOCK)
			fail("write");
	if (fsync(file) < 0 || fcntl(file, F_SETFL, O_DIRECT) < 0)
		fail("O_DIRECT");
	free(block);
}

static int command(const char *line)
{
	for (size_t i = 0; i < sizeof(troubles) / sizeof(troubles[0]); i++)
		if (strncmp(line, troubles[i], strlen(troubles[i])) == 0)
			return (int)i;
	return -1;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char line[64];

	workload_parse(argc, argv, &options);
	if (options.threads < 1 || options.threads > THREADS_MAX)
		fail("--threads");
	busy = get_nprocs();
	make_file();
	connect_backend();
	if (pthread_create(&thread, NULL, be_backend, NULL) != 0)
		fail("pthread_create");
	for (int i = 0; i < options.threads; i++)
		if (pthread_create(&thread, NULL, serve, (void *)(uintptr_t)i) != 0)
			fail("pthread_create");
	workload_ready(&options);
	while (fgets(line, sizeof(line), stdin)) {
		int next = command(line);

		if (next < 0) {
			fprintf(stderr, "unknown: %s", line);
			return 2;
		}
		trouble = next;
		inline_syscall(SYS_futex, (long)&trouble, FUTEX_WAKE_PRIVATE, 1, 0);
	}
	return 0;
}
