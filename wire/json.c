/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/json.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM_FIRST 512u

static bool json_make_room(struct json *json, size_t size)
{
	size_t room = json->room ? json->room : ROOM_FIRST;
	char *text;

	if (size <= json->room - json->size)
		return true;
	while (room - json->size < size)
		room *= 2;
	text = json->is_fixed ? NULL : realloc(json->text, room);
	if (!text)
		return false;
	json->text = text;
	json->room = room;
	return true;
}

static void json_put(struct json *json, const char *text, size_t size)
{
	if (json->failed || !json_make_room(json, size)) {
		json->failed = true;
		return;
	}
	memcpy(json->text + json->size, text, size);
	json->size += size;
}

static void json_put_byte(struct json *json, unsigned char c)
{
	static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
	const char *found = c ? strchr(escaped, c) : NULL;
	char text[8];

	if (found)
		snprintf(text, sizeof(text), "\\%c", letters[found - escaped]);
	else
		snprintf(text, sizeof(text), "\\u%04x", c);
	json_put(json, text, strlen(text));
}

static bool json_is_plain(unsigned char c)
{
	return c >= ' ' && c != '"' && c != '\\';
}

static void json_put_quoted(struct json *json, const char *text, size_t size)
{
	size_t plain;

	json_put(json, "\"", 1);
	for (size_t at = 0; at < size; at += plain) {
		for (plain = 0; at + plain < size && json_is_plain((unsigned char)text[at + plain]); plain++)
			;
		json_put(json, text + at, plain);
		if (!plain) {
			json_put_byte(json, (unsigned char)text[at]);
			plain = 1;
		}
	}
	json_put(json, "\"", 1);
}

static void json_put_key(struct json *json, const char *key)
{
	if (json->is_behind)
		json_put(json, ",", 1);
	json->is_behind = true;
	if (!key)
		return;
	json_put_quoted(json, key, strlen(key));
	json_put(json, ":", 1);
}

void json_begin(struct json *json, const char *key, char bracket)
{
	json_put_key(json, key);
	json_put(json, &bracket, 1);
	json->is_behind = false;
}

void json_end(struct json *json, char bracket)
{
	json_put(json, &bracket, 1);
	json->is_behind = true;
}

void json_digits(struct json *json, const char *key, const char *digits)
{
	json_put_key(json, key);
	json_put(json, digits, strlen(digits));
}

void json_null(struct json *json, const char *key)
{
	json_digits(json, key, "null");
}

void json_flag(struct json *json, const char *key, bool value)
{
	json_digits(json, key, value ? "true" : "false");
}

void json_number(struct json *json, const char *key, uint64_t value)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%" PRIu64, value);
	json_digits(json, key, digits);
}

void json_text_part(struct json *json, const char *key, const char *text, size_t size)
{
	json_put_key(json, key);
	json_put_quoted(json, text, size);
}

void json_text(struct json *json, const char *key, const char *text)
{
	if (text)
		json_text_part(json, key, text, strlen(text));
	else
		json_null(json, key);
}

void json_text_end(struct json *json)
{
	json_put(json, "", 1);
	json->size -= !json->failed;
}

void json_free(struct json *json)
{
	if (!json->is_fixed)
		free(json->text);
	*json = (struct json){0};
}

/* --- reading ------------------------------------------------------------------------------------ */

struct json_reader {
	const char *at, *end;
	char *room;
	unsigned depth, depth_max;
	json_take_fn take;
	void *userdata;
};

static void json_skip_space(struct json_reader *reader)
{
	while (reader->at < reader->end && memchr(" \t\r\n", *reader->at, 4))
		reader->at++;
}

static bool json_skip(struct json_reader *reader, const char *word)
{
	size_t size = strlen(word);

	if ((size_t)(reader->end - reader->at) < size || memcmp(reader->at, word, size) != 0)
		return false;
	reader->at += size;
	return true;
}

