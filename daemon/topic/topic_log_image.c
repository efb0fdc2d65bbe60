/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The log of a topic, and what it keeps, in the image that a daemon hands over (base/image.h). Entries and
 * origins are shared by both, and by subscribers in the midst of one: each is written where it is met first,
 * and is a number from then on. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/image.h"
#include "daemon/topic/topic_internal.h"
#include "wire/bytes.h"

#define STAYS 4096u /* bytes that aren't copied */

/* --- what is shared --------------------------------------------------------------------------- */

/* Makes room for one more, where there are so many. */
static bool topic_log_image_has_room(void ***table, uint32_t count)
{
	void **larger;

	if (count & (count - 1)) /* it grows at powers of two */
		return true;
	larger = realloc(*table, (count ? 2 * (size_t)count : 1) * sizeof(void *));
	if (larger)
		*table = larger;
	return larger;
}

static void origin_fields(struct image *image, struct topic_origin *origin)
{
	image_u32(image, &origin->domid);
	image_u32(image, &origin->uid);
	image_u32(image, &origin->gid);
	image_u32(image, &origin->pid);
	image_string(image, &origin->domain_name, DOMAIN_NAME_MAX);
	image_string(image, &origin->host, HOST_NAME_SIZE - 1);
	image_u32(image, &origin->version);
}

static bool add_origin(struct topic_in_image *all, struct topic_origin *origin)
{
	if (!topic_log_image_has_room(&all->origins, all->origin_count))
		return false;
	origin->in_image = all->origin_count;
	all->origins[all->origin_count++] = topic_origin_ref(origin);
	return true;
}

/* By number; 0: none; one behind the last: it follows. */
void topic_origin_image(struct image *image, struct topic *topic, struct topic_origin **origin)
{
	struct topic_in_image *all = &topic->in_image;
	const struct topic_origin *had = image->is_read ? NULL : *origin;
	bool is_known = had && had->in_image < all->origin_count && all->origins[had->in_image] == had;
	uint32_t number = !had ? 0 : is_known ? had->in_image + 1 : all->origin_count + 1;

	if (image->is_read)
		*origin = NULL;
	image_upto(image, &number, all->origin_count + 1);
	if (image->error || !number)
		return;
	if (number <= all->origin_count) {
		if (image->is_read)
			*origin = topic_origin_ref(all->origins[number - 1]);
		return;
	}
	if (image->is_read && (*origin = calloc(1, sizeof(**origin))))
		(*origin)->references = 1;
	if (!*origin || !add_origin(all, *origin)) {
		image_fail(image, -ENOMEM);
		return;
	}
	origin_fields(image, *origin);
}

/* Returns how many messages the bytes are, as others take them; 0: they aren't. */
static uint64_t messages_in(const uint8_t *bytes, uint32_t size)
{
	uint64_t count = 0, span = 0;

	while (size >= MESSAGE_HEAD_SIZE + MESSAGE_TRAILER_SIZE &&
	       (span = message_span(get_u32(bytes))) <= size) {
		bytes += span;
		size -= (uint32_t)span;
		count++;
	}
	return size ? 0 : count;
}

/* Much stays where it is in the image, and is copied by nobody while everybody waits. */
static struct topic_entry *read_entry(struct image *image, const struct image_bytes *bytes)
{
	bool stays = bytes->size >= STAYS;
	struct topic_entry *entry = topic_entry_new(stays ? 0 : bytes->size);

	if (!entry)
		return NULL;
	if (stays) {
		entry->size = bytes->size;
		entry->bytes = (uint8_t *)(uintptr_t)bytes->data;
		entry->pages = image_hold(image);
	} else {
		memcpy(entry->bytes, bytes->data, bytes->size);
	}
	return entry;
}

static void entry_fields(struct image *image, struct topic *topic, struct topic_entry **made)
{
	struct image_bytes bytes = {0};
	struct topic_entry *entry = *made;

	if (entry)
		bytes = (struct image_bytes){entry->bytes, entry->size};
	image_bytes_at(image, &bytes, UINT32_MAX, entry ? &entry->place : NULL);
	image_expect(image, messages_in(bytes.data, bytes.size) > 0);
	if (image->error)
		return;
	if (image->is_read) {
		entry = *made = read_entry(image, &bytes);
		if (!entry) {
			image_fail(image, -ENOMEM);
			return;
		}
	}
	image_u64(image, &entry->count);
	image_bool(image, &entry->unknown);
	image_bool(image, &entry->is_apart);
	image_bool(image, &entry->is_notice);
	image_bool(image, &entry->is_state);
	image_u64(image, &entry->before);
	image_u64(image, &entry->unknown_before);
	image_u64(image, &entry->number);
	image_expect(image, entry->count <= TOPIC_COUNT_MAX && entry->before <= TOPIC_COUNT_MAX &&
				    messages_in(entry->bytes, entry->size) == topic_entry_messages(entry));
	topic_origin_image(image, topic, &entry->origin);
}

static bool topic_log_add_entry(struct topic_in_image *all, struct topic_entry *entry)
{
	if (!topic_log_image_has_room(&all->entries, all->entry_count))
		return false;
	entry->in_image = all->entry_count;
	all->entries[all->entry_count++] = topic_entry_ref(entry);
	return true;
}

