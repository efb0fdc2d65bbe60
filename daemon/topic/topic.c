/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The turns of one topic, and what comes at its hop. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "base/cost.h"
#include "base/timer.h"
#include "daemon/switch/hop_image.h"
#include "daemon/topic/topic_internal.h"
#include "wire/ut.h"

#define COST_DROP 4u /* an entry of the log is freed */

/* --- what the log has ------------------------------------------------------------------------- */

bool topic_has_subscribers(const struct topic *topic)
{
	for (unsigned i = 0; i < SUBSCRIBER_LISTS; i++)
		if (topic->lists[i])
			return true;
	return false;
}

void topic_append(struct topic *topic, struct topic_entry *entry)
{
	uint32_t size = entry->size;

	topic->published += entry->count;
	if (!entry->origin)
		entry->origin = topic_origin_ref(topic->origin);
	if (topic_log_append(&topic->log, entry) < 0) {
		topic_log_unreserve(&topic->log, size);
		topic_log_skip(&topic->log, entry->count, entry->unknown);
		topic_entry_unref(entry);
	}
	topic->is_fresh = true;
	inner_due(topic->hop);
}

void topic_tell(struct topic *topic, enum notice_kind kind, uint64_t count, uint8_t flags)
{
	struct topic_entry *entry = notice_new(kind, count, flags, 0);

	if (entry && topic_log_reserve(&topic->log, entry->size) < 0) {
		topic_entry_unref(entry);
		entry = NULL;
	}
	if (!entry) { /* at least that something is missing is told */
		topic->published += kind == NOTICE_MISSED ? count : 0;
		topic_log_skip(&topic->log, kind == NOTICE_MISSED ? count : 0, true);
		topic->is_fresh = true;
		inner_due(topic->hop);
		return;
	}
	entry->count = kind == NOTICE_MISSED ? count : 0;
	entry->is_state = kind == NOTICE_SUBSCRIBED || kind == NOTICE_WAITING;
	entry->unknown = flags & NOTICE_UNKNOWN;
	entry->is_apart = entry->count || entry->unknown;
	topic_append(topic, entry);
}

/* --- what comes in ---------------------------------------------------------------------------- */

/* Appends what the publisher has sent. -EPROTO: a program that would have others take its words for ours. */
static int topic_publish(struct topic *topic, struct topic_entry *entry)
{
	struct properties properties;

	if (ingest_check(entry, &properties) != MESSAGE_PLAIN || properties.subscribes ||
	    properties.notice.kind) {
		topic_log_unreserve(&topic->log, entry->size);
		topic_entry_unref(entry);
		return -EPROTO;
	}
	if (ingest_is_cancelled(entry)) {
		topic_log_unreserve(&topic->log, entry->size);
		topic_entry_unref(entry);
		return 0;
	}
	entry->count = 1;
	topic_kept_put(&topic->kept, properties.key, entry, ingest_is_empty(entry));
	topic_append(topic, entry);
	return 0;
}

/* Whether several messages may be one entry: no reader moves to one of them, none is kept, and none is told
 * to be. */
static bool takes_runs(const struct topic *topic)
{
	return !topic->bounds && !topic->kept.capacity &&
	       (!topic->is_replica || (topic->state == REPLICA_LIVE && !topic->kept_comes));
}

/* Takes a message of a feed, or a part of one, or several. */
static void topic_take_message(struct topic *topic, struct feed *feed)
{
	uint64_t most = topic->topics->with.board->max_message;
	struct channel_end *end = feed->participant.end;
	bool may_be_run = takes_runs(topic);
	struct topic_entry *entry = ingest_given(feed, &topic->log, most, may_be_run);
	int r;

	if (!entry && may_be_run)
		entry = ingest_run(feed, &topic->log, most);
	if (entry && entry->count) {
		topic_append(topic, entry);
		return;
	}
	r = entry ? 1 : ingest(feed, &topic->log, most, &entry);
	if (r == 1)
		r = topic->is_replica ? replica_take(topic, entry) : topic_publish(topic, entry);
	else if (r == 2) /* a replica's */
		replica_skip(topic);
	if (r < 0)
		inner_reset(end, r == -ENOMEM ? ENOBUFS : -r); /* of which a RESET tells us */
}

/* Takes the request of a replica, which must be a subscription, or the next one, which tells how many
 * listeners it has by then. */
