/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All channels are looked at in turns, whatever comes and goes meanwhile.
 */
#include "tests/unit/channel_rig.h"

#include "daemon/main/review.h"

#define CHANNELS 200u
#define UNITS	 100u /* for a look at one: all of them are far more than a turn */
#define NAMES	 1u
#define RULES	 2u

/* Of the running test. */
static struct scene scene;
static struct review review;
static struct task other;
static unsigned looked, for_rules, others_turns, walks_over;
static uint64_t asked;

static void look(void *userdata, struct channel *channel, uint8_t what)
{
	looked++;
	for_rules += (what & RULES) != 0;
	switch_spend(channel->board, NULL, UNITS);
}

static void over(void *userdata, uint64_t walk)
{
	walks_over++;
	assert_true(walk <= review.begun);
}

static void on_others_turn(struct task *task)
{
	others_turns++;
	if (!walks_over)
		task_due(task);
}

static void open_one(uint32_t number)
{
	struct frame_open open = {.kind = CHANNEL_MESSAGE, .name = {"b", 1}};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	participant_put(scene.a, FRAME_OPEN, 2 * number, payload, frame_open_encode(&open, payload));
}

static int start(void **state)
{
	looked = for_rules = others_turns = walks_over = 0;
	scene_start(&scene);
	for (uint32_t i = 0; i < CHANNELS; i++)
		open_one(i);
	rig_settle(&scene.rig);
	assert_int_equal(scene.a->hop.channels.count, CHANNELS);
	review = (struct review){.look = look, .over = over};
	review_init(&review, &scene.rig.board[0]);
	asked = review_begin(&review, NAMES);
	return 0;
}

static int stop(void **state)
{
	review_cancel(&review);
	rig_stop(&scene.rig);
	return 0;
}

/* Lets the review have its turns until it has looked at so many, and no walk has ended. */
static void look_at_some(unsigned count)
{
	while (looked < count)
		assert_true(turns_run(&scene.rig.board[0].turns));
	assert_true(looked < CHANNELS);
}

TEST_WITH(others_have_their_turns_while_all_channels_are_looked_at, start, stop)
{
	task_init(&other, &scene.rig.board[0].turns, NULL, on_others_turn);
	task_due(&other);
	rig_settle(&scene.rig);
	assert_int_equal(looked, CHANNELS);
	assert_int_equal(walks_over, 1);
	assert_int_equal(asked, review.begun);
	assert_true(others_turns >= CHANNELS * UNITS / TURNS_PIECE);
}

TEST_WITH(channels_may_end_before_they_are_looked_at, start, stop)
{
	look_at_some(1);
	participant_kill(scene.a);
	participant_kill(scene.b);
	rig_settle(&scene.rig);
	assert_null(scene.rig.board[0].channels);
	assert_int_equal(walks_over, 1);
	assert_int_equal(asked, review.begun);
}

TEST_WITH(changes_during_a_walk_have_another_behind_it, start, stop)
{
	look_at_some(1);
	assert_int_equal(review_begin(&review, NAMES), asked + 1);
	assert_int_equal(review_begin(&review, RULES), asked + 1);
	rig_settle(&scene.rig);
	assert_int_equal(looked, 2 * CHANNELS);
	assert_int_equal(for_rules, CHANNELS);
	assert_int_equal(walks_over, 2);
	assert_int_equal(asked + 1, review.begun);
}
