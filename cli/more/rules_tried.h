/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_MORE_RULES_TRIED_H
#define XENMSG_CLI_MORE_RULES_TRIED_H

/* Rules that aren't in force: policy test reads them by the daemon's own reader, as the user who asks, and
 * decides by them. The daemon only says what the domains are called. */

struct json_object;
struct rules_tried;
struct xenmsg;

/* Reads rules from a file, or from the files *.conf of a directory; `host`: those of the host's policy. One
 * of the two may be NULL: there are none. Returns 0, or an exit code after a complaint. */
int rules_tried_read(struct rules_tried **tried, const char *own, const char *host);
void rules_tried_free(struct rules_tried *tried);
/* Returns what they decide, with the members that the daemon's own answer has (access_explain.c), which the
 * caller puts. NULL: *why says what is wrong with the question, and *error is -EINVAL, or -EHOSTDOWN: there
 * is no such domain. */
struct json_object *rules_tried_ask(const struct rules_tried *tried, struct xenmsg *conn, const char *from,
				    const char *to, int *error, const char **why);

#endif
