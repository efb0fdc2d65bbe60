/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who accepts a channel, as its opener is told, and WITHDRAW. */
#include "tests/unit/channel_rig.h"

#include "daemon/switch/cancel.h"
#include "wire/bytes.h"

static const struct frame_identity at_b = {.domid = 7, .uid = 1, .gid = 2, .pid = 3};

static void start(struct scene *scene)
{
	scene_start(scene);
	scene->b->hop.who.is_known = true;
	scene->b->hop.who.identity = at_b;
}

static struct frame_opened opened_at(struct participant *participant)
{
	struct frame_opened opened;
	struct participant_frame frame;

	assert_true(participant_expect(participant, FRAME_OPENED, &frame));
	assert_int_equal(frame_opened_decode(frame.payload, frame.header.length, &opened), 0);
	return opened;
}

static struct frame_open open_at(struct participant *participant, uint32_t *number)
{
	static struct participant_frame frame;
	struct frame_open open;

	assert_true(participant_expect(participant, FRAME_OPEN, &frame));
	assert_int_equal(frame_open_decode(frame.payload, frame.header.length, &open), 0);
	*number = frame.header.channel;
	return open;
}

static void withdraw(struct participant *participant, uint32_t channel, uint32_t number)
{
	uint8_t payload[4];

	participant_put(participant, FRAME_WITHDRAW, channel, payload, frame_u32_encode(number, payload));
	rig_settle(participant->rig);
}

static void all_die(struct scene *scene)
{
	participant_kill(scene->a);
	participant_kill(scene->b);
	participant_kill(scene->link);
}

SCENE_TEST(the_opener_is_told_who_has_accepted, start)
{
	struct frame_opened opened;
	uint32_t number;

	participant_open_kind(scene->a, 0, CHANNEL_CALL, "p_1");
	opened = opened_at(scene->a);
	assert_true(opened.has_identity);
	assert_memory_equal(&opened.identity, &at_b, sizeof(at_b));
	open_at(scene->b, &number);
	all_die(scene);
}

/* It fills what is kept for them with its own zeros. */
SCENE_TEST(a_daemon_passes_on_no_fields_of_a_later_version, start)
{
	uint8_t said[48] = {[2] = 1, [10] = 1, [16] = 7, [18] = 1, [20] = 9, [36] = 1};
	struct participant_frame frame;
	struct frame_opened heard;
	uint32_t number;

	participant_open_kind(scene->a, 0, CHANNEL_CALL, "x_1");
	open_at(scene->link, &number);
	participant_put(scene->link, FRAME_OPENED, number, said, sizeof(said));
	assert_true(participant_expect(scene->a, FRAME_OPENED, &frame));
	assert_int_equal(frame.header.length, 36);
	assert_int_equal(frame.payload[16], 0);
	assert_int_equal(frame_opened_decode(frame.payload, frame.header.length, &heard), 0);
	assert_true(heard.has_identity);
	assert_int_equal(heard.identity.domid, 9);
	all_die(scene);
}

/* The server takes nothing, and its ring is full. */
SCENE_TEST(a_withdrawal_goes_past_what_was_not_taken, start)
{
	struct participant_frame frame;
	uint32_t number;

	scene->b->never_reads_deliveries = true;
	participant_open_kind(scene->a, 0, CHANNEL_CALL, "p_1");
	open_at(scene->b, &number);
	while (participant_data(scene->a, 0, 8192, false) > 0)
		rig_settle(&scene->rig);
	assert_true(participant_channel(scene->a, 0)->sent >= RING - 8192);
	withdraw(scene->a, 0, 0x01020304);
	assert_true(participant_expect(scene->b, FRAME_WITHDRAW, &frame));
	assert_int_equal(frame.header.channel, number);
	assert_int_equal(get_u32(frame.payload), 0x01020304);
	all_die(scene);
}

/* Who withdraws without end, while the server's daemon reads nothing, takes no more than this. */
SCENE_TEST(withdrawals_that_can_not_be_passed_on_are_bounded, start)
{
	struct frame_opened said = {.limit = RING, .max_message = RING};
	struct participant_frame frame;
	uint32_t number, came = 0;

	participant_open_kind(scene->a, 0, CHANNEL_CALL, "x_1");
	open_at(scene->link, &number);
	participant_opened(scene->link, number, &said);
	rig_settle(&scene->rig);
	scene->link->never_reads = true;
	for (uint32_t i = 0; i < 10000; i++) {
		withdraw(scene->a, 0, i);
	}
	assert_false(scene->a->failed);
	scene->link->never_reads = false;
	while (participant_get(scene->link, OUTLET_MAIN, &frame)) {
		came += frame.header.type == FRAME_WITHDRAW;
		participant_release(scene->link, OUTLET_MAIN);
		rig_settle(&scene->rig);
	}
	assert_in_range(came, WITHDRAWALS_MAX, WITHDRAWALS_MAX + RING / 24);
	all_die(scene);
}

SCENE_TEST_EACH(a_withdrawal_where_there_can_be_none_ends_its_session_alone, start, i, 3)
{
	uint32_t number;

	participant_open_kind(scene->a, 0, i == 0 ? CHANNEL_MESSAGE : CHANNEL_CALL, "p_1");
	open_at(scene->b, &number);
	if (i == 0)
		withdraw(scene->a, 0, 1); /* of a message */
	else if (i == 1)
		withdraw(scene->b, number, 1); /* by the server */
	else
		participant_put(scene->a, FRAME_WITHDRAW, 0, "abc", 3);
	rig_settle(&scene->rig);
	assert_int_equal(scene->a->failed, i != 1);
	assert_int_equal(scene->b->failed, i == 1);
	assert_int_equal((i == 1 ? scene->b : scene->a)->error, -EPROTO);
	all_die(scene);
}

SCENE_TEST(a_late_withdrawal_of_an_ended_channel_is_ignored, start)
{
	withdraw(scene->a, 4, 1);
	assert_false(scene->a->failed);
	all_die(scene);
}
