/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every room stands on: clean-up attributes, errno helpers, logging, clocks, hashing, parsing
 * of units, the enumeration of metrics, and the one bounded hash table. */
#pragma once

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* ---- clean-up attributes and small helpers ---- */

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _unused_ __attribute__((unused))
#define ELEMENTS_OF(a) (sizeof(a) / sizeof((a)[0]))

/* Each use has names of its own, so that they nest. */
#define MIN(a, b) CHOOSE_(a, b, <, __COUNTER__)
#define MAX(a, b) CHOOSE_(a, b, >, __COUNTER__)
#define CHOOSE_(a, b, op, n) CHOOSE__(a, b, op, n)
#define CHOOSE__(a, b, op, n)                                           \
	({                                                              \
		__typeof__(a) a_##n = (a);                              \
		__typeof__(b) b_##n = (b);                              \
		a_##n op b_##n ? a_##n : b_##n;                         \
	})

/* DEFINE_CLEANUP(store*, store_free) gives store_freep for _cleanup_(store_freep). */
#define DEFINE_CLEANUP(type, func)               \
	static inline void func##p(type *p)      \
	{                                        \
		if (*p)                          \
			func(*p);                \
	}

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

DEFINE_CLEANUP(FILE *, fclose)

#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)
#define _cleanup_fclose_ _cleanup_(fclosep)

#define TAKE_PTR(p) ({ __typeof__(p) _p = (p); (p) = NULL; _p; })
#define TAKE_FD(fd) ({ int _fd = (fd); (fd) = -EBADF; _fd; })

static inline int negative_errno(void)
{
	return errno > 0 ? -errno : -EIO;
}

static inline bool streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* Copies at most size-1 bytes and always terminates. Returns false when src did not fit. */
bool copy_string(char *dst, size_t size, const char *src);

/* Makes room for need elements (at most half of SIZE_MAX) in an array that has it for *max, doubling it; what is new has no value yet. -ENOMEM. */
int grow_array(void **array, size_t *max, size_t need, size_t element);

/* Closes fd if it is open and returns -EBADF, so that `fd = close_fd(fd)` reads well. */
int close_fd(int fd);

/* Reads a whole small file (procfs, sysfs, configuration), at most max bytes, NUL-terminated.
 * The caller frees *ret. Gives -EFBIG when there is more than max. */
int read_small_file(int dir_fd, const char *path, size_t max, char **ret, size_t *ret_size);

/* ---- logging: to stderr, with the sd-daemon(3) priority prefix when the journal reads it ---- */

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_NOTICE = 5, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/* Reads JOURNAL_STREAM to find out who listens. Messages above max_level are dropped. */
void log_setup(const char *program, enum log_level max_level);
void log_write(enum log_level level, const char *format, ...) _printf_(2, 3);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* ---- time ---- */

#define NSEC_PER_SEC 1000000000ULL
#define NSEC_PER_USEC 1000ULL
#define USEC_PER_SEC 1000000ULL
#define USEC_PER_MSEC 1000ULL
#define USEC_INFINITY UINT64_MAX

uint64_t clock_realtime_us(void);
uint64_t clock_monotonic_ns(void); /* the clock of bpf_ktime_get_ns() */
uint64_t clock_boottime_ns(void);  /* the clock of a task's start time */
/* CPU time of a process so far, all its threads; 0 when there is none. */
uint64_t process_cpu_ns(pid_t pid);

/* ---- hashing ---- */

/* XXH3, 64 bits: stable across versions and machines, so its values may be stored. */
uint64_t hash64(const void *data, size_t size, uint64_t seed);

static inline uint64_t hash64_string(const char *s, uint64_t seed)
{
	return hash64(s, strlen(s), seed);
}

/* ---- metrics: one enumeration, used everywhere (DESIGN section 4) ---- */

enum metric {
	METRIC_ON_CPU,       /* ns */
	METRIC_BLOCKED,      /* ns */
	METRIC_RUNNABLE,     /* ns */
	METRIC_FAULTS_MINOR, /* faults */
	METRIC_FAULTS_MAJOR, /* faults */
	METRIC_HITS,         /* hits: how often a stack was seen on-CPU, without weight */
	METRIC_BRK,          /* bytes, signed: grown less released */
	METRIC_MMAP,         /* bytes, signed, without what brk did */
	METRIC_HEAP,         /* bytes, signed: allocated less freed, both by the stack that allocated */
	METRIC_RSS,          /* bytes, signed: resident memory that came less what went */
	METRIC_FAULTS_FILE,  /* faults: of the minor and major ones, those in mappings of files */
	METRIC_KMEM,         /* bytes, signed: the kernel's memory, allocated less freed, both by the stack that allocated */
	METRIC_N,            /* what the store keeps; the others are derived */
	METRIC_OFF_CPU = METRIC_N, /* ns: blocked + runnable */
	METRIC_FAULTS_ANON,  /* faults: minor + major - file */
	METRIC_ALL_N,
};

