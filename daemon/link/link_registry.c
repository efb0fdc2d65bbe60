/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * By what programs know a domain whose session is away. XenStore and domain 0 forget a domain as soon as it
 * is saved, and its daemon isn't there by the new number before it has heard of the restore itself. So its
 * link keeps the name and UUID that were known last, and they lead to the session, as its number does, for
 * resume-for.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/image.h"
#include "daemon/link/link_internal.h"
#include "daemon/peers/peers.h"
#include "wire/ut.h"

/* `xl migrate` gives this to a domain that is about to go, and its name to the one that comes. */
#define MIGRATED_AWAY "--migratedaway"

static bool is_name_to_keep(const char *name)
{
	size_t size = strlen(name), end = strlen(MIGRATED_AWAY);

	return size > 0 && (size <= end || strcmp(name + size - end, MIGRATED_AWAY) != 0);
}

void link_note_name(struct link *link)
{
	struct registry *registry = link->links->options.registry;
	const char *name, *uuid;

	if (link->peer.kind != PEER_DOMAIN)
		return;
	name = registry_name(registry, link->peer.number);
	uuid = registry_uuid(registry, link->peer.number);
	if (is_name_to_keep(name))
		snprintf(link->name, sizeof(link->name), "%s", name);
	if (uuid[0])
		snprintf(link->uuid, sizeof(link->uuid), "%s", uuid);
}

/* The session goes on with the daemon that it is with, or not at all: another one by its number was started
 * since, also where this end had no vchan that would have been lost with the one before. */
static void take_presence_of_away(struct link *link, uint32_t domid)
{
	uint8_t instance[AUTH_ID_SIZE];

	if (!link->claims && peers_instance(link->links->peers, domid, instance) &&
	    !link_is_with(link, instance))
		link_lose_attempt(link, true, "the peer's daemon was restarted");
	else /* behind a hand-over the link is known first */
		registry_set_away(link->links->options.registry, domid, true);
}

void links_on_known(void *userdata, enum registry_what what, uint32_t domid)
{
	struct link *link =
		what == REGISTRY_NAME || what == REGISTRY_PRESENCE ? link_find_domain(userdata, domid) : NULL;

	if (!link)
		return;
	if (what == REGISTRY_PRESENCE) {
		if (link->state == LINK_AWAY && registry_is_up(link->links->options.registry, domid))
			take_presence_of_away(link, domid);
		return;
	}
	link_note_name(link);
	if (link->state == LINK_UP)
		link_lead_sought(link);
	if (link->word.waits) /* in a turn of its own, since domain 0's frame is being read */
		timer_set(link->again.timer, 0);
}

void link_note_former(struct link *link, uint32_t domid)
{
	link->former = domid;
	link->former_until_ms = link->session.away_ms + link->links->options.config->resume_for_ms;
}

static bool has_number(const struct link *link, uint32_t domid)
{
	if (link->state == LINK_AWAY && peer_is_domain(link->stamped, domid))
		return true;
	return link->former == domid && clock_ms() < link->former_until_ms;
}

/* Finds the session with the domain that had this number. NULL: none is away, or was a moment ago. */
static struct link *find_by_number(const struct links *links, uint32_t domid)
{
	struct link *link;

	DL_FOREACH2(links->met, link, met_next)
		if (!link->claims && !link_is_remote(link) && has_number(link, domid))
			return link;
	return NULL;
}

/* Finds the session that is away with a domain of this name, or UUID. */
static struct link *find_by_name(const struct links *links, const char *name)
{
	struct link *link;

	DL_FOREACH2(links->met, link, met_next)
		if (link->state == LINK_AWAY && !link->claims && name[0] &&
		    (!strcmp(link->name, name) || !strcasecmp(link->uuid, name)))
			return link;
	return NULL;
}

/* Whether the domain with this number, in which no daemon is yet, can be the one with which the session
 * was. */
static bool can_be(struct links *links, uint32_t domid, const struct link *link)
{
	const char *uuid = registry_uuid(links->options.registry, domid);

	return !uuid[0] || !link->uuid[0] || !strcmp(uuid, link->uuid);
}

struct link *link_session_of(struct links *links, uint32_t domid)
{
	struct link *link = find_by_number(links, domid);

	/* By its UUID, if that isn't known to be another domain. */
	return link && can_be(links, domid, link)
		       ? link
		       : find_by_name(links, registry_uuid(links->options.registry, domid));
}

/* Whether the session with a domain of before may be meant by its number without a look at who has that now.
 * Not since this domain was restored: nothing says yet who is there, and a daemon of now doesn't wait for a
 * session that it may have given up. */
static bool may_be_meant(const struct link *link, uint32_t domid)
{
	return peers_is_absent(link->links->peers, domid) ||
	       (!link_is_unattributed(link) && has_number(link, domid));
}

struct peer_id links_meant(struct links *links, uint32_t domid)
{
	const struct link *link;

	if (domid == links->options.self->domid || peers_is_up(links->peers, domid))
		return peer_domain(domid);
	/* Or it comes back, under this one; but another daemon may run there by now, as a look shows. */
	link = link_session_of(links, domid);
	return link && may_be_meant(link, domid) ? link->peer : peer_domain(domid);
}

