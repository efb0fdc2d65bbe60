/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises about handlers: when they run, and what is reported for them, and with which
 * notification.
 */
#include "tests/unit/client_recv_rig.h"

#include <errno.h>
#include <poll.h>

BOTH(an_answer_and_what_was_taken_for_it_cost_one_notification)
{
	if (!fake.shared)
		skip();
	open_inbox(answer, &fake);
	DELIVER(1, "one");
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_OPEN);
	fake_expect(&fake, FRAME_DATA);
	fake_opened(&fake, 0, 1u << 20, 1u << 20);
	xenmsg_process(fake.conn);
	fake_notifications(&fake);
	assert_int_equal(ring_writer_arm(&fake.deliveries, FAKE_RING_SIZE + 1), 0);
	assert_int_equal(ring_reader_arm(&fake.out, 1), 0);
	DELIVER(1, "two");
	xenmsg_process(fake.conn);
	assert_int_equal(ring_writer_unread(&fake.deliveries), 0);
	assert_int_equal(fake_notifications(&fake), 1);
	fake_expect(&fake, FRAME_DATA);
	/* The daemon has looked, and asks again for what it still waits for. */
	assert_int_equal(ring_writer_arm(&fake.deliveries, FAKE_RING_SIZE + 1), 0);
	DELIVER(1, "three");
	fake_be_busy(&fake);
	xenmsg_process(fake.conn);
	assert_int_equal(fake_notifications(&fake), 1);
}

static void drop(void *userdata, struct xenmsg_message *message)
{
	xenmsg_message_free(message);
}

/* Fresh out of xenmsg_wait(), a program is about to do something that the daemon will be told of anyway. */
BOTH(who_waits_reports_what_it_took_with_what_it_does_next)
{
	if (!fake.shared)
		skip();
	open_inbox(drop, NULL);
	xenmsg_process(fake.conn);
	fake_notifications(&fake);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ring_reader_arm(&fake.out, 1), 0);
		assert_int_equal(ring_writer_arm(&fake.deliveries, FAKE_RING_SIZE + 1), 0);
		DELIVER(1, "one");
		assert_int_equal(xenmsg_wait(fake.conn, 10000), 1);
		assert_int_equal(ring_writer_unread(&fake.deliveries), 0);
		assert_int_equal(fake_notifications(&fake), 0);
		if (i == 0)
			assert_int_equal(
				xenmsg_begin_send(fake.conn, "2:x", "yes", 3, NULL, NULL, NULL, NULL), 0);
		else
			assert_int_equal(xenmsg_wait(fake.conn, 0), 0);
		assert_int_equal(fake_notifications(&fake), 1);
		while (i == 0 && fake_has_frame(&fake))
			fake_read(&fake);
	}
}

/* More messages come than one xenmsg_process() handles, again and again. */
BOTH(what_is_said_under_a_flood_is_shown_with_the_next_process)
{
	uint32_t size = 0;

	if (!fake.shared)
		skip();
	open_inbox(drop, NULL);
	fake_open(&fake, 3, "inbox");
	DELIVER(1, "the last one");
	while (size < 24 * 1000)
		size += fake_message(stream + size, "x", 1, MESSAGE_SENT);
	for (int i = 0; i < 4; i++)
		fake_send(&fake, FRAME_DATA, 0, 3, stream, size);
	fake_fin(&fake, 1, 32);
	assert_int_equal(xenmsg_process(fake.conn), 1024);
	assert_int_equal(xenmsg_process(fake.conn), 1024);
	assert_true(fake_has_frame(&fake));
	fake_expect(&fake, FRAME_FIN);
	assert_int_equal(fake.header.channel, 1);
}

BOTH(handlers_run_in_process_and_the_descriptor_tells_when)
{
	struct pollfd wait;

	handled = 0;
	fake_bind(&fake, "inbox", handle, &fake);
	wait = (struct pollfd){.fd = xenmsg_fd(fake.conn), .events = POLLIN};
	xenmsg_process(fake.conn);
	assert_int_equal(poll(&wait, 1, 0), 0);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "one", "two");
	assert_int_equal(poll(&wait, 1, 10000), 1);
	while (handled < 2)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
	xenmsg_process(fake.conn);
	assert_int_equal(poll(&wait, 1, 0), 0);
	DELIVER(1, "tri");
	assert_int_equal(poll(&wait, 1, 10000), 1);
	assert_int_equal(xenmsg_process(fake.conn), 1);
}

static void consent_to_unbind(struct fake *daemon)
{
	expect_reset(1, ENOENT, 24);
	fake_expect(daemon, FRAME_UNBIND);
	fake_reset(daemon, 1, ENOENT, 0, 0);
	fake_reply(daemon, daemon->header.channel, 0, "");
}

BOTH(unbinding_tells_the_senders_first)
{
	open_inbox(NULL, NULL);
	DELIVER(1, "one", "two");
	expect_message("one");
	if (!fake.shared) {
		xenmsg_process(fake.conn);
		expect_taken(1, 24);
	}
	fake_meanwhile(&fake, consent_to_unbind);
	assert_int_equal(xenmsg_unbind(fake.conn, "inbox"), 0);
	fake_join(&fake);
	expect_nothing();
	assert_int_equal(xenmsg_unbind(fake.conn, "inbox"), -ENOENT);
}

BOTH(what_came_before_a_name_is_bound_again_is_not_for_it)
{
	open_inbox(NULL, NULL);
	handled = 0;
	assert_int_equal(xenmsg_unbind(fake.conn, "inbox"), 0);
	assert_int_equal(xenmsg_begin_bind(fake.conn, "inbox", NULL, handle, NULL, &fake, NULL), 0);
	fake_open(&fake, 3, "inbox"); /* before it has read that */
	DELIVER(3, "one");
	xenmsg_process(fake.conn);
	assert_int_equal(handled, 0);
	fake_read_up_to(&fake, FRAME_BIND);
	fake_reply(&fake, fake.header.channel, 0, "");
	fake_open(&fake, 5, "inbox");
	DELIVER(5, "one");
	while (handled == 0)
		assert_true(xenmsg_wait(fake.conn, 10000) >= 0);
}
