/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_SELF_H
#define XENMSG_BASE_SELF_H

/*
 * The identity of this domain, and of this daemon in it. The daemon has the only copy; others have a const
 * pointer to it, but for daemon/hosts/, since the number changes when the domain is restored or migrated
 * (daemon/main/restore.c). The domain's name is in registry.h, like those of all others.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/address.h"

#define SELF_UUID_TEXT_SIZE 37
#define SELF_FORMER_MAX	    16 /* more restores than there can be in the time for which a session is away */

struct self {
	uint32_t domid;
	uint8_t instance[16]; /* a UUID; a restarted daemon gets another one */
	char instance_text[SELF_UUID_TEXT_SIZE];
	uint32_t former[SELF_FORMER_MAX]; /* numbers before restores, circular */
	/* A keeper knows event channels of this domain by this since its last restore (daemon/xen/keeper.h),
	 * as a UUID; "": in domain 0. */
	char kept_by[SELF_UUID_TEXT_SIZE];
	unsigned former_count;
	/* The host's name, as it is set in domain 0 or told by it; "": it has none, or isn't known here. Only
	 * daemon/hosts/hosts.h writes it. */
	char host[HOST_NAME_SIZE];
};

/* Sets a new instance, and leaves the domid. -EIO: there are no random numbers. */
int self_new_instance(struct self *self);
/* The domain was restored, and has this number now. */
void self_renumber(struct self *self, uint32_t domid);
/* Whether the domain has this number, or had it before a restore: a peer may not have heard of that when it
 * wrote. */
bool self_has_or_had(const struct self *self, uint32_t domid);
/* Parses 8-4-4-4-12 hexadecimal digits, as instances and domains' UUIDs are. Returns false if the text has
 * another form; then the UUID is no use. */
bool uuid_parse(const char *text, size_t size, uint8_t uuid[16]);
void uuid_print(const uint8_t uuid[16], char text[SELF_UUID_TEXT_SIZE]);

#endif
