/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Topics in the image that a daemon hands over: whoever subscribes goes on where it was, and what is no topic
 * is refused. */
#include "tests/unit/unit.h"
#include "tests/unit/image_bytes.h"
#include "tests/unit/topic_rig.h"

#include <event2/event.h>

#include "base/image.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_image.h"
#include "daemon/topic/topic_internal.h"
#include "daemon/switch/part.h"

#define MESSAGES 21u
#define SIZE	 5000u /* so that a subscriber has credit for some of them only, */
#define SHORT	 24u   /* or so that the image is short, which is a fuzzer's seed */

/* Publishes so many messages as one entry. */
static void publish(struct topic *topic, unsigned number, uint32_t size, unsigned count)
{
	uint32_t span = (uint32_t)message_span(size);
	struct topic_entry *entry = topic_entry_new(span * count);

	memset(entry->bytes, 0, entry->size);
	for (unsigned i = 0; i < count; i++) {
		uint8_t *at = entry->bytes + i * span;

		memcpy(at, &size, sizeof(size));
		at[4] = MESSAGE_PLAIN;
		memcpy(at + MESSAGE_HEAD_SIZE, &(unsigned){number + i}, sizeof(number));
	}
	entry->count = count;
	assert_true(topic_log_reserve(&topic->log, entry->size) >= 0);
	if (count > 1) {
		topic_append(topic, entry);
		return;
	}
	topic_kept_put(&topic->kept, (struct frame_text){0}, entry, false);
	topic_append(topic, entry);
}

static struct topic_rig *rig_at_work(uint32_t size)
{
	struct topic_rig *rig = topic_rig_new();
	struct topic_entry *request = subscription_new(3);
	struct topic *topic = topic_rig_topic(rig);
	struct iovec piece = {request->bytes, request->size};

	/* Its publisher counts as there while they come, so that nobody is ended. */
	topic->publisher = (void *)rig;
	topic_kept_begin(&topic->kept, 2);
	assert_int_equal(topic_rig_subscribe(rig, topic), 0);
	assert_int_equal(hop_push(&rig->channel->opener, &piece, 1, request->size, 1), 0);
	topic_entry_unref(request);
	switch_run(&rig->board, 10);
	for (unsigned i = 0; i < MESSAGES; i += 1 + i % 3)
		publish(topic, i, size, 1 + i % 3);
	switch_run(&rig->board, 10);
	topic->publisher = NULL;
	return rig;
}

static uint8_t *bytes_of(struct topic_rig *rig, size_t *size)
{
	struct image image;

	assert_int_equal(topics_part.number(rig->topics, 1), 2);
	image_begin(&image);
	image_section(&image, IMAGE_LINK);
	hop_link_image(&image, rig->hop);
	topics_part.write(rig->topics, &image);
	hop_write_channels(&image, rig->hop);
	topics_part.write_channels(rig->topics, &image);
	topics_part.write_rest(rig->topics, &image);
	return image_to_bytes(&image, size);
}

static void read_section(struct topic_rig *rig, struct image *image, struct image_hops *hops, uint32_t type)
{
	if (type == IMAGE_LINK && !hops->count) {
		hop_link_image(image, rig->hop);
		hops->hops[hops->count++] = rig->hop;
		hops->links++;
	} else if (type == IMAGE_TOPIC && hops->count == 1) {
		part_read(&topics_part, rig->topics, image, type, hops);
	} else if (type == IMAGE_CHANNEL) {
		channel_read_image(image, hops);
	} else if (type == IMAGE_PARTY) {
		part_read(&topics_part, rig->topics, image, type, hops);
	} else {
		image_fail(image, -EINVAL);
	}
}

/* Reads what may be anything. If it is an image, the topic goes on. */
static int read_rig(struct topic_rig *rig, const uint8_t *bytes, size_t size)
{
	struct hop *hops[2];
	struct image_hops all = {.hops = hops};
	struct image image;
	uint32_t type;
	int r;

	image_open_bytes(&image, bytes, size);
	while ((type = image_next(&image)))
		read_section(rig, &image, &all, type);
	r = image.error;
	if (r == 0)
		r = topics_lose_unfit(&all);
	if (r == 0 && all.state_count)
		r = -EINVAL;
	image_free(&image);
	free(all.states);
	free(all.spoilt);
	return r;
}

