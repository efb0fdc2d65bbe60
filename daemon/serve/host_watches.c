/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/host_watches.h"

#include <errno.h>
#include <fnmatch.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/timer.h"
#include "daemon/serve/questions.h"
#include "daemon/serve/watches_internal.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_image.h"
#include "wire/retry.h"
#include "wire/ut.h"

#define FAILURES_MAX 2u

#define COST_RETRY  250u /* in units (turns.h) */
#define COST_RECORD 12u

#define QUICK_MS                                                                                             \
	100u /* an answer within that doesn't wait for a change, as one does that lets changes gather */
#define QUICK_MOST    8u   /* then a pause */
#define QUICK_ENTRIES 256u /* one with so many counts twice */

#define NO_DOMID (UINT32_MAX - 1) /* of a place of which nothing was told here */

static const struct self nobody = {.domid = NO_DOMID};

/* --- life of a place ---------------------------------------------------------------------------- */

static bool is_host(const struct watched_place *place)
{
	return place->kind == ASK_DOMAINS;
}

static struct asks *asks_of(const struct watched_place *place)
{
	return place->watch->watcher->watches->asks;
}

/* Adds what is asked of its host, or of the domain there. NULL: no memory. */
static struct watched_place *add_place(struct host_watch *watch, const char *domain)
{
	struct watched_place *place = calloc(1, sizeof(*place));

	if (!place)
		return NULL;
	place->watch = watch;
	place->kind = watch->count ? ASK_ENDPOINTS : ASK_DOMAINS;
	place->domid = watch->count ? NO_DOMID : WATCHES_HOST;
	place->is_wanted = true;
	place->is_up = watch->watch->has_stood && !watch->is_known;
	snprintf(place->domain, sizeof(place->domain), "%s", domain);
	charge_init(&place->charge, watch->watcher->account);
	DL_APPEND(watch->places, place);
	watch->count++;
	return place;
}

static int add_places(struct host_watch *watch)
{
	const struct watched_place *host = add_place(watch, "");

	return host && (watch->is_pattern || add_place(watch, watch->domain)) ? 0 : -ENOMEM;
}

/* Lets the program be told that all of it has gone. */
static void host_watches_let_go(struct watched_place *place)
{
	struct registry *registry = place->watch->registry;

	place->is_up = false;
	registry_set_up(registry, place->domid, false);
	registry_forget_name(registry, place->domid);
	charge_release(&place->charge, QUOTA_BYTES, place->charge.held[QUOTA_BYTES]);
}

static void free_place(struct watched_place *place)
{
	struct host_watch *watch = place->watch;

	asks_cancel(asks_of(place), place, 0);
	charge_end(&place->charge);
	DL_DELETE(watch->places, place);
	watch->count--;
	free(place);
}

/* --- asking ------------------------------------------------------------------------------------- */

static void on_told(void *userdata, void *asker, uint32_t id, enum ask_kind kind, const char *host,
		    const struct frame_told *told);

static int host_watches_ask(struct watched_place *place)
{
	const struct host_watch *watch = place->watch;
	const struct ask_question question = {
		.kind = place->kind,
		.host = watch->host,
		.domain = place->domain,
		.known = place->version,
		.from = watch->from,
	};
	int r;

	place->state = PLACE_RESTS;
	place->asked_ms = clock_ms();
	r = asks_ask(asks_of(place), &question, watch->watcher->account, on_told, place, 0);
	place->state = r < 0 ? PLACE_RESTS : PLACE_ASKED;
	return r;
}

static void ask_later(struct watched_place *place)
{
	place->state = PLACE_WAITS;
	timer_start(place->watch->watcher->watches->retry, RETRY_EACH_MS);
}

/* Why there is no answer may pass: the link was idle, or is another one, or a daemon hands over (-EAGAIN),
 * this one or that which answers. Then an answer comes at once, also if nothing has changed. */
static void note_failure(struct watched_place *place, int error)
{
	place->version = 0;
	if (error != -EAGAIN && place->failures++ < FAILURES_MAX && place->is_up)
		error = host_watches_ask(place);
	if (error == 0)
		return;
	ask_later(place);
	if (error == -EAGAIN)
		return;
	host_watches_let_go(place);
	place->is_listed = true;
	task_due(&place->watch->task);
}

/* Asks again, or, for a reason that may pass, later. */
static void ask_or_wait(struct watched_place *place)
{
	int r;

	if (place->quick > QUICK_MOST) {
		place->quick = 0;
		ask_later(place);
		return;
	}
	r = host_watches_ask(place);
	if (r < 0)
		note_failure(place, r);
}

