/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_BREAKER_H
#define XENMSG_CLI_BREAKER_H

/*
 * Closes sockets whose connection has broken, so that their other end doesn't take a part for the whole.
 * TCP is reset, once its other end has what was written, or after 5 s. A Unix socket can't be: its other
 * end reads ECONNRESET, behind what it was sent, only if something that it wrote lies unread when ours is
 * closed; else it reads the same end of file as behind a whole stream. So that is told, and remembered for
 * the exit status; or the socket stays open for a while, without an end of file: as soon as its other end
 * writes, it can be closed with that unread.
 *
 *   broken ──TCP, or something lies unread──▶ closed: reset
 *      └──▶ lingers ──its other end writes──▶ closed: reset
 *              ├──its other end closes──▶ closed
 *              └──the time is over (at once, if it has none)──▶ closed: end of file, and told
 *
 * That is so also when the command ends, which then waits for the Unix sockets that linger.
 */

#include <stdbool.h>

struct breaker;
struct cli;
struct event_base;

/* NULL: out of memory. */
struct breaker *breaker_new(struct cli *cli, struct event_base *base, int linger_ms);
/* Breaks a connection at `place`, and owns the socket. `ended`: its other end has been sent the whole, and
 * its end. */
void breaker_break(struct breaker *breaker, int fd, const char *place, bool ended);
/* Waits until nothing lingers any more, or the loop is told to break. NULL is allowed. */
void breaker_wait(struct breaker *breaker);
/* Closes what lingers. Returns whether a part looked like the whole to somebody, ever. NULL is allowed. */
bool breaker_free(struct breaker *breaker);

#endif
