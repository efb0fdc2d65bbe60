/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/frame.h"

#include <errno.h>
#include <string.h>

#include "wire/bytes.h"

/* A cursor over a payload. Each read is bounded, and one that runs past the end marks the whole payload as
 * bad. */
struct cursor {
	const uint8_t *at;
	const uint8_t *end;
	int error;
};

static struct cursor cursor_of(const uint8_t *payload, uint32_t length)
{
	return (struct cursor){.at = payload, .end = payload + length};
}

static const uint8_t *take(struct cursor *cursor, size_t size)
{
	const uint8_t *at = cursor->at;

	if ((size_t)(cursor->end - at) < size) {
		cursor->error = -EPROTO;
		cursor->at = cursor->end;
		return NULL;
	}
	cursor->at += size;
	return at;
}

static uint8_t take_u8(struct cursor *cursor)
{
	const uint8_t *at = take(cursor, 1);

	return at ? *at : 0;
}

static uint16_t take_u16(struct cursor *cursor)
{
	const uint8_t *at = take(cursor, 2);

	return at ? get_u16(at) : 0;
}

static uint32_t take_u32(struct cursor *cursor)
{
	const uint8_t *at = take(cursor, 4);

	return at ? get_u32(at) : 0;
}

static uint64_t take_u64(struct cursor *cursor)
{
	const uint8_t *at = take(cursor, 8);

	return at ? get_u64(at) : 0;
}

static void take_bytes(struct cursor *cursor, void *out, size_t size)
{
	const uint8_t *at = take(cursor, size);

	if (at)
		memcpy(out, at, size);
	else
		memset(out, 0, size);
}

static void take_identity(struct cursor *cursor, struct frame_identity *identity)
{
	identity->domid = take_u32(cursor);
	identity->uid = take_u32(cursor);
	identity->gid = take_u32(cursor);
	identity->pid = take_u32(cursor);
}

static struct frame_text take_text(struct cursor *cursor)
{
	struct frame_text text = {.data = (const char *)cursor->at,
				  .size = (size_t)(cursor->end - cursor->at)};

	cursor->at = cursor->end;
	return text;
}

static struct frame_text text_to_zero(struct frame_text text)
{
	const char *zero = text.size ? memchr(text.data, '\0', text.size) : NULL;

	if (zero)
		text.size = (size_t)(zero - text.data);
	return text;
}

void frame_text_split(struct frame_text *text, struct frame_text *second)
{
	struct frame_text first = text_to_zero(*text);

	*second = (struct frame_text){.data = NULL};
	if (first.size < text->size)
		*second = text_to_zero(
			(struct frame_text){text->data + first.size + 1, text->size - first.size - 1});
	*text = first;
}

static void put_identity(uint8_t *at, const struct frame_identity *identity)
{
	put_u32(at, identity->domid);
	put_u32(at + 4, identity->uid);
	put_u32(at + 8, identity->gid);
	put_u32(at + 12, identity->pid);
}

static uint8_t *put_text(uint8_t *at, const uint8_t *start, struct frame_text text)
{
	size_t room = FRAME_PAYLOAD_MAX - (size_t)(at - start);

	if (text.size > room)
		text.size = room;
	if (text.size)
		memcpy(at, text.data, text.size);
	return at + text.size;
}

/* Appends a text behind those already written. */
static uint8_t *put_more_text(uint8_t *at, const uint8_t *start, struct frame_text text)
{
	if (!text.size || at - start >= FRAME_PAYLOAD_MAX)
		return at;
	*at++ = '\0';
	return put_text(at, start, text);
}

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

#define HELLO_RESUMES_SIZE 53u /* behind the version: a zero, nonce, purpose, secret */

uint32_t frame_hello_link_encode(const struct frame_hello_link *hello, uint8_t *out)
{
	struct frame_text version = hello->version;
	uint8_t *at;

	put_u16(out, hello->major);
	put_u16(out + 2, hello->minor);
	put_u32(out + 4, hello->flags);
	memcpy(out + 8, hello->instance, 16);
	memcpy(out + 24, hello->token, 16);
	put_u64(out + 40, hello->received);
	put_u64(out + 48, hello->max_message);
	if (!hello->resumes)
		return (uint32_t)(put_text(out + 56, out, hello->version) - out);
	if (version.size > FRAME_PAYLOAD_MAX - 56 - HELLO_RESUMES_SIZE)
		version.size = FRAME_PAYLOAD_MAX - 56 - HELLO_RESUMES_SIZE;
	at = put_text(out + 56, out, version);
	*at = '\0';
	memcpy(at + 1, hello->nonce, 16);
	put_u32(at + 17, hello->purpose);
	memcpy(at + 21, hello->secret, 32);
	return (uint32_t)(at + HELLO_RESUMES_SIZE - out);
}

