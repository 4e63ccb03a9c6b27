/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Identity: units, mappings, kernel names, and real processes, of which this program starts copies of itself.
 */
#include <fcntl.h>
#include <gelf.h>
#include <linux/magic.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/auxv.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "jit.h"
#include "symbols.c"
#include "unit.h"

static char self[4096]; /* path of this program */

/* ---- pure parts ---- */

static void test_unit_from_cgroup(void **state _unused_)
{
	static const struct {
		const char *path, *unit;
	} cases[] = {
		{ "/", "" },
		{ "", "" },
		{ "/init.scope", "init.scope" },
		{ "/system.slice", "" },
		{ "/system.slice/cron.service", "cron.service" },
		{ "/system.slice/cron.service/", "cron.service" },
		{ "/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service" },
		{ "/system.slice/system-getty.slice", "" },
		{ "/system.slice/dev-hugepages.mount", "dev-hugepages.mount" },
		{ "/system.slice/system-systemd\\x2dfsck.slice/systemd-fsck@dev-sda1.service",
		  "systemd-fsck@dev-sda1.service" },
		{ "/system.slice/ssh.socket", "ssh.socket" },
		{ "/system.slice/docker.service/inner/deep", "docker.service" },
		{ "/system.slice/docker-0123abcd.scope", "docker-0123abcd.scope" },
		{ "/docker/0123abcd", "" },
		{ "/docker/0123abcd/system.slice/cron.service", "" },
		{ "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/"
		  "cri-containerd-ab.scope",
		  "cri-containerd-ab.scope" },
		{ "/machine.slice/machine-debian.scope/payload/system.slice/cron.service",
		  "machine-debian.scope" },
		{ "/user.slice/user-1000.slice/session-2.scope", "session-2.scope" },
		{ "/user.slice/user-1000.slice/user@1000.service", "user@1000.service" },
		{ "/user.slice/user-1000.slice/user@1000.service/init.scope", "user@1000.service" },
		{ "/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service", "dbus.service" },
		{ "/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/"
		  "vte-spawn-1.scope",
		  "vte-spawn-1.scope" },
		{ "/user.slice/user-1000.slice/user@1000.service/session.slice", "user@1000.service" },
		{ "/user.slice/user-1000.slice/user@1000.service/not a unit", "user@1000.service" },
		{ "/user.slice/user-1000.slice/user@joe.service/app.slice/dbus.service", "user@joe.service" },
		/* names that look like attributes of a cgroup are escaped */
		{ "/system.slice/_cpu.service", "cpu.service" },
		{ "/_cpu.slice/_cgroup.service", "cgroup.service" },
		{ "/system.slice/__odd.service", "_odd.service" },
		/* no units */
		{ "/system.slice/.service", "" },
		{ "/system.slice/getty@.service", "" },
		{ "/system.slice/@tty1.service", "" },
		{ "/system.slice/with space.service", "" },
		{ "/system.slice/plain", "" },
		{ "//system.slice//cron.service", "cron.service" },
		{ "/../other.slice/x.service", "" },
	};

	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		char unit[UNIT_NAME_SIZE];

		unit_from_cgroup(cases[i].path, unit);
		assert_string_equal(unit, cases[i].unit);
	}
}

static void test_overlong_unit(void **state _unused_)
{
	char path[600], unit[UNIT_NAME_SIZE];

	memset(path, 'a', sizeof(path));
	path[0] = '/';
	strcpy(path + sizeof(path) - sizeof(".service"), ".service");
	unit_from_cgroup(path, unit);
	assert_string_equal(unit, "");
}

static void test_cgroup_from_proc(void **state _unused_)
{
	static const struct {
		const char *text, *path;
	} cases[] = {
		{ "0::/system.slice/cron.service\n", "/system.slice/cron.service" },
		{ "12:cpu:/x\n1:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n",
		  "/system.slice/b.service" },
		{ "12:cpu:/x\n1:name=systemd:/system.slice/a.service\n0::/\n", "/system.slice/a.service" },
		{ "12:cpu:/x\n1:name=systemd:/a:b\n", "/a:b" },
		{ "12:cpu:/x\n", "/" },
		{ "0::/", "/" },
		{ "", "/" },
		{ "\n\n", "/" },
		{ "garbage", "/" },
	};

	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		char path[64];

		cgroup_from_proc(cases[i].text, path, sizeof(path));
		assert_string_equal(path, cases[i].path);
	}
}

static void test_mapping_parse(void **state _unused_)
{
	static const struct {
		const char *line;
		int result;
		enum mapping_kind kind;
		const char *path;
		uint64_t offset, inode;
	} cases[] = {
		{ "7f00-8f00 r-xp 00028000 fe:01 1234                       /usr/lib/libc.so.6\n", 0,
		  MAPPING_FILE, "/usr/lib/libc.so.6", 0x28000, 1234 },
		{ "7f00-8f00 r-xp 00028000 fe:01 1234   /tmp/a b (deleted)\n", 0, MAPPING_FILE, "/tmp/a b",
		  0x28000, 1234 },
		{ "7f00-8f00 r-xp 0 fe:01 1234 /tmp/new\\012line\n", 0, MAPPING_FILE, "/tmp/new\nline", 0,
		  1234 },
		{ "7f00-8f00 rw-p 0 fe:01 1234 /usr/lib/libc.so.6\n", 1, 0, NULL, 0, 0 },
		{ "7f00-8f00 r-xp 0 00:00 0 [vdso]\n", 0, MAPPING_SPECIAL, "[vdso]", 0, 0 },
		{ "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n", 0, MAPPING_SPECIAL,
		  "[vsyscall]", 0, 0 },
		{ "7f00-8f00 rwxp 0 00:00 0 \n", 0, MAPPING_ANONYMOUS, "", 0, 0 },
		{ "7f00-8f00 rwxp 0 00:00 0 [anon:v8]\n", 0, MAPPING_ANONYMOUS, "[anon:v8]", 0, 0 },
		{ "7f00-8f00 rwxp 0 00:00 0 [heap]\n", 0, MAPPING_ANONYMOUS, "[heap]", 0, 0 },
		{ "7f00-8f00 rwxs 0 00:01 99 /dev/zero (deleted)\n", 0, MAPPING_ANONYMOUS, "/dev/zero", 0,
		  99 },
		{ "7f00-8f00 r-xs 0 00:01 99 /memfd:doublemapper (deleted)\n", 0, MAPPING_FILE,
		  "/memfd:doublemapper", 0, 99 },
		{ "7f00-7f00 r-xp 0 00:00 0 \n", -EBADMSG, 0, NULL, 0, 0 },
		{ "8f00-7f00 r-xp 0 00:00 0 \n", -EBADMSG, 0, NULL, 0, 0 },
		{ "7f00-8f00 r-x 0 00:00 0 \n", -EBADMSG, 0, NULL, 0, 0 },
		{ "7f00-8f00\n", -EBADMSG, 0, NULL, 0, 0 },
		{ "zz\n", -EBADMSG, 0, NULL, 0, 0 },
		{ "", -EBADMSG, 0, NULL, 0, 0 },
	};

	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		struct mapping m = {};

		assert_int_equal(mapping_parse(cases[i].line, &m), cases[i].result);
		if (cases[i].result != 0)
			continue;
		assert_int_equal(m.kind, cases[i].kind);
		assert_string_equal(m.path, cases[i].path);
		assert_true(m.offset == cases[i].offset && m.inode == cases[i].inode);
		free(m.path);
	}
}

/* ---- the mapping log ---- */

static void log_event(struct mapping_log *l, enum symbols_mapping_kind kind, pid_t pid, pid_t parent, uint64_t time_ns)
{
	mapping_log_add(l, &(struct symbols_mapping_event){ .kind = kind, .pid = pid, .parent = parent, .time_ns = time_ns });
}

static void log_mapping(struct mapping_log *l, pid_t pid, uint64_t time_ns, uint64_t start, uint64_t end, const char *path)
{
	mapping_log_add(l, &(struct symbols_mapping_event){
		.kind = SYMBOLS_MAPPED, .pid = pid, .time_ns = time_ns, .start = start, .end = end, .inode = 7, .path = path });
}

