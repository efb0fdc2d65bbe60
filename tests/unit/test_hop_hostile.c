/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A program or a peer that breaks the protocol of its hop is cut off, and nobody else.
 */
#include "tests/unit/hop_programs.h"

#include "base/quota.h"

static const enum hop_kind kinds[] = {HOP_SHARED, HOP_LINK};

TEST(answers_that_nobody_reads_are_charged_to_their_reader)
{
	const struct quota_limits limits = {.pool = {[QUOTA_BYTES] = 1u << 20},
					    .max = {[QUOTA_UID] = {[QUOTA_BYTES] = 1u << 20}}};
	struct quota *quota = quota_new(&limits);
	struct account *account = quota_account(quota, QUOTA_UID, 1000);
	static const uint8_t payload[1000];
	struct participant_frame frame;
	struct participant *program;
	uint64_t queued = 0;
	struct rig rig;
	int r;

	rig_start(&rig, 1);
	program = program_new(&rig, 4096, false, 0);
	hop_set_account(&program->hop, account_ref(account));
	while ((r = hop_send(&program->hop, FRAME_REPLY, 0, 1, payload, sizeof(payload))) == 0)
		queued += frame_size(sizeof(payload));
	assert_int_equal(r, -ENOBUFS);
	/* What is free, and its share: a half, while it is alone. */
	assert_in_range(queued, (256 + 512 - 2) * 1024, (256 + 512) * 1024);
	assert_int_equal(account_usage(account, QUOTA_BYTES).used, 512 * 1024);
	rig_settle(&rig);
	while (queued) {
		assert_true(participant_get(program, OUTLET_MAIN, &frame));
		queued -= frame_size(frame.header.length);
		participant_release(program, OUTLET_MAIN);
		rig_settle(&rig);
	}
	assert_int_equal(account_usage(account, QUOTA_BYTES).used, 0);
	rig_stop(&rig);
	account_unref(account);
	quota_free(quota);
}

TEST(impossible_producer_index_ends_the_session)
{
	static const int32_t wrong[] = {-8, 65536 + 8, INT32_MIN, -1};

	for (unsigned k = 0; k < 2; k++)
		for (unsigned i = 0; i < 4; i++) {
			struct hostile hostile;

			hostile_start(&hostile, kinds[k]);
			hostile.bad->to_daemon->words.producer += (uint32_t)wrong[i];
			participant_kick(hostile.bad);
			only_the_bad_one_is_cut_off(&hostile, -EPROTO);
		}
}

TEST(impossible_consumer_index_ends_the_session)
{
	for (unsigned k = 0; k < 2; k++)
		for (unsigned outlet = 0; outlet < (kinds[k] == HOP_SHARED ? 2u : 1u); outlet++) {
			struct hostile hostile;

			hostile_start(&hostile, kinds[k]);
			flow_start(hostile.good, 2, "p0", 2, 0);
			participant_data(hostile.good, 2, 60000, true);
			rig_settle(&hostile.rig);
			hostile.bad->from_daemon[outlet]->words.consumer += 1u << 20;
			participant_kick(hostile.bad);
			participant_data(hostile.good, 2, 5536, false);
			rig_settle(&hostile.rig);
			assert_true(hostile.bad->failed);
			assert_int_equal(hostile.bad->error, -EPROTO);
			rig_stop(&hostile.rig);
		}
}

static void bad_frame(enum hop_kind kind, uint8_t type, uint32_t channel, uint32_t length, uint32_t put,
		      uint32_t sequence, int error)
{
	struct frame_header header = {
		.type = type, .channel = channel, .length = length, .sequence = sequence};
	uint8_t bytes[65536] = {0};
	struct hostile hostile;

	hostile_start(&hostile, kind);
	frame_header_encode(&header, bytes);
	participant_put_raw(hostile.bad, bytes, put);
	only_the_bad_one_is_cut_off(&hostile, error);
}

TEST(frames_that_cannot_be_end_the_session)
{
	for (unsigned k = 0; k < 2; k++) {
		enum hop_kind kind = kinds[k];

		bad_frame(kind, FRAME_OPTIONAL, 0, 0xffffffffu, 64, 0, -EPROTO); /* 4 GiB */
		bad_frame(kind, FRAME_OPTIONAL, 0, 65537, 64, 0, -EPROTO);
		bad_frame(kind, FRAME_OPTIONAL, 0, 65536, 64, 0, -EPROTO); /* larger than the ring */
		bad_frame(kind, FRAME_OPTIONAL, 0, 100, 64, 0, -EPROTO);   /* incomplete */
		bad_frame(kind, FRAME_OPTIONAL, 0, 0, 8, 0, -EPROTO);	   /* half a header */
		bad_frame(kind, FRAME_DATA, 6, 8, 24, 0, -EPROTO);	   /* no such channel */
		bad_frame(kind, FRAME_DATA, 0xffffffffu, 8, 24, 0, -EPROTO);
		bad_frame(kind, FRAME_OPEN, kind == HOP_SHARED ? 2 : 3, 19, 40, 0, -EPROTO);
	}
	bad_frame(HOP_LINK, FRAME_OPTIONAL, 0, 0, 16, 1, -EPROTO); /* out of sequence */
}

