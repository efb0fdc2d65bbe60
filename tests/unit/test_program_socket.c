/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sockets of programs that send descriptors: none of them is ever closed by the thread that reads and closes
 * those sockets. The descriptor is that of a TCP socket whose last close waits for an hour, so that who does
 * it by mistake doesn't come to an end.
 */
#include "tests/unit/unit.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/switch/hop.h"
#include "daemon/switch/program_socket.h"
#include "daemon/switch/work_pool.h"
#include "base/quota.h"
#include "tests/descriptors.h"
#include "tests/unit/image_bytes.h"
#include "tests/unit/own_process.h"

#define ALARM_S 60

struct scene {
	struct event_base *base;
	struct switchboard board;
	struct quota *quota;
	struct account *account;
	int program, daemon;
	int peer; /* of the last lingering socket: it doesn't read */
	unsigned descriptors, threads;
};

static void new_pair(struct scene *scene)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	scene->program = pair[0];
	scene->daemon = pair[1];
	assert_int_equal(program_socket_init(scene->daemon), 0);
}

static void scene_start(struct scene *scene)
{
	const struct quota_limits limits = {
		.pool = {[QUOTA_DESCRIPTORS] = 1000},
		.max = {[QUOTA_UID] = {[QUOTA_DESCRIPTORS] = 100}},
	};

	scene->peer = -1;
	alarm(patience(ALARM_S));
	scene->descriptors = open_descriptors();
	scene->base = event_base_new();
	scene->quota = quota_new(&limits);
	scene->account = quota_account(scene->quota, QUOTA_UID, 1000);
	assert_int_equal(switch_init(&scene->board, scene->base, 1u << 20), 0);
	assert_int_equal(work_pool_new(&scene->board.work_pool, &scene->board), 0);
	scene->board.quota = scene->quota;
	new_pair(scene);
}

static void run_until_closed(struct scene *scene)
{
	while (account_usage(scene->account, QUOTA_DESCRIPTORS).used > 0)
		event_base_loop(scene->base, EVLOOP_ONCE);
}

static void scene_stop(struct scene *scene)
{
	if (scene->program >= 0)
		close(scene->program);
	if (scene->peer >= 0)
		close(scene->peer);
	switch_cleanup(&scene->board);
	work_pool_free(scene->board.work_pool);
	assert_int_equal(account_usage(scene->account, QUOTA_DESCRIPTORS).used, 0);
	account_unref(scene->account);
	quota_free(scene->quota);
	event_base_free(scene->base);
	assert_int_equal(open_descriptors(), scene->descriptors);
	alarm(0);
}

/* The program sends `size` bytes with a descriptor that nobody else has: this close isn't the last, since it
 * is on its way. */
static void send_lingering(struct scene *scene, size_t size, int flags)
{
	static uint8_t bytes[4096];
	int peer, fd = lingering_socket(&peer);

	assert_true(fd >= 0);
	if (scene->peer >= 0)
		close(scene->peer);
	scene->peer = peer;
	assert_int_equal(send_descriptor(scene->program, bytes, size, fd, flags), size);
	close(fd);
}

static void charge_one(struct scene *scene, struct charge *charge)
{
	charge_init(charge, scene->account);
	assert_int_equal(charge_add(charge, QUOTA_DESCRIPTORS, 1), 0);
}

/* The daemon closes its end; returns whether somebody else did it. */
static bool close_charged(struct scene *scene)
{
	struct charge charge;
	bool handed_on;

	charge_one(scene, &charge);
	program_socket_close(&scene->board, scene->daemon, &charge);
	handed_on = charge.held[QUOTA_DESCRIPTORS] == 0;
	charge_end(&charge);
	assert_int_equal(account_usage(scene->account, QUOTA_DESCRIPTORS).used, handed_on);
	run_until_closed(scene);
	return handed_on;
}

static int error_of_program(struct scene *scene)
{
	ssize_t size;
	char byte;

	while ((size = recv(scene->program, &byte, 1, 0)) < 0 && errno == EAGAIN)
		usleep(1000);
	return size < 0 ? errno : 0;
}

