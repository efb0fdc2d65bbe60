/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_INTERRUPT_H
#define XENMSG_CLI_INTERRUPT_H

/*
 * Ending at SIGINT and SIGTERM without losing what was taken, and without missing a signal that comes just
 * before a sleep:
 *
 *   not caught ──interrupt_catch()──▶ blocked: a signal stays pending while the program works, and is let in by ppoll() only
 *                                     where the program sleeps below, which then says so
 *
 * The state is the process's, as its signals are.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct xenmsg;

/* From now on SIGINT and SIGTERM are blocked. */
void interrupt_catch(void);
/* Has one come? */
bool interrupt_came(void);
/* Dies of it as if it had never been caught, so that the shell sees it. Only after interrupt_came(). */
void interrupt_die(void);
/* The same for a signal that somebody else has caught (an event loop). 0: none, and nothing happens. */
void interrupt_die_of(int number);
/* In a child, before it becomes another program: signals are as they were. */
void interrupt_restore(void);

/* Around calls that block by themselves: a signal that comes between these two writes `words`, which stay
 * until the second, to standard output and kills. Without words it only interrupts what sleeps, unless it
 * comes just before that. */
void interrupt_allow(const char *words);
void interrupt_forbid(void);

/* A point in time after so many milliseconds, for interrupt_wait(); negative: never. */
int64_t interrupt_deadline(int timeout_ms);
/* How many milliseconds are left, at least 1; -1: for ever. */
int interrupt_left(int64_t deadline);
/* Sleeps until the connection has something to do, and does it. As xenmsg_wait(): above zero if there was
 * something, 0: the time is up, -EINTR: a signal has come. */
int interrupt_wait(struct xenmsg *conn, int64_t deadline);
/* The same, which also ends, with -EPIPE, when nobody reads standard output any more: nor will what comes
 * now. */
int interrupt_wait_for_reader(struct xenmsg *conn, int64_t deadline);
/* Nobody reads standard output any more: a pipe or a socket whose other end is closed. */
bool interrupt_output_is_gone(void);
/* Sleeps until the descriptor can be read. As ppoll(2), but returns -EINTR for every signal. */
int interrupt_sleep(int fd, int timeout_ms);

/* Until standard output takes 4096 bytes without blocking; false: a signal came first. True at once if none
 * are caught. */
bool interrupt_output_ready(void);

#endif
