/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The store as a whole: domains and their sockets, and the toolstack's own calls. See store.h. */
#include "sim/store/store.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sim/store/store_internal.h"

static const struct sim_credentials toolstack = {.domid = 0, .target = -1};

void sim_store_options_init(struct sim_store_options *options)
{
	*options = (struct sim_store_options){
		.limits =
			{
				.nodes = 1000,
				.watches = 100, /* as Debian configures it */
				.transactions = 10,
				.value_bytes = 2048,
				.path = 1024,
				.transaction_requests = 1024,
			},
	};
}

/* ---- domains --------------------------------------------------------------------------------- */

struct store_domain *sim_domain_find(const struct sim_store *store, unsigned domid)
{
	struct store_domain *domain;

	HASH_FIND(hh, store->domains, &domid, sizeof(domid), domain);
	return domain;
}

struct store_domain *sim_domain_find_introduced(const struct sim_store *store, int64_t domid)
{
	struct store_domain *domain =
		domid < 0 || domid > UINT_MAX ? NULL : sim_domain_find(store, (unsigned)domid);

	return domain && domain->introduced ? domain : NULL;
}

struct store_domain *sim_domain_get(struct sim_store *store, unsigned domid)
{
	struct store_domain *domain = sim_domain_find(store, domid);

	if (domain)
		return domain;
	domain = sim_must(calloc(1, sizeof(*domain)));
	domain->store = store;
	domain->domid = domid;
	domain->target = -1;
	HASH_ADD(hh, store->domains, domid, sizeof(domain->domid), domain);
	return domain;
}

bool sim_domain_has_kernel(const struct store_domain *domain)
{
	return domain->domid != 0 && !domain->store->options.rings;
}

struct sim_credentials sim_domain_credentials(const struct store_domain *domain)
{
	return (struct sim_credentials){domain->domid, domain->target};
}

/* The domain takes its events, or there is none that could. */
static void let_go_on(struct store_domain *domain)
{
	struct store_domain *other, *next;
	struct sim_connection *connection;

	domain->paused = false;
	domain->kept = 0;
	HASH_ITER(hh, domain->store->domains, other, next)
		DL_FOREACH(other->connections, connection)
			if (connection->waits_for == domain)
				sim_connection_go_on(connection);
}

void sim_store_pause_domain(struct sim_store *store, unsigned domid, bool paused)
{
	struct store_domain *domain = sim_domain_find(store, domid);

	if (domain && paused)
		domain->paused = true;
	else if (domain)
		let_go_on(domain);
}

static void domain_disconnect(struct store_domain *domain)
{
	struct sim_connection *connection, *next;

	let_go_on(domain);

	DL_FOREACH_SAFE(domain->connections, connection, next)
		sim_connection_free(connection);
	if (domain->listener) {
		evconnlistener_free(domain->listener);
		unlink(domain->socket_path);
		free(domain->socket_path);
		domain->listener = NULL;
		domain->socket_path = NULL;
	}
}

static void domain_free(struct store_domain *domain)
{
	domain_disconnect(domain);
	HASH_DEL(domain->store->domains, domain);
	free(domain);
}

/* Frees connections that were found to be gone while others were being served. */
static void on_reap(evutil_socket_t fd, short what, void *data)
{
	struct sim_store *store = data;
	struct store_domain *domain, *next;

	HASH_ITER(hh, store->domains, domain, next) {
		struct sim_connection *connection, *after;

		DL_FOREACH_SAFE(domain->connections, connection, after)
			if (connection->doomed)
				sim_connection_free(connection);
	}
}

/* ---- the store ------------------------------------------------------------------------------- */

struct sim_store *sim_store_new(struct event_base *base, const struct sim_store_options *options)
{
	struct sim_store *store = calloc(1, sizeof(*store));

	if (!store)
		return NULL;
	store->base = base;
	if (options)
		store->options = *options;
	else
		sim_store_options_init(&store->options);
	store->reap = event_new(base, -1, 0, on_reap, store);
	if (!store->reap) {
		free(store);
		return NULL;
	}
	sim_tree_init(&store->tree, &store->options);
	sim_tree_mkdir(&store->tree, &toolstack, "/local");
	sim_tree_mkdir(&store->tree, &toolstack, "/tool");
	sim_tree_write(&store->tree, &toolstack, "/tool/xenstored", "xensim", strlen("xensim"));
	sim_tree_mkdir(&store->tree, &toolstack, "@introduceDomain");
	sim_tree_mkdir(&store->tree, &toolstack, "@releaseDomain");
	sim_domain_get(store, 0)->introduced = true;
	return store;
}

void sim_store_free(struct sim_store *store)
{
	struct store_domain *domain, *next;

	if (!store)
		return;
	HASH_ITER(hh, store->domains, domain, next)
		domain_free(domain);
	event_free(store->reap);
	sim_tree_clear(&store->tree);
	free(store);
}

