/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/incoming.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "libclient/deadline.h"

#define REST_MS 100

struct listening {
	char endpoint[ENDPOINT_NAME_MAX + 1];
	struct listening *prev, *next;
};

void incoming_drop(struct incoming *incoming)
{
	struct arrival *arrival = incoming->waiting;

	DL_DELETE(incoming->waiting, arrival);
	free(arrival);
	incoming->again = 0;
}

void incoming_rest(struct incoming *incoming)
{
	incoming->again = deadline_in(REST_MS);
}

void incoming_look(struct incoming *incoming)
{
	if (incoming->again && deadline_left(incoming->again) == 0)
		incoming->again = 0;
}

void incoming_free(struct incoming *incoming)
{
	while (incoming->waiting)
		incoming_drop(incoming);
	while (incoming->listening)
		incoming_forget(incoming, incoming->listening->endpoint);
}

int incoming_listen(struct incoming *incoming, const char *endpoint)
{
	struct listening *listening = calloc(1, sizeof(*listening));

	if (!listening)
		return -ENOMEM;
	memcpy(listening->endpoint, endpoint, strlen(endpoint));
	DL_APPEND(incoming->listening, listening);
	return 0;
}

bool incoming_forget(struct incoming *incoming, const char *endpoint)
{
	struct listening *listening;

	DL_FOREACH(incoming->listening, listening)
		if (strcmp(listening->endpoint, endpoint) == 0) {
			DL_DELETE(incoming->listening, listening);
			free(listening);
			return true;
		}
	return false;
}

int incoming_frame(struct incoming *incoming, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_incoming frame;
	struct arrival *arrival;
	size_t size;

	if (frame_incoming_decode(payload, header->length, &frame) < 0)
		return -EPROTO;
	size = strnlen(frame.endpoint.data, frame.endpoint.size);
	if (!endpoint_name_is_valid(frame.endpoint.data, size))
		return -EPROTO;
	arrival = calloc(1, sizeof(*arrival));
	if (!arrival)
		return -ENOMEM;
	arrival->token = frame.token;
	arrival->peer = (struct xenmsg_peer){
		.domid = frame.identity.domid,
		.uid = frame.identity.uid,
		.gid = frame.identity.gid,
		.pid = frame.identity.pid,
	};
	memcpy(arrival->peer.endpoint, frame.endpoint.data, size);
	if (domain_name_is_valid(frame.domain_name.data, frame.domain_name.size))
		memcpy(arrival->peer.domain_name, frame.domain_name.data, frame.domain_name.size);
	if (host_name_is_valid(frame.host.data, frame.host.size))
		memcpy(arrival->host, frame.host.data, frame.host.size);
	DL_APPEND(incoming->waiting, arrival);
	return 0;
}
