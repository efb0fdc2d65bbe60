/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_CALLS_H
#define XENMSG_LIBCLIENT_CALLS_H

#include <stdbool.h>
#include <stdint.h>

#include "libclient/helpers.h"
#include "libclient/message.h"
#include "libclient/op.h"
#include "libclient/outbox.h"
#include "wire/address.h"
#include "wire/frame.h"
#include "wire/properties.h"
#include "xenmsg.h"

/*
 * The caller's side of calls: requests that wait for their answer, and the stream of answers on each channel
 * of kind call, assembled as its bytes arrive (protocol.md, section 2.3). A request is a message of the
 * outbox, and its op says whether it was taken.
 *
 *   begun ───taken──▶ taken ──answer──▶ completed ──done called──▶ gone
 *      │                └──channel ends (ECONNRESET), time is up (ETIMEDOUT, withdrawn)──▶ completed
 *      ├──not taken, for the reason that the outbox says──▶ completed
 *      ├──time is up──▶ cancelled ──not taken (ETIMEDOUT)──▶ completed, or ──taken──▶ withdrawn, as above
 *      └──answer (the receipt is still on its way)──▶ completed ──done called──▶ waits for its op ──▶ gone
 *
 * A message that has a time-out, or that the program may withdraw, is kept here, too, as a call without an
 * answer: what becomes of its op completes it.
 */

/* The reason in the result of a call that the server took, but didn't answer in time. */
#define CALL_TAKEN "timed out; the request was taken, and may have been carried out"
/* and of one whose answer came, but can't be given to the program */
#define CALL_REPLY_TOO_LARGE                                                                                 \
	"the reply is larger than is accepted here; the request may have been carried out"

#define CALL_REPLY_LACKED "this program has no memory for the reply; the request may have been carried out"

struct calls {
	struct outbox *outbox;
	struct message_pool *pool;
	struct call *completed;	   /* utlist: calls to be reported */
	struct call *timed;	   /* utlist: calls and messages with a deadline, the earliest first */
	struct caller *unreported; /* utlist; without shared memory: callers with progress to report */
	unsigned rooms;		   /* that are waited for */
};

/* The library's end of a channel of kind call. */
struct caller {
	struct calls *calls;
	struct sender *sender;
	struct numbers waiting;	 /* calls without an answer */
	struct address_parts to; /* what the sender's address says */
	uint32_t last_number;
	struct assembly answer;
	bool lacked; /* memory for that: it is passed over */
	bool unreported;
	struct caller *prev, *next; /* in calls->unreported */
};

/* Takes the answer of a call that stands (calls_stand()). */
struct call_standing {
	/* The next part has come. Returns 0, or a negative errno: the call ends. */
	int (*part)(void *userdata, const void *data, size_t size);
	/* There are no more: `text` says why, if the server did. Not after calls_forsake(). */
	void (*ended)(void *userdata, int error, const void *text, size_t size);
};

struct call {
	struct xenmsg_op op;	  /* the first */
	struct numbered numbered; /* of its caller */
	struct calls *calls;
	struct sender *sender; /* valid while it is unsettled or has a caller */
	struct caller *caller; /* NULL: it has ended, its answer is no longer wanted, or it is a message */
	xenmsg_done done;
	bool message;
	/* It waits for room for so many bytes on its sender, in whose list `rooms` it is; `sender` is NULL
	 * when it has ended. */
	bool room;
	uint64_t span;
	/* or for something else: called if it is given up, with these two */
	int (*given_up)(void *userdata, void *of);
	void *given_up_userdata, *given_up_of;
	void *userdata;
	bool unsettled; /* its op has no outcome yet */
	bool reported;
	bool is_behind;	    /* a refused one, on its channel: it will be refused, too */
	bool expired;	    /* its time is up, and it is being cancelled */
	int64_t expires;    /* its deadline, -1: none; then the deadline for the answer to a CANCEL */
	int settle_ms;	    /* how long that answer may take */
	bool was_unread;    /* when that was up last, the daemon hadn't read all that was sent */
	int64_t settled_by; /* it is waited for no longer than this, even then */
	struct op_result result;
	struct xenmsg_message *reply;
	/* of a reply that comes in several messages: those that have come; NULL: none */
	struct xenmsg_message *parts;
	uint32_t next_part;
	size_t furthest; /* that has come of it, also before it was begun again */
	int timeout_ms;	 /* within which it, or the next part, must come */
	/* Makes of the result what the program gets; NULL: it is that. */
	void (*read_answer)(const struct call *call, struct xenmsg_result *result);
	const struct call_standing *standing; /* instead of `done` */
	uint64_t began_ns, took_ns;	      /* of a ping */
	struct call *prev, *next;	      /* in calls->completed, or sender->rooms */
	struct call *timed_prev, *timed_next; /* in calls->timed, by `expires` */
};

