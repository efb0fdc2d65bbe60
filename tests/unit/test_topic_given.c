/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Large messages come into a topic's log where they lie, and go to the replica of the same daemon without a
 * copy. */
#include "tests/unit/unit.h"
#include "tests/unit/topic_rig.h"

#include "wire/bytes.h"

#define MOST 65536u

/* A topic, and a hop from which a stream of messages comes in there. */
struct scene {
	struct topic_rig *rig;
	struct topic *topic;
	struct channel *channel;
	struct feed *feed;
};

static void scene_start(struct scene *scene)
{
	const struct frame_identity identity = {.domid = 7};

	scene->rig = topic_rig_new();
	scene->topic = topic_rig_topic(scene->rig);
	assert_int_equal(channel_new(scene->rig->hop, 2, CHANNEL_MESSAGE, &identity, &scene->channel), 0);
	assert_int_equal(channel_accept(scene->channel, scene->topic->hop, "news"), 0);
	scene->feed = topic_add_feed(scene->topic, &scene->channel->acceptor);
	assert_non_null(scene->feed);
}

static void scene_stop(struct scene *scene)
{
	topic_rig_free(scene->rig);
}

/* Writes a message of so many bytes, each the number. Returns how long it is. */
static uint32_t write_message(uint8_t *at, uint32_t size, uint8_t number)
{
	uint32_t span = (uint32_t)message_span(size);

	memset(at, 0, span);
	put_u32(at, size);
	memset(at + MESSAGE_HEAD_SIZE, number, size);
	return span;
}

static void come(struct scene *scene, void *bytes, uint32_t length, uint32_t messages)
{
	struct iovec piece = {bytes, length};

	assert_int_equal(hop_push(&scene->channel->opener, &piece, 1, length, messages), 0);
}

static struct topic_entry *take_given(struct scene *scene, bool may_be_run)
{
	return ingest_given(scene->feed, &scene->topic->log, MOST, may_be_run);
}

static void let_go(struct scene *scene, struct topic_entry *entry)
{
	topic_log_unreserve(&scene->topic->log, entry->size);
	topic_entry_unref(entry);
}

SCENE_TEST(a_large_message_is_taken_where_it_lies, scene_start)
{
	uint8_t bytes[8192];
	uint32_t span = write_message(bytes, 4096, 7);
	struct topic_entry *waiting, *entry;

	come(scene, bytes, span, 1);
	come(scene, bytes, span, 1);
	waiting = scene->feed->given;
	assert_non_null(waiting);
	entry = take_given(scene, false);
	assert_ptr_equal(entry, waiting);
	assert_int_equal(entry->size, span);
	assert_memory_equal(entry->bytes, bytes, span);
	assert_int_equal(entry->references, 1);
	assert_true(scene->topic->log.bytes == topic_entry_cost(span));
	assert_int_equal(channel_queued(scene->feed->participant.end), span);
	assert_true(scene->channel->acceptor.sent == span);
	assert_ptr_not_equal(scene->feed->given, entry);
	let_go(scene, entry);
}

SCENE_TEST(a_small_message_waits_as_before, scene_start)
{
	uint8_t bytes[1024];
	struct topic_entry *entry = NULL;

	come(scene, bytes, write_message(bytes, 64, 1), 1);
	assert_null(scene->feed->given);
	assert_null(take_given(scene, true));
	assert_int_equal(ingest(scene->feed, &scene->topic->log, MOST, &entry), 1);
	let_go(scene, entry);
}

SCENE_TEST(several_that_come_together_are_one_entry_if_they_may, scene_start)
{
	uint8_t bytes[8192];
	uint32_t length = 0, span = (uint32_t)message_span(500);
	struct topic_entry *entry;

	for (uint8_t i = 0; i < 4; i++)
		length += write_message(bytes + length, 500, i);
	come(scene, bytes, length, 4);
	come(scene, bytes, length, 4);
	entry = take_given(scene, true);
	assert_non_null(entry);
	assert_int_equal(entry->count, 4);
	let_go(scene, entry);
	assert_null(take_given(scene, false));
	for (uint8_t i = 0; i < 4; i++) { /* as others take them, from the same memory */
		assert_int_equal(ingest(scene->feed, &scene->topic->log, MOST, &entry), 1);
		assert_int_equal(entry->size, span);
		assert_memory_equal(entry->bytes, bytes + i * span, span);
		let_go(scene, entry);
		assert_null(take_given(scene, true)); /* what remains isn't all that lay there */
	}
	assert_null(scene->feed->given);
}

SCENE_TEST(a_message_in_pieces_is_put_together, scene_start)
{
	uint8_t bytes[8192];
	uint32_t span = write_message(bytes, 4096, 7);
	struct topic_entry *entry;

	come(scene, bytes, 2048, 0);
	assert_null(take_given(scene, true));
	assert_int_equal(ingest(scene->feed, &scene->topic->log, MOST, &entry), 0);
	come(scene, bytes + 2048, span - 2048, 1);
	assert_null(take_given(scene, true));
	assert_int_equal(ingest(scene->feed, &scene->topic->log, MOST, &entry), 1);
	assert_memory_equal(entry->bytes, bytes, span);
	let_go(scene, entry);
	assert_null(scene->feed->given);
}

SCENE_TEST(one_that_is_too_long_is_refused, scene_start)
{
	uint8_t bytes[8192];
	struct topic_entry *entry;

	come(scene, bytes, write_message(bytes, 4096, 7), 1);
	assert_null(ingest_given(scene->feed, &scene->topic->log, 4095, true));
	assert_int_equal(ingest(scene->feed, &scene->topic->log, 4095, &entry), -EMSGSIZE);
}

