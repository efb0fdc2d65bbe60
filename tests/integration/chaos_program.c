/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * chaos-program JOURNAL NUMBER SEED ENDPOINT ADDRESS...: a program of the chaos test. It binds ENDPOINT for
 * messages and calls and ENDPOINT-s for streams, sends, calls and connects to the addresses (with -s for
 * streams), takes what comes, and writes a record of each step into its journal, which outlives a kill -9.
 * When its daemon goes, it comes back with the next one. SIGTERM ends it in order: it waits for the outcomes
 * of what it has sent and called, and for its streams.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/integration/chaos.h"

#define IN_FLIGHT 16

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
	stopping = 1;
}

void note(struct chaos *chaos, uint32_t kind, uint64_t number, int32_t value)
{
	struct {
		uint64_t number;
		uint32_t kind;
		int32_t value;
	} record = {number, kind, value};

	if (write(chaos->journal, &record, sizeof(record)) != sizeof(record))
		abort();
}

uint64_t next_random(uint64_t *state) /* splitmix64 */
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

unsigned dice(struct chaos *chaos, unsigned bound)
{
	return (unsigned)(next_random(&chaos->random_state) % bound);
}

int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void take(void *userdata, struct xenmsg_message *message)
{
	/* The caller of a request may have given it up already, so that it wants no reply; its number tells
	 * what it was. */
	struct chaos *chaos = userdata;

	if (xenmsg_message_wants_reply(message))
		calls_take(chaos, message);
	else
		messages_take(chaos, message);
}

static bool is_bad(int r)
{
	return r == -ENOTCONN || r == -EPROTO;
}

/* Something for one of the others. 0, or the connection is no good any more. */
static int begin_something(struct chaos *chaos, char *const *addresses, unsigned addresses_count)
{
	unsigned to = dice(chaos, addresses_count), what = dice(chaos, 100);
	char address[128];

	if (what < 60)
		return messages_send(chaos, to, addresses[to]);
	if (what < 90)
		return calls_make(chaos, to, addresses[to]);
	if (streams_count() < STREAMS_MAX / 2) {
		snprintf(address, sizeof(address), "%s-s", addresses[to]);
		streams_connect(chaos, to, address);
	}
	return 0;
}

/* One round: waits for at most timeout_ms, does what there is to do. */
static int run(struct chaos *chaos, int timeout_ms)
{
	struct pollfd polled[STREAMS_MAX + 1] = {{.fd = xenmsg_fd(chaos->conn), .events = POLLIN}};
	int r;

	poll(polled, 1 + streams_poll(chaos, polled + 1), timeout_ms);
	r = xenmsg_process(chaos->conn);
	streams_accept(chaos);
	streams_run(chaos);
	calls_answer(chaos, false);
	if (!chaos->in_flight)
		chaos->last_outcome = now_ms();
	if (now_ms() - chaos->last_outcome > STALLED_MS) {
		note(chaos, FAULT, chaos->in_flight, -ETIME);
		chaos->last_outcome = INT64_MAX; /* once is enough */
	}
	return is_bad(r) ? r : 0;
}

static int bind_endpoints(struct chaos *chaos, const char *endpoint)
{
	char streams[72];
	int r = xenmsg_bind(chaos->conn, endpoint, NULL, take, chaos);

	snprintf(streams, sizeof(streams), "%s-s", endpoint);
	return r < 0 ? r : xenmsg_listen(chaos->conn, streams, NULL);
}

/* With one daemon, until it or we end. */
static void session(struct chaos *chaos, const char *endpoint, char *const *addresses,
		    unsigned addresses_count)
{
	int64_t end;
	int r = bind_endpoints(chaos, endpoint);

	chaos->last_outcome = now_ms();
	if (r < 0) {
		/* -EEXIST: the daemon hasn't seen yet that our predecessor is gone; -EACCES: its policy
		 * doesn't let us, for now */
		if (r != -EEXIST && r != -EACCES && r != -ENOTCONN && r != -EINTR)
			note(chaos, FAULT, 0, r);
		xenmsg_close(chaos->conn);
		poll(NULL, 0, 20);
		return;
	}
	while (!stopping && r == 0) {
		if (chaos->in_flight < IN_FLIGHT)
			r = begin_something(chaos, addresses, addresses_count);
		if (r == 0)
			r = run(chaos, chaos->in_flight < IN_FLIGHT ? (int)dice(chaos, 5) : 50);
	}
	if (r == -EPROTO)
		note(chaos, FAULT, 0, r);
	for (end = now_ms() + 3000; r == 0 && (chaos->in_flight || streams_count()) && now_ms() < end;)
		r = run(chaos, 20);
	calls_answer(chaos, true);
	xenmsg_close(chaos->conn); /* ends the rest */
	if (chaos->in_flight)
		note(chaos, FAULT, chaos->in_flight, -ETIME);
	chaos->in_flight = 0;
}

static int descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int count = 0;

	while (directory && readdir(directory))
		count++;
	if (directory)
		closedir(directory);
	return count;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct chaos chaos = {0};
	int descriptors_before;

	if (argc < 6)
		return 2;
	chaos.journal = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (chaos.journal < 0)
		return 1;
	chaos.last_number = strtoull(argv[2], NULL, 10) << 32;
	chaos.random_state = strtoull(argv[3], NULL, 10);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	note(&chaos, PROCESS, 0, getpid());
	descriptors_before = descriptors();

	while (!stopping) {
		/* Streams live on without the connection, until they notice that the daemon is gone. */
		streams_run(&chaos);
		if (xenmsg_open(&chaos.conn, NULL, NULL) == 0)
			session(&chaos, argv[4], argv + 5, (unsigned)argc - 5);
		else /* the daemon is being restarted */
			poll(NULL, 0, 20);
	}
	streams_close(&chaos);
	if (descriptors() != descriptors_before)
		note(&chaos, FAULT, (uint64_t)descriptors(), -EMFILE);
	note(&chaos, FINISHED, 0, (int32_t)chaos.in_flight);
	return 0;
}
