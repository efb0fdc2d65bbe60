/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Presence: watches XenStore, and decides from the leaves of the peers which of them are up. It is a part of
 * peers.c and owns in struct peer what was found in the leaves, whether it is up, and its watches. What
 * peers_leaves.c has read is untrusted until it has been parsed.
 *
 *   unknown ──a leaf of it appears──▶ looked up ──presence, or leaves for us──▶ up ──none is left──▶ down
 *   up ──nothing to do with it any more (forgetting)──▶ unknown
 *   up ──the leaves name another instance──▶ down, then up: it was replaced
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/peers/peers_internal.h"
#include "base/timer.h"
#include "daemon/peers/peers_tell.h"
#include "wire/address.h"
#include "wire/frame.h"

/* In units (turns.h). */
#define COST_CHANGE 3000u /* a watch event, most of it in XenStore's thread, for which nobody's turn waits */

/* A guest has 128 watches at most, and one that is refused costs the connection. */
#define LEAF_WATCHES_MAX 64

/* That is left to XenStore which a link has needed that wasn't made at once: as while this guest is saved. */
void presence_unwatch_leaf(struct peer *peer)
{
	struct store *store = peer->peers->store;

	if (peer->leaf_watched == LEAF_FOR_US)
		store_unwatch(store, &peer->watch);
	else
		store_unwatch_at_once(store, &peer->watch);
	if (peer->leaf_watched != LEAVES)
		peer->peers->leaf_watches--;
	peer->leaf_watched = LEAVES;
}

static enum peer_leaf leaf_to_watch(const struct peer *peer)
{
	const struct peers *peers = peer->peers;

	if ((!peer->up && !peer->dead_instance[0]) || (peer->domid == 0 && peers->zero_watch))
		return LEAVES;
	if (peers->zero.is_telling)
		return rendezvous_is_late(peer) && !bell_is_there(peers, peer->domid) ? LEAF_FOR_US : LEAVES;
	return peer->leaves.presence[0]	     ? LEAF_PRESENCE
	       : peer->leaves.endpoints_seen ? LEAF_ENDPOINTS
					     : LEAF_HELLO;
}

/* Watches the leaf itself. The watch on /local/domain fires for a leaf that is removed, but not for one that
 * goes with a directory above it, which we may not read; and that is how a domain ends. A watch on the leaf
 * fires then, too. A guest that domain 0 tells needs none of this, and domain 0 itself doesn't end. But while
 * a link isn't made at once, the guest watches by itself what the peer writes for it: domain 0's daemon may
 * stand still. */
void presence_watch_leaf(struct peer *peer)
{
	struct peers *peers = peer->peers;
	enum peer_leaf leaf = leaf_to_watch(peer);
	char path[PEERS_PATH_SIZE];

	if (peers->options.domains || leaf == peer->leaf_watched)
		return;
	presence_unwatch_leaf(peer);
	if (leaf != LEAVES && peers->leaf_watches < LEAF_WATCHES_MAX) {
		leaf_path(peer, leaf, path);
		peer->leaf_watched = leaf;
		peers->leaf_watches++;
		peers_watch(peers, path, presence_on_change, peers, &peer->watch);
	}
	if (!peer->watch)
		presence_unwatch_leaf(peer); /* retried at the next change */
}

static const struct offered nothing = {.list = NULL};

static void tell_endpoints(struct peer *peer)
{
	registry_set_endpoints(peer->peers->options.registry, peer->domid,
			       (const struct offered[]){peer->leaves.for_us, peer->leaves.for_all}, 2);
}

static void set_endpoints(struct peer *peer, struct offered *which, const struct offered *offered)
{
	free(which->list);
	*which = *offered;
	if (!peer->is_stranger)
		tell_endpoints(peer);
}

/* Tells that the peer is there, with its endpoints, or isn't any more. */
static void tell_up(struct peer *peer, bool up)
{
	if (!up) {
		free(peer->leaves.for_us.list);
		free(peer->leaves.for_all.list);
		peer->leaves.for_us = peer->leaves.for_all = nothing;
	}
	registry_set_up(peer->peers->options.registry, peer->domid, up);
	if (up)
		tell_endpoints(peer);
}

