/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_TRANSPORT_H
#define XENMSG_LIBCLIENT_TRANSPORT_H

/*
 * The program's end of the local hop (doc/protocol.md, section 4): three rings of frames, in memory that is
 * shared with the daemon, or, where that isn't possible, in private memory and pumped through the socket.
 * Code that writes and reads frames needn't know which.
 *
 * The descriptor `epoll` is readable whenever there may be something to do. It watches the descriptors by
 * which the daemon notifies us and by which we notify ourselves, and a timer, all edge-triggered, so that no
 * read is needed to clear them, and the socket. For a sleeping program to be woken, either the requests in
 * the rings are armed or an edge is pending, at any time when nothing drains the rings: after
 * transport_poll(), which consumes the edge, the rings are drained and then transport_arm() is called until
 * it finds nothing.
 *
 * A connection may have a second session, whose descriptors the `epoll` of the first watches, too:
 * transport_poll() of the first then serves both.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libclient/deadline.h"
#include "libclient/helpers.h"
#include "libclient/message.h"
#include "libclient/op.h"
#include "wire/address.h"
#include "wire/frame.h"
#include "wire/ring.h"
#include "xenmsg.h"

/* ---- how a connection to the daemon begins ------------------------------------------------ */

/* How a connection to the daemon begins (doc/protocol.md, section 4), for a session or for a stream. */

#define HANDSHAKE_MS  10000 /* the daemon's time for it, unless the program sets another */
#define HANDSHAKE_FDS 3	    /* the descriptors that may come with WELCOME */

/* A frame as far as it has come; zeroed before the first is read into it. */
struct handshake_answer {
	uint8_t raw[FRAME_HEADER_SIZE];
	size_t got; /* bytes of header and payload */
	struct frame_header header;
	uint8_t payload[1024];
	struct frame_text reason; /* in `payload`: why the daemon refuses; empty: it doesn't say */
};

/* Returns this path of the daemon's socket, or if it is NULL the one that the environment says. */
const char *handshake_path(const char *path);
/* Connects to the daemon's socket, until the deadline. Returns the non-blocking descriptor, or an error of
 * connect(2), -ETIMEDOUT or -ENAMETOOLONG. */
int handshake_connect(const char *path, int64_t deadline);
/* Sends HELLO and `size` more bytes behind it, at most 544. Returns 0, also if the daemon has closed the
 * connection, or an error of send(2). */
int handshake_hello(int fd, uint32_t flags, const void *more, uint32_t size);
/* Reads the next frame, until the deadline; after -ETIMEDOUT it goes on with the same frame. Descriptors that
 * come with it are stored in those `fds` that are -1, and closed if there is none, or if `fds` is NULL.
 * Returns 0; for a GOODBYE the error that it names, or -ECONNREFUSED; -ECONNREFUSED if the daemon has closed
 * the connection, -EPROTO, -ETIMEDOUT, or an error of recvmsg(2). */
int handshake_read(int fd, struct handshake_answer *answer, int fds[HANDSHAKE_FDS], int64_t deadline);

/* Stores the descriptors that have come with a message in those `fds` that are -1, and closes the rest: there
 * is room for more of them than one might think, since their space is rounded up. */
void handshake_keep_descriptors(struct msghdr *message, int *fds, size_t most);
/* Closes those that have come, and leaves -1 in their places. */
void handshake_drop_descriptors(int fds[HANDSHAKE_FDS]);

/* ---- without shared memory ---------------------------------------------------------------- */

struct socket_pump;

/*
 * The local hop without shared memory: the same three rings, but in private memory. A pump moves frames
 * between them and the socket, many with each system call.
 */

/* What an event of the transport's epoll is about. */
enum transport_event { ON_RINGS, ON_SOCKET, ON_TIMER, ON_STREAM };

/* Makes the rings and gives the program its ends of them; with `in_order` all that comes goes to `in`. The
 * socket is already registered with the epoll, for reading. Returns 0 or -ENOMEM. */
int socket_pump_new(struct socket_pump **pump, int socket, int epoll, struct ring_writer *out,
		    struct ring_reader *in, struct ring_reader *deliveries, bool in_order);
void socket_pump_free(struct socket_pump *pump);

