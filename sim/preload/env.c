/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A program that clears its environment, or starts another one with a cleared environment, is still in its
 * domain on Xen. Here the environment says which domain that is, and has this library loaded. So the settings
 * are kept from the start of the program, and put into an environment that has none of them whenever the
 * program runs another one.
 *
 * An environment with SIM_ENV_CONTROL isn't a cleared one: what is missing there was taken out on purpose, as
 * by `env -u LD_PRELOAD CMD`.
 */
#include "config.h"

#include "sim/preload/lib_internal.h"

#include <alloca.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PRELOAD "LD_PRELOAD"

static const char *const names[] = {SIM_ENV_CONTROL,  SIM_ENV_ROOT,    SIM_ENV_DOMID, SIM_ENV_UUID,
				    "XENSTORED_PATH", "XENMSG_SOCKET", PRELOAD};
#define NAMES (sizeof(names) / sizeof(names[0]))

/* NAME=VALUE of those that were set when the program was started. */
static char *kept[NAMES];

static void __attribute__((constructor)) keep_environment(void)
{
	if (!getenv(SIM_ENV_CONTROL))
		return;
	for (size_t i = 0; i < NAMES; i++) {
		const char *value = getenv(names[i]);

		if (value && asprintf(&kept[i], "%s=%s", names[i], value) < 0)
			kept[i] = NULL;
	}
}

const char *sim_env(const char *name)
{
	const char *value = getenv(name);

	for (size_t i = 0; !value && i < NAMES; i++)
		if (kept[i] && strcmp(names[i], name) == 0)
			value = strchr(kept[i], '=') + 1;
	return value;
}

/* Returns where a setting is, or NULL. */
static char *const *find(char *const *environment, const char *name)
{
	size_t length = strlen(name);

	for (; *environment; environment++)
		if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
			return environment;
	return NULL;
}

/* What fill() needs room for. */
struct room_needed {
	size_t entries;
	size_t preload; /* bytes of a value of LD_PRELOAD that is the program's and ours; 0: none */
};

static struct room_needed measure(char *const *environment)
{
	struct room_needed room = {.entries = NAMES + 1};
	char *const *theirs = find(environment, PRELOAD);

	while (environment[room.entries - NAMES - 1])
		room.entries++;
	if (theirs && kept[NAMES - 1])
		room.preload = strlen(*theirs) + strlen(kept[NAMES - 1]) + 1;
	return room;
}

/* Copies the environment, and adds what was kept and isn't there. Allocates nothing: its caller may be a
 * child of vfork(). */
static char *const *env_fill(char *const *environment, char **filled, char *preload)
{
	size_t count = 0;

	for (; environment[count]; count++)
		filled[count] = environment[count];
	filled[count] = NULL;
	for (size_t i = 0; i < NAMES; i++) {
		char **theirs = (char **)find(filled, names[i]);

		if (!kept[i])
			continue;
		if (!theirs) {
			filled[count++] = kept[i];
			filled[count] = NULL;
		} else if (strcmp(names[i], PRELOAD) == 0) {
			sprintf(preload, "%s:%s", kept[i], *theirs + sizeof(PRELOAD));
			*theirs = preload;
		}
	}
	return filled;
}

static char *const nothing[] = {NULL};

static char *const *not_null(char *const *environment)
{
	return environment ? environment : nothing;
}

static bool is_cleared(char *const *environment)
{
	return kept[0] && !find(environment, SIM_ENV_CONTROL);
}

/* The environment for another program. A macro, since the caller's stack has the memory. */
#define COMPLETE(environment)                                                                                \
	({                                                                                                   \
		char *const *given = not_null(environment);                                                  \
		struct room_needed room = measure(given);                                                    \
		is_cleared(given) ? env_fill(given, alloca(room.entries * sizeof(char *)),                   \
					     room.preload ? alloca(room.preload) : NULL)                     \
				  : given;                                                                   \
	})

#define NEXT(name)                                                                                           \
	({                                                                                                   \
		static _Atomic(void *) next;                                                                 \
		(__typeof__(&name))sim_next_function(&next, #name);                                          \
	})

/* A call that comes back only if it fails. */
#define RUN(call)                                                                                            \
	({                                                                                                   \
		int r;                                                                                       \
                                                                                                             \
		sim_end_threads();                                                                           \
		r = (call);                                                                                  \
		sim_keep_threads();                                                                          \
		r;                                                                                           \
	})

SIM_EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	return RUN(NEXT(execve)(path, argv, COMPLETE(envp)));
}

SIM_EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	if (strchr(file, '/'))
		return execve(file, argv, envp);
	return RUN(NEXT(execvpe)(file, argv, COMPLETE(envp)));
}

SIM_EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

SIM_EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

SIM_EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	return RUN(NEXT(fexecve)(fd, argv, COMPLETE(envp)));
}

/* Collects the arguments behind the first one up to NULL, on the caller's stack. */
#define COLLECT(first, arguments)                                                                            \
	({                                                                                                   \
		va_list copy;                                                                                \
		size_t count = 1;                                                                            \
		char **collected;                                                                            \
                                                                                                             \
		va_copy(copy, arguments);                                                                    \
		while (va_arg(copy, char *))                                                                 \
			count++;                                                                             \
		va_end(copy);                                                                                \
		collected = alloca((count + 1) * sizeof(*collected));                                        \
		collected[0] = (char *)first;                                                                \
		for (size_t i = 1; i <= count; i++)                                                          \
			collected[i] = va_arg(arguments, char *);                                            \
		collected;                                                                                   \
	})

SIM_EXPORT int execl(const char *path, const char *first, ...)
{
	va_list arguments;
	char **argv;

	va_start(arguments, first);
	argv = COLLECT(first, arguments);
	va_end(arguments);
	return execve(path, argv, environ);
}

SIM_EXPORT int execlp(const char *file, const char *first, ...)
{
	va_list arguments;
	char **argv;

	va_start(arguments, first);
	argv = COLLECT(first, arguments);
	va_end(arguments);
	return execvpe(file, argv, environ);
}

SIM_EXPORT int execle(const char *path, const char *first, ...)
{
	va_list arguments;
	char **argv, *const *envp;

	va_start(arguments, first);
	argv = COLLECT(first, arguments);
	envp = va_arg(arguments, char *const *);
	va_end(arguments);
	return execve(path, argv, envp);
}

SIM_EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
			   const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
	return NEXT(posix_spawn)(pid, path, actions, attributes, argv, COMPLETE(envp));
}

SIM_EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			    const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
	return NEXT(posix_spawnp)(pid, file, actions, attributes, argv, COMPLETE(envp));
}

/* libxenstore asks the environment of the program itself. */
SIM_EXPORT int clearenv(void)
{
	int r = NEXT(clearenv)();

	for (size_t i = 0; r == 0 && i < NAMES; i++)
		if (kept[i])
			putenv(kept[i]);
	return r;
}
