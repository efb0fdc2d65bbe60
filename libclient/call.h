/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_CALL_H
#define XENMSG_LIBCLIENT_CALL_H

/*
 * The caller's side of calls: requests that wait for their answer, and the stream of answers on each channel
 * of kind call, put together as its bytes arrive (protocol.md, section 2.3). A request is a message of the
 * outbox, and its op tells whether it was taken.
 *
 *   posted ──taken──▶ taken ──answer──▶ completed ──done called──▶ gone
 *      │                └──channel ends (ECONNRESET), time is up (ETIMEDOUT, withdrawn)──▶ completed
 *      ├──not taken, for the reason that the outbox says──▶ completed
 *      ├──time is up──▶ cancelled ──not taken (ETIMEDOUT)──▶ completed, or ──taken──▶ withdrawn, as above
 *      └──answer (the receipt is still on its way)──▶ completed ──done called──▶ waits for its op ──▶ gone
 */

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "wire/frame.h"
#include "xenmsg.h"

struct channel;
struct outbox;

/* What xenmsg_reason() says when the time of a call was up that the server had. */
extern const char call_taken[];

struct call {
	uint32_t number;
	struct channel *channel; /* NULL: it has ended, or nobody waits for an answer any more */
	struct outbox *outbox;
	xenmsg_call_done done;
	void *userdata;
	bool unsettled; /* its op has no outcome */
	bool completed, reported;
	bool answered;	 /* the error is the server's own */
	bool withdrawn;	 /* it was taken, and may have been carried out */
	bool expired;	 /* its time is up, and it is being cancelled */
	int64_t expires; /* as of hop_now(), -1: never; then the time by which a CANCEL is answered */
	int result;
	struct xenmsg_message *reply;
	struct call *prev, *next;	      /* in outbox->completed */
	struct call *timed_prev, *timed_next; /* in outbox->timed, by `expires` */
	UT_hash_handle hh;
};

/* What a channel of kind call keeps; all zero for others. */
struct channel_calls {
	struct call *waiting; /* uthash by number: those without an answer */
	uint32_t last_number;
	uint64_t taken; /* bytes of the stream of answers that have come */
	bool unreported;
	struct channel *prev, *next; /* in outbox->unreported */
	/* the answer that is being put together */
	uint64_t at; /* how much of it has come */
	uint8_t head[MESSAGE_HEAD_SIZE], trailer[MESSAGE_TRAILER_SIZE];
	uint32_t size;
	struct xenmsg_message *message; /* NULL: it is too large and skipped */
};

/* Gives up those of which the time is up: what wasn't taken is cancelled, what was is withdrawn, and what
 * nobody can tell about in time is abandoned. -EPROTO. */
int calls_expire(struct outbox *outbox);

/* Bytes of answers have come. -ENOMEM, -EPROTO. */
int call_answer_data(struct outbox *outbox, struct channel *channel, const uint8_t *data, uint32_t size);
/* Without shared memory: says how far answers were taken. */
int calls_report(struct outbox *outbox);
/* The channel has ended, and its ops are settled. */
void calls_channel_gone(struct outbox *outbox, struct channel *channel);
void call_drop_answer(struct channel *channel);
/* Calls `done` for up to `budget` of the completed. Returns for how many. */
int calls_run(struct outbox *outbox, int budget);

#endif
