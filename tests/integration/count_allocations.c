/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Preloaded into programs whose allocations a test counts: the count is the first 8 bytes of
 * $COUNT_ALLOCATIONS_DIR/PID, which the test reads while the program runs.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

static unsigned long before_main, *count = &before_main;

static void allocated(void)
{
	__atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
}

#define SHOWN __attribute__((visibility("default")))

SHOWN void *malloc(size_t size)
{
	allocated();
	return __libc_malloc(size);
}

SHOWN void *calloc(size_t number, size_t size)
{
	allocated();
	return __libc_calloc(number, size);
}

SHOWN void *realloc(void *memory, size_t size)
{
	allocated();
	return __libc_realloc(memory, size);
}

static void __attribute__((constructor)) begin(void)
{
	const char *directory = getenv("COUNT_ALLOCATIONS_DIR");
	char path[4096];
	void *shared;
	int fd;

	snprintf(path, sizeof(path), "%s/%d", directory ? directory : ".", (int)getpid());
	fd = directory ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
	if (fd < 0)
		return;
	if (ftruncate(fd, sizeof(*count)) == 0) {
		shared = mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (shared != MAP_FAILED)
			count = shared;
	}
	close(fd);
}
