/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A transaction works on a snapshot and logs each request with its answer. If the live tree has changed
 * meanwhile, oxenstored tries the requests again on it: equal answers commit, any other ends in EAGAIN.
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
	sim_node_unref(transaction->old_root);
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
		if (transaction->id == id)
			return transaction;
	return NULL;
}

static bool id_in_use(const struct sim_domain *domain, uint32_t id)
{
	const struct sim_connection *connection;

	DL_FOREACH(domain->connections, connection)
		if (sim_transaction_find(connection, id))
			return true;
	return false;
}

int sim_transaction_start(struct sim_connection *connection, uint32_t *id)
{
	struct sim_domain *domain = connection->domain;
	struct sim_store *store = domain->store;
	struct sim_credentials who = sim_domain_credentials(domain);
	struct sim_transaction *transaction;

	if (!sim_credentials_privileged(&who)) {
		const struct sim_connection *other;
		unsigned count = 0;

		DL_FOREACH(domain->connections, other)
			count += sim_transaction_count(other);
		if (count > store->options.limits.transactions)
			return -EDQUOT;
	}
	do {
		domain->next_transaction = domain->next_transaction % INT32_MAX + 1;
	} while (id_in_use(domain, domain->next_transaction));

	transaction = sim_must(calloc(1, sizeof(*transaction)));
	transaction->id = domain->next_transaction;
	transaction->old_root = sim_node_ref(store->tree.root);
	sim_tree_snapshot(&transaction->tree, &store->tree);
	DL_APPEND(connection->transactions, transaction);
	*id = transaction->id;
	return 0;
}

void sim_transaction_execute(struct sim_connection *connection, struct sim_transaction *transaction,
			     const struct sim_request *request, const void *message, size_t len,
			     struct sim_reply *reply)
{
	struct sim_credentials who = sim_domain_credentials(connection->domain);
	const struct sim_store_options *options = &connection->domain->store->options;
	struct sim_logged *logged;

	if (!sim_credentials_privileged(&who) &&
	    transaction->n_logged >= options->limits.transaction_requests) {
		reply->error = -EDQUOT;
		return;
	}
	sim_request_execute(&transaction->tree, &who, request, reply, &transaction->changes);

	transaction->log = sim_must(realloc(transaction->log, (transaction->n_logged + 1) * sizeof(*logged)));
	logged = &transaction->log[transaction->n_logged++];
	*logged = (struct sim_logged){.message = sim_must(malloc(len)), .len = len};
	memcpy(logged->message, message, len);
	logged->reply.error = reply->error;
	if (reply->data)
		sim_reply_append(&logged->reply, reply->data, reply->len);
}

/* Runs the requests once more on the live tree. Returns 0, or -EAGAIN, which leaves the tree as it was. */
static int replay(struct sim_connection *connection, struct sim_transaction *transaction)
{
	struct sim_store *store = connection->domain->store;
	struct sim_credentials who = sim_domain_credentials(connection->domain);
	struct sim_request *request = sim_must(malloc(sizeof(*request)));
	struct sim_changes changes = {0};
	struct sim_tree tree;
	int rc = 0;

	sim_tree_snapshot(&tree, &store->tree);
	for (unsigned i = 0; i < transaction->n_logged && rc == 0; i++) {
		const struct sim_logged *logged = &transaction->log[i];
		struct sim_reply reply = {0};

		if (sim_wire_decode(request, logged->message, logged->len) < 0)
			abort(); /* only requests that could be decoded are logged */
		sim_request_execute(&tree, &who, request, &reply, &changes);
		if (!sim_reply_equal(&reply, &logged->reply))
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
		if (store->tree.root == transaction->old_root) {
			struct sim_tree tree;

			sim_tree_snapshot(&tree, &transaction->tree);
			sim_tree_clear(&store->tree);
			store->tree = tree;
		} else {
			rc = replay(connection, transaction);
		}
		if (rc == 0) {
			*committed = (struct sim_committed){
				.changes = transaction->changes,
				.old_root = sim_node_ref(transaction->old_root),
				.new_root = sim_node_ref(transaction->tree.root),
			};
			transaction->changes = (struct sim_changes){0};
		}
	}
	DL_DELETE(connection->transactions, transaction);
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
