/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_QUOTA_H
#define XENMSG_BASE_QUOTA_H

/*
 * Limits how much of this daemon's resources everybody has. An account belongs to a local uid or to a peer
 * domain, whichever causes the cost: the opener of a channel pays for it, at both daemons, and for the memory
 * that its bytes may take here. Memory is charged as a reservation: a channel's window, the most that can
 * ever wait here for it. So the limit can't be overrun by bytes that are on their way already.
 *
 * Of each resource the daemon has one pool for all accounts. An account may hold no more than
 *
 *   its maximum   a part of the pool for every uid, or every peer: of the daemon's a half;
 *   its share     (what is left in the pool + what it holds itself) / (n + 1), where n accounts hold some of
 *                 it, this one included.
 *
 * The "+ 1" is the newcomer's part. With one account n is 1, so it gets half of the pool at most; the second
 * then finds a half, and gets a third of that, a sixth of the pool; and so on: after k accounts that took all
 * they could, T / (k + 1) of a pool of T is left, and the next gets T / ((k + 1) * (k + 2)). In whatever
 * order they come, go and take, it isn't less: let u be what they hold, in the order of their last charges.
 * At the j-th of these at least j accounts held something, so (j + 1) * u[j] <= T - u[1] - ... - u[j - 1],
 * and of what was left at least j / (j + 1) is left behind it. So no account can exhaust a pool, nor can any
 * number of them, and a newcomer finds nothing only in a pool of fewer than (k + 1) * (k + 2). A fixed part
 * for each can't promise that: nobody knows how many will come, and while there is one only, it may well have
 * half. Nothing that an account holds is ever taken away from it: when others come and its share falls below
 * that, it gets no more until it has given back enough.
 *
 * This is dbus-broker's rule for what users take of one another's quota, applied to what all accounts take of
 * the daemon.
 *
 * An account lives as long as there is a reference to it, and until its line's rest is over and its debt is
 * paid (turns.h): a user that leaves and comes again finds both. Its counters last as
 * long as the daemon, also over hand-overs, or those of short-lived programs would say nothing:
 * of accounts that nobody refers to, the QUOTA_IDLE_MOST that were used last are kept.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "base/peer_id.h"
#include "base/share.h"

#define QUOTA_IDLE_MOST 256u

enum quota_kind {
	QUOTA_UID,
	QUOTA_PEER, /* a domain of this host */
	QUOTA_HOST, /* another one, which may have as much */
	QUOTA_KINDS,
};

enum quota_resource {
	QUOTA_CLIENTS,
	QUOTA_ENDPOINTS,
	QUOTA_CHANNELS,
	QUOTA_BYTES,
	QUOTA_DESCRIPTORS,
	QUOTA_MEMORY, /* bytes that a program or a stream may take, besides what is queued */
	QUOTA_RESOURCES,
};

struct quota_limits {
	uint64_t pool[QUOTA_RESOURCES];
	uint64_t max[QUOTA_HOST]
		    [QUOTA_RESOURCES]; /* of users and peers, which hosts are; 0: they never need any */
};

struct quota_usage {
	uint64_t used, max;
	/* what the account could get now: the rest of its share or of its maximum, whichever is less */
	uint64_t available;
	uint64_t refused; /* how many charges didn't fit */
};

/* Traffic that an account's programs, or a peer's daemon, have sent to this daemon. */
struct account_sent {
	uint64_t bytes, messages; /* bytes of frames */
};

struct account_key {
	uint32_t kind, id;
};

struct quota_pool {
	uint64_t size, used;
	uint64_t accounts; /* accounts that hold some of it */
};

struct account;
struct image;
struct line;
struct quota;

struct quota *quota_new(const struct quota_limits *limits);
/* Frees the quota, before the turns that hold the lines of its accounts. There must be no references to its
 * accounts any more. */
void quota_free(struct quota *quota);
/* Returns the resource's name in status: "clients", ... */
const char *quota_resource_name(enum quota_resource resource);
struct quota_pool quota_pool(const struct quota *quota, enum quota_resource resource);
/* Returns the first account after the key `after`, ordered by kind, then by number (NULL: the very first);
 * that account itself may have gone. NULL: there are no more. */
const struct account *quota_next(struct quota *quota, const struct account_key *after);

