/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/gateway.h"

#include <errno.h>
#include <string.h>

#include <json-c/json.h>

#include "wire/frame.h"
#include "wire/json.h"

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

static void gateway_add_text(struct json *json, const char *name, const char *text)
{
	if (*text)
		json_text(json, name, text);
}

size_t gateway_encode(const struct gateway_packet *packet, char out[GATEWAY_PACKET_MAX])
{
	struct json json = {.text = out, .room = GATEWAY_PACKET_MAX, .is_fixed = true};
	unsigned members = types[packet->type].members;

	json_begin(&json, NULL, '{');
	json_text(&json, "type", types[packet->type].name);
	if (members & VERSION)
		json_number(&json, "version", packet->version);
	if (members & HOST)
		gateway_add_text(&json, "host", packet->host);
	if (members & INSTANCE)
		gateway_add_text(&json, "instance", packet->instance);
	if (members & UP)
		json_flag(&json, "up", packet->up);
	if (members & ID)
		json_number(&json, "id", packet->id);
	if (members & ERROR)
		json_text(&json, "error", error_name(packet->error));
	if (members & SERVER)
		gateway_add_text(&json, "server", packet->server);
	if (members & WHY)
		gateway_add_text(&json, "why", packet->why);
	json_end(&json, '}');
	return json.size;
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

/* NULL: it isn't JSON, or there was no memory for it. */
static struct json_object *gateway_parse_once(struct json_tokener *tokener, const char *text, size_t size)
{
	struct json_object *object;

	json_tokener_reset(tokener);
	object = json_tokener_parse_ex(tokener, text, (int)size);
	if (object && json_tokener_get_parse_end(tokener) == size &&
	    json_object_is_type(object, json_type_object))
		return object;
	json_object_put(object);
	return NULL;
}

/* Without the bytes beyond ASCII, which json-c 0.18 (Debian 13) takes for control characters where it is
 * strict, since its char has a sign. Names have none, and in texts they become "?" anyway. */
int gateway_parse(const char *untrusted, size_t size, struct json_object **object)
{
	struct json_tokener *tokener;
	char text[GATEWAY_PACKET_MAX];

	if (size > sizeof(text))
		return -EPROTO;
	tokener = json_tokener_new_ex(DEPTH_MAX);
	if (!tokener)
		return -ENOMEM;
	for (size_t i = 0; i < size; i++)
		text[i] = (char)((unsigned char)untrusted[i] < 0x80 ? untrusted[i] : '?');
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	*object = gateway_parse_once(tokener, text, size);
	if (!*object) /* json-c doesn't tell a moment without memory from what is no JSON */
		*object = gateway_parse_once(tokener, text, size);
	json_tokener_free(tokener);
	return *object ? 0 : -EPROTO;
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
