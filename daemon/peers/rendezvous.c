/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How two daemons that know of each other get a vchan between them: doc/protocol.md section 5.1. The table of
 * states is in rendezvous_step.h, which decides; this file acts.
 *
 * Nonces tell attempts apart. The mapping side's nonce names the place where the granting side publishes, so
 * nodes that lie there are never an earlier attempt's. The granting side grants once for each nonce that a
 * client has come under (`spent`): a hello that outlived its daemon, or a peer that connects and goes in a
 * loop, gets nothing more, but once if who went may have been an earlier daemon (`spared`). A daemon that only answers does so once for each nonce (`tried`), or two daemons
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
#include "daemon/peers/peers_mend.h"
#include "daemon/peers/peers_presence.h"
#include "daemon/peers/peers_saves.h"
#include "base/clock.h"
#include "base/timer.h"
#include "wire/address.h"

#define COST_STEP                                                                                            \
	20000u /* in units (turns.h): pages are granted, mapped or given back, and leaves written; at least */
#define UNIT_NS	       10
#define ATTEMPT_LASTS  10 /* setup-timeouts: who still wants a link then finds the attempt where it was */
#define NODE_RETRY_MS  50
#define NODE_RETRIES   20
#define AGAIN_FIRST_MS 500  /* then twice as long, and so on */
#define SWEEP_MS       1000 /* as often as the store tries to connect again */
#define PAGES_RETRY_MS 1000 /* other programs of this domain give pages back without telling us */
/* What Xen forbids isn't tried again for so long: an administrator may have loaded another policy since. */
#define FORBIDDEN_MS (10 * 60 * 1000)

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

static void step(struct peer *peer, enum rendezvous_event event);

/* --- steps back --- */

static void unpublish(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	char path[PEERS_PATH_SIZE], rest[PEERS_NONCE_SIZE + 1];

	if (!rendezvous->published)
		return;
	rendezvous->published = rendezvous->publish_lost = false;
	store_cancel(&rendezvous->publish_request);
	snprintf(rest, sizeof(rest), "/%s", rendezvous->grant_nonce);
	peer_our_path(peer, path, rest);
	peers_remove(peer->peers, path);
}

/* Leaves PAGES, GRANTED or AWAIT. A peer that has mapped the vchan meanwhile learns that another one may come: for a
 * daemon that just closes it the sessions would be over. */
static void step_back(struct peer *peer, enum rendezvous_state state)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	struct vchan *vchan = rendezvous->vchan;

	if (rendezvous->state == RENDEZVOUS_PAGES) {
		DL_DELETE2(peer->peers->waiting, peer, rendezvous.wait_prev, rendezvous.wait_next);
		event_active(peer->peers->pages, EV_TIMEOUT, 0); /* it is the next one's turn */
	}
	unpublish(peer);
	event_del(rendezvous->retry);
	rendezvous->vchan = NULL;
	rendezvous->ring_ref = rendezvous->port = 0;
	rendezvous->state = state;
	if (vchan)
		vchan_leave(vchan);
}

/* If the connection to XenStore is lost, on_sweep() tries again: the peer takes what stands there for our wish. */
static void on_hello_removed(void *userdata, int error, const char *value, size_t size)
{
	struct peer *peer = userdata;

	if (error == -ENOTCONN)
		timer_set(peer->rendezvous.sweep, SWEEP_MS);
}

static void remove_hello(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	char path[PEERS_PATH_SIZE];

	store_cancel(&rendezvous->remove_request);
	peer_our_path(peer, path, "/hello");
	if (store_remove(peer->peers->store, path, on_hello_removed, peer, &rendezvous->remove_request) < 0)
		log_error("rendezvous: out of memory: the hello for domain %u isn't removed", peer->domid);
}

static void on_sweep(evutil_socket_t fd, short what, void *userdata)
{
	struct peer *peer = userdata;

	if (!peer->rendezvous.hello_written)
		remove_hello(peer);
}

