/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/watches_internal.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/invariant.h"
#include "base/timer.h"
#include "base/turns.h"
#include "daemon/registry/changes.h"
#include "daemon/serve/host_watches.h"
#include "daemon/serve/questions.h"
#include "daemon/local/session.h"
#include "daemon/switch/hop.h"
#include "wire/address.h"
#include "wire/frame.h"
#include "wire/text.h"
#include "wire/ut.h"

#define SETTLE_MS 2000u /* in which a daemon that has taken over finds other domains and their endpoints */

/* --- events ---------------------------------------------------------------------------------- */

void watcher_cut_off(struct watcher *watcher, int error, const char *why)
{
	const struct watch *watch = watcher->list ? watcher->list : watcher->of_hosts->watch;
	struct hop *program = question_program(watch->question);

	watcher->is_cut_off = true;
	if (program)
		session_cut_off(program, error, why);
	else /* it has gone, or is another domain's, whose channel ends in its turn */
		task_due(&watcher->task);
}

/* Tells of an event, unless the program is cut off. */
static void watch_event(struct watcher *watcher, const struct watch *watch, struct frame_event event)
{
	uint8_t payload[FRAME_PAYLOAD_MAX];
	int r;

	if (watcher->is_cut_off)
		return;
	event.host = frame_text_of(watcher->watches->host);
	r = question_tell(watch->question, payload, frame_event_encode(&event, payload));
	if (r < 0)
		watcher_cut_off(watcher, r, "xenmsgd has no memory for what it tells the program");
}

static void wake_all(struct watches *watches)
{
	struct watcher *watcher;

	if (watches->all_are_due || watches->woken_for == watches->changes->last)
		return;
	watches->woken_for = watches->changes->last;
	watches->all_are_due = true;
	for (watcher = watches->watchers; watcher; watcher = watcher->hh.next)
		task_due(&watcher->task);
}

/* --- what is forgotten ------------------------------------------------------------------------ */

/* Returns the change that all watches have passed. `known`: not only on their present walk. */
static uint64_t heard_by_all(const struct watches *watches, bool known)
{
	uint64_t heard = watches->changes->last;
	const struct watcher *watcher;
	const struct watch *watch;

	for (watcher = watches->watchers; watcher; watcher = watcher->hh.next) {
		if (watcher->is_cut_off)
			continue;
		/* A new watch that has heard nothing yet was never told of what has gone. */
		DL_FOREACH(watcher->list, watch)
			if (watch->heard && (known ? watch->known : watch->heard) < heard)
				heard = known ? watch->known : watch->heard;
	}
	return heard;
}

/* Cuts off the programs that haven't been told of this change by now. */
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
		watcher_cut_off(watcher, -ENOBUFS,
				"there is more news for its user's watches than it has time for");
	}
}

/* Forgets what all watches know. */
static void watches_forget(struct watches *watches)
{
	registry_forget(watches->registry, heard_by_all(watches, false), heard_by_all(watches, true));
	watches->slots_left = watches->changes->slots_used;
}

/* Returns whether forgetting is worth a walk over all watches: for each change since the last walk, which may
 * have found that somebody is late, there are at most as many steps as a program may have watches. */
static bool is_worth_a_walk(const struct watches *watches)
{
	const struct changes *changes = watches->changes;

	return changes_are_sparse(changes) &&
	       changes->slots_used >= 2 * watches->slots_left + HASH_COUNT(watches->watchers);
}

/* Frees records that no watch needs. Called at the end of a change, never while records are walked over. */
static void tidy(struct watches *watches)
{
	const struct changes *changes = watches->changes;

	if (is_worth_a_walk(watches))
		watches_forget(watches);
	if (changes->gone <= WATCHES_GONE_MAX || *watches->host)
		return;
	watches_forget(watches);
	if (changes->gone <= WATCHES_GONE_MAX / 2)
		return;
	cut_off_before(watches, changes_until_gone(changes, changes->gone - WATCHES_GONE_MAX / 2));
	watches_forget(watches);
}

/* --- who is told ------------------------------------------------------------------------------ */

/* Compares a text with a pattern. Adds what that cost to *cost. */
static bool matches(const char *pattern, size_t pattern_size, const char *text, size_t text_size,
		    uint64_t *cost)
{
	*cost += COST_MATCH(pattern_size, text_size);
	return fnmatch(pattern, text, 0) == 0;
}

static bool means_domain(struct watch *watch, const struct named_domain *domain, uint64_t *cost)
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

