/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_INI_LINE_H
#define XENMSG_DAEMON_INI_LINE_H

/*
 * Lines for libinih, which by itself would give values that nobody wrote: it cuts long lines in two, takes an
 * indented one for the continuation of the one before, ends one at a NUL byte, and overlooks what stands
 * behind a [section].
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define INI_LINE_WHY 64

/* The next line without its indent, or, in the first one, a byte order mark; *line counts them. 1: it is in
 * the buffer. 0: that was all. -EINVAL: line *line has a mistake, told in `why`. Else why the file can't be
 * read. */
int ini_line_read(FILE *file, char *buffer, int size, unsigned *line, char why[INI_LINE_WHY]);

/* The [name] that the line begins with: what is between the brackets, *size bytes. NULL: none, or it has no
 * end (that libinih says). */
const char *ini_line_section(const char *line, size_t *size);
/* Whether behind it there is nothing but a comment. */
bool ini_line_section_ends(const char *line);

#endif
