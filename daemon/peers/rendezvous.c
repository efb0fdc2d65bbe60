/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How two daemons that know of each other get a vchan between them: doc/protocol.md section 5.1. The table of
 * states is in peers_internal.h.
 *
 * Nonces make each attempt another one. The mapping side's nonce names the place where the granting side
 * publishes, so nodes that lie there are never an earlier attempt's. The granting side grants once for each
 * nonce that a client has come under (`spent`): a hello that outlived its daemon, or a peer that connects and
 * goes in a loop, gets nothing more. Who merely answers does so once for each nonce (`tried`), or two daemons
 * that can't connect would go on for ever.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <utlist.h>

#include "daemon/peers/peers_internal.h"
#include "daemon/peers/peers_presence.h"
#include "daemon/base/timer.h"
#include "wire/address.h"

#define NODE_RETRY_MS  50
#define NODE_RETRIES   20
#define PAGES_RETRY_MS 1000 /* other programs of this domain give pages back without telling us */

bool rendezvous_may_map(const struct peers_options *options)
{
	char type[16] = "";
	FILE *file;

	if (options->map != PEERS_MAP_AUTO)
		return options->map == PEERS_MAP_YES;
	if (options->self->domid == 0)
		return true; /* never saved */
	file = fopen("/sys/hypervisor/guest_type", "re");
	if (!file)
		/* an old kernel: it may be a PV guest, whose kernel doesn't survive a save with mappings */
		return false;
	if (!fgets(type, sizeof(type), file))
		type[0] = '\0';
	fclose(file);
	type[strcspn(type, "\n")] = '\0';
	return !strcmp(type, "HVM") || !strcmp(type, "PVH");
}

const char *rendezvous_state_name(const struct peer *peer)
{
	static const char *const names[] = {
		[RENDEZVOUS_IDLE] = "idle",   [RENDEZVOUS_HELLO] = "hello",
		[RENDEZVOUS_PAGES] = "pages", [RENDEZVOUS_GRANTED] = "granted",
		[RENDEZVOUS_AWAIT] = "await", [RENDEZVOUS_CONNECTED] = "connected",
	};

	return names[peer->rendezvous.state];
}

/* --- steps back --- */

static void unpublish(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	char path[PEERS_PATH_SIZE], rest[PEERS_NONCE_SIZE + 1];

	if (!rendezvous->published)
		return;
	rendezvous->published = false;
	store_cancel(&rendezvous->publish_request);
	snprintf(rest, sizeof(rest), "/%s", rendezvous->grant_nonce);
	peer_our_path(peer, path, rest);
	peers_remove(peer->peers, path);
}

/* Leaves PAGES, GRANTED or AWAIT. */
static void step_back(struct peer *peer, enum rendezvous_state state)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	struct vchan *vchan = rendezvous->vchan;

	if (rendezvous->state == RENDEZVOUS_PAGES) {
		DL_DELETE2(peer->peers->waiting, peer, rendezvous.wait_prev, rendezvous.wait_next);
		event_active(peer->peers->pages, EV_TIMEOUT, 0); /* the next one's turn */
	}
	unpublish(peer);
	event_del(rendezvous->retry);
	rendezvous->vchan = NULL;
	rendezvous->ring_ref = rendezvous->port = 0;
	rendezvous->state = state;
	vchan_close(vchan);
}

static void withdraw(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	char path[PEERS_PATH_SIZE];

	step_back(peer, RENDEZVOUS_IDLE);
	event_del(rendezvous->timer);
	rendezvous->wanted = false;
	rendezvous->lost_told = false;
	if (!rendezvous->hello_written)
		return;
	rendezvous->hello_written = false;
	store_cancel(&rendezvous->hello_request);
	peer_our_path(peer, path, "/hello");
	peers_remove(peer->peers, path);
}

static void __attribute__((format(printf, 3, 4))) fail(struct peer *peer, int error, const char *format, ...)
{
	struct peers *peers = peer->peers;
	bool wanted = peer->rendezvous.wanted;
	char reason[256];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	withdraw(peer);
	peer_kick(peer);
	if (wanted)
		peers->callbacks.failed(peers->userdata, peer->domid, error, reason);
	else
		log_debug("rendezvous: domain %u wanted a link: %s", peer->domid, reason);
}

