/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/calls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/deadline.h"
#include "libclient/outbox.h"
#include "wire/ut.h"

#define UNREAD_MS 10000 /* how long a daemon may leave a CANCEL unread */

static struct call *call_of(struct numbered *item)
{
	return NUMBERED_IN(item, struct call, numbered);
}

/* ---- the life of a call ------------------------------------------------------------------- */

static void forget_time(struct call *call)
{
	if (call->expires >= 0)
		DL_DELETE2(call->calls->timed, call, timed_prev, timed_next);
	call->expires = -1;
}

/* Searches from the end of the list, where a new call usually belongs: programs use one time-out, or a
 * few. */
static void set_expiry(struct call *call, int64_t expires)
{
	struct call *first = call->calls->timed, *before = first ? first->timed_prev : NULL;

	call->expires = expires;
	while (before && before->expires > expires)
		before = before == first ? NULL : before->timed_prev;
	if (before)
		DL_APPEND_ELEM2(call->calls->timed, before, call, timed_prev, timed_next);
	else
		DL_PREPEND2(call->calls->timed, call, timed_prev, timed_next);
}

/* Returns for how many milliseconds to wait for the answer to a CANCEL, after a time-out of timeout_ms
 * (negative: there was none), once the daemon has read it. Most answers take a round trip; the daemon gives
 * one after 2 s even if the other end doesn't. */
static int settle_ms(int timeout_ms)
{
	int tenth = timeout_ms / 10;

	return timeout_ms < 0 || tenth > 2000 ? 2000 : tenth < 250 ? 250 : tenth;
}

void call_expires(struct call *call, int64_t deadline, int timeout_ms)
{
	call->timeout_ms = timeout_ms;
	if (deadline < 0)
		return;
	call->settle_ms = settle_ms(timeout_ms);
	set_expiry(call, deadline);
}

/* Tells of the end of one that stands, and frees it, as call_tell() does. */
static void end_standing(struct call *call, const struct op_result *result, struct xenmsg_message *reply)
{
	int error =
		result->error == -EREMOTEIO ? frame_error((uint32_t)result->code, -EPROTO) : result->error;

	call->standing->ended(call->userdata, error, reply ? xenmsg_message_data(reply) : result->reason,
			      reply	       ? xenmsg_message_size(reply)
			      : result->reason ? strlen(result->reason)
					       : 0);
	xenmsg_message_free(reply);
	call->reported = true;
	if (!call->unsettled)
		free(call);
}

static void calls_complete(struct call *call, struct op_result result, struct xenmsg_message *reply)
{
	forget_time(call);
	if (call->parts != reply)
		xenmsg_message_free(call->parts);
	call->parts = NULL;
	if (call->room) {
		if (call->sender)
			DL_DELETE(call->sender->rooms, call);
		call->sender = NULL;
		call->calls->rooms--;
	}
	if (call->caller) {
		numbers_remove(&call->caller->waiting, &call->numbered);
		call->caller->sender->awaited--;
	}
	call->caller = NULL;
	if (call->began_ns)
		call->took_ns = now_ns() - call->began_ns;
	call->op.settled = true;
	if (call->standing) {
		end_standing(call, &result, reply);
		return;
	}
	call->result = result;
	call->reply = reply;
	DL_APPEND(call->calls->completed, call);
}

/* Notes what became of the request: of its op. */
static void on_settled(void *userdata, const struct op_result *result)
{
	struct call *call = userdata;

	call->unsettled = false;
	if (!call->reported && !call->op.settled && (result->error < 0 || call->message)) {
		calls_complete(call, *result, NULL);
		return;
	}
	op_result_drop(result);
	if (call->reported)
		free(call);
	else if (!call->op.settled && call->expired) {
		/* It was taken after all. calls_expire() is to withdraw it, not a function that is working on
		 * its channel. */
		forget_time(call);
		set_expiry(call, 0);
	}
}

static void calls_on_ended(struct caller *caller)
{
	struct numbered *item, *next;

	NUMBERS_EACH(&caller->waiting, item, next)
		calls_complete(call_of(item), op_result_unknown(-ECONNRESET, caller->sender->why_reset),
			       NULL);
	numbers_free(&caller->waiting);
	if (caller->unreported)
		DL_DELETE(caller->calls->unreported, caller);
	assembly_drop(&caller->answer);
	free(caller);
}

