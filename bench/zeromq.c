/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * ZeroMQ, by sockets of type PAIR: the least that it does for a message.
 *
 * 	bench-zeromq server ADDRESS
 * 	bench-zeromq client ADDRESS MODE SIZE SECONDS    prints what engine.h says
 * 	bench-zeromq proxy LISTEN CONNECT                ZeroMQ's own proxy, as a daemon between them
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zmq.h>

#include "bench/engine.h"

struct pair {
	void *context, *socket;
	zmq_msg_t last;
};

static void send_message(void *userdata, const void *data, size_t size)
{
	struct pair *pair = userdata;

	if (zmq_send(pair->socket, data, size, 0) < 0)
		engine_fail("zmq_send", zmq_errno());
}

static const void *receive(void *userdata, size_t size)
{
	struct pair *pair = userdata;

	zmq_msg_close(&pair->last);
	zmq_msg_init(&pair->last);
	if (zmq_msg_recv(&pair->last, pair->socket, 0) < 0)
		engine_fail("zmq_msg_recv", zmq_errno());
	return zmq_msg_data(&pair->last);
}

static void *open_socket(void *context, const char *address, int server)
{
	void *socket = zmq_socket(context, ZMQ_PAIR);
	int linger = 0;

	zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof(linger));
	if (server ? zmq_bind(socket, address) : zmq_connect(socket, address))
		engine_fail(address, zmq_errno());
	return socket;
}

int main(int argc, char **argv)
{
	struct pair pair = {.context = zmq_ctx_new()};
	struct end end = {.userdata = &pair, .send = send_message, .receive = receive};
	const char *role = argc > 2 ? argv[1] : "";

	if (!pair.context)
		engine_fail("zmq_ctx_new", errno);
	zmq_msg_init(&pair.last);
	if (argc == 3 && strcmp(role, "server") == 0) {
		pair.socket = open_socket(pair.context, argv[2], 1);
		engine_ready();
		engine_serve(&end, 0); /* until it is killed */
	} else if (argc == 4 && strcmp(role, "proxy") == 0) {
		pair.socket = open_socket(pair.context, argv[2], 1);
		engine_ready();
		zmq_proxy(pair.socket, open_socket(pair.context, argv[3], 0), NULL);
	} else if (argc == 6 && strcmp(role, "client") == 0) {
		pair.socket = open_socket(pair.context, argv[2], 0);
		engine_measure(&end, argv[3], (size_t)atol(argv[4]), atof(argv[5]));
		zmq_close(pair.socket);
		zmq_ctx_term(pair.context);
	} else {
		fprintf(stderr,
			"usage: bench-zeromq server ADDRESS | client ADDRESS MODE SIZE SECONDS | proxy LISTEN CONNECT\n");
		return 2;
	}
	return 0;
}
