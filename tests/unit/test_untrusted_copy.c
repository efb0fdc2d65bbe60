/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is copied out of memory that somebody else changes is what is there then, whatever the compiler takes
 * for granted. */

#include "tests/unit/unit.h"
#include "wire/untrusted_copy.h"

#if defined(__x86_64__)
#define STORE "movl %1, (%0)"
#elif defined(__aarch64__)
#define STORE "str %w1, [%0]"
#endif

#ifdef STORE
/* The peer writes, of which the compiler isn't told. */
static inline __attribute__((always_inline)) void peer_writes(uint32_t *at, uint32_t value)
{
	__asm__ volatile(STORE : : "r"(at), "r"(value));
}

/* Without a barrier it reads once for both: what it has read is as good to it as what is there, in either
 * direction. */
TEST(a_copy_is_of_what_is_there_when_it_is_made)
{
	uint32_t *shared = malloc(sizeof(*shared)), first, second;

	*shared = 1;
	untrusted_copy(&first, shared, sizeof(first));
	peer_writes(shared, 2);
	untrusted_copy(&second, shared, sizeof(second));
	assert_int_equal(first, 1);
	assert_int_equal(second, 2);
	free(shared);
}
#else
TEST(a_copy_is_of_what_is_there_when_it_is_made)
{
	skip();
}
#endif