/* What holds the address in the process at that moment: "" for nothing, "-" when the log does not know. */
static const char *mapped_at(struct mapping_log *l, pid_t pid, uint64_t time_ns, uint64_t address)
{
	static char path[256];
	struct mapping_image image;
	const struct mapping *m;

	if (mapping_log_image(l, pid, time_ns, &image) < 0)
		return "-";
	m = mappings_find(&image.mappings, address);
	copy_string(path, sizeof(path), m ? m->path : "");
	mapping_image_done(&image);
	return path;
}

static void test_mapping_log_knows_the_past(void **state _unused_)
{
	_cleanup_(mapping_log_freep) struct mapping_log *l = NULL;
	struct mapping_image image;

	assert_int_equal(mapping_log_new(&l, 1), -EINVAL);
	assert_int_equal(mapping_log_new(&l, 65536), 0);
	log_event(l, SYMBOLS_FORKED, 12, 7, 100);
	log_event(l, SYMBOLS_EXECUTED, 12, 0, 200);
	/* From another CPU's ring, so late. */
	log_mapping(l, 12, 220, 0x2000, 0x3000, "/lib/ld.so");
	log_mapping(l, 12, 210, 0x1000, 0x2000, "/bin/a");
	log_mapping(l, 12, 300, 0x8000, 0xa000, "/lib/one.so");
	log_mapping(l, 12, 400, 0x9000, 0xb000, "/lib/two.so"); /* over half of it */
	log_event(l, SYMBOLS_EXECUTED, 12, 0, 500);
	log_mapping(l, 12, 510, 0x1000, 0x2000, "/bin/b");

	assert_string_equal(mapped_at(l, 12, 250, 0x1500), "/bin/a");
	/* What is mapped later is known, but not where it replaced something else. */
	assert_string_equal(mapped_at(l, 12, 250, 0x8500), "/lib/one.so");
	assert_string_equal(mapped_at(l, 12, 350, 0x8500), "/lib/one.so");
	assert_string_equal(mapped_at(l, 12, 350, 0x9500), "");
	assert_string_equal(mapped_at(l, 12, 450, 0x8500), "/lib/one.so");
	assert_string_equal(mapped_at(l, 12, 450, 0x9500), "/lib/two.so");
	assert_string_equal(mapped_at(l, 12, 600, 0x1500), "/bin/b");
	assert_string_equal(mapped_at(l, 12, 600, 0x8500), "");
	assert_string_equal(mapped_at(l, 13, 600, 0x1500), "-");
	assert_string_equal(mapped_at(l, 12, 50, 0x1500), "-"); /* before it was */

	assert_int_equal(mapping_log_image(l, 12, 200, &image), 0);
	assert_string_equal(image.exe, "/bin/a");
	assert_int_equal(image.base, 0);
	assert_int_equal(image.parent, 7);
	mapping_image_done(&image);
	assert_true(mapping_log_has_changed(l, 12, 300));
	assert_false(mapping_log_has_changed(l, 12, 500));
}

static void test_mapping_log_inherits(void **state _unused_)
{
	_cleanup_(mapping_log_freep) struct mapping_log *l = NULL;
	struct mapping_image image;

	assert_int_equal(mapping_log_new(&l, 65536), 0);
	log_event(l, SYMBOLS_EXECUTED, 7, 0, 100);
	log_mapping(l, 7, 110, 0x1000, 0x2000, "/bin/server");
	log_event(l, SYMBOLS_FORKED, 8, 7, 200);
	log_mapping(l, 7, 250, 0x5000, 0x6000, "/lib/later.so"); /* the parent's own */
	log_event(l, SYMBOLS_FORKED, 9, 8, 300);
	log_mapping(l, 9, 310, 0x8000, 0x9000, "/lib/own.so");
	assert_string_equal(mapped_at(l, 9, 320, 0x1500), "/bin/server");
	assert_string_equal(mapped_at(l, 9, 320, 0x8500), "/lib/own.so");
	assert_string_equal(mapped_at(l, 9, 320, 0x5500), "");
	assert_string_equal(mapped_at(l, 7, 320, 0x5500), "/lib/later.so");

	/* The pid comes again, as a child of one from before the log. */
	log_event(l, SYMBOLS_FORKED, 9, 2, 900);
	log_mapping(l, 9, 910, 0x8000, 0x9000, "/lib/third.so");
	assert_int_equal(mapping_log_image(l, 9, 920, &image), 0);
	assert_int_equal(image.base, 2);
	assert_int_equal(image.base_ns, 900);
	assert_int_equal(image.mappings.n, 1);
	assert_string_equal(image.mappings.items[0].path, "/lib/third.so");
	mapping_image_done(&image);
}

static void test_mapping_log_is_bounded(void **state _unused_)
{
	_cleanup_(mapping_log_freep) struct mapping_log *l = NULL;
	uint64_t used, max;
	char path[64];

	assert_int_equal(mapping_log_new(&l, 5000), 0);
	for (unsigned i = 0; i < 10000; i++) {
		snprintf(path, sizeof(path), "/bin/%0*u", (int)(i % 40), i);
		/* pids that share a chain, among others */
		log_event(l, SYMBOLS_EXECUTED, (pid_t)(1 + i % 5 * 16384), 0, 10 * i);
		log_mapping(l, (pid_t)(1 + i % 5 * 16384), 10 * i + 1, 0x1000, 0x2000, path);
	}
	mapping_log_get_usage(l, &used, &max);
	assert_int_equal(max, 4096);
	assert_true(used <= max);
	snprintf(path, sizeof(path), "/bin/%0*u", 9999 % 40, 9999u);
	assert_string_equal(mapped_at(l, 1 + 4 * 16384, UINT64_MAX, 0x1500), path);
	assert_string_equal(mapped_at(l, 1 + 4 * 16384, 5000, 0x1500), "-");
}

static void test_mappings_put(void **state _unused_)
{
	_cleanup_(mappings_clear) struct mappings all = {};
	static const struct {
		uint64_t start, end;
		size_t n; /* afterwards */
	} cases[] = {
		{ 0x1000, 0x9000, 1 }, { 0x3000, 0x4000, 3 }, { 0x0800, 0x1800, 4 }, { 0x3800, 0x5000, 5 },
		{ 0x0000, 0xf000, 1 }, { 0x0000, 0xf000, 1 }, { 0xf000, 0xf800, 2 },
	};

	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		struct mapping m;

		assert_int_equal(mapping_make("/bin/a", cases[i].start, cases[i].end, cases[i].start, 7, 0, &m), 0);
		assert_int_equal(mappings_put(&all, &m), 0);
		assert_int_equal(all.n, cases[i].n);
		for (size_t k = 0; k < all.n; k++) {
			assert_true(all.items[k].start < all.items[k].end);
			assert_int_equal(all.items[k].offset, all.items[k].start);
			assert_true(k == 0 || all.items[k - 1].end <= all.items[k].start);
		}
	}
}


static void test_mappings_find(void **state _unused_)
{
	static const char text[] = "1000-2000 r--p 0 fe:01 5 /a\n"
				   "2000-4000 r-xp 1000 fe:01 5 /a\n"
				   "4000-5000 rw-p 3000 fe:01 5 /a\n"
				   "5000-6000 r-xp 0 fe:01 6 /b\n"
				   "8000-9000 rwxp 0 00:00 0 \n";
	_cleanup_(mappings_clear) struct mappings m = {};
	_cleanup_fclose_ FILE *f = fmemopen((void *)text, strlen(text), "r");

	assert_int_equal(mappings_read(&m, f), 0);
	assert_int_equal(m.n, 3);
	assert_null(mappings_find(&m, 0));
	assert_null(mappings_find(&m, 0x1fff));
	assert_string_equal(mappings_find(&m, 0x2000)->path, "/a");
	assert_string_equal(mappings_find(&m, 0x3fff)->path, "/a");
	assert_null(mappings_find(&m, 0x4000));
	assert_string_equal(mappings_find(&m, 0x5000)->path, "/b");
	assert_null(mappings_find(&m, 0x7fff));
	assert_string_equal(mappings_find(&m, 0x8000)->path, "");
	assert_null(mappings_find(&m, 0x9000));
	assert_null(mappings_find(&m, UINT64_MAX));
}

