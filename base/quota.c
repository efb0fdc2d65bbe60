/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/quota.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/image.h"
#include "base/invariant.h"
#include "base/log.h"
#include "base/turns.h"
#include "wire/ut.h"

static const struct resource {
	const char *name;
	const char *words;
	const char *pool;
} resources[QUOTA_RESOURCES] = {
	[QUOTA_CLIENTS] = {"clients", "clients", "max-clients"},
	[QUOTA_ENDPOINTS] = {"endpoints", "endpoints", "max-endpoints"},
	[QUOTA_CHANNELS] = {"channels", "channels", "max-channels"},
	[QUOTA_BYTES] = {"queued_bytes", "queued bytes", "max-queued-bytes"},
	[QUOTA_DESCRIPTORS] = {"descriptors", "descriptors", "its limit of open files"},
	[QUOTA_MEMORY] = {"memory", "bytes of memory", "max-memory"},
};

struct account {
	struct line line; /* the first: account_line() */
	struct account_key key;
	struct quota *quota;
	unsigned references;
	uint64_t used[QUOTA_RESOURCES];
	uint64_t refused[QUOTA_RESOURCES];
	struct account_sent sent;
	uint64_t kept;	  /* of its bytes: values that topics keep */
	uint64_t cut_off; /* sessions */
	bool has_warned;  /* that something was refused, since somebody referred to it */
	bool unlisted;	  /* nobody finds it by its number */
	bool is_idle;	  /* only its counters are kept */
	bool has_extra;	  /* a charge that goes beyond its maximum */
	struct account *idle_prev, *idle_next;
	struct account *into; /* has all of this one's, which is none any more: a reference */
#ifdef XENMSG_INVARIANTS
	uint64_t charged[QUOTA_RESOURCES];
#endif
	UT_hash_handle hh;
};

struct quota {
	struct quota_limits limits;
	struct quota_pool pools[QUOTA_RESOURCES];
	struct account *accounts; /* in the order of their keys, if is_sorted */
	bool is_sorted;
	struct account *idle; /* utlist, the one that was left first in front */
	unsigned idle_count;
	uint64_t cut_off; /* sessions, also of accounts that are no more */
#ifdef XENMSG_INVARIANTS
	struct charge *charges; /* utlist */
#endif
};

struct quota *quota_new(const struct quota_limits *limits)
{
	struct quota *quota = calloc(1, sizeof(*quota));

	if (!quota)
		return NULL;
	quota->limits = *limits;
	for (unsigned i = 0; i < QUOTA_RESOURCES; i++)
		quota->pools[i].size = limits->pool[i];
	return quota;
}

static void take_from_idle(struct account *account)
{
	if (!account->is_idle)
		return;
	DL_DELETE2(account->quota->idle, account, idle_prev, idle_next);
	account->quota->idle_count--;
	account->is_idle = false;
}

static void quota_forget(struct account *account)
{
	struct account *into = account->into;

	take_from_idle(account);
	if (!account->unlisted)
		HASH_DEL(account->quota->accounts, account);
	line_end(&account->line);
	free(account);
	account_unref(into);
}

void quota_free(struct quota *quota)
{
	struct account *account, *next;

	if (!quota)
		return;
	HASH_ITER(hh, quota->accounts, account, next)
		quota_forget(account); /* whose rest isn't over */
	free(quota);
}

const char *quota_resource_name(enum quota_resource resource)
{
	return resources[resource].name;
}

struct quota_pool quota_pool(const struct quota *quota, enum quota_resource resource)
{
	return quota->pools[resource];
}

/* --- accounts --------------------------------------------------------------------------------- */

static int by_key(const struct account *a, const struct account *b)
{
	if (a->key.kind != b->key.kind)
		return a->key.kind < b->key.kind ? -1 : 1;
	return a->key.id < b->key.id ? -1 : a->key.id > b->key.id;
}

const struct account *quota_next(struct quota *quota, const struct account_key *after)
{
	const struct account *account;
	struct account like;

	if (!quota->is_sorted)
		HASH_SRT(hh, quota->accounts, by_key);
	quota->is_sorted = true;
	if (!after)
		return quota->accounts;
	HASH_FIND(hh, quota->accounts, after, sizeof(*after), account);
	if (account)
		return account->hh.next;
	like.key = *after;
	for (account = quota->accounts; account && by_key(account, &like) < 0; account = account->hh.next)
		;
	return account;
}

static struct account *account_new(struct quota *quota, struct account_key key)
{
	struct account *account = calloc(1, sizeof(*account));

	if (account) {
		account->key = key;
		account->quota = quota;
		account->references = 1;
	}
	return account;
}

struct account *quota_account(struct quota *quota, enum quota_kind kind, uint32_t id)
{
	struct account_key key = {.kind = kind, .id = id};
	struct account *account;