static void take_request(struct subscriber *subscriber)
{
	struct topic *topic = subscriber->participant.topic;
	uint8_t flags = NOTICE_COUNTS | (topic->kept.capacity ? NOTICE_RETAINS : 0);
	uint32_t listeners;
	int r = ingest_request(subscriber->participant.end, &listeners);

	if (r == 0) {
		inner_wait_for_data(subscriber->participant.end);
		return;
	}
	if (r < 0) { /* behind its request it has nothing to say but how many it stands for */
		subscriber_end(subscriber, r == -ENOMEM ? ENOBUFS : subscriber->is_asking ? -r : EPROTO);
		return;
	}
	if (topic_has_ended(topic)) {
		subscriber_end(subscriber, ENOENT);
		return;
	}
	listeners_count(subscriber, listeners ? listeners : 1);
	if (!subscriber->is_asking)
		return;
	subscriber->is_asking = false;
	subscriber_begin(subscriber,
			 notice_new(NOTICE_SUBSCRIBED, topic->published, flags, topic->kept.capacity));
}

static void topic_take_data(struct topic *topic, struct channel_end *end)
{
	struct participant *participant = end->participant;
	struct subscriber *subscriber = (struct subscriber *)participant;
	size_t length = channel_queued(end);

	if (participant && participant->kind == PARTICIPANT_FEED) {
		topic_take_message(topic, (struct feed *)participant);
	} else if (participant && !subscriber->hop) {
		take_request(subscriber);
	} else { /* a program has nothing to say here */
		evbuffer_drain(end->queue, length);
		inner_taken(end, length);
		if (participant)
			subscriber_end(subscriber, EPROTO);
	}
}

/* --- frames about channels -------------------------------------------------------------------- */

static void on_feed_over(struct topic *topic, struct feed *feed, int error)
{
	topic_remove_feed(feed);
	if (topic->is_replica)
		replica_lost(topic, error);
}

static void on_subscriber_fin(struct subscriber *subscriber)
{
	struct channel_end *end = participant_leave(&subscriber->participant);

	if (subscriber->is_closing) { /* the program has taken all that was in it: the next one can begin */
		subscriber->is_closing = false;
		subscriber_move(subscriber, subscriber->participant.topic->due);
		inner_due(subscriber->participant.topic->hop);
		return;
	}
	inner_fin(end);
	subscriber_free(subscriber);
}

static void topic_on_fin(struct topic *topic, struct channel_end *end)
{
	struct participant *participant = end->participant;

	if (participant && participant->kind == PARTICIPANT_SUBSCRIBER) {
		on_subscriber_fin((struct subscriber *)participant);
		return;
	}
	if (participant)
		on_feed_over(topic, (struct feed *)participant, ECONNRESET);
	inner_fin(end);
}

static void topic_on_reset(struct topic *topic, struct channel_end *end, const struct frame_reset *reset)
{
	struct participant *participant = end->participant;
	int error = (int)reset->error;

	if (participant)
		participant_leave(participant);
	inner_reset(end, error);
	if (!participant)
		return;
	if (participant->kind == PARTICIPANT_FEED)
		on_feed_over(topic, (struct feed *)participant, error);
	else
		subscriber_free((struct subscriber *)participant);
}

static void topic_take_frame(struct topic *topic, struct channel_end *end, const struct channel_frame *frame)
{
	struct participant *participant = end->participant;
	struct subscriber *subscriber = (struct subscriber *)participant;
	struct frame_reset reset;

	switch (frame->header.type) {
	case FRAME_OPENED:
		if (participant && participant->kind == PARTICIPANT_FEED)
			replica_opened(topic, end->channel);
		break;
	case FRAME_CREDIT:
		if (participant && participant->kind == PARTICIPANT_SUBSCRIBER &&
		    subscriber->list == LIST_BLOCKED)
			subscriber_move(subscriber, topic->due);
		break;
	case FRAME_FIN:
		topic_on_fin(topic, end);
		break;
	case FRAME_RESET:
		if (frame_reset_decode(frame->payload, frame->header.length, &reset) == 0)
			topic_on_reset(topic, end, &reset);
		break;
	default:
		break;
	}
}

/* --- turns ------------------------------------------------------------------------------------ */

/* Takes the next thing that has come. False: nothing has. */
static bool take_something(struct topic *topic)
{
	struct channel_frame frame;
	struct channel_end *end;

	if (inner_next_frame(topic->hop, &end, &frame)) {
		topic_take_frame(topic, end, &frame);
		return true;
	}
	end = inner_next_data(topic->hop);
	if (end)
		topic_take_data(topic, end);
	return end;
}

/* Does the next thing for a subscriber. False: there is nothing. */
static bool serve_somebody(struct topic *topic)
{
	if (topic->is_to_look) {
		topic->is_to_look = false;
		replica_look(topic);
		return true;
	}
	if (topic->is_replica && replica_answer(topic))
		return true;
	if (topic->retries && topic->lists[LIST_LATER]) {
		topic->retries--;
		subscriber_pump(topic->lists[LIST_LATER]);
		return true;
	}
	if (!topic->lists[topic->due] && topic->is_fresh) {
		topic->due = topic->due == LIST_A ? LIST_B : LIST_A;
		topic->is_fresh = false;
	}
	if (!topic->lists[topic->due])
		return false;
	subscriber_pump(topic->lists[topic->due]);
	return true;
}

