/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/peers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/peers/peers_internal.h"
#include "daemon/peers/peers_tell.h"
#include "base/image.h"
#include "base/timer.h"
#include "wire/address.h"
#include "wire/ut.h"

/* In units (turns.h). */
#define COST_TURN 50u
#define COST_LEAF 200u /* to parse what was read, */
/* and to look for the names in it, of two bytes at least, among those that are known */
#define COST_BYTE 10u

/* --- peers --- */

static bool is_allowed(const struct peers *peers, uint32_t domid)
{
	const struct config *config = peers->options.config;

	if (!config->presence_private)
		return true;
	for (unsigned i = 0; i < config->peer_count; i++)
		if (config->peers[i] == domid)
			return true;
	return false;
}

static void peer_free(struct peer *peer)
{
	rendezvous_destroy(peer);
	presence_unwatch_leaf(peer);
	leaves_end(peer);
	saves_destroy(peer);
	tell_destroy(peer);
	store_cancel(&peer->advert.request);
	lookups_done(peer);
	task_cancel(&peer->task);
	account_unref(peer->account);
	HASH_DEL(peer->peers->peers, peer);
	free(peer->leaves.for_us.list);
	free(peer->leaves.for_all.list);
	free(peer->advert.value);
	free(peer);
}

static void peers_on_turn(struct task *task);

/* Makes what a new peer consists of. False: out of memory; it is freed. */
static bool peer_begin(struct peer *peer)
{
	struct peers *peers = peer->peers;

	peer->allowed = is_allowed(peers, peer->domid);
	peer->leaf_watched = LEAVES;
	leaves_begin(peer);
	if (peers->options.quota)
		peer->account = quota_account(peers->options.quota, QUOTA_PEER, peer->domid);
	task_init(&peer->task, peers->options.turns, account_line(peer->account), peers_on_turn);
	tell_init(peer);
	if (rendezvous_init(peer) < 0) {
		peer_free(peer);
		return false;
	}
	forget_later(peer);
	return true;
}

/* Of what its hello has said that alone: no hello stands there any more for a link that can't be. */
static void peer_image(struct image *image, struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	char none[PEERS_NONCE_SIZE] = "";
	/* Our hello goes, so the next daemon finds out by itself. */
	uint32_t unlinkable =
		rendezvous->unlinkable == UNLINKABLE_HERE ? UNLINKABLE_FORBIDDEN : rendezvous->unlinkable;

	image_text(image, peer->instance, sizeof(peer->instance));
	image_upto(image, &unlinkable, UNLINKABLE_FORBIDDEN);
	if (image->is_read)
		rendezvous->unlinkable = unlinkable;
	image_u64(image, &rendezvous->forbidden_ms);
	image_expect(image, rendezvous->forbidden_ms <= clock_ms());
	image_text(image, peer->dead_instance, sizeof(peer->dead_instance));
	image_text(image, peer->dead_instance[0] ? rendezvous->tried_nonce : none, sizeof(none));
}

static void look_up_again(struct image *image, struct peers *peers)
{
	struct peer nobody = {.domid = 0}, *peer;
	uint32_t domid = 0;

	image_upto(image, &domid, DOMID_MAX);
	peer = image->error || domid == peers->options.self->domid ? NULL : peer_get(peers, domid);
	peer_image(image, peer ? peer : &nobody);
	if (!peer)
		return;
	peer->is_stranger = false;
	peer_look_up(peer);
	task_due(&peer->task);
}

/* Whether the next daemon couldn't know of it soon: domain 0, where it tells a guest, tells of all again.
 * That a daemon has died isn't seen a second time, while what it has left stands there. */
static bool is_for_image(const struct peer *peer)
{
	return peer->dead_instance[0] ||
	       (peer->up && !peer->peers->options.domains &&
		(!peer->peers->zero.is_telling || peer->leaves.hello_seen || peer->rendezvous.unlinkable));
}

