/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Field numbers are those of profile.proto. Function i + 1 and location i + 1 are frame i, mapping i is object i. */
#include <limits.h>
#include <zlib.h>

#include "render_viewers.h"

#define VARINT_MAX 10 /* bytes of 64 bits, 7 in each */

enum wire_type { VARINT = 0, BYTES = 2 };

enum profile_field {
	PROFILE_SAMPLE_TYPE = 1,
	PROFILE_SAMPLE = 2,
	PROFILE_MAPPING = 3,
	PROFILE_LOCATION = 4,
	PROFILE_FUNCTION = 5,
	PROFILE_STRING = 6,
	PROFILE_TIME_NANOS = 9,
	PROFILE_DURATION_NANOS = 10,
	PROFILE_COMMENT = 13,
	PROFILE_DEFAULT_SAMPLE_TYPE = 14,
};
enum value_type_field { VALUE_TYPE_TYPE = 1, VALUE_TYPE_UNIT = 2 };
enum sample_field { SAMPLE_LOCATIONS = 1, SAMPLE_VALUES = 2, SAMPLE_LABEL = 3 };
enum label_field { LABEL_KEY = 1, LABEL_STR = 2 };
enum mapping_field { MAPPING_ID = 1, MAPPING_LIMIT = 3, MAPPING_FILENAME = 5, MAPPING_BUILD_ID = 6, MAPPING_HAS_FUNCTIONS = 7 };
enum location_field { LOCATION_ID = 1, LOCATION_MAPPING = 2, LOCATION_ADDRESS = 3, LOCATION_LINE = 4 };
enum line_field { LINE_FUNCTION = 1 };
enum function_field { FUNCTION_ID = 1, FUNCTION_NAME = 2, FUNCTION_SYSTEM_NAME = 3, FUNCTION_FILENAME = 4 };

/* The string table: these, then the notes, the frames' names, the objects, their build IDs. */
enum string { STRING_EMPTY, STRING_TYPE, STRING_UNIT, STRING_BEFORE, STRING_AFTER, STRING_PROCESS, STRING_TITLE, STRINGS };

/* A message being made; what doesn't fit is seen when it is written. */
struct message {
	unsigned char *data;
	size_t n, allocated;
	bool failed;
};

struct pprof {
	const struct flame *flame;
	const struct flame_meta *meta;
	gzFile gz;
	struct message message, inner;
	size_t names, objects; /* where they begin among the strings */
	int error;             /* the first; 0: none */
};

static void put_bytes(struct message *m, const void *data, size_t n)
{
	if (m->n + n > m->allocated) {
		size_t want = MAX(2 * m->allocated, m->n + n);
		void *grown = realloc(m->data, want);

		if (!grown) {
			m->failed = true;
			return;
		}
		m->data = grown;
		m->allocated = want;
	}
	if (n > 0)
		memcpy(m->data + m->n, data, n);
	m->n += n;
}

static size_t varint(unsigned char buf[static VARINT_MAX], uint64_t v)
{
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		buf[n++] = (v & 0x7f) | 0x80;
	buf[n++] = v;
	return n;
}

static void put_varint(struct message *m, uint64_t v)
{
	unsigned char buf[VARINT_MAX];

	put_bytes(m, buf, varint(buf, v));
}

static void put_number(struct message *m, unsigned field, uint64_t v)
{
	put_varint(m, field << 3 | VARINT);
	put_varint(m, v);
}

static void put_string(struct message *m, unsigned field, const void *data, size_t n)
{
	put_varint(m, field << 3 | BYTES);
	put_varint(m, n);
	put_bytes(m, data, n);
}

static void put_inner(struct message *m, unsigned field, struct message *inner)
{
	put_string(m, field, inner->data, inner->n);
	m->failed = m->failed || inner->failed;
	inner->n = 0;
}

static void write_bytes(struct pprof *p, const void *data, size_t n)
{
	if (p->error || n == 0)
		return;
	errno = 0;
	if (n > INT_MAX || gzwrite(p->gz, data, n) != (int)n)
		p->error = negative_errno();
}

