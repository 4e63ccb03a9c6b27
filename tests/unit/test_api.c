/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a real store hardly ever does: too many rows, stacks that go away between two pages, failures. The
 * whole of the API runs, over a socket, on a scripted store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "internal.h"
#include "lines.h"

/* ---- a scripted store ---- */

#define NAME_MAX_BYTES 512

static struct {
	unsigned stacks, depth;  /* stack i, 1.., has the value i */
	bool long_names;
	unsigned evicted_below;  /* these are gone */
	int error;
	unsigned anomalies, lost_anomalies;
} script;

int store_visit_slices(struct store *s _unused_, const struct store_filter *filter, store_slice_fn fn,
                       void *userdata)
{
	if (script.error < 0)
		return script.error;
	for (unsigned i = 1; i <= script.stacks; i++) {
		struct store_slice_sum sum = { .process = 1, .stack = i, .values = { [METRIC_ON_CPU] = i } };
		int r;

		if (filter->stack_id && filter->stack_id != i)
			continue;
		r = fn(userdata, &sum);
		if (r != 0)
			return r;
	}
	return 0;
}

int store_visit_variances(struct store *s _unused_, const struct store_filter *filter _unused_, store_slice_fn fn _unused_,
                          void *userdata _unused_)
{
	return script.error;
}

int store_visit_totals(struct store *s _unused_, const struct store_filter *filter _unused_,
                       store_slice_fn fn _unused_, void *userdata _unused_)
{
	return script.error;
}

int store_visit_wall(struct store *s _unused_, const struct store_filter *filter _unused_,
                       store_slice_fn fn _unused_, void *userdata _unused_)
{
	return script.error;
}

int store_visit_points(struct store *s _unused_, const struct store_filter *filter, store_point_fn fn,
                       void *userdata)
{
	if (script.error < 0)
		return script.error;
	for (unsigned i = 1; i <= 20000; i++) {
		struct store_point point = {
			.time_us = i, .step_s = 1, .load_milli = 1234, .values = { [METRIC_ON_CPU] = 1 }
		};
		int r;

		if (i <= filter->since_us)
			continue;
		r = fn(userdata, &point);
		if (r != 0)
			return r;
	}
	return 0;
}

int store_visit_anomalies(const struct store *s _unused_, const struct store_filter *filter _unused_,
                          store_anomaly_fn fn, void *userdata)
{
	for (unsigned i = script.anomalies; i > script.lost_anomalies; i--) {
		struct store_anomaly a = {
			.id = i, .time_us = i, .score = INFINITY, .p_value = 0, .observed = NAN, .stack_id = 1
		};
		int r = fn(userdata, &a);

		if (r != 0)
			return r;
	}
	return 0;
}

int store_visit_gate(const struct store *s _unused_, uint64_t since _unused_, uint64_t until _unused_,
                     store_gate_fn fn _unused_, void *userdata _unused_)
{
	return script.error;
}

store_ref store_find_stack(const struct store *s _unused_, uint64_t stack_id)
{
	return stack_id > script.evicted_below && stack_id <= script.stacks ? stack_id : 0;
}

int store_get_stack(const struct store *s _unused_, store_ref stack, uint64_t *ret_stack_id,
                    bool *ret_truncated, struct store_frame *ret_frames, size_t max, size_t *ret_n)
{
	static char names[API_FRAMES_MAX][NAME_MAX_BYTES];

	for (size_t i = 0; i < MIN(max, (size_t)script.depth); i++) {
		memset(names[i], 0, sizeof(names[i]));
		if (script.long_names)
			memset(names[i], '\x01', sizeof(names[i]) - 1);
		else
			snprintf(names[i], sizeof(names[i]), "f%zu_%u", i, stack);
		ret_frames[i] = (struct store_frame){
			.id = stack * 1000UL + i, .display = names[i], .object = names[i], .kind = 200
		};
	}
	*ret_stack_id = stack;
	*ret_truncated = false;
	*ret_n = script.depth;
	return 0;
}

bool moments_range(const struct moments *m _unused_, uint64_t *ret_since_us _unused_, uint64_t *ret_until_us _unused_)
{
	return false;
}

const char *moments_thread(const struct moments *m _unused_, uint32_t tid _unused_)
{
	return "";
}

int moments_visit(const struct moments *m _unused_, uint64_t since_us _unused_, uint64_t until_us _unused_, moment_fn fn _unused_,
                  void *userdata _unused_)
{
	return 0;
}

void moments_get_status(const struct moments *m _unused_, struct moments_status *ret)
{
	*ret = (struct moments_status){ 0 };
}

