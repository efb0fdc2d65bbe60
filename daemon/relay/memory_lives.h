/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_MEMORY_LIVES_H
#define XENMSG_DAEMON_MEMORY_LIVES_H

/*
 * Memory that was shared with a program lives until nobody has it any more: the program may keep a mapping,
 * or give it to others, long after its session is over. To the kernel its pages belong to who touched them
 * first, which is often the daemon (memory.max), and giving them back ourselves (MADV_REMOVE) takes as long
 * as the other holders' mappings are many. So the program's user pays for the memory until it is gone, which
 * inotify tells.
 */

#include <stdint.h>

struct charge;
struct memory_lives;
struct relay;

/* Returns 0 or a negative errno. */
int memory_lives_new(struct memory_lives **lives, struct relay *relay);
void memory_lives_free(struct memory_lives *lives);
/* Moves `bytes` that `charge` holds of QUOTA_MEMORY to the memory, which holds them until it is gone. They
 * stay where they are if that can't be known. */
void memory_lives_on(struct relay *relay, int memory_fd, struct charge *charge, uint64_t bytes);

#endif
