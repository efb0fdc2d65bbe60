/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The whole chain, program → daemon → ring → daemon → program, by libxenmsg's functions in C.
 *
 * 	bench-chain server [COUNT]                 binds `bench`, `lend` (XENMSG_LEND), and so many more
 * 	                                           endpoints
 * 	bench-chain client PEER MODE SIZE SECONDS  prints what engine.h says
 * 	bench-chain lend PEER MODE SIZE SECONDS    the same to `lend`, with messages that are reserved
 * 	bench-chain hold PEER COUNT CONNECTIONS    sends a message to each of these endpoints, on each of so many
 * 	                                           connections; when all are delivered it prints "NANOSECONDS",
 * 	                                           and holds their channels until its input ends
 */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/engine.h"
#include "xenmsg.h"

struct chain {
	struct xenmsg *conn;
	char address[80];
	uint64_t answers, replies; /* that have come and weren't taken by the engine */
};

static void delivered(void *userdata, const struct xenmsg_result *result)
{
	if (result->error < 0)
		engine_fail("delivery", result->error);
}

static void wait_once(struct chain *chain)
{
	int r = xenmsg_wait(chain->conn, 30000);

	if (r <= 0)
		engine_fail("wait", r == 0 ? -ETIMEDOUT : r);
}

/* ---- server ---------------------------------------------------------------------------------- */

/* The address is made anew only when somebody else has sent: to format it takes longer than to send. */
static void answer(struct xenmsg *conn, struct xenmsg_message *message, size_t size)
{
	static char address[128], host_before[64];
	static unsigned domid_before;
	const struct xenmsg_peer *sender = xenmsg_message_sender(message);
	const char *host = xenmsg_peer_host(sender);
	unsigned domid = xenmsg_peer_domid(sender);
	int r;

	if (!*address || domid != domid_before || strcmp(host, host_before) != 0) {
		snprintf(address, sizeof(address), "%s%s%u:bench-reply", host, *host ? "/" : "", domid);
		snprintf(host_before, sizeof(host_before), "%s", host);
		domid_before = domid;
	}
	r = xenmsg_begin_send(conn, address, xenmsg_message_data(message), size, NULL, NULL, NULL, NULL);
	if (r < 0)
		engine_fail("answer", r);
}

static void take(void *userdata, struct xenmsg_message *message)
{
	struct xenmsg *conn = userdata;
	const char *data = xenmsg_message_data(message);
	size_t size = xenmsg_message_size(message);
	int r;

	if (xenmsg_message_wants_reply(message)) {
		r = xenmsg_reply(message, data, size);
		if (r < 0 && r != -ECANCELED)
			engine_fail("reply", r);
	} else if (size && data[0] != ANSWER_NONE) {
		answer(conn, message, data[0] == ANSWER_ALL ? size : 1);
	}
	xenmsg_message_free(message);
}

static int serve(struct xenmsg *conn, unsigned count)
{
	int r = xenmsg_bind(conn, "bench", NULL, take, conn);

	if (r == 0)
		r = xenmsg_bind(conn, "lend", XENMSG_FLAGS(XENMSG_LEND), take, conn);
	for (unsigned i = 0; i < count && r == 0; i++) {
		char name[32];

		snprintf(name, sizeof(name), "b%u", i);
		r = xenmsg_bind(conn, name, NULL, take, conn);
	}
	if (r < 0)
		engine_fail("bind", r);
	engine_ready();
	for (;;) {
		r = xenmsg_wait(conn, -1);
		if (r < 0 && r != -EINTR)
			return 0; /* the daemon was stopped: the benchmark is over */
	}
}

/* ---- client ---------------------------------------------------------------------------------- */

static void post(void *userdata, const void *data, size_t size)
{
	struct chain *chain = userdata;
	int r;

	while ((r = xenmsg_begin_send(chain->conn, chain->address, data, size, NULL, delivered, chain,
				      NULL)) == -EAGAIN)
		wait_once(chain);
	if (r < 0)
		engine_fail("post", r);
}

/* Only the first byte is written: the others are as it finds them, since a program that lends has no other
 * place from which it copies. */
static void post_lent(void *userdata, const void *data, size_t size)
{
	struct chain *chain = userdata;
	void *place;
	int r;

	while ((r = xenmsg_reserve(chain->conn, chain->address, size, &place)) == -EAGAIN)
		wait_once(chain);
	if (r == 0) {
		memcpy(place, data, 1);
		r = xenmsg_commit(chain->conn, size, NULL, delivered, chain, NULL);
	}
	if (r < 0)
		engine_fail("post", r);
}

