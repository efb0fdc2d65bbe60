/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/frame.h"

#include <stdio.h>
#include <string.h>

#include "wire/cursor.h"

static void take_identity(struct cursor *cursor, struct frame_identity *identity)
{
	identity->domid = take_u32(cursor);
	identity->uid = take_u32(cursor);
	identity->gid = take_u32(cursor);
	identity->pid = take_u32(cursor);
}

static void put_identity(uint8_t *at, const struct frame_identity *identity)
{
	put_u32(at, identity->domid);
	put_u32(at + 4, identity->uid);
	put_u32(at + 8, identity->gid);
	put_u32(at + 12, identity->pid);
}

/* Appends a domain's name and its host's. */
static uint8_t *put_sender(uint8_t *at, const uint8_t *start, struct frame_text domain_name,
			   struct frame_text host)
{
	at = put_more_text(at, start, domain_name);
	if (host.size && !domain_name.size && at - start < FRAME_PAYLOAD_MAX)
		*at++ = '\0'; /* no name */
	return put_more_text(at, start, host);
}

static void split_sender(struct frame_text *text, struct frame_text *domain_name, struct frame_text *host)
{
	*domain_name = split(text);
	split_two(domain_name, host);
}

#define OPENED_IDENTITY 0x1u
#define OPENED_TOPIC	2u /* it is a topic that has accepted it */
#define OPENED_SIZE	36u

const char *frame_type_name(uint8_t type)
{
	static const char *const names[] = {
		[FRAME_HELLO] = "HELLO",
		[FRAME_WELCOME] = "WELCOME",
		[FRAME_GOODBYE] = "GOODBYE",
		[FRAME_PING] = "PING",
		[FRAME_PONG] = "PONG",
		[FRAME_ACK] = "ACK",
		[FRAME_DIRECTORY] = "DIRECTORY",
		[FRAME_PROVE] = "PROVE",
		[FRAME_RESUME] = "RESUME",
		[FRAME_OFFER] = "OFFER",
		[FRAME_MOVE] = "MOVE",
		[FRAME_DECLINE] = "DECLINE",
		[FRAME_ASK] = "ASK",
		[FRAME_TOLD] = "TOLD",
		[FRAME_UNASK] = "UNASK",
		[FRAME_OPEN] = "OPEN",
		[FRAME_OPENED] = "OPENED",
		[FRAME_DATA] = "DATA",
		[FRAME_CREDIT] = "CREDIT",
		[FRAME_FIN] = "FIN",
		[FRAME_RESET] = "RESET",
		[FRAME_CANCEL] = "CANCEL",
		[FRAME_CANCELLED] = "CANCELLED",
		[FRAME_SOURCE] = "SOURCE",
		[FRAME_WITHDRAW] = "WITHDRAW",
		[FRAME_TAKEOVER] = "TAKEOVER",
		[FRAME_BIND] = "BIND",
		[FRAME_UNBIND] = "UNBIND",
		[FRAME_WATCH] = "WATCH",
		[FRAME_UNWATCH] = "UNWATCH",
		[FRAME_EVENT] = "EVENT",
		[FRAME_QUERY] = "QUERY",
		[FRAME_PROBE] = "PROBE",
		[FRAME_REPLY] = "REPLY",
		[FRAME_ACCEPT] = "ACCEPT",
		[FRAME_INCOMING] = "INCOMING",
		[FRAME_DRAIN] = "DRAIN",
		[FRAME_SELF] = "SELF",
		[FRAME_SUBSCRIBE] = "SUBSCRIBE",
		[FRAME_UNSUBSCRIBE] = "UNSUBSCRIBE",
		[FRAME_MEMORY] = "MEMORY",
		[FRAME_POLICY] = "POLICY",
		[FRAME_LISTENERS] = "LISTENERS",
		[FRAME_IDLE] = "IDLE",
	};

	return type < sizeof(names) / sizeof(names[0]) && names[type] ? names[type] : "unknown";
}

uint32_t frame_hello_local_encode(const struct frame_hello_local *hello, uint8_t *out)
{
	put_u16(out, hello->major);
	put_u16(out + 2, hello->minor);
	put_u32(out + 4, hello->flags);
	return 8;
}

