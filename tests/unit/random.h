/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_RANDOM_H
#define XENMSG_TESTS_RANDOM_H

/* Numbers by chance that are the same on each machine for the same seed. */

#include <stdint.h>

/* A number below `below`, or 0 if that is 0; *seed goes on by one. */
static inline uint32_t random_below(uint64_t *seed, uint32_t below)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return below ? (uint32_t)(*seed >> 33) % below : 0;
}

#endif
