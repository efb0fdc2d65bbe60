/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_OPENER_H
#define XENMSG_LIBCLIENT_OPENER_H

/*
 * The process that a connection belongs to. A child made by fork() has a copy of all that the library keeps
 * in private memory, while socket, doorbells and rings stay one: two processes that go on with them overwrite
 * each other's messages. So a child may only free what it has of the connection.
 *
 * It is told from its parent by a word in a page that fork() clears (MADV_WIPEONFORK), which costs a load;
 * where there is no such page, by its number, which costs a system call.
 */

#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

struct opener {
	uint32_t *word; /* 1 where the connection was opened; NULL: there is no such page */
	pid_t pid;
};

/* Notes this process. */
void opener_note(struct opener *opener);
/* Frees what belongs to it, in any process. */
void opener_forget(struct opener *opener);
/* Returns whether this is that process. */
static inline bool opener_is_here(const struct opener *opener)
{
	return opener->word ? *(const volatile uint32_t *)opener->word == 1 : opener->pid == getpid();
}

#endif
