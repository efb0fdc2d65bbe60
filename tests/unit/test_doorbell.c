/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Doorbells: a ring wakes, and never waits, whatever another holder of the descriptor does to it. */

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "wire/cpu_atomics.h"
#include "wire/doorbell.h"

#define STUCK_S 60 /* then a call that waits ends the test */

static int watch(int fd)
{
	struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	assert_true(epoll >= 0);
	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
	return epoll;
}

static int edges(int epoll)
{
	struct epoll_event event;

	return epoll_wait(epoll, &event, 1, 0);
}

BEFORE_ALL
{
	alarm(STUCK_S);
}

TEST(each_ring_is_an_edge)
{
	int fd = doorbell_new(), epoll = watch(fd);

	for (int i = 0; i < 1000; i++) {
		assert_int_equal(edges(epoll), 0);
		assert_int_equal(doorbell_ring(fd), 0);
		assert_int_equal(edges(epoll), 1);
	}
	close(epoll);
	close(fd);
}

static void set_flags(int fd, int flags)
{
	assert_int_equal(fcntl(fd, F_SETFL, flags), 0);
}

/* It begins like that. The other holder makes reads and writes wait. */
TEST(a_full_one_still_rings)
{
	const uint64_t one = 1;
	int fd = doorbell_new(), epoll;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, &one, sizeof(one)), -1);
	set_flags(fd, 0);
	epoll = watch(fd);
	assert_int_equal(edges(epoll), 0);
	assert_int_equal(doorbell_ring(fd), 0);
	assert_int_equal(edges(epoll), 1);
	close(epoll);
	close(fd);
}

TEST(an_empty_one_says_so_and_does_not_wait)
{
	int fd = eventfd(3, EFD_CLOEXEC | EFD_SEMAPHORE); /* which would wait */

	for (int i = 0; i < 3; i++)
		assert_int_equal(doorbell_ring(fd), 0);
	assert_int_equal(doorbell_ring(fd), -EAGAIN);
	close(fd);
}

/* Whoever made the descriptor may have passed another one. */
TEST(what_is_no_doorbell_does_not_make_it_wait)
{
	char path[] = "/tmp/xenmsg-doorbell.XXXXXX";
	int pipes[2], sockets[2], file = mkstemp(path);

	assert_true(file >= 0);
	unlink(path);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	assert_true(doorbell_ring(pipes[0]) < 0);
	assert_true(doorbell_ring(pipes[1]) < 0);
	assert_true(doorbell_ring(sockets[0]) < 0);
	doorbell_ring(file); /* at its end, which is no error */
	assert_int_equal(doorbell_ring(-1), -EBADF);
	for (int i = 0; i < 2; i++) {
		close(pipes[i]);
		close(sockets[i]);
	}
	close(file);
}

TEST(only_arm_without_lse_has_atomics_without_a_bound)
{
	assert_true(cpu_atomics_are_bounded("x86_64", 0));
	assert_true(cpu_atomics_are_bounded("aarch64", 1ul << 8));
	assert_false(cpu_atomics_are_bounded("aarch64", ~(1ul << 8)));
	assert_false(cpu_atomics_are_bounded("armv7l", ~0ul));
}
