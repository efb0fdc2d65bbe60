/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_NUMBERS_H
#define XENMSG_LIBCLIENT_NUMBERS_H

/*
 * What is under way on a channel, by the number that one end has given it, in the order in which it came.
 * Mostly that is one call, and then none: uthash would make a table and free it again for each. Here the
 * first makes it, and it stays.
 *
 * Each user embeds a `struct numbered` in what it keeps, which stays its own.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "libclient/hash.h"

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

/* Returns 0, -EEXIST: the number is in use, or -ENOMEM. */
static inline int numbers_add(struct numbers *numbers, struct numbered *item, uint32_t number)
{
	struct numbered *other, *anchor = &numbers->anchor;
	unsigned hash;

	if (!numbers->table)
		HASH_ADD_KEYPTR_BYHASHVALUE(hh, numbers->table, NULL, 0, 0, anchor);
	if (!numbers->table)
		return -ENOMEM;
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

#endif
