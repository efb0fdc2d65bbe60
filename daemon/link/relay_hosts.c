/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Channels between hosts (doc/protocol.md, 5.10). The daemons of domain 0 have links with each other, and
 * pass channels on from and to the domains of their hosts:
 *
 *   a domain ══ link ══ domain 0 ══ link over a gateway ══ domain 0 there ══ link ══ a domain there
 *            HOST/DOMAIN:ENDPOINT          DOMAIN:ENDPOINT              DOMID:ENDPOINT
 *
 * Each OPEN has the sender's identity. Which host it is on is what the link tells, in domain 0 there; domains
 * believe that from their domain 0 alone, as they believe it who is behind what it relays (relay.h).
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/quota.h"
#include "base/self.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/link/relay_internal.h"
#include "daemon/registry/registry.h"
#include "daemon/policy/access.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "wire/address.h"

/* --- out -------------------------------------------------------------------------------------- */

/* Finds, in domain 0, the number of the host to which rules let that sender send. */
static int relay_find_host(struct relay *relay, const struct frame_identity *from, const char *host,
			   const char *text, uint32_t *number)
{
	int r = -EHOSTUNREACH;

	/* Where nothing leads to any host, no rule is what is missing. */
	if (*relay->with.self->host)
		r = relay_ruled(text) ? access_out(relay->with.access, from, host, text)
				      : access_still_out(relay->with.access, from, host);
	if (r == 0)
		r = hosts_resolve(relay->with.hosts, host, number);
	/* Who asks a daemon is told at once that it has gone, also if its session may be resumed. */
	return r == 0 && !relay_ruled(text) && !hosts_is_up(relay->with.hosts, *number) ? -EHOSTDOWN : r;
}

/* Sends a channel from domain 0 to another host, if rules allow it. */
static int send_out(struct relay *relay, struct channel *channel, const struct address *address)
{
	char text[ADDRESS_MAX + 1];
	uint32_t number;
	int r;

	snprintf(text, sizeof(text), "%s/%s:%s", address->host, address->domain, address->endpoint);
	switch_spend(relay->with.board, channel->charge.account, access_cost(relay->with.access));
	r = relay_find_host(relay, &channel->identity, address->host, text, &number);
	if (r == 0)
		r = channel_set_to_host(channel, number);
	return r < 0 ? r : relay_send(relay, channel, peer_host(number), text + strlen(address->host) + 1);
}

int relay_lead_out(struct relay *relay, struct channel *channel, const struct address *address)
{
	char text[ADDRESS_MAX + 1];
	int r;

	if (relay_in_domain_0(relay)) {
		r = send_out(relay, channel, address);
	} else {
		snprintf(text, sizeof(text), "%s/%s:%s", address->host, address->domain, address->endpoint);
		r = relay->enabled ? channel_set_to_host(channel, 0) : -EHOSTUNREACH;
		if (r == 0)
			r = relay_send(relay, channel, peer_domain(0), text);
	}
	return r == -EOPNOTSUPP || r == -ENOLINK ? -EHOSTUNREACH : r;
}

/* --- in --------------------------------------------------------------------------------------- */

bool relay_is_remote(const struct frame_open *open)
{
	struct frame_open split = *open;

	frame_open_split(&split);
	return split.host.size || address_split(split.name.data, split.name.size).host.data;
}

void relay_note_name(struct channel *channel, uint32_t domid, struct frame_text told)
{
	char name[DOMAIN_NAME_MAX + 1] = "";

	if (told.size && domain_name_is_valid(told.data, told.size))
		memcpy(name, told.data, told.size);
	channel->identity.domid = domid;
	channel_set_from_domain(channel, name);
}

/* Notes who the sender is, as far as we are told. */
static int relay_note_sender(struct channel *channel, const struct frame_open *open, uint32_t number,
			     const char *host)
{
	if (!domid_is_valid(open->identity.domid))
		return -EPROTO;
	relay_note_name(channel, open->identity.domid, open->domain_name);
	return channel_set_from_host(channel, number, host);
}

