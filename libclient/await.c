/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/await.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/conn.h"
#include "libclient/deadline.h"
#include "wire/address.h"
#include "wire/properties.h"
#include "wire/ut.h"

#define INTERRUPTED "a signal came; it was certainly not done"
#define FIRST_SIZE  (offsetof(struct xenmsg_options, flags) + sizeof(unsigned)) /* of version 0.2 */

/* Members of a later version, which this one doesn't know, may be there, but not be used. */
static bool uses_more(const struct xenmsg_options *options)
{
	const char *bytes = (const char *)options;

	for (size_t i = sizeof(*options); i < options->size; i++)
		if (bytes[i])
			return true;
	return false;
}

static int bad_option(struct op_options *opts, const char *why)
{
	opts->why = why;
	return -EINVAL;
}

static bool is_word(const char *text)
{
	return trace_is_valid(text, strnlen(text, TRACE_MAX + 1));
}

int options_read_given(struct op_options *opts, const struct xenmsg_options *options, unsigned flags)
{
	if (options->size < FIRST_SIZE || uses_more(options))
		return bad_option(
			opts, "the options are of another version of the library, or their size isn't set");
	if (options->flags & (~flags | OP_TRACE | OP_KEY | OP_KEYS | OP_QUEUE))
		return bad_option(opts, "a flag in the options has no meaning for this");
	if (options->size >= offsetof(struct xenmsg_options, trace) + sizeof(options->trace))
		opts->trace = options->trace;
	if (options->size >= offsetof(struct xenmsg_options, keys) + sizeof(options->keys)) {
		opts->key = options->key;
		opts->keys = options->keys;
	}
	if (options->size >= offsetof(struct xenmsg_options, queue) + sizeof(options->queue))
		opts->queue = options->queue;
	if (opts->keys && !(flags & OP_KEYS))
		return bad_option(opts, "only a topic keeps messages by keys");
	if (opts->queue && !(flags & OP_QUEUE))
		return bad_option(opts, "only a subscription has a queue");
	if (opts->key && (!(flags & OP_KEY) || !is_word(opts->key)))
		return bad_option(opts, flags & OP_KEY ? "a key is 1 to 255 printable characters of ASCII"
						       : "only a message has a key");
	if (opts->trace && (!(flags & OP_TRACE) || !is_word(opts->trace)))
		return bad_option(opts, flags & OP_TRACE ? "a trace is 1 to 255 printable characters of ASCII"
							 : "only a message or a call has a trace");
	opts->flags = options->flags;
	if (options->timeout_ms != XENMSG_USUAL_MS)
		opts->timeout_ms = options->timeout_ms < 0 ? FOR_EVER : options->timeout_ms;
	return 0;
}

int options_read_first(struct xenmsg *conn, struct op_options *opts, const struct xenmsg_options *options,
		       unsigned flags, int usual_ms)
{
	int r = options_read(opts, options, flags, usual_ms);

	return conn_clear(conn) < 0 ? -ECHILD : conn_say_options(conn, r, opts);
}

/* ---- waiting ------------------------------------------------------------------------------ */

int wait_for_room(struct xenmsg *conn, struct conn_wait *wait)
{
	int r = conn_sleep(conn, wait);

	if (r == -EINTR || r == -ETIMEDOUT)
		return r;
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	conn_run_outcomes(conn, RUN_BUDGET);
	return 0;
}

static void wait_for_outcome(struct xenmsg *conn, struct xenmsg_op *op, struct outcome *outcome)
{
	struct conn_wait wait = {.deadline = -1, .what = FOR_OUTCOMES};
	bool interrupted = false;

	for (;;) {
		conn_pump(conn);
		conn_run_outcomes(conn, RUN_BUDGET);
		if (outcome->known || conn->dead == -ECHILD)
			break;
		if (conn_sleep(conn, &wait) == -EINTR && !interrupted) {
			interrupted = true;
			conn_withdraw(conn, op);
		}
	}
	if (!interrupted || outcome->result.error != -ETIMEDOUT)
		return;
	outcome->result.error = -EINTR;
	if (outcome->result.fate == XENMSG_FATE_NOT_DONE)
		outcome->result.reason = INTERRUPTED;
}

bool wait_for_answer(struct xenmsg *conn, struct xenmsg_op *op)
{
	struct conn_wait wait = {.deadline = -1};
	bool interrupted = false;
	int r;

	conn_pump(conn);
	while (!op->settled) {
		r = conn_sleep(conn, &wait);
		if (r == -EINTR)
			conn_withdraw(conn, op);
		else if (r < 0 && !op->settled)
			op->withdraw(op);
		interrupted = interrupted || r == -EINTR;
		conn_pump(conn);
	}
	return interrupted;
}

