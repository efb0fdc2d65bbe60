/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When a link goes on over larger or smaller rings, and how large they are. */
#include "tests/unit/move_rig.h"

/* So much has come over it since the last look. */
static void carry(struct scene *scene, uint64_t bytes)
{
	link_of(scene)->hop->rx.bytes += bytes;
	link_elastic_used(link_of(scene));
	pass(scene, LOOK_MS);
}

/* The peer does its part. */
static void let_it_move(struct scene *scene, uint32_t size)
{
	while (hear(scene) && scene->peer.header.type != FRAME_OFFER)
		;
	assert_int_equal(scene->peer.header.type, FRAME_OFFER);
	assert_int_equal(other.size, size);
	other.vchan->state = VCHAN_CONNECTED;
	say_aside(scene, FRAME_MOVE, "", 0);
	peer_writes_other(scene);
	hear_move(scene);
	notify(scene);
	peer_reads_other(scene);
	peer_has_moved(scene);
	link_of(scene)->ring_bytes = size; /* those of the rig all have one */
}

static void start_small(struct scene *scene)
{
	move_granter(scene);
	link_of(scene)->ring_bytes = 65536;
	/* HELLO is no traffic. */
	assert_false(scene->links->elastic_runs);
}

/* It is busy for two looks, and has rings of this size then. */
static void grow(struct scene *scene, uint32_t size)
{
	carry(scene, 1u << 20);
	assert_int_equal(other.grants, 0);
	carry(scene, 1u << 20);
	let_it_move(scene, size);
}

SCENE_TEST(busy_link_grows_and_quiet_one_shrinks, start_small)
{
	grow(scene, 1u << 20);
	/* What lies between much and little changes nothing. */
	for (unsigned i = 0; i < 3 * ELASTIC_QUIET_LOOKS; i++)
		carry(scene, 1u << 19);
	/* Nor does a short silence. */
	for (unsigned i = 0; i < ELASTIC_QUIET_LOOKS - 1; i++)
		carry(scene, 0);
	carry(scene, 1u << 19);
	assert_int_equal(other.grants, 1);
	for (unsigned i = 0; i < ELASTIC_QUIET_LOOKS; i++)
		carry(scene, 1000);
	let_it_move(scene, 65536);
	assert_int_equal(info_of(scene).moves, 2);
	carry(scene, 0);
	carry(scene, 0);
	assert_false(scene->links->elastic_runs); /* nobody looks any more */
}

SCENE_TEST(burst_and_little_traffic_move_nothing, start_small)
{
	for (unsigned i = 0; i < 100; i++) {
		carry(scene, i % 2 ? 4u << 20 : 0);
		carry(scene, 1u << 19);
	}
	carry(scene, 0);
	carry(scene, 0);
	assert_int_equal(other.grants, 0);
	assert_false(scene->links->elastic_runs);
}

SCENE_TEST(a_link_grows_as_soon_as_the_second_look_must_find_much, start_small)
{
	unsigned late = 0;

	carry(scene, 1u << 20);
	link_of(scene)->hop->rx.bytes += (1u << 20) - 1;
	for (; late < LOOK_MS / 2; late += ELASTIC_EARLY_MS)
		pass(scene, ELASTIC_EARLY_MS);
	assert_int_equal(other.grants, 0);
	link_of(scene)->hop->rx.bytes += 1;
	pass(scene, ELASTIC_EARLY_MS);
	let_it_move(scene, 1u << 20);
}

TEST(looks_between_make_nobody_busy_whom_whole_ones_do_not)
{
	for (uint64_t seed = 1; seed < 4000; seed++) {
		struct elastic early = {0}, whole = {0};
		uint64_t bytes = 0, random = seed * 0x9e3779b97f4a7c15u;

		for (unsigned ms = ELASTIC_EARLY_MS; ms <= 8 * ELASTIC_LOOK_MS; ms += ELASTIC_EARLY_MS) {
			bool is_whole = ms % ELASTIC_LOOK_MS == 0;

			random = random * 6364136223846793005u + 1442695040888963407u;
			bytes += random >> 62 ? 0 : random % (40u << 16);
			elastic_look(&early, bytes, 0, 65536, is_whole ? 100 : ms % ELASTIC_LOOK_MS);
			if (is_whole) {
				elastic_look(&whole, bytes, 0, 65536, ELASTIC_LOOK_MS);
				assert_int_equal(early.is_busy, whole.is_busy);
				assert_int_equal(early.much, whole.much);
			}
		}
	}
}

TEST(a_look_that_is_late_counts_what_came_over_its_time)
{
	struct elastic elastic = {0};

	elastic_look(&elastic, 3u << 20, 0, 65536, 4 * ELASTIC_LOOK_MS);
	assert_int_equal(elastic.much, 0);
	elastic_look(&elastic, 7u << 20, 0, 65536, 4 * ELASTIC_LOOK_MS);
	assert_int_equal(elastic.much, 1);
}