/* Ends those that wait for room there; with OUTBOX_MORE_ROOM only those for which it is enough. */
static void calls_on_room(struct sender *sender, int error)
{
	struct call *call, *next;

	DL_FOREACH_SAFE(sender->rooms, call, next)
		if (error != OUTBOX_MORE_ROOM || sender_has_room(sender, call->span)) {
			struct op_result result = op_result(error == OUTBOX_MORE_ROOM ? 0 : error);

			outbox_say(call->calls->outbox, sender, &result);
			calls_complete(call, result, NULL);
		}
}

/* Ends what the server before has taken and not answered, and drops what is there of an answer. What has no
 * outcome by now goes to the other one. */
static void on_taken_over(struct caller *caller)
{
	struct numbered *item, *next;

	assembly_drop(&caller->answer);
	NUMBERS_EACH(&caller->waiting, item, next)
		if (!call_of(item)->unsettled)
			calls_complete(call_of(item), op_result(-ECONNRESET), NULL);
}

const struct outbox_callbacks calls_outbox_callbacks = {
	.ended = calls_on_ended,
	.taken_over = on_taken_over,
	.room = calls_on_room,
};

void call_tell(struct call *call)
{
	struct xenmsg_result result = op_result_told(&call->result, call->reply);

	DL_DELETE(call->calls->completed, call);
	if (call->done && call->read_answer)
		call->read_answer(call, &result);
	if (call->done)
		call->done(call->userdata, &result);
	else
		xenmsg_message_free(call->reply);
	op_result_drop(&call->result);
	/* Not before: the program may have read meanwhile what became of the request. */
	call->reported = true;
	if (!call->unsettled)
		free(call);
}

int calls_run(struct calls *calls, int budget)
{
	int count = 0;

	for (; calls->completed && count < budget && transport_is_here(calls->outbox->transport); count++)
		call_tell(calls->completed);
	return count;
}

void calls_free(struct calls *calls)
{
	struct call *call, *next;

	DL_FOREACH_SAFE(calls->completed, call, next) {
		xenmsg_message_free(call->reply);
		op_result_drop(&call->result);
		free(call);
	}
	calls->completed = NULL;
}

/* ---- requests ----------------------------------------------------------------------------- */

static int add_caller(struct calls *calls, struct sender *sender)
{
	struct caller *caller = calloc(1, sizeof(*caller));

	if (!caller)
		return -ENOMEM;
	caller->calls = calls;
	caller->sender = sender;
	caller->to = address_split(sender->address, strlen(sender->address));
	sender->caller = caller;
	return 0;
}

static uint32_t calls_unused_number(struct caller *caller)
{
	while (numbers_find(&caller->waiting, ++caller->last_number))
		;
	return caller->last_number;
}

static int withdraw_op(struct xenmsg_op *op)
{
	struct call *call = (struct call *)op;

	if (op->settled || call->expired) /* or it is being cancelled already */
		return 0;
	forget_time(call);
	set_expiry(call, 0);
	return calls_expire(call->calls);
}

/* Writes the properties into `block` and adds them to the message. */
static void add_properties(struct message_pieces *pieces, const struct properties *properties,
			   uint8_t block[PROPERTIES_WRITE])
{
	if (properties_are_there(properties))
		message_pieces_add(pieces, block, properties_encode(properties, block));
}

/* Makes a call, or what is like one, and puts its message on the channel; NULL: the one that was reserved,
 * with `size` bytes and these properties. */
static int start(struct calls *calls, const struct call *like, const struct message_pieces *pieces,
		 size_t size, const struct properties *properties, bool at_once, struct call **started)
{
	struct call *call = malloc(sizeof(*call));
	struct op op;
	int r;

	if (!call)
		return -ENOMEM;
	*call = *like;
	call->op.withdraw = withdraw_op;
	call->calls = calls;
	call->unsettled = true;
	call->expires = -1;
	call->settle_ms = settle_ms(-1);
	if (call->caller) {
		r = numbers_add(&call->caller->waiting, &call->numbered, like->numbered.number);
		if (r < 0) {
			free(call);
			return r;
		}
	}
	op = (struct op){.settled = on_settled, .userdata = call};
	r = pieces ? outbox_put(calls->outbox, call->sender, pieces, at_once, &op)
		   : outbox_commit(calls->outbox, size, properties, &op, &call->sender);
	if (r < 0) {
		if (call->caller)
			numbers_remove(&call->caller->waiting, &call->numbered);
		free(call);
		return r;
	}
	if (call->caller)
		call->sender->awaited++;
	*started = call;
	return 0;
}

