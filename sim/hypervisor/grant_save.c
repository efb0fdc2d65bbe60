/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a save makes of the pages that a domain has granted: at which moment each is copied, and what of it is
 * in the image. */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

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
static bool grant_save_is_outdated(const struct hv_share *share, uint32_t index)
{
	return share->page[index].dirty || !share->writable || share->page[index].maps == 0;
}

static int make_image_of(struct hv_share *share, bool live)
{
	uint8_t *pages = read_pages(share);
	int r = pages ? 0 : -ENOMEM;

	for (uint32_t i = 0; pages && share->copy && i < share->count; i++)
		if (!live || !grant_save_is_outdated(share, i))
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
