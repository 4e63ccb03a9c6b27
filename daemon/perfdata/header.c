/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What comes before the records, and the features behind them. */
#include "internal.h"

/* A number, so that it tells the byte order, too. */
static const char magic[8] = "PERFILE2", magic_swapped[8] = "2ELIFREP", magic_old[8] = "PERFFILE";

#define HEADER_SIZE 104
#define PIPE_HEADER_SIZE 16
#define ATTR_SIZE_MIN PERF_ATTR_SIZE_VER0
#define ATTR_SIZE_MAX 4096
/* Of a feature that is read as a whole. */
#define FEATURE_SIZE_MAX (64U << 10)

enum feature { FEATURE_TRACING_DATA = 1, FEATURE_BUILD_ID = 2, FEATURE_HOSTNAME = 3, FEATURE_OS_RELEASE = 4, FEATURE_ARCH = 6, FEATURE_NR_CPUS = 7, FEATURE_EVENT_DESC = 12,
	FEATURE_CLOCK_DATA = 29, FEATURES_MAX = 256 };

struct section {
	uint64_t offset, size;
};

static bool take_section(struct cursor *c, struct section *ret)
{
	return cursor_u64(c, &ret->offset) && cursor_u64(c, &ret->size);
}

static struct cursor cursor_of(const struct perfdata *p, const void *bytes, size_t size)
{
	return (struct cursor){ bytes, (const uint8_t *)bytes + size, p->swapped };
}

bool perfdata_is_magic(const void *bytes)
{
	return memcmp(bytes, magic, sizeof(magic)) == 0 || memcmp(bytes, magic_swapped, sizeof(magic)) == 0 ||
		memcmp(bytes, magic_old, sizeof(magic)) == 0;
}

int perfdata_damaged(struct perfdata_error *error, uint64_t offset, const char *format, ...)
{
	va_list ap;

	error->offset = offset;
	va_start(ap, format);
	vsnprintf(error->what, sizeof(error->what), format, ap);
	va_end(ap);
	return -EBADMSG;
}

/* ---- events ---- */

static uint8_t reverse_bits(uint8_t b)
{
	uint8_t reversed = 0;

	for (unsigned i = 0; i < 8; i++)
		reversed |= (uint8_t)((b >> i & 1) << (7 - i));
	return reversed;
}

/* Names as perf gives them, for files that have lost theirs. */
static const struct {
	uint32_t type;
	uint64_t config;
	const char *name;
} known_events[] = {
	{ PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, "cpu-clock" },
	{ PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, "task-clock" },
	{ PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS, "page-faults" },
	{ PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS_MIN, "minor-faults" },
	{ PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS_MAJ, "major-faults" },
	{ PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, "cycles" },
	{ PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS, "instructions" },
};

static void name_event(struct perfdata_event *e, const struct perf_event_attr *a, size_t index)
{
	snprintf(e->name, sizeof(e->name), "event %zu", index);
	for (size_t i = 0; i < ELEMENTS_OF(known_events); i++)
		if (a->type == known_events[i].type && a->config == known_events[i].config)
			copy_string(e->name, sizeof(e->name), known_events[i].name);
}

/* What header_add_event() reads of it. Bit-fields begin at a byte's highest bit there, and at its lowest here. */
static void swap_attributes(struct perf_event_attr *a)
{
	uint8_t *flags = (uint8_t *)a + offsetof(struct perf_event_attr, read_format) + sizeof(a->read_format);

	a->type = __builtin_bswap32(a->type);
	a->config = __builtin_bswap64(a->config);
	a->sample_freq = __builtin_bswap64(a->sample_freq);
	a->sample_type = __builtin_bswap64(a->sample_type);
	a->read_format = __builtin_bswap64(a->read_format);
	a->branch_sample_type = __builtin_bswap64(a->branch_sample_type);
	a->sample_regs_user = __builtin_bswap64(a->sample_regs_user);
	a->sample_regs_intr = __builtin_bswap64(a->sample_regs_intr);
	for (size_t i = 0; i < sizeof(uint64_t); i++)
		flags[i] = reverse_bits(flags[i]);
}

