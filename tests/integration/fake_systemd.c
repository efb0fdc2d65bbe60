/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Plays systemd on a D-Bus: StartUnit runs the file of the unit's name in a folder, whose job is done then,
 * or has failed if the file can't be run. The unit is active until that has ended, and isn't started a
 * second time before. What it is asked for goes to standard output.
 *
 * Before a job is done whose unit's name begins with "forged", somebody else on the bus tells the one that
 * asked that it has failed, that a job of another unit is done, and that the unit has changed; and tries to
 * pass a descriptor, which is said on standard output if the bus refuses it. The words of a unit that begins
 * with "escaped" would write to a terminal. Before the job of a unit that begins with "reborn" has failed,
 * systemd is on the bus by another connection, as after a daemon-reexec.
 *
 * Whoever asks for the unit of a process is xenmsgd.service; what its job does stands in the file FOLDER/job:
 * without that it has none.
 *
 * Usage: fake-systemd FOLDER, with DBUS_SYSTEM_BUS_ADDRESS
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <systemd/sd-bus.h>

#define PATH "/org/freedesktop/systemd1"
#define NAME "org.freedesktop.systemd1"

#define UNITS_MAX 16
#define LOOKS_US  20000 /* how often it is looked whether a unit's process has ended */

static struct unit {
	char name[256];
	pid_t pid;
	const char *state;
} units[UNITS_MAX];

static const char *folder;

/* Returns what the job of xenmsgd.service does; NULL: there is none. */
static const char *job_type(void)
{
	static char type[32];
	char path[4096];
	FILE *file;
	int r;

	snprintf(path, sizeof(path), "%s/job", folder);
	file = fopen(path, "r");
	if (!file)
		return NULL;
	r = fscanf(file, "%31s", type);
	fclose(file);
	return r == 1 ? type : NULL;
}

static struct unit *find(const char *name)
{
	struct unit *unit = units;

	while (unit->name[0] && strcmp(unit->name, name) != 0)
		if (++unit == units + UNITS_MAX)
			abort();
	return unit;
}

static bool run(const char *name)
{
	struct unit *unit = find(name);
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	snprintf(unit->name, sizeof(unit->name), "%s", name);
	if (unit->pid > 0)
		return true; /* it runs already */
	unit->state = "failed";
	if (access(path, X_OK) < 0)
		return false;
	unit->state = "active";
	unit->pid = fork();
	if (unit->pid == 0) {
		execl(path, path, (char *)NULL);
		_exit(127);
	}
	return true;
}

static void reap(sd_bus *bus)
{
	int status;

	for (struct unit *unit = units; unit < units + UNITS_MAX; unit++) {
		char *path = NULL;

		if (unit->pid <= 0 || waitpid(unit->pid, &status, WNOHANG) != unit->pid)
			continue;
		unit->pid = 0;
		unit->state = status == 0 ? "inactive" : "failed";
		if (sd_bus_path_encode(PATH "/unit", unit->name, &path) < 0)
			abort();
		sd_bus_emit_properties_changed(bus, path, NAME ".Unit", "ActiveState", NULL);
		free(path);
	}
}

static int find_unit(sd_bus *bus, const char *path, const char *interface, void *userdata, void **found,
		     sd_bus_error *error)
{
	char *name = NULL;
	int r = sd_bus_path_decode(path, PATH "/unit", &name);

	if (r > 0)
		*found = find(name);
	free(name);
	return r;
}

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
		     sd_bus_message *reply, void *unit, sd_bus_error *error)
{
	return sd_bus_message_append(reply, "s", ((struct unit *)unit)->state);
}

static int get_job(sd_bus *bus, const char *path, const char *interface, const char *property,
		   sd_bus_message *reply, void *unit, sd_bus_error *error)
{
	return job_type() ? sd_bus_message_append(reply, "(uo)", 77u, PATH "/job/77")
			  : sd_bus_message_append(reply, "(uo)", 0u, "/");
}

static int get_job_type(sd_bus *bus, const char *path, const char *interface, const char *property,
			sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const char *type = job_type();

	return sd_bus_message_append(reply, "s", type ? type : "");
}

static int get_room(sd_bus *bus, const char *path, const char *interface, const char *property,
		    sd_bus_message *reply, void *unit, sd_bus_error *error)
{
	return sd_bus_message_append(reply, "u", 8u);
}

static const sd_bus_vtable job_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("JobType", "s", get_job_type, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_VTABLE_END,
};

static const sd_bus_vtable service_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("FileDescriptorStoreMax", "u", get_room, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_VTABLE_END,
};

static const sd_bus_vtable unit_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Job", "(uo)", get_job, 0, 0),
	SD_BUS_PROPERTY("ActiveState", "s", get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_VTABLE_END,
};

/* Returns once the bus has dealt with all that was sent before. */
static int wait_for_bus(sd_bus *bus)
{
	return sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
				  "org.freedesktop.DBus", "GetId", NULL, NULL, "");
}

