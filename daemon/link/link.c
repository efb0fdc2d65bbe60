/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "daemon/link/link.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>

#include "daemon/switch/channel.h"
#include "base/clock.h"
#include "base/cost.h"
#include "base/log.h"
#include "daemon/link/link_internal.h"
#include "daemon/link/carrier.h"
#include "daemon/peers/peers.h"
#include "base/self.h"
#include "wire/ut.h"

#define ACK_BYTES 65536u
#define YIELD_NS  20000u /* if others had the CPU for longer than this while we yielded, they need it */
#define ALONE_NS  2000u	 /* that takes less where nobody else wants it, */
#define SPIN_NS	  8000u	 /* so that we look for so long before we yield again */
#define LOOP_NS	  50000u /* how long other events wait meanwhile */

void link_set_state(struct link *link, enum link_state state)
{
	const struct links *links = link->links;
	bool was_away = link->state == LINK_AWAY;

	if (link->state != state)
		link->since = (uint64_t)time(NULL);
	link->state = state;
	if (link->word.waits)
		event_del(link->again.timer);
	link->word.waits = false;
	if (state != LINK_CONNECTING) {
		link->word.has_waited = link->word.has_come = false;
		link->word.asked = 0;
	}
	if (was_away != (state == LINK_AWAY) && !link_is_remote(link))
		registry_set_away(links->options.registry, link->stamped.number, !was_away);
}

void link_stop_being_polled(struct link *link)
{
	if (link->links->polled == link)
		link->links->polled = NULL;
}

void link_tell(const struct link *link, enum registry_what what)
{
	if (link->peer.kind == PEER_DOMAIN)
		registry_tell(link->links->options.registry, what, link->peer.number);
}

/* The lower end takes even channel numbers. */
static uint32_t parity_of(const struct link *link)
{
	return link_is_lower(link) ? 0 : 1;
}

/* --- a session's end -------------------------------------------------------------------------- */

void link_drop_carrier(struct link *link, int error, const char *why)
{
	struct frame_goodbye goodbye = {.error = (uint32_t)error, .text = {why, strlen(why)}};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	if (!carrier_is_there(&link->carrier))
		return;
	if (carrier_state(&link->carrier) == CARRIER_OPEN && hop_has_rings(link->hop))
		hop_farewell(link->hop, payload, frame_goodbye_encode(&goodbye, payload));
	hop_detach(link->hop);
	carrier_close(&link->carrier);
	link_drop_move(link, false);
	elastic_forget(&link->elastic);
	if (!carrier_is_there(&link->next)) /* else it is connected anew already */
		links_withdraw(link->links, link->peer);
}

void link_drop_next(struct link *link)
{
	link->session.attempt = RESUME_NOTHING;
	/* The peer, which may be away, would take a close for the session's end. */
	carrier_leave(&link->next);
}

/* Ends all channels, or those of which the peer was told. As they may be thousands, they end with the hop
 * that they are on, in pieces, and the link goes on with another one. */
static void link_end_channels(struct link *link, int error, bool only_said)
{
	struct hop *before = link->hop, *hop = hop_channel_count(before) ? link_new_hop(link) : NULL;

	if (!hop) { /* or there is no memory for another one */
		hop_detach(before);
		hop_reset_channels(before, error);
		hop_set_parity(before, parity_of(link)); /* one of the two may have had another number */
		return;
	}
	hop_count_on(hop, before);
	if (hop_account(before))
		hop_set_account(hop, account_ref(hop_account(before)));
	link->hop = hop;
	if (only_said) {
		hop_detach(before);
		link_move_waiting(before, hop);
	}
	hop_retire(before, error);
}

/* Whether it ends without an error, and nobody is to be told why. */
static bool ends_in_order(const struct link *link, const char *why)
{
	return !hop_channel_count(link->hop) &&
	       (!strcmp(why, LINK_WAS_IDLE) || !strcmp(why, LINK_WAS_CLOSED));
}

