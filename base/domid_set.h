/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_DOMID_SET_H
#define XENMSG_BASE_DOMID_SET_H

/* A set of domains: a bit for each valid domid, 4 KiB. Zeroed memory is an empty one. */

#include <stdbool.h>
#include <stdint.h>

#include "wire/address.h"

struct domid_set {
	uint8_t bits[DOMID_MAX / 8 + 1];
};

static inline bool domid_set_has(const struct domid_set *set, uint32_t domid)
{
	return set->bits[domid / 8] >> (domid % 8) & 1;
}

static inline void domid_set_put(struct domid_set *set, uint32_t domid, bool in)
{
	uint8_t bit = (uint8_t)(1u << (domid % 8));

	set->bits[domid / 8] = (uint8_t)(in ? set->bits[domid / 8] | bit : set->bits[domid / 8] & ~bit);
}

#endif
