/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds the processes that live in a domain. There is no container around a simulated domain (that would need
 * privileges), so they are found by what they can't easily lose: the domain's UUID in the environment they
 * were started with, a connection to the hypervisor, or a parent that has one of these.
 */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

/* Programs that fork without an end hold nobody up for longer. */
#define MOST_ROUNDS 100

struct process {
	pid_t pid, parent;
	unsigned long long started;
	char *setting; /* what its environment says of its domain; NULL: nothing */
	bool inside;   /* of the domain that is looked at */
	bool done;     /* it has had its signal */
};

struct hv_process_table {
	struct process *process; /* by pid */
	size_t count, size;
	unsigned long long host_started;
};

/* Reads at most size - 1 bytes and adds a NUL. Returns their number, 0 if there is nothing to read. */
static size_t read_file(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t n;

	if (fd < 0)
		return 0;
	while (length < size - 1 && (n = read(fd, buffer + length, size - 1 - length)) > 0)
		length += (size_t)n;
	close(fd);
	buffer[length] = 0;
	return length;
}

/* Returns the parent, or -1 for a process that is dead or gone; *started, unless NULL, tells when it was
 * started. */
static pid_t parent_of(pid_t pid, unsigned long long *started)
{
	char path[64], text[1024], state;
	const char *end;
	int parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (!read_file(path, text, sizeof(text)))
		return -1;
	/* The command's name, in parentheses, may contain anything. */
	end = strrchr(text, ')');
	if (!end || sscanf(end + 1, " %c %d", &state, &parent) != 2 || state == 'Z' || state == 'X')
		return -1;
	if (started &&
	    sscanf(end + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		   started) != 1)
		return -1;
	return parent;
}

/* Returns the value of SIM_ENV_UUID that the process was started with. NULL: it has none. */
static char *setting_of(pid_t pid, char *buffer, size_t size)
{
	static const char name[] = SIM_ENV_UUID "=";
	char path[64];
	size_t length;

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	length = read_file(path, buffer, size);
	for (const char *at = buffer; at < buffer + length; at += strlen(at) + 1)
		if (!strncmp(at, name, sizeof(name) - 1))
			return strdup(at + sizeof(name) - 1);
	return NULL;
}

static bool is_known(const struct hv_domain *domain, const struct process *process)
{
	const struct hv_client *client;

	DL_FOREACH(domain->clients, client)
		if (client->pid == process->pid)
			return true;
	for (size_t i = 0; i < domain->starting_count; i++)
		if (domain->starting[i].pid == process->pid &&
		    domain->starting[i].started == process->started)
			return true;
	return false;
}

static struct process *table_add(struct hv_process_table *table)
{
	if (table->count == table->size) {
		size_t size = table->size ? 2 * table->size : 256;
		struct process *process = realloc(table->process, size * sizeof(*process));

		if (!process)
			return NULL;
		table->process = process;
		table->size = size;
	}
	return &table->process[table->count++];
}

static int by_pid(const void *a, const void *b)
{
	const struct process *one = a, *other = b;

	return (one->pid > other->pid) - (one->pid < other->pid);
}

static void add_descendants(struct hv_process_table *table)
{
	bool found = true;

	while (found) {
		found = false;
		for (size_t i = 0; i < table->count; i++) {
			struct process *process = &table->process[i];
			const struct process key = {.pid = process->parent};
			const struct process *parent =
				process->inside
					? NULL
					: bsearch(&key, table->process, table->count, sizeof(key), by_pid);

			if (parent && parent->inside)
				found = process->inside = true;
		}
	}
}

/* Adds what it hasn't: what was there at an earlier look isn't looked at again, which is nearly all. */
static void look(struct hv_process_table *table)
{
	static const size_t environment_size = 256 * 1024;
	char *buffer = malloc(environment_size);
	DIR *proc = opendir("/proc");
	const size_t known = table->count;
	struct dirent *entry;

	while (buffer && proc && (entry = readdir(proc))) {
		struct process found = {.pid = (pid_t)atoi(entry->d_name)}, *process;

		if (!isdigit((unsigned char)entry->d_name[0]) || found.pid == getpid() ||
		    (known && bsearch(&found, table->process, known, sizeof(found), by_pid)))
			continue;
		found.parent = parent_of(found.pid, &found.started);
		if (found.parent < 0)
			continue;
		process = table_add(table);
		if (!process)
			break;
		/* To read an environment costs ten times the rest. One that is older than the host has come
		 * into a domain by `xensim exec` alone, which tells (hv_processes_add()). */
		if (found.started >= table->host_started)
			found.setting = setting_of(found.pid, buffer, environment_size);
		*process = found;
	}
	if (proc)
		closedir(proc);
	free(buffer);
	if (table->count > known)
		qsort(table->process, table->count, sizeof(*table->process), by_pid);
}

