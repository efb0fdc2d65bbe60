/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local/changes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/self.h"
#include "daemon/peers/directory.h"

/* The place of a record, which has only one, by its last change. */
struct slot {
	uint64_t changed;
	struct record *record; /* NULL: it has changed since, or gone */
};

/* --- domains and records ---------------------------------------------------------------------- */

static struct named_domain *domain_new(struct changes *changes, uint32_t domid, const char *name)
{
	struct named_domain *domain = calloc(1, sizeof(*domain));

	if (!domain)
		return NULL;
	domain->domid = domid;
	domain->is_own = domid == changes->self->domid;
	domain->is_listed = true;
	domain->serial = ++changes->last_serial;
	snprintf(domain->name, sizeof(domain->name), "%s", name);
	HASH_ADD(hh, changes->domains, domid, sizeof(domain->domid), domain);
	return domain;
}

static struct named_domain *domain_find(const struct changes *changes, uint32_t domid)
{
	struct named_domain *domain;

	HASH_FIND(hh, changes->domains, &domid, sizeof(domid), domain);
	return domain;
}

static struct named_domain *domain_get(struct changes *changes, uint32_t domid)
{
	struct named_domain *domain = domain_find(changes, domid);

	return domain ? domain : domain_new(changes, domid, directory_name(changes->directory, domid));
}

static void domain_unlist(struct changes *changes, struct named_domain *domain)
{
	if (domain->is_listed)
		HASH_DEL(changes->domains, domain);
	domain->is_listed = false;
}

static void domain_unref(struct changes *changes, struct named_domain *domain)
{
	while (domain && --domain->references == 0) {
		struct named_domain *before = domain->before;

		domain_unlist(changes, domain);
		free(domain);
		domain = before;
	}
}

static struct named_domain *domain_ref(struct named_domain *domain)
{
	if (domain)
		domain->references++;
	return domain;
}

static struct record *record_find(const struct named_domain *domain, const char *text)
{
	struct record *record;

	if (!*text)
		return domain->self;
	HASH_FIND_STR(domain->names, text, record);
	return record;
}

/* Makes a record of something that isn't there yet. */
static struct record *record_new(struct changes *changes, struct named_domain *domain, const char *text)
{
	size_t size = strlen(text);
	struct record *record = calloc(1, sizeof(*record) + size + 1);

	if (!record)
		return NULL;
	memcpy(record->text, text, size + 1);
	record->size = size;
	record->domain = domain_ref(domain);
	record->slot = SIZE_MAX;
	if (size)
		HASH_ADD_KEYPTR(hh, domain->names, record->text, size, record);
	else
		domain->self = record;
	changes->records++;
	changes->gone++;
	return record;
}

static void record_free(struct changes *changes, struct record *record)
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
	domain_unref(changes, record->to);
	domain_unref(changes, domain);
	free(record);
}

static bool has_room(struct changes *changes)
{
	size_t room = changes->slots_room ? 2 * changes->slots_room : 64;
	struct slot *slots;

	if (changes->slots_used < changes->slots_room)
		return true;
	slots = realloc(changes->slots, room * sizeof(*slots));
	if (!slots)
		return false;
	changes->slots = slots;
	changes->slots_room = room;
	return true;
}

/* Moves the record to the end. When memory is short no watch is told. */
static void record_move(struct changes *changes, struct record *record)
{
	uint64_t number = ++changes->last;

	record->changed = number;
	if (record->slot != SIZE_MAX)
		changes->slots[record->slot].record = NULL;
	record->slot = SIZE_MAX;
	if (!has_room(changes))
		return;
	record->slot = changes->slots_used;
	changes->slots[changes->slots_used++] = (struct slot){number, record};
}

