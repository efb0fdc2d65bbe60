/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How two daemons that know of each other get a vchan between them: doc/protocol.md section 5.1. The table of
 * states is in rendezvous_step.h, which decides; this file acts, by rendezvous_hello.c and
 * rendezvous_rings.c.
 *
 * Nonces tell attempts apart. The mapping side's nonce names the place where the granting side publishes,
 * so nodes that lie there are never an earlier attempt's, and one that has had the vchan of a nonce takes
 * another one for the next. A daemon that only answers does so once for each nonce (`tried`), or two
 * daemons that can't connect would go on for ever; so who isn't answered takes another one from time to
 * time. That nobody waits in vain is searched in tests/model/rendezvous.pml.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/peers/peers_internal.h"
#include "base/clock.h"
#include "base/timer.h"
#include "wire/address.h"
#include "wire/retry.h"

#define COST_STEP                                                                                            \
	20000u /* in units (turns.h): pages are granted, mapped or given back, and leaves written; at least */
#define UNIT_NS	      10
#define ATTEMPT_LASTS 10 /* setup-timeouts: who still wants a link then finds the attempt where it was */
/* A peer asks XenStore some three times as often until it has answered as our hello takes, and answers others
 * before us. */
#define ANSWER_HELLOS 8
#define SLOW_MS	      100 /* a hello takes some milliseconds where XenStore has little to do */
#define AGAIN_MOST_MS 60000u

bool rendezvous_may_map(const struct peers_options *options)
{
	char type[16] = "";
	FILE *file;

	if (options->config->map != CONFIG_MAP_AUTO)
		return options->config->map == CONFIG_MAP_YES;
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
		[RENDEZVOUS_IDLE] = "idle",	 [RENDEZVOUS_HELLO] = "hello",
		[RENDEZVOUS_PAGES] = "pages",	 [RENDEZVOUS_GRANTED] = "granted",
		[RENDEZVOUS_AWAIT] = "await",	 [RENDEZVOUS_CONNECTED] = "connected",
		[RENDEZVOUS_LOST] = "connected",
	};

	return names[peer->rendezvous.state];
}

static void fail_version(struct peer *peer, uint32_t major)
{
	rendezvous_fail(
		peer, -EHOSTUNREACH,
		"domain %u speaks protocol %u, this daemon %d; run the same version of xenmsgd in both",
		peer->domid, major, PEERS_MAJOR);
}

static void rendezvous_lose(struct peer *peer, bool replaced, const char *reason)
{
	struct peers *peers = peer->peers;

	peer->rendezvous.state = RENDEZVOUS_LOST;
	peers->callbacks.lost(peers->userdata, peer->domid, replaced, reason);
}

/* Leaves the attempt where it is, though a time-out has answered who wanted it. False: it has lasted long
 * enough. */
static bool rendezvous_go_on(struct peer *peer)
{
	const uint64_t lasts = (uint64_t)ATTEMPT_LASTS * peer->peers->options.config->setup_timeout_ms;
	const uint64_t age = clock_ms_since(peer->rendezvous.begun_ms);

	if (age >= lasts)
		return false;
	deadline_set(&peer->rendezvous.deadline, (uint32_t)(lasts - age));
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
	unsigned ms = peers->options.config->setup_timeout_ms;
	bool was_wanted = rendezvous->wanted;
	char reason[160];

	if (!store_is_connected(peers->store))
		snprintf(reason, sizeof(reason), "no connection to XenStore within %u ms", ms);
	else if (state == RENDEZVOUS_IDLE)
		snprintf(reason, sizeof(reason), "XenStore did not answer within %u ms", ms);
	else if (state == RENDEZVOUS_PAGES)
		snprintf(reason, sizeof(reason), "no grant pages free");
	else
		snprintf(reason, sizeof(reason), "the daemon of domain %u %s within %u ms", peer->domid,
			 missing[state], ms);
	if (!missing[state] || !rendezvous_go_on(peer)) {
		rendezvous_fail(peer, -EHOSTUNREACH, "%s", reason);
		return;
	}
	rendezvous->goes_on |= was_wanted;
	rendezvous->wanted = false;
	if (was_wanted)
		peers->callbacks.failed(peers->userdata, peer->domid, -EHOSTUNREACH, reason);
}

