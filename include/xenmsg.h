/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_H
#define XENMSG_H

/*
 * libxenmsg: messages between programs in different Xen domains.
 *
 * A program opens a connection to the xenmsgd of its own domain, binds endpoints to receive on
 * them, and sends messages to addresses. An address is DOMAIN:ENDPOINT, for example "5:inbox",
 * "work:print", "self:log"; an endpoint is 1 to 63 characters of [A-Za-z0-9_-] and begins with a
 * letter or digit. A message has 0 bytes to 16 MiB (or what the daemons are configured for).
 *
 * Return values: 0 or a count, or a negative errno. Text that goes in is copied, as are messages:
 * what a function was given may be reused when it returns. Time-outs are in milliseconds; negative
 * means for ever.
 *
 * Every message that was accepted for sending ends in exactly one outcome:
 *
 *   0              delivered: the receiving program took it
 *   -ENOENT        no such endpoint there
 *   -EACCES        a policy denies it
 *   -ENODATA       not decided by policy yet: a rule there names a domain, and who is called so
 *                  isn't known there at the moment (names need a daemon in domain 0).
 *                  xenmsg_send(), xenmsg_call() and xenmsg_connect() try again until their time is
 *                  up, for 30 s where it has no end; messages that are posted meanwhile may
 *                  overtake theirs
 *   -EHOSTDOWN     no such domain, or no daemon in it; no domain of that name is known (names need
 *                  a daemon in domain 0)
 *   -EHOSTUNREACH  a link to that domain can't be made
 *   -ENOBUFS       over a quota
 *   -EMSGSIZE      larger than the receiving side accepts
 *   -ETIMEDOUT     not taken in time, and never will be: this was settled with the other end
 *   -ECANCELED     given up by xenmsg_close() before it had left the program
 *   -ENOTCONN      the daemon went away before the message had left the program
 *   -ECONNRESET    the receiver or a daemon died or doesn't answer, and nobody can know whether it
 *                  was taken
 *
 * All errors but -ECONNRESET are definite: the message was not delivered and never will be. Others
 * may join the list.
 *
 * Threads: a connection and its messages belong to one thread at a time; a process may hold many
 * connections. The library has no global state, starts no thread, and raises no signal.
 *
 * Waiting: the blocking calls suit programs without a loop. In a loop, watch xenmsg_fd() for
 * xenmsg_events() and call xenmsg_process(), also when xenmsg_timeout() has passed. Callbacks run
 * from within xenmsg_process(), xenmsg_wait(), xenmsg_send(), xenmsg_call(), xenmsg_recv() and
 * xenmsg_close(), never from others; they may call anything here but xenmsg_close().
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define XENMSG_API   __attribute__((visibility("default")))
#define XENMSG_CHECK __attribute__((warn_unused_result))
#else
#define XENMSG_API
#define XENMSG_CHECK
#endif

/* A connection to the local daemon. */
struct xenmsg;
/* A received message. */
struct xenmsg_message;

/* ---- the connection -------------------------------------------------------------------------- */

/*
 * Connects to the local daemon.
 * conn         [out] the connection; close it with xenmsg_close()
 * socket_path  of the daemon; NULL: $XENMSG_SOCKET if set, else /run/xenmsg/xenmsg.sock
 * Returns 0, or -ECONNREFUSED or -ENOENT (no daemon there), -EACCES (not allowed to use its
 * socket), -ENAMETOOLONG (a path over 107 bytes), -EPROTONOSUPPORT (a daemon of another major
 * version), -ETIMEDOUT (it didn't answer within 10 s), -EPROTO (that is no xenmsgd), -EBUSY or
 * -ENOBUFS (the daemon refuses another client), -ENOMEM, -EMFILE. With XENMSG_NO_SHARED_MEMORY=1 in
 * the environment no memory is shared with the daemon, which is slower.
 */
