/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Redirects the files that Linux has under Xen: /sys/hypervisor, /sys/module/xen_*, /dev/xen and /proc/xen
 * are looked for in the domain's own root directory instead, and so are /etc/xenmsg and /run/xenmsgd: each
 * domain is set up on its own, and has a daemon of its own. All other paths go to libc unchanged.
 */
#include "config.h"

#include "sim/preload/lib_internal.h"
#include "sim/preload/device.h"
#include "sim/preload/xen_path.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc's fortified variants, which programs call without a declaration of their own. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags);
/* The large-file names: the same functions on a 64-bit system, but names of their own to the linker. */
int open64(const char *path, int flags, ...);
int openat64(int dirfd, const char *path, int flags, ...);
FILE *fopen64(const char *path, const char *mode);

/* Whether a relative path may lead to Xen's files, since they are below the current directory: 0, not known
 * yet; 1, no. Programs such as mkdir -p go there step by step. */
static atomic_int below_current;

static bool is_above_xen_path(const char *directory)
{
	static const char *const above[] = {"/",	"/etc",	    "/run",	"/var",
					    "/var/run", "/var/lib", "/var/log", "/var/lock",
					    "/dev",	"/proc",    "/sys",	"/sys/module"};

	for (size_t i = 0; i < sizeof(above) / sizeof(above[0]); i++)
		if (strcmp(above[i], directory) == 0)
			return true;
	return false;
}

/* Returns a relative path as an absolute one, if it may be one of Xen's; NULL: it is none. */
static const char *absolute(const char *path, char *buffer)
{
	char current[PATH_MAX];
	int length;

	if (path[0] == 0 || atomic_load_explicit(&below_current, memory_order_relaxed) == 1)
		return NULL;
	if (syscall(SYS_getcwd, current, sizeof(current)) <= 0 || !is_above_xen_path(current)) {
		atomic_store(&below_current, 1);
		return NULL;
	}
	while (strncmp(path, "./", 2) == 0)
		path += 2;
	length = snprintf(buffer, PATH_MAX, "%s/%s", current[1] ? current : "", path);
	return length > 0 && length < PATH_MAX ? buffer : NULL;
}

/* glibc's header says that it isn't NULL, so the compiler would leave out the question; but programs of Rust
 * pass NULL to statx(), to see whether the kernel has it. */
static inline const char *as_it_came(const char *path)
{
	__asm__("" : "+r"(path));
	return path;
}

/* Returns the path to use; buffer holds PATH_MAX bytes. */
static const char *redirect(const char *path, char *buffer)
{
	char whole[PATH_MAX];
	const char *root, *given;
	int length;

	path = as_it_came(path);
	given = path;
	if (path && path[0] != '/')
		path = absolute(path, whole);
	if (!path || !sim_is_xen_path(path))
		return given;
	root = sim_env(SIM_ENV_ROOT);
	if (!root)
		return given;
	length = snprintf(buffer, PATH_MAX, "%s%s", root, path);
	return length > 0 && length < PATH_MAX ? buffer : given;
}

static const char *redirect_at(int dirfd, const char *path, char *buffer)
{
	path = as_it_came(path);
	return path && path[0] != '/' && dirfd != AT_FDCWD ? path : redirect(path, buffer);
}

SIM_EXPORT int chdir(const char *path)
{
	char buffer[PATH_MAX];
	int r = (int)syscall(SYS_chdir, redirect(path, buffer));

	atomic_store(&below_current, 0);
	return r;
}

SIM_EXPORT int fchdir(int fd)
{
	int r = (int)syscall(SYS_fchdir, fd);

	atomic_store(&below_current, 0);
	return r;
}

void *sim_next_function(_Atomic(void *) *cache, const char *name)
{
	void *function = atomic_load_explicit(cache, memory_order_relaxed);

	if (!function) {
		function = dlsym(RTLD_NEXT, name);
		atomic_store_explicit(cache, function, memory_order_relaxed);
	}
	return function;
}

/* What was opened, which may be a device. */
static int opened(const char *path, int fd, int flags)
{
	return path && sim_device_is(path) && sim_env(SIM_ENV_ROOT) ? sim_device_open(path, fd, flags) : fd;
}

/* open's third argument is there only if a file may be made. */
#define TAKES_MODE(flags) (((flags)&O_CREAT) || ((flags)&O_TMPFILE) == O_TMPFILE)

static mode_t mode_argument(int flags, va_list arguments)
{
	return TAKES_MODE(flags) ? va_arg(arguments, mode_t) : 0;
}

/* The next function of this name, of the type that its header gives it, or of `type`. */
#define NEXT_OF(type, name) ((type *)sim_next_function(&next, #name))

