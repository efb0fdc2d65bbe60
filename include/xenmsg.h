/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_H
#define XENMSG_H

/*
 * libxenmsg: messages between programs in different Xen domains. xenmsg(3) says how all of it works together.
 *
 * A program opens a connection to the xenmsgd of its own domain, binds endpoints to receive on them, and
 * sends to addresses: DOMAIN:ENDPOINT, as "5:inbox", "work:print", "self:log". Functions return 0 or a count,
 * or a negative errno. They copy texts and data. A time-out is in milliseconds: 0 tries, a negative one waits
 * without a limit. Each operation that takes time has two forms: xenmsg_begin_send() and its like begin it,
 * and `done` is called with the outcome, exactly once; xenmsg_send() and its like begin it and wait, and a
 * signal ends that with -EINTR. A connection belongs to one thread at a time, and to the process that opened
 * it (-ECHILD).
 *
 * Every message ends in exactly one outcome. All errors but -ECONNRESET are definite: it was not delivered
 * and never will be. Of a call, struct xenmsg_result says what is known. Later versions may have more errors.
 *
 *   0              delivered: the receiving program took it
 *   -ENOENT        no such endpoint there
 *   -EACCES        a policy denies it
 *   -ENODATA       a rule there names a domain whose name isn't known there now: tried again for 30 s
 *   -EHOSTDOWN     no such domain, or no daemon in it, or no domain of that name is known
 *   -EHOSTUNREACH  a link to that domain can't be made, nor is there a way through domain 0
 *   -EOPNOTSUPP    a stream from another host, and the program there takes none from other hosts
 *   -ENOBUFS       over a quota
 *   -EMSGSIZE      larger than the receiving side accepts
 *   -ETIMEDOUT     not taken in time, and never will be: this was settled with the other end
 *   -ECANCELED     given up by xenmsg_close(), or the program there refused what was sent before
 *   -ENOTCONN      the daemon here ended before the message had left the program
 *   -ECONNRESET    the receiver or a daemon died, or a channel was ended: nobody knows whether it was taken
 *   -EREMOTEIO     the program there refused it (xenmsg_refuse()), or answered with an error of its own
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

/* The version of the library: 0x00MMmmpp, of major, minor and patch. */
#define XENMSG_VERSION 0x000200u
/* Returns the version of the library that the program runs with. */
XENMSG_API uint32_t xenmsg_version(void);

/* A connection to the local daemon. */
struct xenmsg;
/* A received message. */
struct xenmsg_message;

/* ---- who is at the other end ------------------------------------------------------------------ */

/* The program at the other end of a message or a stream. It belongs to what it was got from. */
struct xenmsg_peer;

/*
 * Returns the number of its domain.
 * It comes from the hypervisor. The daemon of that domain has uid, gid and pid from its kernel: they are as
 * trustworthy as that domain. Of a program on another host all of it is as trustworthy as that host.
 */
XENMSG_API uint32_t xenmsg_peer_domid(const struct xenmsg_peer *peer);
/* Returns the number of its user, in its domain. */
XENMSG_API uint32_t xenmsg_peer_uid(const struct xenmsg_peer *peer);
/* Returns the number of its group, in its domain. */
XENMSG_API uint32_t xenmsg_peer_gid(const struct xenmsg_peer *peer);
/* Returns the number of its process, in its domain. */
XENMSG_API uint32_t xenmsg_peer_pid(const struct xenmsg_peer *peer);
/*
 * Returns the name of its domain, "" if the daemon here doesn't know it.
 * Names come from domain 0's daemon. Number and name are those of now when a message is taken, also after a
 * restore or a rename; of a stream they are those of when it is accepted.
 */
XENMSG_API const char *xenmsg_peer_domain_name(const struct xenmsg_peer *peer);
/*
 * Returns the name of its host, "" for this one.
 * A domid and a name mean another domain on each host, so whoever decides by them asks for this, too.
 * Policy lets no other host's domain in unless a rule names it.
 */
XENMSG_API const char *xenmsg_peer_host(const struct xenmsg_peer *peer);
/*
 * Returns the endpoint to which it has sent, or opened the stream.
 * Of a reply it is the endpoint that was called.
 */
XENMSG_API const char *xenmsg_peer_endpoint(const struct xenmsg_peer *peer);

/* ---- what is begun, and what becomes of it --------------------------------------------------- */

/* Other ways to do something. A function refuses those that it doesn't know with -EINVAL. */
enum xenmsg_flags {
	XENMSG_ONLY_MESSAGES =
		1, /* bind: the endpoint takes no calls, they are refused with -EPROTOTYPE */
	XENMSG_ONLY_CALLS = 2, /* bind: it takes nothing but calls; room: for calls */
	/*
	 * bind: the payload of a message may stay in the memory that is shared with the daemon until
	 * xenmsg_message_free(), which saves a copy. That is so for one of 4 KiB to 64 KiB that came in one
	 * piece, while there is room; any other is a copy as always. Either way its address stays the same,
	 * and only this program and its daemon, which it trusts, can change it. But:
	 *   - its sender may learn that it was delivered only when it is freed, or when this connection
	 *     next waits, if that comes first
	 *   - messages that are still held when the connection waits, or that hold half of the room, are
	 *     copied then, which costs more than a copy at once: this is for programs that free a
	 *     message before they wait for the next
	 *   - a process made by fork() mustn't read it
	 */
	XENMSG_LEND = 256,
	/* listen: streams may also come from other hosts, where rules allow that: the program asks
	 * xenmsg_peer_host(). Without it they are refused with -EOPNOTSUPP, for it would take the peer's
	 * domid for one of its own host. */
	XENMSG_FROM_HOSTS = 512,
	/* send: the message is handed to the daemon at once, as a whole, or not sent: -EAGAIN. It has at most
	 * xenmsg_max_at_once() bytes. xenmsg_send() then doesn't wait for the outcome. */
	XENMSG_AT_ONCE = 1024,
	/*
	 * open: the connection outlives its daemon. When that ends or is killed, messages under way end with
	 * what is known of them, as always. Then the connection looks for the next daemon by itself, binds
	 * the program's endpoints there, sets its watches again, and sends what was begun meanwhile, which
	 * waits for that within its time-out; xenmsg_on_change() tells. xenmsg_process(), xenmsg_wait() and
	 * xenmsg_recv() return no -ENOTCONN or -EPROTO then: they keep waiting for it. xenmsg_fd() stays
	 * the same. Streams that are sockets end with their daemon, and -ENOTCONN of later functions means no
	 * more than that the one thing isn't done.
	 */
	XENMSG_RECONNECT = 2048,
	/*
	 * bind, listen: other programs of this user that say so, too, may bind the endpoint beside this one.
	 * All messages of one sender go to the program with the least to do. When that unbinds or ends,
	 * another one gets those that it hadn't taken, and the sender notices nothing: so a service is
	 * replaced by starting the new one first. A call that was taken and isn't answered by then ends as
	 * always; a program that stops answers what it has first (xenmsg_drain()).
	 */
	XENMSG_SHARED = 4096,
	/*
	 * open: waits, within its time-out, for a daemon that isn't there, by trying again after pauses, of a
	 * second in the end.
	 * send, call, connect: waits, within its time-out, until the receiver is there. Where -ENOENT or
	 * -EHOSTDOWN would be the outcome, since there is no such endpoint, domain, daemon or known name, it
	 * is tried again when the endpoint comes. A time-out says -ETIMEDOUT, and that it isn't done. As
	 * long as the endpoint is listed all the same, it is tried after pauses, of a second in the end.
	 * Until then it costs nobody but this program, which keeps a copy of the message, and one of the 64
	 * watches of its connection for each address (-ENOBUFS: there are no more). Messages for one address
	 * are sent in the order that they were begun. For a host that isn't known this flag changes
	 * nothing.
	 */
	XENMSG_WAIT = 32768,
	/*
	 * bind: the endpoint is a topic. Only this program sends to it, by "self:" and its name, and what it
	 * sends goes to all who subscribe (xenmsg_subscribe()). It is delivered when the daemon has it: that
	 * waits for no subscriber. With no other flag and no handler: nothing comes to it
	 */
	XENMSG_TOPIC = 8192,
	/* bind, with XENMSG_TOPIC: the last message is kept for later subscribers, as long as the topic is
	 * there: each gets it first, behind the notice XENMSG_KEPT. So a state is published when it changes,
	 * and everybody knows it. */
	XENMSG_RETAIN = 16384,
	/* subscribe, with `queue`: beyond that the newest are lost, not the oldest, until the subscriber has
	 * taken earlier ones */
	XENMSG_KEEP_OLDEST = 65536,
	/* bind, with XENMSG_TOPIC: xenmsg_on_change() tells how many subscribe, when that changes
	 * (XENMSG_LISTENERS), so that nobody works for nobody */
	XENMSG_COUNT_LISTENERS = 131072,
	/* subscribe: DOMAIN is a shell pattern, as for xenmsg_watch(): "*:news", "web*:news". It subscribes
	 * to each such topic that this domain may reach by its own address ("5:news"), as they come. When
	 * one has gone, or its domain is called otherwise now, it is unsubscribed behind XENMSG_WAITING. An
	 * endpoint that is no topic, or refuses, is passed over, and xenmsg_on_change() tells that once
	 * (XENMSG_NOT_SUBSCRIBED); likewise one to which the program has subscribed beside this (-EEXIST).
	 * One that was refused for a quota is tried again when another one has gone, one that was denied
	 * (-EACCES) or taken after a while */
	XENMSG_PATTERN = 262144
};