static void forget_subscriber(struct topic *topic)
{
	for (unsigned i = 0; i < SUBSCRIBER_LISTS; i++)
		if (topic->lists[i]) {
			hop_spend(topic->hop, COST_CHANNEL_END);
			participant_leave(&topic->lists[i]->participant);
			subscriber_free(topic->lists[i]);
			return;
		}
}

static void remember_tally(struct topic *replica)
{
	struct topic_tally *tally = past_take(&replica->topics->past, replica->key); /* of a replaced one */

	if (!tally)
		tally = calloc(1, sizeof(*tally));
	if (!tally)
		return;
	tally->delivered += replica->tally.delivered;
	tally->missed += replica->tally.missed;
	tally->gaps += replica->tally.gaps;
	past_put(&replica->topics->past, replica->key, tally);
}

void topic_destroy(struct topic *topic)
{
	topic->is_over = true;
	while (topic->feeds) /* TOPIC_FEEDS at most */
		topic_remove_feed(topic->feeds);
	while (topic_has_subscribers(topic))
		forget_subscriber(topic);
	if (topic->is_replica) {
		remember_tally(topic);
		replica_unlist(topic);
		DL_DELETE(topic->topics->all_replicas, topic);
	} else {
		DL_DELETE(topic->topics->own, topic);
	}
	hop_note_goodbye(topic->hop, 0);
	hop_retire(topic->hop, ENOENT);
	topic_leave_image(topic);
	topic_kept_end(&topic->kept);
	charge_end(&topic->charge);
	topic_log_free(&topic->log);
	topic_origin_unref(topic->origin);
	event_free(topic->timer);
	event_free(topic->rest_timer);
	free(topic->name);
	free(topic->key);
	free(topic->address);
	free(topic);
}

void topic_drop(struct topic *topic)
{
	topic->is_over = true;
	if (topic->is_replica)
		replica_unlist(topic);
	inner_due(topic->hop);
}

/* Whether everybody has all that is in the log: nobody is due, and nobody waits for room or for a channel. */
static bool all_have_all(const struct topic *topic)
{
	return !topic->is_fresh && !topic->lists[topic->due] && !topic->lists[LIST_BLOCKED] &&
	       !topic->lists[LIST_LATER];
}

/* Drops what nobody needs any more, so that it is in memory that is still in the cache that the next messages
 * come. False: there is nothing. */
static bool drop_something(struct topic *topic)
{
	if (!all_have_all(topic) || !topic_log_drop(&topic->log))
		return false;
	hop_spend(topic->hop, COST_DROP);
	return true;
}

/* Does what there is to do, for so many units. Half of them is for the subscribers, however fast others
 * publish, subscribe and end. False: it has done everything. */
static bool do_a_piece(struct topic *topic)
{
	uint64_t from = hop_spent_by_all(topic->hop);
	bool more = true;

	while (!topic->is_over && more && hop_spent_by_all(topic->hop) - from < TOPIC_PIECE_UNITS / 2)
		more = take_something(topic);
	more = true;
	while (!topic->is_over && more && hop_spent_by_all(topic->hop) - from < TOPIC_PIECE_UNITS)
		more = serve_somebody(topic) || drop_something(topic);
	while (topic->is_over && topic_has_subscribers(topic) &&
	       hop_spent_by_all(topic->hop) - from < TOPIC_PIECE_UNITS)
		forget_subscriber(topic);
	return topic->is_over ? topic_has_subscribers(topic) : more || inner_has_input(topic->hop);
}

static void topic_on_turn(void *owner)
{
	struct topic *topic = owner;
	const struct channel_end *end = topic->is_replica ? replica_end(topic) : NULL;
	bool more;

	if (end && end->channel->acceptor_identity.domid != topic->domid)
		replica_follow(topic);
	more = do_a_piece(topic);

	/* What its subscribers pay for isn't in its own account. */
	turns_yield(&topic->topics->with.board->turns, account_line(hop_account(topic->hop)));
	/* All that was published is on its way to subscribers. */
	if (topic_has_ended(topic) && !more && !topic->lists[LIST_BLOCKED])
		topic->is_over = true;
	listeners_tell(topic);
	if (topic->is_over && !topic_has_subscribers(topic))
		topic_destroy(topic);
	else if (more || topic->is_over)
		inner_due(topic->hop);
}

static bool on_give_memory(void *owner, struct channel_end *end, uint32_t length, struct hop_memory *memory)
{
	struct participant *participant = end->participant;

	return length >= TOPIC_GIVE_LEAST && participant && participant->kind == PARTICIPANT_FEED &&
	       ingest_give((struct feed *)participant, topic_entry_new(length), memory);
}

