/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_NOTIFY_H
#define XENMSG_BASE_NOTIFY_H

/*
 * Tells the service manager (sd_notify(3)) that the daemon is ready, reloads or stops, with a line on its
 * condition; and, if the unit has a watchdog, that its event loop still runs. That notification comes from a
 * timer of the loop, so a daemon that hangs stops sending it. Without a service manager nothing happens. Nobody waits
 * for a manager that doesn't read: it is told when it has room again, of a stop only if it has some at once.
 */

#include <stddef.h>

struct event_base;
struct notify;

/* Writes a short text on the daemon's condition. */
typedef void (*notify_text_fn)(void *userdata, char *text, size_t size);

int notify_new(struct notify **notify, struct event_base *base, notify_text_fn text, void *userdata);
void notify_free(struct notify *notify);
/* Reports that the daemon is ready, for the first time or again after a reload. From now on the watchdog is
 * notified. */
void notify_ready(struct notify *notify);
void notify_reloading(struct notify *notify);
void notify_stopping(struct notify *notify);

#endif
