/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Watches in the image that a daemon hands over (base/image.h), and what their programs were told. The old
 * daemon tells all that it knows, and then nothing more. It writes each thing that is there then (THING), and
 * the watches, each of which knows the things that it means; one of another host (HOST_WATCH) has its own
 * things with it. The next daemon tells nothing of these until it knows itself what is there: then of those
 * that have gone in between. All else it tells as ever. So a program hears nothing where nothing has changed.
 * A daemon that hands over before it has told that tells of those that were missed for that long by it and
 * the daemons before it.
 */

#include "daemon/local/watches_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/image.h"
#include "base/timer.h"
#include "daemon/local/host_watches.h"
#include "daemon/local/session.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_image.h"
#include "wire/ut.h"

#define HOLD_NS 20000000u /* of CPU, for all watches, while nobody is served */

#define SETTLE_MS    2000u /* in which other domains and their endpoints are found again */
#define COST_COMPARE 4u

/* --- what was there before -------------------------------------------------------------------- */

static void key_of(const struct record *record, char key[sizeof(((struct thing *)0)->key)])
{
	snprintf(key, sizeof(((struct thing *)0)->key), "%u %s", record->domain->domid, record->text);
}

static struct thing *find_before(const struct watches *watches, const struct record *record)
{
	struct thing *thing;
	char key[sizeof(thing->key)];

	key_of(record, key);
	HASH_FIND_STR(watches->before, key, thing);
	return thing;
}

/* Returns what is known now under that number and endpoint. NULL: nothing is. */
static const struct record *find_now(const struct watches *watches, const struct thing *thing)
{
	const struct registry_domain *domain = registry_find(watches->registry, thing->domain.domid);

	return domain && domain->current ? record_find(domain->current, thing->record->text) : NULL;
}

static void forget_thing(struct watches *watches, struct thing *thing)
{
	HASH_DEL(watches->before, thing);
	free(thing->record);
	free(thing);
}

/* It was called otherwise before, and that isn't only unknown now. */
static bool is_renamed(const struct thing *thing, const struct record *now)
{
	return now->domain->name[0] && strcmp(thing->domain.name, now->domain->name) != 0;
}

/* Whether what is there now under its number and name is something else than was told. */
static bool watches_image_is_another(const struct thing *thing, const struct record *now)
{
	return now && now->up && (now->went || is_renamed(thing, now));
}

/* Whether its link is away where none was told to be, or is there again. */
static bool is_away_otherwise(const struct thing *thing, const struct record *now)
{
	return now && now->up && !now->size && now->domain->away != thing->domain.away;
}

static void watches_image_compare(struct watcher *watcher, struct watch *watch, const struct thing *thing,
				  uint64_t *cost)
{
	const struct record *now = find_now(watcher->watches, thing);
	bool was_meant = watch_means(watch, thing->record, cost),
	     changed = watches_image_is_another(thing, now);

	if (was_meant && (!now || !now->up || changed))
		watch_tell(watcher, watch, thing->record, false, cost);
	if ((!changed && !is_away_otherwise(thing, now)) || !watch_means(watch, now, cost))
		return;
	if (changed || thing->domain.away)
		watch_tell(watcher, watch, now, true, cost);
	watch_tell_away(watcher, watch, now, cost);
}

/* --- handing over ----------------------------------------------------------------------------- */

void watches_stay(struct watches *watches)
{
	struct watcher *watcher, *next;
	struct host_watch *of_host, *other;

	watches->is_held = false;
	HASH_ITER(hh, watches->watchers, watcher, next) {
		task_due(&watcher->task);
		DL_FOREACH_SAFE(watcher->of_hosts, of_host, other) {
			watches_stay(of_host->watches);
			host_watch_go_on(of_host);
		}
	}
}

void watch_knew_before(struct watcher *watcher, struct watch *watch)
{
	watch->knows_before = true;
	watch->compared = NULL;
	watcher->watches->comparing++;
}

/* Whether watches have had their time while nobody is served: then the program is cut off. Those
 * with few watches come first, so it is one of many. */
static bool is_out_of_time(struct watcher *watcher, uint64_t end_ns)
{
	if (!watcher->is_cut_off && clock_thread_ns() > end_ns) {
		watcher->is_cut_off = true;
		session_cut_off(
			watcher->session, -ENOBUFS,
			"the daemon hands over, and there is more news for its watches than it has time for");
	}
	return watcher->is_cut_off;
}