int links_resolve(struct links *links, const char *domain, struct peer_id *peer)
{
	uint32_t domid;
	int r = registry_resolve(links->options.registry, domain, &domid);
	const struct link *link;

	*peer = peer_domain(r == 0 ? domid : 0);
	if (r == 0 && (domid == links->options.self->domid || peers_is_up(links->peers, domid)))
		return 0;
	link = find_by_name(links, domain);
	if (link && (r < 0 || (can_be(links, domid, link) && may_be_meant(link, domid)))) {
		*peer = link->peer;
		return 0;
	}
	if (r == 0)
		*peer = links_meant(links, domid);
	return r;
}

static bool has_session(const struct link *link)
{
	return link && !link->claims && (link->state == LINK_UP || link->state == LINK_AWAY);
}

bool links_had_session(const struct links *links, uint32_t domid)
{
	return has_session(link_find_domain(links, domid)) || find_by_number(links, domid);
}

bool links_next_away(const struct links *links, struct links_away *away)
{
	const struct link *link = away->link ? away->link->met_next : links->met;

	while (link && (link->state != LINK_AWAY || link->claims || link->peer.kind != PEER_DOMAIN))
		link = link->met_next;
	if (link)
		*away = (struct links_away){link, link->peer.number, link->name, link->uuid,
					    link->session.away_ms};
	return link;
}

bool links_zero_knows(struct links *links, struct peer_id peer)
{
	if (peer.kind != PEER_DOMAIN || has_session(link_find(links, peer)))
		return false;
	/* Domain 0 may have said so before we have read that its presence has gone. */
	return registry_is_led_to(links->options.registry, peer.number, !links_is_there(links, peer));
}

/* --- domain 0's word ------------------------------------------------------------------------------ */

/* A domain that is saved has gone from XenStore, where whoever asks reads it, before domain 0 has heard of
 * that and told it. So a channel there is opened through domain 0. If it leads nobody there, or has no
 * session with it, it says so at once; else what it tells comes within this. */
#define WORD_MS 500
#define WORDS_MAX                                                                                            \
	10 /* so often it is asked: once more after it was away, since its daemon or this hands over */

static const struct link *away_zero(const struct links *links)
{
	const struct link *zero = link_find(links, peer_domain(0));

	return zero && zero->state == LINK_AWAY ? zero : NULL;
}

static bool may_be_told(const struct link *link)
{
	struct links *links = link->links;

	return links->options.config->relay && links->options.self->domid != 0 &&
	       link->peer.kind == PEER_DOMAIN && link->peer.number != 0 &&
	       (links_relays(links, peer_domain(0)) == 1 || away_zero(links)) &&
	       registry_is_complete(links->options.registry, link->peer.number);
}

/* How often the session with domain 0 was resumed. */
static uint32_t resumes_of_zero(const struct links *links)
{
	const struct link *zero = link_find(links, peer_domain(0));

	return zero ? zero->resumes : 0;
}

void links_take_word(struct links *links, uint32_t domid)
{
	struct link *link = link_find_domain(links, domid);

	if (!link || !link->word.waits)
		return;
	link->word.has_come = true;
	timer_set(link->again.timer, 0);
}

/* Begins to wait. */
static bool ask_for_word(struct link *link)
{
	const struct links *links = link->links;

	if (link->word.asked++ == WORDS_MAX || deadline_set(&link->again, WORD_MS) < 0)
		return false;
	link->word.resumes = resumes_of_zero(link->links);
	/* If it can't be asked, it may still tell. */
	if (links->callbacks.word)
		links->callbacks.word(links->userdata, link->peer.number);
	return true;
}

/* Whether it couldn't hear the question, or its answer may be lost. */
static bool is_unheard(const struct link *link)
{
	return away_zero(link->links) || resumes_of_zero(link->links) != link->word.resumes;
}

bool link_waits_for_word(struct link *link, int error, const char *reason)
{
	if (error != -EHOSTDOWN || link->word.has_come || links_zero_knows(link->links, link->peer) ||
	    !may_be_told(link))
		return false;
	if (link_make_timer(link) < 0)
		return false;
	/* If we stood still ourselves, it may lie there unread. */
	link->word.waits = link->word.has_waited && !deadline_is_over(&link->again, WORD_MS);
	if (!link->word.has_waited || (!link->word.waits && is_unheard(link)))
		link->word.waits = link->word.has_waited = ask_for_word(link);
	if (!link->word.waits)
		return false;
	snprintf(link->last_error, sizeof(link->last_error), "%s", reason);
	return true;
}

void link_end_wait_for_word(struct link *link)
{
	char reason[LINK_REASON_SIZE];

	if (link->word.waits)
		links_failed(link->links, link->peer, -EHOSTDOWN,
			     memcpy(reason, link->last_error, sizeof(reason)));
}

/* --- what is told of links ---------------------------------------------------------------------- */

/* What is told of links: those that there are, and why others couldn't be made. */

