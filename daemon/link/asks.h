/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ASKS_H
#define XENMSG_DAEMON_ASKS_H

/*
 * What programs want to know of another host: which domains are there, and which endpoints a domain there has
 * (doc/protocol.md, 5.11). The question goes the way of a channel, from daemon to daemon, and is answered by
 * that of the domain in question, or by domain 0 if it is about the domains, with what the policy there lets
 * the asker see. Which hosts there are at all a guest's daemon asks domain 0 of its own host:
 *
 *   program ─ its daemon ══ ASK ══▶ domain 0 ══ ASK ══▶ domain 0 there ══ ASK ══▶ the domain's daemon
 *                        ◀══ TOLD ══         ◀══ TOLD ══               ◀══ TOLD ══
 *
 * Each daemon has one `struct ask` for a question, until it is answered:
 *
 *   WAITS ──the link is up──▶ SENT ──TOLD, the session ends, or too late──▶ answered
 *     └──withdrawn──▶ DROPPED ──the link is up, or can't be──▶ gone
 *   WALKS ──all names were looked at──▶ TELLS ──all was sent──▶ answered
 *     ▲  └──it would be what the asker knows──▶ RESTS
 *     └────────────something has changed──────────┘
 *
 * So a peer that asks again with what is known now hears of each change, and a question that was lost is just
 * asked again. The asker's account pays for its questions, here the peer's or the other host's, and its turns
 * make the answers.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/peer_id.h"
#include "wire/frame.h"

struct access;
struct account;
struct asks;
struct image;
struct registry;
struct hosts;
struct links;
struct peers;
struct switchboard;
struct self;

/* The modules that it calls. They outlive it, but for `links`, which is set later. */
struct asks_collaborators {
	const struct self *self;
	struct switchboard *board;
	struct access *access;	   /* decides who may be told of what */
	struct registry *registry; /* whose changes are told */
	struct hosts *hosts;
	struct peers *peers;	/* the domains of this host */
	uint32_t answer_ms;	/* so long an answer may take, */
	uint32_t resume_for_ms; /* and while the link is away, so much longer */
};

/* Returns the first endpoint here, by name, behind `after` ("": the first of all), and its kinds. NULL: there
 * is no more. */
typedef const char *(*asks_endpoint_fn)(void *userdata, const char *after, uint32_t *kinds);

/* `enabled`: questions that domain 0 passes on are answered. -ENOMEM. */
int asks_new(struct asks **asks, const struct asks_collaborators *collaborators, bool enabled,
	     asks_endpoint_fn endpoint, void *userdata);
/* Sets the links. They call back, so they are made later than this. */
void asks_set_links(struct asks *asks, struct links *links);
/* Forgets all questions. Before links_free(). */
void asks_free(struct asks *asks);

struct ask_question {
	enum ask_kind kind;
	/* another one; "" for ASK_HOSTS, which domain 0 doesn't ask */
	const char *host;
	const char *domain; /* there; for ASK_ENDPOINTS */
	/* the version of the answer that is known: it is told when there is another one; 0: now */
	uint64_t known;
	struct frame_identity from; /* a program of this domain */
	void *userdata;		    /* of the function that is told */
};
/* Called with the whole answer, which is there until it returns, or with told->error. Its entries have been
 * checked, and are in order. `userdata` is that of the question. */
typedef void (*asks_told_fn)(void *userdata, void *asker, uint32_t request, enum ask_kind kind,
			     const char *host, const struct frame_told *told);

/* Asks, at the cost of `account`. `told` is called once, not before this returns. 0, or a negative errno:
 * -EHOSTDOWN, -EHOSTUNREACH as of relay_lead_out(), -EACCES, -ENOBUFS, -ENOMEM. */
int asks_ask(struct asks *asks, const struct ask_question *question, struct account *account,
	     asks_told_fn told, void *asker, uint32_t request);
/* Forgets what this one has asked, all of it or under this number. */
void asks_forget(struct asks *asks, const void *asker);
void asks_cancel(struct asks *asks, void *asker, uint32_t request);
/* Says for people what a (positive) errno of asks_ask(), or an answer, means. */
const char *asks_why_not(enum ask_kind kind, int error);

/* Whether all peers are to be known, since another host wants to hear of changes. This, and the two functions
 * behind it, take NULL. */
bool asks_follow_peers(const struct asks *asks);
/* The session with this peer has ended with a (positive) errno; or it is a host that has gone, and it may be
 * resumed: returns how many questions were looked at. */
void asks_session_ended(struct asks *asks, struct peer_id peer, int error);
unsigned asks_host_gone(struct asks *asks, struct peer_id host);

/* The daemon hands over: answers its programs, and peers, that the next one is to be asked, which doesn't
 * know of their questions; and programs that ask now, at once. Until it stays. */
void asks_hand_over(struct asks *asks);
void asks_stay(struct asks *asks);
/* Whether the peer has asked something, and wasn't answered yet. */
bool asks_has_from(const struct asks *asks, struct peer_id peer);
/* The numbers that were given out, so that no answer is taken for another one's. */
void asks_image(struct image *image, struct asks *asks);

/* Called for ASK, TOLD and UNASK, which the peer of this link has sent. -EPROTO: it can't be one. */
int asks_take(struct asks *asks, struct peer_id peer, uint8_t type, const uint8_t *payload, uint32_t length);
/* The domain `from` has the number `to` now. */
void asks_renumber(struct asks *asks, uint32_t from, uint32_t to);

#endif
