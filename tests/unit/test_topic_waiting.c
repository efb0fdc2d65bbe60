/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Replicas whose topics aren't there: however many want to look again at once, it takes the turns of who has
 * subscribed. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

#include <event2/event.h>

#include "base/self.h"
#include "daemon/known/known.h"
#include "daemon/relay/channel.h"
#include "daemon/relay/hop.h"
#include "daemon/topic/topic_internal.h"

#define REPLICAS 3000u

static unsigned looks;

static void open_none(void *userdata, struct channel *channel, struct frame_text address)
{
	looks++;
	channel_refuse(channel, ENOENT);
}

TEST(who_waits_looks_again_in_turns)
{
	const struct frame_identity user = {.domid = 1};
	struct event_base *base = event_base_new();
	struct self self = {.domid = 1};
	struct topics *topics;
	struct topic *replica;
	struct relay relay;
	struct known *known;
	uint64_t before;

	assert_int_equal(relay_init(&relay, base, 1 << 20), 0);
	known = known_new(&self);
	assert_int_equal(topics_new(&topics, &(struct topics_collaborators){.self = &self,
									    .relay = &relay,
									    .known = known,
									    .open = open_none}),
			 0);
	for (unsigned i = 0; i < REPLICAS; i++) {
		char name[32];

		snprintf(name, sizeof(name), "1:n%u", i);
		assert_int_equal(replica_new(&replica, topics, NULL, &user, name, name), 0);
		replica->pause_ms = 600000; /* so that no timer comes in between */
	}
	relay_run(&relay, 1000);
	assert_int_equal(looks, REPLICAS);
	for (replica = topics->all_replicas; replica; replica = replica->next) {
		assert_int_equal(replica->state, REPLICA_WAITING);
		event_active(replica->timer, EV_TIMEOUT, 0);
	}
	before = relay.turns.spent;
	event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	assert_true(looks > REPLICAS);
	assert_true(relay.turns.spent - before <= TURNS_PASS + TURNS_PIECE);
	relay_run(&relay, 1000);
	assert_int_equal(looks, 2 * REPLICAS);
	topics_free(topics);
	relay_cleanup(&relay);
	known_free(known);
	event_base_free(base);
}
