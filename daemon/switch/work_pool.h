/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_WORK_POOL_H
#define XENMSG_DAEMON_WORK_POOL_H

/*
 * Work that nobody waits for: system calls that may take as long as whoever holds the object, too, likes,
 * such as closing an eventfd (which looks through the locks of all eventfds of the machine) or unmapping
 * memory (which waits for whoever does something to all mappings of it).
 *
 *   work_item_give() ──a thread does it, one of each account at a time──▶ work() ──▶ done(), in the loop
 *
 * So whoever makes it slow delays his own work items, and as many others as there are accounts like him
 * beyond WORK_POOL_THREADS. What it used of a CPU is charged to the account.
 */

#include <stdint.h>
#include <stddef.h>

#define WORK_POOL_THREADS 16

struct account;
struct charge;
struct work_pool;
struct switchboard;

/* Part of an object, which lives until done(). */
struct work_item {
	void (*work)(struct work_item *item); /* in a thread: touches nothing but the object */
	void (*done)(struct work_item *item);
	struct switchboard *board;
	struct account *account; /* a reference */
	uint64_t used;		 /* ns of CPU time */
	struct work_item *prev, *next;
};

/* Returns 0 or a negative errno. */
int work_pool_new(struct work_pool **pool, struct switchboard *board);
/* Waits a while until all is done. */
void work_pool_free(struct work_pool *pool);
/* Has `work` done, at the cost of `account` (NULL: nobody), and then `done` called, but not before this
 * returns if there are threads. Without board->work_pool, and where no thread can be made, it is done at
 * once. */
void work_item_give(struct work_item *item, struct switchboard *board, struct account *account);
#ifdef XENMSG_INVARIANTS
/* Waits until all is done. */
void work_pool_await(struct work_pool *pool);
#endif

#define DEFERRED_FDS 3

/* Gives back what was shared with a program, by a work item: memory (NULL: none) is unmapped, and
 * descriptors of eventfds and of memory (-1: none) are closed, for which `charge` pays (NULL: nobody) as
 * far as it holds descriptors, until they are closed. For a socket, which may hold descriptors of others,
 * there is program_socket_close(). */
void work_item_give_back(struct switchboard *board, void *memory, size_t size, const int fds[DEFERRED_FDS],
			 struct charge *charge);

#endif
