/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_OUTBOX_INTERNAL_H
#define XENMSG_LIBCLIENT_OUTBOX_INTERNAL_H

/* What the files of the outbox have between them: outbox.c has the channels and what is put on them,
 * outbox_outcome.c what becomes of it, outbox_frame.c what the daemon says. */

#include <stdint.h>

#include "libclient/op_result.h"

struct op;
struct outbox;
struct sender;

/* Lets the next message to the address of this channel open another one. */
void outbox_forget_address(struct outbox *outbox, struct sender *sender);
/* Notes whether the channel has bytes queued and credit for them. */
void outbox_set_ready(struct outbox *outbox, struct sender *sender);
/* Tells who waits for answers on the channel that none comes any more. */
void outbox_end_caller(struct outbox *outbox, struct sender *sender);
/* Tells who waits for room on the channel that there is some. */
void outbox_tell_room(struct outbox *outbox, struct sender *sender);
/* Removes a channel, on which nothing waits for its outcome. What waits for room there may be sent on another
 * channel; but not when the session is over, with this error. */
void outbox_remove_failed(struct outbox *outbox, struct sender *sender, int error);
void outbox_remove_sender(struct outbox *outbox, struct sender *sender);

/* Makes room for the outcome of one op more. Returns 0 or -ENOMEM. */
int outbox_grow_settled(struct outbox *outbox);
/* Settles one op, which has left the channel's list or is about to. */
void outbox_settle(struct outbox *outbox, const struct sender *sender, const struct op *op,
		   struct op_result result);
/* Settles one that stays in the list until those before it have their outcome. */
void outbox_settle_now(struct outbox *outbox, const struct sender *sender, struct op *op,
		       struct op_result result);
/* Settles as delivered everything up to `consumed`, except a message that is being cancelled and those behind
 * it. */
void outbox_settle_delivered(struct outbox *outbox, struct sender *sender);
/* Settles all messages of a channel that has ended (protocol.md, 2.3): one that isn't in the ring was
 * certainly not delivered and gets `unsent`, whatever the other end says; one that begins at `unsure` or
 * behind it `error`. `refused`: what the program there said of the message that begins at `unsure`; 0:
 * nothing. */
void outbox_settle_all(struct outbox *outbox, struct sender *sender, uint64_t unsure, int error, int unsent,
		       uint16_t refused);
/* Finds the op whose message ends there, and its place in the list; NULL: there is none. */
struct op *outbox_find_op(struct sender *sender, uint64_t end, uint32_t *index);

#endif