/* The time-out that a function has if no options are given. */
#define XENMSG_USUAL_MS (-2147483647 - 1)

/* How to do something. All functions that take it take NULL, too: the usual. */
struct xenmsg_options {
	size_t size;	/* sizeof(struct xenmsg_options): later versions have more members */
	int timeout_ms; /* XENMSG_USUAL_MS, 0: tries, negative: for ever */
	unsigned flags; /* of enum xenmsg_flags */
	/* send, commit, call: where the message belongs in a trace, which its receiver is told by
	 * xenmsg_message_trace(); 1 to 255 printable characters of ASCII, by custom a `traceparent`; NULL:
	 * nothing. Not with XENMSG_AT_ONCE */
	const char *trace;
	/* send, commit, to a topic of this program's: whose value the message is, which subscribers are told
	 * by xenmsg_message_key(); 1 to 255 printable characters of ASCII; NULL: nobody's. Not with
	 * XENMSG_AT_ONCE or XENMSG_WAIT */
	const char *key;
	/* bind, with XENMSG_RETAIN: not one message is kept for later subscribers, but the last one of
	 * each key, of so many keys, those that were published last; an empty message keeps none of its key.
	 * Up to XENMSG_KEYS_MAX */
	unsigned keys;
	/* subscribe: so many of the topic's messages may wait at a time, up to XENMSG_QUEUE_MAX, and as many
	 * more be on their way to the program. Beyond that the oldest are lost (or see XENMSG_KEEP_OLDEST),
	 * and it is told how many. With 1 it has the newest one next, and before that at most one that was
	 * on its way. 0: as many as the daemon has room for */
	unsigned queue;
};
#define XENMSG_KEYS_MAX	 4095
#define XENMSG_QUEUE_MAX 65535

/* Options for one function call: with all of this; with time-out and flags; with one of the two. Of topics: a
 * message of this key; an endpoint that keeps the last message of each of so many keys; a subscription that
 * lets so many messages wait. */
#ifdef __cplusplus
static inline const struct xenmsg_options *
xenmsg_options_given(const struct xenmsg_options &options)
{
	return &options;
}
#define XENMSG_OF_ALL(timeout_ms, flags, trace, key, keys, queue)                                  \
	xenmsg_options_given(xenmsg_options{sizeof(struct xenmsg_options), (timeout_ms), (flags),  \
					    (trace), (key), (keys), (queue)})
#define XENMSG_NOT_GIVEN nullptr
#else
#define XENMSG_OF_ALL(timeout_ms, flags, trace, key, keys, queue)                                  \
	(&(const struct xenmsg_options){sizeof(struct xenmsg_options), (timeout_ms), (flags),      \
					(trace), (key), (keys), (queue)})
#define XENMSG_NOT_GIVEN NULL
#endif
#define XENMSG_TRACED(timeout_ms, flags, trace)                                                    \
	XENMSG_OF_ALL(timeout_ms, flags, trace, XENMSG_NOT_GIVEN, 0, 0)
#define XENMSG_WITH(timeout_ms, flags) XENMSG_TRACED(timeout_ms, flags, XENMSG_NOT_GIVEN)
#define XENMSG_WITHIN(timeout_ms)      XENMSG_WITH(timeout_ms, 0)
#define XENMSG_FLAGS(flags)	       XENMSG_WITH(XENMSG_USUAL_MS, flags)
#define XENMSG_KEY(key)		       XENMSG_OF_ALL(XENMSG_USUAL_MS, 0, XENMSG_NOT_GIVEN, key, 0, 0)
#define XENMSG_KEYS(keys)                                                                          \
	XENMSG_OF_ALL(XENMSG_USUAL_MS, XENMSG_TOPIC | XENMSG_RETAIN, XENMSG_NOT_GIVEN,             \
		      XENMSG_NOT_GIVEN, keys, 0)
#define XENMSG_QUEUE(queue)                                                                        \
	XENMSG_OF_ALL(XENMSG_USUAL_MS, 0, XENMSG_NOT_GIVEN, XENMSG_NOT_GIVEN, 0, queue)

/* An operation that was begun. Valid until its `done` is called. */
struct xenmsg_op;

/*
 * Withdraws an operation that was begun, as if its time were up now.
 * `done` is called as always, exactly once and with the truth, and not within this function. For a
 * message that is -ETIMEDOUT if it was not taken and never will be, 0 if it was taken meanwhile, and
 * -ECONNRESET if the other side doesn't say which; for a call it is as for xenmsg_call(). To settle
 * that may take up to 2 s, and 12 s while the daemon here doesn't read. Returns 0, or -EALREADY (the
 * outcome is known, and will be reported).
 */
XENMSG_API int xenmsg_op_withdraw(struct xenmsg_op *op);

/* The code of a call that a program has taken and freed without an answer, which counts as one: the fate is
 * XENMSG_FATE_DONE, though only that program knows what it has done. To say it by xenmsg_reply_error(), as a
 * proxy may, is the same. */
#define XENMSG_UNANSWERED 125

/* How much is known of an outcome. */
enum xenmsg_fate {
	XENMSG_FATE_UNKNOWN = 0, /* it may have been done, and nobody can know */
	XENMSG_FATE_DONE = 1,	 /* it is done; of a call: a handler has answered it */
	XENMSG_FATE_NOT_DONE = 2 /* it isn't, and never will be: it may be begun again */
};

/*
 * The outcome of an operation. xenmsg_send() and xenmsg_call() fill it whatever they return, -EINVAL as well,
 * so a program may free the reply without asking whether there is one.
 */
struct xenmsg_result {
	int error; /* 0, or a negative errno; of a message one of those listed at the top */
	enum xenmsg_fate fate;
	/* with -EREMOTEIO: which error it is to the program there, as that said, 1 to 65535, or
	 * XENMSG_UNANSWERED; else 0 */
	unsigned code;
	/* with -EREMOTEIO: from xenmsg_reply_exit_status(), 1 to 255; 0: it doesn't come from there */
	int exit_status;
	/* why, in words for people: what the daemon or the library says of it, else what the error means
	 * (xenmsg_error_text()); "" if `error` is 0. Valid within the callback; from a function until the
	 * next one is called for the connection */
	const char *reason;
	/* of a call: the answer, or with -EREMOTEIO the data that came with it if there are some; else
	 * NULL. The owner of the result frees it with xenmsg_message_free(). Its sender is the program
	 * that was called, as it was when its first call reached it; uid UINT32_MAX: that isn't
	 * known */
	struct xenmsg_message *reply;
	char *json; /* of a query: the answer, which the owner of the result frees with free(3); else NULL */
	uint64_t round_trip_ns; /* of a ping: nanoseconds; else 0 */
	int stream; /* of a connect: the descriptor, which the owner of the result closes; else -1 */
	uint64_t reserved[4]; /* for members of later versions */
};