static void link_finish_session(struct link *link, int error, const char *why, bool only_said)
{
	bool was_wanted = link_is_wanted(link), was_up = link->state == LINK_UP,
	     was_away = link->state == LINK_AWAY;

	snprintf(link->last_error, sizeof(link->last_error), "%s", ends_in_order(link, why) ? "" : why);
	if (link->state == LINK_CONNECTING || (link->state == LINK_AWAY && !carrier_is_there(&link->next)))
		links_withdraw(link->links, link->peer);
	link_set_state(link, LINK_IDLE);
	link->session = (struct link_session){.state = RESUME_ENDED};
	link->claims = link->awaited.is_some = false;
	if (!link_is_unattributed(link))
		link->stamped = link->peer;
	if (link->again.timer)
		event_del(link->again.timer);
	link_stop_being_polled(link);
	link_end_channels(link, error, only_said);
	link->pings.sent_ns = 0;
	if (!only_said)
		pings_tell(&link->pings, -error);
	if (was_up)
		link_tell(link, REGISTRY_LINK_LOST);
	if (was_away)
		link_tell(link, REGISTRY_LINK_ENDED);
	if (was_wanted && !only_said)
		log_limited(LOG_UNREACHABLE, error == EHOSTDOWN ? link->wanted_by : link_source(link),
			    LOG_LEVEL_INFO, "%s: what was meant for it ends: %s", link->title, why);
}

void link_end_session(struct link *link, int error, const char *why)
{
	link_finish_session(link, error, why, false);
}

void link_end_said(struct link *link, int error, const char *why)
{
	link_finish_session(link, error, why, true);
}

void link_end_heard(struct link *link, int error, const char *why)
{
	if (link_may_ask_anew(link))
		link_end_said(link, error, why);
	else
		link_end_session(link, error, why);
}

int link_error_now(struct link *link)
{
	return links_is_there(link->links, link->peer) ? EHOSTUNREACH : EHOSTDOWN;
}

void link_note_death(const struct link *link, const struct carrier *carrier)
{
	if (link->peer.kind == PEER_DOMAIN && carrier_has_died(carrier))
		peers_died(link->links->peers, link->peer.number);
}

/* --- as the owner of the hop ------------------------------------------------------------------ */

/* Which session begins: the lower end chooses what names it, and its secret. */
static void begin_to_resume(struct link *link, const struct frame_hello_link *hello)
{
	bool ours = link_is_lower(link);
	struct link_session *session = &link->session;

	*session = (struct link_session){.state = RESUME_ENDED};
	memcpy(session->peer_instance, hello->instance, sizeof(session->peer_instance));
	if (!(hello->flags & HELLO_RESUMES) || !link->links->options.config->resume_for_ms ||
	    link_make_timer(link) < 0)
		return;
	session->state = RESUME_UP;
	session->epoch = session->confirmed = 1;
	memcpy(session->token, ours ? link->handshake.nonce : hello->nonce, sizeof(session->token));
	memcpy(session->secret, ours ? link->handshake.secret : hello->secret, sizeof(session->secret));
}

void link_note_program(struct link *link, uint32_t flags, struct frame_text host)
{
	link->flags = flags;
	if (link->links->options.hosts && peer_is_domain(link->peer, 0))
		hosts_learn_own_name(link->links->options.hosts, host);
}

void link_note_hello(struct link *link, const struct frame_hello_link *hello)
{
	/* Links that nobody needs for a while end, and come back. */
	bool is_routine = link->has_met && !link->last_error[0];

	begin_to_resume(link, hello);
	link->name[0] = link->uuid[0] = '\0';
	link->former_until_ms = 0;
	link_note_name(link);
	if (!link->has_met)
		DL_APPEND2(link->links->met, link, met_prev, met_next);
	link->has_met = true;
	frame_text_copy_plain(hello->version, link->version, sizeof(link->version), '!');
	link_note_program(link, hello->flags, hello->host);
	link_set_state(link, LINK_UP);
	log_limited(LOG_LINK, link_source(link), is_routine ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO,
		    "%s: link is up, xenmsgd %s", link->title, link->version);
	pings_tell(&link->pings, 0);
	link_tell(link, REGISTRY_LINK_UP);
}

void link_read_goodbye(const struct frame_goodbye *goodbye, char *why, size_t room)
{
	char text[101];

	frame_text_copy_plain(goodbye->text, text, sizeof(text), ' ');
	snprintf(why, room, goodbye->error ? "the peer says goodbye: %s" : LINK_WAS_CLOSED, text);
}

static int link_on_open(void *owner, struct channel *channel, const struct frame_open *open)
{
	struct link *link = owner;

	if (link->state != LINK_UP)
		return -EINVAL;
	if (!link_is_remote(link))
		channel->identity.domid = link->peer.number; /* the hypervisor's word, not the peer's */
	link->links->callbacks.open(link->links->userdata, link->peer, channel, open);
	return 0;
}

/* The acceptor is in this domain; but domain 0 tells whom it leads to, and another host who is
 * there. */