static void log_presence(const struct peer *peer)
{
	log_limited(LOG_PRESENCE, LOG_BY_DOMAIN(peer->domid), LOG_LEVEL_INFO, "domain %u: its daemon is %s",
		    peer->domid, peer->up ? "there" : "gone");
}

/* Takes the peer for one of which nothing is known, and removes what we have written for it. */
static void presence_forget(struct peer *peer)
{
	log_debug("peers: domain %u is forgotten: nothing is to do with it", peer->domid);
	tell_up(peer, false); /* its daemon is there, as peers_is_up() still says */
	peer->up = false;
	peer->is_stranger = true;
	peer->leaves.endpoints_seen = false;
	peer->leaves.presence[0] = peer->instance[0] = '\0';
	peer->leaves.looked = 0;
	advertise_withdraw(peer);
}

/* --- forgetting ------------------------------------------------------------------------------- */

/*
 * Forgets peers whose daemons run, but with which nobody here has to do any more: what we have written for
 * such a peer is removed, nothing of it is watched, and its struct is freed. It is a part of peers.c and
 * owns `forget...` of struct peers, and `use`, `is_ours` and `is_held` of struct peer.
 *
 * The one that began ends it: of two that know each other, the one that wanted to know the other gives it
 * up, by removing its endpoints leaf for it. The other one does the same then; or, if it has become
 * acquainted with it for reasons of its own, it writes its own leaf once more, and so it is known again, as
 * the one that has begun.
 *
 *   used ──no link, look-up or asking for all, for forget_ms──▶ idle
 *   idle ──it has written nothing for us, or we began──▶ forgotten
 *        ──else──▶ stays, since it needs us
 *   any  ──its leaf for us goes, its daemon is there──▶ needed: held, that is, what it offers stays known
 *          │           until it has written its leaf again, or some seconds are over
 *          └──not needed──▶ forgotten
 *
 * Domain 0 knows all domains, and everybody knows domain 0. Those that a private presence is shown to aren't
 * forgotten either.
 */

#define HOLD_MS 3000 /* the peer's daemon answers within that */

/* Whether something here has to do with the peer now. */
static bool peers_forget_is_needed(const struct peer *peer)
{
	const struct peers *peers = peer->peers;

	return peers->all.state || peer->domid == 0 || peer->asked || peer->rendezvous.wanted ||
	       peer->rendezvous.state != RENDEZVOUS_IDLE ||
	       (peers->options.config->presence_private && peer->allowed);
}

void forget_later(struct peer *peer)
{
	peer->use = PEER_USED;
	if (peer->peers->options.config->idle_close_ms && !peer->peers->options.domains && peer->domid != 0)
		timer_start(peer->peers->forget, peer->peers->options.config->idle_close_ms);
}

/* Finds those that weren't used since the last time. */
static void peers_on_forget(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;

	for (struct peer *peer = peers->peers; peer; peer = peer->hh.next) {
		if (peer->domid != 0)
			timer_start(peers->forget, peers->options.config->idle_close_ms);
		peer->use = peers_forget_is_needed(peer) ? PEER_USED
			    : peer->use == PEER_USED	 ? PEER_UNUSED
							 : PEER_IDLE;
		if (peer->use == PEER_IDLE)
			task_due(&peer->task);
	}
}

void forget_if_idle(struct peer *peer)
{
	if (peer->use != PEER_IDLE)
		return;
	peer->use = PEER_UNUSED;
	if (peer->up && !peers_forget_is_needed(peer) && peer->leaves.presence[0] &&
	    !peer->leaves.hello_seen && (peer->is_ours || !peer->leaves.endpoints_seen))
		presence_forget(peer);
}

static void on_held(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;

	for (struct peer *peer = peers->peers; peer; peer = peer->hh.next) {
		if (peer->is_held)
			peer_read(peer, LEAF_ENDPOINTS);
		peer->is_held = false;
	}
}

/* The peer's leaf for us has gone, and its daemon hasn't. Returns whether this was taken care of; else it
 * offers nothing any more. */
static bool forget_was_forgotten(struct peer *peer)
{
	struct peers *peers = peer->peers;

	if (!peer->up || peers->options.domains || !peer->leaves.presence[0] || peer->leaves.hello_seen)
		return false;
	if (!peers_forget_is_needed(peer)) {
		presence_forget(peer);
		return true;
	}
	peer->is_held = true;
	timer_start(peers->forget_held, HOLD_MS);
	peer->advert.answer = true; /* even an empty leaf tells it that we are here */
	advertise_anew(peer);
	advertise_soon(peer);
	return true;
}