static void bad_open(enum hop_kind hop, uint32_t number, uint8_t kind)
{
	const struct frame_open open = {.kind = kind, .name = {.data = "p2_9", .size = 4}};
	struct hostile hostile;
	uint8_t payload[64];

	hostile_start(&hostile, hop);
	participant_put(hostile.bad, FRAME_OPEN, number, payload, frame_open_encode(&open, payload));
	only_the_bad_one_is_cut_off(&hostile, -EPROTO);
}

TEST(an_open_without_a_senders_number_or_kind_ends_the_session)
{
	for (unsigned k = 0; k < 2; k++) {
		uint32_t number = kinds[k] == HOP_SHARED ? 2 : 3;

		bad_open(kinds[k], number, 0);
		bad_open(kinds[k], number, CHANNEL_STREAM + 1);
		bad_open(kinds[k], number ^ 1, CHANNEL_MESSAGE); /* of our numbers */
		bad_open(kinds[k], number + CHANNEL_NUMBERS, CHANNEL_MESSAGE);
	}
}

TEST(a_channel_beyond_the_maximum_is_refused_alone)
{
	for (unsigned k = 0; k < 2; k++) {
		uint32_t number = kinds[k] == HOP_SHARED ? 0 : 1;
		struct hostile hostile;

		hostile_start(&hostile, kinds[k]);
		hostile.bad->hop.channels.max = 2;
		hostile.bad->no_auto_answer = true;
		for (uint32_t i = 0; i < 3; i++)
			participant_open(hostile.bad, number + 2 * i, "p2_9");
		participant_expect_refusal(hostile.bad, number + 4, ENOBUFS);
		assert_int_equal(hostile.bad->hop.channels.count, 2);
		participant_kill(hostile.bad);
		flows_run(&hostile.rig, 5000, 5000);
		rig_stop(&hostile.rig);
	}
}

TEST(unknown_frames_are_skipped_if_they_may_be)
{
	struct hostile hostile;

	hostile_start(&hostile, HOP_LINK);
	participant_put(hostile.bad, 255, 0, "abc", 3);
	participant_put(hostile.bad, FRAME_OPTIONAL, 99, "", 0);
	rig_settle(&hostile.rig);
	assert_false(hostile.bad->failed);
	assert_int_equal(hostile.bad->controls, 0);
	hostile.bad->control_result = -EPROTO; /* as the owners do for a type that they don't know */
	participant_put(hostile.bad, 127, 0, "", 0);
	only_the_bad_one_is_cut_off(&hostile, -EPROTO);
}

TEST(number_in_use_cannot_be_opened_again)
{
	for (unsigned k = 0; k < 2; k++) {
		struct hostile hostile;
		uint32_t number = kinds[k] == HOP_SHARED ? 0 : 1;

		hostile_start(&hostile, kinds[k]);
		participant_open(hostile.bad, number, "p2_9");
		rig_settle(&hostile.rig);
		participant_open(hostile.bad, number, "p2_9");
		only_the_bad_one_is_cut_off(&hostile, -EPROTO);
	}
}

TEST(bytes_beyond_the_credit_end_the_session)
{
	for (unsigned k = 0; k < 2; k++) {
		struct hostile hostile;
		uint32_t number = kinds[k] == HOP_SHARED ? 0 : 1;

		hostile_start(&hostile, kinds[k]);
		hostile.receiver->never_reads_deliveries = true;
		participant_open(hostile.bad, number, "p2_9");
		rig_settle(&hostile.rig);
		for (int i = 0; i < 2; i++) {
			participant_data(hostile.bad, number, 32768, true);
			rig_settle(&hostile.rig);
		}
		assert_false(hostile.bad->failed);
		participant_data(hostile.bad, number, 1, true);
		rig_settle(&hostile.rig);
		hostile.receiver->never_reads_deliveries = false;
		only_the_bad_one_is_cut_off(&hostile, -EPROTO);
	}
}
