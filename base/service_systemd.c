/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sys/syslog.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

#define SYSTEMD	     "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"

int service_sockets(int **fds, char ***names)
{
	int count = sd_listen_fds_with_names(0, names);

	*fds = NULL;
	if (count <= 0)
		return count;
	*fds = calloc((size_t)count, sizeof(**fds));
	if (!*fds) {
		for (int i = 0; i < count; i++)
			free((*names)[i]);
		free(*names);
		*names = NULL;
		return -ENOMEM; /* and another attempt finds them */
	}
	sd_listen_fds(1);
	for (int i = 0; i < count; i++)
		(*fds)[i] = SD_LISTEN_FDS_START + i;
	return count;
}

bool service_is_listener(int fd, int type)
{
	return sd_is_socket_unix(fd, type, 1, NULL, 0) > 0;
}

uint64_t service_watchdog_us(void)
{
	uint64_t time = 0;

	return sd_watchdog_enabled(0, &time) > 0 ? time : 0;
}

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

bool service_is_restarted(void)
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

int service_open_output(const char *name)
{
	return sd_journal_stream_fd(name, LOG_INFO, 1);
}