bool thread_waits_range(const struct thread_waits *w _unused_, uint64_t *ret_since_us _unused_, uint64_t *ret_until_us _unused_)
{
	return false;
}

int thread_waits_visit(const struct thread_waits *w _unused_, uint64_t since_us _unused_, uint64_t until_us _unused_, moment_fn fn _unused_,
                       void *userdata _unused_)
{
	return 0;
}

const char *thread_waits_thread(const struct thread_waits *w _unused_, uint32_t tid _unused_)
{
	return "";
}

void thread_waits_get_status(const struct thread_waits *w _unused_, struct thread_waits_status *ret)
{
	*ret = (struct thread_waits_status){ 0 };
}

bool store_process_matches(const struct store *s _unused_, const struct store_filter *filter _unused_, store_ref process _unused_)
{
	return true;
}

int store_get_process(const struct store *s _unused_, store_ref process _unused_, struct store_process *ret)
{
	*ret = (struct store_process){
		.pid = 1, .start_ns = UINT64_MAX / 2, .comm = "x", .exe = "", .unit = "", .cgroup = ""
	};
	return 0;
}

void store_get_status(const struct store *s _unused_, struct store_status *ret)
{
	*ret = (struct store_status){ 0 };
}

size_t store_get_losses(const struct store *s _unused_, struct store_loss ret[static STORE_LOSS_CAUSES_MAX])
{
	memset(ret, 0, sizeof(*ret));
	return 0;
}

int symbols_resolve(struct symbols *s _unused_, const struct symbols_process_key *key _unused_, const uint64_t *kernel _unused_,
                    size_t n_kernel _unused_, const uint64_t *user _unused_, size_t n_user _unused_,
                    struct symbols_frame ret_frames[static SYMBOLS_FRAMES_MAX] _unused_, size_t *ret_n _unused_,
                    uint64_t *ret_stack_id _unused_)
{
	return -ENOENT;
}

int lines_find(struct lines *l _unused_, const struct symbols_process_key *key _unused_, const struct symbols_frame *frame _unused_,
               struct line_places *ret _unused_)
{
	return -ENODATA;
}

void lines_ask(struct lines *l _unused_) {}

void symbols_visit_without_debug(const struct symbols *s _unused_, symbols_file_fn fn _unused_, void *userdata _unused_) {}

void collect_get_status(const struct collect *c _unused_, struct collect_status *ret)
{
	*ret = (struct collect_status){ .load = NAN };
}

void symbols_get_status(const struct symbols *s _unused_, struct symbols_status *ret)
{
	*ret = (struct symbols_status){ 0 };
}

void unwind_get_status(const struct unwind *u _unused_, struct unwind_status *ret)
{
	*ret = (struct unwind_status){ .processes = 3, .processes_max = 4096, .objects = 5, .rows = 100000 };
}

void detect_get_status(const struct detect *d _unused_, struct detect_status *ret)
{
	*ret = (struct detect_status){ .threshold = -INFINITY };
}

void alert_get_status(const struct alert *a _unused_, struct alert_status *ret)
{
	*ret = (struct alert_status){ 0 };
}

static void fill_status(void *userdata _unused_, struct api_daemon_status *ret)
{
	*ret = (struct api_daemon_status){ .version = "1", .kernel = "k", .open_above = NAN };
}

static const struct api_memory_watch *no_watch(void *userdata _unused_, size_t i _unused_)
{
	return NULL;
}

static const struct api_memory_group *no_group(void *userdata _unused_, size_t i _unused_)
{
	return NULL;
}

static int refuse_gate(void *userdata _unused_, enum collect_gate_mode mode _unused_,
                       uint64_t until_us _unused_, uint32_t by_uid _unused_)
{
	return -ENODEV;
}

/* ---- a client in the same loop ---- */

struct world {
	struct ev_loop *loop;
	struct api *api;
	struct wire_client *client;
	char method[32];
};

