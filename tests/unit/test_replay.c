/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Waits from switches, the scheduler's tracepoints, and names of code put into the kernel while it ran. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bpf_names.h"
#include "../../daemon/perfdata/scheduler.h"
#include "switches.h"

struct told {
	char text[2048];
	int result;
};

static int note(void *userdata, const struct stack *stack)
{
	struct told *t = userdata;
	size_t n = strlen(t->text);

	snprintf(t->text + n, sizeof(t->text) - n, "%llu %s %s %llu %s/%s\n", (unsigned long long)stack->time_ns, stack->comm,
		 metric_to_string(stack->metric), (unsigned long long)stack->amount, stack->frames[0].name, stack->frames[0].object);
	return t->result;
}

/* The caller's strings are gone after the call, as those of a recording are. */
static int out(struct switches *s, uint32_t tid, bool runnable, uint64_t time_ns)
{
	char comm[16], name[32];
	struct names_frame frame = { .is_named = true, .name = name, .object = "prog" };
	struct stack stack = { .comm = comm, .frames = &frame, .n = 1, .time_ns = time_ns };
	int r;

	snprintf(comm, sizeof(comm), "t%u", tid);
	snprintf(name, sizeof(name), "wait_%u", tid);
	r = switches_out(s, tid, runnable, &stack);
	memset(comm, 'x', sizeof(comm) - 1);
	memset(name, 'x', sizeof(name) - 1);
	return r;
}

static void test_waits(void **state _unused_)
{
	_cleanup_(switches_freep) struct switches *s = NULL;
	struct switches_status status;
	struct told t = {};

	assert_int_equal(switches_new(&s, false, note, &t), 0);
	assert_int_equal(out(s, 1, false, 1000), 0);
	assert_int_equal(out(s, 2, true, 1100), 0); /* preempted */
	switches_woken(s, 1, 1300);
	switches_woken(s, 1, 1350); /* the first counts */
	switches_woken(s, 9, 1350); /* runs */
	assert_int_equal(switches_in(s, 1, 1400), 0);
	assert_int_equal(switches_in(s, 2, 1500), 0);
	assert_int_equal(switches_in(s, 2, 1600), 0);
	assert_int_equal(out(s, 3, false, 2000), 0);
	assert_int_equal(out(s, 3, false, 2500), 0); /* it ran in between, nobody knows when */
	assert_int_equal(out(s, 0, true, 2600), 0);  /* idle */
	assert_int_equal(switches_in(s, 0, 2700), 0);
	assert_int_equal(switches_end(s), 0);
	assert_string_equal(t.text, "1399 t1 blocked 300 wait_1/prog\n"
				    "1399 t1 runnable 100 wait_1/prog\n"
				    "1499 t2 runnable 400 wait_2/prog\n"
				    "2699 t3 blocked 200 wait_3/prog\n");
	switches_get_status(s, &status);
	assert_int_equal(status.open, 1);
	assert_int_equal(status.dropped, 0);
}

static void test_by_the_second(void **state _unused_)
{
	_cleanup_(switches_freep) struct switches *s = NULL;
	struct told t = {};

	assert_int_equal(switches_new(&s, true, note, &t), 0);
	assert_int_equal(out(s, 1, false, 1700000000), 0);
	assert_int_equal(switches_advance(s, 2100000000), 0);
	switches_woken(s, 1, 3200000000);
	assert_int_equal(switches_in(s, 1, 3500000000), 0);
	assert_string_equal(t.text, "1999999999 t1 blocked 300000000 wait_1/prog\n"
				    "2999999999 t1 blocked 1000000000 wait_1/prog\n"
				    "3499999999 t1 blocked 200000000 wait_1/prog\n"
				    "3499999999 t1 runnable 300000000 wait_1/prog\n");
	t = (struct told){ .result = -EIO };
	assert_int_equal(out(s, 1, false, 3600000000), 0);
	assert_int_equal(switches_in(s, 1, 3700000000), -EIO);
}

static void test_many_threads(void **state _unused_)
{
	_cleanup_(switches_freep) struct switches *s = NULL;
	struct switches_status status;
	struct told t = {};

	assert_int_equal(switches_new(&s, false, note, &t), 0);
	for (uint32_t tid = 1; tid <= SWITCHES_THREADS_MAX + 3; tid++)
		assert_int_equal(out(s, tid, false, tid), 0);
	switches_get_status(s, &status);
	assert_int_equal(status.dropped, 3);
	/* Whoever takes a place that another one leaves is found there. */
	for (uint32_t tid = 1; tid <= SWITCHES_THREADS_MAX - 2; tid++) {
		t.text[0] = '\0';
		assert_int_equal(switches_in(s, tid, 100000), 0);
	}
	t.text[0] = '\0';
	assert_int_equal(switches_end(s), 0);
	assert_string_equal(t.text, "99999 t65536 blocked 34464 wait_65536/prog\n"
				    "99999 t65535 blocked 34465 wait_65535/prog\n");
}

static void put(uint8_t *raw, size_t offset, uint32_t value)
{
	memcpy(raw + offset, &value, sizeof(value));
}

static struct cursor of(const uint8_t *raw, size_t size)
{
	return (struct cursor){ raw, raw + size, false };
}

