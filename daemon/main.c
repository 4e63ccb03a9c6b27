/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <getopt.h>
#include <signal.h>

#include "base.h"
#include "manager.h"
#include "record.h"
#include "replay.h"
#include "serve.h"
#include "version.h"

#define DEFAULT_CONFIG "/etc/stackd/stackd.conf"
#define DEFAULT_SOCKET "/run/stackd/org.stackd"
#define DEFAULT_REMEDIES "/usr/share/stackd/remedies.conf"

static void help(void)
{
	puts("stackd [OPTIONS...]\n"
	     "stackd record [OPTIONS...] FILE\n"
	     "stackd replay [OPTIONS...] FILE\n"
	     "stackd serve FILE\n"
	     "\n"
	     "The flight recorder for call stacks; see stackd(8).\n"
	     "\n"
	     "  -h --help              Show this help\n"
	     "     --version           Show the version\n"
	     "     --foreground        Run without a service manager and make the socket here\n"
	     "     --config=FILE       Read FILE instead of " DEFAULT_CONFIG "\n"
	     "     --socket=PATH       Listen there instead of on " DEFAULT_SOCKET "\n"
	     "                         (only when no socket is passed by the service manager)\n"
	     "     --state-dir=DIR     Save the store there when stopping ($STATE_DIRECTORY)\n"
	     "     --remedies=FILE     Read FILE instead of " DEFAULT_REMEDIES "\n"
	     "     --log-level=LEVEL   error, warning, notice, info or debug; instead of LogLevel=");
}

static int parse_log_level(const char *s, int *ret)
{
	static const char *const names[] = {
		[LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
		[LOG_LEVEL_INFO] = "info",   [LOG_LEVEL_DEBUG] = "debug",
	};

	for (size_t i = LOG_LEVEL_ERROR; i < ELEMENTS_OF(names); i++)
		if (streq(s, names[i])) {
			*ret = i;
			return 0;
		}
	return -EINVAL;
}

/* 1: go on; 0: done; negative: wrong usage, and said so. */
static int parse_arguments(int argc, char *argv[], struct manager_options *ret)
{
	enum { VERSION = 256, FOREGROUND, CONFIG, SOCKET, STATE_DIR, REMEDIES, LOG_LEVEL };
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, VERSION },
		{ "foreground", no_argument, NULL, FOREGROUND },
		{ "config", required_argument, NULL, CONFIG },
		{ "socket", required_argument, NULL, SOCKET },
		{ "state-dir", required_argument, NULL, STATE_DIR },
		{ "remedies", required_argument, NULL, REMEDIES },
		{ "log-level", required_argument, NULL, LOG_LEVEL },
		{},
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
		switch (c) {
		case 'h':
			help();
			return 0;
		case VERSION:
			puts("stackd " STACKD_VERSION);
			return 0;
		case FOREGROUND:
			ret->foreground = true;
			break;
		case CONFIG:
			ret->config_path = optarg;
			ret->config_optional = false;
			break;
		case SOCKET:
			ret->socket_path = optarg;
			break;
		case STATE_DIR:
			ret->state_dir = optarg;
			break;
		case REMEDIES:
			ret->remedies_path = optarg;
			break;
		case LOG_LEVEL:
			if (parse_log_level(optarg, &ret->log_level) < 0) {
				log_error("--log-level=%s: not one of error, warning, notice, info, debug", optarg);
				return -EINVAL;
			}
			break;
		default:
			return -EINVAL; /* getopt_long() has said why */
		}
	if (optind < argc) {
		log_error("unexpected argument '%s'; try --help", argv[optind]);
		return -EINVAL;
	}
	return 1;
}

int main(int argc, char *argv[])
{
	struct manager_options options = {
		.config_path = DEFAULT_CONFIG,
		.config_optional = true,
		.socket_path = DEFAULT_SOCKET,
		.remedies_path = DEFAULT_REMEDIES,
		.state_dir = getenv("STATE_DIRECTORY"),
		.log_level = -1,
		.record_fd = -EBADF,
	};
	int r;

	log_setup("stackd", LOG_LEVEL_INFO);
	if (argc > 1 && streq(argv[1], "replay"))
		return replay_main(argc - 1, argv + 1);
	if (argc > 1 && streq(argv[1], "serve"))
		return serve_main(argc - 1, argv + 1, options.remedies_path);
	if (argc > 1 && streq(argv[1], "record"))
		return record_main(argc - 1, argv + 1, &options);
	r = parse_arguments(argc, argv, &options);
	if (r <= 0)
		return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	if (geteuid() != 0) {
		log_error("must run as root: BPF programs are loaded at start, and privileges dropped after that");
		return EXIT_FAILURE;
	}
	/* A client that goes away must cost an error code, not the daemon. */
	signal(SIGPIPE, SIG_IGN);
	return manager_run(&options) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
