/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_FIELDS_H
#define XENMSG_CLI_FIELDS_H

/* Members of the daemon's JSON, which may be another version's: what isn't there, or not in an object, is absent and no fault. */

#include <stdint.h>

#include <json-c/json.h>

static inline struct json_object *at(struct json_object *object, const char *name)
{
	return json_object_is_type(object, json_type_object) ? json_object_object_get(object, name) : NULL;
}

/* Whatever it is, as text. It belongs to the object. */
static inline const char *text_or(struct json_object *object, const char *name, const char *absent)
{
	const char *text = json_object_get_string(at(object, name));

	return text ? text : absent;
}

/* For a table. */
static inline const char *text_at(struct json_object *object, const char *name)
{
	return text_or(object, name, "-");
}

static inline int64_t number_at(struct json_object *object, const char *name)
{
	return json_object_get_int64(at(object, name));
}

#endif
