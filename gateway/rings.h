/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_GATEWAY_RINGS_H
#define XENMSG_GATEWAY_RINGS_H

/*
 * The rings of a conversation, which this host's daemon shares (wire/gateway_rings.h), as a sequence of bytes
 * each way:
 *
 *   daemon ──writes──▶ ring out ──rings_take()──▶ records … NATS … records ──rings_put()──▶ ring in ──reads──▶ daemon there
 *                         ▲ consumer = the index in the records that come back
 *
 * A ring's writer knows how far the other end has processed, and keeps what is not processed. So each record
 * begins with the index up to which the daemon of its sender has processed what came; only that gives the
 * other daemon its space back. What fits into the one ring fits into the other, so whatever comes is put
 * there at once.
 *
 * Of what comes only the length of each frame is looked at: a daemon must see whole ones alone. What it
 * isn't, the daemon finds out.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RINGS_RECORD_HEAD 8u /* u32 length of what follows, u32 index up to which its sender has processed */
#define RINGS_RECORD_MAX  65536u /* bytes behind a head */
#define RINGS_TAKE_MIN	  64u	 /* the least room for which rings_take() is worth its call */
/* Bytes that the daemon has processed are told of at once if they are as many as this, else after so long, or
 * with the next record. */
#define RINGS_TELL_AT	   262144u
#define RINGS_TELL_LATE_MS 20

struct event_base;
struct rings;

/* There is something to take, or the daemon has ended the conversation. */
typedef void (*rings_ready_fn)(void *userdata);

/* `fds`, of which there are GATEWAY_FDS, are the rings' from now on, also if it fails: -ENOMEM, or -EPROTO if
 * the memory has another size. Nothing is taken yet. */
int rings_new(struct rings **out, struct event_base *base, const int *fds, rings_ready_fn ready,
	      void *userdata);
/* What was put and is whole is still seen by the daemon. */
void rings_free(struct rings *rings);

/* Whether ready() is called; at once if it is true now and wasn't before. */
void rings_take_more(struct rings *rings, bool is_wanted);
/* Calls ready() again soon: other rings have their turn before. */
void rings_again(struct rings *rings);
/* Takes the next record of at most `size` bytes, RINGS_TAKE_MIN or more. Returns its size; -EAGAIN: there is
 * none now, and ready() is called when there is; 0: nor will there be; -EPROTO: the daemon has spoilt its
 * ring. */
ssize_t rings_take(struct rings *rings, uint8_t *record, size_t size);
/* Puts bytes of records, cut anywhere. 0; -EPROTO: they can't be, and the daemon is told of that at the
 * end. */
int rings_put(struct rings *rings, const uint8_t *untrusted, size_t size);

#endif
