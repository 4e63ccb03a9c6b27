/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "scan.h"

#include "utf8.h"
#include "wire.h"

struct scan {
	const char *p, *end;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool take_hex4(struct scan *s, unsigned *ret)
{
	unsigned v = 0;

	if (s->end - s->p < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		char c = *s->p++;

		if (is_digit(c))
			v = v * 16 + (c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			v = v * 16 + ((c | 0x20) - 'a' + 10);
		else
			return false;
	}
	*ret = v;
	return true;
}

static const char *scan_unicode_escape(struct scan *s)
{
	unsigned high, low;

	if (!take_hex4(s, &high))
		return "a \\u escape is not four hexadecimal digits";
	if (high == 0)
		return "a string holds a NUL";
	if (high >= 0xdc00 && high <= 0xdfff)
		return "half of a surrogate pair";
	if (high < 0xd800 || high > 0xdbff)
		return NULL;
	if (s->end - s->p < 2 || s->p[0] != '\\' || s->p[1] != 'u')
		return "half of a surrogate pair";
	s->p += 2;
	if (!take_hex4(s, &low) || low < 0xdc00 || low > 0xdfff)
		return "half of a surrogate pair";
	return NULL;
}

static const char *scan_escape(struct scan *s)
{
	if (s->p == s->end)
		return "a string is not closed";
	switch (*s->p++) {
	case '"':
	case '\\':
	case '/':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't':
		return NULL;
	case 'u':
		return scan_unicode_escape(s);
	default:
		return "an unknown escape in a string";
	}
}

/* After the opening quote. */
static const char *scan_string(struct scan *s)
{
	while (s->p < s->end) {
		const char *reason;
		size_t n;

		if (*s->p == '"') {
			s->p++;
			return NULL;
		}
		if (*s->p == '\\') {
			s->p++;
			reason = scan_escape(s);
			if (reason)
				return reason;
			continue;
		}
		if ((unsigned char)*s->p < 0x20)
			return "a control character in a string";
		n = utf8_sequence((const unsigned char *)s->p, s->end - s->p);
		if (n == 0)
			return "not valid UTF-8";
		s->p += n;
	}
	return "a string is not closed";
}

static bool take_digits(struct scan *s)
{
	const char *start = s->p;

	while (s->p < s->end && is_digit(*s->p))
		s->p++;
	return s->p > start;
}

static const char *scan_number(struct scan *s)
{
	static const char reason[] = "not a number";

	if (*s->p == '-')
		s->p++;
	if (s->p < s->end && *s->p == '0')
		s->p++;
	else if (!take_digits(s))
		return reason;
	if (s->p < s->end && *s->p == '.') {
		s->p++;
		if (!take_digits(s))
			return reason;
	}
	if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (!take_digits(s))
			return reason;
	}
	/* "01" and "1x" would else be two tokens. */
	if (s->p < s->end && !strchr(" \t\r\n,]}", *s->p))
		return reason;
	return NULL;
}

static const char *scan_word(struct scan *s)
{
	static const char *const words[] = { "true", "false", "null" };

	for (size_t i = 0; i < ELEMENTS_OF(words); i++) {
		size_t n = strlen(words[i]);

		if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i], n) == 0) {
			s->p += n;
			return NULL;
		}
	}
	return "an unknown word or character";
}

const char *json_scan(const char *text, size_t size, size_t *ret_members)
{
	struct scan s = { .p = text, .end = text + size };
	size_t members = 0, depth = 0;
	bool comma = false;

	while (s.p < s.end) {
		const char *reason = NULL;
		char c = *s.p;

		if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
			s.p++;
			continue;
		}
		if (comma && (c == '}' || c == ']'))
			return "a comma at the end of an object or array";
		comma = c == ',';
		switch (c) {
		case '{':
		case '[':
			if (++depth > WIRE_DEPTH_MAX)
				return "nested too deeply";
			s.p++;
			break;
		case '}':
		case ']':
			if (depth-- == 0)
				return "an object or array is closed that is not open";
			s.p++;
			break;
		case ':':
			members++;
			s.p++;
			break;
		case ',':
			s.p++;
			break;
		case '"':
			s.p++;
			reason = scan_string(&s);
			break;
		case '-':
		case '0' ... '9':
			reason = scan_number(&s);
			break;
		default:
			reason = scan_word(&s);
		}
		if (reason)
			return reason;
	}
	*ret_members = members;
	return NULL;
}
