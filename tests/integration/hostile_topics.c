/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Attacks by topics: those who come and go, those who never read, and those who publish without an end. */

#include <stdio.h>
#include <string.h>

#include "tests/integration/hostile_program.h"
#include "wire/bytes.h"
#include "wire/properties.h"

#define REQUESTS_MOST 16u  /* unanswered */
#define TOPICS_EACH   250u /* that one session has at a time */
#define TOPICS_OF_ONE 20u
#define MESSAGE_SIZE  24u
#define TOGETHER      32u /* messages in a frame */

static unsigned index_of(const struct attacker *attacker, const struct session *session)
{
	return (unsigned)(session - attacker->sessions);
}

static void on_request_frame(struct attacker *attacker, struct session *session,
			     const struct frame_header *header, const uint8_t *payload)
{
	if (header->type == FRAME_REPLY) {
		attacker->events++;
		session->outstanding -= session->outstanding > 0;
	} else if (header->type == FRAME_FIN) {
		session_put_number(attacker, session, FRAME_FIN, header->channel, 0);
	} else if (header->type == FRAME_RESET) {
		session_put_reset(attacker, session, header->channel, ECANCELED, 0);
	}
}

static bool put_subscribe(struct attacker *attacker, struct session *session, const char *address,
			  uint32_t flags)
{
	const struct frame_subscribe subscribe = {.flags = flags, .address = {address, strlen(address)}};
	uint8_t payload[FRAME_SMALL_MAX];

	if (!session_put(attacker, session, FRAME_SUBSCRIBE, ++session->step, payload,
			 frame_subscribe_encode(&subscribe, payload)))
		return false;
	session->outstanding++;
	return true;
}

static bool put_unsubscribe(struct attacker *attacker, struct session *session, const char *address)
{
	if (!session_put(attacker, session, FRAME_UNSUBSCRIBE, ++session->step, address,
			 (uint32_t)strlen(address)))
		return false;
	session->outstanding++;
	return true;
}

static void begin_nothing(struct attacker *attacker, struct session *session)
{
	session->outstanding = session->next = session->step = 0;
}

/* --- who comes and goes ----------------------------------------------------------------------- */

static unsigned turn_storm(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;

	while (session->outstanding < REQUESTS_MOST) {
		bool put = session->next & 1 ? put_unsubscribe(attacker, session, attacker->address)
					     : put_subscribe(attacker, session, attacker->address, 0);

		if (!put)
			break;
		session->next++;
		count++;
	}
	return count;
}

/* Topics that aren't there, another one each time, of which each session has some. */
static unsigned turn_absent(struct attacker *attacker, struct session *session)
{
	char address[80];
	unsigned count = 0;

	while (session->outstanding < REQUESTS_MOST) {
		unsigned which = session->next / 2 % 64;

		snprintf(address, sizeof(address), "%s-%u-%u", attacker->address, index_of(attacker, session),
			 which);
		if (!(session->next & 1 ? put_unsubscribe(attacker, session, address)
					: put_subscribe(attacker, session, address, 0)))
			break;
		session->next += session->next < 128 ? 2 : 1; /* the first ones stay */
		count++;
	}
	return count;
}

/* Subscribes once, and never takes anything. */
static void begin_unread(struct attacker *attacker, struct session *session)
{
	begin_nothing(attacker, session);
	put_subscribe(attacker, session, attacker->address, 0);
}

static unsigned turn_unread(struct attacker *attacker, struct session *session)
{
	return 0;
}

/* --- bounds of one's own ---------------------------------------------------------------------- */

/* Comes with another bound each time: none, the smallest, the largest, and with bits that nobody knows. */
static unsigned turn_bounds(struct attacker *attacker, struct session *session)
{
	static const uint32_t bounds[] = {
		0,
		SUBSCRIBE_OLDEST,
		1u << SUBSCRIBE_QUEUE_SHIFT,
		1u << SUBSCRIBE_QUEUE_SHIFT | SUBSCRIBE_OLDEST,
		SUBSCRIBE_QUEUE,
		SUBSCRIBE_QUEUE | SUBSCRIBE_OLDEST,
		~(SUBSCRIBE_QUEUE | SUBSCRIBE_OLDEST),
		UINT32_MAX,
	};
	unsigned count = 0;

	while (session->outstanding < REQUESTS_MOST) {
		uint32_t flags = bounds[session->next / 2 % (sizeof(bounds) / sizeof(bounds[0]))];

		if (!(session->next & 1 ? put_unsubscribe(attacker, session, attacker->address)
					: put_subscribe(attacker, session, attacker->address, flags)))
			break;
		session->next++;
		count++;
	}
	return count;
}

/* Subscribes to some topics with a bound of 1, in both ways, and never takes anything. */
static unsigned turn_ones(struct attacker *attacker, struct session *session)
{
	char address[80];
	unsigned count = 0;

	while (session->outstanding < REQUESTS_MOST && session->next < TOPICS_OF_ONE) {
		uint32_t way = session->next & 1 ? SUBSCRIBE_OLDEST : 0;

		snprintf(address, sizeof(address), "%s-%u", attacker->address, session->next);
		if (!put_subscribe(attacker, session, address, 1u << SUBSCRIBE_QUEUE_SHIFT | way))
			break;
		session->next++;
		count++;
	}
	return count;
}

