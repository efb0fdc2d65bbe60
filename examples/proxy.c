/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A proxy: calls to ENDPOINT go on to ADDRESS, and answers and errors back as they are, many at a time. A
 * caller who has gone takes his call with him.
 *
 *   proxy ENDPOINT ADDRESS          in domain 2, say:   proxy front 3:work
 *
 *   cc proxy.c $(pkg-config --cflags --libs xenmsg) -o proxy
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xenmsg.h>

struct passed {
	struct xenmsg_message *call;
	struct xenmsg_op *op;
};

static struct xenmsg *conn;
static const char *address;

#define NOT_REACHED 65535 /* of this proxy itself, whose text says why: not an error of the service */

static int refuse(struct xenmsg_message *call, const char *why)
{
	return xenmsg_reply_error(call, NOT_REACHED, why, strlen(why));
}

/* Answers as the service has. That it hasn't, XENMSG_UNANSWERED, is passed on like its own errors. What can't
 * be passed on, as it is too large or the caller doesn't read, is told without data; and what isn't, by
 * freeing the call. */
static void answer(struct xenmsg_message *call, const struct xenmsg_result *result)
{
	const struct xenmsg_message *reply = result->reply;
	const void *data = reply ? xenmsg_message_data(result->reply) : NULL;
	size_t size = reply ? xenmsg_message_size(reply) : 0;
	int r;

	if (result->error == 0)
		r = xenmsg_reply(call, data, size);
	else if (result->exit_status)
		r = xenmsg_reply_exit_status(call, result->exit_status);
	else if (result->error == -EREMOTEIO)
		r = xenmsg_reply_error(call, result->code, data, size);
	else
		r = refuse(call, result->reason);
	if (r == -EAGAIN || r == -EMSGSIZE)
		xenmsg_reply_error(call, NOT_REACHED, NULL, 0);
}

static void on_answer(void *userdata, const struct xenmsg_result *result)
{
	struct passed *passed = userdata;

	answer(passed->call, result);
	xenmsg_message_free(result->reply);
	xenmsg_message_free(passed->call);
	free(passed);
}

static void on_withdrawn(void *userdata, struct xenmsg_message *call)
{
	(void)call;
	struct passed *passed = userdata;

	xenmsg_op_withdraw(passed->op); /* on_answer() frees it, as ever */
}

static void on_call(void *userdata, struct xenmsg_message *call)
{
	(void)userdata;
	struct passed *passed = calloc(1, sizeof(*passed));
	int r = -ENOMEM;

	/* Without a time-out: the caller's withdraws it. */
	if (passed)
		r = xenmsg_begin_call(conn, address, xenmsg_message_data(call), xenmsg_message_size(call),
				      NULL, on_answer, passed, &passed->op);
	if (r < 0) {
		refuse(call, xenmsg_error_text(r));
		xenmsg_message_free(call);
		free(passed);
		return;
	}
	passed->call = call;
	if (xenmsg_message_on_withdrawn(call, on_withdrawn, passed) < 0)
		xenmsg_op_withdraw(passed->op); /* he has gone already */
}

int main(int argc, char **argv)
{
	int r;

	if (argc != 3) {
		fprintf(stderr, "usage: %s ENDPOINT ADDRESS\n", argv[0]);
		return 2;
	}
	address = argv[2];
	r = xenmsg_open(&conn, NULL, NULL);
	if (r == 0)
		r = xenmsg_bind(conn, argv[1], XENMSG_FLAGS(XENMSG_ONLY_CALLS), on_call, NULL);
	while (r >= 0) {
		r = xenmsg_wait(conn, -1);
		if (r == -EINTR || r == -ENOMEM) /* it was stopped and goes on; or no memory, for now */
			r = 0;
	}
	fprintf(stderr, "proxy: %s: %s\n", argv[1], xenmsg_reason(conn, r));
	xenmsg_close(conn);
	return 1;
}
