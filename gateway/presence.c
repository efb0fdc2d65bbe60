/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/presence.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/gateway.h"
#include "wire/json.h"
#include "wire/ut.h"

#define VERSION	     1
#define DEPTH_MAX    4	 /* of what may be skipped */
#define GATEWAY_SIZE 33u /* 16 bytes in hexadecimal, and a zero */
#define SAME_AGE_MS  2000
#define GREET_MS     1000u /* a newcomer is greeted within this time; nobody more often */

/* What a presence says. */
struct said {
	char gateway[GATEWAY_SIZE], instance[GATEWAY_INSTANCE_SIZE];
	bool up, joining;
	int64_t age_ms;
	uint64_t heard_ms;
};

struct present_host {
	char name[HOST_NAME_SIZE];
	char gateway[GATEWAY_SIZE];
	char instance[GATEWAY_INSTANCE_SIZE];
	bool up;
	uint64_t heard_ms, changed_ms;
	uint64_t greet_ms; /* when to greet it; 0: not */
	struct said later; /* what it said last, too soon to be taken then; without a gateway: nothing */
	UT_hash_handle hh;
};

struct presence {
	const struct presence_callbacks *callbacks;
	void *userdata;
	char host[HOST_NAME_SIZE], gateway[GATEWAY_SIZE], instance[GATEWAY_INSTANCE_SIZE];
	uint32_t interval_ms, dead_after_ms;
	uint64_t began_ms;
	enum { OFF, JOINING, JOINED } state;
	bool was_joined, must_tell;
	uint64_t joining_ms; /* since when */
	uint64_t told_ms;    /* when it was last published */
	uint32_t random;
	struct present_host *hosts;
	unsigned ups;
};

static void copy(char *out, size_t room, const char *text)
{
	snprintf(out, room, "%s", text);
}

int presence_new(struct presence **out, const struct presence_callbacks *callbacks, void *userdata,
		 const char *host, const char *gateway, uint32_t interval_ms, uint32_t dead_after_ms,
		 uint64_t now_ms)
{
	struct presence *presence = calloc(1, sizeof(*presence));

	if (!presence)
		return -ENOMEM;
	presence->callbacks = callbacks;
	presence->userdata = userdata;
	copy(presence->host, sizeof(presence->host), host);
	copy(presence->gateway, sizeof(presence->gateway), gateway);
	presence->interval_ms = interval_ms;
	presence->dead_after_ms = dead_after_ms;
	presence->began_ms = now_ms;
	for (const char *c = gateway; *c; c++) /* hosts must not greet in step */
		presence->random = presence->random * 31 + (unsigned char)*c;
	*out = presence;
	return 0;
}

void presence_free(struct presence *presence)
{
	struct present_host *host, *next;

	if (!presence)
		return;
	HASH_ITER(hh, presence->hosts, host, next) {
		HASH_DEL(presence->hosts, host);
		free(host);
	}
	free(presence);
}

/* --- our own ---------------------------------------------------------------------------------- */

/* gateway and instance are hexadecimal digits and dashes: set_instance() sees to it. */
static size_t write_text(const struct presence *presence, bool up, uint64_t now_ms,
			 char text[PRESENCE_TEXT_MAX])
{
	return (size_t)snprintf(text, PRESENCE_TEXT_MAX,
				"{\"version\":%d,\"gateway\":\"%s\",\"instance\":\"%s\",\"up\":%s,"
				"\"joining\":%s,\"age\":%" PRIu64 "}",
				VERSION, presence->gateway, presence->instance, up ? "true" : "false",
				presence->state == JOINING ? "true" : "false", now_ms - presence->began_ms);
}

static void presence_publish(struct presence *presence, bool up, uint64_t now_ms)
{
	char text[PRESENCE_TEXT_MAX];
	size_t size = write_text(presence, up, now_ms, text);

	presence->told_ms = now_ms;
	presence->must_tell = false;
	presence->callbacks->publish(presence->userdata, text, size);
}

void presence_set_instance(struct presence *presence, const char *instance, uint64_t now_ms)
{
	copy(presence->instance, sizeof(presence->instance), instance);
	for (char *c = presence->instance; *c; c++)
		if (!strchr("0123456789abcdefABCDEF-", *c))
			*c = '-';
	if (presence->state == JOINED)
		presence_publish(presence, true, now_ms);
}

/* Whether others have taken us for dead, so another gateway may have got our name. */
static bool is_forgotten(const struct presence *presence, uint64_t now_ms)
{
	return presence->was_joined && now_ms - presence->told_ms >= presence->dead_after_ms;
}

/* Joins as a gateway does that has just begun: whoever has the name by now keeps it. */
static void join_anew(struct presence *presence, uint64_t now_ms)
{
	presence->was_joined = false;
	presence->state = JOINING;
	presence->began_ms = presence->joining_ms = now_ms;
}

