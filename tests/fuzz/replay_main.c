/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs a fuzz target over its corpus without libFuzzer, for `make check`: as replay_NAME each file of
 * tests/fuzz/corpus/NAME, and of tests/fuzz/seeds/NAME in the build, which unit tests have written and the
 * target must take; or the files named as arguments (to look at one that a fuzzer has found).
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const char fuzz_is_replayed;
const char fuzz_is_replayed = 1;

/* Returns what the target says: 0, or -1 of what it can't take; more than that: it can't be read. */
static int replay(const char *path)
{
	FILE *file = fopen(path, "re");
	uint8_t *data = NULL;
	size_t size = 0, room = 0, got;
	int r;

	if (!file) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return 1;
	}
	do {
		room = room ? 2 * room : 4096;
		data = realloc(data, room);
		if (!data)
			abort();
		got = fread(data + size, 1, room - size, file);
		size += got;
	} while (size == room);
	fclose(file);
	/* an exact copy, so that a sanitizer sees the first byte read beyond the end */
	data = realloc(data, size ? size : 1);
	if (!data)
		abort();
	r = LLVMFuzzerTestOneInput(data, size);
	free(data);
	return r;
}

/* Returns how many files the folder has, or -1: one can't be read or, if it must be, taken. */
static int replay_all(const char *directory, bool must_be_taken)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	int count = 0;

	while (dir && count >= 0 && (entry = readdir(dir))) {
		char *path;
		int r;

		if (entry->d_name[0] == '.')
			continue;
		if (asprintf(&path, "%s/%s", directory, entry->d_name) < 0)
			return -1;
		r = replay(path);
		if (r < 0 && must_be_taken)
			fprintf(stderr, "%s can't be taken\n", path);
		count = r > 0 || (r < 0 && must_be_taken) ? -1 : count + 1;
		free(path);
	}
	if (dir)
		closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	const char *srcdir = getenv("srcdir"), *name = strstr(program_invocation_short_name, "replay_");
	char *corpus, *seeds;
	int of_corpus, of_seeds;

	if (argc > 1) {
		for (int i = 1; i < argc; i++)
			if (replay(argv[i]) > 0)
				return 1;
		return 0;
	}
	if (!name)
		return 1;
	name += strlen("replay_");
	if (asprintf(&corpus, "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".", name) < 0 ||
	    asprintf(&seeds, "tests/fuzz/seeds/%s", name) < 0)
		return 1;
	of_corpus = replay_all(corpus, false);
	of_seeds = replay_all(seeds, true);
	free(corpus);
	free(seeds);
	printf("%d inputs\n", of_corpus + of_seeds);
	return of_corpus >= 0 && of_seeds >= 0 && of_corpus + of_seeds > 0 ? 0 : 1;
}
