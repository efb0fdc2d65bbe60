/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/requests.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/calls.h"
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

/* A thing that is there, as a watch was told. */
struct told_thing {
	UT_hash_handle hh;	/* by the first bytes */
	bool is_away, was_away; /* was_away: as the program was told */
	bool is_seen;		/* also since the list began anew */
	struct frame_event event;
	char bytes[]; /* its key, whose last part is the endpoint; the domain's name; the host */
};

static void forget_thing(struct event_watch *watch, struct told_thing *thing)
{
	HASH_DEL(watch->told, thing);
	free(thing);
}

static void forget_things(struct event_watch *watch)
{
	struct told_thing *thing, *next;

	HASH_ITER(hh, watch->told, thing, next)
		forget_thing(watch, thing);
	watch->is_listed = false;
}

void requests_init(struct requests *requests, struct transport *transport, struct calls *calls)
{
	*requests = (struct requests){.transport = transport, .calls = calls, .due = -1};
}

/* ---- asking ------------------------------------------------------------------------------- */

static struct event_watch *find_watch(struct requests *requests, uint32_t number)
{
	struct event_watch *watch;

	DL_SEARCH_SCALAR(requests->watches, watch, request.number, number);
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

static struct event_watch *watch_of(const struct request *request)
{
	return request->type == REQUEST_WATCH ? (struct event_watch *)request : NULL;
}

/* Lets it go; a watch stays until it is ended. */
static void free_request(struct request *request)
{
	const struct event_watch *watch = watch_of(request);

	fifo_free(&request->body);
	request->finished = request->told = true;
	if (!watch || watch->is_ended)
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

static const struct call_standing watching;

/* Makes the call of a watch. */
static int send_watch(struct event_watch *watch)
{
	char question[FRAME_SMALL_MAX];
	int r = snprintf(question, sizeof(question), "watch %s", watch->pattern);

	if (r >= (int)sizeof(question))
		return -EINVAL;
	r = calls_stand(watch->request.requests->calls, "self:" DAEMON_ENDPOINT, question, (size_t)r,
			&watching, watch, &watch->call);
	return r == -EAGAIN ? -ENOBUFS : r;
}

static int send_question(const struct request *request)
{
	struct event_watch *watch = watch_of(request);

	return watch ? send_watch(watch)
		     : transport_control(request->requests->transport, request->type, request->number,
					 request->question, request->size);
}

/* Sends it. It waits for its answer from then on. */
static int put_request(struct request *request)
{
	int r = send_question(request);

	if (r < 0)
		return r;
	DL_APPEND(request->requests->pending, request);
	request->requests->count += request->counts;
	expires(request, request->timeout_ms);
	return 0;
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
	request->question = size ? memcpy(request + 1, payload, size) : NULL;
	request->op.withdraw = requests_withdraw;
	request->requests = requests;
	request->type = type;
	request->number = requests_unused_number(requests);
	r = put_request(request);
	if (r < 0)
		free(request);
	else
		*started = request;
	return r;
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
	const struct event_watch *watch = watch_of(request);

	return request->after_loss && watch &&
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
	request->expires = -1;
	if (send_question(request) < 0)
		watch_later(request);
}

int requests_look(struct requests *requests)
{
	struct request *request, *next;
	int64_t now;

	if (requests->due < 0 || (now = now_ms()) < requests->due)
		return requests->broken;
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
	return requests->broken;
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

void requests_let_go(struct requests *requests)
{
	struct event_watch *watch;

	requests->broken = 0;
	DL_FOREACH(requests->watches, watch) {
		if (watch->call)
			calls_forsake(watch->call);
		watch->call = NULL;
	}
}

void requests_fail(struct requests *requests, int error)
{
	while (requests->pending)
		requests_finish(requests->pending, error);
}

static bool is_a_wish(const struct request *request)
{
	return !request->op.settled && !request->after_loss &&
	       (request->type == FRAME_BIND || watch_of(request) || request->type == FRAME_SUBSCRIBE);
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
	struct event_watch *watch;

	DL_FOREACH(requests->watches, watch)
		forget_things(watch);
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
		       uint32_t after_loss, uint32_t *number)
{
	const struct request own = {.after_loss = after_loss, .timeout_ms = FOR_EVER};
	struct request *request;
	int r;

	DL_SEARCH_SCALAR(requests->pending, request, number, *number);
	if (request)
		return send_question(request);
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
	*watch = (struct event_watch){.request = {.op.withdraw = requests_withdraw,
						  .requests = requests,
						  .number = requests_unused_number(requests),
						  .type = REQUEST_WATCH,
						  .counts = true,
						  .timeout_ms = timeout_ms,
						  .done = done,
						  .userdata = done_userdata},
				      .handler = handler,
				      .userdata = userdata};
	memcpy(watch->pattern, pattern, size + 1);
	r = requests->count >= REQUESTS_MAX ? -ENOBUFS : put_request(&watch->request);
	if (r < 0) {
		free(watch);
		return r;
	}
	DL_APPEND(requests->watches, watch);
	*begun = &watch->request;
	return 0;
}

int requests_watch_again(struct event_watch *watch, uint32_t after_loss)
{
	struct request *request = &watch->request;
	bool is_told = request->told;
	int r;

	if (!request->finished)
		return send_watch(watch);
	if (!is_told && request->error < 0)
		return -ENOENT;
	if (is_told) {
		request->after_loss = after_loss;
		request->counts = false;
		request->timeout_ms = FOR_EVER;
		request->done = NULL;
	} else { /* that it is watched: the program is told when it is so again */
		request_take(request);
	}
	request->finished = request->told = request->op.settled = false;
	r = put_request(request);
	if (r == 0)
		return 0;
	request->finished = true;
	request->told = is_told;
	if (is_told)
		return r;
	requests_settle(request, r);
	return -ENOENT;
}

/* Ends it. Returns its call, or NULL. */
static struct call *end_watch(struct event_watch *watch)
{
	struct request *request = &watch->request;
	struct call *call = watch->call;

	DL_DELETE(request->requests->watches, watch);
	forget_things(watch);
	watch->call = NULL;
	watch->is_ended = true;
	if (!request->finished)
		requests_finish(request, 0);
	else if (request->told)
		free_request(request);
	return call;
}

int requests_unwatch(struct requests *requests, uint32_t number)
{
	struct event_watch *watch = find_watch(requests, number);
	struct call *call;

	if (!watch)
		return -ENOENT;
	call = end_watch(watch);
	return call ? calls_let_go(call) : 0;
}

void requests_free(struct requests *requests)
{
	struct pending_event *event, *next_event;
	struct request *request;

	while (requests->watches)
		end_watch(requests->watches);
	requests_fail(requests, -ENOTCONN);
	while ((request = requests->settled)) {
		request_take(request);
		request_release(request);
	}
	DL_FOREACH_SAFE(requests->events, event, next_event)
		free(event);
}

/* ---- answers and events ------------------------------------------------------------------- */

/* Notes the answer. */
static int take_answer(struct requests *requests, struct request *request, int error, const void *text,
		       size_t size)
{
	bool is_wanted = !request->op.settled;

	if (is_wanted && size && fifo_append(&request->body, text, size) < 0)
		return -ENOMEM;
	request->granted = error == 0;
	if (may_pass(request, error))
		watch_later(request);
	else
		requests_finish(request, error);
	return error == 0 && is_wanted;
}

int requests_frame(struct requests *requests, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_reply reply;
	struct request *request;

	if (frame_reply_decode(payload, header->length, &reply) < 0)
		return -EPROTO;
	DL_SEARCH_SCALAR(requests->pending, request, number, header->channel);
	if (!request || request->type == REQUEST_WATCH)
		return -EPROTO;
	return take_answer(requests, request, reply.error ? frame_error(reply.error, -EPROTO) : 0,
			   reply.body.data, reply.body.size);
}

/* ---- what watches tell -------------------------------------------------------------------- */

/* Copies a text, which ends at a zero already. Returns what is behind that. */
static char *copy_text(char *to, struct frame_text text)
{
	if (text.size)
		memcpy(to, text.data, text.size);
	return to + text.size + 1;
}

/* Lets the program be told. */
static int tell(const struct event_watch *watch, const struct frame_event *event)
{
	struct requests *requests = watch->request.requests;
	struct frame_text text = event->text.size ? event->text : event->domain_name;
	size_t size = sizeof(struct pending_event) + text.size + 1 + event->domain_name.size + 1 +
		      event->host.size + 1;
	struct pending_event *pending = calloc(1, size);
	char *at;

	if (!pending)
		return -ENOMEM;
	pending->size = size;
	requests->events_size += size;
	at = copy_text(pending->name, text);
	pending->watch = watch->request.number;
	pending->event = (struct xenmsg_event){.kind = (enum xenmsg_event_kind)event->kind,
					       .domid = event->domid,
					       .name = pending->name,
					       .domain_name = at};
	pending->event.host = at = copy_text(at, event->domain_name);
	copy_text(at, event->host);
	DL_APPEND(requests->events, pending);
	return 0;
}

#define KEY_MAX (5 + ENDPOINT_NAME_MAX)

static bool is_of_host(const struct frame_event *event)
{
	return event->kind == EVENT_HOST_UP || event->kind == EVENT_HOST_DOWN;
}

/* Writes what tells the thing from others of its watch. Returns how many bytes. */
static size_t key_of(const struct frame_event *event, char key[KEY_MAX])
{
	key[0] = is_of_host(event) ? 'h' : event->text.size ? 'e' : 'd';
	memcpy(key + 1, &event->domid, sizeof(event->domid));
	memcpy(key + 5, event->text.size ? event->text.data : "", event->text.size);
	return 5 + event->text.size;
}

static struct frame_text keep_text(char *at, struct frame_text text)
{
	memcpy(at, text.size ? text.data : "", text.size);
	return (struct frame_text){at, text.size};
}

/* Notes what is up, and lets the program be told. */
static int remember(struct event_watch *watch, const struct frame_event *event)
{
	struct told_thing *thing =
		calloc(1, sizeof(*thing) + KEY_MAX + event->domain_name.size + event->host.size);
	size_t size;

	if (!thing)
		return -ENOMEM;
	thing->is_seen = true;
	thing->event = *event;
	size = key_of(event, thing->bytes);
	thing->event.text.data = thing->bytes + 5;
	thing->event.domain_name = keep_text(thing->bytes + size, event->domain_name);
	thing->event.host = keep_text(thing->bytes + size + event->domain_name.size, event->host);
	HASH_ADD(hh, watch->told, bytes, size, thing);
	if (!HASH_ADDED(thing)) {
		free(thing);
		return -ENOMEM;
	}
	return tell(watch, event);
}

/* Whether the program knows it by this name. A daemon that has just begun may not know the name yet. */
static bool is_known(const struct told_thing *thing, const struct frame_event *event)
{
	struct frame_text known = thing->event.domain_name, name = event->domain_name;

	return (known.size == name.size && (!name.size || memcmp(known.data, name.data, name.size) == 0)) ||
	       (!name.size && !thing->is_seen);
}

/* Lets the program be told that a domain is away, or back, unless it knows. */
static int tell_away(const struct event_watch *watch, struct told_thing *thing,
		     const struct frame_event *event)
{
	if (thing->is_away == thing->was_away)
		return 0;
	thing->was_away = thing->is_away;
	return tell(watch, event);
}

/* Takes what is told of a thing. The program hears of it unless it knows that already. */
static int take_change(struct event_watch *watch, const struct frame_event *event)
{
	bool is_up = event->kind == EVENT_DOMAIN_UP || event->kind == EVENT_ENDPOINT_UP ||
		     event->kind == EVENT_HOST_UP;
	struct told_thing *thing;
	char key[KEY_MAX];

	HASH_FIND(hh, watch->told, key, key_of(event, key), thing);
	if (!thing)
		return is_up ? remember(watch, event) : 0;
	if (is_up ? is_known(thing, event) : event->kind == EVENT_DOMAIN_AWAY) {
		thing->is_seen = true;
		thing->is_away = !is_up;
		return watch->lists_again ? 0 : tell_away(watch, thing, event);
	}
	forget_thing(watch, thing);
	return is_up ? remember(watch, event) : tell(watch, event);
}

/* Lets the list begin, also anew. */
static void begin_list(struct event_watch *watch)
{
	struct told_thing *thing;

	watch->lists_again = watch->told;
	for (thing = watch->told; thing; thing = thing->hh.next)
		thing->is_seen = false;
}

/* All that is there was listed. Tells of the rest of these things, which has gone, and of who is away. */
static int tell_rest(struct event_watch *watch, char kind)
{
	struct told_thing *thing, *next;
	int r = 0;

	HASH_ITER(hh, watch->told, thing, next) {
		struct frame_event event = thing->event;

		if (r < 0 || *thing->bytes != kind)
			continue;
		event.kind = !thing->is_seen ? event.kind + 1 : /* from _UP to _DOWN */
				     thing->is_away ? EVENT_DOMAIN_AWAY
						    : event.kind;
		r = thing->is_seen ? tell_away(watch, thing, &event) : tell(watch, &event);
		if (!thing->is_seen)
			forget_thing(watch, thing);
	}
	return r;
}

/* A domain that has gone is told behind all that it had. */
static int end_list(struct event_watch *watch, const struct frame_event *listed)
{
	int r = 0;

	watch->lists_again = false;
	for (const char *kind = "edh"; *kind && r == 0; kind++)
		r = tell_rest(watch, *kind);
	if (r == 0 && (!watch->is_listed || watch->is_cut != (listed->text.size > 0)))
		r = tell(watch, listed);
	watch->is_listed = true;
	watch->is_cut = listed->text.size > 0;
	return r;
}

static int take_event(struct event_watch *watch, const void *data, size_t length)
{
	struct frame_event event;

	if (frame_event_decode(data, (uint32_t)length, &event) < 0 ||
	    watch->request.requests->events_size > KEPT_MAX)
		return -EPROTO;
	if (event.kind < EVENT_DOMAIN_UP || event.kind > EVENT_LISTED) /* of a later minor version */
		return 0;
	if (event.kind == EVENT_LISTED)
		return end_list(watch, &event);
	if (event.kind != EVENT_ENDPOINT_UP && event.kind != EVENT_ENDPOINT_DOWN) {
		event.domain_name = event.text;
		event.text = (struct frame_text){NULL, 0};
	} else if (event.text.size == 0 || event.text.size > ENDPOINT_NAME_MAX) {
		return -EPROTO;
	}
	return take_change(watch, &event);
}

/* The first part says that it is watched, and begins the list. */
static int requests_on_part(void *userdata, const void *data, size_t size)
{
	struct event_watch *watch = userdata;

	if (size)
		return watch->request.requests->broken = take_event(watch, data, size);
	begin_list(watch);
	if (!watch->request.finished)
		requests_finish(&watch->request, 0);
	return 0;
}

/* The daemon has refused it. Or there is no more of it, without which the program would miss something: then
 * the connection ends. */
static void requests_on_ended(void *userdata, int error, const void *text, size_t size)
{
	struct event_watch *watch = userdata;
	struct request *request = &watch->request;
	struct requests *requests = request->requests;
	bool is_asked = !request->finished;

	watch->call = NULL;
	if (is_asked && take_answer(requests, request, error, text, size) < 0) {
		requests_finish(request, error);
	} else if (!is_asked && !requests->broken) {
		transport_keep_reason(requests->transport, (struct frame_text){text, size});
		requests->broken = error == -ENOMEM ? error : -ENOTCONN;
	}
}

static const struct call_standing watching = {.part = requests_on_part, .ended = requests_on_ended};

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
