/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_NOTIFY_H
#define XENMSG_BASE_NOTIFY_H

/*
 * Tells the service manager (sd_notify(3)) that the daemon is ready, reloads or stops, with a line on its
 * condition; and, if the unit has a watchdog, that its event loop still runs. That notification comes from a
 * timer of the loop, so a daemon that hangs stops sending it. Managers of another kind are told only that it
 * is ready, by a line on a descriptor (s6's notification-fd, OpenRC's notify=fd:N). Without a service manager
 * nothing happens. Nobody waits for a manager that doesn't read: it is told when it has room again, of a stop
 * only if it has some at once.
 */

#include <stddef.h>

struct event_base;
struct notify;

/* Writes a short text on the daemon's condition. */
typedef void (*notify_text_fn)(void *userdata, char *text, size_t size);

/* Reads the number of a descriptor that notify_new() is given. -EINVAL: it isn't one, or isn't open for
 * writing. */
int notify_parse_fd(const char *text, int *fd);
/* `ready_fd`: where a newline tells that the daemon is ready; it is closed then, or by notify_free(). -1:
 * none. */
int notify_new(struct notify **notify, struct event_base *base, int ready_fd, notify_text_fn text,
	       void *userdata);
void notify_free(struct notify *notify);
/* Reports that the daemon is ready, for the first time or again after a reload. From now on the watchdog is
 * notified. */
void notify_ready(struct notify *notify);
void notify_reloading(struct notify *notify);
/* Tells in a start that takes long, as one that takes over may, that the daemon lives and needs more time. */
void notify_alive(void);
void notify_stopping(struct notify *notify);
/* Has the manager keep a descriptor for the next daemon. Waits up to a second for room. 0, also if there is
 * no manager, or a negative errno. */
int notify_store(const char *name, int fd);
/* Has it forget what it keeps under this name. */
void notify_forget(const char *name);

#endif
