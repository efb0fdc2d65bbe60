/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nobody waits for those that it has nothing to do with. */
#include "tests/unit/hop_rig.h"

#define LINK_RING 65536u

struct scene {
	struct rig rig;
	struct participant *programs[4], *link;
};

/* "x…": the link; "p2…": program 2. */
static struct participant *route(struct participant *participant, const char *name)
{
	struct participant *to = participant->rig->parties;
	int steps = name[0] == 'x' ? 4 : name[1] - '0';

	while (steps--)
		to = to->next;
	return to;
}

static void start_with(struct scene *scene, uint32_t link_ring, uint32_t program_ring)
{
	rig_start(&scene->rig, 1);
	for (int i = 0; i < 4; i++) {
		scene->programs[i] = participant_new(&scene->rig, &(struct rig_options){
									  .kind = HOP_SHARED,
									  .ring = program_ring,
									  .out_ring = 1u << 20,
									  .parity = 1,
								  });
		scene->programs[i]->route = route;
	}
	scene->link =
		participant_new(&scene->rig, &(struct rig_options){.kind = HOP_LINK, .ring = link_ring});
	scene->link->route = route;
}

static void scene_start(struct scene *scene)
{
	start_with(scene, LINK_RING, 65536);
}

static void scene_stop(struct scene *scene)
{
	struct participant *participant;

	for (uint32_t moved = 1; moved;) {
		moved = 0;
		rig_settle(&scene->rig);
		for (participant = scene->rig.parties; participant; participant = participant->next)
			moved += participant_read(participant, 1u << 30);
	}
	rig_stop(&scene->rig);
}

/* A small message of program B is sent while A's stream never ends: how much of A's arrives before it? */
SCENE_TEST(large_stream_does_not_hold_up_small_messages, scene_start)
{
	struct participant *a = scene->programs[0], *b = scene->programs[1];
	uint64_t before = 0, total = 0, behind;

	participant_open(a, 0, "x_1");
	participant_open(b, 0, "x_2");
	rig_settle(&scene->rig);
	participant_read(scene->link, 1u << 30);
	while (total < 16u << 20) {
		struct participant_channel *small = participant_accepted(scene->link, 2),
					   *large = participant_accepted(scene->link, 1);
		uint64_t sent = participant_channel(b, 0)->sent;

		participant_data(a, 0, 1u << 20, false);
		rig_settle(&scene->rig);
		if (small->taken == sent) {
			participant_data(b, 0, 64, false);
			before = large->taken;
			rig_settle(&scene->rig);
		}
		total = large->taken;
		behind = total - before;
		/* What is in the ring, and one turn of A's. */
		assert_true(behind <= 3 * LINK_RING);
		participant_read(scene->link, LINK_RING / 4);
		rig_settle(&scene->rig);
		participant_read(a, 1u << 30);
		participant_read(b, 1u << 30);
		assert_false(scene->link->hop.waiting.stuck);
	}
	assert_true(participant_channel(b, 0)->confirmed > 64 * 50);
}

/* The same once the link has been stuck, so that both wait in the daemon's memory. */
SCENE_TEST(large_backlog_does_not_hold_up_small_messages, scene_start)
{
	struct participant *a = scene->programs[0], *b = scene->programs[1];
	uint64_t before;

	participant_open(a, 0, "x_1");
	participant_open(b, 0, "x_2");
	rig_settle(&scene->rig);
	for (int i = 0; i < 12; i++) { /* open the window */
		participant_data(a, 0, 1u << 20, false);
		rig_settle(&scene->rig);
		participant_read(scene->link, 1u << 30);
		rig_settle(&scene->rig);
		participant_read(a, 1u << 30);
	}
	participant_data(a, 0, 1u << 20, false);
	rig_settle(&scene->rig);
	rig_fire_stuck(scene->link);
	participant_data(a, 0, 1u << 20, false);
	participant_data(b, 0, 64, false);
	rig_settle(&scene->rig);
	before = participant_accepted(scene->link, 1)->taken;
	while (participant_accepted(scene->link, 2)->taken == 0) {
		assert_true(participant_read(scene->link, 4096) > 0);
		rig_settle(&scene->rig);
	}
	assert_true(participant_accepted(scene->link, 1)->taken - before <= 2 * LINK_RING);
}