XENMSG_API XENMSG_CHECK int xenmsg_open(struct xenmsg **conn, const char *socket_path);
/* The same, but waits for the daemon for timeout_ms instead of 10 s. Negative: for ever. */
XENMSG_API XENMSG_CHECK int xenmsg_open_timed(struct xenmsg **conn, const char *socket_path,
					      int timeout_ms);

/*
 * Ends the connection; NULL is allowed. Sends that have no outcome yet end here: their `done` is
 * called with -ECANCELED if nothing of the message had been handed to the daemon, else with
 * -ECONNRESET. Wait for them first if they matter. Calls that weren't answered end for their
 * callers with -ECONNRESET, and so do those whose answers the daemon hasn't taken yet, for want of
 * room or of the caller's reading: xenmsg_process() before moves them on. Messages that were
 * received stay valid until they are freed.
 */
XENMSG_API void xenmsg_close(struct xenmsg *conn);

/* The descriptor to watch in a loop. It belongs to the connection: don't read it or close it. The
 * same until xenmsg_close(). */
XENMSG_API int xenmsg_fd(struct xenmsg *conn);
/* What to watch it for, as in poll(2): POLLIN. */
XENMSG_API int xenmsg_events(struct xenmsg *conn);
/* How long a loop may sleep before it has to call xenmsg_process() even if nothing is to be seen on
 * the descriptor, in ms; -1: as long as it likes. */
XENMSG_API int xenmsg_timeout(struct xenmsg *conn);

/*
 * Does what there is to do without blocking: sends what waits for room, calls `done` for sends that
 * have ended, the handlers for messages and events that have come. A bounded amount; the descriptor
 * stays readable if more is left. Messages for endpoints that were bound without a handler stay for
 * xenmsg_recv(): call that until it says -EAGAIN. They hold up those that came after them, so a
 * program with a loop gives all its endpoints a handler, or none. Returns how many callbacks were
 * called, plus one if a message waits for xenmsg_recv(); or -ENOTCONN (the daemon is gone) or
 * -EPROTO (it talks nonsense): then every send has had its outcome, and all that is left is
 * xenmsg_close().
 */
XENMSG_API int xenmsg_process(struct xenmsg *conn);
/* The same, but sleeps up to timeout_ms until there is something to do. 0: the time is up. -EINTR:
 * a signal came. */
XENMSG_API int xenmsg_wait(struct xenmsg *conn, int timeout_ms);

/* The daemon's words on the last call that failed on this connection, for people; "" if it had
 * none. Valid until the next call. */
XENMSG_API const char *xenmsg_reason(struct xenmsg *conn);
/* The domid of the domain that this program runs in, as the daemon told. */
XENMSG_API uint32_t xenmsg_domid(struct xenmsg *conn);
/* The largest message that the local daemon lets pass, in bytes. The receiving side may accept
 * less. */
XENMSG_API size_t xenmsg_max_message(struct xenmsg *conn);

/* ---- receiving ------------------------------------------------------------------------------- */

/* What an endpoint takes, where it isn't everything. The numbers are those of BIND in the
 * protocol. */
enum xenmsg_bind_options {
	XENMSG_BIND_MESSAGES = 1, /* only messages: calls are refused with EPROTOTYPE */
	XENMSG_BIND_CALLS = 2	  /* only calls */
};

/* A message has come. It is the handler's: free it, now or later, with xenmsg_message_free(). */
typedef void (*xenmsg_message_handler)(void *userdata, struct xenmsg_message *message);

