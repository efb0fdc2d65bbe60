/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/inbox.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/calls.h"
#include "libclient/message.h"
#include "libclient/outbox.h"
#include "wire/address.h"
#include "wire/bytes.h"
#include "wire/frame.h"
#include "wire/frame_ring.h"
#include "wire/probes.h"
#include "wire/untrusted_copy.h"
#include "wire/ut.h"

enum receiver_state { RECEIVER_OPEN, RECEIVER_RESET_SENT }; /* inbox.h draws them */

/* A channel that the daemon opened. */
struct receiver {
	struct receiver *prev, *next; /* in inbox->dirty */
	struct receiver *ending_prev, *ending_next;
	bool dirty, ending;
	enum receiver_state state;
	uint32_t number;
	uint64_t origin;	 /* marks messages that were filled in from this receiver */
	struct replies *replies; /* NULL: it isn't a channel of kind call */
	struct binding *binding; /* NULL once RESET was sent */
	uint16_t serial;	 /* as in OPEN */
	struct frame_identity sender;
	bool has_moved; /* it had another number or name, which earlier messages have */
	char sender_name[DOMAIN_NAME_MAX + 1];
	char sender_host[HOST_NAME_SIZE];
	uint64_t taken;	  /* offset in the stream up to which it was consumed */
	bool has_refused; /* a request: it takes no more */
	bool fin;	  /* the stream ends at: */
	uint64_t total;
	struct assembly part; /* a message that spans frames; its trailer stays in the ring */
	uint64_t *cancelled;  /* offsets of state words of messages to be skipped */
	uint32_t cancelled_count;
};

void inbox_init(struct inbox *inbox, struct transport *transport, struct outbox *outbox,
		struct message_pool *pool)
{
	*inbox = (struct inbox){.transport = transport, .outbox = outbox, .pool = pool};
	channel_table_init(&inbox->by_number, 1, CHANNEL_NUMBERS / 2);
}

/* The channel leads nowhere any more. The last one ends a binding that is drained. */
static void inbox_leave_binding(struct receiver *receiver)
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
	inbox_leave_binding(receiver);
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

/* ---- bindings ----------------------------------------------------------------------------- */

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

/* Sends RESET for a channel, and expects nothing more from it. Returns 0, -EPROTO or -ENOMEM. */
static int end_receiver(struct inbox *inbox, struct receiver *receiver, uint32_t error, uint32_t flags)
{
	if (receiver->state == RECEIVER_RESET_SENT)
		return 0;
	receiver->state = RECEIVER_RESET_SENT;
	inbox_leave_binding(receiver);
	assembly_drop(&receiver->part);
	replies_free(receiver->replies);
	receiver->replies = NULL;
	return send_reset(inbox, receiver, error, flags);
}

/* Lets the channel go on elsewhere, if others share the endpoint. But what lies behind a request that was
 * refused comes after that, which is up to its caller. */
static int leave_channel(struct inbox *inbox, struct receiver *receiver)
{
	return end_receiver(inbox, receiver, ENOENT, receiver->has_refused ? RESET_REFUSED : 0);
}

int inbox_reset(struct inbox *inbox, uint32_t number, uint32_t error)
{
	return end_receiver(inbox, channel_table_find(&inbox->by_number, number), error, 0);
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

	/* All of them leave the binding, which goes, whatever of that can be told. */
	while ((receiver = channel_table_next(&inbox->by_number, &number)))
		if (receiver->binding == binding) {
			int s = leave_channel(inbox, receiver);

			r = r < 0 ? r : s;
		}
	HASH_DEL(inbox->bindings, binding);
	free(binding);
	return r;
}

/* ---- what stays in the ring --------------------------------------------------------------- */

/* Messages that stay in the ring while the program has them, and what becomes of them when it has them for
 * too long. */

#define PAUSE_MIN 16u
#define PAUSE_MAX 4096u

static void note_held(struct inbox *inbox)
{
	inbox->transport->holds = inbox->held != NULL;
	if (inbox->held)
		inbox->transport->held_at = inbox->held->begin;
}

