/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_MEMORY_LIVES_H
#define XENMSG_DAEMON_MEMORY_LIVES_H

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
struct memory_lives;
struct switchboard;

/* Returns 0 or a negative errno. */
int memory_lives_new(struct memory_lives **lives, struct switchboard *board);
void memory_lives_free(struct memory_lives *lives);
/* Moves `bytes` that `charge` holds of QUOTA_MEMORY to the memory, which holds them until it is gone; if it
 * holds them already, they are given back. They stay where they are if its end can't be known. Returns its
 * number, or -1. */
int memory_lives_on(struct switchboard *board, int memory_fd, struct charge *charge, uint64_t bytes);
/* Whether the memory of that number isn't gone. */
bool memory_is_kept(struct switchboard *board, int number);
/* Has all that is gone paid for no more. */
void memory_lives_settle(struct switchboard *board);

/* Writes what watches all memory into the section of the image that is being written, or takes it over. */
void memory_lives_image(struct image *image, struct memory_lives *lives);
/* Writes a section for each memory that isn't gone; */
void memory_lives_write_image(struct image *image, struct switchboard *board);
/* reads one. */
void memory_lives_read_image(struct image *image, struct switchboard *board);

#endif
