/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PATIENCE_H
#define XENMSG_DAEMON_PATIENCE_H

/*
 * Decides whether to poll a ring for the next frame instead of sleeping until a notification comes. To notify
 * a domain that sleeps and to wake up take longer together than many an answer; polling spares both sides
 * that. But polling uses a CPU that others may need, so it is only done while frames come quickly, and after
 * polls in vain it is tried less and less.
 *
 *   came: something was taken in; idle: there is nothing more, so a wait begins;
 *   in_vain: this wait was spent polling
 *
 * This is pure arithmetic: the caller has the clock and does the polling. Times are in ns, of any clock.
 */

#include <stdbool.h>
#include <stdint.h>

#define PATIENCE_QUICK_WAITS 4u /* so many in a row make polling worth trying */

struct patience {
	uint64_t limit;	     /* a wait that is longer isn't quick; 0: never poll */
	uint64_t idle_since; /* 0: no wait goes on */
	uint32_t quick;	     /* quick waits in a row */
	uint32_t needed;     /* quick waits before the next poll */
};

static inline void patience_init(struct patience *patience, uint64_t limit)
{
	*patience = (struct patience){.limit = limit, .needed = PATIENCE_QUICK_WAITS};
}

/* Notes that something was taken in. `polled`: it was found by polling, which was worth it. */
static inline void patience_came(struct patience *patience, uint64_t now, bool polled)
{
	if (polled)
		patience->needed = PATIENCE_QUICK_WAITS;
	if (patience->idle_since && now - patience->idle_since < patience->limit) {
		if (patience->quick < patience->needed)
			patience->quick++;
	} else {
		patience->quick = 0;
	}
	patience->idle_since = 0;
}

/* Notes that nothing is there. Returns true if the caller should poll, until `now` + limit. */
static inline bool patience_idle(struct patience *patience, uint64_t now)
{
	if (!patience->limit)
		return false;
	if (!patience->idle_since)
		patience->idle_since = now;
	return patience->quick >= patience->needed;
}

static inline void patience_in_vain(struct patience *patience)
{
	patience->quick = 0;
	if (patience->needed < PATIENCE_QUICK_WAITS << 10)
		patience->needed *= 2;
}

#endif
