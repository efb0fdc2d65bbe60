/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/client_call_rig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "wire/bytes.h"

uint32_t put(uint8_t *at, uint8_t type, uint16_t error, uint32_t number, const void *data, uint32_t size)
{
	uint32_t span = fake_message(at, data, size, MESSAGE_SENT);

	at[4] = type;
	put_u16(at + 6, error);
	put_u32(at + span - 4, number);
	return span;
}

void send_one(uint32_t channel, uint8_t type, uint16_t error, uint32_t number, const char *text)
{
	uint32_t size = put(stream, type, error, number, text, (uint32_t)strlen(text));

	fake_send(&fake, FRAME_DATA, 0, channel, stream, size);
}

void expect_data(uint32_t channel)
{
	fake_expect_past_credit(&fake, FRAME_DATA);
	assert_int_equal(fake.header.channel, channel);
}

uint32_t number_read(void)
{
	return get_u32(fake.payload + fake.header.length - 4);
}

uint32_t call(struct outcome *outcome, const char *text, bool first, uint32_t *channel)
{
	assert_int_equal(
		xenmsg_begin_call(fake.conn, "2:work", text, strlen(text), NULL, note, outcome, NULL), 0);
	xenmsg_process(fake.conn);
	if (first) {
		*channel = fake_expect_open(&fake);
		assert_int_equal(fake.payload[0], CHANNEL_CALL);
	}
	expect_data(*channel);
	assert_int_equal(fake.payload[4], MESSAGE_REQUEST);
	assert_memory_equal(fake.payload + MESSAGE_HEAD_SIZE, text, strlen(text));
	return number_read();
}

int noted;

void note(void *userdata, const struct xenmsg_result *result)
{
	struct outcome *outcome = userdata;

	outcome->count++;
	outcome->result = result->error;
	outcome->fate = (int)result->fate;
	outcome->code = result->code;
	outcome->exit_status = result->exit_status;
	outcome->order = ++noted;
	snprintf(outcome->reason, sizeof(outcome->reason), "%s", result->reason);
	assert_true(result->reply ? result->error == 0 || result->error == -EREMOTEIO : result->error < 0);
	assert_int_equal(result->code != 0, result->error == -EREMOTEIO);
	if (result->reply) {
		outcome->size = xenmsg_message_size(result->reply);
		memcpy(outcome->text, xenmsg_message_data(result->reply),
		       outcome->size < 63 ? outcome->size : 63);
	}
	xenmsg_message_free(result->reply);
}

void wait_for(const struct outcome *outcome)
{
	while (!outcome->count)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
}