static void test_tracepoints(void **state _unused_)
{
	static const char formats[] = "name: sched_waking\nformat:\n\tfield:int common_pid;\toffset:4;\tsize:4;\n\tfield:pid_t pid;\toffset:28;\tsize:4;\n"
				      "print fmt: \"pid=%d\"\nname: sched_switch\n\tfield:long prev_state;\toffset:36;\tsize:8;\nprint fmt:";
	struct sched_formats f = sched_default_formats;
	struct perfdata_sched sched;
	uint8_t raw[64] = {};

	put(raw, 24, 11);
	put(raw, 32, 1);
	put(raw, 56, 22);
	assert_true(sched_parse(&f, "sched:sched_switch", of(raw, sizeof(raw)), &sched));
	assert_true(sched.kind == PERFDATA_SWITCH && sched.from == 11 && sched.to == 22 && !sched.runnable && !sched.dead);
	put(raw, 32, 0x100); /* R+ */
	assert_true(sched_parse(&f, "sched:sched_switch:u", of(raw, sizeof(raw)), &sched) && sched.runnable);
	put(raw, 32, 0x20); /* Z */
	assert_true(sched_parse(&f, "sched:sched_switch", of(raw, sizeof(raw)), &sched) && sched.dead && !sched.runnable);
	assert_false(sched_parse(&f, "sched:sched_switch", of(raw, 59), &sched));
	assert_false(sched_parse(&f, "sched:sched_switcher", of(raw, sizeof(raw)), &sched));
	assert_false(sched_parse(&f, "cpu-clock", of(raw, sizeof(raw)), &sched));
	assert_true(sched_parse(&f, "sched:sched_wakeup", of(raw, 28), &sched) && sched.kind == PERFDATA_WAKEUP && sched.to == 11);
	assert_false(sched_parse(&f, "sched:sched_wakeup", of(raw, 0), &sched));

	sched_read_formats(&f, formats, sizeof(formats) - 1);
	assert_int_equal(f.waking.offset, 28);
	assert_int_equal(f.woken.offset, 24);
	assert_true(f.prev_state.offset == 36 && f.prev_state.is_long);
	assert_true(f.prev_pid.offset == 24 && !f.prev_pid.is_long);
	for (size_t n = 0; n < sizeof(formats); n++) {
		_cleanup_free_ char *part = memcpy(malloc(MAX(n, (size_t)1)), formats, n);

		sched_read_formats(&f, part, n);
	}
	f = sched_default_formats;
	sched_read_formats(&f, "name: sched_waking\n pid;\toffset:9999;\tsize:4;", 45);
	assert_int_equal(f.waking.offset, 24);
}

/* A field is as long as its format says, and of eight bytes the low half counts, which lies behind the other one there. */
static void test_tracepoints_of_the_other_byte_order(void **state _unused_)
{
	static const char of_32_bits[] = "name: sched_switch\n\tfield:long prev_state;\toffset:32;\tsize:4;\n"
					 "\tfield:pid_t next_pid;\toffset:52;\tsize:4;\nprint fmt:";
	struct sched_formats f = sched_default_formats;
	struct perfdata_sched sched;
	uint8_t raw[64] = {};
	struct cursor c = { raw, raw + sizeof(raw), true };

	put(raw, 24, __builtin_bswap32(11));
	put(raw, 36, __builtin_bswap32(1));
	put(raw, 56, __builtin_bswap32(22));
	assert_true(sched_parse(&f, "sched:sched_switch", c, &sched));
	assert_true(sched.from == 11 && sched.to == 22 && !sched.runnable && !sched.dead);
	sched_read_formats(&f, of_32_bits, sizeof(of_32_bits) - 1);
	put(raw, 32, __builtin_bswap32(0x20)); /* Z */
	put(raw, 52, __builtin_bswap32(33));
	assert_true(sched_parse(&f, "sched:sched_switch", c, &sched));
	assert_true(sched.from == 11 && sched.to == 33 && sched.dead);
}

static void test_bpf_names(void **state _unused_)
{
	_cleanup_(bpf_names_freep) struct bpf_names *b = NULL;

	assert_int_equal(bpf_names_new(&b), 0);
	assert_null(bpf_names_find(b, 100));
	assert_int_equal(bpf_names_add(b, 1000, 100, "bpf_prog_b"), 0);
	assert_int_equal(bpf_names_add(b, 100, 50, "bpf_prog_a"), 0);
	assert_string_equal(bpf_names_find(b, 149), "bpf_prog_a");
	assert_null(bpf_names_find(b, 150));
	assert_string_equal(bpf_names_find(b, 1000), "bpf_prog_b");
	assert_int_equal(bpf_names_add(b, 1000, 200, "bpf_prog_c"), 0);
	assert_string_equal(bpf_names_find(b, 1150), "bpf_prog_c");
	bpf_names_remove(b, 1000);
	bpf_names_remove(b, 101);
	assert_null(bpf_names_find(b, 1000));
	for (uint64_t i = 0; i < BPF_NAMES_MAX; i++)
		assert_int_equal(bpf_names_add(b, 100000 - 2 * i, 1, "x"), 0);
	assert_int_equal(bpf_names_dropped(b), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waits),	    cmocka_unit_test(test_by_the_second), cmocka_unit_test(test_many_threads),
		cmocka_unit_test(test_tracepoints), cmocka_unit_test(test_tracepoints_of_the_other_byte_order), cmocka_unit_test(test_bpf_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