/*
 * Makes an endpoint, which lives until xenmsg_unbind() or xenmsg_close(). Waits for the daemon's
 * answer.
 * options   0: it takes messages and calls, which come as messages that want a reply; or
 *           XENMSG_BIND_MESSAGES, XENMSG_BIND_CALLS
 * handler   called for every message; NULL: messages are taken with xenmsg_recv()
 * Returns 0, or -EINVAL (not a name for an endpoint, or an unknown option), -EEXIST (bound already,
 * here or by another program), -EACCES (a policy denies it), -ENOBUFS (over a quota), -ENOTCONN,
 * -ETIMEDOUT (the daemon didn't answer within 30 s), -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_bind(struct xenmsg *conn, const char *endpoint, unsigned options,
					xenmsg_message_handler handler, void *userdata);
/* Takes it away again. Messages that were not taken are not delivered; their senders are told.
 * -ENOENT: not bound here. */
XENMSG_API int xenmsg_unbind(struct xenmsg *conn, const char *endpoint);

/*
 * Takes the next message for an endpoint that was bound without a handler. With this the message is
 * delivered.
 * message     [out] free it with xenmsg_message_free()
 * timeout_ms  0: don't wait
 * Returns 0, or -EAGAIN (none there, timeout_ms is 0), -ETIMEDOUT, -EINTR (a signal came while
 * waiting), -ENOTCONN, -EPROTO, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_recv(struct xenmsg *conn, struct xenmsg_message **message,
					int timeout_ms);

/* The payload, aligned to 8, followed by no terminator; never NULL. It may be written to, up to its
 * size. */
XENMSG_API void *xenmsg_message_data(struct xenmsg_message *message);
XENMSG_API size_t xenmsg_message_size(const struct xenmsg_message *message);
/* The endpoint that it was sent to. */
XENMSG_API const char *xenmsg_message_endpoint(const struct xenmsg_message *message);
/* Who sent it. The domid comes from the hypervisor. uid, gid and pid were taken from the kernel by
 * the sender's daemon, and are worth what that domain is worth. */
XENMSG_API uint32_t xenmsg_message_sender_domid(const struct xenmsg_message *message);
XENMSG_API uint32_t xenmsg_message_sender_uid(const struct xenmsg_message *message);
XENMSG_API uint32_t xenmsg_message_sender_gid(const struct xenmsg_message *message);
XENMSG_API uint32_t xenmsg_message_sender_pid(const struct xenmsg_message *message);
/* The sender's domain by name, if the daemon knows it (names come from dom0's daemon), else "". */
XENMSG_API const char *xenmsg_message_sender_name(const struct xenmsg_message *message);
/* 1: it is a call that waits for xenmsg_reply(). 0: it is none, or was answered, or nobody waits
 * for the answer any more: the caller's time was up, or it has died. (That becomes known when this
 * connection reads, for example in xenmsg_process().) */
XENMSG_API int xenmsg_message_wants_reply(const struct xenmsg_message *message);
/* NULL is allowed. A call that wasn't answered is answered with the error ECANCELED. May be called
 * after xenmsg_close(), by the same thread. */
XENMSG_API void xenmsg_message_free(struct xenmsg_message *message);

/* ---- sending --------------------------------------------------------------------------------- */

/* A message's outcome: 0, or one of the errors listed at the top. */
typedef void (*xenmsg_done)(void *userdata, int result);

/* The largest message that can be sent without waiting for anything. */
#define XENMSG_AT_ONCE_MAX 65520

/*
 * Sends a message and waits for its outcome.
 * address     DOMAIN:ENDPOINT
 * data        may be NULL if size is 0
 * timeout_ms  when it is not taken by then, it is withdrawn; to settle that may take a tenth of it
 *             more (from 0.25 s to 2 s), if the other side doesn't answer: then the outcome is
 *             -ECONNRESET.
 *             0: hands it to the daemon if that is possible at once, and returns 0 without knowing
 *             the outcome; else -EAGAIN, and it was not sent. So at most XENMSG_AT_ONCE_MAX bytes;
 *             more are -EMSGSIZE.
 * Meanwhile only outcomes of other sends and calls are told; messages aren't handled. So two
 * programs that send to each other like this take nothing from each other, and neither does one
 * that sends to itself: those post. Returns the outcome; or -EINVAL (the address is malformed),
 * -EMSGSIZE, -EAGAIN, -ENOBUFS (too many addresses at once), -EINTR (a signal came while there was
 * no room to send; later ones don't interrupt), -ENOTCONN, -ENOMEM: each of them says that nothing
 * was sent.
 */