void link_remember_failure(struct links *links, struct peer_id peer, const char *reason)
{
	struct link_failure *failure = NULL;

	for (unsigned i = 0; i < links->failures_count; i++)
		if (peer_is(links->failures[i].peer, peer))
			failure = &links->failures[i];
	if (!failure) {
		failure = &links->failures[links->failures_next++ % LINKS_FAILURES_MAX];
		links->failures_count += links->failures_count < LINKS_FAILURES_MAX;
	}
	failure->peer = peer;
	failure->since = (uint64_t)time(NULL);
	snprintf(failure->reason, sizeof(failure->reason), "%s", reason);
}

/* The oldest comes first. */
void links_failures_image(struct image *image, struct links *links)
{
	uint32_t count = links->failures_count;

	image_upto(image, &count, LINKS_FAILURES_MAX);
	links->failures_count = count;
	for (uint32_t i = 0; i < count; i++) {
		struct link_failure *failure =
			&links->failures[(links->failures_next - count + i) % LINKS_FAILURES_MAX];

		image_u32(image, &failure->peer.number);
		failure->peer.kind = failure->peer.number < HOST_FIRST ? PEER_DOMAIN : PEER_HOST;
		image_u64(image, &failure->since);
		image_text(image, failure->reason, sizeof(failure->reason));
	}
	if (image->error)
		links->failures_count = 0;
}

static const char *state_name(enum link_state state)
{
	switch (state) {
	case LINK_CONNECTING:
		return "connecting";
	case LINK_GREETING:
		return "greeting";
	case LINK_UP:
		return "up";
	case LINK_AWAY:
		return "away";
	default:
		return "idle";
	}
}

static void link_registry_fill_info(struct link *link, struct link_info *info)
{
	const struct carrier *vchan = link->state == LINK_GREETING ? &link->next : &link->carrier;

	*info = (struct link_info){
		.peer = link->stamped,
		.state = link->state,
		.state_name = state_name(link->state),
		.has_vchan = carrier_is_there(vchan),
		.granter = carrier_is_granter(vchan),
		.ring_bytes = carrier_is_there(&link->carrier) ? link->ring_bytes : 0,
		.pages = carrier_pages(vchan),
		.channels = hop_channel_count(link->hop),
		.unacknowledged = hop_unacknowledged(link->hop),
		.rtt_ns = link->rtt_ns,
		.round_trips = link->round_trips,
		.tx = *hop_tx(link->hop),
		.rx = *hop_rx(link->hop),
		.account = hop_account(link->hop),
		.since = link->since,
		.resumes = link->resumes,
		.moves = link->moves,
		.version = link->version,
		.last_error = link->last_error,
		.flags = link->flags,
	};
}

/* Returns the link behind this one (NULL: the first) of those with nobody's number, which are the last ones
 * of all. */
static struct link *behind_unattributed(const struct links *links, const struct link *link)
{
	struct link *before = NULL;

	if (link)
		before = link->hh.prev;
	else if (links->links)
		before = ELMT_FROM_HH(links->links->hh.tbl, links->links->hh.tbl->tail);
	return before && link_is_unattributed(before) ? before : NULL;
}

/* Returns the link with nobody's number that is shown under the lowest one behind `after`, which it had; but
 * where another domain has it now, that one's link is shown. */
static struct link *next_unattributed(const struct links *links, const struct peer_id *after)
{
	struct link *best = NULL, *link = NULL;

	while ((link = behind_unattributed(links, link)))
		if ((!after || peer_order(link->stamped, *after) > 0) &&
		    (!best || peer_order(link->stamped, best->stamped) < 0) &&
		    !link_find(links, link->stamped))
			best = link;
	return best;
}

unsigned links_count(const struct links *links)
{
	unsigned count = HASH_COUNT(links->links);

	for (const struct link *link = links->links; link; link = link->hh.next)
		count -= link_is_unattributed(link) && link_find(links, link->stamped);
	return count;
}

bool links_next(struct links *links, const struct peer_id *after, struct link_info *info)
{
	struct link *link = after ? link_find(links, *after) : NULL, *unattributed;

	links_sort(links);
	unattributed = next_unattributed(links, after);
	if (link)
		link = link->hh.next;
	else
		for (link = links->links; link && after && peer_order(link->peer, *after) <= 0;
		     link = link->hh.next)
			;
	if (unattributed && (!link || peer_order(link->peer, unattributed->stamped) > 0))
		link = unattributed;
	if (link && link_is_unattributed(link))
		link = unattributed;
	if (link)
		link_registry_fill_info(link, info);
	return link != NULL;
}

void links_each_failure(const struct links *links,
			void (*each)(void *userdata, const struct link_failure *failure), void *userdata)
{
	for (unsigned i = 1; i <= links->failures_count; i++)
		each(userdata, &links->failures[(links->failures_next - i) % LINKS_FAILURES_MAX]);
}

bool links_info(struct links *links, struct peer_id peer, struct link_info *info)
{
	struct link *link = link_find(links, peer);

	if (!link) {
		links_sort(links);
		while ((link = behind_unattributed(links, link)) && !peer_is(link->stamped, peer))
			;
	}
	if (link)
		link_registry_fill_info(link, info);
	return link != NULL;
}
