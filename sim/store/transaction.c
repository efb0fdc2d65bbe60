/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A transaction works on a snapshot and logs each request with its answer. If the live tree has changed
 * meanwhile, oxenstored commits in one of two ways. If nothing has changed below the node that has all that
 * was read below it, nor below the one that has all that was changed, it puts the latter into the live tree:
 * so what was asked for in vain isn't looked at. Otherwise it tries all requests again on the live tree:
 * equal answers commit, any other ends in EAGAIN.
 */
#include <limits.h>
#include <string.h>

#include "sim/store/store_internal.h"

static void transaction_free(struct sim_transaction *transaction)
{
	for (unsigned i = 0; i < transaction->n_logged; i++) {
		free(transaction->log[i].message);
		sim_reply_clear(&transaction->log[i].reply);
	}
	free(transaction->log);
	for (unsigned i = 0; i < transaction->n_looked; i++)
		free(transaction->looked[i].path);
	free(transaction->looked);
	sim_changes_clear(&transaction->changes);
	sim_tree_clear(&transaction->tree);
	sim_tree_clear(&transaction->before);
	free(transaction);
}

unsigned sim_transaction_count(const struct sim_connection *connection)
{
	const struct sim_transaction *transaction;
	unsigned count = 0;

	/* The daemon doesn't know the stale ones. */
	DL_FOREACH(connection->transactions, transaction)
		count += !transaction->stale;
	return count;
}

struct sim_transaction *sim_transaction_find(const struct sim_connection *connection, uint32_t id)
{
	struct sim_transaction *transaction;

	DL_FOREACH(connection->transactions, transaction)
		if (transaction->id == id && !transaction->abandoned)
			return transaction;
	return NULL;
}

static bool id_in_use(const struct store_domain *domain, uint32_t id)
{
	const struct sim_connection *connection;

	DL_FOREACH(domain->connections, connection)
		if (sim_transaction_find(connection, id))
			return true;
	return false;
}

static bool transaction_quota_reached(const struct store_domain *domain)
{
	struct sim_credentials who = sim_domain_credentials(domain);
	const struct sim_connection *connection;
	unsigned count = 0;

	DL_FOREACH(domain->connections, connection)
		count += sim_transaction_count(connection);
	return !sim_credentials_privileged(&who) && count > domain->store->options.limits.transactions;
}

int sim_transaction_start(struct sim_connection *connection, uint32_t *id)
{
	struct store_domain *domain = connection->domain;
	struct sim_store *store = domain->store;
	struct sim_transaction *transaction;

	if (transaction_quota_reached(domain))
		return -EDQUOT;
	do {
		domain->next_transaction = domain->next_transaction % INT32_MAX + 1;
	} while (id_in_use(domain, domain->next_transaction));

	transaction = sim_must(calloc(1, sizeof(*transaction)));
	transaction->id = domain->next_transaction;
	sim_tree_snapshot(&transaction->before, &store->tree);
	sim_tree_snapshot(&transaction->tree, &store->tree);
	DL_APPEND(connection->transactions, transaction);
	*id = transaction->id;
	return 0;
}

bool sim_transaction_is_full(const struct sim_connection *connection,
			     const struct sim_transaction *transaction)
{
	struct sim_credentials who = sim_domain_credentials(connection->domain);

	return !sim_credentials_privileged(&who) &&
	       transaction->n_logged >= connection->domain->store->options.limits.transaction_requests;
}

void sim_transaction_log(struct sim_transaction *transaction, const void *message, size_t len,
			 const struct store_reply *reply)
{
	struct sim_logged *logged;

	transaction->log = sim_must(realloc(transaction->log, (transaction->n_logged + 1) * sizeof(*logged)));
	logged = &transaction->log[transaction->n_logged++];
	*logged = (struct sim_logged){.message = sim_must(malloc(len)), .len = len};
	memcpy(logged->message, message, len);
	logged->reply.error = reply->error;
	if (reply->data)
		sim_reply_append(&logged->reply, reply->data, reply->len);
}

/* ---- C xenstored
 * ----------------------------------------------------------------------------------------------- */

static uint64_t generation_of(const struct sim_node *root, const char *path)
{
	const struct sim_node *node = sim_node_find(root, path);

	return node ? node->generation : 0;
}

