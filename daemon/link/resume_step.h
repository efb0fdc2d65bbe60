/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_RESUME_STEP_H
#define XENMSG_DAEMON_RESUME_STEP_H

/*
 * Decides how a session outlives its vchan: the table of doc/protocol.md 5.7, from the state and the facts alone,
 * with no input or output, so that each case can be tested (tests/unit/test_resume_step.c has all of them). States
 * and names are those of the model, tests/model/session.pml. Link_away.c gathers the facts, takes the action, and
 * changes the state. It owns nothing.
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