int frame_hello_local_decode(const uint8_t *payload, uint32_t length, struct frame_hello_local *hello)
{
	struct cursor cursor = cursor_of(payload, length);

	hello->major = take_u16(&cursor);
	hello->minor = take_u16(&cursor);
	hello->flags = take_u32(&cursor);
	return cursor.error;
}

uint32_t frame_welcome_encode(const struct frame_welcome *welcome, uint8_t *out)
{
	put_u16(out, welcome->major);
	put_u16(out + 2, welcome->minor);
	put_u32(out + 4, welcome->flags);
	put_u32(out + 8, welcome->domid);
	put_u32(out + 12, 0);
	put_u64(out + 16, welcome->max_message);
	memcpy(out + 24, welcome->instance, 16);
	if (!(welcome->flags & HELLO_SHARED_MEMORY))
		return 40;
	for (unsigned i = 0; i < LOCAL_RINGS; i++) {
		uint8_t *at = out + 40 + 16 * i;

		put_u32(at, welcome->rings[i].control);
		put_u32(at + 4, welcome->rings[i].data);
		put_u32(at + 8, welcome->rings[i].size);
		put_u32(at + 12, 0);
	}
	return 40 + 16 * LOCAL_RINGS;
}

int frame_welcome_decode(const uint8_t *payload, uint32_t length, struct frame_welcome *welcome)
{
	struct cursor cursor = cursor_of(payload, length);

	memset(welcome, 0, sizeof(*welcome));
	welcome->major = take_u16(&cursor);
	welcome->minor = take_u16(&cursor);
	welcome->flags = take_u32(&cursor);
	welcome->domid = take_u32(&cursor);
	take_u32(&cursor);
	welcome->max_message = take_u64(&cursor);
	take_bytes(&cursor, welcome->instance, 16);
	if (!(welcome->flags & HELLO_SHARED_MEMORY))
		return cursor.error;
	for (unsigned i = 0; i < LOCAL_RINGS; i++) {
		welcome->rings[i].control = take_u32(&cursor);
		welcome->rings[i].data = take_u32(&cursor);
		welcome->rings[i].size = take_u32(&cursor);
		take_u32(&cursor);
	}
	return cursor.error;
}

uint32_t frame_goodbye_encode(const struct frame_goodbye *goodbye, uint8_t *out)
{
	put_u32(out, goodbye->error);
	return (uint32_t)(put_text(out + 4, out, goodbye->text) - out);
}

int frame_goodbye_decode(const uint8_t *payload, uint32_t length, struct frame_goodbye *goodbye)
{
	struct cursor cursor = cursor_of(payload, length);

	goodbye->error = take_u32(&cursor);
	goodbye->text = take_text(&cursor);
	return cursor.error;
}

uint32_t frame_open_encode(const struct frame_open *open, uint8_t *out)
{
	put_u32(out, open->kind | (uint32_t)open->serial << 16);
	put_identity(out + 4, &open->identity);
	return (uint32_t)(put_sender(put_text(out + 20, out, open->name), out, open->domain_name,
				     open->host) -
			  out);
}

int frame_open_decode(const uint8_t *payload, uint32_t length, struct frame_open *open)
{
	struct cursor cursor = cursor_of(payload, length);

	open->kind = take_u8(&cursor);
	take_u8(&cursor); /* for a later version */
	open->serial = take_u16(&cursor);
	take_identity(&cursor, &open->identity);
	open->name = take_text(&cursor);
	open->domain_name = open->host = (struct frame_text){.data = NULL};
	return cursor.error;
}

void frame_open_split(struct frame_open *open)
{
	split_sender(&open->name, &open->domain_name, &open->host);
}

uint32_t frame_opened_encode(const struct frame_opened *opened, uint8_t *out)
{
	put_u64(out, opened->limit);
	put_u64(out + 8, opened->max_message);
	put_u16(out + 16, 0);
	put_u16(out + 18, (uint16_t)((opened->has_identity ? OPENED_IDENTITY : 0) |
				     (opened->is_topic ? OPENED_TOPIC : 0)));
	if (!opened->has_identity)
		return OPENED_SIZE - 16;
	put_identity(out + 20, &opened->identity);
	return OPENED_SIZE;
}