/* Defines a function that passes its arguments on, with a path redirected in `buffer`. */
#define PASSES_OF(of, type, name, parameters, ...)                                                           \
	SIM_EXPORT type name parameters                                                                      \
	{                                                                                                    \
		static _Atomic(void *) next;                                                                 \
		char buffer[PATH_MAX];                                                                       \
                                                                                                             \
		return NEXT_OF(of, name)(__VA_ARGS__);                                                       \
	}
#define PASSES(type, name, parameters, ...) PASSES_OF(__typeof__(name), type, name, parameters, __VA_ARGS__)

/* Does the same for those that open. */
#define OPENS(name, parameters, ...)                                                                         \
	SIM_EXPORT int name parameters                                                                       \
	{                                                                                                    \
		static _Atomic(void *) next;                                                                 \
		char buffer[PATH_MAX];                                                                       \
                                                                                                             \
		return opened(path, NEXT_OF(__typeof__(name), name)(__VA_ARGS__), flags);                    \
	}
#define OPENS_OR_MAKES(name, parameters, ...)                                                                \
	SIM_EXPORT int name parameters                                                                       \
	{                                                                                                    \
		static _Atomic(void *) next;                                                                 \
		char buffer[PATH_MAX];                                                                       \
		va_list arguments;                                                                           \
		mode_t mode;                                                                                 \
                                                                                                             \
		va_start(arguments, flags);                                                                  \
		mode = mode_argument(flags, arguments);                                                      \
		va_end(arguments);                                                                           \
		return opened(path, NEXT_OF(__typeof__(name), name)(__VA_ARGS__, flags, mode), flags);       \
	}

#define HERE  redirect(path, buffer)
#define THERE dirfd, redirect_at(dirfd, path, buffer)

OPENS_OR_MAKES(open, (const char *path, int flags, ...), HERE)
OPENS_OR_MAKES(open64, (const char *path, int flags, ...), HERE)
OPENS_OR_MAKES(openat, (int dirfd, const char *path, int flags, ...), THERE)
OPENS_OR_MAKES(openat64, (int dirfd, const char *path, int flags, ...), THERE)
OPENS(__open_2, (const char *path, int flags), HERE, flags)
OPENS(__open64_2, (const char *path, int flags), HERE, flags)
OPENS(__openat_2, (int dirfd, const char *path, int flags), THERE, flags)
OPENS(__openat64_2, (int dirfd, const char *path, int flags), THERE, flags)

PASSES(FILE *, fopen, (const char *path, const char *mode), HERE, mode)
PASSES(FILE *, fopen64, (const char *path, const char *mode), HERE, mode)
PASSES(int, access, (const char *path, int mode), HERE, mode)
PASSES(int, faccessat, (int dirfd, const char *path, int mode, int flags), THERE, mode, flags)
PASSES(int, stat, (const char *path, struct stat *status), HERE, status)
PASSES(int, lstat, (const char *path, struct stat *status), HERE, status)
PASSES(int, fstatat, (int dirfd, const char *path, struct stat *status, int flags), THERE, status, flags)
PASSES(int, stat64, (const char *path, struct stat64 *status), HERE, status)
PASSES(int, lstat64, (const char *path, struct stat64 *status), HERE, status)
PASSES(int, fstatat64, (int dirfd, const char *path, struct stat64 *status, int flags), THERE, status, flags)

/* Without the header's promise that the path isn't NULL, which a sanitizer would hold us to (as_it_came). */
typedef int statx_of_any_path(int dirfd, const char *path, int flags, unsigned mask, struct statx *status);

PASSES_OF(statx_of_any_path, int, statx,
	  (int dirfd, const char *path, int flags, unsigned mask, struct statx *status), THERE, flags, mask,
	  status)
PASSES(DIR *, opendir, (const char *path), HERE)
PASSES(int, mkdir, (const char *path, mode_t mode), HERE, mode)
PASSES(int, chmod, (const char *path, mode_t mode), HERE, mode)
PASSES(int, fchmodat, (int dirfd, const char *path, mode_t mode, int flags), THERE, mode, flags)
PASSES(int, chown, (const char *path, uid_t user, gid_t group), HERE, user, group)
PASSES(int, lchown, (const char *path, uid_t user, gid_t group), HERE, user, group)
PASSES(int, fchownat, (int dirfd, const char *path, uid_t user, gid_t group, int flags), THERE, user, group,
       flags)
PASSES(int, unlink, (const char *path), HERE)
PASSES(int, unlinkat, (int dirfd, const char *path, int flags), THERE, flags)

SIM_EXPORT int rename(const char *from, const char *to)
{
	static _Atomic(void *) next;
	char from_buffer[PATH_MAX], to_buffer[PATH_MAX];

	return NEXT_OF(__typeof__(rename), rename)(redirect(from, from_buffer), redirect(to, to_buffer));
}

bool sim_read_line(const char *path, char *line, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, line, size - 1);

	if (fd >= 0)
		close(fd);
	if (n < 0)
		return false;
	line[n] = 0;
	return true;
}