/* One field of the profile itself. */
static void write_field(struct pprof *p, unsigned field, const void *data, size_t n)
{
	unsigned char buf[2 * VARINT_MAX];
	size_t at = varint(buf, field << 3 | BYTES);

	at += varint(buf + at, n);
	write_bytes(p, buf, at);
	write_bytes(p, data, n);
}

static void write_message(struct pprof *p, unsigned field)
{
	write_field(p, field, p->message.data, p->message.n);
	if (p->message.failed && !p->error)
		p->error = -ENOMEM;
	p->message.n = 0;
}

static void write_number(struct pprof *p, unsigned field, uint64_t v)
{
	unsigned char buf[2 * VARINT_MAX];
	size_t at = varint(buf, field << 3 | VARINT);

	write_bytes(p, buf, at + varint(buf + at, v));
}

static void write_text(struct pprof *p, const char *s)
{
	write_field(p, PROFILE_STRING, s, strlen(s));
}

/* ---- the parts of a profile ---- */

static void write_type(struct pprof *p, enum string type)
{
	put_number(&p->message, VALUE_TYPE_TYPE, type);
	put_number(&p->message, VALUE_TYPE_UNIT, STRING_UNIT);
	write_message(p, PROFILE_SAMPLE_TYPE);
}

static bool is_process(const struct flame *f, uint32_t node)
{
	return flame_frame_of(f, node)->kind == FLAME_PROCESS;
}

static int write_sample(void *userdata, const struct flame *f, const uint32_t *path, size_t n)
{
	struct pprof *p = userdata;
	const struct flame_node *leaf = &f->nodes[n > 0 ? path[n - 1] : 0];
	bool labelled = n > 1 && is_process(f, path[0]);
	/* A process is no function, but a label; alone, it is all there is. A file doesn't say whether stacks begin
	 * with a process, and no function may be lost. */
	size_t first = labelled && p->meta->metric < METRIC_ALL_N ? 1 : 0;

	for (size_t i = n; i-- > first;)
		put_varint(&p->inner, (uint64_t)f->nodes[path[i]].frame + 1);
	put_inner(&p->message, SAMPLE_LOCATIONS, &p->inner);
	if (f->shape == FLAME_DIFF)
		put_varint(&p->inner, leaf->self[FLAME_BEFORE]);
	put_varint(&p->inner, leaf->self[FLAME_AFTER]);
	put_inner(&p->message, SAMPLE_VALUES, &p->inner);
	if (labelled) {
		put_number(&p->inner, LABEL_KEY, STRING_PROCESS);
		put_number(&p->inner, LABEL_STR, p->names + f->nodes[path[0]].frame);
		put_inner(&p->message, SAMPLE_LABEL, &p->inner);
	}
	write_message(p, PROFILE_SAMPLE);
	return p->error;
}

static void write_mapping(struct pprof *p, size_t object)
{
	put_number(&p->message, MAPPING_ID, object);
	/* From 0 to there: addresses are those that the file has, wherever it was mapped. */
	if (*p->flame->objects[object].build_id)
		put_number(&p->message, MAPPING_LIMIT, UINT64_MAX);
	put_number(&p->message, MAPPING_FILENAME, p->objects + object);
	put_number(&p->message, MAPPING_BUILD_ID, p->objects + p->flame->n_objects + object);
	put_number(&p->message, MAPPING_HAS_FUNCTIONS, 1);
	write_message(p, PROFILE_MAPPING);
}

/* What is shown as the file that was profiled: the widest frame's of a program. 0: there is none. */
static uint32_t main_object(const struct flame *f)
{
	uint64_t most = 0;
	uint32_t found = 0;

	for (size_t i = 1; i < f->n_nodes; i++)
		if (flame_frame_of(f, i)->kind == FLAME_PROGRAM && flame_frame_of(f, i)->object && f->nodes[i].width > most) {
			most = f->nodes[i].width;
			found = flame_frame_of(f, i)->object;
		}
	return found;
}