/* Begins a call like that one. */
static int start_call(struct calls *calls, const char *address, const void *data, size_t size,
		      const struct properties *properties, struct call call, struct call **started)
{
	uint8_t block[PROPERTIES_WRITE];
	struct message_pieces pieces;
	int r = outbox_channel(calls->outbox, address, CHANNEL_CALL, size, false, &call.sender);

	if (r == 0 && !call.sender->caller)
		r = add_caller(calls, call.sender);
	if (r < 0)
		return r;
	call.caller = call.sender->caller;
	call.numbered.number = calls_unused_number(call.caller);
	pieces = message_pieces(data, size);
	message_pieces_mark(&pieces, MESSAGE_REQUEST, (struct message_error){0}, call.numbered.number);
	add_properties(&pieces, properties, block);
	return start(calls, &call, &pieces, size, NULL, false, started);
}

int calls_start(struct calls *calls, const char *address, const void *data, size_t size,
		const struct properties *properties, xenmsg_done done, void *userdata, struct call **started)
{
	return start_call(calls, address, data, size, properties,
			  (struct call){.done = done, .userdata = userdata}, started);
}

int calls_stand(struct calls *calls, const char *address, const void *data, size_t size,
		const struct call_standing *standing, void *userdata, struct call **started)
{
	const struct properties none = {.has_deadline = false};

	return start_call(calls, address, data, size, &none,
			  (struct call){.standing = standing, .userdata = userdata}, started);
}

int calls_start_message(struct calls *calls, const char *address, const void *data, size_t size,
			const struct properties *properties, bool at_once, xenmsg_done done, void *userdata,
			struct call **started)
{
	struct message_pieces pieces = message_pieces(data, size);
	uint8_t block[PROPERTIES_WRITE];
	struct call message = {.message = true, .done = done, .userdata = userdata};
	int r = outbox_channel(calls->outbox, address, CHANNEL_MESSAGE, size, at_once, &message.sender);

	if (r < 0)
		return r;
	add_properties(&pieces, properties, block);
	return start(calls, &message, &pieces, size, NULL, at_once, started);
}

int calls_commit_message(struct calls *calls, size_t size, const struct properties *properties,
			 xenmsg_done done, void *userdata, struct call **started)
{
	const struct call message = {.message = true, .done = done, .userdata = userdata};

	return start(calls, &message, NULL, size, properties, false, started);
}

int calls_await(struct calls *calls, xenmsg_done done, void *userdata, struct call **started)
{
	struct call *call = malloc(sizeof(*call));

	if (!call)
		return -ENOMEM;
	*call = (struct call){.op.withdraw = withdraw_op,
			      .calls = calls,
			      .room = true,
			      .done = done,
			      .userdata = userdata,
			      .expires = -1};
	calls->rooms++;
	*started = call;
	return 0;
}

void call_end(struct call *call, int error)
{
	calls_complete(call, op_result(error), NULL);
}

void call_on_given_up(struct call *call, int (*given_up)(void *userdata, void *of), void *userdata, void *of)
{
	call->given_up = given_up;
	call->given_up_userdata = userdata;
	call->given_up_of = of;
}

int calls_await_room(struct calls *calls, struct sender *sender, size_t size, xenmsg_done done,
		     void *userdata, struct call **started)
{
	int r = calls_await(calls, done, userdata, started);
	struct call *call = *started;

	if (r < 0)
		return r;
	call->span = message_span(size);
	call->sender = sender;
	if (sender)
		DL_APPEND(sender->rooms, call);
	if (!sender || sender_has_room(sender, call->span))
		calls_complete(call, op_result(0), NULL);
	return 0;
}

/* Ends a call that was taken and whose time is up: completes it with -ETIMEDOUT and tells the server. */
static int calls_withdraw(struct call *call)
{
	struct transport *transport = call->calls->outbox->transport;
	uint32_t channel = call->caller->sender->number;
	uint8_t number[4];

	frame_u32_encode(call->numbered.number, number);
	calls_complete(call, op_result_unknown(-ETIMEDOUT, CALL_TAKEN), NULL);
	return transport_control(transport, FRAME_WITHDRAW, channel, number, sizeof(number));
}

