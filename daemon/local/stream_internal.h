/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STREAM_INTERNAL_H
#define XENMSG_DAEMON_STREAM_INTERNAL_H

/*
 * What the parts of a stream share: stream.c has its life, its turns and its end of the hop, stream_socket.c
 * moves bytes between the program's socket and the rings, and closes the socket, and stream_image.c hands it
 * over.
 */

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "base/carried_memory.h"
#include "base/quota.h"
#include "base/turns.h"
#include "daemon/local/stream.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/private_ring.h"
#include "wire/frame_ring.h"

#define PIECE_MAX 32768u /* read from the program at once */

enum stream_stage {
	CALLING,
	WAITING,
	FLOWING,
	BREAKING, /* the program has broken it or gone: the hop still reads what it sent before */
	UNTOLD,	  /* it is broken, which the program can't be told yet */
	OVER,
};

struct stream {
	struct hop hop;
	struct switchboard *board;
	const struct stream_callbacks *callbacks;
	void *userdata;
	enum stream_stage state;
	struct frame_identity identity;
	uint64_t token;
	int fd;
	int end_epoll;	      /* says whether the program's end is writable; -1: nothing does */
	bool takes_socket;    /* the answer may bring the program another one */
	bool is_unguarded;    /* no byte is left unread */
	bool has_rest;	      /* the last read has left something, since it took long */
	bool has_urgent;      /* the last look for its end has seen an urgent byte, perhaps as the guard */
	bool in_doubt;	      /* the guard may lie in a buffer that keeps the program from writing */
	struct charge charge; /* for the descriptor and the memory */
	/* The opener pays for the time, too, but not for what the program that holds an accepted stream's
	 * socket makes dear: from its first long call on (switch/call.h) `turn` is in the line of that
	 * program's account, and rests with it. */
	struct account *program, *payer;
	/* Tells of what comes, and of the end; edge-triggered, since a byte always lies unread. */
	struct event *socket_event;
	struct event *writable; /* tells of room in the socket, once there was none */
	struct task turn;
	/* The hop's DATA has a ring of its own, so that CREDIT and RESET overtake what the program doesn't
	 * read. */
	struct carried_piece rings; /* private_ring.h */
	struct ring_words to_hop, data_from_hop, from_hop;
	struct ring_writer writer; /* frames that we write for the hop to read */
	struct ring_reader reader, data_reader;
	uint32_t number; /* of the channel */

	uint64_t sent, limit; /* of the stream from the program */
	uint64_t taken;	      /* of the stream to the program: written to its socket */
	uint64_t told;	      /* of `taken`, by CREDIT */
	uint64_t moved_ns;    /* when a byte was sent or taken last, or the stream was made */
	bool has_memory;      /* its rings were used since stream_tidy() gave back their memory */
	uint32_t written;     /* of the DATA frame at the head of data_reader */
	uint64_t total;	      /* with fin_came: the size of the stream to the program */
	bool was_accepted;    /* the call, which the program is still to be told */
	bool fin_came;
	bool breaks;	 /* a byte with a descriptor lies in the socket, which breaks it, */
	uint32_t copied; /* and so many of those before it have been copied */
	uint8_t mark;	 /* that byte, once all before it has: the errno of the cause, or 0 */
	bool readable;	 /* an event has come since all was read */
	bool has_news;	 /* one has come since it was asked whether the caller has left */
	bool tells_all;	 /* a RESET comes behind the data: also what isn't worth a frame is told by CREDIT */
	bool end_read;	 /* the program has shut down, and FIN is sent, or what it sends is wanted no more */
	bool refused;	 /* and nothing of that is left in the socket */
	int ended;	 /* what program_has_ended() has said: it says it once */
	bool end_written;
	bool stopped;	/* the other side wants no more of what the program sends */
	bool is_deaf;	/* the program takes no more: what comes for it is dropped, */
	bool told_deaf; /* which the other side was told */
};

static inline struct private_rings *stream_rings(struct stream *stream)
{
	return stream->rings.bytes;
}

