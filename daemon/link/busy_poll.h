/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_BUSY_POLL_H
#define XENMSG_DAEMON_BUSY_POLL_H

/*
 * Decides whether to poll a ring for the next frame instead of sleeping until a notification comes. To notify
 * a domain that sleeps and to wake up take longer together than many an answer; polling spares both sides
 * that. But polling uses a CPU that others may need, so it is only done while frames come quickly, and after
 * polls in vain it is tried less and less.
 *
 * The peer decides when its frames come, so polling has a credit: what is polled is taken off it. A frame
 * that was found earns what sleeping would have cost, and time earns a small share. So a peer whose answers
 * are quick is polled for ever, and one whose frames come just within the limit for that share only.
 *
 *   came: something was taken in; idle: there is nothing more, so a wait begins;
 *   in_vain: this wait was spent polling
 *
 * This is pure arithmetic: the caller has the clock and does the polling. Times are in ns, of any clock.
 */

#include <stdbool.h>
#include <stdint.h>

#define BUSY_POLL_QUICK_WAITS 4u   /* so many in a row make polling worth trying */
#define BUSY_POLL_CREDIT      500u /* times the limit: the most credit that can be saved up */
#define BUSY_POLL_SHARE	      16u  /* polling may take this part of all time, whatever it finds */

struct busy_poll {
	uint64_t limit;	     /* how long to poll; 0: never */
	uint64_t idle_since; /* 0: no wait goes on */
	uint64_t credit;     /* for how long it may be polled */
	uint64_t earned_at;  /* when time has earned credit last */
	uint32_t quick;	     /* quick waits in a row */
	uint32_t needed;     /* quick waits before the next poll */
};

static inline void busy_poll_init(struct busy_poll *busy_poll, uint64_t limit)
{
	*busy_poll = (struct busy_poll){
		.limit = limit, .credit = BUSY_POLL_CREDIT * limit, .needed = BUSY_POLL_QUICK_WAITS};
}

static inline void busy_poll_earn(struct busy_poll *busy_poll, uint64_t earned)
{
	uint64_t room = BUSY_POLL_CREDIT * busy_poll->limit - busy_poll->credit;

	busy_poll->credit += earned < room ? earned : room;
}

/* Pays for a wait that was spent polling. Returns how long it was. */
static inline uint64_t busy_poll_pay(struct busy_poll *busy_poll, uint64_t now)
{
	uint64_t polled = now - busy_poll->idle_since;

	if (polled > busy_poll->limit)
		polled = busy_poll->limit; /* before that it slept, or others had the CPU */
	busy_poll->credit -= polled < busy_poll->credit ? polled : busy_poll->credit;
	return polled;
}

/* Notes that something was taken in. `polled`: it was found by polling, which was worth it. A wait that was
 * slept through is longer by two wake-ups, the peer's and ours, which polling would have spared: so it is
 * quick if it was twice as long. Returns how long it was polled. */
static inline uint64_t busy_poll_came(struct busy_poll *busy_poll, uint64_t now, bool polled)
{
	uint64_t quick = polled ? busy_poll->limit : 2 * busy_poll->limit, cost = 0;

	if (polled) {
		cost = busy_poll_pay(busy_poll, now);
		busy_poll_earn(busy_poll, busy_poll->limit / 2);
		busy_poll->needed = BUSY_POLL_QUICK_WAITS;
	}
	if (busy_poll->idle_since && now - busy_poll->idle_since < quick) {
		if (busy_poll->quick < busy_poll->needed)
			busy_poll->quick++;
	} else {
		busy_poll->quick = 0;
	}
	busy_poll->idle_since = 0;
	return cost;
}

/* Notes that nothing is there. Returns true if the caller should poll, until `now` + limit. */
static inline bool busy_poll_idle(struct busy_poll *busy_poll, uint64_t now)
{
	if (!busy_poll->limit)
		return false;
	if (!busy_poll->idle_since)
		busy_poll->idle_since = now;
	if (busy_poll->earned_at)
		busy_poll_earn(busy_poll, (now - busy_poll->earned_at) / BUSY_POLL_SHARE);
	busy_poll->earned_at = now;
	return busy_poll->quick >= busy_poll->needed && busy_poll->credit >= busy_poll->limit;
}

/* Notes that nothing came while it was polled. Returns how long that was. */
static inline uint64_t busy_poll_in_vain(struct busy_poll *busy_poll, uint64_t now)
{
	busy_poll->quick = 0;
	if (busy_poll->needed < BUSY_POLL_QUICK_WAITS << 10)
		busy_poll->needed *= 2;
	return busy_poll_pay(busy_poll, now);
}

#endif
