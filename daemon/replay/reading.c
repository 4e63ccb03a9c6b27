/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "reading.h"

#include "helper.h"
#include "perf_file.h"
#include "perf_text.h"
#include "perfdata.h"

int read_stacks(struct source *source, const struct stack_options *options, stack_fn fn, void *userdata, struct stack_error *ret_error,
		struct stack_origin *ret_origin)
{
	_cleanup_(helper_stopp) struct helper *helper = NULL;
	ssize_t n = source_need(source, MAGIC_SIZE);
	int r;

	*ret_error = (struct stack_error){};
	*ret_origin = (struct stack_origin){};
	if (n < 0)
		return (int)n;
	if (n < MAGIC_SIZE || !perfdata_is_magic(source_at(source)))
		return perf_text_read(source, options, fn, userdata, ret_error, ret_origin);
	r = helper_start_parser(&helper);
	if (r < 0) {
		snprintf(ret_error->what, sizeof(ret_error->what), "can't start the process that reads programs' symbols: %s", strerror(-r));
		return -ECHILD;
	}
	return perf_file_read(source, helper, options, fn, userdata, ret_error, ret_origin);
}

void tell_stack_error(const char *path, int r, const struct stack_error *error)
{
	if (r != -EBADMSG)
		log_error("%s: %s", path, error->what[0] ? error->what : strerror(-r));
	else if (error->is_line)
		log_error("%s: line %llu: %s", path, (unsigned long long)error->place, error->what);
	else
		log_error("%s: at byte %llu: %s", path, (unsigned long long)error->place, error->what);
}
