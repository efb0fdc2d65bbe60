/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/invariant.h"
#include "base/quota.h"
#include "base/self.h"
#include "base/timer.h"
#include "daemon/link/link_internal.h"
#include "daemon/link/carrier.h"
#include "daemon/peers/peers.h"
#include "wire/ut.h"

#define ANEW_MAX 8u

/* --- one of them ------------------------------------------------------------------------------ */

static int by_peer(const struct link *a, const struct link *b)
{
	return peer_order(a->peer, b->peer);
}

void links_sort(struct links *links)
{
	if (!links->is_sorted)
		HASH_SRT(hh, links->links, by_peer);
	links->is_sorted = true;
}

/* Behind all others: to find its place would take as many steps as there are numbers that programs have asked
 * for. */
static bool list_link(struct links *links, struct link *link)
{
	HASH_ADD(hh, links->links, peer, sizeof(link->peer), link);
	links->is_sorted = false;
	return HASH_ADDED(link);
}

static void set_title(struct link *link)
{
	if (link_is_remote(link))
		snprintf(link->title, sizeof(link->title), "host %s",
			 hosts_name(link->links->options.hosts, link->peer.number));
	else
		snprintf(link->title, sizeof(link->title), "domain %u", link->stamped.number);
}

struct link *link_find(const struct links *links, struct peer_id peer)
{
	struct link *link;

	HASH_FIND(hh, links->links, &peer, sizeof(peer), link);
	return link;
}

static bool is_self(const struct links *links, struct peer_id peer)
{
	return peer_is_domain(peer, links->options.self->domid);
}

/* The account is the link's from now on. */
static struct link *link_new(struct links *links, struct peer_id peer, struct peer_id stamped,
			     struct account *account)
{
	struct link *link = calloc(1, sizeof(*link));

	if (!link)
		goto fail;
	link->peer = peer;
	link->stamped = stamped;
	link->links = links;
	set_title(link);
	link->since = (uint64_t)time(NULL);
	link->hop = link_new_hop(link);
	if (!link->hop)
		goto fail;
	if (!list_link(links, link)) {
		hop_retire(link->hop, ENOMEM);
		goto fail;
	}
	hop_set_account(link->hop, account);
	return link;
fail:
	free(link);
	account_unref(account);
	return NULL;
}

struct link *link_get(struct links *links, struct peer_id peer)
{
	struct link *link = link_find(links, peer);
	struct quota *quota = links->board->quota;

	if (link || is_self(links, peer))
		return link;
	return link_new(links, peer, peer, quota ? peer_account(quota, peer) : NULL);
}

struct link *link_new_unattributed(struct links *links, uint32_t number)
{
	struct peer_id unattributed = {PEER_UNATTRIBUTED, ++links->last_unattributed};
	struct quota *quota = links->board->quota;

	return link_new(links, unattributed, peer_domain(number),
			quota ? quota_account_apart(quota, number) : NULL);
}

int links_ask(struct links *links, struct peer_id peer, struct account *account)
{
	switch (peer.kind) {
	case PEER_DOMAIN:
		return peers_connect(links->peers, peer.number, account);
	case PEER_HOST:
		return hosts_connect(links->options.hosts, peer.number);
	default:
		return -EHOSTDOWN;
	}
}

void links_withdraw(struct links *links, struct peer_id peer)
{
	if (peer.kind == PEER_DOMAIN)
		peers_disconnect(links->peers, peer.number);
	else if (peer.kind == PEER_HOST)
		hosts_disconnect(links->options.hosts, peer.number);
}

bool links_is_there(struct links *links, struct peer_id peer)
{
	switch (peer.kind) {
	case PEER_DOMAIN:
		return peers_is_up(links->peers, peer.number);
	case PEER_HOST:
		return hosts_is_up(links->options.hosts, peer.number);
	default:
		return false;
	}
}

struct log_source link_source(const struct link *link)
{
	return link_is_remote(link) ? LOG_BY_HOST(link->peer.number) : LOG_BY_DOMAIN(link->stamped.number);
}

/* --- who wants one ---------------------------------------------------------------------------- */

/* Why there is no link: -ENOLINK if nobody is there because it was saved, and domain 0 leads to it. */
static int why_none(struct links *links, struct peer_id peer, int error)
{
	return error == -EHOSTDOWN && links->options.config->relay && links_zero_knows(links, peer) ? -ENOLINK
												    : error;
}

