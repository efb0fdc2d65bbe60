/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Links in the image that a daemon hands over (base/image.h). What carries a session can't be handed over:
 * pages that were granted or mapped don't outlive their program. So the daemon leaves it, as for a restore,
 * and the next one resumes the session over another vchan (link_away.c):
 *
 *   state       in the old daemon                                    in the next one
 *   IDLE        why it couldn't be made is kept
 *   CONNECTING  what waits is kept                                   asks for a link
 *   GREETING    as daemon.c waits for it, seldom: the vchan is       asks for a link
 *               left; what waits is kept
 *   UP          the session is left: AWAY                            AWAY, and resumes it
 *   moving      both vchans are left: AWAY                           AWAY, and resumes it
 *   AWAY        an attempt ends                                      AWAY, for as long as it would have been
 *   nobody's    the same: of a session, since this domain was        the same
 *               restored
 *   a claim     it ends; what waits is kept                          asks for a link
 *   one that can't be resumed: it ends as at a stop
 */

#include <errno.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/image.h"
#include "daemon/link/link_internal.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/part.h"
#include "wire/ut.h"

#define RING_MAX (1u << 28)
#define END_TEXT "this daemon hands over, and can't hand over this link"

/* --- leaving ---------------------------------------------------------------------------------- */

/* Leaves what an attempt goes over. The peers are told: if there can be no image, this daemon goes on. */
static void leave_next(struct link *link)
{
	if (!carrier_is_there(&link->next))
		return;
	link->session.attempt = RESUME_NOTHING;
	carrier_leave(&link->next);
	links_withdraw(link->links, link->peer);
}

/* What waits for a link that isn't there is kept, if there is some. */
static void wait_for_next(struct link *link)
{
	leave_next(link);
	link->claims = false;
	link->awaited.is_some &= hop_channel_count(link->hop) > 0;
	link->session = (struct link_session){.state = RESUME_ENDED};
	link_set_state(link, hop_channel_count(link->hop) ? LINK_CONNECTING : LINK_IDLE);
}

/* Returns whether the link can be kept. */
static bool link_image_leave(struct link *link)
{
	link->pings.sent_ns = 0;
	if (link->state == LINK_CONNECTING || link->state == LINK_GREETING || link->claims) {
		wait_for_next(link);
		return true;
	}
	if (link->state == LINK_AWAY)
		leave_next(link);
	else if (link_may_resume(link, -ENOLINK))
		link_leave(link, "this daemon hands over");
	return link->state == LINK_AWAY;
}

bool links_greet(const struct links *links)
{
	const struct link *link, *next;

	HASH_ITER(hh, links->links, link, next)
		if (link->state == LINK_GREETING || hop_is_silent(link->hop))
			return true;
	return false;
}

static void links_leave(void *self)
{
	struct links *links = self;
	struct link *link, *next;
	struct peer_id peer;

	/* What a peer has said, with which a session begins. It may free the link, in whose place another
	 * one, which is the last one then, goes on. */
	for (link = links->links; link; link = next) {
		peer = link->peer;
		if (link->state == LINK_GREETING)
			link_hear_greeting(link);
		next = link_find(links, peer) == link ? link->hh.next : links->links;
	}
	links->is_held = true;
	HASH_ITER(hh, links->links, link, next) {
		if (link_image_leave(link))
			continue;
		if (link->state == LINK_IDLE && link->last_error[0])
			link_remember_failure(links, link->peer, link->last_error);
		link_end(link, END_TEXT);
	}
}

void links_leave_attempts(struct links *links)
{
	struct link *link, *next;

	HASH_ITER(hh, links->links, link, next)
		carrier_leave(&link->next);
}

/* --- the image -------------------------------------------------------------------------------- */

static bool is_in_image(const struct link *link)
{
	return link->state == LINK_AWAY || link->state == LINK_CONNECTING;
}

static uint64_t links_queued(const void *self)
{
	const struct links *links = self;
	const struct link *link, *next;
	uint64_t bytes = 0;

	HASH_ITER(hh, links->links, link, next)
		bytes += hop_queued(link->hop);
	return bytes;
}

static uint32_t links_number(void *self, uint32_t first)
{
	const struct links *links = self;
	const struct link *link, *next;

	HASH_ITER(hh, links->links, link, next)
		if (is_in_image(link))
			hop_set_image_number(link->hop, first++);
	return first;
}

void links_settle_for_image(struct links *links)
{
	struct link *link, *next;

	HASH_ITER(hh, links->links, link, next)
		if (is_in_image(link))
			hop_settle_for_image(link->hop);
}

bool links_end_unfit(struct links *links)
{
	struct link *link, *next;
	bool were_some = false;

	HASH_ITER(hh, links->links, link, next) {
		if (!is_in_image(link) || hop_fits_image(link->hop))
			continue;
		link_end(link, "this daemon hands over, and can't hand over all of this link");
		were_some = true;
	}
	return were_some;
}

static void link_session_image(struct image *image, struct link_session *session)
{
	image_raw(image, session->token, sizeof(session->token));
	image_raw(image, session->secret, sizeof(session->secret));
	image_raw(image, session->peer_instance, sizeof(session->peer_instance));
	image_u32(image, &session->epoch);
	image_u32(image, &session->confirmed);
	image_u64(image, &session->away_ms);
	image_expect(image, session->confirmed <= session->epoch && session->away_ms <= clock_ms());
}

