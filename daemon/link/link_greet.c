/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The first frames over a vchan of a domain with which the link has no session. Nothing but HELLO is written
 * before the peer's has come, whatever waits: only from that it is known whether the peer names a session of
 * ours, and until then nobody shall see a difference. Link.c has the session that begins, link_away.c the one
 * that goes on.
 */

#include <errno.h>
#include <nettle/memops.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/self.h"
#include "daemon/link/link_internal.h"
#include "daemon/peers/peers.h"
#include "wire/frame_ring.h"

#define COST_FRAME 500u /* units (turns.h) */

void link_stop_greeting(struct link *link, int error, const char *why)
{
	char reason[LINK_REASON_SIZE];

	snprintf(reason, sizeof(reason), "%s", why);
	log_limited(LOG_LINK, link_source(link), error == -ECONNRESET ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING,
		    "%s: link is down: %s", link->title, reason);
	link_end_attempt(link, error == -ECONNRESET ? 0 : -error, reason);
	link_end_session(link, link_error_now(link), reason);
}

static void link_greet_take_hello(struct link *link, const uint8_t *payload, uint32_t length)
{
	struct frame_hello_link hello;
	int r = frame_hello_link_decode(payload, length, &hello);
	char why[LINK_REASON_SIZE];
	struct link *own;

	/* The major comes first in every version's HELLO. */
	if (length >= 2 && hello.major != PROTOCOL_MAJOR) {
		snprintf(why, sizeof(why),
			 "%s speaks protocol %u, this daemon %d; run the same version of xenmsgd in both",
			 link->title, hello.major, PROTOCOL_MAJOR);
		link_stop_greeting(link, -EPROTONOSUPPORT, why);
		return;
	}
	if (r < 0) {
		snprintf(why, sizeof(why), "bad HELLO frame: %s", strerror(-r));
		link_stop_greeting(link, r, why);
		return;
	}
	hop_spend(link->hop, LINK_COST_HELLO);
	own = link_find_tagged(link, &hello);
	if (!own) {
		link_begin_over_next(link, &hello);
	} else if (!link_has_room(link, own)) {
		link_enlarge(link, own);
	} else {
		link_claim_named(link, own);
		link_prove(link, &hello);
	}
}

static void link_greet_take_frame(struct link *link, const struct frame_header *header,
				  const uint8_t *payload)
{
	struct frame_goodbye goodbye;
	char why[LINK_REASON_SIZE];

	if (header->type == FRAME_HELLO && header->sequence != 0) {
		snprintf(why, sizeof(why), "frame %u came where 0 was expected", header->sequence);
		link_stop_greeting(link, -EPROTO, why);
	} else if (header->type == FRAME_HELLO) {
		link_greet_take_hello(link, payload, header->length);
	} else if (header->type == FRAME_GOODBYE &&
		   frame_goodbye_decode(payload, header->length, &goodbye) == 0) {
		link_read_goodbye(&goodbye, why, sizeof(why));
		link_stop_greeting(link, -ECONNRESET, why);
	} else {
		snprintf(why, sizeof(why), "bad %s frame for channel %u, before HELLO: %s",
			 frame_type_name(header->type), header->channel, strerror(EINVAL));
		link_stop_greeting(link, -EINVAL, why);
	}
}

static void on_greeting(void *userdata)
{
	struct link *link = userdata;
	uint8_t payload[FRAME_PAYLOAD_MAX];
	struct frame_header header;
	/* Read the state first: what the peer wrote before it closed is then in the ring. */
	enum carrier_state state = carrier_state(&link->next);
	/* A peer that has left without hearing our HELLO knows of no session that begins with his. */
	bool is_void = state == CARRIER_LEFT && ring_writer_unread(&link->handshake.out) > 0;
	int r = is_void ? 0 : handshake_hear(&link->handshake, &header, payload);

	hop_spend(link->hop, COST_FRAME);
	link_note_death(link, &link->next);
	if (!carrier_is_sound(&link->next))
		link_stop_greeting(link, -ECONNRESET, "this domain was restored");
	else if (r < 0)
		link_stop_greeting(link, -EPROTO, "an impossible frame came before HELLO");
	else if (r > 0)
		link_greet_take_frame(link, &header, payload);
	else if (state == CARRIER_BROKEN)
		link_stop_greeting(link, -EPROTO, "impossible state in the vchan");
	else if (state == CARRIER_LEFT && link_may_ask_anew(link))
		link_greet_anew(link); /* its daemon hands over */
	else if (state != CARRIER_OPEN)
		link_stop_greeting(link, -ECONNRESET,
				   state == CARRIER_LEFT ? "the peer has left the vchan"
							 : "the peer's daemon has gone");
}

