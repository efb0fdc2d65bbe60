/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * nng, by the protocol pair0: the least that it does for a message.
 *
 * 	bench-nng server ADDRESS
 * 	bench-nng client ADDRESS MODE SIZE SECONDS    prints what engine.h says
 * 	bench-nng device LISTEN CONNECT               nng's own device, as a daemon between them
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>

#include "bench/engine.h"

struct pair {
	nng_socket socket;
	nng_msg *last;
};

static void must(const char *what, int error)
{
	if (!error)
		return;
	fprintf(stderr, "bench: %s: %s\n", what, nng_strerror(error));
	exit(1);
}

static void send_message(void *userdata, const void *data, size_t size)
{
	const struct pair *pair = userdata;
	nng_msg *message;

	must("nng_msg_alloc", nng_msg_alloc(&message, size));
	memcpy(nng_msg_body(message), data, size);
	must("nng_sendmsg", nng_sendmsg(pair->socket, message, 0));
}

static const void *receive(void *userdata, size_t size)
{
	struct pair *pair = userdata;

	if (pair->last)
		nng_msg_free(pair->last);
	must("nng_recvmsg", nng_recvmsg(pair->socket, &pair->last, 0));
	return nng_msg_body(pair->last);
}

static nng_socket open_socket(const char *address, int server, int raw)
{
	nng_socket socket;

	must("socket", raw ? nng_pair0_open_raw(&socket) : nng_pair0_open(&socket));
	must("limit", nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, 0));
	must(address, server ? nng_listen(socket, address, NULL, 0) : nng_dial(socket, address, NULL, 0));
	return socket;
}

int main(int argc, char **argv)
{
	struct pair pair = {.last = NULL};
	struct end end = {.userdata = &pair, .send = send_message, .receive = receive};
	const char *role = argc > 2 ? argv[1] : "";

	if (argc == 3 && strcmp(role, "server") == 0) {
		pair.socket = open_socket(argv[2], 1, 0);
		engine_ready();
		engine_serve(&end, 0); /* until it is killed */
	} else if (argc == 4 && strcmp(role, "device") == 0) {
		pair.socket = open_socket(argv[2], 1, 1);
		engine_ready();
		nng_device(pair.socket, open_socket(argv[3], 0, 1));
	} else if (argc == 6 && strcmp(role, "client") == 0) {
		pair.socket = open_socket(argv[2], 0, 0);
		engine_measure(&end, argv[3], (size_t)atol(argv[4]), atof(argv[5]));
		nng_close(pair.socket);
	} else {
		fprintf(stderr,
			"usage: bench-nng server ADDRESS | client ADDRESS MODE SIZE SECONDS | device LISTEN CONNECT\n");
		return 2;
	}
	return 0;
}
