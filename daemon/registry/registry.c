/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/registry/registry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/image.h"
#include "daemon/registry/changes.h"
#include "wire/ut.h"

struct registry {
	const struct self *self;
	struct registry_domain *domains, *by_version;
	struct changes changes;
	struct registry_sink *sinks;
	struct registry_teller zero;
	unsigned walks; /* over the domains, of which none may go meanwhile */
	uint64_t lists; /* of endpoints that have come */
	bool is_read;	/* REGISTRY_READ was told */
};

static const uint8_t no_uuid[16];

/* --- sinks ------------------------------------------------------------------------------------ */

void registry_tell(struct registry *registry, enum registry_what what, uint32_t domid)
{
	struct registry_sink *sink, *next;

	registry->changes.last += what == REGISTRY_RULES;
	registry->is_read = registry->is_read || what == REGISTRY_READ;
	DL_FOREACH_SAFE(registry->sinks, sink, next)
		sink->changed(sink->userdata, what, domid);
}

void registry_listen(struct registry *registry, struct registry_sink *sink, registry_fn changed,
		     void *userdata)
{
	*sink = (struct registry_sink){.changed = changed, .userdata = userdata};
	DL_APPEND(registry->sinks, sink);
}

void registry_leave(struct registry *registry, struct registry_sink *sink)
{
	if (sink->prev)
		DL_DELETE(registry->sinks, sink);
	sink->prev = NULL;
}

/* --- domains ---------------------------------------------------------------------------------- */

struct registry_domain *registry_find(struct registry *registry, uint32_t domid)
{
	struct registry_domain *domain;

	HASH_FIND(hh, registry->domains, &domid, sizeof(domid), domain);
	return domain;
}

struct registry_domain *registry_get(struct registry *registry, uint32_t domid)
{
	struct registry_domain *domain = registry_find(registry, domid);

	if (domain)
		return domain;
	domain = calloc(1, sizeof(*domain));
	if (!domain)
		return NULL;
	domain->domid = domid;
	HASH_ADD(hh, registry->domains, domid, sizeof(domain->domid), domain);
	if (!HASH_ADDED(domain)) {
		free(domain);
		return NULL;
	}
	DL_PREPEND(registry->by_version, domain);
	return domain;
}

struct registry_domain *registry_next(struct registry *registry, const struct registry_domain *after)
{
	return after ? after->hh.next : registry->domains;
}

struct registry_domain *registry_next_changed(struct registry *registry, const struct registry_domain *after,
					      uint64_t since)
{
	struct registry_domain *oldest = registry->by_version, *domain = oldest ? oldest->prev : NULL;

	if (after)
		return after->next;
	if (!domain || domain->version <= since)
		return NULL;
	while (domain != oldest && domain->prev->version > since)
		domain = domain->prev;
	return domain;
}

static void registry_free_domain(struct registry *registry, struct registry_domain *domain)
{
	HASH_DEL(registry->domains, domain);
	DL_DELETE(registry->by_version, domain);
	free(domain->tags);
	free(domain);
}

/* Frees the entry if there is nothing in it. */
static void registry_put(struct registry *registry, struct registry_domain *domain)
{
	if (domain->exists || domain->gone_ms || domain->source || domain->current || domain->is_complete ||
	    domain->name[0] || domain->uuid_text[0])
		return;
	registry_free_domain(registry, domain);
}

void registry_drop_source(struct registry *registry, struct registry_domain *domain)
{
	domain->source = NULL;
	registry_put(registry, domain);
}

void registry_drop_gone(struct registry *registry, struct registry_domain *domain)
{
	domain->gone_ms = 0;
	registry_put(registry, domain);
}

void registry_set_exists(struct registry *registry, uint32_t domid, uint64_t list)
{
	struct registry_domain *domain = registry_get(registry, domid);

	if (!domain)
		return; /* until the next list */
	domain->told = list;
	domain->exists = true;
	domain->is_led_to = false;
	domain->gone_ms = 0;
	registry_tell(registry, REGISTRY_EXISTS, domid);
}

void registry_end_list(struct registry *registry, uint64_t list)
{
	struct registry_domain *domain, *next;

	registry->walks++;
	HASH_ITER(hh, registry->domains, domain, next) {
		if (!domain->exists || domain->told == list)
			continue;
		domain->exists = domain->is_vanishing = false;
		domain->gone_ms = clock_ms();
		registry_tell(registry, REGISTRY_EXISTS, domain->domid);
		registry_put(registry, domain);
	}
	registry->walks--;
	registry_tell(registry, REGISTRY_LISTED, 0);
}