/* Cancels a request that wasn't taken yet, as far as is known. A question changes nothing, so nobody needs to
 * know whether it was taken after all. */
static int cancel(struct call *call, int64_t now)
{
	struct outbox *outbox = call->calls->outbox;
	int r;

	call->expired = true;
	call->settled_by = now + UNREAD_MS;
	set_expiry(call, now + call->settle_ms);
	r = outbox_cancel(outbox, call->sender, call);
	if (r > 0 && call->read_answer)
		outbox_abandon(outbox, call->sender, call);
	return r < 0 ? r : 0;
}

/* The CANCEL hasn't been answered. As long as the daemon doesn't read, since it is handed over or starts
 * again, nobody can have answered: the next one finds message and CANCEL together. */
static void calls_settle(struct call *call, int64_t now)
{
	struct outbox *outbox = call->calls->outbox;
	bool was_unread = call->was_unread;

	call->was_unread = !transport_is_read(outbox->transport);
	if ((was_unread || call->was_unread) && now < call->settled_by)
		set_expiry(call, now + call->settle_ms);
	else
		outbox_abandon(outbox, call->sender, call);
}

/* Returns the result of one that waits, whose time is up. */
static struct op_result without_room(const struct call *call)
{
	struct op_result result = op_result(-ETIMEDOUT);

	if (call->given_up)
		result.reason = "not all calls were answered in time, and the others get no answer";
	else if (call->span)
		result.reason = "there was no room in time";
	return result;
}

int calls_expire(struct calls *calls)
{
	int64_t now = calls->timed ? now_ms() : 0;
	int r = 0;

	while (r == 0 && calls->timed && calls->timed->expires <= now) {
		struct call *call = calls->timed;

		forget_time(call);
		if (call->room) {
			r = call->given_up ? call->given_up(call->given_up_userdata, call->given_up_of) : 0;
			calls_complete(call, without_room(call), NULL);
		} else if (!call->unsettled)
			r = calls_withdraw(call);
		else if (call->expired)
			calls_settle(call, now);
		else
			r = cancel(call, now);
	}
	return r;
}

static int take_none(void *userdata, const void *data, size_t size)
{
	return 0;
}

static void tell_none(void *userdata, int error, const void *text, size_t size)
{
}

void calls_forsake(struct call *call)
{
	static const struct call_standing nobody = {.part = take_none, .ended = tell_none};

	call->standing = &nobody;
}

int calls_let_go(struct call *call)
{
	calls_forsake(call);
	return withdraw_op(&call->op);
}

/* ---- answers ------------------------------------------------------------------------------ */

static uint8_t type_of(const struct assembly *answer)
{
	return assembly_type(answer) & (uint8_t)~MESSAGE_PROPERTIES;
}

static bool calls_is_answer(uint8_t type)
{
	return type == MESSAGE_REPLY || type == MESSAGE_ERROR || type == MESSAGE_REFUSAL;
}

static void stamp_answer(const struct caller *caller, struct xenmsg_message *message)
{
	const struct sender *sender = caller->sender;

	message->origin = 0;
	message->sender.identity = sender->has_identity
					   ? sender->identity
					   : (struct frame_identity){UINT32_MAX, UINT32_MAX, UINT32_MAX, 0};
	message->sender.domain_name[0] = '\0';
	message->sender.serial = 0;
	address_part_copy(caller->to.host, message->sender.host, sizeof(message->sender.host));
	address_part_copy(caller->to.endpoint, message->sender.endpoint, sizeof(message->sender.endpoint));
}

/* The next call may find another server. What lies behind this one, on the same channel, isn't taken any
 * more, which its answers or the channel's end will say. */
static void calls_leave(struct caller *caller, struct numbered *refused)
{
	struct numbered *behind = refused->hh.next;

	if (!outbox_leave(caller->calls->outbox, caller->sender))
		return; /* at the first one that was refused all these were noted */
	for (; behind; behind = behind->hh.next)
		call_of(behind)->is_behind = true;
}

/* Passes over an answer for which there is no memory: its call ends with that, and no other. */
static void pass_over(struct caller *caller)
{
	caller->lacked = true;
	xenmsg_message_free(caller->answer.message);
	caller->answer.message = NULL;
}

#define PARTS_MOST (256u << 20) /* bytes of a reply of this daemon's; it is larger than any */

static bool is_own_daemons(const struct caller *caller)
{
	return address_part_is(caller->to.domain, "self") && !caller->to.host.data;
}