int frame_hello_link_decode(const uint8_t *payload, uint32_t length, struct frame_hello_link *hello)
{
	struct cursor cursor = cursor_of(payload, length);
	struct frame_text text;

	*hello = (struct frame_hello_link){0};
	hello->major = take_u16(&cursor);
	hello->minor = take_u16(&cursor);
	hello->flags = take_u32(&cursor);
	take_bytes(&cursor, hello->instance, 16);
	take_bytes(&cursor, hello->token, 16);
	hello->received = take_u64(&cursor);
	hello->max_message = take_u64(&cursor);
	text = take_text(&cursor);
	hello->version = text_to_zero(text);
	hello->resumes = text.size - hello->version.size >= HELLO_RESUMES_SIZE;
	if (!hello->resumes)
		return cursor.error;
	cursor.at = (const uint8_t *)hello->version.data + hello->version.size + 1;
	take_bytes(&cursor, hello->nonce, 16);
	hello->purpose = take_u32(&cursor);
	take_bytes(&cursor, hello->secret, 32);
	return cursor.error;
}

uint32_t frame_prove_encode(const struct frame_prove *prove, uint8_t *out)
{
	put_u32(out, prove->epoch);
	put_u32(out + 4, 0);
	memcpy(out + 8, prove->proof, 32);
	return 40;
}

int frame_prove_decode(const uint8_t *payload, uint32_t length, struct frame_prove *prove)
{
	struct cursor cursor = cursor_of(payload, length);

	prove->epoch = take_u32(&cursor);
	take_u32(&cursor);
	take_bytes(&cursor, prove->proof, 32);
	return cursor.error;
}

uint32_t frame_resume_encode(const struct frame_resume *resume, uint8_t *out)
{
	put_u64(out, resume->received);
	put_u32(out + 8, resume->epoch);
	put_u32(out + 12, 0);
	return 16;
}

int frame_resume_decode(const uint8_t *payload, uint32_t length, struct frame_resume *resume)
{
	struct cursor cursor = cursor_of(payload, length);

	resume->received = take_u64(&cursor);
	resume->epoch = take_u32(&cursor);
	take_u32(&cursor);
	return cursor.error;
}

uint32_t frame_offer_encode(const struct frame_offer *offer, uint8_t *out)
{
	put_u32(out, offer->ring_ref);
	put_u32(out + 4, offer->port);
	put_u32(out + 8, offer->epoch);
	put_u32(out + 12, 0);
	return 16;
}

int frame_offer_decode(const uint8_t *payload, uint32_t length, struct frame_offer *offer)
{
	struct cursor cursor = cursor_of(payload, length);

	offer->ring_ref = take_u32(&cursor);
	offer->port = take_u32(&cursor);
	offer->epoch = take_u32(&cursor);
	take_u32(&cursor);
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
	put_u32(out, open->kind);
	put_identity(out + 4, &open->identity);
	return (uint32_t)(put_more_text(put_text(out + 20, out, open->name), out, open->domain_name) - out);
}

int frame_open_decode(const uint8_t *payload, uint32_t length, struct frame_open *open)
{
	struct cursor cursor = cursor_of(payload, length);

	open->kind = take_u8(&cursor);
	take_u8(&cursor);
	take_u16(&cursor);
	take_identity(&cursor, &open->identity);
	open->name = take_text(&cursor);
	open->domain_name = (struct frame_text){.data = NULL};
	return cursor.error;
}

uint32_t frame_opened_encode(const struct frame_opened *opened, uint8_t *out)
{
	put_u64(out, opened->limit);
	put_u64(out + 8, opened->max_message);
	return 16;
}

int frame_opened_decode(const uint8_t *payload, uint32_t length, struct frame_opened *opened)
{
	struct cursor cursor = cursor_of(payload, length);

	opened->limit = take_u64(&cursor);
	opened->max_message = take_u64(&cursor);
	return cursor.error;
}

uint32_t frame_credit_encode(const struct frame_credit *credit, uint8_t *out)
{
	put_u64(out, credit->consumed);
	put_u64(out + 8, credit->limit);
	return 16;
}

int frame_credit_decode(const uint8_t *payload, uint32_t length, struct frame_credit *credit)
{
	struct cursor cursor = cursor_of(payload, length);

	credit->consumed = take_u64(&cursor);
	credit->limit = take_u64(&cursor);
	return cursor.error;
}

uint32_t frame_reset_encode(const struct frame_reset *reset, uint8_t *out)
{
	put_u32(out, reset->error);
	put_u32(out + 4, 0);
	put_u64(out + 8, reset->consumed);
	put_u64(out + 16, reset->unsure);
	return 24;
}