/* Puts private pages in place of those of the first held message, and of those that follow it closely. */
static int keep_some(struct inbox *inbox)
{
	struct xenmsg_message *message = inbox->held, *last = message;
	uint8_t *from = message->lent, *to = from + message->size;
	int r;

	while ((last = last->held_next) && last->mirror == message->mirror && last->lent >= to &&
	       last->lent - to < LEND_MIN)
		to = last->lent + last->size;
	r = mirror_keep(message->mirror, from, (uint32_t)(to - from));
	if (r < 0)
		return r;
	if (inbox->mirror == message->mirror) {
		mirror_release(inbox->mirror);
		inbox->mirror = NULL;
	}
	while (inbox->held != last) {
		message = inbox->held;
		DL_DELETE2(inbox->held, message, held_prev, held_next);
		message->holds = false;
	}
	note_held(inbox);
	return 0;
}

/* Lets the program keep what it holds of the ring, in private pages. Returns 0; or -ENOMEM: some of it is
 * still held. */
static int inbox_keep_held(struct inbox *inbox)
{
	uint32_t pause = inbox->lend_pause * 2;
	int r = 0;

	if (!inbox->held)
		return 0;
	inbox->lend_pause = inbox->lend_later = pause < PAUSE_MIN   ? PAUSE_MIN
						: pause > PAUSE_MAX ? PAUSE_MAX
								    : pause;
	while (r == 0 && inbox->held)
		r = keep_some(inbox);
	return r;
}

/* Lends the message whose payload begins `offset` bytes behind the front of the ring. Returns false if it is
 * to be copied. */
static __attribute__((noinline)) bool inbox_lend(struct inbox *inbox, struct xenmsg_message *message,
						 uint32_t size, uint32_t offset)
{
	struct transport *transport = inbox->transport;
	const struct ring_reader *ring = &transport->deliveries;
	uint32_t begin = ring->tail;

	if (!transport->shared || size < LEND_MIN || size > ring->ring.size / 4)
		return false;
	if (inbox->lend_later) {
		inbox->lend_later--;
		return false;
	}
	if (inbox->held && begin - transport->held_at + size > ring->ring.size / 2) {
		inbox_keep_held(inbox);
		return false;
	}
	if (inbox->mirror && inbox->mirror_of != transport->memories) { /* the ring lies elsewhere now */
		mirror_release(inbox->mirror);
		inbox->mirror = NULL;
	}
	if (!inbox->mirror) {
		inbox->mirror = mirror_new(&ring->ring);
		inbox->mirror_of = transport->memories;
	}
	if (!inbox->mirror) {
		inbox->lend_later = PAUSE_MAX;
		return false;
	}
	message->begin = begin;
	message->lent = mirror_at(inbox->mirror, begin + offset);
	message->mirror = inbox->mirror;
	message->holds = true;
	mirror_use(message->mirror);
	DL_APPEND2(inbox->held, message, held_prev, held_next);
	note_held(inbox);
	return true;
}

void inbox_take_back(struct inbox *inbox, struct xenmsg_message *message)
{
	DL_DELETE2(inbox->held, message, held_prev, held_next);
	message->holds = false;
	note_held(inbox);
	inbox->lend_pause /= 2;
	inbox->unreported +=
		(uint32_t)message->size; /* it may have been reported that nothing more was taken */
	/* Behind a RESET that isn't published yet, nothing is released. */
	if (!inbox->reset_sent)
		transport_release_quietly(inbox->transport);
}

/* ---- draining ----------------------------------------------------------------------------- */

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
static int inbox_refuse_request(struct inbox *inbox, const struct inbox_front *front)
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
	return r == -ENOBUFS ? end_receiver(inbox, front->receiver, ENOBUFS, 0) : r;
}

/* ---- frames about channels ---------------------------------------------------------------- */

/* Keeps the name of the sender's domain, if the daemon knows it. */
static void keep_sender_name(struct receiver *receiver, struct frame_text name)
{
	memset(receiver->sender_name, 0, sizeof(receiver->sender_name));
	if (name.size > 0 && domain_name_is_valid(name.data, name.size))
		memcpy(receiver->sender_name, name.data, name.size);
}

