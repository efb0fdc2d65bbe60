/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Decides which watch hears of what. A watch hears of its path and of all below it, as far as its domain may
 * read the node or its parent, before or after the change. Of a removed tree only the top is an event; a
 * watch within it hears of its own path instead.
 */
#include <stdio.h>
#include <string.h>

#include "sim/store_internal.h"

static bool is_c(const struct sim_store *store)
{
	return store->options.flavour == SIM_STORE_XENSTORED;
}

static void watch_free(struct sim_watch *watch)
{
	free(watch->path);
	free(watch->absolute);
	free(watch->token);
	free(watch);
}

unsigned sim_watch_count(const struct sim_connection *connection)
{
	const struct sim_watch *watch;
	unsigned count;

	DL_COUNT(connection->watches, watch, count);
	return count;
}

/* The watches of a guest's kernel itself, counted on Linux 6.1 in a PV guest. */
#define KERNEL_WATCHES 6

/* Returns whether the watch quota is reached. A guest's processes share the kernel's one connection, so its
 * quota counts them all; domain 0 has none. */
static bool quota_reached(const struct sim_domain *domain)
{
	const struct sim_connection *connection;
	unsigned count = KERNEL_WATCHES;

	DL_FOREACH(domain->connections, connection)
		count += sim_watch_count(connection);
	return count > domain->store->options.limits.watches;
}

static struct sim_watch *watch_find(const struct sim_connection *connection, const char *absolute,
				    const char *token)
{
	struct sim_watch *watch;

	DL_FOREACH(connection->watches, watch)
		if (strcmp(watch->absolute, absolute) == 0 && strcmp(watch->token, token) == 0)
			return watch;
	return NULL;
}

static void send_event(struct sim_connection *connection, const struct sim_watch *watch, const char *path)
{
	const struct xsd_sockmsg header = {.type = XS_WATCH_EVENT};
	char payload[XENSTORE_PAYLOAD_MAX];
	size_t path_size = strlen(path) + 1, token_size = strlen(watch->token) + 1;

	/* Xen can't send a longer one either. */
	if (connection->domain->saved || path_size + token_size > sizeof(payload))
		return;
	memcpy(payload, path, path_size);
	memcpy(payload + path_size, watch->token, token_size);
	sim_connection_send(connection, &header, payload, path_size + token_size);
}

int sim_watch_add(struct sim_connection *connection, const char *untrusted_path, const char *token)
{
	struct sim_domain *domain = connection->domain;
	struct sim_credentials who = sim_domain_credentials(domain);
	char absolute[SIM_PATH_SIZE];
	struct sim_watch *watch;
	int rc;

	rc = sim_path_resolve(absolute, untrusted_path, domain->domid, &domain->store->options.limits);
	if (rc < 0)
		return rc;
	if (!sim_credentials_privileged(&who) && quota_reached(domain))
		return is_c(domain->store) ? -E2BIG : -EDQUOT;
	/* A guest's kernel gives each watch a token of its own, so there no two are the same. */
	if (domain->domid == 0 && watch_find(connection, absolute, token))
		return -EEXIST;
	watch = sim_must(calloc(1, sizeof(*watch)));
	watch->path = sim_must(strdup(untrusted_path));
	watch->absolute = sim_must(strdup(absolute));
	watch->token = sim_must(strdup(token));
	DL_APPEND(connection->watches, watch);
	return 0;
}

void sim_watch_fire_first(struct sim_connection *connection)
{
	const struct sim_watch *newest = connection->watches->prev;

	send_event(connection, newest, newest->path);
}

int sim_watch_remove(struct sim_connection *connection, const char *untrusted_path, const char *token)
{
	struct sim_domain *domain = connection->domain;
	char absolute[SIM_PATH_SIZE];
	struct sim_watch *watch;
	int rc;

	rc = sim_path_resolve(absolute, untrusted_path, domain->domid, &domain->store->options.limits);
	if (rc < 0)
		return rc;
	watch = watch_find(connection, absolute, token);
	/* A guest's kernel answers by itself, and never says no. */
	if (!watch)
		return domain->domid == 0 ? -ENOENT : 0;
	DL_DELETE(connection->watches, watch);
	watch_free(watch);
	return 0;
}

