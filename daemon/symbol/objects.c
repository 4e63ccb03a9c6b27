/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "helper.h"
#include "objects.h"
#include "symbol.h"

#define FDS_MAX 128
/* Of the 64 that the helper takes at a time: the rest is for unwind tables, which must not wait for all names. */
#define QUESTIONS_MAX 48
#define FD_IDLE_NS (10 * NSEC_PER_SEC)
/* Questions that died with the parser this often are not asked again, whoever's fault it was. */
#define DEATHS_MAX 4

enum identity_seed { SEED_BUILD_ID = 1, SEED_CONTENT, SEED_NAME };

struct objects {
	struct helper *helper;
	struct object *slots;
	struct map64 *index; /* key → slot */
	uint32_t n, max;
	uint32_t n_functions, max_functions;
	struct object *with_fd[FDS_MAX];
	uint32_t n_fds;
	struct question {
		uint64_t request, object;
	} questions[QUESTIONS_MAX];
	uint32_t n_questions;
	uint64_t now; /* counts stacks */
	uint64_t parser_errors;
	struct parser_reply reply;
};

int objects_new(struct objects **ret, uint32_t max_objects, uint32_t max_functions, struct helper *helper)
{
	_cleanup_(objects_freep) struct objects *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return -ENOMEM;
	o->helper = helper;
	o->max = max_objects;
	o->max_functions = max_functions;
	o->slots = calloc(max_objects, sizeof(*o->slots));
	if (!o->slots)
		return -ENOMEM;
	r = map64_new(&o->index, max_objects);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(o);
	return 0;
}

static void drop_functions(struct objects *o, struct object *object)
{
	for (size_t i = 0; i < object->n_functions; i++)
		free(object->functions[i].name);
	free(object->functions);
	o->n_functions -= (uint32_t)object->n_functions;
	object->functions = NULL;
	object->n_functions = object->max_functions = 0;
}

static void close_object(struct objects *o, struct object *object)
{
	if (object->fd < 0)
		return;
	object->fd = close_fd(object->fd);
	if (object->debug_fd >= 0) {
		object->debug_fd = close_fd(object->debug_fd);
		object->debug = DEBUG_WANTED;
	}
	for (uint32_t i = 0; i < o->n_fds; i++)
		if (o->with_fd[i] == object) {
			o->with_fd[i] = o->with_fd[--o->n_fds];
			return;
		}
}

static void evict(struct objects *o, struct object *object)
{
	map64_remove(o->index, object->key);
	drop_functions(o, object);
	close_object(o, object);
	free(object->pending);
	*object = (struct object){};
}

struct objects *objects_free(struct objects *o)
{
	if (!o)
		return NULL;
	for (uint32_t i = 0; i < o->n; i++)
		evict(o, &o->slots[i]);
	free(o->slots);
	map64_free(o->index);
	free(o);
	return NULL;
}

void objects_begin(struct objects *o)
{
	o->now++;
}

/* The least recently used one that fits; NULL when there is none but those that this stack uses. */
static struct object *find_oldest(struct objects *o, bool (*fits)(const struct object *object))
{
	struct object *oldest = NULL;

	for (uint32_t i = 0; i < o->n; i++) {
		struct object *candidate = &o->slots[i];

		if (candidate->used != o->now && fits(candidate) &&
		    (!oldest || candidate->used < oldest->used))
			oldest = candidate;
	}
	return oldest;
}

static bool is_idle(const struct object *object)
{
	return object->n_pending == 0;
}

static bool has_idle_fd(const struct object *object)
{
	return object->fd >= 0 && object->n_pending == 0;
}

static bool has_functions(const struct object *object)
{
	return object->n_functions > 0;
}

void object_set_debug(struct object *object, int debug_fd)
{
	object->debug = DEBUG_SEARCHED;
	object->debug_fd = debug_fd < 0 ? -EBADF : debug_fd;
}

bool objects_has_fd(const struct object *object)
{
	return object->fd >= 0;
}

