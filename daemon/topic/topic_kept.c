/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/topic/topic_kept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/ut.h"

/* with malloc's, four places among the values, and what it is found by */
#define OVERHEAD     (sizeof(struct kept_value) + 32 + 4 * sizeof(struct kept_value *) + 16)
#define PLACES_FIRST 8u

struct kept_value {
	uint64_t number;
	struct topic_entry *entry;
	UT_hash_handle hh;
	size_t key_size;
	char key[];
};

static uint64_t cost_of(const struct kept_value *value)
{
	return topic_entry_cost(value->entry->size) + OVERHEAD + value->key_size;
}

void topic_kept_init(struct topic_kept *kept, struct account *account)
{
	*kept = (struct topic_kept){.count = 0};
	charge_init(&kept->charge, account);
}

/* Returns where the first one is whose number is above this. */
static unsigned place_behind(const struct topic_kept *kept, uint64_t number)
{
	unsigned from = 0, to = kept->count;

	while (from < to) {
		unsigned middle = (from + to) / 2;

		if (kept->values[middle]->number > number)
			to = middle;
		else
			from = middle + 1;
	}
	return from;
}

/* -ENOMEM. */
static int set_places(struct topic_kept *kept, unsigned places)
{
	struct kept_value **values = reallocarray(kept->values, places, sizeof(struct kept_value *));

	if (!values)
		return -ENOMEM;
	kept->values = values;
	kept->places = places;
	return 0;
}

/* Makes a place for one more. There are at most four for each value, which pays for them. -ENOMEM. */
static int make_place(struct topic_kept *kept)
{
	return kept->count < kept->places ? 0
					  : set_places(kept, kept->places ? 2 * kept->places : PLACES_FIRST);
}

static void remove_value(struct topic_kept *kept, struct kept_value *value)
{
	unsigned place = place_behind(kept, value->number) - 1;

	kept->count--;
	memmove(&kept->values[place], &kept->values[place + 1],
		(kept->count - place) * sizeof(struct kept_value *));
	if (kept->places > PLACES_FIRST && kept->count < kept->places / 4)
		set_places(kept, kept->places / 2);
	HASH_DEL(kept->by_key, value);
	charge_release(&kept->charge, QUOTA_BYTES, cost_of(value));
	account_note_kept(kept->charge.account, -(int64_t)cost_of(value));
	topic_entry_unref(value->entry);
	free(value);
}

/* Removes one that nothing replaces. */
static void evict(struct topic_kept *kept, struct kept_value *value)
{
	if (kept->evicted < value->number)
		kept->evicted = value->number;
	remove_value(kept, value);
}

void topic_kept_lack(struct topic_kept *kept)
{
	kept->is_incomplete = true;
	kept->evicted = ++kept->last;
}

void topic_kept_begin(struct topic_kept *kept, unsigned capacity)
{
	while (kept->count)
		evict(kept, kept->values[kept->count - 1]);
	kept->is_incomplete = false;
	free(kept->values);
	kept->values = NULL;
	kept->places = 0;
	kept->capacity = capacity;
}

void topic_kept_end(struct topic_kept *kept)
{
	topic_kept_begin(kept, 0);
	charge_end(&kept->charge);
}

/* Enters another one, with its place. NULL: no memory. */
static struct kept_value *new_value(struct topic_kept *kept, struct frame_text key, struct topic_entry *entry)
{
	struct kept_value *value = make_place(kept) == 0 ? calloc(1, sizeof(*value) + key.size) : NULL;

	if (!value)
		return NULL;
	value->key_size = key.size;
	if (key.size)
		memcpy(value->key, key.data, key.size);
	HASH_ADD(hh, kept->by_key, key, value->key_size, value);
	if (!HASH_ADDED(value)) {
		free(value);
		return NULL;
	}
	value->entry = topic_entry_ref(entry);
	return value;
}

/* Whether the account may keep so much more: all its topics together keep at most half of what it may have,
 * so the rest is left to calls and streams. */
static bool has_room(const struct topic_kept *kept, uint64_t cost)
{
	const struct account *account = kept->charge.account;
	const struct quota_usage usage = account_usage(account, QUOTA_BYTES);

	return !account || (cost <= usage.available &&
			    account_kept(account) + cost <= (usage.used + usage.available) / 2);
}

static void charge_kept(struct topic_kept *kept, uint64_t cost)
{
	charge_exceed(&kept->charge, QUOTA_BYTES, cost);
	account_note_kept(kept->charge.account, (int64_t)cost);
}

/* Has the account pay for one more. The last message has had room when it came, so it is kept in any case. */
static void topic_kept_pay(struct topic_kept *kept, uint64_t cost)
{
	while (kept->count && !has_room(kept, cost)) {
		evict(kept, kept->values[0]);
		kept->is_incomplete = true;
	}
	charge_kept(kept, cost);
}

static void topic_kept_append(struct topic_kept *kept, struct kept_value *value, uint64_t number)
{
	value->number = number;
	kept->values[kept->count++] = value;
}

void topic_kept_put(struct topic_kept *kept, struct frame_text key, struct topic_entry *entry, bool is_empty)
{
	struct kept_value *value;

	if (!kept->capacity)
		return;
	if (!key.size)
		key.data = ""; /* which may be compared */
	HASH_FIND(hh, kept->by_key, key.data, key.size, value);
	if (value)
		remove_value(kept, value);
	if (is_empty && key.size)
		return;
	value = new_value(kept, key, entry);
	if (!value) {
		topic_kept_lack(kept);
		return;
	}
	if (kept->count == kept->capacity)
		evict(kept, kept->values[0]);
	topic_kept_pay(kept, cost_of(value));
	topic_kept_append(kept, value, ++kept->last);
	if (kept->capacity == 1) /* whatever was before, this is the last one */
		kept->is_incomplete = false;
}

int topic_kept_restore(struct topic_kept *kept, struct frame_text key, struct topic_entry *entry,
		       uint64_t number)
{
	struct kept_value *value;

	if (!key.size)
		key.data = "";
	HASH_FIND(hh, kept->by_key, key.data, key.size, value);
	if (value || kept->count == kept->capacity ||
	    (kept->count && kept->values[kept->count - 1]->number >= number))
		return -EINVAL;
	value = new_value(kept, key, entry);
	if (!value)
		return -ENOMEM;
	charge_kept(kept, cost_of(value));
	topic_kept_append(kept, value, number);
	return 0;
}

struct topic_entry *topic_kept_next(const struct topic_kept *kept, uint64_t *at, uint64_t last)
{
	unsigned place = place_behind(kept, *at);

	if (place == kept->count || kept->values[place]->number > last)
		return NULL;
	*at = kept->values[place]->number;
	return kept->values[place]->entry;
}
