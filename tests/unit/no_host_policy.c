/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Stands in for what the directory asks about the host's policy: nothing is told of it
 * (tests/integration/test_host_policy.py). */

#include "daemon/link/link.h"
#include "daemon/policy/access.h"

bool access_tells_host(const struct access *access)
{
	return false;
}

uint64_t access_host_version(const struct access *access)
{
	return 0;
}

char *access_host_share(struct access *access, uint32_t guest_domid, size_t *size)
{
	return NULL;
}

char *access_host_domain(struct access *access, uint32_t guest_domid, uint32_t domid, size_t *size)
{
	return NULL;
}

bool links_obey(const struct links *links, struct peer_id peer)
{
	return false;
}
