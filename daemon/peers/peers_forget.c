/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/peers_forget.h"

#include <errno.h>

#include "base/timer.h"
#include "daemon/peers/peers_advertise.h"
#include "daemon/peers/peers_internal.h"
#include "daemon/peers/peers_presence.h"

#define HOLD_MS 3000 /* the peer's daemon answers within that */

/* Whether something here has to do with the peer now. */
static bool peers_forget_is_needed(const struct peer *peer)
{
	const struct peers *peers = peer->peers;

	return peers->all || peer->domid == 0 || peer->asked || peer->rendezvous.wanted ||
	       peer->rendezvous.state != RENDEZVOUS_IDLE ||
	       (peers->options.presence_private && peer->allowed);
}

void forget_later(struct peer *peer)
{
	peer->used = true;
	if (peer->peers->options.forget_ms && !peer->peers->options.domains && peer->domid != 0)
		timer_start(peer->peers->forget, peer->peers->options.forget_ms);
}

void forget_not(struct peer *peer)
{
	peer->used = peer->is_ours = true;
}

/* Finds those that weren't used since the last time. */
static void peers_on_forget(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;

	for (struct peer *peer = peers->peers; peer; peer = peer->hh.next) {
		bool is_used = peers_forget_is_needed(peer);

		if (peer->domid != 0)
			timer_start(peers->forget, peers->options.forget_ms);
		if (!is_used && !peer->used) {
			peer->is_idle = true;
			task_due(&peer->task);
		}
		peer->used = is_used;
	}
}

void forget_if_idle(struct peer *peer)
{
	bool is_idle = peer->is_idle;

	peer->is_idle = false;
	if (is_idle && peer->up && !peer->used && !peers_forget_is_needed(peer) && peer->presence[0] &&
	    !peer->hello_seen && (peer->is_ours || !peer->endpoints_seen))
		presence_forget(peer);
}

static void on_held(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;

	for (struct peer *peer = peers->peers; peer; peer = peer->hh.next) {
		if (peer->is_held)
			peer_read(peer, LEAF_ENDPOINTS);
		peer->is_held = false;
	}
}

bool forget_was_forgotten(struct peer *peer)
{
	struct peers *peers = peer->peers;

	if (!peer->up || peers->options.domains || !peer->presence[0] || peer->hello_seen)
		return false;
	if (!peers_forget_is_needed(peer)) {
		presence_forget(peer);
		return true;
	}
	peer->is_held = true;
	timer_start(peers->forget_held, HOLD_MS);
	peer->answer = true; /* even an empty leaf tells it that we are here */
	advertise_anew(peer);
	advertise_soon(peer);
	return true;
}

int forget_init(struct peers *peers)
{
	peers->forget = evtimer_new(peers->base, peers_on_forget, peers);
	peers->forget_held = evtimer_new(peers->base, on_held, peers);
	return peers->forget && peers->forget_held ? 0 : -ENOMEM;
}

void forget_destroy(struct peers *peers)
{
	free_event(peers->forget);
	free_event(peers->forget_held);
}