static void test_mountinfo(void **state _unused_)
{
	static const char text[] =
		"21 1 0:20 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/l\n"
		"22 21 0:21 / /a\\040b rw - nfs4 server:/export rw\n"
		"23 21 0:22 / /home/u/m rw,nosuid shared:7 master:2 - fuse.sshfs host: rw\n"
		"24 21 0:23 / /tmp rw - tmpfs tmpfs rw\n"
		"25 21 8:1 / /data rw - ext4 /dev/sda1 rw\n"
		"garbage - \n";
	const struct {
		dev_t device;
		bool may_block;
	} cases[] = {
		{ makedev(0, 20), false }, { makedev(0, 21), true }, { makedev(0, 22), true },
		{ makedev(0, 23), false }, { makedev(8, 1), false }, { makedev(0, 99), false },
	};

	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		_cleanup_fclose_ FILE *f = fmemopen((void *)text, strlen(text), "r");

		assert_int_equal(mountinfo_may_block(f, cases[i].device), cases[i].may_block);
	}
}

static void test_mappings_are_bounded(void **state _unused_)
{
	_cleanup_(mappings_clear) struct mappings m = {};
	_cleanup_fclose_ FILE *f = tmpfile();

	for (unsigned i = 1; i <= MAPPINGS_MAX + 100; i++)
		fprintf(f, "%x000-%x800 rwxp 0 00:00 0 \n", i, i);
	rewind(f);
	assert_int_equal(mappings_read(&m, f), 0);
	assert_int_equal(m.n, MAPPINGS_MAX);
}

static void test_stat_parse(void **state _unused_)
{
	static const char fields[] = " S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 2000";
	char text[256], comm[16];
	uint64_t start;

	snprintf(text, sizeof(text), "77 (a) b (c))%s\n", fields);
	assert_int_equal(stat_parse(text, comm, &start), 0);
	assert_string_equal(comm, "a) b (c)");
	assert_true(start == 4711);
	assert_int_equal(stat_parse("77 (x) S 1 2 3", comm, &start), -EBADMSG);
	assert_int_equal(stat_parse("", comm, &start), -EBADMSG);
	assert_int_equal(stat_parse(")(", comm, &start), -EBADMSG);
}

static void test_sanitize(void **state _unused_)
{
	char name[] = "a;b\nc\033d\177 e";

	sanitize_name(name);
	assert_string_equal(name, "a:b?c?d? e");
}

/* ---- kernel names ---- */

static const char kallsyms[] = "ffffffff81000000 T _text\n"
			       "ffffffff81000000 T _stext\n"
			       "ffffffff81000000 T startup\n"
			       "ffffffff81000100 t __pfx_do_work\n"
			       "ffffffff81000110 t do_work\n"
			       "ffffffff81000200 t local_alias\n"
			       "ffffffff81000200 W weak_alias\n"
			       "ffffffff81000200 T long_global_alias\n"
			       "ffffffff81000200 T zz_alias\n"
			       "ffffffff81000200 T aa_alias\n"
			       "ffffffff81000300 T __sched_text_start\n"
			       "ffffffff81000300 t __schedule\n"
			       "ffffffff81000380 T schedule\n"
			       "ffffffff81000400 T __sched_text_end\n"
			       "ffffffff81000480 D data_between\n"
			       "ffffffff81000500 T last_function\n"
			       "ffffffff81000600 T _etext\n"
			       "ffffffff82000000 D __start_rodata\n"
			       "ffffffffc0200100 t module_b_only\t[b]\n"
			       "ffffffffc0100100 t module_a_first\t[a]\n"
			       "ffffffffc0100200 t module_a_last\t[a]\n"
			       "ffffffffc0300000 t bpf_prog_0123456789abcdef_on_switch\t[bpf]\n"
			       "ffffffffc0300100 t bpf_trampoline_42\t[bpf]\n"
			       "ffffffffc0300200 t bpf_trace_run4\n"
			       "ffffffffc0300300 t __traceiter_sched_switch\n"
			       "ffffffffc0300400 t last_of_all\n";

static struct kernel_symbols *read_text(const char *text)
{
	struct kernel_symbols *k;
	_cleanup_fclose_ FILE *f = fmemopen((void *)text, strlen(text), "r");

	assert_int_equal(kernel_symbols_read(&k, f), 0);
	return k;
}

static void test_kernel_names(void **state _unused_)
{
	static const struct {
		uint64_t address;
		const char *name, *module;
	} cases[] = {
		{ 0, NULL, NULL },
		{ 0xffffffff80ffffff, NULL, NULL },
		{ 0xffffffff81000000, "startup", "[kernel]" },
		{ 0xffffffff8100010f, "startup", "[kernel]" }, /* padding is nobody's; it is not executed */
		{ 0xffffffff81000110, "do_work", "[kernel]" },
		{ 0xffffffff810001ff, "do_work", "[kernel]" },
		{ 0xffffffff81000200, "aa_alias", "[kernel]" },
		{ 0xffffffff81000300, "__schedule", "[kernel]" },
		{ 0xffffffff810003ff, "schedule", "[kernel]" },
		{ 0xffffffff81000400, NULL, NULL },
		{ 0xffffffff81000480, NULL, NULL },
		{ 0xffffffff81000500, "last_function", "[kernel]" },
		{ 0xffffffff81000600, NULL, NULL },
		{ 0xffffffff82000001, NULL, NULL },
		{ 0xffffffffc0100100, "module_a_first", "[a]" },
		{ 0xffffffffc0100fff, "module_a_last", "[a]" },
		{ 0xffffffffc0101000, NULL, NULL }, /* between two modules */
		{ 0xffffffffc0200100, "module_b_only", "[b]" },
		{ 0xffffffffc0201000, NULL, NULL },
		{ 0xffffffffc0300400, "last_of_all", "[kernel]" },
		{ 0xffffffffc0301000, NULL, NULL },
		{ UINT64_MAX, NULL, NULL },
	};
	_cleanup_(kernel_symbols_freep) struct kernel_symbols *k = read_text(kallsyms);

	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		struct kernel_symbol s;
		bool found = kernel_symbols_find(k, cases[i].address, &s);

		assert_int_equal(found, cases[i].name != NULL);
		if (!found)
			continue;
		assert_string_equal(s.name, cases[i].name);
		assert_string_equal(s.module, cases[i].module);
	}
}

static void test_kernel_hidden_or_damaged(void **state _unused_)
{
	static const char *const texts[] = {
		"0000000000000000 T _text\n0000000000000000 t do_work\n0000000000000000 t x\t[a]\n",
		"",
		"garbage\n\n \nffff\nffff T\n",
	};

	for (size_t i = 0; i < ELEMENTS_OF(texts); i++) {
		_cleanup_fclose_ FILE *f = tmpfile();
		_cleanup_(kernel_symbols_freep) struct kernel_symbols *k = NULL;
		struct kernel_symbol s;

		fputs(texts[i], f);
		rewind(f);
		assert_int_equal(kernel_symbols_read(&k, f), 0);
		assert_int_equal(kernel_symbols_count(k), 0);
		assert_false(kernel_symbols_find(k, 0, &s));
		assert_false(kernel_symbols_find(k, 0xffffffff81000000, &s));
	}
}

static void test_kernel_real(void **state _unused_)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/kallsyms", "re"), *again = fopen("/proc/kallsyms", "re");
	_cleanup_(kernel_symbols_freep) struct kernel_symbols *k = NULL;
	char name[256], type;
	unsigned long address;
	size_t checked = 0;

	assert_int_equal(kernel_symbols_read(&k, f), 0);
	if (kernel_symbols_count(k) == 0) {
		print_message("# kallsyms is hidden from us\n");
		skip();
	}
	assert_true(kernel_symbols_bytes(k) < 8 << 20);
	while (fscanf(again, "%lx %c %255s%*[^\n]", &address, &type, name) == 3) {
		struct kernel_symbol s;

		if (!streq(name, "schedule") && !streq(name, "do_exit") && !streq(name, "vfs_read"))
			continue;
		assert_true(kernel_symbols_find(k, address + 1, &s));
		assert_string_equal(s.name, name);
		checked++;
	}
	assert_int_equal(checked, 3);
	print_message("# %u kernel symbols in %zu KiB\n", kernel_symbols_count(k),
		      kernel_symbols_bytes(k) >> 10);
}

/* ---- processes ---- */

struct fixture {
	struct helper *helper;
	struct symbols *symbols;
};

