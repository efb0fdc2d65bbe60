/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STREAMS_H
#define XENMSG_DAEMON_STREAMS_H

/*
 * All streams of this domain's programs: those that were asked for, and those that came in and wait until the
 * program that has bound the endpoint fetches them. INCOMING tells a program of each; those that it doesn't
 * fetch end with its session.
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
/* Ends all streams with ECONNRESET, and frees them. */
void streams_free(struct streams *streams);

/* These turn a program's connection into a stream. Both take over `fd`, and tell the program the error if it
 * fails. */
void streams_connect(struct streams *streams, int fd, const struct frame_identity *identity,
		     const uint8_t *payload, uint32_t length);
void streams_fetch(struct streams *streams, int fd, const uint8_t *payload, uint32_t length);

/* Makes a stream wait for the program. Returns 0, -ENOMEM, or -ENOBUFS: too many wait already. */
int streams_incoming(struct streams *streams, struct channel *channel, const char *endpoint,
		     struct session *session);
void streams_forget_session(struct streams *streams, struct session *session);

/* Calls `each` for every stream that the program should fetch. It must not end any. */
void streams_each_waiting(struct streams *streams, const struct session *session,
			  void (*each)(void *userdata, struct stream *stream), void *userdata);
/* Calls `each` for all streams, likewise. */
void streams_each(struct streams *streams, void (*each)(void *userdata, struct stream *stream),
		  void *userdata);
unsigned streams_count(const struct streams *streams);

#endif
