/* SPDX-License-Identifier: GPL-2.0-or-later */
/* These are streamed, and nest deeper than messages may: struct json_writer is for messages. */
#include "render_viewers.h"

static void put_text(FILE *file, const char *s)
{
	fputc('"', file);
	for (; *s; s++)
		if (*s == '"' || *s == '\\')
			fprintf(file, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			fprintf(file, "\\u%04x", (unsigned)*s);
		else
			fputc(*s, file);
	fputc('"', file);
}

static int written(FILE *file)
{
	return ferror(file) ? -EIO : 0;
}

/* ---- speedscope ---- */

struct speedscope {
	FILE *file;
	enum flame_side side;
	bool weights; /* else samples */
	size_t n;
};

static int put_sample(void *userdata, const struct flame *f, const uint32_t *path, size_t n)
{
	struct speedscope *s = userdata;
	uint64_t value = f->nodes[n > 0 ? path[n - 1] : 0].self[s->side];

	if (value == 0)
		return 0;
	if (s->n++ > 0)
		fputc(',', s->file);
	if (s->weights) {
		fprintf(s->file, "%llu", (unsigned long long)value);
		return 0;
	}
	fputc('[', s->file);
	for (size_t i = 0; i < n; i++)
		fprintf(s->file, "%s%u", i > 0 ? "," : "", f->nodes[path[i]].frame);
	fputc(']', s->file);
	return 0;
}

static void put_profile(const struct flame *f, const struct flame_meta *m, const char *name,
                        enum flame_side side, FILE *file)
{
	struct speedscope s = { .file = file, .side = side };

	fputs("{\"type\":\"sampled\",\"name\":", file);
	put_text(file, name);
	/* Faults and hits have no unit there. */
	fprintf(file, ",\"unit\":\"%s\",\"startValue\":0,\"endValue\":%llu,\n\"samples\":[",
	        streq(m->unit, "ns") ? "nanoseconds" : streq(m->unit, "bytes") ? "bytes" : "none",
	        (unsigned long long)f->nodes[0].total[side]);
	flame_each_stack(f, put_sample, &s);
	fputs("],\n\"weights\":[", file);
	s.weights = true;
	s.n = 0;
	flame_each_stack(f, put_sample, &s);
	fputs("]}", file);
}

int write_speedscope(const struct flame *f, const struct flame_meta *m, FILE *file)
{
	fputs("{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\n\"exporter\":\"stackctl\",\"name\":", file);
	put_text(file, m->title);
	fputs(",\"activeProfileIndex\":0,\n\"shared\":{\"frames\":[", file);
	for (size_t i = 0; i < f->n_frames; i++) {
		fputs(i > 0 ? ",\n{\"name\":" : "\n{\"name\":", file);
		put_text(file, f->frames[i].name);
		if (f->frames[i].object) {
			fputs(",\"file\":", file);
			put_text(file, f->objects[f->frames[i].object].name);
		}
		fputc('}', file);
	}
	fputs("]},\n\"profiles\":[", file);
	if (f->shape == FLAME_DIFF) {
		put_profile(f, m, "before", FLAME_BEFORE, file);
		fputs(",\n", file);
		put_profile(f, m, "after", FLAME_AFTER, file);
	} else {
		put_profile(f, m, m->title, FLAME_VALUE, file);
	}
	fputs("]}\n", file);
	return written(file);
}

/* ---- d3-flame-graph ---- */

static void put_d3_node(const struct flame *f, size_t i, FILE *file)
{
	const struct flame_node *n = &f->nodes[i];
	const struct flame_frame *frame = flame_frame_of(f, i);

	fputs("{\"name\":", file);
	put_text(file, frame->name);
	fprintf(file, ",\"value\":%llu", (unsigned long long)n->width);
	if (i > 0)
		fprintf(file, ",\"kind\":\"%s\"", flame_kind_to_string(frame->kind));
	if (frame->object) {
		fputs(",\"object\":", file);
		put_text(file, f->objects[frame->object].name);
	}
	if (f->shape == FLAME_HOT_COLD && i > 0)
		fprintf(file, ",\"cold\":%s", n->cold ? "true" : "false");
	if (f->shape == FLAME_DIFF)
		fprintf(file, ",\"before\":%llu,\"after\":%llu,\"delta\":%lld",
		        (unsigned long long)n->total[FLAME_BEFORE], (unsigned long long)n->total[FLAME_AFTER],
		        (long long)n->total[FLAME_AFTER] - (long long)n->total[FLAME_BEFORE]);
}

int write_d3(const struct flame *f, const struct flame_meta *m, FILE *file)
{
	size_t depth = 0;

	put_d3_node(f, 0, file);
	fputs(",\"title\":", file);
	put_text(file, m->title);
	fprintf(file, ",\"unit\":\"%s\"", m->unit);
	for (size_t i = 1; i < f->n_nodes; i++) {
		if (f->nodes[i].depth > depth) {
			fputs(",\"children\":[\n", file);
		} else {
			fputc('}', file);
			for (; depth > f->nodes[i].depth; depth--)
				fputs("]}", file);
			fputs(",\n", file);
		}
		depth = f->nodes[i].depth;
		put_d3_node(f, i, file);
	}
	fputc('}', file);
	for (; depth > 0; depth--)
		fputs("]}", file);
	fputc('\n', file);
	return written(file);
}