static void withdraw(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	step_back(peer, RENDEZVOUS_IDLE);
	event_del(rendezvous->timer);
	event_del(rendezvous->again);
	rendezvous->wanted = false;
	rendezvous->lost_told = false;
	rendezvous->goes_on = false;
	if (!rendezvous->hello_written)
		return;
	rendezvous->hello_written = false;
	store_cancel(&rendezvous->hello_request);
	remove_hello(peer);
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

static void lose(struct peer *peer, bool replaced, const char *reason)
{
	struct peers *peers = peer->peers;

	if (peer->rendezvous.lost_told)
		return;
	peer->rendezvous.lost_told = true;
	peers->callbacks.lost(peers->userdata, peer->domid, replaced, reason);
}

/* --- steps forward --- */

static void hand_over(struct peer *peer, struct vchan *vchan)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;

	unpublish(peer);
	store_cancel(&rendezvous->hello_request); /* the peer has read it, so it was written */
	event_del(rendezvous->timer);
	event_del(rendezvous->again);
	event_del(rendezvous->retry);
	rendezvous->state = RENDEZVOUS_CONNECTED;
	rendezvous->vchan = NULL;
	rendezvous->wanted = rendezvous->goes_on = false;
	rendezvous->lost_told = false;
	vchan_set_event(vchan, NULL, NULL);
	log_debug("rendezvous: connected with domain %u, %u pages, %s", peer->domid, vchan_pages(vchan),
		  vchan_is_granter(vchan) ? "granted" : "mapped");
	saves_watch(peer);
	peers->callbacks.connected(peers->userdata, peer->domid, vchan);
}

static void on_granted_event(void *userdata)
{
	struct peer *peer = userdata;
	struct rendezvous *rendezvous = &peer->rendezvous;
	enum vchan_state state = vchan_state(rendezvous->vchan);

	if (state == VCHAN_WAITING)
		return;
	/* A client has connected: nothing more is granted for this nonce. But who was killed may let go late, and the daemon
	 * that runs there now waits for its rings: once this is believed. */
	if (state == VCHAN_CLOSED && vchan_had_mapper(rendezvous->vchan) &&
	    strcmp(rendezvous->spared_nonce, rendezvous->grant_nonce) != 0)
		memcpy(rendezvous->spared_nonce, rendezvous->grant_nonce, sizeof(rendezvous->spared_nonce));
	else
		memcpy(rendezvous->spent_nonce, rendezvous->grant_nonce, sizeof(rendezvous->spent_nonce));
	step(peer, state == VCHAN_CONNECTED ? RENDEZVOUS_LIVE : RENDEZVOUS_CLOSED);
	peer_kick(peer);
}