/* "on-cpu", "faults-minor", ...: as options and output spell them. NULL when out of range. */
const char *metric_to_string(enum metric m);
/* "on_cpu": as the interface spells it. */
const char *metric_on_wire(enum metric m);
/* Takes "-" and "_" alike. Gives -EINVAL for anything else. */
int metric_from_string(const char *s, enum metric *ret);
/* "ns", "faults", "hits", "bytes" */
const char *metric_unit(enum metric m);
/* Whether its values are int64_t, in two's complement where uint64_t is what holds values. */
static inline bool metric_is_signed(enum metric m)
{
	return (m >= METRIC_BRK && m <= METRIC_RSS) || m == METRIC_KMEM;
}
/* Of any metric, also a derived one. Rounding may have made the parts larger than the whole; it is 0 then. */
uint64_t metric_value(const uint64_t values[static METRIC_N], enum metric m);
/* How much of it there is, whichever way it went. */
static inline uint64_t metric_magnitude(enum metric m, uint64_t value)
{
	return metric_is_signed(m) && (int64_t)value < 0 ? 0 - value : value;
}

/* ---- parsing and formatting of quantities ---- */

/* Each gives -EINVAL for what is not such a value and -ERANGE for one that does not fit. */
int parse_u64(const char *s, uint64_t *ret);
int parse_double(const char *s, double *ret);        /* finite, "." as the decimal point, in any locale */
int parse_bool(const char *s, bool *ret);            /* yes/no true/false on/off 1/0 */
int parse_size(const char *s, uint64_t *ret);        /* bytes; suffixes K M G T, base 1024 */
int parse_timespan(const char *s, uint64_t *ret_us); /* systemd.time(7): "10m", "1h 30min", "5" (s), "infinity" */

#define WORKLOAD_NAME_SIZE 256 /* of a systemd unit, or of a control group */
/* A name that a unit can have: "cron.service", "getty@tty1.service"; not the template "getty@.service". */
bool is_unit_name(const char *s);
/* ".service" may be left out, as for systemctl(1). Gives -EINVAL for what can't be a unit. */
int parse_unit(const char *s, char ret[static WORKLOAD_NAME_SIZE]);
/* A path, also with "/sys/fs/cgroup" before it. Gives it as /proc/PID/cgroup does; -EINVAL for what isn't absolute or has "." or "..". */
int parse_cgroup(const char *s, char ret[static WORKLOAD_NAME_SIZE]);

#define FORMAT_MAX 64
/* Each writes into buf and returns it. */
char *format_timespan(char buf[static FORMAT_MAX], uint64_t us);               /* "1h 30min", "2.5s", "12ms" */
char *format_size(char buf[static FORMAT_MAX], uint64_t bytes);                /* "64M", "1.5G" */
char *format_metric(char buf[static FORMAT_MAX], enum metric m, uint64_t value); /* "1.25s", "3.1k faults", "-1.50MiB" */

/* The whole pages of memory that is not needed any more, also where all memory is locked; they may read as zeros afterwards. */
void memory_give_back(void *memory, size_t size);

/* ---- a bounded hash table from 64-bit key to 64-bit value ---- */

/* Open addressing in memory that is reserved at creation, of which it uses what its entries need. Any key and value are allowed. */
struct map64;
int map64_new(struct map64 **ret, size_t max_entries);
struct map64 *map64_free(struct map64 *m); /* accepts NULL, returns NULL */
/* Gives true and the value when the key is there. ret may be NULL. */
bool map64_get(const struct map64 *m, uint64_t key, uint64_t *ret);
/* Its value, to be changed in place; valid until the next insertion or removal. NULL: it is not there. */
uint64_t *map64_find(struct map64 *m, uint64_t key);
/* Inserts or replaces. Gives -ENOSPC, and changes nothing, when max_entries keys are in. */
int map64_put(struct map64 *m, uint64_t key, uint64_t value);
bool map64_remove(struct map64 *m, uint64_t key);
void map64_clear(struct map64 *m);
/* Fetches where the key is or would be into the CPU's cache, for a look-up that follows soon. */
void map64_prefetch(const struct map64 *m, uint64_t key);
size_t map64_size(const struct map64 *m);
size_t map64_capacity(const struct map64 *m);
/* Walks all entries in no order: start with *cursor = 0; gives false at the end. No changes meanwhile. */
bool map64_next(const struct map64 *m, size_t *cursor, uint64_t *ret_key, uint64_t *ret_value);
DEFINE_CLEANUP(struct map64 *, map64_free)
