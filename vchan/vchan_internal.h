/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_VCHAN_INTERNAL_H
#define XENMSG_VCHAN_INTERNAL_H

/*
 * The connection that all vchans of a process share, and who runs it. All of it, and of the ends, is under
 * one lock, which is free while somebody sleeps.
 *
 *   nobody waits:       the engine's thread sleeps for the connection, and runs it (WATCHES)
 *   a program waits:    its thread does so itself, which saves a wake-up; the engine's rests. It watches again
 *                       when nobody has waited for REST_MS
 *
 * Callbacks of libxenmsg run with the lock held, in whichever thread runs the connection. In a child of
 * fork() the connection is closed there, which the parent doesn't notice, and the next use opens another
 * one.
 */

#include <stdbool.h>
#include <stdint.h>

#include "xenmsg-stream.h"

/* What the engine asks of the ends (channel.c). All are called with the lock. */
/* Does what is due. Returns when something is next, in ms of the monotonic clock; -1: never. */
int64_t channels_look(int64_t now);
/* This process is a child. */
void channels_fork(void);
/* Returns how much closed ends still have to deliver: bytes, and one for each end. */
uint64_t channels_under_way(void);

void engine_lock(void);
void engine_unlock(void);
/* Returns the connection, opened if need be. Called with the lock. NULL with errno. */
struct xenmsg *engine_open(void);
/* Returns it if it is open; NULL: it isn't. */
struct xenmsg *engine_connection(void);
/* Sleeps until something may have changed, or `until` (-1: never), and runs the connection. Called with the
 * lock, which is free meanwhile. Returns 0, or -1 with errno EINTR. */
int engine_wait(int64_t until);
int64_t engine_now(void);
/* Counts processes: it grows with each fork() in the child. */
extern unsigned engine_generation;

#endif
