/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_HOP_H
#define XENMSG_LIBCLIENT_HOP_H

/*
 * The program's end of the local hop (doc/protocol.md, section 4): three rings of frames, in memory that is
 * shared with the daemon, or, where that can't be, in private memory and pumped through the socket by
 * stream.c. Whoever writes and reads frames needn't know which.
 *
 * The descriptor `epoll` is readable whenever there may be something to do. It holds what the daemon notifies
 * us by and what we notify ourselves by, edge-triggered, so that no read is needed to clear them, and the
 * socket. For a sleeper to be woken, at any time when nobody drains the rings either the requests in them are
 * armed or an edge is pending: who calls hop_poll(), which takes the edge, drains and then calls hop_arm()
 * until that finds nothing.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libclient/fifo.h"
#include "wire/frame.h"
#include "wire/ring.h"

struct stream;

struct hop {
	int socket, epoll;
	int wake; /* becomes readable when the daemon notifies us; -1 where that is `epoll` itself */
	int kick; /* eventfd: us to the daemon; -1 without shared memory */
	int poke; /* eventfd: ourselves to us */
	bool shared;
	bool poked;  /* we have notified ourselves and not polled since */
	bool closed; /* the daemon has closed the socket */
	void *memory;
	size_t memory_size;
	struct ring_writer out;
	struct ring_reader in, deliveries;
	struct stream *stream; /* without shared memory */
	struct fifo backlog;   /* control frames that found no room in `out` */
	uint32_t domid;
	uint64_t max_message;
	char reason[256]; /* the daemon's last words */
};

/* Connects and shakes hands, within 10 s. The errors are those of xenmsg_open(). */
int hop_open(struct hop *hop, const char *path);
/* Lets the daemon have what was sent, as far as it takes it at once. */
void hop_close(struct hop *hop);

/* Keeps what the daemon says at the end. */
void hop_keep_reason(struct hop *hop, struct frame_text text);

/* Bytes free in `out`, looking afresh if it seems less than `want`. -EPROTO. */
int hop_space(struct hop *hop, uint32_t want);
/* Sends a control frame, behind earlier ones; it may wait in the backlog. -ENOMEM, -EPROTO. */
int hop_control(struct hop *hop, uint8_t type, uint32_t channel, const void *payload, uint32_t length);
/* Moves the backlog to `out`. True in *blocked: it is not empty, and nothing else may be put into `out`.
 * -EPROTO. */
int hop_flush_backlog(struct hop *hop, bool *blocked);
/* Shows the daemon what was put into `out`. */
static inline void hop_publish(struct hop *hop);
void hop_release_in(struct hop *hop);
/* Gives back what was taken from `deliveries`; quietly: without a notification, to be followed by another
 * that isn't. */
void hop_release_deliveries(struct hop *hop, bool quietly);

/* Makes `epoll` readable. */
void hop_poke(struct hop *hop);
/* Sleeps for up to timeout_ms (negative: for ever) for something to happen, and takes note of it. 1:
 * something did; 0: the time is up; -EINTR, -EPROTO. What was left in the rings is still to be read if
 * hop->closed is set. */
int hop_poll(struct hop *hop, int timeout_ms);
/* Asks for notifications: of frames in `in`, in `deliveries` if asked, of `want_space` bytes free in `out`
 * unless 0. 1: there is something already. 0: everything is armed. -EPROTO. */
int hop_arm(struct hop *hop, bool deliveries, uint32_t want_space);
/* Only the last of these. */
int hop_arm_space(struct hop *hop, uint32_t want_space);

/* CLOCK_MONOTONIC in ms: what deadlines are counted in. */
int64_t hop_now(void);
/* Connects to the daemon's socket. Returns the non-blocking descriptor, or as connect(2); -ETIMEDOUT,
 * -ENAMETOOLONG. */
int hop_connect(const char *path);
/* Reads exactly so much, until the deadline. -ECONNREFUSED: the daemon has closed it. */
int hop_read(int fd, void *buffer, size_t size, int64_t deadline);

/* Of hop_publish(). */
void hop_notify_of_output(struct hop *hop);
void hop_publish_to_stream(struct hop *hop);

static inline void hop_publish(struct hop *hop)
{
	if (ring_writer_publish(&hop->out))
		hop_notify_of_output(hop);
	if (hop->stream)
		hop_publish_to_stream(hop);
}

#endif