/* Its domain was restored, and has another number, or is called otherwise. Messages from now on say so. */
static int inbox_on_sender(struct receiver *receiver, const uint8_t *payload, uint32_t length)
{
	struct frame_sender sender;

	if (frame_sender_decode(payload, length, &sender) < 0)
		return -EPROTO;
	receiver->sender.domid = sender.domid;
	keep_sender_name(receiver, sender.domain_name);
	receiver->has_moved = true;
	return 0;
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
	if (open.kind == CHANNEL_CALL && !(receiver->replies = replies_new(inbox->outbox, number)))
		r = -ENOMEM;
	else
		r = channel_table_put(&inbox->by_number, number, receiver);
	if (r < 0) {
		replies_free(receiver->replies);
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
	if (receiver->binding && receiver->binding->asked)
		receiver->binding = NULL; /* it comes for one of this name that was unbound */
	TRACE(inbox->transport, "%.*s: channel %u comes from uid %u of domain %u, %u.%u.%u%s",
	      (int)open.name.size, open.name.data, number, open.identity.uid, open.identity.domid,
	      open.identity.domid, open.identity.pid, open.serial,
	      receiver->binding ? "" : ", but it isn't bound any more");
	if (!receiver->binding)
		return end_receiver(inbox, receiver, ENOENT, 0);
	receiver->binding->users++;
	if (open.kind != CHANNEL_MESSAGE && open.kind != CHANNEL_CALL)
		return end_receiver(inbox, receiver, EPROTONOSUPPORT, 0);
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
static int inbox_end_if_finished(struct inbox *inbox, struct receiver *receiver)
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

static int inbox_on_fin(struct inbox *inbox, struct receiver *receiver, const uint8_t *payload,
			uint32_t length)
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

#define CANCELLED_MAX (1u << 17) /* more messages than fit into what lies unread for one channel */

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
	} else if (receiver->cancelled_count >= CANCELLED_MAX) {
		return -EPROTO;
	} else {
		size_t count = receiver->cancelled_count;

		if ((count & (count - 1)) == 0) { /* room for as many again */
			grown = realloc(receiver->cancelled, 2 * (count + !count) * sizeof(*grown));
			if (!grown)
				return -ENOMEM;
			receiver->cancelled = grown;
		}
		receiver->cancelled[receiver->cancelled_count++] = answer.offset;
		answer.result = ECANCELED;
	}
	return transport_control(inbox->transport, FRAME_CANCELLED, receiver->number, out,
				 frame_cancelled_encode(&answer, out));
}

static int inbox_on_credit(struct inbox *inbox, struct receiver *receiver, const uint8_t *payload,
			   uint32_t length)
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
		return inbox_on_fin(inbox, receiver, payload, header->length);
	case FRAME_RESET:
		return inbox_on_reset(inbox, receiver, payload, header->length);
	case FRAME_CANCEL:
		return on_cancel(inbox, receiver, payload, header->length);
	case FRAME_CREDIT:
		return inbox_on_credit(inbox, receiver, payload, header->length);
	case FRAME_WITHDRAW:
		return on_withdraw(inbox, receiver, payload, header->length);
	case FRAME_SENDER:
		return inbox_on_sender(receiver, payload, header->length);
	default:
		return -EPROTO;
	}
}

/* Without shared memory the daemon hears also of the first half of what lies there. So it sees how long the
 * program takes for the rest, whenever that has begun. */
static bool is_worth_telling(struct inbox *inbox)
{
	const struct transport *transport = inbox->transport;
	uint32_t left = transport->deliveries.head - transport->deliveries.tail;

	if (!transport->pump)
		return inbox->unreported >= INBOX_RELEASE_AFTER;
	return inbox->unreported >= INBOX_REPORT_AFTER && inbox->unreported >= left;
}

