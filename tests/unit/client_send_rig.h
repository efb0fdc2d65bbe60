/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_CLIENT_SEND_RIG_H
#define XENMSG_TESTS_CLIENT_SEND_RIG_H

/*
 * What a program posts, how each of it ends, and what the daemon gets to see of it.
 */

#include "tests/unit/client_fixture.h"

#define PENDING 12345
#define SPAN_64 (8u + 64u + 8u)

/* A done function: its userdata is an int that is PENDING, and becomes the outcome. */
void note_outcome(void *userdata, const struct xenmsg_result *result);
/* Lets the library work until this outcome is known. */
int outcome_of(const int *result);
void post(const char *address, const void *data, size_t size, int *result);
/* Does the same, and returns what it was, which can be withdrawn. */
struct xenmsg_op *begin(const char *address, const void *data, size_t size, int *result);
/* What became of something that was begun. */
struct ended {
	int times;
	struct xenmsg_result result;
	char reason[256];
};
/* A done function: its userdata is a struct ended. */
void note_end(void *userdata, const struct xenmsg_result *result);
/* Lets the library work, as a loop does, until this has ended, once. */
void loop_until(const struct ended *ended);
/* The same, and it has ended so. */
void expect_end(const struct ended *ended, int error);
/* Reads DATA frames of a channel until `size` bytes of its stream are there; the library gets to run in
 * between. */
void read_stream(uint32_t channel, uint8_t *stream, uint64_t size);
uint32_t expect_open(const char *address);

#endif
