/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The rings of an attempt: this end grants them and publishes where they are, or finds where the other end
 * has published its own, and maps them.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/peers/peers_internal.h"
#include "base/timer.h"
#include "wire/retry.h"
#include "wire/ut.h"

#define NODE_RETRY_MS 50
#define NODE_RETRIES  60 /* for longer than the one that had this port bound before keeps it */

void rendezvous_unpublish(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	char rest[PEERS_NONCE_SIZE + 1];

	if (rendezvous->state != RENDEZVOUS_GRANTED)
		return;
	store_cancel(&rendezvous->publish_request);
	snprintf(rest, sizeof(rest), "/%s", rendezvous->tried_nonce);
	peer_remove_ours(peer, rest);
}

/* --- guests that are saved -------------------------------------------------------------------- */

/*
 * In domain 0: guests that are about to be saved or migrated. The toolstack writes `suspend` into a guest's
 * `control/shutdown`, and the guest's kernel empties it before it stops (0.2 to 114 ms later, measured). A
 * page that is mapped and written until then may be stale in the image, and one that is unmapped is right
 * (doc/protocol.md 5.7, rule 9). So the owner is told to give up its vchan with the guest, and no other is
 * mapped for a moment.
 */

#define HOLD_MS                                                                                              \
	500 /* some times as long as it took a guest to stop; then it goes on, or its save takes long */

static void peers_saves_on_change(void *userdata, const char *untrusted_path)
{
	peer_read(userdata, LEAF_SHUTDOWN);
}

/* Begins to watch, since there is a vchan with the guest. */
static void saves_watch(struct peer *peer)
{
	struct peers *peers = peer->peers;
	char path[64];

	if (!peers->options.domains || peer->saves.watch)
		return;
	snprintf(path, sizeof(path), "/local/domain/%u/control/shutdown", peer->domid);
	/* It fires when it is set, too. */
	peers_watch(peers, path, peers_saves_on_change, peer, &peer->saves.watch);
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

/* --- the rings -------------------------------------------------------------------------------- */

void rendezvous_hand_over(struct peer *peer, struct vchan *vchan)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;

	rendezvous_unpublish(peer);
	store_cancel(&rendezvous->hello_request); /* the peer has read it, so it was written */
	event_del(rendezvous->deadline.timer);
	event_del(rendezvous->again);
	event_del(rendezvous->retry);
	rendezvous->state = RENDEZVOUS_CONNECTED;
	rendezvous->vchan = NULL;
	rendezvous->wanted = rendezvous->goes_on = false;
	vchan_set_event(vchan, NULL, NULL);
	log_debug("rendezvous: connected with domain %u, %u pages, %s", peer->domid, vchan_pages(vchan),
		  vchan_is_granter(vchan) ? "granted" : "mapped");
	saves_watch(peer);
	peers->callbacks.connected(peers->userdata, peer->domid, vchan);
}

/* A client that only lets go has failed to map all of it, or is an earlier daemon that was killed: the one
 * that is there waits for others. */
enum rendezvous_event rendezvous_of_vchan(const struct peer *peer)
{
	const struct vchan *vchan = peer->rendezvous.vchan;
	enum vchan_state state = vchan ? vchan_state(vchan) : VCHAN_WAITING;

	return state == VCHAN_WAITING	  ? RENDEZVOUS_NO_EVENT
	       : state == VCHAN_CONNECTED ? RENDEZVOUS_LIVE
					  : RENDEZVOUS_CLOSED;
}

static void on_granted_event(void *userdata)
{
	peer_kick(userdata);
}

static void rendezvous_rings_on_published(void *userdata, int error, const char *value, size_t size)
{
	struct peer *peer = userdata;

	if (error < 0)
		rendezvous_store_failed(peer, error, "the place of its rings ");
}

void rendezvous_publish(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;
	char paths[2][PEERS_PATH_SIZE], values[2][16], rest[PEERS_NONCE_SIZE + 16];
	struct store_leaf leaves[2] = {{paths[0], values[0]}, {paths[1], values[1]}};
	int r;

	snprintf(rest, sizeof(rest), "/%s/ring-ref", rendezvous->tried_nonce);
	peer_our_path(peer, paths[0], rest);
	snprintf(rest, sizeof(rest), "/%s/event-channel", rendezvous->tried_nonce);
	peer_our_path(peer, paths[1], rest);
	snprintf(values[0], sizeof(values[0]), "%u", vchan_ring_ref(rendezvous->vchan));
	snprintf(values[1], sizeof(values[1]), "%u", vchan_port(rendezvous->vchan));
	r = store_write_leaves(peers->store, leaves, 2, peers->options.self->domid, (int)peer->domid,
			       rendezvous_rings_on_published, peer, &rendezvous->publish_request);
	if (r < 0)
		rendezvous_rings_on_published(peer, r, NULL, 0);
}

/* Grants rings of the configured size, or the largest smaller ones that there are pages for; or larger ones,
 * where those couldn't hold what is to be sent again. */