SCENE_TEST(link_grows_as_far_as_there_are_pages, start_small)
{
	other.free_size = 262144;
	grow(scene, 262144);
	/* And further when it has rested, and there are more. */
	other.free_size = 0;
	for (unsigned i = 0; i < 2 + ELASTIC_REST_MS / LOOK_MS && other.grants < 2; i++)
		carry(scene, 1u << 20);
	let_it_move(scene, 1u << 20);
}

SCENE_TEST(link_does_not_grow_into_the_last_eighth_of_all_pages, start_small)
{
	other.pages_limit = 580;
	grow(scene, 1u << 19);
}

SCENE_TEST_EACH(link_shrinks_at_once_when_others_wait_for_pages, start_small, is_used, 2)
{
	other.pages_limit = 700;
	grow(scene, 1u << 20);
	/* One that is in use shares, one that isn't gives all back. */
	scene->waiting_for_pages = 4;
	carry(scene, is_used ? 1u << 20 : 0);
	let_it_move(scene, is_used ? 1u << 19 : 65536);
}

SCENE_TEST(a_link_gets_the_smallest_size_and_grows_to_the_first, start_small)
{
	grow(scene, 1u << 20);
	/* There are no pages for anything that is worth moving to. */
	other.free_size = 2048;
	scene->waiting_for_pages = 1;
	for (unsigned i = 0; i < 100; i++)
		carry(scene, 0);
	assert_int_equal(other.grants, 1);
	other.free_size = 4096;
	carry(scene, 0);
	let_it_move(scene, 4096);
	/* It is busy again, and somebody waits for ever: it gets what that one would. */
	other.free_size = 0;
	for (unsigned i = 0; i < 2 + 3 * ELASTIC_REST_MS / LOOK_MS && other.grants < 3; i++)
		carry(scene, 1u << 20);
	let_it_move(scene, 65536);
	for (unsigned i = 0; i < 100; i++)
		carry(scene, 1u << 20);
	assert_int_equal(other.grants, 3);
}

SCENE_TEST(link_that_may_not_shrink_is_asked_seldom, start_small)
{
	grow(scene, 1u << 20);
	for (unsigned i = 0; i < ELASTIC_QUIET_LOOKS + 2 && other.grants < 2; i++)
		carry(scene, 1000);
	while (hear(scene) && scene->peer.header.type != FRAME_OFFER)
		;
	say(scene, FRAME_DECLINE, "\0\0\0\0", 4);
	carry(scene, 0);
	carry(scene, 0);
	assert_false(scene->links->elastic_runs);
	/* But one that has something to do is looked at at once. */
	link_of(scene)->hop->rx.bytes += 1u << 20;
	link_elastic_used(link_of(scene));
	assert_true(scene->links->elastic_runs);
	for (unsigned i = 0; i < ELASTIC_QUIET_LOOKS + 2; i++)
		carry(scene, 0);
	assert_false(scene->links->elastic_runs);
	assert_int_equal(other.grants, 2);
	for (unsigned i = 0; i < 7; i++) {
		say_u64(scene, FRAME_PONG, 0); /* it lives */
		pass(scene, HEARTBEAT_MS);
	}
	assert_int_equal(other.grants, 3);
}

SCENE_TEST(peer_that_offers_again_and_again_is_declined, move_mapper)
{
	unsigned mapped = 0;

	other.map_error = -ENOMEM; /* which costs as much */
	for (unsigned i = 0; i < 50; i++) {
		uint64_t before = scene->board.turns.spent;

		say_offer(scene);
		expect(scene, FRAME_DECLINE);
		mapped += scene->board.turns.spent - before > 10000;
		pass(scene, 100);
	}
	/* In 5 s, two in 2 s. */
	assert_in_range(mapped, 4, 6);
	expect_state(scene, LINK_UP);
	pass(scene, ELASTIC_REST_MS);
	other.map_error = 0;
	say_offer(scene);
	hear_move(scene);
}

TEST(shares_are_fair_and_powers_of_two)
{
	assert_int_equal(elastic_pages(1024), 1);
	assert_int_equal(elastic_pages(65536), 33);
	assert_int_equal(elastic_pages(1u << 20), 513);
	for (uint32_t pages = 0; pages < 20000; pages += 7) {
		for (uint32_t links = 1; links < 100; links += 3) {
			uint32_t size = elastic_share(65536, 1u << 20, pages, links);

			assert_true(size >= 65536 && size <= 1u << 20 && !(size & (size - 1)));
			assert_true(size == 65536 || elastic_pages(size) * links <= pages);
			assert_true(size == 1u << 20 || elastic_pages(2 * size) * links > pages);
		}
	}
}
