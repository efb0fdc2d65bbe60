/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_TRACERS_H
#define XENMSG_DAEMON_TRACERS_H

/*
 * A tracer: an administrator's program that asks again and again what has become of the messages, calls and
 * streams to an address or endpoint, of a domain, or under a name (doc/decisions/0049). Its first question is
 * answered at once, with nothing, and each other one when there are steps:
 *
 *        ──question──▶ LISTENS ◀──answered──┐
 *                        │ question         │
 *                        ▼                  │
 *                      WAITS ──a step──▶ its turn: answered with what is there
 *
 * What nobody asks for waits in memory that the tracer's user has paid for; what doesn't fit is counted, and
 * told in its place. So a tracer that doesn't read holds nobody. It ends with the channel from which it has
 * asked.
 *
 * This owns the tracers, and while there are any, board->steps. It reads the switch and changes nothing
 * there.
 */

#include <stdbool.h>
#include <stdint.h>

struct access;
struct account;
struct hosts;
struct question;
struct switchboard;
struct self;
struct tracers;

#define TRACERS_MAX 16u	    /* of all programs: each step is shown to each of them */
#define TRACE_MOST  262144u /* bytes of steps that wait for a tracer */
#define TRACE_WHAT  (ADDRESS_MAX + 1)

/* All of these outlive it. */
struct tracers_collaborators {
	const struct self *self;
	struct switchboard *board;
	struct access *access; /* which has refused what */
	struct hosts *hosts;   /* what other hosts are called */
};

/* NULL: out of memory. */
struct tracers *tracers_new(const struct tracers_collaborators *with);
void tracers_free(struct tracers *tracers);

/* Takes a question of this program's about `what`, in which a domain stands for `domid` (below 0: it names
 * none), and answers it now or later. 0; -EINVAL: it can't be traced; -EUSERS: others trace as much as can
 * be; -ENOBUFS, -ENOMEM. */
int tracers_ask(struct tracers *tracers, struct question *question, const char *what, int64_t domid);
/* Nobody waits for an answer to this question any more. */
void tracers_forget_question(struct tracers *tracers, const struct question *question);
void tracers_forget_asker(struct tracers *tracers, const void *asker);

#endif
