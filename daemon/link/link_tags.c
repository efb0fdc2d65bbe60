/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * By what each end names in HELLO the sessions that it may go on with, to those that know them, and to
 * nobody else (doc/protocol.md 5.7). There are always as many tags, and as much work with them: whoever
 * names a stranger's instance, which everybody may know, shall not learn from the answer whether we have a
 * session with that.
 */

#include <string.h>

#include <nettle/memops.h>

#include "base/self.h"
#include "daemon/link/link_internal.h"
#include "daemon/peers/peers.h"

_Static_assert(HELLO_TAG_SIZE == PROOF_TAG_SIZE, "a tag of HELLO is one of proof.h");

void link_proof_ends(const struct link *link, const uint8_t instance[PROOF_ID_SIZE], struct proof_end *us,
		     struct proof_end *them)
{
	const struct self *self = link->links->options.self;
	bool is_lower = link_is_lower(link);

	*us = (struct proof_end){.domid = link_is_far(link) ? !is_lower : self->domid};
	memcpy(us->nonce, link->attempt.nonce, sizeof(us->nonce));
	memcpy(us->instance, self->instance, sizeof(us->instance));
	*them = (struct proof_end){.domid = link_is_far(link) ? is_lower : link->peer.number};
	memcpy(them->nonce, link->attempt.peer_nonce, sizeof(them->nonce));
	memcpy(them->instance, instance, sizeof(them->instance));
}

/* The session of this link comes first, then those that are likelier. */
static int rank(const struct link *link, const struct link *other)
{
	return other == link ? 4 : link_likelihood(other);
}

/* A conversation with a host carries the session with that host alone, and no domain becomes a host. */
static bool may_go_on(const struct link *link, const struct link *other)
{
	if (!link_is_far(link))
		return link_is_with(other, link->attempt.named);
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
		for (; at > 0 && rank(link, sessions[at - 1]) < rank(link, other); at--)
			if (at < HELLO_TAGS)
				sessions[at] = sessions[at - 1];
		if (at < HELLO_TAGS)
			sessions[at] = other;
	}
	return count;
}

/* The secret for a tag: a session's, or one that nobody knows. */
static void choose_secret(const struct link *link, struct link *const sessions[], unsigned count, unsigned i,
			  uint8_t secret[PROOF_SECRET_SIZE])
{
	memcpy(secret, i < count ? sessions[i]->session.secret : link->attempt.cover, PROOF_SECRET_SIZE);
	if (i >= count)
		secret[0] ^= (uint8_t)i;
}

void link_make_tags(struct link *link, struct frame_hello_link *hello)
{
	uint8_t *instance = link->attempt.named, secret[PROOF_SECRET_SIZE];
	struct link *sessions[HELLO_TAGS];
	struct proof_end us, them;
	unsigned count;

	if (link->state == LINK_AWAY)
		memcpy(instance, link->session.peer_instance, PROOF_ID_SIZE);
	else if (link_is_far(link) || !peers_instance(link->links->peers, link->peer.number, instance))
		memset(instance, 0, PROOF_ID_SIZE);
	count = named(link, sessions);
	link_proof_ends(link, instance, &us, &them);
	for (unsigned i = 0; i < HELLO_TAGS; i++) {
		choose_secret(link, sessions, count, i, secret);
		proof_tag(secret, &us, &them, hello->tags[i]);
	}
}

struct link *link_find_tagged(struct link *link, const struct frame_hello_link *hello)
{
	struct link *sessions[HELLO_TAGS], *found = NULL;
	uint8_t secret[PROOF_SECRET_SIZE], tag[PROOF_TAG_SIZE];
	struct proof_end us, them;
	unsigned count;

	if (memcmp(hello->instance, link->attempt.named, PROOF_ID_SIZE) != 0)
		return NULL;
	memcpy(link->attempt.peer_nonce, hello->nonce, sizeof(link->attempt.peer_nonce));
	count = named(link, sessions);
	link_proof_ends(link, hello->instance, &us, &them);
	for (unsigned i = 0; i < HELLO_TAGS; i++) {
		bool is_there = false;

		choose_secret(link, sessions, count, i, secret);
		proof_tag(secret, &them, &us, tag);
		for (unsigned j = 0; j < HELLO_TAGS; j++)
			is_there |= memeql_sec(tag, hello->tags[j], sizeof(tag));
		/* Of several, both ends take the same one. */
		if (is_there && i < count &&
		    (!found || memcmp(sessions[i]->session.token, found->session.token, PROOF_ID_SIZE) < 0))
			found = sessions[i];
	}
	return found;
}
