/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/topic/topics.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/self.h"
#include "daemon/registry/registry.h"
#include "daemon/local/session.h"
#include "base/invariant.h"
#include "daemon/topic/topic_internal.h"
#include "wire/ut.h"

/* --- requests --------------------------------------------------------------------------------- */

static struct subscriber *topics_new_subscriber(uint32_t request, const struct frame_subscribe *subscribe)
{
	struct subscriber *subscriber = calloc(1, sizeof(*subscriber) + subscribe->address.size + 1);

	if (!subscriber)
		return NULL;
	subscriber->participant.kind = PARTICIPANT_SUBSCRIBER;
	subscriber->number = request;
	subscriber->was_subscribed = subscribe->flags & SUBSCRIBE_AGAIN;
	subscriber->bound.most = (subscribe->flags & SUBSCRIBE_QUEUE) >> SUBSCRIBE_QUEUE_SHIFT;
	subscriber->bound.keeps_oldest = subscribe->flags & SUBSCRIBE_OLDEST;
	memcpy(subscriber->address, subscribe->address.data, subscribe->address.size);
	return subscriber;
}

static void topics_leave(struct topics *topics, struct hop *program, uint32_t request,
			 struct frame_text address)
{
	struct subscriber *subscriber = topics_find_subscriber(topics, program, address);
	int r = !subscriber ? ENOENT : replica_is_away(subscriber->participant.topic) ? EAGAIN : 0;

	if (r == 0) {
		subscriber_leave(subscriber, true);
		subscriber->leaves_for_good = true;
	}
	session_reply_error(program, request, r, "");
}

void topics_subscribe(struct topics *topics, struct hop *program, uint32_t request,
		      const struct frame_subscribe *subscribe)
{
	struct frame_text text = subscribe->address;
	struct subscriber *subscriber = NULL;
	struct topic *replica;
	struct address address;
	int r = address_parse(text.data, text.size, &address, NULL);

	if (subscribe->flags & SUBSCRIBE_LEAVE) {
		topics_leave(topics, program, request, text);
		return;
	}
	if (r == 0) {
		subscriber = topics_new_subscriber(request, subscribe);
		r = subscriber ? subscriber_charge(subscriber, hop_account(program), false) : -ENOMEM;
		if (r == 0)
			r = topics_remember(topics, subscriber, program);
		if (r < 0 && subscriber)
			subscriber_discard(subscriber);
	}
	if (r < 0) {
		subscriptions_answer(program, request, -r);
		return;
	}
	r = meant_find_replica(topics, subscriber, &replica);
	if (r == 0) {
		replica_join(replica, subscriber);
		return;
	}
	topics_answer(subscriber, -r);
	topics_forget(topics, subscriber);
	subscriber_discard(subscriber);
}

int topics_unsubscribe(struct topics *topics, struct hop *program, struct frame_text address)
{
	struct subscriber *subscriber = topics_find_subscriber(topics, program, address);

	if (!subscriber)
		return -ENOENT;
	topics_answer(subscriber, ECANCELED);
	subscriber_end(subscriber, ENOENT);
	return 0;
}

void topics_forget_session(struct topics *topics, struct hop *program)
{
	struct subscriber *subscriber;

	while ((subscriber = topics_first_of(topics, program))) {
		subscriber->number = 0;
		subscriber_end(subscriber, ECONNRESET);
	}
}

/* --- all of them ------------------------------------------------------------------------------ */

/* Of other domains we hear only as far as somebody needs to know of them, so replicas also try by
 * themselves. */
static void topics_on_change(void *userdata, enum registry_what what, uint32_t domid)
{
	struct topics *topics = userdata;

	if (what == REGISTRY_NAME || what == REGISTRY_PRESENCE)
		meant_ask(topics);
	if ((what == REGISTRY_PRESENCE || what == REGISTRY_ENDPOINTS) && domid != topics->with.self->domid)
		search_hurry(topics);
}

void topics_restart(struct topics *topics, uint32_t was)
{
	struct topic *replica;

	DL_FOREACH(topics->all_replicas, replica)
		if (replica->domid == was && !replica->feeds) /* else its channel tells */
			replica_renumber(replica, topics->with.self->domid);
}

int topics_new(struct topics **made, const struct topics_collaborators *collaborators)
{
	struct topics *topics = calloc(1, sizeof(*topics));

	if (!topics)
		return -ENOMEM;
	topics->with = *collaborators;
	topics->past.drop = free;
	topics->asks_timer = evtimer_new(topics->with.board->base, meant_have_rested, topics);
	if (!topics->asks_timer) {
		free(topics);
		return -ENOMEM;
	}
	task_init(&topics->task, &topics->with.board->turns, NULL, search_on_task);
	registry_listen(topics->with.registry, &topics->sink, topics_on_change, topics);
	*made = topics;
	return 0;
}

