/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/cost.h"
#include "base/image.h"
#include "base/timer.h"
#include "daemon/hosts/hosts.h"
#include "daemon/registry/registry.h"
#include "daemon/link/asks_internal.h"
#include "daemon/link/link.h"
#include "daemon/policy/access.h"
#include "daemon/switch/hop.h"
#include "wire/retry.h"
#include "wire/ut.h"

#define ASK_CHARGE (ASK_ROOM + 1024u) /* bytes for each question */
#define AGAINS_MAX 8u		      /* hand-overs in which one question ends */

/* --- a question --------------------------------------------------------------------------------- */

static struct ask *asks_find(const struct asks *asks, uint32_t id)
{
	struct ask *ask;

	HASH_FIND(hh, asks->by_id, &id, sizeof(id), ask);
	return ask;
}

static struct ask *find_key(const struct asks *asks, const struct ask_key *key)
{
	struct ask *ask;

	HASH_FIND(by_key, asks->by_key, key, sizeof(*key), ask);
	return ask;
}

static void remove_key(struct ask *ask)
{
	if (ask->is_keyed)
		HASH_DELETE(by_key, ask->asks->by_key, ask);
	ask->is_keyed = false;
}

/* -ENOMEM. */
static int ask_enter(struct ask *ask, struct asks *asks)
{
	HASH_ADD(hh, asks->by_id, id, sizeof(ask->id), ask);
	if (!HASH_ADDED(ask))
		return -ENOMEM;
	HASH_ADD(by_key, asks->by_key, key, sizeof(ask->key), ask);
	if (HASH_ADDED_BY(by_key, ask))
		return 0;
	HASH_DEL(asks->by_id, ask);
	return -ENOMEM;
}

int ask_new(struct asks *asks, struct account *account, const struct ask_key *key, struct ask **out)
{
	struct ask *ask = calloc(1, sizeof(*ask));
	int r;

	if (!ask)
		return -ENOMEM;
	charge_init(&ask->charge, account);
	while (!++asks->last_id || asks_find(asks, asks->last_id))
		;
	ask->id = asks->last_id;
	ask->key = *key;
	r = charge_add(&ask->charge, QUOTA_BYTES, ASK_CHARGE);
	if (r == 0)
		r = ask_enter(ask, asks);
	if (r < 0) {
		charge_end(&ask->charge);
		free(ask);
		return r;
	}
	ask->asks = asks;
	ask->is_keyed = true;
	task_init(&ask->task, &asks->with.board->turns, account_line(ask->charge.account), ask_take_turn);
	DL_APPEND(asks->list, ask);
	*out = ask;
	return 0;
}

/* Whether a peer has asked, and wants the answer. */
static bool is_a_peers(const struct ask *ask)
{
	return ask->is_keyed && !ask->told;
}

/* -EMSGSIZE, -ENOBUFS, -ENOMEM. */
static int make_room(struct ask *ask, uint32_t size)
{
	uint32_t room = ask->room ? 2 * ask->room : ASK_ROOM;
	uint8_t *text;
	int r = 0;

	if (size > TOLD_MAX || ask->count >= TOLD_COUNT)
		return -EMSGSIZE;
	if (size <= ask->room)
		return 0;
	if (ask->room) /* else it is paid already */
		r = charge_add(&ask->charge, QUOTA_BYTES, room - ask->room);
	if (r < 0)
		return r;
	text = realloc(ask->text, room);
	if (!text) {
		charge_release(&ask->charge, QUOTA_BYTES, ask->room ? room - ask->room : 0);
		return -ENOMEM;
	}
	ask->text = text;
	ask->room = room;
	return 0;
}

int ask_add_entry(struct ask *ask, const struct frame_told_entry *entry)
{
	int r = make_room(ask, ask->size + TOLD_ENTRY_SIZE(entry->name.size));

	if (r < 0)
		return r;
	ask->size += frame_told_entry_encode(entry, ask->text + ask->size);
	ask->count++;
	return 0;
}

