/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * An agent that runs for a year: it answers calls to ENDPOINT, and its connection outlives daemons that are
 * restarted, upgraded, or killed, and its domain's moves.
 *
 *   agent ENDPOINT          agent agent; xenmsg call self:agent x
 *
 *   cc agent.c $(pkg-config --cflags --libs xenmsg) -o agent
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <xenmsg.h>

static unsigned calls, daemons = 1;
static int refused; /* why the endpoint isn't there any more */

static void on_room(void *call, const struct xenmsg_result *result);

static void answer(struct xenmsg_message *call)
{
	char text[64];
	size_t size = (size_t)snprintf(text, sizeof(text), "%u calls by way of %u daemons", calls, daemons);
	int r = xenmsg_reply(call, text, size);

	/* A caller who doesn't read gets his answer later, and holds up nobody. */
	if (r == -EAGAIN && xenmsg_begin_await_reply_room(call, size, NULL, on_room, call, NULL) == 0)
		return;
	if (r < 0)
		printf("nobody gets this answer: %s\n", xenmsg_error_text(r));
	xenmsg_message_free(call);
}

static void on_room(void *call, const struct xenmsg_result *result)
{
	if (result->error == 0)
		answer(call);
	else
		xenmsg_message_free(call); /* the caller or the daemon has gone */
}

static void on_call(void *userdata, struct xenmsg_message *call)
{
	(void)userdata;
	calls++;
	answer(call);
}

static void on_change(void *userdata, const struct xenmsg_change *change)
{
	(void)userdata;
	switch (change->kind) {
	case XENMSG_DAEMON_LOST:
		printf("the daemon is lost: %s\n", xenmsg_error_text(change->error));
		break;
	case XENMSG_DAEMON_BACK:
		daemons++;
		printf("there is a daemon again\n");
		break;
	case XENMSG_DAEMON_REFUSED:
		refused = change->error;
		break;
	case XENMSG_RENUMBERED:
		printf("this domain was restored or migrated: its number is another one\n");
		break;
	case XENMSG_LISTENERS: /* it publishes nothing, and subscribes to nothing */
	case XENMSG_NOT_SUBSCRIBED:
		break;
	}
}

int main(int argc, char **argv)
{
	struct xenmsg *conn = NULL;
	int r;

	if (argc != 2) {
		fprintf(stderr, "usage: %s ENDPOINT\n", argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	r = xenmsg_open(&conn, NULL, XENMSG_FLAGS(XENMSG_RECONNECT));
	if (r == 0) {
		xenmsg_on_change(conn, on_change, NULL);
		r = xenmsg_bind(conn, argv[1], XENMSG_FLAGS(XENMSG_ONLY_CALLS), on_call, NULL);
	}
	while (r >= 0 && !refused) {
		r = xenmsg_wait(conn, -1);
		if (r == -EINTR || r == -ENOMEM) /* it was stopped and goes on; or no memory, for now */
			r = 0;
	}
	/* It is to be started again: without its endpoint it is of no use. */
	fprintf(stderr, "agent: %s: %s\n", argv[1], xenmsg_reason(conn, r < 0 ? r : refused));
	xenmsg_close(conn);
	return 1;
}