/* Asks for the link, also where domain 0's word is waited for: somebody may be there by now. */
static int links_ask_for(struct links *links, struct link *link, struct peer_id peer, struct account *account)
{
	int r = links_ask(links, peer, account);

	if (!link || !link->word.waits)
		return r;
	if (r == 0)
		link_set_state(link, LINK_CONNECTING); /* and no more than that */
	return r == -EHOSTDOWN ? 0 : r;
}

struct hop *links_want(struct links *links, struct peer_id peer, struct account *account, int *error)
{
	struct link *link = link_find(links, peer);

	*error = is_self(links, peer) ? -EHOSTDOWN : 0;
	/* Its end may not be told yet (vchan.h), and what is sent into it then has no certain end. */
	if (link && link->state == LINK_UP && carrier_state(&link->carrier) != CARRIER_OPEN)
		link_on_carrier(link);
	/* A domain may come back from a restore; another host that is gone isn't waited for. */
	if (link && link->state == LINK_AWAY && link_is_remote(link) && !links_is_there(links, peer))
		*error = -EHOSTDOWN;
	/* Ask even if another account has asked already: the one whose turn comes first has it looked up. */
	if (*error == 0 && (!link || link->state == LINK_IDLE || link->state == LINK_CONNECTING))
		*error = why_none(links, peer, links_ask_for(links, link, peer, account));
	if (*error < 0 && *error != -ENOLINK)
		return NULL;
	if (!link)
		link = link_get(links, peer);
	if (!link) {
		links_withdraw(links, peer);
		*error = -ENOMEM;
		return NULL;
	}
	link->times.used_ms = clock_ms();
	if (*error < 0)
		return NULL;
	link->wanted_by = account_source(account);
	if (link->state == LINK_IDLE)
		link_set_state(link, LINK_CONNECTING);
	return link->hop;
}

bool links_wait(const struct links *links)
{
	const struct link *link, *next;

	HASH_ITER(hh, links->links, link, next)
		if (carrier_is_there(&link->next) || (link->state == LINK_UP && link_is_wanted(link)))
			return true;
	return false;
}

static const struct link *find_up(const struct links *links, struct peer_id peer)
{
	const struct link *link = link_find(links, peer);

	return link && link->state == LINK_UP ? link : NULL;
}

bool links_are_up(const struct links *links, struct peer_id peer)
{
	return find_up(links, peer) != NULL;
}

int links_relays(const struct links *links, struct peer_id peer)
{
	const struct link *link = find_up(links, peer);

	return !link ? 0 : link->flags & HELLO_RELAYS ? 1 : -EOPNOTSUPP;
}

bool links_obey(const struct links *links, struct peer_id peer)
{
	const struct link *link = find_up(links, peer);

	return link && link->flags & HELLO_OBEYS;
}

bool links_are_forbidden(const struct links *links, uint32_t domid)
{
	return peers_is_forbidden(links->peers, domid);
}

void links_explain(struct links *links, struct peer_id peer, const char *reason)
{
	struct link *link = link_find(links, peer);

	if (link)
		snprintf(link->last_error, sizeof(link->last_error), "%s", reason);
	else /* what waits for domain 0 outlives it in a hand-over */
		link_remember_failure(links, peer, reason);
}

int links_send(struct links *links, struct peer_id peer, uint8_t type, const void *payload, uint32_t length)
{
	struct link *link = link_find(links, peer);

	if (!link || link->claims || (link->state != LINK_UP && link->state != LINK_AWAY))
		return -ENOTCONN;
	link->times.used_ms = clock_ms();
	return hop_send(link->hop, type, 0, 0, payload, length);
}

int links_await(struct links *links, struct peer_id peer, struct account *account, await_fn done,
		void *userdata, uint32_t request)
{
	struct link *link;
	int r = 0;

	if (!links_want(links, peer, account, &r))
		return r;
	link = link_find(links, peer);
	r = pings_await(&link->pings, done, userdata, request);
	if (r == 0 && link->state == LINK_UP)
		link_tell_awaiting(link);
	return r;
}

void links_await_cancel(struct links *links, const void *userdata)
{
	struct link *link, *next;

	HASH_ITER(hh, links->links, link, next)
		pings_forget(&link->pings, userdata);
}

void link_use_next(struct link *link)
{
	if (link->state == LINK_AWAY)
		link_try_next(link);
	else
		link_greet(link);
}

/* --- what peers tell -------------------------------------------------------------------------- */

