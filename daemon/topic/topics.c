/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/topic/topics.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/event.h>

#include "base/self.h"
#include "daemon/registry/registry.h"
#include "daemon/local/session.h"
#include "base/invariant.h"
#include "daemon/topic/topic_internal.h"
#include "wire/ut.h"

static const char *topics_why_not(int error)
{
	switch (error) {
	case 0:
		return "";
	case EPROTOTYPE:
		return "that endpoint is no topic";
	case EEXIST:
		return "this program has subscribed to it already";
	case EINVAL:
		return "a topic's address is DOMAIN:ENDPOINT";
	case ENOBUFS:
		return "this program, or its user, has as many subscriptions as it may";
	default: /* the library's words */
		return "";
	}
}

void topics_answer(struct subscriber *subscriber, int error)
{
	uint32_t request = subscriber->number;

	subscriber->number = 0;
	if (request)
		session_reply_error(subscriber->hop, request, error, topics_why_not(error));
}

/* --- the subscriptions of a program ----------------------------------------------------------- */

static struct subscribing *find_session(const struct topics *topics, const struct hop *program)
{
	struct subscribing *found;

	HASH_FIND_PTR(topics->sessions, &program, found);
	return found;
}

struct subscriber *topics_behind(const struct topics *topics, const struct subscriber *subscriber)
{
	const struct subscribing *of = topics->sessions;

	if (subscriber && subscriber->of_session_next)
		return subscriber->of_session_next;
	if (subscriber)
		of = find_session(topics, subscriber->hop)->hh.next;
	return of ? of->subscribers : NULL;
}

static struct subscriber *find_subscriber(const struct subscribing *subscribing, struct frame_text address)
{
	struct subscriber *subscriber = NULL;

	if (subscribing)
		DL_FOREACH2(subscribing->subscribers, subscriber, of_session_next)
			if (frame_text_is(address, subscriber->address))
				break;
	return subscriber;
}

int topics_remember(struct topics *topics, struct subscriber *subscriber, struct hop *program)
{
	struct subscribing *of = find_session(topics, program);

	if (find_subscriber(of, frame_text_of(subscriber->address)))
		return -EEXIST;
	if (of && of->count >= TOPIC_SUBSCRIPTIONS)
		return -ENOBUFS;
	if (!of) {
		of = calloc(1, sizeof(*of));
		if (!of)
			return -ENOMEM;
		of->hop = program;
		HASH_ADD_PTR(topics->sessions, hop, of);
		if (!HASH_ADDED(of)) {
			free(of);
			return -ENOMEM;
		}
	}
	subscriber->hop = program;
	of->count++;
	DL_APPEND2(of->subscribers, subscriber, of_session_prev, of_session_next);
	return 0;
}

void topics_forget(struct topics *topics, struct subscriber *subscriber)
{
	struct subscribing *of = find_session(topics, subscriber->hop);

	if (topics->asks_next == subscriber)
		topics->asks_next = topics_behind(topics, subscriber);
	DL_DELETE2(of->subscribers, subscriber, of_session_prev, of_session_next);
	if (--of->count)
		return;
	HASH_DEL(topics->sessions, of);
	free(of);
}

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

struct subscriber *topics_find_subscriber(const struct topics *topics, const struct hop *program,
					  const char *address)
{
	return find_subscriber(find_session(topics, program), frame_text_of(address));
}

const char *topics_write_key(char key[TOPICS_KEY_SIZE], uint32_t uid, const char *address)
{
	snprintf(key, TOPICS_KEY_SIZE, "%u %s", uid, address);
	return key;
}

int topics_find_replica(struct topics *topics, const struct subscriber *subscriber, struct topic **replica)
{
	const struct frame_identity user = hop_program(subscriber->hop)->identity;
	char key[TOPICS_KEY_SIZE], address[ADDRESS_MAX + 1];

	meant_address(topics, subscriber->address, address);
	topics_write_key(key, user.uid, address);
	HASH_FIND_STR(topics->replicas, key, *replica);
	if (*replica)
		return 0;
	return replica_new(replica, topics, hop_account(subscriber->hop), &user, address);
}

static void topics_leave(struct topics *topics, struct hop *program, uint32_t request,
			 struct frame_text address)
{
	struct subscriber *subscriber = find_subscriber(find_session(topics, program), address);
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
		session_reply_error(program, request, -r, topics_why_not(-r));
		return;
	}
	r = topics_find_replica(topics, subscriber, &replica);
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
	struct subscriber *subscriber = find_subscriber(find_session(topics, program), address);

	if (!subscriber)
		return -ENOENT;
	topics_answer(subscriber, ECANCELED);
	subscriber_end(subscriber, ENOENT);
	return 0;
}

void topics_forget_session(struct topics *topics, struct hop *program)
{
	struct subscribing *of;

	while ((of = find_session(topics, program))) {
		of->subscribers->number = 0;
		subscriber_end(of->subscribers, ECONNRESET);
	}
}

struct subscriber *topics_first_of(const struct topics *topics, const struct hop *program)
{
	const struct subscribing *of = find_session(topics, program);

	return of ? of->subscribers : NULL;
}

/* --- all of them ------------------------------------------------------------------------------ */

void topics_remove_replica(struct topic *replica)
{
	struct topic *found = NULL;

	if (replica->key) /* for which there may have been no memory */
		HASH_FIND_STR(replica->topics->replicas, replica->key, found);
	if (found == replica)
		HASH_DEL(replica->topics->replicas, replica);
	search_end(replica);
}

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
