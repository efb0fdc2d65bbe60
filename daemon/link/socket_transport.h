/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_SOCKET_TRANSPORT_H
#define XENMSG_DAEMON_SOCKET_TRANSPORT_H

/*
 * A stream socket as the transport of a link's session: what lies at its other end is a gateway, and behind that another
 * host's daemon (doc/protocol.md, section 7). Each end has a pair of rings in its own memory, of which this one reads
 * what is to be sent, and writes what has come. As with a vchan's ring a writer knows how far the other end has
 * processed, and keeps what is not processed; so each record on the socket begins with the index up to which its sender
 * has processed what came:
 *
 *   our hop ──writes──▶ ring out ──records──▶ socket … socket ──records──▶ ring in ──reads──▶ the other hop
 *                          ▲ consumer = the index in the records that come back
 *
 * The rings have a size that the protocol fixes, so what fits into the one fits into the other, and the socket is always
 * read to its end.
 */

#include "daemon/link/transport.h"

struct charge;
struct relay;

#define SOCKET_RING_SIZE   1048576u
#define SOCKET_RECORD_HEAD 8u /* u32 length of what follows, u32 index up to which its sender has processed */

/* Makes one of a connected socket, which is its from now on, as is `charge`, which holds the descriptor and the memory of
 * both rings: also if it fails. `is_granter`: this end is the one that doesn't number the epochs. -ENOMEM. */
int socket_transport_new(struct transport *transport, struct relay *relay, int fd, struct charge *charge,
			 bool is_granter);

#endif
