/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fnmatch.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <utlist.h>

#include "base/quota.h"
#include "base/timer.h"
#include "base/turns.h"
#include "daemon/link/asks.h"
#include "daemon/local/host_watches_internal.h"
#include "daemon/local/session.h"
#include "daemon/local/watches_internal.h"
#include "daemon/switch/hop.h"
#include "wire/address.h"
#include "wire/hash.h"
#include "wire/retry.h"

#define FAILURES_MAX 2u

#define COST_RETRY 250u /* in units (turns.h) */

/* --- what was told --------------------------------------------------------------------------- */

int told_list_copy(struct told_list *list, const struct frame_told *told)
{
	size_t size = told->count ? (size_t)(told->end - told->at) : 0;

	list->text = malloc(size + 1);
	if (!list->text)
		return -ENOMEM;
	if (size)
		memcpy(list->text, told->at, size);
	list->all = *told;
	list->all.at = list->text;
	list->all.end = list->text + size;
	return 0;
}

static void told_list_free(struct told_list *list)
{
	free(list->text);
	*list = (struct told_list){0};
}

static void told_list_advance(struct told_list *list)
{
	list->has_entry = frame_told_next(&list->left, &list->entry);
}

static void told_list_rewind(struct told_list *list)
{
	list->left = list->all;
	told_list_advance(list);
}

/* Whose name comes first, of two that aren't both at their end: below 0 that of `a`, above 0 that of `b`, 0:
 * it is the same. */
static int told_list_order(const struct told_list *a, const struct told_list *b)
{
	const struct frame_text *first = &a->entry.name, *second = &b->entry.name;
	int order;

	if (!a->has_entry || !b->has_entry)
		return a->has_entry ? -1 : 1;
	order = memcmp(first->data, second->data, first->size < second->size ? first->size : second->size);
	return order ? order : (first->size > second->size) - (first->size < second->size);
}

/* --- life of a place ---------------------------------------------------------------------------- */

struct watched_place *host_watch_add_place(struct host_watch *watch, enum ask_kind kind, const char *domain)
{
	struct host_watches *watches = watch->watches;
	struct watched_place *place = calloc(1, sizeof(*place)), *other;

	if (!place)
		return NULL;
	do {
		place->id = ++watches->last_id;
		HASH_FIND(hh, watches->by_id, &place->id, sizeof(place->id), other);
	} while (other);
	place->watch = watch;
	place->kind = kind;
	place->is_wanted = true;
	place->state = PLACE_RESTS;
	snprintf(place->domain, sizeof(place->domain), "%s", domain);
	HASH_ADD(hh, watches->by_id, id, sizeof(place->id), place);
	DL_APPEND(watch->places, place);
	watch->count++;
	return place;
}

static void free_place(struct watched_place *place)
{
	struct host_watch *watch = place->watch;

	asks_cancel(watch->watches->asks, watch->watches, place->id);
	HASH_DEL(watch->watches->by_id, place);
	DL_DELETE(watch->places, place);
	watch->count--;
	told_list_free(&place->known);
	told_list_free(&place->fresh);
	free(place);
}

struct host_watch *host_watch_first(const struct host_watches *watches, const struct session *session)
{
	struct host_watch *first;

	HASH_FIND_PTR(watches->by_session, &session, first);
	return first;
}

/* Puts it in behind the session's first one, or as that. */
static void put_in(struct host_watches *watches, struct host_watch *watch)
{
	struct host_watch *first = host_watch_first(watches, watch->session);

	if (!first)
		HASH_ADD_PTR(watches->by_session, session, watch);
	DL_APPEND_ELEM(watches->list, first, watch);
}

static void take_out(struct host_watches *watches, struct host_watch *watch)
{
	struct host_watch *next = host_watch_next(watch);

	if (host_watch_first(watches, watch->session) == watch) {
		HASH_DEL(watches->by_session, watch);
		if (next)
			HASH_ADD_PTR(watches->by_session, session, next);
	}
	DL_DELETE(watches->list, watch);
}

void host_watch_free(struct host_watch *watch)
{
	while (watch->places)
		free_place(watch->places);
	task_cancel(&watch->task);
	account_unref(watch->account);
	take_out(watch->watches, watch);
	free(watch);
}

