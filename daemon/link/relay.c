/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/relay.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cost.h"
#include "base/image.h"
#include "base/log.h"
#include "base/quota.h"
#include "base/self.h"
#include "base/turns.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/link/relay_internal.h"
#include "daemon/policy/access.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/part.h"
#include "wire/address.h"
#include "wire/ut.h"

#define LED_AT_ONCE   8u /* channels in one turn: each costs about as much as an OPEN */
#define ENDED_AT_ONCE 64u
#define ADDRESS_SIZE  80u /* of a domid, a colon and an endpoint */

/* --- why there is no way ------------------------------------------------------------------------ */

/* Why there is no link between two domains, and nobody relays: what programs are told, and the log. */

/* Whether domain 0 could relay to this domain: none does for domain 0 itself, or on the way there. */
static bool relay_is_for_domain_0(const struct relay *relay, uint32_t domid)
{
	return !relay_in_domain_0(relay) && domid != 0;
}

static const char *what_is_missing(const struct relay *relay, uint32_t domid, int error)
{
	if (!relay_is_for_domain_0(relay, domid))
		return "and nobody relays between these two";
	if (!relay->enabled)
		return "and relay = no is set here";
	if (error == -EHOSTDOWN)
		return "and no xenmsgd runs in domain 0 that would relay";
	if (error == -EOPNOTSUPP)
		return "and xenmsgd in domain 0 has relay = no";
	return "and domain 0, which would relay, can't be reached, as 'xenmsg doctor 0' explains";
}

/* Remembers for the programs of a guest why there is no link with this domain, and what follows. */
static void relay_explain_here(struct relay *relay, uint32_t domid, const char *what_follows,
			       const char *what_helps)
{
	char why[LINK_REASON_SIZE];

	snprintf(why, sizeof(why),
		 links_are_forbidden(relay->links, domid)
			 ? "Xen lets domain %u and domain %u share no memory (XSM), %s%.0s"
			 : "neither domain %u nor domain %u may map the other's pages, %s%s",
		 relay->with.self->domid, domid, what_follows, what_helps);
	links_explain(relay->links, peer_domain(domid), why);
}

/* Tells why no channel of domain `source` gets to this domain: to our programs, or, if it isn't they that
 * ask, to the log. Returns the negative errno for the opener. */
static int relay_explain(struct relay *relay, uint32_t domid, uint32_t source, int error)
{
	bool is_ours = source == relay->with.self->domid;

	if (error == -ENOBUFS || error == -ENOMEM || (error == -EHOSTDOWN && !is_ours))
		return error;
	if (!is_ours)
		log_limited(LOG_UNREACHABLE, LOG_BY_DOMAIN(source), LOG_LEVEL_WARNING,
			    "domain %u: nothing is relayed to it for domain %u: %s", domid, source,
			    error == -EOPNOTSUPP ? "its xenmsgd has relay = no, and takes nothing relayed"
						 : "there is no link with it");
	else
		relay_explain_here(relay, domid, what_is_missing(relay, domid, error),
				   ": set map = yes under [links] in one of the two");
	return -EHOSTUNREACH;
}

/* Does it for a channel that waits. */
static int relay_explain_channel(struct relay *relay, const struct channel *channel, int error)
{
	if (channel_is_remote(channel))
		return error == -EOPNOTSUPP ? -EHOSTUNREACH : error;
	return relay_explain(relay, relay_destination(channel), channel->identity.domid, error);
}

/* Remembers, for programs here, how something gets to the domain (`r`: 0), or why it doesn't. Returns what
 * the program is told: 0 or a negative errno. */
static int relay_lead_result(struct relay *relay, uint32_t domid, int r)
{
	if (r < 0)
		return relay_explain(relay, domid, relay->with.self->domid, r);
	/* It may not be known yet whether it does. */
	relay_explain_here(relay, domid,
			   "so domain 0 relays; where that fails, the log of its xenmsgd says why",
			   ", or set map = yes under [links] in one of the two");
	return 0;
}

/* Splits the address of a relayed OPEN. -EINVAL: it isn't a domid and an endpoint. */
static int relay_split(const char *text, size_t size, uint32_t *domid, char endpoint[ENDPOINT_NAME_MAX + 1])
{
	struct address address;
	int r = address_parse(text, size, &address, NULL);

	if (r < 0 || address.host[0] || !domid_parse(address.domain, strlen(address.domain), domid))
		return -EINVAL;
	memcpy(endpoint, address.endpoint, ENDPOINT_NAME_MAX + 1);
	return 0;
}

