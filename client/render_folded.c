/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "render_folded.h"

#include "read_folded.h"

#define FRAMES_MAX (1024 * 1024)

struct folded {
	char **names; /* as they are printed */
	size_t n, n_allocated;
};

int folded_new(struct folded **ret)
{
	struct folded *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	*ret = f;
	return 0;
}

struct folded *folded_free(struct folded *f)
{
	if (!f)
		return NULL;
	for (size_t i = 0; i < f->n; i++)
		free(f->names[i]);
	free(f->names);
	free(f);
	return NULL;
}

char *folded_name(const char *name, const char *suffix)
{
	_cleanup_free_ char *copy = strdup(*name ? name : "[unknown]"), *escaped = NULL;
	char *folded;

	if (!copy)
		return NULL;
	/* What separates frames, and the stack from its value, can't be in a name; readers have no way to
	 * quote. */
	for (char *p = copy; *p; p++)
		if (strchr(" \t\n\v\f\r", *p))
			*p = '_';
		else if (*p == ';')
			*p = ':';
	escaped = text_escape(copy, true);
	if (!escaped || asprintf(&folded, "%s%s", escaped, suffix) < 0)
		return NULL;
	return folded;
}

char *folded_row_name(const struct json *row)
{
	const char *comm = "";
	int64_t tid = 0;
	char *name;

	json_get_string(row, "comm", &comm);
	if (json_get_int(row, "tid", &tid) <= 0)
		return strdup(comm);
	return asprintf(&name, "%s/%lld", comm, (long long)tid) < 0 ? NULL : name;
}

int folded_add_frames(struct folded *f, const struct json *frames)
{
	size_t n = json_length(frames);

	if (n > FRAMES_MAX - f->n)
		return -E2BIG;
	if (f->n + n > f->n_allocated) {
		size_t want = MAX(2 * f->n_allocated, f->n + n);
		char **names = reallocarray(f->names, want, sizeof(*names));

		if (!names)
			return -ENOMEM;
		f->names = names;
		f->n_allocated = want;
	}
	for (size_t i = 0; i < n; i++) {
		const struct json *frame = json_at(frames, i);
		const char *name = "", *kind = "";
		char *folded;

		json_get_string(frame, "name", &name);
		json_get_string(frame, "kind", &kind);
		/* As stackcollapse-perf.pl --kernel marks them; flamegraph.pl --color=java paints by it. */
		folded = folded_name(name, streq(kind, "kernel") ? FOLDED_KERNEL : "");
		if (!folded)
			return -ENOMEM;
		f->names[f->n++] = folded;
	}
	return 0;
}

int folded_print(struct folded *f, const struct json *row, FILE *file)
{
	const struct json *frames = json_get(row, "frames");
	_cleanup_free_ char *comm = NULL, *name = NULL;
	bool truncated = false;
	int64_t value = 0;

	json_get_bool(row, "truncated", &truncated);
	if (json_get_int(row, "value", &value) != 1 || json_kind(frames) != JSON_ARRAY)
		return -EBADMSG;
	if (value <= 0)
		return 0;
	/* Before anything is printed, so that a line is whole or not there. */
	for (size_t i = 0; i < json_length(frames); i++) {
		int64_t index;

		if (json_as_int(json_at(frames, i), &index) < 0 || index < 0 || (uint64_t)index >= f->n)
			return -EBADMSG;
	}
	name = folded_row_name(row);
	comm = name ? folded_name(name, "") : NULL;
	if (!comm)
		return -ENOMEM;
	fputs(comm, file);
	if (truncated)
		fputs(";[truncated]", file);
	for (size_t i = 0; i < json_length(frames); i++) {
		int64_t index = 0;

		json_as_int(json_at(frames, i), &index);
		fputc(';', file);
		fputs(f->names[index], file);
	}
	fprintf(file, " %lld\n", (long long)value);
	return 0;
}

/* ---- a tree ---- */

struct lines {
	FILE *file;
	char **names; /* by frame */
};

static int print_stack(void *userdata, const struct flame *f, const uint32_t *path, size_t n)
{
	const struct lines *l = userdata;
	const struct flame_node *leaf = &f->nodes[n > 0 ? path[n - 1] : 0];

	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			fputc(';', l->file);
		fputs(l->names[f->nodes[path[i]].frame], l->file);
	}
	if (f->shape == FLAME_DIFF)
		fprintf(l->file, " %llu", (unsigned long long)leaf->self[FLAME_BEFORE]);
	fprintf(l->file, " %llu\n", (unsigned long long)leaf->self[FLAME_AFTER]);
	return ferror(l->file) ? -EIO : 0;
}

int write_folded(const struct flame *f, FILE *file)
{
	struct lines l = { .file = file, .names = calloc(f->n_frames, sizeof(*l.names)) };
	int r = l.names ? 0 : -ENOMEM;

	for (size_t i = 0; r >= 0 && i < f->n_frames; i++) {
		l.names[i] = folded_name(f->frames[i].name, f->frames[i].kind == FLAME_KERNEL ? FOLDED_KERNEL : "");
		if (!l.names[i])
			r = -ENOMEM;
	}
	if (r >= 0)
		r = flame_each_stack(f, print_stack, &l);
	for (size_t i = 0; l.names && i < f->n_frames; i++)
		free(l.names[i]);
	free(l.names);
	return r;
}
