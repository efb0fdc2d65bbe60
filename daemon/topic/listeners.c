/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How many subscribe: a replica tells its topic, and a topic its publisher. Others subscribe and end as fast
 * as they like, so each is told at most once in a while, and what counts then. */

#include "base/timer.h"
#include "daemon/topic/topic_internal.h"
#include "wire/frame.h"

#define REST_MS 100

void listeners_count(struct subscriber *subscriber, uint32_t count)
{
	struct topic *topic = subscriber->participant.topic;

	topic->listeners += count;
	topic->listeners -= subscriber->listeners;
	subscriber->listeners = count;
	if (topic->tells_listeners)
		inner_due(topic->hop);
}

uint32_t listeners_of_replica(const struct topic *replica)
{
	return replica->listeners > UINT32_MAX ? UINT32_MAX : (uint32_t)replica->listeners;
}

void listeners_told(struct topic *topic, uint64_t count)
{
	topic->listeners_told = count;
	topic->rests = true;
	timer_set(topic->rest_timer, REST_MS);
}

static void tell_topic(struct topic *replica)
{
	struct channel_end *end = replica_end(replica);
	uint32_t count = listeners_of_replica(replica);
	struct topic_entry *entry;
	struct iovec piece;

	/* What was told before must be taken: so little lies on the way, however slow that is. */
	if (!end || channel_other(end)->consumed < end->received)
		return;
	entry = subscription_new(count);
	if (entry && entry->size <= inner_room(end)) {
		piece = (struct iovec){entry->bytes, entry->size};
		if (hop_push(end, &piece, 1, entry->size, 1) == -ENOMEM)
			count = (uint32_t)replica->listeners_told; /* again after a rest */
		listeners_told(replica, count);			   /* or a RESET tells */
	}
	topic_entry_unref(entry);
}

static void tell_publisher(struct topic *topic)
{
	uint8_t payload[FRAME_LISTENERS_MAX];
	struct frame_listeners told = {.count = topic->listeners};

	if (!topic->publisher)
		return;
	if (hop_has_unsent(topic->publisher)) { /* it is told when it reads again */
		listeners_told(topic, topic->listeners_told);
		return;
	}
	told.endpoint = frame_text_of(topic->name);
	hop_send(topic->publisher, FRAME_LISTENERS, 0, 0, payload, frame_listeners_encode(&told, payload));
	listeners_told(topic, topic->listeners);
}

void listeners_tell(struct topic *topic)
{
	if (!topic->tells_listeners || topic->rests || topic->is_over ||
	    topic->listeners == topic->listeners_told)
		return;
	if (topic->is_replica)
		tell_topic(topic);
	else
		tell_publisher(topic);
}

void listeners_have_rested(int fd, short what, void *userdata)
{
	struct topic *topic = userdata;

	topic->rests = false;
	inner_due(topic->hop);
}
