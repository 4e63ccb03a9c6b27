/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "serve.h"

#include <ev.h>
#include <fcntl.h>
#include <signal.h>
#include <systemd/sd-daemon.h>

#include "api.h"
#include "import_file.h"
#include "incidents.h"
#include "version.h"
#include "wire.h"

#define READY "ready\n"

struct server {
	struct import import;
	uint64_t since_us, until_us;
	struct store *store;
	struct detect *detect;
	struct incidents *incidents;
	struct api *api;
	struct ev_loop *loop;
	ev_io reader;
};

static void fill_status(void *userdata _unused_, struct api_daemon_status *ret)
{
	*ret = (struct api_daemon_status){ .version = STACKD_VERSION, .kernel = "", .config_path = "", .pid = getpid() };
}

static const struct remedies *get_remedies(void *userdata)
{
	struct server *s = userdata;

	return incidents_remedies(s->incidents);
}

static void on_reader_gone(struct ev_loop *loop, ev_io *w _unused_, int events _unused_)
{
	ev_break(loop, EVBREAK_ALL);
}

static int read_import(struct server *s, const char *path)
{
	_cleanup_free_ struct source *source = calloc(1, sizeof(*source));
	_cleanup_(json_freep) struct json *line = NULL;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int r;

	if (!source)
		return -ENOMEM;
	if (fd < 0)
		return negative_errno();
	source->fd = fd;
	r = import_read(source, &s->import);
	if (r >= 0)
		r = json_parse(s->import.line, strlen(s->import.line), &line, NULL);
	if (r >= 0 && (json_get_u64(line, "since_us", &s->since_us) <= 0 || json_get_u64(line, "until_us", &s->until_us) <= 0 ||
		       s->since_us >= s->until_us))
		r = -EBADMSG;
	return r;
}

static int open_rooms(struct server *s, const char *remedies_path)
{
	const struct detect_config detect = { .false_alarms_per_day = 1 }; /* nothing is scored any more */
	const struct incidents_config incidents = {
		.max_clusters = s->import.max_clusters,
		.max_incidents = s->import.max_incidents,
		.remedies_dir = REMEDIES_DIRECTORY,
		.remedies_file = remedies_path,
	};
	bool reused;
	int r = store_open(&s->store, s->import.arena, s->import.size, &s->import.layout, &reused);

	if (r >= 0 && !reused)
		r = -EPROTO;
	if (r >= 0)
		r = detect_new(&s->detect, &detect, store_global_state(s->store));
	if (r >= 0)
		r = incidents_new(&s->incidents, &incidents, s->store, NULL);
	return r < 0 ? r : clusters_load(incidents_clusters(s->incidents), s->import.image, s->import.image_size);
}

static int listen_here(struct server *s)
{
	/* Whoever may connect sees all of it: the file was theirs to read. */
	const struct api_config config = {
		.max_connections = 16,
		.max_connections_uid = 16,
		.subscriber_queue = 16,
		.request_timeout_us = 30 * USEC_PER_SEC,
		.group = getegid(),
		.since_us = s->since_us,
		.until_us = s->until_us,
	};
	const struct api_views views = { .store = s->store, .moments = s->import.moments, .detect = s->detect, .clusters = incidents_clusters(s->incidents) };
	const struct api_actions actions = { .status = fill_status, .remedies = get_remedies, .userdata = s };
	int fd, r;

	if (sd_is_socket_unix(STDIN_FILENO, SOCK_STREAM, 1, NULL, 0) <= 0) {
		log_error("the standard input is no listening socket: stackctl --import calls this");
		return -ENOTSOCK;
	}
	fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	s->loop = ev_loop_new(EVFLAG_AUTO);
	if (fd < 0 || !s->loop) {
		close_fd(fd);
		return fd < 0 ? negative_errno() : -ENOMEM;
	}
	r = api_new(&s->api, s->loop, fd, &config, &views, &actions);
	if (r < 0)
		close_fd(fd);
	return r;
}

static void done(struct server *s)
{
	api_free(s->api);
	incidents_free(s->incidents);
	detect_free(s->detect);
	store_close(s->store);
	if (s->loop)
		ev_loop_destroy(s->loop);
	import_done(&s->import);
}

static int serve(struct server *s)
{
	int r = listen_here(s);

	if (r < 0)
		return r;
	/* A pipe that nobody reads any more says so by an error, for which one waits as for something to read. */
	ev_io_init(&s->reader, on_reader_gone, STDOUT_FILENO, EV_READ);
	if (write(STDOUT_FILENO, READY, strlen(READY)) < 0)
		return negative_errno();
	ev_io_start(s->loop, &s->reader);
	ev_run(s->loop, 0);
	return 0;
}

int serve_main(int argc, char *argv[], const char *remedies_path)
{
	struct server s = {};
	int r;

	if (argc != 2) {
		log_error("serve takes one FILE, which stackd replay --import has written");
		return EXIT_FAILURE;
	}
	signal(SIGPIPE, SIG_IGN);
	r = read_import(&s, argv[1]);
	if (r >= 0)
		r = open_rooms(&s, remedies_path);
	if (r == -EBADMSG)
		log_error("%s: damaged, or no import: import the recording again", argv[1]);
	else if (r == -EPROTO)
		log_error("%s: written by another version of stackd: import the recording again", argv[1]);
	else if (r < 0)
		log_error("%s: %s", argv[1], strerror(-r));
	if (r >= 0) {
		r = serve(&s);
		if (r < 0 && r != -ENOTSOCK && r != -EPIPE)
			log_error("can't answer for %s: %s", argv[1], strerror(-r));
	}
	done(&s);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
