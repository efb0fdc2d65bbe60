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

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#define WORK_POOL_THREADS 16

struct account;
struct charge;
struct image;
struct work_pool;
struct switchboard;

/* Part of an object, which lives until done(). */
struct work_item {
	void (*work)(struct work_item *item); /* in a thread: touches nothing but the object */
	void (*done)(struct work_item *item);
	/* Behind done(), and before the account's next one: so `work` may change what the thread has of its
	 * own. */
	bool ends_thread;
	struct switchboard *board;
	struct account *account; /* a reference */
	uint64_t used;		 /* ns of CPU time */
	void *gone;		 /* what its thread waits for before it ends */
	struct work_item *prev, *next;
};

/* Returns 0 or a negative errno. Where threads may not have descriptor tables of their own, or take
 * descriptors from the process's, it says so in the log. */
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
 * far as it holds descriptors, until they are closed. */
void work_item_give_back(struct switchboard *board, void *memory, size_t size, const int fds[DEFERRED_FDS],
			 struct charge *charge);

/*
 * Closes a socket in whose queue a program may have left descriptors, for which `charge` pays likewise. They
 * are closed with the socket, and the last close of a descriptor may wait for as long as its sender likes (a
 * TCP socket with SO_LINGER). So neither the loop nor a thread that goes on is ever the last owner:
 *
 *   given ──▶ a thread has the socket, too ──▶ done(): the loop closes its own ──▶ the thread ends
 *
 * The thread has a table of descriptors of its own and closes nothing: it ends, and its table with it. The
 * last closes are then those of an exiting task, which doesn't linger (PF_EXITING). A descriptor that is slow
 * to close all the same delays that thread, which is none of the pool's any more. It is done with one socket
 * at a time, since a new table has for a moment what the old one has.
 */
void work_pool_close_socket(struct switchboard *board, int fd, struct charge *charge);
/* Returns whether so many sockets of refused programs, for which nobody pays, wait for their close
 * that no more may come: they are a part of the descriptors that are kept for the daemon itself.
 * NULL: false. */
bool work_pool_is_behind(const struct work_pool *pool);

/* Sockets that no thread has yet would be closed by execve(2), in the first thread of the process, so they go
 * to the next daemon's pool. */
void work_pool_write_image(const struct work_pool *pool, struct image *image);
void work_pool_read_image(struct switchboard *board, struct image *image);
/* Closes likewise what nobody has taken of an image. */
void work_pool_close_rest(struct switchboard *board, struct image *image);

#endif