void call_begun(struct xenmsg *conn, struct call *call, const struct op_options *opts, struct xenmsg_op **op)
{
	call->op.conn = conn;
	if (op)
		*op = &call->op;
	if (opts->flags & OP_AWAITED)
		return;
	call_expires(call, deadline_in(opts->timeout_ms), opts->timeout_ms);
	conn_set_alarm(conn);
	conn_push(conn);
}

int request_begun(struct xenmsg *conn, int r, struct request *request, struct xenmsg_op **op)
{
	if (r < 0)
		return r;
	if (op)
		*op = &request->op;
	conn_set_alarm(conn);
	conn_push(conn);
	return 0;
}

int request_finish(struct xenmsg *conn, int r, struct request *request, struct outcome *outcome)
{
	bool interrupted;

	if (r < 0)
		return r;
	interrupted = wait_for_answer(conn, &request->op);
	conn_tell_answer(conn, request);
	conn_remind(conn);
	if (!interrupted || outcome->result.error != -ETIMEDOUT)
		return outcome->result.error;
	conn_set_reason(conn, INTERRUPTED, strlen(INTERRUPTED));
	return -EINTR;
}

void outcome_note(void *userdata, const struct xenmsg_result *result)
{
	struct outcome *outcome = userdata;

	outcome->known = true;
	outcome->result = *result;
	if (result->reason && *result->reason) { /* which may end with this callback */
		snprintf(outcome->words, sizeof(outcome->words), "%s", result->reason);
		outcome->result.reason = outcome->words;
	}
}

int result_without_op(struct xenmsg_result *result, int error)
{
	const struct op_result known = op_result(error);

	*result = op_result_told(&known, NULL);
	return error;
}

int outcome_await(struct xenmsg *conn, struct xenmsg_op *op, struct outcome *outcome, int r,
		  struct xenmsg_result *result)
{
	if (r == 0) {
		wait_for_outcome(conn, op, outcome);
		r = conn->dead == -ECHILD ? -ECHILD : 0;
	}
	conn_remind(conn);
	if (r == 0 && outcome->known)
		*result = outcome->result;
	else
		result_without_op(result, r < 0 ? r : -ECONNRESET);
	if (r < 0 && conn->reason[0]) /* by whoever knows what was asked (conn_say()) */
		result->reason = "";
	if (*result->reason)
		conn_set_reason(conn, result->reason, strlen(result->reason));
	result->reason = conn->reason;
	return result->error;
}

int room_begin(struct xenmsg *conn, struct sender *sender, size_t size, const struct op_options *opts,
	       xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct call *call;
	int r = calls_await_room(&conn->calls, sender, size, done, userdata, &call);

	if (r < 0)
		return r;
	call->op.conn = conn;
	if (!call->op.settled)
		call_expires(call, deadline_in(opts->timeout_ms), opts->timeout_ms);
	if (op)
		*op = &call->op;
	conn_remind(conn);
	return 0;
}

int room_wait(struct xenmsg *conn, struct sender *sender, size_t size, const struct op_options *opts)
{
	struct outcome outcome = {.known = false};
	struct xenmsg_result result;
	struct xenmsg_op *op = NULL;
	int r;

	conn_enter(conn);
	r = room_begin(conn, sender, size, opts, outcome_note, &outcome, &op);
	outcome_await(conn, op, &outcome, r, &result);
	return result_leave(conn, &result);
}

int wait_again(struct xenmsg *conn, struct again *again, int64_t deadline)
{
	int pause_ms = again_pause(again, deadline), r = 0;
	struct conn_wait wait = {.deadline = deadline_in(pause_ms), .what = FOR_OUTCOMES};

	if (pause_ms < 0)
		return pause_ms;
	while (r == 0 && deadline_left(wait.deadline) > 0)
		r = wait_for_room(conn, &wait);
	return r == -ETIMEDOUT ? 0 : r;
}

/* ---- what waits for its receiver ---------------------------------------------------------- */

#define NOT_THERE "timed out; the receiver wasn't there"

static void on_rest(void *userdata, const struct xenmsg_result *result);

/* ---- places ------------------------------------------------------------------------------- */

static struct awaited *find_awaited(struct xenmsg *conn, const char *address)
{
	struct awaited *place;

	DL_FOREACH(conn->awaited, place)
		if (!strcmp(place->address, address))
			return place;
	place = calloc(1, sizeof(*place) + strlen(address) + 1);
	if (!place)
		return NULL;
	place->conn = conn;
	strcpy(place->address, address);
	DL_APPEND(conn->awaited, place);
	return place;
}

