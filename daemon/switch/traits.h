/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_TRAITS_H
#define XENMSG_DAEMON_TRAITS_H

/* The differences between the kinds of hops, all of them, so that no code asks for the kind of a hop. */

#include <stdbool.h>
#include <stdint.h>

enum hop_kind {
	HOP_LINK,      /* to the daemon of another domain */
	HOP_SHARED,    /* to a program, by rings in a memfd */
	HOP_SOCKET,    /* to a program, pumped through private rings */
	HOP_REPORTING, /* likewise, which says early what it has taken (HELLO_REPORTS) */
	HOP_MUX,       /* to a program whose session carries streams, by rings in a memfd */
	HOP_STREAM,    /* to a byte stream (daemon/local/stream.h) */
	HOP_WAITING_ROOM, /* to nobody: a waiting room (daemon/activation/activation.h), which is never attached */
	/* to a part of this daemon (daemon/topic/topics.h): never attached, but its owner has turns
	 * (inner.h) */
	HOP_TOPIC,
	HOP_DAEMON, /* likewise: to the daemon itself (daemon/serve/questions.h) */
	HOP_KINDS
};

/* bytes after which written data is published, or read data is released */
#define HOP_CHUNK 32768u

#define HOP_OUTLETS	  2
#define OUTLET_MAIN	  0 /* a link's only ring; a program's "in" */
#define OUTLET_DELIVERIES 1

struct hop_traits {
	unsigned outlets;
	/* the outlet for the DATA of a channel whose acceptor is on the hop, and of one whose opener is */
	unsigned accepted_outlet, opened_outlet;
	/* What is sent to the program's endpoints waits in a list of its own until the program has taken some
	 * of what it was given (struct pace). */
	bool is_paced;
	uint32_t first_chunk; /* bytes for which a sleeping reader is woken */
	/* Its session frames ask for something. Each is the last in its piece, so that its answer goes out
	 * before that of what lies behind it. */
	bool asks;
	bool numbers_frames; /* in sequence */
	bool whole_frames;   /* an incomplete frame in the ring is a violation (else: wait for the rest) */
	bool release_means_taken; /* otherwise the other end reports by CREDIT */
	bool tells_late; /* it does so only now and then, so what has left the ring isn't waiting any more */
	/* The other end is a daemon, which forwards: it grants credit as it proceeds, and reports by OPENED
	 * that the channel is accepted. What comes from it never waits in its ring; what is for it may wait
	 * in a program's. It is notified at once. */
	bool is_daemon;
	/* Nobody is at the other end: channels wait here, with what comes for them, until they are moved to
	 * another hop. */
	bool is_waiting_room;
	/* The other end is a part of this daemon, to which frames go by calls (inner.h) instead of through
	 * rings. */
	bool is_inner;
	bool is_topic; /* one that a program has subscribed to, or publishes */
};

extern const struct hop_traits hop_traits[HOP_KINDS];

#endif
