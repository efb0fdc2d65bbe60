/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/inbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "libclient/message.h"
#include "libclient/calls.h"
#include "libclient/inbox_internal.h"
#include "libclient/replies.h"
#include "libclient/sender.h"

void inbox_init(struct inbox *inbox, struct transport *transport, struct outbox *outbox,
		struct message_pool *pool)
{
	*inbox = (struct inbox){.transport = transport, .outbox = outbox, .pool = pool};
	channel_table_init(&inbox->by_number, 1, CHANNEL_NUMBERS / 2);
}

/* The channel leads nowhere any more. The last one ends a binding that is drained. */
static void leave_binding(struct receiver *receiver)
{
	struct binding *binding = receiver->binding;

	receiver->binding = NULL;
	if (!binding || --binding->users || !binding->drains)
		return;
	if (binding->drain)
		call_end(binding->drain, 0);
	free(binding);
}

static void remove_receiver(struct inbox *inbox, struct receiver *receiver)
{
	leave_binding(receiver);
	assembly_drop(&receiver->part);
	replies_free(receiver->replies);
	if (receiver->dirty)
		DL_DELETE(inbox->dirty, receiver);
	if (receiver->ending)
		DL_DELETE2(inbox->ending, receiver, ending_prev, ending_next);
	if (inbox->receiver == receiver) {
		inbox->receiver = NULL;
		inbox->frame_stale = inbox->frame_left > 0;
	}
	channel_table_remove(&inbox->by_number, receiver->number);
	free(receiver->cancelled);
	free(receiver);
}

void inbox_leave(struct inbox *inbox)
{
	struct xenmsg_message *message, *next;
	struct receiver *receiver;
	uint32_t number = 0;

	while ((receiver = channel_table_next(&inbox->by_number, &number)))
		remove_receiver(inbox, receiver);
	channel_table_free(&inbox->by_number);
	/* They stay where they lie, in the mirror, which they use. */
	DL_FOREACH_SAFE2(inbox->held, message, next, held_next)
		message->holds = false;
	mirror_release(inbox->mirror);
	*inbox = (struct inbox){.transport = inbox->transport,
				.outbox = inbox->outbox,
				.pool = inbox->pool,
				.bindings = inbox->bindings,
				.last_origin = inbox->last_origin};
	channel_table_init(&inbox->by_number, 1, CHANNEL_NUMBERS / 2);
}

void inbox_free(struct inbox *inbox)
{
	struct binding *binding, *next;

	inbox_leave(inbox);
	channel_table_free(&inbox->by_number);
	HASH_ITER(hh, inbox->bindings, binding, next) {
		HASH_DEL(inbox->bindings, binding);
		free(binding);
	}
	message_pool_close(inbox->pool);
}

void inbox_fail_drains(struct inbox *inbox, int error)
{
	struct receiver *receiver;
	uint32_t number = 0;

	while ((receiver = channel_table_next(&inbox->by_number, &number)))
		if (receiver->binding && receiver->binding->drain) {
			call_end(receiver->binding->drain, error);
			receiver->binding->drain = NULL;
		}
}

void inbox_fail(struct inbox *inbox, int error)
{
	struct receiver *receiver;
	uint32_t number = 0;

	while ((receiver = channel_table_next(&inbox->by_number, &number)))
		if (receiver->replies && receiver->replies->sender->rooms)
			inbox->outbox->callbacks->room(receiver->replies->sender, error);
	inbox_fail_drains(inbox, error);
}

/* ---- bindings -------------------------------------------------------------------------------- */

int inbox_bind(struct inbox *inbox, const char *endpoint, uint32_t kinds, bool lends,
	       xenmsg_message_handler handler, void *userdata)
{
	struct binding *binding = calloc(1, sizeof(*binding));

	if (!binding)
		return -ENOMEM;
	memcpy(binding->endpoint, endpoint, strlen(endpoint) + 1);
	binding->handler = handler;
	binding->userdata = userdata;
	binding->lends = lends;
	binding->kinds = kinds;
	HASH_ADD_STR(inbox->bindings, endpoint, binding);
	if (!HASH_ADDED(binding)) {
		free(binding);
		return -ENOMEM;
	}
	return 0;
}

struct binding *inbox_find(struct inbox *inbox, const char *endpoint, size_t size)
{
	struct binding *binding;

	HASH_FIND(hh, inbox->bindings, endpoint, size, binding);
	return binding;
}

struct binding *inbox_find_asked(struct inbox *inbox, uint32_t asked)
{
	struct binding *binding, *next;

