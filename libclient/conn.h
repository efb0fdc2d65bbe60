/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_CONN_H
#define XENMSG_LIBCLIENT_CONN_H

/*
 * A connection: the transport to the daemon, the outbox, calls, the inbox, requests and incoming streams, and
 * the functions that drive them. Frames go from the transport to these parts, and from there to the program's
 * callbacks; none of the parts knows the connection.
 *
 * A child made by fork() has no use of it (transport.h). Each function of the API asks for that first; and
 * since a callback may fork, whatever calls back looks whether this is still the same process when that
 * returns: in a child `dead` is -ECHILD from then on.
 *
 * A callback may close the connection: that is put off until the function has returned within which it runs
 * (conn_enter(), conn_leave()).
 *
 * conn_pump() reads what the daemon said and sends what waits, without any callback; conn_run() calls the
 * program back. A connection that has failed stays so: `dead` is the error that every later call returns. But
 * one that outlives its daemon (reconnect.h) goes on without it, and is never dead for that: its rings stand
 * still, and what it has to send waits.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "libclient/calls.h"
#include "libclient/transport.h"
#include "libclient/inbox.h"
#include "libclient/mux.h"
#include "libclient/outbox.h"
#include "libclient/reconnect.h"
#include "libclient/requests.h"
#include "xenmsg.h"

/* What patterns (api_topics.c) want to be told of their connection. */
struct pattern_hooks {
	/* Begins and ends what is due. Calls nobody back. */
	void (*run)(struct xenmsg *conn);
	/* The program takes this notice of a topic that a pattern means. */
	void (*note)(const struct binding *binding, const struct xenmsg_notice *notice);
	/* Takes what the next daemon has refused. Returns false if the request was for no pattern. */
	bool (*take_refusal)(struct xenmsg *conn, const struct request *request);
	void (*free)(struct pattern *patterns);
};

struct xenmsg {
	struct transport transport;
	struct outbox outbox;
	struct calls calls;
	struct inbox inbox;
	struct requests requests;
	struct incoming incoming;
	struct dials dials;
	struct reconnect reconnect;
	struct mux *mux;	  /* its streams of xenmsg-stream.h; NULL: there were none yet */
	struct awaited *awaited;  /* utlist: addresses for which something waits (await.h) */
	struct pattern *patterns; /* utlist: to which the program has subscribed (api_topics.c) */
	const struct pattern_hooks *pattern_hooks; /* NULL: there was none yet */
	int dead;
	unsigned depth;	       /* functions that call back and haven't returned */
	bool closing;	       /* closed by a callback: ended when the outermost one of these returns */
	bool pattern_due;      /* something is to be done for a pattern */
	int64_t pattern_again; /* when (deadline.h); 0: at no time yet */
	bool woken;	       /* by xenmsg_wake(), in any thread */
	/* while it is being opened without waiting, `dead` is -ENOTCONN */
	struct opening {
		bool pending;
		xenmsg_done done;
		void *userdata;
		int64_t expires;
		unsigned flags; /* of xenmsg_begin_open() */
		/* XENMSG_WAIT: no daemon is there, and the next attempt is due then (deadline.h); -1: it is
		 * under way */
		int64_t due;
		int pause_ms;
		int error; /* of the last one */
	} opening;
	uint32_t want_space; /* how much room the outbox waits for; 0: it doesn't wait */
	/* the program is in xenmsg_wait(): what it took is reported with what it does next */
	bool comes_back;
	bool paused;	  /* no message is taken */
	bool recv_waits;  /* at the front of the deliveries lies a message for xenmsg_recv() */
	uint8_t *scratch; /* FRAME_PAYLOAD_MAX bytes: a payload, copied out */
	char reason[512];
	/* what an error of the address means that the last function was about, if it was this one */
	int explained;
	char explanation[512];
};

/* Reports the outcomes that are left, and frees the connection. */
void conn_end(struct xenmsg *conn);

/* Called before and after whatever calls the program back. conn_leave() returns `r`; it ends the connection
 * if a callback has closed it: nothing may touch that afterwards. */
static inline void conn_enter(struct xenmsg *conn)
{
	conn->depth++;
}
static inline int conn_leave(struct xenmsg *conn, int r)
{
	if (--conn->depth == 0 && conn->closing)
		conn_end(conn);
	return r;
}

/* Returns whether this is the process that opened the connection: else its functions return -ECHILD. */
static inline bool conn_is_here(const struct xenmsg *conn)
{
	return transport_is_here(&conn->transport);
}

/* Nothing has failed since. */
static inline void conn_forget_reason(struct xenmsg *conn)
{
	conn->reason[0] = '\0';
	conn->explained = 0;
}

/* Begins a function of the API, which has no reason to give yet. Returns 0, or -ECHILD in another process. */
static inline int conn_clear(struct xenmsg *conn)
{
	if (!conn_is_here(conn))
		return -ECHILD;
	conn_forget_reason(conn);
	return 0;
}

