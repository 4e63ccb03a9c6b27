/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "debug.h"
#include "helper.h"
#include "lines.h"

#define ANSWERS_MAX 65536
#define SOURCES_MAX 16  /* files that are asked about at a time: three descriptors each */
#define FAILURES_MAX 256
#define QUESTIONS_MAX 256
#define RETRY_NS (60 * NSEC_PER_SEC)
#define FILES_IDLE_NS (10 * NSEC_PER_SEC)
#define PARSER_IDLE_NS (30 * NSEC_PER_SEC)
#define ANSWER_SEED 0x6c696e6573

struct answer {
	size_t n;
	struct line_place places[]; /* then their strings */
};

/* A file that is open for questions. */
struct source {
	uint64_t file; /* 0: free */
	uint64_t used_ns;
	int fd, debug_fd, common_fd;
	bool common_searched;
};

struct failure {
	uint64_t file, ns;
	int error;
};

struct question {
	uint64_t file, offset;
	uint64_t request; /* 0: not asked yet */
};

struct lines {
	struct symbols *symbols;
	struct helper *helper;
	struct map64 *index; /* of (file, offset) → answers */
	struct answer **answers;
	size_t n_answers;
	uint64_t used, max;
	struct source sources[SOURCES_MAX];
	struct failure failures[FAILURES_MAX];
	size_t next_failure;
	struct question questions[QUESTIONS_MAX];
	size_t n_questions;
	uint64_t asked;
	struct parser_reply reply;
};

int lines_new(struct lines **ret, struct symbols *symbols, struct helper *helper, uint64_t max_bytes)
{
	_cleanup_(lines_freep) struct lines *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->symbols = symbols;
	l->helper = helper;
	l->max = max_bytes;
	l->answers = calloc(ANSWERS_MAX, sizeof(*l->answers));
	if (!l->answers)
		return -ENOMEM;
	r = map64_new(&l->index, ANSWERS_MAX);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(l);
	return 0;
}

static void forget_answers(struct lines *l)
{
	for (size_t i = 0; i < l->n_answers; i++)
		free(l->answers[i]);
	l->n_answers = 0;
	l->used = 0;
	map64_clear(l->index);
}

static void close_source(struct source *s)
{
	if (s->file == 0)
		return;
	close_fd(s->fd);
	close_fd(s->debug_fd);
	close_fd(s->common_fd);
	*s = (struct source){};
}

struct lines *lines_free(struct lines *l)
{
	if (!l)
		return NULL;
	if (l->index)
		forget_answers(l);
	for (size_t i = 0; i < SOURCES_MAX; i++)
		close_source(&l->sources[i]);
	map64_free(l->index);
	free(l->answers);
	free(l);
	return NULL;
}

/* ---- what is known ---- */

static uint64_t key_of(uint64_t file, uint64_t offset)
{
	return hash64(&(uint64_t[]){ file, offset }, 2 * sizeof(uint64_t), ANSWER_SEED);
}

static size_t answer_bytes(const struct parser_lines *lines)
{
	size_t size = sizeof(struct answer) + lines->n * sizeof(struct line_place);

	for (size_t i = 0; i < lines->n; i++)
		size += strlen(lines->places[i].function) + strlen(lines->places[i].file) + 2;
	return size;
}

static const char *put_string(char **at, const char *s)
{
	char *copy = *at;

	*at = stpcpy(copy, s) + 1;
	return copy;
}

static void keep(struct lines *l, uint64_t file, const struct parser_lines *lines)
{
	size_t size = answer_bytes(lines);
	struct answer *a;
	char *at;

	if (l->used + size > l->max || l->n_answers == ANSWERS_MAX)
		forget_answers(l);
	a = size <= l->max ? malloc(size) : NULL;
	if (!a)
		return;
	a->n = lines->n;
	at = (char *)&a->places[a->n];
	for (size_t i = 0; i < a->n; i++) {
		const struct parser_place *p = &lines->places[i];

		a->places[i] = (struct line_place){ .line = p->line };
		a->places[i].function = put_string(&at, p->function);
		if (!p->inlined)
			a->places[i].function = NULL;
		a->places[i].file = put_string(&at, p->file);
	}
	(void)map64_put(l->index, key_of(file, lines->offset), l->n_answers);
	l->answers[l->n_answers++] = a;
	l->used += size;
}