int inbox_release(struct inbox *inbox, bool now)
{
	struct receiver *receiver, *next;
	bool quietly = !now && !is_worth_telling(inbox);
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
			r = transport_credit(inbox->transport, receiver->number, receiver->taken,
					     now ? 0 : CREDIT_MORE);
		if (r == 0)
			r = inbox_end_if_finished(inbox, receiver);
	}
	if (!now && transport_is_here(inbox->transport)) { /* else with what follows */
		transport_publish(inbox->transport);
		socket_pump_out(inbox->transport->pump);
	}
	return r;
}

/* ---- the message at the front ------------------------------------------------------------- */

static void inbox_tell_taken(const struct inbox *inbox, const struct receiver *receiver,
			     const struct xenmsg_message *message)
{
	TRACE(inbox->transport, "%s: took a message of %zu bytes from domain %u, %u.%u.%u@%llu",
	      message->sender.endpoint, message->size, receiver->sender.domid, receiver->sender.domid,
	      receiver->sender.pid, receiver->serial, (unsigned long long)receiver->taken);
	PROBE(6, xenmsg, receive, message->sender.endpoint, receiver->sender.domid, message->size,
	      receiver->sender.pid, receiver->serial, receiver->taken);
}

static void mark_dirty(struct inbox *inbox, struct receiver *receiver)
{
	if (!inbox->transport->pump || receiver->dirty)
		return;
	receiver->dirty = true;
	DL_APPEND(inbox->dirty, receiver);
}

/* Consumes bytes of the frame at the front. */
static void consume(struct inbox *inbox, struct receiver *receiver, uint32_t size)
{
	ring_reader_consume(&inbox->transport->deliveries, size);
	inbox->unreported += size;
	inbox->frame_left -= size;
	if (receiver) {
		receiver->taken += size;
		mark_dirty(inbox, receiver);
	}
	if (inbox->frame_left == 0) {
		ring_reader_consume(&inbox->transport->deliveries, inbox->frame_padding);
		inbox->unreported += inbox->frame_padding;
		inbox->frame_stale = false;
	}
}

void inbox_skip_frame(struct inbox *inbox)
{
	if (inbox->frame_left > 0)
		consume(inbox, NULL, inbox->frame_left);
}

/* Goes to the next frame. Returns 1 if there is one, with at least one byte; 0; or a negative errno. */
static int next_frame(struct inbox *inbox)
{
	struct ring_reader *ring = &inbox->transport->deliveries;

	for (;;) {
		struct frame_header header;
		uint32_t ready, size;
		int r = frame_next(ring, &header, &ready);

		/* A writer publishes whole frames only. */
		if (r <= 0)
			return r < 0 || ready == 0 ? r : -EPROTO;
		if (header.type != FRAME_DATA && header.type < FRAME_OPTIONAL)
			return -EPROTO;
		size = frame_size(header.length);
		if (header.type != FRAME_DATA || header.length == 0) {
			ring_reader_consume(ring, size);
			inbox->unreported += size;
			continue;
		}
		ring_reader_consume(ring, FRAME_HEADER_SIZE);
		inbox->unreported += FRAME_HEADER_SIZE;
		inbox->frame_channel = header.channel;
		inbox->receiver = NULL;
		inbox->frame_left = header.length;
		inbox->frame_padding = size - FRAME_HEADER_SIZE - header.length;
		inbox->frame_stale = false;
		return 1;
	}
}

/* Fills in who sent it. Usually an unused message was one of the same channel before and has all of it. */
static void fill_in(const struct receiver *receiver, struct xenmsg_message *message)
{
	if (message->origin == receiver->origin && !receiver->has_moved)
		return;
	message->origin = receiver->origin;
	message->sender.identity = receiver->sender;
	memcpy(message->sender.endpoint, receiver->binding->endpoint, sizeof(message->sender.endpoint));
	memcpy(message->sender.domain_name, receiver->sender_name, sizeof(message->sender.domain_name));
	memcpy(message->sender.host, receiver->sender_host, sizeof(message->sender.host));
	message->sender.serial = receiver->serial;
}