void ask_drop_text(struct ask *ask)
{
	free(ask->text);
	ask->text = NULL;
	charge_release(&ask->charge, QUOTA_BYTES, ask->room > ASK_ROOM ? ask->room - ASK_ROOM : 0);
	ask->room = ask->size = ask->count = ask->sent = 0;
	ask->is_cut = false;
}

void ask_free(struct ask *ask)
{
	struct asks *asks = ask->asks;

	remove_key(ask);
	HASH_DEL(asks->by_id, ask);
	DL_DELETE(asks->list, ask);
	task_cancel(&ask->task);
	charge_end(&ask->charge);
	free(ask->text);
	free(ask);
}

/* Lets the next daemon forget it. */
static void ask_withdraw(struct ask *ask)
{
	uint8_t payload[4];

	if (ask->state == ASK_SENT) /* if it fails, there is no session any more */
		(void)links_send(ask->asks->links, ask->to, FRAME_UNASK, payload,
				 frame_u32_encode(ask->id, payload));
}

/* Forgets a question to which nobody wants the answer any more. */
static void asks_drop(struct ask *ask)
{
	if (ask->state != ASK_WAITS) {
		ask_withdraw(ask);
		ask_free(ask);
		return;
	}
	remove_key(ask);
	ask->told = NULL;
	ask->state = ASK_DROPPED;
}

void ask_fail(struct ask *ask, int error)
{
	ask->error = error == -ENOMEM ? ENOBUFS : -error;
	ask_drop_text(ask);
	ask->version = 0;
	ask->state = ASK_TELLS;
	task_due(&ask->task);
}

/* --- programs ----------------------------------------------------------------------------------- */

void asks_forget(struct asks *asks, const void *asker)
{
	struct ask *ask, *next;

	DL_FOREACH_SAFE(asks->list, ask, next)
		if (ask->told && ask->key.asker == asker)
			asks_drop(ask);
}

void asks_cancel(struct asks *asks, void *asker, uint32_t request)
{
	const struct ask_key key = {.asker = asker, .number = request};
	struct ask *ask = find_key(asks, &key);

	if (ask)
		asks_drop(ask);
}

/* For ASK_HOSTS: what is asked is domain 0. */
static const char *why_no_hosts(int error)
{
	switch (error) {
	case EHOSTDOWN:
		return "no xenmsgd runs in domain 0, which knows the hosts";
	case EHOSTUNREACH:
		return "no other host can be reached from this one: domain 0 needs name under [hosts] in xenmsgd.conf(5), "
		       "and a gateway";
	default:
		return asks_why_not(ASK_DOMAINS, error);
	}
}

const char *asks_why_not(enum ask_kind kind, int error)
{
	if (kind == ASK_HOSTS)
		return why_no_hosts(error);
	switch (error) {
	case EINVAL:
		return "that can't be a domain of another host";
	case EACCES:
		return "denied by policy, or nothing leads there: in domain 0 an [out] has to let it leave, and 'xenmsg "
		       "hosts' has to list that host";
	case EHOSTDOWN:
		return "no such host or domain, or no xenmsgd runs there; 'xenmsg hosts' lists the hosts";
	case EHOSTUNREACH:
		return "nothing leads to that host, or to that domain there: domain 0 needs name under [hosts] in "
		       "xenmsgd.conf(5), and a gateway; 'xenmsg hosts' in domain 0 says what is missing";
	case ETIMEDOUT:
		return "xenmsgd there, or on the way, runs and doesn't answer";
	case ENOBUFS:
		return "this user, this domain or its host asks more than it may there";
	default: /* the library's words */
		return "";
	}
}

/* --- what happens ------------------------------------------------------------------------------- */

/* Goes on with what waits for a change, or for an asker that hasn't read. */
static void asks_on_timer(int fd, short what, void *userdata)
{
	struct asks *asks = userdata;
	struct ask *ask;

	DL_FOREACH(asks->list, ask) {
		if (ask->state == ASK_RESTS)
			ask->state = ASK_WALKS;
		if (ask->state == ASK_WALKS || ask->state == ASK_TELLS)
			task_due(&ask->task);
	}
}