static void refuse_watch(struct host_watch *watch, int error, const char *why)
{
	if (error == EAGAIN) /* as above */
		question_again(watch->watch->question);
	else
		question_refuse(watch->watch->question, error, why);
	host_watch_end(watch);
}

/* Lets its question stand. False: out of memory, which ends the watch. */
static bool answer_watch(struct host_watch *watch)
{
	struct question *standing = question_stand(watch->watch->question);

	if (!standing) {
		refuse_watch(watch, ENOMEM, "out of memory");
		return false;
	}
	watch->is_answered = true;
	watch->watch->question = standing;
	watcher_add(watch->inner, watch->watch);
	return true;
}

/* --- what was told --------------------------------------------------------------------------- */

/* -ENOBUFS. */
static int set_charge(struct charge *charge, uint64_t bytes)
{
	uint64_t held = charge->held[QUOTA_BYTES];

	if (bytes > held)
		return charge_add(charge, QUOTA_BYTES, bytes - held);
	charge_release(charge, QUOTA_BYTES, held - bytes);
	return 0;
}

/* Keeps which domains there are, to be looked at in turns. -ENOMEM. */
static int enter_host(struct watched_place *place, const struct frame_told *told)
{
	struct host_watch *watch = place->watch;
	size_t size = told->count && watch->is_pattern ? (size_t)(told->end - told->at) : 0;
	uint8_t *text = malloc(size + 1);
	struct watched_place *other;
	int r = text ? set_charge(&place->charge, size) : -ENOMEM;

	if (r < 0) {
		free(text);
		return r;
	}
	if (size)
		memcpy(text, told->at, size);
	free(watch->text);
	watch->text = text;
	watch->fresh = *told;
	watch->fresh.count = size ? told->count : 0;
	watch->fresh.at = text;
	watch->fresh.end = text + size;
	watch->lacks_some = watch->is_pattern && told->flags & TOLD_CUT;
	DL_FOREACH(watch->places, other)
		other->is_wanted = is_host(other) || !watch->is_pattern;
	registry_set_up(watch->registry, WATCHES_HOST, true);
	return 0;
}

/* Returns the names, to be freed by free(list). NULL: no memory. */
static char **names_of(struct frame_told told)
{
	char **list = malloc(told.count * (sizeof(*list) + ENDPOINT_NAME_MAX + 1) + 1);
	char *at = (char *)(list + told.count);
	struct frame_told_entry entry;

	for (unsigned i = 0; list && frame_told_next(&told, &entry); i++) {
		list[i] = at;
		at += snprintf(at, ENDPOINT_NAME_MAX + 1, "%.*s", (int)entry.name.size, entry.name.data) + 1;
	}
	return list;
}

/* Whether what was asked for is another domain now, or has another name. */
static bool host_watches_is_another(const struct watched_place *place, const struct frame_told *told)
{
	const char *name = registry_name(place->watch->registry, place->domid);

	return place->domid != NO_DOMID && (place->domid != told->domid ||
					    (*name && (strlen(name) != told->name.size ||
						       memcmp(name, told->name.data, told->name.size) != 0)));
}

/* Whether it is told of another domain than of the one of a pattern: that has a place of its own, if it is
 * meant. */
static bool is_misplaced(const struct watched_place *place, const struct frame_told *told)
{
	return !is_host(place) && place->watch->is_pattern && strtoul(place->domain, NULL, 10) != told->domid;
}

static int enter_domain(struct watched_place *place, const struct frame_told *told)
{
	struct registry *registry = place->watch->registry;
	struct offered offered = {
		.list = names_of(*told), .count = told->count, .is_cut = told->flags & TOLD_CUT};
	struct registry_domain *domain;
	int r = offered.list ? 0 : -ENOMEM;

	if (host_watches_is_another(place, told))
		host_watches_let_go(place);
	place->domid = told->domid;
	domain = registry_get(registry, told->domid);
	if (r == 0)
		r = domain ? set_charge(&place->charge, (told->count + 1) * sizeof(struct record)) : -ENOMEM;
	if (r == 0) {
		registry_set_name(registry, domain, told->name.data, told->name.size);
		registry_set_up(registry, told->domid, true);
		registry_set_endpoints(registry, told->domid, &offered, 1);
		turns_spend(place->watch->task.turns, place->watch->task.line, told->count * COST_RECORD);
	}
	free(offered.list);
	return r;
}

