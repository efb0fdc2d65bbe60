/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_UNITS_MODULE_H
#define XENMSG_DAEMON_UNITS_MODULE_H

/*
 * What of the daemon needs libsystemd: a shared object, UNITS_MODULE, with the functions of units.h, which
 * units.c loads when one of them is first used. Most daemons never start a unit, and libsystemd and what it
 * needs in turn are a megabyte.
 */

#include "daemon/activation/units.h"

#define UNITS_MODULE "xenmsgd-systemd.so"

struct units_module {
	const char *version; /* the daemon's, or it isn't used: it may be of a package that has just come */
	bool (*service_is_restarted)(void);
	int (*new_units)(struct units **units, struct event_base *base);
	void (*free_units)(struct units *units);
	struct unit_start *(*new_start)(struct units *units, const char *unit, unit_failed_fn failed,
					void *userdata, int *error);
	void (*free_start)(struct unit_start *start);
};

extern const struct units_module units_module __attribute__((visibility("default")));

#endif
