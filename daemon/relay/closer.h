/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_CLOSER_H
#define XENMSG_DAEMON_CLOSER_H

/*
 * Closes sockets in whose queue a program has left descriptors. They are closed with the socket, and the last
 * close of a descriptor may wait for as long as its sender likes (a TCP socket with SO_LINGER). So the loop
 * never closes such a socket while it is the last owner:
 *
 *   handed in ──a batch is made, and a thread for it──▶ the thread has them, too
 *             ──the loop closes its own──▶ the thread ends
 *
 * The thread has a table of descriptors of its own and closes nothing: it ends, and its table with it. The
 * last closes are then those of an exiting task, which doesn't linger (PF_EXITING). A descriptor that is slow
 * to close all the same delays that thread, but neither the loop nor the next batch.
 *
 * A descriptor is charged to its account until the loop has closed it. The loop only waits for the thread's
 * first steps, which depend on no other process.
 */

struct charge;
struct closer;
struct relay;

/* Returns 0 or a negative errno. Fails where threads may not have descriptor tables of their own, or take
 * descriptors from the process's. */
int closer_new(struct closer **closer, struct relay *relay);
/* Waits until the running thread has taken its descriptors; those that it can't take stay open until the
 * process ends. */
void closer_free(struct closer *closer);
/* Takes over the socket, and one descriptor of `charge` (NULL: none), if it holds any. */
void closer_close(struct closer *closer, int fd, struct charge *charge);

#endif
