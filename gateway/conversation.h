/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_GATEWAY_CONVERSATION_H
#define XENMSG_GATEWAY_CONVERSATION_H

/*
 * The conversation with one other host: two directions of bytes over a network that delivers each message at
 * most once.
 *
 * It makes "in order, or the conversation is lost" of that. Each message of bytes says at which position they
 * stand: a gap, bytes that come twice with others behind them, more than was allowed, or silence where an
 * answer is due end the conversation at both ends. Nothing is sent again: the session of the two daemons
 * resumes (doc/decisions/0030) over the next conversation, which another nonce tells from this one. So
 * neither end keeps any bytes.
 *
 *                   our daemon asks               the daemon there asks
 *          NONE ────────────────────► ASKING        NONE ──────────────► ASKED
 *            ▲      CONNECT, repeated    │            ▲    INCOMING        │ accepted: ACCEPT
 *            │ refused, no answer        │ ACCEPT     │ declined: REFUSE   │
 *            ├───────────────────────────┤            ├────────────────────┤
 *            │                           ▼            │                    ▼
 *            └────────────────────────  OPEN ─────────┘                  OPEN
 *                 lost, or closed by either end
 *
 * Both ends may ask at once. Then the conversation stays that the host with the lower name asked for.
 *
 * There is no input or output in here and no clock: each call gets the time in milliseconds, and what is to
 * happen is told by the functions of `conversation_callbacks`, which must not call back into the
 * conversation.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/nats_message.h"

#define CONVERSATION_WINDOW  (2u << 20) /* bytes that an end takes before it says that it has taken any */
#define CONVERSATION_TICK_MS 250u	/* how often conversation_tick() is due */
#define CONVERSATION_REPEAT_MS                                                                               \
	1000u /* after which a CONNECT, or the question how far the other end is, is repeated */
#define CONVERSATION_QUESTIONS	8u     /* of the other end that are answered at once; one more in each tick */
#define CONVERSATION_SILENCE_MS 10000u /* after which an end that was asked and says nothing is lost */

enum conversation_state {
	CONVERSATION_NONE,
	CONVERSATION_ASKING,
	CONVERSATION_ASKED,
	CONVERSATION_OPEN,
};

struct conversation_callbacks {
	/* Publish this to the other host: a head without bytes. */
	void (*send)(void *userdata, const struct nats_message *message);
	/* Tell the daemon: */
	void (*incoming)(void *userdata, uint64_t id);
	void (*connected)(void *userdata, uint64_t id);
	void (*failed)(void *userdata, uint64_t id, int error, const char *why);
	/* The bytes of an OPEN conversation, for the daemon: conversation_taken() says when they have a place
	 * there. */
	void (*bytes)(void *userdata, const uint8_t *data, size_t size);
	/* An OPEN conversation has ended. What was given to bytes() still goes to the daemon. `why` NULL: one
	 * of the daemons wanted it. */
	void (*ended)(void *userdata, const char *why);
};

struct conversation {
	const struct conversation_callbacks *callbacks;
	void *userdata;
	bool is_lower;	    /* our host's name is the lower one */
	unsigned questions; /* of the other end, lately */

	enum conversation_state state;
	uint64_t id; /* as the daemon knows it, unless NONE */
	uint8_t nonce[MESSAGE_NONCE_SIZE];
	uint8_t over
		[MESSAGE_NONCE_SIZE]; /* the other end's last one that has ended: a late CONNECT is none */
	bool has_over, is_theirs;     /* is_theirs: the other end has drawn the nonce */

	uint64_t since_ms;  /* when the state began */
	uint64_t heard_ms;  /* when the other end last said something of this conversation */
	uint64_t asked_ms;  /* when this end last asked or sent */
	uint64_t closed_ms; /* when a CLOSE was last sent about a conversation that isn't known here */

	/* what leaves */
	uint64_t out; /* the position of the next byte */
	uint64_t out_acked;
	uint64_t out_limit; /* the other end takes bytes below this position */
	bool is_waiting;    /* there are bytes, and out_limit forbids them */
	/* what comes */
	uint64_t in;	   /* the position of the next byte */
	uint64_t in_taken; /* by the daemon */
	uint64_t in_limit; /* as the other end knows it */
	uint64_t in_acked; /* likewise, of `in` */
};

/* Begins with NONE. `callbacks` must outlive it. */
void conversation_init(struct conversation *conversation, const struct conversation_callbacks *callbacks,
		       void *userdata, bool is_lower);

/* Our daemon wants one. One that is OPEN ends; if the other end has asked and its name is the lower one, this
 * fails with EAGAIN. `nonce` must never have been used. */
void conversation_connect(struct conversation *conversation, uint64_t id,
			  const uint8_t nonce[MESSAGE_NONCE_SIZE], uint64_t now_ms);
/* Our daemon answers to incoming(). False: the other end doesn't wait for that any more; nothing has
 * happened. */
bool conversation_accept(struct conversation *conversation, uint64_t id, uint64_t now_ms);
bool conversation_decline(struct conversation *conversation, uint64_t id);
/* Our daemon is gone, or wants no more of it. */
void conversation_close(struct conversation *conversation);
/* The conversation is over without a word to the other end, which can't be reached: nothing may be sent. */
void conversation_lose(struct conversation *conversation, int error, const char *why);

/* A message has come. `id` is the one that a new conversation gets, which the other end asks for: true if it
 * was used. */
bool conversation_message(struct conversation *conversation, const struct nats_message *untrusted,
			  uint64_t id, uint64_t now_ms);

/* Returns how many bytes may be sent now. */
size_t conversation_room(const struct conversation *conversation);
/* Our daemon has bytes, and there is no room. */
void conversation_wait(struct conversation *conversation);
/* Fills in the head of the next `size` bytes, at most conversation_room(): the caller publishes them. */
void conversation_data(struct conversation *conversation, size_t size, struct nats_message *message,
		       uint64_t now_ms);
/* `size` bytes of those that were given to bytes() have a place in our daemon's ring. */
void conversation_taken(struct conversation *conversation, size_t size);

/* Repeats what was not answered, and notices silence. */
void conversation_tick(struct conversation *conversation, uint64_t now_ms);

#endif