int forget_init(struct peers *peers)
{
	peers->forget = evtimer_new(peers->base, peers_on_forget, peers);
	peers->forget_held = evtimer_new(peers->base, on_held, peers);
	return peers->forget && peers->forget_held ? 0 : -ENOMEM;
}

void forget_destroy(struct peers *peers)
{
	free_event(peers->forget);
	free_event(peers->forget_held);
}

/* --- what the leaves say ---------------------------------------------------------------------- */

/* Returns whether what was read doesn't show yet whether the peer's daemon is there, and has the rest read.
 * Of a stranger, what it has written for us, and all else, must have been read; of another peer, its presence
 * or all else. */
static bool is_strange(struct peer *peer)
{
	unsigned missing = LEAVES_LOOKED_UP & ~peer->leaves.looked;
	bool has_written = peer->leaves.endpoints_seen || peer->leaves.hello_seen || peer->leaves.hello_major;
	bool was_stranger = peer->is_stranger, is_incomplete = missing != 0;

	if (peer->up || (!was_stranger && (peer->leaves.presence[0] || !has_written)))
		return false;
	if (!has_written)
		return true;
	peer->is_stranger = was_stranger && is_incomplete;
	if (was_stranger && !is_incomplete && peer->leaves.presence[0]) /* it may have been read too early */
		missing = 1u << LEAF_PUBLIC;
	for (enum peer_leaf leaf = 0; leaf < LEAVES; leaf++)
		if (missing & ~(peer->leaves.stale | peer->leaves.reading | peer->leaves.came) & 1u << leaf)
			peer_read(peer, leaf);
	return is_incomplete;
}

/* Whether the leaves are still those of the daemon that has died: one that takes back its hello, or has
 * another one, lives. That isn't known before both were read, as behind a hand-over. */
static bool is_dead(struct peer *peer, const char *instance)
{
	unsigned unread = ~peer->leaves.looked | peer->leaves.missed;

	if (unread & (1u << LEAF_PRESENCE | 1u << LEAF_HELLO))
		return peer->dead_instance[0];
	if (!peer->leaves.hello_seen || strcmp(peer->rendezvous.tried_nonce, peer->leaves.hello.nonce) != 0 ||
	    strcmp(peer->dead_instance, instance) != 0)
		peer->dead_instance[0] = '\0';
	return peer->dead_instance[0];
}

/* Removes what the peer's dead daemon has left, as its next one would: a daemon without a link with it has
 * seen nothing die, and one that takes its presence for gone is to find nothing else. If the next one was
 * faster, it writes its leaves again (peers_repair.c). */
static void clear_away(const struct peer *peer)
{
	char root[PEERS_ROOT_SIZE], path[PEERS_PATH_SIZE];

	peers_subtree(peer->domid, root);
	snprintf(path, sizeof(path), "%s/to", root);
	peers_remove(peer->peers, path);
	leaf_path(peer, LEAF_PRESENCE, path);
	peers_remove(peer->peers, path);
}

/* Decides from the leaves whether the peer is up, down, or another daemon than before. A daemon that writes
 * no presence shows itself by what it writes for us. */
static void conclude_presence(struct peer *peer)
{
	struct peers *peers = peer->peers;
	bool other_version = peer->leaves.presence_major || peer->leaves.hello_major;
	bool up = peer->leaves.presence[0] ||
		  (!other_version && (peer->leaves.endpoints_seen || peer->leaves.hello_seen));
	const char *instance = peer->leaves.presence[0]	 ? peer->leaves.presence
			       : peer->leaves.hello_seen ? peer->leaves.hello.instance
							 : "";
	bool replaced;

	if (is_dead(peer, instance))
		up = false;
	else if (is_strange(peer))
		return;
	replaced = up && instance[0] && peer->instance[0] && strcmp(instance, peer->instance);

	if (!up || replaced) /* also since the daemon before ours has seen it */
		rendezvous_forget_unlinkable(peer);
	if (peer->up && (!up || replaced)) {
		peer->up = false;
		rendezvous_peer_gone(peer, replaced);
		if (replaced) /* the owner forgets them at its end; the new daemon's may be the same */
			peer_read(peer, LEAF_ENDPOINTS);
		else
			advertise_withdraw(peer);
		if (peers->options.domains && peer->dead_instance[0] && peer->leaves.presence[0])
			clear_away(peer);
		tell_up(peer, false);
		log_presence(peer);
	}
	if (!up || instance[0])
		snprintf(peer->instance, sizeof(peer->instance), "%s", up ? instance : "");
	if (up && !peer->up) {
		peer->up = true;
		if (all_follows(peers, peer->domid))
			forget_not(peer);
		advertise_anew(peer); /* even if it stands there: the new daemon waits for it to change */
		if (advertise_is_wanted(peer))
			advertise_to(peer);
		tell_up(peer, true);
		log_presence(peer);
	}
	if (peer->domid == 0)
		told_check(peers);
	peer_kick(peer);
}

