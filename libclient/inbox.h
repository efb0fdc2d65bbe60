/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_INBOX_H
#define XENMSG_LIBCLIENT_INBOX_H

/*
 * What the program receives: its bindings, and one `receiver` for each channel that the daemon has opened to
 * them. Frames about the channels come in the ring `in`; their DATA lies in `deliveries` until the program
 * takes the messages, in that order. A message that lies in one frame is copied straight from the ring; one
 * that spans several is assembled in private memory, which grows as the bytes arrive, so that a header alone
 * costs nothing.
 *
 * A request is a message, too; replies.c sends the replies on its channel.
 *
 * Where the binding says so, such a message isn't copied: the program gets it where it lies, in a mirror of
 * the ring, and nothing from its first byte on is released to the daemon before it is freed. If that takes
 * too long, because the program is about to sleep or half of the ring is held, the held messages get private
 * pages (message.h). Until then the daemon doesn't see that they were taken; a CANCEL meanwhile is answered
 * by the state word.
 *
 * Taking a message is a compare-and-swap of its state word from sent to taken (in the ring, where the daemon
 * may be cancelling it at the same time); if that fails, the message is skipped.
 *
 * States of a receiver:
 *
 *   OPEN ──FIN, all taken and all requests answered (then our FIN, behind each RESET)──▶ gone
 *   OPEN ──RESET (answered)──▶ gone
 *   OPEN ──we find the stream malformed, or the endpoint is unbound: RESET──▶ RESET_SENT ──RESET──▶ gone
 */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/helpers.h"
#include "libclient/transport.h"
#include "libclient/message.h"
#include "libclient/outbox.h"
#include "wire/channel_table.h"
#include "xenmsg.h"

/* bytes taken after which a sleeping daemon is woken to refill the ring, though more is there to take */
#define INBOX_RELEASE_AFTER 262144u
/* bytes taken that are worth a report of their own, without shared memory */
#define INBOX_REPORT_AFTER 4096u

struct call;
struct pattern;
struct receiver;

struct binding {
	char endpoint[ADDRESS_MAX + 1]; /* or the address of a topic to which the program has subscribed */
	xenmsg_message_handler handler;
	void *userdata;
	bool lends;		 /* its messages may stay in the ring until they are freed */
	uint32_t kinds;		 /* of BIND; 0: it is a subscription, */
	uint32_t subscribes;	 /* with these flags of SUBSCRIBE, */
	struct pattern *pattern; /* as a member of this (api_topics.c); NULL: by itself */
	uint64_t listeners;	 /* of a topic, as they were told last */
	bool has_ended;		 /* a subscription of which the program has had XENMSG_ENDED */
	uint32_t asked;		 /* number of the BIND for it that wasn't granted yet, 0: there is none */
	uint32_t users;		 /* channels that lead here */
	/* It isn't among inbox->bindings any more: it takes nothing new, and goes when its last channel
	 * does. */
	bool drains;
	struct call *drain; /* completed then; NULL: nobody waits for that */
	UT_hash_handle hh;
};

struct inbox {
	struct transport *transport;
	struct outbox *outbox; /* where the replies go */
	struct message_pool *pool;
	struct binding *bindings;	/* uthash */
	struct channel_table by_number; /* the odd numbers */
	/* utlist: receivers that had FIN and wait for replies, or for room for a RESET */
	struct receiver *ending;
	struct receiver *dirty; /* utlist; without shared memory: receivers with progress to report */
	/* what is left of the frame at the front of `deliveries` */
	uint32_t frame_channel, frame_left, frame_padding;
	struct receiver *receiver; /* of its channel; NULL: not looked up yet, or there is none */
	bool frame_stale;	   /* its channel has ended meanwhile */
	uint64_t last_origin;
	bool reset_sent;     /* a RESET may still be unpublished; nothing is released before it */
	uint32_t unreported; /* bytes taken since the daemon was last offered a notification */
	/* utlist, in the order of the ring: messages that the program has and that lie there */
	struct xenmsg_message *held;
	struct mirror *mirror; /* in which the next are lent; NULL: not made yet */
	uint32_t mirror_of;    /* the memory that it mirrors (transport->memories) */
	/* After a copy, since the program held messages for too long, so many are copied at once: more each
	 * time. */
	uint32_t lend_pause, lend_later;
};

