/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local/watches.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>
#include <utlist.h>

#include "daemon/relay/hop.h"
#include "daemon/base/self.h"
#include "daemon/local/session.h"
#include "daemon/peers/directory.h"
#include "daemon/base/turns.h"
#include "wire/address.h"

#define WATCHES_PER_SESSION 64

/* In units (turns.h). A match takes from 10 ns to 19 us, by the lengths of both texts. */
#define COST_VISIT			    4u
#define COST_TELL			    30u
#define COST_MATCH(pattern_size, text_size) ((uint64_t)(pattern_size) * (text_size) / 8)
/* of work of one program's watches, then another's turn comes */
#define PIECE 4096u

/* A domain under one name: when it gets another one, it is another one, and what there was is there under
 * both for a while. */
struct domain {
	uint32_t domid;
	bool is_own;
	bool is_listed; /* in watches.domains, by its domid: not when it has got another name or number */
	uint64_t serial;
	unsigned references;   /* of records, and of what it is called now */
	struct domain *before; /* what it was called until this change; NULL: nobody needs to know */
	uint64_t began;	       /* with the changes after this one */
	char name[DOMAIN_NAME_MAX + 1];
	struct record *self;
	struct record *names;
	UT_hash_handle hh;
};

/* That a domain or an endpoint is there; or that it was, for who hasn't heard of its end. */
struct record {
	struct domain *domain;
	struct domain *to; /* after it was renamed, with this endpoint */
	bool up, seen;
	/* Numbers of changes: when it came first, under whatever name of the domain and under this one; since
	 * when it has been up, under whatever name; when it went last; when it changed last. */
	uint64_t first, born, since, went, changed;
	size_t slot;
	size_t size;
	UT_hash_handle hh;
	char text[]; /* "": the domain itself */
};

/* Each record once, by its last change. */
struct slot {
	uint64_t changed;
	struct record *record; /* NULL: it has changed since, or gone */
};

struct watch {
	uint32_t number;
	/* It walks over the changes, and they go on meanwhile: all up to `known` was told; of what changed
	 * later than `walk`, when it began, the walk may have met an earlier change; and `heard` is how far
	 * it is. */
	uint64_t known, walk, heard;
	char domain[DOMAIN_NAME_MAX + 1];
	char endpoint[2 * ENDPOINT_NAME_MAX + 1];
	bool endpoints; /* only endpoints, those that match; else the domain and all of its endpoints */
	size_t domain_size, endpoint_size;
	uint64_t met; /* the serial of the domain that it was compared with last, and the answer */
	bool met_is_meant;
	struct watch *prev, *next;
};

/* The watches of one session. */
struct watcher {
	struct watches *watches;
	struct session *session;
	struct account *account;
	struct task task;
	struct watch *list;
	unsigned count;
	uint64_t heard; /* by all of its watches but those that are new */
	bool is_cut_off;
	UT_hash_handle hh;
};

struct watches {
	struct turns *turns;
	const struct self *self;
	struct domain *domains;
	struct watcher *watchers; /* by session */
	bool all_are_due;
	uint64_t last_change, last_serial;
	struct slot *slots; /* in the order of changes */
	size_t slots_used, slots_room;
	size_t records, gone; /* of `records` those that aren't there any more */
	struct directory *directory;
	watches_sees_fn sees;
	void *userdata;
};

/* --- what is there ---------------------------------------------------------------------------- */

static struct domain *domain_new(struct watches *watches, uint32_t domid, const char *name)
{
	struct domain *domain = calloc(1, sizeof(*domain));

	if (!domain)
		return NULL;
	domain->domid = domid;
	domain->is_own = domid == watches->self->domid;
	domain->is_listed = true;
	domain->serial = ++watches->last_serial;
	snprintf(domain->name, sizeof(domain->name), "%s", name);
	HASH_ADD(hh, watches->domains, domid, sizeof(domain->domid), domain);
	return domain;
}

static struct domain *domain_find(const struct watches *watches, uint32_t domid)
{
	struct domain *domain;

	HASH_FIND(hh, watches->domains, &domid, sizeof(domid), domain);
	return domain;
}

static struct domain *domain_get(struct watches *watches, uint32_t domid)
{
	struct domain *domain = domain_find(watches, domid);

	return domain ? domain : domain_new(watches, domid, directory_name(watches->directory, domid));
}

