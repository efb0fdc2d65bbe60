/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Plays systemd on a D-Bus: StartUnit runs the file of the unit's name in a folder, whose job is done then, or
 * has failed if the file can't be run. What it is asked for goes to standard output.
 *
 * Usage: fake-systemd FOLDER, with DBUS_SYSTEM_BUS_ADDRESS
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <systemd/sd-bus.h>

#define PATH "/org/freedesktop/systemd1"
#define NAME "org.freedesktop.systemd1"

static bool run(const char *folder, const char *unit)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", folder, unit);
	if (access(path, X_OK) < 0)
		return false;
	if (fork() == 0) {
		execl(path, path, (char *)NULL);
		_exit(127);
	}
	return true;
}

static int on_start_unit(sd_bus_message *request, void *userdata, sd_bus_error *error)
{
	static uint32_t jobs;
	const char *unit, *mode;
	char job[64];
	int r = sd_bus_message_read(request, "ss", &unit, &mode);

	if (r < 0)
		return r;
	printf("%s %s\n", unit, mode);
	fflush(stdout);
	if (!strncmp(unit, "none", 4))
		return sd_bus_error_setf(error, NAME ".NoSuchUnit", "Unit %s not found.", unit);
	snprintf(job, sizeof(job), PATH "/job/%u", ++jobs);
	r = sd_bus_reply_method_return(request, "o", job);
	if (r < 0)
		return r;
	return sd_bus_emit_signal(sd_bus_message_get_bus(request), PATH, NAME ".Manager", "JobRemoved",
				  "uoss", jobs, job, unit, run(userdata, unit) ? "done" : "failed");
}

static int on_subscribe(sd_bus_message *request, void *userdata, sd_bus_error *error)
{
	return sd_bus_reply_method_return(request, NULL);
}

static const sd_bus_vtable manager[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("StartUnit", "ss", "o", on_start_unit, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Subscribe", NULL, NULL, on_subscribe, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_SIGNAL("JobRemoved", "uoss", 0),
	SD_BUS_VTABLE_END,
};

int main(int argc, char **argv)
{
	sd_bus *bus = NULL;
	int r;

	if (argc != 2)
		return 2;
	signal(SIGCHLD, SIG_IGN);
	r = sd_bus_open_system(&bus);
	if (r >= 0)
		r = sd_bus_add_object_vtable(bus, NULL, PATH, NAME ".Manager", manager, argv[1]);
	if (r >= 0)
		r = sd_bus_request_name(bus, NAME, 0);
	if (r >= 0)
		puts("ready");
	fflush(stdout);
	while (r >= 0) {
		r = sd_bus_process(bus, NULL);
		if (r == 0)
			r = sd_bus_wait(bus, UINT64_MAX);
		if (r == -EINTR)
			r = 0;
	}
	fprintf(stderr, "fake-systemd: %s\n", strerror(-r));
	return 1;
}