static void on_published(void *userdata, int error, const char *value, size_t size)
{
	struct peer *peer = userdata;

	peer->rendezvous.publish_lost = error == -ENOTCONN; /* on_again() tries again */
	if (error < 0 && error != -ENOTCONN)
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

/* Grants rings of the configured size, or the largest smaller ones that there are pages for; or larger ones, where those
 * couldn't hold what is to be sent again. */
static int grant_something(struct peer *peer)
{
	struct peers *peers = peer->peers;
	uint32_t size = peers->options.ring_size, least = peers->options.min_ring_size, needed;
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
	if (r == 0 && size < peers->options.ring_size)
		log_limited(
			LOG_PAGES, LOG_BY_DOMAIN(peer->domid), LOG_LEVEL_WARNING,
			"rendezvous: grant pages are short: rings of %u bytes instead of %u for domain %u",
			size, peers->options.ring_size, peer->domid);
	return r;
}

static void forbid(struct peer *peer);

static void grant(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;
	bool in_queue = rendezvous->state == RENDEZVOUS_PAGES;
	/* Peers that came earlier get the pages first. */
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
	if (r < 0)
		rendezvous->state = RENDEZVOUS_HELLO;
	if (r == -EPERM) {
		forbid(peer);
		return;
	}
	if (r < 0) {
		fail(peer, -EHOSTUNREACH, "can't grant rings to domain %u: %s", peer->domid, strerror(-r));
		return;
	}
	memcpy(rendezvous->grant_nonce, peer->hello.nonce, sizeof(rendezvous->grant_nonce));
	memcpy(rendezvous->tried_nonce, peer->hello.nonce, sizeof(rendezvous->tried_nonce));
	rendezvous->state = RENDEZVOUS_GRANTED;
	publish(peer);
}

static void read_nodes(struct peer *peer)
{
	peer_read(peer, LEAF_RING_REF);
	peer_read(peer, LEAF_EVENT_CHANNEL);
}

void rendezvous_look_again(struct peer *peer)
{
	if (peer->rendezvous.state == RENDEZVOUS_AWAIT)
		read_nodes(peer);
}

static void map(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;
	struct vchan *vchan;
	int r = vchan_map(peers->host, peer->domid, rendezvous->ring_ref, rendezvous->port, NULL, NULL,
			  &vchan);

	rendezvous->ring_ref = rendezvous->port = 0;
	/* The port may be an earlier daemon's of this domain, whose process ends late, or the nodes those of rings that were
	 * given up since. */
	if (r == -EPERM) {
		step_back(peer, RENDEZVOUS_HELLO);
		forbid(peer);
		return;
	}
	if (r < 0 && r != -EPROTO && rendezvous->node_retries < NODE_RETRIES) {
		rendezvous->node_retries++;
		timer_set(rendezvous->retry, NODE_RETRY_MS);
		return;
	}
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
		/* Whose they are: what we know of the peer's hello may be from before the nodes, whose answer can
		 * overtake the word of its change. */
		peer_read(peer, LEAF_HELLO);
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

	peer->rendezvous.hello_lost = error == -ENOTCONN; /* on_again() tries again */
	if (error < 0 && peer->rendezvous.state == RENDEZVOUS_CONNECTED)
		mend_later(peer, LEAF_OUR_HELLO);
	else if (error < 0 && error != -ENOTCONN)
		fail(peer, -EHOSTUNREACH, "can't write to XenStore for domain %u: %s", peer->domid,
		     strerror(-error));
}

static void format_hello(const struct peer *peer, char value[RENDEZVOUS_NODE_SIZE])
{
	bool forbidden = peer->rendezvous.forbidden;

	snprintf(value, RENDEZVOUS_NODE_SIZE, "%d %s %s %d%s", PEERS_MAJOR,
		 peer->peers->options.self->instance_text, peer->rendezvous.our_nonce,
		 peer->peers->may_map && !forbidden, forbidden ? " 1" : "");
}

static int write_hello(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;
	char path[PEERS_PATH_SIZE], value[RENDEZVOUS_NODE_SIZE];

	format_hello(peer, value);
	peer_our_path(peer, path, "/hello");
	store_cancel(&rendezvous->hello_request); /* of an earlier nonce, from which we begin anew */
	return store_write(peers->store, path, value, peers->options.self->domid, (int)peer->domid,
			   on_hello_written, peer, &rendezvous->hello_request);
}

bool rendezvous_node_stands(const struct peer *peer, enum peer_leaf leaf, char value[RENDEZVOUS_NODE_SIZE])
{
	const struct rendezvous *rendezvous = &peer->rendezvous;

	if (leaf == LEAF_OUR_HELLO) {
		format_hello(peer, value);
		return rendezvous->hello_written && !rendezvous->hello_request;
	}
	if (!rendezvous->published || rendezvous->publish_request)
		return false;
	snprintf(value, RENDEZVOUS_NODE_SIZE, "%u",
		 leaf == LEAF_OUR_RING_REF ? vchan_ring_ref(rendezvous->vchan)
					   : vchan_port(rendezvous->vchan));
	return true;
}

void rendezvous_write_again(struct peer *peer, enum peer_leaf leaf)
{
	int r;

	if (leaf != LEAF_OUR_HELLO) {
		publish(peer);
		return;
	}
	r = write_hello(peer);
	if (r < 0)
		on_hello_written(peer, r, NULL, 0);
}

static void begin(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;
	uint32_t random = 0;
	int r;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
		fail(peer, -EHOSTUNREACH, "no random numbers: %s", strerror(errno));
		return;
	}
	snprintf(rendezvous->our_nonce, sizeof(rendezvous->our_nonce), "%08x", random);
	rendezvous->begun_ms = clock_ms();
	rendezvous->goes_on = rendezvous->let_go = false;
	rendezvous->hello_written = true;
	rendezvous->hello_lost = false;
	rendezvous->node_retries = 0;
	rendezvous->state = RENDEZVOUS_HELLO;
	rendezvous->again_ms = AGAIN_FIRST_MS;
	timer_set(rendezvous->again, rendezvous->again_ms);
	r = write_hello(peer);
	if (r < 0) {
		on_hello_written(peer, r, NULL, 0);
		return;
	}
	if (!event_pending(rendezvous->timer, EV_TIMEOUT, NULL))
		timer_set(rendezvous->timer, peers->options.setup_timeout_ms);
}

