/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_HISTOGRAM_H
#define XENMSG_CLI_HISTOGRAM_H

/*
 * Counts values, such as times in nanoseconds, in buckets that are no wider than a 128th of what is in them:
 * any number of values takes 58 KiB, and a percentile is right to half a percent.
 */

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS (128 * 58)

struct histogram {
	uint64_t count;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* A value below 128 has a bucket of its own; any other is cut to its 8 highest bits, which say, together with
 * how many were cut off, which bucket is its own. */
static inline size_t histogram_bucket(uint64_t value)
{
	unsigned cut;

	if (value < 128)
		return value;
	cut = 56u - (unsigned)__builtin_clzll(value);
	return 128 * cut + (size_t)(value >> cut);
}

/* Returns the middle of a bucket. */
static inline uint64_t histogram_middle(size_t bucket)
{
	unsigned cut = bucket < 256 ? 0 : (unsigned)(bucket / 128 - 1);

	return ((uint64_t)(bucket - 128 * cut) << cut) + ((1ull << cut) >> 1);
}

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
	histogram->buckets[histogram_bucket(value)]++;
	histogram->count++;
}

/* Returns the value below which this part of all values lies; 0 if there are none. */
static inline uint64_t histogram_at(const struct histogram *histogram, double part)
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
	return histogram->count ? histogram_middle(last) : 0;
}

#endif
