/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A daemon that breaks the protocol in a session that carries streams: it is over, and every stream is told
 * once.
 */
#include "tests/unit/mux_rig.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static uint8_t bytes[32768];

/* Whoever comes upon it hears nothing of it but from xenmsg_process(). */
TEST_EACH(an_impossible_index_is_told_by_the_next_process, 7)
{
	int which = unit_number(state);
	struct user *user, *other;

	set_up_mux_shared(NULL);
	user = connected(1u << 30);
	other = connected(1u << 30);
	user->when = BROKEN;
	user->victims[0] = user;
	user->victims[1] = other;
	if (which < 6) {
		while (xenmsg_stream_write(user->stream, bytes, 1000) == 1000)
			;
		settle();
		*fake.out.ring.consumer = *fake.out.ring.producer + 8;
	} else {
		*fake.in.ring.producer = *fake.in.ring.consumer + FAKE_RING_SIZE + 8;
		fake_reset(&fake, user->number, EPIPE, 0, 0);
		*fake.in.ring.producer = *fake.in.ring.consumer + FAKE_RING_SIZE + 8;
	}
	switch (which) {
	case 0:
		assert_int_equal(xenmsg_stream_write(user->stream, bytes, 5000), 0);
		break;
	case 1:
		xenmsg_stream_end(user->stream);
		break;
	case 2:
		close_user(other);
		user->victims[1] = NULL;
		break;
	case 3:
		assert_int_equal(
			xenmsg_stream_connect(conn, PEER, NULL, &user_callbacks, user_new(), &other->stream),
			-ENOTCONN);
		break;
	case 4: /* in a callback */
		other->take = 0;
		other->when = DATA;
		other->victims[0] = user;
		user->victims[1] = NULL;
		send_data(other, bytes, 20000);
		break;
	case 5:
		assert_int_equal(xenmsg_stream_listen(conn, "web", XENMSG_FLAGS(XENMSG_FROM_HOSTS),
						      on_incoming, &conn),
				 -ENOTCONN);
		break;
	}
	if (which != 5)
		assert_string_equal(user->log, "");
	assert_int_equal(process_until_over(), -EPROTO);
	if (which != 4)
		assert_string_equal(user->log, "b");
	if (which == 3)
		other->is_closed = true;
	tear_down_mux(NULL);
}

static void raw_header(uint32_t length, uint8_t type, uint32_t channel, uint32_t size)
{
	struct frame_header header = {.length = 0, .type = type, .channel = channel};
	uint8_t raw[FRAME_HEADER_SIZE];

	frame_header_encode(&header, raw);
	memcpy(raw, &length, sizeof(length));
	if (!fake.shared) {
		assert_int_equal(send(fake.fd, raw, sizeof(raw), MSG_NOSIGNAL), sizeof(raw));
		return;
	}
	ring_writer_put(&fake.in, raw, size);
	fake_reset(&fake, 60000, 1, 0, 0); /* publishes it, too */
}

#define VIOLATIONS 23

TEST_EACH(an_impossible_frame_ends_the_session, 2 * VIOLATIONS)
{
	int what = unit_number(state) / 2;
	struct user *user, *other, *in;

	if (unit_number(state) % 2)
		set_up_mux_shared(NULL);
	else
		set_up_mux_socket(NULL);
	other = connected(LIMIT);
	in = accepted(1, LIMIT);
	user = what == 1 || what == 2 ? dial() : connected(LIMIT);
	switch (what) {
	case 0: /* DATA for what isn't there */
		fake_send(&fake, FRAME_DATA, 0, 3, "hello", 5);
		break;
	case 1: /* before OPENED */
		send_data(user, "hello", 5);
		break;
	case 2:
		send_fin(user, 0);
		break;
	case 3: /* behind FIN */
		send_fin(user, 0);
		send_data(user, "hello", 5);
		break;
	case 4: /* a wrong total */
		send_data(user, "hello", 5);
		send_fin(user, 4);
		break;
	case 5:
		send_data(user, "hello", 5);
		send_fin(user, 6);
		break;
	case 6: /* a second FIN */
		send_fin(user, 0);
		send_fin(user, 0);
		break;
	case 7: /* an even number */
		fake_open_kind(&fake, 1000, CHANNEL_STREAM, "inbox");
		break;
	case 8: /* another kind */
		fake_open_kind(&fake, 3, CHANNEL_MESSAGE, "inbox");
		break;
	case 9:
		fake_open_kind(&fake, 3, CHANNEL_CALL, "inbox");
		break;
	case 10: /* in use */
		fake_open_kind(&fake, 1, CHANNEL_STREAM, "inbox");
		break;
	case 11: /* too high */
		fake_open_kind(&fake, CHANNEL_NUMBERS + 1, CHANNEL_STREAM, "inbox");
		break;
	case 12: /* more than was sent */
		assert_int_equal(xenmsg_stream_write(user->stream, "hello", 5), 5);
		fake_credit(&fake, user->number, 6, 2 * LIMIT);
		break;
	case 13: /* opened twice */
		fake_opened(&fake, user->number, LIMIT, 1);
		break;
	case 14: /* opened by whom it came from */
		fake_opened(&fake, 1, LIMIT, 1);
		break;
	case 15: /* too short */
		fake_send(&fake, FRAME_CREDIT, 0, user->number, "hello", 5);
		break;
	case 16:
		fake_send(&fake, FRAME_FIN, 0, user->number, "hello", 5);
		break;
	case 17:
		fake_send(&fake, FRAME_RESET, 0, user->number, "hello", 5);
		break;
	case 18: /* types that don't belong here */
		fake_send(&fake, FRAME_BIND, 0, 0, bytes, 16);
		break;
	case 19: /* too short, and no frame has that much */
		raw_header(0xff000000, FRAME_DATA, user->number, FRAME_HEADER_SIZE);
		break;
	case 20: /* DATA for one that has ended */
		end_both(user, 0, 0);
		send_data(user, "hello", 5);
		break;
	case 21: /* half a frame; over the socket that may come in any pieces */
		if (fake.shared)
			raw_header(60000, FRAME_DATA, user->number, 8);
		else
			raw_header(70000, FRAME_DATA, user->number, 8);
		break;
	case 22: /* an answer to nothing */
		fake_reply(&fake, 77, EPERM, "nothing was asked");
		break;
	}
	assert_int_equal(process_until_over(), -EPROTO);
	if (what == 20)
		assert_string_equal(user->log, "e");
	else
		assert_int_equal(user->log[strlen(user->log) - 1], 'b');
	assert_string_equal(other->log, "b");
	assert_string_equal(in->log, "b");
	tear_down_mux(NULL);
}

MUX_BOTH(an_unknown_frame_that_may_be_skipped_is_skipped)
{
	struct user *user = connected(LIMIT);

	fake_send(&fake, 200, 0, user->number, "hello", 5);
	settle();
	assert_int_equal(xenmsg_stream_write(user->stream, "hello", 5), 5);
	expect_data(user, "hello", 5);
	assert_string_equal(user->log, "");
}