	HASH_FIND(hh, quota->accounts, &key, sizeof(key), account);
	if (account) {
		line_take_back(&account->line);
		take_from_idle(account);
		return account_ref(account);
	}
	account = account_new(quota, key);
	if (!account)
		return NULL;
	/* Behind all others: to find its place would take as many steps as there are accounts. */
	HASH_ADD(hh, quota->accounts, key, sizeof(account->key), account);
	if (!HASH_ADDED(account)) {
		free(account);
		return NULL;
	}
	quota->is_sorted = false;
	return account;
}

struct account *quota_account_apart(struct quota *quota, uint32_t domid)
{
	struct account *account = account_new(quota, (struct account_key){.kind = QUOTA_PEER, .id = domid});

	if (account)
		account->unlisted = true;
	return account;
}

struct account *account_ref(struct account *account)
{
	if (account)
		account->references++;
	return account;
}

/* Whether the account has a counter to be kept. The cost of its look-ups alone is none. */
static bool has_counted(const struct account *account)
{
	bool any = account->sent.bytes || account->cut_off || account->line.rests;

	for (unsigned i = 0; i < QUOTA_RESOURCES; i++)
		any |= account->refused[i] > 0;
	return any;
}

static void quota_on_over(struct line *line)
{
	struct account *account = (struct account *)line;
	struct quota *quota = account->quota;

	/* A domain's number may be another domain's next. */
	if (account->key.kind != QUOTA_UID || !has_counted(account)) {
		quota_forget(account);
		return;
	}
	account->has_warned = false;
	account->line.credit = 0;
	account->is_idle = true;
	DL_APPEND2(quota->idle, account, idle_prev, idle_next);
	if (++quota->idle_count > QUOTA_IDLE_MOST)
		quota_forget(quota->idle);
}

void account_unref(struct account *account)
{
	if (!account || --account->references > 0)
		return;
	if (account->unlisted)
		quota_forget(account);
	else
		line_leave_behind(&account->line, quota_on_over);
}

/* Returns the account that this one is by now; NULL for NULL. */
static struct account *present(const struct account *account)
{
	while (account && account->into)
		account = account->into;
	return (struct account *)account;
}

bool account_is(const struct account *account, const struct account *other)
{
	return present(account) == present(other);
}

void account_unlist(struct account *account)
{
	account = present(account);
	if (!account->unlisted)
		HASH_DEL(account->quota->accounts, account);
	account->unlisted = true;
}

enum quota_kind account_kind(const struct account *account)
{
	return (enum quota_kind)present(account)->key.kind;
}

uint32_t account_id(const struct account *account)
{
	return present(account)->key.id;
}

struct log_source account_source(const struct account *account)
{
	account = present(account);
	if (!account)
		return LOG_BY_US;
	switch (account->key.kind) {
	case QUOTA_UID:
		return LOG_BY_UID(account->key.id);
	case QUOTA_HOST:
		return LOG_BY_HOST(account->key.id);
	default:
		return LOG_BY_DOMAIN(account->key.id);
	}
}

/* Returns whose limits the account has. */
static enum quota_kind limits_of(const struct account *account)
{
	return account->key.kind == QUOTA_UID ? QUOTA_UID : QUOTA_PEER;
}

static uint64_t max_of(const struct account *account, enum quota_resource resource)
{
	return account->quota->limits.max[limits_of(account)][resource];
}

/* Returns what is left of the account's maximum. */
static uint64_t below_max(const struct account *account, enum quota_resource resource)
{
	uint64_t max = max_of(account, resource), used = account->used[resource];

	return used < max ? max - used : 0;
}

/* Returns what is left of the account's share. */
static uint64_t of_share(const struct account *account, enum quota_resource resource)
{
	const struct quota_pool *pool = &account->quota->pools[resource];
	uint64_t used = account->used[resource], left = pool->used < pool->size ? pool->size - pool->used : 0;

	return quota_share(left, pool->accounts + (used == 0), used);
}

static uint64_t available(const struct account *account, enum quota_resource resource)
{
	uint64_t max = below_max(account, resource), share = of_share(account, resource);

	return max < share ? max : share;
}

/* Whether `to` could hold what both do, if `from` weren't there. An account that holds nothing only gets
 * another name for it. */
static bool fits_together(const struct account *from, const struct account *to, enum quota_resource resource)
{
	const struct quota_pool *pool = &from->quota->pools[resource];
	uint64_t more = from->used[resource], left = pool->used < pool->size ? pool->size - pool->used : 0;

	if (!more || !to->used[resource])
		return true;
	return more <= below_max(to, resource) &&
	       more <= quota_share(left + more, pool->accounts - 1, to->used[resource]);
}