/* Begins one that needs the daemon. Returns 0, -ECHILD or conn->dead. */
static inline int conn_ready(struct xenmsg *conn)
{
	return conn_clear(conn) < 0 ? -ECHILD : conn->dead;
}

/* Does the same, without shared memory too, unlike with a message that was posted: the program may be busy
 * for long afterwards. */
void conn_push_now(struct xenmsg *conn);
/* Sends what can be sent and publishes it. */
int conn_flush(struct xenmsg *conn);
/* Returns whether there is something to tell beside what became of messages and calls. A program that has
 * closed the connection is told outcomes and nothing else. */
static inline bool conn_has_news(const struct xenmsg *conn)
{
	return conn->requests.settled || conn->dials.settled || (conn->mux && conn->mux->requests.settled) ||
	       (!conn->closing &&
		(conn->inbox.pool->withdrawn || conn->requests.events || conn->reconnect.changes ||
		 conn->pattern_due || reconnect_is_answered(&conn->reconnect, mux_is_unanswered(conn->mux))));
}
/* Returns whether conn_run_outcomes() has something to do. */
static inline bool conn_has_outcomes(const struct xenmsg *conn)
{
	return conn->outbox.settled.count > 0 || conn->calls.completed || conn_has_news(conn);
}
/* Called when a callback has returned. Returns false in a child that it has made. */
bool conn_came_back(struct xenmsg *conn);
/* What became of something that only the daemon has to do with, and that isn't done if there was an error. */
struct xenmsg_result conn_result_of(int error);
/* Tells what became of something; the connection's reason has the daemon's words. */
void conn_tell(struct xenmsg *conn, xenmsg_done done, void *userdata, struct xenmsg_result result);
/* Each reports one request, or stream, that is settled, and lets it go. */
void conn_tell_answer(struct xenmsg *conn, struct request *request);
void conn_tell_stream(struct xenmsg *conn, struct stream_dial *dial);
/* Reports requests and streams that are settled, up to `budget`. Returns how many. */
int conn_run_answers(struct xenmsg *conn, int budget);
/* Returns whether the program has bound this name, or asked for that, for messages or streams of either
 * kind. */
bool conn_has_bound(struct xenmsg *conn, const char *endpoint);
/* Withdraws what was begun. Returns 0, or -EALREADY: it is settled. */
int conn_withdraw(struct xenmsg *conn, struct xenmsg_op *op);
/* Tells the daemon something, without waiting. Returns 0, -ENOMEM or -ENOTCONN. */
int conn_tell_daemon(struct xenmsg *conn, uint8_t type, const void *payload, size_t size);
/* Ends what is bound, or subscribed to, under this name, and tells the daemon. Likewise. */
int conn_unbind(struct xenmsg *conn, struct binding *binding, const char *endpoint);
/* Begins a request. A caller that waits for it looks at it by itself. Returns as request_begin(). */
int conn_ask(struct xenmsg *conn, uint8_t type, const void *payload, size_t size,
	     const struct op_options *opts, xenmsg_done done, void *userdata, struct request **request);
/* Begins a watch, and ends one. They return as requests_watch(), and as xenmsg_unwatch(). */
int conn_watch(struct xenmsg *conn, const char *pattern, int timeout_ms, xenmsg_event_handler handler,
	       void *userdata, xenmsg_done done, void *done_userdata, struct request **request);
int conn_unwatch(struct xenmsg *conn, uint32_t number);
/* Calls back for what has come, up to `budget` times. Returns how often, or conn->dead if nothing is left to
 * report. */
int conn_run(struct xenmsg *conn, int budget);
/* Does the same for what was begun and for events, but not for messages. */
int conn_run_outcomes(struct xenmsg *conn, int budget);

/*
 * One wait of a function that blocks, which looks, sleeps, and looks again. Its deadline is looked at each
 * time round, since something may happen, or be due, again and again: once it is over, the function looks a
 * few times more for what there is already.
 */
struct conn_wait {
	int64_t deadline; /* deadline.h */
	enum {
		FOR_ANSWER,
		FOR_OUTCOMES,
		FOR_MESSAGES
	} what;	       /* that ends a sleep; each includes those before it */
	unsigned late; /* how often it was looked behind the deadline */
};

/* Sleeps until there is work for conn_pump(), and with FOR_OUTCOMES for conn_run_outcomes(), and with
 * FOR_MESSAGES for conn_run(). Returns 1 if there may be some, -ETIMEDOUT if there is none at the deadline,
 * or that was over when the function looked last; -EINTR: a handler of the program's ran; or conn->dead. */
int conn_sleep(struct xenmsg *conn, struct conn_wait *wait);
/* Polls the descriptors and notes what they say. Returns 1 if something happened, else 0; -EINTR: a handler
 * of the program's ran; conn->dead. */
int conn_poll(struct xenmsg *conn, int timeout_ms);
/* Arms the notifications and looks once more. Returns 1 if there was something, else 0; or conn->dead. */
int conn_arm(struct xenmsg *conn, bool deliveries);
/* Makes the descriptor readable when the next time is up that the connection waits for. */
void conn_set_alarm(struct xenmsg *conn);
/* Makes the descriptor readable if callbacks are still due. Called after a function that may have consumed
 * the edge. */
