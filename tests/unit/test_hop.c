/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bytes through hops: complete, in order, and never waiting for a wake-up that nobody sends.
 */
#include "tests/unit/hop_programs.h"

#include <malloc.h>
#include <time.h>
#include <unistd.h>

static uint64_t seed_of_run(void)
{
	const char *given = getenv("TEST_SEED");
	uint64_t seed =
		given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();

	print_message("TEST_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

static void no_channel_is_left(struct rig *rig)
{
	struct participant *participant;

	for (participant = rig->parties; participant; participant = participant->next)
		assert_int_equal(participant->hop.channels.count, 0);
}

static void local_to_local(uint64_t seed, uint32_t ring, bool lenient_from, bool lenient_to)
{
	struct rig rig;

	rig_start(&rig, seed);
	programs[0] = program_new(&rig, lenient_from ? 131072 : ring, lenient_from, 0);
	programs[1] = program_new(&rig, lenient_to ? 131072 : ring, lenient_to, 0);
	programs[0]->route = programs[1]->route = to_program;
	flow_start(programs[0], 0, "p1", 1, ring * 3 + 12345 * 8);
	flow_start(programs[0], 2, "p1", 2, 4096);
	flow_start(programs[0], 4, "p0", 3, ring * 2);
	flow_start(programs[1], 6, "p0", 4, ring * 2 + 8);
	flow_start(programs[1], 8, "p1", 5, 8);
	flows_run(&rig, ring / 2, ring);
	no_channel_is_left(&rig);
	rig_stop(&rig);
}

static const uint32_t sizes[] = {1024, 2048, 4096, 65536, 262144, 1048576};

TEST(bytes_between_programs_arrive_complete_and_in_order)
{
	uint64_t seed = seed_of_run();

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (unsigned lenient = 0; lenient < 4; lenient++)
			local_to_local(seed + i * 4 + lenient, sizes[i], lenient & 1, lenient & 2);
}

static void between_program_and_link(uint64_t seed, uint32_t ring, uint32_t program_ring, bool lenient)
{
	struct rig rig;
	struct participant *peer;

	rig_start(&rig, seed);
	programs[0] = program_new(&rig, lenient ? 131072 : program_ring, lenient, 0);
	peer = link_of[0] = peer_new(&rig, ring);
	programs[0]->route = over_link;
	peer->route = to_program;
	flow_start(programs[0], 0, "x", 1, ring * 5 + 8);
	flow_start(programs[0], 2, "x", 2, 64);
	flow_start(peer, 1, "p0", 3, ring * 5 + 40);
	flow_start(peer, 3, "p0", 4, 8);
	flows_run(&rig, ring / 2, ring);
	no_channel_is_left(&rig);
	rig_stop(&rig);
}

TEST(bytes_between_program_and_link_arrive_complete_and_in_order)
{
	uint64_t seed = seed_of_run();

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		between_program_and_link(seed + i, sizes[i], sizes[i], false);
		between_program_and_link(seed + i, sizes[i], 1048576, false);
		between_program_and_link(seed + i, sizes[i], 4096, false);
		between_program_and_link(seed + i, sizes[i], 0, true);
	}
}

/* Two daemons, one link between them, programs at both that flood each other through rings of every size. */
static void flood(uint64_t seed, uint32_t ring, uint32_t program_ring)
{
	struct rig rig;
	char name[8];

	rig_start(&rig, seed);
	participant_wire(&rig, ring, &link_of[0], &link_of[1]);
	link_of[0]->route = link_of[1]->route = to_program;
	for (unsigned i = 0; i < 4; i++) {
		programs[i] = program_new(&rig, program_ring, false, i & 1);
		programs[i]->route = over_link;
	}
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned k = 0; k < 3; k++) {
			/* to the other daemon's programs */
			snprintf(name, sizeof(name), "p%u", (i + 1 + 2 * (k & 1)) % 4);
			flow_start(programs[i], k * 2, name, (int)(i * 10 + k), ring * 3 + 64 * k);
		}
	}
	flows_run(&rig, program_ring / 2, program_ring);
	no_channel_is_left(&rig);
	rig_stop(&rig);
}

TEST(two_daemons_that_flood_each_other_always_make_progress)
{
	uint64_t seed = seed_of_run();

	for (unsigned i = 0; i < 12; i++) {
		flood(seed + i, 1024, 1024);
		flood(seed + i, 1024, 65536);
		flood(seed + i, 65536, 1024);
	}
	flood(seed, 65536, 1048576);
	flood(seed, 1048576, 1048576);
}

/* --- long lives ------------------------------------------------------------------------------- */

#define CYCLES_BEFORE 3000 /* more than a hop goes through numbers */
#define CYCLES	      20000

