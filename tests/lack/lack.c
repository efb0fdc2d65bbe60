/* SPDX-License-Identifier: LGPL-2.1-or-later
 * Preloaded into xenmsgd: notes each distinct place that asks for memory, a descriptor, a mapping, a thread
 * or a transfer, in the file $LACK_TABLE, which `run` reads; and lets one fail, once. A place is the way
 * there: the callers up to the second one in the program itself, as offsets, the same in each run.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <grp.h>
#include <link.h>
#include <pthread.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define PLACES 16384u /* as in run */
#define FRAMES 12

struct place {
	uint64_t id;
	uint64_t own[2]; /* offsets in the program */
	char call[16];
};

struct table {
	uint64_t target, failed; /* the place that is to fail; the one that did */
	struct place places[PLACES];
};

static struct table *table;
static const char *sim_at, *self_at;
static __thread int inside;

static const char *base_of(void *pc, int *is_program)
{
	struct dl_find_object found;

	if (_dl_find_object(pc, &found) < 0)
		return NULL;
	*is_program = !found.dlfo_link_map->l_prev;
	return found.dlfo_map_start;
}

static int note_sim(struct dl_phdr_info *info, size_t size, void *unused)
{
	int is_program;

	if (strstr(info->dlpi_name, "libxensim"))
		sim_at = base_of((void *)(info->dlpi_addr + info->dlpi_phdr[0].p_vaddr), &is_program);
	return 0;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("LACK_TABLE");
	char name[4096] = "";
	void *frames[2], *at;
	int fd, is_program;

	if (!path || readlink("/proc/self/exe", name, sizeof(name) - 1) < 0 ||
	    !strstr(name, getenv("LACK_PROGRAM")) || (fd = open(path, O_RDWR | O_CLOEXEC)) < 0)
		return;
	at = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	backtrace(frames, 2); /* which asks for memory the first time */
	self_at = base_of((void *)begin, &is_program);
	dl_iterate_phdr(note_sim, NULL);
	table = at == MAP_FAILED ? NULL : at;
}

