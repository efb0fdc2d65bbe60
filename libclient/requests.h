/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_REQUESTS_H
#define XENMSG_LIBCLIENT_REQUESTS_H

/* What a program has asked of its daemon, each until its REPLY has come; and the EVENTs of what it watches. */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/fifo.h"
#include "libclient/transport.h"
#include "xenmsg.h"

/* A request whose REPLY is awaited. */
struct request {
	struct request *prev, *next;
	uint32_t number;
	bool finished;
	int error;	  /* negative errno, once finished */
	struct fifo body; /* of the REPLY so far */
};

struct requests {
	struct transport *transport;
	struct request *pending; /* utlist */
	unsigned count;
	uint32_t last_number;
	struct watch *watches;	      /* utlist */
	struct pending_event *events; /* utlist: those that are still to be reported */
};

void requests_init(struct requests *requests, struct transport *transport);
void requests_free(struct requests *requests);

/* Sends a request. -EINVAL: it is too large; -ENOBUFS: too many are pending; -ENOMEM, -EPROTO. */
int request_start(struct requests *requests, uint8_t type, const void *payload, size_t size,
		  struct request **started);
/* Removes it, with its body. */
void request_end(struct requests *requests, struct request *request);
/* Removes those that nobody waited for until their answer came. */
void requests_sweep(struct requests *requests);
/* The session is over: all are finished. */
void requests_fail(struct requests *requests, int error);

/* Starts the request WATCH; EVENTs with its number go to the handler, from now on until requests_unwatch().
 * As request_start(). */
int requests_watch(struct requests *requests, const char *pattern, xenmsg_event_handler handler,
		   void *userdata, struct request **started);
/* False: there was no such watch. */
bool requests_unwatch(struct requests *requests, uint32_t number);
/* Calls back for up to `budget` events. Returns for how many. */
int requests_run_events(struct requests *requests, int budget);

/* Frames REPLY and EVENT. -EPROTO, -ENOMEM. */
int requests_frame(struct requests *requests, const struct frame_header *header, const uint8_t *payload);

#endif
