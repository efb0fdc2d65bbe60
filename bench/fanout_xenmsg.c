/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* xenmsg for bench-fanout: a topic, and beside it plain messages to one receiver. The address is
 * DOMAIN:ENDPOINT. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/engine.h"
#include "bench/fanout.h"
#include "xenmsg.h"

#define OUTCOME_EACH 1024u /* messages of which one tells what became of it */

static struct {
	struct xenmsg *conn;
	const char *address;
	char own[80];
} publisher;

static int must(const char *what, int r)
{
	if (r < 0)
		engine_fail(what, r);
	return r;
}

static void on_message(void *userdata, struct xenmsg_message *message)
{
	const struct xenmsg_notice *notice = xenmsg_message_notice(message);

	if (!notice)
		took(userdata, xenmsg_message_data(message));
	else if (notice->kind == XENMSG_MISSED)
		missed(userdata, notice->count);
	xenmsg_message_free(message);
}

/* The topic is there only while its publisher is, so a subscription waits for it; the publisher looks who
 * listens. */
static void subscribe(struct subscriber *subscriber, const char *address, size_t size)
{
	struct xenmsg *conn;

	must("open", xenmsg_open(&conn, NULL, NULL));
	must("subscribe", xenmsg_subscribe(conn, address, XENMSG_FLAGS(XENMSG_LEND), on_message, subscriber));
	subscriber->own = conn;
	subscriber->fd = xenmsg_fd(conn);
}

static void receive(struct subscriber *subscriber, const char *address, size_t size)
{
	struct xenmsg *conn;

	must("open", xenmsg_open(&conn, NULL, NULL));
	must("bind", xenmsg_bind(conn, strchr(address, ':') + 1,
				 XENMSG_FLAGS(XENMSG_ONLY_MESSAGES | XENMSG_LEND), on_message, subscriber));
	subscriber->own = conn;
	subscriber->fd = xenmsg_fd(conn);
}

static void take(struct subscriber *subscriber)
{
	must("process", xenmsg_process(subscriber->own));
}

static void on_change(void *userdata, const struct xenmsg_change *change)
{
	if (change->kind == XENMSG_LISTENERS)
		*(uint64_t *)userdata = change->listeners;
}

static void open_topic(const char *address, size_t size)
{
	static uint64_t listeners;

	snprintf(publisher.own, sizeof(publisher.own), "self:%s", strchr(address, ':') + 1);
	publisher.address = publisher.own;
	must("open", xenmsg_open(&publisher.conn, NULL, NULL));
	xenmsg_on_change(publisher.conn, on_change, &listeners);
	must("bind", xenmsg_bind(publisher.conn, strchr(address, ':') + 1,
				 XENMSG_FLAGS(XENMSG_TOPIC | XENMSG_COUNT_LISTENERS), NULL, NULL));
	while (listeners < fanout_subscribers())
		must("wait for the subscribers", xenmsg_wait(publisher.conn, 20000));
}

static void open_sender(const char *address, size_t size)
{
	publisher.address = address;
	must("open", xenmsg_open(&publisher.conn, NULL, NULL));
}

static void on_outcome(void *userdata, const struct xenmsg_result *result)
{
	must("publish", result->error);
}

/* Of some messages it learns what became of them, so that a publisher that is refused says why, and doesn't
 * wait. */
static void publish(const void *data, size_t size)
{
	static unsigned count;
	xenmsg_done done = count++ % OUTCOME_EACH ? NULL : on_outcome;
	int r;

	while ((r = xenmsg_begin_send(publisher.conn, publisher.address, data, size, NULL, done, NULL,
				      NULL)) == -EAGAIN)
		must("room", xenmsg_await_room(publisher.conn, publisher.address, size, NULL));
	must("publish", r);
}

static void flush(void)
{
	must("flush", xenmsg_process(publisher.conn));
}

const struct contender fanout_topic = {"topic", subscribe, take, open_topic, publish, flush};
const struct contender fanout_send = {"send", receive, take, open_sender, publish, flush};
