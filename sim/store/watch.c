/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Decides which watch hears of what, and finds the watches by their paths. A watch hears of its path and of
 * all below it, as far as its domain may read the node or its parent, before or after the change. Of a
 * removed tree only the top is an event; a watch within it hears of its own path instead.
 */
#include <stdio.h>
#include <string.h>

#include "sim/store/store_internal.h"

/* ---- the tree of watched paths --------------------------------------------------------------- */

static struct sim_watch_node *tree_root(struct sim_store *store, const char *absolute)
{
	return absolute[0] == '@' ? &store->special_watches : &store->watches;
}

static struct sim_watch_node *tree_child(const struct sim_watch_node *node, const char *name, size_t len)
{
	struct sim_watch_node *child;

	HASH_FIND(hh, node->children, name, len, child);
	return child;
}

/* Returns the node of a path. NULL: nobody watches it, or anything below. */
static struct sim_watch_node *tree_find(struct sim_store *store, const char *absolute)
{
	struct sim_watch_node *node = tree_root(store, absolute);
	const char *rest = absolute, *name;
	size_t len;

	while (node && sim_path_next(&rest, &name, &len))
		node = tree_child(node, name, len);
	return node;
}

static void tree_add(struct sim_watch *watch)
{
	struct sim_watch_node *node = tree_root(watch->connection->domain->store, watch->absolute), *child;
	const char *rest = watch->absolute, *name;
	size_t len;

	while (sim_path_next(&rest, &name, &len)) {
		child = tree_child(node, name, len);
		if (!child) {
			child = sim_must(calloc(1, sizeof(*child)));
			child->name = sim_must(strndup(name, len));
			child->parent = node;
			HASH_ADD_KEYPTR(hh, node->children, child->name, len, child);
		}
		node = child;
	}
	watch->node = node;
	DL_PREPEND2(node->watches, watch, node_prev, node_next);
}

static void tree_remove(struct sim_watch *watch)
{
	struct sim_watch_node *node = watch->node, *parent;

	DL_DELETE2(node->watches, watch, node_prev, node_next);
	for (; node->parent && !node->watches && !node->children; node = parent) {
		parent = node->parent;
		HASH_DEL(parent->children, node);
		free(node->name);
		free(node);
	}
}

/* ---- watches --------------------------------------------------------------------------------- */

