/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "xml.h"

void put_xml_n(FILE *file, const char *s, size_t n)
{
	for (size_t i = 0; i < n && s[i]; i++)
		switch (s[i]) {
		case '<':
			fputs("&lt;", file);
			break;
		case '>':
			fputs("&gt;", file);
			break;
		case '&':
			fputs("&amp;", file);
			break;
		case '"':
			fputs("&quot;", file);
			break;
		case '\'':
			fputs("&#39;", file);
			break;
		default:
			/* Of the rest XML only forbids what text_escape() has made visible. */
			fputc(s[i], file);
		}
}

void put_xml(FILE *file, const char *s)
{
	put_xml_n(file, s, SIZE_MAX);
}