void link_hear_greeting(struct link *link)
{
	on_greeting(link);
}

void link_greet(struct link *link)
{
	uint8_t payload[FRAME_PAYLOAD_MAX];
	char why[LINK_REASON_SIZE];
	int r;

	link->times.began_ms = link->times.used_ms = clock_ms();
	link->greeted = false;
	link_set_state(link, LINK_GREETING);
	r = handshake_begin(&link->handshake, &link->next, link_is_lower(link));
	if (r == 0) {
		carrier_hear(&link->next, on_greeting, link);
		r = handshake_say(&link->handshake, &link->next, FRAME_HELLO, 0, payload,
				  link_make_hello(link, payload));
	}
	if (r == 0) {
		on_greeting(link); /* the peer may have been quicker */
		return;
	}
	snprintf(why, sizeof(why), "setting it up: %s", strerror(-r));
	link_stop_greeting(link, r == -ENOLINK ? -ECONNRESET : r, why);
}

void link_look_at_greeting(struct link *link)
{
	const struct links *links = link->links;
	uint32_t dead_after_ms = links->options.config->dead_after_ms;
	struct peer_id peer = link->peer;
	char why[LINK_REASON_SIZE];

	on_greeting(link);		    /* an event may have been lost, or we stood still ourselves */
	if (link_find(links, peer) != link) /* it is another one's by now, and freed */
		return;
	if (link->state != LINK_GREETING || clock_ms_since(link->times.began_ms) < dead_after_ms)
		return;
	snprintf(why, sizeof(why), "nothing has come from it for %u s", dead_after_ms / 1000);
	link_stop_greeting(link, -ETIMEDOUT, why);
}

/* --- tags --------------------------------------------------------------------------------------- */

/*
 * By what each end names in HELLO the sessions that it may go on with, to those that know them, and to
 * nobody else (doc/protocol.md 5.7). There are always as many tags, and as much work with them: whoever
 * names a stranger's instance, which everybody may know, shall not learn from the answer whether we have a
 * session with that.
 */

_Static_assert(HELLO_TAG_SIZE == AUTH_HELLO_SIZE, "a tag of HELLO is one of auth_tag.h");

void link_auth_ends(const struct link *link, const uint8_t instance[AUTH_ID_SIZE], struct auth_end *us,
		    struct auth_end *them)
{
	const struct self *self = link->links->options.self;
	bool is_lower = link_is_lower(link);

	*us = (struct auth_end){.domid = link_is_remote(link) ? !is_lower : self->domid};
	memcpy(us->nonce, link->handshake.nonce, sizeof(us->nonce));
	memcpy(us->instance, self->instance, sizeof(us->instance));
	*them = (struct auth_end){.domid = link_is_remote(link) ? is_lower : link->peer.number};
	memcpy(them->nonce, link->handshake.peer_nonce, sizeof(them->nonce));
	memcpy(them->instance, instance, sizeof(them->instance));
}

/* The session of this link comes first, then those that are likelier. */
static int link_greet_rank(const struct link *link, const struct link *other)
{
	return other == link ? 4 : link_likelihood(other);
}

/* A conversation with a host carries the session with that host alone, and no domain becomes a host. */
static bool may_go_on(const struct link *link, const struct link *other)
{
	if (!link_is_remote(link))
		return link_is_with(other, link->handshake.named);
	return other == link && link->state == LINK_AWAY;
}

/* Finds the sessions that a HELLO names. More than fit are with this instance only if peers lie about
 * theirs. */
static unsigned named(struct link *link, struct link *sessions[HELLO_TAGS])
{
	struct link *other, *next;
	unsigned count = 0;

	HASH_ITER(hh, link->links->links, other, next) {
		unsigned at;

		if (!may_go_on(link, other))
			continue;
		at = count < HELLO_TAGS ? count++ : HELLO_TAGS;
		for (; at > 0 && link_greet_rank(link, sessions[at - 1]) < link_greet_rank(link, other); at--)
			if (at < HELLO_TAGS)
				sessions[at] = sessions[at - 1];
		if (at < HELLO_TAGS)
			sessions[at] = other;
	}
	return count;
}

/* The secret for a tag: a session's, or one that nobody knows. */
static void choose_secret(const struct link *link, struct link *const sessions[], unsigned count, unsigned i,
			  uint8_t secret[AUTH_SECRET_SIZE])
{
	memcpy(secret, i < count ? sessions[i]->session.secret : link->handshake.cover, AUTH_SECRET_SIZE);
	if (i >= count)
		secret[0] ^= (uint8_t)i;
}