static int setup(void **state)
{
	const struct api_config config = { .max_connections = 4,
	                                   .max_connections_uid = 4,
	                                   .subscriber_queue = 16,
	                                   .request_timeout_us = 60 * USEC_PER_SEC,
	                                   .users_see_own = true,
	                                   .group = (gid_t)-1 };
	const struct api_actions actions = { .status = fill_status, .gate_set = refuse_gate, .memory_watch_at = no_watch, .memory_group_at = no_group };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct cluster_config cluster_config = { .max_clusters = 8, .max_incidents = 16 };
	struct api_views views = { 0 };
	struct world *w = calloc(1, sizeof(*w));
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memset(&script, 0, sizeof(script));
	script.depth = 3;
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/test_api.%d", getpid());
	w->loop = ev_loop_new(0);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 4) < 0 ||
	    clusters_new(&views.clusters, &cluster_config) < 0 || api_new(&w->api, w->loop, fd, &config, &views, &actions) < 0 ||
	    wire_client_connect(&w->client, address.sun_path) < 0)
		return -1;
	unlink(address.sun_path);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	wire_client_free(w->client);
	clusters_free(w->api->views.clusters);
	api_free(w->api);
	ev_loop_destroy(w->loop);
	free(w);
	return 0;
}

static void call(struct world *w, const char *method, const char *parameters, bool more)
{
	char name[64];

	copy_string(w->method, sizeof(w->method), method);
	snprintf(name, sizeof(name), "org.stackd.%s", method);
	assert_int_equal(wire_client_send(w->client, name, parameters, more ? WIRE_MORE : 0, 60 * USEC_PER_SEC),
	                 0);
}

/* The next reply, which has to be what the description says. */
static void receive(struct world *w, struct wire_reply *ret)
{
	char field[IDL_FIELD_MAX] = "";
	int r;

	while ((r = wire_client_receive(w->client, 0, ret)) == -ETIMEDOUT)
		ev_run(w->loop, EVRUN_NOWAIT);
	assert_int_equal(r, 0);
	if (ret->error)
		r = idl_check_error(w->api->stackd, strrchr(ret->error, '.') + 1, ret->parameters, field);
	else
		r = idl_check_reply(w->api->stackd, w->method, ret->parameters, field);
	if (r < 0)
		fail_msg("%s: %s", w->method, field);
}

static void settle(struct world *w)
{
	for (int i = 0; i < 10; i++)
		ev_run(w->loop, EVRUN_NOWAIT);
}

/* ---- tests ---- */

static void tables_are_bounded(void **state _unused_)
{
	_cleanup_(table_done) struct table t = { .limit = 300, .with_values = true };
	uint64_t values[METRIC_N] = { 0 }, sum = 0;

	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < 1000; i++) {
			values[METRIC_BLOCKED] = i;
			values[METRIC_RUNNABLE] = 1;
			assert_int_equal(table_add(&t, i, i % 2 ? "a" : "", 0, METRIC_OFF_CPU, values), 0);
		}
	assert_int_equal(t.n, 300);
	table_sort(&t);
	for (size_t i = 0; i < t.n; i++) {
		const struct row *row = &t.rows[i];

		assert_int_equal(row->key, 299 - i);
		assert_int_equal(row->total, 2 * (row->key + 1));
		assert_int_equal(t.values[row->values][METRIC_BLOCKED], 2 * row->key);
		sum += row->total;
	}
	assert_int_equal(sum + t.overflow, t.total);
	assert_int_equal(t.total, 2 * (1000 * 999 / 2 + 1000));
}

/* What changed most comes first, either way. */
static void signed_rows_go_by_size(void **state _unused_)
{
	static const int64_t changes[] = { 5, -7, 0, 7, -100 }, sorted[] = { -100, -7, 7, 5, 0 };
	_cleanup_(table_done) struct table t = { .limit = 300 };

	for (unsigned i = 0; i < ELEMENTS_OF(changes); i++) {
		uint64_t values[METRIC_N] = { [METRIC_MMAP] = (uint64_t)changes[i] };

		assert_int_equal(table_add(&t, i, "", 0, METRIC_MMAP, values), 0);
	}
	table_sort(&t);
	for (unsigned i = 0; i < ELEMENTS_OF(sorted); i++)
		assert_true(t.rows[i].total == sorted[i]);
	assert_true(t.total == -95);
}

static void numbers_are_bounded(void **state _unused_)
{
	_cleanup_(numbers_done) struct numbers n = { .max = 1000 };
	uint64_t got;

	for (int round = 0; round < 2; round++)
		for (uint64_t i = 0; i < 1000; i++) {
			assert_int_equal(numbers_add(&n, i * 7, &got), round == 0);
			assert_int_equal(got, i);
		}
	assert_int_equal(numbers_add(&n, 1, &got), -ENOSPC);
}

