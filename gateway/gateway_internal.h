/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_GATEWAY_INTERNAL_H
#define XENMSG_GATEWAY_INTERNAL_H

/*
 * What the two parts of the gateway share: gateway.c has its life, NATS and presence, and other_host.c the
 * conversations with other hosts, which the daemon asks for and whose bytes go between its rings and NATS.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/conversation.h"
#include "gateway/daemon_socket.h"
#include "gateway/gateway.h"
#include "gateway/settings.h"
#include "wire/ut.h"

#define SUBJECT_SIZE (sizeof("xenmsg.to..") + 2 * HOST_NAME_SIZE)
/* Bytes in one message, if the server takes as many. With its head and its line it stays below 32 KiB: a
 * message that comes in two pieces nats-server copies to memory made for it, and what is larger than that
 * Go's heap makes for each anew. */
#define CHUNK (32u * 1024 - 256)

/* Another host. */
struct other_host {
	struct gateway *gateway;
	char name[HOST_NAME_SIZE];
	char subject[SUBJECT_SIZE]; /* leads to it */
	struct conversation conversation;
	struct rings *rings; /* of the conversation: ASKING and OPEN */
	size_t put;	     /* bytes that came with the message that is being read, */
	bool is_broken;	     /* and can't be */
	UT_hash_handle hh;
};

struct gateway {
	const struct settings *settings;
	struct event_base *base;
	struct event *tick, *on_term, *on_int;
	struct notify *notify;
	struct daemon_socket *daemon;
	struct nats_connection *nats; /* since the first welcome, as the name is needed; so is presence */
	struct presence *presence;
	char host[HOST_NAME_SIZE], id[33];
	char server[GATEWAY_TEXT_SIZE], why[GATEWAY_TEXT_SIZE]; /* what STATE says; why: it isn't connected */
	bool is_forbidden;     /* something without which nothing works, until the next connection, */
	uint64_t forbidden_ms; /* which is tried so long after this */
	struct other_host *peers;
	uint64_t last_id;
	uint64_t ticked_ms; /* when the tick came last */
	bool was_late;	    /* and that it came too late */
	enum gateway_exit status;
	uint8_t chunk[MESSAGE_HEAD_SIZE + CHUNK];
};

/* --- gateway.c */

/* Returns whether other hosts can be reached: NATS is there, and no other host has this name. */
bool gateway_is_connected(const struct gateway *gateway);

/* --- other_host.c */

/* Tells the daemon about a host. */
void gateway_tell_about(struct gateway *gateway, const char *host, struct gateway_packet packet);
struct other_host *other_host_find(struct gateway *gateway, const char *host);
void other_host_free(struct other_host *peer);
/* Frees the rings of its conversation, if there is one. */
void other_host_free_rings(struct other_host *peer);
void other_hosts_lose_all(struct gateway *gateway, const char *why);
/* Takes a message about the conversation with a host that is up. */
void other_host_message(struct gateway *gateway, const char *host, const struct nats_message *message,
			uint64_t now_ms);
/* Lets bytes be taken again if they may go. */
void other_host_go_on(struct other_host *peer);
/* Does what the daemon asks. */
void other_host_packet(struct gateway *gateway, const struct gateway_packet *packet, const int *fds);

#endif
