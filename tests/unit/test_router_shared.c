/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shared endpoints: who may share, which program a channel is given to, and that others hear of the name
 * once.
 */
#include "tests/unit/router_rig.h"

#include "daemon/switch/channel.h"
#include "daemon/switch/sharing.h"
#include "daemon/serve/router.h"

#define SHARED (ANY_KIND | BIND_SHARED)

static void start_shared(struct scene *scene)
{
	scene_start(scene);
	assert_int_equal(bind_name(scene, scene->a, "work", SHARED), 0);
	assert_int_equal(bind_name(scene, scene->b, "work", SHARED), 0);
}

/* Opens a channel over the link. Returns which program was given it. */
static struct participant *open_one(struct scene *scene, uint32_t number)
{
	const struct channel_end *end;

	participant_open(scene->link, number, "work");
	rig_settle(&scene->rig);
	end = hop_find_channel(&scene->link->hop, number);
	assert_non_null(end);
	return end->channel->acceptor.hop == &scene->a->hop ? scene->a : scene->b;
}

SCENE_TEST(shared_name_comes_and_goes_once, start_shared)
{
	rig_settle(&scene->rig);
	assert_int_equal(scene->bound, 1);
	assert_int_equal(scene->advertised, 1);
	assert_string_equal(scene->names, "work ");
	assert_int_equal(router_endpoints(scene->router), 1);
	assert_int_equal(unbind_name(scene, scene->a, "work"), 0);
	rig_settle(&scene->rig);
	assert_int_equal(scene->unbound, 0);
	assert_int_equal(scene->advertised, 1);
	assert_int_equal(unbind_name(scene, scene->a, "work"), -ENOENT);
	router_unbind_all(scene->router, &scene->b->hop);
	assert_int_equal(scene->unbound, 1);
}

SCENE_TEST(name_is_shared_only_by_those_who_all_say_so, scene_start)
{
	assert_int_equal(bind_name(scene, scene->a, "work", SHARED), 0);
	assert_int_equal(bind_name(scene, scene->b, "work", ANY_KIND), -EEXIST);
	assert_int_equal(bind_name(scene, scene->b, "work", 1 | BIND_SHARED), -EEXIST); /* for other kinds */
	assert_int_equal(bind_name(scene, scene->a, "work", SHARED), -EEXIST);
	assert_int_equal(bind_name(scene, scene->a, "alone", ANY_KIND), 0);
	assert_int_equal(bind_name(scene, scene->b, "alone", SHARED), -EEXIST);
	assert_int_equal(bind_name(scene, scene->b, "nothing", BIND_SHARED), -EINVAL);
	scene->b->hop.who.identity.uid = 1000; /* another user's */
	assert_int_equal(bind_name(scene, scene->b, "work", SHARED), -EEXIST);
	scene->b->hop.who.identity.uid = 0;
	assert_int_equal(bind_name(scene, scene->b, "work", SHARED), 0);
}

SCENE_TEST(channels_are_given_to_who_has_the_least_to_do, start_shared)
{
	struct participant *first, *second;

	first = open_one(scene, 1);
	second = first == scene->a ? scene->b : scene->a;
	assert_ptr_equal(open_one(scene, 3), second);
	/* The second has ended its channel, so it has less. */
	participant_reset(second, expect_open(second, "work"), EPROTO, 0, 0);
	rig_settle(&scene->rig);
	assert_ptr_equal(open_one(scene, 5), second);
}

SCENE_TEST(who_takes_nothing_is_given_nothing_more, start_shared)
{
	struct participant *deaf, *busy;
	unsigned given = 0;

	deaf = open_one(scene, 1);
	busy = deaf == scene->a ? scene->b : scene->a;
	deaf->never_reads = deaf->never_reads_deliveries = true;
	for (uint32_t number = 3; number < 9; number += 2) {
		const struct participant *to = open_one(scene, number);

		given += to == deaf;
		if (to != busy)
			continue;
		participant_data(scene->link, number, 64, false);
		rig_settle(&scene->rig);
		while (participant_read(busy, UINT32_MAX))
			;
		participant_kick(busy);
		rig_settle(&scene->rig);
	}
	assert_int_equal(given, 0);
}

/* One program leaves, which may have taken what it had. Returns the other one, which has the channel now, and
 * hasn't been sent its OPEN. */
static struct participant *leave_in_doubt(struct scene *scene)
{
	const uint8_t message[24] = {8, [16] = MESSAGE_TAKEN};
	const struct channel_end *end;
	struct participant *first, *second;
	uint32_t at = 0;

	first = open_one(scene, 1);
	second = first == scene->a ? scene->b : scene->a;
	participant_put(scene->link, FRAME_DATA, 1, message, sizeof(message));
	rig_settle(&scene->rig);
	assert_int_equal(unbind_name(scene, first, "work"), 0);
	assert_false(router_leave(scene->router, &first->hop, &at));
	end = &((const struct channel_end *)hop_find_channel(&scene->link->hop, 1))->channel->acceptor;
	assert_true(end->hop == &second->hop && end->out == OUT_NEW && end->consumed < end->sent);
	return second;
}

