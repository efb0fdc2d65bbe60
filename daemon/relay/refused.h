/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_REFUSED_H
#define XENMSG_DAEMON_REFUSED_H

/*
 * The numbers of channels that were refused, until their opener has answered: a bit each, since a channel kept
 * for it would cost the opener nothing. All zero: none.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "wire/frame.h"

struct refused {
	uint8_t *bits;
};

/* -ENOMEM. */
static inline int refused_add(struct refused *refused, uint32_t number)
{
	if (!refused->bits)
		refused->bits = calloc(CHANNEL_NUMBERS / 8, 1);
	if (!refused->bits)
		return -ENOMEM;
	refused->bits[number / 8] |= (uint8_t)(1u << (number % 8));
	return 0;
}

/* Any number may be asked for. */
static inline bool refused_has(const struct refused *refused, uint32_t number)
{
	return refused->bits && number < CHANNEL_NUMBERS &&
	       (refused->bits[number / 8] & (1u << (number % 8)));
}

/* Its opener has answered. The number is one of them. */
static inline void refused_remove(struct refused *refused, uint32_t number)
{
	refused->bits[number / 8] &= (uint8_t) ~(1u << (number % 8));
}

/* The session is over: no answers come any more. */
static inline void refused_clear(struct refused *refused)
{
	free(refused->bits);
	refused->bits = NULL;
}

#endif
