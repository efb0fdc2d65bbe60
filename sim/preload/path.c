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

SIM_EXPORT int open(const char *path, int flags, ...)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = mode_argument(flags, arguments);
	va_end(arguments);
	return opened(
		path,
		((__typeof__(&open))sim_next_function(&next, "open"))(redirect(path, buffer), flags, mode),
		flags);
}

SIM_EXPORT int open64(const char *path, int flags, ...)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = mode_argument(flags, arguments);
	va_end(arguments);
	return opened(path,
		      ((__typeof__(&open64))sim_next_function(&next, "open64"))(redirect(path, buffer), flags,
										mode),
		      flags);
}

SIM_EXPORT int openat(int dirfd, const char *path, int flags, ...)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = mode_argument(flags, arguments);
	va_end(arguments);
	return opened(path,
		      ((__typeof__(&openat))sim_next_function(&next, "openat"))(
			      dirfd, redirect_at(dirfd, path, buffer), flags, mode),
		      flags);
}

SIM_EXPORT int openat64(int dirfd, const char *path, int flags, ...)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = mode_argument(flags, arguments);
	va_end(arguments);
	return opened(path,
		      ((__typeof__(&openat64))sim_next_function(&next, "openat64"))(
			      dirfd, redirect_at(dirfd, path, buffer), flags, mode),
		      flags);
}

SIM_EXPORT int __open_2(const char *path, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return opened(
		path,
		((__typeof__(&__open_2))sim_next_function(&next, "__open_2"))(redirect(path, buffer), flags),
		flags);
}

SIM_EXPORT int __open64_2(const char *path, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return opened(path,
		      ((__typeof__(&__open64_2))sim_next_function(&next, "__open64_2"))(
			      redirect(path, buffer), flags),
		      flags);
}

SIM_EXPORT int __openat_2(int dirfd, const char *path, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return opened(path,
		      ((__typeof__(&__openat_2))sim_next_function(&next, "__openat_2"))(
			      dirfd, redirect_at(dirfd, path, buffer), flags),
		      flags);
}

SIM_EXPORT int __openat64_2(int dirfd, const char *path, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return opened(path,
		      ((__typeof__(&__openat64_2))sim_next_function(&next, "__openat64_2"))(
			      dirfd, redirect_at(dirfd, path, buffer), flags),
		      flags);
}

SIM_EXPORT FILE *fopen(const char *path, const char *mode)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&fopen))sim_next_function(&next, "fopen"))(redirect(path, buffer), mode);
}

SIM_EXPORT FILE *fopen64(const char *path, const char *mode)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&fopen64))sim_next_function(&next, "fopen64"))(redirect(path, buffer), mode);
}

SIM_EXPORT int access(const char *path, int mode)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&access))sim_next_function(&next, "access"))(redirect(path, buffer), mode);
}

SIM_EXPORT int faccessat(int dirfd, const char *path, int mode, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&faccessat))sim_next_function(&next, "faccessat"))(
		dirfd, redirect_at(dirfd, path, buffer), mode, flags);
}

SIM_EXPORT int stat(const char *path, struct stat *status)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&stat))sim_next_function(&next, "stat"))(redirect(path, buffer), status);
}

SIM_EXPORT int lstat(const char *path, struct stat *status)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&lstat))sim_next_function(&next, "lstat"))(redirect(path, buffer), status);
}

SIM_EXPORT int fstatat(int dirfd, const char *path, struct stat *status, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&fstatat))sim_next_function(&next, "fstatat"))(
		dirfd, redirect_at(dirfd, path, buffer), status, flags);
}

SIM_EXPORT int stat64(const char *path, struct stat64 *status)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&stat64))sim_next_function(&next, "stat64"))(redirect(path, buffer), status);
}

SIM_EXPORT int lstat64(const char *path, struct stat64 *status)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&lstat64))sim_next_function(&next, "lstat64"))(redirect(path, buffer), status);
}

SIM_EXPORT int fstatat64(int dirfd, const char *path, struct stat64 *status, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&fstatat64))sim_next_function(&next, "fstatat64"))(
		dirfd, redirect_at(dirfd, path, buffer), status, flags);
}

/* Without the header's promise that the path isn't NULL, which a sanitizer would hold us to (as_it_came). */
typedef int statx_of_any_path(int dirfd, const char *path, int flags, unsigned mask, struct statx *status);

SIM_EXPORT int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *status)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((statx_of_any_path *)sim_next_function(&next, "statx"))(
		dirfd, redirect_at(dirfd, path, buffer), flags, mask, status);
}

SIM_EXPORT DIR *opendir(const char *path)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&opendir))sim_next_function(&next, "opendir"))(redirect(path, buffer));
}

SIM_EXPORT int mkdir(const char *path, mode_t mode)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&mkdir))sim_next_function(&next, "mkdir"))(redirect(path, buffer), mode);
}

SIM_EXPORT int chmod(const char *path, mode_t mode)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&chmod))sim_next_function(&next, "chmod"))(redirect(path, buffer), mode);
}

SIM_EXPORT int fchmodat(int dirfd, const char *path, mode_t mode, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&fchmodat))sim_next_function(&next, "fchmodat"))(
		dirfd, redirect_at(dirfd, path, buffer), mode, flags);
}

SIM_EXPORT int chown(const char *path, uid_t user, gid_t group)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&chown))sim_next_function(&next, "chown"))(redirect(path, buffer), user, group);
}

SIM_EXPORT int lchown(const char *path, uid_t user, gid_t group)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&lchown))sim_next_function(&next, "lchown"))(redirect(path, buffer), user, group);
}

SIM_EXPORT int fchownat(int dirfd, const char *path, uid_t user, gid_t group, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&fchownat))sim_next_function(&next, "fchownat"))(
		dirfd, redirect_at(dirfd, path, buffer), user, group, flags);
}

SIM_EXPORT int rename(const char *from, const char *to)
{
	static _Atomic(void *) next;
	char from_buffer[PATH_MAX], to_buffer[PATH_MAX];

	return ((__typeof__(&rename))sim_next_function(&next, "rename"))(redirect(from, from_buffer),
									 redirect(to, to_buffer));
}

SIM_EXPORT int unlink(const char *path)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&unlink))sim_next_function(&next, "unlink"))(redirect(path, buffer));
}

SIM_EXPORT int unlinkat(int dirfd, const char *path, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&unlinkat))sim_next_function(&next, "unlinkat"))(
		dirfd, redirect_at(dirfd, path, buffer), flags);
}