void conn_remind(struct xenmsg *conn);
/* Takes the next message: with `recv` only one that has no handler, otherwise only one that has a handler.
 * Returns 1 with *message set (NULL if it was cancelled), 0 if there is none, or a negative errno. */
int conn_take(struct xenmsg *conn, bool recv, struct xenmsg_message **message,
	      const struct binding **binding);
/* Returns the connection's streams, for the first of which this begins a session; NULL: memory is short. */
struct mux *conn_mux(struct xenmsg *conn);
/* Calls back for what has come to them. Returns how often. */
int conn_run_streams(struct xenmsg *conn);
/* Copies the message that conn_run() has left at the front for xenmsg_recv(). Returns 1, 0 if it was
 * cancelled, or the errors of xenmsg_peek(). */
int conn_peek(struct xenmsg *conn, struct xenmsg_message **copy);
/* Takes the message that this is a copy of, or refuses it with an error. Returns 0, -ECANCELED if it isn't
 * there any more, -ENOMEM or conn->dead. */
int conn_decide(struct xenmsg *conn, const struct xenmsg_message *copy, uint32_t error);
/* Sends the reply that is owed to a request. Returns as xenmsg_reply(). */
int conn_reply(struct xenmsg *conn, struct xenmsg_message *request, enum message_type type,
	       struct message_error error, const void *data, size_t size);
/* Ends the session and settles every outcome, without reporting it. Returns conn->dead: 0 if the connection
 * outlives that. */
int conn_fail(struct xenmsg *conn, int error);
/* Checks what a part has returned to a function that the program called. -EPROTO isn't about that function:
 * it ends the session, and the program gets -ENOTCONN. Returns any other result unchanged. */
static inline int conn_check(struct xenmsg *conn, int r)
{
	if (r != -EPROTO)
		return r;
	conn_fail(conn, r);
	return -ENOTCONN;
}
void conn_set_reason(struct xenmsg *conn, const void *text, size_t size);
/* Says what is wrong with an address, or who can't reach it, if that is why a function returns this error.
 * Returns the error. */
int conn_explain_address(struct xenmsg *conn, const char *address, int error);
/* The same of a message that is refused at once, perhaps for its size. */
int conn_explain_message(struct xenmsg *conn, const char *address, size_t size, int error);
#define CONN_TOO_LARGE "it is larger than max-message in this domain's xenmsgd.conf"
/* Says in words why a function fails, if it does with this error, and nobody has said more. Returns `r`. */
static inline int conn_say(struct xenmsg *conn, int r, int error, const char *words)
{
	if (r == error && words && conn_is_here(conn) && !conn->reason[0])
		conn_set_reason(conn, words, strlen(words));
	return r;
}
#define CONN_NEEDS_DONE	 "what is begun so needs a function that is told of its end"
#define CONN_IN_CALLBACK "a callback may not wait so"
/* Begins a function that tells of an end, for which it needs `done`, unless nobody wants to know. Returns 0,
 * -EINVAL or -ECHILD. */
static inline int conn_needs(struct xenmsg *conn, bool done)
{
	if (conn_clear(conn) < 0)
		return -ECHILD;
	return conn_say(conn, done ? 0 : -EINVAL, -EINVAL, CONN_NEEDS_DONE);
}
/* Does so for a function that has read options. */
static inline int conn_say_options(struct xenmsg *conn, int r, const struct op_options *opts)
{
	return conn_say(conn, r, -EINVAL, opts->why);
}
/* Returns these, or if there are none what the error means. */
const char *conn_reason(const struct xenmsg *conn, int error);

/* The rest of conn_pump() and conn_push(). */
int conn_pump_all(struct xenmsg *conn);
void conn_push_all(struct xenmsg *conn);

/* Returns whether nothing else is to be done. The check is coarse, since a small message costs less than
 * finding out in detail. */
static inline bool conn_is_quiet(struct xenmsg *conn)
{
	return conn->transport.shared && !conn->dead && ring_reader_ready(&conn->transport.in, 1) == 0 &&
	       !conn->outbox.ready && !conn->inbox.ending && !conn->calls.timed && conn->requests.due < 0 &&
	       conn->dials.due < 0 && fifo_size(&conn->transport.backlog) == 0 &&
	       (!conn->mux || mux_is_quiet(conn->mux)) && !ring_writer_is_ahead(&conn->transport.out);
}

/* Reads `in` and sends what can be sent. Returns 0 or conn->dead. */
static inline int conn_pump(struct xenmsg *conn)
{
	return conn_is_quiet(conn) ? 0 : conn_pump_all(conn);
}

/* Sends what was just written. What doesn't fit waits for room, and the daemon is asked to notify. */
static inline void conn_push(struct xenmsg *conn)
{
	if (conn->outbox.ready || conn->want_space || conn->inbox.ending || conn->transport.pump)
		conn_push_all(conn);
	else
		transport_publish(&conn->transport);
}

#endif