static void fail_version(struct peer *peer, uint32_t major)
{
	fail(peer, -EHOSTUNREACH,
	     "domain %u speaks protocol %u, this daemon %d; run the same version of xenmsgd in both",
	     peer->domid, major, PEERS_MAJOR);
}

static void lose(struct peer *peer, const char *reason)
{
	struct peers *peers = peer->peers;

	if (peer->rendezvous.lost_told)
		return;
	peer->rendezvous.lost_told = true;
	peers->callbacks.lost(peers->userdata, peer->domid, reason);
}

/* --- steps forward --- */

static void hand_over(struct peer *peer, struct vchan *vchan)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;

	unpublish(peer);
	store_cancel(&rendezvous->hello_request); /* it was read: so it was written */
	event_del(rendezvous->timer);
	event_del(rendezvous->retry);
	rendezvous->state = RENDEZVOUS_CONNECTED;
	rendezvous->vchan = NULL;
	rendezvous->wanted = false;
	rendezvous->lost_told = false;
	vchan_set_event(vchan, NULL, NULL);
	log_debug("rendezvous: connected with domain %u, %u pages, %s", peer->domid, vchan_pages(vchan),
		  vchan_is_granter(vchan) ? "granted" : "mapped");
	peers->callbacks.connected(peers->userdata, peer->domid, vchan);
}

static void on_granted_event(struct vchan *vchan, void *userdata)
{
	struct peer *peer = userdata;
	struct rendezvous *rendezvous = &peer->rendezvous;
	enum vchan_state state = vchan_state(vchan);

	if (state == VCHAN_WAITING)
		return;
	/* Somebody was there: nothing more is granted for this nonce. */
	memcpy(rendezvous->spent_nonce, rendezvous->grant_nonce, sizeof(rendezvous->spent_nonce));
	if (state == VCHAN_CONNECTED) {
		memcpy(rendezvous->connected_nonce, rendezvous->grant_nonce,
		       sizeof(rendezvous->connected_nonce));
		hand_over(peer, vchan);
	} else {
		step_back(peer, RENDEZVOUS_HELLO);
	}
	peer_kick(peer);
}

static void on_published(void *userdata, int error, const char *value, size_t size)
{
	struct peer *peer = userdata;

	if (error < 0)
		fail(peer, -EHOSTUNREACH, "can't publish the rings for domain %u in XenStore: %s",
		     peer->domid, strerror(-error));
}

static void publish(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;
	char paths[2][PEERS_PATH_SIZE], values[2][16], rest[PEERS_NONCE_SIZE + 16];
	struct store_leaf leaves[2] = {{paths[0], values[0]}, {paths[1], values[1]}};
	int r;

	snprintf(rest, sizeof(rest), "/%s/ring-ref", rendezvous->grant_nonce);
	peer_our_path(peer, paths[0], rest);
	snprintf(rest, sizeof(rest), "/%s/event-channel", rendezvous->grant_nonce);
	peer_our_path(peer, paths[1], rest);
	snprintf(values[0], sizeof(values[0]), "%u", vchan_ring_ref(rendezvous->vchan));
	snprintf(values[1], sizeof(values[1]), "%u", vchan_port(rendezvous->vchan));
	rendezvous->published = true;
	r = store_write_leaves(peers->store, leaves, 2, peers->options.self->domid, (int)peer->domid,
			       on_published, peer, &rendezvous->publish_request);
	if (r < 0)
		on_published(peer, r, NULL, 0);
}

/* Rings of the configured size, or the largest smaller ones that there are pages for. */
static int grant_something(struct peer *peer)
{
	struct peers *peers = peer->peers;
	uint32_t size = peers->options.ring_size;
	int r;

	for (;;) {
		r = vchan_grant(peers->host, peer->domid, size, size, on_granted_event, peer,
				&peer->rendezvous.vchan);
		if (r != -ENOSPC || size / 2 < peers->options.min_ring_size)
			break;
		size /= 2;
	}
	if (r == 0 && size < peers->options.ring_size)
		log_limited(
			LOG_PAGES, LOG_BY_DOMAIN(peer->domid), LOG_LEVEL_WARNING,
			"rendezvous: grant pages are short: rings of %u bytes instead of %u for domain %u",
			size, peers->options.ring_size, peer->domid);
	return r;
}