/* Called with the outcome. It may call any function. The result is the library's, and ends with the callback;
 * the reply, the text and the descriptor in it are the program's from then on. */
typedef void (*xenmsg_done)(void *userdata, const struct xenmsg_result *result);

/* ---- the connection -------------------------------------------------------------------------- */

/*
 * Connects to the local daemon.
 * conn         [out] the connection; close it with xenmsg_close(). NULL unless this returns 0
 * socket_path  the daemon's socket; NULL: $XENMSG_SOCKET if set, else /run/xenmsg/xenmsg.sock. A
 *              program with more rights than its user believes no environment
 * options      a time-out, usually 10 s; XENMSG_RECONNECT, which is about what comes later; XENMSG_WAIT:
 *              waits, within the time-out, for a first daemon that isn't there
 * Returns 0, or -ECONNREFUSED or -ENOENT (no daemon there, or none came in time), -EACCES (not allowed to
 * use its socket), -ENAMETOOLONG (a path over 107 bytes), -EPROTONOSUPPORT (a daemon of another major
 * version), -ETIMEDOUT (it didn't answer in time), -EINTR, -EPROTO (it isn't xenmsgd), -ENOBUFS (the daemon
 * lets this user have no more), -EBUSY (it lacks memory or descriptors itself), -ENOMEM, -EMFILE. With
 * XENMSG_NO_SHARED_MEMORY=1 in the environment the connection shares no memory with the daemon, which is
 * slower.
 */
XENMSG_API XENMSG_CHECK int xenmsg_open(struct xenmsg **conn, const char *socket_path,
					const struct xenmsg_options *options);
/*
 * Begins to connect to the local daemon, without waiting, for programs with a loop.
 * They watch xenmsg_fd() and call xenmsg_process() as always, which calls `done` when the daemon has
 * answered. To withdraw it is xenmsg_close(). Until then functions that need the daemon return
 * -ENOTCONN, and xenmsg_domid() and xenmsg_max_message() 0.
 * conn  [out] NULL unless this returns 0
 * done  called exactly once if this returned 0, else never; never within this function: with 0, or
 *       an error of xenmsg_open(), which xenmsg_reason() may explain and after which only
 *       xenmsg_close() is left to call; or with -ECANCELED within xenmsg_close(). NULL: it is open as
 *       soon as xenmsg_max_message() isn't 0
 * Returns 0; or -EAGAIN (too many programs are just connecting: try again later), -ECONNREFUSED,
 * -ENOENT, -EACCES, -ENAMETOOLONG, -ENOMEM, -EMFILE as xenmsg_open().
 */
XENMSG_API XENMSG_CHECK int xenmsg_begin_open(struct xenmsg **conn, const char *socket_path,
					      const struct xenmsg_options *options,
					      xenmsg_done done, void *userdata);

/*
 * Ends the connection; NULL is allowed.
 * Sends that have no outcome yet end here: their `done` is called with -ECANCELED if nothing of the
 * message had been handed to the daemon, else with -ECONNRESET. Wait for them first if they matter.
 * Calls that weren't answered end for their callers with -ECONNRESET. So do calls whose replies the
 * daemon hasn't taken yet, because there is no room or the caller doesn't read: call xenmsg_process()
 * before to send those. Messages that were received stay valid until they are freed. A `done` that is
 * called here may use what the program has, such as its loop: so close the connection before you free
 * that, and take xenmsg_fd() out of the loop before you close it. Called by a callback, it does this
 * when the function has returned within which that runs, and no other function may be called for the
 * connection after that; messages, events and changes are reported no more.
 */
XENMSG_API void xenmsg_close(struct xenmsg *conn);

/*
 * Returns the descriptor that a loop watches for reading (POLLIN), by level or by edge.
 * It is readable whenever xenmsg_process() has something to do, also when a time is up. It belongs to
 * the connection: don't read or close it. It stays the same until xenmsg_close().
 */
XENMSG_API int xenmsg_fd(struct xenmsg *conn);

/*
 * Does what can be done without blocking.
 * It sends what waits for room, calls `done` for sends that have ended, and the handlers for messages
 * and events that have come. The amount is bounded; the descriptor stays readable if more is left.
 * Messages for endpoints that were bound without a handler wait for xenmsg_recv(): call that until it
 * returns -EAGAIN. They block those that came after them, so a program with a loop gives a handler to
 * all its endpoints, or to none. Returns the number of callbacks, plus one if a message waits for
 * xenmsg_recv(); or -ENOTCONN (the daemon is gone) or -EPROTO (it violates the protocol): then every
 * send has had its outcome, and only xenmsg_close() is left to call; or -EBUSY within a callback; or
 * -ECANCELED: a callback has called xenmsg_close(), and the connection is gone; or -ENOMEM: there is
 * no memory for the message that has come next. It stays where it is, and is tried again, at the latest after
 * 100 ms, and the descriptor becomes readable then: the program carries on as before.
 */
XENMSG_API int xenmsg_process(struct xenmsg *conn);
/*
 * Does the same, but sleeps up to timeout_ms until there is something to do.
 * Returns 0 if the time is up or xenmsg_wake() was called, -EINTR if a handler of the program's ran, and
 * not where it was stopped and continued. After -EINTR and -ENOMEM a program carries on as before.
 */
XENMSG_API int xenmsg_wait(struct xenmsg *conn, int timeout_ms);
/*
 * Waits until everything that was begun here has its outcome, and each call its answer.
 * `done` is called for them, and events are reported, but no messages. Operations that a callback
 * begins count as well.
 * Returns 0, or -ETIMEDOUT (not everything has), -EINTR, -EBUSY, -ECANCELED, or -ENOTCONN or -EPROTO as
 * xenmsg_process(): then everything has, too.
 */
XENMSG_API XENMSG_CHECK int xenmsg_flush(struct xenmsg *conn, int timeout_ms);
/*
 * Makes xenmsg_fd() readable, and xenmsg_wait() return, the next one if none waits.
 * This one function may be called by any thread, while another one uses the connection and doesn't
 * close it, and by a signal handler. Returns 0.
 */
XENMSG_API int xenmsg_wake(struct xenmsg *conn);

/* Changes of a connection: but for the last three to one that outlives its daemon (XENMSG_RECONNECT). */
enum xenmsg_change_kind {
	/* the daemon is lost. Watches begin anew */
	XENMSG_DAEMON_LOST = 1,
	/* there is a daemon again, and endpoints and watches are there again */
	XENMSG_DAEMON_BACK = 2,
	/* but not this one, which the new daemon refuses: it is gone, as if the program had ended it. Comes
	 * before XENMSG_DAEMON_BACK */
	XENMSG_DAEMON_REFUSED = 3,
	/* of any connection: this domain was restored or migrated, and has another number, which
	 * xenmsg_domid() says */
	XENMSG_RENUMBERED = 4,
	/* of any connection: so many subscriptions (`listeners`) has a topic of this program's that was bound
	 * with XENMSG_COUNT_LISTENERS, in all domains and hosts that policy lets subscribe; at first there
	 * are none. It is told a few times a second at most: a subscriber that came and went meanwhile
	 * isn't */
	XENMSG_LISTENERS = 5,
	/* of any connection: a topic isn't subscribed to that XENMSG_PATTERN means */
	XENMSG_NOT_SUBSCRIBED = 6
};

/*
 * Returns what a change is called, in words.
 * For example "daemon lost"; "unknown" for one of a later version.
 */
XENMSG_API const char *xenmsg_change_name(enum xenmsg_change_kind kind);

