/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_AWAITED_H
#define XENMSG_LIBCLIENT_AWAITED_H

/* What waits for its receiver, by its address. await.h has what becomes of it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libclient/op.h"
#include "wire/frame.h"
#include "xenmsg.h"

struct call;

/* Begins an attempt, as xenmsg_begin_send() and its like. It reads nothing of what the daemon says: that may
 * end what was begun before, which would come behind it then. */
typedef int (*await_begin_fn)(struct xenmsg *conn, enum channel_kind kind, const char *address,
			      const void *data, size_t size, const struct op_options *opts, xenmsg_done done,
			      void *userdata, struct xenmsg_op **op);

enum awaiter_state {
	PARKED, /* `rest` waits for time or withdrawal */
	WAKING, /* it is to be tried: `rest` has ended, or waits for room */
	TRYING,
};

/* Something that waits. */
struct awaiter {
	struct xenmsg_op op; /* the first */
	struct awaited *place;
	await_begin_fn begin;
	enum channel_kind kind;
	enum awaiter_state state;
	struct xenmsg_op *attempt;
	struct call *rest;
	bool was_tried, is_withdrawn;
	bool rests; /* parked, it is tried again in pause_ms though nothing has come */
	int pause_ms;
	uint64_t tried; /* place->comings when it was tried last */
	int error;	/* of that */
	int64_t deadline;
	int timeout_ms;
	xenmsg_done done;
	void *userdata;
	struct awaiter *prev, *next;
	char *trace; /* NULL: none */
	size_t size;
	uint8_t data[];
};

/* An address for which something waits. */
struct awaited {
	struct xenmsg *conn;
	struct awaiter *list; /* utlist, in the order in which they were begun */
	unsigned idle;	      /* of them: not being tried */
	int watch;	      /* its number; 0: none was needed yet */
	bool is_asked;	      /* its WATCH has no answer yet: until then this stays */
	uint64_t comings;
	bool is_listed; /* by the daemon behind so many losses of one (reconnect.h) */
	uint32_t losses;
	struct awaited *prev, *next;
	char address[];
};

/* Ends with this error what is parked, without reporting it. */
void awaited_fail(struct awaited *list, int error);
/* The next daemon has refused this watch. What waits for it is tried again, and then watched for anew, or
 * ends as what can't be watched. Returns whether it is one of these. */
bool awaited_take_refusal(struct awaited *list, uint32_t watch);
/* Frees what is left, without any callback. */
void awaited_free(struct awaited *list);

#endif