void link_make_tags(struct link *link, struct frame_hello_link *hello)
{
	uint8_t *instance = link->handshake.named, secret[AUTH_SECRET_SIZE];
	struct link *sessions[HELLO_TAGS];
	struct auth_end us, them;
	unsigned count;

	if (link->state == LINK_AWAY)
		memcpy(instance, link->session.peer_instance, AUTH_ID_SIZE);
	else if (link_is_remote(link) || !peers_instance(link->links->peers, link->peer.number, instance))
		memset(instance, 0, AUTH_ID_SIZE);
	count = named(link, sessions);
	link_auth_ends(link, instance, &us, &them);
	for (unsigned i = 0; i < HELLO_TAGS; i++) {
		choose_secret(link, sessions, count, i, secret);
		auth_hello_tag(secret, &us, &them, hello->tags[i]);
	}
}

struct link *link_find_tagged(struct link *link, const struct frame_hello_link *hello)
{
	struct link *sessions[HELLO_TAGS], *found = NULL;
	uint8_t secret[AUTH_SECRET_SIZE], tag[AUTH_HELLO_SIZE];
	struct auth_end us, them;
	unsigned count;

	if (memcmp(hello->instance, link->handshake.named, AUTH_ID_SIZE) != 0)
		return NULL;
	memcpy(link->handshake.peer_nonce, hello->nonce, sizeof(link->handshake.peer_nonce));
	count = named(link, sessions);
	link_auth_ends(link, hello->instance, &us, &them);
	for (unsigned i = 0; i < HELLO_TAGS; i++) {
		bool is_there = false;

		choose_secret(link, sessions, count, i, secret);
		auth_hello_tag(secret, &them, &us, tag);
		for (unsigned j = 0; j < HELLO_TAGS; j++)
			is_there |= memeql_sec(tag, hello->tags[j], sizeof(tag));
		/* Of several, both ends take the same one. */
		if (is_there && i < count &&
		    (!found || memcmp(sessions[i]->session.token, found->session.token, AUTH_ID_SIZE) < 0))
			found = sessions[i];
	}
	return found;
}

/* --- frames of a handshake ------------------------------------------------------------------- */

/* Chooses the nonce of our HELLO, and, for the lower domid, the secret of a session that begins with it.
 * -EIO: no random numbers. */
static int link_greet_choose(struct handshake *handshake, bool is_lower)
{
	uint8_t random[sizeof(handshake->nonce) + sizeof(handshake->cover) + sizeof(handshake->secret)];
	const uint8_t *at = random;

	*handshake = (struct handshake){.begun_ms = clock_ms()};
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	memcpy(handshake->nonce, at, sizeof(handshake->nonce));
	at += sizeof(handshake->nonce);
	memcpy(handshake->cover, at, sizeof(handshake->cover));
	at += sizeof(handshake->cover);
	if (is_lower)
		memcpy(handshake->secret, at, sizeof(handshake->secret));
	return 0;
}

int handshake_begin(struct handshake *handshake, const struct carrier *carrier, bool is_lower)
{
	struct ring_view in, out;
	int r = link_greet_choose(handshake, is_lower);

	carrier_rings(carrier, &in, &out);
	if (r == 0)
		r = ring_reader_init(&handshake->in, &in, false);
	return r < 0 ? r : ring_writer_init(&handshake->out, &out, false);
}

int handshake_say(struct handshake *handshake, const struct carrier *carrier, uint8_t type, uint32_t sequence,
		  const void *payload, uint32_t length)
{
	const struct frame_header header = {.type = type, .length = length, .sequence = sequence};
	int space = ring_writer_space(&handshake->out, frame_size(length));

	if (space < (int)frame_size(length))
		return space < 0 ? space : -ENOSPC;
	frame_put(&handshake->out, &header, payload);
	return ring_writer_publish(&handshake->out) ? carrier_notify(carrier) : 0;
}

int handshake_hear(struct handshake *handshake, struct frame_header *header, uint8_t *payload)
{
	uint32_t ready;
	int r = frame_next(&handshake->in, header, &ready);

	if (r == 0 && ready == 0) {
		r = ring_reader_arm(&handshake->in, FRAME_HEADER_SIZE);
		if (r > 0)
			r = frame_next(&handshake->in, header, &ready);
	}
	if (r <= 0)
		return r == 0 && ready ? -EPROTO : r;
	ring_reader_copy(&handshake->in, FRAME_HEADER_SIZE, payload, header->length);
	ring_reader_consume(&handshake->in, frame_size(header->length));
	ring_reader_release_quietly(&handshake->in);
	return 1;
}
