/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/assembly.h"
#include "wire/bytes.h"
#include "wire/frame.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

void assembly_skip(struct assembly *assembly)
{
	assembly->at = MESSAGE_HEAD_SIZE;
	assembly->trailer_at = message_span(assembly_size(assembly)) - MESSAGE_TRAILER_SIZE;
}

int assembly_begin(struct assembly *assembly, struct message_pool *pool, uint32_t here)
{
	uint32_t size = assembly_size(assembly);

	assembly->message = message_new(pool, here < size ? here : size);
	if (!assembly->message)
		return -ENOMEM;
	assembly_skip(assembly);
	return 0;
}

int assembly_add(struct assembly *assembly, const void *data, uint32_t size)
{
	struct xenmsg_message *message = assembly->message;

	if (message) {
		uint32_t payload = assembly_size(assembly), left = payload - (uint32_t)message->size;

		if (left > size)
			left = size; /* the rest is padding */
		if (message_grow(message, message->size + left, payload) < 0)
			return -ENOMEM;
		memcpy(message->data + message->size, data, left);
		message->size += left;
	}
	assembly->at += size;
	return 0;
}

void assembly_drop(struct assembly *assembly)
{
	xenmsg_message_free(assembly_take(assembly));
}
