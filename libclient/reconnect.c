/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/reconnect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/deadline.h"
#include "libclient/transport.h"
#include "wire/ut.h"

#define STEADY_MS 10000 /* who is lost again sooner waits longer before the next time */

struct pending_change {
	struct xenmsg_change told;
	struct pending_change *prev, *next;
	char endpoint[ADDRESS_MAX + 1];
	char reason[256];
};

void reconnect_init(struct reconnect *reconnect, const struct reconnect_parts *parts)
{
	reconnect->state = RECONNECT_UP;
	reconnect->parts = *parts;
	reconnect->due = -1;
	reconnect->up_since = now_ms();
}

static void forget_change(struct reconnect *reconnect, struct pending_change *change)
{
	DL_DELETE(reconnect->changes, change);
	free(change);
}

void reconnect_free(struct reconnect *reconnect)
{
	while (reconnect->changes)
		forget_change(reconnect, reconnect->changes);
}

/* ---- what is told ------------------------------------------------------------------------- */

struct pending_change *reconnect_tell(struct reconnect *reconnect, enum xenmsg_change_kind kind, int error,
				      const char *endpoint, int watch, const char *reason)
{
	struct pending_change *change = calloc(1, sizeof(*change));

	if (!change)
		return NULL;
	snprintf(change->endpoint, sizeof(change->endpoint), "%s", endpoint);
	if (!*reason && error != -ENOTCONN) /* that it is lost says it all */
		reason = xenmsg_error_text(error);
	snprintf(change->reason, sizeof(change->reason), "%s", reason);
	change->told = (struct xenmsg_change){.kind = kind,
					      .error = error,
					      .watch = watch,
					      .endpoint = change->endpoint,
					      .reason = change->reason};
	DL_APPEND(reconnect->changes, change);
	return change;
}

void reconnect_renumbered(struct reconnect *reconnect)
{
	struct pending_change *change;

	DL_FOREACH(reconnect->changes, change)
		if (change->told.kind == XENMSG_RENUMBERED)
			return;
	reconnect_tell(reconnect, XENMSG_RENUMBERED, 0, "", 0, "");
}

void reconnect_listeners(struct reconnect *reconnect, const char *endpoint, uint64_t count)
{
	struct pending_change *change;

	DL_FOREACH(reconnect->changes, change)
		if (change->told.kind == XENMSG_LISTENERS && strcmp(change->endpoint, endpoint) == 0) {
			change->told.listeners = count;
			return;
		}
	change = reconnect_tell(reconnect, XENMSG_LISTENERS, 0, endpoint, 0, "");
	if (change)
		change->told.listeners = count;
}

static void look_if_back(struct reconnect *reconnect, bool waits)
{
	if (!reconnect_is_answered(reconnect, waits))
		return;
	reconnect->state = RECONNECT_UP;
	reconnect->lost_told = false;
	reconnect->up_since = now_ms();
	reconnect_tell(reconnect, XENMSG_DAEMON_BACK, 0, "", 0, "");
}

int reconnect_run(struct reconnect *reconnect, bool waits, int budget, const bool *stop)
{
	int count = 0;

	look_if_back(reconnect, waits);
	while (reconnect->changes && count < budget && !*stop &&
	       transport_is_here(reconnect->parts.transport)) {
		struct pending_change *change = reconnect->changes;

		DL_DELETE(reconnect->changes, change);
		count += reconnect->handler != NULL;
		if (reconnect->handler)
			reconnect->handler(reconnect->userdata, &change->told);
		free(change);
	}
	return count;
}

/* ---- what is asked for again -------------------------------------------------------------- */

static int ask_to_bind(struct reconnect *reconnect, const char *endpoint, uint32_t kinds, uint32_t *asked)
{
	uint8_t payload[FRAME_SMALL_MAX];
	const struct frame_bind bind = {.kinds = kinds,
					.endpoint = {.data = endpoint, .size = strlen(endpoint)}};

	return requests_ask_again(reconnect->parts.requests, FRAME_BIND, payload,
				  frame_bind_encode(&bind, payload), reconnect->losses, asked);
}

static int ask_to_subscribe(struct reconnect *reconnect, struct binding *binding)
{
	const struct frame_subscribe subscribe = {.flags = binding->subscribes | SUBSCRIBE_AGAIN,
						  .address = frame_text_of(binding->endpoint)};
	uint8_t payload[4 + ADDRESS_MAX];

	return requests_ask_again(reconnect->parts.requests, FRAME_SUBSCRIBE, payload,
				  frame_subscribe_encode(&subscribe, payload), reconnect->losses,
				  &binding->asked);
}

