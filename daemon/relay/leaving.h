/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_LEAVING_H
#define XENMSG_DAEMON_LEAVING_H

/*
 * What was shared with a program and is given back: memory is unmapped, and descriptors of eventfds and of
 * memory are closed, by an errand (errands.h), since either may take long. For a socket, which may hold
 * descriptors of others, there is closer.h.
 */

#include <stddef.h>

struct charge;
struct relay;

#define LEAVING_FDS 3

/* Takes over the memory (NULL: none) and the descriptors (-1: none), for which `charge` pays (NULL: nobody)
 * as far as it holds descriptors, until they are closed. */
void leave(struct relay *relay, void *memory, size_t size, const int fds[LEAVING_FDS], struct charge *charge);

#endif
