/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs a fuzz target over its corpus without libFuzzer, for `make check`: as replay_NAME each file of
 * tests/fuzz/corpus/NAME, or the files named as arguments (to look at one that a fuzzer has found).
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
	FILE *file = fopen(path, "re");
	uint8_t *data = NULL;
	size_t size = 0, room = 0, got;

	if (!file) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
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
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 0;
}

int main(int argc, char **argv)
{
	const char *srcdir = getenv("srcdir"), *name = strstr(program_invocation_short_name, "replay_");
	unsigned count = 0;
	char *directory;
	struct dirent *entry;
	DIR *dir;

	if (argc > 1) {
		for (int i = 1; i < argc; i++)
			if (replay(argv[i]) < 0)
				return 1;
		return 0;
	}
	if (!name || asprintf(&directory, "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".",
			      name + strlen("replay_")) < 0)
		return 1;
	dir = opendir(directory);
	if (!dir) {
		fprintf(stderr, "%s: %s\n", directory, strerror(errno));
		return 1;
	}
	while ((entry = readdir(dir))) {
		char *path;

		if (entry->d_name[0] == '.')
			continue;
		if (asprintf(&path, "%s/%s", directory, entry->d_name) < 0 || replay(path) < 0)
			return 1;
		free(path);
		count++;
	}
	closedir(dir);
	free(directory);
	printf("%u inputs\n", count);
	return count ? 0 : 1; /* an empty corpus tests nothing */
}
