/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_HELPERS_H
#define XENMSG_LIBCLIENT_HELPERS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "xenmsg.h"

/* ---- tables, numbers and queues of bytes -------------------------------------------------- */

#include "wire/ut.h"

/*
 * What is under way on a channel, by the number that one end has given it, in the order in which it came.
 * Mostly that is one call, and then none: uthash would make a table and free it again for each. Here the
 * first makes it, and it stays.
 *
 * Each user embeds a `struct numbered` in what it keeps, which stays its own.
 */

struct numbered {
	uint32_t number;
	UT_hash_handle hh;
};

/* All zero is one without any. It stays where it is. */
struct numbers {
	struct numbered *table; /* uthash by number; NULL: not made yet */
	struct numbered anchor; /* its first, which keeps it; it has an empty key, as no number has */
};

/* What `of` is embedded in. */
#define NUMBERED_IN(of, type, member) ((type *)(void *)((char *)(of)-offsetof(type, member)))

/* Returns the first, or NULL; the ones after it are hh.next. */
static inline struct numbered *numbers_first(const struct numbers *numbers)
{
	return numbers->table ? numbers->anchor.hh.next : NULL;
}

/* Returns NULL if there is none. */
static inline struct numbered *numbers_find(const struct numbers *numbers, uint32_t number)
{
	struct numbered *found = numbers_first(numbers);

	if (!found || found->number == number) /* the oldest call's, mostly */
		return found;
	HASH_FIND(hh, numbers->table, &number, sizeof(number), found);
	return found;
}

/* Runs over all. `item` may be removed. */
#define NUMBERS_EACH(numbers, item, after)                                                                   \
	for ((item) = numbers_first(numbers); (item) && ((after) = (item)->hh.next, true); (item) = (after))

/* Returns 0, -EEXIST: the number is in use, or -ENOMEM. Inline, as the hash is of what the caller has in a
 * register. */
static inline __attribute__((always_inline)) int numbers_add(struct numbers *numbers, struct numbered *item,
							     uint32_t number)
{
	struct numbered *other, *anchor = &numbers->anchor;
	unsigned hash;

	if (!numbers->table) {
		HASH_ADD_KEYPTR_BYHASHVALUE(hh, numbers->table, NULL, 0, 0, anchor);
		if (!HASH_ADDED(anchor))
			return -ENOMEM;
	}
	item->number = number;
	HASH_VALUE(&item->number, sizeof(item->number), hash);
	HASH_FIND_BYHASHVALUE(hh, numbers->table, &item->number, sizeof(item->number), hash, other);
	if (other)
		return -EEXIST;
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, numbers->table, &item->number, sizeof(item->number), hash, item);
	return HASH_ADDED(item) ? 0 : -ENOMEM;
}

static inline void numbers_remove(struct numbers *numbers, struct numbered *item)
{
	HASH_DELETE(hh, numbers->table, item);
}

/* Frees the table and leaves an empty one. */
static inline void numbers_free(struct numbers *numbers)
{
	HASH_CLEAR(hh, numbers->table);
}

/* bytes of one kind that a daemon can make the program keep: that many come from one that lies, or from an
 * honest one to a program that never looks */
#define KEPT_MAX (64u << 20)

/* A queue of bytes in private memory that grows with its content. All zero is an empty queue. */

struct fifo {
	uint8_t *data;
	size_t start, end, capacity;
};

static inline size_t fifo_size(const struct fifo *fifo)
{
	return fifo->end - fifo->start;
}

/* Returns the oldest byte, or NULL; the others follow it. Valid until the next append. */
static inline uint8_t *fifo_front(const struct fifo *fifo)
{
	return fifo->data ? fifo->data + fifo->start : NULL;
}

void fifo_free(struct fifo *fifo);
/* Makes room, so that appending `size` more bytes can't fail. Returns 0 or -ENOMEM. */
int fifo_reserve(struct fifo *fifo, size_t size);
int fifo_append(struct fifo *fifo, const void *data, size_t size);
/* Appends `size` bytes, for which room was reserved, and returns where the caller writes them. */
static inline uint8_t *fifo_extend(struct fifo *fifo, size_t size)
{
	fifo->end += size;
	return fifo->data + fifo->end - size;
}
/* Removes the oldest `size` bytes. */
void fifo_drop(struct fifo *fifo, size_t size);
/* Removes the newest `size` bytes. */
void fifo_truncate(struct fifo *fifo, size_t size);

/* Gives a circular buffer twice the room, its first entry in front; `head` counts without end. Returns it;
 * NULL: no memory, and `list` is as it was. */
void *circular_grow(void *list, size_t each, uint32_t head, uint32_t count, uint32_t *capacity);

/* ---- words -------------------------------------------------------------------------------- */

/* What errors mean, in words for people, where the daemon has said nothing more, and what notices, changes
 * and events are called. All texts are static, but for those of strerror(3). xenmsg.h declares the others. */

/* The same of an error of xenmsg_open(): what isn't found then is the daemon, and no endpoint. */
const char *words_of_opening(int error);

#define WORDS_OF_PEERS_LACK "xenmsgd, here or there, has no memory for it"

/* Which side has ended a channel, by the flags of its RESET (RESET_BY), so that an outcome can't be known; or
 * who has denied it (RESET_BY_RELAY). NULL: nobody knows. */
const char *words_of_reset(uint32_t flags);

/* ---- with XENMSG_DEBUG=1 in its environment a program tells on stderr what becomes of its messages */

/* Returns whether the environment asks for it; not in a program that runs with more rights than its user. */
bool trace_is_wanted(void);
/* Writes a line with the time (UTC) and the pid. */
void trace_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Returns an outcome in words: "delivered", or what the errno says. */
const char *trace_outcome(int result);

/* Writes a line if the connection of this transport is traced. */
#define TRACE(transport, ...)                                                                                \
	do {                                                                                                 \
		if (__builtin_expect((transport)->is_traced, 0))                                             \
			trace_line(__VA_ARGS__);                                                             \
	} while (0)

#endif
