/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loading tables, between scripted rooms: the programs' maps are plain memory here, and are read as the programs do. */
#include "space.c"
#include "tables.c"
#include "unwind.c"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/wait.h>

#include <cmocka.h>

#define MIB (1u << 20)
#define BASE_A 0x550000000000
#define BASE_B 0x560000000000
/* Who has ended is forgotten. */
#define PID_A getpid()
#define PID_B getppid()

/* ---- the scripted rooms ---- */

static struct stackd_unwind_tables *shared;
static struct stackd_unwind_slab *slabs[STACKD_UNWIND_SLABS_MAX];
static struct known {
	struct stackd_unwind_key key;
	struct stackd_unwind_process process;
} known[64];
static size_t n_known;
static struct stackd_unwind_key wanted_keys[16];
static struct stackd_unwind_wanted wanted[16];
static size_t n_wanted;
static bool settled;

struct file {
	uint64_t key;
	uint32_t n_pages, rows_a_page; /* 0 pages: it has no table */
};

static struct map {
	pid_t pid;
	struct symbols_mapping mapping;
} maps[64];
static size_t n_maps;
static struct file files[16];
static size_t n_files;
static struct asked {
	uint64_t request, object;
	int table_fd;
} asked[16];
static size_t n_asked;
static uint64_t next_request;

struct stackd_unwind_tables *collect_unwind_tables(struct collect *c _unused_)
{
	return shared;
}

int collect_unwind_slab(struct collect *c _unused_, uint32_t index, struct stackd_unwind_slab **ret)
{
	if (!slabs[index])
		slabs[index] = calloc(1, sizeof(*slabs[index]));
	*ret = slabs[index];
	return 0;
}

void collect_unwind_slab_done(struct stackd_unwind_slab *slab _unused_)
{
}

int collect_unwind_set_process(struct collect *c _unused_, const struct stackd_unwind_key *key, const struct stackd_unwind_process *process)
{
	size_t i = 0;

	while (i < n_known && memcmp(&known[i].key, key, sizeof(*key)) != 0)
		i++;
	if (process) {
		known[i] = (struct known) { *key, *process };
		n_known = MAX(n_known, i + 1);
	} else if (i < n_known)
		known[i] = known[--n_known];
	return 0;
}

size_t collect_unwind_wanted(struct collect *c _unused_, struct stackd_unwind_key *keys, struct stackd_unwind_wanted *ret, size_t max _unused_)
{
	size_t n = n_wanted;

	memcpy(keys, wanted_keys, n * sizeof(*keys));
	memcpy(ret, wanted, n * sizeof(*ret));
	n_wanted = 0;
	return n;
}

bool collect_unwind_settled(const struct collect *c _unused_)
{
	return settled;
}

int symbols_mappings(struct symbols *s _unused_, const struct symbols_process_key *key, uint64_t address _unused_, struct symbols_mapping *ret, size_t max _unused_)
{
	int n = 0;

	for (size_t i = 0; i < n_maps; i++)
		if (maps[i].pid == key->pid)
			ret[n++] = maps[i].mapping;
	return n ?: -ESRCH;
}

int symbols_open_mapping(struct symbols *s _unused_, const struct symbols_process_key *key _unused_, uint64_t start _unused_)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

int parser_ask_unwind(struct helper *h _unused_, uint64_t object, int fd _unused_, int table_fd, uint64_t max_bytes _unused_, uint64_t *ret)
{
	*ret = ++next_request;
	asked[n_asked++] = (struct asked) { *ret, object, table_fd };
	return 0;
}

/* The parser's part: each page has rows_a_page rows at even distances; the rule of a row has its index as the offset. */
static void write_file_table(const struct file *f, int table_fd)
{
	struct unwind_table_header h = {
		.magic = UNWIND_TABLE_MAGIC, .version = UNWIND_TABLE_VERSION, .n_pages = f->n_pages, .n_rules = 9,
		.n_rows = f->n_pages * f->rows_a_page, .n_segments = 1, .first_address = 0x10000,
	};
	struct unwind_table_segment segment = { .offset = 0x1000, .size = f->n_pages * 0x10000ULL, .address = 0x11000 };
	uint32_t distance = f->rows_a_page ? 0x10000 / f->rows_a_page : 0;

	assert_int_equal(write(table_fd, &h, sizeof(h)), sizeof(h));
	assert_int_equal(write(table_fd, &segment, sizeof(segment)), sizeof(segment));
	for (uint32_t i = 0; i < f->n_pages; i++) {
		struct unwind_table_page page = { i * f->rows_a_page, f->rows_a_page };

		assert_int_equal(write(table_fd, &page, sizeof(page)), sizeof(page));
	}
	for (int i = 0; i < 9; i++) {
		struct unwind_rule rule = { .cfa = i ? UNWIND_CFA_RSP : UNWIND_CFA_NONE, .cfa_offset = i ? 8 * i + (int32_t) (f->key % 2) : 0 };

		assert_int_equal(write(table_fd, &rule, sizeof(rule)), sizeof(rule));
	}
	for (uint32_t i = 0; i < f->n_pages; i++)
		for (uint32_t j = 0; j < f->rows_a_page; j++) {
			struct unwind_row row = { (uint16_t) (j * distance), (uint16_t) ((i + j) % 9) };

			assert_int_equal(write(table_fd, &row, sizeof(row)), sizeof(row));
		}
}

