/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pings that domain 0 relays. */
#include "daemon/link/via_internal.h"

#include <errno.h>
#include <stdlib.h>

#include <utlist.h>

#include "base/cost.h"
#include "base/quota.h"
#include "daemon/link/link.h"
#include "daemon/policy/access.h"
#include "daemon/relay/channel.h"
#include "daemon/relay/hop.h"
#include "wire/address.h"

/* bytes for each ping that is relayed: as for a channel, so that no more of them end at once */
#define PING_CHARGE CHANNEL_INITIAL_LIMIT

struct relayed_ping {
	struct via *via;
	struct peer_id source;
	uint64_t token; /* by which the source knows it */
	struct charge charge;
	struct relayed_ping *prev, *next;
};

int via_ping(struct via *via, uint32_t domid, struct account *account, ping_fn done, void *userdata,
	     uint32_t request)
{
	const struct frame_ping_relayed what = {.number = domid};
	int r = -EHOSTUNREACH;

	if (via->enabled && via_is_for_domain_0(via, domid))
		r = links_ping_relayed(via->links, peer_domain(0), &what, account, done, userdata, request);
	return via_lead_result(via, domid, r);
}

static void answer_ping(struct via *via, struct peer_id source, uint64_t token, int result)
{
	const struct frame_ping_relayed pong = {.token = token, .number = (uint32_t)-result};
	uint8_t payload[FRAME_PING_RELAYED_SIZE];

	/* If it fails, its session has ended, and with it the source's ping; or it takes nothing. */
	(void)links_send(via->links, source, FRAME_PONG, payload, frame_ping_relayed_encode(&pong, payload));
}

static void free_ping(struct relayed_ping *ping)
{
	DL_DELETE(ping->via->pings, ping);
	charge_end(&ping->charge);
	free(ping);
}

static void on_relayed_pong(void *userdata, uint32_t request, int64_t result)
{
	struct relayed_ping *ping = userdata;

	relay_spend(ping->via->with.relay, ping->charge.account, COST_CONTROL);
	answer_ping(ping->via, ping->source, ping->token, result < 0 ? (int)result : 0);
	free_ping(ping);
}

/* Pings what another domain of this host means. */
static int ping_for(struct via *via, uint32_t source, uint32_t domid, struct account *account,
		    struct relayed_ping *ping)
{
	const struct frame_identity from = {.domid = source};
	int r;

	if (domid == 0 || domid == source || !domid_is_valid(domid))
		return -EINVAL;
	r = access_still_relayed(via->with.access, &from, domid, NULL);
	return r < 0 ? r : links_ping(via->links, peer_domain(domid), account, on_relayed_pong, ping, 0);
}

static int relay_ping(struct via *via, struct peer_id source, const struct frame_ping_relayed *asked,
		      struct account *account)
{
	struct relayed_ping *ping = calloc(1, sizeof(*ping));
	int r;

	if (!ping)
		return -ENOBUFS;
	ping->via = via;
	ping->source = source;
	ping->token = asked->token;
	DL_APPEND(via->pings, ping);
	charge_init(&ping->charge, account);
	r = charge_add(&ping->charge, QUOTA_BYTES, PING_CHARGE);
	if (r == 0 && asked->domain.size)
		r = via_ping_far(via, source, asked, account, on_relayed_pong, ping);
	else if (r == 0)
		r = ping_for(via, source.number, asked->number, account, ping);
	if (r < 0)
		free_ping(ping);
	return r == -ENOMEM ? -ENOBUFS : r == -ENOLINK ? -EHOSTUNREACH : r;
}

void via_take_ping(struct via *via, struct peer_id source, const struct frame_ping_relayed *ping)
{
	struct quota *quota = via->with.relay->quota;
	struct account *account = quota ? peer_account(quota, source) : NULL;
	int r = relay_ping(via, source, ping, account);

	relay_spend(via->with.relay, account, COST_OPEN);
	if (r < 0)
		answer_ping(via, source, ping->token, r);
	account_unref(account);
}

void via_pings_renumber(struct via *via, uint32_t from, uint32_t to)
{
	struct relayed_ping *ping;

	DL_FOREACH(via->pings, ping)
		if (peer_is_domain(ping->source, from))
			ping->source.number = to;
}

void via_pings_free(struct via *via)
{
	while (via->pings) {
		links_ping_cancel(via->links, via->pings);
		free_ping(via->pings);
	}
}
