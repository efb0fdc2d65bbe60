/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/requests.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/deadline.h"
#include "wire/address.h"
#include "wire/ut.h"

#define REST_MS 1000

struct pending_event {
	struct pending_event *prev, *next;
	size_t size;
	uint32_t watch;
	struct xenmsg_event event;
	char name[];
};

void requests_init(struct requests *requests, struct transport *transport)
{
	*requests = (struct requests){.transport = transport, .due = -1};
}

void requests_free(struct requests *requests)
{
	struct event_watch *watch, *next_watch;
	struct pending_event *event, *next_event;
	struct request *request;

	requests_fail(requests, -ENOTCONN);
	while ((request = requests->settled)) {
		request_take(request);
		request_release(request);
	}
	DL_FOREACH_SAFE(requests->watches, watch, next_watch)
		free(watch);
	DL_FOREACH_SAFE(requests->events, event, next_event)
		free(event);
}

/* ---- asking ------------------------------------------------------------------------------- */

static struct event_watch *find_watch(struct requests *requests, uint32_t number)
{
	struct event_watch *watch;

	DL_SEARCH_SCALAR(requests->watches, watch, number, number);
	return watch;
}

/* Chooses a number that fits into a positive int, since the program gets a watch's number as one. */
static uint32_t requests_unused_number(struct requests *requests)
{
	struct request *request;

	do {
		requests->last_number = requests->last_number % INT_MAX + 1;
		DL_SEARCH_SCALAR(requests->pending, request, number, requests->last_number);
	} while (request || find_watch(requests, requests->last_number));
	return requests->last_number;
}

static void leave_pending(struct request *request)
{
	struct requests *requests = request->requests;

	DL_DELETE(requests->pending, request);
	requests->count -= request->counts;
	if (!requests->pending)
		requests->due = -1;
}

static void free_request(struct request *request)
{
	fifo_free(&request->body);
	free(request);
}

static void requests_settle(struct request *request, int error)
{
	request->error = error;
	request->op.settled = true;
	request->expires = -1;
	DL_APPEND2(request->requests->settled, request, told_prev, told_next);
}

static void requests_finish(struct request *request, int error)
{
	leave_pending(request);
	request->finished = true;
	if (!request->op.settled)
		requests_settle(request, error);
	else if (request->told)
		free_request(request);
}

static int requests_withdraw(struct xenmsg_op *op)
{
	if (!op->settled)
		requests_settle((struct request *)op, -ETIMEDOUT);
	return 0;
}

static void expires(struct request *request, int timeout_ms)
{
	struct requests *requests = request->requests;

	request->expires = deadline_in(timeout_ms);
	if (timeout_ms >= 0 && (requests->due < 0 || request->expires < requests->due))
		requests->due = request->expires;
}

static int send_question(const struct request *request)
{
	return transport_control(request->requests->transport, request->type, request->number,
				 request->question, request->size);
}

static int requests_start(struct requests *requests, uint8_t type, const void *payload, size_t size,
			  const struct request *like, struct request **started)
{
	struct request *request = malloc(sizeof(*request) + size);
	int r;

	if (!request)
		return -ENOMEM;
	*request = *like;
	request->size = (uint32_t)size;
	if (size)
		memcpy(request->question, payload, size);
	request->op.withdraw = requests_withdraw;
	request->requests = requests;
	request->type = type;
	if (!request->number)
		request->number = requests_unused_number(requests);
	r = send_question(request);
	if (r < 0) {
		free(request);
		return r;
	}
	DL_APPEND(requests->pending, request);
	requests->count += request->counts;
	expires(request, request->timeout_ms);
	*started = request;
	return 0;
}

int request_begin(struct requests *requests, uint8_t type, const void *payload, size_t size, int timeout_ms,
		  xenmsg_done done, void *userdata, struct request **begun)
{
	const struct request question = {
		.counts = true, .timeout_ms = timeout_ms, .done = done, .userdata = userdata};

	if (size > FRAME_PAYLOAD_MAX)
		return -EINVAL;
	if (requests->count >= REQUESTS_MAX)
		return -ENOBUFS;
	return requests_start(requests, type, payload, size, &question, begun);
}

