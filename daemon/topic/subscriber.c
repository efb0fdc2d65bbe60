/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Brings the entries of a log to one subscriber: a program here, or the replica of a daemon. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cost.h"
#include "base/self.h"
#include "base/timer.h"
#include "daemon/local/session.h"
#include "daemon/switch/channel.h"
#include "daemon/topic/topic_internal.h"
#include "wire/ut.h"

#define AT_ONCE	   32u /* entries that are written together */
#define LATER_MS   500
#define COST_VISIT 4u
#define OVERHEAD   128u /* malloc's, and of the table that finds it by its session */

/* Counts for status what he was given since this was last done. */
static void count_delivered(struct subscriber *subscriber)
{
	uint64_t delivered = subscriber->position.count - subscriber->begun_at - subscriber->tally.missed;

	subscriber->participant.topic->tally.delivered += delivered - subscriber->tally.delivered;
	subscriber->tally.delivered = delivered;
}

static void count_gap(struct subscriber *subscriber, uint64_t missed, bool unknown)
{
	struct topic *topic = subscriber->participant.topic;

	subscriber->tally.missed += missed;
	subscriber->tally.gaps += unknown;
	topic->tally.missed += missed;
	topic->tally.gaps += unknown;
}

void subscriber_move(struct subscriber *subscriber, enum subscriber_list list)
{
	struct topic *topic = subscriber->participant.topic;

	count_delivered(subscriber);
	DL_DELETE(topic->lists[subscriber->list], subscriber);
	topic->counts[subscriber->list]--;
	subscriber->list = list;
	DL_APPEND(topic->lists[list], subscriber);
	topic->counts[list]++;
}

int subscriber_charge(struct subscriber *subscriber, struct account *account, bool exceeds)
{
	uint64_t cost = sizeof(*subscriber) + strlen(subscriber->address) + OVERHEAD;

	charge_init(&subscriber->charge, account);
	if (!exceeds)
		return charge_add(&subscriber->charge, QUOTA_MEMORY, cost);
	charge_exceed(&subscriber->charge, QUOTA_MEMORY, cost);
	return 0;
}

void subscriber_enter(struct subscriber *subscriber, struct topic *topic)
{
	subscriber->participant.topic = topic;
	subscriber->list = LIST_OUT;
	DL_APPEND(topic->lists[LIST_OUT], subscriber);
	topic->counts[LIST_OUT]++;
	topic->bounds += subscriber->bound.most > 0;
}

void subscriber_wait_for_room(struct subscriber *subscriber)
{
	subscriber_move(subscriber, LIST_LATER);
	timer_start(subscriber->participant.topic->timer, LATER_MS);
}

/* Nobody comes before or behind it any more. */
static void subscriber_part(struct subscriber *subscriber)
{
	struct subscriber *heir = subscriber->heir;

	if (subscriber->elder)
		subscriber->elder->heir = NULL;
	subscriber->elder = subscriber->heir = NULL;
	if (!heir)
		return;
	heir->elder = NULL;
	if (heir->list == LIST_BLOCKED)
		subscriber_move(heir, heir->participant.topic->due);
	inner_due(heir->participant.topic->hop);
}

void subscriber_pass(struct subscriber *subscriber, struct topic *topic)
{
	struct topic *from = subscriber->participant.topic;
	struct topic_bound *bound = &subscriber->bound;

	subscriber_part(subscriber);
	listeners_count(subscriber, 0);
	subscriber_move(subscriber, LIST_OUT);
	DL_DELETE(from->lists[LIST_OUT], subscriber);
	from->counts[LIST_OUT]--;
	from->bounds -= bound->most > 0;
	topic_entry_unref(subscriber->current);
	topic_entry_unref(subscriber->held);
	subscriber->current = subscriber->held = NULL;
	subscriber->done = 0;
	subscriber->kept_at = subscriber->kept_last = 0;
	subscriber->holds_kept = false;
	subscriber->is_short = subscriber->is_last = false;
	subscriber->position = (struct topic_position){0};
	subscriber->begun_at = 0;
	subscriber->tally = (struct topic_tally){0};
	bound->is_cut = false;
	subscriber->leaving = LEAVES_NOT;
	replica_join(topic, subscriber);
}

void subscriber_leave(struct subscriber *subscriber, bool unknown)
{
	struct topic *topic = subscriber->participant.topic;

	if (subscriber->leaving)
		return;
	subscriber->leaving = subscriber->list == LIST_OUT ? LEAVES_TOLD : LEAVES;
	subscriber->leaves_at = topic->log.next;
	subscriber->leaves_unknown = unknown;
	if (subscriber->list == LIST_A || subscriber->list == LIST_B || subscriber->list == LIST_OUT)
		subscriber_move(subscriber, topic->due);
	inner_due(topic->hop);
}