/* Returns true if enough waits in `out` to be worth a system call. */
bool socket_pump_wants_flush(const struct socket_pump *pump);
/* Moves bytes from `out` to the socket. What the socket doesn't take waits until it is writable. */
void socket_pump_out(struct socket_pump *pump);
/* Moves frames from the socket into the rings, as far as there is room. Returns 0; 1 if the other end has
 * closed and its frames are in the rings; or -EPROTO. */
int socket_pump_in(struct socket_pump *pump);
/* Does the same after the rings were read: moves the frames that found no room before. No event would wake
 * the program for them. */
int socket_pump_resume_in(struct socket_pump *pump);
/* Returns whether a ring had no room for lack of memory: it is tried again by socket_pump_resume_in(). */
bool socket_pump_lacks(const struct socket_pump *pump);
/* Registers the events that the pump waits for. */
void socket_pump_arm(struct socket_pump *pump);

/* ---- the transport ------------------------------------------------------------------------ */

/*
 * The process that a connection belongs to. A child made by fork() has a copy of all that the library keeps
 * in private memory, while socket, doorbells and rings stay one: two processes that go on with them overwrite
 * each other's messages. So a child may only free what it has of the connection.
 *
 * It is told from its parent by a word in a page that fork() clears (MADV_WIPEONFORK), which costs a load;
 * where there is no such page, by its number, which costs a system call.
 */

struct opener {
	uint32_t *word; /* 1 where the connection was opened; NULL: there is no such page */
	pid_t pid;
};

/* Notes this process. */
void opener_note(struct opener *opener);
/* Frees what belongs to it, in any process. */
void opener_forget(struct opener *opener);
/* Returns whether this is that process. */
static inline bool opener_is_here(const struct opener *opener)
{
	return opener->word ? *(const volatile uint32_t *)opener->word == 1 : opener->pid == getpid();
}

struct hello;

/* Rings that stand in for those of a daemon that has gone: `out` is full and the others are empty, so that
 * nothing goes in or out, and what is to be sent waits where it does when there is no room. */
struct limbo {
	struct ring_words words[3];
	uint8_t data[8];
};

struct transport {
	struct opener opener;
	struct transport *first, *second; /* of the same connection; NULL: it is the first, there is none */
	char path[108];			  /* by which the program found the daemon, as long as one may be */
	int socket, epoll;
	int wake; /* doorbell: the daemon notifies the program; -1 without shared memory */
	int kick; /* doorbell: the program notifies the daemon; -1 without shared memory */
	int poke; /* eventfd: notifies this program itself */
	int timer;
	int64_t alarm; /* when the timer is due (deadline.h); negative: it has been, or is not set */
	bool shared;
	bool is_mux;	/* the session carries streams: all comes in `in` */
	bool is_traced; /* words.h */
	bool poked;	/* `poke` was notified, and not polled since */
	bool closed;	/* the daemon has closed the socket */
	int error;	/* of the second: what transport_poll() has found wrong with it, a negative errno */
	/* of the second: somebody works on bytes where they lie in `in`, so the memory has to stay */
	bool is_read;
	/* and something has come on the socket meanwhile, which `epoll` doesn't watch until then */
	bool is_unwatched;
	void *memory;
	size_t memory_size;
	uint32_t memories; /* how often it was given other memory */
	/* the program has no memory for the frame at the front of `in`, which is tried again then
	 * (deadline.h); 0: it has */
	int64_t lacks_until;
	struct limbo limbo;
	struct ring_writer out;
	struct ring_reader in, deliveries;
	struct hello *hello;	  /* only until the daemon has answered */
	struct socket_pump *pump; /* only without shared memory */
	struct fifo backlog;	  /* control frames that found no room in `out` */
	/* The program holds a message that begins there in `deliveries`, so no more is released. */
	bool holds;
	uint32_t held_at;
	/* so many bytes behind the last frame in `out` are lent to the program, in the mirror; 0: none */
	uint32_t lent_room;
	uint32_t lend_later;	   /* room isn't lent so many times, since it had to be taken back */
	struct mirror *out_mirror; /* NULL: not made yet */
	uint32_t domid;
	uint64_t max_message;
	char reason[256]; /* the daemon's last words */
	/* called when something has come on a socket of a stream that is being opened */
	void (*on_stream)(void *userdata, int fd);
	void *userdata;
};

/* Makes it, without a daemon as yet. Returns 0, -ENAMETOOLONG, -ENOMEM or -EMFILE; transport_close() frees
 * it in any case. */
