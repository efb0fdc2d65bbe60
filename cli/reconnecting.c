/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/reconnecting.h"

#include "cli/cli.h"
#include "cli/interrupt.h"

#define ANSWER_MS 10000 /* for which the library usually waits for its xenmsgd */

void reconnecting_note_lost(const struct reconnecting *reconnecting, const char *reason)
{
	cli_note(reconnecting->cli, "%s %s: xenmsgd is lost%s%s%s; goes on when it is there again",
		 reconnecting->what, reconnecting->subject, *reason ? " (" : "", reason, *reason ? ")" : "");
}

void reconnecting_note_back(const struct reconnecting *reconnecting)
{
	cli_note(reconnecting->cli, "%s %s: xenmsgd is there again", reconnecting->what,
		 reconnecting->subject);
}

static void reconnecting_on_change(void *userdata, const struct xenmsg_change *change)
{
	struct reconnecting *reconnecting = userdata;

	if (change->kind == XENMSG_DAEMON_LOST)
		reconnecting_note_lost(reconnecting, change->reason);
	else if (change->kind == XENMSG_DAEMON_BACK && !reconnecting->code)
		reconnecting_note_back(reconnecting);
	else if (change->kind == XENMSG_DAEMON_REFUSED && !reconnecting->code)
		reconnecting->code = cli_error_because(
			change->reason, reconnecting->what,
			*change->endpoint ? change->endpoint : reconnecting->subject, change->error);
	if (reconnecting->changed)
		reconnecting->changed(reconnecting->userdata, change);
}

static int open_session(struct reconnecting *reconnecting, struct xenmsg **conn, unsigned waits,
			int *timeout_ms)
{
	struct cli *cli = reconnecting->cli;
	unsigned flags = reconnecting->once ? 0 : XENMSG_RECONNECT | waits;
	int most_ms = *timeout_ms > 0 ? *timeout_ms : flags & XENMSG_WAIT ? -1 : XENMSG_USUAL_MS;
	int64_t deadline = deadline_in(*timeout_ms);
	int first_ms = flags & XENMSG_WAIT ? long_wait_first(cli, most_ms) : most_ms, rest_ms;
	int r = xenmsg_open(conn, cli_socket_path(cli), XENMSG_WITH(first_ms, flags));

	if (first_ms != most_ms && (r == -ETIMEDOUT || r == -ENOENT || r == -ECONNREFUSED)) {
		rest_ms = long_wait_rest(cli, NULL, reconnecting->what, reconnecting->subject,
					 "no xenmsgd is running", most_ms);
		r = xenmsg_open(conn, cli_socket_path(cli), XENMSG_WITH(rest_ms, flags));
	}
	if (*timeout_ms > 0)
		*timeout_ms = interrupt_left(deadline);
	if (r == 0)
		xenmsg_on_change(*conn, reconnecting_on_change, reconnecting);
	return cli_opened(cli, *conn, r);
}

int reconnecting_open(struct reconnecting *reconnecting, struct xenmsg **conn)
{
	int within_ms = reconnecting_within(reconnecting);

	return open_session(reconnecting, conn, 0, &within_ms);
}

int reconnecting_within(struct reconnecting *reconnecting)
{
	int left_ms;

	if (reconnecting->timeout_ms <= 0)
		return XENMSG_USUAL_MS;
	if (!reconnecting->opens_until)
		reconnecting->opens_until = deadline_in(reconnecting->timeout_ms);
	left_ms = interrupt_left(reconnecting->opens_until);
	return left_ms < ANSWER_MS ? left_ms : XENMSG_USUAL_MS;
}

int reconnecting_open_timed(struct reconnecting *reconnecting, const char *address, bool waits,
			    const char *undone, struct xenmsg **conn, int *timeout_ms)
{
	reconnecting->subject = address;
	reconnecting->once = !waits;
	interrupt_catch();
	interrupt_allow_complaint("%s %s: interrupted; %s", reconnecting->what, address, undone);
	return open_session(reconnecting, conn, XENMSG_WAIT, timeout_ms);
}

int long_wait_first(const struct cli *cli, int timeout_ms)
{
	return cli_is_watched(cli) && (timeout_ms < 0 || timeout_ms > CLI_LONG_MS) ? CLI_LONG_MS : timeout_ms;
}

int long_wait_rest(const struct cli *cli, struct xenmsg *conn, const char *what, const char *address,
		   const char *missing, int timeout_ms)
{
	const char *away = conn && cli_is_away(conn, address) ? ": its domain is away, and waited for" : "";

	if (long_wait_first(cli, timeout_ms) == timeout_ms)
		return 0;
	if (timeout_ms < 0)
		cli_note(cli, "%s %s: %s yet%s; " CLI_ENDS_WAIT, what, address, missing, away);
	else
		cli_note(cli, "%s %s: %s yet%s; after %.0f s, by --timeout, it gives up", what, address,
			 missing, away, timeout_ms / 1000.0);
	return timeout_ms < 0 ? -1 : timeout_ms - CLI_LONG_MS;
}