static struct topic_entry *take_reference(struct topic_entry *entry, struct topic_origin *origin)
{
	if (entry && !entry->origin)
		entry->origin = topic_origin_ref(origin);
	return entry;
}

void subscriber_begin(struct subscriber *subscriber, struct topic_entry *first)
{
	struct topic *topic = subscriber->participant.topic;
	struct topic_entry *kept;
	uint64_t at = 0;

	subscriber->position = topic_log_end(&topic->log);
	subscriber->begun_at = subscriber->position.count;
	/* What can't be told is at least told to be missing, behind what is kept. */
	subscriber->is_short = !first || topic->kept.is_incomplete;
	subscriber->current = take_reference(first, topic->origin);
	subscriber->kept_last = topic->kept.last;
	/* The subscriber still gets it, even if it is replaced in the meantime. */
	kept = topic_kept_next(&topic->kept, &at, subscriber->kept_last);
	subscriber->held = kept ? topic_entry_ref(kept) : NULL;
	subscriber->holds_kept = kept;
	subscriber->kept_at = kept ? at - 1 : subscriber->kept_last;
	subscriber_move(subscriber, topic->due);
	inner_due(topic->hop);
}

/* It gets a notice, and behind it an entry, if there is one: takes that reference. -ENOMEM: it gets
 * neither. */
static int subscriber_tell(struct subscriber *subscriber, struct topic_entry *notice,
			   struct topic_entry *entry)
{
	if (!notice)
		return -ENOMEM;
	subscriber->current =
		take_reference(notice, entry ? entry->origin : subscriber->participant.topic->origin);
	entry = entry ? topic_entry_ref(entry) : NULL;
	topic_entry_unref(subscriber->held);
	subscriber->held = entry;
	return 1;
}

/* Chooses one that says whether the topic is there. Behind the last one comes what is kept since then. Who is
 * told the first time that it is subscribed can't have missed anything. */
static int choose_state(struct subscriber *subscriber, struct topic_entry *entry)
{
	const struct topic *topic = subscriber->participant.topic;
	bool is_last = subscriber->position.index == topic->log.said, is_first;
	struct properties properties;

	ingest_check(entry, &properties);
	is_first = properties.notice.kind == NOTICE_SUBSCRIBED && !subscriber->was_subscribed;
	entry = is_first && entry->unknown ? notice_new(NOTICE_SUBSCRIBED, properties.notice.count, 0, 0)
					   : topic_entry_ref(entry);
	if (!entry)
		return -ENOMEM;
	subscriber->current = take_reference(entry, topic->origin);
	subscriber->was_subscribed |= is_first;
	if (is_last)
		subscriber->kept_at = subscriber->kept_last = topic->kept_first;
	if (entry->is_apart)
		count_gap(subscriber, entry->count, entry->unknown);
	return 1;
}

static int choose_from_log(struct subscriber *subscriber)
{
	struct topic *topic = subscriber->participant.topic;
	struct topic_position before = subscriber->position;
	struct topic_missed missed = {0};
	struct topic_entry *entry = topic_log_read(&topic->log, &subscriber->position, &missed);
	int r;

	missed.unknown |= subscriber->is_short;
	if (missed.count || missed.unknown) {
		if (entry) /* comes next */
			subscriber->position = topic_log_before(&subscriber->position, entry);
		r = subscriber_tell(
			subscriber,
			notice_new(NOTICE_MISSED, missed.count, missed.unknown ? NOTICE_UNKNOWN : 0, 0),
			NULL);
		subscriber->is_short &= r < 0;
		if (r > 0)
			count_gap(subscriber, missed.count, missed.unknown);
	} else if (entry && entry->is_state) {
		r = choose_state(subscriber, entry);
	} else {
		subscriber->current = entry ? topic_entry_ref(entry) : NULL;
		r = entry != NULL;
		if (entry && entry->is_apart)
			count_gap(subscriber, entry->count, entry->unknown);
	}
	if (r < 0)
		subscriber->position = before;
	return r;
}

/* Returns the number up to which it gets what was kept. */
static uint64_t kept_end(const struct subscriber *subscriber)
{
	const struct topic *topic = subscriber->participant.topic;
	bool has_state = subscriber->position.index >= topic->log.said;

	return has_state && topic->kept_upto > subscriber->kept_last ? topic->kept_upto
								     : subscriber->kept_last;
}

