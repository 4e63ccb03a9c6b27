/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cluster_files.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "decisions.h"

#define STATE_NAME "clusters"
#define STATE_SIZE_MAX (1ULL << 30)
#define DECISIONS_NAME "decisions"
#define DECISIONS_SIZE_MAX (4ULL << 20)

struct copy {
	char *state;
	size_t state_size;
	char *decisions; /* NULL: there was no memory, what is on disk stays */
	size_t decisions_size;
};

/* Writes to disk while ticks go on: an incident may be that the disk stalls. */
struct cluster_files {
	const char *state_dir;
	struct clusters *clusters;
	bool failed; /* and it was told */
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	bool busy, stop;
	int result; /* of the last write */
	struct copy copy; /* the thread's while busy */
};

/* ---- read ---- */

static void set_aside(const struct cluster_files *f, int dir, const char *name, int error, const char *then)
{
	const char *why = error == -EPROTO ? "is of another version or size" : "is damaged";
	char damaged[64];

	snprintf(damaged, sizeof(damaged), "%s.damaged", name);
	if (renameat(dir, name, dir, damaged) < 0)
		log_warning("%s/%s %s, and can't be set aside: %s; %s", f->state_dir, name, why, strerror(errno), then);
	else
		log_warning("%s/%s %s; set aside as %s, %s", f->state_dir, name, why, damaged, then);
}

static void load_state(struct cluster_files *f, int dir)
{
	static const char then[] = "starting without known clusters; mutes and labels are kept apart";
	_cleanup_free_ char *image = NULL;
	size_t size;
	int r = read_small_file(dir, STATE_NAME, STATE_SIZE_MAX, &image, &size);

	if (r >= 0)
		r = clusters_load(f->clusters, image, size);
	if (r == -EBADMSG || r == -EPROTO)
		set_aside(f, dir, STATE_NAME, r, then);
	else if (r < 0 && r != -ENOENT)
		log_warning("cannot read %s/%s: %s; %s", f->state_dir, STATE_NAME, strerror(-r), then);
}

static void load_decisions(struct cluster_files *f, int dir)
{
	static const char then[] = "mutes and labels are those of the known clusters";
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r = read_small_file(dir, DECISIONS_NAME, DECISIONS_SIZE_MAX, &text, &size);

	if (r >= 0)
		r = decisions_parse(f->clusters, text, size);
	if (r == -EBADMSG || r == -EPROTO)
		set_aside(f, dir, DECISIONS_NAME, r, then);
	else if (r < 0 && r != -ENOENT)
		log_warning("cannot read %s/%s: %s; %s", f->state_dir, DECISIONS_NAME, strerror(-r), then);
}

static void load(struct cluster_files *f)
{
	_cleanup_close_ int dir = open(f->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0) {
		if (errno != ENOENT)
			log_warning("cannot read %s: %s; starting without known clusters", f->state_dir, strerror(errno));
		return;
	}
	load_state(f, dir);
	load_decisions(f, dir);
}

/* ---- written ---- */

static int write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return negative_errno();
		data += n;
		size -= (size_t)n;
	}
	return fsync(fd) < 0 ? negative_errno() : 0;
}

static int write_file(int dir, const char *name, const char *data, size_t size)
{
	_cleanup_close_ int fd = -EBADF;
	char new[64];
	int r;

	snprintf(new, sizeof(new), "%s.new", name);
	fd = openat(dir, new, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return negative_errno();
	r = write_all(fd, data, size);
	if (r >= 0 && renameat(dir, new, dir, name) < 0)
		r = negative_errno();
	if (r < 0)
		unlinkat(dir, new, 0);
	return r;
}

/* What people have said first: the state may be found out again, and an older one than that does no harm. */
static int write_copy(const char *state_dir, const struct copy *copy)
{
	_cleanup_close_ int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = dir < 0 ? negative_errno() : copy->decisions ? 0 : -ENOMEM;

	if (r >= 0)
		r = write_file(dir, DECISIONS_NAME, copy->decisions, copy->decisions_size);
	if (r >= 0)
		r = write_file(dir, STATE_NAME, copy->state, copy->state_size);
	if (r >= 0 && fsync(dir) < 0)
		r = negative_errno();
	return r;
}

static void *run(void *userdata)
{
	struct cluster_files *f = userdata;

	pthread_mutex_lock(&f->lock);
	while (!f->stop) {
		int r;

		if (!f->busy) {
			pthread_cond_wait(&f->changed, &f->lock);
			continue;
		}
		pthread_mutex_unlock(&f->lock);
		r = write_copy(f->state_dir, &f->copy);
		pthread_mutex_lock(&f->lock);
		f->result = r;
		f->busy = false;
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

static void tell_result(struct cluster_files *f, int r)
{
	if (r < 0 && !f->failed)
		log_warning("cannot keep the clusters in %s: %s", f->state_dir, strerror(-r));
	f->failed = r < 0;
}

static void make_copy(struct cluster_files *f, uint64_t now_us)
{
	struct copy *copy = &f->copy;
	const void *image;
	size_t size;

	clusters_image(f->clusters, &image, &size);
	memcpy(copy->state, image, MIN(size, copy->state_size));
	free(copy->decisions);
	copy->decisions = NULL;
	(void)decisions_format(f->clusters, now_us, &copy->decisions, &copy->decisions_size);
}

bool cluster_files_save_later(struct cluster_files *f, uint64_t now_us)
{
	bool idle;

	if (!f || !f->started)
		return false;
	pthread_mutex_lock(&f->lock);
	idle = !f->busy;
	if (idle) {
		tell_result(f, f->result);
		make_copy(f, now_us);
		f->busy = true;
		pthread_cond_signal(&f->changed);
	}
	pthread_mutex_unlock(&f->lock);
	return idle;
}

static void stop_thread(struct cluster_files *f)
{
	if (!f->started)
		return;
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	f->started = false;
}

void cluster_files_save(struct cluster_files *f, uint64_t now_us)
{
	if (!f)
		return;
	stop_thread(f);
	make_copy(f, now_us);
	tell_result(f, write_copy(f->state_dir, &f->copy));
}

/* ---- start and end ---- */

int cluster_files_new(struct cluster_files **ret, const char *state_dir, struct clusters *clusters)
{
	_cleanup_(cluster_files_freep) struct cluster_files *f = NULL;
	const void *image;
	int r;

	if (!state_dir) {
		*ret = NULL;
		return 0;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	f->state_dir = state_dir;
	f->clusters = clusters;
	load(f);
	clusters_image(clusters, &image, &f->copy.state_size);
	f->copy.state = malloc(f->copy.state_size);
	if (!f->copy.state)
		return -ENOMEM;
	r = -pthread_create(&f->thread, NULL, run, f);
	if (r < 0)
		return r;
	f->started = true;
	*ret = TAKE_PTR(f);
	return 0;
}

struct cluster_files *cluster_files_free(struct cluster_files *f)
{
	if (!f)
		return NULL;
	stop_thread(f);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
	free(f->copy.state);
	free(f->copy.decisions);
	free(f);
	return NULL;
}
