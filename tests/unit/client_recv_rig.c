/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/client_recv_rig.h"

#include <errno.h>
#include <string.h>

void open_inbox(xenmsg_message_handler handler, void *userdata)
{
	fake_bind(&fake, "inbox", handler, userdata);
	fake_open(&fake, 1, "inbox");
}

void open_inbox_with(unsigned flags, xenmsg_message_handler handler)
{
	assert_int_equal(
		xenmsg_begin_bind(fake.conn, "inbox", XENMSG_FLAGS(flags), handler, NULL, NULL, NULL), 0);
	xenmsg_process(fake.conn);
	fake_answer(&fake, FRAME_BIND, 0, "");
	fake_open(&fake, 1, "inbox");
}

void deliver(uint32_t channel, const char *const *texts)
{
	uint32_t size = 0;

	for (; *texts; texts++)
		size += fake_message(stream + size, *texts, (uint32_t)strlen(*texts), MESSAGE_SENT);
	fake_send(&fake, FRAME_DATA, 0, channel, stream, size);
}

struct xenmsg_message *recv_one(void)
{
	struct xenmsg_message *message;

	assert_int_equal(xenmsg_recv(fake.conn, &message, 10000), 0);
	return message;
}

void expect_message(const char *text)
{
	struct xenmsg_message *message = recv_one();

	assert_int_equal(xenmsg_message_size(message), strlen(text));
	assert_memory_equal(xenmsg_message_data(message), text, strlen(text));
	xenmsg_message_free(message);
}

void expect_nothing(void)
{
	struct xenmsg_message *message;

	assert_int_equal(xenmsg_recv(fake.conn, &message, 0), -EAGAIN);
}

void expect_reset(uint32_t channel, uint32_t error, uint64_t consumed)
{
	struct frame_reset reset;

	fake_expect(&fake, FRAME_RESET);
	assert_int_equal(fake.header.channel, channel);
	reset = FAKE_HEARD(&fake, reset);
	assert_int_equal(reset.error, error);
	assert_int_equal(reset.consumed, consumed);
	assert_int_equal(reset.unsure, consumed);
}

void expect_taken(uint32_t channel, uint64_t consumed)
{
	if (fake.shared) {
		int unread = ring_writer_unread(&fake.deliveries);

		assert_int_equal(fake.deliveries.head - (uint32_t)unread, FRAME_HEADER_SIZE + consumed);
		return;
	}
	fake_expect(&fake, FRAME_CREDIT);
	assert_int_equal(fake.header.channel, channel);
	assert_int_equal(FAKE_HEARD(&fake, credit).consumed, consumed);
}

int handled;

void handle(void *userdata, struct xenmsg_message *message)
{
	assert_ptr_equal(userdata, &fake);
	assert_int_equal(xenmsg_message_size(message), 3);
	handled++;
	xenmsg_message_free(message);
}

void answer(void *userdata, struct xenmsg_message *message)
{
	struct fake *to = userdata;

	assert_int_equal(xenmsg_begin_send(to->conn, "2:x", "yes", 3, NULL, NULL, NULL, NULL), 0);
	xenmsg_message_free(message);
}
