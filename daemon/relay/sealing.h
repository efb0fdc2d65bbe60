/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_SEALING_H
#define XENMSG_DAEMON_SEALING_H

/*
 * While somebody makes a hole in shared memory, whoever touches the page waits, for as long as the mappings of it are many. A
 * seal forbids holes, and new mappings that can be written to; those that are there stay what they are. So:
 *
 *   passed on ──the other process maps it, and rings──▶ sealed, by a thread ──▶ done(): now the loop may touch it
 *
 * The seal waits for a hole that is being made. So an errand (errands.h) sets it, and nobody waits but the one who makes holes.
 */

struct charge;
struct relay;
struct sealing;

/* `error`: 0, or a negative errno: the other process has forbidden seals, or there is no memory. */
typedef void (*sealing_done_fn)(void *userdata, int error);

/* Seals the memory, and closes `memory_fd`, for which `charge` pays one descriptor until then. done() is called in the loop, and
 * perhaps before this returns. `*sealing` is NULL from then on. */
void sealing_begin(struct sealing **sealing, struct relay *relay, int memory_fd, struct charge *charge,
		   sealing_done_fn done, void *userdata);
/* Nobody waits for it any more: done() isn't called. It goes on. NULL: there is none. */
void sealing_forget(struct sealing **sealing);

#endif