static bool is_host(const struct watched_place *place)
{
	return place->kind == ASK_DOMAINS;
}

/* --- asking ------------------------------------------------------------------------------------- */

static void on_told(void *userdata, void *asker, uint32_t id, enum ask_kind kind, const char *host,
		    const struct frame_told *told);

static int host_watches_ask(struct watched_place *place)
{
	struct host_watch *watch = place->watch;
	const struct ask_question question = {
		.kind = place->kind,
		.host = watch->host,
		.domain = place->domain,
		.known = place->version,
		.from = watch->from,
	};
	int r;

	place->state = PLACE_RESTS;
	if (watch->watches->is_held)
		return 0;
	r = asks_ask(watch->watches->asks, &question, watch->account, on_told, watch->watches, place->id);
	place->state = r < 0 ? PLACE_RESTS : PLACE_ASKED;
	return r;
}

static void tell_place(struct watched_place *place, bool up);

/* Begins to report what differs. What is there comes before what it has. */
static void compare_from_now(struct watched_place *place)
{
	struct watched_place *other;

	told_list_rewind(&place->known);
	told_list_rewind(&place->fresh);
	if (!place->is_going && !place->is_up)
		tell_place(place, true);
	if (is_host(place) && !place->is_going)
		DL_FOREACH(place->watch->places, other)
			other->is_wanted = is_host(other) || !place->watch->is_pattern;
	place->state = PLACE_COMPARES;
	task_due(&place->watch->task);
}

/* Lets all of it be reported as gone. */
static void host_watches_let_go(struct watched_place *place)
{
	if (place->state == PLACE_ASKED)
		asks_cancel(place->watch->watches->asks, place->watch->watches, place->id);
	told_list_free(&place->fresh);
	place->is_going = true;
	place->version = 0;
	compare_from_now(place);
}

/* Why there is no answer may pass: the link was idle, or is another one, or the daemon that answers hands
 * over. Then an answer comes at once, also if nothing has changed. */
static void note_failure(struct watched_place *place)
{
	bool may_pass = place->failures < FAILURES_MAX && place->is_up;

	place->failures++;
	place->version = 0;
	if (!may_pass || host_watches_ask(place) < 0)
		host_watches_let_go(place);
}

static void answer_watch(struct host_watch *watch, int error, const char *why)
{
	watch->is_answered = true;
	session_reply(watch->session, watch->number, error, why, strlen(why));
}

static void on_told(void *userdata, void *asker, uint32_t id, enum ask_kind kind, const char *host,
		    const struct frame_told *told)
{
	struct host_watches *watches = asker;
	char name[DOMAIN_NAME_MAX + 1];
	struct host_watch *watch;
	struct watched_place *place;

	HASH_FIND(hh, watches->by_id, &id, sizeof(id), place);
	if (!place)
		return;
	watch = place->watch;
	place->state = PLACE_RESTS;
	if (!watch->is_answered && told->error) {
		answer_watch(watch, (int)told->error, asks_why_not(kind, (int)told->error));
		host_watch_free(watch);
		return;
	}
	if (told->error || told_list_copy(&place->fresh, told) < 0) {
		note_failure(place);
		return;
	}
	if (!watch->is_answered)
		answer_watch(watch, 0, "");
	place->failures = 0;
	snprintf(name, sizeof(name), "%.*s", (int)told->name.size, told->name.size ? told->name.data : "");
	if (place->is_up && (place->domid != told->domid || strcmp(place->name, name) != 0)) {
		host_watches_let_go(
			place); /* the name means another domain now, or the domain has another name */
		return;
	}
	place->version = told->version;
	place->domid = told->domid;
	memcpy(place->name, name, sizeof(place->name));
	compare_from_now(place);
}

static void ask_later(struct watched_place *place)
{
	place->state = PLACE_WAITS;
	place->is_listed = true;
	timer_start(place->watch->watches->timer, RETRY_EACH_MS);
}

/* Asks again, or, for a reason that may pass, later. */
static void ask_or_wait(struct watched_place *place)
{
	if (host_watches_ask(place) == 0)
		return;
	if (place->is_up)
		note_failure(place);
	else
		ask_later(place);
}

