/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/host_watches.h"

#include <errno.h>
#include <fnmatch.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/self.h"
#include "base/timer.h"
#include "daemon/serve/inquiries.h"
#include "daemon/serve/questions.h"
#include "daemon/serve/watches_internal.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_image.h"
#include "wire/retry.h"
#include "wire/ut.h"

#define FAILURES_MAX 2u

#define COST_RETRY  250u /* in units (turns.h) */
#define COST_RECORD 12u
#define COST_EVENT  30u

#define GATHER_MS  100u	  /* so long what comes is gathered, unless it is a list */
#define LIST_QUICK 65536u /* bytes of a list that are taken as they come */
#define QUICK_MS   100u	  /* one that ends within that wasn't stood by */
#define QUICK_MOST 8u	  /* then a pause */

#define NO_DOMID (UINT32_MAX - 1) /* of a place about which nothing was told here */

static const struct self nobody = {.domid = NO_DOMID};

/* --- life of a place ---------------------------------------------------------------------------- */

static bool is_host(const struct watched_place *place)
{
	return !*place->domain;
}

static void set_state(struct watched_place *place, enum place_state state)
{
	place->state = state;
	if (state == PLACE_RETRIES || state == PLACE_NEWS)
		task_due(&place->watch->task);
}

/* Adds what is asked of its host, or of the domain there. NULL: no memory. */
static struct watched_place *add_place(struct host_watch *watch, const char *domain)
{
	struct watched_place *place = calloc(1, sizeof(*place));

	if (!place)
		return NULL;
	place->watch = watch;
	place->domid = *domain ? NO_DOMID : WATCHES_HOST;
	place->is_wanted = true;
	place->is_up = watch->watch->has_stood && !watch->is_known;
	snprintf(place->domain, sizeof(place->domain), "%s", domain);
	charge_init(&place->charge, watch->watcher->account);
	DL_APPEND(watch->places, place);
	watch->count++;
	set_state(place, PLACE_RETRIES);
	return place;
}

static int add_places(struct host_watch *watch)
{
	const struct watched_place *host = add_place(watch, "");

	return host && (watch->is_pattern || add_place(watch, watch->domain)) ? 0 : -ENOMEM;
}

/* Has it asked anew when its user can pay for so many bytes of it. */
static void note_lack(struct watched_place *place, uint64_t bytes)
{
	place->lacks = bytes;
	timer_start(place->watch->watcher->watches->retry, RETRY_EACH_MS);
}

/* Pays for so many endpoints that are kept, and for room for names in a list. -ENOBUFS. */
static int pay_for(struct watched_place *place, uint64_t entries, uint64_t room)
{
	struct charge *charge = &place->charge;
	uint64_t held = charge->held[QUOTA_BYTES];
	uint64_t bytes = (entries + 1) * sizeof(struct record) + room * sizeof(*place->names);

	if (bytes <= held) {
		charge_release(charge, QUOTA_BYTES, held - bytes);
		return 0;
	}
	if (charge_add(charge, QUOTA_BYTES, bytes - held) == 0)
		return 0;
	note_lack(place, bytes);
	return -ENOBUFS;
}

static void drop_list(struct watched_place *place)
{
	if (place->room)
		pay_for(place, place->entries, 0); /* less than before */
	free(place->names);
	place->names = NULL;
	place->count = place->room = 0;
	place->is_listing = place->is_cut = false;
}

static void host_watches_drop_inquiry(struct watched_place *place)
{
	inquiry_free(place->inquiry);
	place->inquiry = NULL;
	drop_list(place);
}

/* Lets the program be told that all of it has gone. */
static void host_watches_let_go(struct watched_place *place)
{
	struct host_watch *watch = place->watch;
	struct registry *registry = watch->registry;

	turns_spend(watch->task.turns, watch->task.line, place->entries * COST_RECORD);
	place->is_up = false;
	place->entries = 0;
	registry_set_up(registry, place->domid, false);
	registry_forget_name(registry, place->domid);
	/* but for the names of a list that is being told */
	charge_release(&place->charge, QUOTA_BYTES,
		       place->charge.held[QUOTA_BYTES] - place->room * sizeof(*place->names));
}

static void free_place(struct watched_place *place)
{
	struct host_watch *watch = place->watch;

	host_watches_drop_inquiry(place);
	charge_end(&place->charge);
	DL_DELETE(watch->places, place);
	watch->count--;
	free(place);
}

/* --- asking ------------------------------------------------------------------------------------- */

