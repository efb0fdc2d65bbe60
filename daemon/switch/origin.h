/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ORIGIN_H
#define XENMSG_DAEMON_ORIGIN_H

/*
 * Where a channel comes from, besides its sender's identity: by what name the sender's domain is known, and
 * which other host the sender is on, or the acceptor (doc/protocol.md, 5.10). Nobody else sees how a channel
 * keeps that. A host's number is this daemon's own (daemon/hosts/hosts.h).
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/switch/channel.h"

struct image;

/* Sets the name of the sender's domain ("": unknown), before channel_accept(). */
void origin_set_domain(struct channel *channel, const char *name);
/* Sets on which host the sender is, likewise: one with this number. -ENOMEM. */
int origin_set_host(struct channel *channel, uint32_t number, const char *name);
/* Sets that the acceptor is on another host, likewise: in domain 0 on one with this number, elsewhere 0.
 * -ENOMEM. */
int origin_set_goal(struct channel *channel, uint32_t number);
void origin_free(struct channel *channel);

/* Returns the name of the sender's domain, or NULL: it is unknown. */
const char *origin_domain(const struct channel *channel);
/* Returns the name of the host that the sender is on, or NULL: this one. */
const char *origin_host(const struct channel *channel);
/* Returns, in domain 0, the number of the host that the acceptor is on, or 0: it isn't on another one. */
uint32_t origin_goal(const struct channel *channel);
/* Whether the sender or the acceptor is on another host. */
bool origin_is_remote(const struct channel *channel);

/* The names, and which host it is, in the image (hop_image.h): the first of these before the second. */
void origin_image_names(struct image *image, struct channel *channel);
void origin_image_hosts(struct image *image, struct channel *channel);

#endif