TEST(a_topic_and_who_subscribes_are_read_as_they_were)
{
	struct topic_rig *before = rig_at_work(SIZE), *after = topic_rig_new();
	const struct topic *topic;
	uint8_t *bytes, *again;
	size_t size, size_again;

	bytes = bytes_of(before, &size);
	assert_int_equal(read_rig(after, bytes, size), 0);
	topic = after->topics->own;
	assert_true(topic->log.count == MESSAGES && topic->published == MESSAGES && topic->kept.count == 1);
	assert_int_equal(topic->listeners, 3);
	assert_non_null(topic->lists[topic->due]->current); /* it is in the midst of one */
	topic_leave_image(after->topics->own);
	again = bytes_of(after, &size_again);
	assert_int_equal(size_again, size);
	assert_memory_equal(again, bytes, size);
	topics_part.go_on(after->topics);
	switch_run(&after->board, 10);
	assert_int_equal(topic->published, MESSAGES);
	free(bytes);
	free(again);
	topic_rig_free(before);
	topic_rig_free(after);
}

/* Nothing else would have it look: its topic's daemon needn't know that it waits. */
TEST_EACH(who_waits_for_a_topic_looks_again_in_the_next_daemon, 2)
{
	struct topic_rig *before = topic_rig_new(), *after = topic_rig_new();
	const struct frame_identity user = {.domid = before->self.domid};
	struct subscriber *subscriber = calloc(1, sizeof(*subscriber) + 1);
	bool is_patient = unit_number(state);
	struct topic *replica;
	uint8_t *bytes;
	size_t size;

	assert_int_equal(replica_new(&replica, before->topics, NULL, &user, "0:news"), 0);
	switch_run(&before->board, 10);
	assert_int_equal(replica->state, REPLICA_WAITING);
	replica->pause_ms = is_patient ? 600000 : 1;
	replica->lacks_room = is_patient;
	bytes = bytes_of(before, &size);
	assert_int_equal(read_rig(after, bytes, size), 0);
	replica = after->topics->all_replicas;
	subscriber->participant.kind = PARTICIPANT_SUBSCRIBER; /* its program is no part of this */
	subscriber_enter(subscriber, replica);
	topics_part.go_on(after->topics);
	assert_true((after->topics->patient == replica) == is_patient);
	assert_true(replica->lacks_room == is_patient); /* whoever comes is refused meanwhile */
	assert_true(evtimer_pending(replica->timer, NULL));
	free(bytes);
	topic_rig_free(before);
	topic_rig_free(after);
}

static int read_bytes(const uint8_t *bytes, size_t size)
{
	struct topic_rig *rig = topic_rig_new();
	int r = read_rig(rig, bytes, size);

	if (r < 0)
		topics_part.drop(rig->topics);
	else
		topics_part.go_on(rig->topics);
	switch_run(&rig->board, 10);
	topic_rig_free(rig);
	return r;
}

TEST(a_topic_that_is_cut_or_changed_is_refused_or_harmless)
{
	struct topic_rig *rig = rig_at_work(SHORT);
	size_t size;
	uint8_t *bytes = bytes_of(rig, &size);

	image_spoil("topic", bytes, size, size, 7, read_bytes);
	free(bytes);
	topic_rig_free(rig);
}

TEST(whose_channel_ends_without_a_word_is_no_subscriber)
{
	struct topic_rig *rig = rig_at_work(SHORT);
	struct channel_end *end = &rig->channel->acceptor;
	uint8_t *bytes;
	size_t size;

	/* The last word was said in both directions, and of that a topic would have heard. */
	end->in = IN_FIN;
	end->out = OUT_FIN;
	end->consumed = end->sent;
	end->told_consumed = end->received;
	bytes = bytes_of(rig, &size);
	assert_int_equal(read_bytes(bytes, size), -EINVAL);
	free(bytes);
	topic_rig_free(rig);
}
