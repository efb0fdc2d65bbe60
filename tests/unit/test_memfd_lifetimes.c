/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whoever shared memory pays for it until nobody has it any more. */

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/log.h"
#include "base/quota.h"
#include "base/shared_memory.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/memfd_lifetimes.h"
#include "tests/descriptors.h"
#include "tests/unit/own_process.h"
#include "tests/unit/image_bytes.h"
#include "tests/unit/unit.h"

#define SIZE	((size_t)1 << 20)
#define MANY	200u /* more than are told of at a time */
#define ALARM_S 60

struct scene {
	struct event_base *base;
	struct switchboard board;
	struct quota *quota;
	struct account *account;
	unsigned descriptors;
};

/* What somebody has of memory that is shared, and the session's charge has passed on. */
struct shared {
	int fd;
	uint8_t *memory;
};

static uint64_t used(const struct scene *scene)
{
	return account_usage(scene->account, QUOTA_MEMORY).used;
}

/* As a session does, which has `more` to pay for, too. */
static struct shared share(struct scene *scene, uint64_t more)
{
	struct charge charge;
	struct shared shared;

	charge_init(&charge, scene->account);
	assert_int_equal(charge_add(&charge, QUOTA_MEMORY, SIZE + more), 0);
	shared.fd = shared_memory_new(SIZE, &shared.memory);
	assert_true(shared.fd >= 0);
	memfd_lifetimes_on(&scene->board, shared.fd, &charge, SIZE);
	charge_end(&charge); /* the session is over */
	return shared;
}

static void let_go(struct shared *shared)
{
	if (shared->memory)
		munmap(shared->memory, SIZE);
	if (shared->fd >= 0)
		close(shared->fd);
	*shared = (struct shared){.fd = -1};
}

static void look(struct scene *scene)
{
	for (int i = 0; i < 3; i++)
		event_base_loop(scene->base, EVLOOP_NONBLOCK);
}

static void wait_for(struct scene *scene, uint64_t bytes)
{
	while (used(scene) != bytes)
		event_base_loop(scene->base, EVLOOP_ONCE);
}

static void scene_start(struct scene *scene)
{
	const struct quota_limits limits = {
		.pool = {[QUOTA_MEMORY] = 2 * MANY * SIZE},
		.max = {[QUOTA_UID] = {[QUOTA_MEMORY] = 2 * MANY * SIZE}},
	};

	alarm(patience(ALARM_S));
	log_set_level(LOG_LEVEL_ERROR);
	scene->descriptors = open_descriptors();
	scene->base = event_base_new();
	scene->quota = quota_new(&limits);
	scene->account = quota_account(scene->quota, QUOTA_UID, 1000);
	assert_int_equal(switch_init(&scene->board, scene->base, 1u << 20), 0);
	assert_int_equal(memfd_lifetimes_new(&scene->board.memfd_lifetimes, &scene->board), 0);
}

static void scene_stop(struct scene *scene)
{
	switch_cleanup(&scene->board);
	memfd_lifetimes_free(scene->board.memfd_lifetimes);
	assert_int_equal(used(scene), 0);
	account_unref(scene->account);
	quota_free(scene->quota);
	event_base_free(scene->base);
	assert_int_equal(open_descriptors(), scene->descriptors);
	alarm(0);
}

/* What isn't the memory's is given back with the session. */
SCENE_TEST(memory_is_paid_for_until_its_last_mapping_is_gone, scene_start)
{
	struct shared shared = share(scene, 4096);
	int again = dup(shared.fd);

	look(scene);
	assert_int_equal(used(scene), SIZE);
	close(shared.fd);
	shared.fd = again;
	look(scene);
	assert_int_equal(used(scene), SIZE);
	close(shared.fd);
	shared.fd = -1;
	look(scene);
	assert_int_equal(used(scene), SIZE); /* it is mapped */
	let_go(&shared);
	wait_for(scene, 0);
}

