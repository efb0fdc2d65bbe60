/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A session whose other end comes back under another domid, since its domain was restored or migrated. The
 * instance that its hello names says which session it is, but anybody can say that. So what the daemon under
 * the new domid claims is a link of its own, with a copy of what PROVE needs, until it has proven to know the
 * secret. Only then the session's link takes its place.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cost.h"
#include "base/quota.h"
#include "daemon/link/link_internal.h"
#include "daemon/peers/peers.h"
#include "daemon/switch/channel.h"

/* The smallest ring that holds any frame: the largest one has 64 KiB behind its header. */
#define LEAST_MAX (2 * FRAME_PAYLOAD_MAX)
_Static_assert(FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX <= LEAST_MAX,
	       "any frame that was kept can be sent again");

int link_likelihood(const struct link *link)
{
	return (links_is_there(link->links, link->peer) ? 0 : 2) + (link->state == LINK_AWAY ? 1 : 0);
}

bool link_is_with(const struct link *link, const uint8_t instance[AUTH_ID_SIZE])
{
	return !link->claims && !link_is_remote(link) && link->session.state != RESUME_ENDED &&
	       !memcmp(link->session.peer_instance, instance, AUTH_ID_SIZE);
}

/* Finds the session that the link claims. NULL: it isn't what it was. */
static struct link *find_claimed(const struct link *link)
{
	const struct link_session *claimed = &link->session;
	struct link *own, *next;

	HASH_ITER(hh, link->links->links, own, next) {
		const struct link_session *session = &own->session;

		if (link_is_with(own, claimed->peer_instance) &&
		    !memcmp(session->token, claimed->token, sizeof(session->token)) &&
		    !memcmp(session->secret, claimed->secret, sizeof(session->secret)) &&
		    session->epoch == claimed->epoch && session->confirmed == claimed->confirmed)
			return own;
	}
	return NULL;
}

/* A frame lies whole in a ring, and those that are sent again are as they were in the one that was lost: in
 * either end's, which were as large. */
static uint32_t ring_needed(const struct link *own)
{
	return own->ring_bytes < LEAST_MAX ? own->ring_bytes : LEAST_MAX;
}

/* Whether the domain by this number may learn from the size of its rings that we have the session. */
static bool may_show(const struct links *links, const struct link *own, uint32_t domid)
{
	const struct link *link = link_find_domain(links, domid);

	if (own == link)
		return true;
	return link && link->meant.is_known &&
	       !memcmp(link->meant.token, own->session.token, sizeof(own->session.token));
}

uint32_t links_least_ring(const struct links *links, uint32_t domid)
{
	uint8_t instance[AUTH_ID_SIZE];
	const struct link *link;
	uint32_t least = 0;

	if (!peers_instance(links->peers, domid, instance))
		return 0;
	for (link = links->links; link; link = link->hh.next)
		if (link_is_with(link, instance) && may_show(links, link, domid) && ring_needed(link) > least)
			least = ring_needed(link);
	return least;
}

/* The mapping end takes what it gets. */
bool link_has_room(const struct link *link, const struct link *own)
{
	struct ring_view in, out;

	if (!carrier_is_granter(&link->next))
		return true;
	carrier_rings(&link->next, &in, &out);
	return in.size >= ring_needed(own) && out.size >= ring_needed(own);
}

void link_enlarge(struct link *link, const struct link *own)
{
	link->meant.is_known = true;
	memcpy(link->meant.token, own->session.token, sizeof(link->meant.token));
	link_greet_anew(link);
}

void link_greet_anew(struct link *link)
{
	carrier_leave(&link->next);
	links_withdraw(link->links, link->peer);
	link->claims = false;
	link->session = (struct link_session){.state = RESUME_ENDED};
	link_set_state(link, LINK_IDLE);
	link_ask(link);
}

void link_claim_named(struct link *link, const struct link *own)
{
	link->claims = true;
	link->session = own->session;
	link->session.state = RESUME_AWAY;
	link->session.attempt = RESUME_NOTHING;
	link_set_state(link, LINK_AWAY);
}

void link_lose_number(struct link *link)
{
	struct links *links = link->links;

	HASH_REKEY(hh, peer, link, ((struct peer_id){PEER_UNATTRIBUTED, ++links->last_unattributed}));
	links->is_sorted = false;
	if (hop_account(link->hop))
		account_unlist(hop_account(link->hop));
}