/* What there is no room for is one row that says so, and the sum is right. */
static void flame_says_what_it_cut(void **state)
{
	struct world *w = *state;
	const struct json *stacks, *frames, *last;
	struct wire_reply reply;
	int64_t total, value, sum = 0;
	const char *name;
	bool truncated = false;

	script.stacks = 100;
	w->api->rows = API_ROWS_ALL_MAX - 10;
	call(w, "GetFlame", NULL, false);
	receive(w, &reply);
	stacks = json_get(reply.parameters, "stacks");
	frames = json_get(reply.parameters, "frames");
	assert_int_equal(json_length(stacks), 11);
	for (size_t i = 0; i < 11; i++) {
		assert_int_equal(json_get_int(json_at(stacks, i), "value", &value), 1);
		sum += value;
	}
	last = json_at(stacks, 10);
	json_get_bool(last, "truncated", &truncated);
	assert_true(truncated);
	assert_int_equal(json_length(json_get(last, "frames")), 1);
	assert_int_equal(json_as_int(json_at(json_get(last, "frames"), 0), &value), 0);
	assert_int_equal(json_get_string(json_at(frames, value), "name", &name), 1);
	assert_string_equal(name, "[truncated]");
	assert_int_equal(json_get_int(reply.parameters, "total", &total), 1);
	assert_int_equal(sum, total);
	assert_int_equal(total, 5050);
	/* The room is given back. */
	settle(w);
	assert_int_equal(w->api->rows, API_ROWS_ALL_MAX - 10);
	w->api->rows = 0;
}

/* A stack that was reclaimed while the pages went out is named so, never as another one. */
static void what_is_evicted_meanwhile_is_said(void **state)
{
	struct world *w = *state;
	struct wire_reply reply;
	unsigned evicted = 0, rows = 0;

	script.stacks = 30000;
	call(w, "GetFlame", NULL, true);
	do {
		const struct json *stacks, *frames;
		const char *name = "";
		int64_t number = 0;

		receive(w, &reply);
		stacks = json_get(reply.parameters, "stacks");
		frames = json_get(reply.parameters, "frames");
		rows += json_length(stacks);
		for (size_t i = 0; i < json_length(stacks); i++)
			evicted += json_length(json_get(json_at(stacks, i), "frames")) == 1;
		for (size_t i = 0; i < json_length(frames); i++) {
			json_get_string(json_at(frames, i), "name", &name);
			if (script.evicted_below > 0 && streq(name, "[evicted]"))
				number++;
		}
		assert_true(number <= 1);
		script.evicted_below = 15000;
	} while (reply.continues);
	assert_int_equal(rows, 30000);
	/* The largest come first: those below 15,000 after the first page. */
	assert_int_equal(evicted, 15000);
}

static void rows_are_given_back_when_the_client_leaves(void **state)
{
	struct world *w = *state;

	script.stacks = 100000;
	call(w, "GetFlame", NULL, true);
	settle(w);
	assert_true(w->api->rows > 0);
	w->client = wire_client_free(w->client);
	settle(w);
	assert_int_equal(w->api->rows, 0);
	assert_int_equal(w->api->status.connections, 0);
}

/* Control characters take six bytes each: the longest stacks still fit. */
static void the_longest_names_fit(void **state)
{
	static const char *const methods[] = { "GetFlame", "ListStacks", "GetTop", "ListAnomalies" };
	struct world *w = *state;
	struct wire_reply reply;

	script.stacks = 10;
	script.anomalies = 10;
	script.depth = 140;
	script.long_names = true;
	for (size_t i = 0; i < ELEMENTS_OF(methods); i++) {
		call(w, methods[i], streq(methods[i], "GetTop") ? "{\"by\":\"stack\"}" : NULL, true);
		do
			receive(w, &reply);
		while (reply.continues);
		assert_null(reply.error);
		call(w, methods[i], streq(methods[i], "GetTop") ? "{\"by\":\"stack\"}" : NULL, false);
		receive(w, &reply);
		assert_string_equal(reply.error, "org.stackd.TooLarge");
	}
}

static void check_pages_of_points(struct world *w, const char *method)
{
	struct wire_reply reply;
	int64_t next = 1, time;

	script.stacks = 5;
	call(w, method, "{\"stack\":\"0000000000000003\",\"filter\":{\"since_us\":0}}", true);
	do {
		const struct json *points;

		receive(w, &reply);
		assert_null(reply.error);
		points = json_get(reply.parameters, "points");
		for (size_t i = 0; i < json_length(points); i++) {
			assert_int_equal(json_get_int(json_at(points, i), "time_us", &time), 1);
			assert_int_equal(time, next++);
		}
	} while (reply.continues);
	assert_int_equal(next, 20001);
}

static void points_come_in_pages(void **state)
{
	check_pages_of_points(*state, "GetStack");
	check_pages_of_points(*state, "GetSeries");
}

