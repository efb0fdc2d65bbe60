/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who doesn't answer that a channel has ended can't use up the account of its opener, who pays for it.
 */
#include "tests/unit/channel_rig.h"

#include "base/quota.h"
#include "daemon/switch/orphans.h"

#define CHANNELS 200u /* that an account may have */

/* Of the running test. */
static struct scene scene;
static struct quota *quota;
static struct account *payer, *holder, *peer;

static int start(void **state)
{
	static const struct quota_limits limits = {
		.pool = {[QUOTA_CHANNELS] = 65536, [QUOTA_BYTES] = 1u << 30},
		.max = {[QUOTA_UID] = {[QUOTA_CHANNELS] = CHANNELS, [QUOTA_BYTES] = 1u << 28},
			[QUOTA_PEER] = {[QUOTA_CHANNELS] = CHANNELS, [QUOTA_BYTES] = 1u << 28}},
	};

	quota = quota_new(&limits);
	payer = quota_account(quota, QUOTA_UID, 1000);
	holder = quota_account(quota, QUOTA_UID, 1001);
	peer = quota_account(quota, QUOTA_PEER, 5);
	scene_start(&scene);
	hop_set_account(&scene.a->hop, account_ref(payer));
	hop_set_account(&scene.b->hop, account_ref(holder));
	hop_set_account(&scene.link->hop, account_ref(peer));
	return 0;
}

static int stop(void **state)
{
	rig_stop(&scene.rig);
	assert_int_equal(account_usage(payer, QUOTA_CHANNELS).used, 0);
	account_unref(payer);
	account_unref(holder);
	account_unref(peer);
	quota_free(quota);
	return 0;
}

/* `a` opens a channel, and gives it up. Returns whether it was led there. */
static bool open_and_leave(const char *name)
{
	const uint32_t number = 0;

	participant_open(scene.a, number, name);
	rig_settle(&scene.rig);
	if (scene.a->hop.channels.count == 0) {
		participant_expect_refusal(scene.a, number, ENOBUFS);
		read_all(&scene);
		return false;
	}
	participant_reset(scene.a, number, ECANCELED, 0, 0);
	read_all(&scene);
	assert_int_equal(scene.a->hop.channels.count, 0);
	return true;
}

static uint32_t count_until_refused(const char *name)
{
	uint32_t count = 0;

	while (open_and_leave(name))
		assert_true(++count < CHANNELS);
	return count;
}

TEST_WITH(a_program_that_never_answers_is_left_alone, start, stop)
{
	scene.b->no_auto_answer = true;
	scene.rig.board[0].orphans_patience_ms = 0;
	assert_int_equal(count_until_refused("p_1"), ORPHANS_STALE);
	assert_int_equal(account_usage(payer, QUOTA_CHANNELS).used, ORPHANS_STALE);
	/* Nothing of them is sent on any more. */
	assert_int_equal(account_usage(payer, QUOTA_BYTES).used, 0);
	/* Others are reached as ever. */
	assert_true(open_and_leave("x_1"));
}

static struct participant *to_the_last(struct participant *participant, const char *name)
{
	struct participant *to = participant->rig->parties->next;

	while (name[0] == 'y' && to->next)
		to = to->next;
	return to;
}

TEST_WITH(other_programs_of_the_same_user_are_reached, start, stop)
{
	struct participant *third;

	third = participant_new(&scene.rig,
				&(struct rig_options){.kind = HOP_SHARED, .ring = RING, .parity = 1});
	hop_set_account(&third->hop, account_ref(holder));
	scene.a->route = to_the_last;
	scene.b->no_auto_answer = true;
	scene.rig.board[0].orphans_patience_ms = 0;
	assert_int_equal(count_until_refused("p_1"), ORPHANS_STALE);
	participant_open(scene.a, 0, "y_1");
	rig_settle(&scene.rig);
	assert_ptr_equal(scene.a->last_channel->acceptor.hop, &third->hop);
}

TEST_WITH(a_program_that_is_slow_has_time, start, stop)
{
	scene.b->no_auto_answer = true;
	/* But nobody gets all of an account. */
	assert_int_equal(count_until_refused("p_1"), CHANNELS / 2);
	assert_true(open_and_leave("x_1"));
}

TEST_WITH(who_answers_again_is_reached_again, start, stop)
{
	scene.b->no_auto_answer = true;
	scene.rig.board[0].orphans_patience_ms = 0;
	count_until_refused("p_1");
	for (uint32_t number = 1; number < 2 * ORPHANS_STALE; number += 2)
		participant_reset(scene.b, number, ECANCELED, 0, 0);
	read_all(&scene);
	assert_int_equal(account_usage(payer, QUOTA_CHANNELS).used, 0);
	scene.b->no_auto_answer = false;
	for (uint32_t i = 0; i < 40; i++)
		assert_true(open_and_leave("p_1"));
	nothing_is_left(&scene);
}

TEST_WITH(a_peer_holds_at_most_half, start, stop)
{
	scene.link->no_auto_answer = true;
	scene.rig.board[0].orphans_patience_ms = 0;
	assert_int_equal(count_until_refused("x_1"), CHANNELS / 2);
	assert_true(open_and_leave("p_1"));
}

TEST_WITH(nobody_is_protected_from_himself, start, stop)
{
	account_unref(scene.b->hop.account);
	hop_set_account(&scene.b->hop, account_ref(payer));
	scene.b->no_auto_answer = true;
	scene.rig.board[0].orphans_patience_ms = 0;
	for (uint32_t i = 0; i < CHANNELS; i++)
		assert_true(open_and_leave("p_1"));
	assert_false(open_and_leave("p_1"));
}

TEST_WITH(an_end_of_either_side_ends_the_count, start, stop)
{
	scene.b->no_auto_answer = true;
	for (uint32_t number = 0; number < 20; number += 2)
		participant_open(scene.a, number, "p_1");
	read_all(&scene);
	participant_kill(scene.a);
	read_all(&scene);
	assert_int_equal(account_usage(payer, QUOTA_CHANNELS).used, 10);
	assert_non_null(scene.rig.board[0].orphans);
	participant_kill(scene.b);
	read_all(&scene);
	assert_null(scene.rig.board[0].orphans);
	assert_int_equal(account_usage(payer, QUOTA_CHANNELS).used, 0);
}