static void on_answer(void *userdata, struct xenmsg_message *message)
{
	struct chain *chain = userdata;

	chain->answers++;
	xenmsg_message_free(message);
}

static const void *receive(void *userdata, size_t size)
{
	struct chain *chain = userdata;

	while (!chain->answers)
		wait_once(chain);
	chain->answers--;
	return ""; /* what is in it was looked at */
}

static void on_reply(void *userdata, const struct xenmsg_result *result)
{
	struct chain *chain = userdata;

	if (result->error < 0)
		engine_fail("call", result->error);
	chain->replies++;
	xenmsg_message_free(result->reply);
}

static void call(void *userdata, const void *data, size_t size)
{
	struct chain *chain = userdata;
	int r;

	while ((r = xenmsg_begin_call(chain->conn, chain->address, data, size, NULL, on_reply, chain,
				      NULL)) == -EAGAIN)
		wait_once(chain);
	if (r < 0)
		engine_fail("call", r);
}

static void await_reply(void *userdata)
{
	struct chain *chain = userdata;

	while (!chain->replies)
		wait_once(chain);
	chain->replies--;
}

static void measure(struct chain *chain, bool lends, const char *peer, const char *mode, size_t size,
		    double seconds)
{
	struct end end = {.userdata = chain, .send = lends ? post_lent : post, .receive = receive};
	int r = xenmsg_bind(chain->conn, "bench-reply", XENMSG_FLAGS(lends ? XENMSG_LEND : 0), on_answer,
			    chain);

	if (r < 0)
		engine_fail("bind", r);
	if (strncmp(mode, "calls", 5) == 0) {
		end.call = call;
		end.reply = await_reply;
	}
	snprintf(chain->address, sizeof(chain->address), lends ? "%s:lend" : "%s:bench", peer);
	engine_measure(&end, mode, size, seconds);
}

static void count_delivery(void *userdata, const struct xenmsg_result *result)
{
	struct chain *chain = userdata;

	delivered(chain, result);
	chain->answers++;
}

/* Opens one channel to each endpoint, on a connection of its own, which stays until the process ends. */
static void hold(const char *peer, unsigned count)
{
	struct chain chain = {.conn = NULL};
	int r = xenmsg_open(&chain.conn, NULL, NULL);

	for (unsigned i = 0; i < count && r == 0; i++) {
		snprintf(chain.address, sizeof(chain.address), "%s:b%u", peer, i);
		while ((r = xenmsg_begin_send(chain.conn, chain.address, "\0", 1, NULL, count_delivery,
					      &chain, NULL)) == -EAGAIN)
			wait_once(&chain);
	}
	if (r < 0)
		engine_fail("hold", r);
	while (chain.answers < count)
		wait_once(&chain);
}

static void make_channels(const char *peer, unsigned count, unsigned connections)
{
	uint64_t start = now_ns();
	char byte;

	for (unsigned i = 0; i < connections; i++)
		hold(peer, count);
	printf("%llu\n", (unsigned long long)(now_ns() - start));
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
}

int main(int argc, char **argv)
{
	struct chain chain = {.conn = NULL};
	const char *role = argc > 1 ? argv[1] : "";
	int server = (argc == 2 || argc == 3) && strcmp(role, "server") == 0, r;

	if (argc == 5 && strcmp(role, "hold") == 0) {
		make_channels(argv[2], (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
		return 0;
	}
	if (!server && !(argc == 6 && (strcmp(role, "client") == 0 || strcmp(role, "lend") == 0))) {
		fprintf(stderr,
			"usage: bench-chain server [COUNT] | client|lend PEER MODE SIZE SECONDS | hold PEER COUNT CONNECTIONS\n");
		return 2;
	}
	r = xenmsg_open(&chain.conn, NULL, NULL);
	if (r < 0)
		engine_fail("open", r);
	if (server)
		serve(chain.conn, argc == 3 ? (unsigned)atoi(argv[2]) : 0);
	else
		measure(&chain, strcmp(role, "lend") == 0, argv[2], argv[3], (size_t)atol(argv[4]),
			atof(argv[5]));
	xenmsg_close(chain.conn);
	return 0;
}
