/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads the leaves that peers write, each by one request at a time, in the turns of their accounts. It is a
 * part of peers.c and owns `reread` of struct peers, and the masks in `leaves` of struct peer.
 *
 *   stale ──the peer's turn──▶ being read ──answered──▶ came ──the peer's next turn──▶ taken
 *   being read ──has changed meanwhile (`reread`)──▶ stale again, when it is taken
 *   came ──couldn't be read (`missed`)──▶ stale, when there is a connection to XenStore
 */

#include "daemon/peers/peers_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/timer.h"

#define COST_READ   1000u /* in units (turns.h): a request to XenStore, */
#define COST_THREAD 2000u /* of which its thread has the most, for which nobody's turn waits */
#define REREAD_MS   1000

/* The names are in the leaves' order. Ours are where the peer's would be, but for the domains' order. */
void leaf_path(const struct peer *peer, enum peer_leaf leaf, char path[PEERS_PATH_SIZE])
{
	static const char *const names[LEAVES] = {"presence", "endpoints", "hello",	    "endpoints",
						  "asks",     "ring-ref",  "event-channel", "shutdown",
						  "hello",    "endpoints", "ring-ref",	    "event-channel"};
	const struct rendezvous *rendezvous = &peer->rendezvous;
	const bool ours = leaf >= LEAF_OUR_HELLO && leaf < LEAVES;
	const uint32_t us = peer->peers->options.self->domid, from = ours ? us : peer->domid,
		       to = ours ? peer->domid : us;

	if (leaf == LEAF_SHUTDOWN)
		snprintf(path, PEERS_PATH_SIZE, "/local/domain/%u/control/%s", from, names[leaf]);
	else if (leaf == LEAF_PRESENCE || leaf == LEAF_ASKS || leaf == LEAF_PUBLIC)
		snprintf(path, PEERS_PATH_SIZE, "/local/domain/%u/data/xenmsg/%s", from, names[leaf]);
	else if (leaf == LEAF_FOR_US)
		snprintf(path, PEERS_PATH_SIZE, "/local/domain/%u/data/xenmsg/to/%u", from, to);
	else if (1u << leaf & (NODES | OUR_NODES))
		snprintf(path, PEERS_PATH_SIZE, "/local/domain/%u/data/xenmsg/to/%u/%s/%s", from, to,
			 ours ? rendezvous->tried_nonce : rendezvous->our_nonce, names[leaf]);
	else
		snprintf(path, PEERS_PATH_SIZE, "/local/domain/%u/data/xenmsg/to/%u/%s", from, to,
			 names[leaf]);
}

static void on_leaf(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct leaf_read *read = userdata;
	struct peer *peer = read->peer;

	read->error = error;
	read->size = size;
	if (untrusted_value) {
		read->untrusted_value = malloc(size + 1);
		if (read->untrusted_value)
			memcpy(read->untrusted_value, untrusted_value, size + 1);
		else
			read->error = -ENOMEM;
	}
	peer->leaves.came |= 1u << (read - peer->leaves.read);
	task_due(&peer->task);
}

bool leaf_take(struct peer *peer, enum peer_leaf leaf, char **untrusted_value, size_t *size)
{
	struct leaf_read *read = &peer->leaves.read[leaf];
	int error = read->error;

	*untrusted_value = read->untrusted_value;
	*size = read->size;
	read->untrusted_value = NULL;
	peer->leaves.came &= ~(1u << leaf);
	peer->leaves.reading &= ~(1u << leaf);
	if (peer->leaves.reread & 1u << leaf) {
		peer->leaves.reread &= ~(1u << leaf);
		peer_read(peer, leaf);
		/* A moment of absence counts: the new node is another one. Then there is no value. */
		return error == -ENOENT;
	}
	peer->leaves.looked |= 1u << leaf;
	/* XenStore is broken, which says nothing about the peer. A change that was told isn't told
	 * again. */
	if (error < 0 && error != -ENOENT) {
		if (!peer->asked) {
			peer->leaves.missed |= 1u << leaf;
			timer_start(peer->peers->reread, REREAD_MS);
		}
		peer_kick(peer);
		return false;
	}
	return true;
}

void peer_read(struct peer *peer, enum peer_leaf leaf)
{
	unsigned bit = 1u << leaf;

	peer->leaves.missed &= ~bit;
	if (peer->leaves.reading & bit) {
		const struct store_request *request = peer->leaves.read[leaf].request;

		if (!request || store_has_begun(peer->peers->store, request))
			peer->leaves.reread |= bit;
		return;
	}
	peer->leaves.stale |= bit;
	task_due(&peer->task);
}

void peer_look_up(struct peer *peer)
{
	peer->leaves.looked &= ~LEAVES_LOOKED_UP;
	peer_read(peer, LEAF_PRESENCE);
	peer_read(peer, LEAF_HELLO);
	peer_read(peer, LEAF_ENDPOINTS);
}

/* Whether there is a place where the leaf would be. The nodes of rings have none when their attempt is
 * over. */
static bool peers_leaves_has_place(const struct peer *peer, enum peer_leaf leaf)
{
	if (1u << leaf & NODES)
		return peer->rendezvous.our_nonce[0];
	return !(1u << leaf & OUR_NODES) || peer->rendezvous.state == RENDEZVOUS_GRANTED;
}

uint64_t leaves_read(struct peer *peer)
{
	struct peers *peers = peer->peers;
	char path[PEERS_PATH_SIZE];
	uint64_t cost = 0;

	for (enum peer_leaf leaf = 0; leaf < LEAVES; leaf++) {
		struct leaf_read *read = &peer->leaves.read[leaf];

		if (!peers_leaves_has_place(peer, leaf))
			peer->leaves.stale &= ~(1u << leaf);
		if (!(peer->leaves.stale & 1u << leaf))
			continue;
		cost += COST_READ;
		turns_spend_measured(peer->task.turns, peer->task.line, COST_THREAD);
		leaf_path(peer, leaf, path);
		if (store_read(peers->store, path, on_leaf, read, &read->request) < 0) {
			timer_start(peers->reread, REREAD_MS); /* it stays stale until then */
			continue;
		}
		peer->leaves.stale &= ~(1u << leaf);
		peer->leaves.reading |= 1u << leaf;
	}
	return cost;
}

static void on_reread(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;

	if (!store_is_connected(peers->store)) {
		timer_start(peers->reread, REREAD_MS);
		return;
	}
	for (struct peer *peer = peers->peers; peer; peer = peer->hh.next) {
		for (enum peer_leaf leaf = 0; leaf < LEAVES; leaf++)
			if (peer->leaves.missed & 1u << leaf)
				peer_read(peer, leaf); /* it may be being read by now */
		if (peer->leaves.stale)
			task_due(&peer->task);
	}
}

int leaves_init(struct peers *peers)
{
	peers->reread = evtimer_new(peers->base, on_reread, peers);
	return peers->reread ? 0 : -ENOMEM;
}

void leaves_destroy(struct peers *peers)
{
	free_event(peers->reread);
}

void leaves_begin(struct peer *peer)
{
	for (enum peer_leaf leaf = 0; leaf < LEAVES; leaf++)
		peer->leaves.read[leaf].peer = peer;
}

void leaves_end(struct peer *peer)
{
	for (enum peer_leaf leaf = 0; leaf < LEAVES; leaf++) {
		store_cancel(&peer->leaves.read[leaf].request);
		free(peer->leaves.read[leaf].untrusted_value);
	}
}
