/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The messages of chaos-program. */

#include <errno.h>
#include <string.h>

#include "tests/integration/chaos.h"

static uint8_t payload[LARGEST];
static struct chaos *sending; /* `done` has room for the number only */

void payload_fill(uint64_t number, uint8_t *data, size_t size)
{
	uint64_t state = number;

	memcpy(data, &number, sizeof(number));
	memcpy(data + 8, &(uint64_t){size}, 8);
	for (size_t i = 16; i < size; i += 8) {
		uint64_t value = next_random(&state);

		memcpy(data + i, &value, size - i < 8 ? size - i : 8);
	}
}

bool payload_whole(const uint8_t *data, size_t size, uint64_t *number)
{
	static uint8_t expected[LARGEST];

	*number = 0;
	if (size < 16 || size > LARGEST)
		return false;
	memcpy(number, data, sizeof(*number));
	payload_fill(*number, expected, size);
	return memcmp(expected, data, size) == 0;
}

size_t payload_size(struct chaos *chaos)
{
	uint64_t number = next_random(&chaos->random_state);

	if (number % 100 < 80)
		return 16 + (number >> 8) % 500;
	if (number % 100 < 97)
		return 16 + (number >> 8) % 20000;
	return 16 + (number >> 8) % (LARGEST - 16);
}

void messages_take(struct chaos *chaos, struct xenmsg_message *message)
{
	uint64_t number;
	bool whole = payload_whole(xenmsg_message_data(message), xenmsg_message_size(message), &number);

	note(chaos, RECEIVED, number, !whole);
	xenmsg_message_free(message);
}

static void ended(void *userdata, const struct xenmsg_result *result)
{
	sending->in_flight--;
	sending->last_outcome = now_ms();
	note(sending, ENDED, (uint64_t)(uintptr_t)userdata, result->error);
}

int messages_send(struct chaos *chaos, unsigned to, const char *address)
{
	size_t size = payload_size(chaos);
	uint64_t message = ++chaos->last_number;
	int r;

	sending = chaos;
	payload_fill(message, payload, size);
	note(chaos, STARTED, message, (int32_t)to);
	if (dice(chaos, 8) == 0) {
		/* often too short a time, so that cancelling is tried, too */
		r = xenmsg_send(chaos->conn, address, payload, size, XENMSG_WITHIN((int)dice(chaos, 50) + 1),
				NULL);
		note(chaos, ENDED, message, r);
	} else {
		chaos->in_flight++;
		r = xenmsg_begin_send(chaos->conn, address, payload, size, NULL, ended,
				      (void *)(uintptr_t)message, NULL);
		if (r < 0) {
			chaos->in_flight--;
			note(chaos, REFUSED, message, r);
		}
	}
	return r == -ENOTCONN || r == -EPROTO ? r : 0;
}
