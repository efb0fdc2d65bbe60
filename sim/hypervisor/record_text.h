/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How text stands in a record, in each writer (record.c, trace.c). */
#ifndef XENMSG_SIM_RECORD_TEXT_H
#define XENMSG_SIM_RECORD_TEXT_H

#include <stddef.h>
#include <stdio.h>

#define SIM_RECORD_MOST_TEXT 200

/* Strings between NULs, with what isn't printable as \xNN. */
static inline void sim_record_text(FILE *out, const char *text, size_t length)
{
	for (size_t i = 0; i < length && i < SIM_RECORD_MOST_TEXT; i++) {
		unsigned char byte = (unsigned char)text[i];

		if (byte == 0 && i + 1 == length)
			break;
		if (byte == 0)
			fputc(' ', out);
		else if (byte > ' ' && byte < 0x7f && byte != '\\')
			fputc(byte, out);
		else
			fprintf(out, "\\x%02x", byte);
	}
	if (length > SIM_RECORD_MOST_TEXT)
		fprintf(out, "... (%zu bytes)", length);
}

#endif
