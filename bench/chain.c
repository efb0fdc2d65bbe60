/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Measures the whole chain, program → daemon → ring → daemon → program, with libxenmsg: one xenmsg_post() for
 * each message. bench/raw.c measures the same without it.
 *
 * 	bench-chain server                               binds `bench`, and `bench-echo`, which echoes
 * 	bench-chain client PEER rtt|stream SIZE SECONDS  prints "MESSAGES NANOSECONDS"
 *
 * A stream ends when the last message was reported delivered, that is, taken by the server.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/clock.h"
#include "xenmsg.h"

static void fail(const char *what, int error)
{
	fprintf(stderr, "bench-chain: %s: %s\n", what, strerror(-error));
	exit(1);
}

/* ---- server ---------------------------------------------------------------------------------- */

static void take(void *userdata, struct xenmsg_message *message)
{
	xenmsg_message_free(message);
}

static void echo(void *userdata, struct xenmsg_message *message)
{
	struct xenmsg *conn = userdata;
	char address[32];
	int r;

	snprintf(address, sizeof(address), "%u:bench-reply", (unsigned)xenmsg_message_sender_domid(message));
	r = xenmsg_post(conn, address, xenmsg_message_data(message), xenmsg_message_size(message), NULL,
			NULL);
	if (r < 0)
		fail("echo", r);
	xenmsg_message_free(message);
}

static int serve(struct xenmsg *conn)
{
	int r = xenmsg_bind(conn, "bench", 0, take, NULL);

	if (r == 0)
		r = xenmsg_bind(conn, "bench-echo", 0, echo, conn);
	if (r < 0)
		fail("bind", r);
	puts("ready");
	fflush(stdout);
	for (;;) {
		r = xenmsg_wait(conn, -1);
		if (r < 0 && r != -EINTR)
			return 0; /* the daemon was stopped: the benchmark is over */
	}
}

/* ---- client ---------------------------------------------------------------------------------- */

struct client {
	struct xenmsg *conn;
	uint64_t sent, delivered, replies;
};

static void delivered(void *userdata, int result)
{
	struct client *client = userdata;

	if (result < 0)
		fail("delivery", result);
	client->delivered++;
}

static void replied(void *userdata, struct xenmsg_message *message)
{
	struct client *client = userdata;

	client->replies++;
	xenmsg_message_free(message);
}

static void wait_once(struct client *client)
{
	int r = xenmsg_wait(client->conn, 30000);

	if (r <= 0)
		fail("wait", r == 0 ? -ETIMEDOUT : r);
}

static void post(struct client *client, const char *address, const void *data, size_t size)
{
	int r;

	while ((r = xenmsg_post(client->conn, address, data, size, delivered, client)) == -EAGAIN)
		wait_once(client);
	if (r < 0)
		fail("post", r);
	client->sent++;
}

static void measure(struct client *client, const char *peer, bool stream, size_t size, double seconds)
{
	uint64_t start, end, limit = (uint64_t)(seconds * 1e9);
	char address[64], *data = calloc(1, size ? size : 1);
	int r;

	if (!data)
		fail("memory", -ENOMEM);
	snprintf(address, sizeof(address), "%s:%s", peer, stream ? "bench" : "bench-echo");
	r = xenmsg_bind(client->conn, "bench-reply", 0, replied, client);
	if (r < 0)
		fail("bind", r);
	/* The first message makes the link and the channels. */
	post(client, address, data, size);
	while (client->delivered < 1 || (!stream && client->replies < 1))
		wait_once(client);
	client->sent = client->delivered = client->replies = 0;
	start = now_ns();
	do {
		post(client, address, data, size);
		while (!stream && client->replies < client->sent)
			wait_once(client);
	} while ((stream && client->sent % 64 && size <= 4096) || now_ns() - start < limit);
	while (stream && client->delivered < client->sent)
		wait_once(client);
	end = now_ns();
	printf("%llu %llu\n", (unsigned long long)client->sent, (unsigned long long)(end - start));
	free(data);
}

int main(int argc, char **argv)
{
	struct client client = {.conn = NULL};
	bool server = argc == 2 && strcmp(argv[1], "server") == 0;
	int r;

	if (!server && (argc != 6 || strcmp(argv[1], "client") != 0)) {
		fprintf(stderr, "usage: bench-chain server | client PEER rtt|stream SIZE SECONDS\n");
		return 2;
	}
	r = xenmsg_open(&client.conn, NULL);
	if (r < 0)
		fail("open", r);
	if (server)
		serve(client.conn);
	else
		measure(&client, argv[2], strcmp(argv[3], "stream") == 0, (size_t)atol(argv[4]),
			atof(argv[5]));
	xenmsg_close(client.conn);
	return 0;
}