/* Initializes the inbox, which closes the pool when it is freed. */
void inbox_init(struct inbox *inbox, struct transport *transport, struct outbox *outbox,
		struct message_pool *pool);
void inbox_free(struct inbox *inbox);
/* Lets go of all that came from a daemon that has gone. The bindings stay, and what the program holds. */
void inbox_leave(struct inbox *inbox);

/* Ends what waits for room for replies, or until an endpoint is drained, since the session is over. */
void inbox_fail(struct inbox *inbox, int error);
/* Ends only the latter: it isn't known whether the callers have their answers. */
void inbox_fail_drains(struct inbox *inbox, int error);

/* Enters a binding of the program, before the daemon is asked. Returns 0 or -ENOMEM. */
int inbox_bind(struct inbox *inbox, const char *endpoint, uint32_t kinds, bool lends,
	       xenmsg_message_handler handler, void *userdata);
struct binding *inbox_find(struct inbox *inbox, const char *endpoint, size_t size);
/* Finds the binding for which this BIND was posted; NULL: it has been removed. */
struct binding *inbox_find_asked(struct inbox *inbox, uint32_t asked);
/* Ends the channels to the endpoint and removes its binding, before the daemon is told. */
int inbox_unbind(struct inbox *inbox, struct binding *binding);

/* Ends the channels to the endpoint, but those on which calls are in service: these end when all are
 * answered. `drain` is completed when none is left, which may be now. Returns 0, -ENOMEM or -EPROTO. */
int inbox_drain(struct inbox *inbox, struct binding *binding, struct call *drain);

/* Ends an existing channel with RESET. */
int inbox_reset(struct inbox *inbox, uint32_t number, uint32_t error);
/* Ends those channels of inbox->ending that can end by now. */
int inbox_end_some(struct inbox *inbox);
/* Handles a frame about a channel that the daemon opened, except DATA. Returns 0, -EPROTO or -ENOMEM. */
int inbox_frame(struct inbox *inbox, const struct frame_header *header, const uint8_t *payload);

/* The message at the front of `deliveries`, which stays there. */
struct inbox_front {
	struct receiver *receiver;
	struct binding *binding;
	uint32_t size;	/* of the payload and the properties before it */
	bool has_block; /* there are properties */
};
/* Finds the message at the front. Returns 1 if there is one, 0 if there is none yet, -EPROTO or -ENOMEM. Sets
 * *unknown_channel if DATA has come whose OPEN is still unread in `in`. */
int inbox_front(struct inbox *inbox, struct inbox_front *front, bool *unknown_channel);
/* Discards the frame of a channel that doesn't exist, after all of `in` was read. */
void inbox_skip_frame(struct inbox *inbox);
/* Finds the message in the most frequent case: a plain one that lies in the ring as a whole, behind another
 * in its frame. Returns false if it isn't that, and inbox_front() must look. */
bool inbox_front_quick(struct inbox *inbox, struct inbox_front *front);
/* Takes the message at the front. Returns 1 with *message the caller's, 0 if it had been cancelled, -ENOMEM
 * (it stays) or -EPROTO. */
int inbox_take(struct inbox *inbox, const struct inbox_front *front, struct xenmsg_message **message);
/* Copies the message at the front. Returns 1 with *copy the caller's, 0 if it had been cancelled and was
 * skipped, -EPROTOTYPE if it is a request, -ENOMEM or -EPROTO. */
int inbox_peek(struct inbox *inbox, const struct inbox_front *front, struct xenmsg_message **copy);
/* Returns whether this copy is of the message at the front. */
bool inbox_is_front(const struct inbox_front *front, const struct xenmsg_message *copy);
/* Ends the channel of the message at the front: neither that nor what stands behind it there is taken. */
int inbox_refuse(struct inbox *inbox, const struct inbox_front *front, uint32_t error);
/* Tells the daemon what was taken: with `now` at once, else when enough has come together. */
int inbox_release(struct inbox *inbox, bool now);
/* Lets the daemon see what was taken, without waking it. */
static inline int inbox_release_quietly(struct inbox *inbox)
{
	if (inbox->reset_sent || inbox->dirty || inbox->unreported >= INBOX_RELEASE_AFTER)
		return inbox_release(inbox, false);
	transport_release_quietly(inbox->transport);
	return 0;
}
/* Releases what a message held in the ring, and what only that held up; called when it is freed. */
void inbox_take_back(struct inbox *inbox, struct xenmsg_message *message);

#endif
