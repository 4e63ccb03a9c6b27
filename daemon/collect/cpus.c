/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>

#include "internal.h"

static int parse_number(const char **s, uint32_t *ret)
{
	uint64_t n = 0;

	if (**s < '0' || **s > '9')
		return -EINVAL;
	for (; **s >= '0' && **s <= '9'; (*s)++) {
		n = n * 10 + (uint64_t)(**s - '0');
		if (n >= CPUS_MAX)
			return -ERANGE;
	}
	*ret = (uint32_t)n;
	return 0;
}

int cpus_parse(const char *list, struct cpu_set_bits *ret)
{
	struct cpu_set_bits set = {};
	const char *s = list;

	while (*s && *s != '\n') {
		uint32_t first, last;
		int r = parse_number(&s, &first);

		if (r < 0)
			return r;
		last = first;
		if (*s == '-') {
			s++;
			r = parse_number(&s, &last);
			if (r < 0)
				return r;
		}
		if (last < first)
			return -EINVAL;
		for (uint32_t cpu = first; cpu <= last; cpu++)
			set.bits[cpu / 64] |= 1ULL << cpu % 64;
		if (*s == ',' && s[1] >= '0' && s[1] <= '9')
			s++;
		else if (*s && *s != '\n')
			return -EINVAL;
	}
	*ret = set;
	return 0;
}

int cpus_read(const char *path, struct cpu_set_bits *ret)
{
	_cleanup_free_ char *text = NULL;
	int r = read_small_file(AT_FDCWD, path, 65536, &text, NULL);

	return r < 0 ? r : cpus_parse(text, ret);
}

int cpus_online(struct cpu_set_bits *ret)
{
	return cpus_read("/sys/devices/system/cpu/online", ret);
}

uint32_t cpus_count(const struct cpu_set_bits *set)
{
	uint32_t n = 0;

	for (size_t i = 0; i < ELEMENTS_OF(set->bits); i++)
		n += (uint32_t)__builtin_popcountll(set->bits[i]);
	return n;
}
