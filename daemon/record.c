/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "record.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>

static void help(void)
{
	puts("stackd record [OPTIONS...] FILE\n"
	     "\n"
	     "Records what the machine yields, second by second, until it is interrupted. stackd replay\n"
	     "computes the same series and scores from it, on any machine. - is the standard output.\n"
	     "\n"
	     "  -h --help              Show this help\n"
	     "     --for=TIME          Record for so long (5m, 1h)\n"
	     "     --config=FILE       Read FILE instead of /etc/stackd/stackd.conf");
}

/* 1: go on; 0: done; negative: wrong usage, and said so. */
static int parse_arguments(int argc, char *argv[], struct manager_options *ret, const char **ret_path)
{
	enum { FOR = 256, CONFIG };
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "for", required_argument, NULL, FOR },
		{ "config", required_argument, NULL, CONFIG },
		{},
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
		switch (c) {
		case 'h':
			help();
			return 0;
		case FOR:
			if (parse_timespan(optarg, &ret->record_us) < 0 || ret->record_us < USEC_PER_SEC) {
				log_error("--for=%s: not a time of a second or more, such as 5m", optarg);
				return -EINVAL;
			}
			break;
		case CONFIG:
			ret->config_path = optarg;
			ret->config_optional = false;
			break;
		default:
			return -EINVAL; /* getopt_long() has said why */
		}
	if (argc - optind != 1) {
		log_error("record takes one FILE; try stackd record --help");
		return -EINVAL;
	}
	*ret_path = argv[optind];
	return 1;
}

int record_main(int argc, char *argv[], const struct manager_options *defaults)
{
	struct manager_options options = *defaults;
	_cleanup_close_ int opened = -EBADF;
	const char *path;
	int r;

	options.foreground = true; /* no socket is waited for */
	options.state_dir = NULL;
	options.record_us = USEC_INFINITY;
	r = parse_arguments(argc, argv, &options, &path);
	if (r <= 0)
		return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	if (geteuid() != 0) {
		log_error("must run as root: BPF programs are loaded at start, and privileges dropped after that");
		return EXIT_FAILURE;
	}
	/* It names all processes and what they do. */
	if (!streq(path, "-"))
		opened = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
	options.record_fd = streq(path, "-") ? STDOUT_FILENO : opened;
	if (options.record_fd < 0) {
		log_error("cannot write %s: %s", path, strerror(errno));
		return EXIT_FAILURE;
	}
	signal(SIGPIPE, SIG_IGN);
	return manager_run(&options) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