static void peers_presence_complain(struct peer *peer, const char *what, int error, unsigned major)
{
	if (error == -EPROTONOSUPPORT)
		log_limited(
			LOG_BAD_VALUE, LOG_BY_DOMAIN(peer->domid), LOG_LEVEL_WARNING,
			"peers: domain %u speaks version %u of the protocol in its %s, this daemon version %d",
			peer->domid, major, what, PEERS_MAJOR);
	else
		log_limited(LOG_BAD_VALUE, LOG_BY_DOMAIN(peer->domid), LOG_LEVEL_WARNING,
			    "peers: domain %u has written a bad %s into XenStore; taken for absent",
			    peer->domid, what);
}

static void take_presence(struct peer *peer, const char *untrusted_value, size_t size)
{
	char instance[PEERS_INSTANCE_SIZE] = "";
	bool was_there = peer->leaves.presence[0] != '\0';
	unsigned major = 0;
	int r;

	peer->leaves.presence_major = 0;
	peer->leaves.presence[0] = '\0';
	if (untrusted_value) {
		r = presence_parse(untrusted_value, size, &major, instance);
		if (r < 0)
			peers_presence_complain(peer, "presence", r, major);
		if (r == -EPROTONOSUPPORT)
			peer->leaves.presence_major = major ? major : UINT32_MAX;
		if (r == 0) {
			memcpy(peer->leaves.presence, instance, sizeof(peer->leaves.presence));
			tell_shown(peer);
		}
	}
	if (peer->leaves.presence[0])
		peer_read(peer, LEAF_PUBLIC);
	else
		set_endpoints(peer, &peer->leaves.for_all, &nothing);
	if (was_there != (peer->leaves.presence[0] != '\0'))
		advertise_soon(peer);
	/* no watch fires for the other leaves if they have gone with their directory */
	if (was_there && !peer->leaves.presence[0]) {
		peer_read(peer, LEAF_HELLO);
		peer_read(peer, LEAF_ENDPOINTS);
	}
	conclude_presence(peer);
}

static void peers_presence_take_hello(struct peer *peer, const char *untrusted_value, size_t size)
{
	unsigned major = 0;
	int r;

	peer->leaves.hello_major = 0;
	peer->leaves.hello_seen = false;
	if (untrusted_value) {
		r = hello_parse(untrusted_value, size, &major, &peer->leaves.hello);
		if (r < 0)
			peers_presence_complain(peer, "hello", r, major);
		if (r == -EPROTONOSUPPORT)
			peer->leaves.hello_major = major ? major : UINT32_MAX;
		peer->leaves.hello_seen = r == 0;
	}
	if (!peer->leaves.hello_seen)
		rendezvous_hello_gone(peer);
	/* One of the two is out of date. Nobody may have told us that its presence has changed. */
	if (peer->leaves.hello_seen && peer->leaves.presence[0] &&
	    strcmp(peer->leaves.presence, peer->leaves.hello.instance))
		peer_read(peer, LEAF_PRESENCE);
	conclude_presence(peer);
}

/* Parses a list of endpoints. Returns whether there is one. */
static bool parse_endpoints(struct peer *peer, const char *untrusted_value, size_t size,
			    struct offered *offered)
{
	int r = -ENOENT;

	*offered = nothing;
	if (untrusted_value) {
		r = endpoints_parse(untrusted_value, size, offered);
		if (r < 0)
			peers_presence_complain(peer, "list of endpoints", r, 0);
	}
	return r == 0;
}

