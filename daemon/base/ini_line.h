/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_INI_LINE_H
#define XENMSG_DAEMON_INI_LINE_H

/*
 * Reads lines for libinih, which on its own would return values that nobody wrote: it cuts long lines in two,
 * takes an indented line as the continuation of the one before, ends a line at a NUL byte, and ignores what
 * follows a [section].
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define INI_LINE_WHY 64

/* Reads the next line without its indent, and without the byte order mark in the first one; *line counts
 * them. 1: it is in the buffer; 0: there are no more; -EINVAL: line *line has a mistake, which `why` tells;
 * else why the file can't be read. */
int ini_line_read(FILE *file, char *buffer, int size, unsigned *line, char why[INI_LINE_WHY]);

/* Returns the section's name if the line begins with "[name]", with its size in *size. NULL: it doesn't, or
 * the bracket isn't closed (which libinih reports). */
const char *ini_line_section(const char *line, size_t *size);
/* Whether nothing but a comment follows the section's name. */
bool ini_line_section_ends(const char *line);

#endif
