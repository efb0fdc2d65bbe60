/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds the processes that live in a domain. There is no container around a simulated domain (that would need
 * privileges), so they are found by what they can't easily lose: the domain's UUID in the environment they
 * were started with, a connection to the hypervisor, or a parent that has one of these.
 */
#include "config.h"

#include "sim/hv.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>
#include <utlist.h>

struct process {
	pid_t pid, parent;
	bool inside;
};

struct table {
	struct process *process;
	size_t count, size;
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

static bool environment_names(pid_t pid, const char *setting, char *buffer, size_t size)
{
	char path[64];
	size_t length;

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	length = read_file(path, buffer, size);
	return length && memmem(buffer, length + 1, setting, strlen(setting) + 1);
}

static bool is_known(const struct hv_domain *domain, pid_t pid, unsigned long long started)
{
	const struct hv_client *client;

	DL_FOREACH(domain->clients, client)
		if (client->pid == pid)
			return true;
	for (size_t i = 0; i < domain->starting_count; i++)
		if (domain->starting[i].pid == pid && domain->starting[i].started == started)
			return true;
	return false;
}

static bool table_add(struct table *table, pid_t pid, pid_t parent, bool inside)
{
	if (table->count == table->size) {
		size_t size = table->size ? 2 * table->size : 256;
		struct process *process = realloc(table->process, size * sizeof(*process));

		if (!process)
			return false;
		table->process = process;
		table->size = size;
	}
	table->process[table->count++] = (struct process){pid, parent, inside};
	return true;
}

static void add_descendants(struct table *table)
{
	bool found = true;

	while (found) {
		found = false;
		for (size_t i = 0; i < table->count; i++)
			for (size_t j = 0; !table->process[i].inside && j < table->count; j++)
				if (table->process[j].inside &&
				    table->process[i].parent == table->process[j].pid)
					found = table->process[i].inside = true;
	}
}

static void scan(struct hv_domain *domain, struct table *table)
{
	static const size_t environment_size = 256 * 1024;
	char *setting = NULL;
	char *buffer = malloc(environment_size);
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	/* The directory is a part of it, since domain 0 has the same UUID on every host. */
	if (asprintf(&setting, SIM_ENV_UUID "=%s@%s", domain->uuid, domain->hv->dir) < 0)
		setting = NULL;
	while (setting && buffer && proc && (entry = readdir(proc))) {
		pid_t pid = (pid_t)atoi(entry->d_name), parent;
		unsigned long long started;

		if (!isdigit((unsigned char)entry->d_name[0]) || pid == getpid())
			continue;
		parent = parent_of(pid, &started);
		if (parent < 0)
			continue;
		if (!table_add(table, pid, parent,
			       is_known(domain, pid, started) ||
				       environment_names(pid, setting, buffer, environment_size)))
			break;
	}
	if (proc)
		closedir(proc);
	free(buffer);
	free(setting);
	add_descendants(table);
}

size_t hv_processes(struct hv_domain *domain, pid_t **pids)
{
	struct table table = {0};
	size_t count = 0;

	scan(domain, &table);
	*pids = calloc(table.count + 1, sizeof(**pids));
	for (size_t i = 0; *pids && i < table.count; i++)
		if (table.process[i].inside)
			(*pids)[count++] = table.process[i].pid;
	free(table.process);
	return count;
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

/* Signals processes until a scan finds no new one: a process may fork while it is being searched for. */
void hv_processes_signal(struct hv_domain *domain, int signal_number)
{
	size_t count = 0, before;

	do {
		pid_t *pids;

		before = count;
		count = hv_processes(domain, &pids);
		for (size_t i = 0; i < count; i++)
			kill(pids[i], signal_number);
		free(pids);
	} while (count > before);
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

void hv_processes_kill(struct hv_domain *domain)
{
	size_t count;
	int rounds = 0;

	/* Stop them first, so that none sees others die and reacts. */
	hv_processes_signal(domain, SIGSTOP);
	do {
		pid_t *pids;
		int *pidfds;

		count = hv_processes(domain, &pids);
		pidfds = calloc(count + 1, sizeof(*pidfds));
		for (size_t i = 0; i < count; i++) {
			if (pidfds)
				pidfds[i] = pidfd_open(pids[i], 0);
			kill(pids[i], SIGKILL);
		}
		if (pidfds)
			wait_for_end(pidfds, count);
		free(pidfds);
		free(pids);
	} while (count && ++rounds < 10);
}

/* Returns the kernel's number of an eventfd, the same for all descriptors of it. */
static int eventfd_id(const char *fdinfo_path)
{
	char text[512];
	const char *line;
	int id;

	if (!read_file(fdinfo_path, text, sizeof(text)))
		return -1;
	line = strstr(text, "eventfd-id:");
	return line && sscanf(line, "eventfd-id: %d", &id) == 1 ? id : -1;
}

/* Returns whether the process only holds the eventfd to send: peers do, and that isn't the open device. */
static bool is_peer(const struct hv_domain *domain, const struct hv_handle *handle, pid_t pid)
{
	for (uint32_t i = 0; i < SIM_MAX_PORTS; i++) {
		const struct hv_port *port = domain->port[i];

		if (port && port->handle == handle && port->peer && port->peer->handle &&
		    port->peer->handle->client && port->peer->handle->client->pid == pid)
			return true;
	}
	return false;
}

static bool process_holds(pid_t pid, int id)
{
	char path[64 + 256];
	struct dirent *entry;
	bool holds = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && !holds && (entry = readdir(dir))) {
		char target[64];
		ssize_t n;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, entry->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		if (n <= 0 || !memmem(target, (size_t)n, "[eventfd]", 9))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", (int)pid, entry->d_name);
		holds = eventfd_id(path) == id;
	}
	if (dir)
		closedir(dir);
	return holds;
}

bool hv_eventfd_is_held(struct hv_domain *domain, const struct hv_handle *handle)
{
	char path[64];
	pid_t *pids;
	size_t count;
	bool held = false;
	int id;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", handle->eventfd);
	id = eventfd_id(path);
	if (id < 0)
		return false;
	count = hv_processes(domain, &pids);
	for (size_t i = 0; i < count && !held; i++)
		held = !is_peer(domain, handle, pids[i]) && process_holds(pids[i], id);
	free(pids);
	return held;
}
