/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/histogram.h"

#include <stddef.h>

/* A value below 128 has a bucket of its own; any other is cut to its 8 highest bits, which say, together with
 * how many were cut off, which bucket is its own. */
static size_t bucket_of(uint64_t value)
{
	unsigned cut;

	if (value < 128)
		return value;
	cut = 56u - (unsigned)__builtin_clzll(value);
	return 128 * cut + (size_t)(value >> cut);
}

/* Returns the middle of a bucket. */
static uint64_t value_of(size_t bucket)
{
	unsigned cut = bucket < 256 ? 0 : (unsigned)(bucket / 128 - 1);

	return ((uint64_t)(bucket - 128 * cut) << cut) + ((1ull << cut) >> 1);
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
	histogram->buckets[bucket_of(value)]++;
	histogram->count++;
}

uint64_t histogram_at(const struct histogram *histogram, double part)
{
	double below = part * (double)histogram->count;
	uint64_t seen = 0;
	size_t last = 0;

	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (!histogram->buckets[i])
			continue;
		seen += histogram->buckets[i];
		last = i;
		if ((double)seen > below)
			break;
	}
	return histogram->count ? value_of(last) : 0;
}