int header_add_event(struct perfdata *p, const uint8_t *attr, size_t size, uint64_t offset, struct perfdata_error *error)
{
	struct perf_event_attr a = {};
	struct perfdata_event *e = &p->events[p->n_events];

	if (p->n_events == PERFDATA_EVENTS_MAX)
		return perfdata_damaged(error, offset, "more than %d events", PERFDATA_EVENTS_MAX);
	memcpy(&a, attr, MIN(size, sizeof(a)));
	if (p->swapped)
		swap_attributes(&a);
	*e = (struct perfdata_event){
		.hz = a.freq ? (uint32_t)MIN((uint64_t)a.sample_freq, (uint64_t)UINT32_MAX) : 0,
		.period = a.freq || a.sample_period == 0 ? 1 : a.sample_period,
		.sample_type = a.sample_type,
		.read_format = a.read_format,
		.branch_sample_type = a.branch_sample_type,
		.sample_regs_user = a.sample_regs_user,
		.sample_regs_intr = a.sample_regs_intr,
		.sample_id_all = a.sample_id_all,
	};
	name_event(e, &a, p->n_events);
	p->n_events++;
	return 0;
}

int header_add_id(struct perfdata *p, uint64_t id, size_t event, uint64_t offset, struct perfdata_error *error)
{
	if (map64_put(p->ids, id, event) < 0)
		return perfdata_damaged(error, offset, "more than %d ids of events", PERFDATA_IDS_MAX);
	return 0;
}

void header_name_event(struct perfdata *p, uint64_t id, const char *name)
{
	uint64_t index;

	if (map64_get(p->ids, id, &index))
		copy_string(p->events[index].name, sizeof(p->events[index].name), name);
}

static int read_ids(struct perfdata *p, struct section s, size_t event, struct perfdata_error *error)
{
	int r = source_seek(p->source, s.offset);

	if (r < 0)
		return perfdata_damaged(error, s.offset, "the event's ids lie outside of the file");
	if (s.size / sizeof(uint64_t) > PERFDATA_IDS_MAX)
		return perfdata_damaged(error, s.offset, "more than %d ids of events", PERFDATA_IDS_MAX);
	for (uint64_t n = s.size / sizeof(uint64_t); n > 0; n--) {
		struct cursor c;
		uint64_t id;

		if (source_need(p->source, sizeof(id)) < (ssize_t)sizeof(id))
			return perfdata_damaged(error, p->source->offset, "the file ends within the ids of its events");
		c = cursor_of(p, source_at(p->source), sizeof(id));
		(void)cursor_u64(&c, &id);
		r = header_add_id(p, id, event, p->source->offset, error);
		if (r < 0)
			return r;
		(void)source_skip(p->source, sizeof(id));
	}
	return 0;
}

