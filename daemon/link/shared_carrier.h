/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_SHARED_CARRIER_H
#define XENMSG_DAEMON_SHARED_CARRIER_H

/*
 * Memory that a gateway shares, as the carrier of a link's session: behind the gateway is another host's
 * daemon (doc/protocol.md, section 7). The gateway reads the ring out and writes the ring in, as the other
 * end of a vchan would, and is trusted as little. It lets our ring out have space again when the other host's
 * daemon has processed what was in it, so what isn't processed lies there, whatever happens to the gateway.
 */

#include "daemon/link/carrier.h"

struct charge;
struct conversation_memory;
struct switchboard;

/* Makes one of a conversation's memory, which is its from now on, as is `charge`, which pays for that: also
 * if it fails. `is_granter`: this end is the one that doesn't number the epochs. -ENOMEM. */
int shared_carrier_new(struct carrier *made, struct switchboard *board, struct conversation_memory *memory,
		       struct charge *charge, bool is_granter);

#endif