SCENE_TEST(bytes_with_descriptors_are_not_read, scene_start)
{
	char bytes[8];
	struct iovec pieces[2] = {{bytes, 2}, {bytes + 2, 6}};
	int unread;

	assert_int_equal(program_socket_read(scene->daemon, pieces, 2), -EAGAIN);
	assert_int_equal(send(scene->program, "12345", 5, 0), 5);
	assert_int_equal(program_socket_peek(scene->daemon, pieces, 2), 5);
	assert_int_equal(program_socket_take(scene->daemon, 4), 4);
	assert_int_equal(program_socket_read(scene->daemon, pieces, 2), 1);
	assert_memory_equal(bytes, "5", 1);
	assert_int_equal(send(scene->program, "678", 3, 0), 3);
	send_lingering(scene, 100, 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(program_socket_read(scene->daemon, pieces, 2), -EBADMSG);
	assert_int_equal(ioctl(scene->daemon, FIONREAD, &unread), 0);
	assert_int_equal(unread, 103);
	assert_true(close_charged(scene));
}

TEST(bytes_out_of_band_have_descriptors_like_others)
{
	struct scene scene = {0};
	char bytes[8];
	struct iovec piece = {bytes, sizeof(bytes)};
	ssize_t size;

	scene_start(&scene);
	if (send(scene.program, "o", 1, MSG_OOB) < 0) {
		scene_stop(&scene);
		skip(); /* a kernel that has none */
	}
	assert_int_equal(program_socket_read(scene.daemon, &piece, 1), 1);
	assert_int_equal(send(scene.program, "12", 2, 0), 2);
	send_lingering(&scene, 1, MSG_OOB);
	while ((size = program_socket_read(scene.daemon, &piece, 1)) > 0)
		;
	assert_int_equal(size, -EBADMSG);
	assert_true(close_charged(&scene));
	scene_stop(&scene);
}

SCENE_TEST(end_is_told_behind_the_bytes, scene_start)
{
	char bytes[8];
	struct iovec piece = {bytes, sizeof(bytes)};

	assert_int_equal(send(scene->program, "1", 1, 0), 1);
	close(scene->program);
	scene->program = -1;
	assert_int_equal(program_socket_read(scene->daemon, &piece, 1), 1);
	assert_int_equal(program_socket_read(scene->daemon, &piece, 1), 0);
	assert_false(close_charged(scene));
}

SCENE_TEST(sockets_with_nothing_but_bytes_are_closed_at_once, scene_start)
{
	assert_false(close_charged(scene));
	assert_int_equal(error_of_program(scene), 0);
	close(scene->program);
	new_pair(scene);
	assert_int_equal(send(scene->program, "unread", 6, 0), 6);
	assert_false(close_charged(scene));
	assert_int_equal(error_of_program(scene), ECONNRESET);
}

SCENE_TEST(nothing_comes_between_the_look_and_the_close, scene_start)
{
	/* More than is looked through: somebody else closes it, and the program can't send any more. */
	assert_int_equal(send(scene->program, (uint8_t[8192]){0}, 8192, 0), 8192);
	program_socket_close(&scene->board, scene->daemon, NULL);
	assert_int_equal(send(scene->program, "", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
}

SCENE_TEST(descriptors_that_linger_are_closed_by_threads_that_do_not, scene_start)
{
	unsigned before = running_threads();

	for (unsigned i = 0; i < 200; i++) {
		struct charge charge;

		charge_one(scene, &charge);
		if (i > 0)
			new_pair(scene);
		if (i < 5)
			send_lingering(scene, 10, 0);
		else
			assert_int_equal(send(scene->program, (uint8_t[8192]){0}, 8192, 0), 8192);
		close(scene->program);
		scene->program = -1;
		program_socket_close(&scene->board, scene->daemon, &charge);
		charge_end(&charge);
		if (i % 50 == 49)
			run_until_closed(scene);
	}
	/* They are gone, and with them what they had: the peer hears of it as soon as it has read
	 * everything. */
	while (running_threads() > before)
		usleep(1000);
	while (recv(scene->peer, (uint8_t[65536]){0}, 65536, 0) > 0)
		;
}

SCENE_TEST(programs_not_accepted_yet_are_closed_with_the_listener, scene_start)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t size = sizeof(sa_family_t);

	close(scene->program);
	close(scene->daemon);
	scene->daemon = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	scene->program = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(scene->daemon, (struct sockaddr *)&address, size), 0);
	size = sizeof(address);
	assert_int_equal(getsockname(scene->daemon, (struct sockaddr *)&address, &size), 0);
	assert_int_equal(listen(scene->daemon, 1), 0);
	assert_int_equal(connect(scene->program, (struct sockaddr *)&address, size), 0);
	send_lingering(scene, 1, 0);
	assert_true(close_charged(scene));
	assert_int_equal(error_of_program(scene), ECONNRESET);
}

/* The next daemon has it by the image; here it is the same process, so its descriptor is a copy. */
SCENE_TEST(what_no_thread_has_yet_goes_to_the_next_daemons_pool, scene_start)
{
	int copy = dup(scene->daemon);
	struct charge charge;
	struct image image;
	uint8_t *bytes;
	size_t size;

	send_lingering(scene, 1, 0);
	charge_one(scene, &charge);
	program_socket_close(&scene->board, scene->daemon, &charge);
	charge_end(&charge);
	image_begin(&image);
	work_pool_write_image(scene->board.work_pool, &image);
	bytes = image_to_bytes(&image, &size);
	run_until_closed(scene);
	assert_int_equal(dup2(copy, scene->daemon), scene->daemon);
	close(copy);
	image_open_bytes(&image, bytes, size);
	assert_int_equal(image_next(&image), IMAGE_CLOSING);
	work_pool_read_image(&scene->board, &image);
	work_pool_close_rest(&scene->board, &image);
	assert_int_equal(image_next(&image), 0);
	image_free(&image);
	free(bytes);
	while (fcntl(scene->daemon, F_GETFD) >= 0)
		event_base_loop(scene->base, EVLOOP_ONCE);
	image_begin(&image); /* what is closed by now isn't there */
	work_pool_write_image(scene->board.work_pool, &image);
	assert_int_equal(image.fd_count, 0);
	image_free(&image);
}

/* Whoever watches the program's end is called for each buffer that we free. */
SCENE_TEST(a_call_frees_few_of_the_buffers_that_a_program_has_made_dear, scene_start)
{
	enum { COPIES = 200, EPOLLS = 60, WRITES = 60, SIZE = 16 };
	char bytes[WRITES * SIZE] = {0};
	struct iovec piece = {bytes, sizeof(bytes)};
	struct epoll_event event = {.events = EPOLLOUT};
	int copies[COPIES], epolls[EPOLLS];
	ssize_t taken;

	for (int i = 0; i < COPIES; i++)
		copies[i] = dup(scene->program);
	for (int i = 0; i < EPOLLS; i++) {
		epolls[i] = epoll_create1(0);
		for (int j = 0; j < COPIES; j++)
			assert_int_equal(epoll_ctl(epolls[i], EPOLL_CTL_ADD, copies[j], &event), 0);
	}
	for (int i = 0; i < WRITES; i++)
		assert_int_equal(send(scene->program, bytes, SIZE, 0), SIZE);
	assert_int_equal(program_socket_peek(scene->daemon, &piece, 1), sizeof(bytes));
	taken = program_socket_take(scene->daemon, sizeof(bytes));
	assert_in_range(taken, SIZE, 4 * SIZE);
	for (int i = 0; i < EPOLLS; i++)
		close(epolls[i]);
	for (int i = 0; i < COPIES; i++)
		close(copies[i]);
	assert_true(close_charged(scene)); /* nor does a close free them here */
}
