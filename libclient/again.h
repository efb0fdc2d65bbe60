/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_AGAIN_H
#define XENMSG_LIBCLIENT_AGAIN_H

#include <errno.h>
#include <stdint.h>

#include "libclient/deadline.h"

#define AGAIN_LEAST_MS	  10
#define AGAIN_PATIENCE_MS 30000 /* longer than a restart of domain 0's daemon */

/* Says when to try again what a policy couldn't decide because a name is unknown (-ENODATA). The pauses grow,
 * until the deadline, or for a limited time where there is none, since the name may never become known. All
 * zero: there was no try yet. */
struct again {
	int64_t until;
	int pause_ms; /* the last pause */
};

/* Returns the milliseconds until the next try, or -ENODATA if that would be too late. */
static inline int again_pause(struct again *again, int64_t deadline)
{
	int64_t now = now_ms();

	if (again->pause_ms == 0)
		again->until = deadline < 0 ? now + AGAIN_PATIENCE_MS : deadline;
	again->pause_ms = pause_grown(again->pause_ms);
	/* A shorter pause leaves time for the try itself. */
	if (again->pause_ms > (again->until - now) / 2)
		again->pause_ms = (int)((again->until - now) / 2);
	return again->pause_ms < AGAIN_LEAST_MS ? -ENODATA : again->pause_ms;
}

#endif
