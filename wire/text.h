/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TEXT_H
#define XENMSG_TEXT_H

/*
 * Texts of others, or of files, on their way to people. There are two ways for them:
 *
 *   ASCII      into JSON, systemd and the log, by whatever reader: what isn't printable ASCII becomes '?'
 *   one line   onto a terminal or into the log, in their language: control characters of ASCII become '?'.
 *              A terminal has others, too, which cli/terminal.h escapes.
 */

#include <stdbool.h>
#include <stddef.h>

/* Whether all characters are printable ASCII, from `lowest` on: ' ', or '!' for texts without spaces. */
static inline bool text_is_ascii(const char *text, size_t size, char lowest)
{
	for (size_t i = 0; i < size; i++)
		if (text[i] < lowest || text[i] > '~')
			return false;
	return true;
}

/* Makes all others '?'. */
static inline void text_make_ascii(char *text, size_t size, char lowest)
{
	for (size_t i = 0; i < size; i++)
		if (!text_is_ascii(text + i, 1, lowest))
			text[i] = '?';
}

/* Makes control characters '?', so that the string is one line. */
static inline void text_make_line(char *string)
{
	for (; *string; string++)
		if ((unsigned char)*string < ' ' || *string == 0x7f)
			*string = '?';
}

#endif