int unwind_table_open(int fd, const struct unwind_table_header **ret, size_t *ret_size)
{
	off_t size = lseek(fd, 0, SEEK_END);
	void *p = mmap(NULL, (size_t) size, PROT_READ, MAP_PRIVATE, fd, 0);

	assert_true(p != MAP_FAILED);
	*ret = p;
	*ret_size = (size_t) size;
	return 0;
}

static void answer_all(struct unwind *u)
{
	while (n_asked > 0) {
		struct asked a = asked[--n_asked];
		struct parser_reply reply = { .kind = PARSER_UNWIND, .request = a.request, .error = -ENODATA };

		for (size_t i = 0; i < n_files; i++)
			if (files[i].key == a.object && files[i].n_pages > 0) {
				write_file_table(&files[i], a.table_fd);
				reply.error = 0;
			}
		unwind_take(u, &reply);
	}
}

/* ---- what the programs would find ---- */

static const struct stackd_unwind_mapping *find_mapping_of(pid_t pid, uint32_t exec_id, uint64_t address)
{
	for (size_t i = 0; i < n_known; i++) {
		const struct stackd_unwind_process *p = &known[i].process;

		if (known[i].key.tgid != (uint32_t) pid || known[i].key.exec_id != exec_id)
			continue;
		for (uint32_t j = p->first_mapping; j < p->first_mapping + p->n_mappings; j++)
			if (address >= shared->mappings[j].start && address < shared->mappings[j].end)
				return &shared->mappings[j];
	}
	return NULL;
}

/* The offset of the rule; -1: the process is not known, or the address in no mapping; -2: no table; -3: there will be none. */
static int find_offset(pid_t pid, uint32_t exec_id, uint64_t address)
{
	const struct stackd_unwind_mapping *m = find_mapping_of(pid, exec_id, address);
	const struct stackd_unwind_page *page;
	const struct unwind_row *rows;
	uint32_t at = 0;

	if (!m)
		return -1;
	if (m->object >= STACKD_UNWIND_OBJECTS)
		return m->object == STACKD_UNWIND_NEVER ? -3 : -2;
	shared->used[m->object] = shared->tick;
	page = &shared->pages[m->first_page + (address - m->base) / 0x10000];
	rows = slabs[page->first_row / STACKD_UNWIND_SLAB_ROWS]->rows + page->first_row % STACKD_UNWIND_SLAB_ROWS;
	while (at + 1 < page->n_rows && rows[at + 1].address <= (address - m->base) % 0x10000)
		at++;
	return shared->rules[rows[at].rule].cfa_offset;
}

static int expected_offset(const struct file *f, uint64_t offset)
{
	/* the segment's first byte is at 0x1000 of the first page */
	uint64_t address = 0x1000 + offset;
	int rule = (int) ((address / 0x10000 + address % 0x10000 / (0x10000 / f->rows_a_page)) % 9);

	return rule ? 8 * rule + (int) (f->key % 2) : 0;
}

static void want(pid_t pid, uint32_t exec_id, uint64_t address)
{
	wanted_keys[n_wanted] = (struct stackd_unwind_key) { (uint32_t) pid, exec_id };
	wanted[n_wanted++] = (struct stackd_unwind_wanted) { .start_ns = 1000, .address = address, .count = 1 };
}

static void map_file(pid_t pid, uint64_t start, const struct file *f)
{
	maps[n_maps++] = (struct map) { pid, { .start = start, .end = start + f->n_pages * 0x10000ULL - 0x1000, .offset = 0x1000, .object = f->key } };
}

static const struct file *add_file(uint64_t key, uint32_t n_pages, uint32_t rows_a_page)
{
	files[n_files] = (struct file) { key, n_pages, rows_a_page };
	return &files[n_files++];
}

static void tick_and_answer(struct unwind *u)
{
	unwind_tick(u);
	answer_all(u);
}

static void ticks(struct unwind *u, int n)
{
	while (n-- > 0)
		tick_and_answer(u);
}