static void store_on_connect(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
			     int len, void *data)
{
	sim_connection_new(data, fd);
}

static int bind_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat status;
	int fd, rc;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* A socket that an earlier simulator left here has no listener. */
	if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode))
		unlink(path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

int sim_store_listen(struct sim_store *store, unsigned domid, const char *socket_path)
{
	struct store_domain *domain = sim_domain_get(store, domid);
	int fd, rc;

	if (domain->listener)
		return -EEXIST;
	fd = bind_socket(socket_path);
	if (fd < 0)
		return fd;
	errno = 0;
	domain->listener = evconnlistener_new(store->base, store_on_connect, domain,
					      LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, SOMAXCONN, fd);
	if (!domain->listener) {
		rc = errno ? -errno : -ENOMEM;
		close(fd);
		unlink(socket_path);
		return rc;
	}
	domain->socket_path = sim_must(strdup(socket_path));
	return 0;
}

int sim_store_attach(struct sim_store *store, unsigned domid, int fd)
{
	if (evutil_make_socket_nonblocking(fd) < 0 || evutil_make_socket_closeonexec(fd) < 0) {
		close(fd);
		return -EBADF;
	}
	sim_connection_new(sim_domain_get(store, domid), fd);
	return 0;
}

void sim_store_unlisten(struct sim_store *store, unsigned domid)
{
	struct store_domain *domain = sim_domain_find(store, domid);

	if (!domain)
		return;
	if (domain->introduced)
		domain_disconnect(domain);
	else
		domain_free(domain);
}

static void domain_resumed(struct store_domain *domain)
{
	struct sim_connection *connection;

	DL_FOREACH(domain->connections, connection) {
		sim_transaction_make_stale(connection);
		sim_watch_set_again(connection);
	}
}

void sim_store_save_domain(struct sim_store *store, unsigned domid, bool saved)
{
	sim_domain_get(store, domid)->saved = saved;
}

int sim_store_rename_domain(struct sim_store *store, unsigned domid, unsigned new_domid)
{
	struct store_domain *domain = sim_domain_find(store, domid),
			    *other = sim_domain_find(store, new_domid), *rest;
	bool introduced;

	if (!domain)
		return -ENOENT;
	if (other == domain) {
		domain->saved = false;
		domain_resumed(domain);
		return 0;
	}
	if (other && (other->listener || other->connections))
		return -EEXIST;
	introduced = domain->introduced;
	HASH_DEL(store->domains, domain);
	domain->domid = new_domid;
	domain->saved = domain->paused = false;
	domain->introduced = other && other->introduced;
	if (other)
		domain_free(other);
	HASH_ADD(hh, store->domains, domid, sizeof(domain->domid), domain);
	/* The old domid stays known until it is released. */
	rest = sim_domain_get(store, domid);
	rest->introduced = introduced;
	domain_resumed(domain);
	return 0;
}

/* ---- the toolstack's own hand ---------------------------------------------------------------- */

static int store_resolve(const struct sim_store *store, const char *path, char absolute[SIM_PATH_SIZE])
{
	return path[0] == '/' || path[0] == '@' ? sim_path_resolve(absolute, path, 0, &store->options.limits)
						: -EINVAL;
}

/* Fires the watches for all changes since old_root, and releases it. */
static void fire(struct sim_store *store, struct sim_changes *changes, struct sim_node *old_root)
{
	sim_watch_fire_changes(store, changes, old_root, store->tree.root);
	sim_changes_clear(changes);
	sim_node_unref(old_root);
}

int sim_store_write(struct sim_store *store, const char *path, const char *value,
		    const struct sim_perm *perms, unsigned nperms)
{
	char absolute[SIM_PATH_SIZE];
	struct sim_changes changes = {0};
	struct sim_node *old_root;
	int rc = store_resolve(store, path, absolute);

	if (rc < 0)
		return rc;
	old_root = sim_node_ref(store->tree.root);
	rc = sim_tree_write(&store->tree, &toolstack, absolute, value, strlen(value));
	if (rc == 0)
		sim_changes_add(&changes, XS_WRITE, absolute);
	if (rc == 0 && perms) {
		rc = sim_tree_set_perms(&store->tree, &toolstack, absolute, perms, nperms);
		/* Watches of an existing node may lose their right to read it. */
		if (rc == 0 && sim_node_find(old_root, absolute))
			sim_changes_add(&changes, XS_SET_PERMS, absolute);
	}
	fire(store, &changes, old_root);
	return rc;
}

int sim_store_rm(struct sim_store *store, const char *path)
{
	char absolute[SIM_PATH_SIZE];
	struct sim_changes changes = {0};
	struct sim_node *old_root;
	int rc = store_resolve(store, path, absolute);

	if (rc < 0)
		return rc;
	old_root = sim_node_ref(store->tree.root);
	rc = sim_tree_rm(&store->tree, &toolstack, absolute);
	if (rc == 0)
		sim_changes_add(&changes, XS_RM, absolute);
	fire(store, &changes, old_root);
	return rc < 0 ? rc : 0;
}

int sim_store_read(const struct sim_store *store, const char *path, char *value, size_t size)
{
	char absolute[SIM_PATH_SIZE];
	const struct sim_node *node =
		store_resolve(store, path, absolute) == 0 ? sim_node_find(store->tree.root, absolute) : NULL;
	size_t length;

	if (!node)
		return -ENOENT;
	length = node->value_len < size ? node->value_len : size - 1;
	memcpy(value, node->value, length);
	value[length] = '\0';
	return 0;
}

int sim_store_list(const struct sim_store *store, const char *path,
		   void (*visit)(const char *name, void *userdata), void *userdata)
{
	char absolute[SIM_PATH_SIZE];
	const struct sim_node *found =
		store_resolve(store, path, absolute) == 0 ? sim_node_find(store->tree.root, absolute) : NULL;
	struct sim_node *node;
	int count;

	if (!found)
		return -ENOENT;
	/* As long as we hold it, it stays as it is. */
	node = sim_node_ref((struct sim_node *)found);
	count = (int)node->n_children;
	for (unsigned i = 0; i < node->n_children && visit; i++)
		visit(node->children[i]->name, userdata);
	sim_node_unref(node);
	return count;
}

void sim_store_introduce(struct sim_store *store, unsigned domid)
{
	sim_domain_get(store, domid)->introduced = true;
	sim_watch_fire_special(store, store->tree.root, "@introduceDomain");
}

void sim_store_release_in(struct sim_store *store, struct sim_tree *tree, int64_t domid)
{
	struct store_domain *domain = sim_domain_find_introduced(store, domid);

	sim_tree_forget_domain(tree, domid);
	if (!domain)
		return;
	domain->introduced = false;
	domain->target = -1;
	if (!domain->listener && !domain->connections)
		domain_free(domain);
	sim_watch_fire_special(store, tree->root, "@releaseDomain");
}

void sim_store_tell_of_release(struct sim_store *store)
{
	sim_watch_fire_special(store, store->tree.root, "@releaseDomain");
}

void sim_store_release(struct sim_store *store, unsigned domid)
{
	sim_store_release_in(store, &store->tree, domid);
}

void sim_store_stall(struct sim_store *store, bool stalled)
{
	struct store_domain *domain, *next;

	if (store->stalled == stalled)
		return;
	store->stalled = stalled;
	HASH_ITER(hh, store->domains, domain, next) {
		struct sim_connection *connection;

		DL_FOREACH(domain->connections, connection)
			sim_connection_apply_stall(connection);
	}
}

void sim_store_disconnect(struct sim_store *store, unsigned domid)
{
	struct store_domain *domain = sim_domain_find(store, domid);
	struct sim_connection *connection;

	if (domain)
		DL_FOREACH(domain->connections, connection)
			sim_connection_doom(connection);
}

void sim_store_delay_events(struct sim_store *store, unsigned domid, unsigned milliseconds)
{
	sim_domain_get(store, domid)->late_ms = milliseconds;
}

void sim_store_record(struct sim_store *store,
		      void (*record)(const struct sim_store_seen *seen, void *userdata), void *userdata)
{
	store->record = record;
	store->record_userdata = userdata;
}

void sim_store_listen_to_changes(struct sim_store *store, void (*changed)(const char *path, void *userdata),
				 void *userdata)
{
	store->changed = changed;
	store->changed_userdata = userdata;
}

void sim_store_refuse(struct sim_store *store, int (*refuse)(unsigned domid, uint32_t type, void *userdata),
		      void *userdata)
{
	store->refuse = refuse;
	store->refuse_userdata = userdata;
}

bool sim_store_can_answer(int error)
{
	return error == -EINVAL || strcmp(sim_wire_error_name(error), "EINVAL") != 0;
}

void sim_store_conflict(struct sim_store *store, unsigned domid, unsigned times)
{
	sim_domain_get(store, domid)->conflicts = times;
}

void sim_store_stats(const struct sim_store *store, unsigned domid, struct sim_store_stats *stats)
{
	const struct store_domain *domain = sim_domain_find(store, domid);
	const struct sim_connection *connection;

	int nodes = sim_tree_owned(&store->tree, domid);

	*stats = (struct sim_store_stats){.nodes = nodes > 0 ? (unsigned)nodes : 0};
	if (!domain)
		return;
	stats->requests = domain->requests;
	stats->writes = domain->writes;
	stats->events = domain->events;
	DL_FOREACH(domain->connections, connection) {
		if (connection->doomed)
			continue;
		stats->connections++;
		stats->watches += sim_watch_count(connection);
		stats->transactions += sim_transaction_count(connection);
	}
}
