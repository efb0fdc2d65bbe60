/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pages that a domain grants, the references to them, and what programs have of either. */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utlist.h>

static char *limit_path(const struct hv_domain *domain)
{
	char *path;

	return asprintf(&path, "%s/root/sys/module/xen_gntalloc/parameters/limit", domain->path) < 0 ? NULL
												     : path;
}

/* Returns the limit from the file, since root in the domain may write it, as on Xen. */
uint32_t hv_grant_limit(const struct hv_domain *domain)
{
	char *path = limit_path(domain);
	FILE *file = path ? fopen(path, "re") : NULL;
	unsigned limit = HV_GRANT_LIMIT;

	free(path);
	if (!file)
		return limit;
	if (fscanf(file, "%u", &limit) != 1)
		limit = HV_GRANT_LIMIT;
	fclose(file);
	return limit;
}

int hv_grant_set_limit(const struct hv_domain *domain, uint32_t limit)
{
	char *path = limit_path(domain);
	FILE *file = path ? fopen(path, "we") : NULL;
	int r = 0;

	free(path);
	if (!file)
		return -errno;
	if (fprintf(file, "%u\n", limit) < 0)
		r = -EIO;
	return fclose(file) ? -errno : r;
}

static void drop_ref(struct hv_share *share, uint32_t index)
{
	struct hv_ref *ref;

	if (!share->page[index].ref || !share->domain)
		return;
	HASH_FIND(hh, share->domain->refs, &share->page[index].ref, sizeof(uint32_t), ref);
	if (ref) {
		HASH_DEL(share->domain->refs, ref);
		/* Linux takes the one that came free last for the next page. */
		ref->share = NULL;
		if (HV_IS_KERNELS_REF(ref->ref))
			free(ref);
		else
			LL_PREPEND2(share->domain->free_refs, ref, next_free);
	}
	share->page[index].ref = 0;
	if (--share->refs == 0)
		share->domain = NULL;
}

/* Ends the references to pages that aren't mapped. Mapped ones stay granted until they are unmapped, like the
 * kernel's deferred end of foreign access. */
void hv_share_drop_unmapped_refs(struct hv_share *share)
{
	for (uint32_t i = 0; i < share->count; i++)
		if (share->page[i].maps == 0)
			drop_ref(share, i);
}

void hv_share_free(struct hv_share *share)
{
	for (uint32_t i = 0; i < share->count; i++)
		drop_ref(share, i);
	free(share->copy);
	free(share->heirs.client);
	if (share->fd >= 0)
		close(share->fd);
	if (share->fd_read_only >= 0)
		close(share->fd_read_only);
	free(share);
}

static struct hv_share *find_share(struct hv_client *client, uint32_t id)
{
	struct hv_share *share;

	DL_FOREACH(client->shares, share)
		if (share->id == id)
			return share;
	return NULL;
}

int hv_share_add_ref(struct hv_domain *domain, struct hv_share *share, uint32_t index, uint32_t number)
{
	struct hv_ref *ref = number ? NULL : domain->free_refs;

	if (ref) {
		LL_DELETE2(domain->free_refs, ref, next_free);
	} else {
		ref = malloc(sizeof(*ref));
		if (!ref)
			return -ENOMEM;
		ref->ref = number ? number : SIM_FIRST_REF + domain->new_refs++;
	}
	ref->share = share;
	ref->index = index;
	HASH_ADD(hh, domain->refs, ref, sizeof(uint32_t), ref);
	share->page[index].ref = ref->ref;
	share->refs++;
	return 0;
}

int hv_share_make_pages(struct hv_share *share)
{
	char path[64];

	share->fd = memfd_create("xensim-grant", MFD_CLOEXEC);
	if (share->fd < 0 || ftruncate(share->fd, (off_t)share->count * SIM_PAGE_SIZE) < 0)
		return -errno;
	if (share->writable)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", share->fd);
	share->fd_read_only = open(path, O_RDONLY | O_CLOEXEC);
	return share->fd_read_only < 0 ? -errno : 0;
}