static void take_public(struct peer *peer, const char *untrusted_value, size_t size)
{
	struct offered offered;

	parse_endpoints(peer, untrusted_value, size, &offered);
	if (peer->up) {
		set_endpoints(peer, &peer->leaves.for_all, &offered);
		return;
	}
	free(offered.list);
}

static void peers_presence_take_endpoints(struct peer *peer, const char *untrusted_value, size_t size)
{
	bool were_seen = peer->leaves.endpoints_seen;
	struct offered offered;

	peer->leaves.endpoints_seen = parse_endpoints(peer, untrusted_value, size, &offered);
	if (!untrusted_value && peer->leaves.presence[0] &&
	    (peer->is_held || (were_seen && forget_was_forgotten(peer))))
		return;
	conclude_presence(peer);
	set_endpoints(peer, &peer->leaves.for_us, &offered);
}

void presence_take(struct peer *peer, enum peer_leaf leaf, const char *untrusted_value, size_t size)
{
	if (leaf == LEAF_PRESENCE)
		take_presence(peer, untrusted_value, size);
	else if (leaf == LEAF_HELLO)
		peers_presence_take_hello(peer, untrusted_value, size);
	else if (leaf == LEAF_ENDPOINTS)
		peers_presence_take_endpoints(peer, untrusted_value, size);
	else
		take_public(peer, untrusted_value, size);
}

/* Reads all that may have changed of the peer. */
static void peers_presence_look_again(struct peer *peer)
{
	peer_look_up(peer);
	rendezvous_look_again(peer);
}

/* Takes notice of what has changed of a domain that isn't known: only if we have to do with it. */
static void meet(struct peers *peers, uint32_t domid, unsigned leaves)
{
	unsigned written = leaves & (CHANGED_HELLO | CHANGED_ENDPOINTS), reasons = CHANGED_ASKS_ALL;
	struct peer *peer;

	if (all_follows(peers, domid))
		reasons |= CHANGED_PRESENCE | CHANGED_HELLO | CHANGED_ENDPOINTS;
	if (!(leaves & (reasons | CHANGED_ASKS)) && !written)
		return;
	peer = peer_get(peers, domid);
	if (!peer)
		return;
	peer->advert.answer = leaves & CHANGED_ASKS_ALL;
	peer->advert.asks_us = leaves & CHANGED_ASKS;
	if (leaves & reasons) {
		peer_look_up(peer);
	} else if (written) { /* or removed */
		peer->is_stranger = true;
		if (written & CHANGED_HELLO)
			peer_read(peer, LEAF_HELLO);
		if (written & CHANGED_ENDPOINTS)
			peer_read(peer, LEAF_ENDPOINTS);
	}
	task_due(&peer->task);
}

void peers_changed(struct peers *peers, const struct peers_change *change)
{
	static const struct {
		unsigned change;
		enum peer_leaf leaf;
	} leaves[] = {
		{CHANGED_PRESENCE, LEAF_PRESENCE},
		{CHANGED_ENDPOINTS, LEAF_ENDPOINTS},
		{CHANGED_HELLO, LEAF_HELLO},
		{CHANGED_PUBLIC, LEAF_PUBLIC},
	};
	struct peer *peer = peer_find(peers, change->domid);

	if (change->domid == peers->options.self->domid) {
		if (change->leaves & CHANGED_ASKS)
			all_listed(peers);
		return;
	}
	absent_forget(peers, change->domid);
	all_heard(peers);
	if (change->leaves & CHANGED_ASKS)
		askers_add(peers, change->domid);
	if (!peer) {
		meet(peers, change->domid, change->leaves);
		return;
	}
	for (size_t i = 0; i < sizeof(leaves) / sizeof(*leaves); i++)
		if (change->leaves & leaves[i].change)
			peer_read(peer, leaves[i].leaf);
	if (change->leaves & CHANGED_NODES)
		rendezvous_look_again(peer);
	if (!(change->leaves & (CHANGED_ASKS | CHANGED_ASKS_ALL)))
		return;
	if (!peer->up) { /* else it was answered when it came up, unless */
		peer->is_stranger = false;
		peer_look_up(peer);
	} else if ((change->leaves & CHANGED_ASKS_ALL) && !peer->advert.answer &&
		   (!peer->advert.written || peer->rendezvous.state >= RENDEZVOUS_CONNECTED)) {
		peer->advert.answer = true; /* an empty answer was left out */
		advertise_soon(peer);
	} else if (change->leaves & CHANGED_ASKS_ALL) {
		/* It may have missed the first one, or the daemon that has handed over to it had that. */
		peer->advert.answer = true;
		advertise_again(peer);
	}
}