/* Tells a watch what the daemon before this has told others, and this one doesn't know yet: the next one
 * takes it for told. The watch began here, or has heard already that it has gone. */
static void tell_before(struct watcher *watcher, struct watch *watch, uint64_t end_ns)
{
	struct watches *watches = watcher->watches;
	const struct thing *thing;
	uint64_t cost = 0;

	for (thing = watches->before; thing && !is_out_of_time(watcher, end_ns); thing = thing->hh.next) {
		const struct record *now = find_now(watches, thing);

		if ((!now || !now->up) && watch_means(watch, thing->record, &cost)) {
			watch_tell(watcher, watch, thing->record, true, &cost);
			watch_tell_away(watcher, watch, thing->record, &cost);
		}
		cost += COST_COMPARE;
	}
	turns_spend(watches->turns, watcher->task.line, cost);
	watch_knew_before(watcher, watch);
}

/* Whether it has changed for certain, or was missed for so long that it has gone. */
static bool is_settled(const struct watches *watches, struct thing *thing, uint32_t for_ms)
{
	const struct record *now = find_now(watches, thing);

	thing->missed_ms = now && now->up ? 0 : thing->missed_ms + for_ms;
	return thing->missed_ms >= SETTLE_MS || watches_image_is_another(thing, now) ||
	       is_away_otherwise(thing, now);
}

/* Tells a watch what is settled, and lets it go on behind that with what isn't. */
static void tell_settled_to(struct watcher *watcher, struct watch *watch, uint64_t end_ns)
{
	const struct thing *thing;
	uint64_t cost = 0;

	for (thing = watcher->watches->before; thing; thing = thing->hh.next)
		if (thing->is_settled && !is_out_of_time(watcher, end_ns))
			watches_image_compare(watcher, watch, thing, &cost);
}

/* Tells what is certain of what the daemon before this has told. The next one has no time of its own for
 * that, if daemons hand over again and again. */
static void tell_settled(struct watches *watches, uint64_t end_ns)
{
	bool knows_all = watches->before && watches->knows_all(watches->userdata), are_some = false;
	uint32_t ms = (uint32_t)(clock_ms() - watches->began_ms);
	struct thing *thing, *next;
	struct watcher *watcher;
	struct watch *watch;

	HASH_ITER(hh, watches->before, thing, next) {
		thing->is_settled = is_settled(watches, thing, knows_all || thing->domain.is_own ? ms : 0);
		are_some |= thing->is_settled;
	}
	for (watcher = watches->watchers; watcher && are_some; watcher = watcher->hh.next)
		DL_FOREACH(watcher->list, watch) {
			if (watch->knows_before)
				tell_settled_to(watcher, watch, end_ns);
			while (watch->compared && watch->compared->is_settled)
				watch->compared = watch->compared->hh.prev;
		}
	HASH_ITER(hh, watches->before, thing, next)
		if (thing->is_settled)
			forget_thing(watches, thing);
}

/* Links are left behind this, and some may come and go, of which nobody is told. */
static void note_told(const struct watches *watches)
{
	struct record *record;
	uint64_t at = 0;

	while ((record = changes_next(watches->changes, at, UINT64_MAX)) != NULL) {
		at = record->changed;
		record->was_up = record->up;
		record->domain->was_away = record->domain->away;
	}
}

static int fewer_first(const struct watcher *one, const struct watcher *other)
{
	return one->count < other->count ? -1 : one->count > other->count;
}

void watches_hold_until(struct watches *watches, uint64_t end_ns)
{
	struct watcher *watcher, *next;
	struct host_watch *of_host;
	struct watch *watch;

	HASH_SRT(hh, watches->watchers, fewer_first);
	HASH_ITER(hh, watches->watchers, watcher, next) {
		uint64_t cost = 0;

		DL_FOREACH(watcher->of_hosts, of_host)
			host_watch_hold(of_host, end_ns);
		/* Nothing changes meanwhile, so it ends. */
		while (!watcher->is_cut_off && !watcher_hear(watcher, &cost)) {
			turns_spend(watches->turns, watcher->task.line, cost);
			cost = 0;
			is_out_of_time(watcher, end_ns);
		}
	}
	tell_settled(watches, end_ns);
	HASH_ITER(hh, watches->watchers, watcher, next)
		DL_FOREACH(watcher->list, watch) {
			watch->was_told = true;
			if (watches->before && !watch->knows_before)
				tell_before(watcher, watch, end_ns);
		}
	watches->is_held = true;
	note_told(watches);
}

