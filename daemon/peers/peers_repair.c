/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looks after what we have written into XenStore: others may remove or change it (a toolstack that clears a
 * tree, a store that was restored from before), and then nobody hears of us, or a link never comes about. A
 * watch on our own subtree tells of each change there; what was written is read, and written again if it
 * isn't there as it was. It is a part of peers.c and owns `repair` of struct peers, and `repair...` of struct
 * peer.
 *
 *   stands ──the watch fires──▶ being read ──as written, or being written anew──▶ stands
 *                                   ├──gone or another──▶ written again, which the watch tells of, too
 *                                   └──likewise, for the 17th time in a row──▶ waits ──a second──▶ being read
 *
 * So who removes something again and again costs one write a second of each peer's nodes. An own leaf that
 * goes with the whole tree may be the sign of a migration, of which the owner must hear before another leaf
 * hides it. The owner then begins all anew, but not how often that was: it is bounded likewise.
 */

#include "daemon/peers/peers_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/timer.h"

#define MEND_MS	      1000
#define MENDS_AT_ONCE 16 /* of one peer's nodes; it grows back by one a second */

#define OURS (1u << LEAF_OUR_HELLO | 1u << LEAF_OUR_ENDPOINTS | OUR_NODES)

static bool is_value(const char *value, size_t size, const char *expected)
{
	return value && size == strlen(expected) && !memcmp(value, expected, size);
}

/* Takes one of those writes that may be made at once. False: it must wait. */
static bool may_repair(struct peers *peers, unsigned *repairs)
{
	timer_start(peers->repair.later, MEND_MS);
	if (*repairs == MENDS_AT_ONCE)
		return false;
	++*repairs;
	return true;
}

/* --- what is for one peer --- */

/* Has those of the leaves read that we have written. */
static void peers_repair_look_at(struct peer *peer, unsigned leaves)
{
	const struct rendezvous *rendezvous = &peer->rendezvous;

	if (rendezvous->state == RENDEZVOUS_IDLE)
		leaves &= ~(1u << LEAF_OUR_HELLO);
	if (rendezvous->state != RENDEZVOUS_GRANTED)
		leaves &= ~OUR_NODES;
	if (!peer->advert.written)
		leaves &= ~(1u << LEAF_OUR_ENDPOINTS);
	for (enum peer_leaf leaf = 0; leaf < LEAVES; leaf++)
		if (leaves & 1u << leaf)
			peer_read(peer, leaf);
}

static void repair_later(struct peer *peer, enum peer_leaf leaf)
{
	peer->repair_later |= 1u << leaf;
	timer_start(peer->peers->repair.later, MEND_MS);
}

static bool is_as_written(const struct peer *peer, enum peer_leaf leaf, const char *value, size_t size)
{
	char expected[RENDEZVOUS_NODE_SIZE];

	if (leaf == LEAF_OUR_ENDPOINTS)
		return !peer->advert.written || peer->advert.request || !peer->advert.value ||
		       is_value(value, size, peer->advert.value);
	return !rendezvous_node_stands(peer, leaf, expected) || is_value(value, size, expected);
}

void repair_take(struct peer *peer, enum peer_leaf leaf, const char *value, size_t size)
{
	if (is_as_written(peer, leaf, value, size))
		return;
	if (!may_repair(peer->peers, &peer->repairs)) {
		repair_later(peer, leaf);
		return;
	}
	log_limited(
		LOG_STORE, LOG_BY_DOMAIN(peer->domid), LOG_LEVEL_WARNING,
		"peers: somebody has %s what this daemon wrote into XenStore for domain %u; it is written again",
		value ? "changed" : "removed", peer->domid);
	if (leaf == LEAF_OUR_ENDPOINTS) {
		advertise_anew(peer);
		advertise_to(peer);
	} else {
		rendezvous_write_again(peer, leaf);
	}
}

/* --- what is for all --- */

