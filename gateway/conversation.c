/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/conversation.h"

#include <errno.h>
#include <string.h>

/* The other end is told of room again when this much of the window has been taken. */
#define WINDOW_STEP (CONVERSATION_WINDOW / 2)

void conversation_init(struct conversation *conversation, const struct conversation_callbacks *callbacks,
		       void *userdata, bool is_lower)
{
	*conversation =
		(struct conversation){.callbacks = callbacks, .userdata = userdata, .is_lower = is_lower};
}

/* --- what is said ----------------------------------------------------------------------------- */

static void say_about(struct conversation *conversation, const uint8_t nonce[MESSAGE_NONCE_SIZE],
		      struct nats_message message)
{
	memcpy(message.nonce, nonce, MESSAGE_NONCE_SIZE);
	conversation->callbacks->send(conversation->userdata, &message);
}

static void conversation_say(struct conversation *conversation, enum nats_message_kind kind)
{
	say_about(
		conversation, conversation->nonce,
		(struct nats_message){
			.kind = kind,
			.window = kind == MESSAGE_CONNECT || kind == MESSAGE_ACCEPT ? CONVERSATION_WINDOW : 0,
			.position = kind == MESSAGE_DATA ? conversation->out : 0,
		});
}

static void say_how_far(struct conversation *conversation)
{
	conversation->in_limit = conversation->in_taken + CONVERSATION_WINDOW;
	conversation->in_acked = conversation->in;
	say_about(conversation, conversation->nonce,
		  (struct nats_message){
			  .kind = MESSAGE_ACK,
			  .window = (uint32_t)(conversation->in_limit - conversation->in),
			  .position = conversation->in,
		  });
}

/* --- from state to state ---------------------------------------------------------------------- */

static void conversation_begin(struct conversation *conversation, enum conversation_state state, uint64_t id,
			       const uint8_t nonce[MESSAGE_NONCE_SIZE], uint64_t now_ms)
{
	conversation->state = state;
	conversation->id = id;
	memcpy(conversation->nonce, nonce, MESSAGE_NONCE_SIZE);
	conversation->is_theirs = state == CONVERSATION_ASKED;
	conversation->since_ms = conversation->heard_ms = conversation->asked_ms = now_ms;
}

static void open_with(struct conversation *conversation, uint64_t now_ms)
{
	conversation->state = CONVERSATION_OPEN;
	conversation->since_ms = conversation->heard_ms = conversation->asked_ms = now_ms;
	conversation->out = conversation->out_acked = 0;
	conversation->in = conversation->in_taken = conversation->in_acked = 0;
	conversation->in_limit = CONVERSATION_WINDOW;
	conversation->is_waiting = false;
}

static void conversation_end(struct conversation *conversation)
{
	conversation->state = CONVERSATION_NONE;
	if (conversation->is_theirs) {
		memcpy(conversation->over, conversation->nonce, MESSAGE_NONCE_SIZE);
		conversation->has_over = true;
	}
}

/* The conversation is over for a reason of ours: tells the daemon. */
static void lose(struct conversation *conversation, int error, const char *why)
{
	enum conversation_state state = conversation->state;

	conversation_end(conversation);
	if (state == CONVERSATION_ASKING)
		conversation->callbacks->failed(conversation->userdata, conversation->id, error, why);
	else if (state == CONVERSATION_OPEN)
		conversation->callbacks->ended(conversation->userdata, why);
}

static void lose_and_say(struct conversation *conversation, const char *why)
{
	conversation_say(conversation, MESSAGE_CLOSE);
	lose(conversation, EHOSTUNREACH, why);
}

void conversation_lose(struct conversation *conversation, int error, const char *why)
{
	/* Nobody is told that the question won't be answered, so it isn't over: it may be repeated. */
	if (conversation->state == CONVERSATION_ASKED)
		conversation->state = CONVERSATION_NONE;
	else
		lose(conversation, error, why);
}

void conversation_close(struct conversation *conversation)
{
	if (conversation->state == CONVERSATION_NONE)
		return;
	conversation_say(conversation, MESSAGE_CLOSE);
	conversation_end(conversation);
}

/* --- what the daemon wants -------------------------------------------------------------------- */

void conversation_connect(struct conversation *conversation, uint64_t id,
			  const uint8_t nonce[MESSAGE_NONCE_SIZE], uint64_t now_ms)
{
	switch (conversation->state) {
	case CONVERSATION_ASKED:
		if (!conversation->is_lower) {
			conversation->callbacks->failed(conversation->userdata, id, EAGAIN,
							"that host has asked for a conversation, too");
			return;
		}
		say_about(conversation, conversation->nonce,
			  (struct nats_message){.kind = MESSAGE_REFUSE, .reason = REASON_CROSSED});
		conversation_end(conversation);
		break;
	case CONVERSATION_ASKING:
	case CONVERSATION_OPEN:
		lose_and_say(conversation, "the daemon has asked for another one");
		break;
	case CONVERSATION_NONE:
		break;
	}
	conversation_begin(conversation, CONVERSATION_ASKING, id, nonce, now_ms);
	conversation_say(conversation, MESSAGE_CONNECT);
}

