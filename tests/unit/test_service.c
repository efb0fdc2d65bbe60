/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a service manager gives is taken as sd_listen_fds(3) and sd_watchdog_enabled(3) take it. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/service.h"

static void set_number(const char *variable, long number)
{
	char text[24];

	snprintf(text, sizeof(text), "%ld", number);
	setenv(variable, text, 1);
}

static void free_sockets(int count, int *fds, char **names)
{
	for (int i = 0; i < count; i++)
		free(names[i]);
	free(names);
	free(fds);
}

TEST(sockets_are_taken_once_and_by_whom_they_are_for)
{
	char **names;
	int *fds;

	assert_int_equal(service_sockets(&fds, &names), 0);
	set_number("LISTEN_PID", getpid() + 1L);
	setenv("LISTEN_FDS", "2", 1);
	setenv("LISTEN_FDNAMES", "one:", 1);
	assert_int_equal(service_sockets(&fds, &names), 0);
	set_number("LISTEN_PID", getpid());
	assert_int_equal(service_sockets(&fds, &names), 2);
	assert_int_equal(fds[0], 3);
	assert_int_equal(fds[1], 4);
	assert_string_equal(names[0], "one");
	assert_string_equal(names[1], "");
	free_sockets(2, fds, names);
	assert_int_equal(service_sockets(&fds, &names), 0);
	assert_null(getenv("LISTEN_FDS"));
}

TEST(sockets_without_names_are_unknown_and_wrong_numbers_are_none)
{
	static const char *const wrong[] = {"", "-1", "2x", " 2", "0", "99999999999999999999"};
	char **names;
	int *fds;

	set_number("LISTEN_PID", getpid());
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		setenv("LISTEN_FDS", wrong[i], 1);
		assert_int_equal(service_sockets(&fds, &names), 0);
	}
	setenv("LISTEN_FDS", "4294967297", 1);
	assert_int_equal(service_sockets(&fds, &names), -EINVAL);
	setenv("LISTEN_FDS", "1", 1);
	assert_int_equal(service_sockets(&fds, &names), 1);
	assert_string_equal(names[0], "unknown");
	free_sockets(1, fds, names);
}

TEST(a_watchdog_is_this_processs_or_anybodys)
{
	assert_int_equal(service_watchdog_us(), 0);
	setenv("WATCHDOG_USEC", "30000000", 1);
	assert_int_equal(service_watchdog_us(), 30000000);
	set_number("WATCHDOG_PID", getpid() + 1L);
	assert_int_equal(service_watchdog_us(), 0);
	set_number("WATCHDOG_PID", getpid());
	assert_int_equal(service_watchdog_us(), 30000000);
}

TEST(only_a_unix_socket_of_the_type_that_listens_is_a_listener)
{
	int listens = socket(AF_UNIX, SOCK_STREAM, 0), pair[2], inet = socket(AF_INET, SOCK_STREAM, 0);
	const struct sockaddr unnamed = {.sa_family = AF_UNIX};

	assert_int_equal(bind(listens, &unnamed, sizeof(sa_family_t)), 0);
	assert_false(service_is_listener(listens, SOCK_STREAM));
	assert_int_equal(listen(listens, 1), 0);
	assert_true(service_is_listener(listens, SOCK_STREAM));
	assert_false(service_is_listener(listens, SOCK_SEQPACKET));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_false(service_is_listener(pair[0], SOCK_STREAM));
	assert_false(service_is_listener(inet, SOCK_STREAM));
	assert_false(service_is_listener(open("/dev/null", O_RDONLY), SOCK_STREAM));
}
