/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of the peers, on which all parts of peers.c stand, and the paths of what we write for them. It
 * owns `peers` and `is_sorted` of struct peers. Peers.c makes the parts of a new peer.
 */

#include "daemon/peers/peers_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct peer *peer_find(struct peers *peers, uint32_t domid)
{
	struct peer *peer;

	HASH_FIND(hh, peers->peers, &domid, sizeof(domid), peer);
	return peer;
}

static int peers_by_domid(const struct peer *a, const struct peer *b)
{
	return (a->domid > b->domid) - (a->domid < b->domid);
}

struct peer *peer_after(struct peers *peers, int64_t domid)
{
	struct peer *peer = domid < 0 ? NULL : peer_find(peers, (uint32_t)domid);

	if (!peers->is_sorted)
		HASH_SRT(hh, peers->peers, peers_by_domid);
	peers->is_sorted = true;
	peer = peer ? peer->hh.next : peers->peers;
	while (peer && peer->domid <= domid)
		peer = peer->hh.next;
	return peer;
}

struct peer *peer_get(struct peers *peers, uint32_t domid)
{
	struct peer *peer = peer_find(peers, domid);

	if (peer)
		return peer;
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return NULL;
	peer->domid = domid;
	peer->peers = peers;
	/* Behind all others: to find its place would take as many steps as there are numbers that programs
	 * have asked for. */
	HASH_ADD(hh, peers->peers, domid, sizeof(peer->domid), peer);
	if (!HASH_ADDED(peer)) {
		free(peer);
		return NULL;
	}
	peers->is_sorted = false;
	return peers->begin(peer) ? peer : NULL;
}

void peer_kick(struct peer *peer)
{
	peer->kicked = true;
	task_due(&peer->task);
}

void peers_subtree(uint32_t domid, char path[PEERS_ROOT_SIZE])
{
	snprintf(path, PEERS_ROOT_SIZE, "/local/domain/%u/data/xenmsg", domid);
}

void peer_our_path(const struct peer *peer, char path[PEERS_PATH_SIZE], const char *rest)
{
	snprintf(path, PEERS_PATH_SIZE, "/local/domain/%u/data/xenmsg/to/%u%s",
		 peer->peers->options.self->domid, peer->domid, rest);
}

bool peer_hello_is_current(const struct peer *peer)
{
	return peer->leaves.hello_seen && !peer->dead_instance[0] &&
	       (peer->allowed || peer->rendezvous.state != RENDEZVOUS_IDLE) &&
	       (peer->leaves.presence[0] == '\0' ||
		!strcmp(peer->leaves.presence, peer->leaves.hello.instance));
}

void peers_on_watched(void *userdata, int error, const char *value, size_t size)
{
	if (error < 0)
		log_limited(LOG_STORE, LOG_BY_US, LOG_LEVEL_ERROR,
			    "peers: can't watch all that is needed in XenStore: %s; some will be seen late",
			    strerror(-error));
}

void peers_watch(struct peers *peers, const char *path, store_watch_fn event, void *userdata,
		 struct store_watch **watch)
{
	int r = store_watch(peers->store, path, event, userdata, peers_on_watched, watch);

	if (r < 0)
		peers_on_watched(userdata, r, NULL, 0);
}

void peers_remove(struct peers *peers, const char *path)
{
	int r = store_remove(peers->store, path, NULL, NULL, NULL);

	if (r < 0)
		log_limited(LOG_STORE, LOG_BY_US, LOG_LEVEL_WARNING, "peers: can't remove %s: %s", path,
			    strerror(-r));
}

void peer_remove_ours(const struct peer *peer, const char *rest)
{
	char path[PEERS_PATH_SIZE];

	peer_our_path(peer, path, rest);
	peers_remove(peer->peers, path);
}