static void end_if_empty(struct awaited *place)
{
	if (place->list || place->is_asked)
		return;
	if (place->watch)
		conn_unwatch(place->conn, place->watch);
	DL_DELETE(place->conn->awaited, place);
	free(place);
}

static void set_state(struct awaiter *awaiter, enum awaiter_state state)
{
	awaiter->place->idle += (state != TRYING) - (awaiter->state != TRYING);
	awaiter->state = state;
}

static void remove_awaiter(struct awaiter *awaiter)
{
	set_state(awaiter, TRYING);
	DL_DELETE(awaiter->place->list, awaiter);
	free(awaiter->trace);
	free(awaiter);
}

/* Ends the rest of one that is parked: within a callback, so the connection has something more to do. */
static void rouse(struct awaiter *awaiter, int error)
{
	set_state(awaiter, WAKING);
	if (!awaiter->rest->op.settled) /* else its time is up */
		call_end(awaiter->rest, error);
	transport_poke(&awaiter->place->conn->transport);
}

/* Whether its attempt is about to end, and may be made again: what comes behind it waits for that. */
static bool is_ending(const struct awaiter *awaiter)
{
	return awaiter->state == TRYING &&
	       (awaiter->attempt->settled ||
		(awaiter->kind == CHANNEL_CALL && ((const struct call *)awaiter->attempt)->is_behind));
}

/* Lets those go on that may be tried: what came after their last attempt can be what they wait for. */
static void wake(struct awaited *place)
{
	struct awaiter *awaiter;

	DL_FOREACH(place->list, awaiter) {
		if (is_ending(awaiter))
			return; /* its outcome decides whether those behind it go on */
		if (awaiter->state != PARKED)
			continue;
		if (awaiter->was_tried && awaiter->tried == place->comings)
			return;
		awaiter->pause_ms = 0;
		rouse(awaiter, 0);
	}
}

static void await_on_event(void *userdata, const struct xenmsg_event *event)
{
	struct awaited *place = userdata;

	if (event->kind == XENMSG_ENDPOINT_DOWN)
		place->is_listed = false;
	if (event->kind != XENMSG_ENDPOINT_UP)
		return;
	place->is_listed = true;
	place->losses = place->conn->reconnect.losses;
	place->comings++;
	wake(place);
}

static void await_on_watched(void *userdata, const struct xenmsg_result *result)
{
	struct awaited *place = userdata;
	struct awaiter *awaiter;

	place->is_asked = false;
	if (result->error < 0)
		place->watch = 0;
	if (result->error < 0)
		DL_FOREACH(place->list, awaiter)
			if (awaiter->state == PARKED) {
				/* That nobody is there says more than that nobody can be watched. */
				rouse(awaiter, result->error == -ENOBUFS || !awaiter->error ? result->error
											    : awaiter->error);
			}
	end_if_empty(place);
}

/* Whether a domain's name can stand in a pattern and mean itself: a watch compares names and domids. */
static bool await_is_plain(struct address_part domain)
{
	bool is_uuid = domain.size == 36 && domain.data[8] == '-' && domain.data[13] == '-';

	for (size_t i = 0; i < domain.size; i++)
		if (strchr("*?[\\", domain.data[i]))
			return false;
	return !is_uuid;
}

/* Begins to watch the address. Returns 0 or a negative errno. */
static int await_watch(struct awaited *place)
{
	struct address_parts parts = address_split(place->address, strlen(place->address));
	bool plain = await_is_plain(parts.domain);
	char pattern[ADDRESS_MAX + 1];
	struct request *request;
	int r;

	if (place->watch)
		return 0;
	snprintf(pattern, sizeof(pattern), "%.*s%s%.*s:%.*s", (int)parts.host.size,
		 parts.host.data ? parts.host.data : "", parts.host.data ? "/" : "",
		 plain ? (int)parts.domain.size : 1, plain ? parts.domain.data : "*",
		 (int)parts.endpoint.size, parts.endpoint.data);
	r = conn_watch(place->conn, pattern, FOR_EVER, await_on_event, place, await_on_watched, place,
		       &request);
	if (r < 0)
		return r;
	place->watch = request->number;
	place->is_asked = true;
	conn_push(place->conn);
	return 0;
}

/* ---- the life of what waits --------------------------------------------------------------- */

static void await_finish(struct awaiter *awaiter, const struct xenmsg_result *result)
{
	struct awaited *place = awaiter->place;
	xenmsg_done done = awaiter->done;
	void *userdata = awaiter->userdata;

	remove_awaiter(awaiter);
	if (place->idle)
		wake(place);
	end_if_empty(place);
	if (done)
		done(userdata, result);
	else
		xenmsg_message_free(result->reply);
}

