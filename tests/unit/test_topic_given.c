/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Large messages come into a topic's log where they lie, and go to the replica of the same daemon without a
 * copy. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <utlist.h>

#include "base/self.h"
#include "daemon/known/known.h"
#include "daemon/relay/channel.h"
#include "daemon/relay/hop.h"
#include "daemon/topic/topic_internal.h"
#include "wire/bytes.h"

#define MOST 65536u

/* A topic, and a hop from which a stream of messages comes in there. */
struct intake {
	struct event_base *base;
	struct relay relay;
	struct self self;
	struct known *known;
	struct topics *topics;
	struct topic *topic;
	struct hop *from;
	struct channel *channel;
	struct feed *feed;
};

static void open_none(void *userdata, struct channel *channel, struct frame_text address)
{
	channel_refuse(channel, ENOENT);
}

static const struct hop_callbacks callbacks = {.notify = NULL};

static struct intake *intake_new(void)
{
	const struct frame_identity identity = {.domid = 7};
	struct intake *rig = calloc(1, sizeof(*rig));

	rig->base = event_base_new();
	assert_int_equal(relay_init(&rig->relay, rig->base, 1 << 20), 0);
	rig->known = known_new(&rig->self);
	assert_int_equal(topics_new(&rig->topics, &(struct topics_collaborators){.self = &rig->self,
										 .relay = &rig->relay,
										 .known = rig->known,
										 .open = open_none}),
			 0);
	assert_int_equal(topic_make(&rig->topic, rig->topics, NULL, false), 0);
	DL_APPEND(rig->topics->own, rig->topic);
	rig->from = hop_new(&rig->relay, HOP_LINK, &callbacks, rig, 1, 1000);
	assert_int_equal(channel_new(rig->from, 2, CHANNEL_MESSAGE, &identity, &rig->channel), 0);
	assert_int_equal(channel_accept(rig->channel, rig->topic->hop, "news"), 0);
	rig->feed = topic_add_feed(rig->topic, &rig->channel->acceptor);
	assert_non_null(rig->feed);
	return rig;
}

