/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_TRAITS_H
#define XENMSG_DAEMON_TRAITS_H

/* In what the kinds of hops differ: all of it, so that nobody asks which kind a hop is. */

#include <stdbool.h>
#include <stdint.h>

enum hop_kind {
	HOP_LINK,   /* to the daemon of another domain */
	HOP_SHARED, /* to a program, by rings in a memfd */
	HOP_SOCKET, /* to a program, pumped through private rings */
	HOP_STREAM, /* to a byte stream (daemon/local/stream.h) */
	HOP_KINDS
};

/* bytes after which the other side gets to see, or gets back, what was done */
#define HOP_CHUNK 32768u

#define HOP_OUTLETS	  2
#define OUTLET_MAIN	  0 /* a link's only ring; a program's "in" */
#define OUTLET_DELIVERIES 1

struct hop_traits {
	unsigned outlets;
	/* where the DATA goes of a channel whose acceptor is there, and of one whose opener is */
	unsigned accepted_outlet, opened_outlet;
	uint32_t first_chunk;  /* bytes that a reader who sleeps is woken for */
	uint64_t request_cost; /* of a frame of the session itself, besides its bytes */
	bool numbers_frames;   /* in sequence */
	bool whole_frames;     /* an incomplete frame in the ring is a violation (else: wait for the rest) */
	bool release_means_taken; /* else the other end reports by CREDIT */
	/* The other end is a daemon, which forwards: it says how far it goes along, and by OPENED that the
	 * channel is accepted. What comes from it never waits in its ring; what is for it may wait in a
	 * program's. It is notified at once. */
	bool is_daemon;
};

extern const struct hop_traits hop_traits[HOP_KINDS];

#endif
