/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/frame.h"

#include <stdio.h>
#include <string.h>

#include "wire/cursor.h"

static inline void code_identity(struct coder *coder, struct frame_identity *identity)
{
	code_u32(coder, &identity->domid);
	code_u32(coder, &identity->uid);
	code_u32(coder, &identity->gid);
	code_u32(coder, &identity->pid);
}

/* Appends a domain's name and its host's. */
static void put_sender(struct coder *coder, struct frame_text domain_name, struct frame_text host)
{
	put_more_text(coder, domain_name);
	if (host.size && !domain_name.size)
		put_no_text(coder);
	put_more_text(coder, host);
}

static void split_sender(struct frame_text *text, struct frame_text *domain_name, struct frame_text *host)
{
	*domain_name = split(text);
	split_two(domain_name, host);
}

#define OPENED_IDENTITY 0x1u
#define OPENED_TOPIC	2u /* it is a topic that has accepted it */

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
		[FRAME_OPEN] = "OPEN",
		[FRAME_OPENED] = "OPENED",
		[FRAME_DATA] = "DATA",
		[FRAME_CREDIT] = "CREDIT",
		[FRAME_FIN] = "FIN",
		[FRAME_RESET] = "RESET",
		[FRAME_CANCEL] = "CANCEL",
		[FRAME_CANCELLED] = "CANCELLED",
		[FRAME_SENDER] = "SENDER",
		[FRAME_WITHDRAW] = "WITHDRAW",
		[FRAME_REASSIGNED] = "REASSIGNED",
		[FRAME_BIND] = "BIND",
		[FRAME_UNBIND] = "UNBIND",
		[FRAME_REPLY] = "REPLY",
		[FRAME_ACCEPT] = "ACCEPT",
		[FRAME_INCOMING] = "INCOMING",
		[FRAME_DRAIN] = "DRAIN",
		[FRAME_SELF] = "SELF",
		[FRAME_SUBSCRIBE] = "SUBSCRIBE",
		[FRAME_MEMORY] = "MEMORY",
		[FRAME_POLICY] = "POLICY",
		[FRAME_LISTENERS] = "LISTENERS",
		[FRAME_IDLE] = "IDLE",
	};

	return type < sizeof(names) / sizeof(names[0]) && names[type] ? names[type] : "unknown";
}

static inline void code_hello_local(struct coder *coder, struct frame_hello_local *hello)
{
	code_u16(coder, &hello->major);
	code_u16(coder, &hello->minor);
	code_u32(coder, &hello->flags);
}
BOTH_WAYS(hello_local)

static inline void code_welcome(struct coder *coder, struct frame_welcome *welcome)
{
	if (!coder->writes)
		memset(welcome, 0, sizeof(*welcome));
	code_u16(coder, &welcome->major);
	code_u16(coder, &welcome->minor);
	code_u32(coder, &welcome->flags);
	code_u32(coder, &welcome->domid);
	code_later(coder, 4);
	code_u64(coder, &welcome->max_message);
	code_bytes(coder, welcome->instance, sizeof(welcome->instance));
	for (unsigned i = 0; i < LOCAL_RINGS && welcome->flags & HELLO_SHARED_MEMORY; i++) {
		code_u32(coder, &welcome->rings[i].control);
		code_u32(coder, &welcome->rings[i].data);
		code_u32(coder, &welcome->rings[i].size);
		code_later(coder, 4);
	}
}
BOTH_WAYS(welcome)

static inline void code_goodbye(struct coder *coder, struct frame_goodbye *goodbye)
{
	code_u32(coder, &goodbye->error);
	code_text(coder, &goodbye->text);
}
BOTH_WAYS(goodbye)

static inline void code_open(struct coder *coder, struct frame_open *open)
{
	code_u8(coder, &open->kind);
	code_u8(coder, &open->flags);
	code_u16(coder, &open->serial);
	code_identity(coder, &open->identity);
	code_text(coder, &open->name);
	if (coder->writes)
		put_sender(coder, open->domain_name, open->host);
	else
		open->domain_name = open->host = (struct frame_text){.data = NULL};
}
BOTH_WAYS(open)

void frame_open_split(struct frame_open *open)
{
	split_sender(&open->name, &open->domain_name, &open->host);
}

