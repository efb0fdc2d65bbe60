/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_SELF_H
#define XENMSG_BASE_SELF_H

/*
 * The identity of this domain, and of this daemon in it. The daemon has the only copy; all others have a
 * const pointer to it, since the number changes when the domain is restored or migrated (daemon/main/restore.c).
 * The domain's name is in the directory, like those of all others.
 */

#include <stdbool.h>
#include <stdint.h>

#define SELF_UUID_TEXT_SIZE 37
#define SELF_FORMER_MAX	    16 /* more restores than there can be in the time for which a session is away */

struct self {
	uint32_t domid;
	uint8_t instance[16]; /* a UUID; a restarted daemon gets another one */
	char instance_text[SELF_UUID_TEXT_SIZE];
	uint32_t former[SELF_FORMER_MAX]; /* numbers before restores, circular */
	unsigned former_count;
};

/* Sets a new instance, and leaves the domid. -EIO: there are no random numbers. */
int self_new_instance(struct self *self);
/* The domain was restored, and has this number now. */
void self_renumber(struct self *self, uint32_t domid);
/* Whether the domain has this number, or had it before a restore: a peer may not have heard of that when it wrote. */
bool self_has_or_had(const struct self *self, uint32_t domid);
/* Reads an instance from its text. Returns false if it isn't one. */
bool instance_parse(const char *text, uint8_t instance[16]);

#endif
