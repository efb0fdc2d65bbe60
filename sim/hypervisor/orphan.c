/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Orphans: open event channel handles whose process has let them go, or has ended, while another one may have
 * the descriptor. Nothing tells of the last close of an eventfd, so they are looked for in the descriptors of
 * their domain's processes: when somebody may notice, and once a second. All processes of the machine are
 * looked at for that, so it is done once for all orphans of the host.
 */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

int hv_handle_eventfd_id(const struct hv_handle *handle)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", handle->eventfd);
	return (int)sim_eventfd_says(path, "eventfd-id");
}

/* Returns whether the process only holds the eventfd to send: peers do, and that isn't the open device. */
static bool is_peer(const struct hv_domain *domain, const struct hv_handle *handle, pid_t pid)
{
	for (uint32_t i = 0; i < domain->port_room; i++) {
		const struct hv_port *port = domain->port[i];

		if (port && port->handle == handle && port->peer && port->peer->handle &&
		    port->peer->handle->client && port->peer->handle->client->pid == pid)
			return true;
	}
	return false;
}

/* Notes which orphans the process has open. */
static void look_at_process(const struct hv_domain *domain, pid_t pid)
{
	char path[64 + 256];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		struct hv_handle *orphan;
		char target[64];
		ssize_t n;
		int id;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, entry->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		if (n <= 0 || !memmem(target, (size_t)n, "[eventfd]", 9))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", (int)pid, entry->d_name);
		id = (int)sim_eventfd_says(path, "eventfd-id");
		DL_FOREACH(domain->orphans, orphan)
			if (id >= 0 && orphan->eventfd_id == id && !is_peer(domain, orphan, pid))
				orphan->is_held = true;
	}
	if (dir)
		closedir(dir);
}

/* Closes those that no process has open. *table: of the processes; NULL: it is made if it is needed. Returns
 * whether there are any left. */
static bool check(struct hv_domain *domain, struct hv_process_table **table)
{
	struct hv_handle *orphan, *next;
	pid_t *pids;
	size_t count;

	if (domain->orphans && !*table)
		*table = hv_process_table_new();
	/* Without a table nothing is known: they stay. */
	if (!domain->orphans || !*table)
		return domain->orphans != NULL;
	DL_FOREACH(domain->orphans, orphan) {
		orphan->eventfd_id = hv_handle_eventfd_id(orphan);
		orphan->is_held = false;
	}
	count = hv_processes_in(*table, domain, &pids);
	for (size_t i = 0; i < count; i++)
		look_at_process(domain, pids[i]);
	free(pids);
	DL_FOREACH_SAFE(domain->orphans, orphan, next) {
		if (orphan->is_held)
			continue;
		DL_DELETE(domain->orphans, orphan);
		hv_evtchn_handle_close(orphan);
	}
	return domain->orphans != NULL;
}

static void poll_again(struct hv *hv, uint32_t seconds);

void hv_orphans_check(struct hv *hv)
{
	struct hv_process_table *table = NULL;
	struct hv_domain *domain, *next;
	bool left = false;

	hv->orphans_new = false;
	HASH_ITER(hh, hv->domains, domain, next)
		left |= check(domain, &table);
	for (domain = hv->suspended; domain; domain = domain->next_suspended)
		left |= check(domain, &table);
	hv_process_table_free(table);
	if (left)
		poll_again(hv, 1);
}

void hv_orphans_settle(struct hv *hv)
{
	if (hv->orphans_new)
		hv_orphans_check(hv);
}

static void on_poll(evutil_socket_t fd, short events, void *userdata)
{
	hv_orphans_check(userdata);
}

static void poll_again(struct hv *hv, uint32_t seconds)
{
	if (!hv->orphan_timer)
		hv->orphan_timer = event_new(hv->base, -1, 0, on_poll, hv);
	if (hv->orphan_timer)
		hv_timer_set(hv->orphan_timer, seconds * 1000);
}

void hv_orphan_add(struct hv_handle *handle)
{
	struct hv *hv = handle->domain->hv;

	DL_APPEND(handle->domain->orphans, handle);
	/* Soon: where many processes end at once, one look is enough. */
	hv->orphans_new = true;
	poll_again(hv, 0);
}

void hv_orphans_free(struct hv_domain *domain)
{
	while (domain->orphans) {
		struct hv_handle *handle = domain->orphans;

		handle->stale = false;
		DL_DELETE(domain->orphans, handle);
		hv_evtchn_handle_close(handle);
	}
}
