/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Measures the yardstick: stock libxenvchan between two programs, with one vchan and one libxenvchan_send()
 * for each message, as a program of today would do it.
 *
 * 	bench-raw server PEER PATH RING            serves one client: echoes its messages or only takes them
 * 	bench-raw client PEER PATH rtt|stream SIZE SECONDS
 *
 * The client prints "MESSAGES NANOSECONDS". A stream ends with an answer from the server, so that all of it
 * has arrived.
 */

#include <libxenvchan.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/clock.h"

/* The client's first message, and one before each batch of a stream, with its number of messages (0: end). */
struct order {
	uint32_t stream;
	uint32_t size;
};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void send_all(struct libxenvchan *vchan, const void *data, size_t size, size_t ring)
{
	/* A message larger than the ring has to go in parts. */
	int n = size <= ring ? libxenvchan_send(vchan, data, size) : libxenvchan_write(vchan, data, size);

	if (n != (int)size)
		fail("send");
}

static void receive_all(struct libxenvchan *vchan, void *data, size_t size, size_t ring)
{
	size_t got = 0;

	if (size <= ring) {
		if (libxenvchan_recv(vchan, data, size) != (int)size)
			fail("receive");
		return;
	}
	while (got < size) {
		int n = libxenvchan_read(vchan, (char *)data + got, size - got);

		if (n <= 0)
			fail("read");
		got += (size_t)n;
	}
}

static size_t ring_size(const struct libxenvchan_ring *ring)
{
	return (size_t)1 << ring->order;
}

static int serve(int peer, const char *path, size_t ring)
{
	struct libxenvchan *vchan = libxenvchan_server_init(NULL, peer, path, ring, ring);
	struct order order;
	char *data;

	if (!vchan)
		fail("libxenvchan_server_init");
	vchan->blocking = -1;
	/* wait for the first client */
	while (libxenvchan_is_open(vchan) == 2)
		if (libxenvchan_wait(vchan) < 0)
			fail("libxenvchan_wait");
	receive_all(vchan, &order, sizeof(order), ring);
	data = malloc(order.size);
	if (!data)
		fail("malloc");
	if (!order.stream) {
		uint32_t more;

		for (;;) {
			receive_all(vchan, data, order.size, ring);
			memcpy(&more, data, sizeof(more));
			if (!more)
				break;
			send_all(vchan, data, order.size, ring);
		}
	} else {
		uint32_t last;

		do {
			receive_all(vchan, data, order.size, ring);
			memcpy(&last, data, sizeof(last));
		} while (last);
	}
	send_all(vchan, "", 1, ring);
	/* The client closes first, after it has read the answer. */
	while (libxenvchan_is_open(vchan))
		if (libxenvchan_wait(vchan) < 0)
			break;
	libxenvchan_close(vchan);
	free(data);
	return 0;
}

static int ask(int peer, const char *path, struct order order, double seconds)
{
	struct libxenvchan *vchan = libxenvchan_client_init(NULL, peer, path);
	uint64_t start, end = 0, limit = (uint64_t)(seconds * 1e9), messages = 0;
	char *data = calloc(1, order.size), answer;
	size_t ring;

	if (!vchan || !data)
		fail("libxenvchan_client_init");
	vchan->blocking = -1;
	vchan->server_persist = 0;
	ring = ring_size(&vchan->write);
	send_all(vchan, &order, sizeof(order), ring);
	data[0] = 1;
	start = now_ns();
	for (;;) {
		send_all(vchan, data, order.size, ring);
		if (!order.stream)
			receive_all(vchan, data, order.size, ring);
		messages++;
		/* Reading the clock costs as much as a small message, so it is read now and then only. */
		if ((!order.stream || messages % 64 == 0 || order.size > 4096) && now_ns() - start > limit)
			break;
	}
	if (!order.stream)
		end = now_ns();
	memset(data, 0, 4);
	send_all(vchan, data, order.size, ring);
	receive_all(vchan, &answer, 1, ring);
	if (order.stream)
		end = now_ns();
	printf("%llu %llu\n", (unsigned long long)messages, (unsigned long long)(end - start));
	libxenvchan_close(vchan);
	free(data);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "server") == 0)
		return serve(atoi(argv[2]), argv[3], (size_t)atol(argv[4]));
	if (argc == 7 && strcmp(argv[1], "client") == 0 && atol(argv[5]) >= 4)
		return ask(atoi(argv[2]), argv[3],
			   (struct order){.stream = strcmp(argv[4], "stream") == 0,
					  .size = (uint32_t)atol(argv[5])},
			   atof(argv[6]));
	fprintf(stderr,
		"usage: bench-raw server PEER PATH RING | client PEER PATH rtt|stream SIZE SECONDS\n");
	return 2;
}
