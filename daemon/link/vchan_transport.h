/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_VCHAN_TRANSPORT_H
#define XENMSG_DAEMON_VCHAN_TRANSPORT_H

/* A vchan as the transport of a link's session. */

#include "daemon/link/transport.h"

struct vchan;
struct vchan_host;

/* The transport owns the connected vchan from now on. */
struct link_transport vchan_transport(struct vchan *vchan);
/* Makes more of them. The host must outlive whoever has the maker. */
struct transport_maker vchan_transport_maker(struct vchan_host *host);

#endif