void links_connected(struct links *links, struct peer_id peer, const struct carrier *carrier)
{
	struct link *link = link_get(links, peer);

	if (!link) {
		carrier_close(&(struct carrier){carrier->functions, carrier->self});
		links_withdraw(links, peer);
		return;
	}
	link_drop_next(link);
	link_check_awaited(link);
	link->next = *carrier;
	if (links->is_held)
		return;
	if (carrier_is_there(&link->carrier))
		hop_finish(link->hop, -ENOLINK, "the peer has made a new one");
	else
		link_use_next(link);
}

void link_replace(struct link *instead, struct link *link)
{
	struct links *links = link->links;

	HASH_DEL(links->links, instead);
	HASH_REKEY(hh, peer, link, instead->peer);
	links->is_sorted = false;
	set_title(link);
}

void link_free(struct link *link)
{
	if (!link->successor)
		HASH_DEL(link->links->links, link);
	if (link->has_met)
		DL_DELETE2(link->links->met, link, met_prev, met_next);
	free_event(link->again.timer);
	hop_retire(link->hop, ECONNRESET);
	free(link);
}

/* Forgets the link if its domain isn't there, or a program could fill our memory with numbers of domains that
 * don't exist. */
static void forget_if_absent(struct link *link, int error, const char *reason)
{
	struct links *links = link->links;

	if (link->state != LINK_IDLE || link_is_wanted(link) || links_is_there(links, link->peer))
		return;
	if (error != -EHOSTDOWN)
		link_remember_failure(links, link->peer, reason);
	link_free(link);
}

/* No daemon is there: what waits goes on with the session that the domain may come back to. False: there is
 * none. */
static bool wait_with_session(struct link *link, int error, const char *reason)
{
	bool is_absent =
		error == -EHOSTDOWN || (error == -EHOSTUNREACH && !links_is_there(link->links, link->peer));
	struct link *session = is_absent && link->peer.kind == PEER_DOMAIN
				       ? link_session_of(link->links, link->peer.number)
				       : NULL;

	if (!session || session == link)
		return false;
	link_set_state(link, LINK_IDLE);
	link_lead(link, session);
	link_end_session(link, EHOSTDOWN, reason);
	return true;
}

/* Lets what waits for a link that can't be made go another way. */
static void give_away(struct link *link, const char *reason)
{
	struct links *links = link->links;

	snprintf(link->last_error, sizeof(link->last_error), "%s", reason);
	if (links->callbacks.unlinkable)
		links->callbacks.unlinkable(links->userdata, link->peer, link->hop);
}

/* The link, which is CONNECTING, can't be had. Returns why in the end: a negative errno. */
static int links_fail(struct link *link, int error, const char *reason)
{
	struct links *links = link->links;
	char why[LINK_REASON_SIZE];

	if (wait_with_session(link, error, reason) || link_waits_for_word(link, error, reason))
		return error;
	link_set_state(link, LINK_IDLE);
	error = why_none(links, link->peer, error);
	if (error == -ENOLINK) {
		give_away(link, reason);
		error = -EHOSTUNREACH;
		reason = memcpy(why, link->last_error, sizeof(why));
	}
	link_end_session(link, -error, reason);
	return error;
}

void links_failed(struct links *links, struct peer_id peer, int error, const char *reason)
{
	struct link *link = link_find(links, peer);
	char why[LINK_REASON_SIZE];

	if (link && link->state == LINK_AWAY)
		link_lose_attempt(link, false, reason);
	if (!link || link->state != LINK_CONNECTING)
		return;
	error = links_fail(link, error, reason);
	forget_if_absent(link, error, memcpy(why, link->last_error, sizeof(why)));
}

bool link_may_ask_anew(struct link *link)
{
	return link_is_wanted(link) && link->anews++ < ANEW_MAX;
}

void link_ask(struct link *link)
{
	struct links *links = link->links;
	int r;

	link_set_state(link, LINK_CONNECTING);
	if (links->is_held || links->is_restarting) /* which ask for all of them in the end */
		return;
	r = links_ask(links, link->peer, NULL);
	if (r < 0)
		links_fail(link, r, strerror(-r));
}

void link_ask_for_waiting(struct link *link)
{
	if (link->state == LINK_IDLE && link_is_wanted(link))
		link_ask(link);
}

/* Finds the link once it has heard what the peer wrote before and lies in the ring: with its HELLO the
 * session has begun, or another goes on. */
static struct link *find_heard(struct links *links, struct peer_id peer)
{
	struct link *link = link_find(links, peer);

	if (!link || link->state != LINK_GREETING)
		return link;
	link_hear_greeting(link);
	return link_find(links, peer);
}

