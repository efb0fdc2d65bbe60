/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Attacks by frames that are legal, one by one. */

#include <stdio.h>
#include <string.h>

#include "tests/integration/hostile_program.h"

#define MESSAGE_SIZE 24u  /* of one byte: head, the byte and its padding, trailer */
#define STATE_AT     16u  /* in it */
#define OPENS_MAX    512u /* outstanding */
#define QUERIES_MAX  32u
#define HIGHEST	     65534u
#define CHANNELS     16u /* of a session that cancels */
#define FILLERS	     20u /* channels whose bytes fill the ring of a program that doesn't read */

/* A message of one byte on the first channel. */
static bool put_message(struct attacker *attacker, struct session *session)
{
	static const uint8_t message[MESSAGE_SIZE] = {1, [8] = 'x'};

	if (session->sent + MESSAGE_SIZE > session->limit ||
	    !session_put(attacker, session, FRAME_DATA, session->first, message, MESSAGE_SIZE))
		return false;
	session->sent += MESSAGE_SIZE;
	return true;
}

/* --- who accepts ------------------------------------------------------------------------------ */

static void bind_address(struct attacker *attacker, struct session *session)
{
	const struct frame_bind bind = {.kinds = 1,
					.endpoint = {attacker->address, strlen(attacker->address)}};
	uint8_t payload[FRAME_SMALL_MAX];

	session_put(attacker, session, FRAME_BIND, 1, payload, frame_bind_encode(&bind, payload));
}

static void on_accepted_frame(struct attacker *attacker, struct session *session,
			      const struct frame_header *header, const uint8_t *payload)
{
	if (header->type == FRAME_REPLY)
		attacker->events++; /* it is bound */
	else if (header->type == FRAME_FIN)
		session_put_number(attacker, session, FRAME_FIN, header->channel, 0);
	else if (header->type == FRAME_RESET)
		session_put_reset(attacker, session, header->channel, ECANCELED, 0);
}

static unsigned turn_sink(struct attacker *attacker, struct session *session)
{
	return session_release_deliveries(session) > 0;
}

/* --- a channel -------------------------------------------------------------------------------- */

static void begin_channel(struct attacker *attacker, struct session *session)
{
	session->is_begun = session_put_open(attacker, session, session->first, attacker->address);
	session->sent = session->next = 0;
	session->limit = CHANNEL_INITIAL_LIMIT;
}

static void on_channel_frame(struct attacker *attacker, struct session *session,
			     const struct frame_header *header, const uint8_t *payload)
{
	if (header->type == FRAME_RESET && header->channel == session->first) {
		if (session->is_begun)
			session_put_reset(attacker, session, session->first, ECANCELED, 0);
		begin_channel(attacker, session);
	} else if (header->type == FRAME_RESET) {
		session_put_reset(attacker, session, header->channel, ECANCELED, 0);
	} else if (header->channel == session->first) {
		session->limit = session_limit_told(header, payload, session->limit);
	}
}

/* Frames that say nothing new. */
static bool put_ignored(struct attacker *attacker, struct session *session)
{
	const struct frame_credit credit = {0};
	uint8_t payload[FRAME_SMALL_MAX];
	uint32_t length = frame_credit_encode(&credit, payload), step = session->step++;

	return session_put(attacker, session, step & 1 ? FRAME_CREDIT : FRAME_OPTIONAL + 72,
			   step & 2 ? 0 : HIGHEST, payload, length);
}

static void on_cancel_frame(struct attacker *attacker, struct session *session,
			    const struct frame_header *header, const uint8_t *payload)
{
	if (header->type == FRAME_RESET) {
		session_put_reset(attacker, session, header->channel, ECANCELED, 0);
		session->numbers[header->channel / 2 % NUMBERS] = NUMBER_FREE;
	}
}

static void begin_cancel(struct attacker *attacker, struct session *session)
{
	for (uint32_t i = 0; i < CHANNELS; i++)
		if (session_put_open(attacker, session, 2 * i, attacker->address))
			session->numbers[i] = NUMBER_OPEN;
}

/* The smallest pieces, on many channels in turn, so that none of them can be put to the one before. */
static bool put_piece(struct attacker *attacker, struct session *session, unsigned sessions)
{
	static const uint8_t pieces[MESSAGE_SIZE / 8][8] = {{1}, {'x'}, {0}};
	uint64_t piece = session->sent;
	uint32_t channel = (uint32_t)(piece % CHANNELS);

	/* All sessions together not many more than fit into a ring. */
	if (piece / CHANNELS * 8 >= (CHANNEL_INITIAL_LIMIT - MESSAGE_SIZE) / sessions + MESSAGE_SIZE)
		return false;
	if (session->numbers[channel] == NUMBER_OPEN &&
	    !session_put(attacker, session, FRAME_DATA, 2 * channel, pieces[piece / CHANNELS % 3], 8))
		return false;
	session->sent++;
	return true;
}

