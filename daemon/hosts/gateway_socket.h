/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_GATEWAY_SOCKET_H
#define XENMSG_DAEMON_GATEWAY_SOCKET_H

/*
 * The socket on which a gateway to other hosts speaks with the daemon (doc/protocol.md, section 7). Only
 * root, the daemon's own user and the user that the settings name may connect, and one at a time.
 *
 *   nobody ──connect(), HELLO──▶ `came` ──packets──▶ `packet` … ──closed, or something unreadable──▶ `gone`
 */

#include <stdbool.h>
#include <sys/types.h>

struct account;
struct gateway_packet;
struct gateway_socket;
struct switchboard;

struct gateway_socket_options {
	const char *path;
	/* the service manager's, which listens already and is taken in any case; -1: `path` it is */
	int handed_over;
	uid_t user;	     /* who may connect; USERS_NO_UID: root and this one's own user alone */
	const char *refusal; /* why nobody may be the gateway; NULL: any that may connect may */
};

struct gateway_callbacks {
	void (*came)(void *userdata);
	void (*packet)(void *userdata, const struct gateway_packet *packet);
	void (*gone)(void *userdata, const char *why);
};

/* Listens. -EADDRINUSE, -ENOTSOCK: something else is there; -ENAMETOOLONG;
 * others of bind(2). */
int gateway_socket_new(struct gateway_socket **out, struct switchboard *board,
		       const struct gateway_socket_options *options,
		       const struct gateway_callbacks *callbacks, void *userdata);
void gateway_socket_free(struct gateway_socket *socket);

/* Whether a gateway has come. */
bool gateway_socket_has_gateway(const struct gateway_socket *socket);
/* Returns the account of its user, who pays for what it has this daemon do; NULL: nobody does, as where there
 * is no socket. */
struct account *gateway_socket_account(const struct gateway_socket *socket);
/* Returns the descriptor of the gateway's connection, which stays this one's; -1: none has come. */
int gateway_socket_fd(const struct gateway_socket *socket);
/* Takes a gateway's connection, which the daemon before this has welcomed; nothing is told of that. It is
 * closed if its user may not be the gateway any more. */
void gateway_socket_adopt(struct gateway_socket *socket, int fd);
/* Sends a packet, with descriptors (at most GATEWAY_FDS), which stay the caller's. -ENOTCONN: no gateway has
 * come, or it has just gone; -ENOBUFS: it doesn't read, and is let go; -ENOMEM. Callback `gone` never comes
 * before it returns. */
int gateway_socket_send(struct gateway_socket *socket, const struct gateway_packet *packet, const int *fds,
			unsigned count);

#endif
