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

int loop_init(struct loop *loop)
{
	static const int signals[] = {SIGINT, SIGTERM};

	loop->base = event_base_new();
	if (!loop->base)
		return -ENOMEM;
	for (int i = 0; i < 2; i++) {
		loop->stop[i] = evsignal_new(loop->base, signals[i], on_stop, loop);
		if (!loop->stop[i] || event_add(loop->stop[i], NULL) < 0)
			return -ENOMEM;
	}
	return 0;
}

void loop_cleanup(struct loop *loop)
{
	for (int i = 0; i < 2; i++)
		if (loop->stop[i])
			event_free(loop->stop[i]);
	if (loop->base)
		event_base_free(loop->base);
}
