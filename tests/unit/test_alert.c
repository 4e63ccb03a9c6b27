/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The records are read from a journal socket of our own, in a mount namespace, as journald would read them. */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "alert.h"

#define T0 1700000000000000ULL

static int journal_fd = -1;

static void write_file(const char *path, const char *format, unsigned id)
{
	char text[64];
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	snprintf(text, sizeof(text), format, id);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* /run becomes our own, as root or, where user namespaces are allowed, as anyone. */
static int own_run(void **state)
{
	uid_t uid = getuid();
	gid_t gid = getgid();

	(void)state;
	if (unshare(uid == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return -1;
	if (uid != 0) {
		write_file("/proc/self/setgroups", "deny%.0u", 0);
		write_file("/proc/self/uid_map", "0 %u 1", uid);
		write_file("/proc/self/gid_map", "0 %u 1", gid);
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0)
		return -1;
	mkdir("/run/systemd", 0755);
	mkdir("/run/systemd/journal", 0755);
	return 0;
}

static int start_journal(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket" };

	(void)state;
	unlink(address.sun_path);
	journal_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return bind(journal_fd, (struct sockaddr *)&address, sizeof(address));
}

static int stop_journal(void **state)
{
	(void)state;
	journal_fd = close_fd(journal_fd);
	unlink("/run/systemd/journal/socket");
	return 0;
}

struct received {
	char *data;
	size_t size;
	bool by_memfd;
};

static void received_free(struct received *r)
{
	free(r->data);
}

/* One record, as a datagram or as a file; false when there is none. */
static bool receive(struct received *ret)
{
	size_t size = 1 << 24;
	char *data = malloc(size), control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = data, .iov_len = size };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	ssize_t n = recvmsg(journal_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c;

	*ret = (struct received){ .data = data };
	if (n < 0) {
		free(data);
		ret->data = NULL;
		return false;
	}
	c = CMSG_FIRSTHDR(&message);
	if (n == 0 && c) {
		int fd;

		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
		n = pread(fd, data, size, 0);
		close(fd);
		ret->by_memfd = true;
	}
	ret->size = (size_t)n;
	return true;
}

/* The value of a field of the native protocol, which the caller frees; NULL when it isn't there. */
static char *field(const struct received *r, const char *name)
{
	const char *s = r->data, *end = r->data + r->size;
	size_t name_size = strlen(name);

	while (s < end) {
		const char *newline = memchr(s, '\n', (size_t)(end - s)),
			   *equals = memchr(s, '=', (size_t)(newline - s));
		const char *value;
		size_t size, this_name;

		assert_non_null(newline);
		if (equals) {
			this_name = (size_t)(equals - s);
			value = equals + 1;
			size = (size_t)(newline - value);
		} else {
			uint64_t size_le;

			this_name = (size_t)(newline - s);
			memcpy(&size_le, newline + 1, sizeof(size_le));
			size = le64toh(size_le);
			value = newline + 1 + sizeof(size_le);
		}
		assert_true(value + size < end && value[size] == '\n');
		if (this_name == name_size && memcmp(s, name, name_size) == 0)
			return strndup(value, size);
		s = value + size + 1;
	}
	return NULL;
}

#define assert_field(r, name, expected)                                                                      \
	do {                                                                                                 \
		_cleanup_free_ char *_v = field(r, name);                                                    \
		assert_non_null(_v);                                                                         \
		assert_string_equal(_v, expected);                                                           \
	} while (0)

#define assert_no_field(r, name) assert_null(field(r, name))

static struct alert_anomaly anomaly(void)
{
	return (struct alert_anomaly){
		.id = 7,
		.since_us = T0 - 5 * USEC_PER_SEC,
		.type = "spike",
		.metric = METRIC_ON_CPU,
		.score = 9.5,
		.p_value = 3.2e-10,
		.observed = 980e6,
		.expected = 12e6,
		.pid = 1234,
		.comm = "victim",
		.exe = "/usr/bin/victim",
		.unit = "victim.service",
		.cgroup = "/system.slice/victim.service",
		.stack_id = 0xabc,
		.folded = "_start;main;spin_hot",
	};
}

static struct alert_incident incident(enum alert_event event, const struct alert_anomaly *an)
{
	return (struct alert_incident){
		.event = event,
		.id = 12,
		.cluster = 0xdef,
		.name = "CPU spin in spin_hot",
		.kind = "cpu-spin",
		.severity = "warning",
		.opened_us = T0,
		.closed_us = event == ALERT_CLOSED ? T0 + 90 * USEC_PER_SEC : 0,
		.size = 0.97,
		.n_anomalies = 3,
		.n_workloads = 1,
		.times_before = 4,
		.load = 1.25,
		.gate_open = true,
		.remedy = "CPU time in spin_hot.\n- look",
		.anomaly = *an,
	};
}

static int tell(struct alert *a, uint64_t now_us, const struct alert_anomaly *an)
{
	struct alert_incident i = incident(ALERT_OPENED, an);

	return alert_incident(a, now_us, &i);
}

static struct alert *new_alert(uint32_t burst)
{
	struct alert_config config = { .burst = burst, .interval_us = 60 * USEC_PER_SEC };
	struct alert *a;

	assert_int_equal(alert_new(&a, &config), 0);
	return a;
}

static void test_incident_record(void **state)
{
	_cleanup_(alert_freep) struct alert *a = new_alert(20);
	_cleanup_(received_free) struct received r = { 0 };
	struct alert_anomaly an = anomaly();
	struct alert_status status;

	(void)state;
	assert_int_equal(tell(a, T0, &an), 0);
	assert_true(receive(&r));
	assert_field(&r, "MESSAGE",
		     "incident 12, CPU spin in spin_hot: on-cpu of spin_hot in victim.service (victim, pid 1234) rose from 12.0ms/s to 980ms/s, "
		     "one in 3e9");
	assert_field(&r, "MESSAGE_ID", STACKD_MESSAGE_OPENED);
	assert_field(&r, "PRIORITY", "4");
	assert_field(&r, "SYSLOG_IDENTIFIER", "stackd");
	assert_field(&r, "STACKD_INCIDENT", "12");
	assert_field(&r, "STACKD_CLUSTER", "0000000000000def");
	assert_field(&r, "STACKD_NAME", "CPU spin in spin_hot");
	assert_field(&r, "STACKD_KIND", "cpu-spin");
	assert_field(&r, "STACKD_SEVERITY", "warning");
	assert_field(&r, "STACKD_SIZE", "0.970");
	assert_field(&r, "STACKD_ANOMALIES", "3");
	assert_field(&r, "STACKD_WORKLOADS", "1");
	assert_field(&r, "STACKD_TIMES_BEFORE", "4");
	assert_field(&r, "STACKD_REMEDY", "CPU time in spin_hot.\n- look");
	assert_field(&r, "STACKD_ANOMALY", "7");
	assert_field(&r, "STACKD_TYPE", "spike");
	assert_field(&r, "STACKD_METRIC", "on-cpu");
	assert_field(&r, "STACKD_SCORE", "9.500");
	assert_field(&r, "STACKD_P_VALUE", "3.2e-10");
	assert_field(&r, "STACKD_OBSERVED", "9.8e+08");
	assert_field(&r, "STACKD_EXPECTED", "1.2e+07");
	assert_field(&r, "STACKD_LOAD", "1.250");
	assert_field(&r, "STACKD_GATE", "open");
	assert_field(&r, "STACKD_STACK", "0000000000000abc");
	assert_field(&r, "STACKD_FOLDED", "_start;main;spin_hot");
	assert_field(&r, "STACKD_EXE", "/usr/bin/victim");
	assert_field(&r, "STACKD_CGROUP", "/system.slice/victim.service");
	assert_field(&r, "STACKD_UNIT", "victim.service");
	assert_field(&r, "STACKD_SINCE_USEC", "1699999995000000");
	assert_field(&r, "OBJECT_PID", "1234");
	assert_field(&r, "OBJECT_SYSTEMD_UNIT", "victim.service");
	assert_no_field(&r, "OBJECT_SYSTEMD_USER_UNIT");
	assert_no_field(&r, "CODE_FILE");
	alert_get_status(a, &status);
	assert_int_equal(status.sent, 1);
	assert_int_equal(status.failed + status.suppressed, 0);
}

static void test_messages(void **state)
{
	static const struct {
		const char *type, *folded, *message;
		enum metric metric;
		double observed, expected, p;
	} cases[] = {
		{ "drop", "main;work",
		  "on-cpu of work in victim.service (victim, pid 1234) fell from 980ms/s to 12.0ms/s, one in "
		  "2000",
		  METRIC_ON_CPU, 12e6, 980e6, 0.0005 },
		{ "new-stack", "main;work",
		  "new stack: faults-minor of work in victim.service (victim, pid 1234) is 3.10k faults/s, "
		  "one in 1e5",
		  METRIC_FAULTS_MINOR, 3100, 0, 1e-5 },
		{ "cost-shift", "main;work",
		  "more of what victim.service (victim, pid 1234) does is work: on-cpu rose from 12.0ms/s to 980ms/s, one in 1e5",
		  METRIC_ON_CPU, 980e6, 12e6, 1e-5 },
		{ "new-code", "main;work",
		  "new code in victim.service (victim, pid 1234): functions that were not there have 980ms/s of its on-cpu, one is work, one in 1e5",
		  METRIC_ON_CPU, 980e6, 0, 1e-5 },
		{ "vanished-stack", "main;work",
		  "work in victim.service (victim, pid 1234) fell silent, its usual on-cpu was 980ms/s, one "
		  "in 1e5",
		  METRIC_ON_CPU, 0, 980e6, 1e-5 },
		{ "spike", "main;futex_wait;schedule;__schedule",
		  "blocked of futex_wait in victim.service (victim, pid 1234) rose from 1ns/s to 1.00s/s, "
		  "one in 1e5",
		  METRIC_BLOCKED, 1e9, 1, 1e-5 },
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		_cleanup_(alert_freep) struct alert *a = new_alert(20);
		_cleanup_(received_free) struct received r = { 0 };
		struct alert_anomaly an = anomaly();
		char message[512];

		an.type = cases[i].type;
		an.folded = cases[i].folded;
		an.metric = cases[i].metric;
		an.observed = cases[i].observed;
		an.expected = cases[i].expected;
		an.p_value = cases[i].p;
		assert_int_equal(tell(a, T0, &an), 0);
		assert_true(receive(&r));
		snprintf(message, sizeof(message), "incident 12, CPU spin in spin_hot: %s", cases[i].message);
		assert_field(&r, "MESSAGE", message);
	}
}

static void test_what_becomes_of_an_incident(void **state)
{
	static const struct {
		enum alert_event event;
		const char *severity, *id, *priority, *message, *end;
	} cases[] = {
		{ ALERT_OPENED, "notice", STACKD_MESSAGE_OPENED, "5", NULL },
		{ ALERT_ESCALATED, "critical", STACKD_MESSAGE_ESCALATED, "2",
		  "incident 12, CPU spin in spin_hot, has grown tenfold: on-cpu of spin_hot in victim.service (victim, pid 1234) rose "
		  "from 12.0ms/s to 980ms/s, one in 3e9" },
		{ ALERT_CLOSED, "critical", STACKD_MESSAGE_CLOSED, "6", "incident 12, CPU spin in spin_hot, is over after 1min 30s", "back" },
		{ ALERT_CLOSED, "critical", STACKD_MESSAGE_CLOSED, "6",
		  "incident 12, CPU spin in spin_hot, is over after 1min 30s: it has become usual", "usual" },
		{ ALERT_CLOSED, "critical", STACKD_MESSAGE_CLOSED, "6",
		  "incident 12, CPU spin in spin_hot, is over after 1min 30s: it gave way to newer ones, as too many went on", "gave-way" },
		{ ALERT_CLOSED, "critical", STACKD_MESSAGE_CLOSED, "6",
		  "incident 12, CPU spin in spin_hot, is over after 1min 30s: the program has ended", "ended" },
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		_cleanup_(alert_freep) struct alert *a = new_alert(20);
		_cleanup_(received_free) struct received r = { 0 };
		struct alert_anomaly an = anomaly();
		struct alert_incident in = incident(cases[i].event, &an);

		in.severity = cases[i].severity;
		in.end = cases[i].end;
		assert_int_equal(alert_incident(a, T0, &in), 0);
		assert_true(receive(&r));
		assert_field(&r, "MESSAGE_ID", cases[i].id);
		assert_field(&r, "PRIORITY", cases[i].priority);
		if (cases[i].message)
			assert_field(&r, "MESSAGE", cases[i].message);
		if (cases[i].end)
			assert_field(&r, "STACKD_END", cases[i].end);
		else
			assert_no_field(&r, "STACKD_END");
	}
}

static void test_user_unit(void **state)
{
	_cleanup_(alert_freep) struct alert *a = new_alert(20);
	_cleanup_(received_free) struct received r = { 0 };
	struct alert_anomaly an = anomaly();

	(void)state;
	an.cgroup = "/user.slice/user-1000.slice/user@1000.service/app.slice/victim.service";
	assert_int_equal(tell(a, T0, &an), 0);
	assert_true(receive(&r));
	assert_field(&r, "OBJECT_SYSTEMD_UNIT", "user@1000.service");
	assert_field(&r, "OBJECT_SYSTEMD_USER_UNIT", "victim.service");
}

static void test_missing_and_hostile_values(void **state)
{
	_cleanup_(alert_freep) struct alert *a = new_alert(20);
	_cleanup_(received_free) struct received r = { 0 }, bare = { 0 };
	struct alert_anomaly an = anomaly();

	(void)state;
	an.comm = "a\nPRIORITY=0\xff";
	an.folded = "main\nMESSAGE_ID=0;b\xff\xfe";
	assert_int_equal(tell(a, T0, &an), 0);
	assert_true(receive(&r));
	assert_field(&r, "PRIORITY", "4");
	assert_field(&r, "MESSAGE_ID", STACKD_MESSAGE_OPENED);
	assert_field(&r, "STACKD_COMM", an.comm);
	assert_field(&r, "STACKD_FOLDED", an.folded);
	assert_field(&r, "MESSAGE",
		     "incident 12, CPU spin in spin_hot: on-cpu of b?? in victim.service (a?PRIORITY=0?, pid 1234) rose from 12.0ms/s to "
		     "980ms/s, one in 3e9");

	an = (struct alert_anomaly){
		.type = "spike", .metric = METRIC_RUNNABLE, .observed = 0.0 / 0.0, .expected = 1e300
	};
	assert_int_equal(tell(a, T0, &an), 0);
	assert_true(receive(&bare));
	assert_no_field(&bare, "OBJECT_PID");
	assert_no_field(&bare, "STACKD_EXE");
	assert_no_field(&bare, "OBJECT_SYSTEMD_UNIT");
}

static void test_a_record_beyond_a_datagram(void **state)
{
	_cleanup_(alert_freep) struct alert *a = new_alert(20);
	_cleanup_(received_free) struct received r = { 0 };
	_cleanup_free_ char *folded = malloc(10000001), *back = NULL;
	struct alert_anomaly an = anomaly();

	(void)state;
	memset(folded, 'x', 10000000);
	folded[10000000] = 0;
	an.folded = folded;
	assert_int_equal(tell(a, T0, &an), 0);
	assert_true(receive(&r));
	assert_true(r.by_memfd);
	back = field(&r, "STACKD_FOLDED");
	assert_int_equal(strlen(back), 10000000);
}

static void test_rate_limit_ends_in_one_summary(void **state)
{
	_cleanup_(alert_freep) struct alert *a = new_alert(3);
	struct alert_anomaly an = anomaly();
	struct alert_status status;
	struct received r;

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(tell(a, T0 + (uint64_t)i, &an), 0);
	for (int i = 0; i < 3; i++) {
		assert_true(receive(&r));
		received_free(&r);
	}
	assert_false(receive(&r));
	/* gate changes have an allowance of their own */
	assert_int_equal(alert_gate(a, T0 + 11, true, 7.25, "load"), 0);
	assert_true(receive(&r));
	assert_field(&r, "MESSAGE", "gate opened (load), 7.25 runnable tasks per CPU");
	assert_field(&r, "MESSAGE_ID", STACKD_MESSAGE_GATE);
	assert_field(&r, "STACKD_CAUSE", "load");
	received_free(&r);

	alert_tick(a, T0 + 59 * USEC_PER_SEC);
	assert_false(receive(&r));
	alert_tick(a, T0 + 60 * USEC_PER_SEC);
	assert_true(receive(&r));
	assert_field(&r, "MESSAGE_ID", STACKD_MESSAGE_SUPPRESSED);
	assert_field(&r, "STACKD_SUPPRESSED", "7");
	assert_field(&r, "MESSAGE", "7 more incidents within 1min, see \"stackctl incidents\"");
	received_free(&r);
	alert_tick(a, T0 + 130 * USEC_PER_SEC);
	assert_false(receive(&r));
	alert_get_status(a, &status);
	assert_int_equal(status.suppressed, 7);
	/* and the next interval has its allowance again; a clock that jumps back ends it */
	for (int i = 0; i < 4; i++)
		tell(a, T0 + 200 * USEC_PER_SEC, &an);
	alert_tick(a, T0);
	for (int i = 0; i < 4; i++) {
		assert_true(receive(&r));
		received_free(&r);
	}
	assert_false(receive(&r));
}

static void test_a_full_journal_never_blocks(void **state)
{
	_cleanup_(alert_freep) struct alert *a = new_alert(100000);
	struct alert_anomaly an = anomaly();
	struct alert_status status;
	struct received r;
	int e = 0;

	(void)state;
	for (int i = 0; i < 100000 && e == 0; i++)
		e = tell(a, T0, &an);
	assert_int_equal(e, -EAGAIN);
	alert_get_status(a, &status);
	assert_int_equal(status.failed, 1);
	assert_true(receive(&r));
	received_free(&r);
	assert_int_equal(tell(a, T0, &an), 0);
}

static void test_without_a_journal_the_log_has_it(void **state)
{
	_cleanup_(alert_freep) struct alert *a = new_alert(20);
	_cleanup_close_ int saved = dup(STDERR_FILENO);
	struct alert_anomaly an = anomaly();
	struct alert_status status;
	char text[1024] = "";
	int pipe_fds[2];
	ssize_t n;

	(void)state;
	assert_int_equal(pipe(pipe_fds), 0);
	log_setup("test", LOG_LEVEL_INFO);
	dup2(pipe_fds[1], STDERR_FILENO);
	assert_int_equal(tell(a, T0, &an), 0);
	dup2(saved, STDERR_FILENO);
	close(pipe_fds[1]);
	n = read(pipe_fds[0], text, sizeof(text) - 1);
	close(pipe_fds[0]);
	assert_true(n > 0);
	assert_non_null(strstr(text, "on-cpu of spin_hot in victim.service"));
	alert_get_status(a, &status);
	assert_int_equal(status.sent, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_incident_record, start_journal, stop_journal),
		cmocka_unit_test_setup_teardown(test_messages, start_journal, stop_journal),
		cmocka_unit_test_setup_teardown(test_what_becomes_of_an_incident, start_journal, stop_journal),
		cmocka_unit_test_setup_teardown(test_user_unit, start_journal, stop_journal),
		cmocka_unit_test_setup_teardown(test_missing_and_hostile_values, start_journal, stop_journal),
		cmocka_unit_test_setup_teardown(test_a_record_beyond_a_datagram, start_journal, stop_journal),
		cmocka_unit_test_setup_teardown(test_rate_limit_ends_in_one_summary, start_journal,
						stop_journal),
		cmocka_unit_test_setup_teardown(test_a_full_journal_never_blocks, start_journal,
						stop_journal),
		cmocka_unit_test(test_without_a_journal_the_log_has_it),
	};

	return cmocka_run_group_tests(tests, own_run, NULL);
}
