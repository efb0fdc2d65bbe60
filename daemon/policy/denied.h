/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DENIED_H
#define XENMSG_DAEMON_DENIED_H

/*
 * Counts what policy has refused, for each pair of sender's domain and endpoint: logged with a limit, and
 * shown in status. A hostile domain can try any name, so DENIED_MAX pairs are kept; a new one replaces the
 * oldest one of the source, domain or local user, that has the most, so that one source's refusals don't
 * displace another's.
 */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "wire/address.h"
#include "base/log.h"

#define DENIED_MAX	64u
#define DENIED_PATH_MAX 512u

struct access_sender;
struct denied;
struct image;
struct policy_decision;

struct denied *denied_new(void);
void denied_free(struct denied *denied);
/* Counts what was refused by this decision, for this source. */
void denied_add(struct denied *denied, const struct access_sender *from, struct log_source source,
		const char *endpoint, const struct policy_decision *decision);

/* Writes all of it into the image that the next daemon gets, or reads it. */
void denied_image(struct image *image, struct denied *denied);

struct denied_entry {
	char host[HOST_NAME_SIZE]; /* "": this one */
	uint32_t domid;
	char endpoint[ADDRESS_MAX + 1]; /* or, of what wasn't relayed or let out, the address */
	uint64_t count;
	/* of the last one: */
	uint64_t last; /* seconds since 1970 */
	uint32_t uid;
	const char *section;	    /* the name of those that decide about this: "rule", "relay", "out" */
	char file[DENIED_PATH_MAX]; /* the rule's, or as much of the end of its path; "": none matched */
	unsigned line;
};
/* Calls `each` for each pair, the latest refused first. */
void denied_each(struct denied *denied, void (*each)(void *userdata, const struct denied_entry *entry),
		 void *userdata);

#endif