static void warn(const char *leaf, const char *value)
{
	log_limited(LOG_STORE, LOG_BY_US, LOG_LEVEL_WARNING,
		    "peers: somebody has %s what this daemon wrote into XenStore (%s); it is written again",
		    value ? "changed" : "removed", leaf);
}

static void on_presence(void *userdata, int error, const char *value, size_t size)
{
	struct peers *peers = userdata;
	bool with_tree = peers->repair.tree, again = peers->repair.show_again;
	char expected[PRESENCE_SIZE];

	if (error < 0 && error != -ENOENT)
		return; /* a connection that comes back lets the watch fire */
	peers->repair.tree = peers->repair.show_again = false;
	presence_format(peers, expected);
	if (!peers->adverts.presence_written || peers->adverts.presence_request)
		return;
	if (is_value(value, size, expected)) {
		if (again)
			advertise_presence_again(peers);
		return;
	}
	if (!may_repair(peers, &peers->repair.count)) {
		peers->repair.own |= 1u << OWN_PRESENCE;
		peers->repair.tree |= with_tree;
		return;
	}
	if (!value && with_tree && peers->callbacks.own_leaf_gone &&
	    peers->callbacks.own_leaf_gone(peers->userdata))
		return;
	warn(peers_own_leaf_name(peers), value);
	advertise_presence_again(peers);
}

static void on_public(void *userdata, int error, const char *value, size_t size)
{
	struct peers *peers = userdata;

	if ((error < 0 && error != -ENOENT) || !peers->adverts.public_value ||
	    peers->adverts.public_request || is_value(value, size, peers->adverts.public_value))
		return;
	if (!*peers->adverts.public_value && !value)
		return; /* nobody misses it */
	if (!may_repair(peers, &peers->repair.count)) {
		peers->repair.own |= 1u << OWN_PUBLIC;
		return;
	}
	warn("endpoints", value);
	advertise_public_anew(peers);
}

static void on_asks(void *userdata, int error, const char *value, size_t size)
{
	struct peers *peers = userdata;

	/* What it says means nothing. */
	if (error != -ENOENT || !peers->all.state || peers->all.request)
		return;
	if (may_repair(peers, &peers->repair.count))
		peers->repair.asks_gone(peers);
	else
		peers->repair.own |= 1u << OWN_ASKS;
}

/* Reads a leaf that isn't a peer's, and once more if it is being read already and the answer may be from
 * before. */
static void read_own(struct peers *peers, const char *leaf, store_done_fn done,
		     struct store_request **request)
{
	char path[PEERS_PATH_SIZE];

	if (*request && !store_has_begun(peers->store, *request))
		return;
	store_cancel(request);
	snprintf(path, sizeof(path), "%s/%s", peers->root, leaf);
	if (store_read(peers->store, path, done, peers, request) < 0)
		timer_start(peers->repair.later, MEND_MS);
}

static const char *own_name(const struct peers *peers, enum own_leaf leaf)
{
	static const char *const names[OWN_LEAVES] = {[OWN_PUBLIC] = "endpoints", [OWN_ASKS] = "asks"};

	return names[leaf] ? names[leaf] : peers_own_leaf_name(peers);
}

static bool stands(const struct peers *peers, enum own_leaf leaf)
{
	switch (leaf) {
	case OWN_PRESENCE:
		return peers->adverts.presence_written;
	case OWN_PUBLIC:
		return peers->adverts.public_value;
	default:
		return peers->all.state && !peers->options.config->presence_private;
	}
}

/* Looks at those of a bit mask that we have written. */
static void look_at_own(struct peers *peers, unsigned leaves)
{
	static const store_done_fn done[OWN_LEAVES] = {
		[OWN_PRESENCE] = on_presence, [OWN_PUBLIC] = on_public, [OWN_ASKS] = on_asks};

	peers->repair.own &= ~leaves;
	for (unsigned leaf = 0; leaf < OWN_LEAVES; leaf++)
		if (leaves & 1u << leaf && stands(peers, leaf))
			read_own(peers, own_name(peers, leaf), done[leaf], &peers->repair.requests[leaf]);
}

