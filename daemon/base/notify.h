/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_NOTIFY_H
#define XENMSG_DAEMON_NOTIFY_H

/*
 * What the service manager is told (sd_notify(3)): that the daemon is ready, reloads, stops; a line on how it
 * does; and, if the unit has a watchdog, that its event loop still turns. The sign of life comes from a timer
 * of that loop, so a daemon that hangs stops giving it. Without a service manager nothing happens.
 */

#include <stddef.h>

struct event_base;
struct notify;

/* Writes a short text on how the daemon does. */
typedef void (*notify_text_fn)(void *userdata, char *text, size_t size);

int notify_new(struct notify **notify, struct event_base *base, notify_text_fn text, void *userdata);
void notify_free(struct notify *notify);
/* Ready for the first time, or again after a reload. From now on there are signs of life. */
void notify_ready(struct notify *notify);
void notify_reloading(struct notify *notify);
void notify_stopping(struct notify *notify);

#endif