/* When there is all, one after the other, by steps that have no common divisor with how many there are. */
static bool put_cancel(struct attacker *attacker, struct session *session)
{
	uint32_t number = session->next % CHANNELS * 2;
	uint64_t messages;

	if (put_piece(attacker, session, attacker->count))
		return true;
	messages = session->sent / CHANNELS / (MESSAGE_SIZE / 8);
	if (!messages)
		return false;
	session->next += 7919;
	return session_put_number(attacker, session, FRAME_CANCEL, number,
				  session->next / CHANNELS % messages * MESSAGE_SIZE + STATE_AT);
}

/* A channel with all that may be sent on it at once; the first of several fill the ring of one that doesn't
 * read. */
static unsigned fill(struct attacker *attacker, struct session *session)
{
	static uint8_t filler[CHANNEL_INITIAL_LIMIT];
	uint32_t number = 2 * (session->step + 1);

	put_u32(filler, sizeof(filler) - MESSAGE_HEAD_SIZE - MESSAGE_TRAILER_SIZE);
	if (ring_writer_space(&session->out, 2 * sizeof(filler)) < 2 * (int)sizeof(filler))
		return 0;
	session_put_open(attacker, session, number, attacker->address);
	session_put(attacker, session, FRAME_DATA, number, filler, sizeof(filler));
	session->step++;
	return 1;
}

/* When all is sent that may be, each message is wanted back, again and again. */
static bool put_cancel_again(struct attacker *attacker, struct session *session)
{
	uint64_t messages;

	if (put_message(attacker, session))
		return true;
	messages = session->sent / MESSAGE_SIZE;
	return session->is_begun && messages &&
	       session_put_number(attacker, session, FRAME_CANCEL, session->first,
				  session->step++ % messages * MESSAGE_SIZE + STATE_AT);
}

/* Each message is wanted back at once. */
static bool put_cancelled_message(struct attacker *attacker, struct session *session)
{
	return session->is_begun && put_message(attacker, session) &&
	       session_put_number(attacker, session, FRAME_CANCEL, 0,
				  session->sent - MESSAGE_SIZE + STATE_AT);
}

/* What is cancelled lies in the daemon, and each time there is something new before it. */
static unsigned turn_cancel_queued(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;

	if (session == attacker->sessions && session->step < FILLERS)
		return fill(attacker, session);
	while (count < BURST && put_cancelled_message(attacker, session))
		count++;
	if (count == 0 && session->is_begun && session->sent + MESSAGE_SIZE > session->limit &&
	    session_put_reset(attacker, session, 0, ECANCELED, 0))
		session->is_begun = false; /* begins anew with the answer */
	return count;
}

/* --- channels that come and go ---------------------------------------------------------------- */

static void set_number(struct session *session, uint32_t number, enum number_state state)
{
	uint8_t *at = &session->numbers[number / 2 % NUMBERS];

	session->outstanding += (state != NUMBER_FREE) - (*at != NUMBER_FREE);
	*at = (uint8_t)state;
}

static void on_churn_frame(struct attacker *attacker, struct session *session,
			   const struct frame_header *header, const uint8_t *payload)
{
	if (header->type == FRAME_RESET) {
		if (session->numbers[header->channel / 2 % NUMBERS] == NUMBER_OPEN)
			session_put_reset(attacker, session, header->channel, ECANCELED, 0);
		set_number(session, header->channel, NUMBER_FREE);
	} else if (header->type == FRAME_FIN) {
		set_number(session, header->channel, NUMBER_FREE);
	}
}

/* The next one that is free. False: those that are in use are too many. */
static bool open_next(struct attacker *attacker, struct session *session, const char *address,
		      uint32_t *number)
{
	if (session->outstanding >= OPENS_MAX)
		return false;
	while (session->numbers[session->next % NUMBERS] != NUMBER_FREE)
		session->next++;
	*number = session->next % NUMBERS * 2 + session->first;
	if (!session_put_open(attacker, session, *number, address))
		return false;
	set_number(session, *number, NUMBER_OPEN);
	session->next++;
	return true;
}

static bool put_open_refused(struct attacker *attacker, struct session *session)
{
	uint32_t number;

	return open_next(attacker, session, attacker->address, &number);
}

static bool put_open_nowhere(struct attacker *attacker, struct session *session)
{
	uint32_t number;
	char address[32];

	snprintf(address, sizeof(address), "%u:inbox", 100 + session->step++ % 30000);
	return open_next(attacker, session, address, &number);
}

static bool put_open_reset(struct attacker *attacker, struct session *session)
{
	uint32_t number;

	if (!open_next(attacker, session, attacker->address, &number))
		return false;
	if (session_put_reset(attacker, session, number, ECANCELED, 0))
		set_number(session, number, NUMBER_ENDING);
	return true;
}

