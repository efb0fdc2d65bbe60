/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* units.h with libsystemd: units_module.h. */
#include "daemon/activation/units.h"
#include "daemon/activation/units_module.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <systemd/sd-bus.h>

#include "base/clock.h"
#include "base/timer.h"
#include "wire/text.h"
#include "wire/ut.h"

#define SYSTEMD	     "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define MANAGER	     SYSTEMD ".Manager"
#define UNIT	     SYSTEMD ".Unit"
#define BUS	     "org.freedesktop.DBus"
#define BUS_PATH     "/org/freedesktop/DBus"
#define PROPERTIES   BUS ".Properties"
#define MESSAGES_MAX 32 /* handled at once */
#define REST	     9u /* times as long as what came has taken nothing more is read: anybody may send */
/* Where sd_bus_open_system() finds the bus. */
#define BUS_VARIABLE "DBUS_SYSTEM_BUS_ADDRESS"
#define BUS_ADDRESS  "unix:path=/run/dbus/system_bus_socket"

/* A start first waits for systemd's answer, which names a job; then for the end of that job; then, until it
 * is forgotten, for the unit's end.
 *
 * Anybody on the bus may send signals to the daemon's own name on it, where no match of the bus stands
 * between. So they are believed from the one connection that has answered: an answer is let through by the
 * bus from the connection that was asked alone. If systemd is executed anew it has another connection, as the
 * bus itself tells. */
struct unit_start {
	struct units *units;
	char *unit;
	char *systemd;	   /* its own name on the bus; NULL: it hasn't answered */
	sd_bus_slot *slot; /* what was asked last */
	char *job;	   /* systemd's name of it; NULL: it hasn't answered */
	char *path;	   /* the unit's, for D-Bus; NULL: the job hasn't ended */
	sd_bus_slot *changes;
	unit_failed_fn failed;
	void *userdata;
	struct unit_start *prev, *next;
};

struct units {
	struct event_base *base;
	sd_bus *bus; /* NULL: not connected */
	struct event *event;
	struct unit_start *starts;
};

static void units_fail(struct unit_start *start, const char *why)
{
	unit_failed_fn failed = start->failed;
	void *userdata = start->userdata;

	unit_start_free(start);
	failed(userdata, why);
}

/* systemd's own words don't say who has refused it. */
static bool is_denied(const sd_bus_error *error)
{
	return sd_bus_error_has_name(error, SD_BUS_ERROR_ACCESS_DENIED) ||
	       sd_bus_error_has_name(error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED);
}

/* Others' words go to the log, and by `doctor` to terminals: only printable ASCII is kept. */
static void fail_in_their_words(struct unit_start *start, char *why)
{
	text_make_ascii(why, strlen(why), ' ');
	units_fail(start, why);
}

static void fail_by(struct unit_start *start, const sd_bus_error *error)
{
	char why[192];

	snprintf(why, sizeof(why), "systemd: %.100s%s", error->message ? error->message : error->name,
		 is_denied(error) ? " (polkit decides: is it installed? see xenmsg-activation(5))" : "");
	fail_in_their_words(start, why);
}

static int units_on_answer(sd_bus_message *answer, void *userdata, sd_bus_error *error)
{
	struct unit_start *start = userdata;
	const sd_bus_error *refused = sd_bus_message_get_error(answer);
	const char *job, *systemd = sd_bus_message_get_sender(answer);

	if (refused) {
		fail_by(start, refused);
		return 0;
	}
	if (systemd && sd_bus_message_read(answer, "o", &job) >= 0) {
		start->systemd = strdup(systemd);
		start->job = strdup(job);
	}
	if (!start->systemd || !start->job)
		units_fail(start, "systemd's answer can't be understood");
	return 0;
}

/* Whether systemd has sent it, as the start knows it. */
static bool is_systemds(const struct unit_start *start, sd_bus_message *signal)
{
	const char *sender = sd_bus_message_get_sender(signal);

	return sender && start->systemd && !strcmp(sender, start->systemd);
}

/* --- once the job is done --------------------------------------------------------------------- */

static int on_state(sd_bus_message *answer, void *userdata, sd_bus_error *error)
{
	struct unit_start *start = userdata;
	const sd_bus_error *refused = sd_bus_message_get_error(answer);
	const char *state;

	if (refused)
		fail_by(start, refused);
	else if (sd_bus_message_read(answer, "v", "s", &state) < 0)
		return 0;
	else if (!strcmp(state, "failed"))
		units_fail(start, "the unit has failed");
	else if (!strcmp(state, "inactive"))
		units_fail(start, "the unit has ended, or one of its conditions isn't met");
	return 0;
}

