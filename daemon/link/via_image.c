/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What waits for the HELLO of a daemon that is to take it, in the image that a daemon hands over
 * (base/image.h). The next daemon wants the link anew. */

#include <errno.h>

#include "base/image.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/link/via_internal.h"
#include "daemon/relay/hop_image.h"

void via_hand_over(struct via *via)
{
	struct waiting_room *room, *next;

	links_ping_cancel(via->links, via);
	HASH_ITER(hh, via->rooms, room, next) {
		hop_set_image_number(&room->hop, room->peer.kind != PEER_NOBODYS ? 0 : HOP_NOT_IN_IMAGE);
		room->asked = false;
	}
}

void via_number_for_image(struct via *via, uint32_t first)
{
	struct waiting_room *room, *next;

	HASH_ITER(hh, via->rooms, room, next)
		if (hop_number_in_image(&room->hop) != HOP_NOT_IN_IMAGE)
			hop_set_image_number(&room->hop, first++);
}

void via_write_image(struct via *via, struct image *image)
{
	struct waiting_room *room, *next;

	HASH_ITER(hh, via->rooms, room, next) {
		bool is_host = peer_is_host(room->peer);

		if (hop_number_in_image(&room->hop) == HOP_NOT_IN_IMAGE)
			continue;
		image_section(image, IMAGE_WAITING);
		image_bool(image, &is_host);
		image_u32(image, &room->peer.number);
		hop_inner_image(image, &room->hop);
	}
}

void via_write_channels(struct via *via, struct image *image)
{
	struct waiting_room *room, *next;

	HASH_ITER(hh, via->rooms, room, next)
		if (hop_number_in_image(&room->hop) != HOP_NOT_IN_IMAGE)
			hop_write_channels(image, &room->hop);
}

void via_read_room(struct via *via, struct image *image, struct image_hops *hops)
{
	struct waiting_room *room;
	struct peer_id peer;
	bool is_host;
	uint32_t number;

	image_bool(image, &is_host);
	image_u32(image, &number);
	peer = is_host ? peer_host(number) : peer_domain(number);
	image_expect(image, (is_host ? *hosts_name(via->with.hosts, number) : domid_is_valid(number)) &&
				    !via_find_room(via, peer));
	if (image->error)
		return;
	room = via_get_room(via, peer);
	if (!room) {
		image_fail(image, -ENOMEM);
		return;
	}
	hop_inner_image(image, &room->hop);
	if (!image->error && image_hops_add(hops, &room->hop) < 0)
		image_fail(image, -ENOMEM);
	if (image->error)
		via_free_room(room);
}

void via_go_on(struct via *via)
{
	struct waiting_room *room, *next;

	HASH_ITER(hh, via->rooms, room, next)
		if (!room->asked)
			task_due(&room->leading);
}

void via_drop_image(struct via *via)
{
	struct waiting_room *room, *next;

	HASH_ITER(hh, via->rooms, room, next) {
		hop_reset_channels(&room->hop, ECONNRESET);
		via_free_room(room);
	}
}
