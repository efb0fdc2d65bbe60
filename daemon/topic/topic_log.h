/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_TOPIC_LOG_H
#define XENMSG_DAEMON_TOPIC_LOG_H

/*
 * What was published last on a topic, in its order, and positions in it (doc/decisions/0044). The log is
 * bounded: appending never waits, and the oldest entries go. Each reader has a position of its own, and
 * learns at each step how many messages went between what he has read last and what comes next:
 *
 *            first                                  next
 *   ─ gone ────┬─────────────────────────────────────┬
 *        ▲     │  entry  │  entry  │  gap of 3 │ ... │ ◀── append
 *     position └─────────────────────────────────────┘
 *
 * An entry is a message, or several that came one behind the other, or says that messages are missing that
 * this daemon never had: how many, or that nobody knows. Its bytes are those of the stream of a channel
 * (doc/protocol.md, 2.1), so they are copied to all readers as they are. Entries have references, since a
 * reader may be in the midst of one that the log drops. The last one that says whether the topic is there is
 * told even if the log has dropped it, in its place, between what is missing before and behind it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/image.h"
#include "base/quota.h"

/* So many may be said to be missing in all, or published elsewhere: no daemon gets there, so who says more
 * lies. With those that are there it is no more than the second one, and no sum of counts wraps. */
#define TOPIC_MISSED_MAX (1ull << 62)
#define TOPIC_COUNT_MAX	 (2 * TOPIC_MISSED_MAX - 1)

struct feed;
/* The publisher of an entry. */
struct topic_origin;

struct topic_entry {
	unsigned references;
	/* how many published messages it stands for; 0: it says something else; of a gap how many are
	 * missing */
	uint64_t count;
	bool unknown;		  /* and nobody knows how many more */
	bool is_apart;		  /* a gap: a reader takes it by itself */
	bool is_notice, is_state; /* it isn't a message; and says whether the topic is there */
	/* set by the log: how many messages, and gaps of unknown size, were before it */
	uint64_t before, unknown_before;
	uint64_t number;		 /* so many messages were entries before it */
	struct topic_origin *origin;	 /* a reference; NULL: none */
	uint32_t in_image;		 /* topic_log_image.c: its number there, if it is that one */
	struct image_place place;	 /* the same: where its bytes are already */
	struct feed *waits_at;		 /* topic_ingest.c: in its list; NULL: in none */
	struct topic_entry *prev, *next; /* in that */
	struct topic_entry *lender; /* a reference, if the bytes are those of another entry; NULL: none */
	struct image_pages *pages;  /* in which the bytes are, with a hold; NULL: in none */
	uint8_t *bytes;		    /* nobody changes them once the entry is in a log */
	uint32_t size;
	_Alignas(8) uint8_t own[];
};

struct topic_log {
	struct topic_entry **entries; /* a ring of `places`, a power of two */
	uint32_t places;
	uint64_t first, next;	 /* indices of entries: those from `first` on are there */
	uint64_t count, unknown; /* messages so far, and gaps of unknown size */
	uint64_t messages;	 /* of which so many were entries */
	uint64_t said;		 /* the index behind the last entry that is a state; 0: there was none */
	struct topic_entry
		*state; /* that entry, if the log has dropped it; NULL: it is there, or there was none */
	uint64_t bytes, bytes_most; /* that the entries take */
	struct charge charge;	    /* for those */
};

/* Where a reader is. */
struct topic_position {
	uint64_t index;		 /* of the next entry */
	uint64_t count, unknown; /* as they were when he was there */
};

/* What a reader has missed before an entry. */
struct topic_missed {
	uint64_t count;
	bool unknown; /* nobody knows how many more */
};

