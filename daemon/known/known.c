/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/known/known.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/clock.h"
#include "daemon/known/changes.h"

struct known {
	const struct self *self;
	struct known_domain *domains;
	struct changes changes;
	struct known_sink *sinks;
	struct known_teller zero;
	unsigned walks; /* over the domains, of which none may go meanwhile */
	uint64_t lists; /* of endpoints that have come */
	bool is_read;	/* KNOWN_READ was told */
};

static const uint8_t no_uuid[16];

/* --- sinks ------------------------------------------------------------------------------------ */

void known_tell(struct known *known, enum known_what what, uint32_t domid)
{
	struct known_sink *sink, *next;

	known->changes.last += what == KNOWN_RULES;
	known->is_read = known->is_read || what == KNOWN_READ;
	DL_FOREACH_SAFE(known->sinks, sink, next)
		sink->changed(sink->userdata, what, domid);
}

void known_listen(struct known *known, struct known_sink *sink, known_fn changed, void *userdata)
{
	*sink = (struct known_sink){.changed = changed, .userdata = userdata};
	DL_APPEND(known->sinks, sink);
}

void known_leave(struct known *known, struct known_sink *sink)
{
	if (sink->prev)
		DL_DELETE(known->sinks, sink);
	sink->prev = NULL;
}

/* --- domains ---------------------------------------------------------------------------------- */

struct known_domain *known_find(struct known *known, uint32_t domid)
{
	struct known_domain *domain;

	HASH_FIND(hh, known->domains, &domid, sizeof(domid), domain);
	return domain;
}

struct known_domain *known_get(struct known *known, uint32_t domid)
{
	struct known_domain *domain = known_find(known, domid);

	if (domain)
		return domain;
	domain = calloc(1, sizeof(*domain));
	if (!domain)
		return NULL;
	domain->domid = domid;
	HASH_ADD(hh, known->domains, domid, sizeof(domain->domid), domain);
	return domain;
}

struct known_domain *known_next(struct known *known, const struct known_domain *after)
{
	return after ? after->hh.next : known->domains;
}

static void domain_free(struct known *known, struct known_domain *domain)
{
	HASH_DEL(known->domains, domain);
	free(domain->tags);
	free(domain);
}

/* Frees the entry if there is nothing in it. */
static void put(struct known *known, struct known_domain *domain)
{
	if (domain->exists || domain->gone_ms || domain->source || domain->current || domain->is_complete ||
	    domain->name[0] || domain->uuid_text[0])
		return;
	domain_free(known, domain);
}

void known_drop_source(struct known *known, struct known_domain *domain)
{
	domain->source = NULL;
	put(known, domain);
}

void known_drop_gone(struct known *known, struct known_domain *domain)
{
	domain->gone_ms = 0;
	put(known, domain);
}

void known_set_exists(struct known *known, uint32_t domid, uint64_t list)
{
	struct known_domain *domain = known_get(known, domid);

	if (!domain)
		return; /* until the next list */
	domain->told = list;
	domain->exists = true;
	domain->is_led_to = false;
	domain->gone_ms = 0;
	known_tell(known, KNOWN_EXISTS, domid);
}

void known_end_list(struct known *known, uint64_t list)
{
	struct known_domain *domain, *next;

	known->walks++;
	HASH_ITER(hh, known->domains, domain, next) {
		if (!domain->exists || domain->told == list)
			continue;
		domain->exists = domain->is_vanishing = false;
		domain->gone_ms = clock_ms();
		known_tell(known, KNOWN_EXISTS, domain->domid);
		put(known, domain);
	}
	known->walks--;
	known_tell(known, KNOWN_LISTED, 0);
}

/* --- names ------------------------------------------------------------------------------------ */

bool known_name_is_usable(const char *name, size_t size)
{
	uint8_t uuid[16];

	return domain_name_is_valid(name, size) && strspn(name, "0123456789") < size &&
	       !uuid_parse(name, size, uuid) && !(size == 4 && !memcmp(name, "self", 4));
}

static void rename_records(struct known *known, struct known_domain *domain);

void known_touch(struct known *known, struct known_domain *domain)
{
	domain->version = ++known->changes.last;
	known_tell(known, KNOWN_NAME, domain->domid);
}

