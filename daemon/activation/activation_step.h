/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ACTIVATION_STEP_H
#define XENMSG_DAEMON_ACTIVATION_STEP_H

/*
 * The states of an endpoint that is started on demand, as a table without effects: activation.c tells what
 * has happened and does what the step says.
 *
 *   state      CAME           BOUND        UNBOUND                       FAILED         ENDED      PAUSE_OVER
 *   IDLE       STARTING ¹     RUNNING      -                             -              -          -
 *   STARTING   (waits)        RUNNING ²    -                             PAUSED ³       PAUSED ³   -
 *   RUNNING    (waits) ⁴      -            IDLE ⁵ ⁶, PAUSED ³ in a storm -              -          -
 *   LINGERING  (waits) ⁷      RUNNING ²    -                             (ENOENT) ⁷     IDLE ⁵     -
 *   PAUSED     refused        RUNNING ²    -                             -              -          IDLE ⁶
 *
 *   ¹ the program is started; it has until its time-out to bind the endpoint
 *   ² what waits is led to the program
 *   ³ what waits ends with ENOENT, and nothing is started for a while: 1 s after the first failure, twice as
 *     long after each further one, a minute at most
 *   ⁴ only while what came before it is still being led to the program, so that it doesn't overtake
 *   ⁵ or STARTING, if something waits: the program went before all was led to it
 *   ⁶ or LINGERING, if the command that was started lives: no second one is started beside it
 *   ⁷ until the command binds again, or ends; what has waited for as long as its time-out ends with ENOENT
 *
 * FAILED says that the program can't be started, or that its time to bind is up; ENDED that the command that
 * was started has ended. A program that binds and soon goes again, over and over, is a storm as well: after
 * ACTIVATION_BURST starts within ACTIVATION_BURST_MS there is a pause.
 */

#include <stdbool.h>
#include <stdint.h>

#define ACTIVATION_BURST    5u
#define ACTIVATION_BURST_MS 10000u

enum activation_state {
	ACTIVATION_IDLE,
	ACTIVATION_STARTING,
	ACTIVATION_RUNNING,
	ACTIVATION_LINGERING,
	ACTIVATION_PAUSED,
};

enum activation_event {
	ACTIVATION_CAME,    /* a channel is to wait */
	ACTIVATION_BOUND,   /* a program has bound the endpoint */
	ACTIVATION_UNBOUND, /* and has unbound it, or gone */
	ACTIVATION_FAILED,
	ACTIVATION_ENDED,
	ACTIVATION_PAUSE_OVER,
};

/* What is to be done, in this order. */
enum activation_action {
	ACTIVATION_REFUSE = 1,	 /* what has come ends with ENOENT */
	ACTIVATION_END = 2,	 /* what waits ends with ENOENT */
	ACTIVATION_STOP = 4,	 /* the program that was started is stopped, or left alone if it can't be */
	ACTIVATION_START = 8,	 /* and the timer for its time-out */
	ACTIVATION_LEAD = 16,	 /* what waits is led to the program */
	ACTIVATION_PAUSE = 32,	 /* the timer is started with pause_ms */
	ACTIVATION_SETTLED = 64, /* the timer is stopped */
	ACTIVATION_AWAIT = 128,	 /* the timer for the time-out is started, unless it runs */
};

struct activation_progress {
	enum activation_state state;
	unsigned starts;   /* since burst_ms */
	uint64_t burst_ms; /* the first start of the burst */
	uint32_t pause_ms; /* how long the last pause was to be; 0: there was no failure since */
	bool in_storm;	   /* the pause is for too many starts */
};

/* What the step asks about. */
struct activation_facts {
	bool waiting; /* some channels wait */
	bool lives;   /* a command that was started hasn't ended */
	uint64_t now_ms;
};

/* Moves on and returns the actions. */
unsigned activation_step(struct activation_progress *progress, enum activation_event event,
			 struct activation_facts facts);
/* Returns the state's name in status. */
const char *activation_state_name(enum activation_state state);

#endif