int transport_init(struct transport *transport, const char *path);
/* Connects, until the deadline, and sends HELLO, with these flags besides those of the transport. From now on
 * `epoll` is readable when transport_finish() has something to do. Returns 0, or the errors of
 * xenmsg_open(); -ETIMEDOUT: the daemon's queue is full. */
int transport_dial(struct transport *transport, uint32_t flags, int64_t deadline);
/* Makes it a second session of the first one's connection, without a daemon as yet. */
void transport_join(struct transport *transport, struct transport *first);
/* Reads the daemon's answer, until the deadline. Returns 0, or the errors of xenmsg_open(); after -ETIMEDOUT
 * it may be called again, after any other only transport_close() or transport_hang_up(). */
int transport_finish(struct transport *transport, int64_t deadline);
/*
 * For a connection that outlives its daemon, or waits for one:
 *
 *   connected ──transport_leave()──▶ without one ──transport_dial()──▶ dialling ──transport_finish()──▶ connected
 *                                         ▲                               │
 *                                         └───────transport_hang_up()─────┘
 *
 * transport_leave() lets go of the daemon and of all that was shared with it, and drops the backlog; `epoll`
 * stays. What is sent from then on waits in the backlog, or where it does when there is no room.
 * transport_hang_up() gives an attempt to connect up.
 */
void transport_leave(struct transport *transport);
void transport_hang_up(struct transport *transport);
/* Closes the connection, after it has sent as much as the daemon takes at once. In a child of the process
 * that opened it only frees what the child has of it. */
void transport_close(struct transport *transport);

/* Returns whether this is the process that opened the connection. In another one those of the following
 * functions that return an error return -ECHILD, and all leave alone what the processes share: so a child
 * that was made in a callback does no harm when that returns. */
static inline bool transport_is_here(const struct transport *transport)
{
	return opener_is_here(&transport->opener);
}

/* Keeps the reason that the daemon gives at the end. */
void transport_keep_reason(struct transport *transport, struct frame_text text);

/* Returns the number of bytes free in `out`, which the caller may write to, or -EPROTO; or -ENOMEM, if the
 * room can't be taken back from the program. Looks again if there seem to be less than `want`. */
int transport_space(struct transport *transport, uint32_t want);
/* Lends the program the next `size` bytes of `out`, for which there is room, until transport_end_loan() or
 * until something else is to be written there: then mirror_keep() has put private pages in their place. The
 * caller uses transport->out_mirror. Returns NULL if they can't be lent. */
uint8_t *transport_lend_room(struct transport *transport, uint32_t size);
static inline void transport_end_loan(struct transport *transport)
{
	transport->lent_room = 0;
}
/* Sends a control frame, behind earlier ones; it may wait in the backlog. Returns 0, -ENOMEM or -EPROTO. */
int transport_control(struct transport *transport, uint8_t type, uint32_t channel, const void *payload,
		      uint32_t length);
/* Each of these sends a frame about a channel in the same way: FIN or CANCEL; CREDIT, when `taken` bytes of
 * its stream were taken; RESET, when nothing beyond them was or will be taken. */
int transport_offset(struct transport *transport, uint8_t type, uint32_t channel, uint64_t offset);
int transport_credit(struct transport *transport, uint32_t channel, uint64_t taken, uint32_t flags);
int transport_reset(struct transport *transport, uint32_t channel, uint32_t error, uint32_t flags,
		    uint64_t taken);
/* Handles a frame of a channel that has ended, which was in flight: a RESET must be answered. Returns as
 * transport_control(). */
int transport_take_late(struct transport *transport, const struct frame_header *header,
			const uint8_t *payload);
/* Returns whether the daemon has read all that was sent, as far as that can be known. */
bool transport_is_read(struct transport *transport);
int transport_flush_some(struct transport *transport, bool *blocked);
/* Moves the backlog to `out`. Sets *blocked if some of it is left: then nothing else may be put into `out`.
 * Returns 0 or -EPROTO. */
static inline int transport_flush_backlog(struct transport *transport, bool *blocked)
{
	*blocked = false;
	return fifo_size(&transport->backlog) ? transport_flush_some(transport, blocked)
	       : transport_is_here(transport) ? 0
					      : -ECHILD;
}
void transport_release_in(struct transport *transport);
/* Releases what was consumed from `deliveries`. With `quietly` it doesn't notify, and the caller must later
 * release without it. */
