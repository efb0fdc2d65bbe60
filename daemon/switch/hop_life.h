/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOP_LIFE_H
#define XENMSG_DAEMON_HOP_LIFE_H

/*
 * Where a hop is in its life, and what changes that. A hop has rings from its attaching until it is detached
 * or paused:
 *
 *              rings  attached   finishing  failing    paused     detached   retired
 *   detached     -    up            .          .          .          .       retired
 *   up          yes   .          finishing  failed     paused     detached   retired
 *   finishing   yes   .             .       failed     paused     detached   retired
 *   failed      yes   .             .          .       paused     detached   retired
 *   paused       -    up            .          .          .       detached   retired
 *   retired      -    .             .          .          .          .          .
 *
 * Where there is a dot, it stays as it was. The owner of a hop without rings may be told of a failure, too.
 */

#include <stdbool.h>
#include <stdint.h>

enum hop_life {
	HOP_DETACHED, /* a link that isn't up; a program that isn't there yet or has gone */
	HOP_UP,	      /* frames go in and out */
	/* so they do, but the other end has gone: what it left is taken in, then the session ends */
	HOP_FINISHING,
	/* nothing goes in or out any more: the owner is told, and detaches, pauses or retires the hop */
	HOP_FAILED,
	HOP_PAUSED,  /* a link's that has lost its rings but not its session */
	HOP_RETIRED, /* nobody's any more: its channels end, and then it is freed */
	HOP_LIVES
};

enum hop_change {
	HOP_IS_ATTACHED,
	HOP_IS_FINISHING,
	HOP_IS_FAILING,
	HOP_IS_PAUSED,
	HOP_IS_DETACHED,
	HOP_IS_RETIRED,
	HOP_CHANGES
};

static inline enum hop_life hop_life_after(enum hop_life life, enum hop_change change)
{
	static const uint8_t table[HOP_LIVES][HOP_CHANGES] = {
		[HOP_DETACHED] = {HOP_UP, HOP_DETACHED, HOP_DETACHED, HOP_DETACHED, HOP_DETACHED,
				  HOP_RETIRED},
		[HOP_UP] = {HOP_UP, HOP_FINISHING, HOP_FAILED, HOP_PAUSED, HOP_DETACHED, HOP_RETIRED},
		[HOP_FINISHING] = {HOP_FINISHING, HOP_FINISHING, HOP_FAILED, HOP_PAUSED, HOP_DETACHED,
				   HOP_RETIRED},
		[HOP_FAILED] = {HOP_FAILED, HOP_FAILED, HOP_FAILED, HOP_PAUSED, HOP_DETACHED, HOP_RETIRED},
		[HOP_PAUSED] = {HOP_UP, HOP_PAUSED, HOP_PAUSED, HOP_PAUSED, HOP_DETACHED, HOP_RETIRED},
		[HOP_RETIRED] = {HOP_RETIRED, HOP_RETIRED, HOP_RETIRED, HOP_RETIRED, HOP_RETIRED,
				 HOP_RETIRED},
	};

	return table[life][change];
}

static inline bool hop_life_has_rings(enum hop_life life)
{
	return life == HOP_UP || life == HOP_FINISHING || life == HOP_FAILED;
}

#endif
