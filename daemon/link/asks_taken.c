/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What peers ask: another host in domain 0, a domain of this host there, and domain 0 in any other one. Some
 * is answered here, the rest is led on. */

#include "daemon/link/asks_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cost.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/known/known.h"
#include "daemon/policy/access.h"
#include "daemon/relay/hop.h"

static void copy_name(char *to, size_t room, struct frame_text text)
{
	if (text.size && text.size < room && domain_name_is_valid(text.data, text.size))
		memcpy(to, text.data, text.size);
}

/* Takes, in domain 0, what another host asks. */
static int take_from_host(struct ask *ask, const struct frame_open *about)
{
	struct asks *asks = ask->asks;
	char domain[DOMAIN_NAME_MAX + 1] = "";
	uint32_t domid;

	if (!domid_is_valid(about->identity.domid))
		return -EPROTO;
	snprintf(ask->host, sizeof(ask->host), "%s", hosts_name(asks->with.hosts, ask->key.peer.number));
	copy_name(ask->domain_name, sizeof(ask->domain_name), about->domain_name);
	if (ask->kind == ASK_HOSTS || ask_is_for_text(ask))
		return -EINVAL;
	if (ask->kind == ASK_DOMAINS) {
		ask_answer_here(ask);
		return 0;
	}
	copy_name(domain, sizeof(domain), about->name);
	if (!*domain || !strcmp(domain, "self"))
		return -EINVAL;
	if (known_resolve(asks->with.known, domain, &domid) < 0)
		return -EHOSTDOWN;
	if (domid == 0) {
		ask_answer_here(ask);
		return 0;
	}
	if (access_relays_far(asks->with.access, ask->host, ask->from.domid, ask_domain_name(ask), domid) < 0)
		return -EACCES;
	ask->to = peer_domain(domid);
	snprintf(ask->name, sizeof(ask->name), "%u", domid);
	return asks->enabled ? ask_lead_on(ask) : -EHOSTUNREACH;
}

/* Takes, in domain 0, a domain's question which hosts there are. */
static int take_about_hosts(struct ask *ask)
{
	if (!*hosts_own_name(ask->asks->with.hosts))
		return -EHOSTUNREACH;
	ask->known = 0; /* changes aren't told */
	ask_answer_here(ask);
	return 0;
}

/* Takes, in domain 0, what a domain of this host asks about another one. */
static int take_from_domain(struct ask *ask, const struct frame_open *about)
{
	struct asks *asks = ask->asks;
	struct address_parts parts = address_split_domain(about->name.data, about->name.size);
	char host[HOST_NAME_SIZE] = "", domain[DOMAIN_NAME_MAX + 1] = "";

	ask->from.domid = ask->key.peer.number;
	if (ask->kind == ASK_HOSTS)
		return take_about_hosts(ask);
	if (ask_is_for_text(ask))
		return -EACCES; /* domain 0 asks, and isn't asked */
	if (!parts.host.data) { /* a host's name stands alone */
		parts.host = parts.domain;
		parts.domain = (struct address_part){NULL, 0};
	}
	if (!host_name_is_valid(parts.host.data, parts.host.size) ||
	    !address_part_copy(parts.host, host, sizeof(host)))
		return -EINVAL;
	copy_name(domain, sizeof(domain), (struct frame_text){parts.domain.data, parts.domain.size});
	if (!strcmp(host, hosts_own_name(asks->with.hosts)) ||
	    (ask->kind == ASK_ENDPOINTS) != (*domain != '\0'))
		return -EINVAL;
	return ask_lead_out(ask, host, domain);
}

/* Whether the question's text names this domain. */
static bool is_about_us(const struct ask *ask, const struct frame_open *about)
{
	uint32_t domid;

	return domid_parse(about->name.data, about->name.size, &domid) &&
	       domid == ask->asks->with.self->domid;
}

/* Takes, in another domain, what domain 0 asks itself. Who that is the hypervisor says: its domid is that of
 * the link. */
static int take_status(struct ask *ask, const struct frame_open *about)
{
	if (!is_about_us(ask, about))
		return -EPROTO;
	ask->from.domid = 0;
	ask->known = 0; /* changes aren't told */
	if (ask->kind == ASK_TRACE && (!about->domain_name.size || about->domain_name.size > DOMAIN_NAME_MAX))
		return -EPROTO;
	if (ask->kind == ASK_TRACE)
		memcpy(ask->domain_name, about->domain_name.data, about->domain_name.size);
	return ask_begin_status(ask);
}

/* Takes, in another domain, what domain 0 asks, or passes on from another host. */
static int take_from_domain_0(struct ask *ask, const struct frame_open *about)
{
	struct asks *asks = ask->asks;

	if (!peer_is_domain(ask->key.peer, 0))
		return -EACCES;
	if (ask_is_for_text(ask))
		return take_status(ask, about);
	if (!asks->enabled)
		return -EACCES;
	if (ask->kind != ASK_ENDPOINTS || !is_about_us(ask, about) ||
	    !host_name_is_valid(about->host.data, about->host.size) || !domid_is_valid(about->identity.domid))
		return -EPROTO;
	memcpy(ask->host, about->host.data, about->host.size);
	copy_name(ask->domain_name, sizeof(ask->domain_name), about->domain_name);
	ask_answer_here(ask);
	return 0;
}

/* Returns a reference to the account that pays: in a domain, that of the asker's host, not of domain 0, which
 * alone is believed in that. NULL: there is none, or no memory. */
static struct account *account_for(struct asks *asks, struct peer_id peer, const struct frame_open *about)
{
	struct quota *quota = asks->with.relay->quota;
	char host[HOST_NAME_SIZE] = "";

	if (!asks_in_domain_0(asks) && peer_is_domain(peer, 0) &&
	    host_name_is_valid(about->host.data, about->host.size)) {
		memcpy(host, about->host.data, about->host.size);
		peer = peer_host(hosts_note(asks->with.hosts, host));
	}
	return quota && (peer.number || !peer_is_host(peer)) ? peer_account(quota, peer) : NULL;
}

void asks_take_ask(struct asks *asks, struct peer_id peer, const struct frame_ask *frame)
{
	const struct frame_open *about = &frame->about;
	struct account *account = account_for(asks, peer, about);
	struct ask *ask;
	int r;

	relay_spend(asks->with.relay, account, COST_OPEN);
	r = asks->with.relay->quota && !account ? -ENOBUFS : ask_new(asks, account, &ask);
	account_unref(account);
	if (r < 0) {
		const struct frame_told told = {.number = frame->number, .error = ENOBUFS};
		uint8_t payload[TOLD_PART_SIZE];

		/* If it fails, the peer takes nothing, or has gone. */
		(void)links_send(asks->links, peer, FRAME_TOLD, payload, frame_told_encode(&told, payload));
		return;
	}
	ask_set_key(ask, &(struct ask_key){.peer = peer, .number = frame->number});
	ask->kind = (enum ask_kind)about->kind;
	ask->known = frame->known;
	ask->from = about->identity;
	if (about->kind < ASK_DOMAINS || about->kind > ASK_TRACE)
		r = -EINVAL;
	else if (!asks_in_domain_0(asks))
		r = take_from_domain_0(ask, about);
	else
		r = peer_is_host(peer) ? take_from_host(ask, about) : take_from_domain(ask, about);
	if (r < 0)
		ask_fail(ask, r == -EPROTO ? -EINVAL : r);
}
