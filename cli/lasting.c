/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/lasting.h"

#include "cli/cli.h"
#include "cli/long_wait.h"

void lasting_note_lost(const struct lasting *lasting, const char *reason)
{
	cli_note(lasting->cli, "%s %s: xenmsgd is lost%s%s%s; goes on when it is there again", lasting->what,
		 lasting->subject, *reason ? " (" : "", reason, *reason ? ")" : "");
}

void lasting_note_back(const struct lasting *lasting)
{
	cli_note(lasting->cli, "%s %s: xenmsgd is there again", lasting->what, lasting->subject);
}

static void on_change(void *userdata, const struct xenmsg_change *change)
{
	struct lasting *lasting = userdata;

	if (change->kind == XENMSG_DAEMON_LOST)
		lasting_note_lost(lasting, change->reason);
	else if (change->kind == XENMSG_DAEMON_BACK && !lasting->code)
		lasting_note_back(lasting);
	else if (change->kind == XENMSG_DAEMON_REFUSED && !lasting->code)
		lasting->code = cli_error_because(change->reason, lasting->what,
						  *change->endpoint ? change->endpoint : lasting->subject,
						  change->error);
	if (lasting->changed)
		lasting->changed(lasting->userdata, change);
}

static int open_session(struct lasting *lasting, struct xenmsg **conn, unsigned waits, int *timeout_ms)
{
	unsigned flags = lasting->once ? 0 : XENMSG_RECONNECT | waits;
	struct long_wait *wait = NULL;
	int code;

	if (flags & XENMSG_WAIT)
		wait = long_wait_begin(lasting->cli, lasting->what, lasting->subject, "no xenmsgd is running",
				       *timeout_ms);
	code = cli_open_timed_with(lasting->cli, conn, flags, timeout_ms);
	long_wait_end(&wait);
	if (code == 0)
		xenmsg_on_change(*conn, on_change, lasting);
	return code;
}

int lasting_open(struct lasting *lasting, struct xenmsg **conn)
{
	int timeout_ms = -1;

	return open_session(lasting, conn, 0, &timeout_ms);
}

int lasting_open_timed(struct lasting *lasting, struct xenmsg **conn, int *timeout_ms)
{
	return open_session(lasting, conn, XENMSG_WAIT, timeout_ms);
}
