/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_POLICY_RIG_H
#define XENMSG_TESTS_POLICY_RIG_H

/*
 * A folder of policy files that the test writes, and the questions that the daemon asks of what was read.
 */

#include "tests/unit/unit.h"

#include <stdbool.h>

#include "daemon/policy/policy.h"

#define UUID "0f0e0d0c-0b0a-4908-8706-050403020100"

struct fixture {
	char directory[64];
	char files[8][96];
	unsigned count;
	struct policy *policy;
	char *error;
};

int set_up(void **state);
int tear_down(void **state);
/* The head of a test that has a folder of its own, by its parameter `fixture`. */
#define POLICY_TEST(name)                                                                                    \
	static void name##_in(struct fixture *fixture);                                                      \
	TEST_WITH(name, set_up, tear_down)                                                                   \
	{                                                                                                    \
		name##_in(*state);                                                                           \
	}                                                                                                    \
	static void name##_in(struct fixture *fixture)
void put(struct fixture *fixture, const char *name, const char *text);
int load(struct fixture *fixture);
void rules(struct fixture *fixture, const char *text);
void refuse_bytes(struct fixture *fixture, const void *bytes, size_t size, unsigned line,
		  const char *message);
/* The file is refused, and the message begins with file and line and holds the text. */
void refuse(struct fixture *fixture, const char *text, unsigned line, const char *message);

extern const struct policy_subject guest;
extern const struct policy_subject self;

struct policy_decision reach(struct fixture *fixture, const struct policy_subject *from,
			     const char *endpoint);
bool allowed(struct fixture *fixture, const struct policy_subject *from, const char *endpoint);

#endif
