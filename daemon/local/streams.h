/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STREAMS_H
#define XENMSG_DAEMON_STREAMS_H

/*
 * All streams of this domain's programs: those that were asked for, and those that came in and wait until the
 * program that has bound the endpoint fetches them. INCOMING tells a program of each; those that it doesn't
 * fetch end with its session.
 */

#include <stdbool.h>
#include <stdint.h>

#include "wire/frame.h"

struct channel;
struct hop;
struct part;
struct image;
struct image_hops;
struct switchboard;
struct streams;
struct stream;

struct streams *streams_new(struct switchboard *board,
			    int (*route)(void *userdata, struct channel *channel,
					 const struct frame_open *open),
			    void *userdata);
/* Ends all streams with ECONNRESET. */
void streams_leave(struct streams *streams);
/* Does that, and frees them. */
void streams_free(struct streams *streams);

/* These turn a program's connection into a stream. Both take over `fd`, and tell the program the error if it
 * fails. `takes_socket`: the program takes another socket for the stream, with the answer. */
void streams_connect(struct streams *streams, int fd, bool takes_socket,
		     const struct frame_identity *identity, const uint8_t *payload, uint32_t length);
void streams_fetch(struct streams *streams, int fd, bool takes_socket, const uint8_t *payload,
		   uint32_t length);

/* Makes a stream wait for the program. Returns 0, -ENOMEM, or -ENOBUFS: too many wait already. */
int streams_incoming(struct streams *streams, struct channel *channel, const char *endpoint,
		     struct hop *program);
/* Has those that wait for the program (NULL name: at whichever endpoint) wait for the one that `to` names
 * instead (NULL: that stays so). Returns whether there may be more, which is for another turn. */
bool streams_pass_on(struct streams *streams, struct hop *program, const struct frame_text *name,
		     struct hop *(*to)(void *userdata, const struct hop *from, const char *name),
		     void *userdata);
void streams_forget_session(struct streams *streams, struct hop *program);

/* streams_image.c, handing over. Ends those that can't be in the image; `is_carried`: which gets to another
 * process. Returns whether there were some, by which others may have changed. */
bool streams_end_unfit(struct streams *streams, bool is_carried);
extern const struct part streams_part;

/* Calls `each` for every stream that the program should fetch, until it returns true. It must not end any.
 * Returns whether it has. */
bool streams_each_waiting(struct streams *streams, const struct hop *program,
			  bool (*each)(void *userdata, struct stream *stream), void *userdata);
/* Steps to the first stream behind the one with this number, in the order in which they were made (0: the
 * first of all), and describes it. The strings live as long as the stream. False: there is no more. */
struct stream_info {
	uint64_t number;
	uint32_t uid;
	uint32_t pid; /* of the program that has asked for it, or has bound its endpoint */
	const char *program;
	bool incoming;
	uint32_t from;		      /* if it is incoming: whose program has opened it, */
	const char *host;	      /* on which host; "": this one */
	const char *name;	      /* where it leads: an address, or the endpoint if it is incoming */
	const char *state;	      /* of stream_state() */
	uint64_t bytes_in, bytes_out; /* from and to the program */
	struct hop *hop;	      /* its own */
};
bool streams_next(struct streams *streams, struct stream_info *info);

#endif
