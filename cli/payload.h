/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_PAYLOAD_H
#define XENMSG_CLI_PAYLOAD_H

/* Payloads: reads them from a file, and writes them into JSON as text if they are text, else as base64. */

#include <stdbool.h>
#include <stddef.h>

/* Returns true for UTF-8 as in RFC 3629: no surrogates, no overlong forms, nothing beyond U+10FFFF. */
bool payload_is_utf8(const void *data, size_t size);
/* Encodes as in RFC 4648, with padding. The caller frees the text; NULL if memory has run out. */
char *payload_base64(const void *data, size_t size);
/* Reads everything from a descriptor into *data, which the caller frees, also after an error. Returns 0,
 * -EMSGSIZE if it is more than `most` (and *size bytes of it were read), or an error of read(). */
int payload_read(int fd, size_t most, char **data, size_t *size);
/* Gives `take` each whole line of the *size bytes, without its newline, and with `end` also what is behind
 * the last one. It goes on while that returns 0. What wasn't given moves to the beginning, and *size is how
 * much that is. Returns what `take` did. */
int payload_take_lines(char *data, size_t *size, bool end,
		       int (*take)(void *userdata, const char *line, size_t size), void *userdata);

#endif
