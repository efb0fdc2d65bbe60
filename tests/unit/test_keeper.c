/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The keeper that a daemon makes itself, when descriptors have run out. A pipe stands for the handle: its
 * reading end tells whether somebody has the other one.
 */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/xen/keeper.h"
#include "daemon/xen/singleton.h"

#define LIMIT 64
#define MOST  6 /* descriptors of a keeper, its handle among them; all others are of the daemon */

/* Returns the process that this one has made. */
static pid_t child(void)
{
	char path[64];
	FILE *file;
	int pid = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &pid), 1);
	fclose(file);
	return pid;
}

static unsigned descriptors_of(pid_t pid)
{
	char path[64];
	unsigned count = 0;
	DIR *directory;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	directory = opendir(path);
	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count - 2; /* . and .. */
}

static bool is_held(int reader)
{
	struct pollfd wait = {.fd = reader};

	assert_in_range(poll(&wait, 1, 0), 0, 1);
	return !(wait.revents & POLLHUP);
}

/* As on an old kernel, where the keeper's program can't be run. */
static bool is_old;

__attribute__((visibility("default"))) int close_range(unsigned first, unsigned last, int flags)
{
	if (!is_old)
		return (int)syscall(SYS_close_range, first, last, flags);
	errno = ENOSYS;
	return -1;
}

__attribute__((visibility("default"))) int execv(const char *path, char *const arguments[])
{
	if (!is_old)
		return execve(path, arguments, environ);
	errno = ENOENT;
	return -1;
}

TEST_EACH(handle_stays_open_however_few_descriptors_are_left, 2)
{
	static const uint8_t token[KEEPER_TOKEN_SIZE];
	struct rlimit limit = {LIMIT, LIMIT};

	if (access(SINGLETON_DIRECTORY, F_OK) == 0)
		skip(); /* a daemon's own keeper may be there */
	unsetenv(KEEPER_ENVIRONMENT);
	is_old = unit_number(state) == 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int spare = 0; spare <= 4; spare++) {
		int handle[2], fill[LIMIT], filled = 0;
		pid_t pid;

		assert_int_equal(pipe2(handle, O_CLOEXEC), 0);
		while ((fill[filled] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
			filled++;
		assert_int_equal(errno, EMFILE);
		for (int i = 0; i < spare; i++)
			close(fill[--filled]);
		assert_int_equal(keeper_hold(handle[1], token), 0);
		while (filled)
			close(fill[--filled]);
		close(handle[1]);
		pid = child();
		while (descriptors_of(pid) > MOST) /* the alarm ends a test that waits in vain */
			sched_yield();
		assert_true(is_held(handle[0]));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_false(is_held(handle[0]));
		close(handle[0]);
	}
}
