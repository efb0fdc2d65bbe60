/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/registry/changes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The place of a record, which has only one, by its last change. */
struct slot {
	uint64_t changed;
	struct record *record; /* NULL: it has changed since, or gone */
};

/* --- domains and records ---------------------------------------------------------------------- */

struct named_domain *named_new(struct changes *changes, struct named_domain **place, uint32_t domid,
			       const char *name)
{
	struct named_domain *domain = calloc(1, sizeof(*domain));

	if (!domain)
		return NULL;
	domain->domid = domid;
	domain->serial = ++changes->last_serial;
	snprintf(domain->name, sizeof(domain->name), "%s", name);
	domain->place = place;
	*place = domain;
	return domain;
}

void named_unlist(struct named_domain *domain)
{
	if (domain->place)
		*domain->place = NULL;
	domain->place = NULL;
}

void named_unref(struct named_domain *domain)
{
	while (domain && --domain->references == 0) {
		struct named_domain *before = domain->before;

		named_unlist(domain);
		free(domain);
		domain = before;
	}
}

struct named_domain *named_ref(struct named_domain *domain)
{
	if (domain)
		domain->references++;
	return domain;
}

void named_set_cut(struct changes *changes, struct named_domain *domain, bool is_cut)
{
	if (domain->is_cut == is_cut)
		return;
	domain->is_cut = is_cut;
	changes->cuts++;
	if (is_cut) {
		DL_APPEND(changes->cut, domain);
		named_ref(domain);
	} else {
		DL_DELETE(changes->cut, domain);
		named_unref(domain);
	}
}

struct record *record_find(const struct named_domain *domain, const char *text)
{
	struct record *record;

	if (!*text)
		return domain->self;
	HASH_FIND_STR(domain->names, text, record);
	return record;
}

struct record *record_new(struct changes *changes, struct named_domain *domain, const char *text)
{
	size_t size = strlen(text);
	struct record *record = calloc(1, sizeof(*record) + size + 1);

	if (!record)
		return NULL;
	memcpy(record->text, text, size + 1);
	record->size = size;
	if (size) {
		HASH_ADD_KEYPTR(hh, domain->names, record->text, size, record);
		if (!HASH_ADDED(record)) {
			free(record);
			return NULL;
		}
	} else {
		domain->self = record;
	}
	record->domain = named_ref(domain);
	record->slot = SIZE_MAX;
	changes->records++;
	changes->gone++;
	return record;
}

static void changes_record_free(struct changes *changes, struct record *record)
{
	struct named_domain *domain = record->domain;

	if (record->slot != SIZE_MAX)
		changes->slots[record->slot].record = NULL;
	if (record->size)
		HASH_DEL(domain->names, record);
	else
		domain->self = NULL;
	changes->records--;
	changes->gone -= !record->up;
	named_unref(record->to);
	named_unref(domain);
	free(record);
}

static bool changes_has_room(struct changes *changes)
{
	size_t capacity = changes->slots_capacity ? 2 * changes->slots_capacity : 64;
	struct slot *slots;

	if (changes->slots_used < changes->slots_capacity)
		return true;
	slots = realloc(changes->slots, capacity * sizeof(*slots));
	if (!slots)
		return false;
	changes->slots = slots;
	changes->slots_capacity = capacity;
	return true;
}

/* Moves the record to the end. When memory is short no watch is told. */
void record_move(struct changes *changes, struct record *record)
{
	uint64_t number = ++changes->last;

	record->changed = number;
	if (record->slot != SIZE_MAX)
		changes->slots[record->slot].record = NULL;
	record->slot = SIZE_MAX;
	if (!changes_has_room(changes))
		return;
	record->slot = changes->slots_used;
	changes->slots[changes->slots_used++] = (struct slot){number, record};
}

void record_change(struct changes *changes, struct record *record, bool up)
{
	uint64_t number;

	if (record->up == up)
		return;
	record_move(changes, record);
	number = record->changed;
	record->up = up;
	changes->gone += up ? (size_t)-1 : 1;
	if (!record->first)
		record->first = number;
	if (up && (record->born || !record->since)) /* else it was up before it was renamed */
		record->since = number;
	if (!record->born)
		record->born = number;
	if (!up)
		record->went = number;
}

/* --- in their order --------------------------------------------------------------------------- */

/* Returns the place of the first change after this one. */
static size_t slot_after(const struct changes *changes, uint64_t change)
{
	size_t low = 0, high = changes->slots_used;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (changes->slots[middle].changed <= change)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct record *changes_next(const struct changes *changes, uint64_t heard, uint64_t upto)
{
	for (size_t i = slot_after(changes, heard);
	     i < changes->slots_used && changes->slots[i].changed <= upto; i++)
		if (changes->slots[i].record)
			return changes->slots[i].record;
	return NULL;
}

bool changes_are_sparse(const struct changes *changes)
{
	return changes->slots_used > 2 * (changes->records - changes->gone) + 64;
}

/* Removes the empty places, too. */
void changes_forget(struct changes *changes, uint64_t heard)
{
	size_t used = 0;

	for (size_t i = 0; i < changes->slots_used; i++) {
		struct slot slot = changes->slots[i];

		if (!slot.record)
			continue;
		if (!slot.record->up && slot.changed <= heard) {
			changes_record_free(changes, slot.record);
			continue;
		}
		slot.record->slot = used;
		changes->slots[used++] = slot;
	}
	changes->slots_used = used;
}

uint64_t changes_until_gone(const struct changes *changes, size_t count)
{
	for (size_t i = 0; i < changes->slots_used; i++) {
		const struct slot *slot = &changes->slots[i];

		if (slot->record && !slot->record->up && --count == 0)
			return slot->changed;
	}
	return 0;
}

/* --- life ------------------------------------------------------------------------------------- */

void changes_destroy(struct changes *changes)
{
	for (size_t i = 0; i < changes->slots_used; i++)
		if (changes->slots[i].record)
			changes_record_free(changes, changes->slots[i].record);
	free(changes->slots);
}
