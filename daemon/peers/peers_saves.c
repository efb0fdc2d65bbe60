/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/peers_saves.h"

#include <stdio.h>
#include <string.h>

#include "base/timer.h"
#include "daemon/peers/peers_internal.h"

#define HOLD_MS                                                                                              \
	500 /* some times as long as it took a guest to stop; then it goes on, or its save takes long */

static void peers_saves_on_change(void *userdata, const char *untrusted_path)
{
	peer_read(userdata, LEAF_SHUTDOWN);
}

static void peers_saves_on_watched(void *userdata, int error, const char *value, size_t size)
{
	if (error < 0)
		log_limited(LOG_STORE, LOG_BY_US, LOG_LEVEL_WARNING,
			    "peers: can't watch whether a guest is saved: %s", strerror(-error));
}

void saves_watch(struct peer *peer)
{
	struct peers *peers = peer->peers;
	char path[64];
	int r;

	if (!peers->options.domains || peer->saves.watch)
		return;
	snprintf(path, sizeof(path), "/local/domain/%u/control/shutdown", peer->domid);
	/* It fires when it is set, too. */
	r = store_watch(peers->store, path, peers_saves_on_change, peer, peers_saves_on_watched,
			&peer->saves.watch);
	if (r < 0)
		peers_saves_on_watched(peers, r, NULL, 0);
}

static void peers_saves_on_over(evutil_socket_t fd, short what, void *userdata)
{
	struct peer *peer = userdata;

	peer->saves.is_held = false;
	peer_kick(peer);
}

void saves_take(struct peer *peer, const char *untrusted_value, size_t size)
{
	struct peers *peers = peer->peers;
	struct saves *saves = &peer->saves;
	bool suspend = untrusted_value && size == 7 && !memcmp(untrusted_value, "suspend", 7),
	     acknowledged = untrusted_value && size == 0,
	     /* The kernel may have been quicker than we. */
		is_saved = saves->was_read && (suspend || (acknowledged && !saves->is_other));

	saves->was_read = true;
	saves->is_other = untrusted_value && !suspend && !acknowledged; /* poweroff, for example */
	if (!is_saved || saves->is_held || peer->rendezvous.state != RENDEZVOUS_CONNECTED)
		return;
	if (!saves->over)
		saves->over = evtimer_new(peers->base, peers_saves_on_over, peer);
	if (!saves->over || timer_set(saves->over, HOLD_MS) < 0)
		return;
	saves->is_held = true;
	if (peers->callbacks.saved)
		peers->callbacks.saved(peers->userdata, peer->domid);
}

void saves_destroy(struct peer *peer)
{
	store_unwatch(peer->peers->store, &peer->saves.watch);
	free_event(peer->saves.over);
}