void peers_image(struct image *image, struct peers *peers)
{
	uint32_t count = 0;
	struct peer *peer;

	told_image(image, peers);
	for (peer = peers->peers; peer; peer = peer->hh.next)
		count += is_for_image(peer);
	image_upto(image, &count, DOMID_MAX);
	if (image->is_read) {
		for (; count > 0 && !image->error; count--)
			look_up_again(image, peers);
		return;
	}
	for (peer = peers->peers; peer; peer = peer->hh.next)
		if (is_for_image(peer)) {
			image_u32(image, &peer->domid);
			peer_image(image, peer);
		}
}

/* Returns whether nothing is known of the peer that XenStore wouldn't tell again. */
static bool is_forgettable(const struct peer *peer)
{
	return !peer->up && !peer->kicked && !peer->leaves.stale && !peer->leaves.reading &&
	       !peer->leaves.came && !peer->leaves.missed && !peer->asked && !peer->advert.request &&
	       !peer->advert.asks_us && !peer->watch && !tell_is_pending(peer) && !peer->leaves.hello_seen &&
	       !peer->leaves.presence_major && !peer->leaves.hello_major &&
	       peer->rendezvous.state == RENDEZVOUS_IDLE && !peer->rendezvous.wanted &&
	       !(peer->peers->options.config->presence_private && peer->allowed);
}

/* Gives what was read to the part that it is for. */
static void take(struct peer *peer, enum peer_leaf leaf, const char *untrusted_value, size_t size)
{
	switch (leaf) {
	case LEAF_ASKS:
		tell_asks(peer, untrusted_value != NULL);
		break;
	case LEAF_RING_REF:
	case LEAF_EVENT_CHANNEL:
		rendezvous_node(peer, leaf, untrusted_value, size);
		break;
	case LEAF_SHUTDOWN:
		saves_take(peer, untrusted_value, size);
		break;
	case LEAF_OUR_HELLO:
	case LEAF_OUR_ENDPOINTS:
	case LEAF_OUR_RING_REF:
	case LEAF_OUR_EVENT_CHANNEL:
		repair_take(peer, leaf, untrusted_value, size);
		break;
	default:
		presence_take(peer, leaf, untrusted_value, size);
	}
}

/* Takes in all that has come. Returns what it cost. */
static uint64_t take_all(struct peer *peer)
{
	uint64_t cost = 0;

	for (enum peer_leaf leaf = 0; leaf < LEAVES; leaf++) {
		char *untrusted_value;
		size_t size;

		if (!(peer->leaves.came & 1u << leaf))
			continue;
		cost += COST_LEAF + peer->leaves.read[leaf].size * COST_BYTE;
		if (leaf_take(peer, leaf, &untrusted_value, &size))
			take(peer, leaf, untrusted_value, size);
		if (leaf == LEAF_ENDPOINTS || leaf == LEAF_PUBLIC) /* both lists are compared */
			cost += 2 * COST_BYTE *
				(uint64_t)(peer->leaves.for_us.count + peer->leaves.for_all.count);
		free(untrusted_value);
	}
	return cost;
}

/* Takes in what has been read of the peer, reads what is stale, and takes the steps that this allows. */
static void peers_on_turn(struct task *task)
{
	struct peer *peer = (struct peer *)((char *)task - offsetof(struct peer, task));
	bool was_connected = peer->rendezvous.state == RENDEZVOUS_CONNECTED;
	uint64_t cost = COST_TURN + take_all(peer);

	forget_if_idle(peer);
	if (peer->advert.asks_us) {
		peer->advert.asks_us = false;
		cost += advertise_cost(peer->peers);
		if (advertise_shows_more(peer)) {
			peer->is_stranger = false;
			peer_look_up(peer);
		} else if (peer->up) {
			advertise_soon(peer);
		}
	}
	if (peer->kicked) {
		peer->kicked = false;
		rendezvous_advance(peer);
	}
	/* A watch that a link has needed which wasn't made at once becomes the bell. */
	presence_watch_leaf(peer);
	if (!was_connected && peer->rendezvous.state == RENDEZVOUS_CONNECTED)
		bell_add(peer->peers, peer->domid);
	cost += leaves_read(peer);
	if (!peer->rendezvous.wanted || peer->rendezvous.state != RENDEZVOUS_IDLE)
		lookups_done(peer);
	turns_spend(task->turns, task->line, cost);
	if (is_forgettable(peer)) {
		advertise_withdraw(peer);
		peer_free(peer);
	}
}

