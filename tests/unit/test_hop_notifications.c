/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When a hop notifies the other end: once for what one turn has for it, and another domain first.
 */
#include "tests/unit/hop_programs.h"

/* A program that sends over a link, from where all that it has sent by now was read. Returns the link. */
static struct participant *start_with_link(struct rig *rig, uint32_t program_ring, uint32_t link_ring)
{
	rig_start(rig, 1);
	programs[0] = program_new(rig, program_ring, false, 0);
	programs[0]->route = over_link;
	link_of[0] = peer_new(rig, link_ring);
	participant_open(programs[0], 0, "x_1");
	rig_settle(rig);
	participant_read(link_of[0], 65536); /* OPEN, which it answers */
	rig_settle(rig);
	return link_of[0];
}

TEST(two_rings_that_fill_in_one_turn_cost_one_notification)
{
	struct rig rig;
	struct participant *peer;
	uint32_t woken;

	rig_start(&rig, 1);
	programs[0] = program_new(&rig, 4096, false, 0);
	peer = peer_new(&rig, 4096);
	peer->route = to_program;
	rig_settle(&rig);
	woken = programs[0]->woken;
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		assert_int_equal(ring_reader_arm(&programs[0]->in[i], 1), 0);
	participant_open(peer, 1, "p0_1");
	participant_data(peer, 1, 64, false);
	rig_settle(&rig);
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		assert_true(ring_reader_ready(&programs[0]->in[i], 1) > 0);
	assert_int_equal(programs[0]->woken - woken, 1);
	rig_stop(&rig);
}

/* On one CPU a program that is woken runs at once, and everybody else waits for it. */
TEST(another_domain_hears_first_before_a_program_is_woken)
{
	struct rig rig;
	struct participant *peer;
	uint32_t woken;

	rig_start(&rig, 1);
	programs[0] = program_new(&rig, 65536, false, 0);
	peer = peer_new(&rig, 65536);
	peer->route = to_program;
	participant_open(peer, 1, "p0_1");
	rig_settle(&rig);
	assert_int_equal(ring_reader_arm(&programs[0]->in[OUTLET_DELIVERIES], 1), 0);
	assert_int_equal(participant_data(peer, 1, 60000, false), 60000);
	assert_int_equal(ring_writer_arm(&peer->out, 65536), 0);
	woken = programs[0]->woken;
	rig_settle(&rig);
	assert_int_equal(programs[0]->woken - woken, 1);
	assert_int_equal(ring_writer_space(&peer->out, 65536), 65536);
	assert_true(peer->woken_at < programs[0]->woken_at);
	rig_stop(&rig);
}

/* Waking up takes longer than copying. */
TEST(a_domain_that_sleeps_is_woken_for_the_first_part)
{
	struct rig rig;
	struct participant *peer = start_with_link(&rig, 65536, 65536);

	peer->readable_when_woken = 0;
	assert_int_equal(ring_reader_arm(&peer->in[0], 1), 0);
	assert_int_equal(participant_data(programs[0], 0, 60000, false), 60000);
	rig_settle(&rig);
	assert_true(peer->readable_when_woken > 0);
	assert_true(peer->readable_when_woken < 20000);
	assert_true(ring_reader_ready(&peer->in[0], UINT32_MAX) > 60000);
	rig_stop(&rig);
}

/* Sends 65520 bytes over a link whose rings have this size. Returns how many of them come in the first
 * frame. */
static uint32_t first_frame_through(uint32_t ring)
{
	static struct participant_frame frame;
	struct rig rig;
	struct participant *peer = start_with_link(&rig, 1u << 20, ring);

	ring_reader_disarm(&peer->in[0]); /* it is awake */
	assert_int_equal(participant_data(programs[0], 0, 65520, false), 65520);
	assert_true(participant_expect(peer, FRAME_DATA, &frame));
	rig_stop(&rig);
	return frame.header.length;
}

/* Its receiver can be lent only what came whole; and a small ring's reader begins before all of it fits. */
TEST(large_frame_is_cut_only_where_the_ring_is_small)
{
	assert_int_equal(first_frame_through(1u << 20), 65520);
	assert_int_equal(first_frame_through(1u << 19), 65520);
	assert_int_equal(first_frame_through(1u << 18), 32768);
}
