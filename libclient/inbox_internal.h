/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_INBOX_INTERNAL_H
#define XENMSG_LIBCLIENT_INBOX_INTERNAL_H

/* What the files of the inbox have between them: inbox.c has the channels, inbox_front.c the message that
 * comes next, inbox_held.c those that stay in the ring. */

#include <stdbool.h>
#include <stdint.h>

struct inbox;
struct inbox_front;
struct receiver;
struct xenmsg_message;

/* Sends RESET for a channel, and expects nothing more from it. Returns 0, -EPROTO or -ENOMEM. */
int inbox_reset_receiver(struct inbox *inbox, struct receiver *receiver, uint32_t error);
/* Sends FIN when all was taken and answered, which may have to wait for room. Returns 0, -EPROTO or
 * -ENOMEM. */
int inbox_end_if_finished(struct inbox *inbox, struct receiver *receiver);
/* Refuses the request at the front, which has come to an endpoint that is drained. Returns as
 * inbox_take(). */
int inbox_refuse_request(struct inbox *inbox, const struct inbox_front *front);
/* Lends the message whose payload begins `offset` bytes behind the front of the ring. Returns false if it is
 * to be copied. */
bool inbox_lend(struct inbox *inbox, struct xenmsg_message *message, uint32_t size, uint32_t offset);
/* Lets the program keep what it holds of the ring, in private pages. Returns 0; or -ENOMEM: some of it is
 * still held. */
int inbox_keep_held(struct inbox *inbox);

#endif
