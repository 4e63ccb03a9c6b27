/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

static bool has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n > m && streq(s + n - m, suffix);
}

/* Copies the path's first component, without the "_" that escapes names which look like cgroup attributes,
 * and gives the rest; NULL when there is none, or it is too long for a unit. */
static const char *first_component(const char *path, char ret[static UNIT_NAME_SIZE])
{
	size_t n;

	path += strspn(path, "/");
	n = strcspn(path, "/");
	if (n == 0 || n >= UNIT_NAME_SIZE)
		return NULL;
	memcpy(ret, path, n);
	ret[n] = '\0';
	if (ret[0] == '_')
		memmove(ret, ret + 1, n);
	return path + n;
}

/* The first component that is not a slice must be the unit. */
static const char *unit_below_slices(const char *path, char ret[static UNIT_NAME_SIZE])
{
	do
		path = first_component(path, ret);
	while (path && is_unit_name(ret) && has_suffix(ret, ".slice"));

	return path && is_unit_name(ret) ? path : NULL;
}

static bool is_user_manager(const char *unit)
{
	size_t digits;

	if (strncmp(unit, "user@", 5) != 0)
		return false;
	digits = strspn(unit + 5, "0123456789");
	return digits > 0 && streq(unit + 5 + digits, ".service");
}

void unit_from_cgroup(const char *path, char ret[static UNIT_NAME_SIZE])
{
	char name[UNIT_NAME_SIZE];
	const char *rest = unit_below_slices(path, name);

	ret[0] = '\0';
	if (!rest)
		return;
	memcpy(ret, name, sizeof(name));
	if (is_user_manager(name) && unit_below_slices(rest, name) && !streq(name, "init.scope"))
		memcpy(ret, name, sizeof(name));
}

/* Copies the path of the line that begins with prefix; false when there is none. */
static bool copy_line(const char *text, const char *prefix, char *ret, size_t size)
{
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		const char *colon = strchr(line, ':');
		size_t n;

		if (!colon || strncmp(colon, prefix, strlen(prefix)) != 0)
			continue;
		line = colon + strlen(prefix);
		n = MIN(strcspn(line, "\n"), size - 1);
		memcpy(ret, line, n);
		ret[n] = '\0';
		return true;
	}
	return false;
}

void cgroup_from_proc(const char *text, char *ret, size_t size)
{
	if (copy_line(text, "::", ret, size) && !streq(ret, "/"))
		return;
	if (!copy_line(text, ":name=systemd:", ret, size))
		copy_string(ret, size, "/");
}