/* A message goes from one daemon's program to the other's, or the channel is reset by its opener, or
 * refused. */
static void open_and_close(struct rig *rig, unsigned way)
{
	/* The participant has fewer numbers than a hop goes through. */
	programs[1]->hop.channels.next = programs[1]->hop.channels.parity;
	if (way == 0) {
		flow_start(programs[0], 0, "p1", 1, 64);
		flows_run(rig, 64, 4096);
		return;
	}
	participant_open(programs[0], 0, way == 1 ? "p1_1" : "none_1");
	if (way == 1) {
		participant_data(programs[0], 0, 64, false);
		participant_reset(programs[0], 0, ECANCELED, 0, 0);
	}
	for (int i = 0; i < 4; i++) {
		rig_settle(rig);
		participant_read(programs[1], 4096);
		participant_read(programs[0], 4096);
	}
}

/* A receiver that makes a little room at a time, for two channels that always have something that waits. */
TEST(each_channel_that_waits_gets_its_part_of_little_room)
{
	struct rig rig;
	uint64_t got[2];

	rig_start(&rig, 1);
	for (unsigned i = 0; i < 3; i++) {
		programs[i] = program_new(&rig, i == 2 ? 16384 : 262144, false, 0);
		programs[i]->route = to_program;
	}
	for (unsigned i = 0; i < 2; i++)
		participant_open(programs[i], 0, i ? "p2_1" : "p2_0");
	for (unsigned step = 0; step < 400; step++) {
		for (unsigned i = 0; i < 2; i++) {
			participant_read(programs[i], 65536);
			participant_data(programs[i], 0, 1u << 20, false);
		}
		rig_settle(&rig);
		participant_read(programs[2], 4096);
		rig_settle(&rig);
	}
	for (unsigned i = 0; i < 2; i++)
		got[i] = participant_accepted(programs[2], (int)i)->received;
	assert_true(got[0] + got[1] > 1000000);
	assert_true(got[0] < 2 * got[1] && got[1] < 2 * got[0]);
	for (unsigned i = 0; i < 2; i++)
		participant_reset(programs[i], 0, ECANCELED, 0, 0);
	rig_settle(&rig);
	rig_stop(&rig);
}

/* As many as are too many to try in one piece of work. */
#define WAITING 1000u

TEST(however_many_channels_wait_for_room_there_is_nothing_to_do)
{
	struct rig rig;
	unsigned made = 0;

	rig_start(&rig, 1);
	programs[0] = participant_new(
		&rig, &(struct rig_options){.kind = HOP_SHARED, .ring = 131072, .channels_max = 2 * WAITING});
	programs[0]->never_reads = true;
	for (unsigned i = 1; made < WAITING; i++) {
		programs[i] = program_new(&rig, 1u << 20, false, 0);
		programs[i]->route = to_program;
		for (uint32_t number = 0; number < RIG_CHANNELS && made < WAITING; number += 2, made++) {
			participant_open(programs[i], number, "p0_1");
			participant_data(programs[i], number, 1024, false);
		}
		rig_settle(&rig);
	}
	assert_true(hop_has_backlog(&programs[0]->hop));
	assert_false(switch_is_busy(&rig.board[0]));
	rig_stop(&rig);
}

TEST(channels_that_come_and_go_leave_nothing_behind)
{
	struct rig rig;
	size_t before = 0;

	rig_start(&rig, 1);
	participant_wire(&rig, 65536, &link_of[0], &link_of[1]);
	link_of[0]->route = link_of[1]->route = to_program;
	/* The frames' numbers come around on the way, as they do after years. */
	for (unsigned i = 0; i < 2; i++)
		link_of[i]->hop.out[OUTLET_MAIN].sequence = link_of[1 - i]->hop.in.sequence = 0u - CYCLES;
	for (unsigned i = 0; i < 2; i++) {
		programs[i] = program_new(&rig, 65536, false, i);
		programs[i]->route = over_link;
	}
	for (unsigned i = 0; i < CYCLES_BEFORE + CYCLES; i++) {
		if (i == CYCLES_BEFORE)
			before = mallinfo2().uordblks;
		open_and_close(&rig, i % 3);
		assert_int_equal(programs[0]->hop.channels.count + programs[1]->hop.channels.count, 0);
		assert_int_equal(link_of[0]->hop.channels.count + link_of[1]->hop.channels.count, 0);
	}
	/* Tables have the size by then that they need; 0 where another allocator counts nothing. */
	assert_in_range(mallinfo2().uordblks, 0, before + 4096);
	assert_true(link_of[0]->hop.out[OUTLET_MAIN].sequence < CYCLES * 10);
	assert_true(link_of[1]->hop.out[OUTLET_MAIN].sequence < CYCLES * 10);
	rig_stop(&rig);
}
