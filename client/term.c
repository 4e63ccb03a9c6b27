/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "term.h"

#include <langinfo.h>
#include <locale.h>
#include <sys/ioctl.h>
#include <wchar.h>

#define COLUMNS_DEFAULT 80
#define COLUMNS_MAX 4096
#define ESCAPE_MAX 10 /* "\U0010ffff" */

static bool is_dumb(void)
{
	const char *term = getenv("TERM");

	return !term || streq(term, "dumb");
}

static bool want_colour(bool is_terminal)
{
	const char *value = getenv("SYSTEMD_COLORS"), *no = getenv("NO_COLOR");
	bool b;

	/* Besides a boolean it takes "16", "256" and their "auto-" forms, which say how many colours: we use
	 * the first 16 only. */
	if (value && parse_bool(value, &b) == 0)
		return b;
	if (value && (streq(value, "16") || streq(value, "256") || streq(value, "24bit")))
		return true;
	if (no && *no)
		return false;
	return is_terminal && !is_dumb();
}

static unsigned find_columns(void)
{
	const char *value = getenv("COLUMNS");
	struct winsize size;
	uint64_t n;

	if (value && parse_u64(value, &n) == 0 && n > 0 && n <= COLUMNS_MAX)
		return n;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		return size.ws_col;
	return COLUMNS_DEFAULT;
}

void term_setup(struct term *ret)
{
	struct term t = { .is_terminal = isatty(STDOUT_FILENO) };
	bool utf8_locale;

	t.is_live = t.is_terminal && isatty(STDIN_FILENO) && !is_dumb();
	t.colour = want_colour(t.is_terminal);
	t.columns = t.is_terminal ? find_columns() : 0;
	utf8_locale = setlocale(LC_CTYPE, "") && streq(nl_langinfo(CODESET), "UTF-8");
	/* Files and pipes get the bytes as they are; only a terminal would take them for something else. */
	t.utf8 = utf8_locale || !t.is_terminal;
	if (!utf8_locale)
		setlocale(LC_CTYPE, "C.UTF-8");
	*ret = t;
}

const char *term_colour(const struct term *t, enum colour c)
{
	static const char *const sequences[] = {
		[COLOUR_NONE] = "",
		[COLOUR_BOLD] = "\x1b[0;1m",
		[COLOUR_GREY] = "\x1b[0;90m",
		[COLOUR_RED] = "\x1b[0;1;31m",
		[COLOUR_YELLOW] = "\x1b[0;1;33m",
		[COLOUR_GREEN] = "\x1b[0;1;32m",
		[COLOUR_UNDERLINE] = "\x1b[0;4m",
	};

	return t->colour ? sequences[c] : "";
}

const char *term_reset(const struct term *t)
{
	return t->colour ? "\x1b[0m" : "";
}

/* The next character: its bytes, or 0 when what is there is not UTF-8. */
static size_t next_character(const char *s, wchar_t *ret)
{
	mbstate_t state = { 0 };
	size_t n;

	n = mbrtowc(ret, s, MB_CUR_MAX, &state);
	return n == (size_t)-1 || n == (size_t)-2 ? 0 : n;
}

/* Marks and overrides that change the order or the look of what is around them, without being seen. */
static bool is_formatting(wchar_t c)
{
	return c == 0xad || c == 0x61c || c == 0x180e || (c >= 0x200b && c <= 0x200f) ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
	       (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe0fff);
}

static bool is_harmless(wchar_t c, bool utf8)
{
	if (c < 0x80)
		return c >= 0x20 && c < 0x7f;
	return utf8 && wcwidth(c) >= 0 && !is_formatting(c);
}

char *text_escape(const char *s, bool utf8)
{
	size_t n = strlen(s);
	char *escaped, *p;

	p = escaped = malloc(n * ESCAPE_MAX + 1);
	if (!escaped)
		return NULL;
	while (*s) {
		wchar_t c;
		size_t bytes = next_character(s, &c);

		if (bytes == 0 || (c < 0x80 && !is_harmless(c, utf8)))
			p += sprintf(p, "\\x%02x", (unsigned char) *s);
		else if (is_harmless(c, utf8))
			p = mempcpy(p, s, bytes);
		else
			p += sprintf(p, c > 0xffff ? "\\U%08x" : "\\u%04x", (unsigned)c);
		s += bytes ? bytes : 1;
	}
	*p = 0;
	p = realloc(escaped, p - escaped + 1);
	return p ? p : escaped;
}

size_t text_width(const char *s)
{
	size_t width = 0;

	while (*s) {
		wchar_t c;
		size_t bytes = next_character(s, &c);
		int w = bytes ? wcwidth(c) : 1;

		width += w > 0 ? w : 0;
		s += bytes ? bytes : 1;
	}
	return width;
}

char *text_ellipsize(const char *s, size_t width, bool utf8)
{
	const char *mark = utf8 ? "…" : "...", *p = s;
	size_t mark_width = text_width(mark), at = 0;
	char *cut;

	if (text_width(s) <= width)
		return strdup(s);
	if (width < mark_width)
		return strndup("...", width);
	while (*p) {
		wchar_t c;
		size_t bytes = next_character(p, &c);
		int w = bytes ? MAX(wcwidth(c), 0) : 1;

		if (at + w + mark_width > width)
			break;
		at += w;
		p += bytes ? bytes : 1;
	}
	return asprintf(&cut, "%.*s%s", (int)(p - s), s, mark) < 0 ? NULL : cut;
}