static struct rendezvous_facts gather(const struct peer *peer, enum rendezvous_event event)
{
	const struct rendezvous *rendezvous = &peer->rendezvous;
	bool forbidden = rendezvous->unlinkable == UNLINKABLE_HERE || peer->leaves.hello.forbidden;
	bool looking_at_hello =
		(peer->leaves.stale | peer->leaves.reading | peer->leaves.came | peer->leaves.missed) &
		1u << LEAF_HELLO;

	return (struct rendezvous_facts){
		.event = event,
		.wanted = rendezvous->wanted,
		.goes_on = rendezvous->goes_on,
		.self = peer->domid == peer->peers->options.self->domid,
		.no_domid = !domid_is_valid(peer->domid),
		.up = peer->up,
		.looked = (peer->leaves.looked & LEAVES_LOOKED_UP) == LEAVES_LOOKED_UP,
		.looking = peer->asked ||
			   (peer->leaves.stale | peer->leaves.reading | peer->leaves.came) & LEAVES_LOOKED_UP,
		.store_down = !store_is_connected(peer->peers->store),
		.other_presence = peer->leaves.presence_major,
		.other_hello = peer->leaves.hello_major,
		.hello = peer_hello_is_current(peer) &&
			 (rendezvous->state == RENDEZVOUS_CONNECTED || !peer->saves.is_held),
		.tried = !strcmp(peer->leaves.hello.nonce, rendezvous->tried_nonce),
		.we_may_map = peer->peers->may_map && !forbidden,
		.they_may_map = peer->leaves.hello.map && !forbidden,
		.we_are_lower = peer->peers->options.self->domid < peer->domid,
		.nodes = rendezvous->ring_ref && rendezvous->port && !looking_at_hello,
	};
}

/* Notes what the peer's hello says. Whether it may map stays as it is until its daemon is another one. A
 * peer that restarted its attempt gets the full time-out again; giving up would make it restart once more. */
static void rendezvous_note(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	if (rendezvous->unlinkable != UNLINKABLE_HERE) {
		if (!peer->leaves.hello.forbidden)
			rendezvous->unlinkable = peer->leaves.hello.map || peer->peers->may_map
							 ? LINKABLE
							 : UNLINKABLE_UNMAPPED;
		else if (rendezvous->unlinkable != UNLINKABLE_FORBIDDEN)
			rendezvous_note_forbidden(peer, UNLINKABLE_FORBIDDEN);
	}
	if (!strcmp(rendezvous->tried_nonce, peer->leaves.hello.nonce))
		return;
	rendezvous->begun_ms = clock_ms();
	memcpy(rendezvous->tried_nonce, peer->leaves.hello.nonce, sizeof(rendezvous->tried_nonce));
}

/* Domain 0 and a guest watch each other by themselves, so they miss nothing as two guests may whom nobody
 * tells of each other; and it answers all guests that start at once. */
static bool is_with_zero(const struct peer *peer)
{
	return peer->domid == 0 || peer->peers->options.self->domid == 0;
}

/* Whether the peer's nodes can't be there yet, since it can't know our nonce. A watch will tell of them. */
static bool are_nodes_to_come(const struct peer *peer)
{
	const struct rendezvous *rendezvous = &peer->rendezvous;

	return rendezvous->is_unseen && rendezvous->hello_request &&
	       !store_has_begun(peer->peers->store, rendezvous->hello_request) && is_with_zero(peer);
}

