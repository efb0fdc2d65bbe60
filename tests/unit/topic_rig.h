/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_UNIT_TOPIC_RIG_H
#define XENMSG_TESTS_UNIT_TOPIC_RIG_H

/* Topics on a switchboard of their own, and a daemon that subscribes over a link. */

#include "base/self.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/topic/topic_internal.h"

struct topic_rig {
	struct event_base *base;
	struct switchboard board;
	struct self self;
	struct registry *registry;
	struct topics *topics;
	struct hop *hop;	 /* of the daemon that subscribes */
	struct channel *channel; /* of topic_rig_subscribe() */
	unsigned looks;		 /* of replicas for their topics, which aren't there */
};

struct topic_rig *topic_rig_new(void);
/* No topic has a publisher any more. */
void topic_rig_free(struct topic_rig *rig);
/* Makes a topic whose publisher has gone: it is over when all have all. */
struct topic *topic_rig_topic(struct topic_rig *rig);
/* The daemon opens a channel to the topic, in which nothing was sent yet. As topic_accept(). */
int topic_rig_subscribe(struct topic_rig *rig, struct topic *topic);

/* Whether there is something for the reader: an entry, or that he has missed some. */
static inline bool topic_log_has_more(const struct topic_log *log, const struct topic_position *position)
{
	return position->index < log->next || position->count < log->count ||
	       position->unknown < log->unknown;
}

#endif
