/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_MEMFD_LIFETIMES_H
#define XENMSG_DAEMON_MEMFD_LIFETIMES_H

/*
 * Memory that was shared with a program lives until nobody has it any more: the program may keep a mapping,
 * or give it to others, long after its session is over. To the kernel its pages belong to the process that
 * touched them first, which is often the daemon (memory.max), and giving them back ourselves (MADV_REMOVE)
 * takes as long as the other holders' mappings are many. So the program's user pays for the memory until it
 * is gone, which inotify tells. The watch is handed over to the next daemon, and the payer with it.
 */

#include <stdbool.h>
#include <stdint.h>

struct charge;
struct image;
struct memfd_lifetimes;
struct switchboard;

/* Returns 0 or a negative errno. */
int memfd_lifetimes_new(struct memfd_lifetimes **lives, struct switchboard *board);
void memfd_lifetimes_free(struct memfd_lifetimes *lives);
/* Moves `bytes` that `charge` holds of QUOTA_MEMORY to the memory, which holds them until it is gone; if it
 * holds them already, they are given back. They stay where they are if its end can't be known. Returns its
 * number, or -1. */
int memfd_lifetimes_on(struct switchboard *board, int memory_fd, struct charge *charge, uint64_t bytes);
/* Whether the memory of that number isn't gone. */
bool memory_is_kept(struct switchboard *board, int number);
/* Has all that is gone paid for no more. */
void memfd_lifetimes_settle(struct switchboard *board);

/* Writes what watches all memory into the section of the image that is being written, or takes it over. */
void memfd_lifetimes_image(struct image *image, struct memfd_lifetimes *lives);
/* Writes a section for each memory that isn't gone; */
void memfd_lifetimes_write_image(struct image *image, struct switchboard *board);
/* reads one. */
void memfd_lifetimes_read_image(struct image *image, struct switchboard *board);

#endif