/* Adds the bytes of the frame to the message, or as many as lie in one piece. Returns 1 if only the trailer
 * is missing, 0 if more is to come, or -ENOMEM. */
static int continue_part(struct inbox *inbox, struct receiver *receiver)
{
	uint64_t wanted = assembly_wants(&receiver->part);
	struct iovec pieces[2];
	uint32_t size;

	if (wanted > inbox->frame_left)
		wanted = inbox->frame_left;
	if (wanted > 0) {
		ring_reader_peek(&inbox->transport->deliveries, 0, (uint32_t)wanted, pieces);
		size = (uint32_t)pieces[0].iov_len;
		if (assembly_add(&receiver->part, pieces[0].iov_base, size) < 0)
			return -ENOMEM;
		consume(inbox, receiver, size);
	}
	return inbox->frame_left > 0 && assembly_wants(&receiver->part) == 0;
}

static bool head_is_possible(const struct receiver *receiver, uint8_t type)
{
	type &= (uint8_t)~MESSAGE_PROPERTIES;
	return type == (receiver->replies ? MESSAGE_REQUEST : MESSAGE_PLAIN);
}

/* Copies the head to where the message may be assembled. Returns 1 if it makes sense, 0 if the channel was
 * reset, or a negative errno. */
static int read_head(struct inbox *inbox, struct receiver *receiver)
{
	struct assembly *part = &receiver->part;
	uint64_t most = inbox->transport->max_message;

	ring_reader_copy(&inbox->transport->deliveries, 0, part->head, sizeof(part->head));
	if (!head_is_possible(receiver, assembly_type(part)))
		return end_receiver(inbox, receiver, EPROTO, 0);
	if (assembly_has_block(part))
		most += PROPERTIES_MAX;
	if (assembly_size(part) > most)
		return end_receiver(inbox, receiver, EMSGSIZE, 0);
	return 1;
}

int inbox_front(struct inbox *inbox, struct inbox_front *front, bool *unknown_channel)
{
	*unknown_channel = false;
	for (;;) {
		struct receiver *receiver;
		struct assembly *part;
		bool whole = false; /* the message lies in this frame as a whole */
		int r;

		if (inbox->frame_left == 0) {
			r = next_frame(inbox);
			if (r <= 0)
				return r;
		}
		if (!inbox->receiver && !inbox->frame_stale)
			inbox->receiver = channel_table_find(&inbox->by_number, inbox->frame_channel);
		receiver = inbox->receiver;
		if (!receiver && !inbox->frame_stale) {
			*unknown_channel = true;
			return 0;
		}
		if (!receiver || receiver->state != RECEIVER_OPEN) {
			inbox_skip_frame(inbox);
			continue;
		}
		/* Frames carry multiples of 8 bytes, so a state word never straddles two of them. */
		if (inbox->frame_left % 8 != 0) {
			r = end_receiver(inbox, receiver, EPROTO, 0);
			if (r < 0)
				return r;
			continue;
		}
		part = &receiver->part;
		if (part->at == 0) {
			r = read_head(inbox, receiver);
			if (r < 0)
				return r;
			if (r == 0)
				continue;
			whole = message_span(assembly_size(part)) <= inbox->frame_left;
			if (!whole) {
				if (assembly_begin(part, inbox->pool, inbox->frame_left - MESSAGE_HEAD_SIZE) <
				    0)
					return -ENOMEM;
				consume(inbox, receiver, MESSAGE_HEAD_SIZE);
			}
		}
		r = whole ? 1 : continue_part(inbox, receiver);
		if (r > 0) {
			*front = (struct inbox_front){receiver, receiver->binding, assembly_size(part),
						      assembly_has_block(part)};
			if (!receiver->binding->drains)
				return 1;
			r = inbox_refuse_request(inbox, front);
		}
		if (r < 0)
			return r;
	}
}