static void look_at(struct sim_transaction *transaction, const char *path, size_t length)
{
	struct sim_looked *looked;
	char *copy = sim_must(length ? strndup(path, length) : strdup("/"));

	for (unsigned i = 0; i < transaction->n_looked; i++)
		if (strcmp(transaction->looked[i].path, copy) == 0) {
			free(copy);
			return;
		}
	transaction->looked =
		sim_must(realloc(transaction->looked, (transaction->n_looked + 1) * sizeof(*looked)));
	looked = &transaction->looked[transaction->n_looked++];
	*looked = (struct sim_looked){copy, generation_of(transaction->before.root, copy)};
}

void sim_transaction_look(const struct sim_connection *connection, struct sim_transaction *transaction,
			  const struct store_message *request)
{
	const struct sim_store *store = connection->domain->store;
	char path[SIM_PATH_SIZE];
	size_t length;

	if (!request->untrusted_path || request->header.type == XS_GET_DOMAIN_PATH ||
	    sim_path_resolve(path, request->untrusted_path, connection->domain->domid,
			     &store->options.limits) < 0 ||
	    path[0] == '@')
		return;
	length = strlen(path);
	look_at(transaction, path, length);
	/* Of what isn't there, the nearest that is; and what is removed is taken out of its parent. */
	if (request->header.type == XS_RM && length > 1)
		look_at(transaction, path, sim_path_parent_length(path));
	while (length > 1 && !sim_node_find(transaction->tree.root, path)) {
		length = sim_path_parent_length(path);
		path[length] = '\0';
		look_at(transaction, path, length);
		if (!length)
			break;
	}
}

/* Returns whether anybody has changed what it has looked at. */
static bool transaction_is_outdated(const struct sim_transaction *transaction, const struct sim_node *now)
{
	for (unsigned i = 0; i < transaction->n_looked; i++)
		if (generation_of(now, transaction->looked[i].path) != transaction->looked[i].generation)
			return true;
	return false;
}

/* Tells of each node once, in the order in which they were first looked at. */
static void tell_once(struct sim_transaction *transaction)
{
	struct sim_changes *changes = &transaction->changes;
	struct sim_change *list = sim_must(calloc(changes->count + 1, sizeof(*list)));
	size_t kept = 0;

	for (unsigned i = 0; i < transaction->n_looked; i++) {
		bool found = false;

		for (size_t k = 0; k < changes->count; k++) {
			if (!changes->list[k].path ||
			    strcmp(changes->list[k].path, transaction->looked[i].path) != 0)
				continue;
			if (found)
				free(list[kept].path);
			list[kept] = changes->list[k];
			changes->list[k].path = NULL;
			found = true;
		}
		kept += found;
	}
	for (size_t k = 0; k < changes->count; k++)
		free(changes->list[k].path);
	free(changes->list);
	changes->list = list;
	changes->count = kept;
}

/* ---- oxenstored
 * ------------------------------------------------------------------------------------------------ */

/* Returns whether the same nodes are there, with the same permissions on the way to them. */
static bool same_below(const struct sim_node *before, const struct sim_node *now, const char *top)
{
	const struct sim_node *a = sim_node_find(before, top), *b = sim_node_find(now, top);

	if (!a && !b)
		return sim_node_parent(before, top) && sim_node_parent(now, top);
	if (a != b || a == before)
		return false;
	if (!sim_node_same_perms(before, now))
		return false;
	for (const char *end = strchr(top + 1, '/'); end; end = strchr(end + 1, '/')) {
		char *path = sim_must(strndup(top, (size_t)(end - top)));
		bool same = sim_node_same_perms(sim_node_find(before, path), sim_node_find(now, path));

		free(path);
		if (!same)
			return false;
	}
	return true;
}

/* Puts what has changed into the live tree, if nobody else has changed anything there. */
static bool graft(struct sim_store *store, const struct sim_transaction *transaction)
{
	const char *read = transaction->changes.top_read, *written = transaction->changes.top_written;
	const struct sim_node *before = transaction->before.root, *node;

	if ((read && !same_below(before, store->tree.root, read)) ||
	    !same_below(before, store->tree.root, written))
		return false;
	node = sim_node_find(transaction->tree.root, written);
	if (node)
		sim_tree_graft(&store->tree, written, (struct sim_node *)node, &transaction->before,
			       &transaction->tree);
	return true;
}

