/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/integration/hostile_peer.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xengnttab.h>
#include <xenstore.h>

#define RING_PAGES_MAX 512
#define PAGE	       4096

/* The rings that the nodes lead to. False: there are none (any more). */
static bool map_all(xengnttab_handle *gnttab, const struct link *link, uint32_t ref, bool lies)
{
	struct vchan_interface *page =
		xengnttab_map_grant_ref(gnttab, link->peer, ref, PROT_READ | PROT_WRITE);
	uint32_t refs[RING_PAGES_MAX], pages = 0;

	if (!page)
		return false;
	for (int i = 0; i < 2; i++) {
		unsigned order = i ? page->right_order : page->left_order;

		pages += order > 11 && order <= 20 ? 1u << (order - 12) : 0;
	}
	memcpy(refs, page->grants, sizeof(refs));
	if (pages && !xengnttab_map_domain_grant_refs(gnttab, pages, link->peer, refs, PROT_READ))
		return false;
	if (lies)
		page->cli_live = 0;
	return true;
}

static bool input_ended(int timeout)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};

	return poll(&input, 1, timeout) > 0;
}

static uint32_t number_at(const struct link *link, const char *path)
{
	char *value = xs_read(link->xs, XBT_NULL, path, NULL);
	uint32_t number = value ? (uint32_t)strtoul(value, NULL, 10) : 0;

	free(value);
	return number;
}

static void hoard(struct link *link, xengnttab_handle *gnttab, bool lies)
{
	unsigned rounds = 0;

	for (uint32_t nonce = 1; !input_ended(0); nonce++) {
		char path[128];
		uint32_t ref = 0;

		link_say_hello(link, nonce);
		snprintf(path, sizeof(path), "/local/domain/%u/data/xenmsg/to/%u/%08x/ring-ref", link->peer,
			 link->me, nonce);
		for (int i = 0; i < 2000 && !ref; i++) {
			ref = number_at(link, path);
			if (!ref && input_ended(5))
				return;
		}
		/* Without nodes it wants no more of us for now: it may with the next nonce. */
		if (ref && map_all(gnttab, link, ref, lies) && ++rounds % 50 == 0) {
			printf("KEPT %u\n", rounds);
			fflush(stdout);
		}
	}
}

int link_hoard(struct link *link, bool lies)
{
	xengnttab_handle *gnttab = xengnttab_open(NULL, 0);

	if (!gnttab)
		return 1;
	hoard(link, gnttab, lies);
	xengnttab_close(gnttab);
	return 0;
}
