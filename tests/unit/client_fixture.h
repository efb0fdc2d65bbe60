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

/* Rows of a table of tests. */
/* clang-format off */
#define SHARED(test) {#test " (shared memory)", test, set_up_shared, tear_down, NULL}
#define SOCKET(test) {#test " (socket)", test, set_up_socket, tear_down, NULL}
#define BOTH(test) SHARED(test), SOCKET(test)
/* clang-format on */

/* Bytes that differ by their place and by `seed`. */
void fill(uint8_t *data, size_t size, uint32_t seed);

#endif
