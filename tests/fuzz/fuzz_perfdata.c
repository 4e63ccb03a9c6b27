/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a file of perf record, of either byte order, of the kind for files and of that for pipes: it ends, with an error that lies in the file or
 * without, and what it tells lies within what was read. */
#include <assert.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "perfdata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sum; /* all has been read */

static void check(const struct perfdata *p, const struct perfdata_record *r, size_t size)
{
	const struct perfdata_event *events;
	struct perfdata_sched sched;

	assert(r->offset < size);
	switch (r->kind) {
	case PERFDATA_SAMPLE:
		assert(r->sample.event < perfdata_events(p, &events));
		for (size_t i = 0; i < r->sample.n_chain; i++)
			sum += r->sample.chain[i];
		for (size_t i = 0; i < r->sample.raw_size; i++)
			sum += r->sample.raw[i];
		sum += perfdata_sched(p, r, &sched);
		break;
	case PERFDATA_MAPPING:
		assert(r->mapping.build_id.size <= PERFDATA_BUILD_ID_MAX);
		assert(perfdata_build_id(p, r->mapping.path).size <= PERFDATA_BUILD_ID_MAX);
		break;
	case PERFDATA_COMM:
		sum += strlen(r->comm.name);
		break;
	case PERFDATA_KERNEL_SYMBOL:
		sum += strlen(r->symbol.name);
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(perfdata_freep) struct perfdata *p = NULL;
	static struct source source;
	struct perfdata_error error;
	struct perfdata_record r;
	int e;

	if (source.fd <= 0)
		source.fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (ftruncate(source.fd, 0) < 0 || pwrite(source.fd, data, size, 0) != (ssize_t)size)
		abort();
	assert(source_seek(&source, 0) == 0);
	e = perfdata_open(&p, &source, &error);
	while (e >= 0 && (e = perfdata_next(p, &r, &error)) > 0)
		check(p, &r, size);
	assert(e == 0 || e == -EBADMSG || e == -ENOMEM);
	assert(e != -EBADMSG || error.what[0] != '\0');
	return 0;
}
