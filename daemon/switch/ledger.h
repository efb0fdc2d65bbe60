/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_LEDGER_H
#define XENMSG_DAEMON_LEDGER_H

/*
 * What was handed out in a program's ring: which bytes of which channel lie where. What the program releases
 * there is what it has taken, so entries leave in the order in which they came:
 *
 *   ledger_push() ──▶ the newest, ..., the oldest ──▶ ledger_front(), ledger_pop() once it is released
 *
 * A channel that ends is forgotten, but its entries stay until their bytes are released. The size is bounded;
 * a writer that finds the ledger full waits as for a full ring. Each entry leads back to the previous one of
 * the same channel, and by a longer jump to one further back (jump pointers as in Myers, "An applicative
 * random-access stack", 1983), so finding an offset takes time logarithmic in the channel's entries.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct channel_end;

struct handed {
	struct channel_end *end; /* NULL: the channel was forgotten */
	uint64_t offset;	 /* in the stream, of the first byte */
	uint32_t position;	 /* in the ring, of the first byte of payload */
	uint32_t length;
	uint32_t depth;	     /* entries of the channel before it, counted since it last had none */
	uint32_t back, jump; /* to the previous entry, and further; itself at the channel's first */
};

struct ledger {
	struct handed *entries; /* circular, by number modulo `capacity` */
	uint32_t first, count;	/* numbers run freely */
	uint32_t capacity, max;
};

/* Prepares the ledger of an outlet whose ring has `ring_size` bytes. */
void ledger_init(struct ledger *ledger, uint32_t ring_size);
/* Returns the most memory that such a ledger takes, in bytes. */
uint64_t ledger_memory(uint32_t ring_size);
void ledger_free(struct ledger *ledger);
static inline bool ledger_is_full(const struct ledger *ledger)
{
	return ledger->count >= ledger->max;
}
/* Reserves memory for one entry, so that the next ledger_push() can't fail. The ledger isn't full.
 * -ENOMEM. */
int ledger_reserve(struct ledger *ledger);
/* Adds the newest entry. The ledger isn't full. -ENOMEM. NULL for an end: its channel was forgotten. */
int ledger_push(struct ledger *ledger, struct channel_end *end, uint64_t offset, uint32_t position,
		uint32_t length);
/* Returns an entry by its number, which is one of those from `first` on. */
static inline struct handed *ledger_at(const struct ledger *ledger, uint32_t number)
{
	return &ledger->entries[number & (ledger->capacity - 1)];
}
/* Returns the oldest entry; NULL: there is none. */
static inline struct handed *ledger_front(struct ledger *ledger)
{
	return ledger->count ? ledger_at(ledger, ledger->first) : NULL;
}
/* Removes the oldest entry, which must exist. */
static inline void ledger_pop(struct ledger *ledger)
{
	ledger->first++;
	ledger->count--;
}
/* Returns the entry with the byte at `offset` of the channel's stream; NULL: it isn't there. */
const struct handed *ledger_find(const struct ledger *ledger, const struct channel_end *end, uint64_t offset);
/* Returns the offset of the stream at which the ring had been released up to `position`, as far as the ledger
 * knows: 0 if it doesn't. */
uint64_t ledger_released(const struct ledger *ledger, const struct channel_end *end, uint32_t position);
/* Forgets the channel, which is about to go. Returns how many entries it had. */
uint32_t ledger_forget(struct ledger *ledger, struct channel_end *end);

#endif
