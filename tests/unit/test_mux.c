/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Streams through one session: how they begin, what they carry in both directions, and how they end in order.
 */
#include "tests/unit/mux_rig.h"

#include <errno.h>
#include <string.h>

static uint8_t bytes[512u << 10];

TEST(a_daemon_that_knows_no_streams_is_told_from_others)
{
	struct xenmsg_mux *none = NULL;

	for (int shared = 0; shared < 2; shared++) {
		fake_await(&fake, shared, false);
		assert_int_equal(xenmsg_mux_open(&none, fake.path, NULL, NULL, NULL), -EPROTONOSUPPORT);
		assert_null(none);
		fake_join(&fake);
		assert_true(fake.asks_mux);
		fake_stop(&fake);
	}
	xenmsg_mux_close(NULL);
	assert_int_equal(xenmsg_mux_open(&none, fake.path, NULL, NULL, NULL), -ENOENT); /* it has gone */
	assert_null(none);
}

MUX_BOTH(a_stream_is_opened_when_its_other_side_accepts_it)
{
	struct user *user = dial();

	assert_string_equal(user->log, "");
	assert_int_equal(xenmsg_stream_write(user->stream, "early", 5), 0);
	xenmsg_stream_end(user->stream);
	expect_silence();
	fake_opened(&fake, user->number, LIMIT, FAKE_MAX_MESSAGE);
	settle();
	assert_string_equal(user->log, "o");
	assert_int_equal(xenmsg_stream_write(user->stream, "hello", 5), 5);
	expect_data(user, "hello", 5);
	expect_silence();
}

MUX_BOTH(a_stream_that_is_refused_is_broken)
{
	struct user *user = dial(), *other = connected(LIMIT);

	fake_reset(&fake, user->number, ECONNREFUSED, 0, 0);
	settle();
	assert_string_equal(user->log, "b");
	assert_int_equal(user->error, -ECONNREFUSED);
	expect_reset(user, ECONNREFUSED);
	assert_int_equal(xenmsg_stream_write(user->stream, "x", 1), 0);
	xenmsg_stream_end(user->stream);
	xenmsg_stream_resume(user->stream);
	close_user(user);
	expect_silence();
	assert_int_equal(xenmsg_stream_write(other->stream, "x", 1), 1);
	expect_data(other, "x", 1);
}

MUX_SHARED(an_address_that_is_none_is_refused_at_once)
{
	struct user *user = user_new();

	assert_int_equal(xenmsg_mux_connect(mux, "", &user_callbacks, user, &user->stream), -EINVAL);
	assert_int_equal(xenmsg_mux_connect(mux, "5:-", &user_callbacks, user, &user->stream), -EINVAL);
	assert_null(user->stream);
	expect_silence();
}

MUX_BOTH(a_writer_gets_room_when_credit_comes)
{
	struct user *user = connected(100), *other = connected(100);

	assert_int_equal(xenmsg_stream_write(user->stream, bytes, 60), 60);
	assert_int_equal(xenmsg_stream_write(user->stream, bytes, 60), 40);
	assert_int_equal(xenmsg_stream_write(user->stream, bytes, 60), 0);
	expect_data(user, bytes, 60);
	expect_data(user, bytes, 40);
	expect_silence();
	fake_credit(&fake, user->number, 50, 100); /* no new limit, no room */
	settle();
	assert_string_equal(user->log, "");
	fake_credit(&fake, user->number, 100, 200);
	settle();
	assert_string_equal(user->log, "r");
	assert_int_equal(xenmsg_stream_write(user->stream, bytes, 60), 60);
	fake_credit(&fake, user->number, 100, 300);
	settle();
	assert_string_equal(user->log, "r"); /* it took all */
	assert_string_equal(other->log, "");
}

/* What didn't find room is waited for, whatever else was written meanwhile. */
MUX_SHARED(a_write_that_takes_all_does_not_withdraw_the_wish_for_room)
{
	struct user *user = connected(100), *hungry = connected(1u << 30);
	size_t all;

	assert_int_equal(xenmsg_stream_write(user->stream, bytes, 101), 100);
	assert_int_equal(xenmsg_stream_write(user->stream, bytes, 0), 0);
	expect_data(user, bytes, 100);
	fake_credit(&fake, user->number, 100, 200);
	settle();
	assert_string_equal(user->log, "r");
	/* too much for the rest of the ring, and little enough */
	all = write_until_full(hungry, 4000);
	assert_int_equal(xenmsg_stream_write(hungry->stream, bytes, 1), 1);
	settle();
	read_data(hungry, all + 1);
	settle();
	assert_string_equal(hungry->log, "r");
	expect_silence();
}