void link_seek(struct link *link)
{
	struct peers *peers = link->links->peers;
	struct peer_info info;
	uint8_t instance[AUTH_ID_SIZE];

	/* A domain that hides its presence shows its instance only when it is asked for a link. */
	if (!peers_instance(peers, link->stamped.number, instance) ||
	    !memcmp(instance, link->session.peer_instance, sizeof(instance)))
		peers_connect(peers, link->stamped.number, NULL);
	peers_want_all(peers);
	for (int64_t at = -1; peers_next(peers, at, &info); at = info.domid)
		if (info.up && info.domid != link->stamped.number &&
		    peers_instance(peers, info.domid, instance) &&
		    !memcmp(instance, link->session.peer_instance, sizeof(instance)))
			peers_connect(peers, info.domid, NULL);
}

void link_move_waiting(struct hop *from, struct hop *to)
{
	struct channel_end *end;
	uint32_t number = 0;

	while ((end = hop_next_channel(from, &number))) {
		char *endpoint;

		if (end->is_opener || !channel_is_waiting(end->channel))
			continue;
		hop_spend(from, COST_OPEN);
		if (channel_is_abandoned(end->channel)) { /* its opener has gone meanwhile */
			channel_forbid(end->channel, ECONNRESET);
			continue;
		}
		endpoint = strdup(end->channel->endpoint);
		if (!endpoint || channel_accept(end->channel, to, endpoint) < 0)
			channel_forbid(end->channel, ENOBUFS);
		free(endpoint);
	}
}

void link_lead(struct link *link, struct link *other)
{
	link_move_waiting(link->hop, other->hop);
	pings_move(&link->pings, &other->pings);
}

/* Whether the session that is sought was with the daemon of this link, or with one before it in the same
 * domain. Domain 0 is the same by its number on any host. Another daemon names its instance itself, so that
 * counts by the number of before alone; a UUID is domain 0's word. */
static bool was_with(const struct link *unattributed, const struct link *link)
{
	if (unattributed->stamped.number == link->peer.number &&
	    (link->peer.number == 0 || link_is_with(unattributed, link->session.peer_instance)))
		return true;
	return link->uuid[0] && !strcmp(unattributed->uuid, link->uuid);
}

void link_lead_sought(struct link *link)
{
	struct link *unattributed, *next;

	HASH_ITER(hh, link->links->links, unattributed, next)
		if (link_is_unattributed(unattributed) && unattributed->state == LINK_AWAY &&
		    was_with(unattributed, link))
			link_lead(unattributed, link);
}

void link_note_awaited(struct link *link)
{
	if (!link->awaited.is_some &&
	    !peers_instance(link->links->peers, link->peer.number, link->awaited.instance))
		memset(link->awaited.instance, 0, sizeof(link->awaited.instance));
}

/* Whether `awaited` says, from before a restore, for whom it is that something waits. */
static bool is_awaited_known(const struct link *link)
{
	static const uint8_t nobody[AUTH_ID_SIZE];

	return memcmp(link->awaited.instance, nobody, sizeof(nobody)) != 0;
}

bool link_keep_waiting(struct link *link)
{
	if (link_is_remote(link) ||
	    (link->state != LINK_CONNECTING && link->state != LINK_GREETING && !link->claims))
		return false; /* or something may have been said: GREETING is HELLO alone */
	if (!link_is_wanted(link))
		return false;
	/* While it is held, the daemon before this one has noted it. */
	if (!link->links->is_held)
		link_note_awaited(link);
	/* Domain 0 is the same by its number on any host. */
	link->awaited.is_some = !peer_is_domain(link->peer, 0);
	if (link->awaited.is_some && !is_awaited_known(link))
		return false;
	link_drop_next(link);
	if (link->state == LINK_GREETING)
		links_withdraw(link->links, link->peer);
	link->claims = false;
	link->session = (struct link_session){.state = RESUME_ENDED};
	link_set_state(link, LINK_CONNECTING);
	return true;
}