void presence_start(struct presence *presence, uint64_t now_ms)
{
	if (is_forgotten(presence, now_ms))
		join_anew(presence, now_ms);
	presence->state = presence->was_joined ? JOINED : JOINING;
	presence->joining_ms = now_ms;
	if (presence->state == JOINED)
		presence->callbacks->joined(presence->userdata);
	presence_publish(presence, presence->state == JOINED, now_ms);
}

void presence_stop(struct presence *presence)
{
	presence->state = OFF;
}

void presence_leave(struct presence *presence, uint64_t now_ms)
{
	if (presence->state == JOINED)
		presence_publish(presence, false, now_ms);
	presence->state = OFF;
}

bool presence_is_joined(const struct presence *presence)
{
	return presence->state == JOINED;
}

/* --- others ----------------------------------------------------------------------------------- */

enum presence_member {
	PRESENCE_GATEWAY = 1,
	PRESENCE_INSTANCE = 2,
	PRESENCE_UP = 4,
	PRESENCE_AGE = 8,
	PRESENCE_VERSION = 16,
	PRESENCE_ALL = 31,
};

struct presence_reading {
	struct said *said;
	unsigned members; /* that are there, as they must be */
};

static bool presence_take_text(const struct json_value *value, char *out, size_t room)
{
	if (value->kind != JSON_TEXT || value->size >= room || strlen(value->text) != value->size ||
	    value->text[strspn(value->text, "0123456789abcdefABCDEF-")])
		return false;
	copy(out, room, value->text);
	return true;
}

static void presence_take(void *userdata, const struct json_value *value)
{
	struct presence_reading *reading = userdata;
	struct said *said = reading->said;
	bool is_number = value->kind == JSON_INTEGER && !value->flag && value->number <= INT64_MAX;

	if (value->depth != 1 || !value->key)
		return;
	if (!strcmp(value->key, "gateway") &&
	    presence_take_text(value, said->gateway, sizeof(said->gateway)) && *said->gateway) {
		reading->members |= PRESENCE_GATEWAY;
	} else if (!strcmp(value->key, "instance") &&
		   presence_take_text(value, said->instance, sizeof(said->instance))) {
		reading->members |= PRESENCE_INSTANCE;
	} else if (!strcmp(value->key, "up") && value->kind == JSON_FLAG) {
		said->up = value->flag;
		reading->members |= PRESENCE_UP;
	} else if (!strcmp(value->key, "joining")) {
		said->joining = value->kind == JSON_FLAG && value->flag;
	} else if (!strcmp(value->key, "age") && is_number) {
		said->age_ms = (int64_t)value->number;
		reading->members |= PRESENCE_AGE;
	} else if (!strcmp(value->key, "version") && is_number && value->number >= VERSION) {
		reading->members |= PRESENCE_VERSION;
	}
}

static bool read_text(const char *untrusted, size_t size, struct said *said)
{
	struct presence_reading reading = {.said = said};
	char room[PRESENCE_TEXT_MAX + 1];

	said->joining = false;
	return size <= PRESENCE_TEXT_MAX &&
	       json_read(untrusted, size, DEPTH_MAX, room, presence_take, &reading) &&
	       reading.members == PRESENCE_ALL;
}

/* Whether somebody who speaks by our name may keep it, and we not. */
static bool goes_before(const struct presence *presence, const struct said *said, uint64_t now_ms)
{
	int64_t older_by = said->age_ms - (int64_t)(now_ms - presence->began_ms);

	if (said->joining != (presence->state == JOINING))
		return !said->joining;
	if (older_by > -SAME_AGE_MS && older_by < SAME_AGE_MS)
		return strcmp(said->gateway, presence->gateway) < 0;
	return older_by > 0;
}

static void on_own_name(struct presence *presence, const struct said *said, uint64_t now_ms)
{
	if (!strcmp(said->gateway, presence->gateway) || presence->state == OFF)
		return;
	if (!said->up && !said->joining) /* it goes */
		return;
	if (goes_before(presence, said, now_ms))
		presence->callbacks->rival(presence->userdata, said->gateway, said->instance);
	else
		presence->must_tell = true; /* at the next tick, however often it asks */
}

static struct present_host *presence_find(const struct presence *presence, const char *name)
{
	struct present_host *host;

	HASH_FIND_STR(presence->hosts, name, host);
	return host;
}

static struct present_host *presence_add(struct presence *presence, const char *name)
{
	struct present_host *host;

	if (HASH_COUNT(presence->hosts) >= PRESENCE_HOSTS_MAX || !(host = calloc(1, sizeof(*host))))
		return NULL;
	copy(host->name, sizeof(host->name), name);
	HASH_ADD_STR(presence->hosts, name, host);
	if (!HASH_ADDED(host)) {
		free(host);
		return NULL;
	}
	return host;
}

/* Whether it says that another gateway or daemon is there than is taken to be. */
static bool is_other(const struct present_host *host, const struct said *said)
{
	return host->up &&
	       (strcmp(host->gateway, said->gateway) != 0 || strcmp(host->instance, said->instance) != 0);
}

