/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/attempt.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "wire/frame_ring.h"

/* Chooses the nonce of our HELLO, and, for the lower domid, the secret of a session that begins with it.
 * -EIO: no random numbers. */
static int choose(struct link_attempt *attempt, bool is_lower)
{
	uint8_t random[sizeof(attempt->nonce) + sizeof(attempt->cover) + sizeof(attempt->secret)];
	const uint8_t *at = random;

	*attempt = (struct link_attempt){.begun_ms = clock_ms()};
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	memcpy(attempt->nonce, at, sizeof(attempt->nonce));
	at += sizeof(attempt->nonce);
	memcpy(attempt->cover, at, sizeof(attempt->cover));
	at += sizeof(attempt->cover);
	if (is_lower)
		memcpy(attempt->secret, at, sizeof(attempt->secret));
	return 0;
}

int attempt_begin(struct link_attempt *attempt, const struct carrier *carrier, bool is_lower)
{
	struct ring_view in, out;
	int r = choose(attempt, is_lower);

	carrier_rings(carrier, &in, &out);
	if (r == 0)
		r = ring_reader_init(&attempt->in, &in, false);
	return r < 0 ? r : ring_writer_init(&attempt->out, &out, false);
}

int attempt_say(struct link_attempt *attempt, const struct carrier *carrier, uint8_t type, uint32_t sequence,
		const void *payload, uint32_t length)
{
	const struct frame_header header = {.type = type, .length = length, .sequence = sequence};
	int space = ring_writer_space(&attempt->out, frame_size(length));

	if (space < (int)frame_size(length))
		return space < 0 ? space : -ENOSPC;
	frame_put(&attempt->out, &header, payload);
	return ring_writer_publish(&attempt->out) ? carrier_notify(carrier) : 0;
}

int attempt_hear(struct link_attempt *attempt, struct frame_header *header, uint8_t *payload)
{
	uint32_t ready;
	int r = frame_next(&attempt->in, header, &ready);

	if (r == 0 && ready == 0) {
		r = ring_reader_arm(&attempt->in, FRAME_HEADER_SIZE);
		if (r > 0)
			r = frame_next(&attempt->in, header, &ready);
	}
	if (r <= 0)
		return r == 0 && ready ? -EPROTO : r;
	ring_reader_copy(&attempt->in, FRAME_HEADER_SIZE, payload, header->length);
	ring_reader_consume(&attempt->in, frame_size(header->length));
	ring_reader_release_quietly(&attempt->in);
	return 1;
}
