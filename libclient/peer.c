/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/peer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int peer_set(struct xenmsg_peer *peer, const struct frame_identity *identity, struct frame_text endpoint,
	     struct frame_text domain_name, struct frame_text host)
{
	size_t size = strnlen(endpoint.data, endpoint.size);

	if (!endpoint_name_is_valid(endpoint.data, size))
		return -EPROTO;
	*peer = (struct xenmsg_peer){.identity = *identity};
	memcpy(peer->endpoint, endpoint.data, size);
	if (domain_name_is_valid(domain_name.data, domain_name.size))
		memcpy(peer->domain_name, domain_name.data, domain_name.size);
	if (host_name_is_valid(host.data, host.size))
		memcpy(peer->host, host.data, host.size);
	return 0;
}

uint32_t xenmsg_peer_domid(const struct xenmsg_peer *peer)
{
	return peer->identity.domid;
}

uint32_t xenmsg_peer_uid(const struct xenmsg_peer *peer)
{
	return peer->identity.uid;
}

uint32_t xenmsg_peer_gid(const struct xenmsg_peer *peer)
{
	return peer->identity.gid;
}

uint32_t xenmsg_peer_pid(const struct xenmsg_peer *peer)
{
	return peer->identity.pid;
}

const char *xenmsg_peer_domain_name(const struct xenmsg_peer *peer)
{
	return peer->domain_name;
}

const char *xenmsg_peer_host(const struct xenmsg_peer *peer)
{
	return peer->host;
}

const char *xenmsg_peer_endpoint(const struct xenmsg_peer *peer)
{
	return peer->endpoint;
}

int xenmsg_peer_channel(const struct xenmsg_peer *peer, char *name, size_t size)
{
	const struct frame_identity *from = &peer->identity;

	if (!peer->serial)
		return -ENODATA;
	return (size_t)snprintf(name, size, "%s%s%u.%u.%u", peer->host, *peer->host ? "/" : "", from->domid,
				from->pid, peer->serial) < size
		       ? 0
		       : -ENOBUFS;
}
