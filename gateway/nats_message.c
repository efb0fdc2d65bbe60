/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/nats_message.h"

#include <errno.h>
#include <string.h>

#include "wire/bytes.h"

void nats_message_encode(const struct nats_message *message, uint8_t head[MESSAGE_HEAD_SIZE])
{
	head[0] = MESSAGE_VERSION;
	head[1] = (uint8_t)message->kind;
	put_u16(head + 2, message->reason);
	put_u32(head + 4, message->window);
	memcpy(head + 8, message->nonce, MESSAGE_NONCE_SIZE);
	put_u64(head + 24, message->position);
}

int nats_message_decode(const uint8_t *untrusted, size_t size, struct nats_message *message)
{
	if (size < MESSAGE_HEAD_SIZE || untrusted[0] != MESSAGE_VERSION || untrusted[1] < MESSAGE_CONNECT ||
	    untrusted[1] > MESSAGE_HERE)
		return -EPROTO;
	*message = (struct nats_message){
		.kind = (enum nats_message_kind)untrusted[1],
		.reason = get_u16(untrusted + 2),
		.window = get_u32(untrusted + 4),
		.position = get_u64(untrusted + 24),
		.data = untrusted + MESSAGE_HEAD_SIZE,
		.size = size - MESSAGE_HEAD_SIZE,
	};
	memcpy(message->nonce, untrusted + 8, MESSAGE_NONCE_SIZE);
	return message->size == 0 || message->kind == MESSAGE_DATA || message->kind == MESSAGE_HERE ? 0
												    : -EPROTO;
}