void watches_hold(struct watches *watches)
{
	watches_hold_until(watches, clock_thread_ns() + HOLD_NS);
}

bool watches_are_behind(const struct watches *watches)
{
	const struct watcher *watcher;

	for (watcher = watches->watchers; watcher; watcher = watcher->hh.next)
		if (watcher->task.is_due && !watcher->is_cut_off)
			return true;
	return false;
}

/* --- sections --------------------------------------------------------------------------------- */

void watch_image(struct image *image, struct watch *watch)
{
	image_u32(image, &watch->number);
	image_text(image, watch->domain, sizeof(watch->domain));
	image_text(image, watch->endpoint, sizeof(watch->endpoint));
	image_bool(image, &watch->endpoints);
	image_bool(image, &watch->is_listed);
	image_bool(image, &watch->was_told);
	image_expect(image, watch->domain[0] && (!watch->endpoints || watch->endpoint[0]));
	watch->domain_size = strlen(watch->domain);
	watch->endpoint_size = strlen(watch->endpoint);
}

static void thing_image(struct image *image, uint32_t *domid, bool *is_own, char name[DOMAIN_NAME_MAX + 1],
			char text[ENDPOINT_NAME_MAX + 1], bool *is_away, uint32_t *missed_ms)
{
	image_u32(image, domid);
	image_bool(image, is_own);
	image_text(image, name, DOMAIN_NAME_MAX + 1);
	image_text(image, text, ENDPOINT_NAME_MAX + 1);
	image_bool(image, is_away);
	image_upto(image, missed_ms, SETTLE_MS);
}

static void write_thing(struct image *image, bool of_host, const struct record *record, bool is_away,
			uint32_t missed_ms)
{
	char name[DOMAIN_NAME_MAX + 1], text[ENDPOINT_NAME_MAX + 1];
	uint32_t domid = record->domain->domid;
	bool is_own = record->domain->is_own;

	snprintf(name, sizeof(name), "%s", record->domain->name);
	snprintf(text, sizeof(text), "%s", record->text);
	if (of_host)
		image_bool(image, &of_host); /* there is another one */
	else
		image_section(image, IMAGE_THING);
	thing_image(image, &domid, &is_own, name, text, &is_away, &missed_ms);
}

/* All that was told, also what the daemon before this has told and this one doesn't know yet. */
void watches_write_things(const struct watches *watches, struct image *image)
{
	bool of_host = *watches->host;
	const struct record *record;
	const struct thing *thing;
	uint64_t at = 0;

	while ((record = changes_next(watches->changes, at, UINT64_MAX)) != NULL) {
		at = record->changed;
		if (record->was_up && !find_before(watches, record))
			write_thing(image, of_host, record, record->domain->was_away, 0);
	}
	for (thing = watches->before; thing; thing = thing->hh.next)
		write_thing(image, of_host, thing->record, thing->domain.away, thing->missed_ms);
	if (of_host)
		image_bool(image, &(bool){false});
}

void watches_write_image(struct watches *watches, struct image *image)
{
	const struct watcher *watcher;
	struct host_watch *of_host;
	struct watch *watch;

	if (watches->watchers)
		watches_write_things(watches, image);
	for (watcher = watches->watchers; watcher; watcher = watcher->hh.next)
		DL_FOREACH(watcher->list, watch) {
			image_section(image, IMAGE_WATCH);
			image_u32(image, &(uint32_t){hop_number_in_image(session_hop(watcher->session))});
			watch_image(image, watch);
		}
	for (watcher = watches->watchers; watcher; watcher = watcher->hh.next)
		DL_FOREACH(watcher->of_hosts, of_host)
			host_watch_write_image(of_host, image);
}

static void read_watch(struct watcher *watcher, struct watch *watch, struct image *image)
{
	watch_image(image, watch);
	image_expect(image,
		     !watcher_find_watch(watcher, watch->number) && watcher->count < WATCHES_PER_SESSION);
	if (image->error) {
		free(watch);
		return;
	}
	if (watch->was_told)
		watch_knew_before(watcher, watch);
	watcher_add(watcher, watch);
}