/* Goes on where the payer may have by now what an answer was cut for want of. Nothing else would tell. */
static void on_lack(int fd, short what, void *userdata)
{
	struct asks *asks = userdata;
	struct ask *ask;

	DL_FOREACH(asks->list, ask) {
		if (ask->state != ASK_RESTS || !ask->lacks)
			continue;
		if (!charge_fits(&ask->charge, QUOTA_BYTES, ask->lacks)) {
			timer_start(asks->lack, RETRY_EACH_MS);
			continue;
		}
		ask->state = ASK_WALKS;
		task_due(&ask->task);
	}
}

static void asks_on_known(void *userdata, enum registry_what what, uint32_t domid)
{
	struct asks *asks = userdata;
	bool is_told = what != REGISTRY_AWAY && what != REGISTRY_CUT &&
		       (what != REGISTRY_ENDPOINTS || domid == asks->with.self->domid);

	if (is_told && asks->list)
		timer_start(asks->timer, GATHER_MS);
}

static bool has_limit(const struct ask *ask)
{
	return ask->state == ASK_SENT && !ask->known;
}

/* It is sent: the answer may take until its time is up. What is asked to hear of changes has no such time. */
static void asks_expect_answer(struct ask *ask)
{
	ask->sent_ms = clock_ms();
	ask->away_ms = 0;
	if (has_limit(ask))
		timer_start(ask->asks->overdue, ask->asks->with.answer_ms);
}

/* Returns when the answer is overdue. A peer that is away may answer when it is back, and then has its time;
 * but one that comes and goes doesn't let anybody wait for ever. If we stood still ourselves, the answer may
 * lie there unread: for reading it there is as much time again. */
static uint64_t end_of(struct ask *ask, uint64_t now)
{
	const struct asks *asks = ask->asks;
	uint64_t end, last = ask->sent_ms + asks->with.answer_ms + asks->with.resume_for_ms;

	if (!links_take_asks(asks->links, ask->to))
		ask->away_ms = now;
	end = (ask->away_ms ? ask->away_ms : ask->sent_ms) + asks->with.answer_ms;
	if (end > last)
		end = last;
	return end <= now && links_have_unread(asks->links, ask->to) ? end + asks->with.answer_ms : end;
}

/* Ends what a peer that lives doesn't answer: the payer may be somebody else. */
static void on_overdue(int fd, short what, void *userdata)
{
	struct asks *asks = userdata;
	uint64_t now = clock_ms(), next = UINT64_MAX;
	struct ask *ask;

	DL_FOREACH(asks->list, ask) {
		uint64_t end = has_limit(ask) ? end_of(ask, now) : UINT64_MAX;

		if (end <= now) {
			ask_withdraw(ask);
			ask_fail(ask, -ETIMEDOUT);
		} else if (end < next) {
			next = end;
		}
	}
	if (next != UINT64_MAX)
		timer_set(asks->overdue, next - now);
}

/* --- to the next daemon ------------------------------------------------------------------------- */

static int send_ask(struct ask *ask)
{
	struct frame_ask frame = {
		.number = ask->id,
		.known = ask->known,
		.about = {.kind = (uint8_t)ask->kind,
			  .identity = ask->from,
			  .name = frame_text_of(ask->name),
			  .domain_name = frame_text_of(ask->domain_name)},
	};
	uint8_t payload[36 + sizeof(ask->name) + DOMAIN_NAME_MAX + 1 + HOST_NAME_SIZE];

	/* Between hosts it is missing: a host is known by its link. */
	if (!peer_is_host(ask->to))
		frame.about.host = frame_text_of(ask->host);
	return links_send(ask->asks->links, ask->to, FRAME_ASK, payload, frame_ask_encode(&frame, payload));
}

static void on_link_up(void *userdata, uint32_t id, int r);

int ask_lead_on(struct ask *ask)
{
	struct asks *asks = ask->asks;
	int r;

	if (links_take_asks(asks->links, ask->to)) {
		r = send_ask(ask);
		ask->state = ASK_SENT;
		asks_expect_answer(ask);
	} else {
		ask->state = ASK_WAITS;
		r = links_await(asks->links, ask->to, ask->charge.account, on_link_up, asks, ask->id);
	}
	return r == -ENOLINK || r == -ENOTCONN ? -EHOSTUNREACH : r;
}

