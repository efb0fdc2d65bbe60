/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Topics in the image that a daemon hands over: whoever subscribes goes on where it was, and what is no topic
 * is refused. */
#include "tests/unit/unit.h"
#include "tests/unit/image_bytes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <utlist.h>

#include "base/image.h"
#include "base/self.h"
#include "daemon/known/known.h"
#include "daemon/relay/channel.h"
#include "daemon/relay/hop.h"
#include "daemon/relay/hop_image.h"
#include "daemon/topic/topic_internal.h"

#define MESSAGES 21u
#define SIZE	 5000u /* so that a subscriber has credit for some of them only, */
#define SHORT	 24u   /* or so that the image is short, which is a fuzzer's seed */

/* A topic whose publisher has gone, and a daemon that has subscribed to it. */
struct world {
	struct event_base *base;
	struct relay relay;
	struct self self;
	struct known *known;
	struct topics *topics;
	struct hop *hop; /* of the subscriber */
	struct channel *channel;
	struct channel *read; /* out of an image, last */
};

static void open_none(void *userdata, struct channel *channel, struct frame_text address)
{
	channel_refuse(channel, ENOENT);
}

static const struct hop_callbacks callbacks = {.notify = NULL};

static struct world *world_new(void)
{
	struct world *world = calloc(1, sizeof(*world));

	world->base = event_base_new();
	assert_int_equal(relay_init(&world->relay, world->base, 1 << 20), 0);
	world->known = known_new(&world->self);
	assert_non_null(world->known);
	assert_int_equal(topics_new(&world->topics, &(struct topics_collaborators){.self = &world->self,
										   .relay = &world->relay,
										   .known = world->known,
										   .open = open_none}),
			 0);
	world->hop = hop_new(&world->relay, HOP_LINK, &callbacks, world, 1, 1000);
	hop_set_image_number(world->hop, 0);
	return world;
}

static void world_free(struct world *world)
{
	topics_free(world->topics);
	hop_retire(world->hop, ENOENT);
	relay_cleanup(&world->relay);
	known_free(world->known);
	event_base_free(world->base);
	free(world);
}

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

static struct world *world_at_work(uint32_t size)
{
	const struct frame_identity identity = {.domid = 7};
	struct world *world = world_new();
	struct topic_entry *request = subscription_new(3);
	struct topic *topic;
	struct iovec piece = {request->bytes, request->size};

	assert_int_equal(topic_make(&topic, world->topics, NULL, false), 0);
	DL_APPEND(world->topics->own, topic);
	topic_kept_begin(&topic->kept, 2);
	assert_int_equal(channel_new(world->hop, 2, CHANNEL_CALL, &identity, &world->channel), 0);
	assert_int_equal(topic_accept(topic, world->channel, "news"), 0);
	assert_int_equal(hop_push(&world->channel->opener, &piece, 1, request->size, 1), 0);
	topic_entry_unref(request);
	relay_run(&world->relay, 10);
	/* Its publisher counts as there while all come, so that it isn't over. */
	topic->publisher = (void *)world;
	for (unsigned i = 0; i < MESSAGES; i += 1 + i % 3)
		publish(topic, i, size, 1 + i % 3);
	relay_run(&world->relay, 10);
	topic->publisher = NULL;
	return world;
}

static uint8_t *bytes_of(struct world *world, size_t *size)
{
	struct image image;

	assert_int_equal(topics_number_for_image(world->topics, 1), 1);
	image_begin(&image);
	image_section(&image, IMAGE_LINK);
	hop_link_image(&image, world->hop);
	topics_write_image(world->topics, &image);
	hop_write_channels(&image, world->hop);
	topics_write_channels(world->topics, &image);
	topics_write_parties(world->topics, &image);
	return image_to_bytes(&image, size);
}

static void read_section(struct world *world, struct image *image, struct image_hops *hops, uint32_t type)
{
	if (type == IMAGE_LINK && !hops->count) {
		hop_link_image(image, world->hop);
		hops->hops[hops->count++] = world->hop;
		hops->links++;
	} else if (type == IMAGE_TOPIC && hops->count == 1) {
		topics_read_topic(world->topics, image, hops);
	} else if (type == IMAGE_CHANNEL) {
		channel_image(image, hops, &world->read);
	} else if (type == IMAGE_SERIAL) {
		channel_serial_image(image, world->read);
	} else if (type == IMAGE_PARTY) {
		topics_read_party(world->topics, image, hops);
	} else {
		image_fail(image, -EINVAL);
	}
}

/* Reads what may be anything. If it is an image, the topic goes on. */
static int read_world(struct world *world, const uint8_t *bytes, size_t size)
{
	struct hop *hops[2];
	struct image_hops all = {.hops = hops};
	struct image image;
	uint32_t type;
	int r;

	image_open_bytes(&image, bytes, size);
	while ((type = image_next(&image)))
		read_section(world, &image, &all, type);
	topics_check_image(world->topics, &image);
	r = image.error;
	image_free(&image);
	return r;
}

TEST(a_topic_and_who_subscribes_are_read_as_they_were)
{
	struct world *before = world_at_work(SIZE), *after = world_new();
	const struct topic *topic;
	uint8_t *bytes, *again;
	size_t size, size_again;

	bytes = bytes_of(before, &size);
	assert_int_equal(read_world(after, bytes, size), 0);
	topic = after->topics->own;
	assert_true(topic->log.count == MESSAGES && topic->published == MESSAGES && topic->kept.count == 1);
	assert_int_equal(topic->listeners, 3);
	assert_non_null(topic->lists[topic->due]->current); /* it is in the midst of one */
	topic_leave_image(after->topics->own);
	again = bytes_of(after, &size_again);
	assert_int_equal(size_again, size);
	assert_memory_equal(again, bytes, size);
	topics_go_on(after->topics);
	relay_run(&after->relay, 10);
	free(bytes);
	free(again);
	world_free(before);
	world_free(after);
}

static int read_bytes(const uint8_t *bytes, size_t size)
{
	struct world *world = world_new();
	int r = read_world(world, bytes, size);

	if (r < 0)
		topics_drop_image(world->topics);
	else
		topics_go_on(world->topics);
	relay_run(&world->relay, 10);
	world_free(world);
	return r;
}

TEST(a_topic_that_is_cut_is_refused)
{
	struct world *world = world_at_work(SHORT);
	size_t size;
	uint8_t *bytes = bytes_of(world, &size);

	image_write_seed("topic", bytes, size);
	for (size_t at = 0; at < size; at++)
		assert_true(read_bytes(bytes, at) < 0);
	free(bytes);
	world_free(world);
}

TEST(a_topic_with_another_byte_is_refused_or_harmless)
{
	struct world *world = world_at_work(SHORT);
	size_t size;
	uint8_t *bytes = bytes_of(world, &size);

	for (size_t i = 0; i < size; i++)
		for (unsigned bit = 0; bit < 8; bit += 7) {
			bytes[i] ^= (uint8_t)(1u << bit);
			read_bytes(bytes, size);
			bytes[i] ^= (uint8_t)(1u << bit);
		}
	assert_int_equal(read_bytes(bytes, size), 0);
	free(bytes);
	world_free(world);
}
