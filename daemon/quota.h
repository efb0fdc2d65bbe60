/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_QUOTA_H
#define XENMSG_DAEMON_QUOTA_H

/*
 * Who has how much of this daemon. An account belongs to a local uid or to a peer domain, whoever causes the cost: who opens
 * a channel pays for it, at both daemons, and for the memory that its bytes may take here. Memory is charged as a reservation:
 * a channel's window, the most that can ever wait here for it. So the limit can't be overrun by bytes that are on their way
 * already, and one greedy user or domain can use up its own account and nobody else's.
 *
 * An account lives as long as somebody holds a reference; it is forgotten with the last one, when it is empty.
 */

#include <stdint.h>

enum quota_kind {
	QUOTA_UID,
	QUOTA_PEER,
	QUOTA_KINDS,
};

struct quota_limits {
	uint32_t channels[QUOTA_KINDS];
	uint64_t bytes[QUOTA_KINDS];
};

struct quota_usage {
	uint32_t channels, channels_max;
	uint64_t bytes, bytes_max;
	uint64_t refused; /* charges that didn't fit */
};

struct account;
struct quota;

struct quota *quota_new(const struct quota_limits *limits);
/* All accounts must have been let go. */
void quota_free(struct quota *quota);

/* A reference to the account of a uid or domid. NULL: out of memory. */
struct account *quota_account(struct quota *quota, enum quota_kind kind, uint32_t id);
/* The functions below take NULL for an account without limits. */
struct account *account_ref(struct account *account);
void account_unref(struct account *account);
/* Both, or with -ENOBUFS nothing. */
int account_charge(struct account *account, uint32_t channels, uint64_t bytes);
void account_release(struct account *account, uint32_t channels, uint64_t bytes);
struct quota_usage account_usage(const struct account *account);

#endif