MUX_BOTH(one_that_came_in_may_write_when_credit_comes)
{
	struct user *user = accepted(1, 0);

	assert_int_equal(xenmsg_stream_write(user->stream, "hello", 5), 0);
	expect_silence();
	fake_credit(&fake, 1, 0, LIMIT);
	settle();
	assert_string_equal(user->log, "r");
	assert_int_equal(xenmsg_stream_write(user->stream, "hello", 5), 5);
	expect_data(user, "hello", 5);
}

MUX_BOTH(a_full_ring_tells_of_room_when_the_daemon_reads)
{
	struct user *user = connected(1u << 30), *other = connected(1u << 30);

	for (size_t size = 1; size <= 100000; size = size * 5 + 3) {
		size_t all = write_until_full(user, size),
		       others = xenmsg_stream_write(other->stream, bytes, size);

		settle();
		assert_string_equal(user->log, "");
		while (fake_has_frame(&fake)) {
			fake_read(&fake);
			assert_int_equal(fake.header.type, FRAME_DATA);
			*(fake.header.channel == user->number ? &all : &others) -= fake.header.length;
			settle();
		}
		assert_int_equal(all, 0);
		assert_int_equal(others, 0);
		assert_string_equal(user->log, "r");
		forget_log(user);
		forget_log(other);
	}
}

static void write_again(struct user *user)
{
	user->when = ROOM;
	xenmsg_stream_write(user->stream, bytes, 4095);
}

/* There is nearly enough, but not quite. */
MUX_SHARED(a_piece_that_just_finds_no_room_is_not_tried_for_ever)
{
	for (uint32_t left = 4064; left <= 4160; left += 8) {
		struct user *user = connected(1u << 30);
		uint32_t space;

		while ((space = FAKE_RING_SIZE - (uint32_t)ring_reader_ready(&fake.out, UINT32_MAX)) > left) {
			size_t size = space - left - FRAME_HEADER_SIZE;

			assert_true(space - left > FRAME_HEADER_SIZE);
			if (size > 32768)
				size = 32768;
			assert_int_equal(xenmsg_stream_write(user->stream, bytes, size), size);
		}
		user->when = ROOM;
		user->also = write_again;
		xenmsg_stream_write(user->stream, bytes, 4095);
		for (unsigned i = 0; i < 100 && is_readable(); i++)
			assert_int_equal(xenmsg_mux_process(mux), 0);
		assert_false(is_readable());
		user->when = NEVER;
		while (fake_has_frame(&fake))
			fake_read(&fake);
		settle();
		close_user(user);
		settle();
		while (fake_has_frame(&fake))
			fake_read(&fake);
		fake_reset(&fake, user->number, ECONNRESET, 0, 0);
		settle();
	}
}

MUX_SHARED(a_frame_that_finds_no_room_goes_behind_the_others)
{
	struct user *user = connected(1u << 30), *other = connected(LIMIT);
	size_t all = write_until_full(user, 1);

	xenmsg_stream_end(user->stream);
	close_user(other);
	settle();
	read_data(user, all);
	settle();
	expect_offset(user, FRAME_FIN, all);
	expect_reset(other, ECONNRESET);
	expect_silence();
	assert_string_equal(user->log, "");
}

MUX_BOTH(data_is_given_as_it_comes)
{
	struct user *user = connected(LIMIT), *in = accepted(1, 0);

	fill(bytes, 1000, 7);
	send_data(user, bytes, 1000);
	send_data(in, bytes, 7);
	send_data(in, bytes, 0);
	send_data(in, bytes + 7, 993);
	settle();
	assert_int_equal(user->size, 1000);
	assert_int_equal(in->size, 1000);
	assert_memory_equal(user->bytes, bytes, 1000);
	assert_memory_equal(in->bytes, bytes, 1000);
	expect_silence(); /* no CREDIT yet */
}

static void resume(struct user *user)
{
	xenmsg_stream_resume(user->stream);
}

MUX_BOTH(a_resume_out_of_data_does_nothing)
{
	struct user *user = connected(LIMIT);

	user->take = 2;
	send_data(user, "hello", 5);
	settle();
	user->when = DATA;
	user->also = resume;
	resume(user);
	assert_int_equal(user->size, 4);
	user->take = SIZE_MAX;
	resume(user);
	assert_int_equal(user->size, 5);
	assert_memory_equal(user->bytes, "hello", 5);
}