int frame_reset_decode(const uint8_t *payload, uint32_t length, struct frame_reset *reset)
{
	struct cursor cursor = cursor_of(payload, length);

	reset->error = take_u32(&cursor);
	take_u32(&cursor);
	reset->consumed = take_u64(&cursor);
	reset->unsure = take_u64(&cursor);
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

uint32_t frame_event_encode(const struct frame_event *event, uint8_t *out)
{
	put_u32(out, event->kind);
	put_u32(out + 4, event->domid);
	return (uint32_t)(put_more_text(put_text(out + 8, out, event->text), out, event->domain_name) - out);
}

int frame_event_decode(const uint8_t *payload, uint32_t length, struct frame_event *event)
{
	struct cursor cursor = cursor_of(payload, length);

	event->kind = take_u32(&cursor);
	event->domid = take_u32(&cursor);
	event->text = take_text(&cursor);
	frame_text_split(&event->text, &event->domain_name);
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

uint32_t frame_incoming_encode(const struct frame_incoming *incoming, uint8_t *out)
{
	put_u64(out, incoming->token);
	put_identity(out + 8, &incoming->identity);
	return (uint32_t)(put_more_text(put_text(out + 24, out, incoming->endpoint), out,
					incoming->domain_name) -
			  out);
}

int frame_incoming_decode(const uint8_t *payload, uint32_t length, struct frame_incoming *incoming)
{
	struct cursor cursor = cursor_of(payload, length);

	incoming->token = take_u64(&cursor);
	take_identity(&cursor, &incoming->identity);
	incoming->endpoint = take_text(&cursor);
	frame_text_split(&incoming->endpoint, &incoming->domain_name);
	return cursor.error;
}

uint32_t frame_directory_encode(const struct frame_directory *directory, uint8_t *out)
{
	put_u32(out, directory->flags);
	put_u32(out + 4, directory->count);
	return DIRECTORY_HEAD_SIZE;
}

uint32_t frame_directory_entry_encode(const struct frame_directory_entry *entry, uint8_t *out)
{
	size_t size = entry->name.size < DOMAIN_NAME_MAX ? entry->name.size : DOMAIN_NAME_MAX;

	put_u32(out, entry->domid);
	out[4] = (uint8_t)entry->state;
	if (entry->state == DIRECTORY_CHANGED) {
		out[5] = entry->leaves;
		return DIRECTORY_CHANGE;
	}
	memcpy(out + 5, entry->uuid, 16);
	out[21] = (uint8_t)size;
	if (size)
		memcpy(out + 22, entry->name.data, size);
	return 22 + (uint32_t)size;
}

int frame_directory_decode(const uint8_t *payload, uint32_t length, struct frame_directory *directory)
{
	struct cursor cursor = cursor_of(payload, length);

	directory->flags = take_u32(&cursor);
	directory->count = take_u32(&cursor);
	directory->at = cursor.at;
	directory->end = cursor.end;
	return cursor.error;
}

int frame_directory_next(struct frame_directory *directory, struct frame_directory_entry *entry)
{
	struct cursor cursor = {.at = directory->at, .end = directory->end};
	uint8_t state;

	if (directory->count == 0)
		return 0;
	entry->domid = take_u32(&cursor);
	state = take_u8(&cursor);
	entry->leaves = state == DIRECTORY_CHANGED ? take_u8(&cursor) : 0;
	if (state == DIRECTORY_CHANGED) {
		memset(entry->uuid, 0, sizeof(entry->uuid));
		entry->name = (struct frame_text){"", 0};
	} else {
		take_bytes(&cursor, entry->uuid, 16);
		entry->name.size = take_u8(&cursor);
		entry->name.data = (const char *)take(&cursor, entry->name.size);
	}
	if (cursor.error || entry->domid > DOMID_MAX || state > DIRECTORY_CHANGED ||
	    (entry->name.size && !domain_name_is_valid(entry->name.data, entry->name.size)))
		return -EPROTO;
	entry->state = (enum directory_state)state;
	directory->at = cursor.at;
	directory->count--;
	return 1;
}

uint32_t frame_ping_relayed_encode(const struct frame_ping_relayed *ping, uint8_t *out)
{
	put_u64(out, ping->token);
	put_u32(out + 8, ping->number);
	return FRAME_PING_RELAYED_SIZE;
}

int frame_ping_relayed_decode(const uint8_t *payload, uint32_t length, struct frame_ping_relayed *ping)
{
	struct cursor cursor = cursor_of(payload, length);

	ping->token = take_u64(&cursor);
	ping->number = take_u32(&cursor);
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