static void domain_unlist(struct watches *watches, struct domain *domain)
{
	if (domain->is_listed)
		HASH_DEL(watches->domains, domain);
	domain->is_listed = false;
}

static void domain_unref(struct watches *watches, struct domain *domain)
{
	while (domain && --domain->references == 0) {
		struct domain *before = domain->before;

		domain_unlist(watches, domain);
		free(domain);
		domain = before;
	}
}

static struct domain *domain_ref(struct domain *domain)
{
	if (domain)
		domain->references++;
	return domain;
}

static struct record *record_find(const struct domain *domain, const char *text)
{
	struct record *record;

	if (!*text)
		return domain->self;
	HASH_FIND_STR(domain->names, text, record);
	return record;
}

/* Not there yet. */
static struct record *record_new(struct watches *watches, struct domain *domain, const char *text)
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
	watches->records++;
	watches->gone++;
	return record;
}

static void record_free(struct watches *watches, struct record *record)
{
	struct domain *domain = record->domain;

	if (record->slot != SIZE_MAX)
		watches->slots[record->slot].record = NULL;
	if (record->size)
		HASH_DEL(domain->names, record);
	else
		domain->self = NULL;
	watches->records--;
	watches->gone -= !record->up;
	domain_unref(watches, record->to);
	domain_unref(watches, domain);
	free(record);
}

static void wake_all(struct watches *watches)
{
	struct watcher *watcher;

	if (watches->all_are_due)
		return;
	watches->all_are_due = true;
	for (watcher = watches->watchers; watcher; watcher = watcher->hh.next)
		task_due(&watcher->task);
}

static bool has_room(struct watches *watches)
{
	size_t room = watches->slots_room ? 2 * watches->slots_room : 64;
	struct slot *slots;

	if (watches->slots_used < watches->slots_room)
		return true;
	slots = realloc(watches->slots, room * sizeof(*slots));
	if (!slots)
		return false;
	watches->slots = slots;
	watches->slots_room = room;
	return true;
}

/* It comes or goes. When memory is short nobody hears of it. */
static void record_change(struct watches *watches, struct record *record, bool up)
{
	uint64_t number;

	if (record->up == up)
		return;
	number = ++watches->last_change;
	record->up = up;
	watches->gone += up ? (size_t)-1 : 1;
	record->changed = number;
	if (!record->first)
		record->first = number;
	if (up && (record->born || !record->since)) /* else it was up before it was renamed */
		record->since = number;
	if (!record->born)
		record->born = number;
	if (!up)
		record->went = number;
	if (record->slot != SIZE_MAX)
		watches->slots[record->slot].record = NULL;
	record->slot = SIZE_MAX;
	if (!has_room(watches))
		return;
	record->slot = watches->slots_used;
	watches->slots[watches->slots_used++] = (struct slot){number, record};
	wake_all(watches);
}

