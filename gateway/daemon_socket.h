/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_GATEWAY_DAEMON_SOCKET_H
#define XENMSG_GATEWAY_DAEMON_SOCKET_H

/* The connection to this host's daemon: packets of wire/gateway.h, of which some bring a descriptor. It is
 * made again whenever it is lost; a daemon that has refused us or says nothing is tried again, too. */

#include <stdbool.h>

#include "wire/gateway.h"

struct daemon_socket;
struct event_base;

struct daemon_socket_callbacks {
	/* The daemon has welcomed us: its host's name and its instance are in the packet. */
	void (*welcome)(void *userdata, const struct gateway_packet *packet);
	/* Any other packet. `fds`, of which there are GATEWAY_FDS, are the receiver's to close; NULL: none
	 * came, or there was no room for them in this process. */
	void (*packet)(void *userdata, const struct gateway_packet *packet, const int *fds);
	/* The connection is lost, after a welcome. */
	void (*lost)(void *userdata, const char *why);
};

/* `path` and `callbacks` must outlive it. 0 or -ENOMEM. */
int daemon_socket_new(struct daemon_socket **daemon, struct event_base *base, const char *path,
		      const struct daemon_socket_callbacks *callbacks, void *userdata);
void daemon_socket_free(struct daemon_socket *daemon);

/* Sends a packet, if there is a daemon. One that doesn't read, or has gone, is let go: lost() is called
 * later, by the loop. */
void daemon_socket_send(struct daemon_socket *daemon, const struct gateway_packet *packet);
bool daemon_socket_is_welcome(const struct daemon_socket *daemon);

#endif
