/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as the records of a recording, whose blocks are made whole: it ends, with an error that lies in the file or without, and what it
 * tells lies within the limits. Then the bytes as they are as the whole file. */
#include <assert.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <zstd.h>

#include "recording.h"
#include "source.h"

#define BLOCK 512 /* bytes of records in one */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct source source;
static volatile uint64_t sum; /* all has been read */

static void check(const struct recording_item *item)
{
	switch (item->kind) {
	case RECORDING_PROCESS:
		sum += strlen(item->process->known.exe) + strlen(item->process->known.unit) + strlen(item->process->asked.comm);
		break;
	case RECORDING_STACK:
		assert(item->stack->n <= SYMBOLS_FRAMES_MAX);
		for (size_t i = 0; item->stack->result >= 0 && i < item->stack->n; i++)
			sum += strlen(item->stack->frames[i].display) + strlen(item->stack->frames[i].object);
		break;
	case RECORDING_TICK:
		assert(item->tick.n_own <= RECORDING_OWN_MAX);
		break;
	case RECORDING_BEGIN:
		assert(item->begin.online_cpus > 0 && item->begin.load >= 0);
		break;
	case RECORDING_GATE:
		sum += strlen(item->gate.cause);
		break;
	case RECORDING_SAMPLE:
		assert(item->sample.process.pid > 0);
		break;
	case RECORDING_MOMENT:
		assert(item->moment.time_us <= INT64_MAX);
		sum += strlen(item->moment.comm);
		break;
	case RECORDING_LOSS:
		sum += strlen(item->loss.cause);
		break;
	default:
		break;
	}
}

static void read_all(uint64_t size)
{
	_cleanup_(recording_reader_freep) struct recording_reader *r = NULL;
	struct recording_error error;
	struct recording_item item;
	int e;

	assert(source_seek(&source, 0) == 0);
	e = recording_open(&r, &source, &error);
	while (e >= 0 && (e = recording_next(r, &item, &error)) > 0)
		check(&item);
	assert(e == 0 || e == -EBADMSG || e == -ENOMEM);
	assert(e != -EBADMSG || (error.what[0] != '\0' && error.offset <= size));
}

static uint64_t put(const void *bytes, size_t n, uint64_t at)
{
	if (pwrite(source.fd, bytes, n, (off_t)at) != (ssize_t)n)
		abort();
	return at + n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char header[16] = "stackrec\1";
	static uint8_t packed[ZSTD_COMPRESSBOUND(BLOCK)];
	uint64_t at, n_blocks = 0;

	if (source.fd <= 0)
		source.fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (ftruncate(source.fd, 0) < 0)
		abort();
	put(data, size, 0);
	read_all(size);
	at = put(header, sizeof(header), 0);
	for (size_t from = 0; from < size; from += BLOCK) {
		size_t n = MIN(size - from, (size_t)BLOCK), stored = ZSTD_compress(packed, sizeof(packed), data + from, n, 1);
		const uint32_t sizes[] = { (uint32_t)n, (uint32_t)stored };
		const uint64_t sum_of = hash64(packed, stored, n_blocks++);

		at = put(sizes, sizeof(sizes), at);
		at = put(&sum_of, sizeof(sum_of), at);
		at = put(packed, stored, at);
	}
	if (ftruncate(source.fd, (off_t)at) < 0)
		abort();
	read_all(at);
	return 0;
}
