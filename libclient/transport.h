/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_TRANSPORT_H
#define XENMSG_LIBCLIENT_TRANSPORT_H

/*
 * The program's end of the local hop (doc/protocol.md, section 4): three rings of frames, in memory that is
 * shared with the daemon, or, where that can't be, in private memory and pumped through the socket by
 * pump.c. Whoever writes and reads frames needn't know which.
 *
 * The descriptor `epoll` is readable whenever there may be something to do. It holds what the daemon notifies
 * us by and what we notify ourselves by, edge-triggered, so that no read is needed to clear them, and the
 * socket. For a sleeper to be woken, at any time when nobody drains the rings either the requests in them are
 * armed or an edge is pending: after transport_poll(), which takes the edge, the rings are drained and then
 * transport_arm() is called until it finds nothing.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libclient/fifo.h"
#include "wire/frame.h"
#include "wire/ring.h"

struct pump;

struct transport {
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
	struct pump *pump;   /* without shared memory */
	struct fifo backlog; /* control frames that found no room in `out` */
	uint32_t domid;
	uint64_t max_message;
	char reason[256]; /* the daemon's last words */
};

/* Connects and shakes hands, until the deadline. The errors are those of xenmsg_open(). */
int transport_open(struct transport *transport, const char *path, int64_t deadline);
/* Lets the daemon have what was sent, as far as it takes it at once. */
void transport_close(struct transport *transport);

/* Keeps what the daemon says at the end. */
void transport_keep_reason(struct transport *transport, struct frame_text text);

/* Bytes free in `out`, looking afresh if it seems less than `want`. -EPROTO. */
int transport_space(struct transport *transport, uint32_t want);
/* Sends a control frame, behind earlier ones; it may wait in the backlog. -ENOMEM, -EPROTO. */
int transport_control(struct transport *transport, uint8_t type, uint32_t channel, const void *payload,
		      uint32_t length);
/* The same for frames about channels, FIN and CANCEL; CREDIT, when `taken` bytes of its stream were; RESET, when
 * nothing beyond them was or will be. */
int transport_offset(struct transport *transport, uint8_t type, uint32_t channel, uint64_t offset);
int transport_credit(struct transport *transport, uint32_t channel, uint64_t taken);
int transport_reset(struct transport *transport, uint32_t channel, uint32_t error, uint64_t taken);
/* A frame of a channel that has ended was still on its way: a RESET wants its answer. As
 * transport_control(). */
int transport_take_late(struct transport *transport, const struct frame_header *header,
			const uint8_t *payload);
/* Moves the backlog to `out`. True in *blocked: it is not empty, and nothing else may be put into `out`.
 * -EPROTO. */
int transport_flush_backlog(struct transport *transport, bool *blocked);
/* Shows the daemon what was put into `out`. */
static inline void transport_publish(struct transport *transport);
void transport_release_in(struct transport *transport);
/* Gives back what was taken from `deliveries`; quietly: without a notification, to be followed by another
 * that isn't. */
void transport_release_deliveries(struct transport *transport, bool quietly);

/* Makes `epoll` readable. */
void transport_poke(struct transport *transport);
/* Sleeps for up to timeout_ms (negative: for ever) for something to happen, and takes note of it. 1:
 * something did; 0: the time is up; -EINTR, -EPROTO. What was left in the rings is still to be read if
 * transport->closed is set. */
int transport_poll(struct transport *transport, int timeout_ms);
/* Asks for notifications: of frames in `in`, in `deliveries` if asked, of `want_space` bytes free in `out`
 * unless 0. 1: there is something already. 0: everything is armed. -EPROTO. */
int transport_arm(struct transport *transport, bool deliveries, uint32_t want_space);
/* Only the last of these. */
int transport_arm_space(struct transport *transport, uint32_t want_space);

/* Of transport_publish(). */
void transport_notify_of_output(struct transport *transport);
void transport_publish_to_pump(struct transport *transport);

static inline void transport_publish(struct transport *transport)
{
	if (ring_writer_publish(&transport->out))
		transport_notify_of_output(transport);
	if (transport->pump)
		transport_publish_to_pump(transport);
}

#endif
