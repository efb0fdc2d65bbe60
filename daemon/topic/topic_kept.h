/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_TOPIC_KEPT_H
#define XENMSG_DAEMON_TOPIC_KEPT_H

/*
 * What a topic keeps for later subscribers: the last message of each key, of those keys that were published
 * last; with room for one the last message. They lie in the order in which they were published, and each has
 * a number in it. So a reader needs no copy: he notes which was the last when he came, and takes the next one
 * up to that, again and again. What is published meanwhile has a higher number, and he gets it from the log.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/quota.h"
#include "daemon/topic/topic_log.h"
#include "wire/frame.h"

#define TOPIC_KEYS_MOST 4095u /* as BIND can say */

struct kept_value;

struct topic_kept {
	struct kept_value **values; /* by their numbers; in so many places */
	unsigned places;
	struct kept_value *by_key;
	unsigned count, capacity; /* how many there are, and may be */
	uint64_t last;		  /* the number of the one that was kept last, ever */
	uint64_t evicted;	  /* up to this number those are gone that nothing has replaced */
	bool is_incomplete;	  /* for lack of room some aren't there that should be, or are older ones */
	struct charge charge;
};

void topic_kept_init(struct topic_kept *kept, struct account *account);
/* Frees what is kept, and keeps up to so many from now on; 0: none. */
void topic_kept_begin(struct topic_kept *kept, unsigned capacity);
void topic_kept_end(struct topic_kept *kept);
/* Keeps the message, with a reference of its own, instead of that of the same key; or, if it is empty and has
 * a key, keeps none of that. The oldest go if there is no room: if it's the account that has none, of which
 * all its topics together keep at most half, it is incomplete then. */
void topic_kept_put(struct topic_kept *kept, struct frame_text key, struct topic_entry *entry, bool is_empty);
/* One isn't there that should be, which readers that aren't behind it lack. */
void topic_kept_lack(struct topic_kept *kept);
/* Keeps the message under this number, as another daemon had it, beside those with lower ones. -EINVAL: that
 * can't be; -ENOMEM. */
int topic_kept_restore(struct topic_kept *kept, struct frame_text key, struct topic_entry *entry,
		       uint64_t number);
/* Returns the first one behind the number *at, up to the number `last`, without a reference, and sets *at to
 * its number. NULL: there is none. */
struct topic_entry *topic_kept_next(const struct topic_kept *kept, uint64_t *at, uint64_t last);

#endif