uint32_t relay_destination(const struct channel *channel)
{
	char endpoint[ENDPOINT_NAME_MAX + 1];
	uint32_t domid = 0;

	(void)relay_split(channel->endpoint, strlen(channel->endpoint), &domid, endpoint);
	return domid;
}

/* Whether the daemon there is up, and takes such a channel: 1; 0: it isn't up; -EOPNOTSUPP: it doesn't. */
static int takes(const struct relay *relay, struct peer_id peer, const struct channel *channel)
{
	return channel_is_remote(channel) ? links_are_up(relay->links, peer)
					  : links_relays(relay->links, peer);
}

/* --- waiting rooms ------------------------------------------------------------------------------ */

/* NULL: nothing waits there. */
static struct waiting_room *find_waiting_room(const struct relay *relay, struct peer_id peer)
{
	struct waiting_room *room;

	HASH_FIND(hh, relay->waiting_rooms, &peer, sizeof(peer), room);
	return room;
}

static void unlist_waiting_room(struct waiting_room *room)
{
	if (HASH_ADDED(room))
		HASH_DEL(room->relay->waiting_rooms, room);
	if (HASH_ADDED_BY(by_id, room))
		HASH_DELETE(by_id, room->relay->waiting_rooms_by_id, room);
}

/* Frees one in which no channel is. */
static void free_waiting_room(struct waiting_room *room)
{
	unlist_waiting_room(room);
	task_cancel(&room->leading);
	hop_cleanup(&room->hop);
	free(room);
}

/* Returns the next channel that waits, by its number there. NULL: there is no more. */
static struct channel *relay_next_waiting(const struct hop *hop, uint32_t *number)
{
	struct channel_end *end = hop_next_channel(hop, number);

	return end ? end->channel : NULL;
}

/* Ends some of what waits: nothing of it was sent on. */
static void relay_end_some(struct waiting_room *room)
{
	struct relay *relay = room->relay;
	struct channel *channel;
	uint32_t number = 0;

	for (unsigned i = 0; i < ENDED_AT_ONCE && (channel = relay_next_waiting(&room->hop, &number)); i++) {
		switch_spend(relay->with.board, channel->charge.account, COST_CHANNEL_END);
		channel_forbid(channel, -relay_explain_channel(relay, channel, room->error));
	}
}

/* Learns that the daemon that is to take the channels is there, or why not. */
static void relay_on_link_up(void *userdata, uint32_t id, int result)
{
	const struct relay *relay = userdata;
	struct waiting_room *room;

	HASH_FIND(by_id, relay->waiting_rooms_by_id, &id, sizeof(id), room);

	if (!room)
		return;
	room->asked = false;
	room->error = result;
	task_due(&room->leading);
}

static int relay_ask(struct waiting_room *room, struct account *account)
{
	int r;

	if (room->asked)
		return 0;
	room->asked = true;
	r = links_await(room->relay->links, room->goes_to, account, relay_on_link_up, room->relay, room->id);
	if (r < 0)
		room->asked = false;
	return r;
}

/* Lets the channel lead to the domain's endpoint of the same name, by another number of the domain's. */
static int readdress(struct channel *channel, uint32_t domid)
{
	char endpoint[ENDPOINT_NAME_MAX + 1], address[ADDRESS_SIZE];
	uint32_t was;

	if (relay_split(channel->endpoint, strlen(channel->endpoint), &was, endpoint) < 0 || was == domid)
		return 0;
	snprintf(address, sizeof(address), "%u:%s", domid, endpoint);
	return channel_rename(channel, address);
}

/* Asks policy about a domain that has another number. When its name is known, it is asked again. */
static int decide_again(struct relay *relay, struct channel *channel)
{
	return channel_note_verdict(channel, relay_still_allowed(relay, channel), true);
}

int relay_follow(struct relay *relay, struct channel *channel, uint32_t to)
{
	int r = readdress(channel, to);

	return r < 0 ? r : decide_again(relay, channel);
}

int relay_follow_source(struct relay *relay, struct channel *channel)
{
	int r = decide_again(relay, channel);

	if (r < 0 || !channel_has_told_sender(channel))
		return r; /* else its OPEN says so */
	if (hop_is_retired(channel->acceptor.hop))
		return 0; /* it ends with its link, in some turn, and the link is its owner no more */
	channel_tell_source(channel);
	return 0;
}

