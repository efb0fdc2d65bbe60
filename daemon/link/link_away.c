/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A session that is away: it has lost its vchan, and goes on over another one. Resume_step.h has the
 * table. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "daemon/link/link_internal.h"
#include "daemon/peers/peers.h"

#define COST_FRAME_BEFORE                                                                                    \
	500u /* units (turns.h): two keyed hashes of 100 bytes, at most; HELLO has its own */
#define AGAIN_MS       1000
#define FRAMES_AT_ONCE 8 /* an attempt has four */

bool link_may_resume(const struct link *link, int error)
{
	return (error == -ENOLINK || error == -ETIMEDOUT) && link->state == LINK_UP &&
	       link->session.state == RESUME_UP;
}

static uint64_t away_until(const struct link *link)
{
	return link->session.away_ms + link->links->options.config->resume_for_ms;
}

/* --- another vchan ---------------------------------------------------------------------------- */

static void link_away_give_up(struct link *link, int error, const char *why)
{
	carrier_close(&link->next);
	link_end_session(link, error, why);
}

static void wait_to_try_again(struct link *link)
{
	uint64_t now = clock_ms(), until = away_until(link), left = until > now ? until - now : 0;

	/* If there is no memory for that, the next heartbeat goes on. */
	deadline_set(&link->again, left < AGAIN_MS ? (uint32_t)left : AGAIN_MS);
}

/* Asks for another vchan. The timer runs on: whoever is asked may never answer. */
static void link_away_ask(struct link *link)
{
	struct links *links = link->links;

	wait_to_try_again(link);
	if (links->is_restarting || links->is_held)
		return;
	if (link_is_unattributed(link))
		link_seek(link);
	else
		links_ask(links, link->peer, NULL);
}

static void link_away_on_again(int fd, short what, void *userdata)
{
	struct link *link = userdata;

	if (link->state == LINK_CONNECTING) {
		link_end_wait_for_word(link); /* it may be gone with this */
		return;
	}
	if (link->state != LINK_AWAY)
		return;
	if (clock_ms() >= away_until(link)) {
		/* If we stood still ourselves, that the peer is back may lie there unread. */
		if (deadline_is_over(&link->again, AGAIN_MS))
			link_away_give_up(link, link_error_now(link),
					  "the peer was away for longer than resume-for");
		return;
	}
	if (carrier_is_there(&link->next))
		wait_to_try_again(link);
	else
		link_away_ask(link);
}

int link_make_timer(struct link *link)
{
	if (!link->again.timer)
		link->again.timer = evtimer_new(link->links->board->base, link_away_on_again, link);
	return link->again.timer ? 0 : -ENOMEM;
}

/* Ends an attempt, but not the session. A peer that only claims that it has one has none. */
static void link_away_drop(struct link *link, const char *why)
{
	log_debug("%s: the session wasn't resumed: %s", link->title, why);
	link_drop_next(link);
	if (link->claims) {
		if (link_may_ask_anew(link))
			link_greet_anew(link);
		else
			link_end_session(link, link_error_now(link), why);
		return;
	}
	links_withdraw(link->links, link->peer);
	wait_to_try_again(link);
}

/* A session that was resumed and is lost before it could send anything again has been away all along: to try
 * again at once would come to the same. */
void link_leave(struct link *link, const char *why)
{
	struct links *links = link->links;
	bool has_come_back = hop_has_sent_again(link->hop);
	int r = hop_pause(link->hop);

	carrier_leave(&link->carrier);
	link_drop_move(link, true);
	elastic_forget(&link->elastic);
	if (r < 0)
		carrier_close(&link->next);
	if (!carrier_is_there(&link->next)) /* else it is connected anew already */
		links_withdraw(links, link->peer);
	if (r < 0) {
		link_end_session(link, link_error_now(link), "what was sent couldn't be kept");
		return;
	}
	snprintf(link->last_error, sizeof(link->last_error), "%s", why);
	link->session.state = RESUME_AWAY;
	if (has_come_back)
		link->session.away_ms = clock_ms();
	link_set_state(link, LINK_AWAY);
	link_tell(link, REGISTRY_LINK_LOST);
	log_limited(LOG_LINK, link_source(link), LOG_LEVEL_INFO,
		    "%s: link is away: %s; it may be resumed within %u s", link->title, why,
		    links->options.config->resume_for_ms / 1000);
	if (carrier_is_there(&link->next)) {
		wait_to_try_again(link);
		link_try_next(link);
	} else if (has_come_back) {
		link_away_ask(link);
	} else {
		wait_to_try_again(link);
	}
}

