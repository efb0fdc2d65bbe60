/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_WITHDRAW_H
#define XENMSG_DAEMON_WITHDRAW_H

/*
 * Withdrawals of calls on their way to the server (doc/protocol.md, 2.3): each says that an answer is no
 * longer wanted. They go past the data, so that a server hears of them though it takes nothing. Nothing
 * depends on their arrival: of those that can't be passed on yet a channel keeps WITHDRAWALS_MAX, at the
 * opener's cost, and drops further ones.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/relay/channel.h"

#define WITHDRAWALS_MAX 1024u

/* Handles a WITHDRAW that came in at `end`. -EPROTO: it may not come from there, or not to this acceptor. */
int channel_withdraw(struct channel_end *end, uint32_t number);
/* Fills in the next WITHDRAW to be sent at the acceptor's end. False: there is none. */
bool withdrawals_next_frame(struct channel_end *end, struct channel_frame *frame);
void withdrawals_free(struct channel *channel);

#endif
