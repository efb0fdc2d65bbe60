/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Takes messages out of a stream, and makes those of our own. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "daemon/topic/topic_internal.h"
#include "wire/bytes.h"
#include "wire/ut.h"

/* --- who takes part, over a channel ------------------------------------------------------------ */

void participant_take(struct participant *participant, struct channel_end *end)
{
	participant->end = end;
	if (!end)
		return;
	end->participant = participant;
	inner_has(end);
}

struct channel_end *participant_leave(struct participant *participant)
{
	struct channel_end *end = participant->end;

	if (end)
		end->participant = NULL;
	participant->end = NULL;
	return end;
}

struct feed *topic_add_feed(struct topic *topic, struct channel_end *end)
{
	struct feed *feed = topic->feed_count < TOPIC_FEEDS ? calloc(1, sizeof(*feed)) : NULL;

	if (!feed)
		return NULL;
	topic->feed_count++;
	feed->participant = (struct participant){.kind = PARTICIPANT_FEED, .topic = topic};
	participant_take(&feed->participant, end);
	DL_APPEND(topic->feeds, feed);
	return feed;
}

void topic_remove_feed(struct feed *feed)
{
	struct topic *topic = feed->participant.topic;

	participant_leave(&feed->participant);
	ingest_drop(feed, &topic->log);
	DL_DELETE(topic->feeds, feed);
	topic->feed_count--;
	free(feed);
}

/* --- messages ---------------------------------------------------------------------------------- */

/* Throws away what has come of a message for which there is no room. */
static int skip(struct feed *feed)
{
	struct channel_end *end = feed->participant.end;
	size_t length = channel_queued(end);

	if (length > feed->left)
		length = (size_t)feed->left;
	evbuffer_drain(end->queue, length);
	feed->left -= length;
	feed->skips = feed->left > 0;
	inner_taken(end, length);
	return feed->skips ? 0 : 2;
}

/* Begins with the message whose head has come. 0, or as ingest(). */
static int topic_ingest_begin(struct feed *feed, struct topic_log *log, uint64_t most)
{
	uint8_t head[MESSAGE_HEAD_SIZE];
	uint64_t size;
	int r;

	if (evbuffer_copyout(feed->participant.end->queue, head, sizeof(head)) != sizeof(head))
		return -EPROTO;
	size = get_u32(head);
	if (size > most + (head[4] & MESSAGE_PROPERTIES ? PROPERTIES_MAX : 0))
		return -EMSGSIZE;
	size = message_span(size);
	r = topic_log_reserve(log, size);
	if (r >= 0)
		feed->part = topic_entry_new((uint32_t)size);
	if (r >= 0 && !feed->part) {
		topic_log_unreserve(log, size);
		r = -ENOMEM;
	}
	/* A replica goes on behind a message, and says so; but it can't do without what may be a notice. A
	 * publisher is told. */
	if (r < 0 && !(feed->participant.topic->is_replica && size > message_span(NOTICE_BLOCK)))
		return r;
	feed->at = 0;
	feed->left = size;
	feed->skips = r < 0;
	return 0;
}

int ingest(struct feed *feed, struct topic_log *log, uint64_t most, struct topic_entry **entry)
{
	struct channel_end *end = feed->participant.end;
	size_t length = channel_queued(end), taken;
	int r;

	if (!length)
		return 0;
	if (!feed->part && !feed->skips) {
		r = topic_ingest_begin(feed, log, most);
		if (r < 0)
			return r;
	}
	if (feed->skips)
		return skip(feed);
	if (length > feed->part->size - feed->at)
		length = feed->part->size - feed->at;
	taken = (size_t)evbuffer_remove(end->queue, feed->part->bytes + feed->at, length);
	feed->at += (uint32_t)taken;
	inner_taken(end, taken);
	if (feed->at < feed->part->size)
		return 0;
	*entry = feed->part;
	feed->part = NULL;
	return 1;
}

/* Returns how many messages there are at the beginning of these bytes that are whole and nothing but a
 * payload, and in *size what they have together. */
