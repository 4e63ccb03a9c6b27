/* SPDX-License-Identifier: GPL-2.0-or-later */
/* line_addresses FILE [DEBUG-FILE [COMMON-FILE]] < offsets: what the parser says of each: "offset", then a line
 * "  function file line" for each place, innermost first, where the function is "-" if it is not inlined; in the end
 * "missing PATH" when the common file is. */
#include <fcntl.h>
#include <poll.h>

#include "helper.h"

static struct parser_reply reply; /* large */

static void print_batch(struct helper *h, const int *fds, const uint64_t *offsets, size_t n)
{
	uint64_t request;

	if (parser_ask_lines(h, 1, fds[0], fds[1], fds[2], offsets, n, &request) < 0)
		abort();
	while (parser_next(h, &reply) == 0) {
		struct pollfd p = { .fd = parser_fd(h), .events = POLLIN };

		(void)poll(&p, 1, 1000);
	}
	if (reply.error < 0) {
		fprintf(stderr, "%s\n", strerror(-reply.error));
		exit(EXIT_FAILURE);
	}
	for (size_t i = 0; i < reply.n; i++) {
		const struct parser_lines *l = &reply.lines[i];

		printf("%lx\n", (unsigned long)l->offset);
		for (size_t j = 0; j < l->n; j++)
			printf("  %s\t%s\t%u\n", l->places[j].inlined ? l->places[j].function : "-", l->places[j].file,
			       l->places[j].line);
	}
}

int main(int argc, char **argv)
{
	int fds[] = { -EBADF, -EBADF, -EBADF };
	uint64_t offsets[PARSER_LINES_MAX];
	unsigned long offset;
	struct helper *h;
	size_t n = 0;

	if (argc < 2 || argc > 4 || helper_start_on_demand(&h) < 0)
		return EXIT_FAILURE;
	for (int i = 1; i < argc; i++) {
		fds[i - 1] = open(argv[i], O_RDONLY | O_CLOEXEC);
		if (fds[i - 1] < 0)
			return EXIT_FAILURE;
	}
	while (scanf("%lx", &offset) == 1) {
		offsets[n++] = offset;
		if (n == PARSER_LINES_MAX) {
			print_batch(h, fds, offsets, n);
			n = 0;
		}
	}
	if (n > 0)
		print_batch(h, fds, offsets, n);
	if (reply.missing_alt[0])
		printf("missing %s\n", reply.missing_alt);
	helper_stop(h);
	return EXIT_SUCCESS;
}
