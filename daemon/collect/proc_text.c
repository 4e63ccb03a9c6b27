/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proc_text.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/syscall.h>

#define KERNEL_THREAD_FLAG 0x00200000U /* PF_KTHREAD */

int proc_numbers_begin(struct proc_numbers *n, int dir_fd, const char *path)
{
	n->at = n->n = 0;
	n->fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return n->fd < 0 ? negative_errno() : 0;
}

bool proc_numbers_next(struct proc_numbers *n, pid_t *ret)
{
	for (;;) {
		const struct dirent64 *entry = (const void *)(n->buffer + n->at);
		uint64_t number;

		if (n->at >= n->n) {
			long size = n->fd < 0 ? 0 : syscall(SYS_getdents64, n->fd, n->buffer, sizeof n->buffer);

			if (size <= 0)
				return false;
			n->n = (size_t)size;
			n->at = 0;
			continue;
		}
		n->at += entry->d_reclen;
		if (parse_u64(entry->d_name, &number) >= 0 && number > 0 && number <= INT32_MAX) {
			*ret = (pid_t)number;
			return true;
		}
	}
}

void proc_numbers_done(struct proc_numbers *n)
{
	n->fd = close_fd(n->fd);
}

int proc_read(int dir_fd, const char *path, char *ret, size_t size)
{
	_cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return negative_errno();
	n = read(fd, ret, size - 1);
	if (n < 0)
		return negative_errno();
	ret[n] = 0;
	return 0;
}

int proc_running(uint32_t *ret)
{
	char text[256];
	int r = proc_read(AT_FDCWD, "/proc/loadavg", text, sizeof text);

	if (r < 0)
		return r;
	return sscanf(text, "%*f %*f %*f %" SCNu32 "/", ret) == 1 ? 0 : -EINVAL;
}

/* Behind the line of interrupts, which has no limit. */
int proc_switches(uint64_t *ret)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/stat", "re");
	char line[512];

	if (!f)
		return negative_errno();
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "ctxt %" SCNu64, ret) == 1)
			return 0;
	return -EBADMSG;
}

int proc_stat_parse(const char *text, struct proc_stat *ret)
{
	const char *open = strchr(text, '('), *close = strrchr(text, ')');
	unsigned long long minor, major, start;
	long long resident;
	unsigned flags, threads;

	if (!open || !close || close < open)
		return -EBADMSG;
	if (sscanf(close + 1, " %*c %*d %*d %*d %*d %*d %u %llu %*u %llu %*u %*u %*u %*d %*d %*d %*d %u %*d %llu %*u %lld", &flags, &minor, &major,
	           &threads, &start, &resident) != 6)
		return -EBADMSG;
	*ret = (struct proc_stat){
		.kernel_thread = flags & KERNEL_THREAD_FLAG,
		.threads = threads,
		.faults_minor = minor,
		.faults_major = major,
		.start_ticks = start,
		.resident = resident,
	};
	memcpy(ret->comm, open + 1, MIN((size_t)(close - open - 1), sizeof ret->comm - 1));
	return 0;
}

int proc_uid_parse(const char *text, uint32_t *ret)
{
	const char *line = strstr(text, "\nUid:");

	return line && sscanf(line, "\nUid: %u", ret) == 1 ? 0 : -EBADMSG;
}

int proc_cgroup_parse(const char *text, char *ret, size_t size)
{
	const char *line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	size_t n;

	if (!line)
		return -ENOENT;
	line = strstr(line, "::") + 2;
	n = strcspn(line, "\n");
	if (n >= size)
		return -E2BIG;
	memcpy(ret, line, n);
	ret[n] = 0;
	return 0;
}