static void on_told(void *userdata, void *asker, uint32_t id, enum ask_kind kind, const char *host,
		    const struct frame_told *told)
{
	struct watched_place *place = asker;
	struct host_watch *watch = place->watch;
	int r = told->error ? -(int)told->error : 0;

	place->state = PLACE_RESTS;
	if (!watch->is_answered && told->error) {
		refuse_watch(watch, (int)told->error, asks_why_not(kind, (int)told->error));
		return;
	}
	if (r == 0 && is_misplaced(place, told))
		r = -EHOSTDOWN;
	if (r == 0)
		r = is_host(place) ? enter_host(place, told) : enter_domain(place, told);
	if (r < 0) {
		note_failure(place, r);
		return;
	}
	if (!watch->is_answered && !answer_watch(watch))
		return;
	place->quick = clock_ms_since(place->asked_ms) < QUICK_MS
			       ? place->quick + 1 + told->count / QUICK_ENTRIES
			       : 0;
	place->failures = 0;
	place->version = told->version;
	place->is_up = true;
	place->is_listed = place->is_listed || !is_host(place);
	place->state = is_host(place) ? PLACE_WALKS : PLACE_RETRIES;
	task_due(&watch->task);
}

void host_watch_retry(struct host_watch *watch)
{
	struct watched_place *place;

	DL_FOREACH(watch->places, place)
		if (place->state == PLACE_WAITS) {
			place->state = PLACE_RETRIES;
			task_due(&watch->task);
		}
}

/* --- which domains are meant -------------------------------------------------------------------- */

static struct watched_place *find_domain(const struct host_watch *watch, const char *domid)
{
	struct watched_place *place;

	DL_FOREACH(watch->places, place)
		if (!is_host(place) && !strcmp(place->domain, domid))
			return place;
	return NULL;
}

/* Lets the endpoints of a domain that the host has told be asked for, if it is meant. */
static uint64_t visit_domain(struct host_watch *watch, const struct frame_told_entry *entry)
{
	uint64_t cost = COST_VISIT + watch->count + COST_MATCH(strlen(watch->domain), entry->name.size + 5);
	char domid[16], name[DOMAIN_NAME_MAX + 1];
	struct watched_place *place;

	snprintf(domid, sizeof(domid), "%u", entry->number);
	snprintf(name, sizeof(name), "%.*s", (int)entry->name.size, entry->name.data);
	if (fnmatch(watch->domain, domid, 0) != 0 && (!*name || fnmatch(watch->domain, name, 0) != 0))
		return cost;
	place = find_domain(watch, domid);
	if (place)
		place->is_wanted = true;
	else if (watch->count > HOST_WATCH_DOMAINS || !add_place(watch, domid))
		watch->lacks_some = true;
	return cost;
}

/* Lets go what the host doesn't tell any more, and has what it tells now be asked for. */
static void follow_domains(struct host_watch *watch)
{
	struct watched_place *place, *next;

	DL_FOREACH_SAFE(watch->places, place, next) {
		if (is_host(place))
			continue;
		if (!place->is_wanted) {
			host_watches_let_go(place);
			free_place(place);
			if (watch->lacks_some) /* there is room for one: the host is to say it again */
				watch->places->version = 0;
		} else if (place->state == PLACE_RESTS ||
			   (place->state == PLACE_WAITS && watch->places->quick <= 1)) {
			place->state = PLACE_RETRIES;
		}
	}
}

/* Looks at a domain, or asks again. Returns what it cost. */
static uint64_t host_watches_step(struct watched_place *place)
{
	struct host_watch *watch = place->watch;
	struct frame_told_entry entry;

	if (place->state == PLACE_WALKS) {
		if (frame_told_next(&watch->fresh, &entry))
			return visit_domain(watch, &entry);
		place->is_listed = true;
		follow_domains(watch);
		registry_set_cut(watch->registry, WATCHES_HOST, watch->lacks_some);
	}
	ask_or_wait(place);
	return COST_RETRY;
}

static struct watched_place *next_with_work(const struct host_watch *watch)
{
	struct watched_place *place;

	DL_FOREACH(watch->places, place)
		if (place->state == PLACE_WALKS || place->state == PLACE_RETRIES)
			break;
	return place;
}

static bool are_listed(const struct host_watch *watch)
{
	const struct watched_place *place;

	DL_FOREACH(watch->places, place)
		if (!place->is_listed)
			return false;
	return true;
}

