/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/incoming.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "libclient/deadline.h"

#define REST_MS 100

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

void incoming_leave(struct incoming *incoming)
{
	if (incoming->fetch)
		dial_free(incoming->fetch);
	incoming->fetch = NULL;
	while (incoming->waiting)
		incoming_drop(incoming);
}

void incoming_free(struct incoming *incoming)
{
	incoming_leave(incoming);
	while (incoming->listening)
		incoming_forget(incoming, incoming->listening->endpoint);
}

int incoming_listen(struct incoming *incoming, const char *endpoint, uint32_t kinds)
{
	struct listening *listening = calloc(1, sizeof(*listening));

	if (!listening)
		return -ENOMEM;
	memcpy(listening->endpoint, endpoint, strlen(endpoint));
	listening->kinds = kinds;
	DL_APPEND(incoming->listening, listening);
	return 0;
}

void incoming_asked(struct incoming *incoming, uint32_t asked)
{
	incoming->listening->prev->asked = asked; /* the last of the list */
}

const char *incoming_find_asked(const struct incoming *incoming, uint32_t asked)
{
	const struct listening *listening;

	DL_SEARCH_SCALAR(incoming->listening, listening, asked, asked);
	return listening ? listening->endpoint : NULL;
}

bool incoming_knows(const struct incoming *incoming, const char *endpoint)
{
	const struct listening *listening;

	DL_FOREACH(incoming->listening, listening)
		if (strcmp(listening->endpoint, endpoint) == 0)
			return true;
	return false;
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
	int r;

	if (frame_incoming_decode(payload, header->length, &frame) < 0)
		return -EPROTO;
	arrival = calloc(1, sizeof(*arrival));
	if (!arrival)
		return -ENOMEM;
	arrival->token = frame.token;
	r = peer_set(&arrival->peer, &frame.identity, frame.endpoint, frame.domain_name, frame.host);
	arrival->peer.serial = frame.serial;
	if (r < 0) {
		free(arrival);
		return r;
	}
	DL_APPEND(incoming->waiting, arrival);
	return 0;
}
