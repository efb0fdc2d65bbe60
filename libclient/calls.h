/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_CALLS_H
#define XENMSG_LIBCLIENT_CALLS_H

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

#include "libclient/assembly.h"
#include "libclient/outbox.h"
#include "wire/frame.h"
#include "xenmsg.h"

/* What xenmsg_reason() says when the time of a call was up that the server had. */
#define CALL_TAKEN "timed out; the request was taken, and may have been carried out"

struct calls {
	struct outbox *outbox;
	struct message_pool *pool;
	struct call *completed;	   /* utlist: those that are to be reported */
	struct call *timed;	   /* utlist: those whose time will be up, the first one first */
	struct caller *unreported; /* utlist; without shared memory: whose taking wasn't reported yet */
	bool answered;		   /* the error reported last was the server's own */
	bool withdrawn;		   /* the call that is being reported was taken, but not answered in time */
};

/* Our end of a channel of kind call. */
struct caller {
	struct calls *calls;
	struct sender *sender;
	struct call *waiting; /* uthash by number: those without an answer */
	uint32_t last_number;
	struct assembly answer;
	bool unreported;
	struct caller *prev, *next; /* in calls->unreported */
};

struct call {
	uint32_t number;
	struct calls *calls;
	struct caller *caller; /* NULL: it has ended, or nobody waits for an answer any more */
	xenmsg_call_done done;
	void *userdata;
	bool unsettled; /* its op has no outcome */
	bool completed, reported;
	bool answered;	 /* the error is the server's own */
	bool withdrawn;	 /* it was taken, and may have been carried out */
	bool expired;	 /* its time is up, and it is being cancelled */
	int64_t expires; /* its deadline, -1: none; then the one for the answer to a CANCEL */
	int settle_ms;	 /* how long that answer may take */
	int result;
	struct xenmsg_message *reply;
	struct call *prev, *next;	      /* in calls->completed */
	struct call *timed_prev, *timed_next; /* in calls->timed, by `expires` */
	UT_hash_handle hh;
};

void calls_init(struct calls *calls, struct outbox *outbox, struct message_pool *pool);
/* A channel has ended, and its ops are settled: for outbox_init(). */
void calls_ended(struct caller *caller);

/* Posts a request; the errors are those of xenmsg_call_post(). */
int calls_start(struct calls *calls, const char *address, const void *data, size_t size,
		xenmsg_call_done done, void *userdata, struct call **started);
/* From now on its time runs out at the deadline, which its time-out of so many milliseconds has made. */
void call_expires(struct call *call, int64_t deadline, int timeout_ms);
/* Gives up those of which the time is up: what wasn't taken is cancelled, what was is withdrawn, and what
 * nobody can tell about in time is abandoned. -EPROTO. */
int calls_expire(struct calls *calls);

/* Gives up the one that was posted last with this userdata, as if its time were up. -ENOENT, -EPROTO. */
int calls_withdraw(struct calls *calls, const char *address, const void *userdata);

/* DATA came on a channel that we opened: bytes of answers. -ENOMEM, -EPROTO. */
int calls_frame(struct calls *calls, const struct frame_header *header, const uint8_t *payload);
/* Without shared memory: says how far answers were taken. */
int calls_report(struct calls *calls);
/* Calls `done` for up to `budget` of the completed. Returns for how many. */
int calls_run(struct calls *calls, int budget);

#endif