/* Leads some channels on. Returns a negative errno if they all are to end. */
static int lead_some(struct waiting_room *room)
{
	struct relay *relay = room->relay;
	struct channel *channel;
	uint32_t number = 0;
	struct hop *hop;
	int r;

	for (unsigned i = 0; i < LED_AT_ONCE && (channel = relay_next_waiting(&room->hop, &number)); i++) {
		switch_spend(relay->with.board, channel->charge.account, COST_OPEN);
		r = takes(relay, room->goes_to, channel);
		if (r == 0) /* it was lost meanwhile */
			return relay_ask(room, channel->charge.account);
		if (r < 0) {
			channel_forbid(channel, -relay_explain_channel(relay, channel, r));
			continue;
		}
		hop = links_want(relay->links, room->goes_to, channel->charge.account, &r);
		if (!hop)
			return r;
		r = channel_is_abandoned(channel) ? -ECONNRESET : 0;
		if (r == 0 && relay_in_domain_0(relay) &&
		    room->goes_to.kind == PEER_DOMAIN) /* it may have been restored meanwhile */
			r = readdress(channel, room->goes_to.number);
		if (r == 0)
			r = channel_accept(channel, hop, channel->endpoint);
		if (r < 0)
			channel_forbid(channel, r == -ENOMEM ? ENOBUFS : -r);
	}
	return 0;
}

static void relay_on_leading(struct task *task)
{
	struct waiting_room *room =
		(struct waiting_room *)((char *)task - offsetof(struct waiting_room, leading));

	if (room->error)
		relay_end_some(room);
	else
		room->error = lead_some(room);
	if (room->asked)
		return;
	if (hop_channel_count(&room->hop))
		task_due(task);
	else
		free_waiting_room(room);
}

/* A waiting room is never attached, so it can't fail. */
static void on_room_failed(void *owner, int error, const char *why)
{
}

/* Finds or makes one. NULL: no memory. */
static struct waiting_room *get_waiting_room(struct relay *relay, struct peer_id peer)
{
	static const struct hop_callbacks callbacks = {.failed = on_room_failed};
	struct waiting_room *room = find_waiting_room(relay, peer);

	if (room)
		return room;
	room = calloc(1, sizeof(*room));
	if (!room)
		return NULL;
	room->relay = relay;
	room->id = ++relay->last_waiting_room;
	room->goes_to = room->peer = peer;
	HASH_ADD(hh, relay->waiting_rooms, peer, sizeof(room->peer), room);
	HASH_ADD(by_id, relay->waiting_rooms_by_id, id, sizeof(room->id), room);
	if (!HASH_ADDED(room) || !HASH_ADDED_BY(by_id, room) ||
	    hop_init(&room->hop, relay->with.board, HOP_WAITING_ROOM, &callbacks, room, 0,
		     CHANNEL_NUMBERS / 2) < 0) {
		unlist_waiting_room(room);
		free(room);
		return NULL;
	}
	hop_set_image_number(&room->hop, 0); /* it is in every image, unless it is left before */
	task_init(&room->leading, &relay->with.board->turns, NULL, relay_on_leading);
	return room;
}

static int wait_in_room(struct relay *relay, struct channel *channel, struct peer_id peer,
			const char *address)
{
	struct waiting_room *room = get_waiting_room(relay, peer);
	int r;

	if (!room)
		return -ENOMEM;
	if (room->error)
		return room->error; /* what waits there ends with it now */
	r = room->leading.is_due ? 0 : relay_ask(room, channel->charge.account);
	if (r == 0)
		r = channel_accept(channel, &room->hop, address);
	if (r < 0 && !room->asked && !hop_channel_count(&room->hop))
		free_waiting_room(room);
	return r;
}

int relay_send(struct relay *relay, struct channel *channel, struct peer_id peer, const char *address)
{
	struct hop *hop;
	int r, relays;

	hop = links_want(relay->links, peer, channel->charge.account, &r);
	if (!hop)
		return r;
	relays = takes(relay, peer, channel);
	if (relays < 0)
		return relays;
	/* What waits already goes first. */
	if (relays && !find_waiting_room(relay, peer))
		return channel_accept(channel, hop, address);
	return wait_in_room(relay, channel, peer, address);
}

/* --- from here ---------------------------------------------------------------------------------- */

