/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_SHARE_H
#define XENMSG_BASE_SHARE_H

#include <stdint.h>

/* Returns how much more an account may have that holds `held`, by the rule of quota.h, while `left` is left
 * of what `holders` accounts share, this one included. */
static inline uint64_t quota_share(uint64_t left, uint64_t holders, uint64_t held)
{
	uint64_t both, share;

	if (__builtin_add_overflow(left, held, &both))
		both = UINT64_MAX;
	share = both / (holders + 1);
	return share > held ? share - held : 0;
}

#endif
