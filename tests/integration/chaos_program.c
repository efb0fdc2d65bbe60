/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * chaos_program JOURNAL NUMBER SEED ENDPOINT ADDRESS...: a program of the chaos test. It binds ENDPOINT, sends messages of all
 * sizes to the addresses, takes what comes, and writes a record of each step into its journal, which outlives a kill -9. When
 * its daemon goes, it comes back with the next one. SIGTERM ends it in order: it waits for the outcomes of what it has sent.
 *
 * A message begins with its number and its size; the rest follows from the number, so that the receiver can check each byte.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "xenmsg.h"

/* Records of the journal; test_chaos.py reads them. */
enum {
	STARTED = 1,  /* a send begins; value: the index of its address */
	ENDED = 2,    /* its outcome */
	RECEIVED = 3, /* number; value: 0 whole, 1 damaged */
	FAULT = 4,    /* something that must not happen: errno */
	FINISHED = 5, /* ends in order; value: sends without an outcome */
	REFUSED = 6,  /* the library took the message back at once: it was not sent */
};

struct record {
	uint64_t message;
	uint32_t kind;
	int32_t value;
};

#define LARGEST	  (1u << 20)
#define IN_FLIGHT 16

static volatile sig_atomic_t stopping;
static int journal;
static uint64_t random_state;
static unsigned in_flight;
static uint8_t payload[LARGEST];

static void on_signal(int number)
{
	(void)number;
	stopping = 1;
}

static void note(uint32_t kind, uint64_t message, int32_t value)
{
	struct record record = {message, kind, value};

	if (write(journal, &record, sizeof(record)) != sizeof(record))
		abort();
}

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void fill(uint64_t message, uint8_t *data, size_t size)
{
	uint64_t state = message;

	memcpy(data, &message, sizeof(message));
	memcpy(data + 8, &(uint64_t){size}, 8);
	for (size_t i = 16; i < size; i += 8) {
		uint64_t value = next_random(&state);

		memcpy(data + i, &value, size - i < 8 ? size - i : 8);
	}
}

static void take(void *userdata, struct xenmsg_message *message)
{
	static uint8_t expected[LARGEST];
	size_t size = xenmsg_message_size(message);
	uint64_t number = 0;

	(void)userdata;
	if (size >= 16 && size <= LARGEST) {
		memcpy(&number, xenmsg_message_data(message), 8);
		fill(number, expected, size);
		note(RECEIVED, number, memcmp(expected, xenmsg_message_data(message), size) != 0);
	} else {
		note(RECEIVED, 0, 1);
	}
	xenmsg_message_free(message);
}

static void ended(void *userdata, int result)
{
	in_flight--;
	note(ENDED, (uint64_t)(uintptr_t)userdata, result);
}

static size_t random_size(void)
{
	uint64_t dice = next_random(&random_state);

	if (dice % 100 < 80)
		return 16 + (dice >> 8) % 500;
	if (dice % 100 < 97)
		return 16 + (dice >> 8) % 20000;
	return 16 + (dice >> 8) % (LARGEST - 16);
}

/* One send; false if the connection is no good any more. */
static bool send_one(struct xenmsg *conn, uint64_t message, unsigned to, const char *address)
{
	size_t size = random_size();
	int r;

	fill(message, payload, size);
	note(STARTED, message, (int32_t)to);
	if (next_random(&random_state) % 8 == 0) {
		/* often too short a time, so that cancelling is tried, too */
		r = xenmsg_send(conn, address, payload, size, (int)(next_random(&random_state) % 50) + 1);
		note(ENDED, message, r);
	} else {
		in_flight++;
		r = xenmsg_post(conn, address, payload, size, ended, (void *)(uintptr_t)message);
		if (r < 0) {
			in_flight--;
			note(REFUSED, message, r);
		}
	}
	return r != -ENOTCONN && r != -EPROTO;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	uint64_t message;
	int r = 0;

	if (argc < 6)
		return 2;
	journal = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (journal < 0)
		return 1;
	message = strtoull(argv[2], NULL, 10) << 32;
	random_state = strtoull(argv[3], NULL, 10);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);

	while (!stopping) {
		struct xenmsg *conn;
		int64_t end;

		r = xenmsg_open(&conn, NULL);
		if (r < 0) { /* the daemon is being restarted */
			poll(NULL, 0, 20);
			continue;
		}
		r = xenmsg_bind(conn, argv[4], 0, take, NULL);
		if (r < 0) {
			/* -EEXIST: the daemon hasn't seen yet that our predecessor is gone */
			if (r != -EEXIST && r != -ENOTCONN && r != -EINTR)
				note(FAULT, 0, r);
			xenmsg_close(conn);
			poll(NULL, 0, 20);
			continue;
		}
		while (!stopping && r != -ENOTCONN && r != -EPROTO) {
			if (in_flight < IN_FLIGHT) {
				unsigned to = (unsigned)(next_random(&random_state) % (uint64_t)(argc - 5));

				if (!send_one(conn, ++message, to, argv[5 + to]))
					break;
			}
			r = xenmsg_wait(conn,
					in_flight < IN_FLIGHT ? (int)(next_random(&random_state) % 5) : 50);
		}
		if (r == -EPROTO)
			note(FAULT, 0, r);
		for (end = now_ms() + 3000; in_flight && now_ms() < end;) {
			r = xenmsg_wait(conn, 100);
			if (r == -ENOTCONN || r == -EPROTO)
				break;
		}
		xenmsg_close(conn); /* ends the rest */
		if (in_flight)
			note(FAULT, in_flight, -ETIME);
		in_flight = 0;
	}
	note(FINISHED, 0, (int32_t)in_flight);
	return 0;
}