/* Fails our attempt. Our hello stays until the peer has withdrawn its own, since it tells the peer why there
 * is no link. */
static void refuse(struct peer *peer)
{
	struct peers *peers = peer->peers;
	char reason[160];

	peer->rendezvous.wanted = false;
	snprintf(
		reason, sizeof(reason),
		peer->rendezvous.was_forbidden
			? "Xen lets domain %u and domain %u share no memory (XSM: SILO, or a policy of Flask)"
			: "neither domain %u nor domain %u may map the other's pages",
		peers->options.self->domid, peer->domid);
	peers->callbacks.failed(peers->userdata, peer->domid, -ENOLINK, reason);
}

/* Notes that Xen lets the two domains share nothing. */
static void note_forbidden(struct peer *peer)
{
	peer->rendezvous.unlinkable = peer->rendezvous.was_forbidden = true;
	peer->rendezvous.forbidden_ms = clock_ms();
}

/* Xen has refused it to us: tells the peer, which would wait, and fails our attempt. */
static void forbid(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	note_forbidden(peer);
	rendezvous->forbidden = true;
	memcpy(rendezvous->tried_nonce, peer->hello.nonce, sizeof(rendezvous->tried_nonce));
	rendezvous_write_again(peer, LEAF_OUR_HELLO);
	if (rendezvous->wanted)
		refuse(peer);
}

bool rendezvous_may_be_tried(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	if (!rendezvous->unlinkable)
		return true;
	if (!rendezvous->was_forbidden || clock_ms() - rendezvous->forbidden_ms < FORBIDDEN_MS)
		return false;
	withdraw(peer);
	rendezvous->forbidden = rendezvous->was_forbidden = rendezvous->unlinkable = false;
	return true;
}

/* Leaves the attempt where it is, though a time-out has answered who wanted it. False: it has lasted long enough. */
static bool go_on(struct peer *peer)
{
	const uint64_t lasts = (uint64_t)ATTEMPT_LASTS * peer->peers->options.setup_timeout_ms;
	const uint64_t age = clock_ms() - peer->rendezvous.begun_ms;

	if (age >= lasts)
		return false;
	timer_set(peer->rendezvous.timer, lasts - age);
	return true;
}

static void fail_timeout(struct peer *peer)
{
	static const char *const missing[RENDEZVOUS_STATES] = {
		[RENDEZVOUS_HELLO] = "did not answer",
		[RENDEZVOUS_GRANTED] = "did not connect",
		[RENDEZVOUS_AWAIT] = "offered no rings",
	};
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;
	enum rendezvous_state state = rendezvous->state;
	unsigned ms = peers->options.setup_timeout_ms;
	bool was_wanted = rendezvous->wanted;
	char reason[160];

	if (rendezvous->hello_lost || rendezvous->publish_lost)
		snprintf(reason, sizeof(reason), "no connection to XenStore within %u ms", ms);
	else if (state == RENDEZVOUS_IDLE)
		snprintf(reason, sizeof(reason), "XenStore did not answer within %u ms", ms);
	else if (state == RENDEZVOUS_PAGES)
		snprintf(reason, sizeof(reason), "no grant pages free");
	else
		snprintf(reason, sizeof(reason), "the daemon of domain %u %s within %u ms", peer->domid,
			 missing[state], ms);
	if (!missing[state] || !go_on(peer)) {
		fail(peer, -EHOSTUNREACH, "%s", reason);
		return;
	}
	rendezvous->goes_on |= was_wanted;
	rendezvous->wanted = false;
	if (was_wanted)
		peers->callbacks.failed(peers->userdata, peer->domid, -EHOSTUNREACH, reason);
}