bool inbox_front_quick(struct inbox *inbox, struct inbox_front *front)
{
	struct receiver *receiver = inbox->receiver;
	uint8_t copy[MESSAGE_HEAD_SIZE];
	const uint8_t *at;
	uint64_t head;
	uint32_t size;

	if (inbox->frame_left < MESSAGE_HEAD_SIZE || inbox->frame_left % 8 || !receiver ||
	    receiver->state != RECEIVER_OPEN || receiver->part.at)
		return false;
	at = ring_reader_piece(&inbox->transport->deliveries, MESSAGE_HEAD_SIZE);
	if (!at)
		return false;
	untrusted_copy(copy, at, sizeof(copy));
	head = get_u64(copy);
	size = (uint32_t)head;
	if (receiver->replies || head >> 32 != MESSAGE_PLAIN || size > inbox->transport->max_message ||
	    message_span(size) > inbox->frame_left)
		return false;
	*front = (struct inbox_front){receiver, receiver->binding, size, false};
	return true;
}

static bool was_cancelled(struct receiver *receiver, uint64_t state)
{
	for (uint32_t i = 0; i < receiver->cancelled_count; i++)
		if (receiver->cancelled[i] == state) {
			receiver->cancelled[i] = receiver->cancelled[--receiver->cancelled_count];
			return true;
		}
	return false;
}

/* Returns how many bytes lie in the ring before the trailer of the message at the front. */
static uint32_t before_trailer(const struct inbox_front *front)
{
	return front->receiver->part.message ? 0 : (uint32_t)message_span(front->size) - MESSAGE_TRAILER_SIZE;
}

/* Copies the block of properties that stands before the payload of a message that lies in the ring as a
 * whole. Returns its length, or -EPROTO: it makes no sense. */
static int copy_block(struct inbox *inbox, const struct inbox_front *front, uint8_t block[PROPERTIES_MAX],
		      struct properties *properties)
{
	const struct ring_reader *ring = &inbox->transport->deliveries;
	int length, r;

	if (front->size < PROPERTIES_HEAD)
		return -EPROTO;
	ring_reader_copy(ring, MESSAGE_HEAD_SIZE, block, PROPERTIES_HEAD);
	length = properties_length(block, front->size);
	if (length < 0)
		return length;
	ring_reader_copy(ring, MESSAGE_HEAD_SIZE, block, (uint32_t)length);
	r = properties_decode(block, (uint32_t)length, properties);
	return r < 0 ? r : length;
}

/* Makes a message for what lies in the ring as a whole, behind `before` bytes of properties, where it is lent
 * if `lends`. Returns NULL if memory has run out. */
static inline struct xenmsg_message *make_whole(struct inbox *inbox, uint32_t size, uint32_t before,
						bool lends)
{
	struct xenmsg_message *message = message_new(inbox->pool, lends ? 0 : size);

	if (message && lends && !inbox_lend(inbox, message, size, MESSAGE_HEAD_SIZE + before) &&
	    message_grow(message, size, size) < 0) {
		xenmsg_message_free(message);
		message = NULL;
	}
	return message;
}

/* Does the same for one with properties. Returns 0, -ENOMEM, or -EPROTO. */
static __attribute__((noinline)) int make_with_block(struct inbox *inbox, const struct inbox_front *front,
						     bool lends, struct xenmsg_message **made,
						     uint32_t *before)
{
	struct properties properties;
	uint8_t block[PROPERTIES_MAX];
	int length = copy_block(inbox, front, block, &properties);
	struct xenmsg_message *message;

	if (length < 0)
		return length;
	if (properties.notice.kind && front->size > (uint32_t)length)
		return -EPROTO; /* a notice has no payload */
	message = make_whole(inbox, front->size - (uint32_t)length, (uint32_t)length, lends);
	if (!message || message_set_properties(message, &properties) < 0) {
		xenmsg_message_free(message);
		return -ENOMEM;
	}
	*made = message;
	*before = (uint32_t)length;
	return 0;
}

