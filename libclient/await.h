/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_AWAIT_H
#define XENMSG_LIBCLIENT_AWAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "libclient/calls.h"
#include "libclient/conn.h"
#include "libclient/deadline.h"

/* ---- options ------------------------------------------------------------------------------ */

#define PATIENCE_MS                                                                                          \
	30000 /* what is usual of requests: the daemon answers these by itself, so this is ample */

/* Reads options (NULL: none), of which these flags have a meaning here. Returns 0 or -EINVAL. */
int options_read_given(struct op_options *opts, const struct xenmsg_options *options, unsigned flags);
static inline int options_read(struct op_options *opts, const struct xenmsg_options *options, unsigned flags,
			       int usual_ms)
{
	*opts = (struct op_options){.timeout_ms = usual_ms};
	return options ? options_read_given(opts, options, flags) : 0;
}
/* Begins a function of the API by that (conn_clear()), and says what is wrong with them. Returns also
 * -ECHILD. */
int options_read_first(struct xenmsg *conn, struct op_options *opts, const struct xenmsg_options *options,
		       unsigned flags, int usual_ms);

/* ---- what waits for its receiver ---------------------------------------------------------- */

/*
 * What waits for its receiver (XENMSG_WAIT). A message, call or stream is tried as any other. If it ends
 * since nobody is there (nothing of it was taken), it is parked, and a watch of its address says when to try
 * again:
 *
 *   begun ──▶ trying ──its outcome──▶ told
 *              │  ▲
 *    nobody    ▼  │ the endpoint has come
 *    is there parked ──time is up, withdrawn──▶ told: -ETIMEDOUT, not done
 *
 * What is for one address is tried in the order in which it was begun: what comes behind something that is
 * parked is parked, too. An attempt that ended after a coming that it can't have met is made again at once;
 * and while the daemon lists what isn't there, after pauses.
 */

/* Begins to send, call or connect: now, or, if its options have XENMSG_WAIT, when its receiver is there, with
 * `data` copied. Returns as xenmsg_begin_send(). */
int await_begin(struct xenmsg *conn, await_begin_fn begin, enum channel_kind kind, const char *address,
		const void *data, size_t size, const struct op_options *opts, xenmsg_done done,
		void *userdata, struct xenmsg_op **op);
/* Begins it, and waits for its outcome until the deadline. Returns the error of what became of it. */
int await_outcome(struct xenmsg *conn, await_begin_fn begin, enum channel_kind kind, const char *address,
		  const void *data, size_t size, const struct op_options *opts, int64_t deadline,
		  struct xenmsg_result *result);

/* ---- waiting ------------------------------------------------------------------------------ */

/* Waiting for what was begun. A handler of a signal ends each wait, and withdraws it. */

#define RUN_BUDGET 256 /* callbacks before the next look at the connection */

/* Waits until something comes, and handles it: what was refused with -EAGAIN may be tried again. Calls back
 * for what was begun and for events meanwhile, but not for messages. Returns 0, -EINTR, -ETIMEDOUT or
 * -ENOTCONN. */
int wait_for_room(struct xenmsg *conn, struct conn_wait *wait);
/* What became of what somebody waits for. */
struct outcome {
	bool known;
	struct xenmsg_result result;
	char words[512]; /* its reason, if that isn't "" */
};

/* A `done`: notes it in the struct outcome. */
void outcome_note(void *userdata, const struct xenmsg_result *result);
/* Waits for a message or call that was begun for `outcome`, calling back as wait_for_room() does, and gives
 * the program what became of it; `r` is negative if it couldn't be begun. Returns the error. */
int outcome_await(struct xenmsg *conn, struct xenmsg_op *op, struct outcome *outcome, int r,
		  struct xenmsg_result *result);
/* Waits for a request or stream that is settled by the daemon alone, without any callback. It is not reported
 * yet. Returns whether a signal came. */
bool wait_for_answer(struct xenmsg *conn, struct xenmsg_op *op);
/* Ends a function that has begun a message or call. */
void call_begun(struct xenmsg *conn, struct call *call, const struct op_options *opts, struct xenmsg_op **op);
/* Ends a function that has begun a request, or hasn't (`r`). Returns `r`. */
int request_begun(struct xenmsg *conn, int r, struct request *request, struct xenmsg_op **op);
/* Waits for one that was begun for `outcome`, unless `r` says that it wasn't. Returns its error. */
int request_finish(struct xenmsg *conn, int r, struct request *request, struct outcome *outcome);
/* Gives the program what became of something that wasn't begun: `error` is 0 or what prevented it. Returns
 * the error. */
int result_without_op(struct xenmsg_result *result, int error);

/* conn_leave(), which may end the connection, and with it the words of a result. Returns the error. */
static inline int result_leave(struct xenmsg *conn, struct xenmsg_result *result)
{
	if (conn->depth == 1 && conn->closing)
		result->reason = xenmsg_error_text(result->error);
	return conn_leave(conn, result->error);
}

/* Begins to wait for room for a message of this size at this channel (NULL: there is none). The rest is as
 * for xenmsg_begin_await_room(). */
int room_begin(struct xenmsg *conn, struct sender *sender, size_t size, const struct op_options *opts,
	       xenmsg_done done, void *userdata, struct xenmsg_op **op);
/* Begins it and waits. */
int room_wait(struct xenmsg *conn, struct sender *sender, size_t size, const struct op_options *opts);

/* Waits for as long as `again` says. Returns 0, -ENODATA, -EINTR or -ENOTCONN. */
int wait_again(struct xenmsg *conn, struct again *again, int64_t deadline);

#endif
