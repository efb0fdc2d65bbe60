/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What status tells of topics and of their subscribers. */

#include <stdio.h>

#include <utlist.h>

#include "daemon/topic/topic_internal.h"

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
				.session = subscriber->session,
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
