/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/requests.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define REPLY_MAX (256u << 20) /* larger than any answer */

struct event_watch {
	struct event_watch *prev, *next;
	uint32_t number; /* number of the WATCH request */
	xenmsg_event_handler handler;
	void *userdata;
};

struct pending_event {
	struct pending_event *prev, *next;
	uint32_t watch;
	struct xenmsg_event event;
	char name[];
};

void requests_init(struct requests *requests, struct transport *transport)
{
	*requests = (struct requests){.transport = transport};
}

void requests_free(struct requests *requests)
{
	struct event_watch *watch, *next_watch;
	struct pending_event *event, *next_event;
	struct request *request;

	requests_fail(requests, -ENOTCONN);
	requests_sweep(requests);
	while ((request = requests_take_answered(requests)))
		request_free(request);
	DL_FOREACH_SAFE(requests->watches, watch, next_watch)
		free(watch);
	DL_FOREACH_SAFE(requests->events, event, next_event)
		free(event);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static struct event_watch *find_watch(struct requests *requests, uint32_t number)
{
	struct event_watch *watch;

	DL_SEARCH_SCALAR(requests->watches, watch, number, number);
	return watch;
}

/* Chooses a number that fits into a positive int, since the program gets a watch's number as one. */
static uint32_t unused_number(struct requests *requests)
{
	struct request *request;

	do {
		requests->last_number = requests->last_number % INT_MAX + 1;
		DL_SEARCH_SCALAR(requests->pending, request, number, requests->last_number);
	} while (request || find_watch(requests, requests->last_number));
	return requests->last_number;
}

static int start(struct requests *requests, uint8_t type, const void *payload, size_t size,
		 const struct request *like, struct request **started)
{
	struct request *request = malloc(sizeof(*request));
	int r;

	if (!request)
		return -ENOMEM;
	*request = *like;
	request->number = unused_number(requests);
	r = transport_control(requests->transport, type, request->number, payload, (uint32_t)size);
	if (r < 0) {
		free(request);
		return r;
	}
	DL_APPEND(requests->pending, request);
	requests->count += request->counts;
	*started = request;
	return 0;
}

int request_start(struct requests *requests, uint8_t type, const void *payload, size_t size,
		  struct request **started)
{
	const struct request question = {.counts = true};

	if (size > FRAME_PAYLOAD_MAX)
		return -EINVAL;
	if (requests->count >= REQUESTS_MAX)
		return -ENOBUFS;
	return start(requests, type, payload, size, &question, started);
}

int requests_tell(struct requests *requests, uint8_t type, const void *payload, size_t size)
{
	const struct request word = {.posted = true};
	struct request *started;

	return start(requests, type, payload, size, &word, &started);
}

void request_post(struct request *request, xenmsg_done done, void *userdata)
{
	request->posted = true;
	request->done = done;
	request->userdata = userdata;
}

struct request *requests_take_answered(struct requests *requests)
{
	struct request *request = requests->answered;

	if (request)
		DL_DELETE(requests->answered, request);
	return request;
}

void request_free(struct request *request)
{
	fifo_free(&request->body);
	free(request);
}

static void leave_pending(struct requests *requests, struct request *request)
{
	DL_DELETE(requests->pending, request);
	requests->count -= request->counts;
}

void request_end(struct requests *requests, struct request *request)
{
	leave_pending(requests, request);
	request_free(request);
}

static void finish_request(struct requests *requests, struct request *request, int error)
{
	request->finished = true;
	request->error = error;
	if (request->posted) {
		leave_pending(requests, request);
		DL_APPEND(requests->answered, request);
	}
}

void requests_sweep(struct requests *requests)
{
	struct request *request, *next;

	DL_FOREACH_SAFE(requests->pending, request, next)
		if (request->finished)
			request_end(requests, request);
}

void requests_fail(struct requests *requests, int error)
{
	struct request *request, *next;

	DL_FOREACH_SAFE(requests->pending, request, next)
		finish_request(requests, request, error);
}

int requests_watch(struct requests *requests, const char *pattern, xenmsg_event_handler handler,
		   void *userdata, struct request **started)
{
	struct event_watch *watch = malloc(sizeof(*watch));
	int r;

	if (!watch)
		return -ENOMEM;
	r = request_start(requests, FRAME_WATCH, pattern, strlen(pattern), started);
	if (r < 0) {
		free(watch);
		return r;
	}
	*watch = (struct event_watch){.number = (*started)->number, .handler = handler, .userdata = userdata};
	DL_APPEND(requests->watches, watch);
	return 0;
}

bool requests_unwatch(struct requests *requests, uint32_t number)
{
	struct event_watch *watch = find_watch(requests, number);

	if (!watch)
		return false;
	DL_DELETE(requests->watches, watch);
	free(watch);
	return true;
}

/* ---- answers and events ---------------------------------------------------------------------- */

static int on_reply(struct requests *requests, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_reply reply;
	struct request *request;

	if (frame_reply_decode(payload, header->length, &reply) < 0)
		return -EPROTO;
	DL_SEARCH_SCALAR(requests->pending, request, number, header->channel);
	if (!request || request->finished || fifo_size(&request->body) + reply.body.size > REPLY_MAX)
		return -EPROTO;
	if (fifo_append(&request->body, reply.body.data, reply.body.size) < 0)
		return -ENOMEM;
	if (header->flags & FRAME_FLAG_MORE)
		return 0;
	finish_request(requests, request, reply.error ? frame_error(reply.error, -EPROTO) : 0);
	return 0;
}

/* Copies a text, which ends at a zero already. Returns what is behind that. */
static char *copy_text(char *to, struct frame_text text)
{
	if (text.size)
		memcpy(to, text.data, text.size);
	return to + text.size + 1;
}

static int on_event(struct requests *requests, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_event event;
	struct pending_event *pending;
	char *at;

	if (frame_event_decode(payload, header->length, &event) < 0)
		return -EPROTO;
	/* Skips kinds of a later minor version, and events that were in flight when the watch was ended. */
	if (event.kind < EVENT_DOMAIN_UP || event.kind > EVENT_HOST_DOWN ||
	    !find_watch(requests, header->channel))
		return 0;
	if (event.kind != EVENT_ENDPOINT_UP && event.kind != EVENT_ENDPOINT_DOWN)
		event.domain_name = event.text;
	pending = calloc(1, sizeof(*pending) + event.text.size + 1 + event.domain_name.size + 1 +
				    event.host.size + 1);
	if (!pending)
		return -ENOMEM;
	at = copy_text(pending->name, event.text);
	pending->watch = header->channel;
	pending->event = (struct xenmsg_event){.kind = (enum xenmsg_event_kind)event.kind,
					       .domid = event.domid,
					       .name = pending->name,
					       .domain_name = at};
	pending->event.host = at = copy_text(at, event.domain_name);
	copy_text(at, event.host);
	DL_APPEND(requests->events, pending);
	return 0;
}

int requests_frame(struct requests *requests, const struct frame_header *header, const uint8_t *payload)
{
	return header->type == FRAME_REPLY ? on_reply(requests, header, payload)
					   : on_event(requests, header, payload);
}

int requests_run_events(struct requests *requests, int budget, const bool *stop)
{
	int count = 0;

	while (requests->events && count < budget && !*stop && transport_is_here(requests->transport)) {
		struct pending_event *pending = requests->events;
		struct event_watch *watch = find_watch(requests, pending->watch);

		DL_DELETE(requests->events, pending);
		if (watch) {
			count++;
			watch->handler(watch->userdata, &pending->event);
		}
		free(pending);
	}
	return count;
}