bool conversation_accept(struct conversation *conversation, uint64_t id, uint64_t now_ms)
{
	if (conversation->state != CONVERSATION_ASKED || conversation->id != id)
		return false;
	open_with(conversation, now_ms);
	conversation_say(conversation, MESSAGE_ACCEPT);
	conversation->callbacks->connected(conversation->userdata, id);
	return true;
}

bool conversation_decline(struct conversation *conversation, uint64_t id)
{
	if (conversation->state != CONVERSATION_ASKED || conversation->id != id)
		return false;
	say_about(conversation, conversation->nonce,
		  (struct nats_message){.kind = MESSAGE_REFUSE, .reason = REASON_DECLINED});
	conversation_end(conversation);
	return true;
}

/* --- what the other end says ------------------------------------------------------------------ */

/* A host that asks all the time would have our daemon busy with it, and the way to the server full of
 * answers. A host that is in earnest repeats the question. */
static bool may_ask(struct conversation *conversation)
{
	if (conversation->questions == CONVERSATION_QUESTIONS)
		return false;
	conversation->questions++;
	return true;
}

/* The other end asks for a conversation. True: our daemon is asked with this id. */
static bool on_connect(struct conversation *conversation, const struct nats_message *message, uint64_t id,
		       uint64_t now_ms)
{
	if (!may_ask(conversation))
		return false;
	if (conversation->has_over && !memcmp(message->nonce, conversation->over, MESSAGE_NONCE_SIZE)) {
		/* It has been over for longer than this repetition was under way, or our CLOSE was lost. */
		say_about(conversation, message->nonce, (struct nats_message){.kind = MESSAGE_CLOSE});
		return false;
	}
	if (conversation->state == CONVERSATION_ASKING) {
		if (conversation->is_lower) {
			say_about(conversation, message->nonce,
				  (struct nats_message){.kind = MESSAGE_REFUSE, .reason = REASON_CROSSED});
			return false;
		}
		lose(conversation, EAGAIN, "that host has asked for a conversation, too");
	} else if (conversation->state != CONVERSATION_NONE) {
		lose(conversation, EHOSTUNREACH, "the other end has asked for another one");
	}
	conversation_begin(conversation, CONVERSATION_ASKED, id, message->nonce, now_ms);
	conversation->out_limit = message->window;
	conversation->callbacks->incoming(conversation->userdata, id);
	return true;
}

static void conversation_on_data(struct conversation *conversation, const struct nats_message *message)
{
	uint64_t end_at = message->position + message->size;

	if (end_at < message->position || message->position > conversation->in) {
		lose_and_say(conversation, "bytes were lost on the way");
	} else if (message->size == 0) {
		if (may_ask(conversation))
			say_how_far(conversation);
	} else if (end_at <= conversation->in) {
		return; /* it came twice */
	} else if (message->position < conversation->in) {
		lose_and_say(conversation, "bytes came twice, with others behind them");
	} else if (end_at > conversation->in_limit) {
		lose_and_say(conversation, "the other end sends more than it may");
	} else {
		conversation->in = end_at;
		conversation->callbacks->bytes(conversation->userdata, message->data, message->size);
	}
}

static void on_ack(struct conversation *conversation, const struct nats_message *message)
{
	uint64_t limit = message->position + message->window;

	/* The limit only grows, in whatever order the ACKs come. */
	if (message->position > conversation->out || limit < message->position) {
		lose_and_say(conversation, "the other end has taken what was never sent");
		return;
	}
	if (message->position > conversation->out_acked)
		conversation->out_acked = message->position;
	if (limit > conversation->out_limit) {
		conversation->out_limit = limit;
		conversation->is_waiting = false;
	}
}

/* Something about a conversation that isn't there: the side that thinks so learns that it isn't. */
static void on_unknown(struct conversation *conversation, const struct nats_message *message, uint64_t now_ms)
{
	if (message->kind == MESSAGE_CLOSE || message->kind == MESSAGE_REFUSE ||
	    message->kind == MESSAGE_HERE)
		return;
	if (conversation->closed_ms && now_ms - conversation->closed_ms < CONVERSATION_TICK_MS)
		return; /* a window of messages needs no window of answers */
	conversation->closed_ms = now_ms;
	say_about(conversation, message->nonce, (struct nats_message){.kind = MESSAGE_CLOSE});
}

static void conversation_on_open(struct conversation *conversation, const struct nats_message *message)
{
	switch (message->kind) {
	case MESSAGE_CONNECT: /* our ACCEPT was lost, unless bytes have come meanwhile */
		if (conversation->is_theirs && conversation->in == 0 && may_ask(conversation))
			conversation_say(conversation, MESSAGE_ACCEPT);
		break;
	case MESSAGE_DATA:
		conversation_on_data(conversation, message);
		break;
	case MESSAGE_ACK:
		on_ack(conversation, message);
		break;
	case MESSAGE_CLOSE:
		lose(conversation, EHOSTUNREACH, NULL);
		break;
	case MESSAGE_ACCEPT: /* came twice */
	case MESSAGE_REFUSE: /* nobody refuses what is open */
	case MESSAGE_HERE:
		break;
	}
}

