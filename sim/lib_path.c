/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Redirects the files that Linux has under Xen: /sys/hypervisor, /sys/module/xen_*, /dev/xen and /proc/xen
 * are looked for in the domain's own root directory instead, and so are /etc/xenmsg and /run/xenmsgd: each
 * domain is set up on its own, and has a daemon of its own. All other paths go to libc unchanged.
 */
#include "config.h"

#include "sim/lib.h"

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

static bool is_xen_path(const char *path)
{
	static const char *const prefixes[] = {"/sys/hypervisor", "/dev/xen", "/proc/xen", "/etc/xenmsg",
					       "/run/xenmsgd"};

	if (path[0] != '/')
		return false;
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t length = strlen(prefixes[i]);

		if (strncmp(path, prefixes[i], length) == 0 && (path[length] == '/' || path[length] == 0))
			return true;
	}
	return strncmp(path, "/sys/module/xen_", 16) == 0;
}

/* Returns the path to use; buffer holds PATH_MAX bytes. */
static const char *redirect(const char *path, char *buffer)
{
	const char *root;
	int length;

	if (!path || !is_xen_path(path))
		return path;
	root = sim_env(SIM_ENV_ROOT);
	if (!root)
		return path;
	length = snprintf(buffer, PATH_MAX, "%s%s", root, path);
	return length > 0 && length < PATH_MAX ? buffer : path;
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
	return ((__typeof__(&open))sim_next_function(&next, "open"))(redirect(path, buffer), flags, mode);
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
	return ((__typeof__(&open64))sim_next_function(&next, "open64"))(redirect(path, buffer), flags, mode);
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
	return ((__typeof__(&openat))sim_next_function(&next, "openat"))(dirfd, redirect(path, buffer), flags,
									 mode);
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
	return ((__typeof__(&openat64))sim_next_function(&next, "openat64"))(dirfd, redirect(path, buffer),
									     flags, mode);
}

SIM_EXPORT int __open_2(const char *path, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&__open_2))sim_next_function(&next, "__open_2"))(redirect(path, buffer), flags);
}

SIM_EXPORT int __open64_2(const char *path, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&__open64_2))sim_next_function(&next, "__open64_2"))(redirect(path, buffer),
										 flags);
}

SIM_EXPORT int __openat_2(int dirfd, const char *path, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&__openat_2))sim_next_function(&next, "__openat_2"))(
		dirfd, redirect(path, buffer), flags);
}

SIM_EXPORT int __openat64_2(int dirfd, const char *path, int flags)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&__openat64_2))sim_next_function(&next, "__openat64_2"))(
		dirfd, redirect(path, buffer), flags);
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

	return ((__typeof__(&faccessat))sim_next_function(&next, "faccessat"))(dirfd, redirect(path, buffer),
									       mode, flags);
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

	return ((__typeof__(&fstatat))sim_next_function(&next, "fstatat"))(dirfd, redirect(path, buffer),
									   status, flags);
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

	return ((__typeof__(&fstatat64))sim_next_function(&next, "fstatat64"))(dirfd, redirect(path, buffer),
									       status, flags);
}

SIM_EXPORT int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *status)
{
	static _Atomic(void *) next;
	char buffer[PATH_MAX];

	return ((__typeof__(&statx))sim_next_function(&next, "statx"))(dirfd, redirect(path, buffer), flags,
								       mask, status);
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

	return ((__typeof__(&fchmodat))sim_next_function(&next, "fchmodat"))(dirfd, redirect(path, buffer),
									     mode, flags);
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

	return ((__typeof__(&fchownat))sim_next_function(&next, "fchownat"))(dirfd, redirect(path, buffer),
									     user, group, flags);
}
