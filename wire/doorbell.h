/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_DOORBELL_H
#define XENMSG_WIRE_DOORBELL_H

/*
 * A descriptor by which two processes that don't trust each other notify one another, and by which neither
 * can make the other wait.
 *
 * It is an eventfd in semaphore mode, and a notification takes 1 from its counter, which begins so large that
 * it lasts for ever. Taking wakes a process that waits for EPOLLOUT, edge-triggered. Unlike a write, a read
 * can be told for each call not to wait (RWF_NOWAIT, preadv2(2)), whatever another holder has done to the
 * flags and the counter, which belong to the open file and not to the descriptor. Linux can do this since
 * 5.8. The counter begins full, so that nobody is woken before it was rung once.
 *
 * A process that empties the counter ends the notifications in this descriptor, so a descriptor serves one
 * pair of processes and one direction.
 */

#include <stdbool.h>

/* Returns a new one, close-on-exec, or a negative errno: -EOPNOTSUPP if the kernel is too old, or an
 * emulator or a filter of system calls lacks preadv2(2). */
int doorbell_new(void);
/* Whether they can be used here. */
bool doorbells_work(void);

/*
 * Notifies those who wait for EPOLLOUT. The descriptor may be of any kind. Never waits. Returns 0 or a
 * negative errno: -EAGAIN if the counter is empty, -EOPNOTSUPP, -EINVAL and others if this is no doorbell.
 */
int doorbell_ring(int fd);

#endif
