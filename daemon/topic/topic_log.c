/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/topic/topic_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/image.h"

#define PLACES_FIRST 16u
#define OVERHEAD     (sizeof(struct topic_entry) + 32) /* with malloc's, and the place in the ring */

struct topic_entry *topic_entry_new(uint32_t size)
{
	struct topic_entry *entry = malloc(sizeof(*entry) + size);

	if (!entry)
		return NULL;
	*entry = (struct topic_entry){.references = 1, .size = size};
	entry->bytes = entry->own;
	return entry;
}

struct topic_entry *topic_entry_share(struct topic_entry *entry)
{
	struct topic_entry *other = topic_entry_new(0);

	if (!other)
		return NULL;
	other->size = entry->size;
	other->bytes = entry->bytes;
	other->lender = topic_entry_ref(entry);
	return other;
}

void topic_entry_unref(struct topic_entry *entry)
{
	if (!entry || --entry->references)
		return;
	topic_origin_unref(entry->origin);
	topic_entry_unref(entry->lender);
	image_release(entry->pages);
	free(entry);
}

uint64_t topic_entry_cost(uint64_t size)
{
	return size + OVERHEAD;
}

void topic_origin_unref(struct topic_origin *origin)
{
	if (!origin || --origin->references)
		return;
	free(origin->domain_name);
	free(origin->host);
	free(origin);
}

void topic_log_init(struct topic_log *log, struct account *account, uint64_t bytes_most)
{
	*log = (struct topic_log){.bytes_most = bytes_most};
	charge_init(&log->charge, account);
}

static struct topic_entry **place(const struct topic_log *log, uint64_t index)
{
	return &log->entries[index & (log->places - 1)];
}

static void topic_log_release(struct topic_log *log, uint64_t size)
{
	log->bytes -= topic_entry_cost(size);
	charge_release(&log->charge, QUOTA_BYTES, topic_entry_cost(size));
}

static void drop_first(struct topic_log *log)
{
	struct topic_entry *entry = *place(log, log->first);

	log->first++;
	topic_log_release(log, entry->size);
	if (log->said == log->first)
		log->state = entry;
	else
		topic_entry_unref(entry);
}

void topic_log_free(struct topic_log *log)
{
	while (log->first < log->next)
		drop_first(log);
	topic_entry_unref(log->state);
	free(log->entries);
	charge_end(&log->charge);
	*log = (struct topic_log){.bytes_most = 0};
}

bool topic_log_drop(struct topic_log *log)
{
	if (log->first == log->next)
		return false;
	drop_first(log);
	return true;
}

int topic_log_reserve(struct topic_log *log, uint64_t size)
{
	uint64_t cost = topic_entry_cost(size);
	int dropped = 0;

	while (log->first < log->next &&
	       (log->bytes + cost > log->bytes_most || !charge_fits(&log->charge, QUOTA_BYTES, cost))) {
		drop_first(log);
		dropped++;
	}
	if (charge_add(&log->charge, QUOTA_BYTES, cost) < 0)
		return -ENOBUFS;
	log->bytes += cost;
	return dropped;
}

void topic_log_unreserve(struct topic_log *log, uint64_t size)
{
	topic_log_release(log, size);
}

static int topic_log_grow(struct topic_log *log)
{
	uint32_t places = log->places ? 2 * log->places : PLACES_FIRST;
	struct topic_entry **entries = malloc(places * sizeof(struct topic_entry *));

	if (!entries)
		return -ENOMEM;
	for (uint64_t i = log->first; i < log->next; i++)
		entries[i & (places - 1)] = *place(log, i);
	free(log->entries);
	log->entries = entries;
	log->places = places;
	return 0;
}

int topic_log_append(struct topic_log *log, struct topic_entry *entry)
{
	if (log->next - log->first == log->places && topic_log_grow(log) < 0)
		return -ENOMEM;
	entry->before = log->count;
	entry->unknown_before = log->unknown;
	entry->number = log->messages;
	log->count += entry->count;
	log->unknown += entry->unknown;
	log->messages += entry->is_notice ? 0 : topic_entry_messages(entry);
	*place(log, log->next++) = entry;
	if (entry->is_state) {
		log->said = log->next;
		topic_entry_unref(log->state);
		log->state = NULL;
	}
	return 0;
}

void topic_log_exceed(struct topic_log *log, uint64_t size)
{
	log->bytes += topic_entry_cost(size);
	charge_exceed(&log->charge, QUOTA_BYTES, topic_entry_cost(size));
}

int topic_log_restore(struct topic_log *log, struct topic_entry *entry)
{
	if (log->next - log->first == log->places && topic_log_grow(log) < 0)
		return -ENOMEM;
	topic_log_exceed(log, entry->size);
	*place(log, log->next++) = entry;
	return 0;
}

void topic_log_skip(struct topic_log *log, uint64_t count, bool unknown)
{
	log->count += count;
	log->unknown += unknown;
}

struct topic_position topic_log_end(const struct topic_log *log)
{
	return (struct topic_position){.index = log->next, .count = log->count, .unknown = log->unknown};
}

struct topic_entry *topic_log_at(const struct topic_log *log, uint64_t index)
{
	return *place(log, index);
}

struct topic_entry *topic_log_read(const struct topic_log *log, struct topic_position *position,
				   struct topic_missed *missed)
{
	struct topic_entry *entry = NULL;
	uint64_t count = log->count, unknown = log->unknown;

	if (topic_log_owes_state(log, position->index)) {
		entry = log->state;
		position->index = log->said;
	} else {
		if (position->index < log->first)
			position->index = log->first;
		if (position->index < log->next)
			entry = *place(log, position->index++);
	}
	if (entry) {
		count = entry->before;
		unknown = entry->unknown_before;
	}
	missed->count = count - position->count;
	missed->unknown = unknown > position->unknown;
	position->count = count + (entry ? entry->count : 0);
	position->unknown = unknown + (entry && entry->unknown);
	return entry;
}

static uint64_t number_at(const struct topic_log *log, uint64_t index)
{
	return index < log->next ? (*place(log, index))->number : log->messages;
}

uint64_t topic_log_waiting(const struct topic_log *log, uint64_t index)
{
	return log->messages - number_at(log, index);
}

uint64_t topic_log_find(const struct topic_log *log, uint64_t number)
{
	uint64_t from = log->first, to = log->next;

	while (from < to) {
		uint64_t middle = from + (to - from) / 2;

		if (number_at(log, middle) >= number)
			to = middle;
		else
			from = middle + 1;
	}
	return from;
}
