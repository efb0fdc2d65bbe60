/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HANDOVER_INTERNAL_H
#define XENMSG_DAEMON_HANDOVER_INTERNAL_H

/* The head of the image, which handover.c writes and handover_take.c reads. */

#include "base/image.h"
#include "daemon/main/daemon_internal.h"

/* Its maker, and how many programs, links and topics it has. */
struct head {
	char version[STATUS_VERSION_SIZE];
	uint64_t renewals;
	struct self self; /* the instance stays, since the sessions with peers do */
	bool has_leaf;	  /* its own leaf stands in XenStore, unless the domain is restored */
	uint32_t sessions, links, topics;
};

void handover_head_image(struct image *image, struct head *head);

#endif
