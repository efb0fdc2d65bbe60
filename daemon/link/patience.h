/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PATIENCE_H
#define XENMSG_DAEMON_PATIENCE_H

/*
 * Whether it is worth looking at a ring again and again for the next thing to come, instead of sleeping until
 * it is notified of. Notifying a domain that sleeps and waking up take longer together than many an answer:
 * then both sides are spared them. But looking uses a CPU that somebody else may need, so it is only done
 * while what comes, comes quickly, and where it was in vain it is tried less and less.
 *
 *   came: something was taken in; idle: there is nothing more, so a wait begins; in_vain: this wait was spent looking
 *
 * Pure arithmetic: the caller has the clock and does the looking. Times are in ns, of any clock.
 */

#include <stdbool.h>
#include <stdint.h>

#define PATIENCE_QUICK_WAITS 4u /* so many in a row make it worth trying */

struct patience {
	uint64_t limit;	     /* a wait that is longer isn't quick; 0: never look */
	uint64_t idle_since; /* 0: no wait goes on */
	uint32_t quick;	     /* quick waits in a row */
	uint32_t needed;     /* of them before the next try */
};

static inline void patience_init(struct patience *patience, uint64_t limit)
{
	*patience = (struct patience){.limit = limit, .needed = PATIENCE_QUICK_WAITS};
}

/* `polled`: it was found by looking, which was worth it. */
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

/* True: look, until `now` + limit. */
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