XENMSG_API XENMSG_CHECK int xenmsg_send(struct xenmsg *conn, const char *address, const void *data,
					size_t size, int timeout_ms);

/*
 * Sends a message without waiting. What doesn't fit into the daemon's ring is copied and follows
 * when there is room, so a large message doesn't hold up those to other addresses.
 * done  called exactly once with the outcome if this returned 0, else never; never from within this
 *       call. NULL: the outcome is of no interest
 * Messages to one address arrive in the order in which they were sent, as long as each ends in 0.
 * Returns 0: accepted; or -EAGAIN (too much is waiting for this address: let xenmsg_process() or
 * xenmsg_wait() run first), and -EINVAL, -EMSGSIZE, -ENOBUFS, -ENOTCONN, -ENOMEM as for
 * xenmsg_send().
 */
XENMSG_API XENMSG_CHECK int xenmsg_post(struct xenmsg *conn, const char *address, const void *data,
					size_t size, xenmsg_done done, void *userdata);

/*
 * Withdraws what was posted and has no outcome yet. `done` is called as ever, exactly once and with
 * the truth: -ETIMEDOUT if it was not taken and never will be; 0 if it was taken meanwhile; of a
 * call that was taken what xenmsg_call_post_timed() says. To settle that may take up to 2 s. Not
 * called from within this call.
 * address   that it was posted to
 * userdata  that it was posted with, which must not be NULL. Of several the one posted last
 * Returns 0, or -ENOENT (nothing there without an outcome: it has been told, or will be by the next
 * xenmsg_process()), -ENOTCONN.
 */
XENMSG_API int xenmsg_withdraw(struct xenmsg *conn, const char *address, const void *userdata);

/* ---- calls ----------------------------------------------------------------------------------- */

/*
 * Calls a program: sends it a request and waits for its reply.
 * address     DOMAIN:ENDPOINT
 * reply       [out] free it with xenmsg_message_free(); NULL unless this returns 0. Its sender
 *             isn't stamped: what answers is what was called.
 * timeout_ms  when there is no answer by then, the request is withdrawn; to settle that may take a
 *             tenth of it more (from 0.25 s to 2 s), if the other side doesn't answer
 * Returns 0, or an error of those listed at the top, and with the same certainty, but for two of
 * them:
 *   -ETIMEDOUT   the request was not taken and never will be; or it was taken (xenmsg_reason() says
 *                so), and may have been carried out
 *   -ECONNRESET  the server or a daemon died before the answer came, or doesn't answer; the request
 *                may have been carried out
 * or -EPROTOTYPE (that endpoint takes no calls), -EMSGSIZE (also: the reply is larger than is
 * accepted here), an error that the server answered with, or -EINVAL, -EAGAIN, -EINTR, -ENOTCONN,
 * -ENOMEM as xenmsg_send(). Other messages aren't handled meanwhile: two programs that call each
 * other like this both wait in vain, and so does one that calls itself.
 */
XENMSG_API XENMSG_CHECK int xenmsg_call(struct xenmsg *conn, const char *address, const void *data,
					size_t size, struct xenmsg_message **reply, int timeout_ms);
/* 1: the error that the last xenmsg_call() returned, or with which the running xenmsg_call_done was
 * called, is the server's own, given to xenmsg_reply_error(). */
XENMSG_API int xenmsg_answered(struct xenmsg *conn);

/* A call's outcome, as xenmsg_call() returns it, and with 0 the reply, which is the callback's to
 * free. */