static struct failure *find_failure(struct lines *l, uint64_t file)
{
	for (size_t i = 0; i < FAILURES_MAX; i++)
		if (l->failures[i].file == file && clock_monotonic_ns() - l->failures[i].ns < RETRY_NS)
			return &l->failures[i];
	return NULL;
}

static void drop_questions_of(struct lines *l, uint64_t file)
{
	size_t left = 0;

	for (size_t i = 0; i < l->n_questions; i++)
		if (l->questions[i].file != file)
			l->questions[left++] = l->questions[i];
	l->n_questions = left;
}

static void note_failure(struct lines *l, uint64_t file, int error)
{
	l->failures[l->next_failure] = (struct failure){ .file = file, .ns = clock_monotonic_ns(), .error = error };
	l->next_failure = (l->next_failure + 1) % FAILURES_MAX;
	drop_questions_of(l, file);
}

/* ---- files ---- */

static struct source *find_source(struct lines *l, uint64_t file)
{
	for (size_t i = 0; i < SOURCES_MAX; i++)
		if (l->sources[i].file == file)
			return &l->sources[i];
	return NULL;
}

static bool has_questions(const struct lines *l, uint64_t file)
{
	for (size_t i = 0; i < l->n_questions; i++)
		if (l->questions[i].file == file)
			return true;
	return false;
}

/* A free one, or the one that was used least lately of those without a question; NULL: none. */
static struct source *find_room(struct lines *l)
{
	struct source *oldest = NULL;

	for (size_t i = 0; i < SOURCES_MAX; i++) {
		struct source *s = &l->sources[i];

		if (s->file == 0)
			return s;
		if (!has_questions(l, s->file) && (!oldest || s->used_ns < oldest->used_ns))
			oldest = s;
	}
	if (oldest)
		close_source(oldest);
	return oldest;
}

/* -EAGAIN: too many others are asked about. */
static int open_source(struct lines *l, const struct symbols_process_key *key, const struct symbols_frame *frame)
{
	struct source *s = find_source(l, frame->file);
	int r;

	if (s) {
		s->used_ns = clock_monotonic_ns();
		return 0;
	}
	s = find_room(l);
	if (!s)
		return -EAGAIN;
	*s = (struct source){ .common_fd = -EBADF };
	r = symbols_open_file(l->symbols, key, frame->address, frame->file, &s->fd, &s->debug_fd);
	if (r < 0) {
		note_failure(l, frame->file, r);
		return r;
	}
	s->file = frame->file;
	s->used_ns = clock_monotonic_ns();
	return 0;
}

/* ---- questions ---- */

static int want(struct lines *l, const struct symbols_process_key *key, const struct symbols_frame *frame)
{
	int r;

	for (size_t i = 0; i < l->n_questions; i++)
		if (l->questions[i].file == frame->file && l->questions[i].offset == frame->offset)
			return -EAGAIN;
	r = open_source(l, key, frame);
	if (r < 0)
		return r;
	if (l->n_questions < QUESTIONS_MAX)
		l->questions[l->n_questions++] = (struct question){ .file = frame->file, .offset = frame->offset };
	return -EAGAIN;
}

int lines_find(struct lines *l, const struct symbols_process_key *key, const struct symbols_frame *frame, struct line_places *ret)
{
	const struct failure *failure;
	uint64_t i;

	*ret = (struct line_places){};
	if (frame->file == 0)
		return 0;
	if (map64_get(l->index, key_of(frame->file, frame->offset), &i)) {
		ret->n = l->answers[i]->n;
		ret->places = l->answers[i]->places;
		return 0;
	}
	failure = find_failure(l, frame->file);
	return failure ? failure->error : want(l, key, frame);
}

