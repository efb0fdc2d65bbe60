/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pages of other domains that programs map, by references and by frames. */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

/* Xen refuses a reference that doesn't exist, is another domain's, which XSM forbids, or is read-only: gntdev
 * answers EINVAL to all of these. */
static int find_page(struct hv_client *client, uint32_t domid, uint32_t number, bool writable,
		     struct hv_mapped *page)
{
	struct hv_domain *granter = hv_domain_by_id(client->domain->hv, domid);
	struct hv_ref *ref = NULL;

	if (granter) {
		hv_frame_resolve_ref(granter, &number);
		HASH_FIND(hh, granter->refs, &number, sizeof(number), ref);
	}
	if (!hv_may_share(client->domain->hv, client->domain->domid, domid))
		return -EINVAL;
	if (!ref || ref->share->granted_domid != client->domain->domid || (writable && !ref->share->writable))
		return -EINVAL;
	page->share = ref->share;
	page->index = ref->index;
	return 0;
}

static void count_map(struct hv_client *client, const struct hv_mapped *page, int change)
{
	struct hv_share *share = page->share;

	share->mapped += (uint32_t)change;
	share->page[page->index].maps += (uint32_t)change;
	if (share->domain && share->domain != client->domain)
		share->domain->foreign_maps += (uint32_t)change;
}

static unsigned fd_index(struct hv_answer *answer, int fd)
{
	unsigned i;

	for (i = 0; i < answer->fd_count; i++)
		if (answer->fds[i] == fd)
			return i;
	answer->fds[answer->fd_count++] = fd;
	return i;
}

/* Returns 0 or a negative errno. Grants are all mapped or none, frames as far as they are there. */
static int find_pages(struct hv_client *client, const struct sim_request *request, struct hv_mapping *mapping,
		      struct sim_reply *reply)
{
	int r;

	for (uint32_t i = 0; i < request->count; i++) {
		struct hv_mapped *page = &mapping->page[mapping->count];

		if (request->op == SIM_OP_MAP_FRAMES)
			r = hv_frame_find(client, request->domid, request->refs[i], page);
		else
			r = find_page(client, request->refs[2 * i], request->refs[2 * i + 1],
				      request->writable != 0, page);
		if (r < 0 && request->op == SIM_OP_MAP)
			return r;
		reply->values[2 * i] = r < 0 ? SIM_NO_FRAME : 0;
		reply->values[2 * i + 1] = (uint32_t)-r;
		mapping->count += r == 0;
	}
	return 0;
}

int hv_grant_map(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct sim_reply *reply = &answer->reply;
	const bool by_frame = request->op == SIM_OP_MAP_FRAMES;
	struct hv_mapping *mapping;
	const struct hv_mapped *page;
	int r;

	if (request->count == 0 || request->count > SIM_MAX_MAP)
		return -EINVAL;
	mapping = calloc(1, sizeof(*mapping) + request->count * sizeof(mapping->page[0]));
	if (!mapping)
		return -ENOMEM;
	r = find_pages(client, request, mapping, reply);
	if (r < 0) {
		free(mapping);
		return r;
	}
	mapping->id = ++client->domain->hv->next_id;
	mapping->notify_offset = SIM_NO_NOTIFY;
	page = mapping->page;
	for (uint32_t i = 0; i < request->count; i++) {
		if (reply->values[2 * i] == SIM_NO_FRAME)
			continue;
		count_map(client, page, 1);
		/* To map a frame isn't asked whether its domain has granted it. */
		reply->values[2 * i] =
			fd_index(answer, page->share->writable || by_frame ? page->share->fd
									   : page->share->fd_read_only);
		reply->values[2 * i + 1] = page->index;
		page++;
	}
	DL_APPEND(client->mappings, mapping);
	reply->id = mapping->id;
	reply->count = request->count;
	return 0;
}

static void unmap_pages(struct hv_client *client, struct hv_mapping *mapping)
{
	for (uint32_t i = 0; i < mapping->count; i++) {
		struct hv_share *share = mapping->page[i].share;
		struct hv_domain *granter = share->domain;

		count_map(client, &mapping->page[i], -1);
		/* Xen takes a page that is unmapped for a written one. */
		share->page[mapping->page[i].index].dirty = true;
		if (!share->owner && share->mapped == 0 && !share->is_kernels)
			hv_share_free(share);
		else if ((!share->owner && !share->is_kernels) || (granter && granter->state == HV_ZOMBIE))
			hv_share_drop_unmapped_refs(share);
		if (granter)
			hv_domain_reap(granter);
	}
	mapping->count = 0;
}

void hv_mapping_end(struct hv_client *client, struct hv_mapping *mapping, bool silent)
{
	struct hv_client *heir = hv_heirs_take(&mapping->heirs);

	if (heir) {
		DL_DELETE(client->mappings, mapping);
		DL_APPEND(heir->mappings, mapping);
		return;
	}
	if (!silent && mapping->count)
		hv_share_clear_byte(mapping->page[0].share, mapping->page[0].index, mapping->notify_offset);
	if (mapping->notify_port)
		hv_evtchn_release(mapping->notify_port, !silent);
	unmap_pages(client, mapping);
	DL_DELETE(client->mappings, mapping);
	free(mapping);
}

struct hv_mapping *hv_mapping_find(struct hv_client *client, uint32_t id)
{
	struct hv_mapping *mapping;

	DL_FOREACH(client->mappings, mapping)
		if (mapping->id == id)
			return mapping;
	return NULL;
}

int hv_grant_unmap(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_mapping *mapping = hv_mapping_find(client, request->id);
	struct hv_client *other;

	if (mapping) {
		hv_mapping_end(client, mapping, false);
		return 0;
	}
	DL_FOREACH(client->domain->clients, other) {
		mapping = hv_mapping_find(other, request->id);
		if (mapping && hv_heirs_remove(&mapping->heirs, client))
			return 0;
	}
	return -EINVAL;
}

int hv_grant_unmap_pages(struct hv_client *client, const struct sim_request *request,
			 struct hv_answer *answer)
{
	struct hv_mapping *mapping = hv_mapping_find(client, request->id);

	if (!mapping)
		return -EINVAL;
	if (mapping->count)
		hv_share_clear_byte(mapping->page[0].share, mapping->page[0].index, mapping->notify_offset);
	unmap_pages(client, mapping);
	return 0;
}

unsigned hv_grant_drop_mappings(struct hv_client *client)
{
	struct hv_mapping *mapping;
	unsigned pages = 0;

	DL_FOREACH(client->mappings, mapping) {
		pages += mapping->count;
		unmap_pages(client, mapping);
	}
	return pages;
}

uint32_t hv_grant_mapped_pages(const struct hv_client *client)
{
	const struct hv_mapping *mapping;
	uint32_t pages = 0;

	DL_FOREACH(client->mappings, mapping)
		pages += mapping->count;
	return pages;
}