static uint32_t count_plain(const uint8_t *bytes, uint32_t length, uint64_t most, uint32_t *size)
{
	uint32_t count = 0, at = 0;

	while (length - at >= MESSAGE_HEAD_SIZE + MESSAGE_TRAILER_SIZE) {
		uint32_t payload = get_u32(bytes + at);
		uint64_t end = at + message_span(payload);

		if (payload > most || bytes[at + 4] != MESSAGE_PLAIN || end > length ||
		    get_u32(bytes + end - MESSAGE_TRAILER_SIZE) != MESSAGE_SENT)
			break;
		at = (uint32_t)end;
		count++;
	}
	*size = at;
	return count;
}

/* Whether it may be that several messages have come that fit into a run. */
static bool may_be_run(struct channel_end *end)
{
	uint8_t head[MESSAGE_HEAD_SIZE];

	return evbuffer_copyout(end->queue, head, sizeof(head)) == sizeof(head) && head[4] == MESSAGE_PLAIN &&
	       message_span(get_u32(head)) < TOPIC_RUN_MOST &&
	       message_span(get_u32(head)) < channel_queued(end);
}

/* Returns how many messages these bytes are and nothing else: one, or if it may be, several that fit into a
 * run; 0: they aren't. */
static uint32_t count_whole(const struct topic_entry *entry, uint64_t most, bool may_be_run)
{
	uint32_t payload = get_u32(entry->bytes), count, size;

	if (message_span(payload) == entry->size)
		return payload <= most;
	if (!may_be_run || entry->size > TOPIC_RUN_MOST)
		return 0;
	count = count_plain(entry->bytes, entry->size, most, &size);
	return size == entry->size ? count : 0;
}

struct topic_entry *ingest_given(struct feed *feed, struct topic_log *log, uint64_t most, bool may_be_run)
{
	struct channel_end *end = feed->participant.end;
	struct topic_entry *entry = feed->given;
	struct evbuffer_iovec first;
	uint32_t count;

	if (!entry || feed->part || feed->skips || evbuffer_peek(end->queue, 1, NULL, &first, 1) < 1 ||
	    first.iov_base != entry->bytes || first.iov_len != entry->size)
		return NULL;
	count = count_whole(entry, most, may_be_run);
	if (!count || topic_log_reserve(log, entry->size) < 0)
		return NULL;
	topic_entry_ref(entry);
	entry->count = count > 1 ? count : 0; /* of one it depends on what it is */
	evbuffer_drain(end->queue, entry->size);
	switch_spend(feed->participant.topic->topics->with.board, end->channel->charge.account, count / 4);
	inner_taken_over(end, entry->size);
	return entry;
}

/* All that waited in this entry was taken, or the queue is gone. */
static void topic_ingest_release(const void *bytes, size_t length, void *userdata)
{
	struct topic_entry *entry = userdata;

	if (entry->waits_at)
		DL_DELETE(entry->waits_at->given, entry);
	entry->waits_at = NULL;
	topic_entry_unref(entry);
}

bool ingest_give(struct feed *feed, struct topic_entry *entry, struct hop_memory *memory)
{
	if (!entry)
		return false;
	entry->waits_at = feed;
	DL_APPEND(feed->given, entry);
	*memory = (struct hop_memory){entry->bytes, topic_ingest_release, entry};
	return true;
}

struct topic_entry *ingest_run(struct feed *feed, struct topic_log *log, uint64_t most)
{
	struct channel_end *end = feed->participant.end;
	size_t length = channel_queued(end);
	struct topic_entry *entry, *cut;
	uint32_t count, size;

	if (feed->part || feed->skips || !may_be_run(end))
		return NULL;
	if (length > TOPIC_RUN_MOST)
		length = TOPIC_RUN_MOST;
	entry = topic_entry_new((uint32_t)length);
	if (!entry)
		return NULL;
	evbuffer_copyout(end->queue, entry->bytes, length);
	count = count_plain(entry->bytes, (uint32_t)length, most, &size);
	cut = count > 1 ? realloc(entry, sizeof(*entry) + size) : NULL;
	if (!cut || topic_log_reserve(log, size) < 0) {
		topic_entry_unref(cut ? cut : entry);
		return NULL;
	}
	cut->bytes = cut->own;
	cut->size = size;
	cut->count = count;
	evbuffer_drain(end->queue, size);
	switch_spend(feed->participant.topic->topics->with.board, end->channel->charge.account, count / 4);
	inner_taken(end, size);
	return cut;
}