static void watch_free(struct sim_watch *watch)
{
	tree_remove(watch);
	DL_DELETE(watch->connection->watches, watch);
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
static bool watch_quota_reached(const struct store_domain *domain)
{
	const struct sim_connection *connection;
	unsigned count = sim_domain_has_kernel(domain) ? KERNEL_WATCHES : 0;

	DL_FOREACH(domain->connections, connection)
		count += sim_watch_count(connection);
	return count > domain->store->options.limits.watches;
}

static struct sim_watch *watch_find(const struct sim_connection *connection, const char *absolute,
				    const char *token)
{
	const struct sim_watch_node *node = tree_find(connection->domain->store, absolute);
	struct sim_watch *watch;

	if (!node)
		return NULL;
	DL_FOREACH2(node->watches, watch, node_next)
		/* The way to the node doesn't tell of slashes too many. */
		if (watch->connection == connection && strcmp(watch->token, token) == 0 &&
		    strcmp(watch->absolute, absolute) == 0)
			return watch;
	return NULL;
}

static void send_event(const struct sim_watch *watch, const char *path)
{
	struct sim_connection *connection = watch->connection;
	const struct xsd_sockmsg header = {.type = XS_WATCH_EVENT};
	char payload[2 * SIM_PATH_SIZE];
	size_t path_size = strlen(path) + 1, token_size = strlen(watch->token) + 1;

	if (connection->domain->saved)
		return;
	memcpy(payload, path, path_size);
	memcpy(payload + path_size, watch->token, token_size);
	connection->domain->events++;
	if (connection->domain->store->record) {
		const struct sim_store_seen seen = {.domid = connection->domain->domid,
						    .type = XS_WATCH_EVENT,
						    .text = payload,
						    .length = path_size + token_size};

		connection->domain->store->record(&seen, connection->domain->store->record_userdata);
	}
	/* A domain that fires more than oxenstored keeps for a guest that takes none waits until it
	 * goes on. */
	if (connection->domain->paused && !connection->domain->store->options.like_xenstored &&
	    ++connection->domain->kept > SIM_KEPT_EVENTS && connection->domain->store->served)
		connection->domain->store->served->waits_for = connection->domain;
	sim_connection_send(connection, &header, payload, path_size + token_size);
}

int sim_watch_add(struct sim_connection *connection, const char *untrusted_path, const char *token)
{
	struct store_domain *domain = connection->domain;
	struct sim_credentials who = sim_domain_credentials(domain);
	char absolute[SIM_PATH_SIZE];
	struct sim_watch *watch;
	int rc;

	/* Its length isn't looked at. */
	rc = sim_path_absolute(absolute, untrusted_path, domain->domid);
	if (rc == 0 && !sim_path_has_form(absolute))
		rc = -EINVAL;
	if (rc < 0)
		return rc;
	if (!sim_credentials_privileged(&who) && watch_quota_reached(domain))
		return -EDQUOT;
	/* A guest's kernel gives each watch a token of its own, so there no two are the same. */
	if (!sim_domain_has_kernel(domain) && watch_find(connection, absolute, token))
		return -EEXIST;
	watch = sim_must(calloc(1, sizeof(*watch)));
	watch->path = sim_must(strdup(untrusted_path));
	watch->absolute = sim_must(strdup(absolute));
	watch->token = sim_must(strdup(token));
	watch->connection = connection;
	DL_APPEND(connection->watches, watch);
	tree_add(watch);
	return 0;
}

void sim_watch_fire_first(struct sim_connection *connection)
{
	const struct sim_watch *newest = connection->watches->prev;

	send_event(newest, newest->path);
}

int sim_watch_remove(struct sim_connection *connection, const char *untrusted_path, const char *token)
{
	struct store_domain *domain = connection->domain;
	char absolute[SIM_PATH_SIZE];
	struct sim_watch *watch;
	int rc;

	/* The path may be anything: there is no watch of that name then. */
	rc = sim_path_absolute(absolute, untrusted_path, domain->domid);
	if (rc < 0)
		return rc;
	watch = watch_find(connection, absolute, token);
	/* A guest's kernel answers by itself, and never says no. */
	if (!watch)
		return sim_domain_has_kernel(domain) ? 0 : -ENOENT;
	watch_free(watch);
	return 0;
}

void sim_watch_remove_all(struct sim_connection *connection)
{
	struct sim_watch *watch, *next;

	DL_FOREACH_SAFE(connection->watches, watch, next)
		watch_free(watch);
}

void sim_watch_set_again(struct sim_connection *connection)
{
	const struct store_domain *domain = connection->domain;
	char absolute[SIM_PATH_SIZE];
	struct sim_watch *watch;

	/* All of them move, so that those of one path stay in their order. */
	DL_FOREACH(connection->watches, watch) {
		tree_remove(watch);
		if (sim_path_absolute(absolute, watch->path, domain->domid) == 0) {
			free(watch->absolute);
			watch->absolute = sim_must(strdup(absolute));
		}
		tree_add(watch);
		send_event(watch, watch->path);
	}
}

/* ---- events ---------------------------------------------------------------------------------- */

/* A node and its parent, as far as they exist: a reader of either may know of the node. Of the root, which
 * has no parent, nobody hears. */
struct sight {
	const struct sim_node *node, *parent;
};

static struct sight sight_of(const struct sim_node *root, const char *path)
{
	const struct sim_node *parent = root ? sim_node_parent(root, path) : NULL;

	return (struct sight){parent ? sim_node_find(root, path) : NULL, parent};
}

static bool may_know(const struct sight *sight, const struct sim_watch *watch)
{
	struct sim_credentials who = sim_domain_credentials(watch->connection->domain);

	return (sight->node && sim_node_permits(sight->node, &who, SIM_PERM_READ)) ||
	       (sight->parent && sim_node_permits(sight->parent, &who, SIM_PERM_READ));
}

/* Returns the path of an event as its watch names it: as it was registered, relative or not. */
static const char *as_registered(const struct sim_watch *watch, const char *path)
{
	if (watch->path[0] == '/' || watch->path[0] == '@')
		return path;
	return path + strlen(watch->absolute) - strlen(watch->path);
}

static void fire_node(const struct sim_watch_node *node, const char *path, const struct sight *before,
		      const struct sight *after)
{
	const struct sim_watch *watch;

	DL_FOREACH2(node->watches, watch, node_next)
		if (may_know(after, watch) || may_know(before, watch))
			send_event(watch, as_registered(watch, path));
}

/* Fires the watches below a node that was removed, each for its own path. */
static int by_name(const struct sim_watch_node *a, const struct sim_watch_node *b)
{
	return strcmp(a->name, b->name);
}

static void fire_below(struct sim_watch_node *node, const struct sim_node *before)
{
	struct sim_watch_node *child, *next;

	HASH_SORT(node->children, by_name);
	HASH_ITER(hh, node->children, child, next) {
		const struct sim_watch *watch;

		DL_FOREACH2(child->watches, watch, node_next) {
			struct sight sight = sight_of(before, watch->absolute);

			if (may_know(&sight, watch))
				send_event(watch, watch->path);
		}
		fire_below(child, before);
	}
}

static void fire_change(struct sim_store *store, const struct sim_change *change,
			const struct sim_node *old_root, const struct sim_node *new_root)
{
	bool removed = change->type == XS_RM;
	/* A domain that could read before a change of permissions or a removal hears of it, even if it can't
	 * now. */
	struct sight before =
		sight_of(removed || change->type == XS_SET_PERMS ? old_root : NULL, change->path);
	struct sight after = sight_of(removed ? NULL : new_root, change->path);
	struct sim_watch_node *node = &store->watches;
	const char *rest = change->path, *name;
	size_t len;

	fire_node(node, change->path, &before, &after);
	while (sim_path_next(&rest, &name, &len)) {
		node = tree_child(node, name, len);
		if (!node)
			return;
		fire_node(node, change->path, &before, &after);
	}
	if (removed)
		fire_below(node, old_root);
}

/* ---- events as C xenstored tells them
 * -------------------------------------------------------------------------- */

static bool is_below(const char *path, const char *top)
{
	size_t length = strlen(top);

	return strcmp(top, "/") == 0 ||
	       (strncmp(path, top, length) == 0 && (path[length] == '/' || path[length] == '\0'));
}

/* A connection's watches hear in the order in which they were set: those of the path alone, or those above
 * it, too. */
static void tell_all(struct sim_store *store, const char *path, bool exact, const struct sight *before,
		     const struct sight *after)
{
	struct store_domain *domain, *next;
	struct sim_connection *connection;
	struct sim_watch *watch;

	HASH_ITER(hh, store->domains, domain, next)
		DL_FOREACH(domain->connections, connection)
			DL_FOREACH(connection->watches, watch)
				if ((exact ? strcmp(path, watch->absolute) == 0
					   : is_below(path, watch->absolute)) &&
				    (may_know(after, watch) || may_know(before, watch)))
					send_event(watch, as_registered(watch, path));
}

/* Of a removed node: those below it first, each for itself. */
static void tell_removed(struct sim_store *store, const struct sim_node *old_root,
			 const struct sim_node *node, const char *path, bool is_top)
{
	struct sight before = sight_of(old_root, path), after = {0};
	struct sim_node **children = sim_node_children_as_made(node);

	for (unsigned i = 0; i < node->n_children; i++) {
		char below[SIM_PATH_SIZE];
		int length = snprintf(below, sizeof(below), "%s/%s", path, children[i]->name);

		if (length < (int)sizeof(below))
			tell_removed(store, old_root, children[i], below, false);
	}
	free(children);
	tell_all(store, path, !is_top, &before, &after);
}

static void tell_change(struct sim_store *store, const struct sim_change *change,
			const struct sim_node *old_root, const struct sim_node *new_root)
{
	const struct sim_node *removed = change->type == XS_RM ? sim_node_find(old_root, change->path) : NULL;
	struct sight before = sight_of(change->type == XS_SET_PERMS ? old_root : NULL, change->path);
	struct sight after = sight_of(new_root, change->path);

	if (removed)
		tell_removed(store, old_root, removed, change->path, true);
	else if (change->type != XS_RM)
		tell_all(store, change->path, false, &before, &after);
}

void sim_watch_fire_changes(struct sim_store *store, const struct sim_changes *changes,
			    const struct sim_node *old_root, const struct sim_node *new_root)
{
	for (size_t i = 0; i < changes->count; i++) {
		(store->options.like_xenstored ? tell_change : fire_change)(store, &changes->list[i],
									    old_root, new_root);
		if (store->changed)
			store->changed(changes->list[i].path, store->changed_userdata);
	}
}

void sim_watch_fire_special(struct sim_store *store, const struct sim_node *root, const char *name)
{
	const struct sim_watch_node *node = tree_find(store, name);
	struct sight sight = sight_of(root, name);
	const struct sim_watch *watch;

	if (!node)
		return;
	DL_FOREACH2(node->watches, watch, node_next)
		if (may_know(&sight, watch))
			send_event(watch, watch->path);
}