int account_merge(struct account *from, struct account *to)
{
	struct quota *quota;

	from = present(from);
	to = present(to);
	if (!from || !to || from == to)
		return 0;
	quota = from->quota;
	for (unsigned i = 0; i < QUOTA_RESOURCES; i++)
		if (!fits_together(from, to, i))
			return -ENOBUFS;
	for (unsigned i = 0; i < QUOTA_RESOURCES; i++) {
		quota->pools[i].accounts -= from->used[i] && to->used[i];
		to->used[i] += from->used[i];
		to->refused[i] += from->refused[i];
	}
	to->sent.bytes += from->sent.bytes;
	to->sent.messages += from->sent.messages;
	to->kept += from->kept;
	to->cut_off += from->cut_off;
	to->has_extra |= from->has_extra;
	line_merge(&from->line, &to->line);
	account_unlist(from);
	from->into = account_ref(to);
	return 0;
}

bool account_may_hold(const struct account *account, enum quota_resource resource)
{
	return account && max_of(present(account), resource) > 0;
}

const struct line *account_time(const struct account *account)
{
	return &present(account)->line;
}

struct quota_usage account_usage(const struct account *account, enum quota_resource resource)
{
	account = present(account);
	if (!account)
		return (struct quota_usage){0};
	return (struct quota_usage){
		.used = account->used[resource],
		.max = max_of(account, resource),
		.available = available(account, resource),
		.refused = account->refused[resource],
	};
}

void account_note_sent(struct account *account, uint64_t bytes, uint64_t messages)
{
	account = present(account);
	if (!account)
		return;
	account->sent.bytes += bytes;
	account->sent.messages += messages;
}

struct account_sent account_sent(const struct account *account)
{
	return present(account)->sent;
}

void account_note_kept(struct account *account, int64_t bytes)
{
	account = present(account);
	if (account)
		account->kept += (uint64_t)bytes;
}

uint64_t account_kept(const struct account *account)
{
	account = present(account);
	return account ? account->kept : 0;
}

void account_note_cut_off(struct account *account)
{
	account = present(account);
	if (!account)
		return;
	account->cut_off++;
	account->quota->cut_off++;
}

uint64_t account_cut_off(const struct account *account)
{
	return present(account)->cut_off;
}

uint64_t quota_cut_off(const struct quota *quota)
{
	return quota->cut_off;
}

static void counters_image(struct image *image, struct account *account)
{
	uint64_t units = account->line.spent;

	image_u64(image, &account->sent.bytes);
	image_u64(image, &account->sent.messages);
	for (unsigned i = 0; i < QUOTA_RESOURCES; i++)
		image_u64(image, &account->refused[i]);
	image_u64(image, &account->cut_off);
	image_u64(image, &account->line.rests);
	image_u64(image, &units);
	if (image->is_read)
		line_add_spent(&account->line, units);
}

static void read_account(struct image *image, struct quota *quota)
{
	struct account_key key;
	struct account *account;

	image_upto(image, &key.kind, QUOTA_KINDS - 1);
	image_u32(image, &key.id);
	if (image->error)
		return;
	account = quota_account(quota, key.kind, key.id);
	if (!account) {
		image_fail(image, -ENOMEM);
		return;
	}
	counters_image(image, account);
	account_unref(account);
}

static void write_account(struct image *image, struct account *account)
{
	image_u32(image, &account->key.kind);
	image_u32(image, &account->key.id);
	counters_image(image, account);
}

void quota_image(struct image *image, struct quota *quota)
{
	uint32_t count = HASH_COUNT(quota->accounts);
	struct account *account, *next;

	image_u64(image, &quota->cut_off);
	image_u32(image, &count);
	if (!image->is_read)
		HASH_ITER(hh, quota->accounts, account, next)
			write_account(image, account);
	for (; image->is_read && count > 0 && !image->error; count--)
		read_account(image, quota);
}

void account_explain(const struct account *account, enum quota_resource resource, uint64_t amount, char *text,
		     size_t size)
{
	const struct resource *what = &resources[resource];
	static const char *const kinds[QUOTA_KINDS] = {"user", "domain", "host"};
	const char *who;

	snprintf(text, size, "%s", "");
	account = present(account);
	if (!account)
		return;
	who = kinds[account->key.kind];
	snprintf(text, size, "this %s has its share of the daemon's %s (%s), the rest is for others", who,
		 what->words, what->pool);
}

static void quota_refuse(struct account *account, enum quota_resource resource, uint64_t amount)
{
	const struct log_source source = account_source(account);
	char why[160], who[96];

	account->refused[resource]++;
	/* Logged once for each account; status has the number of refusals. */
	if (account->has_warned)
		return;
	account->has_warned = true;
	account_explain(account, resource, amount, why, sizeof(why));
	log_source_text(&source, who, sizeof(who));
	log_limited(LOG_LIMIT, source, LOG_LEVEL_WARNING, "%s gets ENOBUFS: %s", who, why);
}