/* Asks for all that the program had. What wasn't granted yet, and won't be, isn't asked for (-ENOENT); what
 * can't be asked for, since memory is short, is lost. */
static void ask_for_all(struct reconnect *reconnect)
{
	struct listening *listening;
	struct binding *binding, *next;
	struct event_watch *watch;
	int r;

	HASH_ITER(hh, reconnect->parts.inbox->bindings, binding, next) {
		if (binding->listeners) { /* the next daemon tells who comes */
			binding->listeners = 0;
			reconnect_listeners(reconnect, binding->endpoint, 0);
		}
		if (binding->has_ended)
			continue;
		r = binding->kinds
			    ? ask_to_bind(reconnect, binding->endpoint, binding->kinds, &binding->asked)
			    : ask_to_subscribe(reconnect, binding);
		if (r < 0 && r != -ENOENT)
			reconnect_tell(reconnect, XENMSG_DAEMON_REFUSED, r, binding->endpoint, 0, "");
	}
	DL_FOREACH(reconnect->parts.incoming->listening, listening) {
		r = ask_to_bind(reconnect, listening->endpoint, listening->kinds, &listening->asked);
		if (r < 0 && r != -ENOENT)
			reconnect_tell(reconnect, XENMSG_DAEMON_REFUSED, r, listening->endpoint, 0, "");
	}
	DL_FOREACH(reconnect->parts.requests->watches, watch) {
		r = requests_watch_again(watch, reconnect->losses);
		if (r < 0 && r != -ENOENT)
			reconnect_tell(reconnect, XENMSG_DAEMON_REFUSED, r, "", (int)watch->request.number,
				       "");
	}
}

void reconnect_refused(struct reconnect *reconnect, const struct request *request, const char *endpoint)
{
	char reason[256];

	request_reason(request, reason, sizeof(reason));
	if (request->type == REQUEST_WATCH)
		reconnect_tell(reconnect, XENMSG_DAEMON_REFUSED, request->error, "", (int)request->number,
			       reason);
	else if (endpoint)
		reconnect_tell(reconnect, XENMSG_DAEMON_REFUSED, request->error, endpoint, 0, reason);
}

/* ---- losing and finding a daemon ---------------------------------------------------------- */

static void reconnect_rest(struct reconnect *reconnect)
{
	reconnect->state = RECONNECT_RESTS;
	reconnect->due = deadline_in(pause_with_jitter(reconnect->pause_ms));
	reconnect->pause_ms = pause_grown(reconnect->pause_ms);
}

void reconnect_lose(struct reconnect *reconnect, int error, const char *reason)
{
	struct reconnect_parts *parts = &reconnect->parts;

	reconnect->losses++;
	if (reconnect->pause_ms == 0 || (reconnect->state == RECONNECT_UP && !reconnect->lost_told &&
					 now_ms() - reconnect->up_since > STEADY_MS))
		reconnect->pause_ms = pause_grown(0);
	if (!reconnect->lost_told)
		reconnect_tell(reconnect, XENMSG_DAEMON_LOST, error, "", 0, reason);
	reconnect->lost_told = true;
	requests_leave(parts->requests, error);
	incoming_leave(parts->incoming);
	inbox_leave(parts->inbox);
	transport_leave(parts->transport);
	/* These wait in the backlog, before all that the program begins from now on. */
	ask_for_all(reconnect);
	reconnect_rest(reconnect);
}

/* Gives up this attempt. What waits in the backlog, and in the program's queues, stays. */
static void reconnect_try_later(struct reconnect *reconnect)
{
	transport_hang_up(reconnect->parts.transport);
	reconnect_rest(reconnect);
}

static void reconnect_finish(struct reconnect *reconnect, bool waits)
{
	int r = transport_finish(reconnect->parts.transport, 0);

	if (r == -ETIMEDOUT && deadline_left(reconnect->due) != 0)
		return;
	if (r < 0) {
		reconnect_try_later(reconnect);
		return;
	}
	reconnect->state = RECONNECT_ASKS;
	reconnect->due = -1;
	look_if_back(reconnect, waits);
}

void reconnect_further(struct reconnect *reconnect, bool waits)
{
	if (reconnect->state == RECONNECT_RESTS && deadline_left(reconnect->due) == 0) {
		reconnect->state = RECONNECT_DIALS;
		reconnect->due = deadline_in(HANDSHAKE_MS);
		if (transport_dial(reconnect->parts.transport, 0, 0) < 0)
			reconnect_try_later(reconnect);
	}
	if (reconnect->state == RECONNECT_DIALS)
		reconnect_finish(reconnect, waits);
}