TEST(program_that_never_reads_does_not_hold_up_the_link)
{
	struct scene scene;
	struct participant *sleeper, *reader;
	struct channel *channel;
	uint64_t kept;

	start_with(&scene, LINK_RING, 4096);
	sleeper = scene.programs[0];
	reader = scene.programs[1];
	sleeper->never_reads = true;
	participant_open(scene.link, 1, "p0_1");
	rig_settle(&scene.rig);
	channel = scene.link->last_channel;
	participant_open(scene.link, 3, "p1_2");
	for (int i = 0; i < 200; i++) {
		participant_data(scene.link, 1, 30000, false);
		rig_settle(&scene.rig);
		participant_data(scene.link, 3, 1000, false);
		rig_settle(&scene.rig);
		/* The link has been read to its end, whatever became of it. */
		assert_int_equal(*scene.link->to_daemon->view.producer,
				 *scene.link->to_daemon->view.consumer);
		participant_read(reader, 1u << 30);
		rig_settle(&scene.rig);
		participant_read(scene.link, 1u << 30);
		assert_int_equal(participant_accepted(reader, 2)->taken,
				 participant_channel(scene.link, 3)->sent);
	}
	kept = channel_queued(&channel->acceptor);
	assert_true(kept > 0 && kept <= CHANNEL_INITIAL_LIMIT);
	assert_int_equal(participant_channel(scene.link, 1)->sent, CHANNEL_INITIAL_LIMIT);
	/* It wakes up, and finds everything. */
	sleeper->never_reads = false;
	for (int i = 0; i < 100; i++) {
		participant_read(sleeper, 1u << 30);
		rig_settle(&scene.rig);
	}
	assert_int_equal(participant_accepted(sleeper, 1)->taken, CHANNEL_INITIAL_LIMIT);
	scene_stop(&scene);
}

TEST(full_link_makes_programs_wait_and_a_stuck_one_does_not)
{
	struct scene scene;
	struct participant *a, *b;

	start_with(&scene, 4096, 65536);
	a = scene.programs[0];
	b = scene.programs[1];
	scene.link->never_reads = true;
	participant_open(a, 0, "x_1");
	participant_open(a, 2, "p1_2");
	participant_data(a, 0, 60000, false);
	participant_data(a, 2, 64, false);
	rig_settle(&scene.rig);
	/* Back-pressure on the one who causes it: its bytes are still in its own ring. */
	assert_ptr_equal(a->hop.waiting.blocked_on, &scene.link->hop);
	assert_int_equal(channel_queued(&a->last_channel->acceptor), 0);
	participant_read(b, 1u << 30);
	assert_true(!participant_accepted(b, 2) || participant_accepted(b, 2)->taken == 0);
	/* Its other channels go on once the link has been stuck for a while. */
	rig_fire_stuck(scene.link);
	assert_null(a->hop.waiting.blocked_on);
	participant_read(b, 1u << 30);
	assert_int_equal(participant_accepted(b, 2)->taken, 64);
	scene.link->never_reads = false;
	for (int i = 0; i < 100; i++) {
		participant_read(scene.link, 1u << 30);
		rig_settle(&scene.rig);
	}
	assert_int_equal(participant_accepted(scene.link, 1)->taken, 60000);
	assert_false(scene.link->hop.waiting.stuck);
	scene_stop(&scene);
}

SCENE_TEST(busy_link_is_not_taken_for_a_stuck_one, scene_start)
{
	struct participant *a = scene->programs[0];

	participant_open(a, 0, "x_1");
	for (int i = 0; i < 40; i++) {
		participant_data(a, 0, 1u << 20, false);
		rig_settle(&scene->rig);
		participant_read(scene->link, LINK_RING / 2);
		if (a->hop.waiting.blocked_on) {
			/* The timer that was started 10 ms ago comes to its end: meanwhile, half a ring has
			 * gone. */
			scene->link->hop.waiting.stuck_from =
				scene->link->hop.out[OUTLET_MAIN].position - LINK_RING / 2;
			rig_fire_stuck(scene->link);
		}
		assert_false(scene->link->hop.waiting.stuck);
		rig_settle(&scene->rig);
		participant_read(a, 1u << 30);
	}
	assert_true(participant_accepted(scene->link, 1)->taken > 500000);
}

/* Three who wait for one link: each gets its turn. */
TEST(those_who_wait_take_turns)
{
	struct scene scene;
	uint64_t least = UINT64_MAX, most = 0;

	start_with(&scene, 16384, 65536);
	for (int i = 0; i < 3; i++) {
		participant_open(scene.programs[i], 0, (const char *[]){"x_0", "x_1", "x_2"}[i]);
		rig_settle(&scene.rig);
	}
	for (int i = 0; i < 600; i++) {
		for (int k = 0; k < 3; k++) {
			participant_data(scene.programs[k], 0, 1u << 20, false);
			rig_settle(&scene.rig);
			participant_read(scene.programs[k], 1u << 30);
		}
		participant_read(scene.link, 16384);
		rig_settle(&scene.rig);
	}
	for (int k = 0; k < 3; k++) {
		uint64_t taken = participant_accepted(scene.link, k)->taken;

		least = taken < least ? taken : least;
		most = taken > most ? taken : most;
	}
	assert_true(least * 2 > most);
	scene_stop(&scene);
}

/* The peer stops reading just when there is less room than a frame needs, but a quarter of the ring: no
 * reason to spin. */
