/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#define TEST_NAME_SIZE 80

FILE *unit_source(const char *name)
{
	const char *srcdir = getenv("srcdir");
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", srcdir ? srcdir : ".", name);
	file = fopen(path, "r");
	if (!file)
		fail_msg("%s can't be read", path);
	return file;
}

/* Constructors run in an order that nobody promises, so the lines say where a test belongs. */
static struct CMUnitTest *tests;
static int *lines;
static size_t total;

void unit_add(int line, const struct CMUnitTest *test, int count)
{
	size_t at = total;

	tests = realloc(tests, (total + (size_t)count) * sizeof(*tests));
	lines = realloc(lines, (total + (size_t)count) * sizeof(*lines));
	if (!tests || !lines)
		abort();
	while (at > 0 && lines[at - 1] > line)
		at--;
	memmove(tests + at + count, tests + at, (total - at) * sizeof(*tests));
	memmove(lines + at + count, lines + at, (total - at) * sizeof(*lines));
	for (int i = 0; i < count; i++) {
		tests[at + (size_t)i] = *test;
		if (count > 1) {
			char *name = malloc(TEST_NAME_SIZE);

			if (!name)
				abort();
			snprintf(name, TEST_NAME_SIZE, "%s[%d]", test->name, i);
			tests[at + (size_t)i].name = name;
			tests[at + (size_t)i].initial_state = (void *)(intptr_t)i;
		}
		lines[at + (size_t)i] = line;
	}
	total += (size_t)count;
}

int unit_run(void)
{
	return _cmocka_run_group_tests("tests", tests, total, NULL, NULL);
}