/* A guest hears of everybody's presence while it watches /local/domain, but takes no notice of a domain that
 * it has nothing to do with, unless all are to be known. */
void presence_on_change(void *userdata, const char *untrusted_path)
{
	static const unsigned leaves[] = {
		[PEERS_PATH_PRESENCE] = CHANGED_PRESENCE,   [PEERS_PATH_ASKS] = CHANGED_ASKS_ALL,
		[PEERS_PATH_PUBLIC] = CHANGED_PUBLIC,	    [PEERS_PATH_HELLO] = CHANGED_HELLO,
		[PEERS_PATH_ENDPOINTS] = CHANGED_ENDPOINTS, [PEERS_PATH_NODES] = CHANGED_NODES,
	};
	struct peers *peers = userdata;
	struct peer *peer, *next;
	char nonce[PEERS_NONCE_SIZE];
	uint32_t domid = peers->options.self->domid;
	enum peers_path path = peers_path_parse(untrusted_path, domid, &domid, nonce);

	if (path == PEERS_PATH_ALL) {
		memset(peers->absent, 0, sizeof(peers->absent));
		HASH_ITER(hh, peers->peers, peer, next)
			if (!lookups_defer(peer))
				peers_presence_look_again(peer);
		all_again(peers);
		if (peers->all.fired) /* those that have asked meanwhile, unheard, see us by that */
			repair_show_again(peers);
		peers->all.fired = true;
		return;
	}
	if (domid == peers->options.self->domid)
		return;
	peer = peer_find(peers, domid);
	if (peer)
		turns_spend_measured(peer->task.turns, peer->task.line, COST_CHANGE);
	if (peer && peers->options.domains)
		tell_change(peer, untrusted_path);
	if (path == PEERS_PATH_OTHER ||
	    (path == PEERS_PATH_NODES && (!peer || strcmp(nonce, peer->rendezvous.our_nonce) != 0)))
		return;
	if (path != PEERS_PATH_DOMAIN) {
		peers_changed(peers, &(struct peers_change){.domid = domid, .leaves = leaves[path]});
		return;
	}
	absent_forget(peers, domid);
	all_heard(peers);
	if (!peer && domid == 0) /* a guest has to do with it in any case */
		peer = peer_get(peers, domid);
	if (peer)
		peers_presence_look_again(peer);
}

/* --- dom0, which no watch tells of everything: it watches each domain --- */

static void domain_gone(struct peers *peers, uint32_t domid)
{
	struct peer *peer = peer_find(peers, domid);

	if (!peer)
		return;
	store_unwatch(peers->store, &peer->watch);
	tell_anything(peer);
	peer_look_up(peer); /* its home was removed */
	peer_kick(peer);
}

static void peers_presence_domain_there(struct peers *peers, uint32_t domid)
{
	struct peer *peer = domid == peers->options.self->domid ? NULL : peer_get(peers, domid);
	char path[PEERS_ROOT_SIZE];

	if (!peer || peer->watch)
		return;
	peers_subtree(domid, path);
	/* fires at once, so the domain is looked up */
	peers_watch(peers, path, presence_on_change, peers, &peer->watch);
}

static void peers_presence_on_known(void *userdata, enum registry_what what, uint32_t domid)
{
	struct peers *peers = userdata;
	struct peer *peer = what == REGISTRY_NAME ? peer_find(peers, domid) : NULL;

	if (peer) /* what it may see depends on its name */
		advertise_soon(peer);
	if (what == REGISTRY_NAME && (!peer || !peer->up))
		askers_named(peers, domid);
	if (what == REGISTRY_EXISTS)
		(registry_find(peers->options.registry, domid)->exists ? peers_presence_domain_there
								       : domain_gone)(peers, domid);
}

int presence_watch(struct peers *peers)
{
	registry_listen(peers->options.registry, &peers->sink, peers_presence_on_known, peers);
	if (!peers->options.domains)
		return told_watch(peers);
	peers->hears = true;
	return 0;
}
