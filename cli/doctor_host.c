/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whether the daemons of all domains are well, as far as they tell domain 0. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/fields.h"
#include "cli/host_statuses.h"

/* Looks at a domain's links: those that are away, and those that could not be made. */
static void check_links(struct doctor *doctor, struct json_object *status)
{
	struct json_object *links = at(status, "links"), *failures = at(status, "failures");
	size_t up = 0;

	for (size_t i = 0; i < length_of(links); i++) {
		struct json_object *link = json_object_array_get_idx(links, i);
		const char *state = text_or(link, "state", "");

		up += !strcmp(state, "up");
		if (!strcmp(state, "away"))
			warned(doctor, "link", "is that domain saved, paused or very busy? 'xl list' says",
			       "the one with domain %s is away, and waited for",
			       text_at(at(link, "peer"), "domid"));
	}
	well(doctor, "links", "%zu of %zu are up", up, length_of(links));
	for (size_t i = 0; i < length_of(failures); i++) {
		struct json_object *failure = json_object_array_get_idx(failures, i);

		warned(doctor, "link", "the daemon's log there says more, and 'xenmsg doctor' there",
		       "none could be made with domain %s: %s", text_at(at(failure, "peer"), "domid"),
		       text_at(failure, "last_error"));
	}
}

static void check_domain(struct doctor *doctor, struct json_object *entry)
{
	struct json_object *status = at(entry, "status");

	doctor->domain = text_or(entry, "name", text_or(entry, "domid", ""));
	if (status) {
		doctor_check_status(doctor, status);
		check_links(doctor, status);
	} else if (number_at(entry, "error") == EACCES) {
		left_out(doctor, "daemon", "it tells domain 0 nothing: host-sight = none");
	} else {
		ill(doctor, EXIT_UNREACHABLE, "daemon", "run 'xenmsg doctor' in that domain, and see its log",
		    "%s", text_or(entry, "why", ""));
	}
	doctor->domain = NULL;
}

int doctor_check_host(struct doctor *doctor)
{
	struct json_object *all;
	int code = host_statuses(doctor->cli, DOCTOR_ANSWER_MS, &all);

	for (size_t i = 0; code == 0 && i < length_of(all); i++)
		check_domain(doctor, json_object_array_get_idx(all, i));
	if (code == 0)
		json_object_put(all);
	return code;
}
