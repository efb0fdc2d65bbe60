/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Topics in a status, and their subscribers. */

#include <stdio.h>
#include <stdlib.h>

#include "daemon/local/session.h"
#include "daemon/switch/channel.h"
#include "daemon/serve/router.h"
#include "daemon/serve/status_json.h"

#define SUBSCRIBERS_MOST 100u /* of one topic */

static void add_tally(struct json *json, const struct topic_tally *tally)
{
	json_number(json, "delivered", tally->delivered);
	json_number(json, "missed", tally->missed);
	json_number(json, "gaps", tally->gaps);
}

struct subscribers {
	struct json *json;
	unsigned count;
};

static struct json *begin_subscriber(struct subscribers *subscribers, const struct subscriber_view *view)
{
	struct json *json = subscribers->json;

	subscribers->count++;
	json_begin(json, NULL, '{');
	add_tally(json, &view->tally);
	json_number(json, "waiting", view->queued);
	return json;
}

/* Adds one of a topic: a user of a domain. */
static void add_user(void *userdata, const struct subscriber_view *view)
{
	struct json *json = begin_subscriber(userdata, view);
	const struct channel *channel = view->channel;

	add_text(json, "host", channel ? channel_from_host(channel) : NULL);
	json_number_if(json, "domid", channel, channel->identity.domid);
	json_number_if(json, "uid", channel, channel->identity.uid);
	json_end(json, '}');
}

/* Adds one of a replica. */
static void add_program(void *userdata, const struct subscriber_view *view)
{
	struct json *json = begin_subscriber(userdata, view);

	json_number(json, "pid", hop_program(view->hop)->identity.pid);
	add_text(json, "comm", hop_program(view->hop)->comm);
	json_end(json, '}');
}

static void add_view(struct status_walk *walk, struct json *json, const struct topic *topic,
		     const struct topic_view *view)
{
	struct subscribers subscribers = {.json = json};

	json_number(json, "published", view->published);
	add_tally(json, &view->tally);
	json_number(json, "count", view->subscribers);
	json_begin(json, "subscribers", '[');
	topic_view_subscribers(topic, SUBSCRIBERS_MOST, view->address ? add_program : add_user, &subscribers);
	json_end(json, ']');
	walk->units += subscribers.count;
}

void status_add_topic(struct status_walk *walk, struct json *json, const struct endpoint *endpoint)
{
	const struct channel_tally *before = endpoint->tally;
	const struct topic *topic = endpoint->topic;
	struct topic_view view;

	if (!topic) {
		json_null(json, "topic");
		return;
	}
	view = topic_view(topic);
	view.published += before->topics.published;
	view.tally.delivered += before->topics.delivered;
	view.tally.missed += before->topics.missed;
	view.tally.gaps += before->topics.gaps;
	json_begin(json, "topic", '{');
	json_number(json, "keeps", view.keeps);
	json_number(json, "listeners", topic_listeners(topic));
	add_view(walk, json, topic, &view);
	json_end(json, '}');
}

bool status_next_subscription(struct status_walk *walk)
{
	walk->replica = topics_next_replica(walk->sources->topics, &walk->replica_place);
	if (walk->replica)
		walk->subscription = topic_view(walk->replica);
	return walk->replica;
}

bool status_subscription_is_visible(struct status_walk *walk)
{
	return is_own(walk, walk->subscription.uid);
}

unsigned status_rank_of_subscription(struct status_walk *walk)
{
	return rank_of(true, walk->subscription.published);
}

void status_describe_subscription(struct status_walk *walk, struct json *json)
{
	const struct topic_view *view = &walk->subscription;

	add_text(json, "address", view->address);
	json_number(json, "uid", view->uid);
	add_text(json, "state", view->state);
	add_view(walk, json, walk->replica, view);
}