static const struct symbols_config config = { .max_processes = 1024, .mapping_log_size = 65536,
					      .max_objects = 256,
					      .max_functions = 4096 };

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (helper_start(&f->helper) < 0 || symbols_new(&f->symbols, &config, f->helper) < 0)
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	symbols_free(f->symbols);
	helper_stop(f->helper);
	free(f);
	return 0;
}

static struct symbols_process_key key_of(pid_t pid)
{
	_cleanup_free_ char *text = NULL;
	char path[64], comm[16];
	uint64_t ticks;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	assert_int_equal(read_small_file(AT_FDCWD, path, 4096, &text, NULL), 0);
	assert_int_equal(stat_parse(text, comm, &ticks), 0);
	return (struct symbols_process_key){
		.pid = pid, .exec_id = 3, .start_ns = ticks * (NSEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK))
	};
}

static const struct symbols_process *look_at(struct fixture *f, const struct symbols_process_key *key,
					     const char *comm)
{
	const struct symbols_process *p = NULL;

	assert_int_equal(symbols_process(f->symbols, key, 0, comm, 1234, false, &p), 0);
	return p;
}

static struct symbols_frame frames[SYMBOLS_FRAMES_MAX];
static size_t n_frames;
static uint64_t stack_id;

static void resolve(struct fixture *f, const struct symbols_process_key *key, const uint64_t *kernel,
		    size_t n_kernel, const uint64_t *user, size_t n_user)
{
	for (int tries = 0; tries < 100; tries++) {
		struct pollfd p = { .fd = parser_fd(f->helper), .events = POLLIN };
		int r = symbols_resolve(f->symbols, key, kernel, n_kernel, user, n_user, frames, &n_frames,
					&stack_id);

		if (r == 0)
			return;
		assert_int_equal(r, -EAGAIN);
		poll(&p, 1, 100);
		symbols_dispatch(f->symbols);
	}
	fail_msg("no answer");
}

/* What the copies of this program run. */
void known_function(void);
void __attribute__((noinline)) known_function(void)
{
	__asm__ volatile("nop; nop; nop; nop");
}

void last_call(void);
void __attribute__((noinline)) last_call(void)
{
	__asm__ volatile("nop");
}

struct addresses {
	uint64_t known, last, libc, anonymous, vdso;
};

#define CHILD_NAME "identity child" /* longer than a comm */

static _Noreturn void child_main(int fd, const char *chroot_to)
{
	void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct addresses a = {
		.known = (uint64_t)(uintptr_t)known_function,
		.last = (uint64_t)(uintptr_t)last_call,
		.libc = (uint64_t)(uintptr_t)memfd_create,
		.anonymous = (uint64_t)(uintptr_t)code,
		.vdso = getauxval(AT_SYSINFO_EHDR),
	};

	if (chroot_to && (chroot(chroot_to) < 0 || chdir("/") < 0))
		_exit(1);
	if (write(fd, &a, sizeof(a)) != sizeof(a))
		_exit(1);
	for (;;)
		pause();
}

struct child_process {
	pid_t pid;
	struct addresses addresses;
};

static struct child_process spawn_with(const char *path, const char *chroot_to, void (*prepare)(void))
{
	struct child_process c = {};
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	c.pid = fork();
	assert_true(c.pid >= 0);
	if (c.pid == 0) {
		char fd[16];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(fd, sizeof(fd), "%d", fds[1]);
		if (prepare)
			prepare();
		execl(path, path, "--child", fd, chroot_to, NULL);
		_exit(1);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &c.addresses, sizeof(c.addresses)), sizeof(c.addresses));
	close(fds[0]);
	return c;
}

static struct child_process spawn_copy(const char *path)
{
	return spawn_with(path, NULL, NULL);
}

static void reap(struct child_process *c)
{
	if (c->pid <= 0)
		return;
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
	c->pid = 0;
}

#define CHILD _cleanup_(reap) struct child_process

static void test_aslr_independence(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self), b = spawn_copy(self);
	struct symbols_process_key key_a = key_of(a.pid), key_b = key_of(b.pid);
	/* a return address inside, one inside libc, and the exact address of the innermost */
	uint64_t stack_a[] = { a.addresses.known + 2, a.addresses.libc + 4, a.addresses.last + 2 };
	uint64_t stack_b[] = { b.addresses.known + 3, b.addresses.libc + 5, b.addresses.last + 1 };
	uint64_t id, frame_ids[3];

	assert_true(a.addresses.known != b.addresses.known);
	resolve(f, &key_a, NULL, 0, stack_a, 3);
	assert_int_equal(n_frames, 3);
	assert_string_equal(frames[0].function, "known_function");
	assert_string_equal(frames[0].display, "known_function");
	assert_string_equal(frames[0].object, "test_symbol");
	assert_int_equal(frames[0].kind, FRAME_USER);
	assert_string_equal(frames[1].function, "memfd_create");
	assert_string_equal(frames[1].object, "libc.so.6");
	assert_string_equal(frames[2].function, "last_call");
	id = stack_id;
	for (int i = 0; i < 3; i++)
		frame_ids[i] = frames[i].id;
	assert_true(frame_ids[0] != frame_ids[1] && frame_ids[1] != frame_ids[2]);

	resolve(f, &key_b, NULL, 0, stack_b, 3);
	assert_true(stack_id == id);
	for (int i = 0; i < 3; i++)
		assert_true(frames[i].id == frame_ids[i]);

	/* the order is part of it, and so is which side of the boundary a frame is on */
	stack_b[1] = stack_b[2];
	resolve(f, &key_b, NULL, 0, stack_b, 2);
	assert_true(stack_id != id);
}

static void test_known_functions_ask_nobody(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self);
	struct symbols_process_key key = key_of(a.pid);
	uint64_t address = a.addresses.known + 1;

	resolve(f, &key, NULL, 0, &address, 1);
	address = a.addresses.known + 2;
	assert_int_equal(
		symbols_resolve(f->symbols, &key, NULL, 0, &address, 1, frames, &n_frames, &stack_id), 0);
	assert_string_equal(frames[0].function, "known_function");
}

static void test_return_address_behind_the_function(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self);
	struct symbols_process_key key = key_of(a.pid);
	uint64_t start = a.addresses.known, stack[2] = { start, start };

	/* as the innermost frame it is the function; as a return address it belongs to a call just before it
	 */
	resolve(f, &key, NULL, 0, stack, 2);
	assert_string_equal(frames[0].function, "known_function");
	assert_string_not_equal(frames[1].function, "known_function");
}

static void test_recursion_is_kept(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self);
	struct symbols_status status;
	struct symbols_process_key key = key_of(a.pid);
	uint64_t in = a.addresses.known + 2,
		 stack[] = {
			 in, in, in, a.addresses.anonymous + 8, a.addresses.anonymous + 16, 0x10, 0x20, in
		 };

	resolve(f, &key, NULL, 0, stack, ELEMENTS_OF(stack));
	assert_int_equal(n_frames, 6);
	for (int i = 0; i < 3; i++)
		assert_string_equal(frames[i].display, "known_function");
	assert_string_equal(frames[3].display, "[anon]");
	assert_int_equal(frames[3].kind, FRAME_JIT);
	assert_string_equal(frames[4].display, "[unknown]");
	assert_int_equal(frames[4].kind, FRAME_UNKNOWN);
	assert_string_equal(frames[5].display, "known_function");
	symbols_get_status(f->symbols, &status);
	assert_int_equal(status.resolved, 6);
	assert_int_equal(status.unnamed, 0); /* of those that a symbol could have covered */
}

static void test_vdso(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self);
	struct symbols_process_key key = key_of(a.pid);
	_cleanup_close_ int fd = vdso_image_fd();
	Elf *elf;
	Elf_Scn *section = NULL;
	GElf_Shdr h;
	size_t n = 0;

	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ, NULL);
	while ((section = elf_nextscn(elf, section))) {
		Elf_Data *data = elf_getdata(section, NULL);
		GElf_Sym sym;

		assert_non_null(gelf_getshdr(section, &h));
		for (int i = 1; h.sh_type == SHT_DYNSYM && gelf_getsym(data, i, &sym); i++) {
			uint64_t address = a.addresses.vdso + sym.st_value;
			const char *name = elf_strptr(elf, h.sh_link, sym.st_name);

			if (GELF_ST_TYPE(sym.st_info) != STT_FUNC || sym.st_size == 0)
				continue;
			resolve(f, &key, NULL, 0, &address, 1);
			assert_string_equal(frames[0].object, "[vdso]");
			/* "__vdso_getcpu" is "getcpu", too */
			assert_true(frames[0].function[0] != '\0');
			assert_true(strstr(frames[0].function, name) || strstr(name, frames[0].function));
			n++;
		}
	}
	elf_end(elf);
	assert_true(n > 0);
	a.addresses.vdso += 8; /* in its header */
	resolve(f, &key, NULL, 0, &a.addresses.vdso, 1);
	assert_string_equal(frames[0].display, "[vdso+0x8]");
}

