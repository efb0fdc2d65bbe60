/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Streams through one session: how they begin, what they carry in both directions, and how they end in order.
 */
#include "tests/unit/mux_rig.h"

#include <errno.h>
#include <string.h>

static uint8_t bytes[512u << 10];

static void note_error(void *userdata, const struct xenmsg_result *result)
{
	*(int *)userdata = result->error;
}

static void settle_until(const int *error)
{
	while (*error == 1)
		assert_true(xenmsg_wait(conn, 100) >= 0);
}

/* A daemon of a later major version. */
static void await_later_daemon(void)
{
	fake_stop(&fake);
	fake_await_second(&fake, &front, true);
}

/* What was wanted ends, and the connection goes on; what is wanted next is tried again. */
MUX_BOTH(a_daemon_of_another_major_version_is_told_from_others)
{
	struct user *user = user_new(), *again = user_new();
	bool shared = fake.shared;
	int listened = 1;

	close_conn();
	fake_stop(&front);
	fake_start(&front, shared);
	conn = front.conn;
	await_later_daemon();
	assert_int_equal(
		xenmsg_begin_stream_listen(conn, "web", NULL, on_incoming, note_error, &listened, NULL), 0);
	settle_until(&listened);
	fake_join(&fake);
	assert_true(fake.asks_mux);
	assert_int_equal(listened, -EPROTONOSUPPORT);
	await_later_daemon();
	begin_to_dial(user);
	while (!*user->log)
		assert_true(xenmsg_wait(conn, 100) >= 0);
	fake_join(&fake);
	assert_string_equal(user->log, "b");
	assert_int_equal(user->error, -EPROTONOSUPPORT);
	fake_stop(&fake);
	assert_int_equal(xenmsg_stream_listen(conn, "web", NULL, on_incoming, NULL), -ENOENT); /* no socket */
	fake_await_second(&fake, &front, false);
	begin_to_dial(again);
	let_session_begin();
	again->number = fake_expect_open(&fake);
	fake_opened(&fake, again->number, LIMIT, FAKE_MAX_MESSAGE);
	expect_log(again, "o");
	assert_string_equal(user->log, "b");
}

MUX_SHARED(an_address_that_is_none_is_refused_at_once)
{
	struct user *user = user_new();

	assert_int_equal(xenmsg_stream_connect(conn, "", NULL, &user_callbacks, user, &user->stream),
			 -EINVAL);
	assert_int_equal(xenmsg_stream_connect(conn, "5:-", NULL, &user_callbacks, user, &user->stream),
			 -EINVAL);
	assert_null(user->stream);
	expect_silence();
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
	expect_log(user, "r");
	/* too much for the rest of the ring, and little enough */
	all = write_until_full(hungry, 4000);
	assert_int_equal(xenmsg_stream_write(hungry->stream, bytes, 1), 1);
	settle();
	read_data(hungry, all + 1);
	expect_log(hungry, "r");
	expect_silence();
}

