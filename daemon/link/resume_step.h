/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_RESUME_STEP_H
#define XENMSG_DAEMON_RESUME_STEP_H

/*
 * Decides how a session outlives its vchan: the table of doc/protocol.md 5.7, from the state and the facts
 * alone, with no input or output, so that each case can be tested (tests/unit/test_resume_step.c has all of
 * them). States and names are those of the model, tests/model/session.pml. Link_away.c gathers the facts,
 * takes the action, and changes the state. It owns nothing.
 *
 *  state             event                                  action                           next
 *  UP                the vchan is lost                      read no more of it, keep what    AWAY
 *                                                           isn't acknowledged
 *  AWAY, UP          another vchan is there                 PROVE                            PROVING
 *  PROVING           PROVE is wrong                         close it, say nothing            NOTHING
 *  PROVING           its epoch is below `confirmed`         GOODBYE, close it                NOTHING
 *  PROVING           PROVE is good                          RESUME, after giving up the      RESUMING
 *                                                           present vchan if UP
 *  RESUMING          `received` is above what was sent      channels end                     ENDED
 *  RESUMING          `received` is below what was processed GOODBYE, close it                NOTHING
 *  RESUMING          RESUME is good                         PING, send again                 UP
 *  PROVING, RESUMING the new vchan is lost                  close it                         NOTHING
 *  RESUMING, UP      GOODBYE                                channels end                     ENDED
 *  AWAY              resume-for is over                     channels end                     ENDED
 *
 * What else happens to a session, in each state, and which test shows it (u: tests/unit/test_*.c, i:
 * tests/integration/ test_*.py). MOVING is link_move.c's. A claim is an attempt under a new number
 * (link_claim.c).
 *
 *  event                       state                what becomes of it                          test
 *  a program ends              CONNECTING           OPEN and RESET, when the link is up         u link_away
 *                              AWAY                 RESET, behind what is sent again            u link_away
 *  the vchan is lost           UP, nothing heard    AWAY; the other end may be behind by        u
 *                              link_resume_lies
 *                              in this epoch        several epochs
 *                              MOVING               both are left: AWAY                         u link_move
 *                              PROVING, RESUMING    the attempt ends, another one follows       u link_away,
 *                                                   resume
 *  the peer's daemon dies      UP, MOVING           ENDED at once                               u
 *                              link_resume, link_move
 *                              PROVING, RESUMING    ENDED at once                               u
 *                                                   link_resume; i resume
 *                              AWAY                 ENDED when another instance shows itself    i resume
 *  the peer's domain vanishes  any                  AWAY; ENDED after resume-for                u link_move;
 *                              i resume
 *  the peer is being saved     UP, MOVING           AWAY: domain 0 gives all up                 u link_move;
 *  i resume_restored
 *                              a claim              the claim ends; the session is as before    u link_away
 *  this domain was restored    UP, MOVING           AWAY, without a number                      u
 *                              link_restored, link_move
 *                              AWAY, no number      the same                                    u link_away
 *                              PROVING, RESUMING    the attempt ends                            u
 *                                                   link_restored, link_away
 *  another vchan is there      PROVING, RESUMING    it takes the place of the attempt's         u
 *                              link_resume_lies
 *  another session is named    AWAY, a claim        both try again with the one that was named  u
 *                              link_resume, link_restored
 *  the peer's account is full  UP, and lost         AWAY: what is kept may exceed its maximum   u link_resume
 *                              AWAY                 what was kept is sent again                 u link_away
 *  both its numbers' together  AWAY, a claim        the claim ends; the session is as before    u link_claim
 *  exceed one's maximum
 *  it has many channels        ENDED, or UP again   they are seen to in pieces                  u link_many,
 *                              router_access
 *  a link of a relayed         waiting for room     they go on                                  i relay
 *  channel is lost
 *  an end of it is restored    UP                   they end; what was taken was delivered      i relay
 */

#include <stdbool.h>

enum resume_state {
	RESUME_ENDED, /* or there never was a session that can be resumed */
	RESUME_UP,
	RESUME_AWAY,
};
#define RESUME_STATES (RESUME_AWAY + 1)

/* To get another vchan. */
enum resume_attempt {
	RESUME_NOTHING,
	RESUME_PROVING,	 /* PROVE is sent */
	RESUME_RESUMING, /* RESUME is sent */
};
#define RESUME_ATTEMPTS (RESUME_RESUMING + 1)

enum resume_event {
	RESUME_LOST,	  /* the vchan that carries the session */
	RESUME_NEXT,	  /* another vchan is there, and both ends have named the session in HELLO */
	RESUME_NEXT_LOST, /* it has gone, or something else than these came over it: */
	RESUME_PROVE,
	RESUME_RESUME,
	RESUME_GOODBYE,
	RESUME_OVER, /* resume-for is over */
};
#define RESUME_EVENTS (RESUME_OVER + 1)

struct resume_facts {
	enum resume_event event;
	bool proven : 1; /* PROVE: its maker knows the secret, */
	bool older : 1;	 /* its epoch is one that was left behind, */
	bool last : 1;	 /* or no higher one is left */
	bool ahead : 1;	 /* RESUME: `received` is above what was sent here, */
	bool behind : 1; /* or below what it had processed before */
};

enum resume_action {
	RESUME_IGNORE,
	RESUME_LEAVE,  /* AWAY */
	RESUME_SHOW,   /* PROVE: PROVING */
	RESUME_DROP,   /* close the new vchan: NOTHING */
	RESUME_REFUSE, /* with a GOODBYE before: NOTHING */
	RESUME_SAY,    /* give up the present vchan, count the epoch, RESUME: RESUMING */
	RESUME_GO_ON,  /* over the new vchan: UP */
	RESUME_END,    /* all channels end: ENDED */
};

enum resume_action resume_step(enum resume_state state, enum resume_attempt attempt,
			       const struct resume_facts *facts);

#endif