/* The place of the first change after this one. */
static size_t slot_after(const struct watches *watches, uint64_t change)
{
	size_t low = 0, high = watches->slots_used;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (watches->slots[middle].changed <= change)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* --- what is forgotten ------------------------------------------------------------------------ */

/* `known`: not only on their present walk. */
static uint64_t heard_by_all(const struct watches *watches, bool known)
{
	uint64_t heard = watches->last_change;
	const struct watcher *watcher;
	const struct watch *watch;

	for (watcher = watches->watchers; watcher; watcher = watcher->hh.next) {
		if (watcher->is_cut_off)
			continue;
		/* A new watch was never told of what has gone before it has heard anything. */
		DL_FOREACH(watcher->list, watch)
			if (watch->heard && (known ? watch->known : watch->heard) < heard)
				heard = known ? watch->known : watch->heard;
	}
	return heard;
}

/* What has gone, and everybody knows; the places that are empty; and names that nobody was told of last. */
static void sweep(struct watches *watches)
{
	uint64_t heard = heard_by_all(watches, false), known = heard_by_all(watches, true);
	struct domain *domain;
	size_t used = 0;

	for (domain = watches->domains; domain; domain = domain->hh.next) {
		if (domain->began >= known)
			continue;
		domain_unref(watches, domain->before);
		domain->before = NULL;
	}

	for (size_t i = 0; i < watches->slots_used; i++) {
		struct slot slot = watches->slots[i];

		if (!slot.record)
			continue;
		if (!slot.record->up && slot.changed <= heard) {
			record_free(watches, slot.record);
			continue;
		}
		slot.record->slot = used;
		watches->slots[used++] = slot;
	}
	watches->slots_used = used;
}

/* Whoever hasn't heard of this change by now. */
static void cut_off_before(struct watches *watches, uint64_t change)
{
	struct watcher *watcher;
	const struct watch *watch;

	for (watcher = watches->watchers; watcher; watcher = watcher->hh.next) {
		if (watcher->is_cut_off)
			continue;
		DL_FOREACH(watcher->list, watch)
			if (watch->heard && watch->heard < change)
				break;
		if (!watch)
			continue;
		watcher->is_cut_off = true;
		session_cut_off(watcher->session, -ENOBUFS,
				"there is more news for its user's watches than it has time for");
	}
}

/* At the end of what changes something: not while records are walked over. */
static void tidy(struct watches *watches)
{
	size_t left = watches->records - watches->gone, gone = 0;

	if (watches->slots_used > 2 * left + 64)
		sweep(watches);
	if (watches->gone <= WATCHES_GONE_MAX)
		return;
	sweep(watches);
	if (watches->gone <= WATCHES_GONE_MAX / 2)
		return;
	for (size_t i = 0; i < watches->slots_used; i++) {
		const struct slot *slot = &watches->slots[i];

		if (slot->record && !slot->record->up && ++gone + WATCHES_GONE_MAX / 2 == watches->gone) {
			cut_off_before(watches, slot->changed);
			break;
		}
	}
	sweep(watches);
}

/* --- who is told ------------------------------------------------------------------------------ */

/* What it cost is added to *cost. */
static bool matches(const char *pattern, size_t pattern_size, const char *text, size_t text_size,
		    uint64_t *cost)
{
	*cost += COST_MATCH(pattern_size, text_size);
	return fnmatch(pattern, text, 0) == 0;
}

static bool means_domain(struct watch *watch, const struct domain *domain, uint64_t *cost)
{
	char number[16];
	int size;

	if (watch->met == domain->serial)
		return watch->met_is_meant;
	watch->met = domain->serial;
	if (!strcmp(watch->domain, "self"))
		return watch->met_is_meant = domain->is_own;
	size = snprintf(number, sizeof(number), "%u", domain->domid);
	watch->met_is_meant = matches(watch->domain, watch->domain_size, number, (size_t)size, cost) ||
			      (domain->name[0] && matches(watch->domain, watch->domain_size, domain->name,
							  strlen(domain->name), cost));
	return watch->met_is_meant;
}

/* The record's own part of the pattern. */
static bool means_record(const struct watch *watch, const struct record *record, uint64_t *cost)
{
	if (!watch->endpoints)
		return true;
	return record->size &&
	       matches(watch->endpoint, watch->endpoint_size, record->text, record->size, cost);
}

static bool may_learn_of(const struct watcher *watcher, const struct record *record)
{
	const struct watches *watches = watcher->watches;

	return !record->domain->is_own || !watches->sees ||
	       watches->sees(watches->userdata, watcher->session, record->text);
}

static void tell(struct watcher *watcher, const struct watch *watch, const struct record *record, bool up,
		 uint64_t *cost)
{
	const struct domain *domain = record->domain;
	struct frame_event event = {.domid = domain->domid, .text = {domain->name, strlen(domain->name)}};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	*cost += COST_TELL;
	if (record->size && !may_learn_of(watcher, record))
		return;
	event.kind = up ? EVENT_DOMAIN_UP : EVENT_DOMAIN_DOWN;
	if (record->size) {
		event.kind = up ? EVENT_ENDPOINT_UP : EVENT_ENDPOINT_DOWN;
		event.domain_name = event.text;
		event.text = (struct frame_text){record->text, record->size};
	}
	if (watcher->is_cut_off || hop_send(session_hop(watcher->session), FRAME_EVENT, 0, watch->number,
					    payload, frame_event_encode(&event, payload)) == 0)
		return;
	watcher->is_cut_off = true;
	session_cut_off(watcher->session, -ENOBUFS, "the program doesn't read its events");
}

/* Has it been meant under each of its names since the one that the watch knows it by? */
static bool meant_before(struct watch *watch, const struct domain *domain, uint64_t *cost)
{
	for (const struct domain *before = domain->before; before && means_domain(watch, before, cost);
	     before = before->before)
		if (watch->known > before->began)
			return true;
	return false;
}

/*
 * Tells the watch what it must hear of the record's changes after those that it has heard. What came and went
 * since, it needn't hear; of what went and came, it hears both, since it may be another one. Where it isn't
 * certain that it was told of it, it may hear twice that something has gone.
 */
static uint64_t visit(struct watcher *watcher, struct watch *watch, const struct record *record)
{
	uint64_t cost = COST_VISIT, known = watch->known;
	bool may_have_met = record->changed > watch->walk && record->changed > record->born;
	bool was_told = known >= record->born || may_have_met, was_renamed;

	watch->heard = record->changed;
	if (!means_record(watch, record, &cost) || !means_domain(watch, record->domain, &cost))
		return cost;
	was_renamed = !was_told && known >= (record->up ? record->since : record->first) &&
		      meant_before(watch, record->domain, &cost);
	was_told = was_told || was_renamed;
	if (!record->up) {
		if (was_told && !(record->to && means_domain(watch, record->to, &cost)))
			tell(watcher, watch, record, false, &cost);
	} else if (!was_told) {
		tell(watcher, watch, record, true, &cost);
	} else if (record->went > known) {
		tell(watcher, watch, record, false, &cost);
		tell(watcher, watch, record, true, &cost);
	} else if (!was_renamed || (!record->size && record->domain->name[0])) {
		tell(watcher, watch, record, true, &cost);
	}
	return cost;
}

/* The change after those that one watch, or all, have heard; NULL: there is none up to `upto`. */
static struct record *next_change(const struct watches *watches, uint64_t heard, uint64_t upto)
{
	for (size_t i = slot_after(watches, heard);
	     i < watches->slots_used && watches->slots[i].changed <= upto; i++)
		if (watches->slots[i].record)
			return watches->slots[i].record;
	return NULL;
}

/* New watches are told what the others know. False: the piece is over. */
static bool catch_up(struct watcher *watcher, uint64_t *cost)
{
	struct watches *watches = watcher->watches;
	struct record *record;
	struct watch *watch;

	DL_FOREACH(watcher->list, watch) {
		while (watch->heard < watcher->heard &&
		       (record = next_change(watches, watch->heard, watcher->heard)) != NULL) {
			*cost += visit(watcher, watch, record);
			if (*cost >= PIECE)
				return false;
		}
		if (watch->heard < watcher->heard)
			watch->heard = watcher->heard;
	}
	return true;
}

/* All of its watches are told what has changed: in the order in which it did. */
static bool go_on(struct watcher *watcher, uint64_t *cost)
{
	struct watches *watches = watcher->watches;
	struct record *record;
	struct watch *watch;

	while ((record = next_change(watches, watcher->heard, UINT64_MAX)) != NULL) {
		uint64_t change = record->changed;

		DL_FOREACH(watcher->list, watch) {
			if (watch->heard >= change)
				continue;
			if (*cost >= PIECE)
				return false;
			*cost += visit(watcher, watch, record);
		}
		watcher->heard = change;
	}
	return true;
}

static void on_turn(struct task *task)
{
	struct watcher *watcher = (struct watcher *)((char *)task - offsetof(struct watcher, task));
	struct watches *watches = watcher->watches;
	uint64_t cost = COST_VISIT;
	struct watch *watch;

	if (watcher->is_cut_off)
		return;
	DL_FOREACH(watcher->list, watch)
		if (watch->heard == watch->known)
			watch->walk = watches->last_change;
	if (!catch_up(watcher, &cost) || !go_on(watcher, &cost)) {
		task_due(&watcher->task);
	} else {
		watches->all_are_due = false;
		watcher->heard = watches->last_change;
		DL_FOREACH(watcher->list, watch)
			watch->heard = watch->known = watches->last_change;
	}
	turns_spend(watches->turns, watcher->task.line, cost);
}

/* --- life ------------------------------------------------------------------------------------- */

struct watches *watches_new(struct turns *turns, const struct self *self, struct directory *directory,
			    watches_sees_fn sees, void *userdata)
{
	struct watches *watches = calloc(1, sizeof(*watches));

	if (!watches)
		return NULL;
	watches->turns = turns;
	watches->self = self;
	watches->directory = directory;
	watches->sees = sees;
	watches->userdata = userdata;
	return watches;
}

static void watcher_free(struct watcher *watcher)
{
	struct watch *watch, *next;

	DL_FOREACH_SAFE(watcher->list, watch, next)
		free(watch);
	HASH_DEL(watcher->watches->watchers, watcher);
	task_cancel(&watcher->task);
	account_unref(watcher->account);
	free(watcher);
}

void watches_free(struct watches *watches)
{
	if (!watches)
		return;
	while (watches->watchers)
		watcher_free(watches->watchers);
	for (size_t i = 0; i < watches->slots_used; i++)
		if (watches->slots[i].record)
			record_free(watches, watches->slots[i].record);
	free(watches->slots);
	free(watches);
}

/* --- what comes and goes ---------------------------------------------------------------------- */

static void set_up(struct watches *watches, struct domain *domain, const char *text)
{
	struct record *record = record_find(domain, text);

	if (!record)
		record = record_new(watches, domain, text);
	if (!record)
		return;
	record_change(watches, record, true);
	record->seen = true;
}

/* Endpoints before their domain. */
static void set_all_down(struct watches *watches, struct domain *domain)
{
	struct record *record;

	for (record = domain->names; record; record = record->hh.next)
		record_change(watches, record, false);
	if (domain->self)
		record_change(watches, domain->self, false);
}

/* A domain of which nothing was recorded, as for lack of memory. */
static void domain_put(struct watches *watches, struct domain *domain)
{
	domain->references++;
	domain_unref(watches, domain);
}

void watches_domain(struct watches *watches, uint32_t domid, bool up)
{
	struct domain *domain = up ? domain_get(watches, domid) : domain_find(watches, domid);

	if (!domain)
		return;
	if (up)
		set_up(watches, domain, "");
	else
		set_all_down(watches, domain);
	domain_put(watches, domain);
	tidy(watches);
}

void watches_endpoints(struct watches *watches, uint32_t domid, const char *const *names, unsigned count)
{
	struct domain *domain = count ? domain_get(watches, domid) : domain_find(watches, domid);
	struct record *record;

	if (!domain)
		return;
	for (record = domain->names; record; record = record->hh.next)
		record->seen = false;
	for (unsigned i = 0; i < count; i++)
		set_up(watches, domain, names[i]);
	for (record = domain->names; record; record = record->hh.next)
		if (!record->seen)
			record_change(watches, record, false);
	domain_put(watches, domain);
	tidy(watches);
}

void watches_endpoint(struct watches *watches, uint32_t domid, const char *text, bool up)
{
	struct domain *domain = up ? domain_get(watches, domid) : domain_find(watches, domid);
	struct record *record;

	if (!domain)
		return;
	if (up)
		set_up(watches, domain, text);
	else if ((record = record_find(domain, text)) != NULL)
		record_change(watches, record, false);
	domain_put(watches, domain);
	tidy(watches);
}

/* What there is of `before` goes, and comes as what there is of `after`; `renamed`: it is the same. NULL when
 * memory is short: it only goes. */
static void replace(struct watches *watches, struct domain *before, struct domain *after, bool renamed)
{
	struct record *record, *self = before->self && before->self->up ? before->self : NULL;
	struct record **names = after ? calloc(HASH_COUNT(before->names) + 1, sizeof(*names)) : NULL;
	unsigned count = 0;

	for (record = before->names; names && record; record = record->hh.next)
		if (record->up)
			names[count++] = record;
	if (names && self)
		names[count++] = self; /* goes last, and comes first */
	set_all_down(watches, before);
	for (unsigned i = 0; i < count; i++) {
		struct record *old = names[self ? (i + count - 1) % count : i];
		struct record *new = record_find(after, old->text);

		if (!new)
			new = record_new(watches, after, old->text);
		if (!new)
			continue;
		if (renamed) {
			old->to = domain_ref(after);
			new->since = old->since;
			new->first = old->first;
		}
		record_change(watches, new, true);
	}
	free(names);
	if (after)
		domain_put(watches, after);
}

void watches_restart(struct watches *watches)
{
	struct domain *before = watches->domains, *after;

	while (before && !before->is_own)
		before = before->hh.next;
	if (!before)
		return;
	domain_unlist(watches, domain_ref(before));
	after = domain_get(watches, watches->self->domid);
	if (after) { /* may have been another domain's number */
		after->is_own = true;
		after->serial = ++watches->last_serial;
	}
	replace(watches, before, after, false);
	domain_unref(watches, before);
	tidy(watches);
}

void watches_renamed(struct watches *watches, uint32_t domid, const char *name)
{
	struct domain *before = domain_find(watches, domid), *after;

	if (!before || !strcmp(before->name, name))
		return;
	domain_unlist(watches, domain_ref(before));
	after = domain_new(watches, domid, name);
	if (after) {
		after->before = domain_ref(before);
		after->began = watches->last_change;
	}
	replace(watches, before, after, true);
	domain_unref(watches, before);
	tidy(watches);
}

/* --- who watches ------------------------------------------------------------------------------ */

static struct watcher *watcher_find(struct watches *watches, const struct session *session)
{
	struct watcher *watcher;

	HASH_FIND_PTR(watches->watchers, &session, watcher);
	return watcher;
}

static struct watcher *watcher_get(struct watches *watches, struct session *session)
{
	struct watcher *watcher = watcher_find(watches, session);

	if (watcher)
		return watcher;
	watcher = calloc(1, sizeof(*watcher));
	if (!watcher)
		return NULL;
	watcher->watches = watches;
	watcher->session = session;
	watcher->account = account_ref(session_hop(session)->account);
	task_init(&watcher->task, watches->turns, account_line(watcher->account), on_turn);
	HASH_ADD_PTR(watches->watchers, session, watcher);
	return watcher;
}

/* No name has other characters, and log lines hold patterns. */
static bool is_printable(struct frame_text text)
{
	for (size_t i = 0; i < text.size; i++)
		if (text.data[i] <= ' ' || text.data[i] >= 0x7f)
			return false;
	return true;
}

void watches_add(struct watches *watches, struct session *session, uint32_t number, struct frame_text pattern)
{
	const char *why = NULL, *colon = memchr(pattern.data, ':', pattern.size);
	size_t domain_size = colon ? (size_t)(colon - pattern.data) : pattern.size;
	size_t endpoint_size = colon ? pattern.size - domain_size - 1 : 0;
	struct watcher *watcher = watcher_get(watches, session);
	struct watch *watch = calloc(1, sizeof(*watch));
	int error = EINVAL;

	if (!watch || !watcher) {
		error = ENOMEM;
		why = "out of memory";
	} else if (watcher->count >= WATCHES_PER_SESSION) {
		error = ENOBUFS;
		why = "a program may have 64 watches";
	} else if (domain_size == 0 || domain_size >= sizeof(watch->domain) || !is_printable(pattern) ||
		   (colon && memchr(colon + 1, ':', endpoint_size))) {
		why = "a pattern is DOMAIN or DOMAIN:ENDPOINT";
	} else if (colon && (endpoint_size == 0 || endpoint_size >= sizeof(watch->endpoint))) {
		why = "the pattern for the endpoint is empty or too long";
	}
	if (why) {
		free(watch);
		if (watcher && watcher->count == 0)
			watcher_free(watcher);
		session_reply(session, number, error, why, strlen(why));
		return;
	}
	watch->number = number;
	watch->endpoints = colon != NULL;
	memcpy(watch->domain, pattern.data, domain_size);
	watch->domain_size = domain_size;
	if (colon)
		memcpy(watch->endpoint, colon + 1, endpoint_size);
	watch->endpoint_size = endpoint_size;
	DL_APPEND(watcher->list, watch);
	watcher->count++;
	session_reply(session, number, 0, "", 0);
	task_due(&watcher->task);
}

int watches_remove(struct watches *watches, struct session *session, uint32_t number)
{
	struct watcher *watcher = watcher_find(watches, session);
	struct watch *watch = NULL;

	if (watcher)
		DL_SEARCH_SCALAR(watcher->list, watch, number, number);
	if (!watch)
		return -ENOENT;
	DL_DELETE(watcher->list, watch);
	free(watch);
	if (--watcher->count == 0)
		watcher_free(watcher);
	return 0;
}

void watches_remove_session(struct watches *watches, struct session *session)
{
	struct watcher *watcher = watcher_find(watches, session);

	if (watcher)
		watcher_free(watcher);
}