static int ask_state(struct unit_start *start)
{
	start->slot = sd_bus_slot_unref(start->slot);
	return sd_bus_call_method_async(start->units->bus, &start->slot, SYSTEMD, start->path, PROPERTIES,
					"Get", on_state, start, "ss", UNIT, "ActiveState");
}

/* What the unit is now tells the answer to the last question: its changes may come faster than answers. */
static int units_on_change(sd_bus_message *signal, void *userdata, sd_bus_error *error)
{
	if (is_systemds(userdata, signal))
		ask_state(userdata);
	return 0;
}

/* The unit may have ended before this is asked for, so its state is asked for then. */
static int units_watch(struct unit_start *start)
{
	int r = sd_bus_path_encode(SYSTEMD_PATH "/unit", start->unit, &start->path);

	if (r >= 0)
		r = sd_bus_match_signal_async(start->units->bus, &start->changes, SYSTEMD, start->path,
					      PROPERTIES, "PropertiesChanged", units_on_change, NULL, start);
	return r >= 0 ? ask_state(start) : r;
}

static bool has_job(const struct unit_start *start, const char *job)
{
	return start->job && !start->path && !strcmp(start->job, job);
}

/* A job has ended: those are told that wait for it. */
static int on_job_removed(sd_bus_message *signal, void *userdata, sd_bus_error *error)
{
	struct units *units = userdata;
	struct unit_start *start, *next;
	const char *job, *unit, *result;
	char why[320];
	uint32_t id;
	int r;

	if (sd_bus_message_read(signal, "uoss", &id, &job, &unit, &result) < 0)
		return 0;
	DL_FOREACH_SAFE(units->starts, start, next) {
		if (!has_job(start, job) || !is_systemds(start, signal))
			continue;
		snprintf(why, sizeof(why), "the job of %.200s ended with: %.64s", unit, result);
		if (strcmp(start->unit, unit) != 0) /* an alias is another name than what polkit is told */
			snprintf(why, sizeof(why), "the unit's own name is %.200s", unit);
		r = strcmp(start->unit, unit) || strcmp(result, "done") ? -ECANCELED : units_watch(start);
		if (r == -ECANCELED)
			fail_in_their_words(start, why);
		else if (r < 0)
			units_fail(start, strerror(-r));
	}
	return 0;
}

/* systemd has another name of its own on the bus. What it has told meanwhile is lost, but for a job's end:
 * jobs go on. */
static int on_owner(sd_bus_message *signal, void *userdata, sd_bus_error *error)
{
	struct units *units = userdata;
	struct unit_start *start, *next;
	const char *sender = sd_bus_message_get_sender(signal), *name, *before, *now;
	char *systemd;
	int r;

	if (!sender || strcmp(sender, BUS) != 0 ||
	    sd_bus_message_read(signal, "sss", &name, &before, &now) < 0 || strcmp(name, SYSTEMD) != 0 ||
	    !now[0])
		return 0;
	DL_FOREACH_SAFE(units->starts, start, next) {
		if (!start->systemd)
			continue;
		systemd = strdup(now);
		if (systemd) {
			free(start->systemd);
			start->systemd = systemd;
		}
		r = !systemd ? -ENOMEM : start->path ? ask_state(start) : 0;
		if (r < 0)
			units_fail(start, strerror(-r));
	}
	return 0;
}

/* --- the connection --------------------------------------------------------------------------- */

static void disconnect(struct units *units)
{
	free_event(units->event);
	units->event = NULL;
	if (units->bus)
		sd_bus_close(units->bus);
	units->bus = sd_bus_unref(units->bus);
}

static void on_bus(int fd, short what, void *userdata);

/* Waits for what sd-bus wants to wait for next, behind a rest. Returns 0, or a negative errno: nothing more
 * will come. */
static int wait_for_bus(struct units *units, uint64_t rest_ms)
{
	int events = sd_bus_get_events(units->bus), fd = sd_bus_get_fd(units->bus);
	uint64_t until = UINT64_MAX, now = clock_ms();
	short what;

	free_event(units->event);
	units->event = NULL;
	if (events < 0 || fd < 0)
		return events < 0 ? events : fd;
	what = (short)((events & POLLIN ? EV_READ : 0) | (events & POLLOUT ? EV_WRITE : 0));
	units->event = event_new(units->base, rest_ms ? -1 : fd, rest_ms ? 0 : what, on_bus, units);
	if (!units->event)
		return -ENOMEM;
	sd_bus_get_timeout(units->bus, &until);
	if (rest_ms)
		timer_set(units->event, rest_ms);
	else if (until == UINT64_MAX)
		event_add(units->event, NULL);
	else
		timer_set(units->event, until / 1000 > now ? until / 1000 - now + 1 : 0);
	return 0;
}

