/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Look-ups: asks XenStore whether a domain of which nothing is known is there. A program can ask for any
 * number, so its account pays, in bytes for what is remembered meanwhile and in turns for the work, and only
 * a few look-ups of one account lie in the store thread's queue at a time. Two accounts that ask for the same
 * domain both wait for it, each in its own queue, and the one whose turn comes first looks it up for both.
 *
 *   waiting (a task of its account) ──its turn──▶ under way (in peer.lookup) ──leaves read or time up──▶ gone
 *      └──not wanted any more, or known by now, or another's is under way──▶ gone
 *
 * That a domain isn't there is remembered for a moment, unless something of it appears. This is a part of
 * peers.c and owns `askers`, `absent` and `lookups` of struct peers, and `lookup` and `asked` of struct peer.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/peers/peers_internal.h"
#include "base/quota.h"
#include "wire/ut.h"

/* In units (turns.h): three requests to XenStore, and all that is made for the domain. The time of XenStore's
 * thread, for which nobody's turn waits, is paid as well. */
#define COST_LOOKUP 6000u
#define COST_THREAD 8000u
#define COST_SKIP   20u
#define PIECE	    4096u
#define ABSENT_MS   1000u

struct lookup {
	struct lookup_asker *asker;
	uint32_t domid;
	struct charge charge;
	struct lookup *prev, *next;
};

struct lookup_asker {
	struct peers *peers;
	struct account *account;
	struct task task;
	struct lookup *queue;
	unsigned under_way;
	UT_hash_handle hh;
};

static struct lookup_asker *asker_get(struct peers *peers, struct account *account)
{
	struct lookup_asker *asker;

	HASH_FIND_PTR(peers->askers, &account, asker);
	return asker;
}

static void asker_free(struct lookup_asker *asker)
{
	HASH_DEL(asker->peers->askers, asker);
	task_cancel(&asker->task);
	account_unref(asker->account);
	free(asker);
}

static void asker_check(struct lookup_asker *asker)
{
	if (!asker->queue && asker->under_way == 0)
		asker_free(asker);
	else if (asker->queue && asker->under_way < LOOKUPS_AT_ONCE)
		task_due(&asker->task);
}

static void lookup_free(struct lookup *lookup)
{
	lookup->asker->peers->lookups--;
	charge_end(&lookup->charge);
	free(lookup);
}

static bool is_to_be_looked_up(const struct peer *peer)
{
	return peer->rendezvous.wanted && peer->rendezvous.state == RENDEZVOUS_IDLE && !peer->up &&
	       !peer->lookup;
}

/* Begins the next look-up that waits. Returns what it cost. */
static uint64_t begin_one(struct lookup_asker *asker)
{
	struct lookup *lookup = asker->queue;
	struct peers *peers = asker->peers;
	struct peer *peer = peer_find(peers, lookup->domid);

	DL_DELETE(asker->queue, lookup);
	if (!peer || !is_to_be_looked_up(peer)) {
		bool is_to_be_read =
			peer && peer->up && (peer->leaves.looked & LEAVES_LOOKED_UP) != LEAVES_LOOKED_UP;

		if (peer)
			peer->asked--;
		if (is_to_be_read)
			peer_look_up(peer);
		lookup_free(lookup);
		return is_to_be_read ? COST_LOOKUP : COST_SKIP;
	}
	peer->lookup = lookup;
	asker->under_way++;
	deadline_set(&peer->rendezvous.deadline, peers->options.config->setup_timeout_ms);
	peer_look_up(peer);
	return COST_LOOKUP;
}

static void peers_lookups_on_turn(struct task *task)
{
	struct lookup_asker *asker =
		(struct lookup_asker *)((char *)task - offsetof(struct lookup_asker, task));
	uint64_t cost = 0;

	while (asker->queue && asker->under_way < LOOKUPS_AT_ONCE && cost < PIECE)
		cost += begin_one(asker);
	turns_spend(task->turns, task->line, cost);
	turns_spend_measured(task->turns, task->line, cost / COST_LOOKUP * COST_THREAD);
	asker_check(asker);
}

int lookups_add(struct peer *peer, struct account *account)
{
	struct peers *peers = peer->peers;
	struct lookup_asker *asker = asker_get(peers, account);
	struct lookup *lookup, *other;
	int r = -ENOMEM;

	/* A program that opens several channels in a row asks once. */
	if (asker && (other = asker->queue ? asker->queue->prev : NULL) && other->domid == peer->domid)
		return 0;
	if (peer->lookup && peer->lookup->asker == asker)
		return 0;
	if (!asker) {
		asker = calloc(1, sizeof(*asker));
		if (!asker)
			return -ENOMEM;
		asker->account = account;
		HASH_ADD_PTR(peers->askers, account, asker);
		if (!HASH_ADDED(asker)) {
			free(asker);
			return -ENOMEM;
		}
		asker->peers = peers;
		account_ref(account);
		task_init(&asker->task, peers->options.turns, account_line(account), peers_lookups_on_turn);
	}
	lookup = calloc(1, sizeof(*lookup));
	if (lookup) {
		lookup->asker = asker;
		lookup->domid = peer->domid;
		charge_init(&lookup->charge, account);
		peers->lookups++;
		r = charge_add(&lookup->charge, QUOTA_BYTES, LOOKUP_BYTES);
	}
	if (r == 0) {
		DL_APPEND(asker->queue, lookup);
		peer->asked++;
	} else if (lookup) {
		lookup_free(lookup);
	}
	asker_check(asker);
	return r;
}

bool lookups_defer(struct peer *peer)
{
	if (!peer->asked || !is_to_be_looked_up(peer))
		return false;
	peer->leaves.looked &= ~LEAVES_LOOKED_UP;
	return true;
}

void lookups_done(struct peer *peer)
{
	struct lookup *lookup = peer->lookup;
	struct lookup_asker *asker;

	if (!lookup)
		return;
	asker = lookup->asker;
	peer->lookup = NULL;
	peer->asked--;
	asker->under_way--;
	lookup_free(lookup);
	asker_check(asker);
}

/* Called before the peers are freed. */
void lookups_destroy(struct peers *peers)
{
	struct lookup_asker *asker, *next_asker;
	struct lookup *lookup, *next;
	struct peer *peer;

	for (peer = peers->peers; peer; peer = peer->hh.next)
		lookups_done(peer);
	HASH_ITER(hh, peers->askers, asker, next_asker) {
		DL_FOREACH_SAFE(asker->queue, lookup, next)
			lookup_free(lookup);
		asker_free(asker);
	}
}

/* --- who isn't there -------------------------------------------------------------------------- */

void absent_note(struct peers *peers, uint32_t domid)
{
	peers->absent[domid % ABSENT_MAX] =
		(struct absent){.domid = domid, .until_ms = clock_ms() + ABSENT_MS};
}

bool absent_is_known(const struct peers *peers, uint32_t domid)
{
	const struct absent *absent = &peers->absent[domid % ABSENT_MAX];

	return absent->domid == domid && absent->until_ms && clock_ms() < absent->until_ms;
}

void absent_forget(struct peers *peers, uint32_t domid)
{
	struct absent *absent = &peers->absent[domid % ABSENT_MAX];

	if (absent->domid == domid)
		absent->until_ms = 0;
}
