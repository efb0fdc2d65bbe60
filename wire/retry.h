/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_RETRY_H
#define XENMSG_RETRY_H

/* When to try again what has failed: after a pause that doubles, by what a try costs. */

#include <stdint.h>

enum retry_cost {
	RETRY_HERE,	 /* some system calls of ours: a socket, the own daemon */
	RETRY_LINK,	 /* a question to another daemon, over a link that is there */
	RETRY_OTHERS,	 /* XenStore and another daemon, or a program that is started */
	RETRY_ALL_OF_US, /* a connection to XenStore with all of its watches */
};

/* Returns the next pause, in ms, behind this one (0: there was none). */
static inline uint32_t retry_pause(enum retry_cost cost, uint32_t before_ms)
{
	static const struct {
		uint32_t first_ms, last_ms;
	} pauses[] = {
		[RETRY_HERE] = {20, 1000},
		[RETRY_LINK] = {50, 5000},
		[RETRY_OTHERS] = {500, 60000},
		[RETRY_ALL_OF_US] = {5000, 300000},
	};

	if (before_ms == 0)
		return pauses[cost].first_ms;
	return before_ms < pauses[cost].last_ms / 2 ? 2 * before_ms : pauses[cost].last_ms;
}

/* For what somebody else puts right and nothing tells, where a try costs next to nothing. */
#define RETRY_EACH_MS 1000u

#endif