void sim_watch_remove_all(struct sim_connection *connection)
{
	struct sim_watch *watch, *next;

	DL_FOREACH_SAFE(connection->watches, watch, next) {
		DL_DELETE(connection->watches, watch);
		watch_free(watch);
	}
}

void sim_watch_set_again(struct sim_connection *connection)
{
	const struct sim_domain *domain = connection->domain;
	char absolute[SIM_PATH_SIZE];
	struct sim_watch *watch;

	DL_FOREACH(connection->watches, watch) {
		/* It was valid before, and the length of a home doesn't count. */
		if (sim_path_resolve(absolute, watch->path, domain->domid, &domain->store->options.limits) ==
		    0) {
			free(watch->absolute);
			watch->absolute = sim_must(strdup(absolute));
		}
		send_event(connection, watch, watch->path);
	}
}

static bool may_know(const struct sim_node *root, const char *path, const struct sim_credentials *who)
{
	const struct sim_node *parent, *node;

	if (!root)
		return false;
	node = sim_node_find(root, path);
	if (node && sim_node_permits(node, who, SIM_PERM_READ))
		return true;
	parent = sim_node_parent(root, path);
	return parent && sim_node_permits(parent, who, SIM_PERM_READ);
}

/* Returns the path of an event as its watch names it: as it was registered, relative or not. */
static const char *as_registered(const struct sim_watch *watch, const char *path)
{
	if (watch->path[0] == '/' || watch->path[0] == '@')
		return path;
	return path + strlen(watch->absolute) - strlen(watch->path);
}

static void fire_change(struct sim_connection *connection, const struct sim_change *change,
			const struct sim_node *before, const struct sim_node *after)
{
	struct sim_credentials who = sim_domain_credentials(connection->domain);
	bool removed = change->type == XS_RM, known;
	const struct sim_watch *watch;

	known = may_know(removed ? NULL : after, change->path, &who) || may_know(before, change->path, &who);
	DL_FOREACH(connection->watches, watch) {
		if (sim_path_is_below(change->path, watch->absolute)) {
			if (known)
				send_event(connection, watch, as_registered(watch, change->path));
		} else if (removed && sim_path_is_below(watch->absolute, change->path)) {
			if (is_c(connection->domain->store) && !sim_node_find(before, watch->absolute))
				continue;
			if (may_know(before, watch->absolute, &who))
				send_event(connection, watch, watch->path);
		}
	}
}

void sim_watch_fire_changes(struct sim_store *store, const struct sim_changes *changes,
			    const struct sim_node *old_root, const struct sim_node *new_root)
{
	struct sim_domain *domain, *next;

	for (size_t i = 0; i < changes->count; i++) {
		const struct sim_change *change = &changes->list[i];
		/* A domain that could read before a change of permissions or a removal hears of it, even if
		 * it can't now. */
		bool looks_back = change->type == XS_SET_PERMS || change->type == XS_RM;

		/* A special watch hears of domains, not of changes to the node that carries its
		 * permissions. */
		if (change->path[0] == '@')
			continue;
		HASH_ITER(hh, store->domains, domain, next) {
			struct sim_connection *connection;

			DL_FOREACH(domain->connections, connection)
				fire_change(connection, change, looks_back ? old_root : NULL, new_root);
		}
	}
}

void sim_watch_fire_special(struct sim_store *store, const char *name)
{
	struct sim_domain *domain, *next;

	HASH_ITER(hh, store->domains, domain, next) {
		struct sim_credentials who = sim_domain_credentials(domain);
		struct sim_connection *connection;

		if (!may_know(store->tree.root, name, &who))
			continue;
		DL_FOREACH(domain->connections, connection) {
			const struct sim_watch *watch;

			DL_FOREACH(connection->watches, watch)
				if (strcmp(watch->absolute, name) == 0)
					send_event(connection, watch, watch->path);
		}
	}
}
