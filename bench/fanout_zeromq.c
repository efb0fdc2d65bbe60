/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* ZeroMQ for bench-fanout: PUB and SUB. It would drop what is more than its high-water mark, so there is
 * none. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zmq.h>

#include "bench/engine.h"
#include "bench/fanout.h"

static void *context, *publisher;

static void *open_socket(int type)
{
	int none = 0;
	void *socket;

	if (!context) {
		context = zmq_ctx_new();
		zmq_ctx_set(context, ZMQ_MAX_SOCKETS, 4096);
	}
	socket = zmq_socket(context, type);
	if (!socket)
		engine_fail("zmq_socket", zmq_errno());
	zmq_setsockopt(socket, ZMQ_SNDHWM, &none, sizeof(none));
	zmq_setsockopt(socket, ZMQ_RCVHWM, &none, sizeof(none));
	zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof(none));
	return socket;
}

static void take(struct subscriber *subscriber)
{
	zmq_msg_t message;

	zmq_msg_init(&message);
	while (zmq_msg_recv(&message, subscriber->own, ZMQ_DONTWAIT) >= 0)
		if (zmq_msg_size(&message) > 1) /* else it only says that it has subscribed */
			took(subscriber, zmq_msg_data(&message));
	zmq_msg_close(&message);
}

static void subscribe(struct subscriber *subscriber, const char *address, size_t size)
{
	size_t length = sizeof(subscriber->fd);
	int soon = 10;

	subscriber->own = open_socket(ZMQ_SUB);
	zmq_setsockopt(subscriber->own, ZMQ_SUBSCRIBE, "", 0);
	zmq_setsockopt(subscriber->own, ZMQ_RECONNECT_IVL, &soon, sizeof(soon));
	if (zmq_connect(subscriber->own, address))
		engine_fail(address, zmq_errno());
	zmq_getsockopt(subscriber->own, ZMQ_FD, &subscriber->fd, &length);
	take(subscriber); /* or its descriptor tells nothing */
}

/* XPUB is PUB that tells who subscribes, so that it can be waited for. */
static void open_publisher(const char *address, size_t size)
{
	int all = 1;
	char told[8];

	publisher = open_socket(ZMQ_XPUB);
	zmq_setsockopt(publisher, ZMQ_XPUB_VERBOSE, &all, sizeof(all));
	if (zmq_bind(publisher, address))
		engine_fail(address, zmq_errno());
	for (uint32_t i = 0; i < fanout_subscribers(); i++)
		if (zmq_recv(publisher, told, sizeof(told), 0) < 0)
			engine_fail("zmq_recv", zmq_errno());
}

static void publish(const void *data, size_t size)
{
	if (zmq_send(publisher, data, size, 0) < 0)
		engine_fail("zmq_send", zmq_errno());
}

static void flush(void)
{
}

const struct contender fanout_zeromq = {"zeromq", subscribe, take, open_publisher, publish, flush};