SCENE_TEST(what_is_withdrawn_while_it_waits_is_seen, scene_start)
{
	uint8_t bytes[8192];
	uint32_t span = write_message(bytes, 4096, 7);
	struct topic_entry *entry;

	come(scene, bytes, span, 1);
	put_u32(scene->feed->given->bytes + span - MESSAGE_TRAILER_SIZE, MESSAGE_CANCELLED);
	entry = take_given(scene, true);
	assert_true(ingest_is_cancelled(entry));
	let_go(scene, entry);
}

SCENE_TEST(an_entry_of_another_log_keeps_its_bytes_while_it_is_wanted, scene_start)
{
	uint8_t bytes[8192];
	uint32_t span = write_message(bytes, 4096, 7);
	struct topic_entry *first = topic_entry_new(span), *entry;
	struct hop_memory memory;

	memcpy(first->bytes, bytes, span);
	first->count = first->before = 5;
	assert_true(ingest_give(scene->feed, topic_entry_share(first), &memory));
	assert_ptr_equal(memory.bytes, first->bytes);
	assert_int_equal(hop_give(&scene->channel->opener, &memory, span, 1), 0);
	assert_true(scene->channel->opener.received == span);
	topic_entry_unref(first); /* its log has dropped it */
	entry = take_given(scene, true);
	assert_ptr_equal(entry->bytes, memory.bytes);
	assert_memory_equal(entry->bytes, bytes, span);
	assert_true(entry->count == 0 && entry->before == 0);
	assert_true(scene->topic->log.bytes == topic_entry_cost(span));
	let_go(scene, entry);
}

SCENE_TEST(what_nobody_takes_any_more_is_released, scene_start)
{
	struct topic_entry *first = topic_entry_new(2048);
	struct hop_memory memory;

	memset(first->bytes, 0, first->size);
	channel_refuse(scene->channel, ENOENT);
	assert_true(ingest_give(scene->feed, topic_entry_share(first), &memory));
	assert_int_equal(first->references, 2);
	assert_int_equal(hop_give(&scene->channel->opener, &memory, first->size, 1), -EPIPE);
	assert_int_equal(first->references, 1);
	assert_null(scene->feed->given);
	topic_entry_unref(first);
}

SCENE_TEST_EACH(what_must_be_found_alone_is_an_entry_of_its_own, scene_start, why, 3)
{
	uint8_t large[8192], small[1024];
	uint32_t large_length = 0, small_length = 0;

	scene->topic->publisher = (void *)scene; /* it isn't over */
	topic_kept_begin(&scene->topic->kept, why == 1);
	scene->topic->bounds = why == 2;
	for (uint8_t i = 0; i < 4; i++) {
		large_length += write_message(large + large_length, 500, i);
		small_length += write_message(small + small_length, 64, i);
	}
	come(scene, large, large_length, 4);
	switch_run(&scene->rig->board, 10);
	assert_int_equal(scene->topic->log.next, why ? 4 : 1);
	come(scene, small, small_length, 4);
	switch_run(&scene->rig->board, 10);
	assert_int_equal(scene->topic->log.next, why ? 8 : 2);
	assert_int_equal(scene->topic->log.messages, 8);
}

/* A message that has come, after so many turns that nothing is left to do. */
static uint64_t entries_after_one_more(struct scene *scene)
{
	uint8_t bytes[1024];

	come(scene, bytes, write_message(bytes, 64, 1), 1);
	switch_run(&scene->rig->board, 10);
	return scene->topic->log.next - scene->topic->log.first;
}

SCENE_TEST(the_log_has_only_what_somebody_has_not_had, scene_start)
{
	struct subscriber slow = {.participant.kind = PARTICIPANT_SUBSCRIBER};

	scene->topic->publisher = (void *)scene; /* it isn't over */
	assert_int_equal(entries_after_one_more(scene), 0);
	assert_int_equal(scene->topic->log.count, 1);
	subscriber_enter(&slow, scene->topic);
	slow.position = topic_log_end(&scene->topic->log);
	for (enum subscriber_list list = LIST_BLOCKED; list <= LIST_LATER; list++) {
		subscriber_move(&slow, list);
		scene->topic->retries = 0;
		assert_int_equal(entries_after_one_more(scene), 1 + 2 * (list - LIST_BLOCKED));
		assert_int_equal(entries_after_one_more(scene), 2 + 2 * (list - LIST_BLOCKED));
	}
	subscriber_move(&slow, LIST_OUT); /* it hasn't begun */
	assert_int_equal(entries_after_one_more(scene), 0);
	assert_int_equal(scene->topic->log.bytes, 0);
	scene->topic->lists[LIST_OUT] = NULL;
	scene->topic->counts[LIST_OUT] = 0;
}

SCENE_TEST(half_of_a_turn_is_not_for_who_publishes, scene_start)
{
	uint8_t bytes[1024];
	uint32_t span = write_message(bytes, 8, 1);

	scene->topic->publisher = (void *)scene; /* it isn't over */
	scene->topic->bounds = 1;		 /* each is an entry of its own */
	for (uint32_t i = 0; i < TOPIC_PIECE_UNITS; i++)
		come(scene, bytes, span, 1);
	switch_run(&scene->rig->board, 1000);
	assert_int_equal(scene->topic->log.count, TOPIC_PIECE_UNITS);
	/* In between it drops what all have had, so it never had all of them. */
	assert_in_range(scene->topic->log.places, 1, TOPIC_PIECE_UNITS / 2);
}