/* --- life --- */

static void remove_leaf(struct peers *peers, const char *leaf)
{
	char path[PEERS_PATH_SIZE];

	snprintf(path, sizeof(path), "%s/%s", peers->root, leaf);
	peers_remove(peers, path);
}

/* Removes the leaf by itself first: other domains may not read the directory, so its removal is hidden from
 * them. It stays while one daemon hands over to the next, as do the endpoints for all and for each peer; the
 * next one can't know what stands there, and writes them once. */
static void remove_tree(struct peers *peers)
{
	if (peers->hands_over) {
		remove_leaf(peers, "asks");
	} else {
		remove_leaf(peers, "presence");
		peers_remove(peers, peers->root);
	}
	peers->hands_over = false;
}

/* What a peer that may know of us sees stays in a hand-over; all else that was written for it goes. */
static void remove_private(const struct peer *peer)
{
	if (peer->advert.written)
		peer_remove_ours(peer, peer->peers->hands_over ? "/hello" : "/endpoints");
	else if (peer->rendezvous.our_nonce[0])
		peer_remove_ours(peer, "");
}

/* Of whoever has a leaf it is found out whether anything here is for it now. */
static void on_readers(void *userdata, int error, char *const *untrusted_names, unsigned count)
{
	struct peers *peers = userdata;
	uint32_t domid;

	for (unsigned i = 0; error == 0 && i < count; i++) {
		struct peer *peer;
		char leaf[32];

		if (!domid_parse(untrusted_names[i], strlen(untrusted_names[i]), &domid) ||
		    domid == peers->options.self->domid)
			continue;
		peer = is_allowed(peers, domid) ? peer_get(peers, domid) : NULL;
		if (peer) {
			peer->advert.written = peer->advert.asks_us = true;
			task_due(&peer->task);
			continue;
		}
		snprintf(leaf, sizeof(leaf), "to/%u/endpoints", domid);
		remove_leaf(peers, leaf);
	}
}

/* The settings and rules may be others than the daemon before had: what others mayn't see any more goes. */
static int take_tree_over(struct peers *peers)
{
	char path[PEERS_PATH_SIZE];

	peers->adverts.public_unknown = !peers->options.config->presence_private;
	if (peers->options.config->presence_private) {
		remove_leaf(peers, "presence");
		remove_leaf(peers, "endpoints");
	} else {
		remove_leaf(peers, "own");
	}
	snprintf(path, sizeof(path), "%s/to", peers->root);
	return store_list(peers->store, path, on_readers, peers, &peers->adverts.readers);
}

static void on_pages(evutil_socket_t fd, short what, void *userdata)
{
	rendezvous_pages_freed(userdata);
}

static void on_vchan_freed(void *userdata)
{
	struct peers *peers = userdata;

	if (peers->page_queue)
		event_active(peers->pages, EV_TIMEOUT, 0);
}

