/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_GATEWAY_GATEWAY_H
#define XENMSG_GATEWAY_GATEWAY_H

/*
 * The gateway: what leads this host's daemon to the daemons of other hosts. It moves bytes and knows nothing
 * of what they mean; what is sent between two hosts is proven, resumed, limited and allowed by their daemons.
 *
 *   daemon ══ daemon_socket: who is there, which conversations ══ gateway ══ nats_connection:
 *   xenmsg.presence.HOST
 *     ╚═════ rings: two in shared memory for each conversation ═════╝   ╚═══════ xenmsg.to.OTHER.HOST,
 *     xenmsg.to.HOST.*
 *
 * For each other host there is one conversation (conversation.h) and its rings; presence.h says which hosts
 * there are.
 */

struct gateway;
struct settings;

enum gateway_exit {
	GATEWAY_EXIT_OK = 0,
	GATEWAY_EXIT_ERROR = 1,
	GATEWAY_EXIT_USAGE = 2,	     /* and bad settings */
	GATEWAY_EXIT_NAME_TAKEN = 4, /* another host has this host's name */
};

/* `settings` must outlive it. 0; -EINVAL: the settings can't be used, which has been logged; else a negative
 * errno. */
int gateway_new(struct gateway **gateway, const struct settings *settings);
/* Runs until SIGTERM or SIGINT, or an error that was logged. Returns the exit status. */
enum gateway_exit gateway_run(struct gateway *gateway);
void gateway_free(struct gateway *gateway);

#endif