int requests_tell(struct requests *requests, uint8_t type, const void *payload, size_t size)
{
	/* Nobody is to be told. */
	const struct request word = {.op.settled = true, .told = true, .timeout_ms = FOR_EVER};
	struct request *started;

	return requests_start(requests, type, payload, size, &word, &started);
}

/* Another host isn't known to a daemon that has just begun. A watch that it has already goes on when a host
 * goes and comes, so this one does, too. */
static bool may_pass(const struct request *request, int error)
{
	const struct event_watch *watch = find_watch(request->requests, request->number);

	return request->after_loss && request->type == FRAME_WATCH && watch &&
	       address_split(watch->pattern, strlen(watch->pattern)).host.data &&
	       (error == -EHOSTDOWN || error == -EHOSTUNREACH);
}

static void watch_later(struct request *request)
{
	request->rests = true;
	fifo_free(&request->body);
	expires(request, REST_MS);
}

static void watch_again(struct request *request)
{
	const struct event_watch *watch = find_watch(request->requests, request->number);

	request->expires = -1;
	if (!watch) { /* ended meanwhile, of which the daemon was told, and knew nothing */
		requests_settle(request, 0);
		requests_finish(request, 0);
	} else if (send_question(request) < 0) {
		watch_later(request);
	}
}

void requests_look(struct requests *requests)
{
	struct request *request, *next;
	int64_t now;

	if (requests->due < 0 || (now = now_ms()) < requests->due)
		return;
	requests->due = -1;
	DL_FOREACH_SAFE(requests->pending, request, next) {
		if (request->expires < 0)
			continue;
		if (request->expires <= now && request->rests)
			watch_again(request);
		else if (request->expires <= now)
			requests_settle(request, -ETIMEDOUT);
		else if (requests->due < 0 || request->expires < requests->due)
			requests->due = request->expires;
	}
}

void request_take(struct request *request)
{
	DL_DELETE2(request->requests->settled, request, told_prev, told_next);
}

void request_release(struct request *request)
{
	request->told = true;
	if (request->finished)
		free_request(request);
}

void requests_fail(struct requests *requests, int error)
{
	while (requests->pending)
		requests_finish(requests->pending, error);
}

static bool is_a_wish(const struct request *request)
{
	return !request->op.settled && !request->after_loss &&
	       (request->type == FRAME_BIND || request->type == FRAME_WATCH ||
		request->type == FRAME_SUBSCRIBE);
}

/* Lets nobody be told of it. */
static void requests_forget(struct request *request)
{
	if (request->op.settled)
		request_take(request);
	else
		leave_pending(request);
	free_request(request);
}

void requests_leave(struct requests *requests, int error)
{
	struct pending_event *event, *next_event;
	struct request *request, *next;

	DL_FOREACH_SAFE2(requests->settled, request, next, told_next)
		if (request->after_loss)
			requests_forget(request);
	DL_FOREACH_SAFE(requests->pending, request, next) {
		if (request->after_loss)
			requests_forget(request);
		else if (!is_a_wish(request))
			requests_finish(request, error);
	}
	DL_FOREACH_SAFE(requests->events, event, next_event)
		free(event);
	requests->events = NULL;
	requests->events_size = 0;
}

bool requests_are_unanswered(const struct requests *requests)
{
	const struct request *request;

	DL_FOREACH(requests->pending, request)
		if (request->after_loss && !request->rests)
			return true;
	DL_FOREACH2(requests->settled, request, told_next)
		if (request->after_loss)
			return true;
	return false;
}

bool requests_are_begun(const struct requests *requests)
{
	const struct request *request;

	DL_FOREACH(requests->pending, request)
		if (request->counts && !request->op.settled)
			return true;
	return false;
}

