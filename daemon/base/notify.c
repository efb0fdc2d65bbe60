/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/base/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <systemd/sd-daemon.h>

#include "daemon/base/clock.h"

#define TEXT_INTERVAL_US 5000000u

struct notify {
	struct event *timer;
	notify_text_fn text;
	void *userdata;
	bool has_watchdog, is_ready;
	struct timeval interval;
	char told[512];
};

/* Sends the text only when it has changed: the manager writes each into its own state. */
static void tell_text(struct notify *notify)
{
	char text[sizeof(notify->told)] = "";

	notify->text(notify->userdata, text, sizeof(text));
	if (!strcmp(text, notify->told))
		return;
	memcpy(notify->told, text, sizeof(text));
	sd_notifyf(0, "STATUS=%s", text);
}

static void on_timer(evutil_socket_t fd, short what, void *userdata)
{
	struct notify *notify = userdata;

	if (notify->has_watchdog)
		sd_notify(0, "WATCHDOG=1");
	tell_text(notify);
}

int notify_new(struct notify **out, struct event_base *base, notify_text_fn text, void *userdata)
{
	struct notify *notify = calloc(1, sizeof(*notify));
	uint64_t interval_us = TEXT_INTERVAL_US, watchdog_us = 0;

	if (!notify)
		return -ENOMEM;
	notify->text = text;
	notify->userdata = userdata;
	notify->has_watchdog = sd_watchdog_enabled(0, &watchdog_us) > 0;
	/* sd_watchdog_enabled(3) recommends half of the time; a third leaves room for a busy turn of the
	 * loop. */
	if (notify->has_watchdog && watchdog_us / 3 < interval_us)
		interval_us = watchdog_us / 3;
	notify->interval.tv_sec = (time_t)(interval_us / 1000000);
	notify->interval.tv_usec = (suseconds_t)(interval_us % 1000000);
	notify->timer = event_new(base, -1, EV_PERSIST, on_timer, notify);
	if (!notify->timer) {
		free(notify);
		return -ENOMEM;
	}
	*out = notify;
	return 0;
}

void notify_free(struct notify *notify)
{
	if (!notify)
		return;
	event_free(notify->timer);
	free(notify);
}

void notify_ready(struct notify *notify)
{
	tell_text(notify);
	sd_notify(0, "READY=1");
	if (notify->is_ready || !getenv("NOTIFY_SOCKET"))
		return;
	notify->is_ready = true;
	event_add(notify->timer, &notify->interval);
	event_active(notify->timer, EV_TIMEOUT, 0);
}

void notify_reloading(struct notify *notify)
{
	/* Type=notify-reload needs the time of the reload. */
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_ns() / 1000);
}

void notify_stopping(struct notify *notify)
{
	sd_notify(0, "STOPPING=1");
}
