/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base.h"

#include <sys/stat.h>
#include <sys/uio.h>

#define LOG_LINE_MAX 2048

static const char *log_program = "stackd";
static enum log_level log_max = LOG_LEVEL_INFO;
static bool log_to_journal;

/* systemd.exec(5): JOURNAL_STREAM names the device and inode of the stream that the journal reads. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	       st.st_dev == dev && st.st_ino == ino;
}

void log_setup(const char *program, enum log_level max_level)
{
	log_program = program;
	log_max = max_level;
	log_to_journal = stderr_is_journal();
}

void log_write(enum log_level level, const char *format, ...)
{
	char line[LOG_LINE_MAX];
	va_list args;
	size_t at;
	int n;

	if (level > log_max)
		return;
	if (log_to_journal)
		at = snprintf(line, sizeof(line), "<%d>", level);
	else
		at = snprintf(line, sizeof(line), "%s: ", log_program);
	va_start(args, format);
	n = vsnprintf(line + at, sizeof(line) - at - 1, format, args);
	va_end(args);
	if (n < 0)
		return;
	at = MIN(at + n, sizeof(line) - 2);
	line[at++] = '\n';
	/* One write, so that lines of several processes do not mix; nothing can be done if it fails. */
	if (write(STDERR_FILENO, line, at) < 0)
		return;
}