static void host_watches_on_timer(int fd, short what, void *userdata)
{
	struct host_watches *watches = userdata;
	struct host_watch *watch;
	struct watched_place *place;

	DL_FOREACH(watches->list, watch)
		DL_FOREACH(watch->places, place)
			if (place->state == PLACE_WAITS) {
				place->state = PLACE_RETRIES;
				task_due(&watch->task);
			}
}

/* --- telling ------------------------------------------------------------------------------------ */

static void send_event(struct host_watch *watch, struct frame_event *event)
{
	event->host = frame_text_of(watch->host);
	watch_event(watch->session, watch->number, event, &watch->is_cut_off);
}

/* Reports the host, or the domain, as there or gone. */
static void tell_place(struct watched_place *place, bool up)
{
	struct frame_event event = {.kind = up ? EVENT_HOST_UP : EVENT_HOST_DOWN};

	place->is_up = up;
	if (!is_host(place)) {
		if (place->watch->endpoints)
			return;
		event = (struct frame_event){.kind = up ? EVENT_DOMAIN_UP : EVENT_DOMAIN_DOWN,
					     .domid = place->domid,
					     .text = frame_text_of(place->name)};
	}
	send_event(place->watch, &event);
}

static uint64_t tell_endpoint(struct watched_place *place, struct frame_text name, bool up)
{
	struct host_watch *watch = place->watch;
	struct frame_event event = {.kind = up ? EVENT_ENDPOINT_UP : EVENT_ENDPOINT_DOWN,
				    .domid = place->domid,
				    .text = name,
				    .domain_name = frame_text_of(place->name)};
	char text[ENDPOINT_NAME_MAX + 1];
	uint64_t cost = COST_TELL;

	snprintf(text, sizeof(text), "%.*s", (int)name.size, name.data);
	if (watch->endpoints) {
		cost += COST_MATCH(strlen(watch->endpoint), name.size);
		if (fnmatch(watch->endpoint, text, 0) != 0)
			return cost;
	}
	send_event(watch, &event);
	return cost;
}

/* Reports the first of the names that are left, if it has come or gone. Returns what it cost. */
static uint64_t compare_endpoint(struct watched_place *place)
{
	struct told_list *known = &place->known, *fresh = &place->fresh;
	int order = told_list_order(known, fresh);
	uint64_t cost = COST_VISIT;

	if (order < 0)
		cost += tell_endpoint(place, known->entry.name, false);
	else if (order > 0)
		cost += tell_endpoint(place, fresh->entry.name, true);
	if (order <= 0)
		told_list_advance(known);
	if (order >= 0)
		told_list_advance(fresh);
	return cost;
}

static struct watched_place *find_domain(const struct host_watch *watch, const char *domid)
{
	struct watched_place *place;

	DL_FOREACH(watch->places, place)
		if (!is_host(place) && !strcmp(place->domain, domid))
			return place;
	return NULL;
}

/* Lets the endpoints of the next domain that the host has told be asked for, if it is meant. */
static uint64_t visit_domain(struct watched_place *host)
{
	struct host_watch *watch = host->watch;
	const struct frame_told_entry *entry = &host->fresh.entry;
	char domid[16], name[DOMAIN_NAME_MAX + 1];
	struct watched_place *place;
	uint64_t cost;

	snprintf(domid, sizeof(domid), "%u", entry->number);
	snprintf(name, sizeof(name), "%.*s", (int)entry->name.size, entry->name.data);
	cost = COST_VISIT + watch->count + COST_MATCH(strlen(watch->domain), entry->name.size + 5);
	place = find_domain(watch, domid);
	if (fnmatch(watch->domain, domid, 0) == 0 || (*name && fnmatch(watch->domain, name, 0) == 0)) {
		if (place)
			place->is_wanted = true;
		else if (watch->count <= HOST_WATCH_DOMAINS)
			host_watch_add_place(watch, ASK_ENDPOINTS, domid);
	}
	told_list_advance(&host->fresh);
	return cost;
}