static bool has_kept(const struct subscriber *subscriber)
{
	return subscriber->kept_at < kept_end(subscriber);
}

/* Chooses the next of what was kept. 1; 0: there is none any more; -ENOMEM. */
static int choose_kept(struct subscriber *subscriber)
{
	const struct topic_kept *kept = &subscriber->participant.topic->kept;
	uint64_t at = subscriber->kept_at, end = kept_end(subscriber);
	bool lacks = !subscriber->holds_kept && kept->evicted > at;
	struct topic_entry *entry = subscriber->held;
	int r;

	if (subscriber->holds_kept)
		at++;
	else
		entry = topic_kept_next(kept, &at, end);
	r = entry ? subscriber_tell(subscriber, notice_new(NOTICE_KEPT, 0, 0, 0), entry) : 0;
	if (r < 0)
		return r;
	subscriber->kept_at = entry ? at : end;
	subscriber->holds_kept = false;
	subscriber->is_short |= lacks;
	return r;
}

/* Has it hear that it waits, unless it knows; then it goes. */
static int choose_to_leave(struct subscriber *subscriber)
{
	const struct topic *topic = subscriber->participant.topic;
	bool is_told = (topic->state != REPLICA_LIVE || topic->was_closed) &&
		       topic->log.said <= subscriber->leaves_at;
	int r = is_told ? 0
			: subscriber_tell(subscriber,
					  notice_new(NOTICE_WAITING, 0,
						     subscriber->leaves_unknown ? NOTICE_UNKNOWN : 0, 0),
					  NULL);

	if (r >= 0)
		subscriber->leaving = LEAVES_TOLD;
	return r;
}

/* Chooses what the subscriber gets next. 1; 0: it has everything; -ENOMEM. */
static int subscriber_choose(struct subscriber *subscriber)
{
	struct topic *topic = subscriber->participant.topic;
	int r;

	subscriber->done = 0;
	if ((subscriber->held && !subscriber->holds_kept) || subscriber->is_last) {
		subscriber->current = subscriber->held;
		subscriber->held = NULL;
		return subscriber->current != NULL;
	}
	if (topic->is_replica && topic->refused) { /* instead of all that it hasn't got yet */
		r = subscriber_tell(subscriber,
				    notice_new(NOTICE_ENDED, 0, NOTICE_UNKNOWN, (uint32_t)topic->refused),
				    NULL);
		subscriber->is_last = r > 0;
		return r;
	}
	r = has_kept(subscriber) ? choose_kept(subscriber) : 0;
	if (r == 0 && (!subscriber->leaving || subscriber->position.index < subscriber->leaves_at))
		r = choose_from_log(subscriber);
	return r == 0 && subscriber->leaving ? choose_to_leave(subscriber) : r;
}

/* --- the channel to a program ----------------------------------------------------------------- */

static void close_channel(struct subscriber *subscriber)
{
	inner_fin(subscriber->participant.end);
	subscriber->is_closing = true;
}

/* Opens the channel in which what this origin has published is told. False: there is none yet. */
static bool subscriber_open_channel(struct subscriber *subscriber, struct topic_origin *origin)
{
	struct topic *topic = subscriber->participant.topic;
	struct hop *to = subscriber->hop;
	struct frame_identity identity = {.domid = topic->topics->with.self->domid};
	struct channel *channel;
	int r;

	if (origin)
		identity = (struct frame_identity){origin->domid, origin->uid, origin->gid, origin->pid};
	r = inner_open(topic->hop, CHANNEL_MESSAGE, &identity, &channel);
	if (r < 0)
		return false;
	channel_charge_to(channel, hop_account(to));
	if (origin && origin->domain_name)
		channel_set_from_domain(channel, origin->domain_name);
	if (origin && origin->host)
		r = channel_set_from_host(channel, origin->domid, origin->host);
	if (r == 0)
		r = channel_accept(channel, to, subscriber->address);
	if (r < 0) { /* its end comes as a RESET, which nobody here knows any more */
		channel_refuse(channel, r == -ENOMEM ? ENOBUFS : -r);
		return false;
	}
	topic_origin_unref(subscriber->origin);
	subscriber->origin = topic_origin_ref(origin);
	subscriber->told_version = origin ? origin->version : 0;
	topic_bound_restart(&subscriber->bound);
	participant_take(&subscriber->participant, &channel->opener);
	return true;
}