/* The library's: it grows at its end in later versions. */
struct xenmsg_change {
	enum xenmsg_change_kind kind;
	/* of XENMSG_DAEMON_LOST: -ENOTCONN or -EPROTO; of XENMSG_DAEMON_REFUSED that of xenmsg_bind() or
	 * xenmsg_watch(); of XENMSG_NOT_SUBSCRIBED that of xenmsg_subscribe() */
	int error;
	int watch; /* of XENMSG_DAEMON_REFUSED: the watch's number, or 0 */
	/* of XENMSG_DAEMON_REFUSED and XENMSG_LISTENERS: the endpoint; of XENMSG_NOT_SUBSCRIBED: the address;
	 * else "". Valid during the callback */
	const char *endpoint;
	const char *
		reason; /* why, in words for people; "" if nothing more is known. Valid during the callback */
	uint64_t listeners; /* of XENMSG_LISTENERS */
};

typedef void (*xenmsg_change_handler)(void *userdata, const struct xenmsg_change *change);

/*
 * Sets who is told of these changes, within the functions that call back.
 * NULL: nobody.
 */
XENMSG_API void xenmsg_on_change(struct xenmsg *conn, xenmsg_change_handler handler,
				 void *userdata);

/*
 * Returns in words, for people, why a function has just failed with this error.
 * It is what the daemon has said of it, or else what the error means. Valid until the next function is
 * called for the connection.
 * conn   the connection. NULL: xenmsg_open() has failed, and there is none
 * error  what the function returned. 0: only what the daemon has said, "" if it has said nothing
 */
XENMSG_API const char *xenmsg_reason(struct xenmsg *conn, int error);
/*
 * Returns in words, for people, what an error of this library means; "" for 0.
 * `error` may be negative, as functions return it. The daemon's own words aren't in it
 * (xenmsg_reason()). The text stays.
 */
XENMSG_API const char *xenmsg_error_text(int error);
/*
 * Returns the domid of the domain that this program runs in, as the daemon says.
 * It changes when the domain is restored or migrated; xenmsg_on_change() tells.
 */
XENMSG_API uint32_t xenmsg_domid(struct xenmsg *conn);
/*
 * Returns the size of the largest message that the local daemon accepts, in bytes.
 * The receiving side may accept less.
 */
XENMSG_API size_t xenmsg_max_message(struct xenmsg *conn);

/* ---- receiving ------------------------------------------------------------------------------- */

/* Called when a message has come. The handler owns it: free it, now or later, with
 * xenmsg_message_free(). It may call any function, also those that wait, such as xenmsg_call(): until that
 * returns no other message is handled. But xenmsg_process(), xenmsg_wait(), xenmsg_flush() and
 * xenmsg_stream_listen() return -EBUSY, and xenmsg_close() is put off. Of a subscription (xenmsg_subscribe())
 * it first asks xenmsg_message_notice() what it has got. */
typedef void (*xenmsg_message_handler)(void *userdata, struct xenmsg_message *message);

/*
 * Makes an endpoint, which exists until xenmsg_unbind() or xenmsg_close().
 * Waits for the daemon's answer.
 * options   a time-out, usually 30 s, and XENMSG_ONLY_MESSAGES or XENMSG_ONLY_CALLS, XENMSG_LEND and
 *           XENMSG_SHARED; or XENMSG_TOPIC, with or without XENMSG_RETAIN and XENMSG_COUNT_LISTENERS. With
 *           neither of the first two it takes messages and calls, which come as messages that want a reply
 * handler   called for every message; NULL: messages are taken with xenmsg_recv()
 * Returns 0, or -EINVAL (not an endpoint's name, an unknown flag, or both of the first two), -EEXIST
 * (bound already, here, for messages or streams, or by another program, and they don't share it; after the
 * end of that program it takes the daemon a moment to see it), -EACCES (a policy denies it), -ENOBUFS (over a
 * quota),
 * -ENOTCONN, -ETIMEDOUT (the daemon didn't answer in time), -EINTR, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_bind(struct xenmsg *conn, const char *endpoint,
					const struct xenmsg_options *options,
					xenmsg_message_handler handler, void *userdata);
/*
 * Begins to make an endpoint.
 * Messages may be handled before `done` is called.
 * done      with 0, or an error of xenmsg_bind(): then there is no such endpoint here; or with -ECANCELED
 *           within xenmsg_close(). NULL: the outcome is of no interest
 * userdata  of both `handler` and `done`
 * op        [out] what was begun; NULL: that isn't wanted
 * Returns 0; or -EINVAL, -EEXIST (bound already, here), -ENOBUFS (64 questions to the daemon have no
 * answer yet), -ENOTCONN, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_begin_bind(struct xenmsg *conn, const char *endpoint,
					      const struct xenmsg_options *options,
					      xenmsg_message_handler handler, xenmsg_done done,
					      void *userdata, struct xenmsg_op **op);
/*
 * Removes an endpoint, without waiting.
 * Messages that were not taken are not delivered, and their senders are told; calls in service end
 * (xenmsg_drain() lets them finish). Returns 0, -ENOENT if it isn't bound here, -ENOTCONN, -ENOMEM.
 */
XENMSG_API int xenmsg_unbind(struct xenmsg *conn, const char *endpoint);

/*
 * Subscribes to a topic, which another program, or this one, has bound (XENMSG_TOPIC).
 * Until xenmsg_unsubscribe() or xenmsg_close() all that is published there comes as messages, whose
 * xenmsg_message_endpoint() is the address as it was given here, and whose sender is the publisher. A
 * topic waits for nobody. So between the messages come notices (xenmsg_message_notice()), each in its
 * place, that tell what is missing: nothing is lost without one, and nothing that is published comes
 * twice or in another order. Only what the topic has kept (XENMSG_KEPT) comes at each
 * XENMSG_SUBSCRIBED, also if it had come before: after each daemon, way or topic that was lost. A
 * subscription waits for its topic: that may come, go and come again. It survives a restore of the topic's
 * domain, which changes the domid of its messages. Where a name or a number comes to mean another domain,
 * XENMSG_WAITING says so, and what comes behind is of that one.
 *
 * A NOTICE IS A MESSAGE WITHOUT PAYLOAD. A program that doesn't ask xenmsg_message_notice() of each takes
 * the first thing that comes for an empty message, and doesn't learn what it has missed, nor that the
 * subscription has ended.
 *
 * address  DOMAIN:ENDPOINT
 * options  a time-out, usually 30 s, XENMSG_LEND, XENMSG_PATTERN, and `queue`, with or without
 *          XENMSG_KEEP_OLDEST
 * handler  called for every message and notice; NULL: they are taken with xenmsg_recv()
 * Returns 0: the first thing that comes of each topic is a notice, XENMSG_SUBSCRIBED or XENMSG_WAITING. Or
 * returns -EINVAL (the address is malformed, or the options are), -EEXIST (this connection has subscribed to
 * that address already, also if that has ended: XENMSG_ENDED), -EACCES (a policy denies it), -EPROTOTYPE
 * (that endpoint is no topic), -ENOBUFS (over a quota), -ENOTCONN, -ETIMEDOUT, -EINTR, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_subscribe(struct xenmsg *conn, const char *address,
					     const struct xenmsg_options *options,
					     xenmsg_message_handler handler, void *userdata);
/*
 * Begins to subscribe.
 * `done` is called with what xenmsg_subscribe() returns; it, `userdata` and `op` are as for
 * xenmsg_begin_bind(). Returns 0; or -EINVAL, -EEXIST, -ENOBUFS (64 questions to the
 * daemon have no answer yet), -ENOTCONN, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_begin_subscribe(struct xenmsg *conn, const char *address,
						   const struct xenmsg_options *options,
						   xenmsg_message_handler handler, xenmsg_done done,
						   void *userdata, struct xenmsg_op **op);
/*
 * Ends a subscription, without waiting, or all of a pattern.
 * Returns 0, -ENOENT if there is none of that address, -ENOTCONN, -ENOMEM.
 */
XENMSG_API int xenmsg_unsubscribe(struct xenmsg *conn, const char *address);

