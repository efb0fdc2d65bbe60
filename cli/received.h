/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_RECEIVED_H
#define XENMSG_CLI_RECEIVED_H

/* How recv and subscribe print a message. */

#include <stdbool.h>

struct writer;
struct xenmsg_message;

/* Returns the time of day, in seconds since 1970. */
double received_now(void);
/* Returns whose value a message of a topic is, as its publisher says; NULL: nobody's. */
const char *received_key(const struct xenmsg_message *message);
/* Writes it as a row of JSON, with what it came to as `key`. Returns an exit code. */
int received_json(struct writer *writer, const char *key, struct xenmsg_message *message);
/* Prints its payload: as it is (`raw`), or for a reader, with a newline behind it, and (`apart`) as
 * cli_show_apart(). Returns an exit code. */
int received_text(struct xenmsg_message *message, bool raw, bool apart);

#endif