MUX_BOTH(a_full_ring_tells_of_room_when_the_daemon_reads)
{
	struct user *user = connected(1u << 30), *other = connected(1u << 30);

	for (size_t size = 1; size <= 100000; size = size * 5 + 3) {
		size_t all = write_until_full(user, size), others = written_of(other, bytes, size);

		expect_log(user, "");
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
	written_of(user, bytes, 4095);
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
		written_of(user, bytes, 4095);
		for (unsigned i = 0; i < 100 && is_readable(conn); i++)
			assert_true(xenmsg_process(conn) >= 0);
		assert_false(is_readable(conn));
		user->when = NEVER;
		fake_read_all(&fake);
		settle();
		close_user(user);
		settle();
		fake_read_all(&fake);
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

MUX_BOTH(what_was_taken_is_reported_in_steps_and_at_the_end)
{
	struct user *user = connected(LIMIT);

	send_data(user, bytes, 8191);
	expect_silence();
	send_data(user, bytes, 1);
	expect_offset(user, FRAME_CREDIT, 8192);
	send_data(user, bytes, 100);
	expect_silence();
	user->take = 0;
	send_data(user, bytes, 50);
	send_fin(user, 8342);
	expect_offset(user, FRAME_CREDIT, 8292);
	assert_string_equal(user->log, "d");
	user->take = 20;
	xenmsg_stream_resume(user->stream);
	expect_offset(user, FRAME_CREDIT, 8312);
	assert_string_equal(user->log, "d");
	user->take = SIZE_MAX;
	xenmsg_stream_resume(user->stream);
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
	expect_offset(user, FRAME_CREDIT, 3);
	assert_string_equal(user->log, "de");
	assert_int_equal(xenmsg_stream_write(user->stream, "more", 4), 4);
	expect_data(user, "more", 4);
	xenmsg_stream_end(user->stream);
	expect_offset(user, FRAME_FIN, 9);
	assert_int_equal(xenmsg_stream_write(user->stream, "beyond", 6), -EPIPE);
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
	assert_int_equal(xenmsg_stream_under_way(user->stream), 5);
	fake_credit(&fake, 1, 5, LIMIT + 5);
	send_data(user, "you", 3);
	expect_log(user, "d");
	assert_int_equal(xenmsg_stream_under_way(user->stream), 0);
	send_fin(user, 3);
	expect_log(user, "de");
	expect_offset(user, FRAME_CREDIT, 3);
	close_user(user);
	expect_silence();
	expect_free(1);
}

static void stop(struct user *user)
{
	xenmsg_stream_stop(user->stream);
}

MUX_BOTH(what_is_not_wanted_is_dropped_and_the_other_way_stays)
{
	struct user *user = accepted(1, LIMIT), *in_data = connected(LIMIT);

	user->take = 2;
	send_data(user, "hello", 5);
	expect_log(user, "d");
	stop(user);
	expect_offset(user, FRAME_CREDIT, 5);
	assert_int_equal(FAKE_HEARD(&fake, credit).flags, CREDIT_STOP);
	stop(user);
	send_data(user, bytes, 9000);
	expect_offset(user, FRAME_CREDIT, 9005);
	assert_int_equal(xenmsg_stream_write(user->stream, "more", 4), 4);
	expect_data(user, "more", 4);
	send_fin(user, 9005);
	expect_log(user, "de");
	assert_int_equal(user->size, 2);
	in_data->take = 1;
	in_data->when = DATA;
	in_data->also = stop;
	send_data(in_data, "hello", 5);
	expect_offset(in_data, FRAME_CREDIT, 0);
	assert_int_equal(FAKE_HEARD(&fake, credit).flags, CREDIT_STOP);
	send_fin(in_data, 5);
	expect_log(in_data, "de");
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
		begin_to_dial(user);
		settle();
		fake_expect(&fake, FRAME_OPEN);
		assert_int_not_equal(fake.header.channel, user->number);
		user->number = fake.header.channel;
		fake_reset(&fake, user->number, ENOENT, 0, 0);
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
	expect_log(old, "d");
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
	expect_log(old, "eb");
	xenmsg_stream_set_callbacks(old->stream, &user_callbacks, new);
	forget_log(new);
	xenmsg_stream_resume(old->stream);
	xenmsg_stream_resume(old->stream);
	assert_string_equal(new->log, "b");
	assert_int_equal(new->error, -ECONNRESET);
}

/* Behind what came before, of which the library said something else. */
MUX_BOTH(a_broken_stream_has_its_reason_in_words)
{
	struct user *refused = dial(), *died = connected(LIMIT), *broken = connected(LIMIT);

	assert_int_equal(xenmsg_begin_send(conn, "5:a.b", "", 0, NULL, NULL, NULL, NULL), -EINVAL);
	fake_reset(&fake, refused->number, ENOENT, 0, 0);
	expect_log(refused, "b");
	assert_string_equal(refused->why, xenmsg_error_text(-ENOENT));
	refused = dial();
	fake_reset(&fake, refused->number, EACCES, 0, 0);
	expect_log(refused, "b");
	assert_non_null(strstr(refused->why, " may not reach '"));
	died->take = 0;
	send_data(died, "bytes", 5);
	fake_reset_by(&fake, died->number, ECONNRESET, RESET_BY_DEATH);
	fake_reset(&fake, broken->number, ECONNRESET, 0, 0);
	settle();
	assert_string_equal(broken->why, "the stream broke; nobody says why");
	died->take = 5;
	xenmsg_stream_resume(died->stream);
	assert_int_equal(strncmp(died->why, "the stream broke: the program there has died", 44), 0);
}

MUX_BOTH(a_target_that_could_not_be_reached_is_told_with_its_cause)
{
	static const struct {
		uint32_t error;
		const char *words;
	} causes[] = {{EACCES, "permission denied"},
		      {ETIMEDOUT, "connection timed out"},
		      {EHOSTUNREACH, "host unreachable"}};
	struct user *refused = connected(LIMIT), *other = connected(LIMIT), *ours = connected(LIMIT);

	for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
		struct user *user = connected(LIMIT);

		fake_reset_by(&fake, user->number, ECONNRESET,
			      RESET_BY_PROGRAM | causes[i].error << RESET_CAUSE_SHIFT);
		expect_log(user, "b");
		assert_string_equal(strstr(user->why, "target: ") + 8, causes[i].words);
		expect_reset(user, ECONNRESET);
	}
	fake_reset_by(&fake, refused->number, ECONNRESET,
		      RESET_BY_PROGRAM | ECONNREFUSED << RESET_CAUSE_SHIFT);
	expect_log(refused, "b");
	assert_string_equal(refused->why, "the program there can't reach its target: connection refused");
	fake_reset_by(&fake, other->number, ECONNRESET, RESET_BY_PROGRAM | 4095u << RESET_CAUSE_SHIFT);
	expect_log(other, "b");
	assert_string_equal(other->why, "the program there can't reach its target: another error");
	expect_reset(refused, ECONNRESET);
	expect_reset(other, ECONNRESET);
	xenmsg_stream_break(ours->stream, -EACCES);
	ours->stream = NULL;
	settle();
	expect_frame(ours, FRAME_RESET);
	assert_int_equal(FAKE_HEARD(&fake, reset).flags, EACCES << RESET_CAUSE_SHIFT);
}

/* Also behind many others. */
MUX_SHARED(there_are_as_many_streams_as_there_are_numbers)
{
	static struct xenmsg_stream *streams[CHANNEL_NUMBERS / 2];
	struct user *user = user_new();
	struct xenmsg_stream *more;

	for (unsigned i = 0; i < CHANNEL_NUMBERS / 2; i++) {
		assert_int_equal(xenmsg_stream_connect(conn, PEER, NULL, &user_callbacks, user, &streams[i]),
				 0);
		fake_expect(&fake, FRAME_OPEN);
	}
	assert_int_equal(xenmsg_stream_connect(conn, PEER, NULL, &user_callbacks, user, &more), -ENOBUFS);
	user->number = 4444;
	fake_reset(&fake, user->number, ENOENT, 0, 0);
	expect_log(user, "b");
	expect_reset(user, ENOENT);
	assert_int_equal(xenmsg_stream_connect(conn, PEER, NULL, &user_callbacks, user, &more), 0);
	expect_frame(user, FRAME_OPEN);
	close_conn();
	for (unsigned i = 0; i < CHANNEL_NUMBERS / 2; i++)
		xenmsg_stream_close(streams[i]);
	xenmsg_stream_close(more);
}

/* What a program of an earlier version doesn't have is beyond the size that it says. */
MUX_BOTH(callbacks_that_are_missing_or_beyond_the_size_are_not_told)
{
	struct xenmsg_stream_callbacks few = user_callbacks;
	struct user *user = connected(LIMIT);

	few.size = offsetof(struct xenmsg_stream_callbacks, room);
	few.data = NULL;
	xenmsg_stream_set_callbacks(user->stream, &few, user);
	memset(&few, 0xff, sizeof(few)); /* it was copied */
	forget_log(user);
	send_data(user, "bytes", 5);
	settle();
	fake_reset(&fake, user->number, ECONNRESET, 0, 0); /* told behind the bytes */
	expect_log(user, "");
	/* Bytes wait until somebody takes them. */
	xenmsg_stream_set_callbacks(user->stream, &user_callbacks, user);
	xenmsg_stream_resume(user->stream);
	assert_int_equal(user->size, 5);
	assert_string_equal(user->log, "db");
}

MUX_BOTH(the_new_number_of_the_domain_ends_no_session)
{
	uint8_t payload[4];

	fake_send(&fake, FRAME_SELF, 0, 0, payload, frame_u32_encode(9, payload));
	settle();
	assert_true(xenmsg_process(conn) >= 0);
}
