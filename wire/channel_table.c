/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/channel_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"

#define NUMBERS_ROUND 4096u
/* The first pages stay allocated when they are empty, since honest programs use low numbers. They are few,
 * since an opener that uses the numbers of all pages in turn is charged for one channel at a time. */
#define PAGES_KEPT 16u

void channel_table_init(struct channel_table *table, uint32_t parity, uint32_t max)
{
	*table = (struct channel_table){.parity = parity, .next = parity, .max = max};
}

void *channel_table_next(const struct channel_table *table, uint32_t *number)
{
	while (*number / CHANNEL_TABLE_PAGE < table->page_count) {
		void *entry, **page = table->pages[*number / CHANNEL_TABLE_PAGE];

		if (!page) {
			*number = (*number / CHANNEL_TABLE_PAGE + 1) * CHANNEL_TABLE_PAGE;
			continue;
		}
		entry = page[(*number)++ % CHANNEL_TABLE_PAGE];
		if (entry)
			return entry;
	}
	return NULL;
}

int channel_table_number(struct channel_table *table, uint32_t *number)
{
	if (table->count >= table->max)
		return -ENOBUFS;
	for (uint32_t tries = 0; tries < CHANNEL_NUMBERS / 2; tries++) {
		uint32_t candidate = table->next;

		/* Numbers are given out in rotation, so that a number is reused late: frames that were in
		 * flight when its old channel ended have arrived by then. But while few channels exist, the
		 * rotation doesn't run through all numbers, so that tables stay small. */
		table->next += 2;
		if (table->next >= CHANNEL_NUMBERS ||
		    (table->next >= NUMBERS_ROUND && table->count < table->next / 4))
			table->next = table->parity;
		if (!channel_table_find(table, candidate)) {
			*number = candidate;
			return 0;
		}
	}
	return -ENOBUFS;
}

static int channel_table_grow(struct channel_table *table, uint32_t page)
{
	uint32_t count = table->page_count ? table->page_count : 4;
	void ***grown;

	while (count <= page)
		count *= 2;
	grown = realloc(table->pages, count * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memset(grown + table->page_count, 0, (count - table->page_count) * sizeof(*grown));
	table->pages = grown;
	table->page_count = count;
	return 0;
}

int channel_table_put(struct channel_table *table, uint32_t number, void *entry)
{
	uint32_t page = number / CHANNEL_TABLE_PAGE;

	if (page >= table->page_count && channel_table_grow(table, page) < 0)
		return -ENOMEM;
	if (!table->pages[page])
		table->pages[page] = calloc(CHANNEL_TABLE_PAGE, sizeof(void *));
	if (!table->pages[page])
		return -ENOMEM;
	if (table->pages[page][number % CHANNEL_TABLE_PAGE])
		return -EPROTO;
	table->pages[page][number % CHANNEL_TABLE_PAGE] = entry;
	table->count++;
	return 0;
}

static void free_empty_page(struct channel_table *table, uint32_t page)
{
	for (uint32_t i = 0; i < CHANNEL_TABLE_PAGE; i++)
		if (table->pages[page][i])
			return;
	free(table->pages[page]);
	table->pages[page] = NULL;
}

bool channel_table_remove(struct channel_table *table, uint32_t number)
{
	uint32_t page = number / CHANNEL_TABLE_PAGE;

	if (!channel_table_find(table, number))
		return false;
	table->pages[page][number % CHANNEL_TABLE_PAGE] = NULL;
	table->count--;
	if (page >= PAGES_KEPT)
		free_empty_page(table, page);
	return true;
}

void channel_table_free(struct channel_table *table)
{
	for (uint32_t i = 0; i < table->page_count; i++)
		free(table->pages[i]);
	free(table->pages);
	*table = (struct channel_table){0};
}
