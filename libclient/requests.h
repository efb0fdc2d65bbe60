/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_REQUESTS_H
#define XENMSG_LIBCLIENT_REQUESTS_H

/* What a program has asked of its daemon, each request until its REPLY has come; and its watches, which are
 * calls that stand (calls.h), and count as requests until their first part has come. */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/helpers.h"
#include "libclient/op.h"
#include "libclient/transport.h"
#include "xenmsg.h"

/*
 * A request that waits for its REPLY. One that was given up stays until that has come, so that its number
 * isn't used again before:
 *
 *   pending ──REPLY──▶ settled, finished ──told──▶ gone
 *      └──its time is up, withdrawn──▶ settled ──told──▶ forsaken ──REPLY──▶ gone
 */
struct request {
	struct xenmsg_op op; /* the first */
	struct requests *requests;
	struct request *prev, *next;	       /* in requests->pending, until it is finished */
	struct request *told_prev, *told_next; /* in requests->settled */
	uint32_t number;
	uint8_t type; /* of its frame, or REQUEST_WATCH: it is that of a struct event_watch */
	bool counts;  /* among the REQUESTS_MAX that a program may have asked */
	/* The library asks by itself, for what it had of an earlier daemon: the number of that loss; 0: the
	 * program has asked. */
	uint32_t after_loss;
	bool rests;    /* such a one has failed for a reason that passes: it is sent again at `expires` */
	bool finished; /* its REPLY has come, or the session is over */
	bool granted;  /* by that */
	bool told;
	int error;	  /* negative errno, once settled */
	struct fifo body; /* of the REPLY, once it has come */
	int timeout_ms;
	int64_t expires; /* deadline.h */
	xenmsg_done done;
	void *userdata;
	uint32_t size;
	const uint8_t *question; /* the payload of its frame, behind it, to ask it again */
};

#define REQUEST_WATCH 0

/* A watch, from its request until it is ended, and that was told. */
struct event_watch {
	struct request request; /* the first; its number is the program's name for the watch */
	struct event_watch *prev, *next;
	struct call *call; /* NULL: the daemon that it was made to has gone */
	xenmsg_event_handler handler;
	void *userdata;
	/* By domain and endpoint, what the program was told of by this daemon and those that have handed over
	 * to it: of what the next one lists it is told only what differs. */
	struct told_thing *told;
	bool is_ended;	  /* by the program */
	bool is_listed;	  /* it was told so */
	bool is_cut;	  /* there is more, as it was told */
	bool lists_again; /* for the program, which isn't told yet who is away, since links come back */
	char pattern[];
};

struct requests {
	struct transport *transport;
	struct calls *calls;	 /* by which it watches; NULL: it doesn't */
	struct request *pending; /* utlist */
	struct request *settled; /* utlist, by told_next: those of which somebody is to be told */
	unsigned count;
	uint32_t last_number;
	int64_t due;		      /* no earlier is the time of one up; -1: none has a time-out */
	struct event_watch *watches;  /* utlist */
	struct pending_event *events; /* utlist: events to be reported */
	size_t events_size;	      /* bytes of these */
	int broken;		      /* a negative errno: a watch has ended by itself */
};

void requests_init(struct requests *requests, struct transport *transport, struct calls *calls);
void requests_free(struct requests *requests);

/* Sends a request, whose answer must come within timeout_ms, which may be FOR_EVER.
 * Returns 0, -EINVAL if it is too large, -ENOBUFS if too many are pending, -ENOMEM or -EPROTO. */
int request_begin(struct requests *requests, uint8_t type, const void *payload, size_t size, int timeout_ms,
		  xenmsg_done done, void *userdata, struct request **begun);
/* Sends one that the daemon answers at once (UNBIND), and whose answer is of no interest. There may
 * be any number of them. Returns 0, -ENOMEM or -EPROTO. */
int requests_tell(struct requests *requests, uint8_t type, const void *payload, size_t size);
/* Gives up those whose time is up. Returns 0, or a negative errno: a watch has ended, and the session with
 * it. */
int requests_look(struct requests *requests);
/* Takes a request that is settled out of those of which somebody is to be told. */
void request_take(struct request *request);
/* Lets it go when that was told. */
void request_release(struct request *request);
/* Copies why the daemon has refused it. */
static inline void request_reason(const struct request *request, char *reason, size_t size)
{
	frame_text_copy((struct frame_text){(char *)fifo_front(&request->body), fifo_size(&request->body)},
			reason, size);
}
/* The calls of its watches are about to end with the session: nothing follows from that. */
void requests_let_go(struct requests *requests);
/* Finishes all requests with an error, since the session is over. */
void requests_fail(struct requests *requests, int error);
/* Does so with those whose answer would have been of a daemon that has gone; what is to be bound or watched
 * is still wanted, and waits for requests_ask_again(). Forgets what the library had asked by itself, events
 * that nobody was told of, and what watches were told. */
void requests_leave(struct requests *requests, int error);
/* Returns whether the library waits for an answer to what it has asked by itself, or hasn't looked at that
 * yet. */
bool requests_are_unanswered(const struct requests *requests);
/* Returns whether the program has begun some that have no outcome. */
bool requests_are_begun(const struct requests *requests);
/* Asks the next daemon for what an earlier one had answered, or not yet, under `number`: sends the same
 * request once more, if it has no answer, and else begins one of the library's own, with another number,
 * after this loss. 0; or -ENOENT: it wasn't granted, of which the program is still to be told; -ENOMEM,
 * -EPROTO. */
int requests_ask_again(struct requests *requests, uint8_t type, const void *payload, size_t size,
		       uint32_t after_loss, uint32_t *number);
/* Does so for a watch. */
int requests_watch_again(struct event_watch *watch, uint32_t after_loss);

/* Begins a watch. Its events go to the handler, from now on until requests_unwatch(). Returns as
 * request_begin(). */
int requests_watch(struct requests *requests, const char *pattern, int timeout_ms,
		   xenmsg_event_handler handler, void *userdata, xenmsg_done done, void *done_userdata,
		   struct request **begun);
/* Ends one. Returns 0, -ENOENT: there was no such watch, or -EPROTO. */
int requests_unwatch(struct requests *requests, uint32_t number);
/* Calls back for up to `budget` events. Returns for how many. */
int requests_run_events(struct requests *requests, int budget, const bool *stop);

/* Handles the frame REPLY. Returns 1: that grants what is still wanted, else 0, -EPROTO or -ENOMEM. */
int requests_frame(struct requests *requests, const struct frame_header *header, const uint8_t *payload);

#endif