void known_set_name(struct known *known, struct known_domain *domain, const char *name, size_t size)
{
	if (strlen(domain->name) == size && memcmp(domain->name, name, size) == 0)
		return;
	memcpy(domain->name, name, size);
	domain->name[size] = '\0';
	rename_records(known, domain);
	known_touch(known, domain);
}

void known_set_uuid(struct known *known, struct known_domain *domain, const uint8_t uuid[16])
{
	if (memcmp(domain->uuid, uuid, sizeof(domain->uuid)) == 0)
		return;
	memcpy(domain->uuid, uuid, sizeof(domain->uuid));
	domain->uuid_text[0] = '\0';
	if (memcmp(uuid, no_uuid, sizeof(no_uuid)) != 0)
		uuid_print(uuid, domain->uuid_text);
	known_touch(known, domain);
}

static bool is_same(const char *one, const char *other)
{
	return one && other ? !strcmp(one, other) : one == other;
}

int known_set_tags(struct known *known, struct known_domain *domain, const char *tags, bool are_refused)
{
	char *copy;

	if (is_same(domain->tags, tags) && domain->tags_refused == are_refused)
		return 0;
	copy = tags ? strdup(tags) : NULL;
	if (tags && !copy)
		return -ENOMEM;
	free(domain->tags);
	domain->tags = copy;
	domain->tags_refused = are_refused;
	known_touch(known, domain);
	return 0;
}

void known_set_complete(struct known *known, struct known_domain *domain, bool is_complete)
{
	if (domain->is_complete == is_complete)
		return;
	domain->is_complete = is_complete;
	known_touch(known, domain);
}

static void forget_name(struct known *known, struct known_domain *domain)
{
	if (domain->is_complete || domain->name[0] || domain->uuid_text[0] || domain->tags ||
	    domain->tags_refused) {
		domain->name[0] = domain->uuid_text[0] = '\0';
		memset(domain->uuid, 0, sizeof(domain->uuid));
		free(domain->tags);
		domain->tags = NULL;
		domain->is_complete = domain->is_led_to = domain->tags_refused = false;
		rename_records(known, domain);
		known_touch(known, domain);
	}
	put(known, domain);
}

void known_forget_names(struct known *known, uint64_t told_before, bool own)
{
	struct known_domain *domain, *next;

	known->walks++;
	HASH_ITER(hh, known->domains, domain, next)
		if (domain->told < told_before && (own || domain->domid != known->self->domid))
			forget_name(known, domain);
	known->walks--;
}

void known_forget_name(struct known *known, uint32_t domid)
{
	struct known_domain *domain = known_find(known, domid);

	known->walks++;
	if (domain)
		forget_name(known, domain);
	known->walks--;
}

int known_resolve(struct known *known, const char *name, uint32_t *domid)
{
	const struct known_domain *domain, *found = NULL;
	uint8_t uuid[16];
	bool is_uuid;

	if (domid_parse(name, strlen(name), domid))
		return 0;
	is_uuid = uuid_parse(name, strlen(name), uuid);
	if (!name[0] || (is_uuid && !memcmp(uuid, no_uuid, sizeof(uuid))))
		return -EHOSTDOWN;
	for (domain = known->domains; domain; domain = domain->hh.next) {
		if (found && found->version > domain->version)
			continue;
		if (is_uuid ? !memcmp(domain->uuid, uuid, sizeof(uuid)) : !strcmp(domain->name, name))
			found = domain;
	}
	if (!found)
		return -EHOSTDOWN;
	*domid = found->domid;
	return 0;
}

const char *known_name(struct known *known, uint32_t domid)
{
	const struct known_domain *domain = known_find(known, domid);

	return domain ? domain->name : "";
}

const char *known_uuid(struct known *known, uint32_t domid)
{
	const struct known_domain *domain = known_find(known, domid);

	return domain ? domain->uuid_text : "";
}

bool known_is_complete(struct known *known, uint32_t domid)
{
	const struct known_domain *domain = known_find(known, domid);

	return domain && domain->is_complete;
}