void link_connect_again(struct link *link)
{
	struct links *links = link->links;
	struct hop *before = link->hop, *hop = link_new_hop(link); /* its numbers hang on this domain's */
	int r = hop ? 0 : -ENOMEM;

	if (r == 0) {
		if (hop_account(before))
			hop_set_account(hop, account_ref(hop_account(before)));
		link_move_waiting(before, hop);
		link->hop = hop;
		hop_retire(before, ECONNRESET);
		r = peer_is_domain(link->peer, links->options.self->domid)
			    ? -EHOSTDOWN
			    : links_ask(links, link->peer, NULL);
	}
	if (r < 0)
		links_failed(links, link->peer, r, strerror(-r));
}

void link_check_awaited(struct link *link)
{
	uint8_t instance[AUTH_ID_SIZE];
	bool is_other =
		link->awaited.is_some && (!peers_instance(link->links->peers, link->peer.number, instance) ||
					  memcmp(instance, link->awaited.instance, sizeof(instance)) != 0);

	link->awaited.is_some = false;
	if (!is_other)
		return;
	link_set_state(link, LINK_IDLE); /* so that what has connected stays */
	link_end_session(link, EHOSTDOWN, "by its number there is another daemon since the restore");
}

/* Lets the account of the peer's present number have what the session has cost so far, and will. -ENOBUFS: it
 * can't have that. The old domain may be there still, and would begin anew by its number; so what two domains
 * take by one session is what one may have. */
static int take_account(struct link *link, struct peer_id peer)
{
	struct quota *quota = link->links->board->quota;
	struct account *before = hop_account(link->hop), *account = quota ? peer_account(quota, peer) : NULL;
	int r;

	if (!account)
		return quota ? -ENOMEM : 0;
	r = account_merge(before, account);
	if (r < 0) {
		account_unref(account);
		return r;
	}
	hop_set_account(link->hop, account);
	account_unref(before);
	return 0;
}

struct link *link_take_over(struct link *link, const char **why)
{
	struct links *links = link->links;
	struct link *own = find_claimed(link);

	*why = "the session isn't what it was";
	if (!own)
		return NULL;
	/* Else an image and its original would take the session from each other for ever. */
	if (own->state == LINK_UP && own->session.epoch != own->session.confirmed)
		return NULL;
	link_drop_next(own);
	if (own->state == LINK_UP)
		link_leave(own, "the peer is there under another number");
	if (own->state != LINK_AWAY)
		return NULL;
	if (take_account(own, link->peer) < 0) {
		*why = "what it holds under both numbers is more than one domain may have";
		return NULL;
	}
	links_withdraw(links, own->peer);
	own->next = link->next;
	link->next = (struct carrier){0};
	own->handshake = link->handshake;
	own->greeted = true;
	own->session.attempt = link->session.attempt;
	link_replace(link, own);
	link_move_waiting(link->hop, own->hop);
	link->successor = own;
	return own;
}

bool link_see_to_channels(void *owner)
{
	struct link *link = owner;
	const struct links *links = link->links;
	struct link_stamping *stamping = &link->stamping;

	if (links->callbacks.resumed &&
	    links->callbacks.resumed(links->userdata, stamping->from, stamping->to, link->hop, &stamping->at))
		return true;
	if (!stamping->again)
		return false;
	*stamping = (struct link_stamping){.from = stamping->to, .to = link->stamped};
	return true;
}

void link_note_resumed(struct link *link)
{
	const struct links *links = link->links;
	struct link_stamping *stamping = &link->stamping;
	struct peer_id from = link->stamped;

	link->stamped = link->peer;
	memcpy(link->version, link->handshake.version, sizeof(link->version));
	link_note_program(link, link->handshake.flags, frame_text_of(link->handshake.host));
	link_note_name(link);
	if (!peer_is(from, link->peer)) { /* both are domains: link_is_with() */
		log_limited(LOG_LINK, link_source(link), LOG_LEVEL_INFO,
			    "domain %u was domain %u before it was restored", link->peer.number, from.number);
		link_note_former(link, from.number);
		if (links->callbacks.renumbered)
			links->callbacks.renumbered(links->userdata, from.number, link->peer.number);
	}
	if (hop_holds_input(link->hop))
		stamping->again = true;
	else
		*stamping = (struct link_stamping){.from = from, .to = link->peer};
	hop_hold_input(link->hop);
}
