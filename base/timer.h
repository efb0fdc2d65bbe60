/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_TIMER_H
#define XENMSG_BASE_TIMER_H

/* libevent's timers, in milliseconds; and the end of its events. */

#include <stdbool.h>
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

/*
 * A timer after which something is given up. It may fire late because nobody ran, this process included: what
 * came in time then lies there unread, and the one that was waited for may have had no time. So once it gives
 * back by how much it was late. And it tells how long it has still to run, which libevent would say by the
 * time of day, which may have been set since.
 */
struct deadline {
	struct event *timer;
	uint64_t due_ms; /* by clock_ms() */
	bool was_late;
};

#define DEADLINE_LATE_MS 100u /* nothing to speak of is earlier */

static inline int deadline_set(struct deadline *deadline, uint32_t ms)
{
	deadline->due_ms = clock_ms() + ms;
	deadline->was_late = false;
	return timer_set(deadline->timer, ms);
}

/* Returns what is left of it, at most `back_ms` of which is given back. 0: it is over. */
static inline uint32_t deadline_left(const struct deadline *deadline, uint32_t back_ms)
{
	uint64_t now = clock_ms(), late = now - deadline->due_ms;

	if (now < deadline->due_ms)
		return (uint32_t)(deadline->due_ms - now);
	if (late < DEADLINE_LATE_MS || deadline->was_late)
		return 0;
	return late < back_ms ? (uint32_t)late : back_ms;
}

/* The same for an image (base/image.h); DEADLINE_OFF: the timer doesn't run. */
#define DEADLINE_OFF UINT32_MAX
static inline uint32_t deadline_to_hand_over(const struct deadline *deadline, uint32_t back_ms)
{
	return evtimer_pending(deadline->timer, NULL) ? deadline_left(deadline, back_ms) : DEADLINE_OFF;
}

/* Whether it is over, for the timer's function; else the timer is set again for what is left. */
static inline bool deadline_is_over(struct deadline *deadline, uint32_t back_ms)
{
	bool was_late = deadline->was_late || clock_ms() >= deadline->due_ms;
	uint32_t left = deadline_left(deadline, back_ms);

	if (left == 0 || deadline_set(deadline, left) < 0)
		return true;
	deadline->was_late = was_late;
	return false;
}

/* Frees an event. NULL is allowed. */
static inline void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

#endif