/* Frees what is to be reported, without any callback. outbox_fail() comes first. */
void calls_free(struct calls *calls);
/* Ends the calls of a channel that has ended and whose ops are settled, or that another server has taken
 * over. For outbox_init(). */
extern const struct outbox_callbacks calls_outbox_callbacks;

/* Begins a call, with these properties if the server knows any. Returns as xenmsg_begin_call(). */
int calls_start(struct calls *calls, const char *address, const void *data, size_t size,
		const struct properties *properties, xenmsg_done done, void *userdata, struct call **started);
/* Begins a call that stands: each part of its answer is given to the callbacks as it comes. Its end frees it.
 * Returns as calls_start(). */
int calls_stand(struct calls *calls, const char *address, const void *data, size_t size,
		const struct call_standing *standing, void *userdata, struct call **started);
/* Lets no callback be told any more of one that stands. */
void calls_forsake(struct call *call);
/* Does so, and ends it. Returns 0 or -EPROTO. */
int calls_let_go(struct call *call);
/* Begins to send a message that can be withdrawn, or may have a deadline or properties. Returns as
 * xenmsg_begin_send(). */
int calls_start_message(struct calls *calls, const char *address, const void *data, size_t size,
			const struct properties *properties, bool at_once, xenmsg_done done, void *userdata,
			struct call **started);
/* Does the same with the message that was reserved. Returns as xenmsg_commit(). */
int calls_commit_message(struct calls *calls, size_t size, const struct properties *properties,
			 xenmsg_done done, void *userdata, struct call **started);
/* Begins to wait until there is room for a message of this size at the sender (NULL: there is). Returns 0 or
 * -ENOMEM. */
int calls_await_room(struct calls *calls, struct sender *sender, size_t size, xenmsg_done done,
		     void *userdata, struct call **started);
/* Makes one that waits for something until call_end(). Returns 0 or -ENOMEM. */
int calls_await(struct calls *calls, xenmsg_done done, void *userdata, struct call **started);
/* Completes one that waits. */
void call_end(struct call *call, int error);
/* Sets what is called, with 0, -ENOMEM or -EPROTO to return, if it is withdrawn or its time is up. */
void call_on_given_up(struct call *call, int (*given_up)(void *userdata, void *of), void *userdata, void *of);
/* Sets the call's deadline, which was made from a time-out of timeout_ms milliseconds; FOR_EVER: it has
 * none. */
void call_expires(struct call *call, int64_t deadline, int timeout_ms);
/* Gives up calls whose time is up: cancels those that weren't taken, withdraws those that were, and abandons
 * those whose CANCEL wasn't answered in time. Returns 0 or -EPROTO. */
int calls_expire(struct calls *calls);

/* Takes DATA of a channel that this end opened: bytes of answers. Returns 0, -ENOMEM or -EPROTO. */
int calls_frame(struct calls *calls, const struct frame_header *header, const uint8_t *payload);
/* Reports how far answers were taken, without shared memory. */
int calls_report(struct calls *calls);
/* Calls `done` for one that is completed, before all others. */
void call_tell(struct call *call);
/* Calls `done` for up to `budget` completed calls. Returns for how many. */
int calls_run(struct calls *calls, int budget);

/* ---- what waits for its receiver, by its address: await.h has what becomes of it ---------- */

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
	uint32_t watch;	      /* its number; 0: none was needed yet */
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

/*
 * The server's side of calls, for one channel of kind call that the daemon opened: the requests that the
 * program has taken and not answered (message.h has the states of their replies), and the stream of replies.
 */

struct replies {
	struct outbox *outbox;
	/* offsets and queue of the outgoing stream; never in the outbox's tables */
	struct sender *sender;
	struct numbers requests; /* that are owed a reply */
};

/* Returns NULL if memory has run out. */
struct replies *replies_new(struct outbox *outbox, uint32_t number);
/* Frees it, and marks every reply as LOST. NULL is allowed. */
void replies_free(struct replies *replies);
/* Adds a request that the program takes. Returns 0, or -EPROTO if its number is outstanding already. */
int replies_add(struct replies *replies, struct xenmsg_message *request, uint32_t number);
void replies_withdraw(struct replies *replies, uint32_t number);
/* Returns whether nothing is left to send. */
bool replies_are_done(const struct replies *replies);
/* Takes a CREDIT for the stream of replies. Returns 0 or -EPROTO. */
int replies_credit(struct replies *replies, uint64_t consumed, uint64_t limit);

/* Sends the reply that is owed to a request, MESSAGE_REPLY or MESSAGE_ERROR. Returns 0 if it is SENT; -EAGAIN
 * if too much waits for this caller already; -ENOBUFS if so many errors wait that the channel is to be reset;
 * -ENOMEM or -EPROTO. */
int reply_put(struct xenmsg_message *request, enum message_type type, struct message_error error,
	      const void *data, size_t size);
/* Notes that there will be no reply. */
void reply_lose(struct xenmsg_message *request);

#endif