static const struct hop_callbacks topic_callbacks = {.turn = topic_on_turn, .give_memory = on_give_memory};

static void on_time_up(int fd, short what, void *userdata)
{
	struct topic *topic = userdata;

	if (topic_has_ended(topic)) {
		topic_drop(topic);
		return;
	}
	topic->retries = topic->counts[LIST_LATER];
	topic->is_to_look = topic->is_replica; /* in its turn: the time of thousands may be up at once */
	inner_due(topic->hop);
}

int topic_make(struct topic **made, struct topics *topics, struct account *account, bool exceeds)
{
	struct switchboard *board = topics->with.board;
	struct topic *topic = calloc(1, sizeof(*topic));
	int r;

	if (!topic)
		return -ENOMEM;
	topic->topics = topics;
	charge_init(&topic->charge, account);
	topic_kept_init(&topic->kept, account);
	r = exceeds ? 0 : charge_add(&topic->charge, QUOTA_MEMORY, TOPIC_MEMORY);
	if (r < 0)
		goto free;
	topic->hop = hop_new(board, HOP_TOPIC, &topic_callbacks, topic, 1, CHANNEL_NUMBERS / 2);
	topic->timer = evtimer_new(board->base, on_time_up, topic);
	topic->rest_timer = evtimer_new(board->base, listeners_have_rested, topic);
	if (!topic->hop || !topic->timer || !topic->rest_timer) {
		r = -ENOMEM;
		goto free;
	}
	if (exceeds)
		charge_exceed(&topic->charge, QUOTA_MEMORY, TOPIC_MEMORY);
	hop_set_account(topic->hop, account_ref(account));
	hop_set_image_number(topic->hop, 0); /* it is in every image */
	topic_log_init(&topic->log, account, TOPIC_LOG_MOST);
	*made = topic;
	return 0;
free:
	if (topic->hop)
		hop_retire(topic->hop, ENOENT);
	free_event(topic->timer);
	free_event(topic->rest_timer);
	topic_kept_end(&topic->kept);
	charge_end(&topic->charge);
	free(topic);
	return r;
}

/* --- an own topic --------------------------------------------------------------------------------- */

int topic_new(struct topic **made, struct topics *topics, struct hop *publisher, unsigned keeps)
{
	struct topic *topic;
	int r = topic_make(&topic, topics, hop_account(publisher), false);

	if (r < 0)
		return r;
	topic->publisher = publisher;
	topic_kept_begin(&topic->kept, keeps);
	*hop_own_program(topic->hop) = *hop_program(publisher);
	DL_APPEND(topics->own, topic);
	*made = topic;
	return 0;
}

void topic_end(struct topic *topic)
{
	struct feed *feed, *next;

	topic->publisher = NULL;
	DL_FOREACH_SAFE(topic->feeds, feed, next) {
		struct channel_end *end = feed->participant.end;

		topic_remove_feed(feed);
		inner_reset(end, ENOENT);
	}
	topic_tell(topic, NOTICE_WAITING, 0, 0);
	timer_set(topic->timer, TOPIC_LINGER_MS);
}

static int accept_subscriber(struct topic *topic, struct channel *channel, const char *name)
{
	struct subscriber *subscriber = calloc(1, sizeof(*subscriber) + 1);
	int r;

	if (!subscriber)
		return -ENOMEM;
	r = subscriber_charge(subscriber, channel->charge.account, false);
	if (r == 0)
		r = channel_accept(channel, topic->hop, name);
	if (r < 0) {
		subscriber_discard(subscriber);
		return r;
	}
	subscriber->participant = (struct participant){.kind = PARTICIPANT_SUBSCRIBER, .topic = topic};
	subscriber->is_asking = true;
	participant_take(&subscriber->participant, &channel->acceptor);
	subscriber_enter(subscriber, topic);
	return 0;
}

int topic_accept(struct topic *topic, struct channel *channel, const char *name)
{
	int r;

	if (channel->kind == CHANNEL_CALL)
		return accept_subscriber(topic, channel, name);
	if (channel->kind != CHANNEL_MESSAGE || channel->opener.hop != topic->publisher)
		return -EPROTOTYPE;
	r = channel_accept(channel, topic->hop, name);
	if (r == 0 && !topic_add_feed(topic, &channel->acceptor))
		inner_reset(&channel->acceptor, ENOBUFS);
	return r;
}

int topic_tell_listeners(struct topic *topic, struct frame_text name)
{
	topic->name = strndup(name.data, name.size);
	if (!topic->name)
		return -ENOMEM;
	topic->tells_listeners = true;
	return 0;
}

uint64_t topic_listeners(const struct topic *topic)
{
	return topic->listeners;
}
