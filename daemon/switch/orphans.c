/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/orphans.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "wire/ut.h"

struct orphan_key {
	const struct account *payer;
	const void *holder; /* a hop, or an account */
};

/* Those that one pays and another one holds. Its channels have references to the payer's account and to the
 * hop. */
struct orphans {
	struct orphan_key key;
	uint64_t count;
	uint64_t answered_ms; /* when one of them was, or the first of them came */
	UT_hash_handle hh;
};

static struct orphan_key orphans_key_of(const struct account *payer, const void *holder)
{
	struct orphan_key key;

	memset(&key, 0, sizeof(key)); /* also what lies between its members */
	key.payer = payer;
	key.holder = holder;
	return key;
}

/* Returns NULL if there are none. */
static struct orphans *orphans_find(const struct switchboard *board, struct orphan_key key)
{
	struct orphans *orphans;

	HASH_FIND(hh, board->orphans, &key, sizeof(key), orphans);
	return orphans;
}

/* Returns how many channels an account may have. */
static uint64_t orphans_most_of(const struct account *payer)
{
	uint64_t channels = account_usage(payer, QUOTA_CHANNELS).max;
	uint64_t windows = account_usage(payer, QUOTA_BYTES).max / CHANNEL_INITIAL_LIMIT;

	return channels < windows ? channels : windows;
}

bool orphans_allow(const struct channel *channel, const struct hop *hop)
{
	const struct account *payer = channel->charge.account;
	const struct switchboard *board = hop->board;
	const struct orphans *orphans;

	if (!payer || !hop->account || account_is(payer, hop->account))
		return true;
	orphans = orphans_find(board, orphans_key_of(payer, hop->account));
	if (orphans && orphans->count >= (orphans_most_of(payer) + 1) / 2)
		return false;
	orphans = hop->traits->is_daemon ? NULL : orphans_find(board, orphans_key_of(payer, hop));
	return !orphans || orphans->count < ORPHANS_STALE ||
	       clock_ms_since(orphans->answered_ms) < board->orphans_patience_ms;
}

static struct orphans *count(struct switchboard *board, struct orphan_key key)
{
	struct orphans *orphans = orphans_find(board, key);

	if (!orphans) {
		orphans = calloc(1, sizeof(*orphans));
		if (!orphans)
			return NULL;
		orphans->key = key;
		orphans->answered_ms = clock_ms();
		HASH_ADD(hh, board->orphans, key, sizeof(orphans->key), orphans);
		if (!HASH_ADDED(orphans)) {
			free(orphans);
			return NULL;
		}
	}
	orphans->count++;
	return orphans;
}

static void uncount(struct switchboard *board, struct orphans *orphans)
{
	if (!orphans)
		return;
	orphans->answered_ms = clock_ms();
	if (--orphans->count > 0)
		return;
	HASH_DEL(board->orphans, orphans);
	free(orphans);
}

void orphans_add(struct channel *channel)
{
	const struct account *payer = channel->charge.account;
	const struct hop *hop = channel->acceptor.hop;

	if (!payer || !hop->account)
		return;
	channel->orphans_of_account = count(channel->board, orphans_key_of(payer, hop->account));
	if (!hop->traits->is_daemon)
		channel->orphans_of_hop = count(channel->board, orphans_key_of(payer, hop));
}

void orphans_remove(struct channel *channel)
{
	uncount(channel->board, channel->orphans_of_account);
	uncount(channel->board, channel->orphans_of_hop);
	channel->orphans_of_account = channel->orphans_of_hop = NULL;
}