static void grant(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;
	bool in_queue = rendezvous->state == RENDEZVOUS_PAGES;
	/* Who came earlier gets the pages first. */
	int r = peers->waiting && peers->waiting != peer ? -ENOSPC : grant_something(peer);

	if (r == -ENOSPC) {
		if (in_queue)
			return;
		log_limited(
			LOG_PAGES, LOG_BY_DOMAIN(peer->domid), LOG_LEVEL_WARNING,
			"rendezvous: no grant pages or event channels free: the link with domain %u waits",
			peer->domid);
		rendezvous->state = RENDEZVOUS_PAGES;
		DL_APPEND2(peers->waiting, peer, rendezvous.wait_prev, rendezvous.wait_next);
		timer_set(peers->pages, PAGES_RETRY_MS);
		return;
	}
	if (in_queue)
		DL_DELETE2(peers->waiting, peer, rendezvous.wait_prev, rendezvous.wait_next);
	if (r < 0) {
		rendezvous->state = RENDEZVOUS_HELLO;
		fail(peer, -EHOSTUNREACH, "can't grant rings to domain %u: %s", peer->domid, strerror(-r));
		return;
	}
	memcpy(rendezvous->grant_nonce, peer->hello.nonce, sizeof(rendezvous->grant_nonce));
	memcpy(rendezvous->tried_nonce, peer->hello.nonce, sizeof(rendezvous->tried_nonce));
	rendezvous->state = RENDEZVOUS_GRANTED;
	publish(peer);
}

void rendezvous_pages_freed(struct peers *peers)
{
	struct peer *peer;

	while ((peer = peers->waiting) != NULL) {
		/* If its hello has just gone, rendezvous_advance() comes for it; the pages go to the next one
		 * then. */
		if (peer_hello_is_current(peer))
			grant(peer);
		if (peers->waiting == peer)
			break;
	}
	if (peers->waiting)
		timer_set(peers->pages, PAGES_RETRY_MS);
}

static void read_nodes(struct peer *peer)
{
	peer_read(peer, LEAF_RING_REF);
	peer_read(peer, LEAF_EVENT_CHANNEL);
}

static void map(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;
	struct vchan *vchan;
	int r = vchan_map(peers->host, peer->domid, rendezvous->ring_ref, rendezvous->port, NULL, NULL,
			  &vchan);

	rendezvous->ring_ref = rendezvous->port = 0;
	if (r < 0) {
		fail(peer, -EHOSTUNREACH, "can't map the rings of domain %u: %s", peer->domid,
		     r == -EPROTO ? "their sizes are impossible" : strerror(-r));
		return;
	}
	if (vchan_state(vchan) != VCHAN_CONNECTED) { /* given up meanwhile: new nodes may come */
		vchan_close(vchan);
		return;
	}
	memcpy(rendezvous->connected_nonce, peer->hello.nonce, sizeof(rendezvous->connected_nonce));
	hand_over(peer, vchan);
}

void rendezvous_node(struct peer *peer, enum peer_leaf leaf, const char *untrusted_value, size_t size)
{
	const unsigned nodes = 1u << LEAF_RING_REF | 1u << LEAF_EVENT_CHANNEL;
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
	if (peer->reading & nodes)
		return;
	if (rendezvous->ring_ref && rendezvous->port) {
		peer_kick(peer);
		return;
	}
	/* oxenstored may fire before the second node of the transaction is visible. */
	if ((rendezvous->ring_ref || rendezvous->port) && rendezvous->node_retries < NODE_RETRIES) {
		rendezvous->node_retries++;
		timer_set(rendezvous->retry, NODE_RETRY_MS);
	}
}

static void on_hello_written(void *userdata, int error, const char *value, size_t size)
{
	struct peer *peer = userdata;

	if (error < 0)
		fail(peer, -EHOSTUNREACH, "can't write to XenStore for domain %u: %s", peer->domid,
		     strerror(-error));
}

