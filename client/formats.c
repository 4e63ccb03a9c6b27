/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "formats.h"

int format_from_string(const char *s, enum flame_format *ret)
{
	static const char *const names[FORMATS] = {
		[FORMAT_FOLDED] = "folded",         [FORMAT_SVG] = "svg",     [FORMAT_HTML] = "html",
		[FORMAT_SPEEDSCOPE] = "speedscope", [FORMAT_PPROF] = "pprof", [FORMAT_D3] = "d3",
	};

	for (enum flame_format i = 0; i < FORMATS; i++)
		if (streq(s, names[i])) {
			*ret = i;
			return 0;
		}
	return -EINVAL;
}

int format_from_path(const char *path, enum flame_format *ret)
{
	/* The longer of two that both fit comes first. */
	static const struct {
		const char *suffix;
		enum flame_format format;
	} suffixes[] = {
		{ ".speedscope.json", FORMAT_SPEEDSCOPE },
		{ ".json", FORMAT_D3 },
		{ ".folded", FORMAT_FOLDED },
		{ ".txt", FORMAT_FOLDED },
		{ ".svg", FORMAT_SVG },
		{ ".html", FORMAT_HTML },
		{ ".pb.gz", FORMAT_PPROF },
	};
	size_t n = strlen(path);

	for (size_t i = 0; i < ELEMENTS_OF(suffixes); i++) {
		size_t k = strlen(suffixes[i].suffix);

		if (n > k && streq(path + n - k, suffixes[i].suffix)) {
			*ret = suffixes[i].format;
			return 0;
		}
	}
	return -EINVAL;
}