static void link_on_opened(void *owner, struct channel *channel)
{
	const struct link *link = owner;

	if (!channel_is_remote(channel) && (!peer_is_domain(link->peer, 0) || !channel_is_relayed(channel)))
		channel->acceptor_identity.domid = link->peer.number;
}

static void link_on_notify(void *owner)
{
	struct link *link = owner;
	int r = carrier_notify(&link->carrier);

	if (r == 0 && link->move.state == MOVE_MOVING)
		r = carrier_notify(&link->move.to);
	if (r < 0)
		hop_fail(link->hop, -ENOLINK, "notifying it: %s", strerror(-r));
}

static bool link_is_sound(void *owner)
{
	struct link *link = owner;

	/* While a session begins, its vchan isn't the carrier yet. */
	return carrier_is_sound(carrier_is_there(&link->carrier) ? &link->carrier : &link->next);
}

void link_guard(struct link *link)
{
	bool guarded = carrier_is_guarded(&link->next);

	hop_guard(link->hop, guarded, guarded && !carrier_is_granter(&link->next));
}

static void link_on_failed(void *owner, int error, const char *why)
{
	struct link *link = owner;
	enum log_level level = error == -ECONNRESET ? LOG_LEVEL_DEBUG
			       : error == -ENOLINK  ? LOG_LEVEL_INFO
						    : LOG_LEVEL_WARNING;
	char reason[200];

	if (link->state != LINK_UP)
		return;
	snprintf(reason, sizeof(reason), "%s", why);
	if (link_may_resume(link, error)) {
		link_stop_being_polled(link);
		link_leave(link, reason);
		return;
	}
	if (error == -ENOLINK)
		error = -ECONNRESET;
	log_limited(LOG_LINK, link_source(link), level, "%s: link is down: %s", link->title, reason);
	link_drop_carrier(link, error == -ECONNRESET ? 0 : -error, reason);
	if (error == -ECONNRESET)
		link_end_heard(link, link_error_now(link), reason);
	else
		link_end_session(link, link_error_now(link), reason);
	if (carrier_is_there(&link->next))
		link_greet(link);
	else
		link_ask_for_waiting(link);
}

/* --- the vchan -------------------------------------------------------------------------------- */

static void send_due_ack(struct link *link)
{
	uint8_t payload[8];

	if (link->state != LINK_UP || hop_received(link->hop) - link->acked < ACK_BYTES)
		return;
	link->acked = hop_received(link->hop);
	hop_answer(link->hop, FRAME_ACK, 0, payload, frame_u64_encode(link->acked, payload));
}

/* Notes that something was taken in, so the peer lives. */
static void note_heard(struct link *link, uint64_t now)
{
	if (hop_rx(link->hop)->frames == link->times.heard_frames)
		return;
	link->times.heard_frames = hop_rx(link->hop)->frames;
	link->times.heard_ms = now;
}

/* Polls for the next answer instead of waiting for it, while answers come quickly (busy_poll.h). */
static void poll_or_ask(struct link *link, uint64_t now)
{
	struct links *links = link->links;

	if (link->busy_poll.limit && link->state == LINK_UP && !links->polled &&
	    busy_poll_idle(&link->busy_poll, now)) {
		links->polled = link;
		links->polled_until = now + link->busy_poll.limit;
		hop_dont_ask(link->hop);
	} else {
		hop_may_ask(link->hop);
	}
}

/* Lets the peer's account pay for the time that was spent polling for it. */
static void pay_for_polling(struct link *link, uint64_t ns)
{
	hop_spend_measured(link->hop, ns / TURNS_UNIT_NS);
}

static void stop_polling(struct links *links)
{
	struct link *link = links->polled;

	links->polled = NULL;
	pay_for_polling(link, busy_poll_in_vain(&link->busy_poll, clock_ns()));
	hop_look(link->hop); /* which asks for a notification again */
}

static void link_after_turn(void *owner, bool took_in, bool more)
{
	struct link *link = owner;
	uint64_t now = switch_now(link->links->board);

	if (took_in) {
		if (link->busy_poll.idle_since)
			pay_for_polling(link, busy_poll_came(&link->busy_poll, now, link->was_polled));
		note_heard(link, clock_ms_of(now));
		send_due_ack(link);
	}
	link->was_polled = false;
	if (took_in) {
		link->session.confirmed = link->session.epoch;
		link_elastic_used(link);
	}
	if (!more) {
		link_look_whether_gone(link);
		poll_or_ask(link, now);
	}
}

