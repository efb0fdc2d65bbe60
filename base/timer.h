/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_TIMER_H
#define XENMSG_BASE_TIMER_H

/* libevent's timers, in milliseconds; and the end of its events. */

#include <stdint.h>
#include <sys/time.h>

#include <event2/event.h>

#include "base/clock.h"

static inline struct timeval timer_ms(uint64_t ms)
{
	return (struct timeval){.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000) * 1000};
}

/* Starts the timer, or restarts it if it runs. With EV_PERSIST it fires repeatedly. Negative: no memory. */
static inline int timer_set(struct event *timer, uint64_t ms)
{
	struct timeval delay = timer_ms(ms);

	return event_add(timer, &delay);
}

/* Starts the timer unless it runs already. */
static inline void timer_start(struct event *timer, uint64_t ms)
{
	if (!evtimer_pending(timer, NULL))
		timer_set(timer, ms);
}

/* A timer that tells how long it has still to run. libevent would say it by the time of day, which may have
 * been set since. */
struct deadline {
	struct event *timer;
	uint64_t due_ms; /* by clock_ms(), while it runs */
};

static inline int deadline_set(struct deadline *deadline, uint32_t ms)
{
	deadline->due_ms = clock_ms() + ms;
	return timer_set(deadline->timer, ms);
}

/* Returns in how many milliseconds it fires; DEADLINE_OFF: it doesn't run. */
#define DEADLINE_OFF UINT32_MAX
static inline uint32_t deadline_left(const struct deadline *deadline)
{
	uint64_t now = clock_ms();

	if (!evtimer_pending(deadline->timer, NULL))
		return DEADLINE_OFF;
	return deadline->due_ms > now ? (uint32_t)(deadline->due_ms - now) : 0;
}

/* Frees an event. NULL is allowed. */
static inline void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

#endif
