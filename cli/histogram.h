/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_HISTOGRAM_H
#define XENMSG_CLI_HISTOGRAM_H

/*
 * Counts values, such as times in nanoseconds, in buckets that are no wider than a 128th of what is in them:
 * any number of values takes 58 KiB, and a percentile is right to half a percent.
 */

#include <stdint.h>

#define HISTOGRAM_BUCKETS (128 * 58)

struct histogram {
	uint64_t count;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value);
/* Returns the value below which this part of all values lies; 0 if there are none. */
uint64_t histogram_at(const struct histogram *histogram, double part);

#endif
