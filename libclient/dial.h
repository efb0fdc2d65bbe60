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

#include <stdint.h>

#include "libclient/again.h"
#include "libclient/handshake.h"
#include "libclient/op.h"
#include "wire/frame.h"

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

#endif
