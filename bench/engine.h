/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BENCH_ENGINE_H
#define XENMSG_BENCH_ENGINE_H

/*
 * What all contenders are measured by: one client and one server, who know a contender only as an end to
 * which messages can be given and from which they come. So every contender does the same work.
 *
 * The first byte of each message says what the server does with it.
 */

#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum answer {
	ANSWER_NONE = 0, /* only takes it */
	ANSWER_ALL = 1,	 /* sends it back */
	ANSWER_BYTE = 2, /* sends one byte back: all that came before has been taken, too */
};

/* The functions end the program when something fails. */
struct end {
	void *userdata;
	/* Sends a message; returns when its memory may be used again. */
	void (*send)(void *userdata, const void *data, size_t size);
	/* Waits for the next message, which has this size. Returns it, valid until the next call; NULL: the
	 * other end has gone. */
	const void *(*receive)(void *userdata, size_t size);
	/* A request, and the wait for a reply; NULL: they are messages. Replies come in any order. */
	void (*call)(void *userdata, const void *data, size_t size);
	void (*reply)(void *userdata);
};

/* Measures what `mode` says: rtt (a message and its answer), stream (messages one way, until all were taken),
 * calls1 and calls64 (requests, of which so many are under way). Prints "MESSAGES NANOSECONDS P50 P99 P999
 * CPU": the percentiles of a round trip in ns (0 if there were none), and the CPU time of this process and of
 * those that BENCH_PIDS names, in ns. */
void engine_measure(const struct end *end, const char *mode, size_t size, double seconds);
/* Returns the CPU time of this process and of those that BENCH_PIDS names, so far. */
uint64_t engine_cpu_ns(void);
/* Answers messages of this size until the other end has gone. */
void engine_serve(const struct end *end, size_t size);
/* Says that the server can be reached now. */
void engine_ready(void);
/* Says what failed, and exits. `error` is an errno of either sign. */
void engine_fail(const char *what, int error) __attribute__((noreturn));

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