/* ---- code that was made at run time ---- */

static void write_map(const char *path, const char *mode, const char *format, ...)
{
	_cleanup_fclose_ FILE *f = fopen(path, mode);
	va_list args;

	assert_non_null(f);
	va_start(args, format);
	assert_true(vfprintf(f, format, args) > 0);
	va_end(args);
}

static void unlink_path(char (*path)[64])
{
	unlink(*path);
}

#define JIT_MAP(child)                                        \
	_cleanup_(unlink_path) char map[64];                  \
	snprintf(map, sizeof(map), "/tmp/perf-%d.map", (child).pid)

static const char *name_of(struct fixture *f, const struct symbols_process_key *key, uint64_t address)
{
	resolve(f, key, NULL, 0, &address, 1);
	assert_int_equal(n_frames, 1);
	return frames[0].display;
}

/* Another look at its map is due only later. */
static void look_again(struct fixture *f, const struct symbols_process_key *key)
{
	static const struct process_record unknown = {};

	processes_get(f->symbols->processes, key, &unknown)->perf_map_retry_ns = 0;
}

static void test_perf_map(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self);
	CHILD b = spawn_copy(self);
	struct symbols_process_key key = key_of(a.pid), key_b = key_of(b.pid);
	uint64_t code = a.addresses.anonymous, id;
	JIT_MAP(a);
	char map_b[64];

	write_map(map, "w", "%lx 20 LazyCompile:~fill;it /srv/a b.js:7\n%lx 10 replaced\n%lx 10 later\n%lx 10 unfini",
		  (unsigned long)code, (unsigned long)code + 0x40, (unsigned long)code + 0x48,
		  (unsigned long)code + 0x80);
	assert_string_equal(name_of(f, &key, code), "LazyCompile:~fill:it /srv/a b.js:7");
	assert_string_equal(frames[0].object, "[jit]");
	assert_int_equal(frames[0].kind, FRAME_JIT);
	id = frames[0].id;
	assert_string_equal(name_of(f, &key, code + 0x1f), "LazyCompile:~fill:it /srv/a b.js:7");
	assert_string_equal(name_of(f, &key, code + 0x20), "[anon]");
	assert_string_equal(name_of(f, &key, code + 0x47), "replaced");
	assert_string_equal(name_of(f, &key, code + 0x48), "later"); /* the later line is right */
	assert_string_equal(name_of(f, &key, code + 0x80), "[anon]");

	/* it grew */
	write_map(map, "a", "shed\n%lx 8 new_code\n", (unsigned long)code + 0x20);
	look_again(f, &key);
	assert_string_equal(name_of(f, &key, code + 0x20), "new_code");
	assert_string_equal(name_of(f, &key, code + 0x80), "unfinished");

	/* the same function elsewhere in another process is the same frame */
	snprintf(map_b, sizeof(map_b), "/tmp/perf-%d.map", b.pid);
	write_map(map_b, "w", "%lx 20 LazyCompile:~fill;it /srv/a b.js:7\n", (unsigned long)b.addresses.anonymous + 256);
	name_of(f, &key_b, b.addresses.anonymous + 260);
	unlink(map_b);
	assert_true(frames[0].id == id);
}

/* Nobody else may name a process's functions, nor make us read or wait for what is no map. */
static void test_perf_map_of_others(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self);
	struct symbols_process_key key = key_of(a.pid);
	uint64_t code = a.addresses.anonymous;
	JIT_MAP(a);
	char other[80];

	snprintf(other, sizeof(other), "%s.other", map);
	write_map(other, "w", "%lx 20 foreign\n", (unsigned long)code);
	assert_int_equal(symlink(other, map), 0);
	assert_string_equal(name_of(f, &key, code), "[anon]");
	unlink(map);
	assert_int_equal(link(other, map), 0);
	look_again(f, &key);
	assert_string_equal(name_of(f, &key, code), "[anon]");
	unlink(map);
	unlink(other);

	assert_int_equal(mkfifo(map, 0600), 0);
	look_again(f, &key);
	assert_string_equal(name_of(f, &key, code), "[anon]");
	unlink(map);

	write_map(map, "w", "%lx 20 foreign\n", (unsigned long)code);
	if (geteuid() == 0) {
		assert_int_equal(chown(map, 12345, 12345), 0);
		look_again(f, &key);
		assert_string_equal(name_of(f, &key, code), "[anon]");
		assert_int_equal(chown(map, 0, 0), 0);
	}
	look_again(f, &key);
	assert_string_equal(name_of(f, &key, code), "foreign");
}

static void test_status_of_jit(void **state _unused_)
{
	uid_t uid = 0;
	int pid = 0;

	assert_int_equal(jit_parse_status("Name:\tnode\nUid:\t1000\t1001\t0\t0\nNSpid:\t4711\t12\t3\nVm:\t1\n", &pid, &uid), 0);
	assert_int_equal(pid, 3);
	assert_int_equal(uid, 1001);
	assert_int_equal(jit_parse_status("Name:\tx\nUid:\t0\t0\t0\t0\nNSpid:\t4711\n5\n", &pid, &uid), 0);
	assert_int_equal(pid, 4711);
	assert_int_equal(jit_parse_status("Name:\tx\nUid:\t0\t0\t0\t0\n", &pid, &uid), -EBADMSG);
	assert_int_equal(jit_parse_status("\nUid:\t0\t0\nNSpid:\t\n", &pid, &uid), -EBADMSG);
}

static char *copy_of_self(const char *name, bool strip)
{
	static char path[256], command[9000];

	snprintf(path, sizeof(path), "/tmp/stackd-test-%d-%s", getpid(), name);
	snprintf(command, sizeof(command), strip ? "strip -o %2$s %1$s" : "cp %1$s %2$s", self, path);
	assert_int_equal(system(command), 0);
	return path;
}

static void test_stripped(void **state)
{
	struct fixture *f = *state;
	char *path = copy_of_self("stripped", true), display[64];
	CHILD a = spawn_copy(path), b = spawn_copy(path);
	struct symbols_process_key key = key_of(a.pid), key_b = key_of(b.pid);
	uint64_t stack[] = { a.addresses.known, a.addresses.known + 2 }, id, low;

	resolve(f, &key, NULL, 0, stack, 2);
	assert_int_equal(n_frames, 2);
	assert_string_equal(frames[0].function, "");
	assert_int_equal(frames[0].kind, FRAME_USER);
	low = strtoull(strrchr(frames[0].display, 'x') + 1, NULL, 16);
	assert_int_equal(low & 0xfff, a.addresses.known & 0xfff);
	snprintf(display, sizeof(display), "[%s+0x%lx]", strrchr(path, '/') + 1, (unsigned long)low);
	assert_string_equal(frames[0].display, display);
	/* the return address itself is shown, though the call before it was looked up */
	snprintf(display, sizeof(display), "[%s+0x%lx]", strrchr(path, '/') + 1, (unsigned long)low + 2);
	assert_string_equal(frames[1].display, display);
	id = stack_id;

	stack[0] = b.addresses.known;
	stack[1] = b.addresses.known + 2;
	/* one answer was for the whole stretch without symbols */
	assert_int_equal(symbols_resolve(f->symbols, &key_b, NULL, 0, stack, 2, frames, &n_frames, &stack_id),
			 0);
	assert_true(stack_id == id);
	unlink(path);
}

static void expect_known(struct fixture *f, const struct child_process *c)
{
	struct symbols_process_key key = key_of(c->pid);
	uint64_t address = c->addresses.known;

	resolve(f, &key, NULL, 0, &address, 1);
	assert_string_equal(frames[0].display, "known_function");
}

