/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_AGAIN_H
#define XENMSG_LIBCLIENT_AGAIN_H

#include <stdint.h>

/* Says when to try again what a policy couldn't decide because a name is unknown (-ENODATA). The pauses grow,
 * until the deadline, or for a limited time where there is none, since the name may never become known. All
 * zero: there was no try yet. */
struct again {
	int64_t until;
	int pause_ms; /* the last pause */
};
/* Returns the milliseconds until the next try, or -ENODATA if that would be too late. */
int again_pause(struct again *again, int64_t deadline);

#endif
