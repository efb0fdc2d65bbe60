/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_RESUME_RIG_H
#define XENMSG_TESTS_RESUME_RIG_H

/*
 * A link whose session can be resumed, and a peer that does so: what both say until it goes on.
 */

#include "tests/unit/link_rig.h"

#include "daemon/link/auth_tag.h"

#define AGAIN_MS 1000

/* The session, as the peer knows it. */
struct resumed_session {
	uint8_t secret[32];
	uint8_t nonce[16]; /* ours on the vchan that is there */
	uint32_t domid;	   /* the peer's, and ours, as in proofs */
	uint32_t own;
	uint32_t epoch;
	uint64_t received; /* by the peer */
	uint32_t sequence, heard_sequence;
};

extern struct resumed_session session;
extern const uint8_t peer_nonce[16], peer_instance[16];

/* Whether a tag of a HELLO names the session. */
enum names { NAMES_NONE, NAMES_SESSION };

void hello_of_peer(struct scene *scene, enum names names, const uint8_t *instance);
/* Ours; if it names none, it has the secret of the session that begins with it. */
struct frame_hello_link hear_hello(struct scene *scene, enum names names);
/* The link is up, and its session can be resumed. */
void begin_to_resume(struct scene *scene);
void up_to_resume(struct scene *scene);
/* A daemon hands over, and keeps every link if that may be. */
void hand_over(struct scene *scene);
/* The peer leaves the vchan, with what it has heard so far. */
void leave(struct scene *scene);
/* Another vchan, and HELLO from both ends. */
void meet_again(struct scene *scene);
/* The peer's domain has another number, with which it meets us again. */
void take_number(struct scene *scene, uint32_t domid);
void come_as(struct scene *scene, uint32_t domid);
/* Its daemon answers our HELLO as one that knows of no session. */
void begin_anew(struct scene *scene, enum names ours);
/* All until they have met again. */
void away(struct scene *scene);

/* What is in the proofs of the two ends. */
void auth_ends(struct auth_end *us, struct auth_end *them);
/* Our proof is right, and returned. */
struct frame_prove hear_prove(struct scene *scene);
void say_prove(struct scene *scene, struct frame_prove prove);
struct frame_prove good_prove(uint32_t epoch);
struct frame_prove wrong_prove(void);
/* Both ends have proven themselves. */
void prove(struct scene *scene);
void say_resume(struct scene *scene, uint64_t received, uint32_t epoch);
/* Says RESUME, unheard, behind which the session's frames may stand. */
void put_resume(struct scene *scene);
void go_on(struct scene *scene);
/* They meet again, and the session goes on. */
void resume(struct scene *scene);
/* What the peer has heard last counts as received when it leaves. */
void count_heard(struct scene *scene);
/* Where the frames of the session go on, if the peer doesn't leave. */
void note_sequences(struct scene *scene);

/* The attempt has ended without a word, or with ECONNRESET; the session goes on if the right one comes. */
void expect_dropped(struct scene *scene);
void expect_refused(struct scene *scene);
/* The session has ended, and nothing is left of it. */
void expect_ended(struct scene *scene);

#endif
