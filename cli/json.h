/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_JSON_H
#define XENMSG_CLI_JSON_H

/*
 * json-c, in place of <json-c/json.h>: without memory it would assert or crash, take a text for no JSON, or
 * print a part of one. Here the command says that it has none, and ends.
 */

#include <string.h>

#include <json-c/json.h>

/* Says so and ends the command. */
_Noreturn void cli_no_memory(void);

/* Returns what was made. */
static inline void *cli_made(void *made)
{
	if (!made)
		cli_no_memory();
	return made;
}

static inline int cli_done(int r)
{
	if (r < 0)
		cli_no_memory();
	return r;
}

/* Returns a value as one line, valid until the next call. */
const char *json_line(struct json_object *value);
/* Returns a value as text, or NULL. The text belongs to it. */
const char *cli_text_of(struct json_object *value);
#define CLI_DEPTH_MAX 32 /* of objects and arrays in each other */
/* Returns what is JSON, at most so deep, or NULL. The caller puts it. */
struct json_object *cli_parse_json(const char *text, size_t size, unsigned depth);

#define json_object_new_object()     ((struct json_object *)cli_made(json_object_new_object()))
#define json_object_new_array()	     ((struct json_object *)cli_made(json_object_new_array()))
#define json_object_new_string(text) ((struct json_object *)cli_made(json_object_new_string(text)))
#define json_object_new_string_len(text, size)                                                               \
	((struct json_object *)cli_made(json_object_new_string_len((text), (size))))
#define json_object_new_boolean(value) ((struct json_object *)cli_made(json_object_new_boolean(value)))
#define json_object_new_int(value)     ((struct json_object *)cli_made(json_object_new_int(value)))
#define json_object_new_int64(value)   ((struct json_object *)cli_made(json_object_new_int64(value)))
#define json_object_new_uint64(value)  ((struct json_object *)cli_made(json_object_new_uint64(value)))
#define json_object_new_double(value)  ((struct json_object *)cli_made(json_object_new_double(value)))
#define json_object_new_double_s(value, text)                                                                \
	((struct json_object *)cli_made(json_object_new_double_s((value), (text))))
#define json_object_object_add(object, key, value) cli_done(json_object_object_add((object), (key), (value)))
#define json_object_array_add(array, value)	   cli_done(json_object_array_add((array), (value)))
#define json_object_get_string(value)		   cli_text_of(value)
#define json_tokener_parse(text)		   cli_parse_json((text), strlen(text), CLI_DEPTH_MAX)

#endif
