/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOSTS_H
#define XENMSG_DAEMON_HOSTS_H

/*
 * The other hosts that we have heard of: their names, whether their daemons are there, and how a conversation
 * with one begins. A gateway (gateway_socket.h) tells it all; what a host's conversation carries is the
 * business of a link.
 *
 * Each gets a number, as long as this daemon runs, by which links and accounts know it (base/peer_id.h). It
 * is above all domids, so that a reader who finds it in a list of domains, knowing nothing of hosts, takes
 * it for none that is there.
 *
 *   IDLE ──hosts_connect()──▶ ASKED ──connected──▶ AGREED ──the memory is sealed──▶ IDLE, with callback `connected`
 *                               ├─────failed, no answer, no gateway──▶ IDLE, with callback `failed`
 *                               └─────both ask, and theirs is to be used──▶ WAITING ──incoming──▶ AGREED
 *   any ──the other end asks──▶ AGREED
 *
 * The memory of a conversation is sealed by the gateway (shared_memory.h) when it has mapped it: it rings
 * then, and is in no doubt about it when it says "connected".
 *
 * When the gateway exits, its conversations end. The hosts are presumed to be as they were until neither it
 * nor another gateway has named them for dead-after.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/address.h"

struct charge;
struct conversation_memory;
struct frame_text;
struct hosts;
struct image;
struct switchboard;
struct self;

struct handed_over;

#define HOST_FIRST 0x10000u
#define HOSTS_MAX  16384u

struct hosts_options {
	struct self *self; /* is told this host's name */
	const char *name;  /* this host's; NULL: no gateway is served here. Stays the caller's, for as long */
	const char *socket_path;	 /* of the programs' socket: the gateway's is beside it */
	struct handed_over *handed_over; /* its gateway socket is taken and served instead; NULL: none */
	uid_t user;			 /* of the gateway; USERS_NO_UID: there is none */
	uint32_t setup_timeout_ms, dead_after_ms;
};

struct hosts_callbacks {
	/* A conversation begins: `memory` is the callee's, as is `charge`, by which the gateway pays for
	 * it. */
	void (*connected)(void *userdata, uint32_t number, struct conversation_memory *memory,
			  struct charge *charge);
	/* One that was asked for can't be had: -EHOSTDOWN, -EHOSTUNREACH; `reason` is a sentence for
	 * people. */
	void (*failed)(void *userdata, uint32_t number, int error, const char *reason);
	/* The host is taken to be gone. Returns what that took, in units of turns.h, for which the gateway
	 * pays. */
	unsigned (*gone)(void *userdata, uint32_t number);
	/* Another daemon runs there now, of this instance; a session with it may have begun before this is
	 * known. */
	void (*replaced)(void *userdata, uint32_t number, const uint8_t instance[16]);
};

/* Errors as of gateway_socket_new(), but where the service manager has made the programs' socket: then a
 * gateway that can't be served is logged and shown in status, since all others can be served nonetheless. */
int hosts_new(struct hosts **hosts, struct switchboard *board, const struct hosts_options *options,
	      const struct hosts_callbacks *callbacks, void *userdata);
void hosts_free(struct hosts *hosts);

/* Notes, in another domain than 0, what domain 0 says of the name of this host. */
void hosts_learn_own_name(struct hosts *hosts, struct frame_text name);
/* Returns the number of the host with this name; 0: it was never heard of. */
uint32_t hosts_find(const struct hosts *hosts, const char *name);
/* Does the same for one to which something is to be sent. -EHOSTUNREACH: nothing leads out of this host;
 * -EHOSTDOWN: it was never heard of. */
int hosts_resolve(const struct hosts *hosts, const char *name, uint32_t *number);
/* Finds or adds one that is vouched for, and is heard of now. 0: there are too many, or no memory. */
uint32_t hosts_note(struct hosts *hosts, const char *name);
/* Returns the host's name, "" if there is none with this number. */
const char *hosts_name(const struct hosts *hosts, uint32_t number);
/* Whether our name comes before the host's, byte by byte. */
bool hosts_is_lower(const struct hosts *hosts, uint32_t number);
bool hosts_is_up(const struct hosts *hosts, uint32_t number);

/* Gives up all that is being asked for: the daemon hands over. */
void hosts_hand_over(struct hosts *hosts);
/* Writes all hosts, and the gateway's connection, or reads them, with their numbers, where none is known. */
void hosts_image(struct image *image, struct hosts *hosts);

/* Asks for a conversation. Answers by `connected` or `failed`, never before it returns. 0; -EHOSTDOWN: its
 * daemon isn't there; -EHOSTUNREACH: no gateway is; -ENOMEM, -EMFILE, ... */
int hosts_connect(struct hosts *hosts, uint32_t number);
/* Withdraws that. */
void hosts_disconnect(struct hosts *hosts, uint32_t number);

/* One in a listing; what it points to is valid until the hosts change. */
struct host_info {
	uint32_t number;
	const char *name, *instance, *why; /* "" if unknown */
	bool up;
	uint64_t since; /* in seconds since 1970 */
};
/* Returns in *info the first host, by number, behind `after` (0: the first of all). False: there is no
 * more. */
bool hosts_next(const struct hosts *hosts, uint32_t after, struct host_info *info);

struct gateway_info {
	bool served;			 /* [hosts] name is set */
	bool there, up;			 /* connected to us, and to the network */
	const char *name, *server, *why; /* this host's; where it is connected to; what was wrong last */
	uint64_t since;			 /* of `there` and `up`, in seconds since 1970 */
};
void hosts_gateway(const struct hosts *hosts, struct gateway_info *info);

#endif
