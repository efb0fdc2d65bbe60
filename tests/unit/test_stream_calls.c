/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a stream begins: the caller is told once, and a stream is fetched once or breaks.
 */
#include "tests/unit/stream_rig.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/quota.h"
#include "base/turns.h"
#include "daemon/local/stream.h"
#include "wire/bytes.h"

#define WATCHES	    60000 /* of a socket: a call of ours about it takes far more than 300 us */
#define NUMBERS	    512	  /* of descriptors, one after the other, up to */
#define NUMBERS_END 1000
#define LONG_UNITS  30000u /* 300 us */

SCENE_TEST(refused_caller_is_told_why_and_then_sees_the_end, scene_start)
{
	scene->refuse_with = EACCES;
	call(scene);
	expect_reply(scene->a, EACCES);
	expect_end(scene->a);
	expect_gone(scene, 1);
}

SCENE_TEST(caller_that_a_peer_refuses_is_told_why_and_sees_the_end, call_peer)
{
	participant_reset(scene->peer, scene->number, ENOENT, 0, 0);
	assert_true(hear(scene, FRAME_RESET));
	expect_reply(scene->a, ENOENT);
	expect_end(scene->a);
	expect_gone(scene, 1);
}

SCENE_TEST_EACH(caller_that_gives_up_leaves_nothing_behind, call_peer, how, 2)
{
	if (how)
		shutdown(scene->a, SHUT_RDWR);
	else
		hang_up(&scene->a);
	assert_true(hear(scene, FRAME_RESET));
	assert_int_equal(scene->gone, 1);
	participant_reset(scene->peer, scene->number, 0, 0, 0);
	expect_gone(scene, 1);
}

SCENE_TEST(caller_may_have_said_all_before_it_is_answered, call_peer)
{

	write_text(scene, scene->a, "all");
	shutdown(scene->a, SHUT_WR);
	assert_false(hear(scene, FRAME_DATA)); /* it may be refused still */
	opened(scene, 65536);
	expect_reply(scene->a, 0);
	assert_true(hear(scene, FRAME_FIN));
	assert_int_equal(get_u64(scene->heard.payload), 3);
	assert_int_equal(scene->received, 3);
}

SCENE_TEST(waiting_stream_ends_with_its_caller, scene_start)
{
	call(scene);
	expect_reply(scene->a, 0);
	assert_true(stream_is_waiting(scene->acceptor));
	stream_free(scene->caller);
	scene->caller = NULL;
	expect_gone(scene, 1);
}

SCENE_TEST(stream_that_nobody_fetches_breaks, scene_start)
{
	call(scene);
	expect_reply(scene->a, 0);
	write_text(scene, scene->a, "into the void");
	stream_free(scene->acceptor);
	scene->acceptor = NULL;
	run(scene);
	expect_broken(scene->a);
	expect_gone(scene, 1);
}

SCENE_TEST(stream_is_fetched_once, join)
{
	int other;

	assert_false(stream_is_waiting(scene->acceptor));
	assert_int_equal(stream_take_socket(scene->acceptor, new_socket(&other), false), -ENOENT);
	expect_broken(other); /* closed over the guard */
	close(other);
	write_text(scene, scene->a, "still here");
	expect_text(scene->b, "still here");
}

SCENE_TEST(stream_waits_on_if_its_program_did_not_wait_for_the_answer, scene_start)
{
	int other, fd;

	call(scene);
	expect_reply(scene->a, 0);
	write_text(scene, scene->a, "for the next one");
	fd = new_socket(&other);
	close(other);
	assert_int_equal(stream_take_socket(scene->acceptor, fd, false), -ECONNRESET);
	run(scene);
	fetch(scene);
	expect_text(scene->b, "for the next one");
}

/* Returns the epoll sets. */
static int *watch_often(int fd, int count)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP};
	int *sets = calloc((size_t)count, sizeof(*sets));

	assert_non_null(sets);
	for (int used = 0, number = NUMBERS_END; count > 0; count--) {
		int copy;

		if (number >= NUMBERS_END) {
			sets[used++] = epoll_create1(EPOLL_CLOEXEC);
			number = NUMBERS;
		}
		copy = fcntl(fd, F_DUPFD_CLOEXEC, number++);
		assert_true(copy >= 0);
		if (epoll_ctl(sets[used - 1], EPOLL_CTL_ADD, copy, &event) < 0)
			skip();
		close(copy); /* but not the file, which the set goes on watching */
	}
	return sets;
}

SCENE_TEST(who_makes_calls_long_pays_and_not_who_opened_the_stream, scene_start)
{
	struct quota_limits limits = {0};
	struct line *opener, *program;
	int *sets;

	for (unsigned i = 0; i < QUOTA_RESOURCES; i++)
		limits.pool[i] = limits.max[QUOTA_PEER][i] = limits.max[QUOTA_UID][i] = 1 << 30;
	scene->quota = quota_new(&limits);
	scene->opener = quota_account(scene->quota, QUOTA_PEER, 5);
	scene->program = quota_account(scene->quota, QUOTA_UID, 1000);
	opener = account_line(scene->opener);
	program = account_line(scene->program);
	call(scene);
	expect_reply(scene->a, 0);
	fetch(scene);
	write_text(scene, scene->a, "hello");
	expect_text(scene->b, "hello");
	assert_true(opener->spent > 0);
	sets = watch_often(scene->b, WATCHES);
	for (int i = 0; i < 1000 && program->spent < LONG_UNITS; i++) {
		char byte;

		write_text(scene, scene->a, "x");
		assert_null(opener->resting_in);
		recv(scene->b, &byte, 1, 0);
	}
	assert_true(program->spent >= LONG_UNITS);
	for (int i = 0; i < WATCHES && sets[i]; i++)
		close(sets[i]);
	free(sets);
}
