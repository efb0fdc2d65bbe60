/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/gateway.h"

#include <errno.h>
#include <string.h>

#include <json-c/json.h>

#include "wire/frame.h"

#define ID_MAX	  ((INT64_C(1) << 53) - 1) /* what every reader of JSON can hold */
#define DEPTH_MAX 4			   /* of what may be skipped */

enum json_member {
	VERSION = 1,
	HOST = 2,
	INSTANCE = 4,
	UP = 8,
	ID = 16,
	ERROR = 32,
	SERVER = 64,
	WHY = 128,
};

static const struct {
	const char *name;
	unsigned members;
} types[] = {
	[GATEWAY_HELLO] = {"hello", VERSION},
	[GATEWAY_WELCOME] = {"welcome", VERSION | HOST | INSTANCE},
	[GATEWAY_REFUSED] = {"refused", WHY},
	[GATEWAY_STATE] = {"state", UP | SERVER | WHY},
	[GATEWAY_HOST] = {"host", HOST | UP | INSTANCE | WHY},
	[GATEWAY_CONNECT] = {"connect", HOST | ID},
	[GATEWAY_CONNECTED] = {"connected", HOST | ID},
	[GATEWAY_FAILED] = {"failed", HOST | ID | ERROR | WHY},
	[GATEWAY_INCOMING] = {"incoming", HOST | ID},
	[GATEWAY_ACCEPT] = {"accept", HOST | ID},
	[GATEWAY_DECLINE] = {"decline", HOST | ID | WHY},
};
#define TYPES (sizeof(types) / sizeof(*types))

static const struct {
	int number;
	const char *name;
} errors[] = {
	{EHOSTUNREACH, "EHOSTUNREACH"}, /* stands for all that aren't here */
	{EHOSTDOWN, "EHOSTDOWN"},
	{EAGAIN, "EAGAIN"},
};
#define ERRORS (sizeof(errors) / sizeof(*errors))

/* --- writing ---------------------------------------------------------------------------------- */

static const char *error_name(int number)
{
	for (size_t i = 0; i < ERRORS; i++)
		if (errors[i].number == number)
			return errors[i].name;
	return errors[0].name;
}

/* Adds a value that is the object's from now on. False: out of memory. */
static bool gateway_add(struct json_object *object, const char *name, struct json_object *value)
{
	if (value && json_object_object_add(object, name, value) == 0)
		return true;
	json_object_put(value);
	return false;
}

static bool gateway_add_text(struct json_object *object, const char *name, const char *text)
{
	return !*text || gateway_add(object, name, json_object_new_string(text));
}

static bool gateway_fill(struct json_object *object, const struct gateway_packet *packet)
{
	unsigned members = types[packet->type].members;

	if (!gateway_add_text(object, "type", types[packet->type].name))
		return false;
	if (members & VERSION && !gateway_add(object, "version", json_object_new_int64(packet->version)))
		return false;
	if (members & HOST && !gateway_add_text(object, "host", packet->host))
		return false;
	if (members & INSTANCE && !gateway_add_text(object, "instance", packet->instance))
		return false;
	if (members & UP && !gateway_add(object, "up", json_object_new_boolean(packet->up)))
		return false;
	if (members & ID && !gateway_add(object, "id", json_object_new_int64((int64_t)packet->id)))
		return false;
	if (members & ERROR && !gateway_add_text(object, "error", error_name(packet->error)))
		return false;
	if (members & SERVER && !gateway_add_text(object, "server", packet->server))
		return false;
	return !(members & WHY) || gateway_add_text(object, "why", packet->why);
}

size_t gateway_encode(const struct gateway_packet *packet, char out[GATEWAY_PACKET_MAX])
{
	struct json_object *object = json_object_new_object();
	const char *text = NULL;
	size_t size = 0;

	if (object && gateway_fill(object, packet))
		text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
	if (text && strlen(text) <= GATEWAY_PACKET_MAX) {
		size = strlen(text);
		memcpy(out, text, size);
	}
	json_object_put(object);
	return size;
}

/* --- reading ---------------------------------------------------------------------------------- */

static struct json_object *get(struct json_object *object, const char *name, enum json_type type)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, name, &value) || !json_object_is_type(value, type))
		return NULL;
	return value;
}