/* Takes, in domain 0, what the host with this number sends. */
static int relay_take_from_host(struct relay *relay, uint32_t number, struct channel *channel,
				const struct frame_open *open)
{
	struct peer_id to;
	struct address address;
	char text[ADDRESS_MAX + 1];
	int r = address_parse(open->name.data, open->name.size, &address, NULL);

	if (r == 0 && (address.host[0] || !strcmp(address.domain, "self")))
		r = -EINVAL; /* nothing goes from host to host through a third one */
	if (r == 0)
		r = relay_note_sender(channel, open, number, hosts_name(relay->with.hosts, number));
	if (r == 0)
		r = links_resolve(relay->links, address.domain, &to);
	if (r < 0)
		return r;
	if (peer_is_domain(to, 0)) {
		relay->open(relay->userdata, channel, frame_text_of(address.endpoint));
		return 0;
	}
	snprintf(text, sizeof(text), "%u:%s", to.number, address.endpoint);
	r = relay_allow(relay, channel, to.number, text);
	if (r == 0)
		r = relay->enabled ? relay_send(relay, channel, to, text) : -EHOSTUNREACH;
	return r;
}

/* Lets, in domain 0, out what a domain here sends to another host. */
static int relay_take_from_domain(struct relay *relay, struct channel *channel, const struct frame_open *open)
{
	struct address address;
	int r = address_parse(open->name.data, open->name.size, &address, NULL);

	if (r < 0)
		return r;
	if (!address.host[0] || !strcmp(address.host, relay->with.self->host))
		return -EINVAL;
	channel_set_from_domain(channel, registry_name(relay->with.registry, channel->identity.domid));
	return send_out(relay, channel, &address);
}

/* Takes, in another domain, what domain 0 passes on from another host. */
static int relay_take_from_domain_0(struct relay *relay, struct channel *channel,
				    const struct frame_open *open)
{
	char host[HOST_NAME_SIZE] = "";
	struct address address;
	uint32_t number, domid;
	int r = address_parse(open->name.data, open->name.size, &address, NULL);

	if (r < 0)
		return r;
	if (!relay->enabled || channel->identity.domid != 0)
		return -EACCES;
	if (!domid_parse(address.domain, strlen(address.domain), &domid) || address.host[0] ||
	    !self_has_or_had(relay->with.self, domid) ||
	    !host_name_is_valid(open->host.data, open->host.size))
		return -EPROTO;
	memcpy(host, open->host.data, open->host.size);
	number = hosts_note(relay->with.hosts, host);
	if (!number)
		return -ENOBUFS;
	r = relay_charge(relay, channel, peer_host(number));
	if (r == 0)
		r = relay_note_sender(channel, open, number, host);
	if (r == 0)
		relay->open(relay->userdata, channel, frame_text_of(address.endpoint));
	return r;
}

void relay_open_remote(struct relay *relay, struct peer_id peer, struct channel *channel,
		       const struct frame_open *open)
{
	struct frame_open split = *open;
	int r;

	frame_open_split(&split);
	if (!relay_in_domain_0(relay))
		r = relay_take_from_domain_0(relay, channel, &split);
	else if (peer_is_host(peer))
		r = relay_take_from_host(relay, peer.number, channel, &split);
	else
		r = relay_take_from_domain(relay, channel, &split);
	if (r == -EOPNOTSUPP || r == -ENOLINK)
		r = -EHOSTUNREACH;
	if (r < 0)
		channel_refuse(channel, r == -ENOMEM ? ENOBUFS : -r);
}

unsigned relay_host_gone(struct relay *relay, uint32_t number)
{
	struct channel *channel;
	unsigned count = 0;

	DL_FOREACH(relay->with.board->channels, channel) {
		count++;
		if (channel_to_host(channel) == number && channel->endpoint &&
		    !relay_ruled(channel->endpoint))
			channel_forbid(channel, EHOSTDOWN);
	}
	return count;
}

/* --- policy has changed ----------------------------------------------------------------------- */

int relay_still_allowed(struct relay *relay, const struct channel *channel)
{
	if (channel_to_host(channel) && !channel_from_host(channel))
		return access_still_out(relay->with.access, &channel->identity,
					hosts_name(relay->with.hosts, channel_to_host(channel)));
	return access_still_relayed(relay->with.access, access_sender_of(channel), relay_destination(channel),
				    relay_ruled(channel->endpoint));
}
