/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a stream ends: each direction by itself and behind all bytes, or broken, and never mistaken for the
 * other.
 */
#include "tests/unit/stream_rig.h"

#include <poll.h>
#include <sys/socket.h>

#include "tests/descriptors.h"
#include "daemon/local/stream_internal.h"
#include "wire/bytes.h"

SCENE_TEST_EACH(each_direction_ends_by_itself, join, order, 2)
{
	int *first, *second;

	first = order ? &scene->b : &scene->a;
	second = order ? &scene->a : &scene->b;
	write_text(scene, *first, "the last of it");
	shutdown(*first, SHUT_WR);
	run(scene);
	expect_text(*second, "the last of it");
	expect_end(*second);
	/* The other way goes on. */
	for (int i = 0; i < 3; i++) {
		write_text(scene, *second, "but there is more");
		expect_text(*first, "but there is more");
		expect_nothing(*first);
	}
	assert_int_equal(scene->gone, 0);
	shutdown(*second, SHUT_WR);
	run(scene);
	expect_end(*first);
	expect_gone(scene, 2);
}

SCENE_TEST(end_comes_behind_all_bytes, join)
{
	uint64_t written = write_all_that_goes(scene, scene->a, 0);

	hang_up(&scene->a); /* and not only half of it */
	run(scene);
	assert_int_equal(read_all(scene, scene->b, 0), written);
	expect_end(scene->b);
	hang_up(&scene->b);
	expect_gone(scene, 2);
}

/* As xenmsg_break() does: a byte with a descriptor. */
static void break_stream(int fd)
{
	assert_int_equal(send_descriptor(fd, "x", 1, fd, 0), 1);
}

SCENE_TEST(a_break_comes_behind_all_bytes, join)
{
	assert_int_equal(send(scene->a, "the last of it", 14, MSG_NOSIGNAL), 14);
	break_stream(scene->a);
	run(scene);
	expect_text(scene->b, "the last of it");
	expect_broken(scene->b);
	expect_gone(scene, 2);
}

SCENE_TEST(who_leaves_bytes_unread_without_a_word_breaks_the_stream, join)
{
	write_text(scene, scene->a, "nobody reads this");
	hang_up(&scene->b);
	run(scene);
	expect_broken(scene->a);
	expect_gone(scene, 2);
}