void topic_entry_image(struct image *image, struct topic *topic, struct topic_entry **entry)
{
	struct topic_in_image *all = &topic->in_image;
	const struct topic_entry *had = image->is_read ? NULL : *entry;
	bool is_known = had && had->in_image < all->entry_count && all->entries[had->in_image] == had;
	uint32_t number = !had ? 0 : is_known ? had->in_image + 1 : all->entry_count + 1;

	if (image->is_read)
		*entry = NULL;
	image_upto(image, &number, all->entry_count + 1);
	if (image->error || !number)
		return;
	if (number <= all->entry_count) {
		if (image->is_read)
			*entry = topic_entry_ref(all->entries[number - 1]);
		return;
	}
	entry_fields(image, topic, entry);
	if (*entry && !topic_log_add_entry(all, *entry))
		image_fail(image, -ENOMEM);
}

void topic_leave_image(struct topic *topic)
{
	struct topic_in_image *all = &topic->in_image;

	for (uint32_t i = 0; i < all->entry_count; i++)
		topic_entry_unref(all->entries[i]);
	for (uint32_t i = 0; i < all->origin_count; i++)
		topic_origin_unref(all->origins[i]);
	free(all->entries);
	free(all->origins);
	*all = (struct topic_in_image){0};
}

/* Shelves the bytes of an entry, if they are many. Returns how many it has written. */
static uint64_t shelve(struct image_shelf *shelf, struct topic_entry *entry)
{
	if (entry->size < STAYS || entry->place.shelf == shelf->number)
		return 0;
	return image_shelve(shelf, entry->bytes, entry->size, &entry->place) < 0 ? 0 : entry->size;
}

uint64_t topic_shelve(struct topic *topic, struct image_shelf *shelf, uint64_t most)
{
	const struct topic_log *log = &topic->log;
	struct topic_entry *entry;
	uint64_t done = 0, at = 0;

	for (uint64_t i = log->first; i < log->next && done < most; i++)
		done += shelve(shelf, topic_log_at(log, i));
	while (done < most && (entry = topic_kept_next(&topic->kept, &at, UINT64_MAX)))
		done += shelve(shelf, entry);
	return done;
}

/* --- the log, and what is kept ---------------------------------------------------------------- */

static uint64_t number_behind(const struct topic_entry *entry)
{
	return entry->number + (entry->is_notice ? 0 : topic_entry_messages(entry));
}

/* Whether an entry may come behind another one. */
static bool follows(const struct topic_entry *entry, const struct topic_entry *before)
{
	return !before || (entry->before >= before->before + before->count &&
			   entry->unknown_before >= before->unknown_before + before->unknown &&
			   entry->number == number_behind(before));
}

/* The entries from log->first up to `next`. */
static void entries_image(struct image *image, struct topic *topic, uint64_t next)
{
	struct topic_log *log = &topic->log;
	const struct topic_entry *before = NULL;

	for (uint64_t i = log->first; i < next && !image->error; i++) {
		struct topic_entry *entry = image->is_read ? NULL : topic_log_at(log, i);

		topic_entry_image(image, topic, &entry);
		image_expect(image, entry && follows(entry, before));
		before = entry;
		if (!image->is_read || !entry)
			continue;
		if (topic_log_restore(log, entry) < 0) {
			topic_entry_unref(entry);
			image_fail(image, -ENOMEM);
		}
	}
	image_expect(image, !before || (log->count >= before->before + before->count &&
					log->unknown >= before->unknown_before + before->unknown &&
					log->messages == number_behind(before)));
}

/* The last state, if the log has dropped it. */
static void state_image(struct image *image, struct topic *topic)
{
	struct topic_log *log = &topic->log;

	topic_entry_image(image, topic, &log->state);
	image_expect(image, !log->state == (!log->said || log->said > log->first));
	image_expect(image, !log->state || (log->state->is_state && log->state->before <= log->count &&
					    log->state->unknown_before <= log->unknown));
}

void topic_log_image(struct image *image, struct topic *topic)
{
	struct topic_log *log = &topic->log;
	uint64_t next = log->next;

	image_u64(image, &log->first);
	image_u64(image, &next);
	image_u64(image, &log->count);
	image_u64(image, &log->unknown);
	image_u64(image, &log->messages);
	image_u64(image, &log->said);
	image_expect(image, log->first <= next && log->said <= next && log->count <= TOPIC_COUNT_MAX);
	state_image(image, topic);
	if (image->is_read)
		log->next = log->first;
	entries_image(image, topic, next);
}

/* Reads one that is kept, whose key it has itself. */
static void restore_kept(struct image *image, struct topic *topic, struct topic_entry *entry, uint64_t number)
{
	struct properties properties;
	int r = entry && ingest_check(entry, &properties) >= 0
			? topic_kept_restore(&topic->kept, properties.key, entry, number)
			: -EINVAL;

	if (r < 0)
		image_fail(image, r);
}

void topic_kept_image(struct image *image, struct topic *topic)
{
	struct topic_kept *kept = &topic->kept;
	uint32_t capacity = kept->capacity, count = kept->count;
	uint64_t last = kept->last, at = 0;
	uint64_t evicted = kept->evicted;
	bool is_incomplete = kept->is_incomplete;

	image_upto(image, &capacity, TOPIC_KEYS_MOST);
	image_u64(image, &last);
	image_u64(image, &evicted);
	image_bool(image, &is_incomplete);
	image_upto(image, &count, capacity);
	if (image->is_read)
		topic_kept_begin(kept, capacity);
	for (uint32_t i = 0; i < count && !image->error; i++) {
		struct topic_entry *entry = image->is_read ? NULL : topic_kept_next(kept, &at, UINT64_MAX);

		image_u64(image, &at);
		topic_entry_image(image, topic, &entry);
		if (!image->is_read)
			continue;
		restore_kept(image, topic, entry, at);
		topic_entry_unref(entry);
	}
	image_expect(image, at <= last && evicted <= last);
	kept->last = last;
	kept->evicted = evicted;
	kept->is_incomplete |= is_incomplete;
}
