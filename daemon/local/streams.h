/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STREAMS_H
#define XENMSG_DAEMON_STREAMS_H

/*
 * All streams of this domain's programs: those that were asked for, and those that came in and wait until the
 * program that has bound the endpoint fetches them. A program is told of each by INCOMING; what it doesn't
 * fetch ends with its session.
 */

#include <stdint.h>

#include "wire/frame.h"

struct channel;
struct relay;
struct session;
struct streams;
struct stream;

struct streams *streams_new(struct relay *relay,
			    int (*route)(void *userdata, struct channel *channel,
					 const struct frame_open *open),
			    void *userdata);
/* All streams end with ECONNRESET. */
void streams_free(struct streams *streams);

/* A connection of a program becomes a stream; both take over `fd` and tell the program what was wrong. */
void streams_connect(struct streams *streams, int fd, const struct frame_identity *identity,
		     const uint8_t *payload, uint32_t length);
void streams_fetch(struct streams *streams, int fd, const uint8_t *payload, uint32_t length);

/* -ENOBUFS: the program has let too many pile up. */
int streams_incoming(struct streams *streams, struct channel *channel, const char *endpoint,
		     struct session *session);
void streams_forget_session(struct streams *streams, struct session *session);

/* Of those that the program is to fetch. `each` doesn't end any. */
void streams_each_waiting(struct streams *streams, const struct session *session,
			  void (*each)(void *userdata, struct stream *stream), void *userdata);
/* The same of all. */
void streams_each(struct streams *streams, void (*each)(void *userdata, struct stream *stream),
		  void *userdata);
unsigned streams_count(const struct streams *streams);

#endif
