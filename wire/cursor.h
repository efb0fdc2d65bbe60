/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_CURSOR_H
#define XENMSG_WIRE_CURSOR_H

/*
 * What the coders of frames are made of: bounded reads of an untrusted payload, and texts at its end.
 */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "wire/bytes.h"
#include "wire/frame.h"

/* A cursor over a payload. Each read is bounded, and one that runs past the end marks the whole payload as
 * bad. */
struct cursor {
	const uint8_t *at;
	const uint8_t *end;
	int error;
};

static inline struct cursor cursor_of(const uint8_t *payload, uint32_t length)
{
	return (struct cursor){.at = payload, .end = payload + length};
}

static inline const uint8_t *take(struct cursor *cursor, size_t size)
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

static inline uint8_t take_u8(struct cursor *cursor)
{
	const uint8_t *at = take(cursor, 1);

	return at ? *at : 0;
}

static inline uint16_t take_u16(struct cursor *cursor)
{
	const uint8_t *at = take(cursor, 2);

	return at ? get_u16(at) : 0;
}

static inline uint32_t take_u32(struct cursor *cursor)
{
	const uint8_t *at = take(cursor, 4);

	return at ? get_u32(at) : 0;
}

static inline uint64_t take_u64(struct cursor *cursor)
{
	const uint8_t *at = take(cursor, 8);

	return at ? get_u64(at) : 0;
}

static inline void take_bytes(struct cursor *cursor, void *out, size_t size)
{
	const uint8_t *at = take(cursor, size);

	if (at)
		memcpy(out, at, size);
	else
		memset(out, 0, size);
}

static inline struct frame_text take_text(struct cursor *cursor)
{
	struct frame_text text = {.data = (const char *)cursor->at,
				  .size = (size_t)(cursor->end - cursor->at)};

	cursor->at = cursor->end;
	return text;
}

/* The part of a text before its first zero. */
static inline struct frame_text text_to_zero(struct frame_text text)
{
	const char *zero = text.size ? memchr(text.data, '\0', text.size) : NULL;

	if (zero)
		text.size = (size_t)(zero - text.data);
	return text;
}

/* Writes a text, as much of it as fits into a payload that begins at `start`. Returns its end. */
static inline uint8_t *put_text(uint8_t *at, const uint8_t *start, struct frame_text text)
{
	size_t room = FRAME_PAYLOAD_MAX - (size_t)(at - start);

	if (text.size > room)
		text.size = room;
	if (text.size)
		memcpy(at, text.data, text.size);
	return at + text.size;
}

/* Appends a text behind those already written. */
static inline uint8_t *put_more_text(uint8_t *at, const uint8_t *start, struct frame_text text)
{
	if (!text.size || at - start >= FRAME_PAYLOAD_MAX)
		return at;
	*at++ = '\0';
	return put_text(at, start, text);
}

/* Splits a text at its first zero, and returns what is behind it. */
static inline struct frame_text split(struct frame_text *text)
{
	struct frame_text first = text_to_zero(*text), rest = {.data = NULL};

	if (first.size < text->size)
		rest = (struct frame_text){text->data + first.size + 1, text->size - first.size - 1};
	*text = first;
	return rest;
}

/* Splits a text into up to two; what is behind a second zero is ignored. */
static inline void split_two(struct frame_text *text, struct frame_text *second)
{
	*second = split(text);
	*second = text_to_zero(*second);
}

#endif
