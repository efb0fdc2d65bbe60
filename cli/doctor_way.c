/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whether what is for a domain goes through domain 0, and why. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>
#include <xenevtchn.h>

#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/fields.h"
#include "wire/address.h"

/* Whether the hypervisor forbids event channels with that domain, as XSM does without memory to share. */
static bool is_forbidden(uint32_t domid)
{
	xenevtchn_handle *handle = xenevtchn_open(NULL, 0);
	bool forbidden = false;
	int port;

	if (!handle)
		return false;
	errno = 0;
	port = xenevtchn_bind_unbound_port(handle, domid);
	if (port < 0)
		forbidden = errno == EPERM;
	else
		xenevtchn_unbind(handle, (evtchn_port_t)port);
	xenevtchn_close(handle);
	return forbidden;
}

struct json_object *doctor_peers(struct xenmsg *conn)
{
	struct json_object *peers;
	char *text;

	if (xenmsg_query(conn, "peers", NULL, &text) < 0)
		return NULL;
	peers = json_tokener_parse(text);
	free(text);
	return peers;
}

void doctor_check_way(struct doctor *doctor, struct json_object *peers, const char *domain)
{
	uint32_t domid;

	for (size_t i = 0; i < length_of(peers); i++) {
		struct json_object *peer = json_object_array_get_idx(peers, i);
		const char *number = text_or(peer, "domid", "");

		if (!at(peer, "via") ||
		    (strcmp(number, domain) != 0 && strcmp(text_or(peer, "name", ""), domain) != 0 &&
		     strcmp(text_or(peer, "uuid", ""), domain) != 0))
			continue;
		left_out(doctor, "direct", "there is no link with domain %s, domain 0 relays: %s%s", number,
			 text_or(peer, "why", "neither may map the other's pages"),
			 domid_parse(number, strlen(number), &domid) && is_forbidden(domid)
				 ? "; the hypervisor refuses an event channel with it"
				 : "");
	}
}