/* Returns what to expect of domain 0, as relay_lead() does. */
static int ask_for_domain_0(struct relay *relay, uint32_t domid)
{
	int r = -EHOSTUNREACH;

	if (relay->enabled && relay_is_for_domain_0(relay, domid) &&
	    links_want(relay->links, peer_domain(0), NULL, &r))
		r = links_relays(relay->links, peer_domain(0));
	return r < 0 ? r : 0;
}

bool relay_zero_knows(const struct relay *relay, struct peer_id peer)
{
	return relay->enabled && peer.kind == PEER_DOMAIN && relay_is_for_domain_0(relay, peer.number) &&
	       links_relays(relay->links, peer_domain(0)) == 1 && links_zero_knows(relay->links, peer);
}

int relay_try(struct relay *relay, struct channel *channel, uint32_t domid, const char *endpoint)
{
	char address[ADDRESS_SIZE];

	snprintf(address, sizeof(address), "%u:%s", domid, endpoint);
	return relay->enabled && relay_is_for_domain_0(relay, domid)
		       ? relay_send(relay, channel, peer_domain(0), address)
		       : -EHOSTUNREACH;
}

int relay_lead(struct relay *relay, struct channel *channel, uint32_t domid, const char *endpoint)
{
	return relay_lead_result(relay, domid, relay_try(relay, channel, domid, endpoint));
}

void relay_lead_waiting(struct relay *relay, struct peer_id peer, struct hop *hop)
{
	uint32_t domid = peer.number;
	struct channel *channel;
	uint32_t number = 0;

	(void)relay_lead_result(relay, domid, ask_for_domain_0(relay, domid));
	while ((channel = relay_next_waiting(hop, &number))) {
		char endpoint[ENDPOINT_NAME_MAX + 1];
		int r = -ECONNRESET;

		switch_spend(relay->with.board, channel->charge.account, COST_CHANNEL_END);
		snprintf(endpoint, sizeof(endpoint), "%s", channel->endpoint);
		if (!channel_is_abandoned(channel))
			r = relay_lead(relay, channel, domid, endpoint);
		if (r < 0)
			channel_forbid(channel, r == -ENOMEM ? ENOBUFS : -r);
	}
}

/* --- from other domains ------------------------------------------------------------------------- */

bool relay_has_opened(const struct frame_open *open)
{
	return address_is_meant(open->name.data, open->name.size);
}

/* Has the opener told that it isn't the receiving domain's policy which forbids it. */
static void note_forbidden(struct channel *channel, int r)
{
	if (r == -EACCES && !channel_is_reset(&channel->opener))
		channel->opener.reset_by = RESET_BY_RELAY;
}

const char *relay_ruled(const char *address)
{
	struct address_parts parts = address_split(address, strlen(address));

	return address_part_is(parts.endpoint, DAEMON_ENDPOINT) ? NULL : address;
}

int relay_allow(struct relay *relay, const struct channel *channel, uint32_t domid, const char *address)
{
	struct access_sender sender = access_sender_of(channel);

	switch_spend(relay->with.board, channel->charge.account, access_cost(relay->with.access));
	return relay_ruled(address) ? access_relay(relay->with.access, sender, domid, address)
				    : access_still_relayed(relay->with.access, sender, domid, NULL);
}

/* Forwards, in domain 0, what a guest opens to another one. */
static int forward(struct relay *relay, struct channel *channel, uint32_t wanted, const char *endpoint)
{
	struct peer_id peer = links_meant(relay->links, wanted);
	uint32_t domid = peer.number; /* domain 0 is never restored itself, so it is a domain's */
	char address[ADDRESS_SIZE];
	int r;

	if (domid == 0 || domid == channel->identity.domid)
		return -EINVAL;
	snprintf(address, sizeof(address), "%u:%s", domid, endpoint);
	r = relay_allow(relay, channel, domid, address);
	if (r < 0) {
		note_forbidden(channel, r);
		return r;
	}
	r = relay->enabled ? relay_send(relay, channel, peer, address) : -EHOSTUNREACH;
	return r < 0 ? relay_explain(relay, domid, channel->identity.domid, r) : 0;
}

int relay_charge(struct relay *relay, struct channel *channel, struct peer_id peer)
{
	struct quota *quota = relay->with.board->quota;
	struct account *account = quota ? peer_account(quota, peer) : NULL;

	if (!account)
		return quota ? -ENOMEM : 0;
	channel_charge_to(channel, account);
	account_unref(account);
	return 0;
}

