/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/gateway.h"

#include <errno.h>
#include <string.h>

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

/* What was read so far. */
struct gateway_reading {
	struct gateway_packet *packet;
	bool has_type, is_wrong;
	unsigned members; /* that must be there */
};

/* Of a member that is there twice the last one counts, and nothing of the one before is left behind it. */
static void take_plain(struct frame_text text, char *out, size_t room)
{
	memset(out, 0, room);
	frame_text_copy_plain(text, out, room, ' ');
}

static void gateway_take_text(struct gateway_reading *reading, const struct json_value *value)
{
	struct gateway_packet *packet = reading->packet;
	const struct frame_text text = {value->text, value->size};

	if (!strcmp(value->key, "host") && host_name_is_valid(value->text, value->size)) {
		take_plain(text, packet->host, sizeof(packet->host));
		reading->members |= HOST;
	} else if (!strcmp(value->key, "instance")) {
		take_plain(text, packet->instance, sizeof(packet->instance));
	} else if (!strcmp(value->key, "server")) {
		take_plain(text, packet->server, sizeof(packet->server));
	} else if (!strcmp(value->key, "why")) {
		take_plain(text, packet->why, sizeof(packet->why));
	} else if (!strcmp(value->key, "error")) {
		for (size_t i = 0; i < ERRORS; i++)
			if (!strcmp(value->text, errors[i].name))
				packet->error = errors[i].number;
	} else if (!strcmp(value->key, "type")) {
		for (size_t i = 0; i < TYPES; i++) {
			if (!strcmp(value->text, types[i].name)) {
				packet->type = (enum gateway_type)i;
				reading->has_type = true;
			}
		}
	}
}

static void gateway_take_number(struct gateway_reading *reading, const struct json_value *value)
{
	if (value->flag)
		return;
	if (!strcmp(value->key, "version") && value->number <= UINT32_MAX) {
		reading->packet->version = (uint32_t)value->number;
		reading->members |= VERSION;
	} else if (!strcmp(value->key, "id") && value->number <= ID_MAX) {
		reading->packet->id = value->number;
		reading->members |= ID;
	}
}

static void gateway_take(void *userdata, const struct json_value *value)
{
	struct gateway_reading *reading = userdata;

	if (value->depth == 0 && value->kind != JSON_OBJECT && value->kind != JSON_END)
		reading->is_wrong = true;
	if (value->depth != 1 || !value->key)
		return;
	if (value->kind == JSON_TEXT) {
		gateway_take_text(reading, value);
	} else if (value->kind == JSON_INTEGER) {
		gateway_take_number(reading, value);
	} else if (value->kind == JSON_FLAG && !strcmp(value->key, "up")) {
		reading->packet->up = value->flag;
		reading->members |= UP;
	}
}

/* Forgets what doesn't belong to its type. */
static void gateway_drop_others(struct gateway_packet *packet)
{
	unsigned members = types[packet->type].members;

	if (!(members & VERSION))
		packet->version = 0;
	if (!(members & HOST))
		memset(packet->host, 0, sizeof(packet->host));
	if (!(members & INSTANCE))
		memset(packet->instance, 0, sizeof(packet->instance));
	if (!(members & UP))
		packet->up = false;
	if (!(members & ID))
		packet->id = 0;
	if (!(members & ERROR))
		packet->error = 0;
	if (!(members & SERVER))
		memset(packet->server, 0, sizeof(packet->server));
	if (!(members & WHY))
		memset(packet->why, 0, sizeof(packet->why));
}

int gateway_decode(const char *untrusted, size_t size, struct gateway_packet *packet)
{
	struct gateway_reading reading = {.packet = packet};
	char room[GATEWAY_PACKET_MAX + 1];
	unsigned must;

	*packet = (struct gateway_packet){.error = errors[0].number};
	if (size > GATEWAY_PACKET_MAX ||
	    !json_read(untrusted, size, DEPTH_MAX, room, gateway_take, &reading) || reading.is_wrong ||
	    !reading.has_type)
		return -EPROTO;
	must = types[packet->type].members & (VERSION | HOST | UP | ID);
	if ((reading.members & must) != must)
		return -EPROTO;
	gateway_drop_others(packet);
	return 0;
}
