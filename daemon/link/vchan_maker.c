/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Makes vchans for sessions that move to other rings; apart, since tests of links have no vchan.c. */

#include "daemon/link/carrier.h"

#include "daemon/xen/vchan.h"

static int grant(void *userdata, uint32_t domid, uint32_t ring_size, struct carrier *made,
		 struct carrier_place *place)
{
	struct vchan *vchan;
	int r = vchan_grant(userdata, domid, ring_size, ring_size, NULL, NULL, &vchan);

	if (r < 0)
		return r;
	*place = (struct carrier_place){vchan_ring_ref(vchan), vchan_port(vchan)};
	*made = vchan_carrier(vchan);
	return 0;
}

static int vchan_maker_map(void *userdata, uint32_t domid, const struct carrier_place *place,
			   struct carrier *made)
{
	struct vchan *vchan;
	int r = vchan_map(userdata, domid, place->ring_ref, place->port, NULL, NULL, &vchan);

	if (r == 0)
		*made = vchan_carrier(vchan);
	return r;
}

static uint32_t pages_limit(void *userdata)
{
	return vchan_host_pages_limit(userdata);
}

struct carrier_maker vchan_carrier_maker(struct vchan_host *host)
{
	return (struct carrier_maker){
		.grant = grant,
		.map = vchan_maker_map,
		.pages_limit = pages_limit,
		.userdata = host,
	};
}