static int set_up_size(void **state, uint64_t size)
{
	const struct unwind_config config = { .table_size = size };

	shared = calloc(1, sizeof(*shared));
	n_known = n_wanted = n_maps = n_files = n_asked = 0;
	settled = true;
	return unwind_new((struct unwind **) state, &config, NULL, NULL, NULL);
}

static int set_up(void **state)
{
	return set_up_size(state, 4 * MIB);
}

static int set_up_small(void **state)
{
	return set_up_size(state, MIB);
}

static int tear_down(void **state)
{
	unwind_free(*state);
	free(shared);
	for (size_t i = 0; i < ELEMENTS_OF(slabs); i++) {
		free(slabs[i]);
		slabs[i] = NULL;
	}
	return 0;
}

static struct unwind_status status_of(const struct unwind *u)
{
	struct unwind_status s;

	unwind_get_status(u, &s);
	return s;
}

/* ---- tests ---- */

/* Against a plain array of bytes. */
static void test_space(void **state _unused_)
{
	enum { N = 1000, RUNS = 200 };
	static bool taken[N];
	struct { uint32_t first, n; } runs[RUNS] = { 0 };
	struct space s;

	assert_int_equal(space_init(&s, N, 100), 0);
	srand(1);
	memset(taken, 0, sizeof(taken));
	for (int round = 0; round < 20000; round++) {
		uint32_t i = (uint32_t) rand() % RUNS, n = 1 + (uint32_t) rand() % 30;
		int64_t first;

		if (runs[i].n > 0) {
			space_give(&s, runs[i].first, runs[i].n);
			memset(taken + runs[i].first, 0, runs[i].n);
			runs[i].n = 0;
			continue;
		}
		first = space_take(&s, n);
		if (first < 0) {
			for (uint32_t at = 0; at + n <= N; at++) /* there is indeed no room */
				assert_true(at / 100 != (at + n - 1) / 100 || memchr(taken + at, 1, n));
			continue;
		}
		assert_true(first / 100 == (first + n - 1) / 100);
		for (uint32_t at = 0; at < n; at++)
			assert_false(taken[first + at]);
		memset(taken + first, 1, n);
		runs[i].first = (uint32_t) first;
		runs[i].n = n;
	}
	space_done(&s);
}

static void test_shared_table(void **state)
{
	struct unwind *u = *state;
	const struct file *f = add_file(70, 3, 64);

	map_file(PID_A, BASE_A, f);
	map_file(PID_B, BASE_B, f);
	want(PID_A, 1, BASE_A);
	want(PID_B, 1, BASE_B);
	unwind_tick(u);
	assert_int_equal(find_offset(PID_A, 1, BASE_A), -2);
	assert_int_equal(n_asked, 1);
	answer_all(u);
	for (uint64_t offset = 0; offset < 3 * 0x10000 - 0x1000; offset += 0x77) {
		assert_int_equal(find_offset(PID_A, 1, BASE_A + offset), expected_offset(f, offset));
		assert_int_equal(find_offset(PID_B, 1, BASE_B + offset), expected_offset(f, offset));
	}
	assert_int_equal(status_of(u).objects, 1);
	assert_int_equal(status_of(u).rows, 3 * 64);
}

/* Rules are shared, and go with the last table that has them. */
static void test_rules(void **state)
{
	struct unwind *u = *state;
	const struct file *even = add_file(70, 1, 64), *even2 = add_file(72, 1, 64), *odd = add_file(71, 1, 64);

	map_file(PID_A, BASE_A, even);
	map_file(PID_A, BASE_A + 0x100000, even2);
	map_file(PID_A, BASE_A + 0x200000, odd);
	want(PID_A, 1, BASE_A);
	ticks(u, 2);
	assert_int_equal(status_of(u).objects, 3);
	assert_int_equal(status_of(u).rules, 2 + 8 + 8);
}

static void test_no_table(void **state)
{
	struct unwind *u = *state;
	const struct file with = { 70, 1, 64 };

	map_file(PID_A, BASE_A, &with); /* the parser knows of no such table */
	want(PID_A, 1, BASE_A);
	ticks(u, 1);
	assert_int_equal(find_offset(PID_A, 1, BASE_A), -3);
	assert_int_equal(status_of(u).failed, 1);
	want(PID_A, 1, BASE_A);
	unwind_tick(u);
	assert_int_equal(n_asked, 0);
}

static void test_parser_died(void **state)
{
	struct unwind *u = *state;
	const struct file *f = add_file(70, 1, 64);

	map_file(PID_A, BASE_A, f);
	want(PID_A, 1, BASE_A);
	unwind_tick(u);
	unwind_take(u, &(struct parser_reply) { .kind = PARSER_UNWIND, .request = asked[--n_asked].request, .error = -EPIPE });
	assert_int_equal(find_offset(PID_A, 1, BASE_A), -2);
	for (int i = 0; i < RETRY_TICKS; i++) {
		want(PID_A, 1, BASE_A);
		assert_int_equal(n_asked, 0);
		unwind_tick(u);
	}
	answer_all(u);
	assert_int_equal(find_offset(PID_A, 1, BASE_A), expected_offset(f, 0));
}