MUX_BOTH(what_is_not_taken_comes_after_a_resume)
{
	struct user *user = connected(LIMIT);

	fill(bytes, 3000, 8);
	user->take = 100;
	send_data(user, bytes, 1000);
	settle();
	assert_int_equal(user->size, 100);
	user->take = SIZE_MAX; /* what comes now has to wait for what is before it */
	send_data(user, bytes + 1000, 1000);
	settle();
	assert_int_equal(user->size, 100);
	user->take = 0;
	xenmsg_stream_resume(user->stream);
	assert_int_equal(user->size, 100);
	user->take = 1700;
	xenmsg_stream_resume(user->stream);
	assert_int_equal(user->size, 1800);
	user->take = SIZE_MAX;
	xenmsg_stream_resume(user->stream);
	xenmsg_stream_resume(user->stream);
	send_data(user, bytes + 2000, 1000);
	settle();
	assert_int_equal(user->size, 3000);
	assert_memory_equal(user->bytes, bytes, 3000);
}

MUX_BOTH(data_that_wraps_around_the_end_of_the_ring_comes_in_order)
{
	struct user *user = connected(LIMIT);
	uint32_t size = 50001;

	for (unsigned i = 0; i < 24; i++) {
		fill(bytes, size, i);
		user->size = 0;
		user->take = i % 3 == 2 ? 7 : SIZE_MAX;
		send_data(user, bytes, size);
		settle();
		while (i % 3 == 2 && user->size < size) {
			user->take = 9999;
			xenmsg_stream_resume(user->stream);
		}
		assert_int_equal(user->size, size);
		assert_memory_equal(user->bytes, bytes, size);
		settle();
		while (fake_has_frame(&fake))
			fake_read(&fake);
	}
}

MUX_BOTH(what_was_taken_is_reported_in_steps_and_at_the_end)
{
	struct user *user = connected(LIMIT);

	send_data(user, bytes, 8191);
	expect_silence();
	send_data(user, bytes, 1);
	settle();
	expect_offset(user, FRAME_CREDIT, 8192);
	send_data(user, bytes, 100);
	expect_silence();
	user->take = 0;
	send_data(user, bytes, 50);
	send_fin(user, 8342);
	settle();
	expect_offset(user, FRAME_CREDIT, 8292);
	assert_string_equal(user->log, "d");
	user->take = 20;
	xenmsg_stream_resume(user->stream);
	settle();
	expect_offset(user, FRAME_CREDIT, 8312);
	assert_string_equal(user->log, "d");
	user->take = SIZE_MAX;
	xenmsg_stream_resume(user->stream);
	settle();
	expect_offset(user, FRAME_CREDIT, 8342);
	assert_string_equal(user->log, "de");
	expect_silence();
}

/* Whether the number may be used by the daemon again. */
static void expect_free(uint32_t number)
{
	struct user *user = accepted(number, LIMIT);

	assert_int_equal(xenmsg_stream_write(user->stream, "again", 5), 5);
	expect_data(user, "again", 5);
}

MUX_BOTH(the_daemon_ends_first)
{
	struct user *user = accepted(1, LIMIT);

	assert_int_equal(xenmsg_stream_write(user->stream, "hello", 5), 5);
	expect_data(user, "hello", 5);
	send_data(user, "you", 3);
	send_fin(user, 3);
	settle();
	expect_offset(user, FRAME_CREDIT, 3);
	assert_string_equal(user->log, "de");
	assert_int_equal(xenmsg_stream_write(user->stream, "more", 4), 4);
	expect_data(user, "more", 4);
	xenmsg_stream_end(user->stream);
	settle();
	expect_offset(user, FRAME_FIN, 9);
	assert_int_equal(xenmsg_stream_write(user->stream, "beyond", 6), 0);
	xenmsg_stream_end(user->stream);
	close_user(user); /* in order */
	expect_silence();
	fake_credit(&fake, 1, 9, LIMIT);
	settle();
	expect_free(1);
}

MUX_BOTH(the_program_ends_first)
{
	struct user *user = accepted(1, LIMIT);

	assert_int_equal(xenmsg_stream_write(user->stream, "hello", 5), 5);
	xenmsg_stream_end(user->stream);
	expect_data(user, "hello", 5);
	expect_offset(user, FRAME_FIN, 5);
	fake_credit(&fake, 1, 5, LIMIT + 5);
	send_data(user, "you", 3);
	settle();
	assert_string_equal(user->log, "d");
	send_fin(user, 3);
	settle();
	assert_string_equal(user->log, "de");
	expect_offset(user, FRAME_CREDIT, 3);
	close_user(user);
	expect_silence();
	expect_free(1);
}