static void set_up(struct presence *presence, struct present_host *host, bool up, bool is_other,
		   uint64_t said_ms, const char *why)
{
	if (up && !host->up)
		presence->ups++;
	else if (!up && host->up)
		presence->ups--;
	host->up = up;
	presence->callbacks->host(presence->userdata, host->name, host->instance, up, is_other, said_ms, why);
}

static void take(struct presence *presence, struct present_host *host, const struct said *said,
		 uint64_t now_ms)
{
	bool others = is_other(host, said);

	if (said->up && (others || !host->up))
		host->changed_ms = now_ms;
	if (strcmp(host->gateway, said->gateway) != 0 && presence->state == JOINED) {
		presence->random = presence->random * 1664525u + 1013904223u;
		host->greet_ms = now_ms + 1 + (presence->random >> 16) % GREET_MS;
	}
	copy(host->gateway, sizeof(host->gateway), said->gateway);
	copy(host->instance, sizeof(host->instance), said->instance);
	if (!said->up)
		set_up(presence, host, false, true, said->heard_ms, "its gateway has stopped");
	else if (!host->up || others)
		set_up(presence, host, true, others, said->heard_ms, "");
}

/* A host that goes is heard at once, and can't go twice. */
static bool is_too_soon(const struct present_host *host, uint64_t now_ms)
{
	return host->changed_ms && now_ms - host->changed_ms < PRESENCE_CHANGE_MS;
}

/* Whether it says once more what was said before. */
static bool repeats(const struct said *before, const struct said *said)
{
	return said->up && !strcmp(before->gateway, said->gateway) &&
	       !strcmp(before->instance, said->instance);
}

void presence_message(struct presence *presence, const char *name, const char *untrusted, size_t size,
		      uint64_t now_ms)
{
	struct present_host *host;
	struct said said;

	if (!read_text(untrusted, size, &said))
		return;
	if (!strcmp(name, presence->host)) {
		on_own_name(presence, &said, now_ms);
		return;
	}
	host = presence_find(presence, name);
	said.heard_ms = host && repeats(&host->later, &said) ? host->later.heard_ms : now_ms;
	if (host && (said.up || !strcmp(host->later.gateway, said.gateway)))
		host->later.gateway[0] = '\0';
	/* One that is joining isn't there yet; nor is one there that goes and was never seen. */
	if (!said.up && (!host || strcmp(host->gateway, said.gateway) != 0 || !host->up))
		return;
	if (!host && !(host = presence_add(presence, name)))
		return;
	host->heard_ms = now_ms;
	if (said.up && (is_other(host, &said) || !host->up) && is_too_soon(host, now_ms))
		host->later = said;
	else
		take(presence, host, &said, now_ms);
}

static void tick_host(struct presence *presence, struct present_host *host, uint64_t now_ms)
{
	char text[PRESENCE_TEXT_MAX];

	if (host->later.gateway[0] && !is_too_soon(host, now_ms)) {
		take(presence, host, &host->later, now_ms);
		host->later.gateway[0] = '\0';
	}
	if (host->greet_ms && now_ms >= host->greet_ms && presence->state == JOINED) {
		host->greet_ms = 0;
		presence->callbacks->here(presence->userdata, host->name, text,
					  write_text(presence, true, now_ms, text));
	}
	if (now_ms - host->heard_ms < presence->dead_after_ms)
		return;
	if (host->up)
		set_up(presence, host, false, true, now_ms,
		       "its gateway hasn't been heard of for dead-after");
	HASH_DEL(presence->hosts, host);
	free(host);
}

void presence_tick(struct presence *presence, uint64_t now_ms)
{
	struct present_host *host, *next;

	if (presence->state == JOINED && is_forgotten(presence, now_ms))
		join_anew(presence, now_ms); /* we stood still */
	if (presence->state == JOINING && now_ms - presence->joining_ms >= PRESENCE_JOIN_MS) {
		presence->state = JOINED;
		presence->was_joined = true;
		presence->callbacks->joined(presence->userdata);
		presence_publish(presence, true, now_ms);
	} else if (presence->state != OFF &&
		   (presence->must_tell || now_ms - presence->told_ms >= presence->interval_ms)) {
		presence_publish(presence, presence->state == JOINED, now_ms);
	}
	HASH_ITER(hh, presence->hosts, host, next)
		tick_host(presence, host, now_ms);
}

bool presence_is_up(const struct presence *presence, const char *name)
{
	const struct present_host *host = presence_find(presence, name);

	return host && host->up;
}

void presence_tell_all(struct presence *presence)
{
	for (struct present_host *host = presence->hosts; host; host = host->hh.next)
		if (host->up)
			presence->callbacks->host(presence->userdata, host->name, host->instance, true, false,
						  host->heard_ms, "");
}

unsigned presence_count_up(const struct presence *presence)
{
	return presence->ups;
}