static void on_asking(struct conversation *conversation, const struct nats_message *message, uint64_t now_ms)
{
	switch (message->kind) {
	case MESSAGE_ACCEPT:
		conversation->out_limit = message->window;
		open_with(conversation, now_ms);
		conversation->callbacks->connected(conversation->userdata, conversation->id);
		break;
	case MESSAGE_REFUSE:
		if (message->reason == REASON_CROSSED)
			lose(conversation, EAGAIN, "that host has asked for a conversation, too");
		else
			lose(conversation, EHOSTUNREACH, "that host doesn't want it");
		break;
	case MESSAGE_CLOSE:
		lose(conversation, EHOSTUNREACH, "that host has ended it");
		break;
	/* The ACCEPT was lost, and these bytes can't be taken: a gap later, or this here. */
	case MESSAGE_DATA:
	case MESSAGE_ACK:
		lose_and_say(conversation, "the answer was lost on the way");
		break;
	case MESSAGE_CONNECT:
	case MESSAGE_HERE:
		break;
	}
}

bool conversation_message(struct conversation *conversation, const struct nats_message *untrusted,
			  uint64_t id, uint64_t now_ms)
{
	if (conversation->state == CONVERSATION_NONE ||
	    memcmp(untrusted->nonce, conversation->nonce, MESSAGE_NONCE_SIZE) != 0) {
		if (untrusted->kind == MESSAGE_CONNECT)
			return on_connect(conversation, untrusted, id, now_ms);
		on_unknown(conversation, untrusted, now_ms);
		return false;
	}
	conversation->heard_ms = now_ms;
	if (conversation->state == CONVERSATION_OPEN)
		conversation_on_open(conversation, untrusted);
	else if (conversation->state == CONVERSATION_ASKING)
		on_asking(conversation, untrusted, now_ms);
	else if (untrusted->kind ==
		 MESSAGE_CLOSE) /* it doesn't want it any more; our daemon's answer comes too late */
		conversation_end(conversation);
	return false;
}

/* --- bytes ------------------------------------------------------------------------------------ */

size_t conversation_room(const struct conversation *conversation)
{
	return conversation->state == CONVERSATION_OPEN && conversation->out_limit > conversation->out
		       ? (size_t)(conversation->out_limit - conversation->out)
		       : 0;
}

void conversation_wait(struct conversation *conversation)
{
	conversation->is_waiting = true;
}

void conversation_data(struct conversation *conversation, size_t size, struct nats_message *message,
		       uint64_t now_ms)
{
	*message = (struct nats_message){.kind = MESSAGE_DATA, .position = conversation->out};
	memcpy(message->nonce, conversation->nonce, MESSAGE_NONCE_SIZE);
	if (conversation->out == conversation->out_acked) /* from now on an answer is due */
		conversation->heard_ms = conversation->asked_ms = now_ms;
	conversation->out += size;
}

void conversation_taken(struct conversation *conversation, size_t size)
{
	conversation->in_taken += size;
	if (conversation->state == CONVERSATION_OPEN &&
	    conversation->in_taken + CONVERSATION_WINDOW - conversation->in_limit >= WINDOW_STEP)
		say_how_far(conversation);
}

/* --- time ------------------------------------------------------------------------------------- */

static void tick_open(struct conversation *conversation, uint64_t now_ms)
{
	bool is_due = conversation->out != conversation->out_acked || conversation->is_waiting;

	if (conversation->in != conversation->in_acked)
		say_how_far(conversation);
	if (!is_due) {
		conversation->heard_ms = conversation->asked_ms = now_ms;
	} else if (now_ms - conversation->heard_ms >= CONVERSATION_SILENCE_MS) {
		lose_and_say(conversation, "the other end doesn't answer");
	} else if (now_ms - conversation->asked_ms >= CONVERSATION_REPEAT_MS) {
		conversation->asked_ms = now_ms;
		conversation_say(conversation, MESSAGE_DATA);
	}
}

void conversation_tick(struct conversation *conversation, uint64_t now_ms)
{
	if (conversation->questions)
		conversation->questions--;
	switch (conversation->state) {
	case CONVERSATION_OPEN:
		tick_open(conversation, now_ms);
		break;
	case CONVERSATION_ASKING:
		if (now_ms - conversation->since_ms >= CONVERSATION_SILENCE_MS) {
			lose_and_say(conversation, "no answer");
		} else if (now_ms - conversation->asked_ms >= CONVERSATION_REPEAT_MS) {
			conversation->asked_ms = now_ms;
			conversation_say(conversation, MESSAGE_CONNECT);
		}
		break;
	case CONVERSATION_ASKED: /* whoever still asks repeats it */
		if (now_ms - conversation->heard_ms >= CONVERSATION_SILENCE_MS)
			conversation_end(conversation);
		break;
	case CONVERSATION_NONE:
		break;
	}
}
