/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What two programs know of each other's version on the way through a daemon, and WITHDRAW, which depends on
 * it. */
#include "tests/unit/channel_rig.h"

#include <errno.h>
#include <string.h>

#include "base/quota.h"
#include "daemon/relay/withdraw.h"
#include "wire/bytes.h"

static const struct frame_identity at_b = {.domid = 7, .uid = 1, .gid = 2, .pid = 3};

static void start(struct scene *scene, uint8_t minor)
{
	scene_start(scene);
	scene->a->hop.minor = scene->b->hop.minor = minor;
	scene->b->hop.knows_identity = true;
	scene->b->hop.identity = at_b;
}

static struct frame_opened opened_at(struct party *party)
{
	struct frame_opened opened;
	struct party_frame frame;

	assert_true(party_expect(party, FRAME_OPENED, &frame));
	assert_int_equal(frame_opened_decode(frame.payload, frame.header.length, &opened), 0);
	return opened;
}

static struct frame_open open_at(struct party *party, uint32_t *number)
{
	static struct party_frame frame;
	struct frame_open open;

	assert_true(party_expect(party, FRAME_OPEN, &frame));
	assert_int_equal(frame_open_decode(frame.payload, frame.header.length, &open), 0);
	*number = frame.header.channel;
	return open;
}

static void withdraw(struct party *party, uint32_t channel, uint32_t number)
{
	uint8_t payload[4];

	party_put(party, FRAME_WITHDRAW, channel, payload, frame_u32_encode(number, payload));
}

static void end(struct scene *scene)
{
	party_kill(scene->a);
	party_kill(scene->b);
	party_kill(scene->link);
	rig_stop(&scene->rig);
}

TEST(two_programs_here_are_told_of_each_other)
{
	for (uint8_t minor = 0; minor <= PROTOCOL_MINOR; minor++) {
		struct frame_opened opened;
		struct scene scene;
		uint32_t number;

		start(&scene, minor);
		party_open_kind(scene.a, 0, CHANNEL_CALL, "p_1");
		rig_settle(&scene.rig);
		opened = opened_at(scene.a);
		assert_int_equal(opened.minor, minor);
		assert_true(opened.has_identity);
		assert_memory_equal(&opened.identity, &at_b, sizeof(at_b));
		assert_int_equal(open_at(scene.b, &number).minor, minor);
		end(&scene);
	}
}

/* It says nothing of what it doesn't know itself. */
TEST(a_daemon_passes_on_no_version_later_than_its_own)
{
	struct frame_opened said = {.limit = RING,
				    .max_message = RING,
				    .minor = 7,
				    .has_identity = true,
				    .identity = {.domid = 9, .uid = 8, .gid = 7, .pid = 6}},
			    heard;
	struct scene scene;
	uint8_t payload[FRAME_SMALL_MAX];
	uint32_t number;

	start(&scene, PROTOCOL_MINOR);
	party_open_kind(scene.a, 0, CHANNEL_CALL, "x_1");
	rig_settle(&scene.rig);
	assert_int_equal(open_at(scene.link, &number).minor, PROTOCOL_MINOR);
	party_put(scene.link, FRAME_OPENED, number, payload, frame_opened_encode(&said, payload));
	rig_settle(&scene.rig);
	heard = opened_at(scene.a);
	assert_int_equal(heard.minor, PROTOCOL_MINOR);
	assert_memory_equal(&heard.identity, &said.identity, sizeof(said.identity));
	end(&scene);
}

TEST(an_older_daemon_on_the_way_hides_what_its_program_knows)
{
	struct frame_opened heard;
	struct scene scene;
	uint8_t payload[16] = {0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1};
	uint32_t number;

	start(&scene, PROTOCOL_MINOR);
	party_open_kind(scene.a, 0, CHANNEL_CALL, "x_1");
	rig_settle(&scene.rig);
	open_at(scene.link, &number);
	party_put(scene.link, FRAME_OPENED, number, payload, sizeof(payload));
	rig_settle(&scene.rig);
	heard = opened_at(scene.a);
	assert_int_equal(heard.minor, 0);
	assert_false(heard.has_identity);
	/* So it gets no WITHDRAW, and who sends one knows better. */
	withdraw(scene.a, 0, 1);
	rig_settle(&scene.rig);
	assert_true(scene.a->failed);
	assert_int_equal(scene.a->error, -EPROTO);
	assert_false(scene.link->failed);
	end(&scene);
}