/* Lets go what the host doesn't tell any more, and asks for what it tells now. */
static void follow_domains(struct host_watch *watch)
{
	struct watched_place *place;

	DL_FOREACH(watch->places, place) {
		if (is_host(place))
			continue;
		if (!place->is_wanted && place->state != PLACE_COMPARES)
			host_watches_let_go(place); /* else when all of that is reported */
		else if (place->state == PLACE_RESTS || place->state == PLACE_WAITS)
			ask_or_wait(place);
	}
}

/* Notes that all was reported. */
static void host_watches_end(struct watched_place *place)
{
	bool was_going = place->is_going;

	told_list_free(&place->known);
	place->known = place->fresh;
	place->fresh = (struct told_list){0};
	place->is_going = false;
	place->is_listed = true;
	place->state = PLACE_RESTS;
	if (was_going && place->is_up)
		tell_place(place, false);
	if (is_host(place) && !was_going)
		follow_domains(place->watch);
	if (!place->is_wanted && was_going)
		free_place(place);
	else if (!place->is_wanted)
		host_watches_let_go(place);
	else if (was_going && place->failures)
		ask_later(place);
	else
		ask_or_wait(place);
}

/* Asks again, or reports some of what differs. Returns what it cost. */
static uint64_t host_watches_step(struct watched_place *place)
{
	if (place->state == PLACE_RETRIES) {
		ask_or_wait(place);
		return COST_RETRY;
	}
	if (is_host(place) ? place->watch->is_pattern && place->fresh.has_entry
			   : place->known.has_entry || place->fresh.has_entry)
		return is_host(place) ? visit_domain(place) : compare_endpoint(place);
	host_watches_end(place);
	return COST_VISIT;
}

static struct watched_place *next_with_work(const struct host_watch *watch)
{
	struct watched_place *place;

	DL_FOREACH(watch->places, place)
		if (place->state == PLACE_COMPARES || place->state == PLACE_RETRIES)
			break;
	return place;
}

/* Tells a watch whose places are all reported for the first time that this was all. */
static void end_list(struct host_watch *watch)
{
	struct frame_event listed = {.kind = EVENT_LISTED};
	const struct watched_place *place;

	DL_FOREACH(watch->places, place)
		if (!place->is_listed)
			return;
	watch->is_listed = true;
	send_event(watch, &listed);
}

static void host_watches_on_turn(struct task *task)
{
	struct host_watch *watch = (struct host_watch *)((char *)task - offsetof(struct host_watch, task));
	uint64_t cost = 0;
	struct watched_place *place;

	while (cost < PIECE && (place = next_with_work(watch)) != NULL)
		cost += watch->count + host_watches_step(place);
	if (!watch->is_listed && !next_with_work(watch))
		end_list(watch);
	turns_spend(task->turns, task->line, cost);
	if (cost >= PIECE)
		task_due(task);
}

/* --- life --------------------------------------------------------------------------------------- */

struct host_watches *host_watches_new(struct switchboard *board, struct asks *asks)
{
	struct host_watches *watches = calloc(1, sizeof(*watches));

	if (!watches)
		return NULL;
	watches->board = board;
	watches->asks = asks;
	watches->timer = evtimer_new(board->base, host_watches_on_timer, watches);
	if (!watches->timer) {
		free(watches);
		return NULL;
	}
	return watches;
}

void host_watches_free(struct host_watches *watches)
{
	if (!watches)
		return;
	while (watches->list)
		host_watch_free(watches->list);
	event_free(watches->timer);
	free(watches);
}

/* Returns why it can't be watched, or NULL. */
static const char *set_pattern(struct host_watch *watch, const struct address_parts *pattern)
{
	const struct address_part *host = &pattern->host, *domain = &pattern->domain;
	const struct address_part *endpoint = &pattern->endpoint;

	if (!host_name_is_valid(host->data, host->size) ||
	    !address_part_copy(*host, watch->host, sizeof(watch->host)))
		return "the part before the slash must be a host's name, without * and ?";
	if (!domain_name_is_valid(domain->data, domain->size) ||
	    !address_part_copy(*domain, watch->domain, sizeof(watch->domain)))
		return "a pattern is HOST/DOMAIN or HOST/DOMAIN:ENDPOINT";
	if (endpoint->data && (!endpoint_pattern_is_valid(endpoint->data, endpoint->size) ||
			       !address_part_copy(*endpoint, watch->endpoint, sizeof(watch->endpoint))))
		return WATCH_NO_ENDPOINT;
	watch->endpoints = endpoint->data;
	watch->is_pattern = host_watch_is_pattern(watch);
	return NULL;
}

