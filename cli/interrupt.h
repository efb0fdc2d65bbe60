/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_INTERRUPT_H
#define XENMSG_CLI_INTERRUPT_H

/*
 * Ends the command at SIGINT and SIGTERM without losing what was taken, and without missing a signal that
 * comes just before a sleep:
 *
 *   not caught ──interrupt_catch()──▶ blocked: a signal stays pending while the program works, and is let in by ppoll() only
 *                                     where the program sleeps below, which then says so
 *
 * The state is the process's, as its signals are.
 */

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "libclient/deadline.h"

struct event;
struct event_base;
struct xenmsg;

/* Blocks SIGINT and SIGTERM from now on, except one that is ignored, as shells start what runs in the
 * background: that stays so. */
void interrupt_catch(void);
/* Returns whether a signal has come. */
bool interrupt_came(void);
/* Dies of the signal that has come, if one has, as if it had never been caught, so that the shell sees it. */
void interrupt_die(void);
/* Does the same for a signal that something else has caught (an event loop); 0: none. */
void interrupt_die_of(int number);

/* Encloses calls that block by themselves, until the second function. A signal that comes in between writes
 * `words`, which stay valid until then, to standard output and kills the process. With NULL it only
 * interrupts a sleep, unless it comes just before that. */
void interrupt_allow(const char *words);
void interrupt_forbid(void);
/* Does the same as interrupt_allow(), but the words, which are copied, are a complaint on standard error. */
void interrupt_allow_complaint(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Takes the signal that has come off those that are pending: what comes from now on is a second one. Only
 * after interrupt_came(). */
void interrupt_take(void);

/* Returns how many milliseconds are left until a deadline (deadline_in()), at least 1; -1: for ever. */
int interrupt_left(int64_t deadline);
/* Sleeps until the connection has something to do, and does it. Returns as xenmsg_wait(): above zero if there
 * was something, 0 if the time is up, -EINTR if a signal has come. */
int interrupt_wait(struct xenmsg *conn, int64_t deadline);
/* Does the same, but also returns -EPIPE when the reader of standard output is gone: it won't read what comes
 * now. */
int interrupt_wait_for_reader(struct xenmsg *conn, int64_t deadline);
/* Returns whether the reader of standard output is gone: it is a pipe or a socket whose other end is
 * closed. */
bool interrupt_output_is_gone(void);
/* Sleeps until the descriptor can be read. Returns as ppoll(2), but -EINTR for every signal. */
int interrupt_sleep(int fd, int timeout_ms);
/* Does the same for any descriptors. */
struct pollfd;
int interrupt_poll(struct pollfd *what, unsigned count, int timeout_ms);

/* Waits until standard output takes 4096 bytes without blocking. Returns false if a signal came first, and
 * true at once if no signal is caught. */
bool interrupt_output_ready(void);

/* The clock of the commands' deadlines and rates, which only goes forward and begins anywhere. */
static inline uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- the event loop of a command that serves until SIGINT or SIGTERM ends it */

struct loop {
	struct event_base *base;
	struct event *stop[2];
	int signal; /* the signal that has ended it, for interrupt_die_of(); 0: none did */
};

/* Returns whether this process may open so many descriptors more. */
bool loop_has_descriptors(int count);

/* Makes the loop, in zeroed memory; LOOP_FOR_FILES: it takes any descriptor, and NULL: no regular file, which
 * epoll refuses. Returns 0, -EMFILE or -ENOMEM; loop_cleanup() follows either way. */
#define LOOP_FOR_FILES "epoll"
int loop_init(struct loop *loop, const char *without);
/* Lets signals do what they did before the loop was there. */
void loop_release_signals(struct loop *loop);
/* Frees the loop. The events that others have in it must be gone. */
void loop_cleanup(struct loop *loop);

/* Makes an event and adds it. NULL: memory has run out. */
struct event *loop_event(struct event_base *base, int fd, short what,
			 void (*on_event)(int fd, short what, void *userdata), void *userdata);
/* Frees an event. NULL is allowed. */
void loop_event_free(struct event *event);

#endif