int requests_ask_again(struct requests *requests, uint8_t type, const void *payload, size_t size,
		       uint32_t after_loss, bool is_new, uint32_t *number)
{
	const struct request own = {
		.after_loss = after_loss, .number = is_new ? 0 : *number, .timeout_ms = FOR_EVER};
	struct request *request;
	int r;

	DL_SEARCH_SCALAR(requests->pending, request, number, *number);
	if (request)
		return transport_control(requests->transport, type, *number, payload, (uint32_t)size);
	DL_FOREACH2(requests->settled, request, told_next)
		if (request->number == *number && request->type == type && request->error < 0)
			return -ENOENT;
	r = requests_start(requests, type, payload, size, &own, &request);
	if (r == 0)
		*number = request->number;
	return r;
}

int requests_watch(struct requests *requests, const char *pattern, int timeout_ms,
		   xenmsg_event_handler handler, void *userdata, xenmsg_done done, void *done_userdata,
		   struct request **begun)
{
	size_t size = strlen(pattern);
	struct event_watch *watch = malloc(sizeof(*watch) + size + 1);
	int r;

	if (!watch)
		return -ENOMEM;
	r = request_begin(requests, FRAME_WATCH, pattern, size, timeout_ms, done, done_userdata, begun);
	if (r < 0) {
		free(watch);
		return r;
	}
	*watch = (struct event_watch){.number = (*begun)->number, .handler = handler, .userdata = userdata};
	memcpy(watch->pattern, pattern, size + 1);
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

/* ---- answers and events ------------------------------------------------------------------- */

static int requests_on_reply(struct requests *requests, const struct frame_header *header,
			     const uint8_t *payload)
{
	struct frame_reply reply;
	struct request *request;
	int error;

	if (frame_reply_decode(payload, header->length, &reply) < 0)
		return -EPROTO;
	DL_SEARCH_SCALAR(requests->pending, request, number, header->channel);
	if (!request)
		return -EPROTO;
	if (!request->op.settled && fifo_append(&request->body, reply.body.data, reply.body.size) < 0)
		return -ENOMEM;
	error = reply.error ? frame_error(reply.error, -EPROTO) : 0;
	if (may_pass(request, error))
		watch_later(request);
	else
		requests_finish(request, error);
	return 0;
}

/* Copies a text, which ends at a zero already. Returns what is behind that. */
static char *copy_text(char *to, struct frame_text text)
{
	if (text.size)
		memcpy(to, text.data, text.size);
	return to + text.size + 1;
}

static int requests_on_event(struct requests *requests, const struct frame_header *header,
			     const uint8_t *payload)
{
	struct frame_event event;
	struct pending_event *pending;
	size_t size;
	char *at;

	if (frame_event_decode(payload, header->length, &event) < 0)
		return -EPROTO;
	/* Skips kinds of a later minor version, and events that were in flight when the watch was ended. */
	if (event.kind < EVENT_DOMAIN_UP || event.kind > EVENT_LISTED ||
	    !find_watch(requests, header->channel))
		return 0;
	if (event.kind != EVENT_ENDPOINT_UP && event.kind != EVENT_ENDPOINT_DOWN)
		event.domain_name = event.text;
	size = sizeof(*pending) + event.text.size + 1 + event.domain_name.size + 1 + event.host.size + 1;
	if (requests->events_size > KEPT_MAX)
		return -EPROTO;
	pending = calloc(1, size);
	if (!pending)
		return -ENOMEM;
	pending->size = size;
	requests->events_size += size;
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
	return header->type == FRAME_REPLY ? requests_on_reply(requests, header, payload)
					   : requests_on_event(requests, header, payload);
}

int requests_run_events(struct requests *requests, int budget, const bool *stop)
{
	int count = 0;

	while (requests->events && count < budget && !*stop && transport_is_here(requests->transport)) {
		struct pending_event *pending = requests->events;
		struct event_watch *watch = find_watch(requests, pending->watch);

		DL_DELETE(requests->events, pending);
		requests->events_size -= pending->size;
		if (watch) {
			count++;
			watch->handler(watch->userdata, &pending->event);
		}
		free(pending);
	}
	return count;
}
