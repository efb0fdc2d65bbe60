/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a stream begins: the caller is told once, and a stream is fetched once or breaks.
 */
#include "tests/unit/stream_rig.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/local/stream.h"
#include "wire/bytes.h"

static void caller_is_told_once_the_stream_is_there(void **state)
{
	struct scene scene;

	call_peer(&scene);
	expect_nothing(scene.a);
	opened(&scene, 65536);
	expect_reply(scene.a, 0);
	expect_nothing(scene.a);
	scene_stop(&scene);
}

static void refused_caller_is_told_why_and_then_sees_the_end(void **state)
{
	static struct party_frame frame;
	struct scene scene;

	scene_start(&scene);
	scene.refuse_with = EACCES;
	call(&scene);
	expect_reply(scene.a, EACCES);
	expect_end(scene.a);
	expect_gone(&scene, 1);
	/* Over a link. */
	call_peer(&scene);
	party_reset(scene.peer, scene.number, ENOENT, 0, 0);
	assert_true(hear(&scene, FRAME_RESET, &frame));
	expect_reply(scene.a, ENOENT);
	expect_end(scene.a);
	expect_gone(&scene, 1);
}

static void caller_that_gives_up_leaves_nothing_behind(void **state)
{
	static struct party_frame frame;
	struct scene scene;

	for (int how = 0; how < 2; how++) {
		call_peer(&scene);
		if (how)
			shutdown(scene.a, SHUT_RDWR);
		else
			hang_up(&scene.a);
		assert_true(hear(&scene, FRAME_RESET, &frame));
		assert_int_equal(scene.gone, 1);
		party_reset(scene.peer, scene.number, 0, 0, 0);
		expect_gone(&scene, 1);
	}
}

static void caller_may_have_said_all_before_it_is_answered(void **state)
{
	static struct party_frame frame;
	struct scene scene;

	call_peer(&scene);
	write_text(&scene, scene.a, "all");
	shutdown(scene.a, SHUT_WR);
	assert_false(hear(&scene, FRAME_DATA, &frame)); /* it may be refused still */
	opened(&scene, 65536);
	expect_reply(scene.a, 0);
	assert_true(hear(&scene, FRAME_FIN, &frame));
	assert_int_equal(get_u64(frame.payload), 3);
	assert_int_equal(scene.received, 3);
	scene_stop(&scene);
}

static void waiting_stream_ends_with_its_caller(void **state)
{
	struct scene scene;

	scene_start(&scene);
	call(&scene);
	expect_reply(scene.a, 0);
	assert_true(stream_is_waiting(scene.acceptor));
	stream_free(scene.caller);
	scene.caller = NULL;
	expect_gone(&scene, 1);
}

static void stream_that_nobody_fetches_breaks(void **state)
{
	struct scene scene;

	scene_start(&scene);
	call(&scene);
	expect_reply(scene.a, 0);
	write_text(&scene, scene.a, "into the void");
	stream_free(scene.acceptor);
	scene.acceptor = NULL;
	run(&scene);
	expect_broken(scene.a);
	expect_gone(&scene, 1);
}

static void stream_is_fetched_once(void **state)
{
	struct scene scene;
	int other;

	join(&scene);
	assert_false(stream_is_waiting(scene.acceptor));
	assert_int_equal(stream_take_socket(scene.acceptor, new_socket(&other)), -ENOENT);
	expect_broken(other); /* closed over the guard */
	close(other);
	write_text(&scene, scene.a, "still here");
	expect_text(scene.b, "still here");
	scene_stop(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(caller_is_told_once_the_stream_is_there),
		cmocka_unit_test(refused_caller_is_told_why_and_then_sees_the_end),
		cmocka_unit_test(caller_that_gives_up_leaves_nothing_behind),
		cmocka_unit_test(caller_may_have_said_all_before_it_is_answered),
		cmocka_unit_test(waiting_stream_ends_with_its_caller),
		cmocka_unit_test(stream_that_nobody_fetches_breaks),
		cmocka_unit_test(stream_is_fetched_once),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