void transport_release_deliveries(struct transport *transport, bool quietly);
/* Releases what was consumed and isn't held, without notifying. */
static inline void transport_release_quietly(struct transport *transport)
{
	if (transport->holds)
		ring_reader_release_up_to(&transport->deliveries, transport->held_at);
	else
		ring_reader_release_quietly(&transport->deliveries);
}

/* Lets `epoll` tell of this one. Returns 0 or an error of epoll_ctl(2). */
static inline int transport_watch(const struct transport *transport, int fd, uint32_t events,
				  enum transport_event about)
{
	struct epoll_event event = {.events = events, .data.u64 = about | (uint64_t)fd << 32};

	return epoll_ctl(transport->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}
/* Makes `epoll` readable. */
void transport_poke(struct transport *transport);
/* Does the same from any thread, and from a signal handler. */
void transport_wake(const struct transport *transport);
/* Makes `epoll` readable at that time (deadline.h), or before; negative: never. */
void transport_set_alarm(struct transport *transport, int64_t at);
/* Sleeps up to timeout_ms (negative: for ever) until something happens. Returns 1 if something did, 0 if the
 * time is up, or -EINTR: a handler of the program's ran. */
int transport_sleep(const struct transport *transport, int timeout_ms);
/* Does the same, and notes what has happened. Returns also -EPROTO. If it has set transport->closed, what is
 * left in the rings is still to be read. */
int transport_poll(struct transport *transport, int timeout_ms);
/* Asks for notifications: of frames in `in`, of frames in `deliveries` if that is true, and of `want_space`
 * free bytes in `out` unless that is 0. Returns 1 if there is something already, 0 if everything is armed, or
 * -EPROTO. */
int transport_arm(struct transport *transport, bool deliveries, uint32_t want_space);
/* Says whether somebody works on bytes where they lie in `in`, of the second session. */
void transport_hold_memory(struct transport *transport, bool holds);
/* The frame at the front of `in` finds no memory, and stays. Until a moment later transport_arm() asks for no
 * notification of what lies there, nor of deliveries, which may be about it; and the alarm is set. */
void transport_lack(struct transport *transport);
/* Returns whether that moment isn't over. */
bool transport_lacks(struct transport *transport);
/* Returns whether what was asked for still stands, with shared memory: of frames in both rings. */
static inline bool transport_is_armed(const struct transport *transport)
{
	return transport->shared && ring_reader_is_armed(&transport->in) &&
	       ring_reader_is_armed(&transport->deliveries);
}
/* Asks only for the notification of free space in `out`. */
int transport_arm_space(struct transport *transport, uint32_t want_space);

/* The rest of transport_publish(). */
void transport_notify_of_output(struct transport *transport);
void transport_publish_to_pump(struct transport *transport);

/* Publishes what was put into `out`. */
static inline void transport_publish(struct transport *transport)
{
	if (ring_writer_publish(&transport->out))
		transport_notify_of_output(transport);
	if (transport->pump)
		transport_publish_to_pump(transport);
}

/* ---- streams that are being opened -------------------------------------------------------- */

/*
 * Byte streams that are being opened (doc/protocol.md, section 6). Each has a connection to the daemon of its
 * own, which after a handshake carries nothing but the stream's bytes, so that the program gets a plain
 * socket. Nothing here waits: the socket is in the epoll of the session's transport until the stream is
 * there.
 *
 *   dialling ──the daemon takes it──▶ asked ──REPLY──▶ settled (a descriptor, or an error)
 *       ▲  └──its queue is full, it is lost──▶ resting ──┐   └──a policy there isn't known yet (ENODATA)──▶ resting
 *       └───────────────────────────────────────────────┘   time is up, withdrawn, the session is over──▶ settled
 */

#define DIAL_REQUEST_MAX (FRAME_HEADER_SIZE + FRAME_SMALL_MAX + 8)

struct stream_dial {
	struct xenmsg_op op; /* the first */
	struct dials *dials;
	int fd; /* -1: none; once settled, the stream */
	/* the descriptor that comes with the answer is the stream; before, [1] keeps a place for it */
	int fds[HANDSHAKE_FDS];
	int error;
	uint8_t request[DIAL_REQUEST_MAX +
			1]; /* OPEN or ACCEPT, and the guard: a byte that the daemon leaves unread */
	uint32_t size;
	struct handshake_answer answer;
	int64_t expires; /* deadline.h */
	int64_t rests_until;
	struct again again;
	char reason[512];
	xenmsg_done done; /* NULL: nobody is told, the program looks */
	void *userdata;
	struct stream_dial *prev, *next;
};

struct dials {
	struct transport *transport;
	struct stream_dial *begun;   /* utlist */
	struct stream_dial *settled; /* utlist: those of which somebody is to be told */
	int64_t due; /* when the next one is to be looked at (deadline.h); -1: its socket will say */
};

/* Says of one that ACCEPT has fetched how the domain is called now that has opened it. */
void dial_take_sender(const struct stream_dial *dial, struct xenmsg_peer *peer);
/* Frees all, without any callback, and breaks streams that nobody has taken. */
void dials_free(struct dials *dials);
/* Begins to open a stream by this frame (OPEN or ACCEPT, its payload of `size` bytes). timeout_ms may be
 * FOR_EVER. What the daemon says until then may settle it at once. Returns 0, -ENOTCONN or -ENOMEM. */
int dials_begin(struct dials *dials, uint8_t type, const void *payload, uint32_t size, int timeout_ms,
		xenmsg_done done, void *userdata, struct stream_dial **begun);
/* Goes on with the one that has this socket, for which something has come. */
void dials_ready(struct dials *dials, int fd);
/* Goes on with those whose time has come. */
void dials_look(struct dials *dials);
/* Settles all with this error: the session is over. */
void dials_fail(struct dials *dials, int error);
/* Frees one, which was taken or has no `done`, and breaks its stream if it still has one. */
void dial_free(struct stream_dial *dial);

/* ---- endpoints at which the program listens, and streams that wait for xenmsg_accept() ---- */

/* An endpoint at which the program listens. */
struct listening {
	char endpoint[ENDPOINT_NAME_MAX + 1];
	uint32_t kinds; /* of its BIND, */
	uint32_t asked; /* which has this number */
	struct listening *prev, *next;
};

struct arrival {
	uint64_t token; /* by which the daemon is asked for the stream */
	struct xenmsg_peer peer;
	struct arrival *prev, *next;
};

/* All zero: there are none. */
struct incoming {
	struct arrival *waiting;     /* utlist, the first one first */
	unsigned count;		     /* of these */
	struct listening *listening; /* utlist */
	struct xenmsg_peer peer;     /* whose stream was taken last */
	/* the first waiting one, while it is fetched, or when it was; NULL: it isn't */
	struct stream_dial *fetch;
	/* a limit has refused the first one: when it may be tried again (deadline.h); 0: at once */
	int64_t again;
};

void incoming_free(struct incoming *incoming);
/* Forgets the streams of a daemon that has gone. The endpoints stay. */
void incoming_leave(struct incoming *incoming);
/* Remembers an endpoint at which the program listens, with these `kinds` of its BIND. Returns 0 or
 * -ENOMEM. */
int incoming_listen(struct incoming *incoming, const char *endpoint, uint32_t kinds);
/* Returns whether the program listens at it, or has asked for that. */
bool incoming_knows(const struct incoming *incoming, const char *endpoint);
/* Notes by which BIND the endpoint that was remembered last was asked for. */
void incoming_asked(struct incoming *incoming, uint32_t asked);
/* Returns the endpoint for which this BIND was; NULL: it was forgotten. */
const char *incoming_find_asked(const struct incoming *incoming, uint32_t asked);
/* Forgets an endpoint. Returns false if the program didn't listen at it. */
bool incoming_forget(struct incoming *incoming, const char *endpoint);
/* Takes the frame INCOMING. Returns 0, -EPROTO or -ENOMEM. */
int incoming_frame(struct incoming *incoming, const struct frame_header *header, const uint8_t *payload);
/* Removes the first waiting stream. */
void incoming_drop(struct incoming *incoming);
/* Lets the first waiting stream rest for a moment, since a limit has refused it. */
void incoming_rest(struct incoming *incoming);
/* Ends that rest if its time is up. */
void incoming_look(struct incoming *incoming);
/* Returns whether xenmsg_accept() has something to do: a stream waits and may be fetched, or was. */
static inline bool incoming_is_ready(const struct incoming *incoming)
{
	if (incoming->fetch)
		return incoming->fetch->op.settled;
	return incoming->waiting && !incoming->again;
}

#endif