static inline void code_opened(struct coder *coder, struct frame_opened *opened)
{
	uint16_t flags;

	if (!coder->writes)
		memset(opened, 0, sizeof(*opened));
	flags = (uint16_t)((opened->has_identity ? OPENED_IDENTITY : 0) |
			   (opened->is_topic ? OPENED_TOPIC : 0));
	code_u64(coder, &opened->limit);
	code_u64(coder, &opened->max_message);
	code_later(coder, 2);
	code_u16(coder, &flags);
	if (!coder->writes) {
		opened->is_topic = flags & OPENED_TOPIC;
		opened->has_identity = flags & OPENED_IDENTITY;
	}
	if (flags & OPENED_IDENTITY)
		code_identity(coder, &opened->identity);
}
BOTH_WAYS(opened)

static inline void code_credit(struct coder *coder, struct frame_credit *credit)
{
	code_u64(coder, &credit->consumed);
	code_u64(coder, &credit->limit);
	if (!coder->writes)
		credit->flags = 0;
	/* As a rule there are none. */
	if (coder->writes ? credit->flags != 0 : coder->in.end - coder->in.at >= 4)
		code_u32(coder, &credit->flags);
}
BOTH_WAYS(credit)

static inline void code_reset(struct coder *coder, struct frame_reset *reset)
{
	code_u32(coder, &reset->error);
	code_u32(coder, &reset->flags);
	code_u64(coder, &reset->consumed);
	code_u64(coder, &reset->unsure);
	if (!coder->writes)
		reset->flags &= RESET_REFUSED | RESET_BY | RESET_CAUSE;
}
BOTH_WAYS(reset)

static inline void code_reassigned(struct coder *coder, struct frame_reassigned *reassigned)
{
	code_u64(coder, &reassigned->consumed);
	code_u64(coder, &reassigned->unsure);
}
BOTH_WAYS(reassigned)

static inline void code_cancelled(struct coder *coder, struct frame_cancelled *cancelled)
{
	code_u64(coder, &cancelled->offset);
	code_u32(coder, &cancelled->result);
}
BOTH_WAYS(cancelled)

static inline void code_bind(struct coder *coder, struct frame_bind *bind)
{
	code_u32(coder, &bind->kinds);
	code_text(coder, &bind->endpoint);
}
BOTH_WAYS(bind)

static inline void code_sender(struct coder *coder, struct frame_sender *sender)
{
	code_u32(coder, &sender->domid);
	code_text(coder, &sender->domain_name);
}
BOTH_WAYS(sender)

static inline void code_subscribe(struct coder *coder, struct frame_subscribe *subscribe)
{
	code_u32(coder, &subscribe->flags);
	code_text(coder, &subscribe->address);
}
BOTH_WAYS(subscribe)

static inline void code_listeners(struct coder *coder, struct frame_listeners *listeners)
{
	code_u64(coder, &listeners->count);
	code_text(coder, &listeners->endpoint);
}
BOTH_WAYS(listeners)

static inline void code_event(struct coder *coder, struct frame_event *event)
{
	code_u32(coder, &event->kind);
	code_u32(coder, &event->domid);
	code_text(coder, &event->text);
	if (coder->writes)
		put_sender(coder, event->domain_name, event->host);
	else
		split_sender(&event->text, &event->domain_name, &event->host);
}
BOTH_WAYS(event)

static inline void code_reply(struct coder *coder, struct frame_reply *reply)
{
	code_u32(coder, &reply->error);
	code_later(coder, 4);
	code_text(coder, &reply->body);
}
BOTH_WAYS(reply)

/* Puts the serial as a text behind the sender's. */
static void put_serial(struct coder *coder, const struct frame_incoming *incoming)
{
	char text[8];

	if (!incoming->serial)
		return;
	snprintf(text, sizeof(text), "%u", incoming->serial);
	for (int empty = incoming->host.size ? 0 : 1 + !incoming->domain_name.size; empty; empty--)
		put_no_text(coder);
	put_more_text(coder, frame_text_of(text));
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

static inline void code_incoming(struct coder *coder, struct frame_incoming *incoming)
{
	code_u64(coder, &incoming->token);
	code_identity(coder, &incoming->identity);
	code_text(coder, &incoming->endpoint);
	if (coder->writes) {
		put_sender(coder, incoming->domain_name, incoming->host);
		put_serial(coder, incoming);
	} else {
		incoming->domain_name = split(&incoming->endpoint);
		incoming->host = split(&incoming->domain_name);
		incoming->serial = serial_of(text_to_zero(split(&incoming->host)));
	}
}
BOTH_WAYS(incoming)

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