bool known_is_read(const struct known *known)
{
	return known->is_read;
}

bool known_is_led_to(struct known *known, uint32_t domid, bool is_late)
{
	const struct known_domain *domain = known_find(known, domid), *other = known->domains;

	if (known->self->domid == 0)
		return false;
	if (!domain || domain->is_led_to || !is_late || !domain->uuid_text[0])
		return domain && domain->is_led_to;
	while (other && !(other->is_led_to && !memcmp(other->uuid, domain->uuid, sizeof(domain->uuid))))
		other = other->hh.next;
	return other != NULL;
}

struct known_teller *known_teller(struct known *known)
{
	return &known->zero;
}

const char *known_why_not(struct known *known, uint32_t domid)
{
	const struct known_domain *domain = known_find(known, domid);

	if (domain && domain->tags_refused)
		return "the tags that XenStore has for it aren't taken";
	if (known->self->domid == 0 || known->self->domid == domid)
		return "XenStore hasn't told it yet";
	if (known->zero.tells)
		return "domain 0 hasn't told it; a [see] there may hide it";
	return known->zero.is_there ? "xenmsgd in domain 0 hasn't told the names yet"
				    : "no xenmsgd is seen in domain 0, which tells the names";
}

bool known_is_told(const struct known *known)
{
	return known->self->domid == 0 || known->zero.tells;
}

/* --- what comes and goes ---------------------------------------------------------------------- */

static struct named_domain *current(struct known *known, uint32_t domid)
{
	const struct known_domain *domain = known_find(known, domid);

	return domain ? domain->current : NULL;
}

/* Returns the domain under its present name, made if there was none. NULL: out of memory. */
static struct named_domain *current_get(struct known *known, uint32_t domid)
{
	struct known_domain *domain = known_get(known, domid);

	if (domain && !domain->current &&
	    named_new(&known->changes, &domain->current, domid, domain->name) != NULL)
		domain->current->is_own = domid == known->self->domid;
	return domain ? domain->current : NULL;
}

/* Frees a domain of which nothing was recorded, as for lack of memory, and tells the sinks. */
static void has_changed(struct known *known, enum known_what what, uint32_t domid)
{
	struct known_domain *domain = known_find(known, domid);

	if (domain) {
		named_unref(named_ref(domain->current));
		put(known, domain);
	}
	known_tell(known, what, domid);
}

static struct record *set_up(struct known *known, struct named_domain *domain, const char *text)
{
	struct record *record = record_find(domain, text);

	if (!record)
		record = record_new(&known->changes, domain, text);
	if (!record)
		return NULL;
	record_change(&known->changes, record, true);
	record->seen = known->lists;
	return record;
}

/* Notes that the domain and its endpoints go, endpoints first. */
static void set_all_down(struct known *known, struct named_domain *domain)
{
	struct record *record;

	for (record = domain->names; record; record = record->hh.next)
		record_change(&known->changes, record, false);
	if (domain->self)
		record_change(&known->changes, domain->self, false);
	domain->away = false;
}

void known_set_up(struct known *known, uint32_t domid, bool up)
{
	struct named_domain *domain = up ? current_get(known, domid) : current(known, domid);

	if (domain && up)
		set_up(known, domain, "");
	else if (domain)
		set_all_down(known, domain);
	has_changed(known, KNOWN_PRESENCE, domid);
}

void known_set_away(struct known *known, uint32_t domid, bool away)
{
	struct named_domain *domain = current(known, domid);

	if (!domain || domain->away == away)
		return;
	domain->away = away;
	if (domain->self && domain->self->up)
		record_move(&known->changes, domain->self);
	known_tell(known, KNOWN_AWAY, domid);
}

void known_set_endpoints(struct known *known, uint32_t domid, const struct offered *lists, unsigned count)
{
	struct named_domain *domain = current(known, domid);
	struct record *record;

	known->lists++;
	for (; count > 0; lists++, count--)
		for (unsigned i = 0; i < lists->count && (domain = current_get(known, domid)) != NULL; i++) {
			record = set_up(known, domain, lists->list[i]);
			if (record && lists->kinds)
				record->kinds = lists->kinds[i];
		}
	for (record = domain ? domain->names : NULL; record; record = record->hh.next)
		if (record->seen != known->lists)
			record_change(&known->changes, record, false);
	has_changed(known, KNOWN_ENDPOINTS, domid);
}