int frame_opened_decode(const uint8_t *payload, uint32_t length, struct frame_opened *opened)
{
	struct cursor cursor = cursor_of(payload, length);
	uint16_t flags;

	memset(opened, 0, sizeof(*opened));
	opened->limit = take_u64(&cursor);
	opened->max_message = take_u64(&cursor);
	take_u16(&cursor); /* for a later version */
	flags = take_u16(&cursor);
	opened->is_topic = flags & OPENED_TOPIC;
	opened->has_identity = flags & OPENED_IDENTITY;
	if (opened->has_identity)
		take_identity(&cursor, &opened->identity);
	return cursor.error;
}

uint32_t frame_credit_encode(const struct frame_credit *credit, uint8_t *out)
{
	put_u64(out, credit->consumed);
	put_u64(out + 8, credit->limit);
	if (!credit->flags) /* as a rule */
		return 16;
	put_u32(out + 16, credit->flags);
	return 20;
}

int frame_credit_decode(const uint8_t *payload, uint32_t length, struct frame_credit *credit)
{
	struct cursor cursor = cursor_of(payload, length);

	credit->consumed = take_u64(&cursor);
	credit->limit = take_u64(&cursor);
	credit->flags = length < 20 ? 0 : take_u32(&cursor);
	return cursor.error;
}

uint32_t frame_reset_encode(const struct frame_reset *reset, uint8_t *out)
{
	put_u32(out, reset->error);
	put_u32(out + 4, reset->flags);
	put_u64(out + 8, reset->consumed);
	put_u64(out + 16, reset->unsure);
	return 24;
}

int frame_reset_decode(const uint8_t *payload, uint32_t length, struct frame_reset *reset)
{
	struct cursor cursor = cursor_of(payload, length);

	reset->error = take_u32(&cursor);
	reset->flags = take_u32(&cursor) & (RESET_REFUSED | RESET_BY);
	reset->consumed = take_u64(&cursor);
	reset->unsure = take_u64(&cursor);
	return cursor.error;
}

uint32_t frame_takeover_encode(const struct frame_takeover *takeover, uint8_t *out)
{
	put_u64(out, takeover->consumed);
	put_u64(out + 8, takeover->unsure);
	return 16;
}

int frame_takeover_decode(const uint8_t *payload, uint32_t length, struct frame_takeover *takeover)
{
	struct cursor cursor = cursor_of(payload, length);

	takeover->consumed = take_u64(&cursor);
	takeover->unsure = take_u64(&cursor);
	return cursor.error;
}

uint32_t frame_cancelled_encode(const struct frame_cancelled *cancelled, uint8_t *out)
{
	put_u64(out, cancelled->offset);
	put_u32(out + 8, cancelled->result);
	return 12;
}

int frame_cancelled_decode(const uint8_t *payload, uint32_t length, struct frame_cancelled *cancelled)
{
	struct cursor cursor = cursor_of(payload, length);

	cancelled->offset = take_u64(&cursor);
	cancelled->result = take_u32(&cursor);
	return cursor.error;
}

uint32_t frame_bind_encode(const struct frame_bind *bind, uint8_t *out)
{
	put_u32(out, bind->kinds);
	return (uint32_t)(put_text(out + 4, out, bind->endpoint) - out);
}

int frame_bind_decode(const uint8_t *payload, uint32_t length, struct frame_bind *bind)
{
	struct cursor cursor = cursor_of(payload, length);

	bind->kinds = take_u32(&cursor);
	bind->endpoint = take_text(&cursor);
	return cursor.error;
}

uint32_t frame_subscribe_encode(const struct frame_subscribe *subscribe, uint8_t *out)
{
	put_u32(out, subscribe->flags);
	return (uint32_t)(put_text(out + 4, out, subscribe->address) - out);
}

int frame_subscribe_decode(const uint8_t *payload, uint32_t length, struct frame_subscribe *subscribe)
{
	struct cursor cursor = cursor_of(payload, length);

	subscribe->flags = take_u32(&cursor);
	subscribe->address = take_text(&cursor);
	return cursor.error;
}

