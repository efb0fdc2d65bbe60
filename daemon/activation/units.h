/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_UNITS_H
#define XENMSG_DAEMON_UNITS_H

/*
 * Asks systemd over D-Bus to start units (libsystemd's sd-bus, without waiting for any answer). The
 * connection is made for the first start, since most daemons never need one, and anew when it broke.
 * Built without systemd (units_none.c), none can be started.
 */

#include <stdbool.h>

struct event_base;
struct unit_start;
struct units;

/* Tells that systemd won't start the unit, or couldn't, or that the unit has ended; the start is over
 * then. */
typedef void (*unit_failed_fn)(void *userdata, const char *why);

/* Whether units can be started at all. */
extern const bool units_are_supported;

/* Asks systemd whether it stops this process's service in order to start it again, and would keep descriptors
 * for that. May wait for seconds. */
bool units_service_is_restarted(void);
/* Returns 0; -ENOMEM; or -ELIBACC: what talks to systemd can't be loaded. */
int units_new(struct units **units, struct event_base *base);
/* Forgets all starts. */
void units_free(struct units *units);
/* Asks for the unit. NULL: that isn't possible, and *error is a negative errno. */
struct unit_start *unit_start_new(struct units *units, const char *unit, unit_failed_fn failed,
				  void *userdata, int *error);
/* Forgets the start: `failed` isn't called any more. */
void unit_start_free(struct unit_start *start);

#endif
