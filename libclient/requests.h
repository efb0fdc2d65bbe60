/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_REQUESTS_H
#define XENMSG_LIBCLIENT_REQUESTS_H

/* What a program has asked of its daemon, each request until its REPLY has come, and the EVENTs of its
 * watches. */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/fifo.h"
#include "libclient/transport.h"
#include "xenmsg.h"

/* A request that waits for its REPLY. */
struct request {
	struct request *prev, *next;
	uint32_t number;
	bool counts; /* among the REQUESTS_MAX that a program may have asked */
	bool finished;
	int error;	  /* negative errno, once finished */
	struct fifo body; /* of the REPLY, as far as it has come */
	/* nobody waits for it: when it has finished, it goes to requests->answered, and `done` is called */
	bool posted;
	xenmsg_done done;
	void *userdata;
};

struct requests {
	struct transport *transport;
	struct request *pending;  /* utlist */
	struct request *answered; /* utlist: posted ones that have finished, to be reported */
	unsigned count;
	uint32_t last_number;
	struct event_watch *watches;  /* utlist */
	struct pending_event *events; /* utlist: events to be reported */
};

void requests_init(struct requests *requests, struct transport *transport);
void requests_free(struct requests *requests);

/* Sends a request. Returns 0, -EINVAL if it is too large, -ENOBUFS if too many are pending, -ENOMEM or
 * -EPROTO. */
int request_start(struct requests *requests, uint8_t type, const void *payload, size_t size,
		  struct request **started);
/* Sends one that the daemon answers at once (UNBIND, UNWATCH), and whose answer is of no interest. There may be any number of
 * them. Returns 0, -ENOMEM or -EPROTO. */
int requests_tell(struct requests *requests, uint8_t type, const void *payload, size_t size);
/* Makes a request that was just started a posted one. */
void request_post(struct request *request, xenmsg_done done, void *userdata);
/* Takes the next posted request that has finished, which the caller frees by request_free(); NULL: there is
 * none. */
struct request *requests_take_answered(struct requests *requests);
void request_free(struct request *request);
/* Removes a request and its body. */
void request_end(struct requests *requests, struct request *request);
/* Removes finished requests that were abandoned while they waited for their answer. */
void requests_sweep(struct requests *requests);
/* Finishes all requests with an error, since the session is over. */
void requests_fail(struct requests *requests, int error);

/* Starts the request WATCH. EVENTs with its number go to the handler, from now on until requests_unwatch().
 * Returns as request_start(). */
int requests_watch(struct requests *requests, const char *pattern, xenmsg_event_handler handler,
		   void *userdata, struct request **started);
/* Returns false if there was no such watch. */
bool requests_unwatch(struct requests *requests, uint32_t number);
/* Calls back for up to `budget` events. Returns for how many. */
int requests_run_events(struct requests *requests, int budget, const bool *stop);

/* Handles the frames REPLY and EVENT. Returns 0, -EPROTO or -ENOMEM. */
int requests_frame(struct requests *requests, const struct frame_header *header, const uint8_t *payload);

#endif
