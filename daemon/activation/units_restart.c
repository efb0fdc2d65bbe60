/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <systemd/sd-bus.h>

#include "daemon/activation/units.h"
#include "daemon/activation/units_module.h"

#define SYSTEMD	     "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"

/* Returns what the unit's job does, to be freed; NULL: nobody knows. */
static char *job_type(sd_bus *bus, const char *unit)
{
	sd_bus_message *reply = NULL;
	const char *path;
	char *type = NULL;
	uint32_t id;

	if (sd_bus_get_property(bus, SYSTEMD, unit, SYSTEMD ".Unit", "Job", NULL, &reply, "(uo)") >= 0 &&
	    sd_bus_message_read(reply, "(uo)", &id, &path) > 0 && id)
		sd_bus_get_property_string(bus, SYSTEMD, path, SYSTEMD ".Job", "JobType", NULL, &type);
	sd_bus_message_unref(reply);
	return type;
}

bool units_service_is_restarted(void)
{
	sd_bus_message *reply = NULL;
	sd_bus *bus = NULL;
	const char *unit = NULL;
	char *type = NULL;
	uint32_t room = 0;
	bool is_restarted = false;

	if (sd_bus_open_system(&bus) >= 0 &&
	    sd_bus_call_method(bus, SYSTEMD, SYSTEMD_PATH, SYSTEMD ".Manager", "GetUnitByPID", NULL, &reply,
			       "u", 0u) >= 0 &&
	    sd_bus_message_read(reply, "o", &unit) > 0 &&
	    sd_bus_get_property_trivial(bus, SYSTEMD, unit, SYSTEMD ".Service", "FileDescriptorStoreMax",
					NULL, 'u', &room) >= 0 &&
	    room >= 2)
		type = job_type(bus, unit);
	is_restarted = type && !strcmp(type, "restart");
	free(type);
	sd_bus_message_unref(reply);
	sd_bus_flush_close_unref(bus);
	return is_restarted;
}

const struct units_module units_module = {
	.version = PACKAGE_VERSION,
	.service_is_restarted = units_service_is_restarted,
	.new_units = units_new,
	.free_units = units_free,
	.new_start = unit_start_new,
	.free_start = unit_start_free,
};