static int read_events(struct perfdata *p, struct section s, uint64_t entry_size, struct perfdata_error *error)
{
	if (entry_size < ATTR_SIZE_MIN + sizeof(struct section) || entry_size > ATTR_SIZE_MAX)
		return perfdata_damaged(error, 16, "the attributes of an event can't have %llu bytes", (unsigned long long)entry_size);
	if (s.size == 0 || s.size % entry_size != 0 || s.size / entry_size > PERFDATA_EVENTS_MAX)
		return perfdata_damaged(error, 24, "%llu bytes are not the attributes of 1 to %d events", (unsigned long long)s.size,
					PERFDATA_EVENTS_MAX);
	for (uint64_t i = 0; i < s.size / entry_size; i++) {
		uint64_t offset = s.offset + i * entry_size;
		struct section ids = {};
		struct cursor c;
		uint8_t entry[ATTR_SIZE_MAX];
		int r = source_seek(p->source, offset);

		if (r < 0 || source_need(p->source, entry_size) < (ssize_t)entry_size)
			return perfdata_damaged(error, offset, "the file ends before the attributes of event %llu", (unsigned long long)i);
		memcpy(entry, source_at(p->source), entry_size);
		c = cursor_of(p, entry + entry_size - sizeof(ids), sizeof(ids));
		(void)take_section(&c, &ids);
		r = header_add_event(p, entry, entry_size - sizeof(ids), offset, error);
		if (r >= 0)
			r = read_ids(p, ids, i, error);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- features ---- */

static uint64_t hash_path(const char *path)
{
	return hash64_string(path, 0);
}

int header_add_build_id(struct perfdata *p, const uint8_t *record, size_t size)
{
	struct perfdata_build_id id = {};
	const char *path = record_build_id(record, size, p->swapped, &id);

	if (!path)
		return -EBADMSG;
	if (p->n_build_ids == PERFDATA_BUILD_IDS_MAX)
		return 0; /* the rest is looked for by path only */
	if (p->n_build_ids == p->max_build_ids) {
		size_t max = p->max_build_ids ? 2 * p->max_build_ids : 64;
		struct perfdata_build_id *more = reallocarray(p->build_ids, max, sizeof(*more));

		if (!more)
			return -ENOMEM;
		p->build_ids = more;
		p->max_build_ids = max;
	}
	p->build_ids[p->n_build_ids] = id;
	return map64_put(p->build_id_index, hash_path(path), p->n_build_ids++);
}

struct perfdata_build_id perfdata_build_id(const struct perfdata *p, const char *path)
{
	uint64_t index;

	return map64_get(p->build_id_index, hash_path(path), &index) ? p->build_ids[index] : (struct perfdata_build_id){};
}

static int read_build_ids(struct perfdata *p, struct section s)
{
	while (s.size >= sizeof(struct perf_event_header)) {
		struct perf_event_header h;
		int r;

		if (source_need(p->source, sizeof(h)) < (ssize_t)sizeof(h))
			return -EBADMSG;
		h = record_header(source_at(p->source), p->swapped);
		if (h.size < sizeof(h) || h.size > s.size || source_need(p->source, h.size) < h.size)
			return -EBADMSG;
		r = header_add_build_id(p, source_at(p->source), h.size);
		if (r < 0)
			return r;
		(void)source_skip(p->source, h.size);
		s.size -= h.size;
	}
	return 0;
}

static const char *take_string(struct cursor *c)
{
	uint32_t size;
	const char *s = NULL;
	struct cursor inner;

	if (!cursor_u32(c, &size) || size > cursor_left(c))
		return NULL;
	inner = (struct cursor){ c->at, c->at + size, c->swapped };
	s = cursor_string(&inner);
	c->at += size;
	return s;
}

/* n, size of attributes, then for each event: attributes, n of ids, name, ids. In the order of the events. */
static int take_names(struct perfdata *p, struct cursor c)
{
	uint32_t n, size, n_ids;

	if (!cursor_u32(&c, &n) || !cursor_u32(&c, &size))
		return -EBADMSG;
	for (size_t i = 0; i < MIN((size_t)n, p->n_events); i++) {
		const char *name;

		if (!cursor_skip(&c, size) || !cursor_u32(&c, &n_ids) || !(name = take_string(&c)) ||
		    !cursor_skip(&c, (uint64_t)n_ids * sizeof(uint64_t)))
			return -EBADMSG;
		copy_string(p->events[i].name, sizeof(p->events[i].name), name);
	}
	return 0;
}

/* Version, number of the clock, then what realtime and that clock were in one moment. */
static int take_clock(struct perfdata *p, struct cursor c)
{
	uint64_t realtime_ns, clock_ns;

	if (!cursor_skip(&c, 2 * sizeof(uint32_t)) || !cursor_u64(&c, &realtime_ns) || !cursor_u64(&c, &clock_ns))
		return -EBADMSG;
	p->realtime_ahead_ns = (int64_t)(realtime_ns - clock_ns);
	p->knows_realtime = true;
	return 0;
}

int header_add_feature(struct perfdata *p, uint64_t feature, struct cursor c)
{
	const char *s;

	if (feature == FEATURE_CLOCK_DATA)
		return take_clock(p, c);
	if (feature == FEATURE_EVENT_DESC)
		return take_names(p, c);
	if (feature == FEATURE_NR_CPUS) /* those that there are, those online */
		return cursor_skip(&c, sizeof(uint32_t)) && cursor_u32(&c, &p->cpus) ? 0 : -EBADMSG;
	if (feature != FEATURE_OS_RELEASE && feature != FEATURE_ARCH)
		return 0;
	s = take_string(&c);
	if (!s)
		return -EBADMSG;
	if (feature == FEATURE_ARCH) {
		p->is_other_machine = !streq(s, "x86_64");
		return 0;
	}
	copy_string(p->kernel_release, sizeof(p->kernel_release), s);
	return 0;
}

static int read_feature(struct perfdata *p, enum feature feature, struct section s)
{
	size_t size = MIN(s.size, (uint64_t)(feature == FEATURE_TRACING_DATA ? SOURCE_BUFFER : FEATURE_SIZE_MAX));

	if (source_seek(p->source, s.offset) < 0)
		return -EBADMSG;
	if (feature == FEATURE_BUILD_ID)
		return read_build_ids(p, s);
	if (source_need(p->source, size) < (ssize_t)size)
		return -EBADMSG;
	if (feature == FEATURE_TRACING_DATA) {
		sched_read_formats(&p->sched, (const char *)source_at(p->source), size);
		return 0;
	}
	return header_add_feature(p, feature, cursor_of(p, source_at(p->source), size));
}

static bool is_wanted(unsigned feature)
{
	return feature == FEATURE_TRACING_DATA || feature == FEATURE_BUILD_ID || feature == FEATURE_OS_RELEASE || feature == FEATURE_ARCH || feature == FEATURE_NR_CPUS ||
		feature == FEATURE_EVENT_DESC || feature == FEATURE_CLOCK_DATA;
}

static bool has_feature(const struct perfdata *p, enum feature feature)
{
	return p->features[feature / 64] >> feature % 64 & 1;
}

/* Behind the data there is a section for each feature, in the order of the bits. What is damaged there takes names and build IDs
 * only: the records are given all the same, and the damage is told when they have ended. */
static int read_features(struct perfdata *p)
{
	uint64_t at = p->data_end;
	off_t end = lseek(p->source->fd, 0, SEEK_END);

	for (unsigned i = 0; i < FEATURES_MAX; i++) {
		struct cursor c;
		struct section s;
		int r;

		if (!has_feature(p, i))
			continue;
		if (source_seek(p->source, at) < 0 || source_need(p->source, sizeof(s)) < (ssize_t)sizeof(s))
			return perfdata_damaged(&p->features_error, at, "the file ends before the place of its feature %u; build IDs may be missing", i);
		c = cursor_of(p, source_at(p->source), sizeof(s));
		(void)take_section(&c, &s);
		at += sizeof(s);
		if (end >= 0 && (s.offset > (uint64_t)end || s.size > (uint64_t)end - s.offset))
			return perfdata_damaged(&p->features_error, s.offset, "the file ends before the end of its feature %u; build IDs may be missing", i);
		if (!is_wanted(i))
			continue;
		r = read_feature(p, i, s);
		if (r == -EBADMSG)
			return perfdata_damaged(&p->features_error, s.offset, "the file's feature %u is damaged; build IDs may be missing", i);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the header ---- */

/* The bits are an array of longs of the machine that recorded. In the other byte order it matters how long those are, which the file doesn't
 * say: perf always writes the host's name, whose bit is in the right place only if its longs are taken for what they were. */
static void take_feature_bits(struct perfdata *p, struct cursor c)
{
	uint64_t of_halves[ELEMENTS_OF(p->features)] = {};
	struct cursor halves = c;
	uint32_t half;

	for (size_t i = 0; i < ELEMENTS_OF(p->features); i++)
		(void)cursor_u64(&c, &p->features[i]);
	for (size_t i = 0; i < 2 * ELEMENTS_OF(of_halves) && cursor_u32(&halves, &half); i++)
		of_halves[i / 2] |= (uint64_t)half << 32 * (i % 2);
	if (p->swapped && !has_feature(p, FEATURE_HOSTNAME) && of_halves[0] >> FEATURE_HOSTNAME & 1)
		memcpy(p->features, of_halves, sizeof(p->features));
}

static int read_file_header(struct perfdata *p, struct perfdata_error *error)
{
	struct section events, data, event_types;
	uint64_t entry_size;
	struct cursor c;
	int r;

	if (source_need(p->source, HEADER_SIZE) < HEADER_SIZE)
		return perfdata_damaged(error, p->source->to, "the file ends within its header");
	c = cursor_of(p, source_at(p->source) + 16, HEADER_SIZE - 16);
	(void)(cursor_u64(&c, &entry_size) && take_section(&c, &events) && take_section(&c, &data) && take_section(&c, &event_types));
	take_feature_bits(p, c);
	if (data.offset < HEADER_SIZE || data.offset > INT64_MAX || data.size > INT64_MAX - data.offset)
		return perfdata_damaged(error, 40, "the records can't lie at %llu", (unsigned long long)data.offset);
	p->data_start = data.offset;
	p->data_end = data.offset + data.size;
	if (source_seek(p->source, 0) == -ESPIPE)
		return perfdata_damaged(error, 0, "a file of this kind can't be read from a pipe: give its name");
	r = read_events(p, events, entry_size, error);
	if (r < 0)
		return r;
	if (data.size == 0) { /* filled in when perf record ends */
		p->status.unfinished = true;
		p->data_end = UINT64_MAX;
	} else {
		r = read_features(p);
	}
	if (r < 0 && r != -EBADMSG)
		return r;
	r = source_seek(p->source, p->data_start);
	return r < 0 ? perfdata_damaged(error, 40, "the records lie outside of the file") : 0;
}

int header_read(struct perfdata *p, struct perfdata_error *error)
{
	ssize_t n = source_need(p->source, PIPE_HEADER_SIZE);
	struct cursor c;
	uint64_t size;

	if (n < 0)
		return (int)n;
	if (n < PIPE_HEADER_SIZE)
		return perfdata_damaged(error, (uint64_t)n, "the file ends within its header");
	p->swapped = memcmp(source_at(p->source), magic_swapped, sizeof(magic)) == 0;
	if (memcmp(source_at(p->source), magic_old, sizeof(magic)) == 0)
		return perfdata_damaged(error, 0, "written by a perf older than Linux 3.2, in a format that is not read");
	if (!p->swapped && memcmp(source_at(p->source), magic, sizeof(magic)) != 0)
		return perfdata_damaged(error, 0, "not a file of perf record");
	c = cursor_of(p, source_at(p->source) + sizeof(magic), sizeof(size));
	(void)cursor_u64(&c, &size);
	if (size == PIPE_HEADER_SIZE) {
		p->is_pipe = true;
		p->data_end = UINT64_MAX;
		return source_skip(p->source, PIPE_HEADER_SIZE) < 0 ? -EIO : 0;
	}
	if (size != HEADER_SIZE)
		return perfdata_damaged(error, 8, "its header has %llu bytes instead of %d", (unsigned long long)size, HEADER_SIZE);
	return read_file_header(p, error);
}
