/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_COST_H
#define XENMSG_BASE_COST_H

/*
 * The costs of work, in units of turns.h (about 10 ns), measured with `perf stat` and rounded up. The
 * proportions are what matters: an underrated kind of work would be a way to hold up others.
 */

#define COST_FRAME    4u /* a small DATA frame, besides its bytes */
#define COST_IGNORED  2u /* a frame that says nothing */
#define COST_BYTES(n) ((n) / 128u)
#define COST_CONTROL  10u  /* any other frame of a channel, in or out */
#define COST_OPEN     50u  /* policy is asked, and a channel made */
#define COST_DENIED   300u /* that is counted, and may be logged (policy/denied.h) */
#define COST_CANCEL   30u  /* the message is searched for, and the request answered */
#define COST_TAKEN    8u   /* for each entry of the ledger */
/* A request of a program, besides the work that it makes others do. */
#define COST_BIND	 150u
#define COST_REQUEST	 400u
#define COST_SYSCALL	 60u  /* one that moves little: a notification, a look at a socket */
#define COST_WAKE_UP	 300u /* by an event channel: the event loop comes round, and reads and unmasks it */
#define COST_CHANNEL_END 60u  /* for each channel that ends with its hop */
#define COST_CONNECTION	 500u /* accepting a program, and ending its session, beside what is measured */
#define COST_VCHAN	 20000u /* hundreds of pages are granted or mapped, and given back */
#define COST_CLOSING	 800u	/* a thread for sockets that the loop can't close */

#endif