	HASH_ITER(hh, inbox->bindings, binding, next)
		if (binding->asked == asked)
			return binding;
	return NULL;
}

/* Tells the daemon that nothing beyond `taken` will be taken. */
static int send_reset(struct inbox *inbox, const struct receiver *receiver, uint32_t error, uint32_t flags)
{
	inbox->reset_sent = true;
	TRACE(inbox->transport, "channel %u ends here with %s, at %llu", receiver->number,
	      trace_outcome(-(int)error), (unsigned long long)receiver->taken);
	return transport_reset(inbox->transport, receiver->number, error, flags, receiver->taken);
}

static int end_receiver(struct inbox *inbox, struct receiver *receiver, uint32_t error, uint32_t flags)
{
	if (receiver->state == RECEIVER_RESET_SENT)
		return 0;
	receiver->state = RECEIVER_RESET_SENT;
	leave_binding(receiver);
	assembly_drop(&receiver->part);
	replies_free(receiver->replies);
	receiver->replies = NULL;
	return send_reset(inbox, receiver, error, flags);
}

int inbox_reset_receiver(struct inbox *inbox, struct receiver *receiver, uint32_t error)
{
	return end_receiver(inbox, receiver, error, 0);
}

/* Lets the channel go on elsewhere, if others share the endpoint. But what lies behind a request that was
 * refused comes after that, which is up to its caller. */
static int leave_channel(struct inbox *inbox, struct receiver *receiver)
{
	return end_receiver(inbox, receiver, ENOENT, receiver->has_refused ? RESET_REFUSED : 0);
}

int inbox_reset(struct inbox *inbox, uint32_t number, uint32_t error)
{
	return inbox_reset_receiver(inbox, channel_table_find(&inbox->by_number, number), error);
}

int inbox_refuse(struct inbox *inbox, const struct inbox_front *front, uint32_t error)
{
	return end_receiver(inbox, front->receiver, error, RESET_REFUSED);
}

int inbox_unbind(struct inbox *inbox, struct binding *binding)
{
	struct receiver *receiver;
	uint32_t number = 0;
	int r = 0;

	while (r == 0 && (receiver = channel_table_next(&inbox->by_number, &number)))
		if (receiver->binding == binding)
			r = leave_channel(inbox, receiver);
	HASH_DEL(inbox->bindings, binding);
	free(binding);
	return r;
}

/* ---- draining -------------------------------------------------------------------------------- */

/* Ends a channel that is drained, if all that was taken is answered and the caller has the answers. */
static int end_if_drained(struct inbox *inbox, struct receiver *receiver)
{
	const struct replies *replies = receiver->replies;

	if (receiver->state != RECEIVER_OPEN || !receiver->binding->drains ||
	    (replies && (!replies_are_done(replies) || replies->sender->consumed < replies->sender->framed)))
		return 0;
	return leave_channel(inbox, receiver);
}

/* Goes through all channels to it: ends them, or only those that are drained. */
static int end_channels(struct inbox *inbox, const struct binding *binding, bool all)
{
	struct receiver *receiver;
	uint32_t number = 0, left = binding->users;
	int r = 0;

	while (r == 0 && left && (receiver = channel_table_next(&inbox->by_number, &number)))
		if (receiver->binding == binding) {
			left--; /* the last one may free the binding */
			r = all ? leave_channel(inbox, receiver) : end_if_drained(inbox, receiver);
		}
	return r;
}

static int give_up_drain(void *userdata, void *of)
{
	struct binding *binding = of;

	binding->drain = NULL;
	return end_channels(userdata, binding, true);
}

int inbox_drain(struct inbox *inbox, struct binding *binding, struct call *drain)
{
	HASH_DEL(inbox->bindings, binding);
	binding->drains = true;
	binding->drain = drain;
	call_on_given_up(drain, give_up_drain, inbox, binding);
	if (binding->users)
		return end_channels(inbox, binding, false);
	call_end(drain, 0);
	free(binding);
	return 0;
}

/* Refuses the request at the front, which has come to an endpoint that is drained: it isn't handed to the
 * program. */
int inbox_refuse_request(struct inbox *inbox, const struct inbox_front *front)
{
	const struct message_error no_endpoint = {.number = ENOENT};
	struct xenmsg_message *request = NULL;
	int r = inbox_take(inbox, front, &request);

	if (r <= 0)
		return r;
	front->receiver->has_refused = true;
	r = reply_put(request, MESSAGE_REFUSAL, no_endpoint, NULL, 0);
	if (request->reply == REPLY_OWED)
		reply_lose(request);
	xenmsg_message_free(request);
	return r == -ENOBUFS ? inbox_reset_receiver(inbox, front->receiver, ENOBUFS) : r;
}

