/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /etc/stackd/stackd.conf and its drop-ins: the one place that knows every key, its default, unit and range. */
#pragma once

#include "base.h"

#define CONF_PRESSURE_MAX 6
#define CONF_WATCHES_MAX 16

enum conf_source { CONF_SOURCE_AUTO, CONF_SOURCE_BPF, CONF_SOURCE_PERF };

struct conf_pressure {
	char resource[8];      /* "cpu", "io", "memory" */
	bool full;
	uint64_t stall_us, window_us;
};

struct conf {
	/* [Gate] */
	double open_above;            /* OpenAbove=5.0, runnable tasks per online CPU, 0.1..1000 */
	double close_below;           /* CloseBelow=4.0, not above OpenAbove= */
	uint64_t close_after_us;      /* CloseAfter=10s, 0..1h */
	uint64_t cooldown_us;         /* Cooldown=2s, 0..1h */
	uint32_t baseline_hz;         /* BaselineHz=5, 0..100 */
	size_t n_pressures;
	struct conf_pressure pressures[CONF_PRESSURE_MAX]; /* OpenOnPressure=, may be given several times: "io full 200ms 1s" */
	/* [Collect] */
	enum conf_source source;      /* Source=auto | bpf | perf */
	uint32_t stack_copy;          /* StackCopyBytes=8192, 0..61440 */
	bool update_rq_clock;         /* OnCPUSource=perf-event | update-rq-clock */
	uint32_t sample_hz;           /* SampleHz=49, 1..1000 */
	uint32_t fault_hz;            /* FaultHz=199, 1..10000 */
	uint32_t fault_baseline_hz;   /* FaultBaselineHz=11, 0..1000 */
	uint32_t offcpu_stacks;       /* OffCPUStacksPerSec=2000, 0 = no limit */
	bool known_stacks;            /* KnownStacks=yes: a wait's stack that is known is not walked */
	uint32_t memory_stacks;       /* MemoryStacksPerSec=100, 0 = no limit */
	uint32_t memory_baseline_stacks; /* MemoryBaselineStacksPerSec=20, 0 = no limit */
	double cpu_budget_closed;     /* CPUBudgetClosed=1, percent of the machine, 0.1..100, 100 = no limit */
	double cpu_budget_open;       /* CPUBudgetOpen=10 */
	uint32_t heap_sample_bytes;   /* HeapSampleBytes=524288, 0 = all, at most 64M */
	uint32_t heap_budget;         /* HeapBudget=50, percent, 1..100 */
	size_t n_watches;
	char watches[CONF_WATCHES_MAX][WORKLOAD_NAME_SIZE]; /* WatchMemory=, units and control groups, may be given several times; each once */
	uint32_t max_heap_blocks;     /* MaxHeapBlocks=65536, 1024..4194304 */
	uint32_t max_stacks;          /* MaxStacks=16384, 1024..1048576 */
	uint32_t max_counts;          /* MaxActiveStacks=16384 */
	uint32_t max_processes;       /* MaxProcesses=16384 */
	/* [Unwind] */
	uint64_t mapping_log_size;    /* MappingLogSize=4M, 1M..1G */
	uint64_t source_lines_size;   /* SourceLinesSize=8M, 1M..1G */
	uint64_t unwind_table_size;   /* UnwindTableSize=64M, 1M..1G */
	uint32_t unwind_depth;        /* UnwindDepth=128, 16..128 */
	/* [Store] */
	uint64_t store_size;          /* StoreSize=64M, 8M..16G */
	uint64_t keep_1s_us, keep_10s_us, keep_1min_us; /* Keep1s=15min Keep10s=4h Keep1min=48h */
	uint32_t slices_per_series;   /* SlicesPerSeries=64 */
	uint64_t moments_size;        /* MomentsSize=4M, 1M..1G */
	uint64_t thread_waits_size;   /* ThreadWaitsSize=4M, 1M..1G */
	bool save_on_stop;            /* SaveOnStop=yes */
	/* [Detect] */
	double false_alarms_per_day;  /* FalseAlarmsPerDay=1, 0.01..1000 */
	/* [Cluster] */
	uint32_t max_clusters;        /* MaxClusters=128, 8..4096 */
	uint32_t max_incidents;       /* MaxIncidents=256, 16..65536 */
	/* [Alert] */
	uint32_t alert_burst;         /* AlertBurst=20 */
	uint64_t alert_interval_us;   /* AlertInterval=1min */
	/* [API] */
	uint32_t max_connections;     /* MaxConnections=64 */
	uint32_t max_connections_uid; /* MaxConnectionsPerUser=16 */
	uint32_t subscriber_queue;    /* SubscriberQueue=256, 16..65536 */
	uint64_t request_timeout_us;  /* RequestTimeout=30s */
	bool users_see_own;           /* UsersSeeOwn=yes: others than root and the group stackd see their own processes */
	/* [Log] */
	int log_level;                /* LogLevel=info: error warning notice info debug */
};

void conf_defaults(struct conf *ret);

/* Reads path, then path.d/ *.conf in order of name. On any error nothing of *ret changes, and *ret_error (the caller frees it) says file,
 * line, reason and what would be right: "/etc/stackd/stackd.conf:12: OpenAbove=: 'abc' is not a number from 0.1 to 1000". A missing
 * path is not an error when optional. */
int conf_load(const char *path, bool optional, struct conf *ret, char **ret_error);

/* Which keys differ between two configurations and need a restart to take effect, as "StoreSize= MaxStacks=", or "". The caller frees it. */
int conf_restart_needed(const struct conf *a, const struct conf *b, char **ret);