static void finish_without(struct awaiter *awaiter, struct op_result known)
{
	const struct xenmsg_result result = op_result_told(&known, NULL);

	await_finish(awaiter, &result);
}

/* Sets a pause, each longer than the one before, unless the time is up by then. */
static bool may_rest(struct awaiter *awaiter)
{
	int left = deadline_left(awaiter->deadline);

	awaiter->pause_ms = pause_grown(awaiter->pause_ms);
	return left < 0 || awaiter->pause_ms < left;
}

/* Makes it wait. What is listed, and wasn't there, either goes in a moment, which an event tells; or it went
 * and came again before others were told that it had gone, or it is to be started on demand, which failed: of
 * these nothing tells, so it is tried again after a pause. Returns 0 or -ENOMEM. */
static int park(struct awaiter *awaiter)
{
	const struct awaited *place = awaiter->place;
	struct xenmsg *conn = place->conn;
	bool is_listed = place->is_listed && place->losses == conn->reconnect.losses;
	int r = calls_await(&conn->calls, on_rest, awaiter, &awaiter->rest);

	if (r < 0)
		return r;
	awaiter->rest->op.conn = conn;
	set_state(awaiter, PARKED);
	awaiter->rests = is_listed && awaiter->was_tried && may_rest(awaiter);
	if (awaiter->rests)
		call_expires(awaiter->rest, deadline_in(awaiter->pause_ms), awaiter->pause_ms);
	else
		call_expires(awaiter->rest, awaiter->deadline, awaiter->timeout_ms);
	return 0;
}

/* Returns whether all that was begun before is on its way. Nothing else is idle, for most; then what was
 * begun before it, of its kind, ends before that does. */
static bool is_next(const struct awaiter *awaiter)
{
	const struct awaiter *list = awaiter->place->list, *before;

	if (awaiter->place->idle > 1) {
		for (before = list; before != awaiter; before = before->next)
			if (before->state != TRYING)
				return false;
	}
	for (before = awaiter; before != list;) {
		before = before->prev;
		if (before->state == TRYING && before->kind == awaiter->kind)
			return !is_ending(before);
	}
	return true;
}

/* Whether it ended because nobody is there, and nothing of it was taken. */
static bool is_absent(const struct xenmsg *conn, const struct xenmsg_result *result)
{
	/* What wasn't sent when the local daemon went. */
	bool is_lost = result->error == -ENOTCONN;

	return result->fate == XENMSG_FATE_NOT_DONE && !conn->closing && !conn->dead &&
	       (result->error == -ENOENT || result->error == -EHOSTDOWN || is_lost);
}

static void on_attempt(void *userdata, const struct xenmsg_result *result)
{
	struct awaiter *awaiter = userdata;
	struct awaited *place = awaiter->place;
	int r;

	awaiter->attempt = NULL;
	set_state(awaiter, WAKING);
	if (!is_absent(place->conn, result)) {
		await_finish(awaiter, result);
		return;
	}
	awaiter->error = result->error;
	if (awaiter->is_withdrawn) {
		finish_without(awaiter, op_result(-ETIMEDOUT));
		return;
	}
	r = await_watch(place);
	/* An operation that comes behind another one goes when that goes. */
	awaiter->was_tried = is_next(awaiter);
	if (r == 0)
		r = park(awaiter);
	if (r < 0)
		finish_without(awaiter, op_result(r));
	else
		wake(place);
}

static int try_now(struct awaiter *awaiter)
{
	const struct op_options opts = {.timeout_ms = deadline_left(awaiter->deadline),
					.trace = awaiter->trace};
	struct awaited *place = awaiter->place;
	int r;

	if (place->conn->dead)
		return -ENOTCONN;
	r = awaiter->begin(place->conn, awaiter->kind, place->address, awaiter->data, awaiter->size, &opts,
			   on_attempt, awaiter, &awaiter->attempt);
	if (r < 0)
		return r;
	set_state(awaiter, TRYING);
	awaiter->was_tried = true;
	awaiter->tried = place->comings;
	return 0;
}

/* Waits until the channel takes more. */
static int await_room(struct awaiter *awaiter)
{
	const struct op_options opts = {.timeout_ms = deadline_left(awaiter->deadline)};
	struct xenmsg *conn = awaiter->place->conn;
	struct xenmsg_op *op;
	int r = room_begin(conn, outbox_lookup(&conn->outbox, awaiter->place->address, awaiter->kind),
			   awaiter->size, &opts, on_rest, awaiter, &op);

	if (r == 0)
		awaiter->rest = (struct call *)op;
	return r;
}