/* Notices that daemons insert between a topic's messages; a publisher cannot forge them. */
enum xenmsg_notice_kind {
	/* From here on the subscriber gets everything, or is told what is missing. `count` is how many
	 * messages were published before; `unknown`: the subscriber was subscribed before, and may have
	 * missed some. */
	XENMSG_SUBSCRIBED = 1,
	/* `count` messages are missing here, since this program or the way to it was too slow, or they were
	 * more than its `queue`; `unknown`: and perhaps more. Only the last XENMSG_SUBSCRIBED or
	 * XENMSG_WAITING among those is told. */
	XENMSG_MISSED = 2,
	/* The topic has gone, or isn't there yet, and the subscription waits for it; `unknown`: it, or the
	 * way to it, was lost, and with it perhaps messages that were published last. */
	XENMSG_WAITING = 3,
	/* The subscription has ended, with `error`: -EACCES (a policy denies it by now), -EPROTOTYPE (the
	 * endpoint is no topic), or another one that only a change there can mend. Nothing comes any more,
	 * but its address stays taken: xenmsg_unsubscribe() is needed before xenmsg_subscribe(), which else
	 * returns -EEXIST. */
	XENMSG_ENDED = 4,
	/* The message that comes next is one that the topic has kept (XENMSG_RETAIN): it was published
	 * before. This always comes behind XENMSG_SUBSCRIBED. */
	XENMSG_KEPT = 5
};

/*
 * Returns what a notice is called, in a word.
 * For example "missed"; "unknown" for one of a later version.
 */
XENMSG_API const char *xenmsg_notice_name(enum xenmsg_notice_kind kind);

/* It grows at its end in later versions. */
struct xenmsg_notice {
	enum xenmsg_notice_kind kind; /* a kind that isn't known is skipped */
	int error;
	uint64_t count;
	int unknown; /* 1: nobody knows how many more, perhaps none */
};

/*
 * Returns what a notice tells, which has no payload; NULL: it is a message.
 * Valid until the message is freed.
 */
XENMSG_API const struct xenmsg_notice *xenmsg_message_notice(const struct xenmsg_message *message);
/*
 * Returns the key of a message that came from a topic, "" if it has none.
 * Valid until the message is freed.
 */
XENMSG_API const char *xenmsg_message_key(const struct xenmsg_message *message);

/*
 * Removes an endpoint, but finishes what is in service.
 * In service are the calls that the program has taken and not answered, which it answers as always.
 * Of xenmsg_stream_listen() it is the streams that came, which aren't waited for.
 * Nothing new comes: a sender gets -ENOENT, also for what wasn't taken yet, or finds the
 * next program that binds it. While it waits, no messages are handled.
 * options  a time-out, usually none: then what is still in service ends, as by xenmsg_unbind()
 * Returns 0 when all callers have their answers, or -ENOENT (it isn't bound here for messages or calls),
 * -ETIMEDOUT, -EINTR, -ENOTCONN, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_drain(struct xenmsg *conn, const char *endpoint,
					 const struct xenmsg_options *options);
/*
 * Begins to drain an endpoint.
 * `done`, not NULL, is called with what xenmsg_drain() returns, or -ECANCELED within xenmsg_close();
 * `op` is as for xenmsg_begin_bind(). Returns 0; or -EINVAL, -ENOENT, -ENOTCONN, -ENOMEM:
 * nothing has changed.
 */
XENMSG_API XENMSG_CHECK int xenmsg_begin_drain(struct xenmsg *conn, const char *endpoint,
					       const struct xenmsg_options *options,
					       xenmsg_done done, void *userdata,
					       struct xenmsg_op **op);

/*
 * Takes the next message of the endpoints without a handler, which makes it delivered.
 * message     [out] free it with xenmsg_message_free()
 * timeout_ms  0: doesn't wait
 * Returns 0, or -EAGAIN (none there, timeout_ms is 0), -ETIMEDOUT, -EINTR (a signal came while
 * waiting), -ENOTCONN, -EPROTO, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_recv(struct xenmsg *conn, struct xenmsg_message **message,
					int timeout_ms);

/*
 * Copies the message that xenmsg_recv() would take, without taking it.
 * So a program does something with a message before it counts as delivered. xenmsg_take() or
 * xenmsg_refuse() must follow, and nothing else that receives meanwhile; later ones wait behind it.
 * Until then its sender may withdraw it.
 * message  [out] a copy; free it with xenmsg_message_free()
 * Returns 0, or -EAGAIN (none there; xenmsg_wait() says when), -EPROTOTYPE (a call: only messages
 * of endpoints that take no calls can be copied), -ENOTCONN, -EPROTO, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_peek(struct xenmsg *conn, struct xenmsg_message **message);
/*
 * Takes the message that this is a copy of: it counts as delivered.
 * The copy stays to be freed.
 * Returns 0, or -ECANCELED (it isn't there any more: its sender has withdrawn it or gone),
 * -ENOTCONN, -EPROTO, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_take(struct xenmsg *conn, const struct xenmsg_message *message);
/*
 * Gives a message back: it is not delivered.
 * Its sender gets -EREMOTEIO with this code, and -ECANCELED for messages behind it that weren't taken.
 * If it is larger than 64 KiB, so that parts of it were released before, the sender gets -ECONNRESET.
 * code  1 to 4095, of any meaning to the two programs
 * Returns as xenmsg_take(), or -EINVAL (another code).
 */
XENMSG_API XENMSG_CHECK int xenmsg_refuse(struct xenmsg *conn, const struct xenmsg_message *message,
					  unsigned code);

/*
 * Takes no messages, until xenmsg_resume().
 * No handler of messages is called, and xenmsg_recv() and xenmsg_peek() behave as if there were none.
 * They wait where they are, and their senders for them, each as long as it wants to. Outcomes, events,
 * and calls that are withdrawn (xenmsg_message_on_withdrawn()) are reported as always. So a server takes
 * no more than it can do at once. This holds for the whole connection, whose endpoints' messages come in
 * one order: bind an endpoint that must be paused alone by a connection of its own. Both may be called
 * in a handler: the next message isn't handled. Both return 0.
 */
XENMSG_API int xenmsg_pause(struct xenmsg *conn);
/*
 * Takes messages again: xenmsg_fd() is readable.
 * Returns 0.
 */
XENMSG_API int xenmsg_resume(struct xenmsg *conn);

/*
 * Returns the payload, aligned to 8 bytes, without a terminator; never NULL.
 * The program may write to it, up to its size.
 */
XENMSG_API void *xenmsg_message_data(struct xenmsg_message *message);
/* Returns its size, in bytes. */
XENMSG_API size_t xenmsg_message_size(const struct xenmsg_message *message);
/* Returns the endpoint that it was sent to. */
XENMSG_API const char *xenmsg_message_endpoint(const struct xenmsg_message *message);
/*
 * Returns its sender; of an answer, the program that was called.
 * Valid until the message is freed.
 */
XENMSG_API const struct xenmsg_peer *xenmsg_message_sender(const struct xenmsg_message *message);
/*
 * Returns for how many milliseconds the answer to a call is still wanted.
 * The caller's time-out says so; negative: the caller has set none, or it is no call. This suits as the
 * time-out of calls that the server makes in turn. The time that the request was on its way isn't known
 * here, so the caller may give up before, which xenmsg_message_wants_reply() tells.
 */
XENMSG_API int xenmsg_message_time_left(const struct xenmsg_message *message);
/*
 * Returns the trace that the sender has given in its options, "" if there is none.
 * It is as trustworthy as the sender. Valid until the message is freed.
 */
XENMSG_API const char *xenmsg_message_trace(const struct xenmsg_message *message);
/*
 * Writes what it is called in traces (xenmsg trace).
 * Its sender has the same from xenmsg_sent_name(): DOMID.PID.NUMBER@OFFSET, behind HOST/ if it comes
 * from another host.
 * name  [out] and a zero, if there is room for it in `size` bytes; XENMSG_NAME_SIZE are enough
 * Returns 0, -ENODATA (it has no name here: an answer, or of a topic, or another program has had the channel
 * before), -ENOBUFS (no room).
 */
XENMSG_API XENMSG_CHECK int xenmsg_message_name(const struct xenmsg_message *message, char *name,
						size_t size);
/*
 * Writes the same of the channel that it came on, or of a stream, without an offset.
 * Returns as xenmsg_message_name().
 */
