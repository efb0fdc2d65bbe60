/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/peers_told.h"

#include <errno.h>

#include "base/image.h"
#include "base/timer.h"
#include "daemon/peers/peers_advertise.h"
#include "daemon/peers/peers_internal.h"
#include "daemon/peers/peers_presence.h"

static int watch_all(struct peers *peers)
{
	if (peers->all_watch)
		return 0;
	peers->all_fired = false;
	return store_watch_needed(peers->store, "/local/domain", presence_on_change, peers,
				  presence_on_watched, &peers->all_watch);
}

/* Half of the time that others wait for our answer to what we can't see before. */
static uint32_t wait_ms(const struct peers *peers)
{
	return peers->options.setup_timeout_ms / 2;
}

bool told_is_awaited(const struct peers *peers)
{
	return evtimer_pending(peers->told_deadline.timer, NULL);
}

void told_check(struct peers *peers)
{
	const struct peer *zero = peer_find(peers, 0);
	bool looked = zero && (zero->looked & LEAVES_LOOKED_UP) == LEAVES_LOOKED_UP;
	bool will_tell = looked && zero->up && zero->presence[0];
	int r;

	if (!looked && told_is_awaited(peers))
		return;
	if (!peers->told && (!told_is_awaited(peers) || !will_tell)) {
		evtimer_del(peers->told_deadline.timer);
		r = watch_all(peers);
		if (r < 0)
			presence_on_watched(peers, r, NULL, 0);
	}
	if (!peers->hears) {
		peers->hears = true;
		advertise_presence(peers);
	}
}

static void peers_told_on_late(evutil_socket_t fd, short what, void *userdata)
{
	told_check(userdata);
}

void peers_told(struct peers *peers, bool told)
{
	struct peer *peer;

	if (!peers->options.told || !peers->told_deadline.timer || told == peers->told)
		return;
	peers->told = told;
	evtimer_del(peers->told_deadline.timer); /* from now on nobody need be waited for */
	if (told)
		store_unwatch(peers->store, &peers->all_watch);
	for (peer = peers->peers; peer; peer = peer->hh.next) {
		presence_watch_leaf(peer);
		if (!told && !peer->advertised) /* it was left out, since domain 0 could tell of us */
			advertise_soon(peer);
	}
	told_check(peers);
}

int told_watch(struct peers *peers)
{
	int r;

	peers->hears = !peers->options.told;
	if (peers->hears)
		return watch_all(peers);
	if (!told_is_awaited(peers))
		deadline_set(&peers->told_deadline, wait_ms(peers));
	r = store_watch_needed(peers->store, "/local/domain/0/data/xenmsg", presence_on_change, peers,
			       presence_on_watched, &peers->zero_watch);
	return r;
}

void told_image(struct image *image, struct peers *peers)
{
	uint32_t left = 0;

	if (!image->is_read && (peers->told || told_is_awaited(peers)))
		left = peers->told ? wait_ms(peers) : deadline_left(&peers->told_deadline, 0);
	image_u32(image, &left);
	if (image->is_read && told_is_awaited(peers) && left < deadline_left(&peers->told_deadline, 0))
		deadline_set(&peers->told_deadline, left);
}

int told_init(struct peers *peers)
{
	peers->told_deadline.timer = evtimer_new(peers->base, peers_told_on_late, peers);
	return peers->told_deadline.timer ? 0 : -ENOMEM;
}

void told_destroy(struct peers *peers)
{
	store_unwatch(peers->store, &peers->all_watch);
	store_unwatch(peers->store, &peers->zero_watch);
	free_event(peers->told_deadline.timer);
}