TEST(ring_with_too_little_room_ends_the_turn)
{
	for (uint32_t room = 8; room <= 512; room += 8) {
		struct scene scene;
		struct ring_reader *in;
		uint32_t unread;

		start_with(&scene, 1024, 65536);
		participant_open(scene.programs[0], 0, "x_1");
		participant_data(scene.programs[0], 0, 30000, false);
		in = &scene.link->in[OUTLET_MAIN];
		rig_settle(&scene.rig);
		unread = (uint32_t)ring_reader_ready(in, UINT32_MAX);
		if (unread > 1024 - room) {
			ring_reader_consume(in, unread - (1024 - room));
			participant_release(scene.link, OUTLET_MAIN);
		}
		rig_settle(&scene.rig); /* comes to an end */
		participant_data(scene.programs[0], 0, 30000, false);
		rig_settle(&scene.rig);
		rig_fire_stuck(scene.link);
		rig_settle(&scene.rig);
		participant_kill(scene.link);
		rig_stop(&scene.rig);
	}
}

/* The other end takes out as fast as we put in, and puts in as fast as we take out: the turn ends all the
 * same. */
static struct participant *eager;

static void drain_at_once(void *owner)
{
	struct ring_reader *in = &eager->in[OUTLET_MAIN];
	int ready = ring_reader_ready(in, UINT32_MAX);

	if (ready > 0)
		ring_reader_consume(in, (uint32_t)ready);
	ring_reader_release(in);
	ring_reader_arm(in, in->ring.size);
}

SCENE_TEST(turn_ends_though_the_other_ends_keep_pace, scene_start)
{
	struct hop_callbacks callbacks;
	uint64_t most = 0;

	eager = scene->link;
	callbacks = *eager->hop.callbacks;
	callbacks.notify = drain_at_once;
	eager->hop.callbacks = &callbacks;
	for (int i = 0; i < 3; i++)
		participant_open(scene->programs[i], 0, (const char *[]){"x_0", "x_1", "x_2"}[i]);
	rig_settle(&scene->rig);
	participant_read(scene->link, 0);
	drain_at_once(NULL);
	for (int round = 0; round < 20; round++) {
		uint64_t before = eager->hop.out[OUTLET_MAIN].position;

		for (int k = 0; k < 3; k++)
			participant_data(scene->programs[k], 0, 65536, false);
		hop_event(&scene->programs[0]->hop);
		switch_pass(scene->programs[0]->hop.board);
		if (eager->hop.out[OUTLET_MAIN].position - before > most)
			most = eager->hop.out[OUTLET_MAIN].position - before;
		rig_settle(&scene->rig);
	}
	assert_true(most > 0);
	assert_true(most < 8u << 20);
	eager->hop.callbacks = scene->programs[0]->hop.callbacks;
	participant_kill(scene->link);
}

/* On a CPU of its own, a program sends as fast as its input is taken. What it takes out of its rings
 * meanwhile counts all the same, or who sends to it would wait for ever. */
struct flood {
	struct task task;
	struct scene *scene;
	unsigned left;
};

static void flood_on(struct task *task)
{
	struct flood *flood = (struct flood *)task;
	struct participant *flooder = flood->scene->programs[0], *peer = flood->scene->programs[1];

	participant_read(flooder, 1u << 30);
	participant_read(peer, 1u << 30);
	for (unsigned i = 0; i < 4096; i++)
		if (participant_data(flooder, 0, 64, false) < 64)
			break;
	participant_data(peer, 0, 65536, false);
	for (unsigned i = 0; i < 2; i++)
		hop_event(&flood->scene->programs[i]->hop);
	if (--flood->left > 0)
		task_due(task);
}

TEST(what_a_flooding_program_takes_counts)
{
	struct scene scene;
	struct flood flood = {.scene = &scene, .left = 300};
	struct participant *flooder, *peer;
	uint64_t before, flooded;

	start_with(&scene, LINK_RING, 1u << 20);
	flooder = scene.programs[0];
	peer = scene.programs[1];
	participant_open(flooder, 0, "p1_1");
	participant_open(peer, 0, "p0_2");
	rig_settle(&scene.rig);
	for (int i = 0; i < 20; i++) { /* opens both windows */
		participant_data(flooder, 0, 1u << 20, false);
		participant_data(peer, 0, 1u << 20, false);
		rig_settle(&scene.rig);
		participant_read(flooder, 1u << 30);
		participant_read(peer, 1u << 30);
		rig_settle(&scene.rig);
	}
	participant_read(peer, 1u << 30);
	before = participant_channel(peer, 0)->confirmed;
	flooded = participant_channel(flooder, 0)->sent;
	task_init(&flood.task, &scene.rig.board[0].turns, NULL, flood_on);
	task_due(&flood.task);
	while (flood.left > 0)
		switch_pass(&scene.rig.board[0]);
	flooded = participant_channel(flooder, 0)->sent - flooded;
	before = participant_channel(peer, 0)->confirmed - before;
	print_message("flooded %llu, confirmed to the other %llu\n", (unsigned long long)flooded,
		      (unsigned long long)before);
	assert_true(before > flooded / 10);
	scene_stop(&scene);
}
