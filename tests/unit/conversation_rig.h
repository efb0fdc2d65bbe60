/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_CONVERSATION_RIG_H
#define XENMSG_TESTS_CONVERSATION_RIG_H

/*
 * Two ends of a conversation, with daemons that check each byte that they read, and a network between them
 * that loses, doubles and delays messages by chance.
 */

#include <stdbool.h>
#include <stdint.h>

#include "gateway/conversation.h"

#define MESSAGES_MAX 4096u
#define CHUNK	     48u /* bytes that a message carries at most */

struct flying {
	struct nats_message message;
	uint8_t data[CHUNK];
};

struct end {
	struct conversation conversation;
	struct end *other;
	struct network *network;
	/* what flies to this end, in the order in which it was sent */
	struct flying flying[MESSAGES_MAX];
	unsigned count;

	uint64_t id, incoming; /* the last ones */
	unsigned connected, failed, ended;
	int error;
	bool is_open;
	uint64_t sent, got; /* bytes of the conversation that is open, or was */
	uint64_t untaken;
	uint32_t stream; /* which conversation these bytes belong to: the first word of its nonce */
};

struct network {
	uint64_t seed;
	uint32_t loss, doubling, delay; /* of a thousand */
	uint64_t now;
	uint32_t nonces;
	struct end ends[2];
};

uint32_t stream_of(const struct conversation *conversation);
struct network *network_new(uint64_t seed);
void ask(struct end *end);
void answer(struct end *end);
bool write_some(struct end *end, size_t size);
void take_some(struct end *end, size_t size);
void deliver_one(struct end *end);
void deliver_all(struct network *network);
void pass(struct network *network, uint64_t ms);
struct network *network_open(void);

#endif