typedef void (*xenmsg_call_done)(void *userdata, int result, struct xenmsg_message *reply);
/*
 * Calls without waiting; thousands may be outstanding. Each waits for as long as there is a server
 * that hasn't answered.
 * done  called exactly once if this returned 0, else never; never from within this call. NULL: the
 *       answer is of no interest
 * Returns 0, or the errors of xenmsg_post().
 */
XENMSG_API XENMSG_CHECK int xenmsg_call_post(struct xenmsg *conn, const char *address,
					     const void *data, size_t size, xenmsg_call_done done,
					     void *userdata);
/*
 * The same with a time-out: when there is no answer by then, the request is withdrawn, and `done`
 * gets -ETIMEDOUT, which leaves open what xenmsg_call() says of it: within `done` xenmsg_reason()
 * tells a request that was taken (it has words then) from one that never will be (""). To settle
 * that may take a tenth of it more (from 0.25 s to 2 s). The time is up only where this connection
 * is processed: xenmsg_timeout() says when.
 * timeout_ms  negative: for ever
 */
XENMSG_API XENMSG_CHECK int xenmsg_call_post_timed(struct xenmsg *conn, const char *address,
						   const void *data, size_t size, int timeout_ms,
						   xenmsg_call_done done, void *userdata);

/*
 * Answers a call, at any time and in any order while its message exists. The data are copied, and
 * the message stays to be freed. Returns 0: the reply is on its way, and whether it arrives is
 * known to the caller alone. Or
 *   -EALREADY   it was answered before
 *   -ECANCELED  nobody waits for the answer any more: the caller's time was up, or it has died, or
 *               the endpoint was unbound
 *   -EINVAL     the message wants no reply
 *   -EMSGSIZE   larger than a message may be: answer something else
 *   -EAGAIN     too much waits for this caller, who doesn't read it: let xenmsg_process() run, and
 *               try again
 *   -ENOTCONN, -ENOMEM
 */
XENMSG_API XENMSG_CHECK int xenmsg_reply(struct xenmsg_message *message, const void *data,
					 size_t size);
/* Answers it with an error, which is what the caller's xenmsg_call() returns. `error` is an errno,
 * of either sign. -EINVAL: that is none. Never -EAGAIN. */
XENMSG_API int xenmsg_reply_error(struct xenmsg_message *message, int error);

/* ---- byte streams ---------------------------------------------------------------------------- */

/*
 * Connects to an endpoint that a program listens on. A stream is a plain descriptor, a connected
 * Unix socket: read(), write(), poll(), shutdown(), pass it to a child, close() it; it doesn't need
 * the connection any more. The end of the stream reads as end of file. If something between the two
 * programs dies, reading gives what came before and then ECONNRESET, writing EPIPE or ECONNRESET.
 * Returns the descriptor (blocking, close-on-exec), or -EINVAL (malformed address), -ENOENT,
 * -EPROTOTYPE (that endpoint takes no streams), -EACCES, -ENODATA, -EHOSTDOWN, -EHOSTUNREACH,
 * -ENOBUFS, -ETIMEDOUT, -ENOTCONN, -ECONNREFUSED, -EMFILE.
 */
XENMSG_API XENMSG_CHECK int xenmsg_connect(struct xenmsg *conn, const char *address,
					   int timeout_ms);

/*
 * Closes a stream so that the other side reads ECONNRESET behind what came before, and not an
 * orderly end: for who had to stop in the midst. close() alone is an orderly end. May wait while
 * the other side doesn't read.
 */
XENMSG_API void xenmsg_break(int stream);

/* Who is at the other end of a stream; as the sender of a message. */
struct xenmsg_peer {
	uint32_t domid, uid, gid, pid;
	char endpoint[64];     /* the one that it was opened to */
	char domain_name[128]; /* of domid, "" if unknown */
};

/*
 * Makes an endpoint for streams. They wait for xenmsg_accept(), up to 128 of them; more are
 * refused. xenmsg_unbind() ends it.
 * options  0; no bits are defined yet
 * Returns 0, or as xenmsg_bind().
 */