/* The link is up, or can't be. */
static void on_link_up(void *userdata, uint32_t id, int r)
{
	struct ask *ask = asks_find(userdata, id);

	if (ask && ask->state == ASK_DROPPED) {
		ask_free(ask);
		return;
	}
	if (!ask || ask->state != ASK_WAITS)
		return;
	if (r == 0)
		r = ask_lead_on(ask);
	if (r < 0)
		ask_fail(ask, r);
}

int ask_lead_out(struct ask *ask, const char *host, const char *domain)
{
	struct asks *asks = ask->asks;
	uint32_t number;
	int r = -EHOSTUNREACH;

	/* Where nothing leads to any host, no rule is what is missing. */
	if (*hosts_own_name(asks->with.hosts))
		r = access_still_out(asks->with.access, &ask->from, host);
	if (r == 0)
		r = hosts_resolve(asks->with.hosts, host, &number);
	if (r < 0)
		return r;
	ask->to = peer_host(number);
	if (!hosts_is_up(asks->with.hosts, number))
		return -EHOSTDOWN; /* also if its session may be resumed: it is told as gone */
	snprintf(ask->name, sizeof(ask->name), "%s", domain);
	snprintf(ask->domain_name, sizeof(ask->domain_name), "%s",
		 registry_name(asks->with.registry, ask->from.domid));
	return ask_lead_on(ask);
}

int asks_ask(struct asks *asks, const struct ask_question *question, struct account *account,
	     asks_told_fn told, void *asker, uint32_t request)
{
	const char *domain = question->kind == ASK_ENDPOINTS ? question->domain : "";
	const struct ask_key key = {.asker = asker, .number = request};
	struct ask *ask;
	int r = asks->is_handed_over ? -EAGAIN : ask_new(asks, account, &key, &ask);

	if (r < 0)
		return r;
	ask->told = told;
	ask->userdata = question->userdata;
	ask->kind = question->kind;
	ask->known = question->known;
	ask->from = question->from;
	snprintf(ask->of_host, sizeof(ask->of_host), "%s", question->host);
	if (asks_in_domain_0(asks)) {
		r = ask_lead_out(ask, question->host, domain);
	} else {
		snprintf(ask->name, sizeof(ask->name), "%s%s%s", question->host, *domain ? "/" : "", domain);
		r = ask_lead_on(ask); /* to domain 0 */
	}
	if (r < 0)
		ask_free(ask);
	return r;
}

/* --- answered by a peer ------------------------------------------------------------------------- */

/* Fails a question whose answer goes on. */
static void refuse_answer(struct ask *ask, int error)
{
	ask_withdraw(ask);
	ask_fail(ask, error);
}

/* Passes a part on to the peer that has asked. */
static void asks_pass_on(struct ask *ask, struct frame_told *told)
{
	struct asks *asks = ask->asks;
	uint32_t domid = ask->to.number;
	const char *name;
	int r;

	switch_spend(asks->with.board, ask->charge.account, COST_CONTROL);
	if (!peer_is_host(ask->to)) { /* who it is, domain 0 knows better */
		name = registry_name(asks->with.registry, domid);
		told->domid = domid;
		told->name = frame_text_of(name);
	}
	ask->size += told->count ? (uint32_t)(told->end - told->at) : 0;
	ask->count += told->count;
	r = ask_send_told(ask, told);
	if (r == -ENOBUFS || r == -ENOMEM) {
		refuse_answer(ask, -ENOBUFS); /* when it reads again */
	} else if (r < 0 || !(told->flags & TOLD_MORE)) {
		ask_free(ask);
	}
}