int peers_start(struct peers *peers)
{
	const struct peers_options *options = &peers->options;
	const struct config *config = options->config;
	bool takes_over = peers->hands_over;

	peers->may_map = rendezvous_may_map(options);
	peers->begin = peer_begin;
	peers->changed = presence_on_change;
	peers_subtree(options->self->domid, peers->root);
	peers->pages = event_new(peers->base, -1, 0, on_pages, peers);
	if (!peers->pages || advertise_init(peers) < 0 || all_init(peers) < 0 || told_init(peers) < 0 ||
	    forget_init(peers) < 0 || leaves_init(peers) < 0 || repair_init(peers, all_again) < 0)
		return -ENOMEM;
	vchan_host_set_freed(peers->host, on_vchan_freed, peers);

	/* What an earlier daemon left must be gone before the new presence is seen, and answers to that must
	 * find us watching. */
	remove_tree(peers);
	if (takes_over && take_tree_over(peers) < 0)
		return -ENOMEM;
	if (repair_watch(peers) < 0 || presence_watch(peers) < 0)
		return -ENOMEM;
	advertise_presence(peers);
	for (unsigned i = 0; config->presence_private && i < config->peer_count; i++)
		if (config->peers[i] != options->self->domid && domid_is_valid(config->peers[i])) {
			struct peer *peer = peer_get(peers, config->peers[i]);

			if (!peer)
				return -ENOMEM;
			advertise_to(peer);
			peer_look_up(peer);
		}
	all_start(peers);
	return 0;
}

int peers_new(struct peers **result, struct event_base *base, struct store *store, struct vchan_host *host,
	      const struct peers_options *options, const struct peers_callbacks *callbacks, void *userdata)
{
	struct peers *peers = calloc(1, sizeof(*peers));
	int r;

	if (!peers)
		return -ENOMEM;
	peers->base = base;
	peers->store = store;
	peers->host = host;
	peers->options = *options;
	peers->callbacks = *callbacks;
	peers->userdata = userdata;
	peers->hands_over = options->takes_over;
	r = peers_start(peers);
	if (r < 0)
		peers_free(peers);
	else
		*result = peers;
	return r;
}

void peers_stop(struct peers *peers)
{
	struct peer *peer, *next;

	registry_leave(peers->options.registry, &peers->sink);
	lookups_destroy(peers);
	vchan_host_set_freed(peers->host, NULL, NULL);
	HASH_ITER(hh, peers->peers, peer, next) {
		if (peers->options.config->presence_private)
			remove_private(peer);
		peer_free(peer);
	}
	remove_tree(peers);
	store_cancel(&peers->adverts.readers);
	free_event(peers->pages);
	advertise_destroy(peers);
	all_destroy(peers);
	told_destroy(peers);
	forget_destroy(peers);
	leaves_destroy(peers);
	repair_destroy(peers);
	/* Keeps what it was created with, and what has been repaired recently: all begins anew when somebody
	 * removes the whole tree, which would be removed and written without end. */
	*peers = (struct peers){
		.repair.count = peers->repair.count,
		.base = peers->base,
		.store = peers->store,
		.host = peers->host,
		.options = peers->options,
		.callbacks = peers->callbacks,
		.userdata = peers->userdata,
	};
}

void peers_hand_over(struct peers *peers)
{
	peers->hands_over = true;
	peers_stop(peers);
}

void peers_free(struct peers *peers)
{
	if (!peers)
		return;
	peers_stop(peers);
	free(peers);
}

int peers_connect(struct peers *peers, uint32_t domid, struct account *account)
{
	struct rendezvous *rendezvous;
	struct peer *peer;
	int r = 0;

	if (account && !peers_is_up(peers, domid) &&
	    (!domid_is_valid(domid) || absent_is_known(peers, domid)))
		return -EHOSTDOWN;
	peer = peer_get(peers, domid);
	if (!peer)
		return -ENOMEM;
	forget_not(peer);
	peer->is_stranger = false;
	rendezvous = &peer->rendezvous;
	if (rendezvous->state >= RENDEZVOUS_CONNECTED)
		return 0;
	if (!rendezvous->wanted && !rendezvous_may_be_tried(peer))
		return -ENOLINK;
	if (account && rendezvous->state == RENDEZVOUS_IDLE && !peer->up)
		r = lookups_add(peer, account);
	else if (!rendezvous->wanted)
		rendezvous_wanted(peer);
	if (r == 0 && !rendezvous->wanted) {
		rendezvous->wanted = true;
		if (!peer->up)
			peer->leaves.looked &= ~LEAVES_LOOKED_UP;
	}
	peer_kick(peer);
	return r;
}

