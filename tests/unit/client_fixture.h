/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_CLIENT_FIXTURE_H
#define XENMSG_TESTS_CLIENT_FIXTURE_H

/* A connection to the fake daemon for each test, with shared memory, over the socket alone, or one after the
 * other: the library promises the same over both. */

#include "tests/unit/unit.h"

#include "tests/unit/client_fake.h"

/* The daemon of the running test. */
extern struct fake fake;

int set_up_shared(void **state);
int set_up_socket(void **state);
int tear_down(void **state);

/* Heads of tests. */
/* clang-format off */
#define SHARED(test) UNIT_TESTS(test, SHARED_ROW(test, set_up_shared, tear_down))
#define SOCKET(test) UNIT_TESTS(test, SOCKET_ROW(test, set_up_socket, tear_down))
#define BOTH(test) \
	UNIT_TESTS(test, SHARED_ROW(test, set_up_shared, tear_down), SOCKET_ROW(test, set_up_socket, tear_down))
#define SHARED_ROW(test, setup, teardown) {#test " (shared memory)", test, setup, teardown, NULL}
#define SOCKET_ROW(test, setup, teardown) {#test " (socket)", test, setup, teardown, NULL}
/* clang-format on */

/* Whether the connection's descriptor is readable. */
bool is_readable(struct xenmsg *conn);
/* Lets the library work until the session is over, which it says by this error. */
void expect_over(int error);
/* As a loop does: waits until it is, and lets the library work. */
void loop_once(struct xenmsg *conn);

/* Bytes that differ by their place and by `seed`. */
void fill(uint8_t *data, size_t size, uint32_t seed);

#endif