/* --- what has changed --- */

void repair_show_again(struct peers *peers)
{
	if (!peers->adverts.presence_written) /* it is to be written anyway */
		return;
	peers->repair.tree = peers->repair.show_again = true;
	look_at_own(peers, 1u << OWN_PRESENCE);
}

static void peers_repair_look_at_all(struct peers *peers)
{
	for (struct peer *peer = peers->peers; peer; peer = peer->hh.next)
		peers_repair_look_at(peer, OURS);
}

static void on_change_for(struct peer *peer, enum peers_path path)
{
	switch (path) {
	case PEERS_PATH_HELLO:
		peers_repair_look_at(peer, 1u << LEAF_OUR_HELLO);
		break;
	case PEERS_PATH_ENDPOINTS:
		peers_repair_look_at(peer, 1u << LEAF_OUR_ENDPOINTS);
		break;
	case PEERS_PATH_NODES:
		peers_repair_look_at(peer, OUR_NODES);
		break;
	default:
		peers_repair_look_at(peer, OURS);
	}
}

static void peers_repair_on_change(void *userdata, const char *untrusted_path)
{
	struct peers *peers = userdata;
	const size_t root_size = strlen(peers->root);
	char nonce[PEERS_NONCE_SIZE];
	const char *leaf = "";
	struct peer *peer;
	uint32_t reader;

	if (peers_path_reader(untrusted_path, &reader)) {
		enum peers_path path = peers_path_parse(untrusted_path, reader, &(uint32_t){0}, nonce);

		peer = peer_find(peers, reader);
		if (peer && path != PEERS_PATH_OTHER)
			on_change_for(peer, path);
		return;
	}
	if (!strncmp(untrusted_path, peers->root, root_size) && untrusted_path[root_size] == '/')
		leaf = untrusted_path + root_size + 1;
	for (unsigned own = 0; own < OWN_LEAVES; own++)
		if (!strcmp(leaf, own_name(peers, own)))
			look_at_own(peers, 1u << own);
	if (!*leaf) { /* the tree, or a domain's directory above it; or the watch was set */
		peers->repair.tree = true;
		look_at_own(peers, (1u << OWN_LEAVES) - 1);
	}
	if (!*leaf || !strcmp(leaf, "to"))
		peers_repair_look_at_all(peers);
}

static void on_repair(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;
	bool again = peers->repair.count > 0;

	peers->repair.count -= peers->repair.count > 0;
	look_at_own(peers, peers->repair.own);
	for (struct peer *peer = peers->peers; peer; peer = peer->hh.next) {
		again |= peer->repairs > 0;
		peer->repairs -= peer->repairs > 0;
		peers_repair_look_at(peer, peer->repair_later);
		peer->repair_later = 0;
	}
	if (again)
		timer_start(peers->repair.later, MEND_MS);
}

int repair_watch(struct peers *peers)
{
	return store_watch(peers->store, peers->root, peers_repair_on_change, peers, peers_on_watched,
			   &peers->repair.watch);
}

int repair_init(struct peers *peers, void (*asks_gone)(struct peers *peers))
{
	peers->repair.asks_gone = asks_gone;
	peers->repair.later = evtimer_new(peers->base, on_repair, peers);
	if (!peers->repair.later)
		return -ENOMEM;
	if (peers->repair.count)
		timer_start(peers->repair.later, MEND_MS);
	return 0;
}

void repair_destroy(struct peers *peers)
{
	store_unwatch(peers->store, &peers->repair.watch);
	for (unsigned leaf = 0; leaf < OWN_LEAVES; leaf++)
		store_cancel(&peers->repair.requests[leaf]);
	free_event(peers->repair.later);
}