bool subscriber_has_channel(struct subscriber *subscriber, struct topic_origin *origin)
{
	if (!subscriber->hop)
		return true;
	if (subscriber->is_closing)
		return false;
	if (subscriber->participant.end && !subscriber->done &&
	    (subscriber->origin != origin || (origin && subscriber->told_version != origin->version))) {
		close_channel(subscriber);
		return false;
	}
	return subscriber->participant.end || subscriber_open_channel(subscriber, origin);
}

/* --- sending ---------------------------------------------------------------------------------- */

/* Notes what was sent from this offset of the stream on, in pieces that are all whole, or end what was sent
 * before. */
static void note_sent(struct subscriber *subscriber, uint64_t from, struct topic_entry *const *entries,
		      const struct iovec *pieces, unsigned count)
{
	for (unsigned i = 0; subscriber->bound.most && i < count; i++) {
		from += pieces[i].iov_len;
		if (!entries[i]->is_notice)
			topic_bound_sent(&subscriber->bound, from);
	}
}

/* Gives a replica of this daemon the current entry as it is. Returns 1, 0 if that can't be done, or as
 * hop_give(). */
static int give_whole(struct subscriber *subscriber)
{
	struct topic_entry *entry = subscriber->current;
	struct channel_end *end = subscriber->participant.end, *other = channel_other(end);
	struct participant *participant = other->participant;
	struct hop_memory memory;
	int r;

	if (subscriber->hop || subscriber->done || entry->size < TOPIC_GIVE_LEAST ||
	    entry->size > inner_room(end) || !participant || participant->kind != PARTICIPANT_FEED ||
	    !ingest_give((struct feed *)participant, topic_entry_share(entry), &memory))
		return 0;
	r = hop_give(end, &memory, entry->size, (uint32_t)topic_entry_messages(entry));
	if (r < 0)
		return r;
	subscriber->done = entry->size;
	return 1;
}

/* Writes what remains of the current entry, and whole ones behind it, as far as there is credit. Returns how
 * many bytes, 0 if there is no credit, or as hop_push(). */
static int subscriber_write_some(struct subscriber *subscriber)
{
	struct topic_log *log = &subscriber->participant.topic->log;
	struct channel_end *end = subscriber->participant.end;
	uint64_t room = inner_room(end) & ~(uint64_t)7;
	struct topic_entry *entries[AT_ONCE] = {subscriber->current};
	struct iovec pieces[AT_ONCE];
	uint32_t left = subscriber->current->size - subscriber->done,
		 length = left < room ? left : (uint32_t)room;
	struct topic_position position = subscriber->position;
	uint64_t from = end->received, most = topic_bound_room(&subscriber->bound);
	uint64_t messages = topic_entry_messages(subscriber->current);
	unsigned count = 1;
	int r = give_whole(subscriber);

	if (r)
		return r;
	if (!length)
		return 0;
	pieces[0] = (struct iovec){subscriber->current->bytes + subscriber->done, length};
	while (!subscriber->leaving && length >= left && count < AT_ONCE && count < most &&
	       !subscriber->held && !has_kept(subscriber) && !subscriber->is_short && !subscriber->is_last &&
	       topic_bound_reads_on(&subscriber->bound, &position)) {
		struct topic_position ahead = position;
		struct topic_missed missed;
		struct topic_entry *entry = topic_log_read(log, &ahead, &missed);

		if (!entry || missed.count || missed.unknown || entry->is_apart ||
		    entry->origin != entries[0]->origin || length + entry->size > room ||
		    length + entry->size > FRAME_PAYLOAD_MAX)
			break;
		position = ahead;
		entries[count] = entry;
		pieces[count++] = (struct iovec){entry->bytes, entry->size};
		length += entry->size;
		messages += topic_entry_messages(entry);
	}
	r = hop_push(end, pieces, count, length, length >= left ? (uint32_t)messages : 0);
	if (r < 0)
		return r;
	if (length >= left)
		note_sent(subscriber, from, entries, pieces, count);
	subscriber->position = position;
	subscriber->done += length < left ? length : left;
	return (int)length;
}

/* Whether it wants more now. */
static bool wants_more(struct subscriber *subscriber)
{
	struct topic_bound *bound = &subscriber->bound;

	if (!bound->most)
		return true;
	topic_bound_apply(bound, &subscriber->participant.topic->log, &subscriber->position);
	if (subscriber->participant.end)
		topic_bound_taken(bound, channel_other(subscriber->participant.end)->consumed);
	return topic_bound_room(bound) > 0;
}