static void read_thing(struct watches *watches, struct image *image)
{
	char name[DOMAIN_NAME_MAX + 1] = "", text[ENDPOINT_NAME_MAX + 1] = "";
	struct thing *thing = calloc(1, sizeof(*thing));
	bool is_own = false, is_away = false;
	uint32_t domid = 0, missed_ms = 0;

	thing_image(image, &domid, &is_own, name, text, &is_away, &missed_ms);
	if (thing && !image->error)
		thing->record = calloc(1, sizeof(*thing->record) + strlen(text) + 1);
	if (!thing || (!image->error && !thing->record))
		image_fail(image, -ENOMEM);
	if (image->error) {
		free(thing);
		return;
	}
	thing->domain = (struct named_domain){.domid = domid,
					      .is_own = is_own,
					      .away = is_away,
					      .serial = UINT64_MAX - HASH_COUNT(watches->before)};
	snprintf(thing->domain.name, sizeof(thing->domain.name), "%s", name);
	thing->missed_ms = missed_ms;
	thing->record->domain = &thing->domain;
	thing->record->up = true;
	thing->record->size = strlen(text);
	memcpy(thing->record->text, text, thing->record->size + 1);
	image_expect(image, !find_before(watches, thing->record));
	key_of(thing->record, thing->key);
	HASH_ADD_STR(watches->before, key, thing);
	if (!HASH_ADDED(thing)) {
		free(thing->record);
		free(thing);
		image_fail(image, -ENOMEM);
	}
}

void watches_read_things(struct watches *watches, struct image *image)
{
	bool has_more = false;

	for (image_bool(image, &has_more); has_more && !image->error; image_bool(image, &has_more))
		read_thing(watches, image);
}

void watches_read_image(struct watches *watches, struct image *image, const struct image_hops *hops,
			uint32_t type)
{
	struct hop *hop;
	struct watcher *watcher;
	struct watch *watch;

	if (type == IMAGE_THING) {
		read_thing(watches, image);
		return;
	}
	hop = image_program(image, hops, &(uint32_t){0});
	if (!hop)
		return;
	watcher = watcher_get(watches, hop_owner(hop));
	watch = calloc(1, sizeof(*watch));
	if (!watch || !watcher) {
		free(watch);
		image_fail(image, -ENOMEM);
	} else if (type == IMAGE_WATCH) {
		read_watch(watcher, watch, image);
	} else {
		host_watch_read_image(watcher, watch, image);
	}
	watcher_free_if_empty(watcher);
}

/* --- what has changed in between -------------------------------------------------------------- */

static void on_settled(evutil_socket_t fd, short what, void *userdata)
{
	struct watches *watches = userdata;
	struct watcher *watcher;

	event_free(watches->settle);
	watches->settle = NULL;
	for (watcher = watches->watchers; watcher; watcher = watcher->hh.next)
		task_due(&watcher->task);
}

void watches_forget_before(struct watches *watches)
{
	struct thing *thing, *next;

	HASH_ITER(hh, watches->before, thing, next)
		forget_thing(watches, thing);
}

void watches_go_on(struct watches *watches, struct event_base *base)
{
	struct watcher *watcher, *next;
	struct host_watch *of_host, *other;

	HASH_ITER(hh, watches->watchers, watcher, next)
		DL_FOREACH_SAFE(watcher->of_hosts, of_host, other) {
			of_host->watches->began_ms = clock_ms();
			host_watch_go_on(of_host);
		}
	if (!watches->comparing) {
		watches_forget_before(watches);
		return;
	}
	watches->began_ms = clock_ms();
	watches->settle = evtimer_new(base, on_settled, watches);
	if (watches->settle)
		timer_set(watches->settle, SETTLE_MS);
}

void watches_end_compare(struct watches *watches, struct watch *watch)
{
	if (!watch->knows_before)
		return;
	watch->knows_before = false;
	if (--watches->comparing == 0)
		watches_forget_before(watches);
}

bool watch_knows_before(const struct watch *watch, const struct watches *watches, const struct record *record)
{
	const struct thing *thing = watch->knows_before ? find_before(watches, record) : NULL;

	/* The comparing may take several turns: the later a thing is compared, the smaller its serial. */
	return thing && (!watch->compared || thing->domain.serial < watch->compared->domain.serial);
}

bool watch_compare(struct watcher *watcher, struct watch *watch, uint64_t *cost)
{
	struct watches *watches = watcher->watches;
	const struct thing *thing;

	if (watches->settle || (watch_means_others(watch) && !watches->knows_all(watches->userdata)))
		return true;
	while ((thing = watch->compared ? watch->compared->hh.next : watches->before) != NULL) {
		if (*cost >= PIECE)
			return false;
		watches_image_compare(watcher, watch, thing, cost);
		*cost += COST_COMPARE;
		watch->compared = thing;
	}
	watches_end_compare(watches, watch);
	return true;
}