void topics_free(struct topics *topics)
{
	if (!topics)
		return;
	while (topics->own)
		topic_destroy(topics->own);
	while (topics->all_replicas)
		topic_destroy(topics->all_replicas);
	past_clear(&topics->past);
	task_cancel(&topics->task);
	registry_leave(topics->with.registry, &topics->sink);
	event_free(topics->asks_timer);
	free(topics);
}

#ifdef XENMSG_INVARIANTS
static void topics_check_topic(const struct topic *topic)
{
	const struct topic_log *log = &topic->log;
	uint64_t listeners = 0, bytes = 0;
	const struct subscriber *subscriber;

	for (unsigned i = 0; i < SUBSCRIBER_LISTS; i++) {
		unsigned count = 0;

		DL_FOREACH(topic->lists[i], subscriber) {
			const struct topic_position *position = &subscriber->position;

			INVARIANT(subscriber->list == i && subscriber->participant.topic == topic,
				  "a subscriber knows where it is listed");
			INVARIANT(position->index <= log->next && position->count <= log->count &&
					  position->unknown <= log->unknown,
				  "no subscriber is ahead of its log");
			listeners += subscriber->listeners;
			count++;
		}
		INVARIANT(count == topic->counts[i], "lists of subscribers are counted");
	}
	for (uint64_t i = log->first; i < log->next; i++)
		bytes += topic_entry_cost(log->entries[i & (log->places - 1)]->size);
	INVARIANT(topic->listeners == listeners, "listeners are counted");
	INVARIANT(bytes <= log->bytes && log->bytes <= log->charge.held[QUOTA_BYTES],
		  "a log pays for its entries");
}

void topics_check(const struct topics *topics)
{
	const struct topic *topic;

	DL_FOREACH(topics->own, topic)
		topics_check_topic(topic);
	DL_FOREACH(topics->all_replicas, topic)
		topics_check_topic(topic);
}
#endif

/* --- what status tells ------------------------------------------------------------------------ */

/* What status tells of topics and of their subscribers. */

struct topic_view topic_view(const struct topic *topic)
{
	static const char *const states[] = {
		[REPLICA_TRYING] = "subscribing",
		[REPLICA_LIVE] = "subscribed",
		[REPLICA_WAITING] = "waiting",
		[REPLICA_REFUSED] = "refused",
	};
	struct topic_view view = {
		.published = topic->published,
		.keeps = topic->kept.capacity,
		.tally = topic->tally,
		.address = topic->address,
		.state = topic->is_replica ? states[topic->state] : NULL,
		.uid = topic->user.uid,
	};

	for (unsigned i = 0; i < SUBSCRIBER_LISTS; i++)
		view.subscribers += topic->counts[i];
	return view;
}

void topic_view_subscribers(const struct topic *topic, unsigned most,
			    void (*each)(void *userdata, const struct subscriber_view *view), void *userdata)
{
	static const enum subscriber_list order[] = {LIST_BLOCKED, LIST_LATER, LIST_A, LIST_B, LIST_OUT};

	for (unsigned i = 0; i < SUBSCRIBER_LISTS; i++)
		for (const struct subscriber *subscriber = topic->lists[order[i]]; subscriber && most > 0;
		     subscriber = subscriber->next, most--) {
			const struct subscriber_view view = {
				.hop = subscriber->hop,
				.channel = subscriber->participant.end ? subscriber->participant.end->channel
								       : NULL,
				.tally = subscriber->tally,
				.queued = order[i] == LIST_OUT
						  ? 0
						  : topic->log.count - subscriber->position.count,
			};

			each(userdata, &view);
		}
}

const struct topic *topics_next_replica(const struct topics *topics, struct topics_place *place)
{
	struct topic *replica = NULL;

	if (place->number)
		HASH_FIND_STR(topics->replicas, place->key, replica);
	if (replica && replica->number == place->number)
		replica = replica->hh.next;
	else /* it has gone meanwhile, if there was one */
		for (replica = topics->replicas; replica && replica->number <= place->number;)
			replica = replica->hh.next;
	if (!replica)
		return NULL;
	place->number = replica->number;
	snprintf(place->key, sizeof(place->key), "%s", replica->key);
	return replica;
}