static bool put_open_fin(struct attacker *attacker, struct session *session)
{
	uint32_t number;

	if (!open_next(attacker, session, attacker->address, &number))
		return false;
	session_put_number(attacker, session, FRAME_FIN, number, 0);
	return true;
}

/* The highest number, in a new session each time. */
static unsigned turn_opens_high(struct attacker *attacker, struct session *session)
{
	switch (session->step) {
	case 0:
		session->next = HIGHEST / 2;
		session->step += session_put_open(attacker, session, HIGHEST, attacker->address);
		return 1;
	case 1:
		if (session->limit++ < CHANNEL_INITIAL_LIMIT + 20)
			return 0; /* a moment, for the daemon to take it */
		session_notify(attacker, session);
		session_close(session);
		attacker->events++;
		return 1;
	default:
		return 0;
	}
}

/* While the ring of one that doesn't read is full of the smallest pieces, channels to it end and end. */
static void begin_ends(struct attacker *attacker, struct session *session)
{
	session->next = CHANNELS;
	if (session == attacker->sessions)
		begin_cancel(attacker, session);
}

static bool put_end(struct attacker *attacker, struct session *session)
{
	return (session == attacker->sessions && put_piece(attacker, session, 1)) ||
	       put_open_reset(attacker, session);
}

/* --- CANCELs that nobody answers -------------------------------------------------------------- */

/* Takes one message after the other, and says nothing about those that its senders want back. */
static void on_slow_frame(struct attacker *attacker, struct session *session,
			  const struct frame_header *header, const uint8_t *payload)
{
	if (header->type == FRAME_DATA && header->channel / 2 < NUMBERS / 8)
		put_u64(session->numbers + header->channel / 2 * 8,
			get_u64(session->numbers + header->channel / 2 * 8) + header->length);
	else
		on_accepted_frame(attacker, session, header, payload);
	if (header->type == FRAME_OPEN && header->channel / 2 < NUMBERS / 8) {
		put_u64(session->numbers + header->channel / 2 * 8, 0);
		if (header->channel / 2 >= session->outstanding)
			session->outstanding = header->channel / 2 + 1;
	}
}

static unsigned turn_slow(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < session->outstanding && i < NUMBERS / 8 && count < BURST; i++) {
		uint32_t channel = session->next++ % session->outstanding;
		uint64_t received = get_u64(session->numbers + channel * 8);
		struct frame_credit credit = {.consumed = MESSAGE_SIZE *
							  (session->step / session->outstanding + 1)};
		uint8_t payload[FRAME_SMALL_MAX];

		session->step++;
		if (credit.consumed > received)
			continue;
		if (!session_put(attacker, session, FRAME_CREDIT, 2 * channel + 1, payload,
				 frame_credit_encode(&credit, payload)))
			break;
		count++;
	}
	return count;
}

/* --- requests --------------------------------------------------------------------------------- */

static void on_reply(struct attacker *attacker, struct session *session, const struct frame_header *header,
		     const uint8_t *payload)
{
	/* A question is answered when its channel ends. */
	if (header->type == FRAME_FIN)
		session_put_reset(attacker, session, header->channel, ECANCELED, 0);
	if (header->type == FRAME_REPLY || header->type == FRAME_FIN) {
		session->outstanding -= session->outstanding > 0;
		attacker->events++;
	}
}

static bool put_request(struct attacker *attacker, struct session *session, uint8_t type, const void *payload,
			uint32_t length)
{
	if (session->outstanding >= QUERIES_MAX ||
	    !session_put(attacker, session, type, session->next & 0xffff, payload, length))
		return false;
	session->outstanding++;
	session->next++;
	return true;
}

static const char *const queries[] = {"status", "peers", "endpoints", "policy 1:a 1:b", "ping"};

/* This domain's, unless the address is another's. */
static const char *daemon_of(const struct attacker *attacker)
{
	return strstr(attacker->address, DAEMON_ENDPOINT) ? attacker->address : "self:" DAEMON_ENDPOINT;
}

/* Puts a question on a channel to the daemon. Returns how many bytes. */
static uint32_t put_question(struct attacker *attacker, struct session *session, uint32_t channel,
			     const char *query, uint32_t number)
{
	uint8_t message[128] = {[4] = MESSAGE_REQUEST};
	uint32_t span = (uint32_t)message_span(strlen(query));

	put_u32(message, (uint32_t)strlen(query));
	memcpy(message + MESSAGE_HEAD_SIZE, query, strlen(query));
	put_u32(message + span - 4, number);
	session_put(attacker, session, FRAME_DATA, channel, message, span);
	return span;
}