static inline struct ring_view stream_to_hop(struct stream *stream)
{
	return ring_words_view(&stream->to_hop, stream_rings(stream)->to_hop, PRIVATE_RING_SIZE);
}

static inline struct ring_view stream_data_from_hop(struct stream *stream)
{
	return ring_words_view(&stream->data_from_hop, stream_rings(stream)->from_hop, PRIVATE_RING_SIZE);
}

/* The ring of the hop's frames without DATA. */
static inline struct ring_view stream_from_hop(struct stream *stream)
{
	return ring_words_view(&stream->from_hop, stream_rings(stream)->control, CONTROL_RING_SIZE);
}

/* --- stream.c */

/* Has this account pay for the time from now on. */
void stream_set_payer(struct stream *stream, struct account *account);
/* Sets the account that pays, in memory and in time. */
void stream_set_account(struct stream *stream, struct account *account);
/* Listens to the socket, which it takes over. 0 or -ENOMEM. */
int stream_watch_socket(struct stream *stream, int fd);
/* Attaches the hop to the rings; `again`: in which something lies, as the hop was read from an image. 0 or
 * -EPROTO. */
int stream_attach(struct stream *stream, bool again);
/* Has a stream that its program has broken end once the hop has read what was sent before. */
void stream_leave(struct stream *stream);
/* Writes a frame for the hop. Returns false if there is no room. */
bool stream_put_frame(struct stream *stream, uint8_t type, const void *payload, uint32_t length);

/* --- stream_socket.c */

/* Reads what the program has sent, while an event has told that there may be something. Whatever comes after
 * the read that found nothing more is told by another event. What the program sent before its end is read
 * before that counts. Returns 0, or -ECONNRESET: it has broken the stream. */
int stream_read(struct stream *stream);
/* Looks whether a program whose direction has ended takes nothing more, either, before it has to be tried. */
void stream_look_for_close(struct stream *stream);
/* Takes nothing more from the program: a write there gives EPIPE, also one that waits. Else a program that
 * writes and doesn't read would wait for ever, since it learns that the stream is broken by reading up to
 * there. A program that waits by poll() for room to write is told only when there is some. */
void stream_refuse(struct stream *stream);
/* Writes what there is for the program, as far as its socket takes it, and the end behind it; or drops it,
 * once the program takes no more. Returns 0, -EPROTO, or -ECONNRESET: the program has gone without a word. */
int stream_write(struct stream *stream);
/* Returns whether the program has closed its socket, or shut it down both ways, while it calls. One that only
 * has nothing more to send may still wait for its call. */
bool stream_caller_has_left(struct stream *stream);
/* Tells the program that its stream is there. It is `fd`, a connection that stream_watch_socket()
 * doesn't watch, or, if the program takes that, a socket of its own, made for it; the caller closes `fd`
 * then. Returns the stream's socket, -ECONNRESET: the program has gone, or -ENOBUFS: it is to be tried
 * later; `fd` is still there then. */
int stream_answer(struct stream *stream, int fd);
/* Has the turn of a stream whose socket is watched come in a moment, when what was lacking may be there, of
 * which no event tells. Returns 0, or -ECONNRESET: that can't be waited for. */
int stream_try_later(struct stream *stream);
/* Tells the program that its call has failed, and why, or "". */
void stream_answer_caller(struct stream *stream, int error, const char *why);
/* Leaves for the program, beside its socket, the flags of the RESET that breaks the stream. */
void stream_note_break(struct stream *stream, uint32_t flags);
/* Returns whether the program would see that the stream breaks, or nobody is there to see it. */
bool stream_can_tell_break(struct stream *stream);
/* Returns whether what one side has sent could go to the other, which would take it. */
bool stream_wants_to_move(struct stream *stream);
/* Listens to the socket no more. */
void stream_unwatch_socket(struct stream *stream);
/* Closes the socket. `clean`: the program sees the end of the stream; else ECONNRESET, by the guard. */
void stream_close_socket(struct stream *stream, bool clean);

#endif
