/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as the records behind the configuration of a recording, through the daemon's pipeline: it ends, and what came before the
 * damage can be reported. */
#include <assert.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <zstd.h>

#include "alert.h"
#include "recorded.h"
#include "tick_source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER_SIZE 16
#define BLOCK_HEAD_SIZE 16
#define END_SIZE 2 /* the record that recording_writer_finish() adds */

/* ---- the machine and the journal, which nobody asks or tells ---- */

struct tick_source live_source(struct live_source *live _unused_)
{
	return (struct tick_source){};
}

void collect_mappings_dispatch(struct collect *c _unused_, const struct collect_sink *sink _unused_, void *userdata _unused_)
{
	abort();
}

int collect_frames(struct collect *c _unused_, uint64_t raw_id _unused_, struct collect_frames *ret _unused_)
{
	abort();
}

void symbols_mapping_event(struct symbols *s _unused_, const struct symbols_mapping_event *event _unused_)
{
	abort();
}

int symbols_resolve(struct symbols *s _unused_, const struct symbols_process_key *key _unused_, const uint64_t *kernel _unused_,
		    size_t n_kernel _unused_, const uint64_t *user _unused_, size_t n_user _unused_,
		    struct symbols_frame ret_frames[static SYMBOLS_FRAMES_MAX] _unused_, size_t *ret_n _unused_, uint64_t *ret_stack_id _unused_)
{
	abort();
}

int alert_incident(struct alert *a, uint64_t now_us _unused_, const struct alert_incident *incident _unused_)
{
	assert(!a);
	return 0;
}

int alert_gate(struct alert *a, uint64_t now_us _unused_, bool open _unused_, double load _unused_, const char *cause _unused_)
{
	assert(!a);
	return 0;
}

void alert_tick(struct alert *a, uint64_t now_us _unused_)
{
	assert(!a);
}

/* ---- the recording ---- */

static const struct recording_config config = {
	.store_size = 8U << 20, .keep_us = { 60 * USEC_PER_SEC, 600 * USEC_PER_SEC, 3600 * USEC_PER_SEC }, .slices_per_series = 4,
	.max_stacks = 1024, .max_clusters = 8, .max_incidents = 16, .memory_bytes = 1ULL << 30, .false_alarms_per_day = 1000,
	.version = "0", .kernel = "0", .machine = "x86_64",
};

static struct source source;
static FILE *nowhere;
static uint8_t records[RECORDING_BLOCK_MAX]; /* begin with the configuration */
static size_t n_config;

static void set_up(void)
{
	uint8_t file[4096];
	struct recording_writer *w;
	ssize_t n;

	log_setup("fuzz", LOG_LEVEL_ERROR);
	nowhere = fopen("/dev/null", "we");
	source.fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (!nowhere || recording_writer_new(&w, source.fd, &config) < 0 || recording_writer_finish(w) < 0)
		abort();
	recording_writer_free(w);
	n = pread(source.fd, file, sizeof(file), 0);
	assert(n > HEADER_SIZE + BLOCK_HEAD_SIZE);
	n_config = ZSTD_decompress(records, sizeof(records), file + HEADER_SIZE + BLOCK_HEAD_SIZE, (size_t)n - HEADER_SIZE - BLOCK_HEAD_SIZE);
	assert(!ZSTD_isError(n_config) && n_config > END_SIZE);
	n_config -= END_SIZE;
}

static void write_block(size_t size)
{
	static uint8_t block[BLOCK_HEAD_SIZE + ZSTD_COMPRESSBOUND(RECORDING_BLOCK_MAX)];
	size_t stored = ZSTD_compress(block + BLOCK_HEAD_SIZE, sizeof(block) - BLOCK_HEAD_SIZE, records, size, 1);
	const uint32_t sizes[] = { (uint32_t)size, (uint32_t)stored };
	const uint64_t check = hash64(block + BLOCK_HEAD_SIZE, stored, 0);

	memcpy(block, sizes, sizeof(sizes));
	memcpy(block + sizeof(sizes), &check, sizeof(check));
	if (ftruncate(source.fd, HEADER_SIZE) < 0 || pwrite(source.fd, block, BLOCK_HEAD_SIZE + stored, HEADER_SIZE) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct recorded_options options = { .moments = true };
	_cleanup_(recorded_freep) struct recorded *r = NULL;
	_cleanup_(folded_freep) struct folded *folded = NULL;
	struct recording_error error;
	int e;

	if (!nowhere)
		set_up();
	size = MIN(size, sizeof(records) - n_config);
	memcpy(records + n_config, data, size);
	write_block(n_config + size);
	assert(source_seek(&source, 0) == 0);
	assert(recorded_new(&r, &source, &options, &error) == 0);
	e = recorded_run(r, &error);
	assert(e == -EBADMSG || e == -ENOMEM || e == 0);
	assert(e != -EBADMSG || error.what[0] != '\0');
	(void)recorded_rooms(r);
	assert(recorded_write_report(r, nowhere) == 0);
	assert(folded_new(&folded) == 0 && recorded_fold(r, METRIC_OFF_CPU, folded) >= 0);
	return 0;
}
