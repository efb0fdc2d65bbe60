/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_CLOSER_H
#define XENMSG_DAEMON_CLOSER_H

/*
 * Closes sockets in whose queue others have left descriptors: they are closed with it, and the last close of
 * one of those may wait for as long as who sent it likes (a TCP socket with SO_LINGER). So the loop never
 * closes such a socket while it is the last to have it:
 *
 *   handed in ──a batch is made, and a thread for it──▶ the thread has them, too ──the loop closes its own──▶ the thread ends
 *
 * The thread has a table of descriptors of its own and closes nothing: it ends, and its table with it. The
 * last closes are those of an exiting task then, and such a one doesn't linger (PF_EXITING). What is slow to
 * close all the same holds up that thread, and neither the loop nor the next batch.
 *
 * A descriptor is charged to its account until the loop has closed it. The loop waits for nothing but the
 * thread's first steps, which depend on nobody.
 */

struct charge;
struct closer;
struct relay;

/* Fails where threads may not have tables of their own, or take descriptors out of that of the process. */
int closer_new(struct closer **closer, struct relay *relay);
/* Waits for the thread that is under way to have what it is for; what it can't get stays open until the
 * process ends. */
void closer_free(struct closer *closer);
/* Takes over the socket, and of `charge` (NULL: nobody's) one descriptor, if it holds any. */
void closer_close(struct closer *closer, int fd, struct charge *charge);

#endif