/* Notes that the thing comes or goes. */
static void record_change(struct changes *changes, struct record *record, bool up)
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
void changes_forget(struct changes *changes, uint64_t heard, uint64_t known)
{
	struct named_domain *domain;
	size_t used = 0;

	for (domain = changes->domains; domain; domain = domain->hh.next) {
		if (domain->began >= known)
			continue;
		domain_unref(changes, domain->before);
		domain->before = NULL;
	}

	for (size_t i = 0; i < changes->slots_used; i++) {
		struct slot slot = changes->slots[i];

		if (!slot.record)
			continue;
		if (!slot.record->up && slot.changed <= heard) {
			record_free(changes, slot.record);
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

/* --- what comes and goes ---------------------------------------------------------------------- */

static void set_up(struct changes *changes, struct named_domain *domain, const char *text)
{
	struct record *record = record_find(domain, text);

	if (!record)
		record = record_new(changes, domain, text);
	if (!record)
		return;
	record_change(changes, record, true);
	record->seen = true;
}

/* Notes that the domain and its endpoints go, endpoints first. */
static void set_all_down(struct changes *changes, struct named_domain *domain)
{
	struct record *record;

	for (record = domain->names; record; record = record->hh.next)
		record_change(changes, record, false);
	if (domain->self)
		record_change(changes, domain->self, false);
	domain->away = false;
}

/* Frees a domain of which nothing was recorded, as for lack of memory. */
static void domain_put(struct changes *changes, struct named_domain *domain)
{
	domain->references++;
	domain_unref(changes, domain);
}

void changes_domain(struct changes *changes, uint32_t domid, bool up)
{
	struct named_domain *domain = up ? domain_get(changes, domid) : domain_find(changes, domid);

	if (!domain)
		return;
	if (up)
		set_up(changes, domain, "");
	else
		set_all_down(changes, domain);
	domain_put(changes, domain);
}

void changes_away(struct changes *changes, uint32_t domid, bool away)
{
	struct named_domain *domain = domain_find(changes, domid);

	if (!domain || domain->away == away)
		return;
	domain->away = away;
	if (domain->self && domain->self->up)
		record_move(changes, domain->self);
}

void changes_endpoints(struct changes *changes, uint32_t domid, const char *const *names, unsigned count)
{
	struct named_domain *domain = count ? domain_get(changes, domid) : domain_find(changes, domid);
	struct record *record;

	if (!domain)
		return;
	for (record = domain->names; record; record = record->hh.next)
		record->seen = false;
	for (unsigned i = 0; i < count; i++)
		set_up(changes, domain, names[i]);
	for (record = domain->names; record; record = record->hh.next)
		if (!record->seen)
			record_change(changes, record, false);
	domain_put(changes, domain);
}

void changes_endpoint(struct changes *changes, uint32_t domid, const char *text, bool up)
{
	struct named_domain *domain = up ? domain_get(changes, domid) : domain_find(changes, domid);
	struct record *record;

	if (!domain)
		return;
	if (up)
		set_up(changes, domain, text);
	else if ((record = record_find(domain, text)) != NULL)
		record_change(changes, record, false);
	domain_put(changes, domain);
}

/* Takes down the domain `before` with all of its endpoints, and puts them up again under `after`; `renamed`:
 * it is the same domain. `after` is NULL when memory is short: they only go. */
static void replace(struct changes *changes, struct named_domain *before, struct named_domain *after,
		    bool renamed)
{
	struct record *record, *self = before->self && before->self->up ? before->self : NULL;
	struct record **names = after ? calloc(HASH_COUNT(before->names) + 1, sizeof(*names)) : NULL;
	unsigned count = 0;

	for (record = before->names; names && record; record = record->hh.next)
		if (record->up)
			names[count++] = record;
	if (names && self)
		names[count++] = self; /* goes last, and comes first */
	set_all_down(changes, before);
	for (unsigned i = 0; i < count; i++) {
		struct record *old = names[self ? (i + count - 1) % count : i];
		struct record *new = record_find(after, old->text);

		if (!new)
			new = record_new(changes, after, old->text);
		if (!new)
			continue;
		if (renamed) {
			old->to = domain_ref(after);
			new->since = old->since;
			new->first = old->first;
		}
		record_change(changes, new, true);
	}
	free(names);
	if (after)
		domain_put(changes, after);
}

void changes_restart(struct changes *changes)
{
	struct named_domain *before = changes->domains, *after;

	while (before && !before->is_own)
		before = before->hh.next;
	if (!before)
		return;
	domain_unlist(changes, domain_ref(before));
	after = domain_get(changes, changes->self->domid);
	if (after) { /* another domain may have had this number */
		after->is_own = true;
		after->serial = ++changes->last_serial;
	}
	replace(changes, before, after, false);
	domain_unref(changes, before);
}

void changes_renamed(struct changes *changes, uint32_t domid, const char *name)
{
	struct named_domain *before = domain_find(changes, domid), *after;

	if (!before || !strcmp(before->name, name))
		return;
	domain_unlist(changes, domain_ref(before));
	after = domain_new(changes, domid, name);
	if (after) {
		after->away = before->away;
		after->before = domain_ref(before);
		after->began = changes->last;
	}
	replace(changes, before, after, true);
	domain_unref(changes, before);
}

/* --- life ------------------------------------------------------------------------------------- */

void changes_init(struct changes *changes, const struct self *self, struct directory *directory)
{
	*changes = (struct changes){.self = self, .directory = directory};
}

void changes_destroy(struct changes *changes)
{
	for (size_t i = 0; i < changes->slots_used; i++)
		if (changes->slots[i].record)
			record_free(changes, changes->slots[i].record);
	free(changes->slots);
}
