/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/peers_tell.h"

#include <stdlib.h>
#include <string.h>

#include "base/domid_set.h"
#include "daemon/peers/peers_internal.h"
#include "wire/address.h"
#include "wire/frame.h"

/* In units (turns.h). */
#define COST_TELL 60u
#define COST_SKIP 4u
#define COST_LIST 1000u
#define COST_NAME 10u
#define PIECE	  64u  /* guests told in a turn, */
#define PASSED	  512u /* and peers looked at */

#define ANY_LEAF (CHANGED_PRESENCE | CHANGED_ENDPOINTS | CHANGED_HELLO | CHANGED_PUBLIC | CHANGED_NODES)

/* What is to be told of a peer to one guest. */
struct tell {
	uint32_t domid;
	unsigned leaves;
	UT_hash_handle hh;
};

static bool is_acquainted(const struct peer *peer, uint32_t domid)
{
	return peer->telling.acquainted && domid_set_has(peer->telling.acquainted, domid);
}

static void acquaint(struct peer *peer, uint32_t domid)
{
	if (!peer->telling.acquainted)
		peer->telling.acquainted = calloc(1, sizeof(*peer->telling.acquainted));
	if (peer->telling.acquainted)
		domid_set_put(peer->telling.acquainted, domid, true);
}

static void tell_one(struct peer *peer, uint32_t domid, unsigned leaves)
{
	const struct peer *guest = peer_find(peer->peers, domid);
	struct tell *tell;

	if (!guest || !guest->telling.is_told)
		return;
	HASH_FIND(hh, peer->telling.one_by_one, &domid, sizeof(domid), tell);
	if (!tell) {
		tell = calloc(1, sizeof(*tell));
		if (!tell)
			return; /* a hello is written again while nobody answers it */
		tell->domid = domid;
		HASH_ADD(hh, peer->telling.one_by_one, domid, sizeof(tell->domid), tell);
		if (!HASH_ADDED(tell)) {
			free(tell);
			return;
		}
	}
	tell->leaves |= leaves;
	task_due(&peer->telling.task);
}

static void tell_more(struct peer *peer, unsigned to_all, unsigned to_some)
{
	peer->telling.next.to_all |= to_all;
	peer->telling.next.to_some |= to_some;
	task_due(&peer->telling.task);
}

void tell_anything(struct peer *peer)
{
	tell_more(peer, 0, ANY_LEAF);
}

/* Notes what a domain has written for another one. From then on both have to do with each other. */
static void written_for(struct peer *peer, uint32_t reader, enum peers_path path)
{
	struct peer *other = peer_find(peer->peers, reader);

	acquaint(peer, reader);
	/* Of a domain that hides, nobody is told because he has written something for it. */
	if (other && other->telling.shown)
		acquaint(other, peer->domid);
	tell_one(peer, reader,
		 path == PEERS_PATH_HELLO	? CHANGED_HELLO
		 : path == PEERS_PATH_ENDPOINTS ? CHANGED_ENDPOINTS
		 : path == PEERS_PATH_NODES	? CHANGED_NODES
						: CHANGED_HELLO | CHANGED_ENDPOINTS | CHANGED_NODES);
}

static void peers_tell_on_listed(void *userdata, int error, char *const *untrusted_names, unsigned count)
{
	struct peer *peer = userdata;
	struct task *task = &peer->telling.task;
	uint32_t reader;

	for (unsigned i = 0; error == 0 && i < count; i++)
		if (domid_parse(untrusted_names[i], strlen(untrusted_names[i]), &reader) &&
		    reader != peer->domid && reader != peer->peers->options.self->domid &&
		    !is_acquainted(peer, reader))
			written_for(peer, reader, PEERS_PATH_DOMAIN);
	turns_spend(task->turns, task->line, COST_NAME * (uint64_t)count);
}

/* Finds out for whom the domain has written something that we weren't told of: before this daemon began, or
 * while there was no connection to XenStore. Returns what it cost. */
static uint64_t list_readers(struct peer *peer)
{
	char path[PEERS_ROOT_SIZE + 3];

	peer->telling.readers_stale = false;
	peers_subtree(peer->domid, path);
	strcat(path, "/to");
	store_cancel(&peer->telling.listing);
	/* Without memory some guests aren't told of the domain's end before they have to do with it again. */
	if (store_list(peer->peers->store, path, peers_tell_on_listed, peer, &peer->telling.listing) < 0)
		log_error("peers: out of memory: what domain %u has written isn't listed", peer->domid);
	return COST_LIST;
}

void tell_change(struct peer *peer, const char *untrusted_path)
{
	char nonce[PEERS_NONCE_SIZE];
	uint32_t domid, reader = peer->peers->options.self->domid;
	bool is_for_one = peers_path_reader(untrusted_path, &reader);
	enum peers_path path = peers_path_parse(untrusted_path, reader, &domid, nonce);

	if (is_for_one) {
		if (reader != peer->domid && reader != peer->peers->options.self->domid &&
		    path != PEERS_PATH_OTHER)
			written_for(peer, reader, path);
	} else if (path == PEERS_PATH_PRESENCE) {
		peer->telling.shown = true;
		tell_more(peer, 0, CHANGED_PRESENCE);
	} else if (path == PEERS_PATH_PUBLIC) {
		tell_more(peer, 0, CHANGED_PUBLIC);
	} else if (path == PEERS_PATH_ASKS) {
		peer_read(peer, LEAF_ASKS);
	} else if (path == PEERS_PATH_DOMAIN || path == PEERS_PATH_ALL) {
		peer->telling.readers_stale = true;
		tell_anything(peer);
		peer_read(peer, LEAF_ASKS);
	}
}

