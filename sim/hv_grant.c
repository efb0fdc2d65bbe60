/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "sim/hv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utlist.h>

/* References wrap late, so that a stale one leads nowhere for long. */
#define LAST_REF (1u << 20)

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

static bool refused(uint32_t *fault)
{
	if (*fault == 0)
		return false;
	if (*fault != UINT32_MAX)
		--*fault;
	return true;
}

static void drop_ref(struct hv_share *share, uint32_t index)
{
	struct hv_ref *ref;

	if (!share->page[index].ref || !share->domain)
		return;
	HASH_FIND(hh, share->domain->refs, &share->page[index].ref, sizeof(uint32_t), ref);
	if (ref) {
		HASH_DEL(share->domain->refs, ref);
		free(ref);
	}
	share->page[index].ref = 0;
	if (--share->refs == 0)
		share->domain = NULL;
}

/* Ends the references to pages that aren't mapped. Mapped ones stay granted until they are unmapped, like the
 * kernel's deferred end of foreign access. */
static void drop_unmapped_refs(struct hv_share *share)
{
	for (uint32_t i = 0; i < share->count; i++)
		if (share->page[i].maps == 0)
			drop_ref(share, i);
}

static void share_free(struct hv_share *share)
{
	for (uint32_t i = 0; i < share->count; i++)
		drop_ref(share, i);
	free(share->copy);
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

static int add_ref(struct hv_domain *domain, struct hv_share *share, uint32_t index)
{
	struct hv_ref *ref = malloc(sizeof(*ref)), *taken;

	if (!ref)
		return -ENOMEM;
	do {
		if (domain->next_ref < SIM_FIRST_REF || domain->next_ref >= LAST_REF)
			domain->next_ref = SIM_FIRST_REF;
		ref->ref = domain->next_ref++;
		HASH_FIND(hh, domain->refs, &ref->ref, sizeof(uint32_t), taken);
	} while (taken);
	ref->share = share;
	ref->index = index;
	HASH_ADD(hh, domain->refs, ref, sizeof(uint32_t), ref);
	share->page[index].ref = ref->ref;
	share->refs++;
	return 0;
}

static int share_make_pages(struct hv_share *share)
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

static int check_notify(struct hv_client *client, const struct sim_request *request, struct hv_port **port)
{
	*port = NULL;
	if (request->notify_port == SIM_NO_NOTIFY)
		return 0;
	*port = hv_evtchn_hold(client->domain, request->notify_port);
	return *port ? 0 : -EINVAL;
}

int hv_grant_share(struct hv_client *client, const struct sim_request *request, struct sim_reply *reply,
		   int *fd)
{
	struct hv_domain *domain = client->domain;
	struct hv_share *share;
	int r;

	if (request->count == 0 || request->count > SIM_MAX_SHARE ||
	    request->domid >= HV_FIRST_RESERVED_DOMID)
		return -EINVAL;
	if (refused(&domain->refuse_grants) || domain->shared_pages + request->count > hv_grant_limit(domain))
		return -ENOSPC;
	share = calloc(1, sizeof(*share) + request->count * sizeof(share->page[0]));
	if (!share)
		return -ENOMEM;
	share->fd = share->fd_read_only = -1;
	share->count = request->count;
	share->granted_domid = request->domid;
	share->writable = request->writable != 0;
	share->notify_offset = request->notify_offset;
	share->domain = domain;
	share->owner = client;
	share->id = ++client->next_id;

	r = share_make_pages(share);
	for (uint32_t i = 0; r == 0 && i < share->count; i++)
		r = add_ref(domain, share, i);
	if (r == 0)
		r = check_notify(client, request, &share->notify_port);
	if (r < 0) {
		share_free(share);
		return r;
	}
	DL_APPEND(client->shares, share);
	domain->shared_pages += share->count;
	reply->id = share->id;
	reply->count = share->count;
	for (uint32_t i = 0; i < share->count; i++)
		reply->values[i] = share->page[i].ref;
	*fd = share->fd;
	return 0;
}

static void clear_byte(const struct hv_share *share, uint32_t index, uint32_t offset)
{
	const char zero = 0;

	if (offset != SIM_NO_NOTIFY && offset < SIM_PAGE_SIZE &&
	    pwrite(share->fd, &zero, 1, (off_t)index * SIM_PAGE_SIZE + offset) != 1 && share->domain)
		hv_log(share->domain->hv, "clearing a live byte failed: %m");
}

/* Ends the owner's mapping of the share. */
static void share_end(struct hv_share *share, bool silent)
{
	/* Linux clears it in the owner's page, which after a restore isn't any more what others have mapped. */
	if (!silent)
		clear_byte(share, share->is_restored ? share->count : 0, share->notify_offset);
	if (share->notify_port)
		hv_evtchn_release(share->notify_port, !silent);
	share->notify_port = NULL;
	share->owner->domain->shared_pages -= share->count;
	DL_DELETE(share->owner->shares, share);
	share->owner = NULL;
	if (share->mapped == 0)
		share_free(share);
	else
		drop_unmapped_refs(share);
}

int hv_grant_unshare(struct hv_client *client, uint32_t id)
{
	struct hv_share *share = find_share(client, id);

	if (!share)
		return -EINVAL;
	share_end(share, false);
	return 0;
}

/* Xen refuses a reference that doesn't exist, is another domain's, which XSM forbids, or is read-only: gntdev answers EINVAL to
 * all of these. */
static int find_page(struct hv_client *client, uint32_t domid, uint32_t number, bool writable,
		     struct hv_mapped *page)
{
	struct hv_domain *granter = hv_domain_by_id(client->domain->hv, domid);
	struct hv_ref *ref = NULL;

	if (granter)
		HASH_FIND(hh, granter->refs, &number, sizeof(number), ref);
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

static unsigned fd_index(int *fds, unsigned *fd_count, int fd)
{
	unsigned i;

	for (i = 0; i < *fd_count; i++)
		if (fds[i] == fd)
			return i;
	fds[(*fd_count)++] = fd;
	return i;
}

int hv_grant_map(struct hv_client *client, const struct sim_request *request, struct sim_reply *reply,
		 int *fds, unsigned *fd_count)
{
	struct hv_mapping *mapping;
	int r = 0;

	if (request->count == 0 || request->count > SIM_MAX_MAP || refused(&client->domain->refuse_maps))
		return -EINVAL;
	mapping = calloc(1, sizeof(*mapping) + request->count * sizeof(mapping->page[0]));
	if (!mapping)
		return -ENOMEM;
	for (uint32_t i = 0; r == 0 && i < request->count; i++)
		r = find_page(client, request->refs[2 * i], request->refs[2 * i + 1], request->writable != 0,
			      &mapping->page[i]);
	if (r == 0)
		r = check_notify(client, request, &mapping->notify_port);
	if (r < 0) {
		free(mapping);
		return r;
	}
	mapping->id = ++client->next_id;
	mapping->count = request->count;
	mapping->notify_offset = request->notify_offset;
	for (uint32_t i = 0; i < mapping->count; i++) {
		struct hv_mapped *page = &mapping->page[i];

		count_map(client, page, 1);
		reply->values[2 * i] = fd_index(
			fds, fd_count, page->share->writable ? page->share->fd : page->share->fd_read_only);
		reply->values[2 * i + 1] = page->index;
	}
	DL_APPEND(client->mappings, mapping);
	reply->id = mapping->id;
	reply->count = mapping->count;
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
		if (!share->owner && share->mapped == 0)
			share_free(share);
		else if (!share->owner || (granter && granter->state == HV_ZOMBIE))
			drop_unmapped_refs(share);
		if (granter)
			hv_domain_reap(granter);
	}
	mapping->count = 0;
}

static void mapping_end(struct hv_client *client, struct hv_mapping *mapping, bool silent)
{
	if (!silent && mapping->count)
		clear_byte(mapping->page[0].share, mapping->page[0].index, mapping->notify_offset);
	if (mapping->notify_port)
		hv_evtchn_release(mapping->notify_port, !silent);
	unmap_pages(client, mapping);
	DL_DELETE(client->mappings, mapping);
	free(mapping);
}

int hv_grant_unmap(struct hv_client *client, uint32_t id)
{
	struct hv_mapping *mapping;

	DL_FOREACH(client->mappings, mapping)
		if (mapping->id == id)
			break;
	if (!mapping)
		return -EINVAL;
	mapping_end(client, mapping, false);
	return 0;
}

void hv_grant_client_gone(struct hv_client *client, bool silent)
{
	while (client->mappings)
		mapping_end(client, client->mappings, silent);
	while (client->shares)
		share_end(client->shares, silent);
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

/* --- a save ----------------------------------------------------------------------------------- */

static size_t share_bytes(const struct hv_share *share)
{
	return (size_t)share->count * SIM_PAGE_SIZE;
}

static uint8_t *read_pages(const struct hv_share *share)
{
	uint8_t *pages = malloc(share_bytes(share));

	if (pages && pread(share->fd, pages, share_bytes(share), 0) == (ssize_t)share_bytes(share))
		return pages;
	free(pages);
	return NULL;
}

/* Returns the next number, the same for the same seed on every machine (xorshift). */
static uint32_t next_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* Half of the pages are copied at the first moment, the others at any later one; a quarter of those that
 * aren't copied at the last one are torn, at a multiple of 64 bytes. */
static void choose_moment(struct hv_page *page, uint32_t random)
{
	page->moment = random % 2 ? 0 : 1 + random / 2 % (HV_MOMENTS - 1);
	page->torn = page->moment + 1 < HV_MOMENTS && random / 64 % 4 == 0
			     ? 64 * (1 + random / 256 % (SIM_PAGE_SIZE / 64 - 1))
			     : 0;
	page->dirty = false;
}

int hv_grant_copy_begin(struct hv_domain *domain, uint32_t seed)
{
	uint32_t random = seed * 2654435761u | 1;
	struct hv_client *client;
	struct hv_share *share;

	DL_FOREACH(domain->clients, client) {
		DL_FOREACH(client->shares, share) {
			/* What was granted before an earlier save is nobody's but the domain's. */
			if (share->domain != domain)
				continue;
			share->copy = malloc(share_bytes(share));
			if (!share->copy)
				return -ENOMEM;
			for (uint32_t i = 0; i < share->count; i++)
				choose_moment(&share->page[i], next_random(&random));
		}
	}
	return 0;
}

static int copy_part(const struct hv_share *share, uint32_t page, uint32_t from, uint32_t to)
{
	size_t offset = (size_t)page * SIM_PAGE_SIZE + from;

	return pread(share->fd, share->copy + offset, to - from, (off_t)offset) == (ssize_t)(to - from)
		       ? 0
		       : -EIO;
}

int hv_grant_copy(struct hv_domain *domain, uint32_t moment)
{
	struct hv_client *client;
	struct hv_share *share;
	int r = 0;

	DL_FOREACH(domain->clients, client) {
		DL_FOREACH(client->shares, share) {
			for (uint32_t i = 0; r == 0 && share->copy && i < share->count; i++) {
				const struct hv_page *page = &share->page[i];

				if (page->moment == moment)
					r = copy_part(share, i, page->torn, SIM_PAGE_SIZE);
				else if (page->torn && page->moment + 1 == moment)
					r = copy_part(share, i, 0, page->torn);
			}
		}
	}
	return r;
}

static uint32_t le16_at(const uint8_t *bytes)
{
	return bytes[0] | (uint32_t)bytes[1] << 8;
}

/* Returns whether the server has written its fields of a vchan's first page since it was copied: the
 * consumer index of "left", the producer index of "right", its live byte, or a bit that it shares with the
 * client. */
static bool first_page_has_changed(const uint8_t *copy, const uint8_t *now)
{
	return memcmp(copy, now, 4) != 0 || memcmp(copy + 12, now + 12, 4) != 0 ||
	       memcmp(copy + 21, now + 21, 3) != 0;
}

/*
 * Marks the pages of a vchan that the domain itself has written. Xen copies a page once more if the domain
 * wrote to it, not if others did through their mapping. A vchan's first page tells who writes where
 * (xen/io/libxenvchan.h): both write to that page, the client to the ring "left", whose pages come first, and
 * the server, which grants, to "right".
 */
static void mark_ring_pages(struct hv_domain *domain, struct hv_share *share, const uint8_t *first)
{
	uint32_t left = le16_at(first + 16), right = le16_at(first + 18), number;
	struct hv_ref *ref;

	if (first_page_has_changed(share->copy, first))
		share->page[0].dirty = true;
	left = left >= 12 && left <= 20 ? 1u << (left - 12) : 0;
	right = right >= 12 && right <= 20 ? 1u << (right - 12) : 0;
	for (uint32_t i = left; i < left + right && 24 + 4 * i + 4 <= SIM_PAGE_SIZE; i++) {
		memcpy(&number, first + 24 + 4 * i, sizeof(number));
		HASH_FIND(hh, domain->refs, &number, sizeof(number), ref);
		if (ref)
			ref->share->page[ref->index].dirty = true;
	}
}

/* Of a page that nobody else can write, the domain's own writes are all that there is. */
static bool is_outdated(const struct hv_share *share, uint32_t index)
{
	return share->page[index].dirty || !share->writable || share->page[index].maps == 0;
}

static int make_image_of(struct hv_share *share, bool live)
{
	uint8_t *pages = read_pages(share);
	int r = pages ? 0 : -ENOMEM;

	for (uint32_t i = 0; pages && share->copy && i < share->count; i++)
		if (!live || !is_outdated(share, i))
			memcpy(pages + (size_t)i * SIM_PAGE_SIZE, share->copy + (size_t)i * SIM_PAGE_SIZE,
			       SIM_PAGE_SIZE);
	if (r == 0 && (ftruncate(share->fd, 2 * (off_t)share_bytes(share)) < 0 ||
		       pwrite(share->fd, pages, share_bytes(share), (off_t)share_bytes(share)) !=
			       (ssize_t)share_bytes(share)))
		r = -EIO;
	free(pages);
	share->is_restored = r == 0;
	return r;
}

static int mark_vchan(struct hv_domain *domain, struct hv_share *share)
{
	uint8_t *pages = read_pages(share);

	if (!pages)
		return -ENOMEM;
	mark_ring_pages(domain, share, pages);
	free(pages);
	return 0;
}

int hv_grant_make_image(struct hv_domain *domain, bool live)
{
	struct hv_client *client;
	struct hv_share *share;
	int r = 0;

	DL_FOREACH(domain->clients, client)
		DL_FOREACH(client->shares, share)
			if (r == 0 && live && share->copy && share->notify_port)
				r = mark_vchan(domain, share);
	DL_FOREACH(domain->clients, client)
		DL_FOREACH(client->shares, share)
			if (r == 0 && share->domain == domain)
				r = make_image_of(share, live);
	return r;
}

void hv_grant_copy_end(struct hv_domain *domain)
{
	struct hv_client *client;
	struct hv_share *share;

	DL_FOREACH(domain->clients, client) {
		DL_FOREACH(client->shares, share) {
			free(share->copy);
			share->copy = NULL;
		}
	}
}

uint32_t hv_grant_mapped_pages(const struct hv_client *client)
{
	const struct hv_mapping *mapping;
	uint32_t pages = 0;

	DL_FOREACH(client->mappings, mapping)
		pages += mapping->count;
	return pages;
}

void hv_grant_domid_dies(struct hv_domain *domain)
{
	struct hv_ref *ref, *next;

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

	HASH_ITER(hh, domain->refs, ref, next)
		drop_ref(ref->share, ref->index);
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
