/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * An attempt's beginning and its end, as our hello shows them to the peer: it is written to begin, tells what
 * Xen forbids, and is removed when the attempt is given up.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "daemon/peers/peers_internal.h"
#include "wire/retry.h"
#include "wire/ut.h"

/* What Xen forbids isn't tried again for so long: an administrator may have loaded another policy since. */
#define FORBIDDEN_MS (10 * 60 * 1000)

/* Leaves PAGES, GRANTED or AWAIT. A peer that has mapped the vchan meanwhile learns that another one may
 * come: for a daemon that just closes it the sessions would be over. */
void rendezvous_step_back(struct peer *peer, enum rendezvous_state state)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	struct vchan *vchan = rendezvous->vchan;

	if (rendezvous->state == RENDEZVOUS_PAGES) {
		DL_DELETE2(peer->peers->page_queue, peer, rendezvous.wait_prev, rendezvous.wait_next);
		event_active(peer->peers->pages, EV_TIMEOUT, 0); /* it is the next one's turn */
	}
	rendezvous_unpublish(peer);
	event_del(rendezvous->retry);
	rendezvous->vchan = NULL;
	rendezvous->ring_ref = rendezvous->port = 0;
	rendezvous->state = state;
	if (vchan)
		vchan_leave(vchan);
}

/* If the connection to XenStore is lost, on_sweep() tries again: the peer takes what stands there for our
 * wish. */
static void on_hello_removed(void *userdata, int error, const char *value, size_t size)
{
	struct peer *peer = userdata;

	if (error == -ENOTCONN)
		timer_set(peer->rendezvous.sweep, RETRY_EACH_MS);
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

void rendezvous_on_sweep(evutil_socket_t fd, short what, void *userdata)
{
	struct peer *peer = userdata;

	if (peer->rendezvous.state != RENDEZVOUS_IDLE)
		rendezvous_write_again(peer, LEAF_OUR_HELLO);
	else
		remove_hello(peer);
}

void rendezvous_withdraw(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	bool had_hello = rendezvous->state != RENDEZVOUS_IDLE;

	rendezvous_step_back(peer, RENDEZVOUS_IDLE);
	event_del(rendezvous->deadline.timer);
	event_del(rendezvous->again);
	rendezvous->wanted = false;
	rendezvous->goes_on = false;
	if (!had_hello)
		return;
	store_cancel(&rendezvous->hello_request);
	remove_hello(peer);
}

void rendezvous_fail(struct peer *peer, int error, const char *format, ...)
{
	struct peers *peers = peer->peers;
	bool wanted = peer->rendezvous.wanted;
	char reason[256];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	peer->rendezvous.was_refused = false;
	rendezvous_withdraw(peer);
	peer_kick(peer);
	if (wanted)
		peers->callbacks.failed(peers->userdata, peer->domid, error, reason);
	else
		log_debug("rendezvous: domain %u wanted a link: %s", peer->domid, reason);
}

void rendezvous_store_failed(struct peer *peer, int error, const char *what)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;

	if (error == -ENOTCONN) /* rendezvous_on_again() tries again */
		return;
	/* This may be another domain by now, restored, and we haven't heard yet. */
	if (error == -EACCES && !rendezvous->was_refused && peers->callbacks.own_leaf_gone &&
	    peers->callbacks.own_leaf_gone(peers->userdata))
		rendezvous->was_refused = true; /* likewise */
	else
		rendezvous_fail(peer, -EHOSTUNREACH, "can't write %sto XenStore for domain %u: %s", what,
				peer->domid, strerror(-error));
}

static void on_hello_written(void *userdata, int error, const char *value, size_t size)
{
	struct peer *peer = userdata;
	struct rendezvous *rendezvous = &peer->rendezvous;

	if (error == 0) {
		rendezvous->was_refused = false;
		rendezvous->hello_took_ms = (uint32_t)clock_ms_since(rendezvous->hello_since_ms);
		rendezvous_again_from_now(peer);
	} else if (rendezvous->state >= RENDEZVOUS_CONNECTED) {
		timer_set(rendezvous->sweep, RETRY_EACH_MS);
	} else {
		rendezvous_store_failed(peer, error, "");
	}
}

static void format_hello(const struct peer *peer, char value[RENDEZVOUS_NODE_SIZE])
{
	bool forbidden = peer->rendezvous.unlinkable == UNLINKABLE_HERE;

	snprintf(value, RENDEZVOUS_NODE_SIZE, "%d %s %s %d%s", PEERS_MAJOR,
		 peer->peers->options.self->instance_text, peer->rendezvous.our_nonce,
		 peer->peers->may_map && !forbidden, forbidden ? " 1" : "");
}

static void write_hello(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct rendezvous *rendezvous = &peer->rendezvous;
	char path[PEERS_PATH_SIZE], value[RENDEZVOUS_NODE_SIZE];
	int r;

	format_hello(peer, value);
	peer_our_path(peer, path, "/hello");
	rendezvous->hello_since_ms = clock_ms();
	event_del(rendezvous->sweep);
	store_cancel(&rendezvous->hello_request); /* of an earlier nonce, from which we begin anew */
	r = store_write(peers->store, path, value, peers->options.self->domid, (int)peer->domid,
			on_hello_written, peer, &rendezvous->hello_request);
	if (r < 0)
		on_hello_written(peer, r, NULL, 0);
}