XENMSG_API XENMSG_CHECK int xenmsg_listen(struct xenmsg *conn, const char *endpoint,
					  unsigned options);
/*
 * Takes the next stream that came to any of them. In a loop: when xenmsg_process() says so, with
 * timeout_ms 0 until -EAGAIN.
 * peer  [out] who opened it; may be NULL
 * Returns the descriptor as xenmsg_connect(), or -EAGAIN (none there, timeout_ms is 0), -ETIMEDOUT,
 * -EINTR, -ENOTCONN, -EMFILE.
 */
XENMSG_API XENMSG_CHECK int xenmsg_accept(struct xenmsg *conn, struct xenmsg_peer *peer,
					  int timeout_ms);

/* ---- who is there ---------------------------------------------------------------------------- */

enum xenmsg_event_kind {
	/* the domain's daemon has appeared, or the domain has another name than before */
	XENMSG_DOMAIN_UP = 1,
	XENMSG_DOMAIN_DOWN = 2,	 /* it has gone */
	XENMSG_ENDPOINT_UP = 3,	 /* an endpoint that this domain may reach has appeared */
	XENMSG_ENDPOINT_DOWN = 4 /* it has gone */
};

struct xenmsg_event {
	enum xenmsg_event_kind kind;
	uint32_t domid;
	/* the endpoint; for domains the domain's name, "" if unknown. Valid during the callback */
	const char *name;
	const char *domain_name; /* of either the domain's name, "" if unknown. Likewise */
};

typedef void (*xenmsg_event_handler)(void *userdata, const struct xenmsg_event *event);

/*
 * Reports comings and goings, and first, as if they just came, those who are there already.
 * pattern  DOMAIN: of domains and all of their endpoints; DOMAIN:ENDPOINT: of those endpoints. Each
 *          may be a shell pattern: "*", "*:print", "3:scan*"
 * Returns a positive number for xenmsg_unwatch(), or -EINVAL (malformed pattern), -ENOBUFS (over a
 * quota), -ENOTCONN, -ETIMEDOUT, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_watch(struct xenmsg *conn, const char *pattern,
					 xenmsg_event_handler handler, void *userdata);
/* Ends it: no more events of this watch are reported. -ENOENT: no such watch. */
XENMSG_API int xenmsg_unwatch(struct xenmsg *conn, int watch);

/*
 * Asks the daemon something and waits for its answer.
 * what  "status" (doc/status.schema.json; of each list the entries that matter most), "status all"
 *       (every one), "peers", "endpoints", "endpoints DOMAIN", or "policy FROM TO": which rule
 *       decides whether FROM (a domain, or DOMAIN/UID) may reach TO, an endpoint here, as xenmsg
 *       policy check asks; others are in doc/protocol.md
 * json  [out] text, free(3) it
 * Who isn't root nor an administrator (admin-group in xenmsgd.conf(5)) is told what is his own and
 * what isn't about anybody. Returns 0, or -EINVAL (unknown question), -EHOSTDOWN (no such domain),
 * -EPERM (about the policy for others), -ENOTCONN, -EINTR, -ETIMEDOUT, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_query(struct xenmsg *conn, const char *what, char **json);
/* The same as xenmsg_query() for "status". */
XENMSG_API XENMSG_CHECK int xenmsg_status(struct xenmsg *conn, char **json);

/*
 * A round trip between the local daemon and that of a domain.
 * domain  domid, name, or "self"
 * rtt_ns  [out] nanoseconds; may be NULL
 * Returns 0, or -EHOSTDOWN, -EHOSTUNREACH, -EACCES, -ETIMEDOUT, -EINVAL, -ENOTCONN, -EINTR,
 * -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_ping(struct xenmsg *conn, const char *domain, int timeout_ms,
					uint64_t *rtt_ns);

#ifdef __cplusplus
}
#endif

#endif