static struct object *find_room(struct objects *o)
{
	struct object *oldest;

	if (o->n < o->max)
		return &o->slots[o->n++];
	oldest = find_oldest(o, is_idle);
	if (oldest)
		evict(o, oldest);
	return oldest;
}

uint64_t symbols_file_key(const struct stat *st)
{
	uint64_t parts[] = {
		st->st_dev,
		st->st_ino,
		(uint64_t)st->st_size,
		(uint64_t)st->st_mtim.tv_sec,
		(uint64_t)st->st_mtim.tv_nsec,
		(uint64_t)st->st_ctim.tv_sec,
		(uint64_t)st->st_ctim.tv_nsec,
	};
	uint64_t key = hash64(parts, sizeof(parts), 0);

	return key ? key : 1;
}

void sanitize_name(char *name)
{
	for (char *c = name; *c; c++)
		if (*c == ';')
			*c = ':';
		else if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
}

static void keep_fd(struct objects *o, struct object *object, int fd)
{
	if (object->fd >= 0) {
		close(fd);
		return;
	}
	if (o->n_fds == FDS_MAX) {
		struct object *oldest = find_oldest(o, has_idle_fd);

		if (!oldest) {
			close(fd);
			return;
		}
		close_object(o, oldest);
	}
	object->fd = fd;
	object->fd_used_ns = clock_monotonic_ns();
	o->with_fd[o->n_fds++] = object;
}

static int add(struct objects *o, int fd, const char *path, bool is_perf_map, uint64_t *ret_key)
{
	_cleanup_close_ int taken = fd;
	const char *slash = strrchr(path, '/');
	struct object *object;
	struct stat st;
	uint64_t key;

	if (fstat(fd, &st) < 0)
		return negative_errno();
	key = symbols_file_key(&st);
	object = objects_get(o, key);
	if (!object) {
		object = find_room(o);
		if (!object)
			return -ENOBUFS;
		*object = (struct object){ .key = key, .fd = -EBADF, .debug_fd = -EBADF, .owner = st.st_uid, .used = o->now, .is_perf_map = is_perf_map };
		copy_string(object->name, sizeof(object->name), slash ? slash + 1 : path);
		sanitize_name(object->name);
		(void)map64_put(o->index, key, (uint64_t)(object - o->slots));
	}
	keep_fd(o, object, TAKE_FD(taken));
	*ret_key = key;
	return 0;
}

int objects_add(struct objects *o, int fd, const char *path, uint64_t *ret_key)
{
	return add(o, fd, path, false, ret_key);
}

int objects_add_perf_map(struct objects *o, int fd, uint64_t *ret_key)
{
	return add(o, fd, "[jit]", true, ret_key);
}

struct object *objects_get(struct objects *o, uint64_t key)
{
	uint64_t slot;

	if (!map64_get(o->index, key, &slot))
		return NULL;
	o->slots[slot].used = o->now;
	return &o->slots[slot];
}

