/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_CHANNEL_TABLE_H
#define XENMSG_WIRE_CHANNEL_TABLE_H

/*
 * The channels of one end of a hop, by number. The table is made of pages, which are allocated as they are
 * used, so that a high number costs no more than a low one. This end gives out the numbers of one parity, the
 * other end those of the other. Numbers are below CHANNEL_NUMBERS.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHANNEL_TABLE_PAGE 64u /* numbers in a page */

struct channel_table {
	void ***pages;
	uint32_t page_count;
	uint32_t parity;     /* of the numbers that this end gives out */
	uint32_t next;	     /* the number that channel_table_number() tries next */
	uint32_t count, max; /* channels: there are, may be */
};

void channel_table_init(struct channel_table *table, uint32_t parity, uint32_t max);
/* Frees the pages and leaves an empty table. The entries stay the caller's. */
void channel_table_free(struct channel_table *table);

/* Returns the entry of a number, NULL if it has none. Accepts any number. */
static inline void *channel_table_find(const struct channel_table *table, uint32_t number)
{
	uint32_t page = number / CHANNEL_TABLE_PAGE;

	return page < table->page_count && table->pages[page]
		       ? table->pages[page][number % CHANNEL_TABLE_PAGE]
		       : NULL;
}

/* Returns the first entry whose number is *number or above, and sets *number to the one after it. Returns
 * NULL if there is none. The caller may remove the returned entry between two calls. */
void *channel_table_next(const struct channel_table *table, uint32_t *number);
/* Chooses an unused number of this end's parity; the one used last comes again late. Returns 0, or -ENOBUFS
 * if there are `max` channels. */
int channel_table_number(struct channel_table *table, uint32_t *number);
/* Enters `entry`, which isn't NULL, under a number below CHANNEL_NUMBERS. Returns 0, -ENOMEM, or -EPROTO if
 * the number is in use. */
int channel_table_put(struct channel_table *table, uint32_t number, void *entry);
/* Removes an entry. Returns false if the number isn't in use. */
bool channel_table_remove(struct channel_table *table, uint32_t number);
#endif
