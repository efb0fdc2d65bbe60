/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_CHANNEL_TABLE_H
#define XENMSG_WIRE_CHANNEL_TABLE_H

/*
 * The channels of one end of a hop, by number: in pages, made as they are used, so that a high number costs no
 * more than a low one. The numbers of one parity are given out here, those of the other by the other end.
 * Numbers lie below CHANNEL_NUMBERS.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHANNEL_TABLE_PAGE 64u /* numbers */

struct channel_table {
	void ***pages;
	uint32_t page_count;
	uint32_t parity;     /* of the numbers that we give out */
	uint32_t next;	     /* to be tried by channel_table_number() */
	uint32_t count, max; /* channels */
};

void channel_table_init(struct channel_table *table, uint32_t parity, uint32_t max);
/* The entries are the caller's. The table is an empty one again. */
void channel_table_free(struct channel_table *table);

/* What was put in there; NULL: nothing. Any number may be asked for. */
static inline void *channel_table_find(const struct channel_table *table, uint32_t number)
{
	uint32_t page = number / CHANNEL_TABLE_PAGE;

	return page < table->page_count && table->pages[page]
		       ? table->pages[page][number % CHANNEL_TABLE_PAGE]
		       : NULL;
}

/* The first at or behind *number, which becomes the number behind it; NULL: there is none. What was returned
 * may be removed in between. */
void *channel_table_next(const struct channel_table *table, uint32_t *number);
/* A number of our parity that isn't used: what was used last comes again late. -ENOBUFS: there are `max`. */
int channel_table_number(struct channel_table *table, uint32_t *number);
/* `entry` isn't NULL; the number is below CHANNEL_NUMBERS. -ENOMEM; -EPROTO: the number is used already. */
int channel_table_put(struct channel_table *table, uint32_t number, void *entry);
/* False: the number isn't used. */
bool channel_table_remove(struct channel_table *table, uint32_t number);
#endif
