/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_HOSTILE_PEER_H
#define XENMSG_TESTS_HOSTILE_PEER_H

/* What hostile_peer.c, which breaks the rules of a link once, and hostile_flood.c, which keeps them and
 * floods it, share. */

#include <stdbool.h>
#include <stdint.h>

#include <libxenvchan.h>

#include "wire/frame.h"

struct link {
	struct libxenvchan *vchan;
	struct xs_handle *xs;
	unsigned me, peer;
	uint32_t sequence;
};

/* False: there is no room for it, if the vchan doesn't block; or it is closed. */
bool link_put_frame(struct link *link, uint8_t type, uint32_t channel, const void *payload, uint32_t length);

/* Floods the link by this attack, which is about that address, until the standard input ends. False: there is
 * no such attack. */
bool link_flood(struct link *link, const char *name, const char *address);

/* Writes our hello for the peer. */
void link_say_hello(struct link *link, uint32_t nonce);

/* Says hello with one nonce after the other, maps what is granted for each, and keeps all of it, until the
 * standard input ends; prints KEPT and how often that was. `lies`: and clears the byte that says whether it
 * has it still mapped. Returns the exit status. */
int link_hoard(struct link *link, bool lies);

#endif