/* Of one file, as many as a request takes. Gives what parser_ask_lines() gave. */
static int ask_about(struct lines *l, struct source *s)
{
	uint64_t offsets[PARSER_LINES_MAX], request;
	struct question *asked[PARSER_LINES_MAX];
	size_t n = 0;
	int r;

	for (size_t i = 0; i < l->n_questions && n < PARSER_LINES_MAX; i++)
		if (l->questions[i].file == s->file && l->questions[i].request == 0) {
			asked[n] = &l->questions[i];
			offsets[n++] = l->questions[i].offset;
		}
	if (n == 0)
		return -ENOENT;
	r = parser_ask_lines(l->helper, s->file, s->fd, s->debug_fd, s->common_fd, offsets, n, &request);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		asked[i]->request = request;
	l->asked += n;
	return 0;
}

void lines_ask(struct lines *l)
{
	for (size_t i = 0; i < SOURCES_MAX; i++) {
		struct source *s = &l->sources[i];
		int r = 0;

		while (s->file != 0 && r == 0)
			r = ask_about(l, s);
		if (s->file != 0 && r < 0 && r != -EAGAIN && r != -ENOENT)
			note_failure(l, s->file, r);
	}
}

/* ---- answers ---- */

static uint64_t file_of_request(const struct lines *l, uint64_t request)
{
	for (size_t i = 0; i < l->n_questions; i++)
		if (l->questions[i].request == request)
			return l->questions[i].file;
	return 0;
}

static void drop_question(struct lines *l, uint64_t file, uint64_t offset)
{
	for (size_t i = 0; i < l->n_questions; i++)
		if (l->questions[i].file == file && l->questions[i].offset == offset) {
			l->questions[i] = l->questions[--l->n_questions];
			return;
		}
}

/* True when the common file that names are missing from was found: then the same is asked again. */
static bool find_common(struct lines *l, uint64_t file)
{
	struct source *s = find_source(l, file);

	if (l->reply.missing_alt[0] == '\0' || !s || s->common_searched)
		return false;
	s->common_searched = true;
	s->common_fd = debug_common_open(l->reply.missing_alt);
	if (s->common_fd < 0)
		return false;
	for (size_t i = 0; i < l->n_questions; i++)
		if (l->questions[i].request == l->reply.request)
			l->questions[i].request = 0;
	return true;
}

static void take_reply(struct lines *l)
{
	const struct parser_reply *reply = &l->reply;
	uint64_t file = file_of_request(l, reply->request);

	if (file == 0)
		return;
	if (reply->error < 0) {
		note_failure(l, file, reply->error);
		return;
	}
	if (find_common(l, file))
		return;
	for (size_t i = 0; i < reply->n; i++) {
		keep(l, file, &reply->lines[i]);
		drop_question(l, file, reply->lines[i].offset);
	}
}

int lines_fd(const struct lines *l)
{
	return parser_fd(l->helper);
}

int lines_dispatch(struct lines *l)
{
	int n = 0;

	while (parser_next(l->helper, &l->reply) > 0) {
		take_reply(l);
		n++;
	}
	lines_ask(l);
	return n;
}

void lines_rest(struct lines *l)
{
	uint64_t now = clock_monotonic_ns();

	for (size_t i = 0; i < SOURCES_MAX; i++)
		if (l->sources[i].file != 0 && now - l->sources[i].used_ns > FILES_IDLE_NS && !has_questions(l, l->sources[i].file))
			close_source(&l->sources[i]);
	helper_rest(l->helper, PARSER_IDLE_NS);
}

void lines_get_status(const struct lines *l, struct lines_status *ret)
{
	*ret = (struct lines_status){
		.parser_pid = helper_parser_pid(l->helper),
		.used = l->used,
		.max = l->max,
		.asked = l->asked,
	};
}
