/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_PROPERTIES_H
#define XENMSG_WIRE_PROPERTIES_H

/*
 * What a message says beside its payload (doc/protocol.md, 2.5): a block before the payload, of properties
 * each of which has its length and its kind. A reader skips a kind that it doesn't know.
 */

#include <stdint.h>

#include "wire/frame.h"

#define PROPERTIES_MAX	 4096u /* bytes of a block */
#define PROPERTIES_HEAD	 2u    /* of these its length is read */
#define TRACE_MAX	 255u
#define PROPERTIES_WRITE 584u /* the most that properties_encode() writes */

enum property_kind {
	PROPERTY_DEADLINE = 1, /* u32: for how many milliseconds an answer is wanted */
	PROPERTY_TRACE = 2,    /* text: where the message belongs in a trace */
	PROPERTY_SUBSCRIBE =
		3, /* of a call to a topic: u32 for how many; 0: that isn't told. It is a subscription */
	/* of what comes on a topic: u8 kind, u8 flags, u16 0, u32 error, u64 count. The message says this
	 * instead of a payload */
	PROPERTY_NOTICE = 4,
	PROPERTY_KEY = 5, /* of what is published: text: whose value it is, as for a trace */
	/* of a reply that comes in several messages: u32 which one, from 0; u32 flags (PART_MORE) */
	PROPERTY_PART = 6,
};

/* What a subscriber is told in its place between the messages of a topic (doc/protocol.md, 2.8). */
enum notice_kind {
	NOTICE_SUBSCRIBED = 1, /* from here on all is told: the count is of what was published before */
	NOTICE_MISSED = 2,     /* so many messages are missing here */
	NOTICE_WAITING = 3,    /* the topic has gone */
	NOTICE_ENDED = 4,      /* the subscription has ended, with the error */
	NOTICE_KEPT = 5,       /* the next message is one that is kept, published before */
};
#define NOTICE_UNKNOWN 1u /* and nobody knows how many more */
/* SUBSCRIBED: messages are kept for later subscribers, the last one of each key, of as many keys as `error`
 * says; 0: one. */
#define NOTICE_RETAINS 2u
/* SUBSCRIBED: more requests may tell how many subscribe by then. */
#define NOTICE_COUNTS 4u

struct notice {
	uint8_t kind; /* enum notice_kind; 0: none */
	uint8_t flags;
	uint32_t error;
	uint64_t count;
};
#define NOTICE_BLOCK 24u /* bytes of a block with a notice and nothing else */

#define PART_MORE 1u /* another part follows */

struct properties {
	bool has_deadline;
	uint32_t deadline_ms;
	struct frame_text trace, key; /* empty: none. Decoded, they point into the block */
	bool subscribes;
	uint32_t listeners; /* with that */
	struct notice notice;
	bool is_part, has_more;
	uint32_t part; /* with that */
};

static inline bool properties_are_there(const struct properties *properties)
{
	return properties->has_deadline || properties->trace.size || properties->key.size ||
	       properties->subscribes || properties->notice.kind || properties->is_part;
}

/* Returns whether a text can be a trace, or a key: 1 to TRACE_MAX printable characters of ASCII. */
bool trace_is_valid(const char *text, size_t size);
/* Writes a block, up to PROPERTIES_WRITE bytes. Returns its length, a multiple of 8. */
uint32_t properties_encode(const struct properties *properties, uint8_t *out);
/* Returns the length of the block that begins like this, before a payload that has `size` bytes with it;
 * -EPROTO: it can't be. */
int properties_length(const uint8_t head[PROPERTIES_HEAD], uint64_t size);
/* Decodes a block of this length. Returns 0 or -EPROTO. */
int properties_decode(const uint8_t *block, uint32_t length, struct properties *properties);
/* Does both for a payload that has `size` bytes with its block. Returns the block's length or -EPROTO. */
int properties_read(const uint8_t *payload, uint64_t size, struct properties *properties);

#endif
