/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOSTS_INTERNAL_H
#define XENMSG_DAEMON_HOSTS_INTERNAL_H

/* The table of hosts (hosts.c), which hosts_image.c hands over to the next daemon. */

#include "base/quota.h"
#include "daemon/hosts/conversation_memory.h"
#include "daemon/hosts/hosts.h"
#include "wire/gateway.h"
#include "wire/ut.h"

struct event;
struct gateway_socket;

enum host_state {
	HOST_IDLE,
	HOST_ASKED,
	HOST_WAITING,
	HOST_AGREED,
};

struct host {
	struct hosts *hosts;
	uint32_t number;
	char name[HOST_NAME_SIZE];
	char instance[GATEWAY_INSTANCE_SIZE];
	char why[GATEWAY_TEXT_SIZE];
	bool up;
	bool is_stale; /* this gateway hasn't named it, and that before has gone */
	uint64_t since;
	enum host_state state;
	uint64_t id;			   /* of the conversation that was asked for */
	struct conversation_memory memory; /* of it, if there is one */
	struct charge charge;		   /* for that */
	struct event *rung;		   /* the gateway has mapped it */
	bool is_sealed;
	bool is_wanted;	   /* somebody asks here, while the other host does */
	uint64_t asked_ms; /* when */
	UT_hash_handle hh;
};

struct hosts {
	struct switchboard *board;
	struct hosts_options options;
	const struct hosts_callbacks *callbacks;
	void *userdata;
	struct gateway_socket *socket; /* NULL: no gateway can come */
	struct event *tick;
	uint64_t tick_due_ms;
	bool was_late; /* it came so late that we stood still ourselves */
	struct host **by_number;
	uint32_t count;
	struct host *by_name;
	uint64_t last_id;
	uint64_t changed_ms; /* when a gateway came or went */
	bool network_up;
	char server[GATEWAY_TEXT_SIZE], why[GATEWAY_TEXT_SIZE];
	uint64_t since;
};

/* Adds one that isn't there, with the next number. NULL: there are too many, or no memory. */
struct host *hosts_add(struct hosts *hosts, const char *name);
/* Lets hosts.c look in a second whether something has lasted for too long. */
void hosts_look_later(struct hosts *hosts);
/* Every host's state is in doubt for a while. */
void hosts_doubt_all(struct hosts *hosts);
/* Gives up the conversation that the host has begun, if there is one. */
void hosts_stop_asking(struct hosts *hosts, struct host *host);

#endif