static int grant_something(struct peer *peer)
{
	struct peers *peers = peer->peers;
	uint32_t size = peers->options.config->ring_size, least = peers->options.config->min_ring_size,
		 needed;
	int r;

	needed = peers->callbacks.least_ring ? peers->callbacks.least_ring(peers->userdata, peer->domid) : 0;
	least = needed > least ? needed : least;
	size = least > size ? least : size;
	for (;;) {
		r = vchan_grant(peers->host, peer->domid, size, size, on_granted_event, peer,
				&peer->rendezvous.vchan);
		if (r != -ENOSPC || size / 2 < least)
			break;
		size /= 2;
	}
	if (r == 0 && size < peers->options.config->ring_size)
		log_limited(
			LOG_PAGES, LOG_BY_DOMAIN(peer->domid), LOG_LEVEL_WARNING,
			"rendezvous: grant pages are short: rings of %u bytes instead of %u for domain %u",
			size, peers->options.config->ring_size, peer->domid);
	return r;
}

void rendezvous_grant(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;
	bool in_queue = rendezvous->state == RENDEZVOUS_PAGES;
	/* Peers that came earlier get the pages first. */
	int r = peers->page_queue && peers->page_queue != peer ? -ENOSPC : grant_something(peer);

	if (r == -ENOSPC || r == -EAGAIN) {
		if (in_queue)
			return;
		if (r == -ENOSPC)
			log_limited(
				LOG_PAGES, LOG_BY_DOMAIN(peer->domid), LOG_LEVEL_WARNING,
				"rendezvous: no grant pages or event channels free: the link with domain %u waits",
				peer->domid);
		rendezvous->state = RENDEZVOUS_PAGES;
		DL_APPEND2(peers->page_queue, peer, rendezvous.wait_prev, rendezvous.wait_next);
		timer_set(peers->pages, RETRY_EACH_MS);
		return;
	}
	if (in_queue)
		DL_DELETE2(peers->page_queue, peer, rendezvous.wait_prev, rendezvous.wait_next);
	if (r < 0)
		rendezvous->state = RENDEZVOUS_HELLO;
	if (r == -EPERM) {
		rendezvous_forbid(peer);
		return;
	}
	if (r < 0) {
		rendezvous_fail(peer, -EHOSTUNREACH, "can't grant rings to domain %u: %s", peer->domid,
				strerror(-r));
		return;
	}
	rendezvous->state = RENDEZVOUS_GRANTED;
	rendezvous_publish(peer);
}

void rendezvous_look_again(struct peer *peer)
{
	if (peer->rendezvous.state != RENDEZVOUS_AWAIT)
		return;
	peer_read(peer, LEAF_RING_REF);
	peer_read(peer, LEAF_EVENT_CHANNEL);
}

void rendezvous_map(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;
	struct vchan *vchan;
	int r = vchan_map(peers->host, peer->domid, rendezvous->ring_ref, rendezvous->port, NULL, NULL,
			  &vchan);

	rendezvous->ring_ref = rendezvous->port = 0;
	/* The port may be an earlier daemon's of this domain, whose process ends late, or the nodes those of
	 * rings that were given up since. */
	if (r == -EPERM) {
		rendezvous_step_back(peer, RENDEZVOUS_HELLO);
		rendezvous_forbid(peer);
		return;
	}
	if (r < 0 && r != -EPROTO && rendezvous->node_retries < NODE_RETRIES) {
		rendezvous->node_retries += r != -EAGAIN;
		timer_set(rendezvous->retry, NODE_RETRY_MS);
		return;
	}
	if (r < 0) {
		rendezvous_fail(peer, -EHOSTUNREACH, "can't map the rings of domain %u: %s", peer->domid,
				r == -EPROTO ? "their sizes are impossible" : strerror(-r));
		return;
	}
	/* Given up meanwhile; and who has seen us connect may wait for another nonce. */
	if (vchan_state(vchan) != VCHAN_CONNECTED) {
		vchan_close(vchan);
		rendezvous_begin_anew(peer);
		return;
	}
	rendezvous_hand_over(peer, vchan);
}

void rendezvous_node(struct peer *peer, enum peer_leaf leaf, const char *untrusted_value, size_t size)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	uint32_t number = 0;

	if (rendezvous->state != RENDEZVOUS_AWAIT)
		return;
	if (untrusted_value && node_number_parse(untrusted_value, size, &number) < 0) {
		log_limited(LOG_BAD_VALUE, LOG_BY_DOMAIN(peer->domid), LOG_LEVEL_WARNING,
			    "rendezvous: domain %u has published a bad %s; taken for absent", peer->domid,
			    leaf == LEAF_RING_REF ? "ring-ref" : "event-channel");
		number = 0;
	}
	if (leaf == LEAF_RING_REF)
		rendezvous->ring_ref = number;
	else
		rendezvous->port = number;
	if (peer->leaves.reading & NODES)
		return;
	if (rendezvous->ring_ref && rendezvous->port) {
		/* Whose they are: what we know of the peer's hello may be from before the nodes, whose answer
		 * can overtake the word of its change. */
		peer_read(peer, LEAF_HELLO);
		return;
	}
	/* oxenstored may fire before the second node of the transaction is visible. */
	if ((rendezvous->ring_ref || rendezvous->port) && rendezvous->node_retries < NODE_RETRIES) {
		rendezvous->node_retries++;
		timer_set(rendezvous->retry, NODE_RETRY_MS);
	}
}
