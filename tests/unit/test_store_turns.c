/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What XenStore has answered is called back in bounded pieces, and nothing is left to lie. */
#include "tests/unit/unit.h"

/* The event loop's part, without a thread: the test puts in what that has got. */
#include "daemon/xen/store.c"

#include <sys/eventfd.h>

static struct {
	struct event_base *base;
	struct store store;
	struct store_worker worker;
	unsigned called_back;
} scene;

static int set_up(void **state)
{
	scene.base = event_base_new();
	scene.store.worker = &scene.worker;
	scene.called_back = 0;
	pthread_mutex_init(&scene.worker.lock, NULL);
	scene.worker.result_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	scene.store.results =
		event_new(scene.base, scene.worker.result_fd, EV_READ | EV_PERSIST, on_results, &scene.store);
	scene.store.more = evtimer_new(scene.base, on_more, &scene.store);
	return event_add(scene.store.results, NULL);
}

static int tear_down(void **state)
{
	event_free(scene.store.results);
	event_free(scene.store.more);
	event_base_free(scene.base);
	close(scene.worker.result_fd);
	return 0;
}

static void comes_back(void *userdata, int error, const char *untrusted_value, size_t size)
{
	scene.called_back++;
}

/* The thread has answers to so many requests, and says so. */
static void are_answered(unsigned count)
{
	const uint64_t one = 1;

	while (count-- > 0) {
		struct store_request *request = calloc(1, sizeof(*request));

		request->done = comes_back;
		DL_APPEND(scene.worker.results, request);
	}
	assert_int_equal(write(scene.worker.result_fd, &one, sizeof(one)), sizeof(one));
}

static void turn(void)
{
	event_base_loop(scene.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

TEST_WITH(answers_come_back_in_pieces, set_up, tear_down)
{
	are_answered(3 * AT_ONCE + 1);
	for (unsigned i = 1; i <= 3; i++) {
		turn();
		assert_int_equal(scene.called_back, i * AT_ONCE);
	}
	turn();
	assert_int_equal(scene.called_back, 3 * AT_ONCE + 1);
}

/* Nobody signals again what has come while others were left. */
TEST_WITH(answer_that_comes_while_others_are_left_comes_back, set_up, tear_down)
{
	are_answered(AT_ONCE + 1);
	turn();
	are_answered(1);
	for (unsigned i = 0; i < 4; i++)
		turn();
	assert_int_equal(scene.called_back, AT_ONCE + 2);
}
