/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_RESUME_RIG_H
#define XENMSG_TESTS_RESUME_RIG_H

/*
 * A link whose session can be resumed, and a peer that does so: what both say until it goes on.
 */

#include "tests/unit/link_rig.h"

#include "daemon/link/proof.h"

#define AGAIN_MS 1000

/* The session, as the peer knows it. */
struct resumed_session {
	uint8_t token[16], secret[32];
	uint8_t nonce[16]; /* ours on the vchan that is there */
	uint32_t domid;	   /* the peer's */
	uint32_t epoch;
	uint64_t received; /* by the peer */
	uint32_t sequence, heard_sequence;
	struct vchan *old;
};

extern struct resumed_session session;
extern const uint8_t peer_nonce[16], peer_instance[16];

void hello_of_peer(struct scene *scene, enum hello_purpose purpose, const uint8_t *token,
		   const uint8_t *instance);
void hear_hello(struct scene *scene, enum hello_purpose purpose);
/* The link is up, and its session can be resumed. */
void begin_to_resume(struct scene *scene);
void up_to_resume(struct scene *scene);
/* For links_hand_over(): every link may be kept. */
bool keeps_all(void *userdata, struct peer_id peer);
/* The peer leaves the vchan, with what it has heard so far. */
void leave(struct scene *scene);
/* Another vchan, and HELLO from both ends. */
void meet_again(struct scene *scene);
/* All of these until here. */
void away(struct scene *scene);

/* What is in the proofs of the two ends. */
void proof_ends(struct proof_end *us, struct proof_end *them);
/* Our proof is right. */
void hear_prove(struct scene *scene, struct frame_prove *prove);
void say_prove(struct scene *scene, const struct frame_prove *prove);
struct frame_prove good_prove(uint32_t epoch);
/* Both ends have proven themselves. */
void prove(struct scene *scene);
void say_resume(struct scene *scene, uint64_t received, uint32_t epoch);
void go_on(struct scene *scene);

/* The attempt has ended without a word, and the session goes on if the right one comes. */
void expect_dropped(struct scene *scene);
void expect_refused(struct scene *scene);
void expect_ended(struct scene *scene);

#endif
