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

static bool put_request(struct attacker *attacker, struct session *session, uint8_t type, const void *payload,
			uint32_t length)
{
	if (session->outstanding >= REQUESTS_MOST ||
	    !session_put(attacker, session, type, ++session->step, payload, length))
		return false;
	session->outstanding++;
	return true;
}

static bool put_subscribe(struct attacker *attacker, struct session *session, const char *address,
			  uint32_t flags)
{
	const struct frame_subscribe subscribe = {.flags = flags, .address = frame_text_of(address)};
	uint8_t payload[FRAME_SMALL_MAX];

	return put_request(attacker, session, FRAME_SUBSCRIBE, payload,
			   frame_subscribe_encode(&subscribe, payload));
}

/* Subscribes, and the next time takes that back. */
static bool put_in_turn(struct attacker *attacker, struct session *session, const char *address,
			uint32_t flags)
{
	return session->next & 1
		       ? put_request(attacker, session, FRAME_UNBIND, address, (uint32_t)strlen(address))
		       : put_subscribe(attacker, session, address, flags);
}

static void begin_nothing(struct attacker *attacker, struct session *session)
{
	session->outstanding = session->next = session->step = 0;
}

/* --- who comes and goes ----------------------------------------------------------------------- */

static bool put_storm(struct attacker *attacker, struct session *session)
{
	if (!put_in_turn(attacker, session, attacker->address, 0))
		return false;
	session->next++;
	return true;
}

/* Topics that aren't there, another one each time, of which each session has some. */
static bool put_absent(struct attacker *attacker, struct session *session)
{
	char address[80];

	snprintf(address, sizeof(address), "%s-%u-%u", attacker->address, index_of(attacker, session),
		 session->next / 2 % 64);
	if (!put_in_turn(attacker, session, address, 0))
		return false;
	session->next += session->next < 128 ? 2 : 1; /* the first ones stay */
	return true;
}

/* Subscribes once, and never takes anything. */
static void begin_unread(struct attacker *attacker, struct session *session)
{
	begin_nothing(attacker, session);
	put_subscribe(attacker, session, attacker->address, 0);
}

/* --- bounds of one's own ---------------------------------------------------------------------- */

/* Comes with another bound each time: none, the smallest, the largest, and with bits that nobody knows. */
static bool put_bounds(struct attacker *attacker, struct session *session)
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

	if (!put_in_turn(attacker, session, attacker->address,
			 bounds[session->next / 2 % (sizeof(bounds) / sizeof(bounds[0]))]))
		return false;
	session->next++;
	return true;
}

/* Subscribes to some topics with a bound of 1, in both ways, and never takes anything. */
static bool put_ones(struct attacker *attacker, struct session *session)
{
	uint32_t way = session->next & 1 ? SUBSCRIBE_OLDEST : 0;
	char address[80];

	snprintf(address, sizeof(address), "%s-%u", attacker->address, session->next);
	if (session->next >= TOPICS_OF_ONE ||
	    !put_subscribe(attacker, session, address, 1u << SUBSCRIBE_QUEUE_SHIFT | way))
		return false;
	session->next++;
	return true;
}

/* Of the sender on a channel. */
static void on_sender_frame(struct attacker *attacker, struct session *session,
			    const struct frame_header *header, const uint8_t *payload)
{
	session->limit = session_limit_told(header, payload, session->limit);
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

static bool put_count(struct attacker *attacker, struct session *session)
{
	uint8_t message[8 + PROPERTIES_WRITE + MESSAGE_TRAILER_SIZE] = {0};
	const struct properties properties = {.subscribes = true, .listeners = ++session->next};
	uint32_t size = properties_encode(&properties, message + 8);

	put_u32(message, size);
	message[4] = MESSAGE_REQUEST | MESSAGE_PROPERTIES;
	size = (uint32_t)message_span(size);
	put_u32(message + size - 4, session->next);
	if (!session->is_begun || session->sent + size > session->limit ||
	    !session_put(attacker, session, FRAME_DATA, 0, message, size))
		return false;
	session->sent += size;
	attacker->events++;
	return true;
}

/* --- who publishes ---------------------------------------------------------------------------- */

static bool put_bind(struct attacker *attacker, struct session *session, const char *name)
{
	const struct frame_bind bind = {.kinds = BIND_TOPIC, .endpoint = frame_text_of(name)};
	uint8_t payload[FRAME_SMALL_MAX];

	return put_request(attacker, session, FRAME_BIND, payload, frame_bind_encode(&bind, payload));
}

/* Topics by the hundred, which come and go; each is looked at by those that wait for one of its name. */
static bool put_topic(struct attacker *attacker, struct session *session)
{
	bool goes = session->next / TOPICS_EACH & 1;
	char name[64];

	snprintf(name, sizeof(name), "%s-%u-%u", attacker->address, index_of(attacker, session),
		 session->next % TOPICS_EACH);
	if (!(goes ? put_request(attacker, session, FRAME_UNBIND, name, (uint32_t)strlen(name))
		   : put_bind(attacker, session, name)))
		return false;
	session->next++;
	return true;
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

static bool put_publication(struct attacker *attacker, struct session *session)
{
	static uint8_t messages[TOGETHER * MESSAGE_SIZE];

	for (unsigned i = 0; i < TOGETHER; i++)
		messages[i * MESSAGE_SIZE] = 1;
	if (!session->is_begun || session->sent + sizeof(messages) > session->limit ||
	    !session_put(attacker, session, FRAME_DATA, 0, messages, sizeof(messages)))
		return false;
	session->sent += sizeof(messages);
	attacker->events += TOGETHER;
	return true;
}

const struct attack topic_attacks[] = {
	{"subscribe-storm", SHARED, .begin = begin_nothing, .frame = on_request_frame, .put = put_storm},
	{"subscribe-absent", SHARED, .begin = begin_nothing, .frame = on_request_frame, .put = put_absent},
	{"subscribe-unread", SHARED, .begin = begin_unread, .frame = on_request_frame},
	{"subscribe-unread-plain", PLAIN, .begin = begin_unread, .frame = on_request_frame},
	{"subscribe-bounds", SHARED, .begin = begin_nothing, .frame = on_request_frame, .put = put_bounds},
	{"subscribe-ones", SHARED, .begin = begin_nothing, .frame = on_request_frame, .put = put_ones},
	{"subscribe-counts", SHARED, .begin = begin_counter, .frame = on_sender_frame, .put = put_count},
	{"topics", SHARED, .begin = begin_nothing, .frame = on_request_frame, .put = put_topic},
	{"publish", SHARED, .begin = begin_publisher, .frame = on_sender_frame, .put = put_publication},
	{0},
};
