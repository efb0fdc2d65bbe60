/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_SELF_H
#define XENMSG_DAEMON_SELF_H

/*
 * The identity of this domain, and of this daemon in it. The daemon has the only copy; all others have a
 * const pointer to it, since the number changes when the domain is restored or migrated (daemon/restore.c).
 * The domain's name is in the directory, like those of all others.
 */

#include <stdbool.h>
#include <stdint.h>

#define SELF_UUID_TEXT_SIZE 37

struct self {
	uint32_t domid;
	uint8_t instance[16]; /* a UUID; a restarted daemon gets another one */
	char instance_text[SELF_UUID_TEXT_SIZE];
};

/* Sets a new instance, and leaves the domid. -EIO: there are no random numbers. */
int self_new_instance(struct self *self);
/* Reads an instance from its text. Returns false if it isn't one. */
bool instance_parse(const char *text, uint8_t instance[16]);

#endif