XENMSG_API XENMSG_CHECK int xenmsg_peer_channel(const struct xenmsg_peer *peer, char *name,
						size_t size);
/*
 * Returns 1 if it is a call that waits for xenmsg_reply().
 * Returns 0 if it is no call, or was answered, or the answer is no longer wanted: the caller's time
 * was up, or it has died. (That becomes known when this connection reads, for example in
 * xenmsg_process().)
 */
XENMSG_API int xenmsg_message_wants_reply(const struct xenmsg_message *message);
/* Called when the answer to a call that the program has taken is no longer wanted. The message is still the
 * program's, which frees it, now or later. */
typedef void (*xenmsg_withdrawn)(void *userdata, struct xenmsg_message *message);
/*
 * Asks to be told when the answer to a call is no longer wanted.
 * The caller's time is up, it has withdrawn the call or died, or the endpoint was unbound. That goes
 * past messages that the program hasn't taken, so it comes to one that is paused, too.
 * withdrawn  called at most once, and not if the program has answered or freed the message before, nor when
 *            the connection ends; NULL: it doesn't want to know any more
 * Returns 0; or -EINVAL (it wants no reply), -EALREADY (it was answered), or -ECANCELED: the answer is no
 * longer wanted already.
 */
XENMSG_API int xenmsg_message_on_withdrawn(struct xenmsg_message *message,
					   xenmsg_withdrawn withdrawn, void *userdata);
/*
 * Takes a message out of its connection.
 * From now on another thread may use and free it, also while the connection is used, and when it is
 * closed. Data in shared memory (XENMSG_LEND) are copied.
 * Returns 0, -EBUSY (a call that wasn't answered needs its connection), -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_message_detach(struct xenmsg_message *message);
/*
 * Frees a message; NULL is allowed.
 * A call whose answer is still wanted is answered as by xenmsg_reply_error() with XENMSG_UNANSWERED:
 * its caller gets -EREMOTEIO. May be called after xenmsg_close(), by the same thread.
 */
XENMSG_API void xenmsg_message_free(struct xenmsg_message *message);

/* ---- sending --------------------------------------------------------------------------------- */

/* Returns the size of the largest message that can be sent with XENMSG_AT_ONCE, in bytes. */
XENMSG_API size_t xenmsg_max_at_once(struct xenmsg *conn);

#define XENMSG_NAME_SIZE 128 /* bytes that the name of a message has room in */

/*
 * Writes what the last message to this address is called in traces (xenmsg trace).
 * It has the same name at each daemon on its way: DOMID.PID.NUMBER@OFFSET.
 * flags  0, or XENMSG_ONLY_CALLS: the call that was begun last
 * name   [out] and a zero, if there is room for it in `size` bytes; XENMSG_NAME_SIZE are enough
 * Returns 0, -EINVAL, -ENOENT (nothing was, or its channel has ended since), -ENOBUFS (no room).
 */
XENMSG_API XENMSG_CHECK int xenmsg_sent_name(struct xenmsg *conn, const char *address,
					     unsigned flags, char *name, size_t size);

/*
 * Sends a message and waits for its outcome.
 * address     DOMAIN:ENDPOINT
 * data        may be NULL if size is 0
 * options     a time-out, usually none: a message that is not taken by then is withdrawn. To settle that may
 *             take a tenth of it more (from 0.25 s to 2 s) if the other side doesn't answer, with the outcome
 *             -ECONNRESET; or up to 12 s while the daemon here doesn't read, since it starts anew.
 *             XENMSG_AT_ONCE: returns 0 without knowing the outcome
 * result      [out] the outcome; NULL: what is returned is enough
 * Meanwhile only outcomes of other sends and calls are reported; messages aren't handled. So two
 * programs that send to each other like this take nothing from each other, nor does one that sends
 * to itself: such programs use xenmsg_begin_send(). Returns the outcome; or -EINVAL (the address is
 * malformed), -EMSGSIZE, -EAGAIN, -ENOBUFS (too many addresses at once), -ENOTCONN, -ENOMEM: each of them
 * means that nothing was sent. With -EINTR a signal came, the message was withdrawn, and the result says
 * whether its outcome is known.
 */
XENMSG_API XENMSG_CHECK int xenmsg_send(struct xenmsg *conn, const char *address, const void *data,
					size_t size, const struct xenmsg_options *options,
					struct xenmsg_result *result);

/*
 * Begins to send a message.
 * Bytes that don't fit into the daemon's ring are copied, and sent when there is room, so a large
 * message doesn't block those to other addresses. Messages to one address arrive in the order in which
 * they were begun, as long as each ends in 0.
 * options  as for xenmsg_send(). The time-out acts only while this connection is processed
 * done     with the outcome. NULL: it is of no interest
 * op       [out] what was begun, for xenmsg_op_withdraw(); NULL: that isn't wanted. Without `done` there is
 *          none
 * Returns 0 if the message was accepted; or -EAGAIN (too much is waiting for this address:
 * xenmsg_begin_await_room() tells when there is room), or -EINVAL, -EMSGSIZE, -ENOBUFS, -ENOTCONN, -ENOMEM as
 * for xenmsg_send().
 */
XENMSG_API XENMSG_CHECK int xenmsg_begin_send(struct xenmsg *conn, const char *address,
					      const void *data, size_t size,
					      const struct xenmsg_options *options,
					      xenmsg_done done, void *userdata,
					      struct xenmsg_op **op);

/*
 * Waits until there is room for a message to an address.
 * It is what a program does after -EAGAIN from xenmsg_begin_send(), xenmsg_reserve() or
 * xenmsg_begin_call().
 * address  DOMAIN:ENDPOINT
 * size     of the message, in bytes
 * options  a time-out, usually none, and XENMSG_ONLY_CALLS: room for a call
 * Returns 0 (what was begun meanwhile may have filled it again), or -EINVAL, -ETIMEDOUT, -EINTR, -ENOTCONN,
 * -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_await_room(struct xenmsg *conn, const char *address, size_t size,
					      const struct xenmsg_options *options);
/*
 * Begins to wait for room.
 * `done`, not NULL, is called with what xenmsg_await_room() returns, or -ECANCELED within
 * xenmsg_close(); `op` is as for xenmsg_begin_send(). Returns 0; or -EINVAL, -ENOTCONN, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_begin_await_room(struct xenmsg *conn, const char *address,
						    size_t size,
						    const struct xenmsg_options *options,
						    xenmsg_done done, void *userdata,
						    struct xenmsg_op **op);

/*
 * Reserves memory for a message, to be written where it is sent from.
 * This saves the copy of xenmsg_begin_send(). A message of 4 KiB to xenmsg_max_at_once() lies in the
 * memory that is shared with the daemon, if nothing waits before it and there is room. Any other lies in
 * the library's memory, and is copied by xenmsg_commit(). The program can't tell which, and may
 * call anything in between: if that needs the place, the library moves the message, and `data` stays
 * valid. There is one at a time in a connection. The memory belongs to the thread that uses the
 * connection: while that one calls the library, which may move the message, no other one may write
 * there.
 * address  DOMAIN:ENDPOINT
 * size     the most that the message may have, in bytes
 * data     [out] `size` bytes, aligned to 8, of any content, to be written until xenmsg_commit(),
 *          xenmsg_unreserve() or xenmsg_close(); NULL unless this returns 0
 * Returns 0, or -EBUSY (there is one already), or as xenmsg_begin_send().
 */
XENMSG_API XENMSG_CHECK int xenmsg_reserve(struct xenmsg *conn, const char *address, size_t size,
					   void **data);
/*
 * Begins to send the message that was reserved, as xenmsg_begin_send() does.
 * It comes behind those that were begun before this is called.
 * size     of the message, at most what was reserved
 * options  a time-out
 * Returns 0, or -EINVAL (nothing is reserved, or less), -EAGAIN, -ENOBUFS or -ENOMEM: the message is
 * still reserved; or -EMSGSIZE or -ENOTCONN: it isn't any more.
 */
XENMSG_API XENMSG_CHECK int xenmsg_commit(struct xenmsg *conn, size_t size,
					  const struct xenmsg_options *options, xenmsg_done done,
					  void *userdata, struct xenmsg_op **op);