/* ---- frames about channels ------------------------------------------------------------------- */

/* Keeps the name of the sender's domain, if the daemon knows it. */
static void keep_sender_name(struct receiver *receiver, struct frame_text name)
{
	if (name.size > 0 && domain_name_is_valid(name.data, name.size))
		memcpy(receiver->sender_name, name.data, name.size);
}

static int inbox_on_open(struct inbox *inbox, uint32_t number, const uint8_t *payload, uint32_t length)
{
	struct receiver *receiver;
	struct frame_open open;
	int r;

	if (frame_open_decode(payload, length, &open) < 0)
		return -EPROTO;
	receiver = calloc(1, sizeof(*receiver));
	if (!receiver)
		return -ENOMEM;
	r = channel_table_put(&inbox->by_number, number, receiver);
	if (r < 0) {
		free(receiver);
		return r;
	}
	receiver->number = number;
	receiver->origin = ++inbox->last_origin;
	receiver->sender = open.identity;
	frame_open_split(&open);
	keep_sender_name(receiver, open.domain_name);
	if (host_name_is_valid(open.host.data, open.host.size))
		memcpy(receiver->sender_host, open.host.data, open.host.size);
	/* The daemon has opened a subscription's, and the publisher's messages have other offsets. */
	receiver->serial = address_is_meant(open.name.data, open.name.size) ? 0 : open.serial;
	receiver->binding = inbox_find(inbox, open.name.data, open.name.size);
	TRACE(inbox->transport, "%.*s: channel %u comes from uid %u of domain %u, %u.%u.%u%s",
	      (int)open.name.size, open.name.data, number, open.identity.uid, open.identity.domid,
	      open.identity.domid, open.identity.pid, open.serial,
	      receiver->binding ? "" : ", but it isn't bound any more");
	if (!receiver->binding)
		return inbox_reset_receiver(inbox, receiver, ENOENT);
	receiver->binding->users++;
	if (open.kind == CHANNEL_CALL) {
		receiver->replies = replies_new(inbox->outbox, number);
		return receiver->replies ? 0 : -ENOMEM;
	}
	if (open.kind != CHANNEL_MESSAGE)
		return inbox_reset_receiver(inbox, receiver, EPROTONOSUPPORT);
	/* The daemon answers the opener for this program: it knows our endpoints, and nothing but the ring
	 * limits what it may send here. */
	return 0;
}

/* What is released counts as taken, unless the channel was reset before, so the daemon must see the RESET
 * first. Returns 1 if it does, or there is none; 0 if there is no room for it yet; -EPROTO or -ENOMEM. */
static int show_resets(struct inbox *inbox)
{
	bool blocked;
	int r;

	if (!inbox->reset_sent)
		return 1;
	r = transport_flush_backlog(inbox->transport, &blocked);
	if (r < 0 || blocked)
		return r;
	transport_publish(inbox->transport);
	inbox->reset_sent = false;
	return 1;
}

/* Sends FIN when all was taken and answered. FIN says that all was taken, so it follows the report of that:
 * the ring's consumer index, or CREDIT. */
int inbox_end_if_finished(struct inbox *inbox, struct receiver *receiver)
{
	int r;

	if (receiver->state != RECEIVER_OPEN || !receiver->fin || receiver->taken < receiver->total ||
	    receiver->dirty)
		return 0;
	r = receiver->replies && !replies_are_done(receiver->replies) ? 0 : show_resets(inbox);
	if (r < 0)
		return r;
	if (r == 0) {
		if (!receiver->ending)
			DL_APPEND2(inbox->ending, receiver, ending_prev, ending_next);
		receiver->ending = true;
		return 0;
	}
	r = inbox_keep_held(inbox);
	if (r < 0)
		return r;
	transport_release_deliveries(inbox->transport, true);
	r = transport_offset(inbox->transport, FRAME_FIN, receiver->number,
			     receiver->replies ? receiver->replies->sender->framed : 0);
	remove_receiver(inbox, receiver);
	return r;
}

int inbox_end_some(struct inbox *inbox)
{
	struct receiver *receiver, *next;
	int r = 0;

	DL_FOREACH_SAFE2(inbox->ending, receiver, next, ending_next)
		if (r == 0)
			r = inbox_end_if_finished(inbox, receiver);
	return r;
}

static int on_fin(struct inbox *inbox, struct receiver *receiver, const uint8_t *payload, uint32_t length)
{
	if (frame_u64_decode(payload, length, &receiver->total) < 0)
		return -EPROTO;
	if (receiver->state != RECEIVER_OPEN || receiver->fin)
		return 0;
	receiver->fin = true;
	return inbox_end_if_finished(inbox, receiver);
}