static void on_come(void *userdata)
{
	struct watched_place *place = userdata;
	bool at_once = place->is_listing ? place->list_size < LIST_QUICK
					 : clock_ms_since(place->read_ms) >= GATHER_MS;

	if (place->state == PLACE_ASKED)
		set_state(place, at_once ? PLACE_NEWS : PLACE_LATER);
	if (place->state == PLACE_LATER)
		timer_start(place->watch->watcher->watches->gather, GATHER_MS);
}

static int host_watches_ask(struct watched_place *place)
{
	const struct host_watch *watch = place->watch;
	const struct watcher *watcher = watch->watcher;
	char address[ADDRESS_MAX + 1], text[sizeof("watch ") + DOMAIN_NAME_MAX];
	int r = inquiry_new(watcher->watches->inquiries, &watch->from, watcher->account,
			    inquiries_why_not_there, &place->inquiry);

	if (r < 0)
		return r;
	snprintf(address, sizeof(address), "%s/%s:" DAEMON_ENDPOINT, watch->host,
		 is_host(place) ? "0" : place->domain);
	snprintf(text, sizeof(text), "watch %s", is_host(place) ? watch->domain : "self");
	place->state = PLACE_ASKED;
	place->asked_ms = clock_ms();
	place->is_listing = true;
	place->list_size = 0;
	place->lacks = 0;
	inquiry_listen(place->inquiry, on_come, place);
	inquiry_ask(place->inquiry, address, text);
	return 0;
}

static void ask_later(struct watched_place *place)
{
	place->state = PLACE_WAITS;
	timer_start(place->watch->watcher->watches->retry, RETRY_EACH_MS);
}

/* Whether it has ended so soon so often that it has to pause. */
static bool has_to_pause(struct watched_place *place)
{
	place->quick = clock_ms_since(place->asked_ms) < QUICK_MS ? place->quick + 1 : 0;
	if (place->quick <= QUICK_MOST)
		return false;
	place->quick = 0;
	return true;
}

static void refuse_watch(struct host_watch *watch, int error, const char *why)
{
	question_refuse(watch->watch->question, error, why);
	host_watch_end(watch);
}

/* Why it tells no more may pass: the link was lost, or is another one, or other rules let us see other things
 * (-EAGAIN). Then it is asked at once, and what it lists is compared with what it has told. False: the
 * program is told why its watch can't begin. */