/* Gives up the message that was reserved, if there is one: nothing is sent. */
XENMSG_API void xenmsg_unreserve(struct xenmsg *conn);

/* ---- calls ----------------------------------------------------------------------------------- */

/*
 * Calls a program: sends it a request and waits for its reply.
 * address     DOMAIN:ENDPOINT
 * options     a time-out, usually none: a request without an answer by then is withdrawn, and the server is
 *             told how long its answer is wanted (xenmsg_message_time_left()). To settle that may take a
 *             tenth of it more (from 0.25 s to 2 s) if the other side doesn't answer, or up to 12 s while the
 *             daemon here doesn't read
 * result      [out] the outcome, and the reply; NULL: what is returned is enough
 * Returns 0, or one of the errors listed at the top (of -EREMOTEIO the result says which it is to the
 * server), or -EPROTOTYPE (that endpoint takes no calls). Where the result says XENMSG_FATE_UNKNOWN, the
 * request may have been carried out:
 *   -ETIMEDOUT   it was taken, and not answered in time
 *   -EINTR       it was taken, and not answered when a signal came
 *   -ECONNRESET  the server or a daemon died before the answer came, or doesn't answer
 *   -EMSGSIZE    the reply is larger than is accepted here
 *   -ENOMEM      this program has no memory for the reply
 * Or returns -EINVAL, -EAGAIN, -ENOTCONN, -ENOMEM as xenmsg_send(). Messages aren't handled meanwhile:
 * two programs that call each other like this both wait in vain, as does one that calls itself.
 */
XENMSG_API XENMSG_CHECK int xenmsg_call(struct xenmsg *conn, const char *address, const void *data,
					size_t size, const struct xenmsg_options *options,
					struct xenmsg_result *result);
/*
 * Begins a call; thousands may be outstanding.
 * Each waits as long as there is a server that hasn't answered, or for its time-out, which acts only
 * while this connection is processed.
 * options, done, op  as for xenmsg_begin_send()
 * Returns 0, or the errors of xenmsg_begin_send().
 */
XENMSG_API XENMSG_CHECK int xenmsg_begin_call(struct xenmsg *conn, const char *address,
					      const void *data, size_t size,
					      const struct xenmsg_options *options,
					      xenmsg_done done, void *userdata,
					      struct xenmsg_op **op);

/*
 * Answers a call, at any time and in any order while its message exists.
 * The data are copied, and the message must still be freed. Returns 0 when the reply is on its way;
 * only the caller knows whether it arrives. Or returns
 *   -EALREADY   it was answered before
 *   -ECANCELED  the answer is no longer wanted: the caller's time was up, or it has died, or the
 *               endpoint was unbound
 *   -EINVAL     the message wants no reply
 *   -EMSGSIZE   larger than a message may be: answer something else
 *   -EAGAIN     too much waits for this caller, which doesn't read it: xenmsg_begin_await_reply_room() tells
 *               when there is room
 *   -ENOTCONN, -ENOMEM
 */
XENMSG_API XENMSG_CHECK int xenmsg_reply(struct xenmsg_message *message, const void *data,
					 size_t size);
/*
 * Waits until there is room for an answer of `size` bytes to a call, after -EAGAIN.
 * Returns as xenmsg_await_room(), or -ECANCELED: the answer is no longer wanted, or -EINVAL: none is.
 */
XENMSG_API XENMSG_CHECK int xenmsg_await_reply_room(struct xenmsg_message *message, size_t size,
						    const struct xenmsg_options *options);
/*
 * Begins to wait for that.
 * `done`, `op` and what is returned are as for xenmsg_begin_await_room(), or -EINVAL and -ECANCELED as
 * above. The message may be freed meanwhile.
 */
XENMSG_API XENMSG_CHECK int xenmsg_begin_await_reply_room(struct xenmsg_message *message,
							  size_t size,
							  const struct xenmsg_options *options,
							  xenmsg_done done, void *userdata,
							  struct xenmsg_op **op);
/*
 * Answers a call with an error of the program's own.
 * The caller's xenmsg_call() returns -EREMOTEIO, with this code and these data.
 * code  1 to 65535, of any meaning to the two programs but XENMSG_UNANSWERED
 * data  what else there is to say: a text for people, for example. May be NULL if size is 0
 * Returns as xenmsg_reply(), or -EINVAL (another code); without data never -EAGAIN.
 */
XENMSG_API int xenmsg_reply_error(struct xenmsg_message *message, unsigned code, const void *data,
				  size_t size);
/*
 * Answers a call with how the command that was run for it ended.
 * The caller's xenmsg_call() returns -EREMOTEIO, with the code EIO and this exit status.
 * status  1 to 255; by custom 128 and the number of the signal that killed the command
 * Returns as xenmsg_reply_error(), with -EINVAL for another status.
 */
XENMSG_API int xenmsg_reply_exit_status(struct xenmsg_message *message, int status);

/* ---- byte streams ---------------------------------------------------------------------------- */

/*
 * Connects to an endpoint on which a program listens.
 * A stream is a plain descriptor, a connected Unix socket: read(), write(), poll(), shutdown(), pass
 * it to a child, close() it; it no longer needs the connection. The end of the stream reads as end of
 * file. If something between the two programs dies, reading gives what came before and then
 * ECONNRESET, writing EPIPE or ECONNRESET. With EPIPE write() raises SIGPIPE, which ends a program
 * that doesn't ignore it (signal(SIGPIPE, SIG_IGN), or send() with MSG_NOSIGNAL). The same holds for
 * streams of xenmsg_accept().
 * Returns the descriptor (blocking, close-on-exec), or -EINVAL (malformed address), -ENOENT,
 * -EPROTOTYPE (that endpoint takes no streams), -EOPNOTSUPP (none of other hosts: see
 * XENMSG_FROM_HOSTS), -EACCES, -ENODATA, -EHOSTDOWN, -EHOSTUNREACH, -ENOBUFS, -ETIMEDOUT,
 * -ENOTCONN, -ECONNREFUSED, -EMFILE.
 */
XENMSG_API XENMSG_CHECK int xenmsg_connect(struct xenmsg *conn, const char *address,
					   const struct xenmsg_options *options);
/*
 * Begins to connect to an endpoint.
 * done  with a descriptor as result->stream, which is the program's to close, or an error of
 *       xenmsg_connect(); -ECANCELED within xenmsg_close(). Not NULL
 * op    [out] what was begun; NULL: that isn't wanted
 * Returns 0; or -EINVAL, -EMFILE, -ENOTCONN, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_begin_connect(struct xenmsg *conn, const char *address,
						 const struct xenmsg_options *options,
						 xenmsg_done done, void *userdata,
						 struct xenmsg_op **op);

/*
 * Closes a stream so that the other side gets ECONNRESET, behind what came before.
 * This is for a program that had to stop halfway. close() alone is an orderly end, also if it leaves bytes
 * unread, unless this side hasn't sent anything. This function never waits. (A program that has itself given
 * the socket the largest buffer there may be, and has filled it, must not rely on it.)
 */
XENMSG_API void xenmsg_break(int stream);

/*
 * Says in words why a stream has broken, once reading it has given ECONNRESET.
 * They name the program, daemon or domain that has ended it. If that program couldn't reach the target to
 * which it carries streams, they say why not. Without the daemon's word they are general.
 * Ask before close(). Returns the words, which are static.
 */
XENMSG_API const char *xenmsg_break_reason(int stream);

/*
 * Makes an endpoint for streams.
 * Up to 1024 of them wait for xenmsg_accept(), of one user or domain; more are refused.
 * xenmsg_unbind() removes it.
 * options  a time-out, usually 30 s, XENMSG_FROM_HOSTS and XENMSG_SHARED
 * Returns 0, or as xenmsg_bind().
 */
XENMSG_API XENMSG_CHECK int xenmsg_listen(struct xenmsg *conn, const char *endpoint,
					  const struct xenmsg_options *options);
/*
 * Begins to make an endpoint for streams.
 * `done`, `op` and what is returned are as for xenmsg_begin_bind().
 */