static void rendezvous_act(struct peer *peer, enum rendezvous_action action)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	switch (action) {
	case RENDEZVOUS_NOTHING:
		break;
	case RENDEZVOUS_LOOK_UP:
		peer_look_up(peer);
		break;
	case RENDEZVOUS_BEGIN:
		rendezvous_begin(peer);
		break;
	case RENDEZVOUS_NOTE:
		rendezvous_note(peer);
		break;
	case RENDEZVOUS_REFUSE:
		rendezvous_note(peer);
		rendezvous_refuse(peer);
		break;
	case RENDEZVOUS_EXPECT:
		rendezvous_note(peer);
		rendezvous->state = RENDEZVOUS_AWAIT;
		rendezvous->ring_ref = rendezvous->port = 0;
		if (!are_nodes_to_come(peer))
			rendezvous_look_again(peer);
		break;
	case RENDEZVOUS_GRANT:
		rendezvous_note(peer);
		rendezvous_grant(peer);
		break;
	case RENDEZVOUS_MAP:
		rendezvous_note(peer);
		rendezvous_map(peer);
		break;
	case RENDEZVOUS_TAKE:
		rendezvous_hand_over(peer, rendezvous->vchan);
		break;
	case RENDEZVOUS_BACK:
		rendezvous_step_back(peer, RENDEZVOUS_HELLO);
		break;
	case RENDEZVOUS_WITHDRAW:
		rendezvous_withdraw(peer);
		break;
	case RENDEZVOUS_FAIL_SELF:
		rendezvous_fail(peer, -EHOSTUNREACH, "a domain has no link with itself");
		break;
	case RENDEZVOUS_FAIL_DOMID:
		rendezvous_fail(peer, -EHOSTDOWN, "there is no domain %u", peer->domid);
		break;
	case RENDEZVOUS_FAIL_VERSION:
		fail_version(peer, peer->leaves.presence_major ? peer->leaves.presence_major
							       : peer->leaves.hello_major);
		break;
	case RENDEZVOUS_FAIL_STORE:
		rendezvous_fail(peer, -EHOSTUNREACH, "no connection to XenStore");
		break;
	case RENDEZVOUS_FAIL_ABSENT:
		absent_note(peer->peers, peer->domid);
		rendezvous_fail(peer, -EHOSTDOWN,
				vchan_host_lacks(peer->peers->host, peer->domid)
					? "there is no domain %u"
					: "no xenmsgd runs in domain %u",
				peer->domid);
		break;
	case RENDEZVOUS_FAIL_GONE:
		rendezvous_fail(peer, -EHOSTDOWN, "domain %u or its daemon has gone", peer->domid);
		break;
	case RENDEZVOUS_FAIL_TIMEOUT:
		fail_timeout(peer);
		break;
	case RENDEZVOUS_LOSE_WITHDRAWN:
		rendezvous_lose(peer, false, "the peer has withdrawn its hello");
		break;
	case RENDEZVOUS_LOSE_ANEW:
		rendezvous_lose(peer, false, "the peer has begun anew");
		break;
	case RENDEZVOUS_LOSE_GONE:
		rendezvous_lose(peer, false, "the peer or its daemon has gone");
		break;
	case RENDEZVOUS_LOSE_REPLACED:
		rendezvous_lose(peer, true, "the peer's daemon was restarted");
		break;
	}
}

/* Takes the next step at the peer's expense. Granting, mapping and giving up cost what the kernel takes for
 * as many pages as there are, whether that leads to another state or not. */
void rendezvous_take_step(struct peer *peer, enum rendezvous_event event)
{
	const enum rendezvous_state state = peer->rendezvous.state;
	struct rendezvous_facts facts;
	enum rendezvous_action action;
	uint64_t before, cost;

	if (rendezvous_is_asked_again(peer))
		rendezvous_forget_forbidden(peer);
	facts = gather(peer, event);
	action = rendezvous_step(state, &facts);
	if (action == RENDEZVOUS_NOTHING)
		return;
	before = clock_thread_ns();
	rendezvous_act(peer, action);
	if (peer->rendezvous.state != state)
		rendezvous_again_from_now(peer);
	if (peer->rendezvous.state == state && action != RENDEZVOUS_GRANT && action != RENDEZVOUS_MAP)
		return;
	cost = (clock_thread_ns() - before) / UNIT_NS;
	turns_spend(peer->task.turns, peer->task.line, COST_STEP);
	if (cost > COST_STEP)
		turns_spend_measured(peer->task.turns, peer->task.line, cost - COST_STEP);
}

bool rendezvous_is_late(const struct peer *peer)
{
	const struct rendezvous *rendezvous = &peer->rendezvous;

	return rendezvous->state != RENDEZVOUS_IDLE && rendezvous->state < RENDEZVOUS_CONNECTED &&
	       rendezvous->again_ms > retry_pause(RETRY_OTHERS, 0);
}