/* Whether the entry can be there, behind the ones before, which this notes. */
static bool comes_next(struct ask *ask, const struct frame_told_entry *entry)
{
	char name[ENDPOINT_NAME_MAX + 1] = "";

	if (ask->kind == ASK_DOMAINS) {
		if (!domid_is_valid(entry->number) || (ask->count && entry->number <= ask->after))
			return false;
		ask->after = entry->number;
		return true;
	}
	if (ask->kind == ASK_HOSTS)
		return host_name_is_valid(entry->name.data, entry->name.size);
	if (!endpoint_name_is_valid(entry->name.data, entry->name.size))
		return false;
	memcpy(name, entry->name.data, entry->name.size);
	if (strcmp(ask->after_name, name) >= 0)
		return false;
	memcpy(ask->after_name, name, sizeof(name));
	return true;
}

/* Adds a part to what has come. */
static int keep_part(struct ask *ask, struct frame_told part)
{
	struct frame_told_entry entry;
	int r = 0;

	while (r == 0 && frame_told_next(&part, &entry))
		r = comes_next(ask, &entry) ? ask_add_entry(ask, &entry) : -EPROTO;
	return r;
}

/* Whether the part can be one behind those that have come: an answer has an end, and is one. */
static bool is_part(struct ask *ask, const struct frame_told *told)
{
	size_t size = told->count ? (size_t)(told->end - told->at) : 0;

	if ((told->flags & TOLD_MORE && !size) || ask->size + size > TOLD_MAX ||
	    ask->count + told->count > TOLD_COUNT || (ask->size && ask->version != told->version))
		return false;
	ask->version = told->version;
	return true;
}

/* The daemon that was asked hands over to another one, which has to be asked. One that says so again and
 * again is believed as often as it may happen. */
static int ask_again(struct ask *ask)
{
	if (ask->known &&
	    clock_ms_since(ask->sent_ms) >= GATHER_MS) /* it waits for changes, for however long */
		ask->agains = 0;
	if (ask->agains++ >= AGAINS_MAX)
		return -EPROTO;
	if (!ask->told && ask->size) /* which can't be taken back */
		return -EAGAIN;
	ask_drop_text(ask);
	ask->after = 0;
	ask->after_name[0] = '\0';
	return ask_lead_on(ask);
}

/* Takes a part of an answer. */
static void asks_take_told(struct asks *asks, struct peer_id peer, struct frame_told *told)
{
	struct ask *ask = asks_find(asks, told->number);
	int r;

	if (!ask || ask->state != ASK_SENT || !peer_is(ask->to, peer))
		return; /* nobody wants to know any more */
	if (told->error) {
		r = frame_error(told->error, -EPROTO);
		if (r == -EAGAIN)
			r = ask_again(ask);
		if (r < 0)
			ask_fail(ask, r);
		return;
	}
	if (!is_part(ask, told)) {
		refuse_answer(ask, -EPROTO);
	} else if (!ask->told) {
		asks_pass_on(ask, told);
	} else {
		r = keep_part(ask, *told);
		if (r < 0)
			refuse_answer(ask, r);
		else if (!(told->flags & TOLD_MORE))
			ask_tell_program(ask, told);
	}
}

/* A question's way out: to the next daemon, and what that one answers, to a program here or on to the peer
 * that has asked. */
/* --- frames, links and hand-overs ------------------------------------------------------------- */

bool asks_follow_peers(const struct asks *asks)
{
	const struct ask *ask;

	if (!asks)
		return false;
	DL_FOREACH(asks->list, ask)
		if (ask->state == ASK_RESTS && ask->kind == ASK_DOMAINS)
			return true;
	return false;
}

int asks_take(struct asks *asks, struct peer_id peer, uint8_t type, const uint8_t *payload, uint32_t length)
{
	struct frame_ask frame;
	struct frame_told told;
	struct ask_key key = {.peer = peer};
	struct ask *ask;
	int r;

	switch (type) {
	case FRAME_ASK:
		r = frame_ask_decode(payload, length, &frame);
		key.number = frame.number;
		if (r < 0 || find_key(asks, &key))
			return -EPROTO;
		frame_open_split(&frame.about);
		asks_take_ask(asks, peer, &frame);
		return 0;
	case FRAME_TOLD:
		r = frame_told_decode(payload, length, &told);
		if (r == 0)
			asks_take_told(asks, peer, &told);
		return r;
	default:
		r = frame_u32_decode(payload, length, &key.number);
		ask = r < 0 ? NULL : find_key(asks, &key);
		if (ask) /* else it is answered already */
			asks_drop(ask);
		return r;
	}
}