static void lose_connection(struct units *units)
{
	disconnect(units);
	while (units->starts)
		units_fail(units->starts, "the connection to D-Bus broke");
}

static void on_bus(int fd, short what, void *userdata)
{
	struct units *units = userdata;
	uint64_t begun = clock_thread_ns(), rest_ms = 0;
	int r = 1, count = 0;

	for (; r > 0 && count<MESSAGES_MAX; count += r> 0)
		r = sd_bus_process(units->bus, NULL);
	if (count)
		rest_ms = clock_ms_of(REST * (clock_thread_ns() - begun)) + 1;
	if (r < 0 || !sd_bus_is_open(units->bus) || wait_for_bus(units, rest_ms) < 0)
		lose_connection(units);
}

/* As sd_bus_open_system(), but nobody can send descriptors: the last close of one may take as long as its
 * sender likes (SO_LINGER), and would be done by this thread. */
static int open_bus(sd_bus **bus)
{
	const char *address = secure_getenv(BUS_VARIABLE);
	int r = sd_bus_new(bus);

	if (r >= 0)
		r = sd_bus_set_address(*bus, address ? address : BUS_ADDRESS);
	if (r >= 0)
		r = sd_bus_set_bus_client(*bus, true);
	if (r >= 0)
		r = sd_bus_negotiate_fds(*bus, false);
	return r >= 0 ? sd_bus_start(*bus) : r;
}

static int connect_bus(struct units *units)
{
	int r = open_bus(&units->bus);

	if (r >= 0)
		r = sd_bus_match_signal_async(units->bus, NULL, SYSTEMD, SYSTEMD_PATH, MANAGER, "JobRemoved",
					      on_job_removed, NULL, units);
	if (r >= 0)
		r = sd_bus_add_match_async(units->bus, NULL,
					   "type='signal',sender='" BUS "',path='" BUS_PATH
					   "',interface='" BUS "',member='NameOwnerChanged',arg0='" SYSTEMD
					   "'",
					   on_owner, NULL, units);
	/* Without it systemd may not send the signal; an error then shows by the time-out only. */
	if (r >= 0)
		r = sd_bus_call_method_async(units->bus, NULL, SYSTEMD, SYSTEMD_PATH, MANAGER, "Subscribe",
					     NULL, NULL, "");
	return r;
}

/* Asks for the unit, by a new connection if there is none. After an error there is none again. */
static int ask_for(struct unit_start *start, const char *unit)
{
	struct units *units = start->units;
	int r = units->bus ? 0 : connect_bus(units);

	if (r >= 0)
		r = sd_bus_call_method_async(units->bus, &start->slot, SYSTEMD, SYSTEMD_PATH, MANAGER,
					     "StartUnit", units_on_answer, start, "ss", unit, "replace");
	if (r >= 0)
		r = wait_for_bus(units, 0);
	if (r < 0) {
		start->slot = sd_bus_slot_unref(start->slot);
		lose_connection(units);
	}
	return r;
}

struct unit_start *unit_start_new(struct units *units, const char *unit, unit_failed_fn failed,
				  void *userdata, int *error)
{
	struct unit_start *start = calloc(1, sizeof(*start));
	bool was_connected = units->bus != NULL;

	*error = -ENOMEM;
	if (start)
		start->unit = strdup(unit);
	if (!start || !start->unit) {
		free(start);
		return NULL;
	}
	start->units = units;
	start->failed = failed;
	start->userdata = userdata;
	*error = ask_for(start, unit);
	/* It may have broken without a word since the last start. */
	if (*error < 0 && was_connected)
		*error = ask_for(start, unit);
	if (*error < 0) {
		free(start->unit);
		free(start);
		return NULL;
	}
	DL_APPEND(units->starts, start);
	return start;
}

void unit_start_free(struct unit_start *start)
{
	DL_DELETE(start->units->starts, start);
	sd_bus_slot_unref(start->slot);
	sd_bus_slot_unref(start->changes);
	free(start->unit);
	free(start->systemd);
	free(start->job);
	free(start->path);
	free(start);
}

int units_new(struct units **out, struct event_base *base)
{
	struct units *units = calloc(1, sizeof(*units));

	if (!units)
		return -ENOMEM;
	units->base = base;
	*out = units;
	return 0;
}

void units_free(struct units *units)
{
	if (!units)
		return;
	while (units->starts)
		unit_start_free(units->starts);
	disconnect(units);
	free(units);
}