static bool get_integer(struct json_object *object, const char *name, int64_t limit, int64_t *number)
{
	struct json_object *value = get(object, name, json_type_int);

	*number = value ? json_object_get_int64(value) : -1;
	return *number >= 0 && *number <= limit;
}

/* A text that is missing is empty; what is too long is cut. */
static void gateway_get_text(struct json_object *object, const char *name, char *out, size_t room)
{
	struct json_object *value = get(object, name, json_type_string);
	const char *text = value ? json_object_get_string(value) : "";

	frame_text_copy_plain(frame_text_of(text), out, room, ' ');
}

static bool get_host(struct json_object *object, char out[HOST_NAME_SIZE])
{
	struct json_object *value = get(object, "host", json_type_string);
	size_t size = value ? (size_t)json_object_get_string_len(value) : 0;

	if (!value || !host_name_is_valid(json_object_get_string(value), size))
		return false;
	memcpy(out, json_object_get_string(value), size + 1);
	return true;
}

static int get_error(struct json_object *object)
{
	struct json_object *value = get(object, "error", json_type_string);

	for (size_t i = 1; value && i < ERRORS; i++)
		if (!strcmp(json_object_get_string(value), errors[i].name))
			return errors[i].number;
	return errors[0].number;
}

static bool read_type(struct json_object *object, struct gateway_packet *packet)
{
	struct json_object *value = get(object, "type", json_type_string);

	for (size_t i = 0; value && i < TYPES; i++) {
		if (!strcmp(json_object_get_string(value), types[i].name)) {
			packet->type = (enum gateway_type)i;
			return true;
		}
	}
	return false;
}

static bool read_members(struct json_object *object, struct gateway_packet *packet)
{
	unsigned members = types[packet->type].members;
	struct json_object *up = get(object, "up", json_type_boolean);
	int64_t number;

	if (members & VERSION) {
		if (!get_integer(object, "version", UINT32_MAX, &number))
			return false;
		packet->version = (uint32_t)number;
	}
	if (members & HOST && !get_host(object, packet->host))
		return false;
	if (members & INSTANCE)
		gateway_get_text(object, "instance", packet->instance, sizeof(packet->instance));
	if (members & UP && !up)
		return false;
	packet->up = members & UP && json_object_get_boolean(up);
	if (members & ID) {
		if (!get_integer(object, "id", ID_MAX, &number))
			return false;
		packet->id = (uint64_t)number;
	}
	if (members & ERROR)
		packet->error = get_error(object);
	if (members & SERVER)
		gateway_get_text(object, "server", packet->server, sizeof(packet->server));
	if (members & WHY)
		gateway_get_text(object, "why", packet->why, sizeof(packet->why));
	return true;
}

/* Without the bytes beyond ASCII, which json-c 0.18 (Debian 13) takes for control characters where it is
 * strict, since its char has a sign. Names have none, and in texts they become "?" anyway. */
int gateway_parse(const char *untrusted, size_t size, struct json_object **object)
{
	struct json_tokener *tokener;
	char text[GATEWAY_PACKET_MAX];
	bool good;

	if (size > sizeof(text))
		return -EPROTO;
	tokener = json_tokener_new_ex(DEPTH_MAX);
	if (!tokener)
		return -ENOMEM;
	for (size_t i = 0; i < size; i++)
		text[i] = (char)((unsigned char)untrusted[i] < 0x80 ? untrusted[i] : '?');
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	*object = json_tokener_parse_ex(tokener, text, (int)size);
	good = *object && json_tokener_get_parse_end(tokener) == size &&
	       json_object_is_type(*object, json_type_object);
	if (!good)
		json_object_put(*object);
	json_tokener_free(tokener);
	return good ? 0 : -EPROTO;
}

int gateway_decode(const char *untrusted, size_t size, struct gateway_packet *packet)
{
	struct json_object *object;
	int r;

	*packet = (struct gateway_packet){0};
	r = gateway_parse(untrusted, size, &object);
	if (r < 0)
		return r;
	if (!read_type(object, packet) || !read_members(object, packet))
		r = -EPROTO;
	json_object_put(object);
	return r;
}