/* The server takes nothing, and its ring is full. */
TEST(a_withdrawal_goes_past_what_was_not_taken)
{
	struct party_frame frame;
	struct scene scene;
	uint32_t number;

	start(&scene, PROTOCOL_MINOR);
	scene.b->never_reads_deliveries = true;
	party_open_kind(scene.a, 0, CHANNEL_CALL, "p_1");
	rig_settle(&scene.rig);
	open_at(scene.b, &number);
	while (party_data(scene.a, 0, 8192, false) > 0)
		rig_settle(&scene.rig);
	assert_true(party_channel(scene.a, 0)->sent >= RING - 8192);
	withdraw(scene.a, 0, 0x01020304);
	rig_settle(&scene.rig);
	assert_true(party_expect(scene.b, FRAME_WITHDRAW, &frame));
	assert_int_equal(frame.header.channel, number);
	assert_int_equal(get_u32(frame.payload), 0x01020304);
	end(&scene);
}

/* Who withdraws without end, while the server's daemon reads nothing, takes no more than this. */
TEST(withdrawals_that_can_not_be_passed_on_are_bounded)
{
	struct frame_opened said = {.limit = RING, .max_message = RING, .minor = 1};
	struct party_frame frame;
	struct scene scene;
	uint8_t payload[FRAME_SMALL_MAX];
	uint32_t number, came = 0;

	start(&scene, PROTOCOL_MINOR);
	party_open_kind(scene.a, 0, CHANNEL_CALL, "x_1");
	rig_settle(&scene.rig);
	open_at(scene.link, &number);
	party_put(scene.link, FRAME_OPENED, number, payload, frame_opened_encode(&said, payload));
	rig_settle(&scene.rig);
	scene.link->never_reads = true;
	for (uint32_t i = 0; i < 10000; i++) {
		withdraw(scene.a, 0, i);
		rig_settle(&scene.rig);
	}
	assert_false(scene.a->failed);
	scene.link->never_reads = false;
	while (party_get(scene.link, OUTLET_MAIN, &frame)) {
		came += frame.header.type == FRAME_WITHDRAW;
		party_release(scene.link, OUTLET_MAIN);
		rig_settle(&scene.rig);
	}
	assert_in_range(came, WITHDRAWALS_MAX, WITHDRAWALS_MAX + RING / 24);
	end(&scene);
}

TEST(a_withdrawal_where_there_can_be_none_ends_its_session_alone)
{
	for (int i = 0; i < 3; i++) {
		struct scene scene;
		uint32_t number;

		start(&scene, PROTOCOL_MINOR);
		party_open_kind(scene.a, 0, i == 0 ? CHANNEL_MESSAGE : CHANNEL_CALL, "p_1");
		rig_settle(&scene.rig);
		open_at(scene.b, &number);
		if (i == 0)
			withdraw(scene.a, 0, 1); /* of a message */
		else if (i == 1)
			withdraw(scene.b, number, 1); /* by the server */
		else
			party_put(scene.a, FRAME_WITHDRAW, 0, "abc", 3);
		rig_settle(&scene.rig);
		assert_int_equal(scene.a->failed, i != 1);
		assert_int_equal(scene.b->failed, i == 1);
		assert_int_equal((i == 1 ? scene.b : scene.a)->error, -EPROTO);
		end(&scene);
	}
}

TEST(a_late_withdrawal_of_an_ended_channel_is_ignored)
{
	struct scene scene;

	start(&scene, PROTOCOL_MINOR);
	withdraw(scene.a, 4, 1);
	rig_settle(&scene.rig);
	assert_false(scene.a->failed);
	end(&scene);
}