uint32_t frame_listeners_encode(const struct frame_listeners *listeners, uint8_t *out)
{
	put_u64(out, listeners->count);
	return (uint32_t)(put_text(out + 8, out, listeners->endpoint) - out);
}

int frame_listeners_decode(const uint8_t *payload, uint32_t length, struct frame_listeners *listeners)
{
	struct cursor cursor = cursor_of(payload, length);

	listeners->count = take_u64(&cursor);
	listeners->endpoint = take_text(&cursor);
	return cursor.error;
}

uint32_t frame_event_encode(const struct frame_event *event, uint8_t *out)
{
	put_u32(out, event->kind);
	put_u32(out + 4, event->domid);
	return (uint32_t)(put_sender(put_text(out + 8, out, event->text), out, event->domain_name,
				     event->host) -
			  out);
}

int frame_event_decode(const uint8_t *payload, uint32_t length, struct frame_event *event)
{
	struct cursor cursor = cursor_of(payload, length);

	event->kind = take_u32(&cursor);
	event->domid = take_u32(&cursor);
	event->text = take_text(&cursor);
	split_sender(&event->text, &event->domain_name, &event->host);
	return cursor.error;
}

uint32_t frame_reply_encode(const struct frame_reply *reply, uint8_t *out)
{
	put_u32(out, reply->error);
	put_u32(out + 4, 0);
	return (uint32_t)(put_text(out + 8, out, reply->body) - out);
}

int frame_reply_decode(const uint8_t *payload, uint32_t length, struct frame_reply *reply)
{
	struct cursor cursor = cursor_of(payload, length);

	reply->error = take_u32(&cursor);
	take_u32(&cursor);
	reply->body = take_text(&cursor);
	return cursor.error;
}

/* Puts the serial as a text behind the sender's. */
static uint8_t *put_serial(uint8_t *at, const uint8_t *start, const struct frame_incoming *incoming)
{
	char text[8];

	if (!incoming->serial)
		return at;
	snprintf(text, sizeof(text), "%u", incoming->serial);
	for (int empty = incoming->host.size ? 0 : 1 + !incoming->domain_name.size; empty; empty--)
		if (at - start < FRAME_PAYLOAD_MAX)
			*at++ = '\0';
	return put_more_text(at, start, frame_text_of(text));
}

static uint16_t serial_of(struct frame_text text)
{
	uint32_t serial = 0;

	for (size_t i = 0; i < text.size && serial <= UINT16_MAX; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return 0;
		serial = serial * 10 + (uint32_t)(text.data[i] - '0');
	}
	return serial <= UINT16_MAX ? (uint16_t)serial : 0;
}

uint32_t frame_incoming_encode(const struct frame_incoming *incoming, uint8_t *out)
{
	uint8_t *end;

	put_u64(out, incoming->token);
	put_identity(out + 8, &incoming->identity);
	end = put_sender(put_text(out + 24, out, incoming->endpoint), out, incoming->domain_name,
			 incoming->host);
	return (uint32_t)(put_serial(end, out, incoming) - out);
}

int frame_incoming_decode(const uint8_t *payload, uint32_t length, struct frame_incoming *incoming)
{
	struct cursor cursor = cursor_of(payload, length);
	struct frame_text serial;

	incoming->token = take_u64(&cursor);
	take_identity(&cursor, &incoming->identity);
	incoming->endpoint = take_text(&cursor);
	incoming->domain_name = split(&incoming->endpoint);
	incoming->host = split(&incoming->domain_name);
	serial = split(&incoming->host);
	incoming->serial = serial_of(text_to_zero(serial));
	return cursor.error;
}

uint32_t frame_u64_encode(uint64_t value, uint8_t *out)
{
	put_u64(out, value);
	return 8;
}

int frame_u64_decode(const uint8_t *payload, uint32_t length, uint64_t *value)
{
	struct cursor cursor = cursor_of(payload, length);

	*value = take_u64(&cursor);
	return cursor.error;
}

uint32_t frame_u32_encode(uint32_t value, uint8_t *out)
{
	put_u32(out, value);
	return 4;
}

int frame_u32_decode(const uint8_t *payload, uint32_t length, uint32_t *value)
{
	struct cursor cursor = cursor_of(payload, length);

	*value = take_u32(&cursor);
	return cursor.error;
}
