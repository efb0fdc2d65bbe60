/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulated XenStore as its clients reach it: whatever they send, each answer is well formed, the tree
 * stays in order, and what a connection held is gone with it.
 *
 * Input: one byte that picks the form, then either what a guest's socket would carry, or a series of
 * messages by three domains, "who type transaction length payload", a byte each but for the payload.
 */

#include "sim/store/store_internal.h"
#include "tests/fuzz/fuzz.h"

/* Reads what a client was sent. A guest's ring carries no longer message than libxenstore accepts. */
static void check_output(struct sim_connection *connection)
{
	struct xsd_sockmsg header;

	while (evbuffer_get_length(connection->output)) {
		check(evbuffer_remove(connection->output, &header, sizeof(header)) == sizeof(header));
		check(header.len <= XENSTORE_PAYLOAD_MAX || connection->domain->domid == 0);
		check(header.type < XS_TYPE_COUNT);
		check(header.type == XS_READ || header.type == XS_DIRECTORY || header.len > 0);
		check(evbuffer_get_length(connection->output) >= header.len);
		evbuffer_drain(connection->output, header.len);
	}
}

/* What domains are charged for is not always what they own, as in oxenstored (tests/store). */
static void check_tree(const struct sim_node *node)
{
	check(node->n_perms > 0);
	for (unsigned i = 0; i < node->n_children; i++) {
		check(i == 0 || strcmp(node->children[i - 1]->name, node->children[i]->name) < 0);
		check_tree(node->children[i]);
	}
}

static void feed_messages(struct sim_connection *clients[3], const uint8_t *data, size_t size)
{
	while (size >= 4) {
		struct sim_connection *client = clients[data[0] % 3];
		struct xsd_sockmsg header = {.type = data[1] % 32, .tx_id = data[2] % 8, .len = data[3]};

		data += 4;
		size -= 4;
		if (header.len > size)
			header.len = (uint32_t)size;
		evbuffer_add(client->input, &header, sizeof(header));
		evbuffer_add(client->input, data, header.len);
		data += header.len;
		size -= header.len;
		sim_connection_process(client);
		for (int i = 0; i < 3; i++)
			check_output(clients[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct event_base *base;
	struct sim_store_options options;
	struct sim_connection *clients[3];
	struct sim_store *store;
	struct sim_store_stats stats;

	if (size == 0)
		return 0;
	if (!base)
		base = event_base_new();
	sim_store_options_init(&options);
	options.limits.nodes = 20; /* within reach */
	options.limits.watches = 5;
	options.limits.transactions = 2;
	options.limits.transaction_requests = 10;
	store = sim_store_new(base, &options);
	check(store);
	for (unsigned domid = 0; domid < 3; domid++) {
		const struct sim_perm theirs = {domid, SIM_PERM_NONE};
		char path[] = "/local/domain/0/data";

		path[14] = (char)('0' + domid);
		sim_store_write(store, path, "", &theirs, 1);
		sim_store_introduce(store, domid);
		clients[domid] = sim_connection_new(sim_domain_get(store, domid), -1);
	}

	if (data[0] & 2) {
		evbuffer_add(clients[1]->input, data + 1, size - 1);
		sim_connection_process(clients[1]);
	} else {
		feed_messages(clients, data + 1, size - 1);
	}
	for (int i = 0; i < 3; i++)
		check_output(clients[i]);
	check_tree(store->tree.root);

	if (data[0] & 4)
		check(sim_store_rename_domain(store, 1, 9) == 0);
	else
		sim_store_stall(store, true);
	sim_store_unlisten(store, 2);
	sim_store_release(store, 2);
	sim_store_stats(store, 2, &stats);
	check(stats.nodes + stats.watches + stats.transactions + stats.connections == 0);
	check_tree(store->tree.root);
	sim_store_free(store);
	return 0;
}
