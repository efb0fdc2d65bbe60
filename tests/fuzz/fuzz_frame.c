/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Frames from an untrusted end: 16 bytes of header, then the payload, given to the decoder of the header's
 * type and, since a daemon may be sent anything, to each other one. What decodes must encode again to what
 * decodes to the same, and text must lie in the payload.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"
#include "wire/properties.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
	if (!truth)
		abort();
}

static void text_lies_in(struct frame_text text, const uint8_t *payload, uint32_t length)
{
	const uint8_t *at = (const uint8_t *)text.data;

	require(at >= payload && text.size <= length && at + text.size == payload + length);
}

/* Two texts with a zero between them: the first may end early. */
static void texts_lie_in(struct frame_text first, struct frame_text second, const uint8_t *payload,
			 uint32_t length)
{
	const uint8_t *at = (const uint8_t *)first.data, *end = payload + length;

	require(at >= payload && at + first.size <= end);
	require(first.size == 0 || !memchr(first.data, '\0', first.size));
	require(second.size == 0 || (second.data == first.data + first.size + 1 &&
				     (const uint8_t *)second.data + second.size <= end));
}

/* Encodes what was decoded: it decodes again, and encodes to the same bytes. */
#define AGAIN(type)                                                                                          \
	do {                                                                                                 \
		uint32_t first, second;                                                                      \
		struct frame_##type again;                                                                   \
		first = frame_##type##_encode(&type, out);                                                   \
		require(frame_##type##_decode(out, first, &again) == 0);                                     \
		second = frame_##type##_encode(&again, out2);                                                \
		require(first == second && memcmp(out, out2, first) == 0);                                   \
	} while (0)

/* Encoders write at most a payload. */
static uint8_t out[FRAME_PAYLOAD_MAX], out2[FRAME_PAYLOAD_MAX];

static void decode_fixed(const uint8_t *payload, uint32_t length)
{
	struct frame_hello_local hello_local;
	struct frame_welcome welcome;
	struct frame_opened opened;
	struct frame_credit credit;
	struct frame_reset reset;
	struct frame_cancelled cancelled;
	struct frame_ping_relayed ping_relayed;
	struct frame_prove prove;
	struct frame_resume resume;
	struct frame_offer offer;
	uint64_t u64;
	uint32_t u32;

	if (frame_hello_local_decode(payload, length, &hello_local) == 0)
		AGAIN(hello_local);
	if (frame_welcome_decode(payload, length, &welcome) == 0)
		AGAIN(welcome);
	if (frame_opened_decode(payload, length, &opened) == 0)
		AGAIN(opened);
	if (frame_credit_decode(payload, length, &credit) == 0)
		AGAIN(credit);
	if (frame_reset_decode(payload, length, &reset) == 0)
		AGAIN(reset);
	if (frame_cancelled_decode(payload, length, &cancelled) == 0)
		AGAIN(cancelled);
	if (frame_ping_relayed_decode(payload, length, &ping_relayed) == 0) {
		texts_lie_in(ping_relayed.domain, ping_relayed.name, payload, length);
		AGAIN(ping_relayed);
	}
	if (frame_prove_decode(payload, length, &prove) == 0)
		AGAIN(prove);
	if (frame_resume_decode(payload, length, &resume) == 0)
		AGAIN(resume);
	if (frame_offer_decode(payload, length, &offer) == 0)
		AGAIN(offer);
	if (frame_u64_decode(payload, length, &u64) == 0)
		require(frame_u64_encode(u64, out) == 8 && memcmp(out, payload, 8) == 0);
	if (frame_u32_decode(payload, length, &u32) == 0)
		require(frame_u32_encode(u32, out) == 4 && memcmp(out, payload, 4) == 0);
}

static void decode_with_text(const uint8_t *payload, uint32_t length)
{
	struct frame_hello_link hello_link;
	struct frame_goodbye goodbye;
	struct frame_open open;
	struct frame_ask ask;
	struct frame_bind bind;
	struct frame_subscribe subscribe;
	struct frame_listeners listeners;
	struct frame_event event;
	struct frame_incoming incoming;
	struct frame_reply reply;

	if (frame_incoming_decode(payload, length, &incoming) == 0) {
		texts_lie_in(incoming.endpoint, incoming.domain_name, payload, length);
		AGAIN(incoming);
	}
	if (frame_hello_link_decode(payload, length, &hello_link) == 0) {
		/* ends at the payload's end, or at a zero */
		texts_lie_in(hello_link.version, (struct frame_text){0}, payload, length);
		require(!hello_link.host.size ||
			(const uint8_t *)hello_link.host.data + hello_link.host.size <= payload + length);
		AGAIN(hello_link);
	}
	if (frame_goodbye_decode(payload, length, &goodbye) == 0) {
		text_lies_in(goodbye.text, payload, length);
		AGAIN(goodbye);
	}
	if (frame_open_decode(payload, length, &open) == 0) {
		text_lies_in(open.name, payload, length);
		AGAIN(open);
		frame_open_split(&open);
		texts_lie_in(open.name, open.domain_name, payload, length);
		AGAIN(open);
	}
	if (frame_ask_decode(payload, length, &ask) == 0) {
		text_lies_in(ask.about.name, payload, length);
		AGAIN(ask);
	}
	if (frame_subscribe_decode(payload, length, &subscribe) == 0) {
		text_lies_in(subscribe.address, payload, length);
		AGAIN(subscribe);
	}
	if (frame_listeners_decode(payload, length, &listeners) == 0) {
		text_lies_in(listeners.endpoint, payload, length);
		AGAIN(listeners);
	}
	if (frame_bind_decode(payload, length, &bind) == 0) {
		text_lies_in(bind.endpoint, payload, length);
		AGAIN(bind);
	}
	if (frame_event_decode(payload, length, &event) == 0) {
		texts_lie_in(event.text, event.domain_name, payload, length);
		AGAIN(event);
	}
	if (frame_reply_decode(payload, length, &reply) == 0) {
		text_lies_in(reply.body, payload, length);
		AGAIN(reply);
	}
}

/* Each entry encodes to the bytes that it came from. */
static void decode_directory(const uint8_t *payload, uint32_t length)
{
	struct frame_directory directory, before;
	struct frame_directory_entry entry;
	uint32_t size;

	if (frame_directory_decode(payload, length, &directory) < 0)
		return;
	require(frame_directory_encode(&directory, out) == DIRECTORY_HEAD_SIZE &&
		memcmp(out, payload, DIRECTORY_HEAD_SIZE) == 0);
	for (before = directory; frame_directory_next(&directory, &entry) > 0; before = directory) {
		size = frame_directory_entry_encode(&entry, out);
		require(size <= DIRECTORY_ENTRY_MAX && directory.at == before.at + size &&
			directory.at <= directory.end);
		require(memcmp(out, before.at, size) == 0 && directory.count == before.count - 1);
	}
}

/* Likewise; and a part of an answer, with all that is in it, fits into the smallest ring. */
static void decode_told(const uint8_t *payload, uint32_t length)
{
	struct frame_told told, before;
	struct frame_told_entry entry;

	if (frame_told_decode(payload, length, &told) < 0)
		return;
	require(frame_told_encode(&told, out) <= TOLD_PART_SIZE);
	AGAIN(told);
	if (told.flags & TOLD_TEXT) {
		require(told.count == (size_t)(told.end - told.at) && told.count <= TOLD_PART);
		return;
	}
	for (before = told; frame_told_next(&told, &entry); before = told) {
		require(entry.name.size <= DOMAIN_NAME_MAX && told.at <= told.end);
		require(before.at + frame_told_entry_encode(&entry, out) == told.at &&
			memcmp(out, before.at, (size_t)(told.at - before.at)) == 0);
	}
	require(told.count == 0 && told.at == told.end);
}

/* What is known of them encodes again to what decodes to the same. */
static void decode_properties(const uint8_t *payload, uint32_t length)
{
	int block = length < PROPERTIES_HEAD ? -1 : properties_length(payload, length);
	struct properties properties, again;
	uint32_t size;

	if (block < 0 || properties_decode(payload, (uint32_t)block, &properties) < 0)
		return;
	require((uint32_t)block <= length && block <= (int)PROPERTIES_MAX);
	require(!properties.trace.size ||
		((const uint8_t *)properties.trace.data >= payload &&
		 (const uint8_t *)properties.trace.data + properties.trace.size <= payload + block));
	require(!properties.key.size ||
		((const uint8_t *)properties.key.data >= payload &&
		 (const uint8_t *)properties.key.data + properties.key.size <= payload + block));
	size = properties_encode(&properties, out);
	require(size <= PROPERTIES_WRITE && properties_length(out, size) == (int)size);
	require(properties_decode(out, size, &again) == 0 && again.has_deadline == properties.has_deadline &&
		again.deadline_ms == properties.deadline_ms && again.trace.size == properties.trace.size &&
		again.key.size == properties.key.size &&
		!memcmp(again.trace.data ? again.trace.data : "",
			properties.trace.data ? properties.trace.data : "", again.trace.size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame_header header;
	uint8_t bytes[FRAME_HEADER_SIZE];
	uint32_t length;

	if (size < FRAME_HEADER_SIZE || size - FRAME_HEADER_SIZE > FRAME_PAYLOAD_MAX)
		return 0;
	if (frame_header_decode(data, &header) == 0)
		require(header.length <= FRAME_PAYLOAD_MAX && frame_size(header.length) % 8 == 0);
	frame_header_encode(&header, bytes);
	require(memcmp(bytes, data, FRAME_HEADER_SIZE) == 0);
	require(frame_type_name(header.type) != NULL);
	length = (uint32_t)(size - FRAME_HEADER_SIZE);
	decode_fixed(data + FRAME_HEADER_SIZE, length);
	decode_with_text(data + FRAME_HEADER_SIZE, length);
	decode_directory(data + FRAME_HEADER_SIZE, length);
	decode_told(data + FRAME_HEADER_SIZE, length);
	decode_properties(data + FRAME_HEADER_SIZE, length);
	return 0;
}
