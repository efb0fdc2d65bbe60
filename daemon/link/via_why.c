/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Why there is no link between two domains, and nobody relays: what programs are told, and the log. */

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "daemon/link/link.h"
#include "daemon/link/via_internal.h"
#include "daemon/relay/channel.h"
#include "daemon/relay/origin.h"

bool via_is_for_domain_0(const struct via *via, uint32_t domid)
{
	return !via_in_domain_0(via) && domid != 0;
}

static const char *what_is_missing(const struct via *via, uint32_t domid, int error)
{
	if (!via_is_for_domain_0(via, domid))
		return "and nobody relays between these two";
	if (!via->enabled)
		return "and relay = no is set here";
	if (error == -EHOSTDOWN)
		return "and no xenmsgd runs in domain 0 that would relay";
	if (error == -EOPNOTSUPP)
		return "and xenmsgd in domain 0 has relay = no";
	return "and domain 0, which would relay, can't be reached, as 'xenmsg doctor 0' explains";
}

/* Remembers for the programs of a guest why there is no link with this domain, and what follows. */
static void explain_here(struct via *via, uint32_t domid, const char *what_follows, const char *what_helps)
{
	char why[LINK_REASON_SIZE];

	snprintf(why, sizeof(why),
		 links_are_forbidden(via->links, domid)
			 ? "Xen lets domain %u and domain %u share no memory (XSM), %s%.0s"
			 : "neither domain %u nor domain %u may map the other's pages, %s%s",
		 via->with.self->domid, domid, what_follows, what_helps);
	links_explain(via->links, peer_domain(domid), why);
}

int via_explain(struct via *via, uint32_t domid, uint32_t source, int error)
{
	bool is_ours = source == via->with.self->domid;

	if (error == -ENOBUFS || error == -ENOMEM || (error == -EHOSTDOWN && !is_ours))
		return error;
	if (!is_ours)
		log_limited(LOG_UNREACHABLE, LOG_BY_DOMAIN(source), LOG_LEVEL_WARNING,
			    "domain %u: nothing is relayed to it for domain %u: %s", domid, source,
			    error == -EOPNOTSUPP ? "its xenmsgd has relay = no, and takes nothing relayed"
						 : "there is no link with it");
	else
		explain_here(via, domid, what_is_missing(via, domid, error),
			     ": set map = yes under [links] in one of the two");
	return -EHOSTUNREACH;
}

int via_explain_channel(struct via *via, const struct channel *channel, int error)
{
	if (origin_is_far(channel))
		return error == -EOPNOTSUPP ? -EHOSTUNREACH : error;
	return via_explain(via, via_destination(channel), channel->identity.domid, error);
}

int via_lead_result(struct via *via, uint32_t domid, int r)
{
	if (r < 0)
		return via_explain(via, domid, via->with.self->domid, r);
	/* It may not be known yet whether it does. */
	explain_here(via, domid, "so domain 0 relays; where that fails, the log of its xenmsgd says why",
		     ", or set map = yes under [links] in one of the two");
	return 0;
}