/* Anomalies that the log let go of before they were sent are missed ones. */
static void lost_anomalies_are_counted(void **state)
{
	struct world *w = *state;
	struct wire_reply reply;
	size_t got = 0;
	int64_t missed;

	script.anomalies = 9000;
	script.stacks = 1;
	call(w, "ListAnomalies", "{\"limit\":9000}", true);
	receive(w, &reply);
	got = json_length(json_get(reply.parameters, "anomalies"));
	assert_true(reply.continues);
	script.lost_anomalies = 1000;
	do {
		receive(w, &reply);
		got += json_length(json_get(reply.parameters, "anomalies"));
	} while (reply.continues);
	assert_int_equal(json_get_int(reply.parameters, "missed", &missed), 1);
	assert_int_equal(got, 8000);
	assert_int_equal(missed, 1000);
}

/* What was told while nobody read is sent as far as it is kept: what the log let go of is missed, like what did not fit into
 * the queue. */
static void subscribers_get_what_is_left(void **state)
{
	struct world *w = *state;
	struct wire_reply reply;
	int64_t missed = 0;

	script.stacks = 1;
	call(w, "Subscribe", "{\"limit\":10}", true);
	receive(w, &reply);
	assert_null(reply.error);
	assert_true(reply.continues);
	script.anomalies = 40;
	for (unsigned i = 1; i <= script.anomalies; i++)
		api_publish_anomaly(w->api, &(struct store_anomaly){ .id = i, .time_us = i });
	script.lost_anomalies = 30;
	receive(w, &reply);
	/* Of the last 16 the first six are gone. */
	assert_int_equal(json_length(json_get(reply.parameters, "events")), 10);
	assert_int_equal(json_get_int(reply.parameters, "missed", &missed), 1);
	assert_int_equal(missed, 30);
	assert_int_equal(w->api->status.dropped, 24);
}

/* A page that is full begins another one, in what was kept before and in what comes. */
static void subscriptions_come_in_pages(void **state)
{
	struct world *w = *state;
	struct wire_reply reply;
	unsigned got = 0, pages = 0;

	script.stacks = 10;
	script.anomalies = 10;
	script.depth = 140;
	script.long_names = true;
	call(w, "Subscribe", "{\"limit\":10}", true);
	for (unsigned half = 1; half <= 2; half++) {
		for (; got < half * 10; pages++) {
			receive(w, &reply);
			assert_null(reply.error);
			got += json_length(json_get(reply.parameters, "events"));
		}
		for (unsigned i = 1; i <= script.anomalies; i++)
			api_publish_anomaly(w->api, &(struct store_anomaly){ .id = i, .time_us = i });
	}
	assert_int_equal(got, 20);
	assert_true(pages > 4);
}

static void failures_are_told(void **state)
{
	static const char *const methods[] = { "GetFlame", "GetTop", "ListStacks", "ListProcesses",
	                                       "GetGate",  "GetSeries" };
	struct world *w = *state;
	struct wire_reply reply;
	const char *reason;

	script.error = -EIO;
	for (size_t i = 0; i < ELEMENTS_OF(methods); i++) {
		call(w, methods[i], NULL, true);
		receive(w, &reply);
		assert_string_equal(reply.error, "org.stackd.Failed");
		assert_int_equal(json_get_string(reply.parameters, "reason", &reason), 1);
		assert_string_equal(reason, strerror(EIO));
	}
	call(w, "SetGate", "{\"mode\":\"open\"}", false);
	receive(w, &reply);
	if (getuid() == 0)
		assert_string_equal(reply.error, "org.stackd.Failed");
	/* Not a number anywhere is no reason not to answer. */
	call(w, "GetStatus", NULL, false);
	receive(w, &reply);
	assert_null(reply.error);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_are_bounded),
		cmocka_unit_test(signed_rows_go_by_size),
		cmocka_unit_test(numbers_are_bounded),
		cmocka_unit_test_setup_teardown(flame_says_what_it_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_evicted_meanwhile_is_said, setup, teardown),
		cmocka_unit_test_setup_teardown(rows_are_given_back_when_the_client_leaves, setup, teardown),
		cmocka_unit_test_setup_teardown(the_longest_names_fit, setup, teardown),
		cmocka_unit_test_setup_teardown(points_come_in_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(lost_anomalies_are_counted, setup, teardown),
		cmocka_unit_test_setup_teardown(subscribers_get_what_is_left, setup, teardown),
		cmocka_unit_test_setup_teardown(subscriptions_come_in_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(failures_are_told, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
