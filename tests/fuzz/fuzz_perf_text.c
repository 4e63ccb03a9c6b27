/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as what perf script prints, or as folded stacks: each stack that is told has a name for each frame. */
#include <assert.h>
#include <sys/mman.h>

#include "perf_text.h"
#include "source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int take(void *userdata, const struct stack *stack)
{
	size_t *n = userdata;

	assert(stack->n <= STACK_FRAMES_MAX);
	*n += strlen(stack->comm);
	for (size_t i = 0; i < stack->n; i++) {
		assert(stack->frames[i].is_named);
		*n += strlen(stack->frames[i].name);
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct stack_options options[] = { {}, { .event = "cpu-clock", .periods = true } };
	static struct source source;

	if (source.fd <= 0)
		source.fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (ftruncate(source.fd, 0) < 0 || pwrite(source.fd, data, size, 0) != (ssize_t)size)
		abort();
	for (size_t i = 0; i < ELEMENTS_OF(options); i++) {
		struct stack_error error;
		struct stack_origin origin;
		size_t n = 0;
		int r;

		assert(source_seek(&source, 0) == 0);
		r = perf_text_read(&source, &options[i], take, &n, &error, &origin);
		assert(r == 0 || (r == -EBADMSG && error.place > 0) || (r == -ENOENT && options[i].event));
		assert(n <= 2 * size + 64 * (size + 1)); /* "[object]" is short */
	}
	return 0;
}
