/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* units.h in a daemon that was built without systemd: no unit can be started. */
#include "daemon/activation/units.h"

#include <errno.h>
#include <stddef.h>

const bool units_are_supported = false;

bool units_service_is_restarted(void)
{
	return false;
}

int units_new(struct units **units, struct event_base *base)
{
	*units = NULL;
	return 0;
}

void units_free(struct units *units)
{
}

struct unit_start *unit_start_new(struct units *units, const char *unit, unit_failed_fn failed,
				  void *userdata, int *error)
{
	*error = -EOPNOTSUPP;
	return NULL;
}

void unit_start_free(struct unit_start *start)
{
}