/* Returns how large a reply may be that comes in several messages: one of others as one message. */
static uint64_t most_parts(const struct caller *caller)
{
	return is_own_daemons(caller) ? PARTS_MOST : caller->calls->outbox->transport->max_message;
}

/* Lets a call to this daemon have as much time again for each part that is more than has come before, and no
 * longer: so hand-overs, after which a reply begins anew, can't make it last for ever. */
static void note_progress(struct call *call)
{
	if (!is_own_daemons(call->caller) || call->expires < 0 || call->expired ||
	    call->parts->size <= call->furthest)
		return;
	call->furthest = call->parts->size;
	forget_time(call);
	call_expires(call, deadline_in(call->timeout_ms), call->timeout_ms);
}

/* Gives a part to whom the call stands for. The first one begins it anew. -EPROTO: it isn't the next one, or
 * makes no sense. */
static int take_standing(struct call *call, struct xenmsg_message *message)
{
	uint32_t part = message->properties->part;

	if (part && part != call->next_part)
		return -EPROTO;
	call->next_part = part + 1;
	return call->standing->part(call->userdata, xenmsg_message_data(message),
				    xenmsg_message_size(message));
}

/* Takes a part of a reply. The first one begins it anew. Returns 0; or -EPROTO: it isn't the next one. */
static int take_part(struct caller *caller, struct call *call, struct xenmsg_message *message)
{
	uint32_t part = message->properties->part;
	bool has_more = message->properties->has_more;
	int r = 0;

	if (!address_part_is(caller->to.endpoint, DAEMON_ENDPOINT)) { /* only daemons send parts */
		xenmsg_message_free(message);
		return -EPROTO;
	}
	if (call->standing) {
		r = take_standing(call, message);
		xenmsg_message_free(message);
		if (r == -ENOMEM)
			calls_complete(call, op_result_unknown(-ENOMEM, CALL_REPLY_LACKED), NULL);
		return r == -ENOMEM ? 0 : r;
	}
	if (part == 0) {
		xenmsg_message_free(call->parts);
		call->parts = message;
	} else {
		r = !call->parts || part != call->next_part ? -EPROTO : message_append(call->parts, message);
		xenmsg_message_free(message);
	}
	if (r == -EPROTO)
		return r;
	call->next_part = part + 1;
	if (r < 0) {
		calls_complete(call, op_result_unknown(-ENOMEM, CALL_REPLY_LACKED), NULL);
	} else if (call->parts->size > most_parts(caller)) {
		calls_complete(call, op_result_unknown(-EMSGSIZE, CALL_REPLY_TOO_LARGE), NULL);
	} else if (has_more) {
		note_progress(call);
	} else {
		stamp_answer(caller, call->parts);
		calls_complete(call, op_result(0), call->parts);
	}
	return 0;
}

/* Returns 0, or -EPROTO: it makes no sense. */
static int finish_answer(struct caller *caller)
{
	const struct assembly *answer = &caller->answer;
	struct xenmsg_message *message = assembly_take(&caller->answer);
	uint32_t number = get_u32(answer->trailer + 4);
	int r = message && assembly_has_block(answer) ? message_take_block(message) : 0;
	bool lacked = caller->lacked || r == -ENOMEM;
	struct numbered *item;
	struct call *call;

	caller->lacked = false;
	if (r < 0) {
		xenmsg_message_free(message);
		message = NULL;
	}
	if (r == -EPROTO)
		return r;
	item = numbers_find(&caller->waiting, number);
	call = item ? call_of(item) : NULL;
	/* The call was withdrawn, or never made. */
	if (!call || get_u32(answer->trailer) == MESSAGE_CANCELLED) {
		xenmsg_message_free(message);
	} else if (type_of(answer) == MESSAGE_REFUSAL) {
		calls_leave(caller, item);
		xenmsg_message_free(message);
		calls_complete(call, op_result(frame_error(assembly_error(answer).number, -EPROTO)), NULL);
	} else if (type_of(answer) == MESSAGE_ERROR) {
		const struct message_error error = assembly_error(answer);

		if (message && message->size == 0) {
			xenmsg_message_free(message);
			message = NULL;
		}
		if (message)
			stamp_answer(caller, message);
		calls_complete(call, op_result_remote(error.number, error.exit_status, XENMSG_FATE_DONE),
			       message);
	} else if (!message && lacked) {
		calls_complete(call, op_result_unknown(-ENOMEM, CALL_REPLY_LACKED), NULL);
	} else if (!message) {
		calls_complete(call, op_result_unknown(-EMSGSIZE, CALL_REPLY_TOO_LARGE), NULL);
	} else if (message->has_properties && message->properties->is_part) {
		return take_part(caller, call, message);
	} else {
		stamp_answer(caller, message);
		calls_complete(call, op_result(0), message);
	}
	return 0;
}

