/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_TERMINAL_H
#define XENMSG_CLI_TERMINAL_H

/*
 * What comes from elsewhere, for a terminal: another domain may mean it for the terminal and not for whoever
 * reads it. Characters that do something there are escaped: control characters (C0, DEL, C1), those that
 * change the direction of text or begin a line, and bytes that are no UTF-8. A character becomes \uXXXX, as
 * JSON has it, and a byte that is none \xXX. Pipes and files get everything as it is.
 */

#include <stdbool.h>
#include <stddef.h>

/* The most that one byte can become. */
#define TERMINAL_GROWTH 6

/* Writes what is between *at and `end`, as far as there is room, and moves *at behind that. Newlines and tabs
 * stay as they are unless it is to be `one_line`. Returns how many bytes were written; with room for
 * TERMINAL_GROWTH there is progress. */
size_t terminal_escape(const char **at, const char *end, bool one_line, char *out, size_t room);
/* Returns such a line as a text, which the caller frees, NULL if memory has run out. */
char *terminal_line(const char *text);

#endif
