/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/wait.h"

#include <errno.h>

#include "libclient/deadline.h"

#define AGAIN_FIRST_MS	  20
#define AGAIN_LAST_MS	  1000
#define AGAIN_PATIENCE_MS 30000 /* longer than a restart of domain 0's daemon */

int wait_for_room(struct xenmsg *conn, int64_t deadline)
{
	int r = conn_sleep(conn, deadline, false);

	if (r == -EINTR || r == -ETIMEDOUT)
		return r;
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	conn_run_outcomes(conn, RUN_BUDGET);
	return 0;
}

void wait_for_outcome(struct xenmsg *conn, const bool *known, int64_t deadline)
{
	for (;;) {
		conn_pump(conn);
		do
			conn_run_outcomes(conn, RUN_BUDGET);
		while (!*known && conn_has_outcomes(conn));
		if (*known || conn_sleep(conn, deadline, false) == -ETIMEDOUT)
			return;
	}
}

int again_pause(struct again *again, int64_t deadline)
{
	int64_t now = now_ms();

	if (again->pause_ms == 0)
		again->until = deadline < 0 ? now + AGAIN_PATIENCE_MS : deadline;
	again->pause_ms = again->pause_ms ? 2 * again->pause_ms : AGAIN_FIRST_MS;
	if (again->pause_ms > AGAIN_LAST_MS)
		again->pause_ms = AGAIN_LAST_MS;
	/* A shorter pause leaves time for the try itself. */
	if (again->pause_ms > (again->until - now) / 2)
		again->pause_ms = (int)((again->until - now) / 2);
	return again->pause_ms < AGAIN_FIRST_MS / 2 ? -ENODATA : again->pause_ms;
}

int wait_again(struct xenmsg *conn, struct again *again, int64_t deadline)
{
	int pause_ms = again_pause(again, deadline), r = 0;
	int64_t end = deadline_in(pause_ms);

	if (pause_ms < 0)
		return pause_ms;
	while (r == 0 && deadline_left(end) > 0)
		r = wait_for_room(conn, end);
	return r == -ETIMEDOUT ? 0 : r;
}