/* Where the interval that holds the offset is, or where it would go. */
static size_t function_index(const struct object *object, uint64_t offset)
{
	size_t low = 0, high = object->n_functions;

	while (low < high) { /* the first that ends behind the offset */
		size_t middle = low + (high - low) / 2;

		if (object->functions[middle].to <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct function *object_find(const struct object *object, uint64_t offset)
{
	size_t i = function_index(object, offset);

	return i < object->n_functions && object->functions[i].from <= offset ? &object->functions[i] : NULL;
}

/* ---- questions ---- */

static bool is_pending(const struct object *object, uint64_t offset)
{
	for (size_t i = 0; i < object->n_pending; i++)
		if (object->pending[i].offset == offset)
			return true;
	return false;
}

static int reserve_pending(struct object *object, size_t n)
{
	struct pending *p;
	size_t max = MAX(object->max_pending, (size_t)16);

	while (max < object->n_pending + n)
		max *= 2;
	if (max == object->max_pending)
		return 0;
	p = reallocarray(object->pending, max, sizeof(*p));
	if (!p)
		return -ENOMEM;
	object->pending = p;
	object->max_pending = max;
	return 0;
}

/* Nothing more will be learnt about it. What has a name stays named; the rest gets an identity of its own. */
static void give_up(struct objects *o, struct object *object, int error)
{
	object->error = error;
	if (!object->identified)
		object->id = hash64_string(object->name, SEED_NAME);
	object->identified = true;
	o->parser_errors++;
}

int objects_ask(struct objects *o, struct object *object, const uint64_t *offsets, size_t n)
{
	uint64_t wanted[PARSER_OFFSETS_MAX], request;
	size_t m = 0;
	int r;

	for (size_t i = 0; i < n && m < PARSER_OFFSETS_MAX; i++)
		if (!is_pending(object, offsets[i]))
			wanted[m++] = offsets[i];
	if (m == 0)
		return 0;
	if (o->n_questions == QUESTIONS_MAX || object->fd < 0)
		return -EAGAIN;
	r = reserve_pending(object, m);
	if (r >= 0)
		r = object->is_perf_map
			? parser_ask_perf_map(o->helper, object->key, object->fd, wanted, m, &request)
			: parser_ask_with_debug(o->helper, object->key, object->fd, object->debug_fd, wanted, m, &request);
	if (r < 0) {
		if (r != -EAGAIN)
			give_up(o, object, r);
		return r;
	}
	object->fd_used_ns = clock_monotonic_ns();
	o->questions[o->n_questions++] = (struct question){ .request = request, .object = object->key };
	for (size_t i = 0; i < m; i++)
		object->pending[object->n_pending++] = (struct pending){ .request = request,
									 .offset = wanted[i] };
	return 0;
}

/* ---- answers ---- */

/* Closes the question, and gives the object that it was about: one with questions open is not evicted. */
static struct object *take_question(struct objects *o, uint64_t request)
{
	for (uint32_t i = 0; i < o->n_questions; i++)
		if (o->questions[i].request == request) {
			uint64_t key = o->questions[i].object;

			o->questions[i] = o->questions[--o->n_questions];
			return objects_get(o, key);
		}
	return NULL;
}

static void settle(struct object *object, uint64_t request)
{
	size_t kept = 0;

	for (size_t i = 0; i < object->n_pending; i++)
		if (object->pending[i].request != request)
			object->pending[kept++] = object->pending[i];
	object->n_pending = kept;
}

/* The interval of file offsets for which the answer holds, cut to what is free around the offset. */
static struct function make_function(const struct object *object, size_t at, const struct parser_symbol *s)
{
	uint64_t before = MIN(s->address - s->valid_start, s->offset), behind = s->valid_end - s->address;
	struct function f = { .from = s->offset - before,
			      .to = s->offset + MIN(behind, UINT64_MAX - s->offset) };

	if (at > 0)
		f.from = MAX(f.from, object->functions[at - 1].to);
	if (at < object->n_functions)
		f.to = MIN(f.to, object->functions[at].from);
	f.address = s->address - (s->offset - f.from);
	f.start = s->start;
	return f;
}

static int add_function(struct objects *o, struct object *object, const struct parser_symbol *s)
{
	size_t at = function_index(object, s->offset);
	struct function f;

	if (object_find(object, s->offset))
		return 0; /* a neighbour's answer covers it */
	while (o->n_functions >= o->max_functions) {
		struct object *oldest = find_oldest(o, has_functions);

		drop_functions(o, oldest ? oldest : object);
		at = function_index(object, s->offset);
	}
	if (object->n_functions == object->max_functions) {
		size_t max = object->max_functions ? 2 * object->max_functions : 8;
		struct function *p = reallocarray(object->functions, max, sizeof(*p));

		if (!p)
			return -ENOMEM;
		object->functions = p;
		object->max_functions = max;
	}
	f = make_function(object, at, s);
	if (s->name[0] != '\0') {
		f.name = strdup(s->name);
		if (!f.name)
			return -ENOMEM;
		sanitize_name(f.name);
	}
	memmove(&object->functions[at + 1], &object->functions[at], (object->n_functions - at) * sizeof(f));
	object->functions[at] = f;
	object->n_functions++;
	o->n_functions++;
	return 0;
}

uint64_t objects_id_of_build_id(const uint8_t *build_id, size_t size)
{
	return hash64(build_id, size, SEED_BUILD_ID);
}

void format_build_id(char *buf, const uint8_t *build_id, size_t size)
{
	buf[0] = '\0';
	for (size_t i = 0; i < MIN(size, (size_t)PARSER_BUILD_ID_MAX); i++)
		snprintf(buf + 2 * i, 3, "%02x", build_id[i]);
}

static void identify(struct object *object, const struct parser_reply *reply)
{
	if (object->identified)
		return;
	memcpy(object->build_id, reply->build_id, sizeof(object->build_id));
	object->build_id_size = reply->build_id_size;
	format_build_id(object->build_id_text, object->build_id, object->build_id_size);
	if (reply->build_id_size > 0)
		object->id = objects_id_of_build_id(reply->build_id, reply->build_id_size);
	else if (reply->content_hash != 0)
		object->id = hash64(&reply->content_hash, sizeof(reply->content_hash), SEED_CONTENT);
	else
		return;
	object->identified = true;
}

/* Names that a debug file may better: they are asked for again with it, so that no frame changes its name. */
static bool is_provisional(struct object *object, const struct parser_reply *reply)
{
	if (!reply->wants_debug)
		return false;
	if (object->debug == DEBUG_UNKNOWN) {
		object->debug = DEBUG_WANTED;
		copy_string(object->debug_link, sizeof(object->debug_link), reply->debug_link);
	}
	return object->debug == DEBUG_WANTED || object->debug_fd >= 0;
}

static void take_reply(struct objects *o, const struct parser_reply *reply)
{
	struct object *object = take_question(o, reply->request);

	if (!object)
		return;
	settle(object, reply->request);
	if (reply->error == -EPIPE) {
		if (++object->deaths == DEATHS_MAX)
			give_up(o, object, -EPIPE);
		return;
	}
	identify(object, reply);
	if (reply->error < 0 || !object->identified) {
		give_up(o, object, reply->error < 0 ? reply->error : -ENODATA);
		return;
	}
	if (is_provisional(object, reply))
		return;
	for (size_t i = 0; i < reply->n; i++)
		if (add_function(o, object, &reply->symbols[i]) < 0)
			return; /* asked again when it is met again */
}

int objects_dispatch(struct objects *o)
{
	int n = 0;

	for (;;) {
		int r;

		objects_begin(o);
		r = parser_next(o->helper, &o->reply);
		if (r <= 0)
			return r < 0 ? r : n;
		take_reply(o, &o->reply);
		n++;
	}
}

void objects_close_idle(struct objects *o, uint64_t now_ns)
{
	for (uint32_t i = o->n_fds; i-- > 0;) {
		struct object *object = o->with_fd[i];

		if (object->n_pending == 0 && now_ns - object->fd_used_ns > FD_IDLE_NS)
			close_object(o, object);
	}
}

void objects_visit_without_debug(const struct objects *o, object_fn fn, void *userdata)
{
	for (uint32_t i = 0; i < o->n; i++) {
		const struct object *object = &o->slots[i];

		if (object->key != 0 && object->debug == DEBUG_SEARCHED && object->debug_fd < 0 && object->build_id_size > 0)
			fn(userdata, object);
	}
}

void objects_get_status(const struct objects *o, struct objects_status *ret)
{
	*ret = (struct objects_status){
		.objects = o->n,
		.objects_max = o->max,
		.functions = o->n_functions,
		.functions_max = o->max_functions,
		.parser_errors = o->parser_errors,
	};
}