bool rendezvous_node_stands(const struct peer *peer, enum peer_leaf leaf, char value[RENDEZVOUS_NODE_SIZE])
{
	const struct rendezvous *rendezvous = &peer->rendezvous;

	if (leaf == LEAF_OUR_HELLO) {
		format_hello(peer, value);
		return rendezvous->state != RENDEZVOUS_IDLE && !rendezvous->hello_request;
	}
	if (rendezvous->state != RENDEZVOUS_GRANTED || rendezvous->publish_request)
		return false;
	snprintf(value, RENDEZVOUS_NODE_SIZE, "%u",
		 leaf == LEAF_OUR_RING_REF ? vchan_ring_ref(rendezvous->vchan)
					   : vchan_port(rendezvous->vchan));
	return true;
}

void rendezvous_write_again(struct peer *peer, enum peer_leaf leaf)
{
	if (leaf == LEAF_OUR_HELLO) {
		peer->rendezvous.is_unseen = false;
		write_hello(peer);
	} else {
		rendezvous_publish(peer);
	}
}

void rendezvous_begin_anew(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
		rendezvous_fail(peer, -EHOSTUNREACH, "no random numbers: %s", strerror(errno));
		return;
	}
	snprintf(rendezvous->our_nonce, sizeof(rendezvous->our_nonce), "%08x", random);
	rendezvous->node_retries = 0;
	rendezvous_step_back(peer, RENDEZVOUS_HELLO);
	rendezvous->is_unseen = true;
	write_hello(peer);
}

void rendezvous_begin(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	rendezvous->begun_ms = clock_ms();
	rendezvous->goes_on = false;
	rendezvous_again_later(peer, 0);
	if (!event_pending(rendezvous->deadline.timer, EV_TIMEOUT, NULL))
		deadline_set(&rendezvous->deadline, peer->peers->options.config->setup_timeout_ms);
	rendezvous_begin_anew(peer);
}

/* Fails our attempt. Our hello stays until the peer has withdrawn its own, since it tells the peer why there
 * is no link. */
void rendezvous_refuse(struct peer *peer)
{
	struct peers *peers = peer->peers;
	char reason[160];

	peer->rendezvous.wanted = false;
	snprintf(
		reason, sizeof(reason),
		peer->rendezvous.unlinkable >= UNLINKABLE_FORBIDDEN
			? "Xen lets domain %u and domain %u share no memory (XSM: SILO, or a policy of Flask)"
			: "neither domain %u nor domain %u may map the other's pages",
		peers->options.self->domid, peer->domid);
	peers->callbacks.failed(peers->userdata, peer->domid, -ENOLINK, reason);
}

void rendezvous_note_forbidden(struct peer *peer, enum unlinkable by)
{
	peer->rendezvous.unlinkable = by;
	peer->rendezvous.forbidden_ms = clock_ms();
}

/* Xen has refused it to us: tells the peer, which would wait, and fails our attempt. */
void rendezvous_forbid(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	rendezvous_note_forbidden(peer, UNLINKABLE_HERE);
	memcpy(rendezvous->tried_nonce, peer->leaves.hello.nonce, sizeof(rendezvous->tried_nonce));
	rendezvous_write_again(peer, LEAF_OUR_HELLO);
	if (rendezvous->wanted)
		rendezvous_refuse(peer);
}

bool rendezvous_may_be_tried(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	if (rendezvous->unlinkable == LINKABLE)
		return true;
	if (rendezvous->unlinkable == UNLINKABLE_UNMAPPED ||
	    clock_ms_since(rendezvous->forbidden_ms) < FORBIDDEN_MS)
		return false;
	rendezvous_withdraw(peer);
	rendezvous->unlinkable = LINKABLE;
	return true;
}

void rendezvous_forget_forbidden(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	if (rendezvous->unlinkable != UNLINKABLE_HERE)
		return;
	rendezvous->unlinkable = UNLINKABLE_FORBIDDEN;
	if (rendezvous->state != RENDEZVOUS_IDLE)
		rendezvous_write_again(peer, LEAF_OUR_HELLO);
}

void rendezvous_forget_unlinkable(struct peer *peer)
{
	rendezvous_forget_forbidden(peer);
	peer->rendezvous.unlinkable = LINKABLE;
}

/* Whether the peer has begun anew long after that. */
bool rendezvous_is_asked_again(const struct peer *peer)
{
	const struct rendezvous *rendezvous = &peer->rendezvous;

	return rendezvous->unlinkable == UNLINKABLE_HERE &&
	       clock_ms_since(rendezvous->forbidden_ms) >= FORBIDDEN_MS && peer_hello_is_current(peer) &&
	       strcmp(rendezvous->tried_nonce, peer->leaves.hello.nonce) != 0;
}
