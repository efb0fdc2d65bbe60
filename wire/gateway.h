/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_GATEWAY_H
#define XENMSG_WIRE_GATEWAY_H

/*
 * What a daemon and its gateway to other hosts say to each other: JSON objects, one in each packet of a
 * socket of type SOCK_SEQPACKET (doc/protocol.md, section 7). They agree here on conversations with other
 * hosts, whose bytes go through memory of their own: the daemon makes it, and sends it along with CONNECT or
 * ACCEPT.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/address.h"

#define GATEWAY_VERSION	      1u
#define GATEWAY_PACKET_MAX    4096u /* bytes; all that is encoded here is shorter */
#define GATEWAY_INSTANCE_SIZE 40u   /* with its zero: a UUID as text */
#define GATEWAY_TEXT_SIZE     240u

/* The comment says who sends it, and which members it has. */
enum gateway_type {
	GATEWAY_HELLO,	   /* gateway: version */
	GATEWAY_WELCOME,   /* daemon: version, host (its own), instance */
	GATEWAY_REFUSED,   /* daemon: why; then it closes */
	GATEWAY_STATE,	   /* gateway: up (it is connected to the network), server, why */
	GATEWAY_HOST,	   /* gateway: host, up, instance (of the daemon there), why */
	GATEWAY_CONNECT,   /* daemon: host, id; with descriptors */
	GATEWAY_CONNECTED, /* gateway: host, id; bytes flow from now on */
	GATEWAY_FAILED,	   /* gateway: host, id, error, why */
	GATEWAY_INCOMING,  /* gateway: host, id */
	GATEWAY_ACCEPT,	   /* daemon: host, id; with descriptors */
	GATEWAY_DECLINE,   /* daemon: host, id, why */
};

struct gateway_packet {
	enum gateway_type type;
	uint32_t version;
	char host[HOST_NAME_SIZE];
	char instance[GATEWAY_INSTANCE_SIZE];
	bool up;
	uint64_t id; /* of a conversation; below 2^53. The daemon's are even, the gateway's odd */
	int error;   /* a positive errno: EHOSTDOWN, EHOSTUNREACH, EAGAIN; others become EHOSTUNREACH */
	char server[GATEWAY_TEXT_SIZE], why[GATEWAY_TEXT_SIZE]; /* printable ASCII; "": nothing to say */
};

/* The descriptors, in the order in which they are passed. */
enum gateway_descriptor {
	GATEWAY_FD_LIFE,	/* a socket: when it is closed, the conversation has ended */
	GATEWAY_FD_MEMORY,	/* wire/gateway_rings.h; its size can't change */
	GATEWAY_FD_WAKE_DAEMON, /* doorbells (wire/doorbell.h) */
	GATEWAY_FD_WAKE_GATEWAY,
	GATEWAY_FDS,
};

/* What the gateway writes to GATEWAY_FD_LIFE before it closes it, if what came from the other host can't
 * be. */
#define GATEWAY_LIFE_BROKEN 'x'

/* Writes a packet, without a zero. Returns its length. */
size_t gateway_encode(const struct gateway_packet *packet, char out[GATEWAY_PACKET_MAX]);
/* Reads a packet that comes from another process. Members that aren't known, or don't belong to its type, are
 * skipped. What isn't printable in a text becomes '?'. Returns 0; -EPROTO: it isn't a packet of a type that
 * is known, lacks one of the members host, id, version and up that its type has, or one is impossible. */
int gateway_decode(const char *untrusted, size_t size, struct gateway_packet *packet);

#endif