/* Asks the daemon, each time on another channel. */
static bool put_query(struct attacker *attacker, struct session *session)
{
	const char *query = queries[session->step % (sizeof(queries) / sizeof(queries[0]))];
	uint32_t channel = 2 * (session->step % 4096) + session->first;
	struct frame_open open = {.kind = CHANNEL_CALL, .name = frame_text_of(daemon_of(attacker))};
	uint8_t payload[FRAME_SMALL_MAX];

	if (session->outstanding >= QUERIES_MAX ||
	    !session_put(attacker, session, FRAME_OPEN, channel, payload, frame_open_encode(&open, payload)))
		return false;
	if (session->link) { /* whose daemon has room for answers by this alone */
		struct frame_credit credit = {.limit = CHANNEL_INITIAL_LIMIT};

		session_put(attacker, session, FRAME_CREDIT, channel, payload,
			    frame_credit_encode(&credit, payload));
	}
	session_put_number(attacker, session, FRAME_FIN, channel,
			   put_question(attacker, session, channel, query, 0));
	session->step++;
	session->outstanding++;
	return true;
}

/* Who never looks at the answers is cut off, and comes again. */
static bool put_query_unread(struct attacker *attacker, struct session *session)
{
	if (put_query(attacker, session))
		return true;
	session->outstanding = 0;
	return false;
}

/* Binds a name of the session's own, and gives it up. */
static bool put_bind(struct attacker *attacker, struct session *session)
{
	struct frame_bind bind = {.kinds = 1};
	uint8_t payload[FRAME_SMALL_MAX];
	char name[32];
	bool is_put;

	snprintf(name, sizeof(name), "own-%u-%u-%u", attacker->count,
		 (unsigned)(session - attacker->sessions), session->step / 2 % 1000);
	bind.endpoint = frame_text_of(name);
	if (session->step % 2 == 0)
		is_put = put_request(attacker, session, FRAME_BIND, payload,
				     frame_bind_encode(&bind, payload));
	else
		is_put = put_request(attacker, session, FRAME_UNBIND, name, (uint32_t)bind.endpoint.size);
	session->step += is_put;
	return is_put;
}

static void begin_watches(struct attacker *attacker, struct session *session)
{
	struct frame_open open = {.kind = CHANNEL_CALL, .name = frame_text_of("self:" DAEMON_ENDPOINT)};
	uint8_t payload[FRAME_SMALL_MAX];
	char question[64];

	session_put(attacker, session, FRAME_OPEN, session->first, payload,
		    frame_open_encode(&open, payload));
	for (unsigned i = 0; i < 64; i++) {
		snprintf(question, sizeof(question), "watch *:*[a-z]*-*[0-9]*-%u*?", i);
		put_question(attacker, session, session->first, question, i);
	}
}

const struct attack frame_attacks[] = {
	{"sink", SHARED, .begin = bind_address, .frame = on_accepted_frame, .turn = turn_sink},
	{"deaf", SHARED, .begin = bind_address, .frame = on_accepted_frame},
	{"slow", PLAIN, .begin = bind_address, .frame = on_slow_frame, .turn = turn_slow},
	{"cancel-pending", SHARED, .begin = begin_channel, .frame = on_channel_frame,
	 .put = put_cancelled_message},
	{"ends-among-pieces", SHARED, .begin = begin_ends, .frame = on_churn_frame, .put = put_end},
	{"small-frames", SHARED, .begin = begin_channel, .frame = on_channel_frame, .put = put_message},
	{"small-frames-plain", PLAIN, .begin = begin_channel, .frame = on_channel_frame, .put = put_message},
	{"ignored", SHARED, .begin = begin_channel, .frame = on_channel_frame, .put = put_ignored},
	{"cancel", SHARED, .begin = begin_cancel, .frame = on_cancel_frame, .put = put_cancel},
	{"cancel-again", SHARED, .begin = begin_channel, .frame = on_channel_frame, .put = put_cancel_again},
	{"cancel-queued", SHARED, .begin = begin_channel, .frame = on_channel_frame,
	 .turn = turn_cancel_queued},
	{"opens-refused", SHARED, .frame = on_churn_frame, .put = put_open_refused},
	{"opens-nowhere", SHARED, .frame = on_churn_frame, .put = put_open_nowhere},
	{"opens-reset", SHARED, .frame = on_churn_frame, .put = put_open_reset},
	{"opens-fin", SHARED, .frame = on_churn_frame, .put = put_open_fin},
	{"opens-high", SHARED, .frame = on_churn_frame, .turn = turn_opens_high},
	{"queries", SHARED, .frame = on_reply, .put = put_query},
	{"queries-unread", SHARED, .frame = on_reply, .put = put_query_unread},
	{"binds", SHARED, .frame = on_reply, .put = put_bind},
	{"watches", SHARED, .begin = begin_watches, .frame = on_reply, .put = put_bind},
	{0},
};