/* Whether it is the opener or the acceptor that has had enough. */
SCENE_TEST_EACH(who_has_had_enough_has_said_all, join, which, 2)
{
	int *early = which ? &scene->a : &scene->b, other = which ? scene->b : scene->a;
	uint64_t written;

	write_text(scene, other, "nobody reads this");
	written = write_all_that_goes(scene, *early, 0); /* more than the windows let through */
	hang_up(early);
	run(scene);
	assert_int_equal(read_all(scene, other, 0), written);
	expect_end(other);
	assert_int_equal(send(other, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	expect_gone(scene, 2);
}

SCENE_TEST_EACH(who_reads_no_more_goes_on_writing, join, which, 2)
{
	int deaf = which ? scene->a : scene->b, other = which ? scene->b : scene->a;

	shutdown(deaf, SHUT_RD);
	write_text(scene, other, "dropped");
	run(scene);
	assert_int_equal(send(other, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	write_text(scene, deaf, "but there is more");
	expect_text(other, "but there is more");
	expect_nothing(other);
	shutdown(deaf, SHUT_WR);
	run(scene);
	expect_end(other);
	expect_gone(scene, 2);
}

SCENE_TEST(descriptor_breaks_the_stream_behind_what_came_before, join)
{
	uint8_t mark = 0;

	write_text(scene, scene->a, "as far as it got");
	assert_int_equal(send_descriptor(scene->a, &mark, 1, scene->a, 0), 1);
	hang_up(&scene->a);
	run(scene);
	expect_text(scene->b, "as far as it got");
	expect_broken(scene->b);
	expect_gone(scene, 2);
}

SCENE_TEST_EACH(stream_that_is_cut_off_is_never_mistaken_for_one_that_ended, join, moment, 4)
{

	/* Whatever has been moved on or said by then. */

	if (moment >= 1)
		write_text(scene, scene->a, "to b");
	if (moment >= 2)
		write_text(scene, scene->b, "to a");
	if (moment >= 3) {
		shutdown(scene->b, SHUT_WR);
		run(scene);
	}
	stream_free(scene->caller);
	scene->caller = NULL;
	run(scene);
	if (moment >= 1)
		expect_text(scene->b, "to b");
	expect_broken(scene->b);
	if (moment >= 2)
		expect_text(scene->a, "to a");
	expect_broken(scene->a);
	expect_gone(scene, 1);
}

/* As by a rule, or by the program that unbinds the endpoint, before anything of the channel has run. */
SCENE_TEST(stream_that_is_forbidden_at_once_is_gone, scene_start)
{
	scene->forbid_with = EACCES;
	call(scene);
	expect_reply(scene->a, EACCES);
	expect_gone(scene, 2);
}

SCENE_TEST(reset_comes_behind_the_data_before_it, call_peer)
{
	join_peer(scene, 65536);
	/* Nothing runs between: the data wait in the rings when the RESET comes. */
	put_data(scene, 0, 1000);
	participant_reset(scene->peer, scene->number, ECONNRESET, 0, 0);
	assert_true(hear(scene, FRAME_RESET));
	assert_int_equal(read_all(scene, scene->a, 0), 1000);
	expect_gone(scene, 1);
}

SCENE_TEST(reset_waits_for_a_reader_and_refuses_what_it_writes, call_peer)
{
	uint8_t bytes[1000];
	uint64_t at = 0;
	ssize_t got;

	join_peer(scene, 0);
	write_text(scene, scene->a, "no credit for this"); /* data wait in this direction too */
	put_data(scene, 0, 60000);
	run(scene);
	participant_reset(scene->peer, scene->number, ECONNRESET, 0, 0);
	assert_true(hear(scene, FRAME_RESET)); /* the peer doesn't wait */
	run(scene);
	assert_int_equal(scene->gone, 0);
	assert_int_equal(send(scene->a, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	while (at < 60000) {
		got = recv(scene->a, bytes, sizeof(bytes), 0);
		assert_true(got > 0);
		for (ssize_t i = 0; i < got; i++)
			assert_int_equal(bytes[i], byte_at(at + (uint64_t)i));
		at += (uint64_t)got;
		run(scene);
	}
	expect_broken(scene->a);
	expect_gone(scene, 1);
}

SCENE_TEST(lost_link_breaks_the_stream, call_peer)
{
	join_peer(scene, 65536);
	put_data(scene, 0, 7);
	run(scene);
	participant_kill(scene->peer);
	run(scene);
	assert_int_equal(recv(scene->a, (char[8]){0}, 8, 0), 7);
	expect_broken(scene->a);
	expect_gone(scene, 1);
}

SCENE_TEST(a_stream_that_both_sides_want_to_move_is_stuck, call_peer)
{
	join_peer(scene, 65536);
	scene->caller->limit = scene->caller->sent;
	write_text(scene, scene->a, "beyond the window");
	scene->caller->moved_ns -= 61000000000u;
	assert_string_equal(stream_state(scene->caller), "flowing");
	scene->caller->limit += 100; /* as if a CREDIT had woken nobody */
	assert_string_equal(stream_state(scene->caller), "stuck");
	task_due(&scene->caller->turn);
	run(scene);
	assert_string_equal(stream_state(scene->caller), "flowing");
}

/* --- programs that have lowered their SO_SNDBUF ----------------------------------------------- */

static bool is_writable(int fd)
{
	struct pollfd at = {.fd = fd, .events = POLLOUT};

	return poll(&at, 1, 0) == 1 && at.revents == POLLOUT;
}

/* Sends a buffer that is more than a quarter of it. Returns how much. */
static uint64_t fill(struct scene *scene, int fd)
{
	const int small = 8192;
	uint8_t bytes[6000];
	ssize_t sent;

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = byte_at(i);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	sent = send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
	assert_true(sent > small / 2);
	assert_false(is_writable(fd));
	run(scene);
	return (uint64_t)sent;
}

SCENE_TEST_EACH(a_program_may_write_on_whatever_its_buffer_is, join_given, which, 2)
{
	int writer = which ? scene->a : scene->b, reader = which ? scene->b : scene->a;
	uint64_t written = fill(scene, writer);

	assert_true(is_writable(writer));
	assert_int_equal(send(writer, &(uint8_t){byte_at(written)}, 1, MSG_NOSIGNAL), 1);
	assert_int_equal(read_all(scene, reader, 0), written + 1);
	shutdown(writer, SHUT_WR);
	run(scene);
	expect_end(reader);
	hang_up(&scene->a);
	hang_up(&scene->b);
	expect_gone(scene, 2);
}

/* Joined, and broken while no more fits into the buffer of the caller. */
static void break_when_full(struct scene *scene)
{
	join_given(scene);
	fill(scene, scene->a);
	stream_free(scene->acceptor);
	scene->acceptor = NULL;
	run(scene);
}

SCENE_TEST(a_break_that_cant_be_told_yet_is_never_an_end, break_when_full)
{
	expect_nothing(scene->a);
	assert_string_equal(stream_state(scene->caller), "untold");
	assert_int_equal(send(scene->a, "x", 1, MSG_NOSIGNAL), 1);
	run(scene);
	expect_broken(scene->a);
	expect_gone(scene, 1);
}

SCENE_TEST(a_stream_whose_break_nobody_can_see_any_more_is_gone, break_when_full)
{
	assert_int_equal(scene->gone, 0);
	hang_up(&scene->a);
	expect_gone(scene, 1);
}