struct hv_process_table *hv_process_table_new(void)
{
	struct hv_process_table *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	parent_of(getpid(), &table->host_started);
	look(table);
	return table;
}

void hv_process_table_free(struct hv_process_table *table)
{
	if (!table)
		return;
	for (size_t i = 0; i < table->count; i++)
		free(table->process[i].setting);
	free(table->process);
	free(table);
}

/* Marks what lives in the domain, beside what is marked already; their descendants aren't yet. */
static void mark(struct hv_process_table *table, const struct hv_domain *domain)
{
	char *setting = NULL;

	/* The directory is a part of it, since domain 0 has the same UUID on every host. */
	if (asprintf(&setting, "%s@%s", domain->uuid, domain->hv->dir) < 0)
		setting = NULL;
	for (size_t i = 0; i < table->count; i++) {
		struct process *process = &table->process[i];

		process->inside = process->inside || is_known(domain, process) ||
				  (setting && process->setting && !strcmp(process->setting, setting));
	}
	free(setting);
}

static size_t count_inside(const struct hv_process_table *table)
{
	size_t count = 0;

	for (size_t i = 0; i < table->count; i++)
		count += table->process[i].inside;
	return count;
}

size_t hv_processes_count(struct hv_process_table *table, const struct hv_domain *domain)
{
	if (!table)
		return 0;
	for (size_t i = 0; i < table->count; i++)
		table->process[i].inside = false;
	mark(table, domain);
	add_descendants(table);
	return count_inside(table);
}

/* Returns how many are marked; the caller frees `pids`. */
static size_t take_inside(const struct hv_process_table *table, pid_t **pids)
{
	size_t count = table ? count_inside(table) : 0, found = 0;

	*pids = calloc(count + 1, sizeof(**pids));
	for (size_t i = 0; *pids && found < count; i++)
		if (table->process[i].inside)
			(*pids)[found++] = table->process[i].pid;
	return found;
}

size_t hv_processes_in(struct hv_process_table *table, const struct hv_domain *domain, pid_t **pids)
{
	hv_processes_count(table, domain);
	return take_inside(table, pids);
}

/* Nothing was ever started in a domain without files. */
static bool is_empty(const struct hv_domain *domain)
{
	return !domain->has_files && !domain->clients;
}

/* Marks the processes of a domain; NULL: of all that aren't zombies. */
static void mark_with_descendants(const struct hv *hv, const struct hv_domain *only,
				  struct hv_process_table *table)
{
	struct hv_domain *domain, *next;

	if (only) {
		mark(table, only);
	} else {
		HASH_ITER(hh, hv->domains, domain, next)
			if (domain->state != HV_ZOMBIE && !is_empty(domain))
				mark(table, domain);
	}
	add_descendants(table);
}

size_t hv_processes(struct hv_domain *domain, pid_t **pids)
{
	struct hv_process_table *table = is_empty(domain) ? NULL : hv_process_table_new();
	size_t found;

	if (table)
		mark_with_descendants(domain->hv, domain, table);
	found = take_inside(table, pids);
	hv_process_table_free(table);
	return found;
}

void hv_processes_add(struct hv_domain *domain, pid_t pid)
{
	struct hv_starting *starting, added = {.pid = pid};
	unsigned long long started;
	size_t kept = 0;

	if (parent_of(pid, &added.started) < 0)
		return;
	for (size_t i = 0; i < domain->starting_count; i++)
		if (parent_of(domain->starting[i].pid, &started) >= 0 &&
		    started == domain->starting[i].started)
			domain->starting[kept++] = domain->starting[i];
	domain->starting_count = kept;
	starting = realloc(domain->starting, (kept + 1) * sizeof(*starting));
	if (!starting)
		return;
	starting[domain->starting_count++] = added;
	domain->starting = starting;
}

/* Signals processes, each once, until a look finds no new one: a process may fork while it is being searched
 * for. Returns the table, in which they are marked, or NULL: there can't be any. */
static struct hv_process_table *signal_found(const struct hv *hv, const struct hv_domain *only,
					     int signal_number)
{
	struct hv_process_table *table = only && is_empty(only) ? NULL : hv_process_table_new();
	bool found = table != NULL;

	for (int rounds = 0; found && rounds < MOST_ROUNDS; rounds++) {
		found = false;
		mark_with_descendants(hv, only, table);
		for (size_t i = 0; i < table->count; i++) {
			struct process *process = &table->process[i];

			if (!process->inside || process->done)
				continue;
			kill(process->pid, signal_number);
			found = process->done = true;
		}
		if (found)
			look(table);
	}
	return table;
}

