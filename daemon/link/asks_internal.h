/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ASKS_INTERNAL_H
#define XENMSG_DAEMON_ASKS_INTERNAL_H

/* What the two parts of asks.h share: the questions' life, their way to the next daemon and what it answers
 * (asks.c); and what peers ask, and what is answered here (asks_here.c). */

#include "base/quota.h"
#include "base/self.h"
#include "base/turns.h"
#include "daemon/registry/registry.h"
#include "daemon/link/asks.h"
#include "wire/address.h"
#include "wire/ut.h"

struct event;

/* So long changes are gathered, and is waited for an asker that doesn't read. */
#define GATHER_MS 100

/* bytes of the answer that are kept, and paid, at first */
#define ASK_ROOM 16384u

enum ask_state {
	ASK_WAITS,
	ASK_DROPPED, /* withdrawn while it waited: it pays until that has ended */
	ASK_SENT,
	ASK_WALKS,
	ASK_RESTS,
	ASK_TELLS,
};

/* By which a question is found: of a program the asker and its number for it, of a peer, with asker NULL, the
 * peer and its number. */
struct ask_key {
	void *asker;
	struct peer_id peer;
	uint32_t number;
	uint32_t zero; /* so that it has no padding, in a key */
};

struct ask {
	struct asks *asks;
	enum ask_state state;
	uint32_t id; /* the number of our own ASK */
	enum ask_kind kind;
	uint64_t known;
	/* The asker, where it is: on this host if that is empty. */
	struct frame_identity from;
	char domain_name[DOMAIN_NAME_MAX + 1];
	char host[HOST_NAME_SIZE];
	/* The one that is asked, and how. */
	struct peer_id to;
	uint64_t sent_ms;
	unsigned agains;  /* how often whoever was asked has handed over */
	uint64_t away_ms; /* when the link was last seen to be away since then; 0: it wasn't */
	char name[HOST_NAME_SIZE + 1 + DOMAIN_NAME_MAX];
	/* The asker of ours: a program, of this host, or, without `told`, a peer. */
	asks_told_fn told;
	void *userdata; /* of told() */
	char of_host[HOST_NAME_SIZE];
	struct ask_key key;
	bool is_keyed;
	struct charge charge;
	struct task task; /* walks, and tells */
	/* The answer: made here, or its parts that have come; of what is passed on, how much has. */
	int error; /* a positive errno */
	uint8_t *text;
	uint32_t room, size, count, sent;
	bool is_cut; /* what was made here, */
	uint32_t
		lacks; /* for want of so many bytes that its payer may not have; 0: it is as large as may be */
	uint64_t version;
	int64_t after;				/* where the walk is: the last domain, */
	char after_name[ENDPOINT_NAME_MAX + 1]; /* or endpoint; and the last entry that came */
	struct ask *prev, *next;
	UT_hash_handle hh, by_key;
};

struct asks {
	struct asks_collaborators with;
	struct links *links;
	bool enabled, is_handed_over;
	asks_endpoint_fn endpoint;
	void *userdata;
	struct registry_sink sink;
	struct ask *list, *by_id, *by_key;
	uint32_t last_id;
	struct event *timer, *overdue, *lack; /* the last: some ask that rests lacks bytes */
};

static inline bool asks_in_domain_0(const struct asks *asks)
{
	return asks->with.self->domid == 0;
}

/* --- asks.c */
/* Adds a question, which is found by this key, at the cost of `account`. -ENOMEM, -ENOBUFS. */
int ask_new(struct asks *asks, struct account *account, const struct ask_key *key, struct ask **ask);
void ask_free(struct ask *ask);
/* Adds an entry to the answer. -EMSGSIZE: it is as large as it may become; -ENOBUFS: as its payer can pay
 * for; -ENOMEM. */
int ask_add_entry(struct ask *ask, const struct frame_told_entry *entry);
/* Begins the answer anew, with nothing. */
void ask_drop_text(struct ask *ask);
/* Lets whoever has asked be told a negative errno, in a turn of the asker's. */
void ask_fail(struct ask *ask, int error);
/* Sends it to ask->to, or waits for the link. */
int ask_lead_on(struct ask *ask);
/* Leads it, in domain 0, to another host, if rules let the asker go there. */
int ask_lead_out(struct ask *ask, const char *host, const char *domain);

/* --- asks_here.c */
/* Walks, or tells. */
void ask_take_turn(struct task *task);
/* Frees a program's question, and tells it: it may ask again. */
void ask_tell_program(struct ask *ask, struct frame_told *told);
/* Tells a part of what was asked for. -ENOBUFS, -ENOTCONN, ... */
int ask_send_told(struct ask *ask, struct frame_told *told);
void asks_take_ask(struct asks *asks, struct peer_id peer, const struct frame_ask *frame);

#endif
