/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_VCHAN_CARRIER_H
#define XENMSG_DAEMON_VCHAN_CARRIER_H

/* A vchan as the carrier of a link's session. */

#include "daemon/link/carrier.h"

struct vchan;
struct vchan_host;

/* The carrier owns the connected vchan from now on. */
struct carrier vchan_carrier(struct vchan *vchan);
/* Makes more of them. The host must outlive whoever has the maker. */
struct carrier_maker vchan_carrier_maker(struct vchan_host *host);

#endif