/* --- charges ---------------------------------------------------------------------------------- */

#ifdef XENMSG_INVARIANTS
static void enlist(struct charge *charge)
{
	if (charge->account)
		DL_PREPEND(charge->account->quota->charges, charge);
}

static void delist(struct charge *charge)
{
	if (charge->account)
		DL_DELETE(charge->account->quota->charges, charge);
}
#else
static inline void enlist(struct charge *charge)
{
}
static inline void delist(struct charge *charge)
{
}
#endif

void charge_init(struct charge *charge, struct account *account)
{
	*charge = (struct charge){.account = account_ref(account)};
	enlist(charge);
}

bool charge_fits(const struct charge *charge, enum quota_resource resource, uint64_t amount)
{
	return !charge->account || amount == 0 || amount <= available(present(charge->account), resource);
}

static void quota_take(struct charge *charge, enum quota_resource resource, uint64_t amount)
{
	struct account *account = present(charge->account);
	struct quota_pool *pool;

	charge->held[resource] += amount;
	if (!account || amount == 0)
		return;
	pool = &account->quota->pools[resource];
	pool->accounts += account->used[resource] == 0;
	pool->used += amount;
	account->used[resource] += amount;
}

int charge_all(struct charge *charge, const uint64_t amounts[QUOTA_RESOURCES])
{
	for (unsigned i = 0; i < QUOTA_RESOURCES; i++) {
		if (charge_fits(charge, i, amounts[i]))
			continue;
		quota_refuse(present(charge->account), i, amounts[i]);
		return -ENOBUFS;
	}
	for (unsigned i = 0; i < QUOTA_RESOURCES; i++)
		quota_take(charge, i, amounts[i]);
	return 0;
}

int charge_add(struct charge *charge, enum quota_resource resource, uint64_t amount)
{
	uint64_t amounts[QUOTA_RESOURCES] = {0};

	amounts[resource] = amount;
	return charge_all(charge, amounts);
}

void charge_exceed(struct charge *charge, enum quota_resource resource, uint64_t amount)
{
	quota_take(charge, resource, amount);
}

bool charge_take_extra(struct charge *charge)
{
	struct account *account = present(charge->account);

	if (!account || account->has_extra)
		return false;
	charge->is_extra = account->has_extra = true;
	return true;
}

void charge_pass(struct charge *to, struct charge *from, enum quota_resource resource, uint64_t amount)
{
	from->held[resource] -= amount;
	to->held[resource] += amount;
}

void charge_release(struct charge *charge, enum quota_resource resource, uint64_t amount)
{
	struct account *account = present(charge->account);
	struct quota_pool *pool;

	charge->held[resource] -= amount;
	if (!account || amount == 0)
		return;
	pool = &account->quota->pools[resource];
	account->used[resource] -= amount;
	pool->used -= amount;
	pool->accounts -= account->used[resource] == 0;
}

void charge_end(struct charge *charge)
{
	for (unsigned i = 0; i < QUOTA_RESOURCES; i++)
		charge_release(charge, i, charge->held[i]);
	if (charge->is_extra)
		present(charge->account)->has_extra = charge->is_extra = false;
	delist(charge);
	account_unref(charge->account);
	charge->account = NULL;
}

void charge_move(struct charge *to, struct charge *from)
{
	delist(from);
	*to = *from;
	*from = (struct charge){0};
	enlist(to);
}

#ifdef XENMSG_INVARIANTS
void quota_check(const struct quota *quota)
{
	uint64_t sums[QUOTA_RESOURCES] = {0}, holders[QUOTA_RESOURCES] = {0};
	struct account *account, *next;
	struct charge *charge;

	HASH_ITER(hh, quota->accounts, account, next)
		memset(account->charged, 0, sizeof(account->charged));
	DL_FOREACH(quota->charges, charge)
		memset(present(charge->account)->charged, 0, sizeof(account->charged));
	DL_FOREACH(quota->charges, charge)
		for (unsigned i = 0; i < QUOTA_RESOURCES; i++) {
			account = present(charge->account);
			holders[i] += !account->charged[i] && charge->held[i];
			account->charged[i] += charge->held[i];
			sums[i] += charge->held[i];
		}
	DL_FOREACH(quota->charges, charge) {
		account = present(charge->account);
		INVARIANT(!memcmp(account->charged, account->used, sizeof(account->used)),
			  "an account is the sum of what is charged to it");
	}
	HASH_ITER(hh, quota->accounts, account, next)
		INVARIANT(!memcmp(account->charged, account->used, sizeof(account->used)),
			  "an account of nothing holds nothing");
	for (unsigned i = 0; i < QUOTA_RESOURCES; i++)
		INVARIANT(quota->pools[i].used == sums[i] && quota->pools[i].accounts == holders[i],
			  "a pool is the sum of its accounts");
}
#endif
