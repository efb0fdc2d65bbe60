/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_RENDEZVOUS_STEP_H
#define XENMSG_DAEMON_RENDEZVOUS_STEP_H

/*
 * Decides what to do next about a link with one peer, from the state and the facts alone, with no input or
 * output, so that each case can be tested (tests/unit/test_rendezvous_step.c has all of them). Rendezvous.c
 * gathers the facts, takes the action, and is the only one to change the state. It owns nothing.
 *
 *  state      wanted, up  wanted, down  hello there            hello new/gone   timer   vchan event
 *  IDLE       →HELLO      failed        new nonce: →HELLO      -                failed  -
 *  HELLO      -           failed        map: AWAIT;            gone, unwanted:  failed  -
 *                                       grant: GRANTED/PAGES;  →IDLE
 *                                       neither: failed, but
 *                                       HELLO until it's gone
 *  PAGES      -           failed        -                      gone: →HELLO     failed  - (pages free: GRANTED)
 *  GRANTED    -           failed        -                      →HELLO           failed  live 1: CONNECTED
 *                                                                                       live 0 or bad: →HELLO
 *  AWAIT      -           failed        nodes: CONNECTED       gone: →HELLO     failed  -
 *                                                              new: AWAIT, and
 *                                                              nodes read again
 *  CONNECTED  -           lost          -                      lost             -       the owner's
 *  LOST       -           -             -                      -                -       the owner's
 *
 * "wanted, down" is the event that its daemon has gone, but in IDLE, where it is what a look-up has found. A
 * daemon that was replaced finds our hello: PAGES, GRANTED and AWAIT then go back to HELLO. "failed" leads to
 * IDLE, without notifying anyone where no link was wanted here; but that a time-out, which answers the
 * request, leaves HELLO, GRANTED and AWAIT as they are until the attempt has lasted for ten, or the peer
 * gives it up: one that is told of changes late, since XenStore is slow, still finds our hello, and the next
 * request continues from there. "lost" leads to LOST, until peers_disconnect(). Where Xen forbids the pair
 * to share memory, who finds that out says so in its hello: as if neither might map, from any state before
 * CONNECTED.
 */

#include <stdbool.h>

enum rendezvous_state {
	RENDEZVOUS_IDLE,
	RENDEZVOUS_HELLO, /* from here on our hello stands in XenStore, or is on its way there */
	RENDEZVOUS_PAGES, /* we grant, but no page is free */
	RENDEZVOUS_GRANTED,
	RENDEZVOUS_AWAIT,
	RENDEZVOUS_CONNECTED, /* from here on the vchan is the owner's */
	RENDEZVOUS_LOST,      /* the owner was told that it is lost */
};
#define RENDEZVOUS_STATES (RENDEZVOUS_LOST + 1)

/* The event that has just happened; facts may have changed as well. */
enum rendezvous_event {
	RENDEZVOUS_NO_EVENT,
	RENDEZVOUS_TIMEOUT,
	RENDEZVOUS_GONE,       /* the peer's daemon is gone */
	RENDEZVOUS_REPLACED,   /* another daemon runs in its place */
	RENDEZVOUS_PAGES_FREE, /* pages may be free, and it is this peer's turn */
	RENDEZVOUS_LIVE,       /* the client has connected to the vchan that we granted */
	RENDEZVOUS_CLOSED,     /* the client has gone already, or has broken the vchan */
};
#define RENDEZVOUS_EVENTS (RENDEZVOUS_CLOSED + 1)

struct rendezvous_facts {
	enum rendezvous_event event;
	bool wanted : 1;   /* a link was asked for here, and the request isn't answered yet */
	bool goes_on : 1;  /* such a request has timed out, but the attempt isn't over */
	bool self : 1;	   /* the peer is this domain */
	bool no_domid : 1; /* the peer's number can't be a domain's */
	bool up : 1;	   /* its daemon runs */
	bool looked : 1;   /* everything that would show the daemon was read since the request */
	bool looking : 1;  /* some of that is being read, or waits for its turn */
	bool store_down : 1;
	bool other_presence : 1;	       /* the presence is of another major version */
	bool other_hello : 1;		       /* the hello is of another major version */
	bool hello : 1;			       /* the peer's hello is there, and current */
	bool tried : 1;			       /* its nonce was the last that we answered */
	bool we_may_map : 1, they_may_map : 1; /* neither does where Xen forbids it */
	bool we_are_lower : 1; /* our domid is: of two that may map, this one does (so domain 0) */
	bool nodes : 1;	       /* both have been read, and the hello after them */
};

enum rendezvous_action {
	RENDEZVOUS_NOTHING,
	RENDEZVOUS_LOOK_UP,   /* read all that would show the peer */
	RENDEZVOUS_BEGIN,     /* write a hello with a new nonce: HELLO */
	RENDEZVOUS_NOTE,      /* the hello's nonce counts as tried, as in the next three */
	RENDEZVOUS_REFUSE,    /* neither may map: fail the request for a link */
	RENDEZVOUS_EXPECT,    /* we map: AWAIT */
	RENDEZVOUS_GRANT,     /* GRANTED, or PAGES while none is free */
	RENDEZVOUS_MAP,	      /* CONNECTED */
	RENDEZVOUS_TAKE,      /* the granted vchan: CONNECTED */
	RENDEZVOUS_BACK,      /* give up what was granted or awaited: HELLO */
	RENDEZVOUS_WITHDRAW,  /* our hello: IDLE */
	RENDEZVOUS_FAIL_SELF, /* withdraw it, and fail the request with the reason */
	RENDEZVOUS_FAIL_DOMID,
	RENDEZVOUS_FAIL_VERSION,
	RENDEZVOUS_FAIL_STORE,
	RENDEZVOUS_FAIL_ABSENT,
	RENDEZVOUS_FAIL_GONE,
	RENDEZVOUS_FAIL_TIMEOUT,
	RENDEZVOUS_LOSE_WITHDRAWN, /* the link is lost, and why */
	RENDEZVOUS_LOSE_ANEW,
	RENDEZVOUS_LOSE_GONE,
	RENDEZVOUS_LOSE_REPLACED,
};

enum rendezvous_action rendezvous_step(enum rendezvous_state state, const struct rendezvous_facts *facts);

#endif
