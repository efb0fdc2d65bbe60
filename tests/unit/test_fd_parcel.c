/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One socket that carries descriptors: what was put in comes out once, in its order. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd_parcel.h"

#define MANY 600 /* more than go with two messages */

TEST(what_was_put_in_comes_out_once_and_in_order)
{
	int fds[MANY], parcel, *out = NULL;
	struct stat status[2];
	uint32_t count = 0;

	for (unsigned i = 0; i < MANY; i++) {
		int pipe_fds[2];

		assert_int_equal(pipe(pipe_fds), 0);
		close(pipe_fds[1]);
		fds[i] = pipe_fds[0];
	}
	parcel = fd_parcel_fill(fds, MANY);
	assert_true(parcel >= 0);
	assert_int_equal(fd_parcel_empty(parcel, &out, &count), 0);
	assert_int_equal(count, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(fstat(fds[i], &status[0]), 0);
		assert_int_equal(fstat(out[i], &status[1]), 0);
		assert_int_equal(status[0].st_ino, status[1].st_ino);
		assert_int_equal(fcntl(out[i], F_GETFD), FD_CLOEXEC);
		close(fds[i]);
		close(out[i]);
	}
	assert_int_equal(fd_parcel_empty(parcel, &out, &count), 0);
	assert_int_equal(count, MANY);
	free(out);
	close(parcel);
}

TEST(what_is_no_parcel_gives_nothing)
{
	int fds[2], *out = NULL;
	uint32_t count = 0;

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(fd_parcel_empty(fds[0], &out, &count), -EBADF);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(fd_parcel_empty(fds[0], &out, &count), -EBADF);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(fd_parcel_empty(fds[0], &out, &count), -EBADF); /* more could come */
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(fd_parcel_empty(fds[0], &out, &count), -EBADF); /* nothing comes with it */
	close(fds[0]);
	close(fds[1]);
}

/* A program could fill its socket with others in which others lie, and spoil what is carried for all. */
TEST(what_the_kernel_does_not_carry_is_known_before)
{
	int parcels[8], count = 0, file[2];

	assert_int_equal(pipe(file), 0);
	assert_true(fd_parcel_takes(file[0]));
	parcels[count++] = fd_parcel_fill(file, 1);
	while (count < 8 && fd_parcel_takes(parcels[count - 1])) {
		parcels[count] = fd_parcel_fill(&parcels[count - 1], 1);
		assert_true(parcels[count] >= 0);
		count++;
	}
	if (count < 8) /* newer kernels carry them all */
		assert_int_equal(fd_parcel_fill(&parcels[count - 1], 1), -ETOOMANYREFS);
	while (count)
		close(parcels[--count]);
	close(file[0]);
	close(file[1]);
}