void asks_session_ended(struct asks *asks, struct peer_id peer, int error)
{
	struct ask *ask, *next;

	if (!asks)
		return;
	DL_FOREACH_SAFE(asks->list, ask, next) {
		if (is_a_peers(ask) && peer_is(ask->key.peer, peer))
			asks_drop(ask);
		else if (ask->state == ASK_SENT && peer_is(ask->to, peer))
			ask_fail(ask, -error);
	}
}

unsigned asks_host_gone(struct asks *asks, struct peer_id host)
{
	struct ask *ask, *next;
	unsigned count = 0;

	if (!asks)
		return 0;
	DL_FOREACH_SAFE(asks->list, ask, next) {
		count++;
		if (!peer_is(ask->to, host) || (ask->state != ASK_SENT && ask->state != ASK_WAITS))
			continue;
		ask_withdraw(ask);
		ask_fail(ask, -EHOSTDOWN);
	}
	return count;
}

void asks_stay(struct asks *asks)
{
	asks->is_handed_over = false;
}

void asks_hand_over(struct asks *asks)
{
	struct ask *ask, *next;

	asks->is_handed_over = true;
	DL_FOREACH_SAFE(asks->list, ask, next) {
		if (ask->state == ASK_DROPPED || ask->state == ASK_TELLS)
			continue;
		ask_withdraw(ask);
		ask_fail(ask, -EAGAIN); /* whoever has asked asks the next daemon */
	}
}

bool asks_has_from(const struct asks *asks, struct peer_id peer)
{
	const struct ask *ask;

	DL_FOREACH(asks->list, ask)
		if (is_a_peers(ask) && peer_is(ask->key.peer, peer))
			return true;
	return false;
}

void asks_image(struct image *image, struct asks *asks)
{
	image_u32(image, &asks->last_id);
}

void asks_renumber(struct asks *asks, uint32_t from, uint32_t to)
{
	struct ask *ask;

	if (from == to)
		return;
	DL_FOREACH(asks->list, ask) {
		if (peer_is_domain(ask->to, from))
			ask->to.number = to;
		if (is_a_peers(ask) && peer_is_domain(ask->key.peer, from))
			HASH_REKEY(by_key, key, ask,
				   ((struct ask_key){.peer = peer_domain(to), .number = ask->key.number}));
	}
}

/* --- life --------------------------------------------------------------------------------------- */

int asks_new(struct asks **out, const struct asks_collaborators *collaborators, bool enabled,
	     asks_endpoint_fn endpoint, void *userdata)
{
	struct asks *asks = calloc(1, sizeof(*asks));

	if (!asks)
		return -ENOMEM;
	asks->with = *collaborators;
	asks->enabled = enabled;
	asks->endpoint = endpoint;
	asks->userdata = userdata;
	asks->timer = evtimer_new(collaborators->board->base, asks_on_timer, asks);
	asks->overdue = evtimer_new(collaborators->board->base, on_overdue, asks);
	asks->lack = evtimer_new(collaborators->board->base, on_lack, asks);
	if (!asks->timer || !asks->overdue || !asks->lack) {
		free_event(asks->lack);
		free_event(asks->overdue);
		free_event(asks->timer);
		free(asks);
		return -ENOMEM;
	}
	registry_listen(asks->with.registry, &asks->sink, asks_on_known, asks);
	*out = asks;
	return 0;
}

void asks_set_links(struct asks *asks, struct links *links)
{
	asks->links = links;
}

void asks_free(struct asks *asks)
{
	if (!asks)
		return;
	if (asks->links)
		links_await_cancel(asks->links, asks);
	while (asks->list)
		ask_free(asks->list);
	registry_leave(asks->with.registry, &asks->sink);
	event_free(asks->lack);
	event_free(asks->overdue);
	event_free(asks->timer);
	free(asks);
}