/* --- the steps --- */

static struct rendezvous_facts gather(const struct peer *peer, enum rendezvous_event event)
{
	const struct rendezvous *rendezvous = &peer->rendezvous;
	const char *nonce = peer->hello.nonce;
	bool connected = rendezvous->state == RENDEZVOUS_CONNECTED;
	bool forbidden = rendezvous->forbidden || peer->hello.forbidden;
	bool looking_at_hello = (peer->stale | peer->reading | peer->came | peer->missed) & 1u << LEAF_HELLO;

	return (struct rendezvous_facts){
		.event = event,
		.wanted = rendezvous->wanted,
		.goes_on = rendezvous->goes_on,
		.let_go = rendezvous->let_go,
		.self = peer->domid == peer->peers->options.self->domid,
		.no_domid = peer->domid > DOMID_MAX,
		.up = peer->up,
		.looked = (peer->looked & LEAVES_LOOKED_UP) == LEAVES_LOOKED_UP,
		.looking = peer->asked || (peer->stale | peer->reading | peer->came) & LEAVES_LOOKED_UP,
		.store_down = !store_is_connected(peer->peers->store),
		.other_presence = peer->presence_major,
		.other_hello = peer->hello_major,
		.hello = peer_hello_is_current(peer) && (connected || !peer->saves.is_held),
		.tried = !strcmp(nonce, rendezvous->tried_nonce),
		.spent = !strcmp(nonce, rendezvous->spent_nonce),
		.same = !strcmp(nonce, connected ? rendezvous->connected_nonce : rendezvous->grant_nonce),
		.we_may_map = peer->peers->may_map && !forbidden,
		.they_may_map = peer->hello.map && !forbidden,
		.we_are_lower = peer->peers->options.self->domid < peer->domid,
		.nodes = rendezvous->ring_ref && rendezvous->port && !looking_at_hello,
	};
}

/* Notes what the peer's hello says. Whether it may map stays as it is until its daemon is another one. Who has begun anew
 * is given all the time again: if we gave up, it would have to begin once more. */
static void note(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	if (rendezvous->forbidden || peer->hello.forbidden) {
		if (!rendezvous->was_forbidden)
			note_forbidden(peer);
	} else {
		rendezvous->was_forbidden = false;
		rendezvous->unlinkable = !peer->hello.map && !peer->peers->may_map;
	}
	if (!strcmp(rendezvous->tried_nonce, peer->hello.nonce))
		return;
	rendezvous->begun_ms = clock_ms();
	memcpy(rendezvous->tried_nonce, peer->hello.nonce, sizeof(rendezvous->tried_nonce));
}