static void test_deleted_binary(void **state)
{
	struct fixture *f = *state;
	char *path = copy_of_self("deleted", false);
	CHILD a = spawn_copy(path);
	struct symbols_process_key key = key_of(a.pid);

	unlink(path);
	assert_string_equal(look_at(f, &key, NULL)->exe, path);
	if (geteuid() == 0)
		expect_known(f, &a);
}

/* Without the capabilities that map_files asks for, as the service runs on old kernels. */
static void drop_map_files(cap_flag_value_t value)
{
	cap_value_t caps[] = { CAP_SYS_ADMIN, CAP_CHECKPOINT_RESTORE };
	cap_t now = cap_get_proc();

	cap_set_flag(now, CAP_EFFECTIVE, 2, caps, value);
	assert_int_equal(cap_set_proc(now), 0);
	cap_free(now);
}

/* Another file at the path of the mapped one is not the mapped one. */
static void test_replaced_binary(void **state)
{
	struct fixture *f = *state;
	char *path = copy_of_self("replaced", false), other[300];
	CHILD a = spawn_copy(path);
	struct symbols_process_key key = key_of(a.pid);
	uint64_t address = a.addresses.known;

	snprintf(other, sizeof(other), "%s.new", path);
	close(open(other, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(rename(other, path), 0);
	if (geteuid() == 0) {
		drop_map_files(CAP_CLEAR);
		resolve(f, &key, NULL, 0, &address, 1);
		drop_map_files(CAP_SET);
		snprintf(other, sizeof(other), "[%s]", strrchr(path, '/') + 1);
		assert_string_equal(frames[0].display, other);
		assert_string_equal(frames[0].function, "");
	}
	unlink(path);
}

/* A FIFO at that path must not be opened: it would block. */
static void test_fifo_at_the_path(void **state)
{
	struct fixture *f = *state;
	char *path = copy_of_self("fifo", false);
	CHILD a = spawn_copy(path);
	struct symbols_process_key key = key_of(a.pid);
	uint64_t address = a.addresses.known;

	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	if (geteuid() == 0) {
		drop_map_files(CAP_CLEAR);
		resolve(f, &key, NULL, 0, &address, 1);
		drop_map_files(CAP_SET);
		assert_string_equal(frames[0].function, "");
	}
	unlink(path);
}

#define NAMESPACE_DIR "/tmp/stackd-test-namespace"

static void enter_namespace(void)
{
	char command[9000];

	snprintf(command, sizeof(command), "cp %s %s/inside", self, NAMESPACE_DIR);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", NAMESPACE_DIR, "tmpfs", 0, NULL) < 0 || system(command) != 0)
		_exit(1);
}

static void need_root(void)
{
	if (geteuid() != 0) {
		print_message("# namespaces need root\n");
		skip();
	}
}

static void test_mount_namespace(void **state)
{
	struct fixture *f = *state;
	CHILD a = {};

	need_root();
	assert_true(mkdir(NAMESPACE_DIR, 0700) == 0 || errno == EEXIST);
	a = spawn_with(NAMESPACE_DIR "/inside", NULL, enter_namespace);
	assert_int_equal(access(NAMESPACE_DIR "/inside", F_OK), -1);
	/* through /proc/PID/root alone */
	drop_map_files(CAP_CLEAR);
	expect_known(f, &a);
	drop_map_files(CAP_SET);
	rmdir(NAMESPACE_DIR);
}

static void test_chroot(void **state)
{
	struct fixture *f = *state;
	char *path;
	CHILD a = {};
	struct symbols_process_key key;

	need_root();
	path = copy_of_self("chroot", false);
	a = spawn_with(path, "/tmp", NULL);
	key = key_of(a.pid);
	drop_map_files(CAP_CLEAR);
	expect_known(f, &a);
	drop_map_files(CAP_SET);
	assert_string_equal(look_at(f, &key, NULL)->exe, path + strlen("/tmp"));
	unlink(path);
}

/* ---- debug files ---- */

/* This program in two parts: $1.split without symbols, and what was taken off, to be put somewhere by `rest`. */
static void split_self(char ret[static 64], const char *rest)
{
	_cleanup_free_ char *command = NULL;

	snprintf(ret, 64, "/tmp/stackd-test-%d.split", getpid());
	assert_true(asprintf(&command,
			     "set -e; S=%s P=%s D=/tmp/stackd-test-%d.debug; objcopy --only-keep-debug $S $D; strip -o $P $S; "
			     "objcopy --add-gnu-debuglink=$D $P; "
			     "I=$(readelf -n $S | sed -n 's/.*Build ID: \\(..\\)\\(.*\\)/\\1\\/\\2/p'); %s",
			     self, ret, getpid(), rest) > 0);
	assert_int_equal(system(command), 0);
}

static void clean_up_split(void **state _unused_)
{
	char command[512];

	snprintf(command, sizeof(command), "cd /tmp; rm -rf stackd-test-%1$d.* .debug/stackd-test-%1$d.debug stackd-root-%1$d; "
		 "rmdir .debug 2>/dev/null || :", getpid());
	assert_int_equal(system(command), 0);
}

static int teardown_split(void **state)
{
	clean_up_split(state);
	return teardown(state);
}

static void check_split(void **state, const char *chroot_to, const char *rest, const char *expected)
{
	struct fixture *f = *state;
	char path[64];
	struct symbols_process_key key;
	CHILD a = {};

	split_self(path, rest);
	a = spawn_with(path, chroot_to, NULL);
	key = key_of(a.pid);
	resolve(f, &key, NULL, 0, &a.addresses.known, 1);
	assert_int_equal(n_frames, 1);
	assert_string_equal(frames[0].function, expected);
	clean_up_split(state);
}

static void test_debug_file_by_link(void **state)
{
	check_split(state, NULL, ":", "known_function");
	check_split(state, NULL, "mkdir -p /tmp/.debug; mv $D /tmp/.debug/", "known_function");
	check_split(state, NULL, "rm $D", "");
}

/* Without a build ID its checksum says that it is the right one. */
static void test_debug_file_by_checksum(void **state)
{
	static const char without_id[] =
		"objcopy --remove-section=.note.gnu.build-id $D; objcopy --remove-section=.note.gnu.build-id $S $P; "
		"strip $P; objcopy --add-gnu-debuglink=$D $P; ";
	char rest[512];

	snprintf(rest, sizeof(rest), "%s:", without_id);
	check_split(state, NULL, rest, "known_function");
	snprintf(rest, sizeof(rest), "%secho >>$D", without_id);
	check_split(state, NULL, rest, "");
}

static void test_debug_file_by_build_id(void **state)
{
	char root[64], rest[512];

	need_root();
	snprintf(root, sizeof(root), "/tmp/stackd-root-%d", getpid());
	snprintf(rest, sizeof(rest),
		 "R=%s; mkdir -p $R/usr/lib/debug/.build-id/${I%%%%/*}; mv $D $R/usr/lib/debug/.build-id/$I.debug", root);
	check_split(state, root, rest, "known_function");
	/* a link might lead anywhere */
	snprintf(rest, sizeof(rest),
		 "R=%s; mkdir -p $R/usr/lib/debug/.build-id $R/elsewhere/${I%%%%/*}; mv $D $R/elsewhere/$I.debug; "
		 "ln -s $R/elsewhere/${I%%%%/*} $R/usr/lib/debug/.build-id/", root);
	check_split(state, root, rest, "");
}

static void test_wrong_debug_file(void **state)
{
	check_split(state, NULL, "objcopy --only-keep-debug /bin/sh $D", "");
	check_split(state, NULL, "echo nothing >$D", "");
	check_split(state, NULL, "rm $D; mkfifo $D", "");
	need_root();
	check_split(state, NULL, "chown 12345 $D", ""); /* anybody can make one with the right build ID */
}

static void test_process(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self);
	struct symbols_process_key key = key_of(a.pid);
	const struct symbols_process *p = look_at(f, &key, "test_symbol");

	assert_true(p->identified);
	assert_string_equal(p->exe, self);
	assert_string_equal(p->comm, "test_symbol");
	assert_int_equal(p->uid, 1234);
	assert_true(p->cgroup[0] == '/');
	/* it is kept when it dies */
	reap(&a);
	assert_true(look_at(f, &key, "test_symbol")->identified);
}

static void test_dead_process(void **state)
{
	struct fixture *f = *state;
	struct child_process a = spawn_copy(self);
	struct symbols_process_key key = key_of(a.pid);
	uint64_t address = a.addresses.known;
	struct symbols_status status;
	const struct symbols_process *p = NULL;

	reap(&a);
	p = look_at(f, &key, "short");
	assert_false(p->identified);
	assert_true(p->settled);
	assert_string_equal(p->exe, "");
	assert_string_equal(p->comm, "short");
	resolve(f, &key, NULL, 0, &address, 1);
	assert_string_equal(frames[0].display, "[unknown]");
	symbols_get_status(f->symbols, &status);
	assert_int_equal(status.gone, 1);
}

static void test_reused_pid(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self);
	struct symbols_process_key key = key_of(a.pid), old = key;
	uint64_t address = a.addresses.known;

	old.start_ns -= NSEC_PER_SEC;
	assert_false(look_at(f, &old, NULL)->identified);
	resolve(f, &old, NULL, 0, &address, 1);
	assert_string_equal(frames[0].display, "[unknown]");
	assert_true(look_at(f, &key, NULL)->identified);
	resolve(f, &key, NULL, 0, &address, 1);
	assert_string_equal(frames[0].display, "known_function");
}