void link_lose_attempt(struct link *link, bool replaced, const char *why)
{
	if (!replaced) {
		link_away_drop(link, why);
		return;
	}
	carrier_close(&link->next);
	link_end_heard(link, EHOSTDOWN, why);
	link_ask_for_waiting(link);
}

bool link_survive(struct link *link)
{
	if (link->state == LINK_GREETING)
		return false;
	carrier_close(&link->next);
	link->session.attempt = RESUME_NOTHING;
	if (link->claims)
		return false;
	if (link->state == LINK_AWAY)
		return true;
	if (!link_may_resume(link, -ENOLINK))
		return false;
	link_leave(link, "this domain was restored or migrated");
	return link->state == LINK_AWAY;
}

void link_ask_again(struct link *link)
{
	if (link->state == LINK_AWAY && !carrier_is_there(&link->next))
		link_away_ask(link);
}

/* --- an attempt ------------------------------------------------------------------------------- */

static void link_away_say(struct link *link, uint8_t type, const uint8_t *payload, uint32_t length)
{
	int r = handshake_say(&link->handshake, &link->next, type, 0, payload, length);

	if (r < 0)
		link_away_drop(link, strerror(-r));
}

static void say_prove(struct link *link)
{
	struct link_session *session = &link->session;
	struct frame_prove prove = {.epoch = session->epoch};
	uint8_t payload[FRAME_SMALL_MAX];
	struct auth_end us, them;

	link_auth_ends(link, link->session.peer_instance, &us, &them);
	auth_tag_make(session->secret, &us, &them, prove.epoch, prove.proof);
	session->attempt = RESUME_PROVING;
	link_away_say(link, FRAME_PROVE, payload, frame_prove_encode(&prove, payload));
}

/* The mapping end numbers the epochs, and already now: no later attempt has this number, whatever becomes of
 * this one. */
static void say_resume(struct link *link)
{
	struct link_session *session = &link->session;
	struct frame_resume resume = {.received = hop_received(link->hop)};
	uint8_t payload[FRAME_SMALL_MAX];

	if (!carrier_is_granter(&link->next))
		session->epoch =
			(session->epoch > link->handshake.epoch ? session->epoch : link->handshake.epoch) + 1;
	resume.epoch = session->epoch;
	session->attempt = RESUME_RESUMING;
	link_away_say(link, FRAME_RESUME, payload, frame_resume_encode(&resume, payload));
}

static void link_away_refuse(struct link *link)
{
	struct frame_goodbye goodbye = {.error = ECONNRESET,
					.text = {"that session is older than this end", 35}};
	uint8_t payload[FRAME_SMALL_MAX];

	handshake_say(&link->handshake, &link->next, FRAME_GOODBYE, 0, payload,
		      frame_goodbye_encode(&goodbye, payload));
	link_away_drop(link, "the other end is older");
}

static void link_away_go_on(struct link *link, const struct frame_resume *resume)
{
	struct link_session *session = &link->session;
	uint64_t away_ms = clock_ms_since(session->away_ms), again = hop_sent(link->hop) - resume->received;
	uint8_t payload[8];

	if (carrier_is_granter(&link->next))
		session->epoch = resume->epoch;
	link_note_resumed(link);
	link_guard(link);
	hop_resume(link->hop, &link->handshake.in, &link->handshake.out, resume->received);
	session->attempt = RESUME_NOTHING;
	session->state = RESUME_UP;
	link->resumes++;
	event_del(link->again.timer);
	link_set_state(link, LINK_UP);
	log_limited(LOG_LINK, link_source(link), LOG_LEVEL_INFO,
		    "%s: link is resumed after %llu ms, %llu bytes are sent again", link->title,
		    (unsigned long long)away_ms, (unsigned long long)again);
	/* Something must be heard in each epoch: no ping has this token, so the answer says nothing. */
	hop_answer(link->hop, FRAME_PING, 0, payload, frame_u64_encode(0, payload));
	link_tell(link, REGISTRY_LINK_UP);
	link_tell_awaiting(link);
	link_take_next(link);
}

void link_begin_over_next(struct link *link, const struct frame_hello_link *hello)
{
	link_guard(link);
	hop_attach_begun(link->hop, &link->handshake.in, &link->handshake.out);
	link->acked = link->acked_by_peer = 0;
	link_note_hello(link, hello);
	if (!link_is_remote(link))
		link_lead_sought(link);
	link_take_next(link);
}

