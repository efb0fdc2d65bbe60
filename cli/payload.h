/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_PAYLOAD_H
#define XENMSG_CLI_PAYLOAD_H

/* Payloads: read from a file, and written into JSON as text if they are text, else as base64. */

#include <stdbool.h>
#include <stddef.h>

/* True for UTF-8 as RFC 3629 has it: no surrogates, nothing overlong, nothing beyond U+10FFFF. */
bool payload_is_utf8(const void *data, size_t size);
/* RFC 4648, with padding. free() it; NULL: no memory. */
char *payload_base64(const void *data, size_t size);
/* The whole of what can be read, in *data (free() it, also after an error). -EMSGSIZE: it is more than
 * `most`, and *size bytes of it were read; or what read() says. */
int payload_read(int fd, size_t most, char **data, size_t *size);

#endif