static void write_frames(struct pprof *p)
{
	const struct flame *f = p->flame;
	uint32_t first = main_object(f);

	if (first)
		write_mapping(p, first);
	for (size_t i = 1; i < f->n_objects; i++)
		if (i != first)
			write_mapping(p, i);
	for (size_t i = 0; i < f->n_frames; i++) {
		put_number(&p->message, LOCATION_ID, i + 1);
		if (f->frames[i].object)
			put_number(&p->message, LOCATION_MAPPING, f->frames[i].object);
		if (f->frames[i].address)
			put_number(&p->message, LOCATION_ADDRESS, f->frames[i].address);
		put_number(&p->inner, LINE_FUNCTION, i + 1);
		put_inner(&p->message, LOCATION_LINE, &p->inner);
		write_message(p, PROFILE_LOCATION);
	}
	for (size_t i = 0; i < f->n_frames; i++) {
		put_number(&p->message, FUNCTION_ID, i + 1);
		put_number(&p->message, FUNCTION_NAME, p->names + i);
		put_number(&p->message, FUNCTION_SYSTEM_NAME, p->names + i);
		if (f->frames[i].object)
			put_number(&p->message, FUNCTION_FILENAME, p->objects + f->frames[i].object);
		write_message(p, PROFILE_FUNCTION);
	}
}

/* Every string was pointed to by its place before. */
static void write_strings(struct pprof *p)
{
	const struct flame *f = p->flame;
	const struct flame_meta *m = p->meta;
	const char *fixed[STRINGS] = {
		[STRING_EMPTY] = "",
		[STRING_TYPE] = f->shape == FLAME_HOT_COLD  ? "wall"
				: m->metric < METRIC_ALL_N ? metric_to_string(m->metric)
							    : "samples",
		[STRING_UNIT] = streq(m->unit, "ns") ? "nanoseconds" : *m->unit ? m->unit : "count",
		[STRING_BEFORE] = "before",
		[STRING_AFTER] = "after",
		[STRING_PROCESS] = "process",
		[STRING_TITLE] = m->title,
	};

	for (size_t i = 0; i < STRINGS; i++)
		write_text(p, fixed[i]);
	for (size_t i = 0; i < m->n_notes; i++)
		write_text(p, m->notes[i]);
	for (size_t i = 0; i < f->n_frames; i++)
		write_text(p, f->frames[i].name);
	for (size_t i = 0; i < f->n_objects; i++)
		write_text(p, f->objects[i].name);
	for (size_t i = 0; i < f->n_objects; i++)
		write_text(p, f->objects[i].build_id);
}

static void write_profile(struct pprof *p)
{
	const struct flame *f = p->flame;
	const struct flame_meta *m = p->meta;

	p->names = STRINGS + m->n_notes;
	p->objects = p->names + f->n_frames;
	if (f->shape == FLAME_DIFF) {
		write_type(p, STRING_BEFORE);
		write_type(p, STRING_AFTER);
		write_number(p, PROFILE_DEFAULT_SAMPLE_TYPE, STRING_AFTER);
	} else {
		write_type(p, STRING_TYPE);
	}
	for (size_t i = 0; i <= m->n_notes; i++)
		write_number(p, PROFILE_COMMENT, STRING_TITLE + i);
	if (m->since_us) {
		write_number(p, PROFILE_TIME_NANOS, m->since_us * NSEC_PER_USEC);
		write_number(p, PROFILE_DURATION_NANOS, (m->until_us - m->since_us) * NSEC_PER_USEC);
	}
	flame_each_stack(f, write_sample, p);
	write_frames(p);
	write_strings(p);
}

int write_pprof(const struct flame *f, const struct flame_meta *m, FILE *file)
{
	struct pprof p = { .flame = f, .meta = m };
	int fd;

	if (fflush(file) != 0)
		return negative_errno();
	fd = dup(fileno(file));
	if (fd < 0)
		return negative_errno();
	p.gz = gzdopen(fd, "wb");
	if (!p.gz) {
		close(fd);
		return -ENOMEM;
	}
	write_profile(&p);
	errno = 0;
	if (gzclose(p.gz) != Z_OK && !p.error)
		p.error = negative_errno();
	free(p.message.data);
	free(p.inner.data);
	return p.error;
}
