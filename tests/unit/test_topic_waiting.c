/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Replicas whose topics aren't there: however many want to look again at once, it takes the turns of who has
 * subscribed. */
#include "tests/unit/unit.h"
#include "tests/unit/topic_rig.h"

#include <event2/event.h>

#define REPLICAS 3000u

TEST(who_waits_looks_again_in_turns)
{
	struct topic_rig *rig = topic_rig_new();
	const struct frame_identity user = {.domid = rig->self.domid};
	struct topic *replica;
	uint64_t before;

	for (unsigned i = 0; i < REPLICAS; i++) {
		char name[32];

		snprintf(name, sizeof(name), "%u:n%u", rig->self.domid, i);
		assert_int_equal(replica_new(&replica, rig->topics, NULL, &user, name), 0);
		replica->pause_ms = 600000; /* so that no timer comes in between */
	}
	switch_run(&rig->board, 1000);
	assert_int_equal(rig->looks, REPLICAS);
	for (replica = rig->topics->all_replicas; replica; replica = replica->next) {
		assert_int_equal(replica->state, REPLICA_WAITING);
		event_active(replica->timer, EV_TIMEOUT, 0);
	}
	before = rig->board.turns.spent;
	event_base_loop(rig->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	assert_true(rig->looks > REPLICAS);
	assert_true(rig->board.turns.spent - before <= TURNS_PASS + TURNS_PIECE);
	switch_run(&rig->board, 1000);
	assert_int_equal(rig->looks, 2 * REPLICAS);
	topic_rig_free(rig);
}