SCENE_TEST(a_process_that_inherited_a_mapping_has_it_until_it_ends, scene_start)
{
	struct shared shared = share(scene, 0);
	int pipes[2], status;
	pid_t child;
	char byte;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		close(shared.fd);
		close(pipes[1]);
		_exit(read(pipes[0], &byte, 1) != 0); /* until the other end is closed */
	}
	close(pipes[0]);
	let_go(&shared);
	look(scene);
	assert_int_equal(used(scene), SIZE);
	close(pipes[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	wait_for(scene, 0);
}

/* It is in a socket that nobody reads. */
SCENE_TEST(memory_that_is_under_way_is_paid_for, scene_start)
{
	struct shared shared = share(scene, 0);
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(send_descriptor(pair[0], "x", 1, shared.fd, 0), 1);
	let_go(&shared);
	look(scene);
	assert_int_equal(used(scene), SIZE);
	close(pair[0]);
	close(pair[1]);
	wait_for(scene, 0);
}

/* Each by itself, in any order, however many go at a time. */
SCENE_TEST(of_many_each_is_paid_for_as_long_as_it_is_there, scene_start)
{
	struct shared all[MANY];

	for (unsigned i = 0; i < MANY; i++)
		all[i] = share(scene, 0);
	assert_int_equal(used(scene), MANY * SIZE);
	for (unsigned i = 1; i < MANY; i += 2)
		let_go(&all[i]);
	wait_for(scene, MANY / 2 * SIZE);
	look(scene);
	assert_int_equal(used(scene), MANY / 2 * SIZE);
	for (unsigned i = 0; i < MANY; i += 2)
		let_go(&all[i]);
	wait_for(scene, 0);
}

/* Nothing else about it is, such as that it is opened again, mapped or read. */
SCENE_TEST(only_the_end_is_told, scene_start)
{
	struct shared shared = share(scene, 0);
	char path[32], byte;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", shared.fd);
	for (int i = 0; i < 3; i++) {
		fd = open(path, O_RDWR | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_int_equal(pread(fd, &byte, 1, 0), 1);
		assert_int_equal(fchmod(fd, 0600), 0);
		close(fd);
		look(scene);
		assert_int_equal(used(scene), SIZE);
	}
	let_go(&shared);
	wait_for(scene, 0);
}

/* Then it is charged as long as the session is there, as everything else. */
SCENE_TEST(memory_that_cannot_be_watched_is_given_back_with_the_session, scene_start)
{
	struct charge charge;

	charge_init(&charge, scene->account);
	assert_int_equal(charge_add(&charge, QUOTA_MEMORY, SIZE), 0);
	memfd_lifetimes_on(&scene->board, -1, &charge, SIZE);
	assert_int_equal(charge.held[QUOTA_MEMORY], SIZE);
	charge_end(&charge);
	assert_int_equal(used(scene), 0);
}

/* The daemon stops; teardown() sees that nothing is left. */
SCENE_TEST(what_is_still_there_at_the_end_is_given_back, scene_start)
{
	struct shared shared = share(scene, 0);

	memfd_lifetimes_free(scene->board.memfd_lifetimes);
	scene->board.memfd_lifetimes = NULL;
	assert_int_equal(used(scene), 0);
	let_go(&shared);
}

/* Whoever reads it pays as the daemon before it said, or nobody, and one watch is one memory's. */
SCENE_TEST(what_is_handed_over_is_paid_for_once_and_spoilt_by_nobody, scene_start)
{
	struct shared shared = share(scene, 0);
	struct image image;
	uint8_t *bytes;
	size_t size;

	image_begin(&image);
	memfd_lifetimes_write_image(&image, &scene->board);
	bytes = image_to_bytes(&image, &size);
	image_write_seed("kept", bytes, size);
	scene->board.quota = scene->quota;
	for (unsigned round = 0; round < 2; round++) {
		if (round) {
			memfd_lifetimes_free(scene->board.memfd_lifetimes);
			assert_int_equal(used(scene), 0);
			assert_false(memfd_lifetimes_new(&scene->board.memfd_lifetimes, &scene->board));
		}
		image_open_bytes(&image, bytes, size);
		assert_int_equal(image_next(&image), IMAGE_MEMORY);
		memfd_lifetimes_read_image(&image, &scene->board);
		assert_int_equal(image.error, round ? 0 : -EINVAL); /* this daemon has it already */
		image_free(&image);
		assert_int_equal(used(scene), SIZE);
	}
	free(bytes);
	let_go(&shared);
}
