/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_FAR_STATUS_H
#define XENMSG_CLI_FAR_STATUS_H

/*
 * What another domain's daemon says of itself: a peer's word, and the peer may be anybody. Here it becomes a
 * status, or is refused.
 */

#include <stddef.h>

struct json_object;

#define FAR_STATUS_MOST (8u << 20) /* bytes of memory; that of 100 links takes less than 1 MiB */

/* Returns the status, which the caller puts, of the answer to "status of DOMAIN": its domid and name are
 * those of `domain`, as domain 0 knows it, its texts are UTF-8 without control characters, its numbers
 * finite, it is no deeper than a status is and no larger than one may be, and it takes no more than `most`
 * bytes of memory: a few of text may take a thousand. What else it says is that domain's word, and what a
 * reader asks for may be missing, or of another type. If the answer is no status, returns NULL, and *why
 * says so. */
struct json_object *remote_status_read(const char *text, struct json_object *domain, size_t most,
				       const char **why);

/* Does likewise with the answer to "trace of DOMAIN WHAT": an array of objects, each with its domid. */
struct json_object *remote_steps_read(const char *text, struct json_object *domain, const char **why);
/* Does the same for the text alone, of any bytes. */
struct json_object *remote_status_parse(const char *text, size_t size, size_t most, const char **why);

#endif
