/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/properties.h"

#include <errno.h>
#include <string.h>

#include "wire/bytes.h"
#include "wire/cursor.h"
#include "wire/text.h"

#define BLOCK_HEAD  4u /* u16 length of the block, u16 0 */
#define NOTICE_SIZE 16u
#define PART_SIZE   8u

bool trace_is_valid(const char *text, size_t size)
{
	return size >= 1 && size <= TRACE_MAX && text_is_ascii(text, size, ' ');
}

/* Writes a property, padded to a multiple of 4. Returns its end. */
static uint8_t *put_property(uint8_t *at, enum property_kind kind, const void *data, size_t size)
{
	put_u16(at, (uint16_t)size);
	put_u16(at + 2, (uint16_t)kind);
	memcpy(at + 4, data, size);
	memset(at + 4 + size, 0, -size & 3u);
	return at + 4 + ((size + 3) & ~(size_t)3);
}

static uint8_t *put_notice(uint8_t *at, const struct notice *notice)
{
	uint8_t data[NOTICE_SIZE] = {notice->kind, notice->flags};

	put_u32(data + 4, notice->error);
	put_u64(data + 8, notice->count);
	return put_property(at, PROPERTY_NOTICE, data, sizeof(data));
}

static uint8_t *put_part(uint8_t *at, const struct properties *properties)
{
	uint8_t data[PART_SIZE];

	put_u32(data, properties->part);
	put_u32(data + 4, properties->has_more ? PART_MORE : 0);
	return put_property(at, PROPERTY_PART, data, sizeof(data));
}

uint32_t properties_encode(const struct properties *properties, uint8_t *out)
{
	uint8_t number[4], *at = out + BLOCK_HEAD;
	uint32_t length;

	if (properties->has_deadline) {
		put_u32(number, properties->deadline_ms);
		at = put_property(at, PROPERTY_DEADLINE, number, sizeof(number));
	}
	if (properties->trace.size)
		at = put_property(at, PROPERTY_TRACE, properties->trace.data, properties->trace.size);
	if (properties->key.size)
		at = put_property(at, PROPERTY_KEY, properties->key.data, properties->key.size);
	if (properties->subscribes) {
		put_u32(number, properties->listeners);
		at = put_property(at, PROPERTY_SUBSCRIBE, number, sizeof(number));
	}
	if (properties->notice.kind)
		at = put_notice(at, &properties->notice);
	if (properties->is_part)
		at = put_part(at, properties);
	length = (uint32_t)(at - out);
	memset(at, 0, -length & 7u);
	length = (length + 7u) & ~7u;
	put_u32(out, length);
	return length;
}

int properties_length(const uint8_t head[PROPERTIES_HEAD], uint64_t size)
{
	uint32_t length = get_u16(head);

	return length >= 8 && length % 8 == 0 && length <= PROPERTIES_MAX && length <= size ? (int)length
											    : -EPROTO;
}

/* Reads a property of a kind that is known. Returns 0 or -EPROTO. */
static int read_property(struct properties *properties, unsigned kind, const uint8_t *data, uint32_t size)
{
	switch (kind) {
	case PROPERTY_DEADLINE:
		if (size < 4 || properties->has_deadline)
			return -EPROTO;
		properties->has_deadline = true;
		properties->deadline_ms = get_u32(data);
		return 0;
	case PROPERTY_TRACE:
		if (properties->trace.size || !trace_is_valid((const char *)data, size))
			return -EPROTO;
		properties->trace = (struct frame_text){(const char *)data, size};
		return 0;
	case PROPERTY_KEY:
		if (properties->key.size || !trace_is_valid((const char *)data, size))
			return -EPROTO;
		properties->key = (struct frame_text){(const char *)data, size};
		return 0;
	case PROPERTY_SUBSCRIBE:
		if (size < 4 || properties->subscribes)
			return -EPROTO;
		properties->subscribes = true;
		properties->listeners = get_u32(data);
		return 0;
	case PROPERTY_NOTICE:
		if (size < NOTICE_SIZE || properties->notice.kind || !data[0])
			return -EPROTO;
		properties->notice = (struct notice){.kind = data[0],
						     .flags = data[1],
						     .error = get_u32(data + 4),
						     .count = get_u64(data + 8)};
		return 0;
	case PROPERTY_PART:
		if (size < PART_SIZE || properties->is_part)
			return -EPROTO;
		properties->is_part = true;
		properties->part = get_u32(data);
		properties->has_more = get_u32(data + 4) & PART_MORE;
		return 0;
	default:
		return 0;
	}
}

int properties_decode(const uint8_t *block, uint32_t length, struct properties *properties)
{
	struct cursor cursor = cursor_of(block, length);

	*properties = (struct properties){.has_deadline = false};
	take(&cursor, BLOCK_HEAD);
	while (cursor.error == 0 && cursor.at < cursor.end) {
		uint16_t size = take_u16(&cursor), kind = take_u16(&cursor);
		const uint8_t *data = take(&cursor, (size + 3u) & ~3u);

		if (!data || (kind == 0 && size > 0))
			return -EPROTO;
		/* A kind of 0 fills up the block. */
		if (read_property(properties, kind, data, size) < 0)
			return -EPROTO;
	}
	return cursor.error;
}

int properties_read(const uint8_t *payload, uint64_t size, struct properties *properties)
{
	int length = size < PROPERTIES_HEAD ? -EPROTO : properties_length(payload, size);
	int r = length < 0 ? length : properties_decode(payload, (uint32_t)length, properties);

	return r < 0 ? r : length;
}
