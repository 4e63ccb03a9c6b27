/* SPDX-License-Identifier: GPL-2.0-or-later */
/* name_addresses FILE < offsets: what the parser says of each, as "offset address start size name". */
#include <poll.h>

#include "helper.h"

static struct parser_reply reply; /* large */

static void print_batch(struct helper *h, int fd, const uint64_t *offsets, size_t n)
{
	uint64_t request;

	if (parser_ask(h, 1, fd, offsets, n, &request) < 0)
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
		const struct parser_symbol *s = &reply.symbols[i];

		printf("%lx %lx %lx %lx %s\n", (unsigned long)s->offset, (unsigned long)s->address,
		       (unsigned long)s->start, (unsigned long)s->size, s->name);
	}
}

int main(int argc, char **argv)
{
	uint64_t offsets[PARSER_OFFSETS_MAX];
	unsigned long offset;
	struct helper *h;
	size_t n = 0;
	FILE *f = argc == 2 ? fopen(argv[1], "re") : NULL;

	if (!f || helper_start(&h) < 0)
		return EXIT_FAILURE;
	while (scanf("%lx", &offset) == 1) {
		offsets[n++] = offset;
		if (n == PARSER_OFFSETS_MAX) {
			print_batch(h, fileno(f), offsets, n);
			n = 0;
		}
	}
	if (n > 0)
		print_batch(h, fileno(f), offsets, n);
	helper_stop(h);
	fclose(f);
	return EXIT_SUCCESS;
}
