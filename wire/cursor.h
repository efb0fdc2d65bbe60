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

/*
 * One function says which fields a frame has. It writes them, or reads them, so that the two can't differ:
 *
 *     static inline void code_thing(struct coder *coder, struct frame_thing *thing)
 *     {
 *             code_u32(coder, &thing->size);
 *     }
 *     BOTH_WAYS(thing)
 *
 * ENCODES() is for what has something of its own to check when it is read.
 */
struct coder {
	bool writes; /* known where it is made, so that each function is compiled for one way */
	uint8_t *out;
	const uint8_t *start; /* of what is written */
	struct cursor in;
};

#define ENCODES(name)                                                                                        \
	uint32_t frame_##name##_encode(const struct frame_##name *frame, uint8_t *out)                       \
	{                                                                                                    \
		struct coder coder = {.writes = true, .out = out, .start = out};                             \
                                                                                                             \
		code_##name(&coder, (struct frame_##name *)(uintptr_t)frame); /* which only reads it */      \
		return (uint32_t)(coder.out - out);                                                          \
	}

#define BOTH_WAYS(name)                                                                                      \
	ENCODES(name)                                                                                        \
                                                                                                             \
	int frame_##name##_decode(const uint8_t *payload, uint32_t length, struct frame_##name *frame)       \
	{                                                                                                    \
		struct coder coder = {.in = cursor_of(payload, length)};                                     \
                                                                                                             \
		code_##name(&coder, frame);                                                                  \
		return coder.in.error;                                                                       \
	}

static inline void code_bytes(struct coder *coder, void *bytes, size_t size)
{
	if (coder->writes) {
		memcpy(coder->out, bytes, size);
		coder->out += size;
	} else {
		take_bytes(&coder->in, bytes, size);
	}
}

static inline void code_u8(struct coder *coder, uint8_t *value)
{
	code_bytes(coder, value, sizeof(*value));
}

static inline void code_u16(struct coder *coder, uint16_t *value)
{
	if (!coder->writes) {
		*value = take_u16(&coder->in);
		return;
	}
	put_u16(coder->out, *value);
	coder->out += sizeof(*value);
}

static inline void code_u32(struct coder *coder, uint32_t *value)
{
	if (!coder->writes) {
		*value = take_u32(&coder->in);
		return;
	}
	put_u32(coder->out, *value);
	coder->out += sizeof(*value);
}

static inline void code_u64(struct coder *coder, uint64_t *value)
{
	if (!coder->writes) {
		*value = take_u64(&coder->in);
		return;
	}
	put_u64(coder->out, *value);
	coder->out += sizeof(*value);
}

/* Bytes that a later version may use. */
static inline void code_later(struct coder *coder, size_t size)
{
	if (!coder->writes) {
		take(&coder->in, size);
		return;
	}
	memset(coder->out, 0, size);
	coder->out += size;
}

/* A text, which is the rest. As much of it is written as fits. */
static inline void code_text(struct coder *coder, struct frame_text *text)
{
	if (coder->writes)
		coder->out = put_text(coder->out, coder->start, *text);
	else
		*text = take_text(&coder->in);
}

/* A name behind its size. */
static inline void code_name(struct coder *coder, struct frame_text *name)
{
	if (!coder->writes) {
		name->size = take_u8(&coder->in);
		name->data = (const char *)take(&coder->in, name->size);
		return;
	}
	*coder->out++ = (uint8_t)name->size;
	coder->out = put_text(coder->out, coder->start, *name);
}

/* Appends a text behind those that were written. */
static inline void put_more_text(struct coder *coder, struct frame_text text)
{
	if (!text.size || coder->out - coder->start >= FRAME_PAYLOAD_MAX)
		return;
	*coder->out++ = '\0';
	coder->out = put_text(coder->out, coder->start, text);
}

/* Appends one that is empty. */
static inline void put_no_text(struct coder *coder)
{
	if (coder->out - coder->start < FRAME_PAYLOAD_MAX)
		*coder->out++ = '\0';
}

#endif