/* Goes to the topic that it means, once the channel has ended in which it was told of this one. */
static void go_on(struct subscriber *subscriber)
{
	if (subscriber->leaves_for_good) { /* until it is unsubscribed */
		subscriber_part(subscriber);
		subscriber_move(subscriber, LIST_BLOCKED);
	} else if (subscriber->participant.end) {
		if (!subscriber->is_closing)
			close_channel(subscriber);
		subscriber_move(subscriber, LIST_BLOCKED);
	} else {
		meant_arrive(subscriber);
	}
}

/* Sends a bit. True: there may be more; false: the subscriber is in its list, or gone. */
static bool pump_once(struct subscriber *subscriber)
{
	struct topic *topic = subscriber->participant.topic;
	int r;

	if (!subscriber->current && subscriber->leaving == LEAVES_TOLD) {
		go_on(subscriber);
		return false;
	}
	if (subscriber->elder || (!subscriber->current && !wants_more(subscriber))) {
		subscriber_move(subscriber, LIST_BLOCKED);
		return false;
	}
	r = subscriber->current ? 1 : subscriber_choose(subscriber);
	if (r == 0 && subscriber->leaving == LEAVES_TOLD)
		return true;
	if (r == 0 && topic_has_ended(topic)) { /* whoever else is still to be told something */
		subscriber_end(subscriber, ENOENT);
		return false;
	}
	if (r <= 0) {
		subscriber_move(subscriber, r < 0 ? LIST_LATER : topic->due == LIST_A ? LIST_B : LIST_A);
		if (r < 0)
			timer_start(topic->timer, LATER_MS);
		return false;
	}
	if (!subscriber_has_channel(subscriber, subscriber->current->origin)) {
		if (subscriber->is_closing)
			subscriber_move(subscriber, LIST_BLOCKED);
		else /* over a limit, perhaps only for now */
			subscriber_wait_for_room(subscriber);
		return false;
	}
	r = subscriber_write_some(subscriber);
	if (r == -ENOMEM) { /* the stream has a hole, of which the program can't be told */
		if (subscriber->hop)
			session_cut_off(subscriber->hop, r, "the daemon has no memory");
		subscriber_end(subscriber, ENOBUFS);
		return false;
	}
	if (r <= 0) { /* what ends the channel is told by a RESET */
		subscriber_move(subscriber, LIST_BLOCKED);
		return false;
	}
	switch_spend(topic->topics->with.board, subscriber->participant.end->channel->charge.account,
		     COST_FRAME + COST_BYTES((uint32_t)r));
	if (subscriber->done < subscriber->current->size)
		return true;
	topic_entry_unref(subscriber->current);
	subscriber->current = NULL;
	if (!subscriber->is_last)
		return true;
	inner_fin(participant_leave(&subscriber->participant));
	subscriber_free(subscriber);
	return false;
}

void subscriber_pump(struct subscriber *subscriber)
{
	struct topic *topic = subscriber->participant.topic;
	uint64_t from = hop_spent_by_all(topic->hop);
	struct account *account = subscriber->hop ? hop_account(subscriber->hop)
				  : subscriber->participant.end
					  ? subscriber->participant.end->channel->charge.account
					  : NULL;

	switch_spend(topic->topics->with.board, account, COST_VISIT);
	while (pump_once(subscriber))
		if (hop_spent_by_all(topic->hop) - from >= TOPIC_PIECE_UNITS) {
			subscriber_move(subscriber, topic->due); /* to its end */
			return;
		}
}

/* --- life ------------------------------------------------------------------------------------- */

void subscriber_discard(struct subscriber *subscriber)
{
	topic_entry_unref(subscriber->current);
	topic_entry_unref(subscriber->held);
	topic_origin_unref(subscriber->origin);
	charge_end(&subscriber->charge);
	free(subscriber);
}

void subscriber_free(struct subscriber *subscriber)
{
	struct topic *topic = subscriber->participant.topic;

	subscriber_part(subscriber);
	count_delivered(subscriber);
	listeners_count(subscriber, 0);
	DL_DELETE(topic->lists[subscriber->list], subscriber);
	topic->counts[subscriber->list]--;
	topic->bounds -= subscriber->bound.most > 0;
	if (subscriber->hop)
		topics_forget(topic->topics, subscriber);
	subscriber_discard(subscriber);
	if (topic->is_replica && !topic->is_over && !topic_has_subscribers(topic))
		topic_drop(topic);
}

void subscriber_end(struct subscriber *subscriber, int error)
{
	struct channel_end *end = participant_leave(&subscriber->participant);

	if (end)
		inner_reset(end, error);
	subscriber_free(subscriber);
}