void ingest_drop(struct feed *feed, struct topic_log *log)
{
	struct topic_entry *given;

	DL_FOREACH(feed->given, given) /* which are released with the queue */
		given->waits_at = NULL;
	feed->given = NULL;
	if (feed->part)
		topic_log_unreserve(log, feed->part->size);
	topic_entry_unref(feed->part);
	feed->part = NULL;
}

int ingest_check(const struct topic_entry *entry, struct properties *properties)
{
	uint8_t type = entry->bytes[4];
	uint32_t size = get_u32(entry->bytes);
	int r;

	*properties = (struct properties){.has_deadline = false};
	if (!(type & MESSAGE_PROPERTIES))
		return type;
	r = properties_read(entry->bytes + MESSAGE_HEAD_SIZE, size, properties);
	return r < 0 ? r : type & ~MESSAGE_PROPERTIES;
}

int ingest_request(struct channel_end *end, uint32_t *listeners)
{
	uint8_t head[MESSAGE_HEAD_SIZE];
	struct properties properties;
	struct topic_entry *entry;
	uint64_t size;
	bool is_one;

	if (evbuffer_copyout(end->queue, head, sizeof(head)) != sizeof(head))
		return -EPROTOTYPE; /* frames carry multiples of 8 bytes */
	size = get_u32(head);
	if (size > PROPERTIES_MAX)
		return -EPROTOTYPE;
	size = message_span(size);
	if (channel_queued(end) < size)
		return 0;
	entry = topic_entry_new((uint32_t)size);
	if (!entry)
		return -ENOMEM;
	evbuffer_copyout(end->queue, entry->bytes, size);
	is_one = ingest_check(entry, &properties) == MESSAGE_REQUEST && properties.subscribes &&
		 !ingest_is_cancelled(entry);
	topic_entry_unref(entry);
	if (!is_one)
		return -EPROTOTYPE;
	*listeners = properties.listeners;
	evbuffer_drain(end->queue, size);
	inner_taken(end, size);
	return 1;
}

bool ingest_is_cancelled(const struct topic_entry *entry)
{
	return get_u32(entry->bytes + entry->size - MESSAGE_TRAILER_SIZE) != MESSAGE_SENT;
}

bool ingest_is_empty(const struct topic_entry *entry)
{
	uint32_t size = get_u32(entry->bytes);

	return !size || ((entry->bytes[4] & MESSAGE_PROPERTIES) &&
			 properties_length(entry->bytes + MESSAGE_HEAD_SIZE, size) == (int)size);
}

static struct topic_entry *topic_ingest_say(enum message_type type, const struct properties *properties)
{
	uint8_t block[PROPERTIES_WRITE];
	uint32_t size = properties_encode(properties, block);
	struct topic_entry *entry = topic_entry_new((uint32_t)message_span(size));

	if (!entry)
		return NULL;
	entry->is_notice = type == MESSAGE_PLAIN;
	memset(entry->bytes, 0, entry->size);
	put_u32(entry->bytes, size);
	entry->bytes[4] = (uint8_t)(type | MESSAGE_PROPERTIES);
	memcpy(entry->bytes + MESSAGE_HEAD_SIZE, block, size);
	return entry;
}

struct topic_entry *notice_new(enum notice_kind kind, uint64_t count, uint8_t flags, uint32_t error)
{
	const struct properties properties = {
		.notice = {.kind = (uint8_t)kind, .flags = flags, .error = error, .count = count}};

	return topic_ingest_say(MESSAGE_PLAIN, &properties);
}

struct topic_entry *subscription_new(uint32_t listeners)
{
	const struct properties properties = {.subscribes = true, .listeners = listeners};
	struct topic_entry *entry = topic_ingest_say(MESSAGE_REQUEST, &properties);

	if (entry)
		put_u32(entry->bytes + entry->size - 4, 1); /* the number of the call */
	return entry;
}