XENMSG_API XENMSG_CHECK int xenmsg_begin_listen(struct xenmsg *conn, const char *endpoint,
						const struct xenmsg_options *options,
						xenmsg_done done, void *userdata,
						struct xenmsg_op **op);
/*
 * Takes the next stream that came to any of these endpoints.
 * options  a time-out, usually none. In a loop, which mustn't wait, 0: when xenmsg_process() has returned,
 *          until -EAGAIN. A stream that has to be fetched from the daemon first is taken by a later call:
 *          xenmsg_fd() is readable then
 * peer     [out] the program that opened it, valid until the next xenmsg_accept() or xenmsg_close(); NULL:
 *          that isn't wanted
 * Returns a descriptor as xenmsg_connect(), or -EAGAIN (none there, and the time-out is 0), -ETIMEDOUT,
 * -EINTR, -ENOTCONN, -EMFILE, -ENFILE, -ENOBUFS (over a quota). After -EMFILE,
 * -ENFILE, -ENOBUFS, and where the daemon hasn't answered (-ECONNREFUSED), the stream still waits, and is
 * tried again after a moment. Until then this
 * function behaves as if there were none, and then xenmsg_fd() is readable. So a program that continues after
 * them, as it should, doesn't spin.
 */
XENMSG_API XENMSG_CHECK int xenmsg_accept(struct xenmsg *conn, const struct xenmsg_options *options,
					  const struct xenmsg_peer **peer);

/* ---- who is there ---------------------------------------------------------------------------- */

enum xenmsg_event_kind {
	/* the domain's daemon has appeared, its name has changed, or its link is no longer away */
	XENMSG_DOMAIN_UP = 1,
	XENMSG_DOMAIN_DOWN = 2,	  /* it has gone */
	XENMSG_ENDPOINT_UP = 3,	  /* an endpoint that this domain may reach has appeared */
	XENMSG_ENDPOINT_DOWN = 4, /* it has gone */
	/* the link with the domain is lost: messages, calls and streams wait until it is resumed
	 * (XENMSG_DOMAIN_UP), or end with it */
	XENMSG_DOMAIN_AWAY = 5,
	XENMSG_HOST_UP = 6,   /* another host can be asked */
	XENMSG_HOST_DOWN = 7, /* it can't any more: all that is there is reported as gone, too */
	/* all that was there when the watch began is reported, so the next events are news. Comes once, and
	 * once more for each new daemon of a connection that outlives its own. `name` is "more" if a domain
	 * or host has more than it can tell, which isn't reported; else "". Comes anew when that changes */
	XENMSG_LISTED = 8
};

/*
 * Returns what an event is called, in words.
 * For example "endpoint up"; "unknown" for one of a later version.
 */
XENMSG_API const char *xenmsg_event_name(enum xenmsg_event_kind kind);

/* The library's: it grows at its end in later versions. */
struct xenmsg_event {
	enum xenmsg_event_kind kind;
	uint32_t domid;
	/* the endpoint; for domains the domain's name, "" if unknown. Valid during the callback */
	const char *name;
	const char *
		domain_name; /* of either the domain's name, "" if unknown. Valid during the callback */
	const char *host; /* that the domain is on, "" for this one. Valid during the callback */
};

typedef void (*xenmsg_event_handler)(void *userdata, const struct xenmsg_event *event);

/*
 * Reports domains and endpoints that come and go, and first those that are there already.
 * Those are reported as if they just came.
 * pattern  DOMAIN: domains and all of their endpoints; DOMAIN:ENDPOINT: those endpoints. Each may
 *          be a shell pattern: "*", "*:print", "3:scan*". HOST/ before it: of another host, as far as
 *          its policy lets this program know. A shell pattern there means the domains that xenmsg peers
 *          HOST lists
 * options  a time-out, usually 30 s
 * Returns a positive number for xenmsg_unwatch(), or -EINVAL (malformed pattern), -ENOBUFS (over a
 * quota), -ENOTCONN, -ETIMEDOUT, -EINTR, -ENOMEM; of another host, which can't be asked, also -EHOSTDOWN,
 * -EHOSTUNREACH, -EACCES.
 */
XENMSG_API XENMSG_CHECK int xenmsg_watch(struct xenmsg *conn, const char *pattern,
					 const struct xenmsg_options *options,
					 xenmsg_event_handler handler, void *userdata);
/*
 * Begins a watch.
 * Events may be reported before `done` is called.
 * done      with 0, or an error of xenmsg_watch(): then there is no such watch. NULL: the outcome is of no
 *           interest
 * userdata  of both `handler` and `done`
 * Returns the number for xenmsg_unwatch(), or -EINVAL, -ENOBUFS (64 questions to the daemon have no answer
 * yet), -ENOTCONN, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_begin_watch(struct xenmsg *conn, const char *pattern,
					       const struct xenmsg_options *options,
					       xenmsg_event_handler handler, xenmsg_done done,
					       void *userdata, struct xenmsg_op **op);
/*
 * Ends a watch, without waiting: none of its events is reported any more.
 * Returns 0, -ENOENT (there is no such watch), -ENOTCONN, -ENOMEM.
 */
XENMSG_API int xenmsg_unwatch(struct xenmsg *conn, int watch);

/*
 * Asks the daemon a question, by a call to "self:xenmsg", and waits for its answer.
 * what  "status" (doc/status.schema.json; of each list the entries that matter most), "status all"
 *       (every entry), "peers", "endpoints", "endpoints DOMAIN", "hosts", "peers HOST" or "endpoints
 *       HOST/DOMAIN", in domain 0 "status of DOMAIN": what that domain's daemon says of itself, and nobody has
 *       checked. "policy FROM TO" asks which rule decides whether FROM (a domain, or DOMAIN/UID)
 *       may reach TO, an endpoint here, as xenmsg policy check does. doc/protocol.md (3) has the others
 * options  a time-out, usually 30 s, in which the next piece of the answer must come
 * json  [out] text, free(3) it
 * A caller that is neither root nor an administrator (admin-group in xenmsgd.conf(5)) is told only of
 * its own, and what isn't about any user. Returns 0, or -EINVAL (unknown question),
 * -EHOSTDOWN (no such domain), -EPERM (about the policy for others), -ENOTCONN, -EINTR, -ETIMEDOUT,
 * -ENOMEM, -ENOBUFS (too much is asked at a time); about other hosts also -EACCES, -EHOSTUNREACH (nothing
 * leads there).
 */
XENMSG_API XENMSG_CHECK int xenmsg_query(struct xenmsg *conn, const char *what,
					 const struct xenmsg_options *options, char **json);
/*
 * Begins to ask.
 * `done`, not NULL, gets the answer as result->json; `op` and what is returned are as for
 * xenmsg_begin_bind().
 */
XENMSG_API XENMSG_CHECK int xenmsg_begin_query(struct xenmsg *conn, const char *what,
					       const struct xenmsg_options *options,
					       xenmsg_done done, void *userdata,
					       struct xenmsg_op **op);

/*
 * Measures a round trip to the daemon of a domain.
 * It is that of a call; the first one may have to make the link.
 * domain         domid, name, or "self"; on another host HOST/DOMAIN
 * options        a time-out, usually 30 s
 * round_trip_ns  [out] nanoseconds; may be NULL
 * Returns 0, or -EHOSTDOWN, -EHOSTUNREACH, -EACCES, -ETIMEDOUT, -EINVAL, -ENOTCONN, -EINTR,
 * -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_ping(struct xenmsg *conn, const char *domain,
					const struct xenmsg_options *options,
					uint64_t *round_trip_ns);
/*
 * Begins to measure.
 * `done`, not NULL, gets result->round_trip_ns; `op` and what is returned are as for
 * xenmsg_begin_bind().
 */
XENMSG_API XENMSG_CHECK int xenmsg_begin_ping(struct xenmsg *conn, const char *domain,
					      const struct xenmsg_options *options,
					      xenmsg_done done, void *userdata,
					      struct xenmsg_op **op);

#ifdef __cplusplus
}
#endif

#endif
