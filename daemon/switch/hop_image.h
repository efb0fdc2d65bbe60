/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOP_IMAGE_H
#define XENMSG_DAEMON_HOP_IMAGE_H

/*
 * The sections of the switch in the image that a daemon hands over (base/image.h): the hops of programs,
 * their channels, and what lies in their rings. The old daemon makes it between two passes, when nothing is
 * half done, and touches no ring any more; so positions in rings and in the image agree. The new one first
 * reads all hops, then all channels, then all ledgers.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/image.h"
#include "daemon/switch/hop.h"

/* The hops of an image, by their numbers there (hop_set_image_number()): those of programs, of links, of
 * topics, of streams, of waiting rooms. */
struct image_hops {
	struct hop **hops;
	uint32_t count;
	uint32_t sessions, links, topics,
		streams;   /* of them, so many are programs', links', topics' and streams' */
	uint32_t capacity; /* beyond those that the head counts; 0: there is none */
	/* Which can't be taken, and end when all was read; NULL: none. */
	enum image_hop_state {
		HOP_IN_IMAGE,
		HOP_LOST,    /* its owner has it */
		HOP_STANDIN, /* there is no owner: it was made to end the channels */
	} *
		states;
	uint32_t state_count;
	struct channel **spoilt; /* channels that can't be taken, at ends that can */
	uint32_t spoilt_count;
};

/* Whether the number is that of a hop whose owner is as it was. */
static inline bool image_hops_has(const struct image_hops *hops, uint32_t number)
{
	return number < hops->count && (number >= hops->state_count || hops->states[number] == HOP_IN_IMAGE);
}

/* Reads the number of a program, whose the section is. Returns its hop; NULL: it can't be its. */
static inline struct hop *image_program(struct image *image, const struct image_hops *hops, uint32_t *number)
{
	image_u32(image, number);
	image_expect(image, *number < hops->sessions);
	if (image->error)
		return NULL;
	image_owner(image, 0, *number);
	image_expect(image, image_hops_has(hops, *number));
	return image->error ? NULL : hops->hops[*number];
}

/* Has the hop end, once all was read. -ENOMEM. */
int image_hops_lose(struct image_hops *hops, uint32_t number);
/* Has those end who a section that can't be taken is of: whom it names, and what it would be, in whose place
 * a stand-in may keep the number. `before`: as it was before that was read. Returns how many they are, with a
 * channel that was spoilt; 0: nobody knows; -ENOMEM. */
int image_hops_lose_section(struct image_hops *hops, struct switchboard *board, const struct image *image,
			    uint32_t type, const struct image_hops *before);
/* Ends the channels that couldn't be taken, at both ends, with ECONNRESET. */
void image_hops_end_channels(struct image_hops *hops);
/* Ends the stand-ins. */
void image_hops_end(struct image_hops *hops);

/* Enters a hop of which the head of the image doesn't tell. 0 or -ENOMEM. */
int image_hops_add(struct image_hops *hops, struct hop *hop);

static inline void hop_set_image_number(struct hop *hop, uint32_t number)
{
	hop->image_number = number;
}

static inline uint32_t hop_number_in_image(const struct hop *hop)
{
	return hop->image_number;
}

/* The payer; for another host, whose number is this daemon's own, nobody does if the next one doesn't read
 * which host has it. Read, it is a reference of the caller's, or NULL. */
void switch_account_image(struct image *image, const struct switchboard *board, struct account **account);
void hop_identity_image(struct image *image, struct frame_identity *identity);
/* Where the bytes lie in a ring of our own, which has `size`; they go over by themselves (private_ring.h). */
void hop_ring_image(struct image *image, struct ring_words *words, uint32_t size);
/* Shows programs what was written into their rings, also where the passes were over before. */
void switch_publish(struct switchboard *board);
/* Has a program unbind what it is unbinding, and ends what can't be kept: withdrawals of calls that are still
 * to be sent, on whose arrival nothing depends; of a link, channels that lead to a hop that isn't in the
 * image. */
void hop_settle_for_image(struct hop *hop);
/* Whether all there is of the hop can be in an image. */
bool hop_fits_image(const struct hop *hop);

/* Writes what the hop has besides its channels, or reads it into a new one, which is still detached. */
void hop_image(struct image *image, struct hop *hop);
/* Likewise a link's, which is paused or detached, and so it is when it was read. Its account is set. */
void hop_link_image(struct image *image, struct hop *hop);
/* Likewise an inner one (inner.h), whose owner hands over the rest. */
void hop_inner_image(struct image *image, struct hop *hop);
/* Reads a channel and enters it into its hops. Both ends must be at hops of the image, or gone. One that
 * can't be taken, but whose ends are known, is spoilt; else its owners have to end. */
void channel_read_image(struct image *image, struct image_hops *hops);
/* Writes a section for each channel with this hop, but for those that another one's opener has. */
void hop_write_channels(struct image *image, const struct hop *hop);
/* Writes what lies in the hop's rings, or reads it, once all channels were read. */
void hop_ledger_image(struct image *image, struct hop *hop);
/* Writes what all hops have in common, or reads it. */
void switch_image(struct image *image, struct switchboard *board);

/* How many bytes wait at the ends of its channels. */
uint64_t hop_queued(const struct hop *hop);

#endif