/* Of who sends on a channel. */
static void on_sender_frame(struct attacker *attacker, struct session *session,
			    const struct frame_header *header, const uint8_t *payload)
{
	struct frame_opened opened;
	struct frame_credit credit;

	if (header->type == FRAME_OPENED && frame_opened_decode(payload, header->length, &opened) == 0)
		session->limit = opened.limit > session->limit ? opened.limit : session->limit;
	else if (header->type == FRAME_CREDIT && frame_credit_decode(payload, header->length, &credit) == 0)
		session->limit = credit.limit > session->limit ? credit.limit : session->limit;
	else
		on_request_frame(attacker, session, header, payload);
}

/* --- who says how many it is ---------------------------------------------------------------------- */

/* A program that plays a daemon's replica: it opens a call to the topic itself, and subscribes in it for
 * another number each time. */
static void begin_counter(struct attacker *attacker, struct session *session)
{
	const struct frame_open open = {.kind = CHANNEL_CALL,
					.name = {attacker->address, strlen(attacker->address)}};
	uint8_t payload[FRAME_SMALL_MAX];

	begin_nothing(attacker, session);
	session->is_begun =
		session_put(attacker, session, FRAME_OPEN, 0, payload, frame_open_encode(&open, payload));
	session->sent = 0;
	session->limit = CHANNEL_INITIAL_LIMIT;
}

static unsigned turn_count(struct attacker *attacker, struct session *session)
{
	uint8_t message[8 + PROPERTIES_WRITE + MESSAGE_TRAILER_SIZE] = {0};
	unsigned count = 0;

	while (count < BURST && session->is_begun) {
		const struct properties properties = {.subscribes = true, .listeners = ++session->next};
		uint32_t size = properties_encode(&properties, message + 8);

		put_u32(message, size);
		message[4] = MESSAGE_REQUEST | MESSAGE_PROPERTIES;
		size = (uint32_t)message_span(size);
		put_u32(message + size - 4, session->next);
		if (session->sent + size > session->limit ||
		    !session_put(attacker, session, FRAME_DATA, 0, message, size))
			break;
		session->sent += size;
		attacker->events++;
		count++;
	}
	return count;
}

/* --- who publishes ---------------------------------------------------------------------------- */

static bool put_bind(struct attacker *attacker, struct session *session, const char *name)
{
	const struct frame_bind bind = {.kinds = BIND_TOPIC, .endpoint = {name, strlen(name)}};
	uint8_t payload[FRAME_SMALL_MAX];

	return session_put(attacker, session, FRAME_BIND, 1, payload, frame_bind_encode(&bind, payload));
}

/* Topics by the hundred, which come and go; each is looked at by who waits for one of its name. */
static unsigned turn_topics(struct attacker *attacker, struct session *session)
{
	unsigned count = 0;
	char name[64];

	while (session->outstanding < REQUESTS_MOST) {
		snprintf(name, sizeof(name), "%s-%u-%u", attacker->address, index_of(attacker, session),
			 session->next % TOPICS_EACH);
		if (!(session->next / TOPICS_EACH & 1
			      ? session_put(attacker, session, FRAME_UNBIND, 1, name, (uint32_t)strlen(name))
			      : put_bind(attacker, session, name)))
			break;
		session->outstanding++;
		session->next++;
		count++;
	}
	return count;
}

static void begin_publisher(struct attacker *attacker, struct session *session)
{
	char name[64], address[80];

	begin_nothing(attacker, session);
	snprintf(name, sizeof(name), "%s%.0u", attacker->address, index_of(attacker, session));
	snprintf(address, sizeof(address), "self:%s", name);
	session->is_begun =
		put_bind(attacker, session, name) && session_put_open(attacker, session, 0, address);
	session->sent = 0;
	session->limit = CHANNEL_INITIAL_LIMIT;
}

static unsigned turn_publish(struct attacker *attacker, struct session *session)
{
	static uint8_t messages[TOGETHER * MESSAGE_SIZE];
	unsigned count = 0;

	for (unsigned i = 0; i < TOGETHER; i++)
		messages[i * MESSAGE_SIZE] = 1;
	while (count < BURST && session->is_begun && session->sent + sizeof(messages) <= session->limit &&
	       session_put(attacker, session, FRAME_DATA, 0, messages, sizeof(messages))) {
		session->sent += sizeof(messages);
		attacker->events += TOGETHER;
		count++;
	}
	return count;
}

const struct attack topic_attacks[] = {
	{"subscribe-storm", SHARED, begin_nothing, on_request_frame, turn_storm},
	{"subscribe-absent", SHARED, begin_nothing, on_request_frame, turn_absent},
	{"subscribe-unread", SHARED, begin_unread, on_request_frame, turn_unread},
	{"subscribe-unread-plain", PLAIN, begin_unread, on_request_frame, turn_unread},
	{"subscribe-bounds", SHARED, begin_nothing, on_request_frame, turn_bounds},
	{"subscribe-ones", SHARED, begin_nothing, on_request_frame, turn_ones},
	{"subscribe-counts", SHARED, begin_counter, on_sender_frame, turn_count},
	{"topics", SHARED, begin_nothing, on_request_frame, turn_topics},
	{"publish", SHARED, begin_publisher, on_sender_frame, turn_publish},
	{0},
};