static void act(struct peer *peer, enum rendezvous_action action)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	switch (action) {
	case RENDEZVOUS_NOTHING:
		break;
	case RENDEZVOUS_LOOK_UP:
		presence_look_up(peer);
		break;
	case RENDEZVOUS_BEGIN:
		begin(peer);
		break;
	case RENDEZVOUS_NOTE:
		note(peer);
		break;
	case RENDEZVOUS_REFUSE:
		note(peer);
		refuse(peer);
		break;
	case RENDEZVOUS_EXPECT:
		note(peer);
		rendezvous->state = RENDEZVOUS_AWAIT;
		rendezvous->ring_ref = rendezvous->port = 0;
		read_nodes(peer);
		break;
	case RENDEZVOUS_GRANT:
		note(peer);
		grant(peer);
		break;
	case RENDEZVOUS_MAP:
		note(peer);
		map(peer);
		break;
	case RENDEZVOUS_TAKE:
		memcpy(rendezvous->connected_nonce, rendezvous->grant_nonce,
		       sizeof(rendezvous->connected_nonce));
		hand_over(peer, rendezvous->vchan);
		break;
	case RENDEZVOUS_BACK:
		rendezvous->let_go = !peer_hello_is_current(peer);
		step_back(peer, RENDEZVOUS_HELLO);
		break;
	case RENDEZVOUS_WITHDRAW:
		withdraw(peer);
		break;
	case RENDEZVOUS_FAIL_SELF:
		fail(peer, -EHOSTUNREACH, "a domain has no link with itself");
		break;
	case RENDEZVOUS_FAIL_DOMID:
		fail(peer, -EHOSTDOWN, "there is no domain %u", peer->domid);
		break;
	case RENDEZVOUS_FAIL_VERSION:
		fail_version(peer, peer->presence_major ? peer->presence_major : peer->hello_major);
		break;
	case RENDEZVOUS_FAIL_STORE:
		fail(peer, -EHOSTUNREACH, "no connection to XenStore");
		break;
	case RENDEZVOUS_FAIL_ABSENT:
		absent_note(peer->peers, peer->domid);
		fail(peer, -EHOSTDOWN, "there is no domain %u, or no daemon in it", peer->domid);
		break;
	case RENDEZVOUS_FAIL_GONE:
		fail(peer, -EHOSTDOWN, "domain %u or its daemon has gone", peer->domid);
		break;
	case RENDEZVOUS_FAIL_TIMEOUT:
		fail_timeout(peer);
		break;
	case RENDEZVOUS_LOSE_WITHDRAWN:
		lose(peer, false, "the peer has withdrawn its hello");
		break;
	case RENDEZVOUS_LOSE_ANEW:
		lose(peer, false, "the peer has begun anew");
		break;
	case RENDEZVOUS_LOSE_GONE:
		lose(peer, false, "the peer or its daemon has gone");
		break;
	case RENDEZVOUS_LOSE_REPLACED:
		lose(peer, true, "the peer's daemon was restarted");
		break;
	}
}

/* What Xen has forbidden us may be tried once more. */
static void forget_forbidden(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	if (!rendezvous->forbidden)
		return;
	rendezvous->forbidden = false;
	if (rendezvous->hello_written)
		rendezvous_write_again(peer, LEAF_OUR_HELLO);
}

/* Whether the peer has begun anew long after that. */
static bool is_asked_again(const struct peer *peer)
{
	const struct rendezvous *rendezvous = &peer->rendezvous;

	return rendezvous->forbidden && clock_ms() - rendezvous->forbidden_ms >= FORBIDDEN_MS &&
	       peer_hello_is_current(peer) && strcmp(rendezvous->tried_nonce, peer->hello.nonce) != 0;
}

/* Takes the next step at the peer's expense. Granting, mapping and giving up cost what the kernel takes for as many pages
 * as there are, whether that leads to another state or not. */
static void step(struct peer *peer, enum rendezvous_event event)
{
	const enum rendezvous_state state = peer->rendezvous.state;
	struct rendezvous_facts facts;
	enum rendezvous_action action;
	uint64_t before, cost;

	if (is_asked_again(peer))
		forget_forbidden(peer);
	facts = gather(peer, event);
	action = rendezvous_step(state, &facts);
	if (action == RENDEZVOUS_NOTHING)
		return;
	before = clock_thread_ns();
	act(peer, action);
	if (peer->rendezvous.state == state && action != RENDEZVOUS_GRANT && action != RENDEZVOUS_MAP)
		return;
	cost = (clock_thread_ns() - before) / UNIT_NS;
	turns_spend(peer->task.turns, peer->task.line, COST_STEP);
	if (cost > COST_STEP)
		turns_spend_measured(peer->task.turns, peer->task.line, cost - COST_STEP);
}

/* Takes the steps that the facts allow. A peer that has just come to HELLO may find its answer there
 * already. */
