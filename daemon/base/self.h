/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_SELF_H
#define XENMSG_DAEMON_SELF_H

/*
 * Who we are: this domain, and this daemon in it. There is one, the daemon's; everybody else has a const
 * pointer to it and keeps no copy, since the number changes when the domain is restored or migrated
 * (daemon/restore.c). The domain's name is in the directory, like those of all others.
 */

#include <stdint.h>

#define SELF_UUID_TEXT_SIZE 37

struct self {
	uint32_t domid;
	uint8_t instance[16]; /* a UUID: a daemon that is started again is another one */
	char instance_text[SELF_UUID_TEXT_SIZE];
};

/* Makes a new instance. The number isn't touched. -EIO: no random numbers. */
int self_new_instance(struct self *self);

#endif
