/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_DIAL_H
#define XENMSG_LIBCLIENT_DIAL_H

/*
 * Byte streams that are being opened (doc/protocol.md, section 6). Each has a connection to the daemon of its
 * own, which after a handshake carries nothing but the stream's bytes, so that the program gets a plain
 * socket. Nothing here waits: the socket is in the epoll of the session's transport until the stream is
 * there.
 *
 *   dialling ──the daemon takes it──▶ asked ──REPLY──▶ settled (a descriptor, or an error)
 *       ▲  └──its queue is full, it is lost──▶ resting ──┐   └──a policy there isn't known yet (ENODATA)──▶ resting
 *       └───────────────────────────────────────────────┘   time is up, withdrawn, the session is over──▶ settled
 */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/deadline.h"
#include "libclient/handshake.h"
#include "libclient/message.h"
#include "libclient/op.h"
#include "wire/address.h"
#include "wire/frame.h"
#include "xenmsg.h"

#define DIAL_REQUEST_MAX (FRAME_HEADER_SIZE + FRAME_SMALL_MAX + 8)

struct transport;

struct stream_dial {
	struct xenmsg_op op; /* the first */
	struct dials *dials;
	int fd; /* -1: none; once settled, the stream */
	int error;
	uint8_t request[DIAL_REQUEST_MAX +
			1]; /* OPEN or ACCEPT, and the guard: a byte that the daemon leaves unread */
	uint32_t size;
	struct handshake_answer answer;
	int64_t expires; /* deadline.h */
	int64_t rests_until;
	struct again again;
	char reason[512];
	xenmsg_done done; /* NULL: nobody is told, the program looks */
	void *userdata;
	struct stream_dial *prev, *next;
};

struct dials {
	struct transport *transport;
	struct stream_dial *begun;   /* utlist */
	struct stream_dial *settled; /* utlist: those of which somebody is to be told */
	int64_t due; /* when the next one is to be looked at (deadline.h); -1: its socket will say */
};

void dials_init(struct dials *dials, struct transport *transport);
/* Frees all, without any callback, and breaks streams that nobody has taken. */
void dials_free(struct dials *dials);
/* Begins to open a stream by this frame (OPEN or ACCEPT, its payload of `size` bytes). timeout_ms may be
 * FOR_EVER. What the daemon says until then may settle it at once. Returns 0, -ENOTCONN or -ENOMEM. */
int dials_begin(struct dials *dials, uint8_t type, const void *payload, uint32_t size, int timeout_ms,
		xenmsg_done done, void *userdata, struct stream_dial **begun);
/* Goes on with the one that has this socket, for which something has come. */
void dials_ready(struct dials *dials, int fd);
/* Goes on with those whose time has come. */
void dials_look(struct dials *dials);
/* Settles all with this error: the session is over. */
void dials_fail(struct dials *dials, int error);
/* As xenmsg_break(). */
void dial_break(int stream);
/* Frees one, which was taken or has no `done`, and breaks its stream if it still has one. */
void dial_free(struct stream_dial *dial);

/* ---- endpoints at which the program listens, and streams that wait for xenmsg_accept() ---- */

/* An endpoint at which the program listens. */
struct listening {
	char endpoint[ENDPOINT_NAME_MAX + 1];
	uint32_t kinds; /* of its BIND, */
	uint32_t asked; /* which has this number */
	struct listening *prev, *next;
};

struct arrival {
	uint64_t token; /* by which the daemon is asked for the stream */
	struct xenmsg_peer peer;
	struct arrival *prev, *next;
};

/* All zero: there are none. */
struct incoming {
	struct arrival *waiting;     /* utlist, the first one first */
	struct listening *listening; /* utlist */
	struct xenmsg_peer peer;     /* whose stream was taken last */
	/* the first waiting one, while it is fetched, or when it was; NULL: it isn't */
	struct stream_dial *fetch;
	/* a limit has refused the first one: when it may be tried again (deadline.h); 0: at once */
	int64_t again;
};

void incoming_free(struct incoming *incoming);
/* Forgets the streams of a daemon that has gone. The endpoints stay. */
void incoming_leave(struct incoming *incoming);
/* Remembers an endpoint at which the program listens, with these `kinds` of its BIND. Returns 0 or
 * -ENOMEM. */
int incoming_listen(struct incoming *incoming, const char *endpoint, uint32_t kinds);
/* Returns whether the program listens at it, or has asked for that. */
bool incoming_knows(const struct incoming *incoming, const char *endpoint);
/* Notes by which BIND the endpoint that was remembered last was asked for. */
void incoming_asked(struct incoming *incoming, uint32_t asked);
/* Returns the endpoint for which this BIND was; NULL: it was forgotten. */
const char *incoming_find_asked(const struct incoming *incoming, uint32_t asked);
/* Forgets an endpoint. Returns false if the program didn't listen at it. */
bool incoming_forget(struct incoming *incoming, const char *endpoint);
/* Takes the frame INCOMING. Returns 0, -EPROTO or -ENOMEM. */
int incoming_frame(struct incoming *incoming, const struct frame_header *header, const uint8_t *payload);
/* Removes the first waiting stream. */
void incoming_drop(struct incoming *incoming);
/* Lets the first waiting stream rest for a moment, since a limit has refused it. */
void incoming_rest(struct incoming *incoming);
/* Ends that rest if its time is up. */
void incoming_look(struct incoming *incoming);
/* Returns whether xenmsg_accept() has something to do: a stream waits and may be fetched, or was. */
static inline bool incoming_is_ready(const struct incoming *incoming)
{
	if (incoming->fetch)
		return incoming->fetch->op.settled;
	return incoming->waiting && !incoming->again;
}

#endif
