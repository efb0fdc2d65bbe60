/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Preloaded into programs whose allocations and copies are counted, by bench/guard and
 * tests/integration/test_steady.py (what the kernel does it counts itself: bench/kernel.py): the counts are a
 * `struct counts` in $COUNT_DIR/PID, which others read while the program runs. At SIGUSR2 a program that runs
 * under callgrind writes what it has executed since the last time. Its clocks go more slowly, and its waits
 * last longer, $COUNT_SLOWNESS times: so no time is up because it runs slowly.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_DUMP_STATS
#endif

/* bench/guard and test_steady.py read these in this order. */
struct counts {
	uint64_t allocations;
	uint64_t copied; /* bytes, by memcpy() */
	uint64_t held;	 /* allocations that weren't freed, */
	uint64_t bytes;	 /* and their sizes, with what the allocator adds */
};

static struct counts before_main, *counts = &before_main;

#define COUNT(what, n) __atomic_add_fetch(&counts->what, n, __ATOMIC_RELAXED)
#define SHOWN	       __attribute__((visibility("default")))

/* ---- allocations ----------------------------------------------------------------------------- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static void *counted(void *memory)
{
	COUNT(allocations, 1);
	if (memory)
		COUNT(held, 1);
	COUNT(bytes, malloc_usable_size(memory));
	return memory;
}

SHOWN void free(void *memory)
{
	if (memory)
		COUNT(held, -1);
	COUNT(bytes, -malloc_usable_size(memory));
	__libc_free(memory);
}

SHOWN void *malloc(size_t size)
{
	return counted(__libc_malloc(size));
}

SHOWN void *calloc(size_t number, size_t size)
{
	return counted(__libc_calloc(number, size));
}

SHOWN void *realloc(void *memory, size_t size)
{
	size_t before = malloc_usable_size(memory);
	void *other;

	if (!memory)
		return malloc(size);
	COUNT(allocations, 1);
	other = __libc_realloc(memory, size);
	if (!other && !size)
		COUNT(held, -1);
	if (other || !size)
		COUNT(bytes, malloc_usable_size(other) - before);
	return other;
}

SHOWN void *memalign(size_t alignment, size_t size)
{
	return counted(__libc_memalign(alignment, size));
}

SHOWN void *aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

SHOWN int posix_memalign(void **memory, size_t alignment, size_t size)
{
	*memory = memalign(alignment, size);
	return *memory ? 0 : ENOMEM;
}

/* ---- copies ---------------------------------------------------------------------------------- */

/* memmove() does what memcpy() does, and isn't replaced here. */
SHOWN void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
	COUNT(copied, size);
	return memmove(to, from, size);
}

/* ---- time ------------------------------------------------------------------------------------ */

#define NS     1000000000
#define CLOCKS 12 /* Linux has no more */

static int slowness;
static int64_t begun[CLOCKS]; /* when they began to be slow */
static int (*next_gettime)(clockid_t clock, struct timespec *time);
static int (*next_epoll_wait)(int epoll, struct epoll_event *events, int most, int timeout);

SHOWN int clock_gettime(clockid_t clock, struct timespec *time)
{
	int64_t ns;
	int r;

	if (!next_gettime)
		next_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	r = next_gettime(clock, time);
	if (r == 0 && slowness > 1 && (unsigned)clock < CLOCKS) {
		ns = time->tv_sec * (int64_t)NS + time->tv_nsec;
		ns = begun[clock] + (ns - begun[clock]) / slowness;
		*time = (struct timespec){.tv_sec = ns / NS, .tv_nsec = ns % NS};
	}
	return r;
}

SHOWN int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
	if (!next_epoll_wait)
		next_epoll_wait = dlsym(RTLD_NEXT, "epoll_wait");
	return next_epoll_wait(epoll, events, most,
			       timeout > 0 && slowness > 1 ? timeout * slowness : timeout);
}

static void slow_down(void)
{
	const char *text = getenv("COUNT_SLOWNESS");
	struct timespec time;

	for (clockid_t clock = 0; clock < CLOCKS; clock++)
		if (clock_gettime(clock, &time) == 0)
			begun[clock] = time.tv_sec * (int64_t)NS + time.tv_nsec;
	slowness = text ? atoi(text) : 0;
}

/* ---- the page -------------------------------------------------------------------------------- */

static void write_instructions(int number)
{
	CALLGRIND_DUMP_STATS;
}

static void __attribute__((constructor)) begin(void)
{
	struct sigaction action = {.sa_handler = write_instructions, .sa_flags = SA_RESTART};
	const char *directory = getenv("COUNT_DIR");
	char path[4096];
	void *shared;
	int fd;

	slow_down();
	sigaction(SIGUSR2, &action, NULL);
	snprintf(path, sizeof(path), "%s/%d", directory ? directory : ".", (int)getpid());
	fd = directory ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
	if (fd < 0)
		return;
	if (ftruncate(fd, sizeof(*counts)) == 0) {
		shared = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (shared != MAP_FAILED) {
			counts = shared;
			counts->held = before_main.held;
			counts->bytes = before_main.bytes;
		}
	}
	close(fd);
}
