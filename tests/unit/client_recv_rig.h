/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_CLIENT_RECV_RIG_H
#define XENMSG_TESTS_CLIENT_RECV_RIG_H

/*
 * What the daemon sends to a program that receives, and what it gets to hear of it.
 */

#include "tests/unit/client_fixture.h"

#include <stdint.h>

/* Where messages are put together. */
extern uint8_t stream[FRAME_PAYLOAD_MAX * 8];

/* Binds `inbox`, and opens channel 1 to it. */
void open_inbox(xenmsg_message_handler handler, void *userdata);
/* The same, with these options for it, and without a word about its end. */
void open_inbox_with(unsigned flags, xenmsg_message_handler handler);
/* A frame with messages of the given texts. */
void deliver(uint32_t channel, const char *const *texts);

#define DELIVER(channel, ...) deliver(channel, (const char *const[]){__VA_ARGS__, NULL})

/* The next message, waiting for it. */
struct xenmsg_message *recv_one(void);
void expect_message(const char *text);
void expect_nothing(void);
void expect_reset(uint32_t channel, uint32_t error, uint64_t consumed);
/* How far the daemon sees that the program has taken the only channel's stream of one frame. */
void expect_taken(uint32_t channel, uint64_t consumed);

/* How many messages the handlers were given. */
extern int handled;

void handle(void *userdata, struct xenmsg_message *message);
void answer(void *userdata, struct xenmsg_message *message);

#endif