/* Compares the record with its own part of the pattern. */
static bool means_record(const struct watch *watch, const struct record *record, uint64_t *cost)
{
	if (!watch->endpoints || record->domain->domid == WATCHES_HOST)
		return true;
	return record->size && matches(watch->domain + watch->domain_size + 1, watch->endpoint_size,
				       record->text, record->size, cost);
}

/* Whether another domain's program watches. */
static bool is_strangers(const struct watches *watches, const struct watch *watch)
{
	return !*watches->host && !question_program(watch->question);
}

static bool may_learn_of(const struct watches *watches, const struct watch *watch,
			 const struct record *record, uint64_t *cost)
{
	if (!watches->sees || (!is_strangers(watches, watch) && !(record->domain->is_own && record->size)))
		return true;
	*cost += COST_POLICY;
	return watches->sees(watches->userdata, watch->question, record->domain->domid, record->text);
}

static bool watch_means(struct watch *watch, const struct record *record, uint64_t *cost)
{
	return means_record(watch, record, cost) && means_domain(watch, record->domain, cost);
}

static bool watch_means_others(const struct watch *watch)
{
	return watch->domain_size != 4 || memcmp(watch->domain, "self", 4) != 0;
}

/* Sends the event about the domain; EVENT_DOMAIN_UP and EVENT_DOMAIN_DOWN also mean that about its
 * endpoint. */
static void tell_kind(struct watcher *watcher, const struct watch *watch, const struct record *record,
		      uint32_t kind, uint64_t *cost)
{
	const struct named_domain *domain = record->domain;
	struct frame_event event = {
		.kind = kind, .domid = domain->domid, .text = {domain->name, strlen(domain->name)}};

	*cost += COST_TELL;
	if (!may_learn_of(watcher->watches, watch, record, cost))
		return;
	if (record->size) {
		event.kind = kind == EVENT_DOMAIN_UP ? EVENT_ENDPOINT_UP : EVENT_ENDPOINT_DOWN;
		event.domain_name = event.text;
		event.text = (struct frame_text){record->text, record->size};
	} else if (domain->domid == WATCHES_HOST) {
		event = (struct frame_event){.kind = kind == EVENT_DOMAIN_UP ? EVENT_HOST_UP
									     : EVENT_HOST_DOWN};
	}
	watch_event(watcher, watch, event);
}

static void watch_tell(struct watcher *watcher, const struct watch *watch, const struct record *record,
		       bool up, uint64_t *cost)
{
	tell_kind(watcher, watch, record, up ? EVENT_DOMAIN_UP : EVENT_DOMAIN_DOWN, cost);
}

static void watch_tell_away(struct watcher *watcher, const struct watch *watch, const struct record *record,
			    uint64_t *cost)
{
	if (!record->size && record->up && record->domain->away)
		tell_kind(watcher, watch, record, EVENT_DOMAIN_AWAY, cost);
}

/* Returns whether the watch has meant the domain under each of its names since the one by which it knows
 * it. */
static bool meant_before(struct watch *watch, const struct named_domain *domain, uint64_t *cost)
{
	for (const struct named_domain *before = domain->before; before && means_domain(watch, before, cost);
	     before = before->before)
		if (watch->known > before->began)
			return true;
	return false;
}

/*
 * Tells the watch what it must hear of the record's changes after those that it has heard. It needn't hear of
 * what came and went since; of what went and came, it hears both, since that may be another thing. Where it
 * isn't certain what the watch was told, also by the daemon before this, it may hear twice that something has
 * gone.
 */
static uint64_t visit(struct watcher *watcher, struct watch *watch, const struct record *record)
{
	uint64_t cost = COST_VISIT, known = watch->known;
	bool may_have_met = record->changed > watch->walk && record->changed > record->born;
	bool was_told = known >= record->born || may_have_met || (watch->has_stood && !known), was_renamed;

	watch->heard = record->changed;
	if (!watch_means(watch, record, &cost))
		return cost;
	was_renamed = !was_told && known >= record->first && meant_before(watch, record->domain, &cost);
	was_told = was_told || was_renamed;
	if (!record->up) {
		if (was_told && !(record->to && means_domain(watch, record->to, &cost)))
			watch_tell(watcher, watch, record, false, &cost);
	} else if (!was_told) {
		watch_tell(watcher, watch, record, true, &cost);
	} else if (record->went > known) {
		watch_tell(watcher, watch, record, false, &cost);
		watch_tell(watcher, watch, record, true, &cost);
	} else if (record->since > known ||
		   (!record->domain->away && (!was_renamed || (!record->size && record->domain->name[0])))) {
		/* What was told as down is told as up, whether or not its domain is away now. */
		watch_tell(watcher, watch, record, true, &cost);
	}
	watch_tell_away(watcher, watch, record, &cost);
	return cost;
}