/* /proc tells about what a process executes now, not about what it did before. */
static void test_superseded_image(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self);
	struct symbols_process_key now = key_of(a.pid), before = now;
	uint64_t address = a.addresses.known;

	before.exec_id = now.exec_id - 1;
	assert_true(look_at(f, &now, NULL)->identified);
	assert_false(look_at(f, &before, NULL)->identified);
	resolve(f, &before, NULL, 0, &address, 1);
	assert_string_equal(frames[0].display, "[unknown]");
}

static void test_other_name(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self);
	struct symbols_process_key key = key_of(a.pid);

	/* the record's name is the one before exec: wait for the next record */
	assert_false(look_at(f, &key, "sh")->identified);
	assert_false(look_at(f, &key, "sh")->settled);
	usleep(1100000);
	assert_true(look_at(f, &key, "test_symbol")->identified);
}

static void test_burst(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self);
	struct symbols_process_key key = key_of(a.pid);
	struct symbols_status status;
	unsigned read = 0;

	/* what runs already when we start is read at once */
	for (int i = 0; i < 1000; i++) {
		key.exec_id++;
		read += look_at(f, &key, NULL)->identified;
	}
	assert_int_equal(read, 1000);
	for (int i = 0; i < 2000; i++) {
		key.exec_id++;
		read += look_at(f, &key, NULL)->identified;
	}
	assert_in_range(read, 1000, 1500);
	symbols_get_status(f->symbols, &status);
	assert_true(status.deferred > 0);
	usleep(1200000);
	assert_true(look_at(f, &key, NULL)->identified);
}

static void test_caches_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct symbols_process_key key = { .pid = 4194304, .exec_id = 1 };
	struct symbols_status status;

	for (int i = 0; i < 5000; i++) {
		key.start_ns += NSEC_PER_SEC;
		assert_false(look_at(f, &key, "x")->identified);
	}
	symbols_get_status(f->symbols, &status);
	assert_int_equal(status.processes, config.max_processes);
	assert_int_equal(status.gone, 5000);
}