/* Returns an entry with one reference and so many bytes, or NULL. */
struct topic_entry *topic_entry_new(uint32_t size);
static inline struct topic_entry *topic_entry_ref(struct topic_entry *entry)
{
	entry->references++;
	return entry;
}
/* NULL is allowed. */
void topic_entry_unref(struct topic_entry *entry);
/* Returns an entry for another log, with one reference, and the bytes of this one where they lie; NULL: no
 * memory. Each log pays for the bytes, since either may have them for longer. */
struct topic_entry *topic_entry_share(struct topic_entry *entry);
/* Returns how many messages its bytes are. */
static inline uint64_t topic_entry_messages(const struct topic_entry *entry)
{
	return entry->is_notice || !entry->count ? 1 : entry->count;
}
/* Returns how much of an account's bytes an entry of this size takes. */
uint64_t topic_entry_cost(uint64_t size);

/* The account pays for all entries, of `bytes_most` at most. */
void topic_log_init(struct topic_log *log, struct account *account, uint64_t bytes_most);
void topic_log_free(struct topic_log *log);
/* Makes room for an entry of this size by dropping the oldest, and charges it. Returns how many it has
 * dropped, or -ENOBUFS: it can't be had even so. */
int topic_log_reserve(struct topic_log *log, uint64_t size);
/* Gives back what was charged for an entry that isn't appended. */
void topic_log_unreserve(struct topic_log *log, uint64_t size);
/* Drops the oldest entry, which all readers have had, or will be told to have missed. False: there is
 * none. */
bool topic_log_drop(struct topic_log *log);
/* Appends the entry, for which there is a reserve, and takes the reference. -ENOMEM: nothing has changed. */
int topic_log_append(struct topic_log *log, struct topic_entry *entry);
/* What another daemon had: counts the cost of an entry, which was paid for there, so that it isn't refused;
 * and puts an entry with all that the log has set in it behind the last one, takes the reference, and counts
 * its cost. -ENOMEM. */
void topic_log_exceed(struct topic_log *log, uint64_t size);
int topic_log_restore(struct topic_log *log, struct topic_entry *entry);
/* Counts what can't be appended, as if it had been and was dropped. */
void topic_log_skip(struct topic_log *log, uint64_t count, bool unknown);

/* Sets the position behind everything that is there. */
struct topic_position topic_log_end(const struct topic_log *log);
/* Returns the entry of this index, from `first` to before `next`, without a reference. */
struct topic_entry *topic_log_at(const struct topic_log *log, uint64_t index);
/* Whether a reader at this index is to be told the last state, though the log has dropped it. */
static inline bool topic_log_owes_state(const struct topic_log *log, uint64_t index)
{
	return log->state && index < log->said;
}
/* Returns the reader's next entry, without a reference, and moves his position behind it; NULL: there is
 * none. What went before it, or if there is none up to now, is in *missed. */
struct topic_entry *topic_log_read(const struct topic_log *log, struct topic_position *position,
				   struct topic_missed *missed);
/* Returns how many messages there are from this index on, which is `first` at least. */
uint64_t topic_log_waiting(const struct topic_log *log, uint64_t index);
/* Returns the index of the first entry with so many messages before it. */
uint64_t topic_log_find(const struct topic_log *log, uint64_t number);
/* Returns the position before this entry, which was read last. */
static inline struct topic_position topic_log_before(const struct topic_position *behind,
						     const struct topic_entry *entry)
{
	return (struct topic_position){behind->index - 1, behind->count - entry->count,
				       behind->unknown - entry->unknown};
}

/* An origin, of as many entries as have a reference to it. */
struct topic_origin {
	unsigned references;
	uint32_t domid, uid, gid, pid;
	char *domain_name, *host; /* NULL: unknown; this one */
	uint32_t version;	  /* another one when the number or the name has changed */
	uint32_t in_image;
};
static inline struct topic_origin *topic_origin_ref(struct topic_origin *origin)
{
	if (origin)
		origin->references++;
	return origin;
}
/* NULL is allowed. */
void topic_origin_unref(struct topic_origin *origin);

#endif