/* --- names ------------------------------------------------------------------------------------ */

bool registry_name_is_usable(const char *name, size_t size)
{
	uint8_t uuid[16];

	return domain_name_is_valid(name, size) && strspn(name, "0123456789") < size &&
	       !uuid_parse(name, size, uuid) && !(size == 4 && !memcmp(name, "self", 4));
}

static void rename_records(struct registry *registry, struct registry_domain *domain);

void registry_touch(struct registry *registry, struct registry_domain *domain)
{
	domain->version = ++registry->changes.last;
	DL_DELETE(registry->by_version, domain);
	DL_APPEND(registry->by_version, domain);
	registry_tell(registry, REGISTRY_NAME, domain->domid);
}

void registry_set_name(struct registry *registry, struct registry_domain *domain, const char *name,
		       size_t size)
{
	if (strlen(domain->name) == size && memcmp(domain->name, name, size) == 0)
		return;
	memcpy(domain->name, name, size);
	domain->name[size] = '\0';
	rename_records(registry, domain);
	registry_touch(registry, domain);
}

void registry_set_uuid(struct registry *registry, struct registry_domain *domain, const uint8_t uuid[16])
{
	if (memcmp(domain->uuid, uuid, sizeof(domain->uuid)) == 0)
		return;
	memcpy(domain->uuid, uuid, sizeof(domain->uuid));
	domain->uuid_text[0] = '\0';
	if (memcmp(uuid, no_uuid, sizeof(no_uuid)) != 0)
		uuid_print(uuid, domain->uuid_text);
	registry_touch(registry, domain);
}

static bool registry_is_same(const char *one, const char *other)
{
	return one && other ? !strcmp(one, other) : one == other;
}

int registry_set_tags(struct registry *registry, struct registry_domain *domain, const char *tags,
		      bool are_refused)
{
	char *copy;

	if (registry_is_same(domain->tags, tags) && domain->tags_refused == are_refused)
		return 0;
	copy = tags ? strdup(tags) : NULL;
	if (tags && !copy)
		return -ENOMEM;
	free(domain->tags);
	domain->tags = copy;
	domain->tags_refused = are_refused;
	registry_touch(registry, domain);
	return 0;
}

void registry_set_complete(struct registry *registry, struct registry_domain *domain, bool is_complete)
{
	if (domain->is_complete == is_complete)
		return;
	domain->is_complete = is_complete;
	registry_touch(registry, domain);
}

static void forget_name(struct registry *registry, struct registry_domain *domain)
{
	if (domain->is_complete || domain->name[0] || domain->uuid_text[0] || domain->tags ||
	    domain->tags_refused) {
		domain->name[0] = domain->uuid_text[0] = '\0';
		memset(domain->uuid, 0, sizeof(domain->uuid));
		free(domain->tags);
		domain->tags = NULL;
		domain->is_complete = domain->is_led_to = domain->tags_refused = false;
		rename_records(registry, domain);
		registry_touch(registry, domain);
	}
	registry_put(registry, domain);
}

void registry_forget_names(struct registry *registry, uint64_t told_before, bool own)
{
	struct registry_domain *domain, *next;

	registry->walks++;
	HASH_ITER(hh, registry->domains, domain, next)
		if (domain->told < told_before && (own || domain->domid != registry->self->domid))
			forget_name(registry, domain);
	registry->walks--;
}

void registry_forget_name(struct registry *registry, uint32_t domid)
{
	struct registry_domain *domain = registry_find(registry, domid);

	registry->walks++;
	if (domain)
		forget_name(registry, domain);
	registry->walks--;
}