/* The old run may still be read until the programs have been seen outside of it. */
static void test_new_mapping(void **state)
{
	struct unwind *u = *state;
	const struct file *f = add_file(70, 1, 64), *g = add_file(71, 1, 64);
	uint32_t used;

	map_file(PID_A, BASE_A, f);
	want(PID_A, 1, BASE_A);
	ticks(u, 2);
	used = status_of(u).mappings;
	map_file(PID_A, BASE_A + 0x100000, g);
	want(PID_A, 1, BASE_A + 0x100000);
	settled = false;
	ticks(u, 1);
	assert_int_equal(find_offset(PID_A, 1, BASE_A + 0x100000), expected_offset(g, 0));
	assert_true(status_of(u).mappings > used + 1);
	ticks(u, 1);
	assert_true(status_of(u).mappings > used + 1);
	settled = true;
	ticks(u, 1);
	assert_int_equal(status_of(u).mappings, used + 1);
}

static void test_exec(void **state)
{
	struct unwind *u = *state;
	const struct file *f = add_file(70, 1, 64);

	map_file(PID_A, BASE_A, f);
	want(PID_A, 1, BASE_A);
	ticks(u, 1);
	want(PID_A, 2, BASE_A);
	want(PID_A, 1, BASE_A);
	ticks(u, 1);
	assert_int_equal(find_offset(PID_A, 1, BASE_A), -1);
	assert_int_equal(find_offset(PID_A, 2, BASE_A), expected_offset(f, 0));
	assert_int_equal(status_of(u).processes, 1);
}

/* Told of a process before the programs have come to it. */
static void test_told_early(void **state)
{
	struct unwind *u = *state;
	const struct file *f = add_file(70, 1, 64);

	map_file(PID_A, BASE_A, f);
	for (int i = 0; i < 3; i++)
		unwind_process_changed(u, &(struct symbols_process_key) { PID_A, 1, 1000 });
	ticks(u, 1);
	assert_int_equal(find_offset(PID_A, 1, BASE_A), expected_offset(f, 0));
	assert_int_equal(status_of(u).processes, 1);
}

static void test_end(void **state)
{
	struct unwind *u = *state;
	const struct file *f = add_file(70, 1, 64);
	pid_t gone = fork();

	if (gone == 0)
		_exit(0);
	waitpid(gone, NULL, 0);
	map_file(gone, BASE_A, f);
	want(gone, 1, BASE_A);
	ticks(u, STACKD_UNWIND_PROCESSES / SWEEP_PROCESSES + 2);
	assert_int_equal(status_of(u).processes, 0);
	assert_int_equal(status_of(u).mappings, 0);
	assert_int_equal(n_known, 0);
}

/* 1 MiB holds one of these tables and not two. */
static void test_eviction(void **state)
{
	struct unwind *u = *state;
	const struct file *f = add_file(70, 10, 16384), *g = add_file(71, 10, 16384);

	map_file(PID_A, BASE_A, f);
	map_file(PID_B, BASE_B, g);
	want(PID_A, 1, BASE_A);
	ticks(u, 2);
	assert_int_equal(find_offset(PID_A, 1, BASE_A), expected_offset(f, 0));
	want(PID_B, 1, BASE_B);
	ticks(u, 2);
	assert_int_equal(find_offset(PID_B, 1, BASE_B), -2); /* the first is in use */
	assert_int_equal(status_of(u).refused, 1);
	assert_int_equal(find_offset(PID_A, 1, BASE_A + 0x50000), expected_offset(f, 0x50000));
	ticks(u, RETRY_TICKS);
	want(PID_B, 1, BASE_B);
	settled = false;
	ticks(u, 2);
	assert_int_equal(find_offset(PID_A, 1, BASE_A), -2);
	assert_int_equal(find_offset(PID_B, 1, BASE_B), -2); /* the place is not free yet */
	settled = true;
	ticks(u, 1);
	for (uint64_t offset = 0; offset < 10 * 0x10000 - 0x1000; offset += 0x777)
		assert_int_equal(find_offset(PID_B, 1, BASE_B + offset), expected_offset(g, offset));
	assert_int_equal(status_of(u).evictions, 1);
	assert_int_equal(status_of(u).objects, 1);
	assert_true(status_of(u).bytes <= MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_space),
		cmocka_unit_test_setup_teardown(test_shared_table, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_rules, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_table, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_parser_died, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_new_mapping, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_exec, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_told_early, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_eviction, set_up_small, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