static void begin(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;
	char path[PEERS_PATH_SIZE], value[PEERS_INSTANCE_SIZE + PEERS_NONCE_SIZE + 16];
	uint32_t random = 0;
	int r;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
		fail(peer, -EHOSTUNREACH, "no random numbers: %s", strerror(errno));
		return;
	}
	snprintf(rendezvous->our_nonce, sizeof(rendezvous->our_nonce), "%08x", random);
	snprintf(value, sizeof(value), "%d %s %s %d", PEERS_MAJOR, peers->options.self->instance_text,
		 rendezvous->our_nonce, peers->may_map);
	peer_our_path(peer, path, "/hello");
	rendezvous->hello_written = true;
	rendezvous->node_retries = 0;
	rendezvous->state = RENDEZVOUS_HELLO;
	r = store_write(peers->store, path, value, peers->options.self->domid, (int)peer->domid,
			on_hello_written, peer, &rendezvous->hello_request);
	if (r < 0) {
		on_hello_written(peer, r, NULL, 0);
		return;
	}
	if (!event_pending(rendezvous->timer, EV_TIMEOUT, NULL))
		timer_set(rendezvous->timer, peers->options.setup_timeout_ms);
}

/* Of two that are willing dom0 maps, else the lower domid. 0: neither is. */
static int who_maps(const struct peer *peer, bool *we_map)
{
	uint32_t us = peer->peers->options.self->domid, them = peer->domid;
	bool we_may = peer->peers->may_map, they_may = peer->hello.map;

	if (!we_may && !they_may)
		return 0;
	*we_map = we_may && (!they_may || us < them); /* 0 is the lowest */
	return 1;
}

/* Our hello stays until the peer has withdrawn its own, since it's what tells the peer why there is no
 * link. */
static void refuse(struct peer *peer)
{
	struct peers *peers = peer->peers;
	char reason[160];

	if (!peer->rendezvous.wanted)
		return;
	peer->rendezvous.wanted = false;
	snprintf(
		reason, sizeof(reason),
		"neither domain %u nor domain %u may map the other's pages: set map = yes under [links] in one of them",
		peers->options.self->domid, peer->domid);
	peers->callbacks.failed(peers->userdata, peer->domid, -EHOSTUNREACH, reason);
}

static void answer_hello(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	bool we_map;

	memcpy(rendezvous->tried_nonce, peer->hello.nonce, sizeof(rendezvous->tried_nonce));
	if (!who_maps(peer, &we_map)) {
		refuse(peer);
	} else if (we_map) {
		rendezvous->state = RENDEZVOUS_AWAIT;
		rendezvous->ring_ref = rendezvous->port = 0;
		read_nodes(peer);
	} else if (strcmp(peer->hello.nonce, rendezvous->spent_nonce)) {
		grant(peer);
	}
}

static void fail_absent(struct peer *peer)
{
	absent_note(peer->peers, peer->domid);
	fail(peer, -EHOSTDOWN, "there is no domain %u, or no daemon in it", peer->domid);
}

static void advance_idle(struct peer *peer)
{
	const struct rendezvous *rendezvous = &peer->rendezvous;
	unsigned major = peer->presence_major ? peer->presence_major : peer->hello_major;

	if (!rendezvous->wanted) {
		if (peer_hello_is_current(peer) && strcmp(peer->hello.nonce, rendezvous->tried_nonce))
			begin(peer);
	} else if (peer->domid == peer->peers->options.self->domid) {
		fail(peer, -EHOSTUNREACH, "a domain has no link with itself");
	} else if (peer->domid > DOMID_MAX) {
		fail(peer, -EHOSTDOWN, "there is no domain %u", peer->domid);
	} else if (peer->up) {
		begin(peer);
	} else if ((peer->looked & LEAVES_LOOKED_UP) == LEAVES_LOOKED_UP) {
		if (major)
			fail_version(peer, major);
		else if (!store_is_connected(peer->peers->store))
			fail(peer, -EHOSTUNREACH, "no connection to XenStore");
		else
			fail_absent(peer);
	} else if (!peer->asked && !((peer->stale | peer->reading | peer->came) & LEAVES_LOOKED_UP)) {
		/* it is our own want, or what we knew of it when somebody asked is true no more */
		presence_look_up(peer);
	}
}

