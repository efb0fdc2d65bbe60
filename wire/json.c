/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/json.h"

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