/* Whether this call, by its way here, fails now. */
static int lacks(const char *call)
{
	uint64_t hash = 14695981039346656037u, own[2] = {0};
	void *frames[FRAMES];
	int count, seen = 0, is_first = 1;

	if (!table || inside)
		return 0;
	inside = 1;
	count = backtrace(frames, FRAMES);
	for (int i = 0; i < count && seen < 2; i++) {
		int is_program = 0;
		const char *base = base_of(frames[i], &is_program);

		if (base == self_at)
			continue;
		if (is_first && base == sim_at && sim_at)
			goto not ; /* the simulator's own */
		is_first = 0;
		hash = (hash ^ (uint64_t)((char *)frames[i] - base)) * 1099511628211u;
		if (is_program)
			own[seen++] = (uint64_t)((char *)frames[i] - base) - 1;
	}
	hash = (hash ^ (uint64_t)call[0]) * 1099511628211u;
	if (!seen)
		goto not ; /* before main(), or of another library's thread */
	for (uint64_t n = 0, i = hash % PLACES; n < PLACES; n++, i = (i + 1) % PLACES) {
		struct place *place = &table->places[i];
		uint64_t none = 0;

		if (__atomic_compare_exchange_n(&place->id, &none, hash, 0, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST)) {
			memcpy(place->own, own, sizeof(own));
			strncpy(place->call, call, sizeof(place->call) - 1);
		}
		if (place->id == hash)
			break;
	}
	if (__atomic_compare_exchange_n(&table->target, &hash, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		table->failed = hash;
		inside = 0;
		return 1;
	}
	not : inside = 0;
	return 0;
}

#define REAL(name)                                                                                           \
	static __typeof__(name) *real;                                                                       \
	if (!real)                                                                                           \
	real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* A call that returns -1 and sets errno. */
#define FAILS(type, name, error, parameters, ...)                                                            \
	type name parameters                                                                                 \
	{                                                                                                    \
		REAL(name);                                                                                  \
		if (lacks(#name)) {                                                                          \
			errno = error;                                                                       \
			return (type)-1;                                                                     \
		}                                                                                            \
		return real(__VA_ARGS__);                                                                    \
	}

/* One in which nothing fails: glibc 2.36 ends in an assertion or by SIGSEGV where it lacks memory for
 * its table of databases. */
#define WHOLE(type, name, parameter)                                                                         \
	type name(parameter what)                                                                            \
	{                                                                                                    \
		int was = inside;                                                                            \
		type found;                                                                                  \
		REAL(name);                                                                                  \
		inside = 1;                                                                                  \
		found = real(what);                                                                          \
		inside = was;                                                                                \
		return found;                                                                                \
	}

WHOLE(struct passwd *, getpwuid, uid_t)
WHOLE(struct passwd *, getpwnam, const char *)
WHOLE(struct group *, getgrgid, gid_t)
WHOLE(struct group *, getgrnam, const char *)

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);

void *malloc(size_t size)
{
	if (!lacks("malloc"))
		return __libc_malloc(size);
	errno = ENOMEM;
	return NULL;
}

void *calloc(size_t count, size_t size)
{
	if (!lacks("calloc"))
		return __libc_calloc(count, size);
	errno = ENOMEM;
	return NULL;
}

void *realloc(void *old, size_t size)
{
	if (!lacks("realloc"))
		return __libc_realloc(old, size);
	errno = ENOMEM;
	return NULL;
}

FAILS(void *, mmap, ENOMEM, (void *at, size_t size, int protection, int flags, int fd, off_t offset), at,
      size, protection, flags, fd, offset)
FAILS(int, memfd_create, EMFILE, (const char *name, unsigned flags), name, flags)
FAILS(int, eventfd, EMFILE, (unsigned count, int flags), count, flags)
FAILS(int, epoll_create1, EMFILE, (int flags), flags)
FAILS(int, timerfd_create, EMFILE, (int clock, int flags), clock, flags)
FAILS(int, inotify_init1, EMFILE, (int flags), flags)
FAILS(int, inotify_add_watch, ENOSPC, (int fd, const char *path, uint32_t mask), fd, path, mask)
FAILS(int, socket, EMFILE, (int domain, int type, int protocol), domain, type, protocol)
FAILS(int, socketpair, EMFILE, (int domain, int type, int protocol, int fds[2]), domain, type, protocol, fds)
FAILS(int, accept4, EMFILE, (int fd, struct sockaddr *address, socklen_t *size, int flags), fd, address, size,
      flags)
FAILS(int, dup, EMFILE, (int fd), fd)
FAILS(int, pipe2, EMFILE, (int fds[2], int flags), fds, flags)
FAILS(ssize_t, sendmsg, ENOBUFS, (int fd, const struct msghdr *message, int flags), fd, message, flags)
FAILS(ssize_t, send, ENOBUFS, (int fd, const void *data, size_t size, int flags), fd, data, size, flags)
FAILS(ssize_t, recvmsg, ENOMEM, (int fd, struct msghdr *message, int flags), fd, message, flags)

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	REAL(epoll_ctl);
	if (operation != EPOLL_CTL_DEL && lacks("epoll_ctl")) {
		errno = ENOMEM;
		return -1;
	}
	return real(epoll, operation, fd, event);
}

int open(const char *path, int flags, ...)
{
	va_list more;
	mode_t mode;

	REAL(open);
	va_start(more, flags);
	mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
	va_end(more);
	if (lacks("open")) {
		errno = EMFILE;
		return -1;
	}
	return real(path, flags, mode);
}

FILE *fopen(const char *path, const char *mode)
{
	REAL(fopen);
	if (lacks("fopen")) {
		errno = EMFILE;
		return NULL;
	}
	return real(path, mode);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
		   void *argument)
{
	REAL(pthread_create);
	return lacks("pthread_create") ? EAGAIN : real(thread, attributes, start, argument);
}