/* Nothing more comes from the daemon, behind which the end could be noticed. */
MUX_BOTH(the_last_end_is_the_programs)
{
	struct user *user = accepted(1, LIMIT), *quiet = accepted(3, LIMIT);

	assert_int_equal(xenmsg_stream_write(user->stream, "hello", 5), 5);
	expect_data(user, "hello", 5);
	end_both(user, 0, 5);
	end_both(quiet, 0, 0);
	close_user(quiet);
	expect_free(1);
	expect_free(3);
	close_user(user);
	expect_silence();
}

MUX_SHARED(a_number_is_in_use_until_all_was_reported)
{
	struct user *user = accepted(1, LIMIT);

	user->take = 0;
	send_data(user, "hello", 5);
	end_both(user, 5, 0);
	assert_string_equal(user->log, "d");
	next_incoming[0] = user_new();
	fake_open_kind(&fake, 1, CHANNEL_STREAM, "inbox");
	assert_int_equal(process_until_over(), -EPROTO);
}

MUX_SHARED(own_numbers_are_used_again_late)
{
	struct user *first = connected(LIMIT), *user = user_new();

	end_both(first, 0, 0);
	close_user(first);
	user->number = first->number;
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(xenmsg_mux_connect(mux, PEER, &user_callbacks, user, &user->stream), 0);
		settle();
		fake_expect(&fake, FRAME_OPEN);
		assert_int_not_equal(fake.header.channel, user->number);
		user->number = fake.header.channel;
		fake_reset(&fake, user->number, ENOENT, 0, 0);
		settle();
		expect_reset(user, ENOENT);
		assert_string_equal(user->log, "b");
		forget_log(user);
		xenmsg_stream_close(user->stream);
		user->stream = NULL;
	}
}

MUX_BOTH(a_new_user_gets_what_the_old_one_has_left)
{
	struct user *old = connected(LIMIT), *new = user_new();

	old->take = 2;
	send_data(old, "hello", 5);
	settle();
	send_fin(old, 5);
	old->take = 0;
	settle();
	assert_string_equal(old->log, "d");
	xenmsg_stream_set_callbacks(old->stream, &user_callbacks, new);
	assert_string_equal(new->log, "");
	xenmsg_stream_resume(old->stream);
	assert_string_equal(new->log, "de");
	assert_memory_equal(new->bytes, "llo", 3);
	/* also of an end that was told to the old one */
	xenmsg_stream_set_callbacks(old->stream, &user_callbacks, old);
	forget_log(old);
	xenmsg_stream_resume(old->stream);
	xenmsg_stream_resume(old->stream);
	assert_string_equal(old->log, "e");
	fake_reset(&fake, old->number, EPIPE, 0, 0);
	settle();
	assert_string_equal(old->log, "eb");
	xenmsg_stream_set_callbacks(old->stream, &user_callbacks, new);
	forget_log(new);
	xenmsg_stream_resume(old->stream);
	xenmsg_stream_resume(old->stream);
	assert_string_equal(new->log, "b");
	assert_int_equal(new->error, -ECONNRESET);
}

/* Also behind many others. */
MUX_SHARED(there_are_as_many_streams_as_there_are_numbers)
{
	static struct xenmsg_stream *streams[CHANNEL_NUMBERS / 2];
	struct user *user = user_new();
	struct xenmsg_stream *more;

	for (unsigned i = 0; i < CHANNEL_NUMBERS / 2; i++) {
		assert_int_equal(xenmsg_mux_connect(mux, PEER, &user_callbacks, user, &streams[i]), 0);
		fake_expect(&fake, FRAME_OPEN);
	}
	assert_int_equal(xenmsg_mux_connect(mux, PEER, &user_callbacks, user, &more), -ENOBUFS);
	user->number = 4444;
	fake_reset(&fake, user->number, ENOENT, 0, 0);
	settle();
	assert_string_equal(user->log, "b");
	expect_reset(user, ENOENT);
	assert_int_equal(xenmsg_mux_connect(mux, PEER, &user_callbacks, user, &more), 0);
	expect_frame(user, FRAME_OPEN);
	xenmsg_mux_close(mux);
	for (unsigned i = 0; i < CHANNEL_NUMBERS / 2; i++)
		xenmsg_stream_close(streams[i]);
	xenmsg_stream_close(more);
	mux = NULL;
}