/* Takes what domain 0 has forwarded, with the identity that it vouches for. */
static int relay_take(struct relay *relay, struct channel *channel, const struct frame_open *open,
		      uint32_t domid, const char *endpoint)
{
	uint32_t source = open->identity.domid, self = relay->with.self->domid;
	int r;

	if (!relay->enabled)
		return -EACCES; /* as our HELLO has said */
	if (channel->identity.domid != 0) {
		log_limited(LOG_DENIED, LOG_BY_DOMAIN(channel->identity.domid), LOG_LEVEL_WARNING,
			    "denied: domain %u relays for domain %u, which only domain 0 may",
			    channel->identity.domid, source);
		return -EACCES;
	}
	if (!self_has_or_had(relay->with.self, domid) || source == 0 || source == self || source > DOMID_MAX)
		return -EPROTO;
	r = relay_charge(relay, channel, peer_domain(source));
	if (r < 0)
		return r;
	channel->identity.domid = source;
	relay->open(relay->userdata, channel, frame_text_of(endpoint));
	return 0;
}

/* The source's account by its present number pays for all that it has opened before, too. */
static int charge_source(struct relay *relay, struct channel *channel, uint32_t domid)
{
	struct quota *quota = relay->with.board->quota;
	struct account *account = quota ? quota_account(quota, QUOTA_PEER, domid) : NULL;
	int r;

	if (!account)
		return quota ? -ENOMEM : 0;
	r = account_merge(channel->charge.account, account);
	account_unref(account);
	return r;
}

int relay_take_source(struct relay *relay, struct channel *channel, const struct frame_sender *now)
{
	uint32_t to = now->domid;
	int r = 0;

	if (to == 0 || to > DOMID_MAX)
		return -EPROTO;
	if (channel_from_host(channel)) { /* its host pays */
		relay_note_name(channel, to, now->domain_name);
		return 0;
	}
	/* What domain 0 opens itself has no other source. */
	if (relay_in_domain_0(relay) || channel->identity.domid == 0 || to == relay->with.self->domid)
		return -EPROTO;
	if (channel->identity.domid != to)
		r = charge_source(relay, channel, to);
	if (r == 0)
		channel->identity.domid = to;
	return r;
}

void relay_open(struct relay *relay, struct peer_id peer, struct channel *channel,
		const struct frame_open *open)
{
	char endpoint[ENDPOINT_NAME_MAX + 1];
	uint32_t domid;
	int r;

	if (peer_is_host(peer) || relay_is_remote(open)) {
		relay_open_remote(relay, peer, channel, open);
		return;
	}
	r = relay_split(open->name.data, open->name.size, &domid, endpoint);
	if (r == 0)
		r = relay_in_domain_0(relay) ? forward(relay, channel, domid, endpoint)
					     : relay_take(relay, channel, open, domid, endpoint);
	if (r < 0)
		channel_refuse(channel, r == -ENOMEM ? ENOBUFS : -r);
}

/* --- a domain has another number ---------------------------------------------------------------- */

/* Lets what waits for the HELLO of a daemon wait for it under another number. */
static void renumber_waiting_room(struct waiting_room *room, struct peer_id to)
{
	struct relay *relay = room->relay;
	struct peer_id other = {PEER_UNATTRIBUTED, ++relay->last_waiting_room};

	HASH_REKEY(by_id, id, room, relay->last_waiting_room);
	room->goes_to = to;
	HASH_REKEY(hh, peer, room, find_waiting_room(relay, to) ? other : to);
	room->asked = false; /* the answer comes for the id of before */
	task_due(&room->leading);
}

void relay_renumber(struct relay *relay, uint32_t from, uint32_t to)
{
	struct waiting_room *room, *next;

	if (!relay_in_domain_0(relay))
		return;
	HASH_ITER(hh, relay->waiting_rooms, room, next)
		if (peer_is_domain(room->goes_to, from))
			renumber_waiting_room(room, peer_domain(to));
}

/* --- policy has changed ------------------------------------------------------------------------- */

void relay_recheck(struct relay *relay, struct channel *channel)
{
	int r;

	if (!relay_in_domain_0(relay) || !channel_is_relayed(channel) || !channel_can_be_judged(channel))
		return;
	switch_spend(relay->with.board, NULL, access_cost(relay->with.access));
	r = channel_note_verdict(channel, relay_still_allowed(relay, channel), false);
	if (r < 0 && !channel_is_remote(channel))
		note_forbidden(channel, r);
	if (r < 0)
		channel_forbid(channel, -r);
}

