/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ELASTIC_H
#define XENMSG_DAEMON_ELASTIC_H

/*
 * Decides how large the rings of a link should be. What a ring carries is its size over the time that the
 * other end takes to wake up, so large rings are worth their pages while much goes through them, and pages
 * are few: so a link begins with small ones, has larger ones while it is busy, its fair share of the pages at
 * most, and gives them back.
 *
 *   quiet ──much in each of ELASTIC_BUSY_LOOKS looks──▶ busy
 *   busy ──little in each of ELASTIC_QUIET_LOOKS looks──▶ quiet
 *
 * What lies between much and little changes nothing, and it takes longer to become quiet than busy, so that
 * links don't go back and forth. While one look more would make a link busy, there are looks between two:
 * what is much already will not be less then, so a link needn't wait for it with its small rings, and no
 * burst moves a link that otherwise wouldn't. This is pure arithmetic: the caller looks, and moves the link
 * (link_move.c).
 */

#include <stdbool.h>
#include <stdint.h>

#define ELASTIC_LOOK_MS	 100
#define ELASTIC_EARLY_MS 20 /* from one look to the next between two */
#define ELASTIC_MUCH                                                                                         \
	16u /* rings of the first size, in one direction, from one look to the next: 10 MB/s of 64 KiB */
#define ELASTIC_LITTLE	    4u
#define ELASTIC_BUSY_LOOKS  2u
#define ELASTIC_QUIET_LOOKS 50u
/* between two moves of a link, unless others wait for pages; never for three */
#define ELASTIC_REST_MS 2000
#define ELASTIC_LATE_MS 500 /* a peer that is offered a move may hear of the one before so much later */

struct elastic {
	uint64_t sent, received; /* as of the last look */
	uint32_t much, little;	 /* looks in a row */
	bool is_busy;
	bool is_short; /* there weren't pages for what it should have grown to, at the last look */
	uint64_t rests_until_ms, declined_until_ms;
	uint64_t last_ms,
		before_ms; /* the last move that was offered, and the one before; 0: there was none */
};

/* Whether no more than one move was offered within ELASTIC_REST_MS and `late`. */
static inline bool elastic_may_move(const struct elastic *elastic, uint64_t now, uint64_t late)
{
	return !elastic->before_ms || now - elastic->before_ms >= ELASTIC_REST_MS + late;
}

static inline void elastic_offered(struct elastic *elastic, uint64_t now)
{
	elastic->before_ms = elastic->last_ms;
	elastic->last_ms = now;
}

/* Looks `elapsed_ms` after the last look of ELASTIC_LOOK_MS, which this one is only if as much has passed, or
 * nearly: a timer may be a little early. */
static inline bool elastic_is_whole(uint64_t elapsed_ms)
{
	return elapsed_ms >= ELASTIC_LOOK_MS - ELASTIC_EARLY_MS / 2;
}

static inline void elastic_look(struct elastic *elastic, uint64_t sent, uint64_t received,
				uint32_t first_size, uint64_t elapsed_ms)
{
	uint64_t out = sent - elastic->sent, in = received - elastic->received, most = out > in ? out : in;
	uint64_t unit = first_size;

	if (!elastic_is_whole(elapsed_ms)) {
		elastic->is_busy |= elastic->much + 1 >= ELASTIC_BUSY_LOOKS && most >= ELASTIC_MUCH * unit;
		return;
	}
	if (elapsed_ms > ELASTIC_LOOK_MS) /* it is late, which makes it no more */
		unit = unit * elapsed_ms / ELASTIC_LOOK_MS;
	elastic->sent = sent;
	elastic->received = received;
	elastic->much = most >= ELASTIC_MUCH * unit ? elastic->much + 1 : 0;
	elastic->little = most < ELASTIC_LITTLE * unit ? elastic->little + 1 : 0;
	if (elastic->much >= ELASTIC_BUSY_LOOKS)
		elastic->is_busy = true;
	if (elastic->little >= ELASTIC_QUIET_LOOKS)
		elastic->is_busy = false;
}

/* The vchan that it was about has gone: another one begins anew. */
static inline void elastic_forget(struct elastic *elastic)
{
	elastic->is_busy = elastic->is_short = false;
	elastic->much = elastic->little = 0;
}

/* Returns how large the larger ring is of a vchan that was to have rings of this size: of two that are below
 * 4 KiB, one has twice that, since its first page has room for one of 1 KiB and one of 2 KiB. */
static inline uint32_t elastic_larger(uint32_t size)
{
	return size < 4096 ? 2 * size : size;
}

/* Returns how many pages a vchan with rings of this size has: those below 4 KiB lie in its first one. */
static inline uint32_t elastic_pages(uint32_t size)
{
	return 1 + 2 * (size / 4096);
}

/* Returns the largest size from `first` to `max`, both powers of two, of which `links` fit into so many
 * pages; `first` if none does. */
static inline uint32_t elastic_share(uint32_t first, uint32_t max, uint32_t pages, uint32_t links)
{
	while (max > first && (uint64_t)elastic_pages(max) * links > pages)
		max /= 2;
	return max;
}

#endif
