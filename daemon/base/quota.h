/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_QUOTA_H
#define XENMSG_DAEMON_QUOTA_H

/*
 * Who has how much of this daemon. An account belongs to a local uid or to a peer domain, whoever causes the
 * cost: who opens a channel pays for it, at both daemons, and for the memory that its bytes may take here.
 * Memory is charged as a reservation: a channel's window, the most that can ever wait here for it. So the
 * limit can't be overrun by bytes that are on their way already.
 *
 * Of each resource the daemon has one pool for all. An account may hold no more than
 *
 *   its maximum   a fixed number for every uid, or every peer;
 *   its share     (what is left in the pool + what it holds itself) / (n + 1), where n accounts hold some of it, this one
 *                 included.
 *
 * The "+ 1" is the newcomer's part. With one account n is 1, so it gets half of the pool at most; the second
 * then finds a half, of which it gets a third, a sixth of the pool; and so on: after k accounts that took all
 * they could, T / (k + 1) of a pool of T is left, and the next gets T / ((k + 1) * (k + 2)). In whatever
 * order they come, go and take, it isn't less: let u be what they hold, in the order of their last charges.
 * At the j-th of these at least j accounts held something, so (j + 1) * u[j] <= T - u[1] - ... - u[j - 1],
 * and of what was left at least j / (j + 1) is left behind it. So no account can exhaust a pool, nor can any
 * number of them, and a newcomer finds nothing only in a pool of fewer than (k + 1) * (k + 2). A fixed part
 * for each can't promise that: nobody knows how many will come, and while there is one only, it may well have
 * half. What an account holds is never taken away from it: when others come and its share falls below that,
 * it gets no more until it has given back enough.
 *
 * This is dbus-broker's rule for what users take of one another's quota, here for what all take of the
 * daemon.
 *
 * An account lives as long as somebody holds a reference; it is forgotten with the last one, when it is
 * empty.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/log.h"

enum quota_kind {
	QUOTA_UID,
	QUOTA_PEER,
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
	uint64_t max[QUOTA_KINDS][QUOTA_RESOURCES]; /* 0: accounts of this kind never need any */
};

struct quota_usage {
	uint64_t used, max;
	/* what it could get now: the rest of its share or of its maximum, whichever is less */
	uint64_t available;
	uint64_t refused; /* charges that didn't fit */
};

struct account_key {
	uint32_t kind, id;
};

struct quota_pool {
	uint64_t size, used;
	uint64_t accounts; /* that hold some of it */
};

struct account;
struct line;
struct quota;

struct quota *quota_new(const struct quota_limits *limits);
/* All accounts must have been let go. */
void quota_free(struct quota *quota);
/* "clients", ...: as in status. */
const char *quota_resource_name(enum quota_resource resource);
struct quota_pool quota_pool(const struct quota *quota, enum quota_resource resource);
/* By kind, then by number. */
void quota_each(const struct quota *quota, void (*each)(void *userdata, const struct account *account),
		void *userdata);
/* In the same order the first one behind that of `after` (NULL: of all), which may have gone; NULL: there is
 * no more. */
const struct account *quota_next(const struct quota *quota, const struct account_key *after);

/* The rule itself: how much more one may have who holds `held`, while `left` is left of what `holders` share,
 * himself included. */
uint64_t quota_share(uint64_t left, uint64_t holders, uint64_t held);

/* A reference to the account of a uid or domid. NULL: out of memory. */
struct account *quota_account(struct quota *quota, enum quota_kind kind, uint32_t id);
/* The functions below take NULL for an account without limits. */
struct account *account_ref(struct account *account);
void account_unref(struct account *account);
enum quota_kind account_kind(const struct account *account);
uint32_t account_id(const struct account *account);
/* Whose lines in the log are about it. */
struct log_source account_source(const struct account *account);
/* False: accounts of its kind never need any of this. */
bool account_may_hold(const struct account *account, enum quota_resource resource);
/* Where what it causes waits for its turn; NULL without an account. It holds a reference to the account who
 * has a task in it. */
struct line *account_line(struct account *account);
/* The same, to look at. */
const struct line *account_time(const struct account *account);
struct quota_usage account_usage(const struct account *account, enum quota_resource resource);
/* Why `amount` more doesn't fit, for who is refused: whose limit it is, and which. */
void account_explain(const struct account *account, enum quota_resource resource, uint64_t amount, char *text,
		     size_t size);

/* What something costs, and who pays: part of the thing that costs it. It holds a reference to the
 * account. */
struct charge {
	struct account *account;
	uint64_t held[QUOTA_RESOURCES];
};

/* Of nothing yet. */
void charge_init(struct charge *charge, struct account *account);
/* Adds all of these amounts, or with -ENOBUFS none. */
int charge_all(struct charge *charge, const uint64_t amounts[QUOTA_RESOURCES]);
int charge_add(struct charge *charge, enum quota_resource resource, uint64_t amount);
/* Would it be refused? This doesn't count as a refusal. */
bool charge_fits(const struct charge *charge, enum quota_resource resource, uint64_t amount);
/* A part that `from` holds is `to`'s from here on, which is of the same account. */
void charge_pass(struct charge *to, struct charge *from, enum quota_resource resource, uint64_t amount);
/* Gives back a part that is held, */
void charge_release(struct charge *charge, enum quota_resource resource, uint64_t amount);
/* or everything, and the account. What is left is a charge of nothing to nobody. */
void charge_end(struct charge *charge);
/* `to` is what `from` was, and `from` is a charge of nothing to nobody. */
void charge_move(struct charge *to, struct charge *from);

#endif
