/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Watches, as they are handed over to the next daemon. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/image.h"
#include "daemon/local/session.h"
#include "daemon/local/watches_internal.h"
#include "daemon/relay/hop.h"
#include "daemon/relay/hop_image.h"

static void watch_image(struct image *image, uint32_t *session, struct watch *watch)
{
	image_u32(image, session);
	image_u32(image, &watch->number);
	image_text(image, watch->domain, sizeof(watch->domain));
	image_text(image, watch->endpoint, sizeof(watch->endpoint));
	image_bool(image, &watch->endpoints);
	image_expect(image, watch->domain[0] && (!watch->endpoints || watch->endpoint[0]));
}

void watches_write_image(const struct watches *watches, struct image *image)
{
	const struct watcher *watcher;
	struct watch *watch;

	for (watcher = watches->watchers; watcher; watcher = watcher->hh.next) {
		uint32_t session = hop_number_in_image(session_hop(watcher->session));

		DL_FOREACH(watcher->list, watch) {
			image_section(image, IMAGE_WATCH);
			watch_image(image, &session, watch);
		}
	}
}

void watches_read_image(struct watches *watches, struct image *image, const struct image_hops *hops)
{
	struct watch *watch = calloc(1, sizeof(*watch)), *same = NULL;
	struct watcher *watcher;
	uint32_t session;

	if (!watch) {
		image_fail(image, -ENOMEM);
		return;
	}
	watch_image(image, &session, watch);
	image_expect(image, session < hops->sessions);
	watcher = image->error ? NULL : watcher_get(watches, hop_owner(hops->hops[session]));
	if (watcher)
		DL_SEARCH_SCALAR(watcher->list, same, number, watch->number);
	image_expect(image, watcher && !same && watcher->count < WATCHES_PER_SESSION);
	if (image->error) {
		free(watch);
		return;
	}
	watch->domain_size = strlen(watch->domain);
	watch->endpoint_size = strlen(watch->endpoint);
	watcher_add(watcher, watch);
}
