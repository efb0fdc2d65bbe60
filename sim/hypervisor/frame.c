/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pages that are found without a grant: domain 0 maps another domain's memory by its frames, as device models
 * do. A guest has no memory here but what it grants, and the two pages that its kernel shares with the
 * toolstack: the rings of its console and of XenStore. Nothing runs at the other end of these; a test may.
 * They are there for domain 0 by reference, too, as the toolstack seeds its grant table: 0 is the console's,
 * 1 XenStore's.
 */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <errno.h>
#include <stdlib.h>

/* What stands in the table for reference 0, since 0 there means that there is none. */
#define FIRST_KERNELS_REF 0xffff0000u

enum { CONSOLE, STORE, KERNELS_PAGES };

static int make_kernels_pages(struct hv_domain *domain)
{
	struct hv_share *share = calloc(1, sizeof(*share) + KERNELS_PAGES * sizeof(share->page[0]));
	int r;

	if (!share)
		return -ENOMEM;
	*share = (struct hv_share){.fd = -1,
				   .fd_read_only = -1,
				   .count = KERNELS_PAGES,
				   .writable = true,
				   .is_kernels = true,
				   .notify_offset = SIM_NO_NOTIFY,
				   .domain = domain,
				   .id = ++domain->hv->next_id};
	r = hv_share_make_pages(share);
	for (uint32_t i = 0; r == 0 && i < KERNELS_PAGES; i++)
		r = hv_share_add_ref(domain, share, i, FIRST_KERNELS_REF + i);
	if (r < 0)
		hv_share_free(share);
	else
		domain->kernels_pages = share;
	return r;
}

void hv_frame_resolve_ref(struct hv_domain *granter, uint32_t *number)
{
	/* Of nobody, rather than by the number that it has here. */
	if (HV_IS_KERNELS_REF(*number))
		*number = 0;
	else if (*number < KERNELS_PAGES && granter->type != HV_DOM0) {
		if (!granter->kernels_pages && granter->state != HV_ZOMBIE)
			make_kernels_pages(granter);
		*number += FIRST_KERNELS_REF;
	}
}

int hv_frame_find(struct hv_client *client, uint32_t domid, uint32_t frame, struct hv_mapped *page)
{
	struct hv_domain *domain = hv_domain_by_id(client->domain->hv, domid);
	uint32_t number = frame == SIM_CONSOLE_FRAME ? CONSOLE
			  : frame == SIM_STORE_FRAME ? STORE
			  : frame >= SIM_FIRST_FRAME ? frame - SIM_FIRST_FRAME
						     : UINT32_MAX;
	struct hv_ref *ref = NULL;

	if (client->domain->type != HV_DOM0)
		return -EPERM;
	if (!domain)
		return -ESRCH;
	hv_frame_resolve_ref(domain, &number);
	HASH_FIND(hh, domain->refs, &number, sizeof(number), ref);
	if (!ref)
		return -EPERM;
	page->share = ref->share;
	page->index = ref->index;
	return 0;
}

void hv_frame_kernel_gone(struct hv_domain *domain)
{
	struct hv_share *share = domain->kernels_pages;

	domain->kernels_pages = NULL;
	if (!share)
		return;
	share->is_kernels = false;
	if (share->mapped == 0)
		hv_share_free(share);
	else
		hv_share_drop_unmapped_refs(share);
}