/* Tells new watches what the others know. Returns false when the piece is over. */
static bool catch_up(struct watcher *watcher, uint64_t *cost)
{
	struct watches *watches = watcher->watches;
	struct record *record;
	struct watch *watch;

	DL_FOREACH(watcher->list, watch) {
		while (watch->heard < watcher->heard &&
		       (record = changes_next(watches->changes, watch->heard, watcher->heard)) != NULL) {
			*cost += visit(watcher, watch, record);
			if (*cost >= PIECE)
				return false;
		}
		if (watch->heard < watcher->heard)
			watch->heard = watcher->heard;
	}
	return true;
}

/* Tells all of its watches what has changed, in the order of the changes. Returns false when the piece is
 * over. */
static bool go_on(struct watcher *watcher, uint64_t *cost)
{
	struct watches *watches = watcher->watches;
	struct record *record;
	struct watch *watch;

	while ((record = changes_next(watches->changes, watcher->heard, UINT64_MAX)) != NULL) {
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

/* Whether there is more of what the watch means than it was told of. */
static bool is_cut(const struct watches *watches, struct watch *watch, uint64_t *cost)
{
	const struct named_domain *domain;

	if (is_strangers(watches, watch)) /* which is told of no endpoints but ours */
		return false;
	DL_FOREACH(watches->changes->cut, domain) {
		*cost += COST_VISIT;
		if (means_domain(watch, domain, cost))
			return true;
	}
	return false;
}

/* Whether all that was there is known; what it means of others takes a while. */
static bool may_end_list(const struct watches *watches, const struct watch *watch)
{
	return !watch_means_others(watch) ||
	       (watches->knows_all(watches->userdata) && !(watch->has_stood && watches->settle));
}

/* Tells a new watch, which has heard of everything that is known, that this was all, or that it wasn't; and
 * each one when that changes. */
static void end_list(struct watcher *watcher, struct watch *watch, uint64_t *cost)
{
	const struct watches *watches = watcher->watches;
	bool was_cut = watch->is_cut, was_listed = watch->is_listed;

	if (was_listed ? watch->cuts == watches->changes->cuts : !may_end_list(watches, watch))
		return; /* until REGISTRY_CUT, REGISTRY_ALL, or on_settled() */
	watch->cuts = watches->changes->cuts;
	watch->is_cut = is_cut(watches, watch, cost);
	watch->is_listed = true;
	if (was_listed && watch->is_cut == was_cut)
		return;
	*cost += COST_TELL;
	watch_event(watcher, watch,
		    (struct frame_event){.kind = EVENT_LISTED,
					 .text = frame_text_of(watch->is_cut ? "more" : "")});
}

static bool watcher_hear(struct watcher *watcher, uint64_t *cost)
{
	struct watches *watches = watcher->watches;
	struct watch *watch;

	DL_FOREACH(watcher->list, watch)
		if (watch->heard == watch->known)
			watch->walk = watches->changes->last;
	if (!catch_up(watcher, cost) || !go_on(watcher, cost))
		return false;
	watcher->heard = watches->changes->last;
	DL_FOREACH(watcher->list, watch)
		watch->heard = watch->known = watches->changes->last;
	DL_FOREACH(watcher->list, watch)
		end_list(watcher, watch, cost);
	return true;
}

/* Returns whether something that it was told isn't sent yet, after which it is due again. */
static bool is_behind(const struct watcher *watcher)
{
	const struct watch *watch;

	DL_FOREACH(watcher->list, watch)
		if (question_is_behind(watch->question))
			return true;
	return false;
}

static void watches_on_turn(struct task *task)
{
	struct watcher *watcher = (struct watcher *)((char *)task - offsetof(struct watcher, task));
	struct watches *watches = watcher->watches;
	uint64_t cost = COST_VISIT;

	if (watcher->is_cut_off && watcher->list && is_strangers(watches, watcher->list)) {
		question_hang_up(watcher->list->question, ENOBUFS); /* which frees the watcher */
		return;
	}
	if (watcher->is_cut_off || is_behind(watcher))
		return;
	if (watcher_hear(watcher, &cost))
		watches->all_are_due = false;
	else
		task_due(&watcher->task);
	turns_spend(watches->turns, watcher->task.line, cost);
}

/* --- life ------------------------------------------------------------------------------------- */

/* Makes all due when something has changed, or when they may hear that this was all, or wasn't. */
static void on_changed(void *userdata, enum registry_what what, uint32_t domid)
{
	struct watches *watches = userdata;

	bool is_of_lists = what == REGISTRY_ALL || what == REGISTRY_CUT;

	for (struct watcher *watcher = watches->watchers; watcher && is_of_lists; watcher = watcher->hh.next)
		task_due(&watcher->task);
	wake_all(watches);
	tidy(watches);
}

struct watches *watches_new(struct turns *turns, struct registry *registry, watches_sees_fn sees,
			    watches_knows_all_fn knows_all, void *userdata)
{
	struct watches *watches = calloc(1, sizeof(*watches));

	if (!watches)
		return NULL;
	watches->host = "";
	watches->turns = turns;
	watches->registry = registry;
	watches->changes = registry_changes(registry);
	registry_listen(registry, &watches->sink, on_changed, watches);
	watches->sees = sees;
	watches->knows_all = knows_all;
	watches->userdata = userdata;
	return watches;
}

void watch_free(struct watcher *watcher, struct watch *watch)
{
	DL_DELETE(watcher->list, watch);
	watcher->count--;
	watcher->watches->others -= watch_means_others(watch);
	free(watch);
}

static void watcher_free(struct watcher *watcher)
{
	struct watch *watch, *next;

	while (watcher->of_hosts)
		host_watch_free(watcher->of_hosts);
	DL_FOREACH_SAFE(watcher->list, watch, next)
		watch_free(watcher, watch);
	HASH_DEL(watcher->watches->watchers, watcher);
	task_cancel(&watcher->task);
	account_unref(watcher->account);
	free(watcher);
}

void watcher_free_if_empty(struct watcher *watcher)
{
	if (watcher && watcher->count == 0 && !watcher->of_hosts)
		watcher_free(watcher);
}

/* Others and their endpoints are found again: what a watch that has stood isn't told by now has gone. */
static void on_settled(evutil_socket_t fd, short what, void *userdata)
{
	struct watches *watches = userdata;

	event_free(watches->settle);
	watches->settle = NULL;
	on_changed(watches, REGISTRY_ALL, 0);
}

void watches_settle(struct watches *watches, struct event_base *base)
{
	watches->settle = evtimer_new(base, on_settled, watches);
	if (watches->settle)
		timer_set(watches->settle, SETTLE_MS);
}

static void let_go_on(struct watches *watches, enum place_state from)
{
	struct watcher *watcher;
	struct host_watch *watch;

	for (watcher = watches->watchers; watcher; watcher = watcher->hh.next)
		DL_FOREACH(watcher->of_hosts, watch)
			host_watch_go_on(watch, from);
}

static void on_retry(evutil_socket_t fd, short what, void *userdata)
{
	let_go_on(userdata, PLACE_WAITS);
}

static void on_gathered(evutil_socket_t fd, short what, void *userdata)
{
	let_go_on(userdata, PLACE_LATER);
}

int watches_set_inquiries(struct watches *watches, struct event_base *base, struct inquiries *inquiries)
{
	watches->inquiries = inquiries;
	watches->retry = evtimer_new(base, on_retry, watches);
	watches->gather = evtimer_new(base, on_gathered, watches);
	return watches->retry && watches->gather ? 0 : -ENOMEM;
}

void watches_free(struct watches *watches)
{
	if (!watches)
		return;
	while (watches->watchers)
		watcher_free(watches->watchers);
	registry_leave(watches->registry, &watches->sink);
	free_event(watches->settle);
	free_event(watches->retry);
	free_event(watches->gather);
	free(watches);
}

/* --- who watches ------------------------------------------------------------------------------ */

static struct watcher *find_watcher(struct watches *watches, const void *asker)
{
	struct watcher *watcher;

	HASH_FIND_PTR(watches->watchers, &asker, watcher);
	return watcher;
}

struct watcher *watcher_get(struct watches *watches, const struct question *question)
{
	struct watcher *watcher = find_watcher(watches, question_asker(question));

	if (watcher)
		return watcher;
	watcher = calloc(1, sizeof(*watcher));
	if (!watcher)
		return NULL;
	watcher->asker = question_asker(question);
	HASH_ADD_PTR(watches->watchers, asker, watcher);
	if (!HASH_ADDED(watcher)) {
		free(watcher);
		return NULL;
	}
	watcher->watches = watches;
	watcher->account = account_ref(question_account(question));
	task_init(&watcher->task, watches->turns, watcher->account ? account_line(watcher->account) : NULL,
		  watches_on_turn);
	task_due(&watcher->task);
	return watcher;
}

/* Returns whether part of a pattern is printable: no name has other characters, and patterns go into log
 * lines. */
static bool is_printable(struct address_part part)
{
	return text_is_ascii(part.data, part.size, '!');
}

void watcher_add(struct watcher *watcher, struct watch *watch)
{
	DL_APPEND(watcher->list, watch);
	watcher->count++;
	watcher->watches->others += watch_means_others(watch);
	task_due(&watcher->task);
}

/* Returns why not, or NULL. */
static const char *why_no_pattern(const struct address_part *domain, const struct address_part *endpoint)
{
	if (domain->size == 0 || domain->size > DOMAIN_NAME_MAX || !is_printable(*domain))
		return "a pattern is DOMAIN or DOMAIN:ENDPOINT";
	if (endpoint->data && (endpoint->size > 2 * ENDPOINT_NAME_MAX ||
			       !endpoint_pattern_is_valid(endpoint->data, endpoint->size)))
		return "no endpoint can have such a name: that is letters, digits, _ and -, begins with a letter or digit, "
		       "and in a pattern *, ? and [...] stand for some";
	return NULL;
}

static struct watch *watch_new(const struct address_part *domain, const struct address_part *endpoint)
{
	struct watch *watch = calloc(1, sizeof(*watch) + domain->size + endpoint->size + 2);

	if (!watch)
		return NULL;
	memcpy(watch->domain, domain->data, domain->size);
	if (endpoint->size)
		memcpy(watch->domain + domain->size + 1, endpoint->data, endpoint->size);
	watch->endpoints = endpoint->data != NULL;
	watch->domain_size = (uint16_t)domain->size;
	watch->endpoint_size = (uint16_t)endpoint->size;
	return watch;
}

void watches_add(struct watches *watches, struct question *question, const struct address_parts *pattern,
		 const struct frame_identity *from)
{
	const struct address_part all = {"*", 1}, *domain = from ? &all : &pattern->domain;
	const char *why = why_no_pattern(domain, &pattern->endpoint);
	struct watcher *watcher = why ? NULL : watcher_get(watches, question);
	struct watch *watch = watcher ? watch_new(domain, &pattern->endpoint) : NULL;
	int error = why ? EINVAL : ENOMEM;

	if (watcher && !from && watcher->count >= WATCHES_PER_ASKER) {
		error = ENOBUFS;
		why = "a program may have 64 watches";
	} else if (watch) {
		watch->has_stood = question_has_stood(question);
		watch->question = from ? question : question_stand(question);
	}
	if (why || !watch || !watch->question) {
		free(watch);
		watcher_free_if_empty(watcher);
		question_refuse(question, error, why ? why : "out of memory");
	} else if (from) {
		host_watch_add(watcher, watch, pattern, from);
	} else {
		watcher_add(watcher, watch);
	}
}

void watches_hang_up(struct watches *watches)
{
	struct watcher *watcher, *next;

	HASH_ITER(hh, watches->watchers, watcher, next)
		if (watcher->list && is_strangers(watches, watcher->list))
			question_hang_up(watcher->list->question, EAGAIN); /* which frees it */
}

bool watches_others(const struct watches *watches)
{
	return watches->others > 0;
}

void watches_heard(struct watches *watches, const void *asker)
{
	struct watcher *watcher = find_watcher(watches, asker);
	struct host_watch *of_host;

	if (!watcher)
		return;
	task_due(&watcher->task);
	DL_FOREACH(watcher->of_hosts, of_host) {
		task_due(&of_host->inner->task);
		task_due(&of_host->task);
	}
}

void watches_forget_question(struct watches *watches, const struct question *question)
{
	const void *asker = question_asker(question);
	struct watcher *watcher = find_watcher(watches, asker);
	struct host_watch *of_host;
	struct watch *watch;

	if (!watcher)
		return;
	DL_SEARCH_SCALAR(watcher->list, watch, question, question);
	DL_FOREACH(watcher->of_hosts, of_host)
		if (of_host->watch->question == question)
			break;
	if (watch)
		watch_free(watcher, watch);
	else if (of_host)
		host_watch_free(of_host);
	watcher_free_if_empty(watcher);
	watches_heard(watches, asker); /* the others wait no more for what this one wasn't sent */
}

#ifdef XENMSG_INVARIANTS
void watches_check(const struct watches *watches)
{
	const struct watcher *watcher, *next;

	HASH_ITER(hh, watches->watchers, watcher, next)
		INVARIANT(watcher->task.is_due || watcher->is_cut_off || is_behind(watcher) ||
				  watcher->heard == watches->changes->last,
			  "who watches was told of all that has changed");
}
#endif