/* The other end doesn't know the session: a new one begins, with the two HELLOs as its first frames. */
static void begin_instead(struct link *link, const struct frame_hello_link *hello)
{
	link->session.attempt = RESUME_NOTHING;
	if (!link->claims) /* else what waits there is for this domain in any case */
		link_end_said(link, link_error_now(link), "the peer has no such session any more");
	link->claims = false;
	link_begin_over_next(link, hello);
}

static void link_away_act(struct link *link, const struct resume_facts *facts,
			  const struct frame_resume *resume)
{
	struct link_session *session = &link->session;
	const char *why = "";
	struct link *own;

	switch (resume_step(session->state, session->attempt, facts)) {
	case RESUME_IGNORE:
	case RESUME_LEAVE: /* link_leave() has been called */
		break;
	case RESUME_SHOW:
		say_prove(link);
		break;
	case RESUME_DROP:
		link_away_drop(link, "the peer didn't prove that it is the other end, or went");
		break;
	case RESUME_REFUSE:
		link_away_refuse(link);
		break;
	case RESUME_SAY:
		own = link->claims ? link_take_over(link, &why) : link;
		if (own)
			say_resume(own);
		else
			link_away_drop(link, why);
		break;
	case RESUME_GO_ON:
		if (resume) /* nothing else leads here */
			link_away_go_on(link, resume);
		break;
	case RESUME_END:
		link_away_give_up(link, link_error_now(link), "the peer's end of the session is another");
		break;
	}
}

static void go_on_proving(struct link *link, const struct frame_hello_link *hello)
{
	link->greeted = true;
	memcpy(link->handshake.peer_nonce, hello->nonce, sizeof(link->handshake.peer_nonce));
	link->handshake.flags = hello->flags;
	frame_text_copy_plain(hello->version, link->handshake.version, sizeof(link->handshake.version), '!');
	frame_text_copy_plain(hello->host, link->handshake.host, sizeof(link->handshake.host), '!');
	link_away_act(link, &(struct resume_facts){.event = RESUME_NEXT}, NULL);
}

/* A session that both HELLOs have named by a tag. Where it isn't that of this attempt, both ends know which
 * one it is. */
static void take_tagged(struct link *link, struct link *own, const struct frame_hello_link *hello)
{
	if (link->claims)
		link_claim_named(link, own);
	/* They were granted before anybody knew of the session, or pages were short. */
	if (own == link && !link->claims && !link_has_room(link, link))
		link_away_drop(link, "the new rings are too small for what is to be sent again");
	else if (own == link || link->claims)
		go_on_proving(link, hello);
	else
		link_away_drop(link, "the peer means another session");
}

static bool link_away_take_hello(struct link *link, const uint8_t *payload, uint32_t length)
{
	struct frame_hello_link hello;
	struct link *own;

	if (link->greeted || frame_hello_link_decode(payload, length, &hello) < 0 ||
	    hello.major != PROTOCOL_MAJOR)
		return false;
	link->greeted = true;
	hop_spend(link->hop, LINK_COST_HELLO);
	own = link_find_tagged(link, &hello);
	if (own)
		take_tagged(link, own, &hello);
	else
		begin_instead(link, &hello);
	return true;
}

static bool take_prove(struct link *link, const uint8_t *payload, uint32_t length)
{
	struct link_session *session = &link->session;
	struct resume_facts facts = {.event = RESUME_PROVE};
	struct auth_end us, them;
	struct frame_prove prove;

	if (frame_prove_decode(payload, length, &prove) < 0)
		return false;
	link_auth_ends(link, link->session.peer_instance, &us, &them);
	facts.proven = auth_tag_is_good(session->secret, &them, &us, prove.epoch, prove.proof);
	facts.older = prove.epoch < session->confirmed;
	facts.last = prove.epoch == UINT32_MAX || session->epoch == UINT32_MAX;
	link->handshake.epoch = prove.epoch;
	link_away_act(link, &facts, NULL);
	return true;
}

static bool take_resume(struct link *link, const uint8_t *payload, uint32_t length)
{
	struct resume_facts facts = {.event = RESUME_RESUME};
	struct frame_resume resume;

	if (frame_resume_decode(payload, length, &resume) < 0)
		return false;
	/* The mapping end's is a new one. */
	if (carrier_is_granter(&link->next) && resume.epoch <= link->session.epoch)
		return false;
	facts.ahead = resume.received > hop_given_out(link->hop);
	facts.behind = resume.received < hop_acked(link->hop);
	link_away_act(link, &facts, &resume);
	return true;
}