void rendezvous_advance(struct peer *peer)
{
	enum rendezvous_state before;

	do {
		before = peer->rendezvous.state;
		step(peer, RENDEZVOUS_NO_EVENT);
	} while (peer->rendezvous.state == RENDEZVOUS_HELLO && before != RENDEZVOUS_HELLO);
}

void rendezvous_hello_gone(struct peer *peer)
{
	peer->rendezvous.tried_nonce[0] = '\0';
}

void rendezvous_peer_gone(struct peer *peer, bool replaced)
{
	peer->rendezvous.unlinkable = peer->rendezvous.was_forbidden = false;
	forget_forbidden(peer);
	step(peer, replaced ? RENDEZVOUS_REPLACED : RENDEZVOUS_GONE);
}

void rendezvous_pages_freed(struct peers *peers)
{
	struct peer *peer;

	while ((peer = peers->waiting) != NULL) {
		step(peer, RENDEZVOUS_PAGES_FREE);
		if (peers->waiting == peer)
			break;
	}
	if (peers->waiting)
		timer_set(peers->pages, PAGES_RETRY_MS);
}

static void on_timeout(evutil_socket_t fd, short what, void *userdata)
{
	step(userdata, RENDEZVOUS_TIMEOUT);
}

/* Goes on where an event may have been missed: while nobody told the peer of changes, for a moment, or while it
 * had no connection to XenStore, it didn't hear of our hello, or we of its hello and its nodes; or we had none, and
 * couldn't write. */
static void on_again(evutil_socket_t fd, short what, void *userdata)
{
	struct peer *peer = userdata;
	struct rendezvous *rendezvous = &peer->rendezvous;

	if (!event_pending(rendezvous->timer, EV_TIMEOUT, NULL))
		return; /* the attempt is over */
	if ((rendezvous->state == RENDEZVOUS_HELLO || rendezvous->hello_lost) && !rendezvous->hello_request &&
	    write_hello(peer) < 0)
		log_error("rendezvous: out of memory: the hello for domain %u isn't written again",
			  peer->domid);
	if (rendezvous->publish_lost && !rendezvous->publish_request)
		publish(peer);
	if (rendezvous->state == RENDEZVOUS_HELLO) {
		peer_read(peer, LEAF_PRESENCE);
		peer_read(peer, LEAF_HELLO);
	}
	rendezvous_look_again(peer);
	rendezvous->again_ms *= 2;
	timer_set(rendezvous->again, rendezvous->again_ms);
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
	rendezvous->again = evtimer_new(peer->peers->base, on_again, peer);
	rendezvous->sweep = evtimer_new(peer->peers->base, on_sweep, peer);
	return rendezvous->timer && rendezvous->retry && rendezvous->again && rendezvous->sweep ? 0 : -ENOMEM;
}

void rendezvous_destroy(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	vchan_close(rendezvous->vchan); /* no other one will come */
	rendezvous->vchan = NULL;
	if (rendezvous->state != RENDEZVOUS_IDLE && rendezvous->state != RENDEZVOUS_CONNECTED)
		step_back(peer, RENDEZVOUS_IDLE);
	store_cancel(&rendezvous->hello_request);
	store_cancel(&rendezvous->remove_request);
	if (rendezvous->timer)
		event_free(rendezvous->timer);
	if (rendezvous->retry)
		event_free(rendezvous->retry);
	if (rendezvous->again)
		event_free(rendezvous->again);
	if (rendezvous->sweep)
		event_free(rendezvous->sweep);
}

void rendezvous_wanted(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	timer_set(rendezvous->timer, peer->peers->options.setup_timeout_ms);
	if (rendezvous->state == RENDEZVOUS_IDLE)
		return;
	rendezvous->again_ms = AGAIN_FIRST_MS;
	timer_set(rendezvous->again, rendezvous->again_ms);
}

void peers_disconnect(struct peers *peers, uint32_t domid)
{
	struct peer *peer = peer_find(peers, domid);

	if (!peer)
		return;
	withdraw(peer);
	peer_kick(peer); /* the peer may have begun anew already */
}