/* --- life --------------------------------------------------------------------------------------- */

int relay_new(struct relay **out, const struct relay_collaborators *collaborators, bool enabled,
	      relay_open_fn open, void *userdata)
{
	struct relay *relay = calloc(1, sizeof(*relay));

	if (!relay)
		return -ENOMEM;
	relay->with = *collaborators;
	relay->enabled = enabled;
	relay->open = open;
	relay->userdata = userdata;
	*out = relay;
	return 0;
}

void relay_set_links(struct relay *relay, struct links *links)
{
	relay->links = links;
}

void relay_free(struct relay *relay)
{
	struct waiting_room *room, *next;

	if (!relay)
		return;
	if (relay->links)
		links_await_cancel(relay->links, relay);
	HASH_ITER(hh, relay->waiting_rooms, room, next)
		free_waiting_room(room);
	free(relay);
}

/* --- in the image ------------------------------------------------------------------------------- */

/* What waits for the HELLO of a daemon that is to take it, in the image that a daemon hands over
 * (base/image.h). The next daemon wants the link anew. */

static void relay_leave(void *self)
{
	struct relay *relay = self;
	struct waiting_room *room, *next;

	links_await_cancel(relay->links, relay);
	HASH_ITER(hh, relay->waiting_rooms, room, next) {
		hop_set_image_number(&room->hop, room->peer.kind != PEER_UNATTRIBUTED ? 0 : HOP_NOT_IN_IMAGE);
		room->asked = false;
	}
}

static uint32_t relay_number(void *self, uint32_t first)
{
	const struct relay *relay = self;
	struct waiting_room *room, *next;

	HASH_ITER(hh, relay->waiting_rooms, room, next)
		if (hop_number_in_image(&room->hop) != HOP_NOT_IN_IMAGE)
			hop_set_image_number(&room->hop, first++);
	return first;
}

static void relay_write(void *self, struct image *image)
{
	const struct relay *relay = self;
	struct waiting_room *room, *next;

	HASH_ITER(hh, relay->waiting_rooms, room, next) {
		bool is_host = peer_is_host(room->peer);

		if (hop_number_in_image(&room->hop) == HOP_NOT_IN_IMAGE)
			continue;
		image_section(image, IMAGE_WAITING);
		image_bool(image, &is_host);
		image_u32(image, &room->peer.number);
		hop_inner_image(image, &room->hop);
	}
}

static void relay_write_channels(void *self, struct image *image)
{
	const struct relay *relay = self;
	struct waiting_room *room, *next;

	HASH_ITER(hh, relay->waiting_rooms, room, next)
		if (hop_number_in_image(&room->hop) != HOP_NOT_IN_IMAGE)
			hop_write_channels(image, &room->hop);
}

static void read_waiting_room(void *self, struct image *image, struct image_hops *hops)
{
	struct relay *relay = self;
	struct waiting_room *room;
	struct peer_id peer;
	bool is_host;
	uint32_t number;

	image_bool(image, &is_host);
	image_u32(image, &number);
	peer = is_host ? peer_host(number) : peer_domain(number);
	image_expect(image, (is_host ? *hosts_name(relay->with.hosts, number) : domid_is_valid(number)) &&
				    !find_waiting_room(relay, peer));
	if (image->error)
		return;
	room = get_waiting_room(relay, peer);
	if (!room) {
		image_fail(image, -ENOMEM);
		return;
	}
	hop_inner_image(image, &room->hop);
	if (!image->error && image_hops_add(hops, &room->hop) < 0)
		image_fail(image, -ENOMEM);
	if (image->error)
		free_waiting_room(room);
}

static void relay_go_on(void *self)
{
	const struct relay *relay = self;
	struct waiting_room *room, *next;

	HASH_ITER(hh, relay->waiting_rooms, room, next)
		if (!room->asked)
			task_due(&room->leading);
}

static void relay_drop(void *self)
{
	const struct relay *relay = self;
	struct waiting_room *room, *next;

	HASH_ITER(hh, relay->waiting_rooms, room, next) {
		hop_reset_channels(&room->hop, ECONNRESET);
		free_waiting_room(room);
	}
}

const struct part relay_part = {
	.leave = relay_leave,
	.number = relay_number,
	.write = relay_write,
	.write_channels = relay_write_channels,
	.stay = relay_go_on,
	.sections = {{IMAGE_WAITING, read_waiting_room}},
	.go_on = relay_go_on,
	.drop = relay_drop,
};
