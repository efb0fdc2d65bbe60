/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_GATEWAY_PRESENCE_H
#define XENMSG_GATEWAY_PRESENCE_H

/*
 * Which hosts are there. Each gateway publishes its presence on xenmsg.presence.HOST when it comes, at an
 * interval, and when it goes; a host that isn't heard of for `dead-after` is down. A host that comes is
 * told of the others by each of them alone (a HERE message, after a random part of a second), so that a
 * newcomer costs as many messages as there are hosts, and not their square.
 *
 * A presence is a JSON object: "version", "gateway" (a random text for each gateway process), "instance" (of
 * the daemon there), "up", "joining", and "age", the milliseconds since that gateway began, as clocks differ.
 *
 * Two hosts must not have one name: a host that comes says first that it is joining, and is nobody for a
 * second. If another gateway answers by that name, the one that is joining steps back; of two that are
 * joining, or both there because the network was in two parts, the younger one; of two that began within the
 * same 2 s, the one with the higher "gateway".
 *
 *   OFF ─── presence_start() ──► JOINING ─── 1 s ──► JOINED;   presence_stop(): OFF
 *
 * JOINING happens once in a process, and again where it has said nothing for `dead-after`: another gateway
 * may have the name by then.
 *
 * No input or output, and no clock, as in conversation.h. The functions of `presence_callbacks` must not call
 * back.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRESENCE_TICK_MS 250u /* how often presence_tick() is due */
#define PRESENCE_JOIN_MS 1000u
#define PRESENCE_CHANGE_MS                                                                                   \
	500u /* a host comes, or is another one, at most so often; of what is more the last is heard, later */
#define PRESENCE_HOSTS_MAX 16384u /* more are not believed in */
#define PRESENCE_TEXT_MAX  512u

struct presence;

struct presence_callbacks {
	/* Publish this: to all, or as a HERE to one host. */
	void (*publish)(void *userdata, const char *text, size_t size);
	void (*here)(void *userdata, const char *host, const char *text, size_t size);
	/* From now on this host may be reached by its name. */
	void (*joined)(void *userdata);
	/* Another host has come, or another gateway or daemon of it (is_other: what was agreed with the one
	 * before, until `said_ms`, is over; this may be told later); or it has gone. */
	void (*host)(void *userdata, const char *host, const char *instance, bool up, bool is_other,
		     uint64_t said_ms, const char *why);
	/* Another gateway has our name, and goes before us. */
	void (*rival)(void *userdata, const char *gateway, const char *instance);
};

/* `host` and `instance` are copied; the times are in milliseconds. 0 or -ENOMEM. */
int presence_new(struct presence **presence, const struct presence_callbacks *callbacks, void *userdata,
		 const char *host, const char *gateway, uint32_t interval_ms, uint32_t dead_after_ms,
		 uint64_t now_ms);
void presence_free(struct presence *presence);
/* The instance of our daemon, which has come again: is published. */
void presence_set_instance(struct presence *presence, const char *instance, uint64_t now_ms);

/* The network is there, or not. */
void presence_start(struct presence *presence, uint64_t now_ms);
void presence_stop(struct presence *presence);
/* Says good-bye, if the network is there. */
void presence_leave(struct presence *presence, uint64_t now_ms);
bool presence_is_joined(const struct presence *presence);

/* A presence has come from a host, whose name is valid and vouched for. What can't be read is ignored. */
void presence_message(struct presence *presence, const char *host, const char *untrusted, size_t size,
		      uint64_t now_ms);
void presence_tick(struct presence *presence, uint64_t now_ms);

bool presence_is_up(const struct presence *presence, const char *host);
/* Tells callbacks->host() of all that are up. */
void presence_tell_all(struct presence *presence);
unsigned presence_count_up(const struct presence *presence);

#endif