static const struct hop_callbacks hop_callbacks = {
	.control = link_on_control,
	.open = link_on_open,
	.opened = link_on_opened,
	.notify = link_on_notify,
	.after_turn = link_after_turn,
	.is_sound = link_is_sound,
	.move = link_on_move,
	.moved = link_on_moved,
	.before_input = link_see_to_channels,
	.failed = link_on_failed,
};

struct hop *link_new_hop(struct link *link)
{
	const struct links *links = link->links;

	return hop_new(links->board, HOP_LINK, &hop_callbacks, link, parity_of(link),
		       links->options.channels_max);
}

void link_on_carrier(void *userdata)
{
	struct link *link = userdata;
	/* Read the state first: what the peer wrote before it closed is then in the ring. */
	enum carrier_state state = carrier_state(&link->carrier);

	link_stop_being_polled(link);
	hop_spend(link->hop, COST_WAKE_UP);
	hop_event(link->hop);
	if (state == CARRIER_OPEN)
		return; /* whatever changes that is another event */
	link_note_death(link, &link->carrier);
	if (link_note_gone(link, state))
		return;
	if (state == CARRIER_LEFT)
		hop_finish(link->hop, -ENOLINK, "the peer has left the vchan");
	else if (state == CARRIER_CLOSED)
		hop_finish(link->hop, -ECONNRESET, "the peer's daemon has gone");
	else
		hop_finish(link->hop, -EPROTO, "impossible state in the vchan");
}

/* Looks for input: for a while, if nobody else wanted the CPU the last time; then it lets others have it.
 * Returns whether to go on polling. */
static bool look_on(struct links *links)
{
	uint64_t before = clock_ns(), until = before + (links->is_alone ? SPIN_NS : 0), took;

	if (before >= links->polled_until)
		return false;
	while (before < until) {
		if (hop_has_input(links->polled->hop))
			return true;
		before = clock_ns();
	}
	sched_yield();
	took = clock_ns() - before;
	links->is_alone = took < ALONE_NS;
	return took < YIELD_NS;
}

/* Takes in what has come over the link that is polled. Returns whether it is polled again at once. */
static bool take_polled(struct links *links)
{
	struct link *link = links->polled;

	links->polled = NULL;
	link->was_polled = true;
	hop_polled(link->hop);
	switch_pass(links->board);
	if (links->board->skipped_yield)
		links->is_alone = false; /* a program may wait for the CPU */
	return links->polled && !switch_is_busy(links->board);
}

bool links_poll(struct links *links)
{
	uint64_t until = 0;

	while (links->polled) {
		bool goes_on = hop_has_input(links->polled->hop) || look_on(links);

		if (!hop_has_input(links->polled->hop)) {
			if (!goes_on)
				stop_polling(links);
			break;
		}
		if (!take_polled(links))
			break;
		if (!until)
			until = clock_ns() + LOOP_NS;
		else if (clock_ns() >= until)
			break;
	}
	return links->polled;
}

uint32_t link_make_hello(struct link *link, uint8_t *payload)
{
	const struct links_options *options = &link->links->options;
	struct frame_hello_link hello = {
		.major = PROTOCOL_MAJOR,
		.minor = PROTOCOL_MINOR,
		.flags = (options->config->relay ? HELLO_RELAYS : 0) |
			 (options->config->resume_for_ms ? HELLO_RESUMES : 0) |
			 (options->obeys && !link_is_remote(link) ? HELLO_OBEYS : 0),
		.max_message = link->links->board->max_message,
		.version = {PACKAGE_VERSION, strlen(PACKAGE_VERSION)},
	};

	if (options->hosts && options->self->domid == 0 && !link_is_remote(link))
		hello.host = frame_text_of(options->self->host);
	memcpy(hello.instance, options->self->instance, sizeof(hello.instance));
	memcpy(hello.nonce, link->handshake.nonce, sizeof(hello.nonce));
	memcpy(hello.secret, link->handshake.secret, sizeof(hello.secret));
	link_make_tags(link, &hello);
	return frame_hello_link_encode(&hello, payload);
}

void link_take_next(struct link *link)
{
	link->carrier = link->next;
	link->next = (struct carrier){0};
	link->times.heard_ms = link->times.used_ms = link->times.carried_ms = clock_ms();
	busy_poll_init(&link->busy_poll, link->links->options.config->busy_poll_us * UINT64_C(1000));
	link_hear_carrier(link);
}

void link_hear_carrier(struct link *link)
{
	link->ring_bytes = hop_ring_size(link->hop);
	carrier_hear(&link->carrier, link_on_carrier, link);
	link_on_carrier(link); /* the peer may have been quicker */
}
