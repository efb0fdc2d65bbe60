/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/loop.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>

#include <event2/event.h>

static void on_stop(evutil_socket_t number, short what, void *userdata)
{
	struct loop *loop = userdata;

	loop->signal = (int)number;
	event_base_loopbreak(loop->base);
}

struct event *loop_event(struct event_base *base, int fd, short what,
			 void (*on_event)(int fd, short what, void *userdata), void *userdata)
{
	struct event *event = event_new(base, fd, what, on_event, userdata);

	if (event && event_add(event, NULL) == 0)
		return event;
	loop_event_free(event);
	return NULL;
}

void loop_event_free(struct event *event)
{
	if (event)
		event_free(event);
}

int loop_init(struct loop *loop)
{
	static const int signals[] = {SIGINT, SIGTERM};

	loop->base = event_base_new();
	if (!loop->base)
		return -ENOMEM;
	for (int i = 0; i < 2; i++) {
		loop->stop[i] = loop_event(loop->base, signals[i], EV_SIGNAL | EV_PERSIST, on_stop, loop);
		if (!loop->stop[i])
			return -ENOMEM;
	}
	return 0;
}

void loop_cleanup(struct loop *loop)
{
	for (int i = 0; i < 2; i++)
		loop_event_free(loop->stop[i]);
	if (loop->base)
		event_base_free(loop->base);
}