static void host_watches_on_turn(struct task *task)
{
	struct host_watch *watch = (struct host_watch *)((char *)task - offsetof(struct host_watch, task));
	uint64_t cost = 0;
	struct watched_place *place;

	while (!watch->inner->task.is_due && cost < PIECE && (place = next_with_work(watch)) != NULL)
		cost += watch->count + host_watches_step(place);
	if (!watch->is_known && are_listed(watch)) {
		watch->is_known = true;
		registry_tell(watch->registry, REGISTRY_ALL, 0);
	}
	turns_spend(task->turns, task->line, cost);
	if (cost >= PIECE || watch->inner->task.is_due) /* it goes on when the program was told all */
		task_due(task);
}

/* --- life --------------------------------------------------------------------------------------- */

/* Returns why it can't be watched, or NULL. */
static const char *set_pattern(struct host_watch *watch, const struct address_parts *pattern)
{
	const struct address_part *host = &pattern->host, *domain = &pattern->domain;

	if (!host_name_is_valid(host->data, host->size) ||
	    !address_part_copy(*host, watch->host, sizeof(watch->host)))
		return "the part before the slash must be a host's name, without * and ?";
	if (!domain_name_is_valid(domain->data, domain->size) ||
	    !address_part_copy(*domain, watch->domain, sizeof(watch->domain)))
		return "a pattern is HOST/DOMAIN or HOST/DOMAIN:ENDPOINT";
	watch->is_pattern = strpbrk(watch->domain, "*?[");
	return NULL;
}

/* Asks the host, whose answer is that to the WATCH; the domain is asked when that is there. The watch is
 * freed if it can't be asked. */
static void ask_first(struct host_watch *watch)
{
	int r = host_watches_ask(watch->places);

	if (r < 0)
		refuse_watch(watch, -r, asks_why_not(ASK_DOMAINS, -r));
}

/* Asks for what the daemon before this had been told. */
static void ask_all(struct host_watch *watch)
{
	struct watched_place *place;

	DL_FOREACH(watch->places, place)
		place->state = PLACE_RETRIES;
	task_due(&watch->task);
}

static bool is_known(void *userdata)
{
	return ((struct host_watch *)userdata)->is_known;
}

/* Takes over what was made for all endpoints, or some, of all domains that are in its registry. NULL: no
 * memory. */
static struct host_watch *host_watch_new(struct watcher *watcher, struct watch *told)
{
	struct host_watch *watch = calloc(1, sizeof(*watch));
	struct registry *registry = registry_new(&nobody);
	struct watches *watches =
		registry ? watches_new(watcher->watches->turns, registry, NULL, is_known, watch) : NULL;
	struct watcher *inner = watches ? watcher_get(watches, told->question) : NULL;

	if (!watch || !inner) {
		watches_free(watches);
		registry_free(registry);
		free(watch);
		free(told);
		return NULL;
	}
	*watch = (struct host_watch){
		.watcher = watcher, .registry = registry, .watches = watches, .inner = inner, .watch = told};
	watches->host = watch->host;
	task_init(&watch->task, watcher->watches->turns,
		  watcher->account ? account_line(watcher->account) : NULL, host_watches_on_turn);
	DL_APPEND(watcher->of_hosts, watch);
	watcher->of_hosts_count++;
	return watch;
}

void host_watch_free(struct host_watch *watch)
{
	struct watcher *watcher = watch->watcher;

	while (watch->places)
		free_place(watch->places);
	DL_DELETE(watcher->of_hosts, watch);
	watcher->of_hosts_count--;
	task_cancel(&watch->task);
	if (!watch->is_answered)
		free(watch->watch);
	watches_free(watch->watches);
	registry_free(watch->registry);
	free(watch->text);
	free(watch);
}

void host_watch_end(struct host_watch *watch)
{
	struct watcher *watcher = watch->watcher;

	host_watch_free(watch);
	watcher_free_if_empty(watcher);
}

void host_watch_add(struct watcher *watcher, struct watch *told, const struct address_parts *pattern,
		    const struct frame_identity *from)
{
	struct question *question = told->question;
	struct host_watch *watch = host_watch_new(watcher, told);
	const char *why;
	int error = EINVAL;

	if (!watch) {
		question_refuse(question, ENOMEM, "out of memory");
		watcher_free_if_empty(watcher);
		return;
	}
	watch->from = *from;
	why = set_pattern(watch, pattern);
	if (!why && watcher->of_hosts_count > HOST_WATCHES_PER_ASKER) {
		why = "a program may have 16 watches of other hosts";
		error = ENOBUFS;
	} else if (!why && add_places(watch) < 0) {
		why = "out of memory";
		error = ENOMEM;
	}
	if (why)
		refuse_watch(watch, error, why);
	else if (!told->has_stood)
		ask_first(watch);
	else if (answer_watch(watch))
		ask_all(watch);
}
