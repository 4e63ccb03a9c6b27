/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ListLeaks: what watched heaps and the kernel hold. */
#include "internal.h"

#define DEFAULT_LIMIT 50
#define LEAKS_MAX 1000
#define LEAK_BOUND 512 /* without frames */

struct leaks_view {
	struct api_leaks all;
	size_t n, next;
	struct stack stack;
	struct api_leak leaks[];
};

static void write_leak(struct leaks_view *v, struct json_writer *w, const struct api_leak *leak)
{
	static const char *const older[COLLECT_HEAP_AGES] = { "older_1min", "older_10min", "older_1h" };

	json_open_object(w);
	json_put_string(w, "kind", leak->kernel ? "kernel" : "process");
	json_put_int(w, "pid", leak->pid);
	json_put_string(w, "comm", leak->comm);
	json_put_id(w, "stack", leak->stack_id);
	json_put_int(w, "bytes", leak->bytes);
	json_put_int(w, "blocks", leak->blocks);
	for (unsigned i = 0; i < COLLECT_HEAP_AGES; i++)
		json_put_int(w, older[i], leak->older[i]);
	if (leak->measured) {
		json_put_int(w, "per_minute", (int64_t)leak->per_minute);
		json_put_bool(w, "grows", leak->grows);
	}
	put_frames(w, "frames", &v->stack);
	json_put_bool(w, "truncated", v->stack.truncated);
	json_close_object(w);
}

static enum produce_result leaks_produce(struct session *s)
{
	struct leaks_view *v = s->call.state;
	struct json_writer *w = session_reply_begin(s);
	bool more;

	if (v->all.counted_us)
		json_put_u64(w, "counted_us", v->all.counted_us);
	json_put_int(w, "bytes", v->all.bytes);
	json_put_int(w, "unnamed", v->all.unnamed);
	json_put_int(w, "left_out", v->all.left_out);
	json_key(w, "leaks");
	json_open_array(w);
	for (size_t n = 0; v->next < v->n; n++) {
		get_stack(s->api, v->leaks[v->next].stack_id, &v->stack);
		if (page_full(s, json_writer_size(w), n, stack_bound(&v->stack) + LEAK_BOUND))
			break;
		write_leak(v, w, &v->leaks[v->next++]);
	}
	json_close_array(w);
	more = v->next < v->n;
	return session_reply_end(s, more) && more ? PRODUCE_MORE : PRODUCE_DONE;
}

static void free_view(struct session *s _unused_, void *state)
{
	free(state);
}

void method_list_leaks(struct session *s, const struct json *parameters)
{
	const struct api_actions *actions = &s->api->actions;
	struct leaks_view *v;
	uint32_t limit;
	int64_t pid = 0;

	if (json_get_int(parameters, "pid", &pid) > 0 && (pid <= 0 || pid > INT32_MAX)) {
		session_invalid_parameter(s, "pid");
		return;
	}
	if (!parse_limit(s, parameters, 1, DEFAULT_LIMIT, &limit))
		return;
	limit = MIN(limit, (uint32_t)LEAKS_MAX);
	v = calloc(1, sizeof(*v) + limit * sizeof(v->leaks[0]));
	if (!v) {
		session_failed(s, -ENOMEM);
		return;
	}
	v->n = actions->leaks(actions->userdata, (pid_t)pid, v->leaks, limit, &v->all);
	session_produce(s, leaks_produce, v, free_view);
}
