/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Watches under a quota, as a guest's kernel has it: what is needed is watched, and who is refused waits. */
#include "tests/unit/unit.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <xenstore.h>

#include "base/clock.h"
#include "daemon/xen/store_worker_internal.h"
#include "wire/ut.h"

/* XenStore, in place of libxenstore's functions: a refused watch ends the connection, with all watches. */
static struct {
	unsigned room, tries;
	bool broken;
	unsigned set[100], count, unwatched;
} xenstore;

bool xs_watch(struct xs_handle *xs, const char *path, const char *token)
{
	assert_true(strlen(token) >= 16); /* else a refused one can hang, see print_token() */
	xenstore.tries++;
	if (xenstore.broken || xenstore.count >= xenstore.room) {
		errno = xenstore.broken ? EPIPE : E2BIG;
		xenstore.broken = true;
		xenstore.count = 0;
		return false;
	}
	xenstore.set[xenstore.count++] = (unsigned)atoi(token);
	return true;
}

bool xs_unwatch(struct xs_handle *xs, const char *path, const char *token)
{
	for (unsigned i = 0; i < xenstore.count; i++)
		if (xenstore.set[i] == (unsigned)atoi(token)) {
			xenstore.set[i] = xenstore.set[--xenstore.count];
			xenstore.unwatched++;
			return true;
		}
	errno = ENOENT;
	return false;
}

char **xs_check_watch(struct xs_handle *xs)
{
	errno = xenstore.broken ? EINVAL : EAGAIN;
	return NULL;
}

void *xs_read(struct xs_handle *xs, xs_transaction_t transaction, const char *path, unsigned *size)
{
	errno = EACCES;
	return NULL;
}

static struct store_worker worker;

/* Connects until the connection lasts, as the thread does. */
static void connect_again(void)
{
	do {
		xenstore.broken = false;
		xenstore.count = 0;
	} while (!watched_set_all(&worker));
}

static int begin(void **state)
{
	memset(&worker, 0, sizeof(worker));
	memset(&xenstore, 0, sizeof(xenstore));
	worker.connected = true;
	worker.result_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return 0;
}

static int end(void **state)
{
	struct store_watched *watched, *next;

	HASH_CLEAR(hh, worker.by_token);
	DL_FOREACH_SAFE(worker.watched, watched, next) {
		free(watched->path);
		free(watched);
	}
	close(worker.result_fd);
	store_events_free(&worker.events);
	return 0;
}

static int watch(unsigned number, bool needed)
{
	char path[16];
	struct store_request request = {
		.kind = STORE_WATCH,
		.watch = number,
		.needed = needed,
		.paths = (char *[]){path},
	};
	int r;

	snprintf(path, sizeof(path), "path %u", number % 100);
	r = watched_add(&worker, &request);
	if (xenstore.broken)
		connect_again();
	return r;
}

static void unwatch_soon(unsigned number, bool at_once)
{
	struct store_request request = {.kind = STORE_UNWATCH, .watch = number, .at_once = at_once};

	assert_int_equal(watched_remove(&worker, &request), 0);
}

static void unwatch(unsigned number)
{
	unwatch_soon(number, false);
}

static void try_again(void)
{
	watched_try_refused(&worker);
	if (xenstore.broken)
		connect_again();
}

static bool is_set(unsigned number)
{
	for (unsigned i = 0; i < xenstore.count; i++)
		if (xenstore.set[i] == number)
			return true;
	return false;
}

TEST_WITH(what_is_needed_has_the_room_of_what_is_not, begin, end)
{
	xenstore.room = 2;
	assert_int_equal(watch(1, false), 0);
	assert_int_equal(watch(2, false), 0);
	assert_int_equal(watch(3, true), 0);
	assert_true(is_set(1) && is_set(3));
	assert_int_equal(watch(4, true), 0); /* others wait already, so this one costs no connection */
	assert_true(is_set(3) && is_set(4));
	assert_int_equal(worker.refused_watches, 2);
	assert_int_not_equal(watch(5, true), 0); /* there is nobody left to give way */
	assert_true(is_set(3) && is_set(4));
	xenstore.room = 3;
	try_again();
	assert_true(is_set(3) && is_set(4) && is_set(5));
	xenstore.room = 5;
	try_again();
	assert_int_equal(xenstore.count, 5);
	assert_int_equal(worker.refused_watches, 0);
}

TEST_WITH(what_is_needed_is_set_on_each_new_connection, begin, end)
{
	xenstore.room = 3;
	watch(1, false);
	watch(2, false);
	watch(3, true);
	xenstore.room = 1; /* another program has the rest now */
	connect_again();
	assert_int_equal(xenstore.count, 1);
	assert_true(is_set(3));
	xenstore.room = 3;
	try_again();
	assert_int_equal(xenstore.count, 3);
	assert_int_equal(worker.refused_watches, 0);
}

TEST_WITH(a_try_that_fails_is_not_made_again_at_once, begin, end)
{
	uint64_t now;
	unsigned tries;

	xenstore.room = 2;
	for (unsigned number = 1; number <= 4; number++)
		watch(number, false);
	assert_int_equal(worker.refused_watches, 2);
	unwatch(1); /* there is room for one of the two */
	now = clock_ms();
	assert_true(worker.retry_at_ms <= now);
	try_again();
	assert_int_equal(worker.refused_watches, 1);
	for (tries = 0; tries < 4; tries++) {
		assert_true(worker.retry_at_ms >= now + (5000u << tries));
		try_again();
	}
}

static bool fires(unsigned number)
{
	struct store_event *event;
	char key[32];

	snprintf(key, sizeof(key), "%u path %u", number, number % 100);
	HASH_FIND_STR(worker.events, key, event);
	return event && event->fires;
}

/* A guest that is suspended waits for who unwatches, and who unwatches for it. */
TEST_WITH(what_has_ended_is_left_for_who_wants_it_again, begin, end)
{
	xenstore.room = 100;
	for (unsigned turn = 0; turn < 1000; turn += 100) {
		for (unsigned number = 1; number <= 16; number++)
			watch(turn + number, false);
		assert_int_equal(xenstore.tries, 16);
		assert_true(turn == 0 || fires(turn + 7)); /* as one does that is set anew */
		assert_int_equal(watched_of(&worker, 7), turn + 7);
		for (unsigned number = 1; number <= 16; number++)
			unwatch(turn + number);
		assert_int_equal(watched_of(&worker, 7), 0);
	}
	assert_int_equal(xenstore.unwatched, 0);
	watch(1007, false);
	connect_again();
	assert_int_equal(xenstore.count, 1);
	assert_true(is_set(7));
	watch(1008, false);
	unwatch(1007);
	unwatch_soon(1008, true);
	assert_true(is_set(7) && xenstore.unwatched == 1);
}

TEST_WITH(what_has_ended_takes_no_room, begin, end)
{
	xenstore.room = 100;
	for (unsigned number = 1; number < 100; number++) {
		watch(number, false);
		unwatch(number);
	}
	assert_true(xenstore.count <= 16); /* other programs of the guest have watches, too */
	xenstore.room = xenstore.count;
	for (unsigned number = 101; number <= 100 + xenstore.room; number++) {
		watch(number, false);
		try_again();
	}
	assert_int_equal(xenstore.count, xenstore.room);
	assert_int_equal(worker.refused_watches, 0);
}