static void intake_free(struct intake *rig)
{
	topics_free(rig->topics);
	hop_retire(rig->from, ENOENT);
	relay_cleanup(&rig->relay);
	known_free(rig->known);
	event_base_free(rig->base);
	free(rig);
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

static void come(struct intake *rig, void *bytes, uint32_t length, uint32_t messages)
{
	struct iovec piece = {bytes, length};

	assert_int_equal(hop_push(&rig->channel->opener, &piece, 1, length, messages), 0);
}

static struct topic_entry *take_given(struct intake *rig, bool may_be_run)
{
	return intake_given(rig->feed, &rig->topic->log, MOST, may_be_run);
}

static void let_go(struct intake *rig, struct topic_entry *entry)
{
	topic_log_unreserve(&rig->topic->log, entry->size);
	topic_entry_unref(entry);
}

TEST(a_large_message_is_taken_where_it_lies)
{
	struct intake *rig = intake_new();
	uint8_t bytes[8192];
	uint32_t span = write_message(bytes, 4096, 7);
	struct topic_entry *waiting, *entry;

	come(rig, bytes, span, 1);
	come(rig, bytes, span, 1);
	waiting = rig->feed->given;
	assert_non_null(waiting);
	entry = take_given(rig, false);
	assert_ptr_equal(entry, waiting);
	assert_int_equal(entry->size, span);
	assert_memory_equal(entry->bytes, bytes, span);
	assert_int_equal(entry->references, 1);
	assert_true(rig->topic->log.bytes == topic_entry_cost(span));
	assert_int_equal(channel_queued(rig->feed->party.end), span);
	assert_true(rig->channel->acceptor.sent == span);
	assert_ptr_not_equal(rig->feed->given, entry);
	let_go(rig, entry);
	intake_free(rig); /* with one that waits */
}

TEST(a_small_message_waits_as_before)
{
	struct intake *rig = intake_new();
	uint8_t bytes[1024];
	struct topic_entry *entry = NULL;

	come(rig, bytes, write_message(bytes, 64, 1), 1);
	assert_null(rig->feed->given);
	assert_null(take_given(rig, true));
	assert_int_equal(intake(rig->feed, &rig->topic->log, MOST, &entry), 1);
	let_go(rig, entry);
	intake_free(rig);
}

TEST(several_that_come_together_are_one_entry_if_they_may)
{
	struct intake *rig = intake_new();
	uint8_t bytes[8192];
	uint32_t length = 0, span = (uint32_t)message_span(500);
	struct topic_entry *entry;

	for (uint8_t i = 0; i < 4; i++)
		length += write_message(bytes + length, 500, i);
	come(rig, bytes, length, 4);
	come(rig, bytes, length, 4);
	entry = take_given(rig, true);
	assert_non_null(entry);
	assert_int_equal(entry->count, 4);
	let_go(rig, entry);
	assert_null(take_given(rig, false));
	for (uint8_t i = 0; i < 4; i++) { /* as others take them, from the same memory */
		assert_int_equal(intake(rig->feed, &rig->topic->log, MOST, &entry), 1);
		assert_int_equal(entry->size, span);
		assert_memory_equal(entry->bytes, bytes + i * span, span);
		let_go(rig, entry);
		assert_null(take_given(rig, true)); /* what remains isn't all that lay there */
	}
	assert_null(rig->feed->given);
	intake_free(rig);
}

TEST(a_message_in_pieces_is_put_together)
{
	struct intake *rig = intake_new();
	uint8_t bytes[8192];
	uint32_t span = write_message(bytes, 4096, 7);
	struct topic_entry *entry;

	come(rig, bytes, 2048, 0);
	assert_null(take_given(rig, true));
	assert_int_equal(intake(rig->feed, &rig->topic->log, MOST, &entry), 0);
	come(rig, bytes + 2048, span - 2048, 1);
	assert_null(take_given(rig, true));
	assert_int_equal(intake(rig->feed, &rig->topic->log, MOST, &entry), 1);
	assert_memory_equal(entry->bytes, bytes, span);
	let_go(rig, entry);
	assert_null(rig->feed->given);
	intake_free(rig);
}

TEST(one_that_is_too_long_is_refused)
{
	struct intake *rig = intake_new();
	uint8_t bytes[8192];
	struct topic_entry *entry;

	come(rig, bytes, write_message(bytes, 4096, 7), 1);
	assert_null(intake_given(rig->feed, &rig->topic->log, 4095, true));
	assert_int_equal(intake(rig->feed, &rig->topic->log, 4095, &entry), -EMSGSIZE);
	intake_free(rig);
}

TEST(what_is_withdrawn_while_it_waits_is_seen)
{
	struct intake *rig = intake_new();
	uint8_t bytes[8192];
	uint32_t span = write_message(bytes, 4096, 7);
	struct topic_entry *entry;

	come(rig, bytes, span, 1);
	put_u32(rig->feed->given->bytes + span - MESSAGE_TRAILER_SIZE, MESSAGE_CANCELLED);
	entry = take_given(rig, true);
	assert_true(intake_is_cancelled(entry));
	let_go(rig, entry);
	intake_free(rig);
}

TEST(an_entry_of_another_log_keeps_its_bytes_while_it_is_wanted)
{
	struct intake *rig = intake_new();
	uint8_t bytes[8192];
	uint32_t span = write_message(bytes, 4096, 7);
	struct topic_entry *first = topic_entry_new(span), *entry;
	struct hop_memory memory;

	memcpy(first->bytes, bytes, span);
	first->count = first->before = 5;
	assert_true(intake_give(rig->feed, topic_entry_share(first), &memory));
	assert_ptr_equal(memory.bytes, first->bytes);
	assert_int_equal(hop_give(&rig->channel->opener, &memory, span, 1), 0);
	assert_true(rig->channel->opener.received == span);
	topic_entry_unref(first); /* its log has dropped it */
	entry = take_given(rig, true);
	assert_ptr_equal(entry->bytes, memory.bytes);
	assert_memory_equal(entry->bytes, bytes, span);
	assert_true(entry->count == 0 && entry->before == 0);
	assert_true(rig->topic->log.bytes == topic_entry_cost(span));
	let_go(rig, entry);
	intake_free(rig);
}

TEST(what_nobody_takes_any_more_is_released)
{
	struct intake *rig = intake_new();
	struct topic_entry *first = topic_entry_new(2048);
	struct hop_memory memory;

	memset(first->bytes, 0, first->size);
	channel_refuse(rig->channel, ENOENT);
	assert_true(intake_give(rig->feed, topic_entry_share(first), &memory));
	assert_int_equal(first->references, 2);
	assert_int_equal(hop_give(&rig->channel->opener, &memory, first->size, 1), -EPIPE);
	assert_int_equal(first->references, 1);
	assert_null(rig->feed->given);
	topic_entry_unref(first);
	intake_free(rig);
}

TEST(what_must_be_found_alone_is_an_entry_of_its_own)
{
	for (unsigned why = 0; why < 3; why++) {
		struct intake *rig = intake_new();
		uint8_t large[8192], small[1024];
		uint32_t large_length = 0, small_length = 0;

		rig->topic->publisher = (void *)rig; /* it isn't over */
		topic_kept_begin(&rig->topic->kept, why == 1);
		rig->topic->bounds = why == 2;
		for (uint8_t i = 0; i < 4; i++) {
			large_length += write_message(large + large_length, 500, i);
			small_length += write_message(small + small_length, 64, i);
		}
		come(rig, large, large_length, 4);
		relay_run(&rig->relay, 10);
		assert_int_equal(rig->topic->log.next, why ? 4 : 1);
		come(rig, small, small_length, 4);
		relay_run(&rig->relay, 10);
		assert_int_equal(rig->topic->log.next, why ? 8 : 2);
		assert_int_equal(rig->topic->log.messages, 8);
		rig->topic->publisher = NULL;
		intake_free(rig);
	}
}

/* A message that has come, after so many turns that nothing is left to do. */
static uint64_t entries_after_one_more(struct intake *rig)
{
	uint8_t bytes[1024];

	come(rig, bytes, write_message(bytes, 64, 1), 1);
	relay_run(&rig->relay, 10);
	return rig->topic->log.next - rig->topic->log.first;
}

TEST(the_log_has_only_what_somebody_has_not_had)
{
	struct intake *rig = intake_new();
	struct subscriber slow = {.party.kind = PARTY_SUBSCRIBER};

	rig->topic->publisher = (void *)rig; /* it isn't over */
	assert_int_equal(entries_after_one_more(rig), 0);
	assert_int_equal(rig->topic->log.count, 1);
	subscriber_enter(&slow, rig->topic);
	slow.position = topic_log_end(&rig->topic->log);
	for (enum subscriber_list list = LIST_BLOCKED; list <= LIST_LATER; list++) {
		subscriber_move(&slow, list);
		rig->topic->retries = 0;
		assert_int_equal(entries_after_one_more(rig), 1 + 2 * (list - LIST_BLOCKED));
		assert_int_equal(entries_after_one_more(rig), 2 + 2 * (list - LIST_BLOCKED));
	}
	subscriber_move(&slow, LIST_OUT); /* it hasn't begun */
	assert_int_equal(entries_after_one_more(rig), 0);
	assert_int_equal(rig->topic->log.bytes, 0);
	rig->topic->lists[LIST_OUT] = NULL;
	rig->topic->counts[LIST_OUT] = 0;
	rig->topic->publisher = NULL;
	intake_free(rig);
}

TEST(half_of_a_turn_is_not_for_who_publishes)
{
	struct intake *rig = intake_new();
	uint8_t bytes[1024];
	uint32_t span = write_message(bytes, 8, 1);

	rig->topic->publisher = (void *)rig; /* it isn't over */
	rig->topic->bounds = 1;		     /* each is an entry of its own */
	for (uint32_t i = 0; i < TOPIC_PIECE_UNITS; i++)
		come(rig, bytes, span, 1);
	relay_run(&rig->relay, 1000);
	assert_int_equal(rig->topic->log.count, TOPIC_PIECE_UNITS);
	/* In between it drops what all have had, so it never had all of them. */
	assert_in_range(rig->topic->log.places, 1, TOPIC_PIECE_UNITS / 2);
	rig->topic->publisher = NULL;
	intake_free(rig);
}
