/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A transaction works on a snapshot and logs each request with its answer. If the live tree has changed
 * meanwhile, oxenstored commits in one of two ways. If nothing has changed below the node that has all that
 * was read below it, nor below the one that has all that was changed, it puts the latter into the live tree:
 * so what was asked for in vain isn't looked at. Otherwise it tries all requests again on the live tree:
 * equal answers commit, any other ends in EAGAIN.
 */
#include <string.h>

#include "sim/store_internal.h"

static void transaction_free(struct sim_transaction *transaction)
{
	for (unsigned i = 0; i < transaction->n_logged; i++) {
		free(transaction->log[i].message);
		sim_reply_clear(&transaction->log[i].reply);
	}
	free(transaction->log);
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

static bool quota_reached(const struct store_domain *domain)
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

	if (quota_reached(domain))
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
	else if (!sim_request_is_for_tree(type))
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

	/* oxenstored does this in another transaction, which a domain may not have that lost its privileges. */
	if (quota_reached(connection->domain))
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
		} else if (!graft(store, transaction)) {
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