/* Returns a reference to the account of a uid, a domid or a host. NULL: out of memory. */
struct account *quota_account(struct quota *quota, enum quota_kind kind, uint32_t id);
/* Returns another account of a domid, which nobody finds by it (account_unlist()). NULL: out of memory. */
struct account *quota_account_apart(struct quota *quota, uint32_t domid);
/* The account of a domain or a host. */
static inline struct account *peer_account(struct quota *quota, struct peer_id peer)
{
	return quota_account(quota, peer_is_host(peer) ? QUOTA_HOST : QUOTA_PEER, peer.number);
}
/* The functions below take NULL for an account without limits. */
struct account *account_ref(struct account *account);
void account_unref(struct account *account);
/* Lets `to` have all that `from` holds, and what is charged to `from` from now on: they are one, by the name
 * of `to`, and have one line. References to `from` stay what they are. -ENOBUFS: both hold some of a
 * resource, and together more than `to` could have got alone; they remain two. Else whoever has two numbers
 * would begin anew again and again. */
int account_merge(struct account *from, struct account *to);
/* Lets nobody find the account by its number any more, which is somebody else's now. */
void account_unlist(struct account *account);
/* Whether they are one. */
bool account_is(const struct account *account, const struct account *other);
enum quota_kind account_kind(const struct account *account);
uint32_t account_id(const struct account *account);
/* Returns the source of log lines about the account. */
struct log_source account_source(const struct account *account);
/* Whether accounts of this kind may ever hold some of the resource. */
bool account_may_hold(const struct account *account, enum quota_resource resource);
/* Returns the line of the account's tasks, its first member, or one that leads to it by line_present(); NULL
 * without an account. The owner of a task in it must hold a reference to the account. */
static inline struct line *account_line(struct account *account)
{
	return (struct line *)account;
}
/* Returns the line itself, read only. */
const struct line *account_time(const struct account *account);
struct quota_usage account_usage(const struct account *account, enum quota_resource resource);
/* Counts what has come from the account, and returns what has. */
void account_note_sent(struct account *account, uint64_t bytes, uint64_t messages);
struct account_sent account_sent(const struct account *account);
/* Counts so many bytes more, or fewer, among those that the account holds as kept values of topics. */
void account_note_kept(struct account *account, int64_t bytes);
uint64_t account_kept(const struct account *account);
/* Counts a session of the account that the daemon has cut off. */
void account_note_cut_off(struct account *account);
uint64_t account_cut_off(const struct account *account);
/* Returns how many were, of all accounts that there have been. */
uint64_t quota_cut_off(const struct quota *quota);
/* Writes what all accounts have done, into the image that the next daemon gets, or reads it. */
void quota_image(struct image *image, struct quota *quota);
/* Explains to the refused user why `amount` more doesn't fit: whose limit it is, and which. */
void account_explain(const struct account *account, enum quota_resource resource, uint64_t amount, char *text,
		     size_t size);

/* The cost of an object, and the account that pays: part of the object. It holds a reference to the
 * account. */
struct charge {
	struct account *account;
	uint64_t held[QUOTA_RESOURCES];
	bool is_extra; /* charge_take_extra() */
#ifdef XENMSG_INVARIANTS
	struct charge *prev, *next; /* of all those to somebody */
#endif
};

/* Prepares a charge of nothing yet; takes over no reference but makes its own. */
void charge_init(struct charge *charge, struct account *account);
/* Adds all of these amounts, or, with -ENOBUFS, none. */
int charge_all(struct charge *charge, const uint64_t amounts[QUOTA_RESOURCES]);
int charge_add(struct charge *charge, enum quota_resource resource, uint64_t amount);
/* Adds the amount though the account may then hold more than its maximum: it gets nothing more until it has
 * given back enough. For what is bounded otherwise, and can't be refused. */
void charge_exceed(struct charge *charge, enum quota_resource resource, uint64_t amount);
/* Lets its account hold more than its maximum by this one charge, until charge_end(). False: there is such a
 * charge already, or nobody pays. */
bool charge_take_extra(struct charge *charge);
/* Whether the amount would fit. A "no" doesn't count as a refusal. */
bool charge_fits(const struct charge *charge, enum quota_resource resource, uint64_t amount);
/* Moves a part that `from` holds to `to`, a charge of the same account. */
void charge_pass(struct charge *to, struct charge *from, enum quota_resource resource, uint64_t amount);
/* Gives back a part of what is held. */
void charge_release(struct charge *charge, enum quota_resource resource, uint64_t amount);
/* Gives back everything, and the reference to the account. The charge is then of nothing, to nobody. */
void charge_end(struct charge *charge);
/* Moves a whole charge: `to` becomes what `from` was, and `from` a charge of nothing, to nobody. */
void charge_move(struct charge *to, struct charge *from);

#ifdef XENMSG_INVARIANTS
/* Each account is the sum of what is charged to it, and each pool that of the accounts. */
void quota_check(const struct quota *quota);
#endif

#endif