/* Returns how large an answer may be, with its properties. */
static uint64_t most_of(const struct calls *calls, const struct assembly *answer)
{
	return calls->outbox->transport->max_message + (assembly_has_block(answer) ? PROPERTIES_MAX : 0);
}

/* Consumes some of the bytes. Returns how many; 0 if they make no sense. */
static uint32_t calls_feed(struct caller *caller, const uint8_t *data, uint32_t size)
{
	const struct calls *calls = caller->calls;
	struct assembly *answer = &caller->answer;
	uint64_t wanted;
	uint32_t n;

	if (answer->at < MESSAGE_HEAD_SIZE) {
		n = MESSAGE_HEAD_SIZE - (uint32_t)answer->at;
		if (n > size)
			n = size;
		memcpy(answer->head + answer->at, data, n);
		answer->at += n;
		if (answer->at < MESSAGE_HEAD_SIZE)
			return n;
		if (!calls_is_answer(type_of(answer)))
			return 0;
		if (assembly_size(answer) > most_of(calls, answer)) {
			assembly_skip(answer);
		} else if (assembly_begin(answer, calls->pool, size - n) < 0) {
			assembly_skip(answer);
			pass_over(caller);
		}
	} else if (answer->at < answer->trailer_at) {
		wanted = assembly_wants(answer);
		n = wanted < size ? (uint32_t)wanted : size;
		if (assembly_add(answer, data, n) < 0) {
			pass_over(caller);
			answer->at += n;
		}
	} else {
		wanted = answer->trailer_at + MESSAGE_TRAILER_SIZE - answer->at;
		n = wanted < size ? (uint32_t)wanted : size;
		memcpy(answer->trailer + (MESSAGE_TRAILER_SIZE - wanted), data, n);
		answer->at += n;
		if (n == wanted && finish_answer(caller) < 0)
			return 0;
	}
	return n;
}

int calls_frame(struct calls *calls, const struct frame_header *header, const uint8_t *payload)
{
	struct sender *sender = outbox_find(calls->outbox, header->channel);
	uint32_t left = header->length;

	/* Frames of a channel that has ended may still be in flight. */
	if (!sender)
		return 0;
	if (!sender->caller)
		return -EPROTO;
	while (left > 0) {
		uint32_t n = calls_feed(sender->caller, payload, left);

		if (n == 0)
			return outbox_reject(calls->outbox, sender);
		sender->taken += n;
		payload += n;
		left -= n;
	}
	if (calls->outbox->transport->pump && !sender->caller->unreported) {
		sender->caller->unreported = true;
		DL_APPEND(calls->unreported, sender->caller);
	}
	return 0;
}

int calls_report(struct calls *calls)
{
	struct caller *caller;
	int r = 0;

	while ((caller = calls->unreported) && r == 0) {
		DL_DELETE(calls->unreported, caller);
		caller->unreported = false;
		r = transport_credit(calls->outbox->transport, caller->sender->number, caller->sender->taken,
				     0);
	}
	return r;
}

/* ---- what waits for its receiver ---------------------------------------------------------- */

void awaited_fail(struct awaited *list, int error)
{
	struct awaiter *awaiter;
	struct awaited *place;

	DL_FOREACH(list, place)
		DL_FOREACH(place->list, awaiter)
			if (awaiter->rest && !awaiter->rest->op.settled) {
				awaiter->state = WAKING;
				call_end(awaiter->rest, error);
			}
}

bool awaited_take_refusal(struct awaited *list, uint32_t watch)
{
	struct awaiter *awaiter;
	struct awaited *place;

	DL_SEARCH_SCALAR(list, place, watch, (int)watch);
	if (!place)
		return false;
	place->watch = 0;
	DL_FOREACH(place->list, awaiter)
		if (awaiter->state == PARKED && !awaiter->rest->op.settled) {
			awaiter->state = WAKING;
			call_end(awaiter->rest, 0);
		}
	return true;
}

