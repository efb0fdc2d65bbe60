/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_TIMER_H
#define XENMSG_BASE_TIMER_H

/* libevent's timers, in milliseconds; and the end of its events. */

#include <stdint.h>
#include <sys/time.h>

#include <event2/event.h>
#include <event2/util.h>

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

/* Returns in how many milliseconds the timer fires; TIMER_OFF: it doesn't run. */
#define TIMER_OFF UINT32_MAX
static inline uint32_t timer_left(const struct event *timer)
{
	struct timeval when, now;
	int64_t ms;

	if (!event_pending(timer, EV_TIMEOUT, &when))
		return TIMER_OFF;
	evutil_gettimeofday(&now, NULL);
	ms = ((int64_t)when.tv_sec - now.tv_sec) * 1000 + ((int64_t)when.tv_usec - now.tv_usec) / 1000;
	return ms < 0 ? 0 : ms < TIMER_OFF ? (uint32_t)ms : TIMER_OFF - 1;
}

/* Frees an event. NULL is allowed. */
static inline void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

#endif
