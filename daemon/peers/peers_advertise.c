/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes what we show to others in XenStore: our presence leaf, the endpoints that everyone may see, once for
 * all, and for each peer that is up the others that it may reach (all, if it doesn't read the leaf for all).
 * It is a part of peers.c and owns `adverts` of struct peers, and `advert` of struct peer.
 *
 * When the endpoints or the policy change, it first finds out which of them are for all. Then that leaf is
 * written, and then those of the peers, each only if it says something else than before.
 *
 * One peer's leaf, by advert.version, which is compared with the version of what there is to say:
 *
 *   old or 0 ──the peer is there──▶ compared with what stands there ──the same──▶ current: nothing is written
 *                                  ├──nothing, for who learns of us by domain 0──▶ current: likewise
 *                                  └──another, or a new daemon──▶ advertising (the write is under way)
 *   advertising ──written──▶ current
 *   advertising ──other endpoints meanwhile──▶ written once more
 *   advertising ──error──▶ 0, and again after a growing pause
 *   any ──the peer has gone──▶ withdrawn: the leaves for it are removed
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/domid_set.h"
#include "base/timer.h"
#include "daemon/peers/peers_internal.h"
#include "daemon/policy/access.h"
#include "wire/retry.h"

#define ADVERTISE_DELAY_MS 10 /* a program that binds ten endpoints in a row makes one write */
#define ANSWER_AGAIN_MS	   1000
/* In units (turns.h). */
#define COST_TURN	 20u
#define COST_WRITE	 1000u
#define COST_NAME	 20u
#define COST_PUBLIC_NAME 40u /* to look at all rules for it */
#define PUBLIC_NAMES	 128 /* of them in one turn */
#define COST_ASKER	 50u
#define PASSED		 4096u /* domids in a turn, */
#define PER_UNIT	 4u    /* of which so many take a unit */

/* --- domains that have asked ----------------------------------------------------------------- */

/* Has the domain's account pay for the question whether anything here is for it (peers.c). */
static void peers_advertise_look_at(struct peers *peers, uint32_t domid)
{
	struct peer *peer = peer_get(peers, domid);

	if (!peer || peer->up) /* it is told anyway */
		return;
	peer->advert.asks_us = true;
	task_due(&peer->task);
}

void askers_add(struct peers *peers, uint32_t domid)
{
	if (!peers->adverts.asked)
		peers->adverts.asked = calloc(1, sizeof(*peers->adverts.asked));
	if (peers->adverts.asked) /* else it isn't told of what comes later */
		domid_set_put(peers->adverts.asked, domid, true);
}

void askers_named(struct peers *peers, uint32_t domid)
{
	if (peers->adverts.asked && domid_set_has(peers->adverts.asked, domid))
		peers_advertise_look_at(peers, domid);
}

/* Continues looking at all askers, from adverts.asked_next on: it is 0 when the endpoints, or who may see
 * them, are others. Returns whether there is more to do, and adds what it cost. */
static bool askers_go_on(struct peers *peers, uint64_t *cost)
{
	uint32_t first = peers->adverts.asked_next;

	if (!peers->adverts.asked || !peers->adverts.restricted)
		return false;
	while (peers->adverts.asked_next <= DOMID_MAX && peers->adverts.asked_next - first < PASSED) {
		uint32_t domid = peers->adverts.asked_next++;

		if (domid_set_has(peers->adverts.asked, domid)) {
			peers_advertise_look_at(peers, domid);
			*cost += COST_ASKER;
			break;
		}
	}
	*cost += (peers->adverts.asked_next - first) / PER_UNIT;
	return peers->adverts.asked_next <= DOMID_MAX;
}

/* --- endpoints --------------------------------------------------------------------------------- */

static void retry_advertising(struct peers *peers)
{
	peers->adverts.pause_ms = retry_pause(RETRY_OTHERS, peers->adverts.pause_ms);
	timer_start(peers->adverts.write, peers->adverts.pause_ms);
}

bool advertise_is_wanted(const struct peer *peer)
{
	return peer->allowed && (peer->up || peer->peers->options.config->presence_private) &&
	       peer->advert.version != peer->peers->adverts.version && !peer->advert.request;
}

static void on_advertised(void *userdata, int error, const char *value, size_t size)
{
	struct peer *peer = userdata;
	struct peers *peers = peer->peers;

	if (error < 0) {
		log_limited(LOG_STORE, LOG_BY_DOMAIN(peer->domid), LOG_LEVEL_WARNING,
			    "peers: can't write our endpoints for domain %u: %s; trying again later",
			    peer->domid, strerror(-error));
		advertise_anew(peer);
		retry_advertising(peers);
	} else {
		peers->adverts.pause_ms = 0;
		if (peer->advert.version != peers->adverts.version)
			timer_start(peers->adverts.write, 0);
	}
}

void advertise_anew(struct peer *peer)
{
	peer->advert.version = 0;
	free(peer->advert.value);
	peer->advert.value = NULL;
}

/* Those of our endpoints that are for a leaf. */
struct chosen {
	const char **names;
	uint8_t *kinds; /* NULL: they aren't told */
	unsigned count;
};

static bool choose_begin(const struct peers *peers, struct chosen *chosen)
{
	*chosen = (struct chosen){.names = calloc(peers->adverts.count + 1, sizeof(*chosen->names))};
	if (chosen->names && peers->adverts.kinds)
		chosen->kinds = malloc(peers->adverts.count + 1);
	if (chosen->names && (chosen->kinds || !peers->adverts.kinds))
		return true;
	free(chosen->names);
	return false;
}

static void peers_advertise_choose(const struct peers *peers, struct chosen *chosen, unsigned i)
{
	if (chosen->kinds)
		chosen->kinds[chosen->count] = peers->adverts.kinds[i];
	chosen->names[chosen->count++] = peers->adverts.names[i];
}

static void choose_end(struct chosen *chosen, char value[PEERS_ADVERTISE_SIZE])
{
	endpoints_format(chosen->names, chosen->kinds, chosen->count, value, PEERS_ADVERTISE_SIZE);
	free(chosen->names);
	free(chosen->kinds);
}

/* Formats the endpoints that the peer may know of, without those that it sees in the leaf for all. Returns
 * false if memory is short. */
static bool format_for(struct peer *peer, char value[PEERS_ADVERTISE_SIZE])
{
	struct peers *peers = peer->peers;
	struct access *access = peers->options.access;
	struct chosen chosen;

	if (!choose_begin(peers, &chosen))
		return false;
	for (unsigned i = 0; i < peers->adverts.count; i++)
		if (!(peer->leaves.presence[0] && peers->adverts.public && peers->adverts.public[i]) &&
		    (!access || access_visible(access, peer->domid, peers->adverts.names[i])))
			peers_advertise_choose(peers, &chosen, i);
	choose_end(&chosen, value);
	return true;
}

bool advertise_shows_more(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct access *access = peers->options.access;

	if (!peer->allowed)
		return false;
	for (unsigned i = 0; i < peers->adverts.count; i++)
		if (!(peers->adverts.public && peers->adverts.public[i]) &&
		    (!access || access_visible(access, peer->domid, peers->adverts.names[i])))
			return true;
	return false;
}

uint64_t advertise_cost(const struct peers *peers)
{
	return COST_TURN + peers->adverts.count * COST_NAME;
}

/* Returns whether an empty leaf would tell the peer something: that we are here, or that we have no endpoints
 * any more. Domain 0, which tells us of others, also tells the peer of us. */
static bool says_something(const struct peer *peer, const char *value)
{
	return *value || peer->advert.written || peer->advert.answer || !peer->peers->zero.is_telling ||
	       !peer->leaves.presence[0];
}

/* The endpoints leaf is also how a daemon that has just started learns of those that run: it alone may read
 * it. A value that stands there already isn't written again: each write fires a watch of the peer's, which
 * would show it that something goes on here. */
void advertise_to(struct peer *peer)
{
	struct peers *peers = peer->peers;
	char path[PEERS_PATH_SIZE], value[PEERS_ADVERTISE_SIZE];
	int r;

	if (peers->adverts.public_version != peers->adverts.version) { /* what isn't in the leaf for all? */
		task_due(&peers->adverts.next);
		return;
	}
	if (!format_for(peer, value)) {
		retry_advertising(peers);
		return;
	}
	peer->advert.version = peers->adverts.version;
	if ((peer->advert.value && !strcmp(peer->advert.value, value)) || !says_something(peer, value))
		return;
	free(peer->advert.value);
	peer->advert.value = strdup(value); /* NULL: it is written once more than needed */
	peer->advert.written = true;
	peer_our_path(peer, path, "/endpoints");
	r = store_write(peers->store, path, value, peers->options.self->domid, (int)peer->domid,
			on_advertised, peer, &peer->advert.request);
	if (r < 0)
		on_advertised(peer, r, NULL, 0);
}

static void peers_advertise_on_published(void *userdata, int error, const char *value, size_t size)
{
	struct peers *peers = userdata;

	if (error == 0)
		return;
	log_limited(LOG_STORE, LOG_BY_US, LOG_LEVEL_WARNING,
		    "peers: can't write our endpoints for all domains: %s; trying again later",
		    strerror(-error));
	free(peers->adverts.public_value);
	peers->adverts.public_value = NULL;
	peers->adverts.public_unknown = true;
	peers->adverts.public_version = 0;
	retry_advertising(peers);
}

/* Finds out which endpoints everyone may see, a piece of them in each turn. With a private presence there are
 * none: the leaf would show that we are here. Returns how many it looked at, or -ENOMEM. */
static int look_at_names(struct peers *peers)
{
	struct access *access = peers->options.access;
	int looked = 0;

	if (!peers->adverts.public)
		peers->adverts.public = calloc(peers->adverts.count + 1, sizeof(*peers->adverts.public));
	if (!peers->adverts.public)
		return -ENOMEM;
	for (; peers->adverts.looked < peers->adverts.count && looked < PUBLIC_NAMES; looked++) {
		unsigned i = peers->adverts.looked++;

		peers->adverts.public[i] = access && !peers->options.config->presence_private &&
					   access_visible_to_all(access, peers->adverts.names[i]);
		peers->adverts.restricted += !peers->adverts.public[i];
	}
	return looked;
}

/* Writes the endpoints that everyone may see, if they have changed. */
static int advertise_to_all(struct peers *peers)
{
	char path[PEERS_PATH_SIZE], value[PEERS_ADVERTISE_SIZE];
	struct chosen chosen;
	int r;

	if (!choose_begin(peers, &chosen))
		return -ENOMEM;
	for (unsigned i = 0; i < peers->adverts.count; i++)
		if (peers->adverts.public[i])
			peers_advertise_choose(peers, &chosen, i);
	choose_end(&chosen, value);
	peers->adverts.public_version = peers->adverts.version;
	if (!peers->adverts.public_unknown &&
	    !strcmp(peers->adverts.public_value ? peers->adverts.public_value : "", value))
		return 0;
	free(peers->adverts.public_value);
	peers->adverts.public_value = strdup(value);
	peers->adverts.public_unknown =
		!peers->adverts.public_value; /* it is written once more than needed */
	snprintf(path, sizeof(path), "%s/endpoints", peers->root);
	store_cancel(&peers->adverts.public_request);
	r = store_write(peers->store, path, value, peers->options.self->domid, STORE_EVERYONE,
			peers_advertise_on_published, peers, &peers->adverts.public_request);
	if (r < 0)
		peers_advertise_on_published(peers, r, NULL, 0);
	return 0;
}

/* Takes a turn for the leaf for all, which comes before those for each peer. Returns what it cost. */
static uint64_t advertise_public(struct peers *peers)
{
	int looked = look_at_names(peers);
	int r = looked;

	if (r >= 0 && peers->adverts.looked == peers->adverts.count)
		r = advertise_to_all(peers);
	if (r < 0)
		retry_advertising(peers);
	else if (peers->adverts.looked < peers->adverts.count ||
		 peers->adverts.public_version == peers->adverts.version)
		task_due(&peers->adverts.next); /* else it couldn't be written, and is retried */
	return COST_WRITE + (looked > 0 ? (unsigned)looked : 0) * COST_PUBLIC_NAME;
}

void advertise_public_anew(struct peers *peers)
{
	free(peers->adverts.public_value);
	peers->adverts.public_value = NULL;
	peers->adverts.public_unknown = true;
	peers->adverts.public_version = 0;
	task_due(&peers->adverts.next);
}

const char *peers_own_leaf_name(const struct peers *peers)
{
	return peers->options.config->presence_private ? "own" : "presence";
}

void presence_format(const struct peers *peers, char value[PRESENCE_SIZE])
{
	const struct self *self = peers->options.self;

	snprintf(value, PRESENCE_SIZE, "%d %s%s%s", PEERS_MAJOR, self->instance_text,
		 self->kept_by[0] ? " " : "", self->kept_by);
}

static void on_presence_written(void *userdata, int error, const char *value, size_t size)
{
	struct peers *peers = userdata;

	peers->adverts.presence_written = error == 0;
	if (error == 0)
		return;
	log_error("peers: can't write %s/%s: %s; %s; trying again later", peers->root,
		  peers_own_leaf_name(peers), strerror(-error),
		  peers->options.config->presence_private ? "a migration might go unnoticed"
							  : "others don't see this daemon");
	retry_advertising(peers);
}

void advertise_presence(struct peers *peers)
{
	char path[PEERS_PATH_SIZE], value[PRESENCE_SIZE];
	int r;

	if (peers->adverts.presence_written || !peers->hears)
		return;
	peers->adverts.presence_written = true; /* on its way */
	snprintf(path, sizeof(path), "%s/%s", peers->root, peers_own_leaf_name(peers));
	presence_format(peers, value);
	r = store_write(peers->store, path, value, peers->options.self->domid,
			peers->options.config->presence_private ? STORE_NOBODY : STORE_EVERYONE,
			on_presence_written, peers, &peers->adverts.presence_request);
	if (r < 0)
		on_presence_written(peers, r, NULL, 0);
}

void advertise_presence_again(struct peers *peers)
{
	if (!peers->adverts.presence_written ||
	    peers->adverts.presence_request) /* it is to be written anyway */
		return;
	peers->adverts.presence_written = false;
	advertise_presence(peers);
}

/* Advertises to one peer in each turn, since policy is asked about each name, and programs bind as often as
 * they like. */
static void peers_advertise_on_turn(struct task *task)
{
	struct peers *peers = (struct peers *)((char *)task - offsetof(struct peers, adverts.next));
	uint64_t cost = COST_TURN;
	struct peer *peer;

	if (peers->adverts.public_version != peers->adverts.version) {
		turns_spend(task->turns, task->line, advertise_public(peers));
		return;
	}
	for (peer = peers->peers; peer && !advertise_is_wanted(peer); peer = peer->hh.next)
		cost++;
	if (peer) {
		cost += COST_WRITE + peers->adverts.count * COST_NAME;
		advertise_to(peer);
		if (!advertise_is_wanted(peer)) /* else memory is short: later */
			task_due(task);
	} else if (askers_go_on(peers, &cost)) {
		task_due(task);
	}
	turns_spend(task->turns, task->line, cost);
}

static void peers_on_advertise(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;

	if (!store_is_connected(peers->store)) {
		timer_start(peers->adverts.write, RETRY_EACH_MS);
		return;
	}
	advertise_presence(peers);
	task_due(&peers->adverts.next);
}

static void free_names(struct peers *peers)
{
	for (unsigned i = 0; i < peers->adverts.count; i++)
		free(peers->adverts.names[i]);
	free(peers->adverts.names);
	free(peers->adverts.kinds);
	free(peers->adverts.public);
	peers->adverts.names = NULL;
	peers->adverts.kinds = NULL;
	peers->adverts.public = NULL;
	peers->adverts.looked = peers->adverts.restricted = 0;
	peers->adverts.count = 0;
}

void peers_advertise(struct peers *peers, const char *const *names, const uint8_t *kinds, unsigned count)
{
	free_names(peers);
	peers->adverts.names = calloc(count + 1, sizeof(*peers->adverts.names));
	peers->adverts.kinds = kinds ? malloc(count + 1) : NULL;
	for (unsigned i = 0; peers->adverts.names && i < count; i++) {
		if (peers->adverts.kinds)
			peers->adverts.kinds[peers->adverts.count] = kinds[i];
		if ((peers->adverts.names[peers->adverts.count] = strdup(names[i])) != NULL)
			peers->adverts.count++;
	}
	peers->adverts.version++;
	peers->adverts.asked_next = 0;
	timer_start(peers->adverts.write, ADVERTISE_DELAY_MS);
}

void advertise_soon(struct peer *peer)
{
	peer->advert.version = 0;
	if (advertise_is_wanted(peer) || peer->advert.request)
		timer_start(peer->peers->adverts.write, ADVERTISE_DELAY_MS);
}

static void on_answer_again(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;

	for (struct peer *peer = peers->peers; peer; peer = peer->hh.next) {
		if (!peer->advert.answer_again)
			continue;
		peer->advert.answer_again = false;
		advertise_anew(peer);
		advertise_soon(peer);
	}
}

void advertise_again(struct peer *peer)
{
	peer->advert.answer_again = true;
	timer_start(peer->peers->adverts.answer_again, ANSWER_AGAIN_MS);
}

void advertise_withdraw(struct peer *peer)
{
	if (!peer->advert.written && !peer->rendezvous.our_nonce[0])
		return;
	if (peer->advert.written) /* by itself first: the removal of the directory is hidden from the peer */
		peer_remove_ours(peer, "/endpoints");
	peer->advert.written = false;
	peer->rendezvous.our_nonce[0] = '\0'; /* the directory that our hello was in goes, too */
	advertise_anew(peer);
	peer_remove_ours(peer, "");
}

int advertise_init(struct peers *peers)
{
	peers->adverts.version = 1;
	task_init(&peers->adverts.next, peers->options.turns, NULL, peers_advertise_on_turn);
	peers->adverts.write = event_new(peers->base, -1, 0, peers_on_advertise, peers);
	peers->adverts.answer_again = evtimer_new(peers->base, on_answer_again, peers);
	return peers->adverts.write && peers->adverts.answer_again ? 0 : -ENOMEM;
}

void advertise_destroy(struct peers *peers)
{
	free_names(peers);
	free(peers->adverts.public_value);
	free(peers->adverts.asked);
	store_cancel(&peers->adverts.public_request);
	store_cancel(&peers->adverts.presence_request);
	if (peers->adverts.next.turns)
		task_cancel(&peers->adverts.next);
	free_event(peers->adverts.write);
	free_event(peers->adverts.answer_again);
}