static unsigned count_of(const struct host_watches *watches, const struct session *session)
{
	unsigned count = 0;

	for (const struct host_watch *watch = host_watch_first(watches, session); watch;
	     watch = host_watch_next(watch))
		count++;
	return count;
}

static int add_places(struct host_watch *watch)
{
	const struct watched_place *host = host_watch_add_place(watch, ASK_DOMAINS, "");

	return host && (watch->is_pattern || host_watch_add_place(watch, ASK_ENDPOINTS, watch->domain))
		       ? 0
		       : -ENOMEM;
}

/* Asks the host, whose answer is that to the WATCH; the domain is asked when that is there. The watch is
 * freed if it can't be asked. */
static void ask_first(struct host_watch *watch)
{
	int r = host_watches_ask(watch->places);

	if (r == 0)
		return;
	answer_watch(watch, -r, asks_why_not(ASK_DOMAINS, -r));
	host_watch_free(watch);
}

struct host_watch *host_watch_new(struct host_watches *watches, struct session *session)
{
	struct host_watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return NULL;
	watch->watches = watches;
	watch->session = session;
	watch->account = account_ref(hop_account(session_hop(session)));
	task_init(&watch->task, &watches->board->turns, account_line(watch->account), host_watches_on_turn);
	put_in(watches, watch);
	return watch;
}

void host_watches_add(struct host_watches *watches, struct session *session, uint32_t number,
		      const struct address_parts *pattern, const struct frame_identity *from)
{
	struct host_watch *watch = host_watch_new(watches, session);
	const char *why;
	int r = -EINVAL;

	if (!watch) {
		session_reply(session, number, ENOMEM, "", 0);
		return;
	}
	watch->number = number;
	watch->from = *from;
	why = set_pattern(watch, pattern);
	if (!why && count_of(watches, session) > HOST_WATCHES_PER_SESSION) {
		why = "a program may have 16 watches of other hosts";
		r = -ENOBUFS;
	}
	if (!why) {
		r = add_places(watch);
		why = "";
	}
	if (r == 0) {
		ask_first(watch);
		return;
	}
	answer_watch(watch, -r, why);
	host_watch_free(watch);
}

int host_watches_remove(struct host_watches *watches, struct session *session, uint32_t number)
{
	struct host_watch *watch = host_watch_first(watches, session);

	while (watch && !(watch->number == number && watch->is_answered))
		watch = host_watch_next(watch);
	if (!watch)
		return -ENOENT;
	host_watch_free(watch);
	return 0;
}

void host_watches_remove_session(struct host_watches *watches, struct session *session)
{
	struct host_watch *watch;

	while ((watch = host_watch_first(watches, session)) != NULL)
		host_watch_free(watch);
}

/* --- handing over ------------------------------------------------------------------------------- */

unsigned host_watches_unanswered(const struct host_watches *watches, const struct session *session)
{
	unsigned count = 0;

	for (const struct host_watch *watch = host_watch_first(watches, session); watch;
	     watch = host_watch_next(watch))
		count += !watch->is_answered;
	return count;
}

void host_watches_hold(struct host_watches *watches)
{
	struct host_watch *watch;
	struct watched_place *place;

	watches->is_held = true;
	DL_FOREACH(watches->list, watch)
		DL_FOREACH(watch->places, place)
			if (place->state == PLACE_ASKED) {
				asks_cancel(watches->asks, watches, place->id);
				place->state = PLACE_RESTS;
			}
}

void host_watches_go_on(struct host_watches *watches)
{
	struct host_watch *watch, *next;
	struct watched_place *place;

	watches->is_held = false;
	DL_FOREACH_SAFE(watches->list, watch, next) {
		if (!watch->is_answered) {
			ask_first(watch);
			continue;
		}
		DL_FOREACH(watch->places, place)
			if (place->state == PLACE_RESTS) {
				place->state = PLACE_RETRIES;
				task_due(&watch->task);
			}
	}
}
