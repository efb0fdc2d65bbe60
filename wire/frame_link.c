/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The frames that only daemons say to each other: how a link begins and goes on, and what it carries for
 * domain 0.
 */
#include "wire/frame.h"

#include <errno.h>
#include <string.h>

#include "wire/address.h"
#include "wire/cursor.h"

#define HELLO_FIXED_SIZE 49u /* behind the version: a zero, nonce, secret */
#define HELLO_VERSION_MAX                                                                                    \
	(FRAME_PAYLOAD_MAX - 32 - HELLO_FIXED_SIZE - HOST_NAME_SIZE - HELLO_TAGS * HELLO_TAG_SIZE)

/* Up to the version. */
static void code_hello(struct coder *coder, struct frame_hello_link *hello)
{
	code_u16(coder, &hello->major);
	code_u16(coder, &hello->minor);
	code_u32(coder, &hello->flags);
	code_bytes(coder, hello->instance, sizeof(hello->instance));
	code_u64(coder, &hello->max_message);
}

/* Behind it, and a zero. */
static void code_hello_more(struct coder *coder, struct frame_hello_link *hello)
{
	code_bytes(coder, hello->nonce, sizeof(hello->nonce));
	code_bytes(coder, hello->secret, sizeof(hello->secret));
}

uint32_t frame_hello_link_encode(const struct frame_hello_link *hello, uint8_t *out)
{
	struct frame_hello_link *written =
		(struct frame_hello_link *)(uintptr_t)hello; /* which is only read */
	struct coder coder = {.writes = true, .out = out, .start = out};
	struct frame_text version = hello->version;

	code_hello(&coder, written);
	if (version.size > HELLO_VERSION_MAX)
		version.size = HELLO_VERSION_MAX;
	code_text(&coder, &version);
	code_later(&coder, 1);
	code_hello_more(&coder, written);
	code_name(&coder, &written->host);
	code_bytes(&coder, written->tags, sizeof(written->tags));
	return (uint32_t)(coder.out - out);
}

int frame_hello_link_decode(const uint8_t *payload, uint32_t length, struct frame_hello_link *hello)
{
	struct coder coder = {.in = cursor_of(payload, length)};
	struct frame_text text;

	*hello = (struct frame_hello_link){0};
	code_hello(&coder, hello);
	text = take_text(&coder.in);
	hello->version = text_to_zero(text);
	if (coder.in.error || text.size - hello->version.size < HELLO_FIXED_SIZE)
		return -EPROTO;
	coder.in.at = (const uint8_t *)hello->version.data + hello->version.size + 1;
	code_hello_more(&coder, hello);
	code_name(&coder, &hello->host);
	if (coder.in.error || !host_name_is_valid(hello->host.data, hello->host.size))
		hello->host = (struct frame_text){.data = NULL};
	code_bytes(&coder, hello->tags, sizeof(hello->tags));
	return coder.in.error;
}

static inline void code_prove(struct coder *coder, struct frame_prove *prove)
{
	code_u32(coder, &prove->epoch);
	code_later(coder, 4);
	code_bytes(coder, prove->proof, sizeof(prove->proof));
}
BOTH_WAYS(prove)

static inline void code_resume(struct coder *coder, struct frame_resume *resume)
{
	code_u64(coder, &resume->received);
	code_u32(coder, &resume->epoch);
	code_later(coder, 4);
}
BOTH_WAYS(resume)

static inline void code_offer(struct coder *coder, struct frame_offer *offer)
{
	code_u32(coder, &offer->ring_ref);
	code_u32(coder, &offer->port);
	code_u32(coder, &offer->epoch);
	code_later(coder, 4);
}
BOTH_WAYS(offer)

static inline void code_directory_entry(struct coder *coder, struct frame_directory_entry *entry)
{
	uint8_t state = (uint8_t)entry->state;

	code_u32(coder, &entry->domid);
	code_u8(coder, &state);
	if (!coder->writes)
		entry->state = (enum directory_state)state;
	if (state == DIRECTORY_CHANGED) {
		code_u8(coder, &entry->leaves);
		return;
	}
	code_bytes(coder, entry->uuid, sizeof(entry->uuid));
	code_name(coder, &entry->name);
}
ENCODES(directory_entry)

static inline void code_directory(struct coder *coder, struct frame_directory *directory)
{
	code_u32(coder, &directory->flags);
	code_u32(coder, &directory->count);
	if (!coder->writes) {
		directory->at = coder->in.at;
		directory->end = coder->in.end;
	}
}
BOTH_WAYS(directory)

int frame_directory_next(struct frame_directory *directory, struct frame_directory_entry *entry)
{
	struct coder coder = {.in = {.at = directory->at, .end = directory->end}};

	if (directory->count == 0)
		return 0;
	*entry = (struct frame_directory_entry){.name = {"", 0}};
	code_directory_entry(&coder, entry);
	if (coder.in.error || entry->domid > DOMID_MAX || entry->state > DIRECTORY_CHANGED ||
	    (entry->name.size && !domain_name_is_valid(entry->name.data, entry->name.size)))
		return -EPROTO;
	directory->at = coder.in.at;
	directory->count--;
	return 1;
}

static inline void code_policy(struct coder *coder, struct frame_policy *policy)
{
	code_u32(coder, &policy->flags);
	code_text(coder, &policy->text);
}
BOTH_WAYS(policy)
