/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who subscribes and ends at once, before its topic has had a turn, or while the topic itself is ending. */
#include "tests/unit/unit.h"
#include "tests/unit/topic_rig.h"

#include "base/quota.h"
#include "daemon/switch/inner.h"

/* A topic that goes on, as one whose publisher is there. */
static struct topic *topic_that_lasts(struct topic_rig *rig)
{
	struct topic *topic = topic_rig_topic(rig);

	topic->publisher = (void *)rig;
	return topic;
}

TEST(who_has_gone_before_the_topic_s_turn_is_no_subscriber)
{
	struct topic_rig *rig = topic_rig_new();
	struct topic *topic = topic_that_lasts(rig);

	assert_int_equal(topic_rig_subscribe(rig, topic), 0);
	assert_true(topic_has_subscribers(topic));
	hop_reset_channels(rig->hop, ECONNRESET);
	switch_run(&rig->board, 10);
	assert_false(topic_has_subscribers(topic));
	topic_rig_free(rig);
}

TEST(who_is_forbidden_before_the_topic_s_turn_is_no_subscriber)
{
	struct topic_rig *rig = topic_rig_new();
	struct topic *topic = topic_that_lasts(rig);

	assert_int_equal(topic_rig_subscribe(rig, topic), 0);
	channel_forbid(rig->channel, EACCES);
	switch_run(&rig->board, 10);
	assert_false(topic_has_subscribers(topic));
	topic_rig_free(rig);
}

/* The publisher may be there again, and they ask for its new topic. */
TEST(who_has_had_all_of_a_topic_that_ends_waits_for_nobody)
{
	struct topic_rig *rig = topic_rig_new();
	struct topic *topic = topic_that_lasts(rig);
	struct subscriber *slow, *other;

	assert_int_equal(topic_rig_subscribe(rig, topic), 0);
	assert_int_equal(topic_rig_subscribe(rig, topic), 0);
	slow = topic->lists[LIST_OUT];
	other = slow->next;
	subscriber_move(slow, LIST_BLOCKED);
	other->position = topic_log_end(&topic->log);
	subscriber_move(other, topic->due);
	topic->publisher = NULL;
	inner_due(topic->hop);
	switch_run(&rig->board, 10);
	assert_int_equal(topic->counts[LIST_BLOCKED], 1);
	assert_int_equal(topic->counts[LIST_A] + topic->counts[LIST_B] + topic->counts[LIST_OUT], 0);
	topic_rig_free(rig);
}

TEST(what_comes_for_who_is_forgotten_is_given_no_memory)
{
	static uint8_t bytes[2 * TOPIC_GIVE_LEAST];
	struct iovec piece = {bytes, sizeof(bytes)};
	struct topic_rig *rig = topic_rig_new();
	struct topic *topic = topic_that_lasts(rig);
	struct channel *first;

	assert_int_equal(topic_rig_subscribe(rig, topic), 0);
	first = rig->channel;
	/* More than are forgotten in one turn. */
	for (unsigned i = 0; i < TOPIC_PIECE_UNITS; i++)
		assert_int_equal(topic_rig_subscribe(rig, topic), 0);
	topic->publisher = NULL;
	topic_drop(topic);
	switch_run(&rig->board, 1);
	assert_true(topic_has_subscribers(topic));
	assert_null(first->acceptor.participant);
	assert_int_equal(hop_push(&first->opener, &piece, 1, sizeof(bytes), 1), 0);
	topic_rig_free(rig);
}

TEST(who_subscribes_pays_until_he_has_ended)
{
	struct quota_limits limits;
	struct topic_rig *rig = topic_rig_new();
	struct topic *topic = topic_that_lasts(rig);
	struct account *account;
	struct quota *quota;
	unsigned count = 0;

	for (unsigned i = 0; i < QUOTA_RESOURCES; i++)
		limits.pool[i] = limits.max[QUOTA_UID][i] = limits.max[QUOTA_PEER][i] = 1u << 30;
	limits.max[QUOTA_PEER][QUOTA_MEMORY] = 4096;
	quota = quota_new(&limits);
	account = quota_account(quota, QUOTA_PEER, 7);
	hop_set_account(rig->hop, account_ref(account));
	while (topic_rig_subscribe(rig, topic) == 0)
		count++;
	assert_in_range(count, 1, 20);
	assert_in_range(account_usage(account, QUOTA_MEMORY).used, 4096 / 2, 4096);
	channel_refuse(rig->channel, ENOBUFS);
	hop_reset_channels(rig->hop, ECONNRESET);
	switch_run(&rig->board, 10);
	assert_int_equal(account_usage(account, QUOTA_MEMORY).used, 0);
	topic_rig_free(rig);
	account_unref(account);
	quota_free(quota);
}
