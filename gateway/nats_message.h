/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_GATEWAY_NATS_MESSAGE_H
#define XENMSG_GATEWAY_NATS_MESSAGE_H

/*
 * What two gateways say to each other about a conversation: the head of a NATS message on xenmsg.to.TO.FROM,
 * and behind it, in DATA and HERE alone, bytes. The subject names its sender, for which the server vouches.
 *
 *   offset  bytes
 *        0      1  version, MESSAGE_VERSION
 *        1      1  kind
 *        2      2  reason (REFUSE), else 0
 *        4      4  window (CONNECT, ACCEPT, ACK), else 0
 *        8     16  nonce: which conversation
 *       24      8  position: of the first byte (DATA), of what comes next (ACK), else 0
 */

#include <stddef.h>
#include <stdint.h>

#define MESSAGE_VERSION	   1u
#define MESSAGE_HEAD_SIZE  32u
#define MESSAGE_NONCE_SIZE 16u

enum nats_message_kind {
	/* asks for a conversation, whose nonce this end has drawn; repeated until it is answered */
	MESSAGE_CONNECT = 1,
	MESSAGE_ACCEPT, /* agrees to it */
	MESSAGE_REFUSE, /* doesn't */
	MESSAGE_DATA,	/* bytes; none at all ask for an ACK */
	MESSAGE_ACK,	/* how far this end has come, and how many bytes more it takes */
	MESSAGE_CLOSE,	/* the conversation is over, or not known here */
	MESSAGE_HERE,	/* about none: a presence (presence.h), for a host that has just come */
};

enum nats_message_reason {
	REASON_DECLINED = 0, /* the daemon there doesn't want it */
	REASON_CROSSED = 1,  /* both ends have asked, and the other one's stays */
};

struct nats_message {
	enum nats_message_kind kind;
	uint16_t reason;
	uint32_t window;
	uint8_t nonce[MESSAGE_NONCE_SIZE];
	uint64_t position;
	const uint8_t *
		data; /* behind the head, in the bytes that were decoded; not written by nats_message_encode() */
	size_t size;
};

void nats_message_encode(const struct nats_message *message, uint8_t head[MESSAGE_HEAD_SIZE]);
/* Reads a message of another host. `message->data` points into it. 0; -EPROTO: it is none of this version. */
int nats_message_decode(const uint8_t *untrusted, size_t size, struct nats_message *message);

#endif
