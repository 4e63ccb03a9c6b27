/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What unwind tables cost: bytes a row and in all, time to make one by its .eh_frame. Of the files named, or of some that are
 * on most machines. */
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

#include "elf_unwind.h"
#include "helper.h"

#define TABLE_BYTES (256U << 20)
#define ROUNDS 5
#define MIB 1048576.0

static const char *const usual[] = {
	"/lib/x86_64-linux-gnu/libc.so.6",
	"/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
	"/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
	"/usr/lib/x86_64-linux-gnu/libLLVM-14.so.1",
	"/usr/bin/python3",
	"/usr/bin/perl",
	"/usr/lib/gcc/x86_64-linux-gnu/12/cc1",
};

struct sums {
	double bytes, rows, eh_frame, ns;
	size_t files;
};

/* Of this thread alone: what else runs on the machine does not count. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* The fastest of some rounds; the first one reads the file from its disk. */
static int measure(int fd, struct unwind_table_header *ret, uint64_t *ret_ns)
{
	*ret_ns = UINT64_MAX;
	for (int i = 0; i < ROUNDS; i++) {
		_cleanup_close_ int table_fd = memfd_create("table", MFD_CLOEXEC);
		uint64_t start;
		int r;

		if (table_fd < 0 || ftruncate(table_fd, TABLE_BYTES) < 0)
			return negative_errno();
		start = cpu_ns();
		r = elf_unwind_write(fd, table_fd, TABLE_BYTES, ret);
		if (r < 0)
			return r;
		*ret_ns = MIN(*ret_ns, cpu_ns() - start);
	}
	return 0;
}

static void print_row(const char *name, double functions, double rows, double rules, double eh_frame, double bytes, double ns,
		      double unsupported)
{
	printf("%-20.20s %9.0f %9.0f %6.0f %10.2f %10.2f %7.2f %8.1f %8.1f %7.2f%%\n", name, functions, rows, rules,
	       eh_frame / MIB, bytes / MIB, bytes / rows, ns / 1e6, ns / 1e6 / (eh_frame / MIB), 100 * unsupported / rows);
}

static void bench_file(const char *path, struct sums *sums)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	const char *slash = strrchr(path, '/');
	struct unwind_table_header h;
	uint64_t ns;
	double bytes;

	if (fd < 0 || measure(fd, &h, &ns) < 0)
		return;
	bytes = (double)unwind_table_size(&h);
	print_row(slash ? slash + 1 : path, h.n_functions, h.n_rows, h.n_rules, (double)h.eh_frame_bytes, bytes, (double)ns,
		  h.n_unsupported);
	sums->bytes += bytes;
	sums->rows += h.n_rows;
	sums->eh_frame += (double)h.eh_frame_bytes;
	sums->ns += (double)ns;
	sums->files++;
}

int main(int argc, char **argv)
{
	struct sums sums = {};

	printf("%-20s %9s %9s %6s %10s %10s %7s %8s %8s %8s\n", "file", "functions", "rows", "rules", "eh_frame/M", "table/M",
	       "bytes/r", "ms", "ms/MiB", "unsupp.");
	if (argc > 1)
		for (int i = 1; i < argc; i++)
			bench_file(argv[i], &sums);
	else
		for (size_t i = 0; i < ELEMENTS_OF(usual); i++)
			bench_file(usual[i], &sums);
	if (sums.files > 0)
		printf("%zu files: %.2f M rows in %.1f MiB, %.2f bytes a row, %.1f ms a MiB of .eh_frame\n", sums.files,
		       sums.rows / 1e6, sums.bytes / MIB, sums.bytes / sums.rows, sums.ns / 1e6 / (sums.eh_frame / MIB));
	return 0;
}