/* All that is left of a short process is its cgroup's id. */
static void test_cgroup_by_id(void **state)
{
	static const char *const mounts[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
	struct fixture *f = *state;
	struct symbols_process_key key = { .pid = 4194304, .exec_id = 1 };
	const struct symbols_process *p = NULL;
	char slice[128], service[160];
	struct statfs fs;
	struct stat st;
	size_t i = 0;

	for (; i < ELEMENTS_OF(mounts); i++) {
		snprintf(slice, sizeof(slice), "%s/stackdtest.slice", mounts[i]);
		snprintf(service, sizeof(service), "%s/victim.service", slice);
		if (statfs(mounts[i], &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC &&
		    (mkdir(slice, 0755) == 0 || errno == EEXIST) &&
		    (mkdir(service, 0755) == 0 || errno == EEXIST))
			break;
	}
	if (i == ELEMENTS_OF(mounts)) {
		print_message("# no cgroup v2 that may be written\n");
		skip();
	}
	assert_int_equal(stat(service, &st), 0);
	assert_int_equal(symbols_process(f->symbols, &key, st.st_ino, "short", 0, false, &p), 0);
	rmdir(service);
	rmdir(slice);
	assert_false(p->identified);
	assert_string_equal(p->cgroup, "/stackdtest.slice/victim.service");
	assert_string_equal(p->unit, "victim.service");
	/* it is remembered when the cgroup is gone, too */
	key.start_ns += NSEC_PER_SEC;
	assert_int_equal(symbols_process(f->symbols, &key, st.st_ino, "short", 0, false, &p), 0);
	assert_string_equal(p->unit, "victim.service");
	key.start_ns += NSEC_PER_SEC;
	assert_int_equal(symbols_process(f->symbols, &key, 1ULL << 60, "short", 0, false, &p), 0);
	assert_string_equal(p->unit, "");
	assert_string_equal(p->cgroup, "/");
}

static void test_kernel_thread(void **state)
{
	struct fixture *f = *state;
	const struct symbols_process *p = NULL;
	struct symbols_process_key key = { .pid = 2, .exec_id = 0, .start_ns = 0 };

	assert_int_equal(symbols_process(f->symbols, &key, 0, "kthreadd", 0, true, &p), 0);
	assert_string_equal(p->comm, "kthreadd");
	assert_string_equal(p->exe, "");
	assert_true(p->kernel_thread);
}

static int dispatch_one(struct fixture *f)
{
	int r = 0;

	for (int tries = 0; tries < 500 && r == 0; tries++) {
		usleep(2000);
		r = symbols_dispatch(f->symbols);
	}
	return r;
}

static void test_parser_dies_meanwhile(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self);
	struct symbols_process_key key = key_of(a.pid);
	uint64_t address = a.addresses.known;

	kill(helper_parser_pid(f->helper), SIGSTOP);
	assert_int_equal(
		symbols_resolve(f->symbols, &key, NULL, 0, &address, 1, frames, &n_frames, &stack_id),
		-EAGAIN);
	/* the same question is not asked twice */
	assert_int_equal(
		symbols_resolve(f->symbols, &key, NULL, 0, &address, 1, frames, &n_frames, &stack_id),
		-EAGAIN);
	kill(helper_parser_pid(f->helper), SIGKILL);
	assert_int_equal(dispatch_one(f), 1);
	resolve(f, &key, NULL, 0, &address, 1);
	assert_string_equal(frames[0].display, "known_function");
}

static void test_poisonous_object(void **state)
{
	struct fixture *f = *state;
	CHILD a = spawn_copy(self);
	struct symbols_process_key key = key_of(a.pid);
	uint64_t address = a.addresses.known;
	struct symbols_status status;

	for (int i = 0; i < 2; i++) {
		kill(helper_parser_pid(f->helper), SIGSTOP);
		assert_int_equal(
			symbols_resolve(f->symbols, &key, NULL, 0, &address, 1, frames, &n_frames, &stack_id),
			-EAGAIN);
		kill(helper_parser_pid(f->helper), SIGKILL);
		assert_int_equal(dispatch_one(f), 1);
	}
	/* unnamed, and not pending for ever */
	assert_int_equal(
		symbols_resolve(f->symbols, &key, NULL, 0, &address, 1, frames, &n_frames, &stack_id), 0);
	assert_string_equal(frames[0].display, "[test_symbol]");
	symbols_get_status(f->symbols, &status);
	assert_int_equal(status.parser_errors, 1);
}

/* ---- kernel stacks ---- */

static void use_kernel(struct fixture *f)
{
	kernel_symbols_free(f->symbols->kernel);
	f->symbols->kernel = read_text(kallsyms);
}

static void test_plumbing_is_stripped(void **state)
{
	struct fixture *f = *state;
	const struct symbols_process_key key = { .pid = 1 };
	/* the same sleeping task: seen by our program at the switch (itself, bpf_trace_run4, the tracepoint,
	 * the scheduler), and walked from outside, where the kernel leaves the scheduler out */
	const uint64_t at_switch[] = { 0xffffffffc0300010, 0xffffffffc0300210, 0xffffffffc0300310,
				       0xffffffff81000310, 0xffffffff81000390, 0xffffffff81000120,
				       0xffffffff81000005 };
	const uint64_t walked[] = { 0xffffffff81000120, 0xffffffff81000005 };
	/* a program that was loaded after kallsyms was read */
	const uint64_t young[] = { 0xffffffffa0000010, 0xffffffffc0300210, 0xffffffffc0300310,
				   0xffffffff81000310, 0xffffffff81000120, 0xffffffff81000005 };
	const uint64_t fentry[] = { 0xffffffffc0300010, 0xffffffffc0300110, 0xffffffff81000120,
				    0xffffffff81000005 };
	uint64_t id;

	use_kernel(f);
	resolve(f, &key, walked, ELEMENTS_OF(walked), NULL, 0);
	assert_int_equal(n_frames, 2);
	assert_string_equal(frames[0].display, "do_work");
	assert_string_equal(frames[0].object, "[kernel]");
	assert_int_equal(frames[0].kind, FRAME_KERNEL);
	assert_string_equal(frames[1].display, "startup");
	id = stack_id;
	resolve(f, &key, at_switch, ELEMENTS_OF(at_switch), NULL, 0);
	assert_int_equal(n_frames, 2);
	assert_true(stack_id == id);
	resolve(f, &key, young, ELEMENTS_OF(young), NULL, 0);
	assert_true(stack_id == id);
	resolve(f, &key, fentry, ELEMENTS_OF(fentry), NULL, 0);
	assert_true(stack_id == id);
}

static void test_no_more_is_stripped(void **state)
{
	struct fixture *f = *state;
	const struct symbols_process_key key = { .pid = 1 };
	/* somebody else's program in the middle of a stack is part of what the kernel did */
	const uint64_t foreign[] = { 0xffffffff81000120, 0xffffffffc0300010, 0xffffffff81000005 };
	/* a sample of the scheduler at work is time spent there */
	const uint64_t on_cpu[] = { 0xffffffff81000310, 0xffffffff81000390, 0xffffffff81000120 };
	/* and so is one below another hook */
	const uint64_t hook[] = { 0xffffffffc0300010, 0xffffffffc0300110, 0xffffffff81000390,
				  0xffffffff81000120 };

	use_kernel(f);
	resolve(f, &key, foreign, 3, NULL, 0);
	assert_int_equal(n_frames, 3);
	assert_string_equal(frames[1].object, "[bpf]");
	resolve(f, &key, on_cpu, 3, NULL, 0);
	assert_int_equal(n_frames, 3);
	assert_string_equal(frames[0].display, "__schedule");
	resolve(f, &key, hook, 4, NULL, 0);
	assert_int_equal(n_frames, 2);
	assert_string_equal(frames[0].display, "schedule");
}

static void test_kernel_addresses_do_not_leak(void **state)
{
	struct fixture *f = *state;
	const struct symbols_process_key key = { .pid = 1 };
	const uint64_t stack[] = { 0xffffffffa0000010, 0xffffffffa0000020, 0xffffffff81000390 };

	use_kernel(f);
	resolve(f, &key, stack, 3, NULL, 0);
	assert_int_equal(n_frames, 2);
	assert_string_equal(frames[0].display, "[kernel]");
	assert_string_equal(frames[0].function, "");
	assert_string_equal(frames[1].display, "schedule");
}

static void test_bad_arguments(void **state)
{
	struct fixture *f = *state;
	struct symbols_process_key key = { .pid = 0 };
	const struct symbols_process *p = NULL;
	struct symbols *s;
	uint64_t stack[SYMBOLS_FRAMES_MAX + 1] = {};

	assert_int_equal(symbols_process(f->symbols, &key, 0, "", 0, false, &p), -EINVAL);
	assert_int_equal(symbols_resolve(f->symbols, &key, NULL, 0, stack, 1, frames, &n_frames, &stack_id),
			 -EINVAL);
	key.pid = 1;
	assert_int_equal(symbols_resolve(f->symbols, &key, NULL, 0, stack, SYMBOLS_FRAMES_MAX + 1, frames,
					 &n_frames, &stack_id),
			 -E2BIG);
	assert_int_equal(
		symbols_resolve(f->symbols, &key, stack, 100, stack, 100, frames, &n_frames, &stack_id),
		-E2BIG);
	assert_int_equal(symbols_new(&s, &(struct symbols_config){}, f->helper), -EINVAL);
	resolve(f, &key, NULL, 0, NULL, 0);
	assert_int_equal(n_frames, 0);
}

static void test_refresh(void **state)
{
	struct fixture *f = *state;
	uint64_t read_ns = f->symbols->kernel_read_ns;

	assert_int_equal(symbols_refresh(f->symbols), 0);
	assert_true(f->symbols->kernel_read_ns == read_ns); /* nothing changed, nothing was read */
	f->symbols->modules_hash++;
	assert_int_equal(symbols_refresh(f->symbols), 0);
	assert_true(f->symbols->kernel_read_ns > read_ns);
}

#define WITH_SPLIT(test) cmocka_unit_test_setup_teardown(test, setup, teardown_split)
#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unit_from_cgroup),
		cmocka_unit_test(test_overlong_unit),
		cmocka_unit_test(test_cgroup_from_proc),
		cmocka_unit_test(test_mapping_parse),
		cmocka_unit_test(test_mappings_put),
		cmocka_unit_test(test_mapping_log_knows_the_past),
		cmocka_unit_test(test_mapping_log_inherits),
		cmocka_unit_test(test_mapping_log_is_bounded),
		cmocka_unit_test(test_mappings_find),
		cmocka_unit_test(test_mountinfo),
		cmocka_unit_test(test_mappings_are_bounded),
		cmocka_unit_test(test_stat_parse),
		cmocka_unit_test(test_sanitize),
		cmocka_unit_test(test_status_of_jit),
		cmocka_unit_test(test_kernel_names),
		cmocka_unit_test(test_kernel_hidden_or_damaged),
		cmocka_unit_test(test_kernel_real),
		WITH_FIXTURE(test_aslr_independence),
		WITH_FIXTURE(test_known_functions_ask_nobody),
		WITH_FIXTURE(test_return_address_behind_the_function),
		WITH_FIXTURE(test_recursion_is_kept),
		WITH_FIXTURE(test_vdso),
		WITH_FIXTURE(test_perf_map),
		WITH_FIXTURE(test_perf_map_of_others),
		WITH_FIXTURE(test_stripped),
		WITH_FIXTURE(test_deleted_binary),
		WITH_FIXTURE(test_replaced_binary),
		WITH_FIXTURE(test_fifo_at_the_path),
		WITH_FIXTURE(test_mount_namespace),
		WITH_FIXTURE(test_chroot),
		WITH_SPLIT(test_debug_file_by_link),
		WITH_SPLIT(test_debug_file_by_checksum),
		WITH_SPLIT(test_debug_file_by_build_id),
		WITH_SPLIT(test_wrong_debug_file),
		WITH_FIXTURE(test_process),
		WITH_FIXTURE(test_dead_process),
		WITH_FIXTURE(test_reused_pid),
		WITH_FIXTURE(test_superseded_image),
		WITH_FIXTURE(test_other_name),
		WITH_FIXTURE(test_burst),
		WITH_FIXTURE(test_caches_are_bounded),
		WITH_FIXTURE(test_cgroup_by_id),
		WITH_FIXTURE(test_kernel_thread),
		WITH_FIXTURE(test_parser_dies_meanwhile),
		WITH_FIXTURE(test_poisonous_object),
		WITH_FIXTURE(test_plumbing_is_stripped),
		WITH_FIXTURE(test_no_more_is_stripped),
		WITH_FIXTURE(test_kernel_addresses_do_not_leak),
		WITH_FIXTURE(test_bad_arguments),
		WITH_FIXTURE(test_refresh),
	};

	if (argc > 2 && streq(argv[1], "--child"))
		child_main(atoi(argv[2]), argc > 3 ? argv[3] : NULL);
	log_setup("test_symbol", LOG_LEVEL_ERROR);
	if (!realpath("/proc/self/exe", self))
		return 1;
	return cmocka_run_group_tests_name("symbol", tests, NULL, NULL);
}