/* By what its domain is known, and what is told of the link. */
static void registry_image(struct image *image, struct link *link)
{
	image_u32(image, &link->stamped.number);
	image_text(image, link->name, sizeof(link->name));
	image_text(image, link->uuid, sizeof(link->uuid));
	image_u32(image, &link->former);
	image_u64(image, &link->former_until_ms);
	image_text(image, link->version, sizeof(link->version));
	image_u32(image, &link->flags);
	image_u32(image, &link->resumes);
	image_u32(image, &link->moves);
	image_upto(image, &link->ring_bytes, RING_MAX);
	image_u64(image, &link->rtt_ns);
	image_raw(image, &link->round_trips, sizeof(link->round_trips));
}

static void acks_image(struct image *image, struct link *link)
{
	image_u64(image, &link->acked);
	image_u64(image, &link->acked_by_peer);
	image_expect(image,
		     link->acked <= hop_received(link->hop) && link->acked_by_peer <= hop_sent(link->hop));
}

static void link_image(struct image *image, struct link *link, bool *is_away)
{
	image_bool(image, is_away);
	registry_image(image, link);
	hop_link_image(image, link->hop);
	image_expect(image, hop_is_away(link->hop) == *is_away);
	if (*is_away) {
		link_session_image(image, &link->session);
		acks_image(image, link);
	} else {
		image_bool(image, &link->awaited.is_some);
		image_raw(image, link->awaited.instance, sizeof(link->awaited.instance));
	}
}

static void links_write(void *self, struct image *image)
{
	struct links *links = self;
	struct link *link, *next;

	HASH_ITER(hh, links->links, link, next) {
		bool is_away = link->state == LINK_AWAY, is_sought = link_is_unattributed(link);

		if (!is_in_image(link))
			continue;
		if (!is_away)
			link_note_awaited(link);
		image_section(image, IMAGE_LINK);
		image_bool(image, &is_sought);
		image_u32(image, is_sought ? &link->stamped.number : &link->peer.number);
		link_image(image, link, &is_away);
	}
}

static void links_write_channels(void *self, struct image *image)
{
	struct links *links = self;
	struct link *link, *next;

	HASH_ITER(hh, links->links, link, next)
		if (is_in_image(link))
			hop_write_channels(image, link->hop);
}

/* --- the next daemon -------------------------------------------------------------------------- */

void links_hold(struct links *links)
{
	links->is_held = true;
}

/* Nothing of the link was used yet, though it may be wanted. */
static bool is_fresh(const struct link *link)
{
	return (link->state == LINK_IDLE || link->state == LINK_CONNECTING) && !link->has_met &&
	       !hop_channel_count(link->hop) && hop_number_in_image(link->hop) == HOP_NOT_IN_IMAGE;
}

static int go_away_again(struct link *link)
{
	link->session.state = RESUME_AWAY;
	DL_APPEND2(link->links->met, link, met_prev, met_next);
	link->has_met = true;
	link_set_state(link, LINK_AWAY);
	return link_make_timer(link);
}

static void links_read(void *self, struct image *image, struct image_hops *hops)
{
	struct links *links = self;
	struct link *link = NULL;
	bool is_away = false, is_sought = false;
	uint32_t number;

	image_bool(image, &is_sought);
	image_u32(image, &number);
	image_expect(image, number < HOST_FIRST || (!is_sought && *hosts_name(links->options.hosts, number)));
	if (!image->error && is_sought)
		link = link_new_unattributed(links, number);
	else if (!image->error)
		link = link_get(links, number < HOST_FIRST ? peer_domain(number) : peer_host(number));
	image_expect(image, link && is_fresh(link));
	if (image->error)
		return;
	hop_set_image_number(link->hop, hops->count);
	hops->hops[hops->count++] = link->hop;
	hops->links++;
	link_image(image, link, &is_away);
	image_expect(image, is_away || !is_sought);
	if (image->error)
		return;
	link->times.used_ms = clock_ms();
	if (!is_away)
		link_set_state(link, LINK_CONNECTING);
	else if (go_away_again(link) < 0)
		image_fail(image, -ENOMEM);
}

static void take_up(struct link *link)
{
	int r;

	if (carrier_is_there(&link->next))
		link_use_next(link);
	else if (link->state == LINK_AWAY)
		link_ask_again(link);
	else if (link->state == LINK_CONNECTING) {
		r = links_ask(link->links, link->peer, NULL);
		if (r < 0)
			links_failed(link->links, link->peer, r, strerror(-r));
	}
}

void links_take_up(struct links *links)
{
	struct link *link, *next;

	links->is_held = false;
	HASH_ITER(hh, links->links, link, next)
		take_up(link);
}

static void links_stay(void *self)
{
	links_take_up(self);
}

static bool links_lose(void *self, struct hop *hop)
{
	const struct links *links = self;
	struct link *link, *next;

	HASH_ITER(hh, links->links, link, next) {
		if (link->hop != hop)
			continue;
		link_end(link, "what the daemon before this hands over of the link can't be taken");
		return true;
	}
	return false;
}

static void links_drop(void *self)
{
	struct links *links = self;
	struct link *link, *next;

	HASH_ITER(hh, links->links, link, next)
		if (hop_number_in_image(link->hop) != HOP_NOT_IN_IMAGE)
			link_end(link, "what the daemon before this hands over can't be taken");
}

const struct part links_part = {
	.queued = links_queued,
	.leave = links_leave,
	.number = links_number,
	.write = links_write,
	.write_channels = links_write_channels,
	.stay = links_stay,
	.sections = {{IMAGE_LINK, links_read}},
	.lose = links_lose,
	.drop = links_drop,
};