void known_set_endpoint(struct known *known, uint32_t domid, const char *text, bool up)
{
	struct named_domain *domain = up ? current_get(known, domid) : current(known, domid);
	struct record *record;

	if (domain && up)
		set_up(known, domain, text);
	else if (domain && (record = record_find(domain, text)) != NULL)
		record_change(&known->changes, record, false);
	has_changed(known, KNOWN_ENDPOINTS, domid);
}

/* Takes down the domain `before` with all of its endpoints, and puts them up again under `after`; `renamed`:
 * it is the same domain. `after` is NULL when memory is short: they only go. */
static void replace(struct known *known, struct named_domain *before, struct named_domain *after,
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
	set_all_down(known, before);
	for (unsigned i = 0; i < count; i++) {
		struct record *old = names[self ? (i + count - 1) % count : i];
		struct record *new = record_find(after, old->text);

		if (!new)
			new = record_new(&known->changes, after, old->text);
		if (!new)
			continue;
		new->kinds = old->kinds;
		if (renamed) {
			old->to = named_ref(after);
			new->since = old->since;
			new->first = old->first;
		}
		record_change(&known->changes, new, true);
	}
	free(names);
	named_unref(named_ref(after));
}

static void rename_records(struct known *known, struct known_domain *domain)
{
	struct named_domain *before = domain->current, *after;

	if (!before)
		return;
	named_unlist(named_ref(before));
	after = current_get(known, domain->domid);
	if (after) {
		after->is_own = before->is_own;
		after->away = before->away;
		after->before = named_ref(before);
		after->began = known->changes.last;
	}
	replace(known, before, after, true);
	named_unref(before);
}

void known_restart(struct known *known)
{
	struct named_domain *before = NULL, *after;
	struct known_domain *domain;

	for (domain = known->domains; domain; domain = domain->hh.next) {
		if (domain->current && domain->current->is_own)
			before = domain->current;
		else if (domain->current)
			set_all_down(known, domain->current);
	}
	if (before) {
		named_unlist(named_ref(before));
		after = current_get(known, known->self->domid);
		if (after) { /* another domain may have had this number */
			after->is_own = true;
			after->serial = ++known->changes.last_serial;
		}
		replace(known, before, after, false);
		named_unref(before);
	}
	has_changed(known, KNOWN_PRESENCE, known->self->domid);
}

bool known_is_up(struct known *known, uint32_t domid)
{
	const struct named_domain *domain = current(known, domid);

	return domain && domain->self && domain->self->up;
}

const struct record *known_offered(struct known *known, uint32_t domid, const struct record *after)
{
	const struct named_domain *domain = current(known, domid);
	const struct record *record = after ? after->hh.next : domain ? domain->names : NULL;

	while (record && !record->up)
		record = record->hh.next;
	return record;
}

/* --- who reads the changes -------------------------------------------------------------------- */

struct changes *known_changes(struct known *known)
{
	return &known->changes;
}

uint64_t known_version(const struct known *known)
{
	return known->changes.last;
}

void known_forget(struct known *known, uint64_t heard, uint64_t by_name)
{
	struct known_domain *domain, *next;

	HASH_ITER(hh, known->domains, domain, next) {
		struct named_domain *named = domain->current;

		if (!named || named->began >= by_name)
			continue;
		named_unref(named->before);
		named->before = NULL;
	}
	changes_forget(&known->changes, heard);
	HASH_ITER(hh, known->domains, domain, next)
		if (!known->walks)
			put(known, domain);
}

/* --- life ------------------------------------------------------------------------------------- */

struct known *known_new(const struct self *self)
{
	struct known *known = calloc(1, sizeof(*known));

	if (known)
		known->self = self;
	return known;
}

void known_free(struct known *known)
{
	struct known_domain *domain, *next;

	if (!known)
		return;
	changes_destroy(&known->changes);
	HASH_ITER(hh, known->domains, domain, next)
		domain_free(known, domain);
	free(known);
}