/* --- listings --- */

/* Returns whether there is anything to list of the peer. */
static bool peers_is_listed(const struct peer *peer)
{
	return peer->up || peer->rendezvous.state != RENDEZVOUS_IDLE;
}

static void peers_fill_info(const struct peer *peer, struct peer_info *info)
{
	*info = (struct peer_info){
		.domid = peer->domid,
		.up = peer->up,
		.instance = peer->instance,
		.state = rendezvous_state_name(peer),
	};
}

bool peers_next(struct peers *peers, int64_t after, struct peer_info *info)
{
	struct peer *peer = peer_after(peers, after);

	while (peer && !peers_is_listed(peer))
		peer = peer->hh.next;
	if (peer)
		peers_fill_info(peer, info);
	return peer != NULL;
}

bool peers_instance(struct peers *peers, uint32_t domid, uint8_t instance[16])
{
	const struct peer *peer = peer_find(peers, domid);
	/* A hello that names another one than the presence is an earlier daemon's, or the presence is. */
	const char *text = !peer		      ? ""
			   : peer->leaves.presence[0] ? peer->leaves.presence
			   : peer->leaves.hello_seen  ? peer->leaves.hello.instance
						      : peer->instance;

	return uuid_parse(text, strlen(text), instance);
}

bool peers_is_up(struct peers *peers, uint32_t domid)
{
	const struct peer *peer = peer_find(peers, domid);

	return peer && peer->up;
}

bool peers_lack(struct peers *peers, uint32_t domid)
{
	return vchan_host_lacks(peers->host, domid);
}

bool peers_is_absent(struct peers *peers, uint32_t domid)
{
	return !peers_is_up(peers, domid) && absent_is_known(peers, domid);
}

bool peers_is_unlinkable(struct peers *peers, uint32_t domid)
{
	const struct peer *peer = peer_find(peers, domid);

	return peer && peer->up && peer->rendezvous.unlinkable != LINKABLE;
}

bool peers_is_forbidden(struct peers *peers, uint32_t domid)
{
	const struct peer *peer = peer_find(peers, domid);

	return peer && peer->up && peer->rendezvous.unlinkable >= UNLINKABLE_FORBIDDEN;
}

bool peers_own_leaf(const struct peers *peers, char path[PEERS_OWN_LEAF_SIZE])
{
	snprintf(path, PEERS_OWN_LEAF_SIZE, "data/xenmsg/%s", peers_own_leaf_name(peers));
	return peers->adverts.presence_written && !peers->adverts.presence_request;
}

bool peers_are_shown(const struct peers *peers)
{
	return peers->hears;
}

unsigned peers_nodes_written(const struct peers *peers)
{
	unsigned nodes = (peers->adverts.presence_written ? 1 : 0) + (peers->adverts.public_value ? 1 : 0);
	const struct peer *peer;

	for (peer = peers->peers; peer; peer = peer->hh.next)
		nodes += (unsigned)peer->advert.written +
			 (peer->rendezvous.state != RENDEZVOUS_IDLE ? 1 : 0) +
			 (peer->rendezvous.state == RENDEZVOUS_GRANTED ? 2 : 0);
	return nodes;
}

unsigned peers_lookups(const struct peers *peers)
{
	return peers->lookups;
}

unsigned peers_waiting(const struct peers *peers)
{
	struct peer *peer;
	unsigned count = 0;

	DL_FOREACH2(peers->page_queue, peer, rendezvous.wait_next)
		count++;
	return count;
}