/* Tells `victim` alone. */
static int tell(sd_bus *stranger, const char *victim, const char *job, const char *unit, const char *result)
{
	sd_bus_message *signal = NULL;
	int r = sd_bus_message_new_signal(stranger, &signal, PATH, NAME ".Manager", "JobRemoved");

	if (r >= 0)
		r = sd_bus_message_append(signal, "uoss", 1u, job, unit, result);
	if (r >= 0)
		r = sd_bus_send_to(stranger, signal, victim, NULL);
	sd_bus_message_unref(signal);
	return r;
}

static int forge(sd_bus *bus, const char *victim, const char *job, const char *unit)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	sd_bus *stranger = NULL;
	int r = wait_for_bus(bus); /* so the victim knows the job */

	if (r >= 0)
		r = sd_bus_open_system(&stranger);
	if (r >= 0)
		r = tell(stranger, victim, job, unit, "canceled");
	if (r >= 0)
		r = tell(stranger, victim, job, "other.service", "done");
	if (r >= 0) {
		sd_bus_call_method(stranger, victim, PATH, NAME ".Manager", "JobRemoved", &error, NULL, "h",
				   STDERR_FILENO);
		if (sd_bus_error_has_name(&error, SD_BUS_ERROR_NOT_SUPPORTED))
			puts("descriptors are refused");
		else
			printf("descriptors: %s\n", error.message);
		fflush(stdout);
		sd_bus_error_free(&error);
	}
	sd_bus_flush_close_unref(stranger);
	return r;
}

/* Returns the connection that is systemd now. */
static sd_bus *be_reborn(sd_bus *bus)
{
	sd_bus *now = NULL;

	if (wait_for_bus(bus) < 0 || sd_bus_open_system(&now) < 0 || sd_bus_release_name(bus, NAME) < 0 ||
	    sd_bus_request_name(now, NAME, 0) < 0)
		abort();
	return now;
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
	if (!strncmp(unit, "escaped", 7))
		return sd_bus_error_set(error, NAME ".Odd", "\033[2Jodd\nwords\u00e9");
	if (!strncmp(unit, "denied", 6))
		return sd_bus_error_set(error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
					"Interactive authentication required.");
	snprintf(job, sizeof(job), PATH "/job/%u", ++jobs);
	r = sd_bus_reply_method_return(request, "o", job);
	if (r >= 0 && !strncmp(unit, "forged", 6))
		r = forge(sd_bus_message_get_bus(request), sd_bus_message_get_sender(request), job, unit);
	if (r < 0)
		return r;
	if (!strncmp(unit, "reborn", 6)) {
		sd_bus *now = be_reborn(sd_bus_message_get_bus(request));

		r = sd_bus_emit_signal(now, PATH, NAME ".Manager", "JobRemoved", "uoss", jobs, job, unit,
				       "failed");
		sd_bus_flush_close_unref(now);
		return r < 0 ? r : sd_bus_request_name(sd_bus_message_get_bus(request), NAME, 0);
	}
	return sd_bus_emit_signal(sd_bus_message_get_bus(request), PATH, NAME ".Manager", "JobRemoved",
				  "uoss", jobs, job, unit, run(unit) ? "done" : "failed");
}

static int on_get_unit(sd_bus_message *request, void *userdata, sd_bus_error *error)
{
	return sd_bus_reply_method_return(request, "o", PATH "/unit/xenmsgd_2eservice");
}

static int on_subscribe(sd_bus_message *request, void *userdata, sd_bus_error *error)
{
	return sd_bus_reply_method_return(request, NULL);
}

static const sd_bus_vtable manager[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("StartUnit", "ss", "o", on_start_unit, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("GetUnitByPID", "u", "o", on_get_unit, SD_BUS_VTABLE_UNPRIVILEGED),
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
	folder = argv[1];
	r = sd_bus_open_system(&bus);
	if (r >= 0)
		r = sd_bus_add_object_vtable(bus, NULL, PATH, NAME ".Manager", manager, NULL);
	if (r >= 0)
		r = sd_bus_add_object_vtable(bus, NULL, PATH "/job/77", NAME ".Job", job_vtable, NULL);
	if (r >= 0)
		r = sd_bus_add_fallback_vtable(bus, NULL, PATH "/unit", NAME ".Service", service_vtable,
					       find_unit, NULL);
	if (r >= 0)
		r = sd_bus_add_fallback_vtable(bus, NULL, PATH "/unit", NAME ".Unit", unit_vtable, find_unit,
					       NULL);
	if (r >= 0)
		r = sd_bus_request_name(bus, NAME, 0);
	if (r >= 0)
		puts("ready");
	fflush(stdout);
	while (r >= 0) {
		r = sd_bus_process(bus, NULL);
		if (r == 0)
			r = sd_bus_wait(bus, LOOKS_US);
		if (r == -EINTR)
			r = 0;
		reap(bus);
	}
	fprintf(stderr, "fake-systemd: %s\n", strerror(-r));
	return 1;
}