/* Takes the steps that the facts allow. A peer that has just come to HELLO may find its answer there
 * already, and one that is connected by now may have withdrawn its hello. */
void rendezvous_advance(struct peer *peer)
{
	enum rendezvous_state before;

	do {
		before = peer->rendezvous.state;
		rendezvous_take_step(peer, rendezvous_of_vchan(peer));
	} while (peer->rendezvous.state != before && (peer->rendezvous.state == RENDEZVOUS_HELLO ||
						      peer->rendezvous.state == RENDEZVOUS_CONNECTED));
}

void rendezvous_hello_gone(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	if (rendezvous->state == RENDEZVOUS_GRANTED) /* nothing stands under that nonce any more */
		rendezvous_take_step(peer, RENDEZVOUS_NO_EVENT);
	if (rendezvous->tried_nonce[0]) /* it has answered, and given up */
		rendezvous->goes_on = false;
	rendezvous->tried_nonce[0] = '\0';
}

void rendezvous_peer_gone(struct peer *peer, bool replaced)
{
	rendezvous_forget_forbidden(peer);
	rendezvous_take_step(peer, replaced ? RENDEZVOUS_REPLACED : RENDEZVOUS_GONE);
}

void rendezvous_pages_freed(struct peers *peers)
{
	struct peer *peer;

	while ((peer = peers->page_queue) != NULL) {
		rendezvous_take_step(peer, RENDEZVOUS_PAGES_FREE);
		if (peers->page_queue == peer)
			break;
	}
	if (peers->page_queue)
		timer_set(peers->pages, RETRY_EACH_MS);
}

static void on_timeout(evutil_socket_t fd, short what, void *userdata)
{
	struct peer *peer = userdata;

	/* A client that has come is taken in the turn that it has made due, if it stays. If we stood still
	 * ourselves, what the peer has written meanwhile isn't read yet. */
	if (rendezvous_of_vchan(peer) == RENDEZVOUS_LIVE)
		deadline_set(&peer->rendezvous.deadline, RETRY_EACH_MS);
	else if (deadline_is_over(&peer->rendezvous.deadline, peer->peers->options.config->setup_timeout_ms))
		rendezvous_take_step(peer, RENDEZVOUS_TIMEOUT);
}

uint64_t rendezvous_hello_ms(const struct peer *peer)
{
	const struct rendezvous *rendezvous = &peer->rendezvous;
	uint64_t ms = rendezvous->hello_request ? clock_ms_since(rendezvous->hello_since_ms) : 0;

	return ms > rendezvous->hello_took_ms ? ms : rendezvous->hello_took_ms;
}

/* Where XenStore is slow, since many guests start at once, the pause is longer: each of them that says again
 * what was only slow makes it slower for all. Those that wait for domain 0 since one moment, as when it has
 * gone, don't say it all in one moment either. */
static void set_again(struct peer *peer)
{
	const struct rendezvous *rendezvous = &peer->rendezvous;
	const uint64_t later = (uint64_t)ANSWER_HELLOS * rendezvous->again_ms;
	uint64_t ms = ANSWER_HELLOS * rendezvous_hello_ms(peer);

	if (is_with_zero(peer) ? ms < later : ms > later)
		ms = later;
	if (ms < rendezvous->again_ms)
		ms = rendezvous->again_ms;
	if (is_with_zero(peer)) {
		ms = ms < AGAIN_MOST_MS ? ms : AGAIN_MOST_MS;
		ms -= ms / 64 * ((peer->domid + peer->peers->options.self->domid) % 16);
	}
	timer_set(rendezvous->again, ms);
}

void rendezvous_again_later(struct peer *peer, uint32_t before_ms)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	rendezvous->again_ms = retry_pause(RETRY_OTHERS, before_ms);
	set_again(peer);
}

void rendezvous_again_from_now(struct peer *peer)
{
	if (event_pending(peer->rendezvous.again, EV_TIMEOUT, NULL))
		set_again(peer);
}