static bool note_failure(struct watched_place *place, int error)
{
	bool pauses;

	if (!place->watch->is_answered && error != -EAGAIN) {
		refuse_watch(place->watch, -error,
			     place->inquiry ? inquiry_why(place->inquiry) : inquiries_why_not_there(-error));
		return false;
	}
	host_watches_drop_inquiry(place);
	pauses = has_to_pause(place);
	place->failures += error != -EAGAIN;
	if ((place->is_up || error == -EAGAIN) && place->failures <= FAILURES_MAX && !pauses) {
		set_state(place, PLACE_RETRIES);
		return true;
	}
	ask_later(place);
	if (pauses && place->failures <= FAILURES_MAX)
		return true;
	host_watches_let_go(place);
	place->is_listed = true;
	return true;
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

/* --- what a domain there tells --------------------------------------------------------------------- */

static bool is_number(const char *domain)
{
	return strspn(domain, "0123456789") == strlen(domain);
}

/* Whether that isn't the domain that was asked for. A UUID isn't told. */
static bool is_misplaced(const struct watched_place *place, uint32_t domid, struct frame_text name)
{
	uint8_t uuid[16];

	if (is_number(place->domain))
		return strtoul(place->domain, NULL, 10) != domid;
	return name.size && !frame_text_is(name, place->domain) &&
	       !uuid_parse(place->domain, strlen(place->domain), uuid);
}

/* Notes which domain it is. -EHOSTDOWN: it isn't the one that is meant; -EAGAIN: it is another one now, or
 * has another name, and must tell all anew; -ENOMEM. */
static int note_domain(struct watched_place *place, uint32_t domid, struct frame_text name)
{
	struct registry *registry = place->watch->registry;
	const char *had = registry_name(registry, place->domid);
	struct registry_domain *domain;

	if (!domid_is_valid(domid) || (name.size && !domain_name_is_valid(name.data, name.size)))
		return -EPROTO;
	if (is_misplaced(place, domid, name)) {
		host_watches_let_go(place);
		return -EHOSTDOWN;
	}
	if (place->domid != NO_DOMID &&
	    (place->domid != domid || (*had && name.size && !frame_text_is(name, had)))) {
		host_watches_let_go(place);
		place->is_up = true; /* so that it is asked at once */
		place->domid = domid;
		return -EAGAIN;
	}
	place->domid = domid;
	domain = registry_get(registry, domid);
	if (!domain)
		return -ENOMEM;
	if (name.size)
		registry_set_name(registry, domain, name.data, name.size);
	registry_set_up(registry, domid, true);
	return 0;
}

/* Adds an endpoint to the list. -ENOMEM. */
static int list_name(struct watched_place *place, const char *name)
{
	uint32_t room = place->room ? 2 * place->room : 16;
	void *names = place->names;

	if (place->is_cut || place->count >= HOST_WATCH_ENDPOINTS ||
	    (place->count == place->room && pay_for(place, place->entries, room) < 0)) {
		place->is_cut = true;
		return 0;
	}
	if (place->count == place->room) {
		names = realloc(place->names, room * sizeof(*place->names));
		if (!names)
			return -ENOMEM;
		place->names = names;
		place->room = room;
	}
	snprintf(place->names[place->count++], sizeof(*place->names), "%s", name);
	return 0;
}

static void unlist_name(struct watched_place *place, const char *name, uint64_t *cost)
{
	*cost += place->count;
	for (uint32_t i = 0; i < place->count; i++)
		if (!strcmp(place->names[i], name))
			memmove(place->names[i], place->names[--place->count], sizeof(*place->names));
}

/* Returns how many things are there, of the whole registry. */
static size_t count_up(const struct watched_place *place)
{
	const struct changes *changes = registry_changes(place->watch->registry);

	return changes->records - changes->gone;
}

/* Enters that one has come, if its user can pay, or gone. */
static void enter_endpoint(struct watched_place *place, const char *name, bool is_up)
{
	struct registry *registry = place->watch->registry;
	size_t before = count_up(place);

	if (is_up && (place->entries >= HOST_WATCH_ENDPOINTS || pay_for(place, place->entries + 1, 0) < 0)) {
		registry_set_cut(registry, place->domid, true);
		return;
	}
	registry_set_endpoint(registry, place->domid, name, is_up);
	place->entries += (uint32_t)(count_up(place) - before); /* it may be said twice */
}

/* Notes that one has come, or gone. */
static int note_endpoint(struct watched_place *place, const struct frame_event *event, uint64_t *cost)
{
	bool is_up = event->kind == EVENT_ENDPOINT_UP;
	char name[ENDPOINT_NAME_MAX + 1] = "";

	if (!endpoint_name_is_valid(event->text.data, event->text.size))
		return -EPROTO;
	memcpy(name, event->text.data, event->text.size);
	if (place->is_listing && is_up)
		return list_name(place, name);
	if (place->is_listing)
		unlist_name(place, name, cost);
	else if (place->domid != NO_DOMID)
		enter_endpoint(place, name, is_up);
	return 0;
}

/* Enters the list, since this was all. -ENOMEM. */
static int enter_list(struct watched_place *place, bool is_cut)
{
	struct host_watch *watch = place->watch;
	char **list = malloc((place->count + 1) * sizeof(*list));
	struct offered offered = {.list = list, .is_cut = is_cut || place->is_cut};
	size_t before = count_up(place);

	if (!list)
		return -ENOMEM;
	for (; offered.count < place->count; offered.count++)
		list[offered.count] = place->names[offered.count];
	while (pay_for(place, offered.count, place->room) < 0 && offered.count) {
		offered.count /= 2;
		offered.is_cut = true;
	}
	if (place->domid != NO_DOMID)
		registry_set_endpoints(watch->registry, place->domid, &offered, 1);
	turns_spend(watch->task.turns, watch->task.line, (place->entries + offered.count) * COST_RECORD);
	place->entries += (uint32_t)(count_up(place) - before);
	pay_for(place, place->entries, 0); /* less than before */
	free(list);
	return 0;
}

/* Takes an event of a domain. */
static int take_from_domain(struct watched_place *place, const struct frame_event *event, uint64_t *cost)
{
	int r = 0;

	switch (event->kind) {
	case EVENT_DOMAIN_UP:
		return note_domain(place, event->domid, event->text);
	case EVENT_DOMAIN_DOWN: /* it was restored, and has another number */
		if (place->domid == event->domid && registry_is_up(place->watch->registry, place->domid))
			host_watches_let_go(place);
		return 0;
	case EVENT_ENDPOINT_UP:
	case EVENT_ENDPOINT_DOWN:
		return note_endpoint(place, event, cost);
	case EVENT_LISTED:
		if (place->is_listing)
			r = enter_list(place, event->text.size);
		else
			registry_set_cut(place->watch->registry, place->domid, event->text.size);
		return r;
	default:
		return 0;
	}
}

/* --- which domains are meant -------------------------------------------------------------------- */

static struct watched_place *find_domain(const struct host_watch *watch, uint32_t domid)
{
	char number[16];
	struct watched_place *place;

	snprintf(number, sizeof(number), "%u", domid);
	DL_FOREACH(watch->places, place)
		if (!strcmp(place->domain, number))
			return place;
	return NULL;
}

/* Watches a domain that the host tells, if it is meant. */
static void add_domain(struct host_watch *watch, uint32_t domid, struct frame_text told, uint64_t *cost)
{
	char number[16], name[DOMAIN_NAME_MAX + 1];
	struct watched_place *place;

	*cost += COST_MATCH(strlen(watch->domain), sizeof(number) + told.size);
	snprintf(number, sizeof(number), "%u", domid);
	snprintf(name, sizeof(name), "%.*s", (int)told.size, told.data);
	if (fnmatch(watch->domain, number, 0) != 0 && (!*name || fnmatch(watch->domain, name, 0) != 0))
		return;
	place = watch->is_pattern ? find_domain(watch, domid) : watch->places->next;
	if (place)
		place->is_wanted = true;
	else if (watch->count > HOST_WATCH_DOMAINS)
		watch->lacks_some = true;
	else if (!add_place(watch, number)) {
		watch->lacks_some = true;
		note_lack(watch->places, 1);
	}
	if (place && place->state == PLACE_WAITS)
		set_state(place, PLACE_RETRIES);
}

static void forget_domain(struct watched_place *place)
{
	struct host_watch *watch = place->watch;

	host_watches_let_go(place);
	free_place(place);
	if (!watch->lacks_some || !watch->places->inquiry)
		return;
	host_watches_drop_inquiry(watch->places); /* there is room for one: the host is to say it again */
	if (has_to_pause(watch->places))
		ask_later(watch->places);
	else
		set_state(watch->places, PLACE_RETRIES);
}

/* Lets go what the host doesn't list any more. */
static void follow_list(struct watched_place *host)
{
	struct host_watch *watch = host->watch;
	struct watched_place *place, *next;

	DL_FOREACH_SAFE(host->next, place, next)
		if (watch->is_pattern && !place->is_wanted)
			forget_domain(place);
}

/* Takes an event of the host. */
static int take_from_host(struct watched_place *host, const struct frame_event *event, uint64_t *cost)
{
	struct host_watch *watch = host->watch;
	struct watched_place *place;

	switch (event->kind) {
	case EVENT_DOMAIN_UP:
		if (!domid_is_valid(event->domid) ||
		    (event->text.size && !domain_name_is_valid(event->text.data, event->text.size)))
			return -EPROTO;
		add_domain(watch, event->domid, event->text, cost);
		return 0;
	case EVENT_DOMAIN_DOWN:
		place = watch->is_pattern ? find_domain(watch, event->domid) : NULL;
		if (place)
			forget_domain(place);
		return 0;
	case EVENT_LISTED:
		watch->lacks_some = watch->lacks_some || (watch->is_pattern && event->text.size);
		if (host->is_listing)
			follow_list(host);
		registry_set_cut(watch->registry, WATCHES_HOST, watch->lacks_some);
		return 0;
	default:
		return 0;
	}
}

/* --- taking what was told ----------------------------------------------------------------------- */

/* It begins to list all that there is. False: the watch has ended. */
static bool begin_list(struct watched_place *place)
{
	struct host_watch *watch = place->watch;
	struct watched_place *other;

	drop_list(place);
	place->is_listing = true;
	if (!is_host(place))
		return true;
	watch->lacks_some = false;
	DL_FOREACH(place->next, other)
		other->is_wanted = false;
	registry_set_up(watch->registry, WATCHES_HOST, true);
	place->is_up = true;
	return watch->is_answered || answer_watch(watch);
}

/* That was the list. */
static void end_list_of(struct watched_place *place)
{
	if (!place->is_listing)
		return;
	drop_list(place);
	place->is_up = place->is_listed = true;
	place->failures = 0;
}

static int take_part(struct watched_place *place, const struct inquiry_part *part, uint64_t *cost)
{
	struct frame_event event;
	int r;

	place->list_size += (uint32_t)part->size;
	if (!part->size)
		return 0;
	r = part->is_last ? -EPROTO : frame_event_decode(part->text, (uint32_t)part->size, &event);
	if (r == 0)
		r = is_host(place) ? take_from_host(place, &event, cost)
				   : take_from_domain(place, &event, cost);
	if (r == 0 && event.kind == EVENT_LISTED)
		end_list_of(place);
	return r;
}

/* Takes what has come, up to the end of a piece. False: the watch has ended. */
static bool read_news(struct watched_place *place, uint64_t *cost)
{
	struct inquiry_part part;
	int r = 1;

	place->read_ms = clock_ms();
	while (r > 0 && *cost < PIECE) {
		r = inquiry_next(place->inquiry, &part);
		*cost += COST_EVENT;
		if (r > 0 && part.is_first && !begin_list(place))
			return false;
		if (r > 0) {
			*cost += place->watch->count + part.size / 8;
			r = take_part(place, &part, cost);
			r = r < 0 ? r : 1;
		}
		if (place->state != PLACE_NEWS) /* it will be asked anew */
			return true;
	}
	if (r < 0)
		return note_failure(place, r);
	if (r == 0)
		place->state = PLACE_ASKED;
	return true;
}

/* Asks anew where its user may have by now what some of it was cut for want of. Nothing else would tell. */
static void look_for_room(struct watched_place *place)
{
	uint64_t held = place->charge.held[QUOTA_BYTES];
	uint64_t more = place->lacks > held ? place->lacks - held : 0;

	if (place->state != PLACE_ASKED || !charge_fits(&place->charge, QUOTA_BYTES, more)) {
		note_lack(place, place->lacks);
		return;
	}
	host_watches_drop_inquiry(place);
	set_state(place, PLACE_RETRIES);
}

void host_watch_go_on(struct host_watch *watch, enum place_state from)
{
	struct watched_place *place;

	DL_FOREACH(watch->places, place) {
		if (place->state == from)
			set_state(place, from == PLACE_WAITS ? PLACE_RETRIES : PLACE_NEWS);
		else if (from == PLACE_WAITS && place->lacks)
			look_for_room(place);
	}
}

/* Asks, or takes what has come. False: the watch has ended. */
static bool host_watches_step(struct watched_place *place, uint64_t *cost)
{
	int r;

	if (place->state == PLACE_NEWS)
		return read_news(place, cost);
	*cost += COST_RETRY;
	r = host_watches_ask(place);
	return r < 0 ? note_failure(place, r) : true;
}

/* The host is asked first, whose answer is that to the program. */
static struct watched_place *next_with_work(const struct host_watch *watch)
{
	struct watched_place *place;

	DL_FOREACH(watch->places, place)
		if ((place->state == PLACE_NEWS || place->state == PLACE_RETRIES) &&
		    (watch->is_answered || is_host(place)))
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

/* Whether the program has to be told first, or to read. This bounds what is kept for it of what has gone. */
static bool has_to_tell(const struct host_watch *watch)
{
	return watch->inner->task.is_due ||
	       (watch->is_answered && question_is_behind(watch->watch->question));
}

static void host_watches_on_turn(struct task *task)
{
	struct host_watch *watch = (struct host_watch *)((char *)task - offsetof(struct host_watch, task));
	struct turns *turns = task->turns;
	struct line *line = task->line;
	uint64_t cost = 0;
	struct watched_place *place;

	while (!has_to_tell(watch) && cost < PIECE && (place = next_with_work(watch)) != NULL) {
		cost += watch->count;
		if (!host_watches_step(place, &cost)) {
			turns_spend(turns, line, cost);
			return;
		}
	}
	if (!watch->is_known && watch->is_answered && are_listed(watch)) {
		watch->is_known = true;
		registry_tell(watch->registry, REGISTRY_ALL, 0);
	}
	turns_spend(turns, line, cost);
	if (cost >= PIECE || watch->inner->task.is_due) /* it goes on when the program was told all */
		task_due(task);				/* else, if it has to read, watches_heard() */
}

/* --- life --------------------------------------------------------------------------------------- */

/* Returns why it can't be watched, or NULL. */
static const char *set_pattern(struct host_watch *watch, const struct address_parts *pattern)
{
	const struct address_part *host = &pattern->host, *domain = &pattern->domain;

	if (!host_name_is_valid(host->data, host->size) ||
	    !address_part_copy(*host, watch->host, sizeof(watch->host)))
		return "the part before the slash must be a host's name, without * and ?";
	if (!domain_name_is_valid(domain->data, domain->size) || address_part_is(*domain, "self") ||
	    !address_part_copy(*domain, watch->domain, sizeof(watch->domain)))
		return "a pattern is HOST/DOMAIN or HOST/DOMAIN:ENDPOINT";
	watch->is_pattern = strpbrk(watch->domain, "*?[");
	return NULL;
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
	else if (told->has_stood) /* else when the host has answered */
		answer_watch(watch);
}