int hv_grant_share(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct sim_reply *reply = &answer->reply;
	struct hv_domain *domain = client->domain;
	struct hv_share *share;
	int r;

	if (request->count == 0 || request->count > SIM_MAX_SHARE ||
	    request->domid >= HV_FIRST_RESERVED_DOMID)
		return -EINVAL;
	if (domain->shared_pages + request->count > hv_grant_limit(domain))
		return -ENOSPC;
	share = calloc(1, sizeof(*share) + request->count * sizeof(share->page[0]));
	if (!share)
		return -ENOMEM;
	share->fd = share->fd_read_only = -1;
	share->count = request->count;
	share->granted_domid = request->domid;
	share->writable = request->writable != 0;
	share->notify_offset = SIM_NO_NOTIFY;
	share->domain = domain;
	share->owner = client;
	share->id = ++domain->hv->next_id;

	r = hv_share_make_pages(share);
	for (uint32_t i = 0; r == 0 && i < share->count; i++)
		r = hv_share_add_ref(domain, share, i, 0);
	if (r < 0) {
		hv_share_free(share);
		return r;
	}
	DL_APPEND(client->shares, share);
	domain->shared_pages += share->count;
	reply->id = share->id;
	reply->count = share->count;
	for (uint32_t i = 0; i < share->count; i++)
		reply->values[i] = share->page[i].ref;
	answer->fds[answer->fd_count++] = share->fd;
	return 0;
}

void hv_share_clear_byte(const struct hv_share *share, uint32_t index, uint32_t offset)
{
	const char zero = 0;

	if (offset != SIM_NO_NOTIFY && offset < SIM_PAGE_SIZE &&
	    pwrite(share->fd, &zero, 1, (off_t)index * SIM_PAGE_SIZE + offset) != 1 && share->domain)
		hv_log(share->domain->hv, "clearing a live byte failed: %m");
}

/* Lets a process that has inherited the share be its owner. */
static bool share_hand_over(struct hv_share *share)
{
	struct hv_client *heir = hv_heirs_take(&share->heirs);

	if (!heir)
		return false;
	DL_DELETE(share->owner->shares, share);
	share->owner = heir;
	DL_APPEND(heir->shares, share);
	return true;
}

/* Ends the owner's mapping of the share. */
static void share_end(struct hv_share *share, bool silent)
{
	if (share_hand_over(share))
		return;
	/* Linux clears it in the owner's page, which after a restore isn't any more what others have
	 * mapped. */
	if (!silent)
		hv_share_clear_byte(share, share->is_restored ? share->count : 0, share->notify_offset);
	if (share->notify_port)
		hv_evtchn_release(share->notify_port, !silent);
	share->notify_port = NULL;
	share->owner->domain->shared_pages -= share->count;
	DL_DELETE(share->owner->shares, share);
	share->owner = NULL;
	if (share->mapped == 0)
		hv_share_free(share);
	else
		hv_share_drop_unmapped_refs(share);
}

int hv_grant_unshare(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_share *share = find_share(client, request->id);
	struct hv_client *other;

	if (share) {
		share_end(share, false);
		return 0;
	}
	DL_FOREACH(client->domain->clients, other) {
		share = find_share(other, request->id);
		if (share && hv_heirs_remove(&share->heirs, client))
			return 0;
	}
	return -EINVAL;
}

int hv_grant_notify(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_share *share = find_share(client, request->id);
	struct hv_mapping *mapping = share ? NULL : hv_mapping_find(client, request->id);
	struct hv_port *port = NULL, **current;

	if (!share && !mapping)
		return -EINVAL;
	if (request->notify_port != SIM_NO_NOTIFY) {
		port = hv_evtchn_hold(client->domain, request->notify_port);
		if (!port)
			return -EINVAL;
	}
	current = share ? &share->notify_port : &mapping->notify_port;
	if (*current)
		hv_evtchn_release(*current, false);
	*current = port;
	if (share)
		share->notify_offset = request->notify_offset;
	else
		mapping->notify_offset = request->notify_offset;
	return 0;
}

