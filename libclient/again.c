/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/again.h"

#include <errno.h>

#include "libclient/deadline.h"

#define AGAIN_LEAST_MS	  10
#define AGAIN_PATIENCE_MS 30000 /* longer than a restart of domain 0's daemon */

int again_pause(struct again *again, int64_t deadline)
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
