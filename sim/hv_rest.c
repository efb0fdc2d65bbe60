/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether all programs of the host rest. Whoever sleeps is woken by somebody: so if no thread has run between
 * two looks at it, and all slept at both, there was a moment between the two rounds at which all slept at
 * once.
 */
#include "config.h"

#include "sim/hv.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How often a thread has gone to sleep, and was sent to. */
struct seen_thread {
	unsigned long long id, switches; /* without a gap, for memcmp() */
};

struct seen {
	struct seen_thread *thread;
	size_t count, size;
};

static bool add(struct seen *seen, pid_t id, unsigned long long switches)
{
	if (seen->count == seen->size) {
		size_t size = seen->size ? 2 * seen->size : 64;
		struct seen_thread *more = realloc(seen->thread, size * sizeof(*more));

		if (!more)
			return false;
		seen->thread = more;
		seen->size = size;
	}
	seen->thread[seen->count++] =
		(struct seen_thread){.id = (unsigned long long)id, .switches = switches};
	return true;
}

static unsigned long long number_after(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* Returns how many bytes it has; -1: it can't be read. */
static ssize_t read_text(pid_t pid, pid_t id, const char *name, char *text, size_t size)
{
	char path[64];
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, (int)id, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	length = read(fd, text, size - 1);
	close(fd);
	text[length > 0 ? length : 0] = 0;
	return length;
}

/* A thread that is about to sleep is said to sleep, also while it looks once more for what it waits for, and
 * while another one has its CPU meanwhile: wait4() of a shell has taken its child by then. Only where it
 * sleeps says whether it does (get_wchan() in the kernel's sched/core.c). That is 0, too, of whom we may not
 * look at, and by some kernels of all. */
static bool is_about_to_sleep(pid_t pid, pid_t id)
{
	static bool is_told;
	char where[128], byte[2];

	if (read_text(pid, id, "wchan", where, sizeof(where)) <= 0)
		return false;
	is_told = is_told || strcmp(where, "0") != 0;
	return is_told && !strcmp(where, "0") && read_text(pid, id, "environ", byte, sizeof(byte)) >= 0;
}

/* Returns false if it runs. One that has gone is none. */
static bool look_at_thread(struct seen *seen, pid_t pid, pid_t id)
{
	char text[4096], state = 0;
	const char *at;

	if (read_text(pid, id, "status", text, sizeof(text)) < 0)
		return true;
	at = strstr(text, "\nState:");
	if (!at || sscanf(at, "\nState: %c", &state) != 1)
		return true;
	if (strchr("ZX", state))
		return true;
	return strchr("STt", state) && !(state == 'S' && is_about_to_sleep(pid, id)) &&
	       add(seen, id,
		   number_after(text, "\nvoluntary_ctxt_switches:") +
			   number_after(text, "\nnonvoluntary_ctxt_switches:"));
}

static bool look_at(struct seen *seen, pid_t pid)
{
	char path[64];
	struct dirent *entry;
	bool rests = true;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	while (tasks && rests && (entry = readdir(tasks)))
		if (isdigit((unsigned char)entry->d_name[0]))
			rests = look_at_thread(seen, pid, (pid_t)atoi(entry->d_name));
	if (tasks)
		closedir(tasks);
	return rests;
}

bool hv_all_rest(struct hv *hv)
{
	struct seen seen[2] = {0};
	bool rest = true;

	for (int round = 0; round < 2 && rest; round++) {
		pid_t *pids;
		/* Once more each time: a program may have been started meanwhile. */
		size_t count = hv_processes_of_all(hv, &pids);

		for (size_t i = 0; i < count && rest; i++)
			rest = look_at(&seen[round], pids[i]);
		free(pids);
	}
	rest = rest && seen[0].count == seen[1].count &&
	       (seen[0].count == 0 ||
		memcmp(seen[0].thread, seen[1].thread, seen[0].count * sizeof(*seen[0].thread)) == 0);
	free(seen[0].thread);
	free(seen[1].thread);
	return rest;
}