/* The status is Xen's, whose names are in xen/grant_table.h. */
int hv_grant_copy_page(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct sim_reply *reply = &answer->reply;
	enum { GENERAL_ERROR = 1, BAD_DOMAIN = 2, BAD_REFERENCE = 3, NOT_PERMITTED = 8 };
	const struct hv_domain *granter;
	const struct hv_share *share;
	struct hv_ref *ref = NULL;
	uint32_t domid = request->domid == HV_DOMID_SELF ? client->domain->domid : request->domid;

	granter = hv_domain_by_id(client->domain->hv, domid);
	if (granter)
		HASH_FIND(hh, granter->refs, &request->port, sizeof(uint32_t), ref);
	share = ref ? ref->share : NULL;
	if (!granter)
		reply->id = BAD_DOMAIN;
	else if (!hv_may_share(client->domain->hv, client->domain->domid, domid))
		reply->id = NOT_PERMITTED;
	else if (!share)
		reply->id = BAD_REFERENCE;
	else if (share->granted_domid != client->domain->domid || (request->writable && !share->writable))
		reply->id = GENERAL_ERROR;
	else {
		answer->fds[answer->fd_count++] = share->writable ? share->fd : share->fd_read_only;
		reply->port = ref->index;
	}
	return 0;
}

bool hv_grant_inherit(struct hv_client *client, uint32_t id)
{
	struct hv_client *other;

	DL_FOREACH(client->domain->clients, other) {
		struct hv_share *share = find_share(other, id);
		struct hv_mapping *mapping = share ? NULL : hv_mapping_find(other, id);

		if (share || mapping)
			return hv_heirs_add(share ? &share->heirs : &mapping->heirs, client) == 0;
	}
	return false;
}

static void leave_inheritance(struct hv_client *client)
{
	struct hv_client *other;
	struct hv_share *share;
	struct hv_mapping *mapping;

	DL_FOREACH(client->domain->clients, other) {
		DL_FOREACH(other->shares, share)
			hv_heirs_remove(&share->heirs, client);
		DL_FOREACH(other->mappings, mapping)
			hv_heirs_remove(&mapping->heirs, client);
	}
}

void hv_grant_client_gone(struct hv_client *client, bool silent)
{
	leave_inheritance(client);
	while (client->mappings)
		hv_mapping_end(client, client->mappings, silent);
	while (client->shares)
		share_end(client->shares, silent);
}

void hv_grant_domid_dies(struct hv_domain *domain)
{
	struct hv_ref *ref, *next;

	hv_frame_kernel_gone(domain);
	HASH_ITER(hh, domain->refs, ref, next)
		if (ref->share->page[ref->index].maps == 0)
			drop_ref(ref->share, ref->index);
}

void hv_grant_move(struct hv_domain *domain, struct hv_domain *zombie)
{
	struct hv_ref *ref, *next;

	HASH_ITER(hh, domain->refs, ref, next)
		ref->share->domain = zombie;
	zombie->refs = domain->refs;
	zombie->foreign_maps = domain->foreign_maps;
	domain->refs = NULL;
	domain->foreign_maps = 0;
}

void hv_grant_domid_gone(struct hv_domain *domain)
{
	struct hv_ref *ref, *next;

	hv_frame_kernel_gone(domain);
	HASH_ITER(hh, domain->refs, ref, next)
		drop_ref(ref->share, ref->index);
	LL_FOREACH_SAFE2(domain->free_refs, ref, next, next_free)
	free(ref);
	domain->free_refs = NULL;
}

/* Overwrites an index of a ring page: one page with an unmap notification, as each vchan has it. */
static bool corrupt_page(const struct hv_share *share, uint32_t index, uint32_t offset, uint32_t value)
{
	return pwrite(share->fd, &value, sizeof(value), (off_t)index * SIM_PAGE_SIZE + offset) ==
	       sizeof(value);
}

unsigned hv_grant_corrupt(struct hv_domain *domain, uint32_t offset, uint32_t value)
{
	struct hv_client *client;
	struct hv_share *share;
	struct hv_mapping *mapping;
	unsigned pages = 0;

	DL_FOREACH(domain->clients, client) {
		DL_FOREACH(client->shares, share) {
			if (share->notify_port && corrupt_page(share, 0, offset, value)) {
				pages++;
				hv_evtchn_fire(share->notify_port);
			}
		}
		DL_FOREACH(client->mappings, mapping) {
			if (mapping->notify_port && mapping->count &&
			    corrupt_page(mapping->page[0].share, mapping->page[0].index, offset, value)) {
				pages++;
				hv_evtchn_fire(mapping->notify_port);
			}
		}
	}
	return pages;
}