/* Its rest has ended. */
static void on_rest(void *userdata, const struct xenmsg_result *result)
{
	struct awaiter *awaiter = userdata;
	struct op_result over;
	int r = result->error;

	awaiter->rest = NULL;
	set_state(awaiter, WAKING);
	if (r == -ETIMEDOUT && awaiter->rests)
		r = 0;
	awaiter->rests = false;
	if (r == 0 && awaiter->is_withdrawn)
		r = -ETIMEDOUT;
	if (r == 0 && !is_next(awaiter)) {
		awaiter->was_tried = false;
		r = park(awaiter);
		if (r == 0)
			return;
	}
	if (r == 0) {
		r = try_now(awaiter);
		if (r == -EAGAIN)
			r = await_room(awaiter);
		if (r == 0) {
			wake(awaiter->place);
			return;
		}
	}
	over = op_result(r);
	if (r == -ETIMEDOUT)
		over.reason = NOT_THERE;
	finish_without(awaiter, over);
}

static int await_withdraw(struct xenmsg_op *op)
{
	struct awaiter *awaiter = (struct awaiter *)op;
	struct xenmsg_op *under_way = awaiter->attempt ? awaiter->attempt : &awaiter->rest->op;

	awaiter->is_withdrawn = true;
	return under_way->settled ? 0 : under_way->withdraw(under_way);
}

static struct awaiter *new_awaiter(struct xenmsg *conn, const char *address, const void *data, size_t size,
				   const struct op_options *opts)
{
	struct awaiter *awaiter = calloc(1, sizeof(*awaiter) + size);

	if (!awaiter)
		return NULL;
	if (size)
		memcpy(awaiter->data, data, size);
	awaiter->size = size;
	awaiter->trace = opts->trace ? strdup(opts->trace) : NULL;
	awaiter->place = !opts->trace || awaiter->trace ? find_awaited(conn, address) : NULL;
	if (!awaiter->place) {
		free(awaiter->trace);
		free(awaiter);
		return NULL;
	}
	DL_APPEND(awaiter->place->list, awaiter);
	awaiter->place->idle++;
	return awaiter;
}

int await_begin(struct xenmsg *conn, await_begin_fn begin, enum channel_kind kind, const char *address,
		const void *data, size_t size, const struct op_options *opts, xenmsg_done done,
		void *userdata, struct xenmsg_op **op)
{
	struct address parsed;
	struct awaiter *awaiter;
	int r;

	if (!(opts->flags & XENMSG_WAIT))
		return begin(conn, kind, address, data, size, opts, done, userdata, op);
	if (address_parse(address, strlen(address), &parsed, NULL) < 0)
		return -EINVAL;
	if (size > xenmsg_max_message(conn))
		return -EMSGSIZE;
	awaiter = new_awaiter(conn, address, data, size, opts);
	if (!awaiter)
		return -ENOMEM;
	awaiter->op = (struct xenmsg_op){.conn = conn, .withdraw = await_withdraw};
	awaiter->begin = begin;
	awaiter->kind = kind;
	awaiter->deadline = deadline_in(opts->timeout_ms);
	awaiter->timeout_ms = opts->timeout_ms;
	awaiter->done = done;
	awaiter->userdata = userdata;
	r = is_next(awaiter) ? try_now(awaiter) : park(awaiter);
	if (r < 0) {
		struct awaited *place = awaiter->place;

		remove_awaiter(awaiter);
		end_if_empty(place);
		return r;
	}
	if (op)
		*op = &awaiter->op;
	conn_remind(conn);
	return 0;
}

int await_outcome(struct xenmsg *conn, await_begin_fn begin, enum channel_kind kind, const char *address,
		  const void *data, size_t size, const struct op_options *opts, int64_t deadline,
		  struct xenmsg_result *result)
{
	struct outcome outcome = {.known = false};
	struct conn_wait wait = {.deadline = deadline, .what = FOR_OUTCOMES};
	struct op_options left = *opts;
	struct xenmsg_op *op = NULL;
	int r;

	left.flags |= OP_AWAITED;
	do {
		left.timeout_ms = deadline_left(deadline);
		r = await_begin(conn, begin, kind, address, data, size, &left, outcome_note, &outcome, &op);
	} while (r == -EAGAIN && (r = wait_for_room(conn, &wait)) == 0);
	if (r == 0 && !(opts->flags & XENMSG_WAIT))
		call_expires((struct call *)op, deadline, opts->timeout_ms);
	return outcome_await(conn, op, &outcome, conn_explain_message(conn, address, size, r), result);
}