void links_lost(struct links *links, struct peer_id peer, bool replaced, const char *reason)
{
	struct link *link = find_heard(links, peer);
	bool is_dead;

	if (!link)
		return;
	if (link->state == LINK_AWAY) {
		link_lose_attempt(link, replaced, reason);
		return;
	}
	if (link->state == LINK_GREETING) {
		link_stop_greeting(link, -ECONNRESET, reason);
		return;
	}
	if (!carrier_is_there(&link->carrier))
		return;
	link_drop_next(link);
	/* Domain 0 may tell it before the death itself is seen, behind which nothing is resumed. */
	is_dead = link->peer.kind == PEER_DOMAIN && carrier_has_died(&link->carrier);
	hop_finish(link->hop, replaced || is_dead ? -ECONNRESET : -ENOLINK, "%s", reason);
}

void links_replaced(struct links *links, struct peer_id peer, const uint8_t instance[16], const char *reason)
{
	struct link *link = find_heard(links, peer);

	/* A greeting ends with what carries it, if that leads to the one before. */
	if (!link || link->state == LINK_GREETING ||
	    !memcmp(link->session.peer_instance, instance, sizeof(link->session.peer_instance)))
		return;
	links_lost(links, peer, true, reason);
}

void links_saved(struct links *links, uint32_t domid)
{
	struct link *link = link_find_domain(links, domid);

	if (link && link_may_resume(link, -ENOLINK))
		hop_finish(link->hop, -ENOLINK, "the domain is about to be saved");
}

/* --- life ------------------------------------------------------------------------------------- */

int links_new(struct links **out, struct switchboard *board, struct peers *peers,
	      const struct links_options *options, const struct links_callbacks *callbacks, void *userdata)
{
	struct links *links = calloc(1, sizeof(*links));

	if (!links)
		return -ENOMEM;
	links->board = board;
	links->peers = peers;
	links->options = *options;
	links->callbacks = *callbacks;
	links->userdata = userdata;
	registry_listen(links->options.registry, &links->sink, links_on_known, links);
	links->heartbeat = event_new(board->base, -1, EV_PERSIST, link_on_heartbeat, links);
	if (!links->heartbeat || timer_set(links->heartbeat, options->config->heartbeat_ms) < 0 ||
	    links_elastic_start(links) < 0) {
		links_free(links);
		return -ENOMEM;
	}
	*out = links;
	return 0;
}

void link_end(struct link *link, const char *why)
{
	if (link->state == LINK_GREETING)
		link_end_attempt(link, 0, "");
	carrier_close(&link->next);
	link_drop_carrier(link, 0, "");
	link_end_session(link, EHOSTUNREACH, why);
	link_free(link);
}

void links_restart(struct links *links)
{
	struct link *link, *next;

	links->is_restarting = true;
	HASH_ITER(hh, links->links, link, next) {
		if (link_keep_waiting(link))
			continue;
		if (!link_survive(link))
			link_end(link, "this domain was restored or migrated");
		else if (!link_is_unattributed(link))
			link_lose_number(link);
	}
	links->failures_count = 0;
}

void links_go_on(struct links *links)
{
	struct link *link, *next;

	links->is_restarting = false;
	HASH_ITER(hh, links->links, link, next) {
		if (link->state == LINK_CONNECTING)
			link_connect_again(link);
		else
			link_ask_again(link);
	}
}

void links_free(struct links *links)
{
	struct link *link, *next;

	if (!links)
		return;
	HASH_ITER(hh, links->links, link, next)
		link_end(link, "this daemon stops");
	registry_leave(links->options.registry, &links->sink);
	free_event(links->heartbeat);
	free_event(links->elastic);
	free(links);
}

#ifdef XENMSG_INVARIANTS
void links_check(const struct links *links)
{
	const struct link *link, *next;

	HASH_ITER(hh, links->links, link, next) {
		INVARIANT(carrier_is_there(&link->carrier) == (link->state == LINK_UP),
			  "a link is up as long as something carries it");
		INVARIANT(link->state != LINK_GREETING || carrier_is_there(&link->next),
			  "who greets a peer has what carries that");
		INVARIANT(link->state != LINK_AWAY || link->session.state != RESUME_ENDED,
			  "a link that is away has a session");
		INVARIANT(link->state == LINK_UP || link->state == LINK_AWAY ||
				  link->session.state == RESUME_ENDED,
			  "a session is of a link that is up or away");
	}
}
#endif