/* Answers a logged request again. Returns false for a type that oxenstored can't try again. */
static bool ask_again(const struct sim_logged *logged, struct sim_tree *tree,
		      const struct sim_credentials *who, struct store_message *request,
		      struct sim_changes *changes, struct store_reply *reply)
{
	int decoded = sim_wire_decode(request, logged->message, logged->len);
	uint32_t type = request->header.type;

	if (type == XS_WATCH_EVENT || type == XS_ERROR)
		reply->error = -ENOSYS;
	else if (!sim_request_is_for_tree(type) ||
		 (type == XS_DIRECTORY_PART && !tree->options->like_xenstored))
		return false;
	else if (decoded < 0)
		reply->error = decoded;
	else
		sim_request_execute(tree, who, request, reply, changes);
	return true;
}

/* Runs the requests once more on the live tree. Returns 0, or -EAGAIN or -EDQUOT, which leave the tree as it
 * was. */
static int replay(struct sim_connection *connection, struct sim_transaction *transaction)
{
	struct sim_store *store = connection->domain->store;
	struct sim_credentials who = sim_domain_credentials(connection->domain);
	struct store_message *request;
	struct sim_changes changes = {0};
	struct sim_tree tree;
	int rc = 0;

	/* oxenstored does this in another transaction, which a domain may not have that lost its
	 * privileges. */
	if (transaction_quota_reached(connection->domain))
		return -EDQUOT;
	request = sim_must(malloc(sizeof(*request)));
	sim_tree_snapshot(&tree, &store->tree);
	for (unsigned i = 0; i < transaction->n_logged && rc == 0; i++) {
		struct store_reply reply = {0};

		if (!ask_again(&transaction->log[i], &tree, &who, request, &changes, &reply) ||
		    !sim_reply_equal(&reply, &transaction->log[i].reply))
			rc = -EAGAIN;
		sim_reply_clear(&reply);
	}
	sim_changes_clear(&changes);
	free(request);
	if (rc < 0) {
		sim_tree_clear(&tree);
		return rc;
	}
	sim_tree_clear(&store->tree);
	store->tree = tree;
	return 0;
}

int sim_transaction_end(struct sim_connection *connection, struct sim_transaction *transaction, bool commit,
			struct sim_committed *committed)
{
	struct sim_store *store = connection->domain->store;
	int rc = 0;

	DL_DELETE(connection->transactions, transaction);
	if (transaction->stale) {
		rc = commit ? -EAGAIN : 0;
		commit = false;
	}
	if (commit && connection->domain->conflicts) {
		connection->domain->conflicts -= connection->domain->conflicts != UINT_MAX;
		rc = -EAGAIN;
		commit = false;
	}
	if (commit && store->options.like_xenstored) {
		rc = transaction_is_outdated(transaction, store->tree.root) ? -EAGAIN : 0;
		commit = rc == 0;
		tell_once(transaction);
	}
	/* A transaction that has only read commits, whatever happened meanwhile. */
	if (commit && transaction->changes.count == 0)
		commit = false;
	if (commit) {
		/* Nothing has changed since: changes copy every node that we hold, so the live root would be
		 * another. */
		if (store->tree.root == transaction->before.root) {
			struct sim_tree tree;

			sim_tree_snapshot(&tree, &transaction->tree);
			sim_tree_clear(&store->tree);
			store->tree = tree;
		} else if (store->options.like_xenstored || !graft(store, transaction)) {
			rc = replay(connection, transaction);
		}
		if (rc == 0) {
			*committed = (struct sim_committed){
				.changes = transaction->changes,
				.old_root = sim_node_ref(transaction->before.root),
				.new_root = sim_node_ref(transaction->tree.root),
			};
			transaction->changes = (struct sim_changes){0};
		}
	}
	transaction_free(transaction);
	return rc;
}

void sim_transaction_committed_clear(struct sim_committed *committed)
{
	sim_changes_clear(&committed->changes);
	sim_node_unref(committed->old_root);
	sim_node_unref(committed->new_root);
	*committed = (struct sim_committed){0};
}

void sim_transaction_abort_all(struct sim_connection *connection)
{
	struct sim_transaction *transaction, *next;

	DL_FOREACH_SAFE(connection->transactions, transaction, next) {
		DL_DELETE(connection->transactions, transaction);
		transaction_free(transaction);
	}
}

void sim_transaction_make_stale(struct sim_connection *connection)
{
	struct sim_transaction *transaction;

	DL_FOREACH(connection->transactions, transaction)
		transaction->stale = true;
}
