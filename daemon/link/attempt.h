/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ATTEMPT_H
#define XENMSG_DAEMON_ATTEMPT_H

/*
 * The frames that come before those of a session on another vchan, while the session is resumed
 * (doc/protocol.md 5.7): HELLO, PROVE, RESUME. They have no number. They go through the same rings, whose
 * ends are handed over to the hop when the session goes on. What they mean is decided by resume_step.h, not
 * here.
 */

#include <stdint.h>

#include "daemon/link/carrier.h"
#include "wire/address.h"
#include "wire/frame.h"
#include "wire/ring.h"

#define LINK_VERSION_SIZE 32

struct link_attempt {
	struct ring_reader in;
	struct ring_writer out;
	uint8_t nonce[16], peer_nonce[16];
	/* of the session that begins if the other end doesn't know ours; zero: it would choose */
	uint8_t secret[32];
	uint8_t cover[32]; /* a secret for the tags in our HELLO that name nothing */
	uint8_t named[16]; /* the instance with which our tags name sessions */
	uint32_t flags;	   /* of the other end's HELLO, and its version: it may have become another program */
	char version[LINK_VERSION_SIZE];
	char host[HOST_NAME_SIZE]; /* in it, too; "": none */
	uint32_t epoch;		   /* of a good PROVE, the other end's */
	uint64_t begun_ms;
};

/* Begins to read and write the carrier's rings, having chosen. -EIO; -EINVAL: bad sizes. */
int attempt_begin(struct link_attempt *attempt, const struct carrier *carrier, bool is_lower);
/* Writes a frame, lets the other end see it, and notifies it if it asks. Payloads are short, and the rings
 * were empty. The number is 0 but behind the HELLO of a session.
 * -ENOSPC: there is no room, since the other end doesn't read; -EPROTO: it claims impossible things; else as
 * the carrier says. */
int attempt_say(struct link_attempt *attempt, const struct carrier *carrier, uint8_t type, uint32_t sequence,
		const void *payload, uint32_t length);
/* Takes the next frame out of the ring. 1: *header and payload are its; 0: there is none, and the other end
 * will notify of the next; -EPROTO: what is there is no such frame. `payload` has room for FRAME_PAYLOAD_MAX
 * bytes. */
int attempt_hear(struct link_attempt *attempt, struct frame_header *header, uint8_t *payload);

#endif