int registry_resolve(struct registry *registry, const char *name, uint32_t *domid)
{
	const struct registry_domain *domain, *found = NULL;
	uint8_t uuid[16];
	bool is_uuid;

	if (domid_parse(name, strlen(name), domid))
		return 0;
	is_uuid = uuid_parse(name, strlen(name), uuid);
	if (!name[0] || (is_uuid && !memcmp(uuid, no_uuid, sizeof(uuid))))
		return -EHOSTDOWN;
	for (domain = registry->domains; domain; domain = domain->hh.next) {
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

const char *registry_name(struct registry *registry, uint32_t domid)
{
	const struct registry_domain *domain = registry_find(registry, domid);

	return domain ? domain->name : "";
}

const char *registry_uuid(struct registry *registry, uint32_t domid)
{
	const struct registry_domain *domain = registry_find(registry, domid);

	return domain ? domain->uuid_text : "";
}

bool registry_is_complete(struct registry *registry, uint32_t domid)
{
	const struct registry_domain *domain = registry_find(registry, domid);

	return domain && domain->is_complete;
}

bool registry_is_read(const struct registry *registry)
{
	return registry->is_read;
}

bool registry_is_led_to(struct registry *registry, uint32_t domid, bool is_late)
{
	const struct registry_domain *domain = registry_find(registry, domid), *other = registry->domains;

	if (registry->self->domid == 0)
		return false;
	if (!domain || domain->is_led_to || !is_late || !domain->uuid_text[0])
		return domain && domain->is_led_to;
	while (other && !(other->is_led_to && !memcmp(other->uuid, domain->uuid, sizeof(domain->uuid))))
		other = other->hh.next;
	return other != NULL;
}

struct registry_teller *registry_teller(struct registry *registry)
{
	return &registry->zero;
}

const char *registry_why_not(struct registry *registry, uint32_t domid)
{
	const struct registry_domain *domain = registry_find(registry, domid);

	if (domain && domain->tags_refused)
		return "the tags that XenStore has for it aren't taken";
	if (registry->self->domid == 0 || registry->self->domid == domid)
		return "XenStore hasn't told it yet";
	if (registry->zero.tells)
		return "domain 0 hasn't told it; a [see] there may hide it";
	return registry->zero.is_there ? "xenmsgd in domain 0 hasn't told the names yet"
				       : "no xenmsgd is seen in domain 0, which tells the names";
}

bool registry_is_told(const struct registry *registry)
{
	return registry->self->domid == 0 || registry->zero.tells;
}

/* --- what comes and goes ---------------------------------------------------------------------- */

static struct named_domain *current(struct registry *registry, uint32_t domid)
{
	const struct registry_domain *domain = registry_find(registry, domid);

	return domain ? domain->current : NULL;
}

/* Returns the domain under its present name, made if there was none. NULL: out of memory. */
static struct named_domain *current_get(struct registry *registry, uint32_t domid)
{
	struct registry_domain *domain = registry_get(registry, domid);

	if (domain && !domain->current &&
	    named_new(&registry->changes, &domain->current, domid, domain->name) != NULL)
		domain->current->is_own = domid == registry->self->domid;
	return domain ? domain->current : NULL;
}

/* Frees a domain of which nothing was recorded, as for lack of memory, and tells the sinks. */
static void has_changed(struct registry *registry, enum registry_what what, uint32_t domid)
{
	struct registry_domain *domain = registry_find(registry, domid);

	if (domain) {
		named_unref(named_ref(domain->current));
		registry_put(registry, domain);
	}
	registry_tell(registry, what, domid);
}

static struct record *registry_set_record(struct registry *registry, struct named_domain *domain,
					  const char *text)
{
	struct record *record = record_find(domain, text);

	if (!record)
		record = record_new(&registry->changes, domain, text);
	if (!record)
		return NULL;
	record_change(&registry->changes, record, true);
	record->seen = registry->lists;
	return record;
}

/* Notes that the domain and its endpoints go, endpoints first. */
static void set_all_down(struct registry *registry, struct named_domain *domain)
{
	struct record *record;

	for (record = domain->names; record; record = record->hh.next)
		record_change(&registry->changes, record, false);
	if (domain->self)
		record_change(&registry->changes, domain->self, false);
	domain->away = false;
	named_set_cut(&registry->changes, domain, false);
}

void registry_set_up(struct registry *registry, uint32_t domid, bool up)
{
	struct named_domain *domain = up ? current_get(registry, domid) : current(registry, domid);

	if (domain && up)
		registry_set_record(registry, domain, "");
	else if (domain)
		set_all_down(registry, domain);
	has_changed(registry, REGISTRY_PRESENCE, domid);
}

void registry_set_away(struct registry *registry, uint32_t domid, bool away)
{
	struct named_domain *domain = current(registry, domid);

	if (!domain || domain->away == away)
		return;
	domain->away = away;
	if (domain->self && domain->self->up)
		record_move(&registry->changes, domain->self);
	registry_tell(registry, REGISTRY_AWAY, domid);
}

void registry_set_endpoints(struct registry *registry, uint32_t domid, const struct offered *lists,
			    unsigned count)
{
	struct named_domain *domain = current(registry, domid);
	struct record *record;
	bool is_cut = false;

	registry->lists++;
	for (; count > 0; lists++, count--) {
		is_cut = is_cut || lists->is_cut;
		for (unsigned i = 0; i < lists->count && (domain = current_get(registry, domid)) != NULL;
		     i++) {
			record = registry_set_record(registry, domain, lists->list[i]);
			if (record && lists->kinds)
				record->kinds = lists->kinds[i];
		}
	}
	for (record = domain ? domain->names : NULL; record; record = record->hh.next)
		if (record->seen != registry->lists)
			record_change(&registry->changes, record, false);
	has_changed(registry, REGISTRY_ENDPOINTS, domid);
	registry_set_cut(registry, domid, is_cut);
}

void registry_set_cut(struct registry *registry, uint32_t domid, bool is_cut)
{
	struct named_domain *domain = current(registry, domid);

	if (!domain || domain->is_cut == is_cut)
		return;
	named_set_cut(&registry->changes, domain, is_cut);
	has_changed(registry, REGISTRY_CUT, domid);
}

bool registry_is_cut(struct registry *registry, uint32_t domid)
{
	const struct named_domain *domain = current(registry, domid);

	return domain && domain->is_cut;
}

void registry_set_endpoint(struct registry *registry, uint32_t domid, const char *text, bool up)
{
	struct named_domain *domain = up ? current_get(registry, domid) : current(registry, domid);
	struct record *record;

	if (domain && up)
		registry_set_record(registry, domain, text);
	else if (domain && (record = record_find(domain, text)) != NULL)
		record_change(&registry->changes, record, false);
	has_changed(registry, REGISTRY_ENDPOINTS, domid);
}

/* Takes down the domain `before` with all of its endpoints, and puts them up again under `after`; `renamed`:
 * it is the same domain. `after` is NULL when memory is short: they only go. */
static void replace(struct registry *registry, struct named_domain *before, struct named_domain *after,
		    bool renamed)
{
	struct record *record, *self = before->self && before->self->up ? before->self : NULL;
	struct {
		struct record *record;
		uint64_t went;
	} *names = after ? calloc(HASH_COUNT(before->names) + 1, sizeof(*names)) : NULL, *name;
	unsigned count = 0;

	for (record = before->names; names && record; record = record->hh.next)
		if (record->up) {
			names[count].went = record->went;
			names[count++].record = record;
		}
	if (names && self) { /* goes last, and comes first */
		names[count].went = self->went;
		names[count++].record = self;
	}
	if (after)
		named_set_cut(&registry->changes, after, before->is_cut);
	set_all_down(registry, before);
	for (unsigned i = 0; i < count; i++) {
		struct record *old, *new;

		name = &names[self ? (i + count - 1) % count : i];
		old = name->record;
		new = record_find(after, old->text);

		if (!new)
			new = record_new(&registry->changes, after, old->text);
		if (!new)
			continue;
		new->kinds = old->kinds;
		if (renamed) {
			old->to = named_ref(after);
			new->since = old->since;
			new->first = old->first;
			new->went = name->went;
		}
		record_change(&registry->changes, new, true);
	}
	free(names);
	named_unref(named_ref(after));
}

static void rename_records(struct registry *registry, struct registry_domain *domain)
{
	struct named_domain *before = domain->current, *after;

	if (!before)
		return;
	named_unlist(named_ref(before));
	after = current_get(registry, domain->domid);
	if (after) {
		after->is_own = before->is_own;
		after->away = before->away;
		after->before = named_ref(before);
		after->began = registry->changes.last;
	}
	replace(registry, before, after, true);
	named_unref(before);
}

void registry_restart(struct registry *registry)
{
	struct named_domain *before = NULL, *after;
	struct registry_domain *domain;

	for (domain = registry->domains; domain; domain = domain->hh.next) {
		if (domain->current && domain->current->is_own)
			before = domain->current;
		else if (domain->current)
			set_all_down(registry, domain->current);
	}
	if (before) {
		named_unlist(named_ref(before));
		after = current_get(registry, registry->self->domid);
		if (after) { /* another domain may have had this number */
			after->is_own = true;
			after->serial = ++registry->changes.last_serial;
		}
		replace(registry, before, after, false);
		named_unref(before);
	}
	has_changed(registry, REGISTRY_PRESENCE, registry->self->domid);
}

bool registry_is_up(struct registry *registry, uint32_t domid)
{
	const struct named_domain *domain = current(registry, domid);

	return domain && domain->self && domain->self->up;
}

const struct record *registry_offered(struct registry *registry, uint32_t domid, const struct record *after)
{
	const struct named_domain *domain = current(registry, domid);
	const struct record *record = after ? after->hh.next : domain ? domain->names : NULL;

	while (record && !record->up)
		record = record->hh.next;
	return record;
}

/* --- who reads the changes -------------------------------------------------------------------- */

struct changes *registry_changes(struct registry *registry)
{
	return &registry->changes;
}

uint64_t registry_version(const struct registry *registry)
{
	return registry->changes.last;
}

void registry_forget(struct registry *registry, uint64_t heard, uint64_t by_name)
{
	struct registry_domain *domain, *next;

	HASH_ITER(hh, registry->domains, domain, next) {
		struct named_domain *named = domain->current;

		if (!named || named->began >= by_name)
			continue;
		named_unref(named->before);
		named->before = NULL;
	}
	changes_forget(&registry->changes, heard);
	HASH_ITER(hh, registry->domains, domain, next)
		if (!registry->walks)
			registry_put(registry, domain);
}

/* --- life ------------------------------------------------------------------------------------- */

struct registry *registry_new(const struct self *self)
{
	struct registry *registry = calloc(1, sizeof(*registry));

	if (registry)
		registry->self = self;
	return registry;
}

void registry_free(struct registry *registry)
{
	struct registry_domain *domain, *next;

	if (!registry)
		return;
	while (registry->changes.cut)
		named_set_cut(&registry->changes, registry->changes.cut, false);
	changes_destroy(&registry->changes);
	HASH_ITER(hh, registry->domains, domain, next)
		registry_free_domain(registry, domain);
	free(registry);
}

/* --- the image -------------------------------------------------------------------------------- */

/*
 * What domains are called, in the image that a daemon hands over (base/image.h). The next daemon knows it
 * from the beginning, so it decides as the one before, until the sources say otherwise: XenStore, which
 * domain 0 reads anew, or domain 0's next list. It doesn't say which are up: that is looked at anew.
 */

static bool registry_has_name(const struct registry_domain *domain)
{
	return domain->is_complete || domain->name[0] || domain->uuid_text[0] || domain->tags ||
	       domain->tags_refused;
}

static void registry_domain_image(struct image *image, struct registry_domain *domain)
{
	image_u32(image, &domain->domid);
	image_text(image, domain->name, sizeof(domain->name));
	image_raw(image, domain->uuid, sizeof(domain->uuid));
	image_string(image, &domain->tags, REGISTRY_TAGS_MAX);
	image_bool(image, &domain->tags_refused);
	image_bool(image, &domain->is_complete);
	image_bool(image, &domain->is_led_to);
	image_bool(image, &domain->exists);
	image_expect(image, domid_is_valid(domain->domid) &&
				    (!domain->name[0] ||
				     registry_name_is_usable(domain->name, strlen(domain->name))));
}

/* Has the domain be called so, unless something was read of it already. */
static int registry_enter_read(struct registry *registry, const struct registry_domain *read)
{
	struct registry_domain *domain = registry_get(registry, read->domid);
	int r;

	if (!domain)
		return -ENOMEM;
	domain->exists = domain->exists || read->exists;
	if (domain->version || domain->is_complete)
		return 0;
	registry_set_uuid(registry, domain, read->uuid);
	registry_set_name(registry, domain, read->name, strlen(read->name));
	r = registry_set_tags(registry, domain, read->tags, read->tags_refused);
	domain->is_led_to = read->is_led_to;
	registry_set_complete(registry, domain, read->is_complete);
	return r;
}

static void registry_read_domain(struct registry *registry, struct image *image)
{
	struct registry_domain read = {.domid = 0};
	int r;

	registry_domain_image(image, &read);
	r = image->error ? 0 : registry_enter_read(registry, &read);
	if (r < 0)
		image_fail(image, r);
	free(read.tags);
}

/* Writes them in the order in which they have changed: of two that have one name, the later one means it. */
static void write_domains(struct registry *registry, struct image *image)
{
	struct registry_domain *domain;
	uint32_t count = 0;

	DL_FOREACH(registry->by_version, domain)
		count += registry_has_name(domain);
	image_u32(image, &count);
	DL_FOREACH(registry->by_version, domain)
		if (registry_has_name(domain))
			registry_domain_image(image, domain);
}

void registry_names_image(struct image *image, struct registry *registry)
{
	struct registry_teller *zero = registry_teller(registry);
	uint64_t lost_ms = zero->lost_ms ? zero->lost_ms : clock_ms();
	uint32_t count;

	image_bool(image, &zero->tells);
	image_u64(image, &lost_ms);
	image_expect(image, lost_ms <= clock_ms());
	if (!image->is_read) {
		write_domains(registry, image);
		return;
	}
	zero->lost_ms = lost_ms;
	image_upto(image, &count, DOMID_MAX + 1);
	for (uint32_t i = 0; i < count && !image->error; i++)
		registry_read_domain(registry, image);
}