void awaited_free(struct awaited *list)
{
	struct awaiter *awaiter, *next_awaiter;
	struct awaited *place, *next;

	DL_FOREACH_SAFE(list, place, next) {
		DL_FOREACH_SAFE(place->list, awaiter, next_awaiter) {
			free(awaiter->trace);
			free(awaiter);
		}
		free(place);
	}
}

/* Limit of what waits for a caller that doesn't read: this, or twice the largest message. It is higher than a
 * sender's, since a program can't sleep until there is room for one reply and go on serving other callers. */
#define REPLIES_MIN (4u << 20)
/* Errors are small and always accepted, so that a request can always be ended. A caller that lets this many
 * bytes of them pile up doesn't read its answers, and loses its channel. */
#define ERRORS_MAX (1u << 20)

struct replies *replies_new(struct outbox *outbox, uint32_t number)
{
	struct replies *replies = calloc(1, sizeof(*replies));
	uint64_t most;

	if (!replies)
		return NULL;
	replies->outbox = outbox;
	replies->sender = sender_new("", number, CHANNEL_CALL);
	if (!replies->sender) {
		free(replies);
		return NULL;
	}
	replies->sender->limit = 0; /* only the opener starts with credit */
	most = 2 * outbox->transport->max_message;
	replies->sender->queue_most = most > REPLIES_MIN ? most : REPLIES_MIN;
	return replies;
}

static struct xenmsg_message *request_of(struct numbered *item)
{
	return NUMBERED_IN(item, struct xenmsg_message, numbered);
}

static void end_request(struct xenmsg_message *request, enum reply_state state)
{
	numbers_remove(&request->replies->requests, &request->numbered);
	request->reply = state;
	request->replies = NULL;
	if (state == REPLY_LOST)
		message_note_lost(request);
}

void replies_free(struct replies *replies)
{
	struct numbered *item, *next;

	if (!replies)
		return;
	NUMBERS_EACH(&replies->requests, item, next)
		end_request(request_of(item), REPLY_LOST);
	numbers_free(&replies->requests);
	if (replies->sender->rooms)
		replies->outbox->callbacks->room(replies->sender, -ECANCELED);
	outbox_detach(replies->outbox, replies->sender);
	sender_free(replies->sender);
	free(replies);
}

int replies_add(struct replies *replies, struct xenmsg_message *request, uint32_t number)
{
	int r = numbers_add(&replies->requests, &request->numbered, number);

	if (r < 0)
		return r == -EEXIST ? -EPROTO : r;
	request->reply = REPLY_OWED;
	request->replies = replies;
	return 0;
}

void replies_withdraw(struct replies *replies, uint32_t number)
{
	struct numbered *item = numbers_find(&replies->requests, number);

	if (item)
		end_request(request_of(item), REPLY_LOST);
}

bool replies_are_done(const struct replies *replies)
{
	return !numbers_first(&replies->requests) && fifo_size(&replies->sender->queue) == 0;
}

int replies_credit(struct replies *replies, uint64_t consumed, uint64_t limit)
{
	if (consumed > replies->sender->framed)
		return -EPROTO;
	if (consumed > replies->sender->consumed)
		replies->sender->consumed = consumed;
	outbox_credit(replies->outbox, replies->sender, limit);
	return 0;
}

/* ---- answering ---------------------------------------------------------------------------- */

int reply_put(struct xenmsg_message *request, enum message_type type, struct message_error error,
	      const void *data, size_t size)
{
	struct replies *replies = request->replies;
	struct message_pieces pieces = message_pieces(data, size);
	uint64_t queued = fifo_size(&replies->sender->queue);
	int r;

	if ((type == MESSAGE_REPLY || size > 0) && !sender_has_room(replies->sender, message_span(size)))
		return -EAGAIN;
	if (queued > 2 * replies->outbox->transport->max_message + REPLIES_MIN + ERRORS_MAX)
		return -ENOBUFS;
	message_pieces_mark(&pieces, type, error, request->numbered.number);
	r = outbox_put_reply(replies->outbox, replies->sender, &pieces);
	if (r == 0)
		end_request(request, REPLY_SENT);
	return r;
}

void reply_lose(struct xenmsg_message *request)
{
	request->withdrawn = NULL; /* it is the program that gives it up */
	end_request(request, REPLY_LOST);
}
