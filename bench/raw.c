/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The yardstick: stock libxenvchan between two programs, with one vchan and one libxenvchan_send() for each
 * message, as a program of today would do it. With `spin` both look at the ring until something has changed
 * instead of sleeping, and so never notify each other: the fair opponent of busy polling.
 *
 * 	bench-raw server PEER PATH RING [spin]                   serves one client
 * 	bench-raw client PEER PATH MODE SIZE SECONDS [spin]      prints what engine.h says
 */

#include <libxenvchan.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/engine.h"

struct raw {
	struct libxenvchan *vchan;
	size_t ring;
	bool spins;
	void *data; /* of the message that was received last */
	size_t capacity;
};

static size_t ring_size(const struct libxenvchan_ring *ring)
{
	return (size_t)1 << ring->order;
}

/* libxenvchan's own functions for this ask for a notification at each look. */
static size_t filled(const struct libxenvchan_ring *ring)
{
	return __atomic_load_n(&ring->shr->prod, __ATOMIC_ACQUIRE) -
	       __atomic_load_n(&ring->shr->cons, __ATOMIC_ACQUIRE);
}

static void pause_cpu(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Spins until so much can be read, or returns false if the other end has gone. */
static bool spin_for_data(struct raw *raw, size_t size)
{
	for (unsigned turn = 1; filled(&raw->vchan->read) < size; turn++) {
		if (turn % 4096 == 0 && libxenvchan_is_open(raw->vchan) == 0)
			return false;
		pause_cpu();
	}
	return true;
}

static void spin_for_room(struct raw *raw, size_t size)
{
	while (raw->ring - filled(&raw->vchan->write) < size)
		pause_cpu();
}

static void send_piece(struct raw *raw, const void *data, size_t size)
{
	if (raw->spins)
		spin_for_room(raw, size);
	if (libxenvchan_send(raw->vchan, data, size) != (int)size)
		engine_fail("libxenvchan_send", errno);
}

static void send_message(void *userdata, const void *data, size_t size)
{
	struct raw *raw = userdata;

	/* A message larger than the ring has to go in parts. */
	if (size <= raw->ring) {
		send_piece(raw, data, size);
	} else if (!raw->spins) {
		if (libxenvchan_write(raw->vchan, data, size) != (int)size)
			engine_fail("libxenvchan_write", errno);
	} else {
		for (size_t sent = 0; sent < size;) {
			size_t room = raw->ring - filled(&raw->vchan->write);
			size_t part = size - sent < room ? size - sent : room;

			if (part)
				send_piece(raw, (const char *)data + sent, part);
			sent += part;
		}
	}
}

static const void *receive_message(void *userdata, size_t size)
{
	struct raw *raw = userdata;
	size_t got = 0;

	if (raw->capacity < size) {
		raw->capacity = size;
		raw->data = realloc(raw->data, size);
		if (!raw->data)
			engine_fail("memory", ENOMEM);
	}
	if (size <= raw->ring) {
		if (raw->spins && !spin_for_data(raw, size))
			return NULL;
		return libxenvchan_recv(raw->vchan, raw->data, size) == (int)size ? raw->data : NULL;
	}
	while (got < size) {
		int n;

		if (raw->spins && !spin_for_data(raw, 1))
			return NULL;
		n = libxenvchan_read(raw->vchan, (char *)raw->data + got,
				     raw->spins && filled(&raw->vchan->read) < size - got
					     ? filled(&raw->vchan->read)
					     : size - got);
		if (n <= 0)
			return NULL;
		got += (size_t)n;
	}
	return raw->data;
}

static void use(struct raw *raw)
{
	struct end end = {.userdata = raw, .send = send_message, .receive = receive_message};
	const uint32_t *size;

	/* The client's first message says how large the others are. */
	size = receive_message(raw, sizeof(*size));
	if (!size)
		engine_fail("receive", ECONNRESET);
	engine_serve(&end, *size);
}

static int serve(int peer, const char *path, size_t ring, bool spins)
{
	struct raw raw = {.ring = ring, .spins = spins};

	raw.vchan = libxenvchan_server_init(NULL, peer, path, ring, ring);
	if (!raw.vchan)
		engine_fail("libxenvchan_server_init", errno);
	raw.vchan->blocking = -1;
	engine_ready();
	/* wait for the first client */
	while (libxenvchan_is_open(raw.vchan) == 2)
		if (libxenvchan_wait(raw.vchan) < 0)
			engine_fail("libxenvchan_wait", errno);
	use(&raw);
	libxenvchan_close(raw.vchan);
	free(raw.data);
	return 0;
}

static int ask(int peer, const char *path, const char *mode, size_t size, double seconds, bool spins)
{
	struct raw raw = {.vchan = libxenvchan_client_init(NULL, peer, path), .spins = spins};
	struct end end = {.userdata = &raw, .send = send_message, .receive = receive_message};
	uint32_t order = (uint32_t)size;

	if (!raw.vchan)
		engine_fail("libxenvchan_client_init", errno);
	raw.vchan->blocking = -1;
	raw.vchan->server_persist = 0;
	raw.ring = ring_size(&raw.vchan->write);
	send_message(&raw, &order, sizeof(order));
	engine_measure(&end, mode, size, seconds);
	libxenvchan_close(raw.vchan);
	free(raw.data);
	return 0;
}

int main(int argc, char **argv)
{
	bool spins = argc > 2 && strcmp(argv[argc - 1], "spin") == 0;

	argc -= spins;
	if (argc == 5 && strcmp(argv[1], "server") == 0)
		return serve(atoi(argv[2]), argv[3], (size_t)atol(argv[4]), spins);
	if (argc == 7 && strcmp(argv[1], "client") == 0 && atol(argv[5]) >= 4)
		return ask(atoi(argv[2]), argv[3], argv[4], (size_t)atol(argv[5]), atof(argv[6]), spins);
	fprintf(stderr,
		"usage: bench-raw server PEER PATH RING [spin] | client PEER PATH MODE SIZE SECONDS [spin]\n");
	return 2;
}
