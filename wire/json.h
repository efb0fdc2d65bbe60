/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_JSON_H
#define XENMSG_WIRE_JSON_H

/*
 * Writes JSON (RFC 8259) as a text, value by value, and reads it likewise. Where there is no memory a text is
 * `failed` from then on, whatever is added to it: only who takes the whole asks. To read takes no memory.
 * json-c would end the process at the first thing that it had no memory for, or leave out a part of a text.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is an empty text in memory that grows. Text and room with `is_fixed`: it is written there. */
struct json {
	char *text; /* without a zero at its end */
	size_t size, room;
	bool is_fixed;
	bool failed;
	bool is_behind; /* another value, so that a comma comes first */
};

/* In an object each value has a key, in an array NULL. */

/* Begins an object, '{', or an array, '[', which json_end() ends. */
void json_begin(struct json *json, const char *key, char bracket);
void json_end(struct json *json, char bracket);
void json_null(struct json *json, const char *key);
void json_flag(struct json *json, const char *key, bool value);
void json_number(struct json *json, const char *key, uint64_t value);
/* Null where it isn't known. */
#define json_number_if(json, key, known, value)                                                              \
	((known) ? json_number((json), (key), (value)) : json_null((json), (key)))
/* A number whose digits are written already. */
void json_digits(struct json *json, const char *key, const char *digits);
/* Null if there is no text. */
void json_text(struct json *json, const char *key, const char *text);
void json_text_part(struct json *json, const char *key, const char *text, size_t size);
/* Adds the zero that makes it a string, which doesn't count. */
void json_text_end(struct json *json);
/* Frees the text, if it isn't fixed, and leaves an empty one. */
void json_free(struct json *json);

enum json_kind {
	JSON_NULL,
	JSON_FLAG,
	JSON_INTEGER,
	JSON_REAL,
	JSON_TEXT,
	JSON_OBJECT, /* begins, */
	JSON_ARRAY,
	JSON_END, /* or ends; without a key */
};

/* Valid in the call that it is given to. */
struct json_value {
	enum json_kind kind;
	unsigned depth;	  /* 0: the whole */
	const char *key;  /* of a member of an object, else NULL; ends with a zero */
	bool flag;	  /* of an integer: it is negative */
	uint64_t number;  /* of an integer, without its sign; UINT64_MAX: or more */
	const char *text; /* a text or the digits of a number, with a zero behind its end */
	size_t size;
};
typedef void (*json_take_fn)(void *userdata, const struct json_value *value);

/* Reads one value, with white space around it, whose objects and arrays are at most `depth` deep in each
 * other, and gives all that is in it to take(). `room` has at least `size` + 1 bytes. Returns false: it isn't
 * JSON, and something of it may have been given. */
bool json_read(const char *untrusted, size_t size, unsigned depth, char *room, json_take_fn take,
	       void *userdata);

#endif
