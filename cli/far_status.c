/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/far_status.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cli/fields.h"
#include "cli/json.h"
#include "cli/terminal.h"

#define TEXT_MAX  524288u /* of 100 entries of each kind it has a tenth */
#define DEPTH_MAX 12	  /* a status has 6 levels */
#define KEY_MAX	  40u
/* The most memory that json-c makes of a few bytes of text. */
#define OBJECT_MEMORY 1000u /* has a table from the beginning */
#define ARRAY_MEMORY  400u
#define VALUE_MEMORY  120u

/* --- what it may consist of --------------------------------------------------------------------- */

/* Whether what it says takes no more memory than that: each value but the first follows one of these. */
static bool is_small(const char *text, size_t size, size_t most)
{
	size_t memory = size;

	if (size > TEXT_MAX)
		return false;
	for (size_t i = 0; i < size; i++)
		memory += text[i] == '{'   ? OBJECT_MEMORY
			  : text[i] == '[' ? ARRAY_MEMORY
			  : text[i] == ',' ? VALUE_MEMORY
					   : 0;
	return memory <= most;
}

static bool key_is_plain(const char *key)
{
	size_t size = strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_");

	return size > 0 && size <= KEY_MAX && key[size] == '\0';
}

/* Returns the value, or another one in its place, escaped as for a terminal: then it is UTF-8 that does
 * nothing. */
static struct json_object *clean_text(struct json_object *value)
{
	const char *at = json_object_get_string(value), *end = at + json_object_get_string_len(value);
	size_t room = (size_t)(end - at) * TERMINAL_GROWTH + TERMINAL_GROWTH;
	struct json_object *clean = NULL;
	char *text = malloc(room);

	if (text) {
		size_t size = terminal_escape(&at, end, true, text, room);

		clean = json_object_new_string_len(text, (int)size);
	}
	free(text);
	return clean;
}

static struct json_object *clean(struct json_object *value);

static struct json_object *clean_object(struct json_object *value)
{
	struct json_object *object = json_object_new_object();

	json_object_object_foreach(value, key, member) {
		if (key_is_plain(key))
			json_object_object_add(object, key, clean(member));
	}
	return object;
}

static struct json_object *clean_array(struct json_object *value)
{
	struct json_object *array = json_object_new_array();

	fields_foreach(value, entry)
		json_object_array_add(array, clean(entry));
	return array;
}

/* Returns a value without what could harm its readers. The parser has bounded how deep it is. */
static struct json_object *clean(struct json_object *value)
{
	switch (json_object_get_type(value)) {
	case json_type_object:
		return clean_object(value);
	case json_type_array:
		return clean_array(value);
	case json_type_string:
		return clean_text(value);
	case json_type_double:
		return isfinite(json_object_get_double(value)) ? json_object_get(value) : NULL;
	default:
		return json_object_get(value);
	}
}

/* --- reading ------------------------------------------------------------------------------------ */

/* Whether it has what every daemon's status has. */
static bool is_status(struct json_object *value)
{
	return json_object_is_type(at(value, "version"), json_type_string) &&
	       json_object_is_type(at(value, "domid"), json_type_int) &&
	       json_object_is_type(at(value, "links"), json_type_array) &&
	       json_object_is_type(at(value, "endpoints"), json_type_array);
}

/* Whether it is as daemons tell steps. */
static bool are_steps(struct json_object *value)
{
	if (!json_object_is_type(value, json_type_array))
		return false;
	fields_foreach(value, step)
		if (!json_object_is_type(at(step, "step"), json_type_string))
			return false;
	return true;
}

static struct json_object *far_status_parse(const char *text, size_t size, size_t most,
					    bool (*is_such)(struct json_object *value), const char **why)
{
	struct json_object *value, *status = NULL;

	*why = "its xenmsgd answers more than a status can be";
	if (!is_small(text, size, most))
		return NULL;
	value = cli_parse_json(text, size, DEPTH_MAX);
	*why = is_such == is_status ? "what its xenmsgd answers is no status"
				    : "what its xenmsgd answers are no steps";
	if (is_such(value))
		status = clean(value);
	json_object_put(value);
	return status;
}

struct json_object *remote_status_parse(const char *text, size_t size, size_t most, const char **why)
{
	return far_status_parse(text, size, most, is_status, why);
}

struct json_object *remote_status_read(const char *text, struct json_object *domain, size_t most,
				       const char **why)
{
	struct json_object *status = remote_status_parse(text, strlen(text), most, why);

	if (status) {
		json_object_object_add(status, "domid", json_object_get(at(domain, "domid")));
		json_object_object_add(status, "name", json_object_get(at(domain, "name")));
	}
	return status;
}

struct json_object *remote_steps_read(const char *text, struct json_object *domain, const char **why)
{
	struct json_object *steps = far_status_parse(text, strlen(text), FAR_STATUS_MOST, are_steps, why);

	fields_foreach(steps, step)
		json_object_object_add(step, "domid", json_object_get(at(domain, "domid")));
	return steps;
}
