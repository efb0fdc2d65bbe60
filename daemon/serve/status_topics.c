/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a status says of topics, and of their subscribers. */

#include <stdio.h>
#include <stdlib.h>

#include "daemon/local/session.h"
#include "daemon/switch/channel.h"
#include "daemon/serve/status_json.h"

#define SUBSCRIBERS_MOST 100u /* of one topic */

static void add_tally(struct json_object *object, const struct topic_tally *tally)
{
	add_number(object, "delivered", tally->delivered);
	add_number(object, "missed", tally->missed);
	add_number(object, "gaps", tally->gaps);
}

static struct json_object *add_subscriber(struct json_object *list, const struct subscriber_view *view)
{
	struct json_object *object = json_object_new_object();

	add_tally(object, &view->tally);
	add_number(object, "waiting", view->queued);
	json_object_array_add(list, object);
	return object;
}

/* Adds one of a topic: a user of a domain. */
static void add_user(void *userdata, const struct subscriber_view *view)
{
	struct json_object *object = add_subscriber(userdata, view);
	const struct channel *channel = view->channel;

	add_text(object, "host", channel ? channel_from_host(channel) : NULL);
	json_object_object_add(object, "domid",
			       channel ? json_object_new_uint64(channel->identity.domid) : NULL);
	json_object_object_add(object, "uid", channel ? json_object_new_uint64(channel->identity.uid) : NULL);
}

/* Adds one of a replica. */
static void add_program(void *userdata, const struct subscriber_view *view)
{
	struct json_object *object = add_subscriber(userdata, view);

	add_number(object, "pid", (uint64_t)session_credentials(view->session)->pid);
	add_text(object, "comm", session_comm(view->session));
}

static void add_view(struct status_walk *walk, struct json_object *object, const struct topic *topic,
		     const struct topic_view *view)
{
	struct json_object *list = json_object_new_array();

	add_number(object, "published", view->published);
	add_tally(object, &view->tally);
	add_number(object, "count", view->subscribers);
	topic_view_subscribers(topic, SUBSCRIBERS_MOST, view->address ? add_program : add_user, list);
	walk->units += json_object_array_length(list);
	json_object_object_add(object, "subscribers", list);
}

void status_add_topic(struct status_walk *walk, struct json_object *object, const struct topic *topic)
{
	struct topic_view view;

	if (!topic) {
		add_null(object, "topic");
		return;
	}
	view = topic_view(topic);
	object = add_object(object, "topic");
	add_number(object, "keeps", view.keeps);
	add_number(object, "listeners", topic_listeners(topic));
	add_view(walk, object, topic, &view);
}

bool status_next_subscription(struct status_walk *walk)
{
	walk->replica = topics_next_replica(walk->sources->topics, &walk->replica_place);
	return walk->replica;
}

bool status_subscription_is_visible(struct status_walk *walk)
{
	return is_own(walk, topic_view(walk->replica).uid);
}

unsigned status_rank_of_subscription(struct status_walk *walk)
{
	return rank_of(true, topic_view(walk->replica).published);
}

void status_describe_subscription(struct status_walk *walk, struct json_object *object)
{
	const struct topic_view view = topic_view(walk->replica);

	add_text(object, "address", view.address);
	add_number(object, "uid", view.uid);
	add_text(object, "state", view.state);
	add_view(walk, object, walk->replica, &view);
}