/* Says once more all that we have said, and reads all that we wait for: while nobody told the peer of
 * changes, for a moment, or while it had no connection to XenStore, it didn't hear of our hello, or we of
 * its hello and its nodes; or we had none, and couldn't write. A hello that isn't answered has another
 * nonce each time: the peer may have answered this one, and given up. */
static void rendezvous_on_again(evutil_socket_t fd, short what, void *userdata)
{
	struct peer *peer = userdata;
	struct rendezvous *rendezvous = &peer->rendezvous;

	if (!event_pending(rendezvous->deadline.timer, EV_TIMEOUT, NULL))
		return;			 /* the attempt is over */
	if (rendezvous->hello_request) { /* XenStore is slow: nobody can have missed what isn't there yet */
		timer_set(rendezvous->again, rendezvous->again_ms);
		return;
	}
	rendezvous_again_later(peer, rendezvous->again_ms);
	peer_read(peer, LEAF_PRESENCE);
	peer_read(peer, LEAF_HELLO);
	rendezvous_look_again(peer);
	if (rendezvous->state == RENDEZVOUS_GRANTED && !rendezvous->publish_request)
		rendezvous_publish(peer);
	if (rendezvous->state == RENDEZVOUS_HELLO && !peer_hello_is_current(peer))
		rendezvous_begin_anew(peer);
	else if (rendezvous->state != RENDEZVOUS_IDLE)
		rendezvous_write_again(peer, LEAF_OUR_HELLO);
}

static void rendezvous_on_retry(evutil_socket_t fd, short what, void *userdata)
{
	rendezvous_look_again(userdata);
}

int rendezvous_init(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	rendezvous->deadline.timer = evtimer_new(peer->peers->base, on_timeout, peer);
	rendezvous->retry = evtimer_new(peer->peers->base, rendezvous_on_retry, peer);
	rendezvous->again = evtimer_new(peer->peers->base, rendezvous_on_again, peer);
	rendezvous->sweep = evtimer_new(peer->peers->base, rendezvous_on_sweep, peer);
	return rendezvous->deadline.timer && rendezvous->retry && rendezvous->again && rendezvous->sweep
		       ? 0
		       : -ENOMEM;
}

void rendezvous_destroy(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	if (rendezvous->vchan && peer->peers->hands_over)
		vchan_leave(rendezvous->vchan); /* the next daemon makes another one */
	else
		vchan_close(rendezvous->vchan); /* no other one will come */
	rendezvous->vchan = NULL;
	if (rendezvous->state != RENDEZVOUS_IDLE && rendezvous->state < RENDEZVOUS_CONNECTED)
		rendezvous_step_back(peer, RENDEZVOUS_IDLE);
	store_cancel(&rendezvous->hello_request);
	store_cancel(&rendezvous->remove_request);
	free_event(rendezvous->deadline.timer);
	free_event(rendezvous->retry);
	free_event(rendezvous->again);
	free_event(rendezvous->sweep);
}

void rendezvous_wanted(struct peer *peer)
{
	struct rendezvous *rendezvous = &peer->rendezvous;

	deadline_set(&rendezvous->deadline, peer->peers->options.config->setup_timeout_ms);
	if (rendezvous->state != RENDEZVOUS_IDLE && rendezvous_hello_ms(peer) < SLOW_MS)
		rendezvous_again_later(peer, 0);
}

/* That is so as long as the leaves of then stand there. If others do, it was an earlier daemon. */
void peers_died(struct peers *peers, uint32_t domid)
{
	struct peer *peer = peer_find(peers, domid);

	if (!peer || peer->rendezvous.state != RENDEZVOUS_CONNECTED)
		return;
	peer->rendezvous.state = RENDEZVOUS_LOST;
	memcpy(peer->dead_instance, peer->instance, sizeof(peer->dead_instance));
	peer_read(peer, LEAF_PRESENCE);
	peer_read(peer, LEAF_HELLO);
}

void peers_disconnect(struct peers *peers, uint32_t domid)
{
	struct peer *peer = peer_find(peers, domid);

	if (!peer)
		return;
	rendezvous_withdraw(peer);
	peer_kick(peer); /* the peer may have begun anew already */
}
