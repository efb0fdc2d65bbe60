/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/client_send_rig.h"

#include <string.h>

void note_outcome(void *userdata, const struct xenmsg_result *result)
{
	int *at = userdata;

	/* Exactly once. */
	assert_int_equal(*at, PENDING);
	*at = result->error;
}

void note_end(void *userdata, const struct xenmsg_result *result)
{
	struct ended *ended = userdata;

	ended->times++;
	ended->result = *result;
	strncpy(ended->reason, result->reason, sizeof(ended->reason) - 1);
}

void loop_until(const struct ended *ended)
{
	while (!ended->times)
		loop_once(fake.conn);
	assert_int_equal(ended->times, 1);
}

int outcome_of(const int *result)
{
	for (int i = 0; i < 200 && *result == PENDING; i++)
		if (xenmsg_wait(fake.conn, 100) < 0 && *result == PENDING)
			break;
	return *result;
}

struct xenmsg_op *begin(const char *address, const void *data, size_t size, int *result)
{
	struct xenmsg_op *op;

	*result = PENDING;
	assert_int_equal(xenmsg_begin_send(fake.conn, address, data, size, NULL, note_outcome, result, &op),
			 0);
	return op;
}

void post(const char *address, const void *data, size_t size, int *result)
{
	begin(address, data, size, result);
}

void read_stream(uint32_t channel, uint8_t *stream, uint64_t size)
{
	uint64_t got = 0;

	while (got < size) {
		xenmsg_process(fake.conn);
		fake_expect(&fake, FRAME_DATA);
		assert_int_equal(fake.header.channel, channel);
		assert_true(got + fake.header.length <= size);
		memcpy(stream + got, fake.payload, fake.header.length);
		got += fake.header.length;
	}
}

uint32_t expect_open(const char *address)
{
	struct frame_open open;

	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_OPEN);
	open = FAKE_HEARD(&fake, open);
	assert_int_equal(open.kind, CHANNEL_MESSAGE);
	assert_int_equal(open.name.size, strlen(address));
	assert_memory_equal(open.name.data, address, open.name.size);
	assert_int_equal(fake.header.channel % 2, 0);
	return fake.header.channel;
}
