/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Frames from an untrusted end: 16 bytes of header, then the payload, given to the decoder of the header's
 * type and, since a daemon may be sent anything, to each other one. What decodes must encode again to what
 * decodes to the same, and text must lie in the payload.
 */

#include "tests/fuzz/fuzz.h"
#include "wire/frame.h"
#include "wire/properties.h"

static void text_lies_in(struct frame_text text, const uint8_t *payload, uint32_t length)
{
	const uint8_t *at = (const uint8_t *)text.data;

	check(at >= payload && text.size <= length && at + text.size == payload + length);
}

/* Two texts with a zero between them: the first may end early. */
static void texts_lie_in(struct frame_text first, struct frame_text second, const uint8_t *payload,
			 uint32_t length)
{
	const uint8_t *at = (const uint8_t *)first.data, *end = payload + length;

	check(at >= payload && at + first.size <= end);
	check(first.size == 0 || !memchr(first.data, '\0', first.size));
	check(second.size == 0 || (second.data == first.data + first.size + 1 &&
				   (const uint8_t *)second.data + second.size <= end));
}

/* Encodes what was decoded: it decodes again, and encodes to the same bytes. */
#define AGAIN(type)                                                                                          \
	do {                                                                                                 \
		uint32_t first, second;                                                                      \
		struct frame_##type again;                                                                   \
		first = frame_##type##_encode(&type, out);                                                   \
		check(frame_##type##_decode(out, first, &again) == 0);                                       \
		second = frame_##type##_encode(&again, out2);                                                \
		check(first == second && memcmp(out, out2, first) == 0);                                     \
	} while (0)

/* Encoders write at most a payload. */
static uint8_t out[FRAME_PAYLOAD_MAX], out2[FRAME_PAYLOAD_MAX];

/* What decodes comes back. */
#define PLAIN(type) IF_DECODED(type, (void)0)
/* And so does what ends with a text, or with two. */
#define WITH_TEXT(type, text) IF_DECODED(type, text_lies_in(type.text, payload, length))
#define WITH_TEXTS(type, first, second)                                                                      \
	IF_DECODED(type, texts_lie_in(type.first, type.second, payload, length))
#define IF_DECODED(type, look)                                                                               \
	do {                                                                                                 \
		struct frame_##type type;                                                                    \
		if (frame_##type##_decode(payload, length, &type) == 0) {                                    \
			look;                                                                                \
			AGAIN(type);                                                                         \
		}                                                                                            \
	} while (0)

static void decode_fixed(const uint8_t *payload, uint32_t length)
{
	uint64_t u64;
	uint32_t u32;

	PLAIN(hello_local);
	PLAIN(welcome);
	PLAIN(opened);
	PLAIN(credit);
	PLAIN(reset);
	PLAIN(cancelled);
	PLAIN(prove);
	PLAIN(resume);
	PLAIN(offer);
	if (frame_u64_decode(payload, length, &u64) == 0)
		check(frame_u64_encode(u64, out) == 8 && memcmp(out, payload, 8) == 0);
	if (frame_u32_decode(payload, length, &u32) == 0)
		check(frame_u32_encode(u32, out) == 4 && memcmp(out, payload, 4) == 0);
}

static void decode_with_text(const uint8_t *payload, uint32_t length)
{
	struct frame_hello_link hello_link;
	struct frame_open open;

	WITH_TEXT(goodbye, text);
	WITH_TEXT(subscribe, address);
	WITH_TEXT(listeners, endpoint);
	WITH_TEXT(bind, endpoint);
	WITH_TEXT(sender, domain_name);
	WITH_TEXT(reply, body);
	WITH_TEXTS(incoming, endpoint, domain_name);
	WITH_TEXTS(event, text, domain_name);
	if (frame_hello_link_decode(payload, length, &hello_link) == 0) {
		/* ends at the payload's end, or at a zero */
		texts_lie_in(hello_link.version, (struct frame_text){0}, payload, length);
		check(!hello_link.host.size ||
		      (const uint8_t *)hello_link.host.data + hello_link.host.size <= payload + length);
		AGAIN(hello_link);
	}
	if (frame_open_decode(payload, length, &open) == 0) {
		text_lies_in(open.name, payload, length);
		AGAIN(open);
		frame_open_split(&open);
		texts_lie_in(open.name, open.domain_name, payload, length);
		AGAIN(open);
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
	check(frame_directory_encode(&directory, out) == DIRECTORY_HEAD_SIZE &&
	      memcmp(out, payload, DIRECTORY_HEAD_SIZE) == 0);
	for (before = directory; frame_directory_next(&directory, &entry) > 0; before = directory) {
		size = frame_directory_entry_encode(&entry, out);
		check(size <= DIRECTORY_ENTRY_MAX && directory.at == before.at + size &&
		      directory.at <= directory.end);
		check(memcmp(out, before.at, size) == 0 && directory.count == before.count - 1);
	}
}

/* What is known of them encodes again to what decodes to the same. */
static void decode_properties(const uint8_t *payload, uint32_t length)
{
	struct properties properties, again;
	int block = properties_read(payload, length, &properties);
	uint32_t size;

	if (block < 0)
		return;
	check((uint32_t)block <= length && block <= (int)PROPERTIES_MAX);
	check(!properties.trace.size ||
	      ((const uint8_t *)properties.trace.data >= payload &&
	       (const uint8_t *)properties.trace.data + properties.trace.size <= payload + block));
	check(!properties.key.size ||
	      ((const uint8_t *)properties.key.data >= payload &&
	       (const uint8_t *)properties.key.data + properties.key.size <= payload + block));
	size = properties_encode(&properties, out);
	check(size <= PROPERTIES_WRITE && properties_length(out, size) == (int)size);
	check(properties_decode(out, size, &again) == 0 && again.has_deadline == properties.has_deadline &&
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
		check(header.length <= FRAME_PAYLOAD_MAX && frame_size(header.length) % 8 == 0);
	frame_header_encode(&header, bytes);
	check(memcmp(bytes, data, FRAME_HEADER_SIZE) == 0);
	check(frame_type_name(header.type) != NULL);
	length = (uint32_t)(size - FRAME_HEADER_SIZE);
	decode_fixed(data + FRAME_HEADER_SIZE, length);
	decode_with_text(data + FRAME_HEADER_SIZE, length);
	decode_directory(data + FRAME_HEADER_SIZE, length);
	decode_properties(data + FRAME_HEADER_SIZE, length);
	return 0;
}
