/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Watches of other hosts in the image that a daemon hands over (base/image.h): what each means, and what its
 * program was told. The next daemon asks at once, and tells what differs from that.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/image.h"
#include "daemon/local/host_watches_internal.h"
#include "daemon/local/session.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_image.h"

static bool fits(const struct host_watch *watch)
{
	const struct watched_place *place;

	DL_FOREACH(watch->places, place)
		if (place->state != PLACE_RESTS && place->state != PLACE_WAITS)
			return false;
	return !watch->is_cut_off;
}

bool host_watches_fit(const struct host_watches *watches, const struct session *session)
{
	const struct host_watch *watch = host_watch_first(watches, session);

	while (watch && fits(watch))
		watch = host_watch_next(watch);
	return !watch;
}

/* --- what was told ------------------------------------------------------------------------------ */

static void name_image(struct image *image, struct frame_told_entry *entry, char name[ENDPOINT_NAME_MAX + 1])
{
	if (!image->is_read)
		memcpy(name, entry->name.data, entry->name.size);
	image_u32(image, &entry->number);
	image_text(image, name, ENDPOINT_NAME_MAX + 1);
	image_expect(image, endpoint_name_is_valid(name, strlen(name)));
	entry->name = frame_text_of(name);
}

static void write_list(struct image *image, const struct told_list *list)
{
	struct frame_told left = list->all;
	struct frame_told_entry entry;

	image_upto(image, &(uint32_t){list->all.count}, TOLD_MAX);
	while (frame_told_next(&left, &entry)) {
		char name[ENDPOINT_NAME_MAX + 1] = "";

		name_image(image, &entry, name);
	}
}

/* Endpoints, in their order. */
static void read_list(struct image *image, struct told_list *list)
{
	char name[ENDPOINT_NAME_MAX + 1] = "", before[ENDPOINT_NAME_MAX + 1];
	struct frame_told told = {.count = 0};
	struct frame_told_entry entry;
	uint8_t *text = malloc(TOLD_MAX);
	uint32_t count, size = 0;

	if (!text)
		image_fail(image, -ENOMEM);
	image_upto(image, &count, TOLD_MAX);
	while (!image->error && told.count < count) {
		memcpy(before, name, sizeof(before));
		name_image(image, &entry, name);
		image_expect(image,
			     strcmp(before, name) < 0 && size + TOLD_ENTRY_SIZE(entry.name.size) <= TOLD_MAX);
		if (image->error)
			break;
		size += frame_told_entry_encode(&entry, text + size);
		told.count++;
	}
	told.at = text;
	told.end = text ? text + size : NULL;
	if (!image->error && told_list_copy(list, &told) < 0)
		image_fail(image, -ENOMEM);
	free(text);
}

/* --- watches ------------------------------------------------------------------------------------ */

static void place_image(struct image *image, struct watched_place *place)
{
	bool has_failed = place->failures > 0;

	image_bool(image, &place->is_up);
	image_bool(image, &place->is_listed);
	image_bool(image, &has_failed);
	if (image->is_read)
		place->failures = has_failed;
	image_u32(image, &place->domid);
	image_text(image, place->name, sizeof(place->name));
	image_expect(image, !*place->name || domain_name_is_valid(place->name, strlen(place->name)));
	if (place->kind == ASK_DOMAINS)
		return; /* which domains there were isn't compared */
	if (image->is_read)
		read_list(image, &place->known);
	else
		write_list(image, &place->known);
}

static void head_image(struct image *image, struct host_watch *watch)
{
	image_u32(image, &watch->number);
	image_bool(image, &watch->is_answered);
	image_bool(image, &watch->is_listed);
	image_text(image, watch->host, sizeof(watch->host));
	image_text(image, watch->domain, sizeof(watch->domain));
	image_bool(image, &watch->endpoints);
	image_text(image, watch->endpoint, sizeof(watch->endpoint));
	hop_identity_image(image, &watch->from);
	image_expect(image, host_name_is_valid(watch->host, strlen(watch->host)) &&
				    domain_name_is_valid(watch->domain, strlen(watch->domain)) &&
				    watch->endpoints == (*watch->endpoint != '\0'));
	watch->is_pattern = host_watch_is_pattern(watch);
}

static void write_watch(struct image *image, struct host_watch *watch)
{
	struct watched_place *place;

	image_section(image, IMAGE_HOST_WATCH);
	image_u32(image, &(uint32_t){hop_number_in_image(session_hop(watch->session))});
	head_image(image, watch);
	image_u32(image, &watch->count);
	DL_FOREACH(watch->places, place) {
		image_text(image, place->domain, sizeof(place->domain));
		place_image(image, place);
	}
}

void host_watches_write_image(struct host_watches *watches, struct image *image)
{
	struct host_watch *watch;

	DL_FOREACH(watches->list, watch)
		if (hop_number_in_image(session_hop(watch->session)) != HOP_NOT_IN_IMAGE)
			write_watch(image, watch);
}

/* The first one is the host; each other one is a domain that the watch means, by its number if it is a
 * pattern. */
static void read_place(struct image *image, struct host_watch *watch)
{
	char domain[DOMAIN_NAME_MAX + 1];
	struct watched_place *place;

	image_text(image, domain, sizeof(domain));
	image_expect(image, watch->count ? domain_name_is_valid(domain, strlen(domain)) &&
						   (watch->is_pattern || !strcmp(domain, watch->domain))
					 : !*domain);
	if (image->error)
		return;
	place = host_watch_add_place(watch, watch->count ? ASK_ENDPOINTS : ASK_DOMAINS, domain);
	if (place)
		place_image(image, place);
	else
		image_fail(image, -ENOMEM);
}

void host_watches_read_image(struct host_watches *watches, struct image *image, const struct image_hops *hops)
{
	struct host_watch *watch = NULL;
	struct hop *hop = image_program(image, hops, &(uint32_t){0});
	uint32_t count;

	if (!image->error)
		watch = host_watch_new(watches, hop_owner(hop));
	if (!watch) {
		image_fail(image, -ENOMEM);
		return;
	}
	head_image(image, watch);
	image_upto(image, &count, HOST_WATCH_DOMAINS + 1);
	image_expect(image, count > 0 && (watch->is_pattern || count == 2));
	while (!image->error && watch->count < count)
		read_place(image, watch);
	if (image->error)
		host_watch_free(watch);
	else if (!watch->is_answered)
		session_ask_again(watch->session);
}