/* Takes a frame of the attempt. False: the other end does wrong. */
static bool link_away_take_frame(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	switch (header->type) {
	case FRAME_HELLO:
		return link_away_take_hello(link, payload, header->length);
	case FRAME_PROVE:
		return take_prove(link, payload, header->length);
	case FRAME_RESUME:
		return take_resume(link, payload, header->length);
	case FRAME_GOODBYE:
		link_away_act(link, &(struct resume_facts){.event = RESUME_GOODBYE}, NULL);
		return !carrier_is_there(&link->next);
	default:
		return false;
	}
}

static void on_next(void *userdata);

/* Frees the link of a claim that was proven. Returns the session's, which has all it had. */
static struct link *retire(struct link *link)
{
	struct link *own = link->successor;

	if (carrier_is_there(&own->next))
		carrier_hear(&own->next, on_next, own);
	pings_move(&link->pings, &own->pings);
	link_free(link);
	return own;
}

/* Takes what has come over the new vchan. */
static void on_next(void *userdata)
{
	struct link *link = userdata;
	uint8_t payload[FRAME_PAYLOAD_MAX];
	struct frame_header header;
	/* Read the state first: what the peer wrote before it closed is then in the ring. */
	enum carrier_state state = carrier_state(&link->next);
	int r = 0;

	link_note_death(link, &link->next);
	for (unsigned i = 0; i < FRAMES_AT_ONCE; i++) {
		r = handshake_hear(&link->handshake, &header, payload);
		if (!carrier_is_sound(&link->next)) {
			link_away_drop(link, "this domain was restored");
			return;
		}
		if (r <= 0)
			break;
		hop_spend(link->hop, COST_FRAME_BEFORE);
		if (!link_away_take_frame(link, &header, payload)) {
			r = -EPROTO;
			break;
		}
		if (link->successor)
			link = retire(link);
		if (link->state != LINK_AWAY || !carrier_is_there(&link->next))
			return;
	}
	if (r != 0)
		link_away_drop(link, "the peer says something else");
	else if (state == CARRIER_CLOSED)
		link_away_give_up(link, link_error_now(link), "the peer's daemon has gone");
	else if (state == CARRIER_LEFT && link->claims)
		link_greet_anew(link); /* it wants a larger one */
	else if (state != CARRIER_OPEN)
		link_away_drop(link, "the new vchan has gone");
}

void link_try_next(struct link *link)
{
	uint8_t payload[FRAME_PAYLOAD_MAX];
	int r;

	link->greeted = false;
	r = handshake_begin(&link->handshake, &link->next, link_is_lower(link));
	if (r < 0) {
		link_away_drop(link, strerror(-r));
		return;
	}
	carrier_hear(&link->next, on_next, link);
	link_away_say(link, FRAME_HELLO, payload, link_make_hello(link, payload));
	if (carrier_is_there(&link->next))
		on_next(link);
}

void link_prove(struct link *link, const struct frame_hello_link *hello)
{
	carrier_hear(&link->next, on_next, link);
	go_on_proving(link, hello);
	if (link->state == LINK_AWAY && carrier_is_there(&link->next))
		on_next(link);
}

void link_end_attempt(struct link *link, int error, const char *why)
{
	struct frame_goodbye goodbye = {.error = (uint32_t)error, .text = {why, strlen(why)}};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	if (!carrier_is_there(&link->next))
		return;
	if (carrier_state(&link->next) == CARRIER_OPEN)
		handshake_say(&link->handshake, &link->next, FRAME_GOODBYE, 1, payload,
			      frame_goodbye_encode(&goodbye, payload));
	carrier_close(&link->next);
	links_withdraw(link->links, link->peer);
}

void link_look_at_attempt(struct link *link)
{
	const struct links *links = link->links;
	struct peer_id peer = link->peer;
	uint32_t heard = link->handshake.in.tail;

	if (!link->claims && !evtimer_pending(link->again.timer, NULL))
		link_away_on_again(-1, 0, link);
	if (link->state != LINK_AWAY || !carrier_is_there(&link->next))
		return;
	on_next(link); /* what has come in time may lie there unread */
	if (link_find(links, peer) == link && link->state == LINK_AWAY && carrier_is_there(&link->next) &&
	    link->handshake.in.tail == heard &&
	    clock_ms_since(link->handshake.begun_ms) >= links->options.config->dead_after_ms)
		link_away_drop(link, "nothing came in time");
}