void rendezvous_advance(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	bool hello = peer_hello_is_current(peer);

	if (rendezvous->state == RENDEZVOUS_IDLE)
		advance_idle(peer);
	/* What rested on a hello that isn't there any more falls with it. */
	if ((rendezvous->state == RENDEZVOUS_PAGES || rendezvous->state == RENDEZVOUS_AWAIT) && !hello)
		step_back(peer, RENDEZVOUS_HELLO);
	if (rendezvous->state == RENDEZVOUS_GRANTED &&
	    (!hello || strcmp(peer->hello.nonce, rendezvous->grant_nonce)))
		step_back(peer, RENDEZVOUS_HELLO);

	switch (rendezvous->state) {
	case RENDEZVOUS_HELLO:
		if (hello)
			answer_hello(peer);
		else if (peer->hello_major)
			fail_version(peer, peer->hello_major);
		else if (!rendezvous->wanted)
			withdraw(peer);
		break;
	case RENDEZVOUS_AWAIT:
		memcpy(rendezvous->tried_nonce, peer->hello.nonce, sizeof(rendezvous->tried_nonce));
		if (rendezvous->ring_ref && rendezvous->port)
			map(peer);
		break;
	case RENDEZVOUS_CONNECTED:
		if (!hello)
			lose(peer, "the peer has withdrawn its hello");
		else if (strcmp(peer->hello.nonce, rendezvous->connected_nonce))
			lose(peer, "the peer has begun anew");
		break;
	case RENDEZVOUS_IDLE:
	case RENDEZVOUS_PAGES:
	case RENDEZVOUS_GRANTED:
		break;
	}
}

void rendezvous_peer_gone(struct peer *peer, bool replaced)
{
	switch (peer->rendezvous.state) {
	case RENDEZVOUS_IDLE:
		break;
	case RENDEZVOUS_CONNECTED:
		lose(peer, replaced ? "the peer's daemon was restarted" : "the peer or its daemon has gone");
		break;
	default:
		if (replaced) /* the new daemon finds our hello */
			step_back(peer, RENDEZVOUS_HELLO);
		else
			fail(peer, -EHOSTDOWN, "domain %u or its daemon has gone", peer->domid);
	}
}

static void on_timeout(evutil_socket_t fd, short what, void *userdata)
{
	struct peer *peer = userdata;
	unsigned ms = peer->peers->options.setup_timeout_ms;

	switch (peer->rendezvous.state) {
	case RENDEZVOUS_IDLE:
		fail(peer, -EHOSTUNREACH, "XenStore did not answer within %u ms", ms);
		break;
	case RENDEZVOUS_HELLO:
		fail(peer, -EHOSTUNREACH, "the daemon of domain %u did not answer within %u ms", peer->domid,
		     ms);
		break;
	case RENDEZVOUS_PAGES:
		fail(peer, -EHOSTUNREACH, "no grant pages free");
		break;
	case RENDEZVOUS_GRANTED:
		fail(peer, -EHOSTUNREACH, "the daemon of domain %u did not connect within %u ms", peer->domid,
		     ms);
		break;
	case RENDEZVOUS_AWAIT:
		fail(peer, -EHOSTUNREACH, "the daemon of domain %u offered no rings within %u ms",
		     peer->domid, ms);
		break;
	case RENDEZVOUS_CONNECTED:
		break;
	}
}

static void on_retry(evutil_socket_t fd, short what, void *userdata)
{
	struct peer *peer = userdata;

	if (peer->rendezvous.state == RENDEZVOUS_AWAIT)
		read_nodes(peer);
}

int rendezvous_init(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	rendezvous->timer = evtimer_new(peer->peers->base, on_timeout, peer);
	rendezvous->retry = evtimer_new(peer->peers->base, on_retry, peer);
	return rendezvous->timer && rendezvous->retry ? 0 : -ENOMEM;
}

void rendezvous_destroy(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	if (rendezvous->state != RENDEZVOUS_IDLE && rendezvous->state != RENDEZVOUS_CONNECTED)
		step_back(peer, RENDEZVOUS_IDLE);
	store_cancel(&rendezvous->hello_request);
	if (rendezvous->timer)
		event_free(rendezvous->timer);
	if (rendezvous->retry)
		event_free(rendezvous->retry);
}

void peers_disconnect(struct peers *peers, uint32_t domid)
{
	struct peer *peer = peer_find(peers, domid);

	if (!peer)
		return;
	withdraw(peer);
	peer_kick(peer); /* the peer may have begun anew already */
}