void tell_shown(struct peer *peer)
{
	if (peer->telling.shown || peer->peers->options.self->domid != 0)
		return;
	peer->telling.shown = true;
	tell_anything(peer);
}

void tell_asks(struct peer *peer, bool asks)
{
	peer->telling.asks = asks;
	if (!asks)
		return;
	tell_more(peer, peer->telling.is_told ? CHANGED_ASKS : CHANGED_ASKS_ALL, 0);
	peer->telling.next.list = true;
}

bool tell_is_pending(const struct peer *peer)
{
	const struct telling *telling = &peer->telling;

	return telling->one_by_one || telling->readers_stale || telling->is_walking || telling->next.to_all ||
	       telling->next.to_some || telling->next.list;
}

static void send_to(struct peer *peer, uint32_t guest, const struct peers_change *changes, unsigned count)
{
	struct peers *peers = peer->peers;

	if (count)
		peers->callbacks.tell(peers->userdata, guest, changes, count);
}

/* Tells what is for single guests. Returns how many it told. */
static unsigned tell_ones(struct peer *peer)
{
	struct tell *tell, *next;
	unsigned count = 0;

	HASH_ITER(hh, peer->telling.one_by_one, tell, next) {
		const struct peer *guest = peer_find(peer->peers, tell->domid);
		struct peers_change change = {.domid = peer->domid, .leaves = tell->leaves};

		if (count == PIECE)
			break;
		HASH_DEL(peer->telling.one_by_one, tell);
		free(tell);
		if (guest && guest->telling.is_told)
			send_to(peer, guest->domid, &change, 1);
		count++;
	}
	return count;
}

/* Returns what a peer that asks, or whose link has just come up, is to be told of another one. */
static unsigned to_be_listed(const struct peer *peer, const struct peer *other)
{
	/* It asked while this one wasn't told, which perhaps doesn't look itself any more. */
	unsigned asks = !other->telling.asks ? 0 : other->telling.is_told ? CHANGED_ASKS : CHANGED_ASKS_ALL;

	if (is_acquainted(other, peer->domid))
		return asks | ANY_LEAF;
	return asks | (peer->telling.asks && other->leaves.presence[0] ? CHANGED_PRESENCE : 0);
}

/* Goes on walking over all peers: tells them of this one, and this one of them. Returns what it cost. */
static uint64_t peers_tell_walk(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct telling *telling = &peer->telling;
	struct peers_change listed[PIECE];
	unsigned told = 0, passed = 0, count = 0;
	struct peer *other;

	if (!telling->is_walking) {
		telling->now = telling->next;
		telling->next = (struct telling_what){.list = false};
		telling->is_walking = true;
		telling->at = -1;
	}
	other = peer_after(peers, telling->at);
	for (; other && told < PIECE && count < PIECE && passed < PASSED; other = other->hh.next, passed++) {
		unsigned leaves;

		telling->at = other->domid;
		if (other == peer || other->domid == peers->options.self->domid)
			continue;
		leaves = telling->now.to_all;
		if (is_acquainted(peer, other->domid) || (other->telling.asks && telling->shown))
			leaves |= telling->now.to_some;
		if (leaves && other->telling.is_told) {
			const struct peers_change change = {.domid = peer->domid, .leaves = leaves};

			send_to(peer, other->domid, &change, 1);
			told++;
		}
		leaves = telling->now.list && telling->is_told ? to_be_listed(peer, other) : 0;
		if (leaves)
			listed[count++] = (struct peers_change){.domid = other->domid, .leaves = leaves};
	}
	telling->is_walking = other != NULL;
	if (telling->is_told)
		send_to(peer, peer->domid, listed, count);
	if (telling->is_told && telling->now.list && telling->asks && !telling->is_walking) {
		const struct peers_change end = {.domid = peer->domid, .leaves = CHANGED_ASKS};

		send_to(peer, peer->domid, &end, 1);
	}
	return COST_TELL * (uint64_t)(told + count) + COST_SKIP * (uint64_t)passed;
}

static void peers_tell_on_turn(struct task *task)
{
	struct telling *telling = (struct telling *)((char *)task - offsetof(struct telling, task));
	struct peer *peer = (struct peer *)((char *)telling - offsetof(struct peer, telling));
	uint64_t cost = COST_TELL * (1 + (uint64_t)tell_ones(peer));

	if (telling->readers_stale)
		cost += list_readers(peer);
	if (telling->is_walking || telling->next.to_all || telling->next.to_some || telling->next.list)
		cost += peers_tell_walk(peer);
	turns_spend(task->turns, task->line, cost);
	if (tell_is_pending(peer))
		task_due(task);
	else
		task_due(&peer->task); /* it may have waited only for this */
}

void peers_tell(struct peers *peers, uint32_t guest, bool up)
{
	struct peer *peer = up ? peer_get(peers, guest) : peer_find(peers, guest);

	if (!peer)
		return;
	peer->telling.is_told = up;
	if (!up)
		return;
	peer->telling.next.list = true;
	task_due(&peer->telling.task);
}

void tell_init(struct peer *peer)
{
	task_init(&peer->telling.task, peer->peers->options.turns, account_line(peer->account),
		  peers_tell_on_turn);
}

void tell_destroy(struct peer *peer)
{
	struct tell *tell, *next;

	HASH_ITER(hh, peer->telling.one_by_one, tell, next) {
		HASH_DEL(peer->telling.one_by_one, tell);
		free(tell);
	}
	store_cancel(&peer->telling.listing);
	free(peer->telling.acquainted);
	task_cancel(&peer->telling.task);
}
