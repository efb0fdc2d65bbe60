/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STREAMS_INTERNAL_H
#define XENMSG_DAEMON_STREAMS_INTERNAL_H

/* What the parts of streams.h share: streams.c has them all, streams_image.c hands them over. */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/local/session.h"
#include "daemon/local/stream.h"
#include "daemon/local/streams.h"
#include "wire/address.h"
#include "wire/ut.h"

/* The number of a program's waiting streams that an account pays for. */
struct share {
	const struct account *account; /* to which the streams hold references */
	unsigned waiting;
	UT_hash_handle hh;
};

/* A program that has streams to fetch. */
struct stream_listener {
	struct hop *hop;
	struct stream_entry *waiting;
	unsigned count;
	struct share *shares;
	UT_hash_handle hh;
};

struct stream_entry {
	struct streams *streams;
	struct stream *stream;
	uint64_t number; /* in the order in which they were made */
	/* for status */
	uint32_t uid, pid, from;
	bool incoming;
	char program[PROGRAM_NAME_SIZE];
	char host[HOST_NAME_SIZE]; /* of `from`; "": this one */
	char name[ADDRESS_MAX + 1];
	struct stream_listener
		*listener; /* the program that should fetch it, and then the following; else NULL */
	uint64_t token;
	struct share *share;
	struct stream_entry *waiting_prev, *waiting_next;
	UT_hash_handle all, hh;
};

struct streams {
	struct switchboard *board;
	int (*route)(void *userdata, struct channel *channel, const struct frame_open *open);
	void *userdata;
	struct stream_entry *list;	   /* all of them, by number */
	struct event *tidy;		   /* while there are some */
	struct stream_entry *next_tidied;  /* where the next look begins; NULL: at the first */
	struct stream_entry *waiting;	   /* streams to be fetched, by token */
	struct stream_listener *listeners; /* by session */
};

/* Looks from now on which of them are idle. */
void streams_start_tidying(struct streams *streams);
/* Makes the stream wait for the program. Returns 0 or -ENOMEM. */
int streams_wait_for(struct stream_entry *entry, struct hop *program);
/* Removes an entry, also one whose stream was never made. */
void streams_remove(struct stream_entry *entry);
extern const struct stream_callbacks streams_callbacks;

#endif