static bool json_read_hex(struct json_reader *reader, unsigned *unit)
{
	*unit = 0;
	for (int i = 0; i < 4; i++) {
		unsigned char c = reader->at < reader->end ? (unsigned char)*reader->at++ : 0;

		if (!isxdigit(c))
			return false;
		*unit = *unit << 4 | (unsigned)(isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
	}
	return true;
}

/* Half of a pair without the other one becomes U+FFFD. */
static bool json_read_unit(struct json_reader *reader, char **out)
{
	unsigned code, low;
	char *to = *out;

	if (!json_read_hex(reader, &code))
		return false;
	if (code >= 0xd800 && code < 0xdc00 && json_skip(reader, "\\u")) {
		if (!json_read_hex(reader, &low))
			return false;
		code = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + low - 0xdc00
						     : 0xfffd;
	}
	if (code >= 0xd800 && code < 0xe000)
		code = 0xfffd;
	if (code < 0x80) {
		*to++ = (char)code;
	} else {
		unsigned more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;

		*to++ = (char)((0xff00u >> (more + 1) & 0xff) | code >> 6 * more);
		while (more--)
			*to++ = (char)(0x80 | (code >> 6 * more & 0x3f));
	}
	*out = to;
	return true;
}

/* Reads a text behind its first quote into the room at `out`, with a zero. */
static bool json_read_text(struct json_reader *reader, char *out, size_t *size)
{
	static const char escaped[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	char *to = out;

	while (reader->at < reader->end) {
		char c = *reader->at++;
		const char *found;

		if (c == '"') {
			*to = '\0';
			*size = (size_t)(to - out);
			return true;
		}
		if ((unsigned char)c < ' ')
			return false;
		if (c != '\\') {
			*to++ = c;
			continue;
		}
		c = reader->at < reader->end ? *reader->at++ : '\0';
		found = c ? strchr(escaped, c) : NULL;
		if (found)
			*to++ = meant[found - escaped];
		else if (c != 'u' || !json_read_unit(reader, &to))
			return false;
	}
	return false;
}

static bool json_skip_digits(struct json_reader *reader)
{
	const char *first = reader->at;

	while (reader->at < reader->end && isdigit((unsigned char)*reader->at))
		reader->at++;
	return reader->at > first;
}

static bool json_read_number(struct json_reader *reader, struct json_value *value, char *out)
{
	const char *first = reader->at;

	value->kind = JSON_INTEGER;
	value->flag = json_skip(reader, "-");
	if (!json_skip(reader, "0") && !json_skip_digits(reader))
		return false;
	if (json_skip(reader, ".")) {
		value->kind = JSON_REAL;
		if (!json_skip_digits(reader))
			return false;
	}
	if (json_skip(reader, "e") || json_skip(reader, "E")) {
		value->kind = JSON_REAL;
		if (!json_skip(reader, "+"))
			json_skip(reader, "-");
		if (!json_skip_digits(reader))
			return false;
	}
	value->size = (size_t)(reader->at - first);
	value->text = memcpy(out, first, value->size);
	out[value->size] = '\0';
	value->number = strtoull(out + value->flag, NULL, 10);
	return true;
}

static bool json_read_value(struct json_reader *reader, const char *key, char *out);

static bool json_read_members(struct json_reader *reader, char bracket)
{
	size_t size;

	json_skip_space(reader);
	if (json_skip(reader, bracket == '{' ? "}" : "]"))
		return true;
	do {
		json_skip_space(reader);
		size = 0;
		if (bracket == '{') {
			if (!json_skip(reader, "\"") || !json_read_text(reader, reader->room, &size))
				return false;
			json_skip_space(reader);
			if (!json_skip(reader, ":"))
				return false;
		}
		if (!json_read_value(reader, bracket == '{' ? reader->room : NULL, reader->room + size + 1))
			return false;
		json_skip_space(reader);
	} while (json_skip(reader, ","));
	return json_skip(reader, bracket == '{' ? "}" : "]");
}

/* Reads an object or array. */
static bool json_read_inner(struct json_reader *reader, const char *key, char bracket)
{
	struct json_value value = {
		.kind = bracket == '{' ? JSON_OBJECT : JSON_ARRAY, .key = key, .depth = reader->depth};

	if (reader->depth == reader->depth_max)
		return false;
	reader->take(reader->userdata, &value);
	reader->depth++;
	if (!json_read_members(reader, bracket))
		return false;
	reader->depth--;
	value = (struct json_value){.kind = JSON_END, .depth = reader->depth};
	reader->take(reader->userdata, &value);
	return true;
}

/* Its key is in the room before `out`. */
static bool json_read_value(struct json_reader *reader, const char *key, char *out)
{
	struct json_value value = {.kind = JSON_NULL, .key = key, .depth = reader->depth};

	json_skip_space(reader);
	if (json_skip(reader, "{"))
		return json_read_inner(reader, key, '{');
	if (json_skip(reader, "["))
		return json_read_inner(reader, key, '[');
	if (json_skip(reader, "\"")) {
		value.kind = JSON_TEXT;
		value.text = out;
		if (!json_read_text(reader, out, &value.size))
			return false;
	} else if (json_skip(reader, "true")) {
		value.kind = JSON_FLAG;
		value.flag = true;
	} else if (json_skip(reader, "false")) {
		value.kind = JSON_FLAG;
	} else if (!json_skip(reader, "null") && !json_read_number(reader, &value, out)) {
		return false;
	}
	reader->take(reader->userdata, &value);
	return true;
}

bool json_read(const char *untrusted, size_t size, unsigned depth, char *room, json_take_fn take,
	       void *userdata)
{
	struct json_reader reader = {.at = untrusted,
				     .end = untrusted + size,
				     .room = room,
				     .depth_max = depth,
				     .take = take,
				     .userdata = userdata};

	if (!json_read_value(&reader, NULL, room))
		return false;
	json_skip_space(&reader);
	return reader.at == reader.end;
}