int inbox_take(struct inbox *inbox, const struct inbox_front *front, struct xenmsg_message **taken)
{
	struct receiver *receiver = front->receiver;
	struct ring_reader *ring = &inbox->transport->deliveries;
	struct xenmsg_message *message = receiver->part.message;
	bool whole = !message, lends;
	uint32_t before = before_trailer(front), block = 0;
	uint8_t number[4];
	uint32_t sent = htole32(MESSAGE_SENT);
	bool mine;
	int r = 0;

	/* FIN, if it has come, is answered when the last one is taken: nothing may be held then. */
	lends = whole && front->binding->lends &&
		!(receiver->fin && receiver->taken + message_span(front->size) >= receiver->total);
	if (front->has_block)
		r = whole ? make_with_block(inbox, front, lends, &message, &block)
			  : message_take_block(message);
	else if (whole)
		message = make_whole(inbox, front->size, 0, lends);
	if (r < 0)
		return r == -EPROTO ? end_receiver(inbox, receiver, EPROTO, 0) : r;
	if (!message)
		return -ENOMEM;
	mine = !was_cancelled(receiver, receiver->taken + before) &&
	       __atomic_compare_exchange_n(ring_reader_word(ring, before), &sent, htole32(MESSAGE_TAKEN),
					   false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	if (whole) {
		if (mine && !message->lent)
			ring_reader_copy(ring, MESSAGE_HEAD_SIZE + block, message->data, front->size - block);
		message->size = front->size - block;
	}
	if (mine)
		fill_in(receiver, message);
	message->offset = receiver->taken + before;
	ring_reader_copy(ring, before + 4, number, sizeof(number));
	assembly_take(&receiver->part);
	consume(inbox, receiver, before + MESSAGE_TRAILER_SIZE);
	if (!mine) {
		xenmsg_message_free(message);
		/* The state is neither sent nor cancelled: the writer has violated the protocol. */
		if (sent != htole32(MESSAGE_SENT) && sent != htole32(MESSAGE_CANCELLED))
			return end_receiver(inbox, receiver, EPROTO, 0);
	} else {
		r = receiver->replies ? replies_add(receiver->replies, message, get_u32(number)) : 0;
		if (r < 0) {
			xenmsg_message_free(message);
			return end_receiver(inbox, receiver, (uint32_t)-r, 0);
		}
		inbox_tell_taken(inbox, receiver, message);
		*taken = message;
	}
	if (!receiver->fin)
		return mine;
	r = inbox_end_if_finished(inbox, receiver);
	/* -ENOMEM would say that it wasn't taken. It was, and the channel's end can't be said. */
	return r == -ENOMEM ? -EPROTO : r < 0 ? r : mine;
}

int inbox_peek(struct inbox *inbox, const struct inbox_front *front, struct xenmsg_message **copy)
{
	struct receiver *receiver = front->receiver;
	struct ring_reader *ring = &inbox->transport->deliveries;
	const struct xenmsg_message *part = receiver->part.message;
	uint32_t before = before_trailer(front);
	uint64_t offset = receiver->taken + before;
	bool sent =
		__atomic_load_n(ring_reader_word(ring, before), __ATOMIC_ACQUIRE) == htole32(MESSAGE_SENT);
	struct xenmsg_message *message;

	if (receiver->replies)
		return -EPROTOTYPE;
	for (uint32_t i = 0; i < receiver->cancelled_count; i++)
		sent = sent && receiver->cancelled[i] != offset;
	if (!sent)
		return inbox_take(inbox, front, copy);
	message = message_new(inbox->pool, front->size);
	if (!message)
		return -ENOMEM;
	if (part)
		memcpy(message->data, part->data, front->size);
	else
		ring_reader_copy(ring, MESSAGE_HEAD_SIZE, message->data, front->size);
	message->size = front->size;
	if (front->has_block) {
		int r = message_take_block(message);

		if (r < 0) {
			xenmsg_message_free(message);
			return r == -EPROTO ? end_receiver(inbox, receiver, EPROTO, 0) : r;
		}
	}
	message->offset = offset;
	fill_in(receiver, message);
	*copy = message;
	return 1;
}

bool inbox_is_front(const struct inbox_front *front, const struct xenmsg_message *copy)
{
	return front->receiver->origin == copy->origin &&
	       front->receiver->taken + before_trailer(front) == copy->offset;
}
