/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_FORWARD_INTERNAL_H
#define XENMSG_CLI_FORWARD_INTERNAL_H

/*
 * What the parts of forward share: cmd_forward.c has where connections come from, the session with the
 * daemon, and the command; forward_dials.c has the way of each connection from there on:
 *
 *   accepted ──held until its turn──▶ dialled ──▶ carried ──both ends have ended──▶ gone
 *                 ▲                      ├──a source that has gone, or an error──▶ reset
 *                 └──────────────────────┴──over a limit: until a connection has ended, or time──
 *
 * While one is held, no more connections are accepted. What is carried when the command ends, or the session,
 * is broken: nobody takes a part for the whole.
 */

#include <stdbool.h>

#include <event2/event.h>
#include <event2/listener.h>

#include "cli/cli.h"
#include "cli/lasting.h"
#include "cli/loop.h"
#include "cli/place.h"
#include "cli/pump.h"
#include "cli/workers.h"
#include "xenmsg-stream.h"

struct forward;
struct carried_connection;
struct dial;

/* What is the same for all connections at a place. */
struct end_at {
	struct forward *forward;
	struct place place;
};

struct forward {
	struct cli *cli;
	struct loop loop;
	struct end_at source, target;
	bool has_truncated; /* a part looked like the whole to somebody */
	/* if one of them is xen:. It is opened anew if the daemon has gone: as a target for the next
	 * connection, */
	struct xenmsg *conn;
	struct event *session;
	struct event *reopen; /* and as a source after a moment */
	uint32_t pause_ms;
	struct lasting lasting; /* its lines */
	struct evconnlistener *listener;
	struct workers *workers; /* dial what isn't xen: */
	unsigned dials;
	struct carried_connection *carried;
	struct dial *held; /* to be dialled, in the order in which they came */
	struct dial *dialled;
	struct event *again; /* dials the first of them, or accepts again */
	bool is_full;	     /* a limit holds up dials, until all are through: one at a time is tried, */
	bool is_short;	     /* a limit holds up what is to be accepted, */
	bool rests;	     /* and nothing is tried until `again` or until a connection ends */
	bool is_over;	     /* nothing more is accepted or carried */
	int code;
};

/* --- cmd_forward.c */
/* Opens the session, which there is none of. A negative errno. */
int forward_open_session(struct forward *forward);

/* --- forward_dials.c */
/* -ENOMEM. */
int forward_init_dials(struct forward *forward);
/* Takes what was accepted, and dials when its turn has come. */
void forward_take(struct forward *forward, struct pump_end source);
struct pump_end forward_end_of_socket(struct end_at *at, int fd);
/* Tries nothing for a moment, since it would fail again and again. */
void forward_rest(struct forward *forward);
/* Breaks all that is carried. `error`: why, to be told of each; 0: nothing is told. */
void forward_break_carried(struct forward *forward, int error);
/* Breaks what has no target yet. What threads may still be dialling stays. */
void forward_give_up_dials(struct forward *forward);

#endif
