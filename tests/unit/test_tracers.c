/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who traces by domain 0's link, and asks no more. */
#include "tests/unit/channel_rig.h"

#include <event2/buffer.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/self.h"
#include "daemon/serve/tracers.h"

static unsigned later_s;

/* Stands before the C library's. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *now)
{
	int r = (int)syscall(SYS_clock_gettime, id, now);

	if (id == CLOCK_MONOTONIC)
		now->tv_sec += later_s;
	return r;
}

static void ask(struct tracers *tracers, struct evbuffer *steps)
{
	static const struct frame_identity from = {.pid = 7};

	assert_int_equal(tracers_take_remote(tracers, NULL, &from, "*", -1, steps), 0);
}

/* The first step after that is of bytes, in a channel that has been there all the time: they have two. */
SCENE_TEST(tracer_that_asks_no_more_is_forgotten_when_bytes_come, scene_start)
{
	static const struct self self = {.domid = 3};
	struct switchboard *board = &scene->rig.board[0];
	struct tracers *tracers = tracers_new(&(struct tracers_collaborators){.self = &self, .board = board});
	struct evbuffer *steps = evbuffer_new();

	assert_non_null(tracers);
	assert_non_null(steps);
	ask(tracers, steps);
	participant_open(scene->a, 0, "p_1");
	send_bytes(scene->a, 0, 8);
	read_all(scene);
	later_s = FAR_TRACER_MS / 1000 - 1;
	send_bytes(scene->a, 0, 8);
	read_all(scene);
	ask(tracers, steps);
	assert_non_null(board->steps);
	assert_true(evbuffer_search(steps, "\"sent\"", 6, NULL).pos >= 0);
	later_s += FAR_TRACER_MS / 1000 + 1;
	send_bytes(scene->a, 0, 8);
	read_all(scene);
	assert_null(board->steps);
	participant_fin(scene->a, 0);
	read_all(scene);
	tracers_free(tracers);
	evbuffer_free(steps);
}