SCENE_TEST(who_unbinds_before_it_hears_of_what_another_left, start_shared)
{
	struct participant *second = leave_in_doubt(scene);
	const struct participant_channel *opened = participant_channel(scene->link, 1);

	assert_int_equal(unbind_name(scene, second, "work"), 0);
	rig_settle(&scene->rig);
	assert_int_equal(hop_channel_count(&second->hop), 0);
	participant_read(scene->link, UINT32_MAX);
	assert_true(opened->reset_in);
	assert_int_equal(opened->reset.error, ENOENT);
	assert_int_equal(opened->reset.consumed, 0);
	assert_int_equal(opened->reset.unsure, 24);
}

/* Opens a channel for calls over the link. Returns which program was given it. */
static struct participant *open_calls(struct scene *scene, uint32_t number)
{
	const struct channel_end *end;

	participant_open_kind(scene->link, number, CHANNEL_CALL, "work");
	participant_credit(scene->link, number, 0, 1 << 20);
	rig_settle(&scene->rig);
	end = hop_find_channel(&scene->link->hop, number);
	return end->channel->acceptor.hop == &scene->a->hop ? scene->a : scene->b;
}

static uint32_t answer(struct scene *scene, struct participant *participant, uint32_t size)
{
	uint32_t number = expect_open(participant, "work");

	assert_int_equal(participant_data(participant, number, size, true), size);
	rig_settle(&scene->rig);
	if (scene->link->hop.waiting.waiters)
		rig_fire_stuck(scene->link);
	rig_settle(&scene->rig);
	return number;
}

/* The program that has the channel answers with so many bytes and leaves the endpoint. Returns the other one,
 * which has the channel now. */
static struct participant *answer_and_leave(struct scene *scene, struct participant *participant,
					    uint32_t size)
{
	struct participant *other = participant == scene->a ? scene->b : scene->a;
	uint32_t number = answer(scene, participant, size);
	const struct channel_end *end;

	assert_int_equal(unbind_name(scene, participant, "work"), 0);
	participant_reset(participant, number, ENOENT, 0, 0);
	rig_settle(&scene->rig);
	end = hop_find_channel(&scene->link->hop, 1);
	assert_ptr_equal(end->channel->acceptor.hop, &other->hop);
	assert_int_equal(bind_name(scene, participant, "work", SHARED), 0);
	return other;
}

/* What the opener gets next of channel 1: so many bytes of answers, and then REASSIGNED. */
static void expect_reassigned_behind(struct scene *scene, uint32_t size)
{
	static struct participant_frame frame;
	struct frame_reassigned reassigned;

	do {
		rig_settle(&scene->rig);
		assert_true(participant_get(scene->link, 0, &frame));
		participant_release(scene->link, 0);
		participant_kick(scene->link);
		if (frame.header.type == FRAME_DATA && frame.header.channel == 1)
			size -= frame.header.length;
	} while (frame.header.type != FRAME_REASSIGNED);
	assert_int_equal(size, 0);
	assert_int_equal(frame_reassigned_decode(frame.payload, frame.header.length, &reassigned), 0);
	assert_int_equal(reassigned.consumed, 0);
	assert_int_equal(reassigned.unsure, 0);
}

SCENE_TEST(servers_leave_before_their_answers_are_read, start_shared)
{
	const uint32_t sizes[] = {16000, 8000, 1600, 0, 24};
	struct participant *participant;

	scene->link->never_reads = true;
	answer(scene, open_calls(scene, 3), 60000);
	participant = open_calls(scene, 1);
	for (unsigned i = 0; i < 5; i++)
		participant = answer_and_leave(scene, participant, sizes[i]);
	expect_reassigned_behind(scene, 16000);
	expect_reassigned_behind(scene, 8000);
	expect_reassigned_behind(scene, 1600); /* and the next, since nothing was answered between them */
	expect_reassigned_behind(scene, 24);
}

/* What was refused comes again, and what lies behind that is not to come before it. */
SCENE_TEST(calls_of_who_drains_and_dies_go_back_to_their_callers, start_shared)
{
	const uint8_t call[24] = {8, [4] = MESSAGE_REQUEST};
	const struct participant_channel *opened;
	struct participant *first = open_calls(scene, 1), *second = first == scene->a ? scene->b : scene->a;
	uint32_t at = 0;

	participant_put(scene->link, FRAME_DATA, 1, call, sizeof(call));
	rig_settle(&scene->rig);
	assert_int_equal(router_unbind(scene->router, &first->hop, frame_text_of("work"), true), 0);
	assert_false(router_leave(scene->router, &first->hop, &at));
	rig_settle(&scene->rig);
	assert_int_equal(hop_channel_count(&first->hop), 0);
	assert_int_equal(hop_channel_count(&second->hop), 0);
	participant_read(scene->link, UINT32_MAX);
	opened = participant_channel(scene->link, 1);
	assert_true(opened->reset_in);
	assert_int_equal(opened->reset.error, ENOENT);
	assert_int_equal(opened->reset.consumed, 0);
	assert_int_equal(opened->reset.unsure, 0);
}
