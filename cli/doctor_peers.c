/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whether the daemons of other domains answer. All are asked at once: each that is silent costs the whole
 * time-out. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/fields.h"
#include "cli/why.h"
#include "wire/address.h"

#define PINGS_MAX 60 /* at a time; the daemon allows 64 requests of a session */

struct asked {
	const char *domain;
	char *reason;
	uint64_t rtt_ns;
	int error;
	bool is_over, is_address; /* an address, which is tried when it is its turn */
};

static void on_answer(void *userdata, const struct xenmsg_result *result)
{
	struct asked *asked = userdata;

	asked->error = result->error;
	asked->rtt_ns = result->round_trip_ns;
	asked->reason = *result->reason ? strdup(result->reason) : NULL;
	asked->is_over = true;
}

static void begin(struct xenmsg *conn, struct asked *asked)
{
	int r;

	if (asked->is_address)
		return;
	r = xenmsg_begin_ping(conn, asked->domain, XENMSG_WITHIN(DOCTOR_PING_MS), on_answer, asked, NULL);

	if (r < 0)
		*asked = (struct asked){.domain = asked->domain, .error = r, .is_over = true};
}

static void tell(struct doctor *doctor, struct xenmsg *conn, struct json_object *peers,
		 const struct asked *asked)
{
	const char *reason = asked->error == -ETIMEDOUT ? "no answer within 5 s"
			     : asked->reason		? asked->reason
							: strerror(-asked->error);
	int error = asked->error;
	char step[160], *why;

	snprintf(step, sizeof(step), "peer %s", asked->domain);
	if (error == 0) {
		well(doctor, step, "its daemon answers within %.1f us", (double)asked->rtt_ns / 1e3);
		doctor_check_way(doctor, peers, asked->domain);
		return;
	}
	why = error == -EHOSTUNREACH ? cli_why_no_link(conn, asked->domain)
	      : error == -EHOSTDOWN  ? cli_why_refused(conn, asked->domain, error)
				     : NULL;
	ill(doctor, error == -ETIMEDOUT ? EXIT_TIMED_OUT : EXIT_UNREACHABLE, step,
	    error == -EHOSTDOWN && strspn(asked->domain, "0123456789") < strlen(asked->domain)
		    ? "see 'xenmsg peers' for the names that are known; they come from xenmsgd in domain 0"
	    : error == -EHOSTDOWN
		    ? "start xenmsgd in that domain, if there is one; with presence = private there, its peers must name this domain"
		    : "run 'xenmsg doctor' in that domain, and see the logs of both daemons",
	    "%s", why ? why : reason);
	free(why);
}

/* Asks all of them, and tells what came back in their order. */
static void ask(struct doctor *doctor, struct xenmsg *conn, struct json_object *peers, struct asked *asked,
		size_t count)
{
	size_t begun = 0;

	for (size_t i = 0; i < count; i++) {
		while (begun < count && begun < i + PINGS_MAX)
			begin(conn, &asked[begun++]);
		while (!asked[i].is_over && !asked[i].is_address) {
			int r = xenmsg_wait(conn, -1);

			if (r < 0 && r != -EINTR && !asked[i].is_over) { /* it ends all that is asked first */
				asked[i].error = r;
				asked[i].is_over = true;
			}
		}
		if (asked[i].is_address)
			doctor_check_address(doctor, conn, asked[i].domain);
		else
			tell(doctor, conn, peers, &asked[i]);
	}
	for (size_t i = 0; i < count; i++)
		free(asked[i].reason);
}

void doctor_check_peers(struct doctor *doctor, struct xenmsg *conn, char **named, int count)
{
	struct json_object *peers = doctor_peers(conn);
	size_t all = count ? (size_t)count : length_of(peers);
	struct asked *asked = calloc(all + 1, sizeof(*asked));

	if (!asked)
		abort();
	for (size_t i = 0; i < all; i++) {
		asked[i].domain =
			count ? named[i] : text_or(json_object_array_get_idx(peers, i), "domid", "");
		asked[i].is_address = count && address_is_meant(named[i], strlen(named[i]));
	}
	if (!count && peers && all == 0)
		left_out(doctor, "peers", "no other domain has a daemon that shows itself here");
	ask(doctor, conn, peers, asked, all);
	free(asked);
	json_object_put(peers);
}
