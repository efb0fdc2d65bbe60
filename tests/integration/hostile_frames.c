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

/* A message of one byte on channel 0. */
static bool put_message(struct attacker *attacker, struct session *session)
{
	static const uint8_t message[MESSAGE_SIZE] = {1, [8] = 'x'};

	if (session->sent + MESSAGE_SIZE > session->limit ||
	    !session_put(attacker, session, FRAME_DATA, 0, message, MESSAGE_SIZE))
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

static unsigned turn_nothing(struct attacker *attacker, struct session *session)
{
	return 0;
}

/* --- a channel -------------------------------------------------------------------------------- */

static void begin_channel(struct attacker *attacker, struct session *session)
{
	session->is_begun = session_put_open(attacker, session, 0, attacker->address);
	session->sent = session->next = 0;
	session->limit = CHANNEL_INITIAL_LIMIT;
}

static void on_channel_frame(struct attacker *attacker, struct session *session,
			     const struct frame_header *header, const uint8_t *payload)
{
	struct frame_opened opened;
	struct frame_credit credit;

	if (header->type == FRAME_RESET && header->channel == 0) {
		if (session->is_begun)
			session_put_reset(attacker, session, 0, ECANCELED, 0);
		begin_channel(attacker, session);
	} else if (header->type == FRAME_RESET) {
		session_put_reset(attacker, session, header->channel, ECANCELED, 0);
	} else if (header->channel != 0) {
		return;
	} else if (header->type == FRAME_OPENED &&
		   frame_opened_decode(payload, header->length, &opened) == 0) {
		session->limit = opened.limit > session->limit ? opened.limit : session->limit;
	} else if (header->type == FRAME_CREDIT &&
		   frame_credit_decode(payload, header->length, &credit) == 0) {
		session->limit = credit.limit > session->limit ? credit.limit : session->limit;
	}
}

static unsigned turn_small_frames(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;

	while (count < BURST && put_message(attacker, session))
		count++;
	return count;
}

/* Frames that say nothing new. */
static unsigned turn_ignored(struct attacker *attacker, struct session *session)
{
	const struct frame_credit credit = {0};
	uint8_t payload[FRAME_SMALL_MAX];
	uint32_t length = frame_credit_encode(&credit, payload);
	unsigned count = 0;

	while (count < BURST && session_put(attacker, session, count & 1 ? FRAME_CREDIT : FRAME_OPTIONAL + 72,
					    count & 2 ? 0 : HIGHEST, payload, length))
		count++;
	return count;
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

static unsigned turn_cancel(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;
	uint64_t messages;

	while (count < BURST && put_piece(attacker, session, attacker->count))
		count++;
	messages = session->sent / CHANNELS / (MESSAGE_SIZE / 8);
	/* One after the other, by steps that have no common divisor with how many there are. */
	while (count < BURST && messages) {
		uint32_t number = session->next % CHANNELS * 2;

		session->next += 7919;
		if (!session_put_number(attacker, session, FRAME_CANCEL, number,
					session->next / CHANNELS % messages * MESSAGE_SIZE + STATE_AT))
			break;
		count++;
	}
	return count;
}

/* A channel with all that may be sent on it at once; the first of several fill the ring of who doesn't
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

/* What is cancelled lies in the daemon, and each time there is something new before it. */
static unsigned turn_cancel_queued(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;

	if (session == attacker->sessions && session->step < FILLERS)
		return fill(attacker, session);
	while (count < BURST && session->is_begun && put_message(attacker, session) &&
	       session_put_number(attacker, session, FRAME_CANCEL, 0,
				  session->sent - MESSAGE_SIZE + STATE_AT))
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
	*number = session->next % NUMBERS * 2;
	if (!session_put_open(attacker, session, *number, address))
		return false;
	set_number(session, *number, NUMBER_OPEN);
	session->next++;
	return true;
}

static unsigned turn_opens_refused(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;
	uint32_t number;

	while (count < BURST && open_next(attacker, session, attacker->address, &number))
		count++;
	return count;
}

static unsigned turn_opens_nowhere(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;
	uint32_t number;
	char address[32];

	do
		snprintf(address, sizeof(address), "%u:inbox", 100 + session->step++ % 30000);
	while (count++ < BURST && open_next(attacker, session, address, &number));
	return count - 1;
}

static unsigned turn_opens_reset(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;
	uint32_t number;

	while (count < BURST && open_next(attacker, session, attacker->address, &number)) {
		if (session_put_reset(attacker, session, number, ECANCELED, 0))
			set_number(session, number, NUMBER_ENDING);
		count++;
	}
	return count;
}

static unsigned turn_opens_fin(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;
	uint32_t number;

	while (count < BURST && open_next(attacker, session, attacker->address, &number)) {
		session_put_number(attacker, session, FRAME_FIN, number, 0);
		count++;
	}
	return count;
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

/* While the ring of who doesn't read is full of the smallest pieces, channels to it end and end. */
static void begin_ends(struct attacker *attacker, struct session *session)
{
	session->next = CHANNELS;
	if (session == attacker->sessions)
		begin_cancel(attacker, session);
}

static unsigned turn_ends(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;

	if (session == attacker->sessions)
		while (count < BURST && put_piece(attacker, session, 1))
			count++;
	return count ? count : turn_opens_reset(attacker, session);
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

/* Each message is wanted back at once. */
static unsigned turn_cancel_pending(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;

	while (count < BURST && session->is_begun && put_message(attacker, session) &&
	       session_put_number(attacker, session, FRAME_CANCEL, 0,
				  session->sent - MESSAGE_SIZE + STATE_AT))
		count++;
	return count;
}

/* --- requests --------------------------------------------------------------------------------- */

static void on_reply(struct attacker *attacker, struct session *session, const struct frame_header *header,
		     const uint8_t *payload)
{
	if (header->type == FRAME_REPLY && !(header->flags & FRAME_FLAG_MORE)) {
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

static const char *const queries[] = {"status", "peers", "endpoints", "policy 1:a 1:b"};

static unsigned turn_queries(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;
	const char *query;

	do
		query = queries[session->step++ % 4];
	while (put_request(attacker, session, FRAME_QUERY, query, (uint32_t)strlen(query)) &&
	       ++count < BURST);
	return count;
}

/* Who never looks at the answers is cut off, and comes again. */
static unsigned turn_queries_unread(struct attacker *attacker, struct session *session)
{
	session->outstanding = 0;
	return turn_queries(attacker, session);
}

static unsigned turn_pings(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;
	char domain[16];

	do
		snprintf(domain, sizeof(domain), "%u", 100 + session->step++ % 30000);
	while (put_request(attacker, session, FRAME_PROBE, domain, (uint32_t)strlen(domain)) &&
	       ++count < BURST);
	return count;
}

/* Binds a name of the session's own, and gives it up. */
static unsigned turn_binds(struct attacker *attacker, struct session *session)
{
	struct frame_bind bind = {.kinds = 1};
	uint8_t payload[FRAME_SMALL_MAX];
	unsigned count = 0;
	char name[32];
	bool is_put;

	do {
		bool binds = session->step % 2 == 0;

		bind.endpoint = (struct frame_text){
			name,
			(size_t)snprintf(name, sizeof(name), "own-%u-%u-%u", (unsigned)attacker->count,
					 (unsigned)(session - attacker->sessions), session->step / 2 % 1000)};
		if (binds)
			is_put = put_request(attacker, session, FRAME_BIND, payload,
					     frame_bind_encode(&bind, payload));
		else
			is_put = put_request(attacker, session, FRAME_UNBIND, name,
					     (uint32_t)bind.endpoint.size);
		session->step += is_put;
	} while (is_put && ++count < BURST);
	return count;
}

static void begin_watches(struct attacker *attacker, struct session *session)
{
	char pattern[64];

	for (unsigned i = 0; i < 64; i++) {
		int length = snprintf(pattern, sizeof(pattern), "*:*[a-z]*-*[0-9]*-%u*?", i);

		session_put(attacker, session, FRAME_WATCH, 0x10000 + i, pattern, (uint32_t)length);
	}
}

const struct attack frame_attacks[] = {
	{"sink", SHARED, bind_address, on_accepted_frame, turn_sink},
	{"deaf", SHARED, bind_address, on_accepted_frame, turn_nothing},
	{"slow", PLAIN, bind_address, on_slow_frame, turn_slow},
	{"cancel-pending", SHARED, begin_channel, on_channel_frame, turn_cancel_pending},
	{"ends-among-pieces", SHARED, begin_ends, on_churn_frame, turn_ends},
	{"small-frames", SHARED, begin_channel, on_channel_frame, turn_small_frames},
	{"small-frames-plain", PLAIN, begin_channel, on_channel_frame, turn_small_frames},
	{"ignored", SHARED, begin_channel, on_channel_frame, turn_ignored},
	{"cancel", SHARED, begin_cancel, on_cancel_frame, turn_cancel},
	{"cancel-queued", SHARED, begin_channel, on_channel_frame, turn_cancel_queued},
	{"opens-refused", SHARED, NULL, on_churn_frame, turn_opens_refused},
	{"opens-nowhere", SHARED, NULL, on_churn_frame, turn_opens_nowhere},
	{"opens-reset", SHARED, NULL, on_churn_frame, turn_opens_reset},
	{"opens-fin", SHARED, NULL, on_churn_frame, turn_opens_fin},
	{"opens-high", SHARED, NULL, on_churn_frame, turn_opens_high},
	{"queries", SHARED, NULL, on_reply, turn_queries},
	{"queries-unread", SHARED, NULL, on_reply, turn_queries_unread},
	{"pings", SHARED, NULL, on_reply, turn_pings},
	{"binds", SHARED, NULL, on_reply, turn_binds},
	{"watches", SHARED, begin_watches, on_reply, turn_binds},
	{0},
};
