/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_REFUSED_H
#define XENMSG_DAEMON_REFUSED_H

/*
 * The numbers of refused channels, until their opener has answered. Each takes one bit, since a channel kept
 * for it would cost the opener nothing. All bits zero: there are none.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"

struct refused {
	uint8_t *bits;
};

/* Adds a number below CHANNEL_NUMBERS. -ENOMEM. */
static inline int refused_add(struct refused *refused, uint32_t number)
{
	if (!refused->bits)
		refused->bits = calloc(CHANNEL_NUMBERS / 8, 1);
	if (!refused->bits)
		return -ENOMEM;
	refused->bits[number / 8] |= (uint8_t)(1u << (number % 8));
	return 0;
}

/* Whether the number was refused; it may be any number. */
static inline bool refused_has(const struct refused *refused, uint32_t number)
{
	return refused->bits && number < CHANNEL_NUMBERS &&
	       (refused->bits[number / 8] & (1u << (number % 8)));
}

/* Returns the first one from `number` on, or CHANNEL_NUMBERS. A hand-over asks for each hop, so most are
 * asked that have none, and the others by words. */
static inline uint32_t refused_next(const struct refused *refused, uint32_t number)
{
	uint64_t word;

	if (!refused->bits)
		return CHANNEL_NUMBERS;
	while (number < CHANNEL_NUMBERS && !refused_has(refused, number)) {
		memcpy(&word, refused->bits + number / 64 * 8, sizeof(word));
		number = word ? number + 1 : (number | 63) + 1;
	}
	return number;
}

/* Removes a number whose opener has answered; it must be in the set. */
static inline void refused_remove(struct refused *refused, uint32_t number)
{
	refused->bits[number / 8] &= (uint8_t) ~(1u << (number % 8));
}

/* Removes all numbers: the session is over, and no answers come any more. */
static inline void refused_clear(struct refused *refused)
{
	free(refused->bits);
	refused->bits = NULL;
}

#endif