static int inbox_on_reset(struct inbox *inbox, struct receiver *receiver, const uint8_t *payload,
			  uint32_t length)
{
	struct frame_reset reset;
	int r = 0;

	if (frame_reset_decode(payload, length, &reset) < 0)
		return -EPROTO;
	if (receiver->state != RECEIVER_RESET_SENT)
		r = send_reset(inbox, receiver, reset.error, 0);
	remove_receiver(inbox, receiver);
	return r;
}

static int on_cancel(struct inbox *inbox, struct receiver *receiver, const uint8_t *payload, uint32_t length)
{
	struct frame_cancelled answer;
	uint8_t out[FRAME_SMALL_MAX];
	uint64_t *grown;

	if (frame_u64_decode(payload, length, &answer.offset) < 0)
		return -EPROTO;
	if (receiver->state != RECEIVER_OPEN)
		return 0;
	if (answer.offset < receiver->taken) {
		answer.result = 0;
	} else {
		grown = realloc(receiver->cancelled, (receiver->cancelled_count + 1) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		receiver->cancelled = grown;
		grown[receiver->cancelled_count++] = answer.offset;
		answer.result = ECANCELED;
	}
	return transport_control(inbox->transport, FRAME_CANCELLED, receiver->number, out,
				 frame_cancelled_encode(&answer, out));
}

static int on_credit(struct inbox *inbox, struct receiver *receiver, const uint8_t *payload, uint32_t length)
{
	struct frame_credit credit;
	int r;

	if (frame_credit_decode(payload, length, &credit) < 0)
		return -EPROTO;
	/* This end sends nothing on a channel of messages. */
	if (!receiver->replies)
		return 0;
	r = replies_credit(receiver->replies, credit.consumed, credit.limit);
	return r < 0 ? r : end_if_drained(inbox, receiver);
}

static int on_withdraw(struct inbox *inbox, struct receiver *receiver, const uint8_t *payload,
		       uint32_t length)
{
	uint32_t number;
	int r;

	if (frame_u32_decode(payload, length, &number) < 0)
		return -EPROTO;
	if (receiver->state != RECEIVER_OPEN)
		return 0;
	if (!receiver->replies)
		return -EPROTO;
	replies_withdraw(receiver->replies, number);
	r = end_if_drained(inbox, receiver);
	return r < 0 ? r : inbox_end_if_finished(inbox, receiver);
}

int inbox_frame(struct inbox *inbox, const struct frame_header *header, const uint8_t *payload)
{
	struct receiver *receiver;

	if (header->type == FRAME_OPEN)
		return inbox_on_open(inbox, header->channel, payload, header->length);
	receiver = channel_table_find(&inbox->by_number, header->channel);
	if (!receiver)
		return transport_take_late(inbox->transport, header, payload);
	switch (header->type) {
	case FRAME_FIN:
		return on_fin(inbox, receiver, payload, header->length);
	case FRAME_RESET:
		return inbox_on_reset(inbox, receiver, payload, header->length);
	case FRAME_CANCEL:
		return on_cancel(inbox, receiver, payload, header->length);
	case FRAME_CREDIT:
		return on_credit(inbox, receiver, payload, header->length);
	case FRAME_WITHDRAW:
		return on_withdraw(inbox, receiver, payload, header->length);
	default:
		return -EPROTO;
	}
}

int inbox_release(struct inbox *inbox, bool now)
{
	struct receiver *receiver, *next;
	bool quietly = !now && inbox->unreported < INBOX_RELEASE_AFTER;
	int r = 0;

	/* The program may sleep next. If there is no memory, they stay held until they are freed. */
	if (now && inbox->held) {
		inbox_keep_held(inbox);
		inbox->unreported++;
	}
	if (inbox->unreported == 0)
		return 0;
	r = show_resets(inbox);
	if (r <= 0)
		return r;
	r = 0;
	if (!quietly)
		inbox->unreported = 0;
	transport_release_deliveries(inbox->transport, quietly);
	if (quietly || !inbox->dirty)
		return 0;
	DL_FOREACH_SAFE(inbox->dirty, receiver, next) {
		DL_DELETE(inbox->dirty, receiver);
		receiver->dirty = false;
		if (receiver->state == RECEIVER_OPEN && r == 0)
			r = transport_credit(inbox->transport, receiver->number, receiver->taken, 0);
		if (r == 0)
			r = inbox_end_if_finished(inbox, receiver);
	}
	return r;
}
