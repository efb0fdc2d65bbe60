/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_UNIT_H
#define XENMSG_TESTS_UNIT_H

/*
 * cmocka, with the headers that it needs before its own, and tests that need no table: a program has those
 * that are defined in it, in the order of their lines. Its main() is in unit_main.c, unless it has one of its
 * own.
 */

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
/* clang-format on */

/* What is enough of seconds or turns, on a machine that is emulated, too (tests/xen/run --unit). */
static inline unsigned patience(unsigned enough)
{
	return getenv("XENMSG_TEST_EMULATED") ? 10 * enough : enough;
}

/* Opens a file of the sources; the test fails without it. */
FILE *unit_source(const char *name);

/* The head of a test, with `state` as its parameter. */
#define TEST(name) UNIT_TESTS(name, cmocka_unit_test(name))
/* Either function may be NULL. */
#define TEST_WITH(name, setup, teardown)                                                                     \
	UNIT_TESTS(name, cmocka_unit_test_setup_teardown(name, setup, teardown))
/* The same, with two parameters: the rig's `struct scene`, which setup() leaves in `state`, and its `end`. */
#define TEST_AT_END(name, setup, teardown)                                                                   \
	static void name##_at(struct scene *scene, struct end *end);                                         \
	TEST_WITH(name, setup, teardown)                                                                     \
	{                                                                                                    \
		struct scene *scene = *state;                                                                \
                                                                                                             \
		name##_at(scene, &scene->end);                                                               \
	}                                                                                                    \
	static void name##_at(struct scene *scene, struct end *end)
/* A test that runs so often, with the numbers from 0. */
#define TEST_EACH(name, count) UNIT_TESTS_EACH(name, count, cmocka_unit_test(name))
static inline int unit_number(void **state)
{
	return (int)(intptr_t)*state;
}

/* The head of a test with a scene of its rig, which is its parameter `scene`: start(scene) begins it before
 * the test, and scene_stop(scene) ends it behind. */
#define SCENE_TEST(name, start) SCENE_TEST_EACH(name, start, unit_only, 1)
/* A test that runs so often, each time with another scene. Its second parameter, `number`, goes from 0. */
#define SCENE_TEST_EACH(name, start, number, count)                                                          \
	static void name##_in(struct scene *, int);                                                          \
	TEST_EACH(name, count)                                                                               \
	{                                                                                                    \
		struct scene *unit_scene = calloc(1, sizeof(*unit_scene));                                   \
                                                                                                             \
		assert_non_null(unit_scene);                                                                 \
		start(unit_scene);                                                                           \
		name##_in(unit_scene, unit_number(state));                                                   \
		scene_stop(unit_scene);                                                                      \
		free(unit_scene);                                                                            \
	}                                                                                                    \
	static void name##_in(struct scene *scene, int number)
#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

/* The head of a function that runs before all tests. */
#define BEFORE_ALL __attribute__((constructor)) static void before_all(void)

/* The head of a function that is one or more tests: behind its name are rows as in cmocka's tables. */
#define UNIT_TESTS(name, ...) UNIT_TESTS_EACH(name, 1, __VA_ARGS__)
#define UNIT_TESTS_EACH(name, count, ...)                                                                    \
	static void name(void **state);                                                                      \
	__attribute__((constructor)) static void name##_is_a_test(void)                                      \
	{                                                                                                    \
		const struct CMUnitTest unit_rows[] = {__VA_ARGS__};                                         \
                                                                                                             \
		for (size_t i = 0; i < sizeof(unit_rows) / sizeof(unit_rows[0]); i++)                        \
			unit_add(__LINE__, &unit_rows[i], count);                                            \
	}                                                                                                    \
	static void name(__attribute__((unused)) void **state)

/* Adds a test behind those of earlier lines, so often; then its name says which time it is. */
void unit_add(int line, const struct CMUnitTest *test, int count);
/* Runs all that were added. Returns how many have failed. */
int unit_run(void);

#endif
