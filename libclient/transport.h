/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_TRANSPORT_H
#define XENMSG_LIBCLIENT_TRANSPORT_H

/*
 * The program's end of the local hop (doc/protocol.md, section 4): three rings of frames, in memory that is
 * shared with the daemon, or, where that isn't possible, in private memory and pumped through the socket by
 * socket_pump.c. Code that writes and reads frames needn't know which.
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
#include <unistd.h>

#include "libclient/fifo.h"
#include "libclient/mirror.h"
#include "libclient/words.h"
#include "wire/frame.h"
#include "wire/ring.h"

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
struct socket_pump;

/* Rings that stand in for those of a daemon that has gone: `out` is full and the others are empty, so that
 * nothing goes in or out, and what is to be sent waits where it does when there is no room. */
struct limbo {
	struct ring_words words[3];
	uint8_t data[8];
};

struct transport {
	struct opener opener;
	struct transport *first, *second; /* of the same connection; NULL: it is the first, there is none */
	char path[108];			  /* the daemon's, as long as that of a socket may be */
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
	/* called when something has come on a socket of transport_watch_stream() */
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
static inline bool transport_is_dialling(const struct transport *transport)
{
	return transport->hello != NULL;
}
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
/* Publishes what was put into `out`. */
static inline void transport_publish(struct transport *transport);
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

/* Makes `epoll` readable when something comes on this socket of a stream, and calls `on_stream`; and no more.
 * Returns 0 or an error of epoll_ctl(2). */
int transport_watch_stream(const struct transport *transport, int fd);
void transport_forget_stream(const struct transport *transport, int fd);
/* Makes `epoll` readable. */
void transport_poke(struct transport *transport);
/* Does the same from any thread, and from a signal handler. */
void transport_wake(const struct transport *transport);
/* Makes `epoll` readable at that time (deadline.h), or before; negative: never. */
void transport_set_alarm(struct transport *transport, int64_t at);
/* Sleeps up to timeout_ms (negative: for ever) until something happens, and notes it. Returns 1 if something
 * did, 0 if the time is up, -EINTR or -EPROTO. If it has set transport->closed, what is left in the rings is
 * still to be read. */
int transport_poll(struct transport *transport, int timeout_ms);
/* Asks for notifications: of frames in `in`, of frames in `deliveries` if that is true, and of `want_space`
 * free bytes in `out` unless that is 0. Returns 1 if there is something already, 0 if everything is armed, or
 * -EPROTO. */
int transport_arm(struct transport *transport, bool deliveries, uint32_t want_space);
/* Says whether somebody works on bytes where they lie in `in`, of the second session. */
void transport_hold_memory(struct transport *transport, bool holds);
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

static inline void transport_publish(struct transport *transport)
{
	if (ring_writer_publish(&transport->out))
		transport_notify_of_output(transport);
	if (transport->pump)
		transport_publish_to_pump(transport);
}

#endif