void hv_processes_signal(struct hv_domain *domain, int signal_number)
{
	hv_process_table_free(signal_found(domain->hv, domain, signal_number));
}

/* Calls a function with each thread of a process. Returns whether it returned true for all of them. */
static bool for_all_threads(pid_t pid, bool (*function)(pid_t pid, pid_t tid, int value), int value)
{
	char path[64];
	struct dirent *entry;
	bool all = true;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]))
			all = function(pid, (pid_t)atoi(entry->d_name), value) && all;
	if (dir)
		closedir(dir);
	return all;
}

static bool thread_rests(pid_t pid, pid_t tid, int unused)
{
	char path[64], text[1024];
	const char *end;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)pid, (int)tid);
	if (!read_file(path, text, sizeof(text)))
		return true;
	end = strrchr(text, ')');
	return !end || (end[1] == ' ' && strchr("TtZX", end[2]));
}

/* A stopped thread ends the instruction that it is in, and what it writes belongs into the image. */
void hv_processes_stop(struct hv_domain *domain)
{
	const struct timespec moment = {.tv_nsec = 100000};
	struct hv_process_table *table = signal_found(domain->hv, domain, SIGSTOP);
	pid_t *pids;
	size_t count = take_inside(table, &pids);

	hv_process_table_free(table);
	/* One that sleeps in the kernel for long, uninterruptibly, isn't waited for. */
	for (size_t i = 0; i < count; i++)
		for (int tries = 0; tries < 10000 && !for_all_threads(pids[i], thread_rests, 0); tries++)
			nanosleep(&moment, NULL);
	free(pids);
}

static bool tell_thread(pid_t pid, pid_t tid, int value)
{
	siginfo_t info = {.si_signo = SIM_SIGNAL_RESTORED, .si_code = SI_QUEUE};
	char path[64], text[4096];
	unsigned long long blocked;
	const char *line;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)tid);
	line = read_file(path, text, sizeof(text)) ? strstr(text, "\nSigBlk:") : NULL;
	if (!line || sscanf(line, " SigBlk: %llx", &blocked) != 1 || blocked >> (SIM_SIGNAL_RESTORED - 1) & 1)
		return true;
	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = value;
	return syscall(SYS_rt_tgsigqueueinfo, pid, tid, SIM_SIGNAL_RESTORED, &info) < 0;
}

/* The domain is stopped. Threads that block the signal must not use what was granted or mapped. */
void hv_process_restored(pid_t pid, uint32_t restore)
{
	const union sigval value = {.sival_int = (int)restore};

	if (for_all_threads(pid, tell_thread, (int)restore))
		sigqueue(pid, SIM_SIGNAL_RESTORED, value);
}

static void wait_for_end(const int *pidfds, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct pollfd pollfd = {.fd = pidfds[i], .events = POLLIN};

		if (pidfds[i] < 0)
			continue;
		while (poll(&pollfd, 1, 5000) < 0 && errno == EINTR)
			;
		close(pidfds[i]);
	}
}

/* Kills what is marked and isn't dead yet. Returns when that is dead, and whether there was any. */
static bool kill_marked(struct hv_process_table *table)
{
	int *pidfds = calloc(table->count + 1, sizeof(*pidfds));
	size_t count = 0;

	for (size_t i = 0; i < table->count; i++) {
		struct process *process = &table->process[i];

		if (!process->inside || process->done)
			continue;
		if (pidfds)
			pidfds[count] = pidfd_open(process->pid, 0);
		count++;
		kill(process->pid, SIGKILL);
		process->done = true;
	}
	if (pidfds)
		wait_for_end(pidfds, count);
	free(pidfds);
	return count > 0;
}

static void kill_found(const struct hv *hv, const struct hv_domain *only)
{
	/* Stop them first, so that none sees others die and reacts. */
	struct hv_process_table *table = signal_found(hv, only, SIGSTOP);

	for (size_t i = 0; table && i < table->count; i++)
		table->process[i].done = false;
	/* One that has forked just before it was stopped has a child that isn't. */
	for (int rounds = 0; table && rounds < MOST_ROUNDS && kill_marked(table); rounds++) {
		look(table);
		mark_with_descendants(hv, only, table);
	}
	hv_process_table_free(table);
}

void hv_processes_kill(struct hv_domain *domain)
{
	kill_found(domain->hv, domain);
}

void hv_processes_kill_all(const struct hv *hv)
{
	kill_found(hv, NULL);
}
