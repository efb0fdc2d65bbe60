/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_OUTLET_H
#define XENMSG_DAEMON_OUTLET_H

/*
 * One ring out of a hop, and the DATA frame that is being filled in it. Frames are filled in place, in the
 * ring itself: consecutive pieces of one channel become one frame, so that a thousand small messages cost the
 * next daemon one header.
 *
 *             outlet_write()                    closed by:
 *   closed ───────────────────▶ filling ──┐     another channel's data, a frame that isn't DATA, no room in
 *     ▲                           ▲ │     │     it, a length that isn't a multiple of 8, outlet_publish()
 *     │      the same channel's   └─┘     │
 *     └───────────────────────────────────┘     its header is written, and it is entered in the ledger
 *
 * The reader sees nothing of the frame before outlet_publish(). Where releasing means taking (traits.h), the
 * ledger records what lies in the ring. An outlet belongs to its hop, which attaches it to a ring and
 * detaches it again; the ends that it names are those of channels, which must call outlet_forget() before
 * they go.
 *
 * Errors: -EPROTO, the reader's index is impossible; -ENOMEM. Both end the session of the hop.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/switch/ledger.h"
#include "daemon/switch/traits.h"
#include "wire/frame.h"
#include "wire/ring.h"

struct channel_end;

struct hop_stats {
	uint64_t frames, bytes, messages, notifications;
};

/* How much may lie unread in a ring. Its reader takes it in the order in which it lies there, so others wait
 * for all of it, however few messages they have. It is as much as the reader takes in some milliseconds,
 * between PACE_LEAST and the ring, and is looked at where something has to wait:
 *
 *   waits ──the reader was seen on its way to what was last then, and got there late──▶ half as much
 *         ──soon, or wasn't seen before it had got there──▶ twice as much
 *
 * Where a program has no ring it reads ahead from its socket. Then that counts which it was given for its
 * endpoints and hasn't reported, up to CHANNEL_WINDOW_MAX. It reports in the middle, too, and is on its way
 * until it reports the last that has come.
 */
struct pace {
	uint32_t most;	       /* bytes; 0: all of the ring */
	uint32_t given, taken; /* bytes that were ever given, and reported */
	bool is_marked;	       /* something has had to wait since it was looked at last: */
	uint32_t mark;	       /* the end of what was given then, */
	uint32_t tail;	       /* of what was taken, */
	uint64_t seen_ns;      /* and when the reader was seen on its way; 0: it wasn't */
	bool reads_on;	       /* it says so in its last report */
};

struct outlet {
	struct ring_writer writer;
	struct pace pace;
	const struct hop_traits *traits;
	struct hop_stats *tx;	     /* the hop's */
	struct channel_end *filling; /* the channel end whose DATA frame is open, or NULL */
	uint32_t filling_at;	     /* position of its header */
	uint32_t filling_length;
	uint32_t filling_messages;
	uint32_t sequence;    /* of the next frame */
	uint64_t position;    /* bytes of frames in this session */
	uint32_t begin;	      /* position in the ring of the first that is the session's and may be unread */
	uint32_t wanted;      /* bytes of space that the next thing to write lacks; 0: none */
	uint32_t taken_upto;  /* what the reader had released at the last outlet_see_taken() */
	struct ledger ledger; /* only where releasing means taking */
	/* NULL: frames are written where the reader reads them. Else they are written in memory of ours, as
	 * large as the ring, and copied there when the reader is to see them. */
	uint8_t *copied_to;
};

/* Bytes of a stream that are still to be sent out. */
struct outgoing {
	const struct iovec *pieces;
	uint32_t done; /* bytes of the first piece already sent */
	uint32_t left;
	uint32_t messages; /* messages that end in these bytes */
};

int outlet_attach(struct outlet *outlet, const struct ring_view *ring, const struct hop_traits *traits,
		  struct hop_stats *tx, bool adopt);
/* Gives an outlet that was read from an image its ring: the one that it had, or with `adopt` another one,
 * whose indices are taken. Numbers, positions and the ledger stay. */
int outlet_attach_again(struct outlet *outlet, const struct ring_view *ring, const struct hop_traits *traits,
			struct hop_stats *tx, bool adopt);
void outlet_detach(struct outlet *outlet);
/* Gives the reader only as much as it takes in some milliseconds. */
void outlet_pace(struct outlet *outlet);
/* The program has taken so many more bytes of the end's, or won't. True: it is time to give it more. */
bool outlet_reported(struct outlet *outlet, struct channel_end *end, uint64_t bytes);
/* Writes frames in memory of our own from now on, since the ring's may be lost. -ENOMEM. */
int outlet_keep_copy(struct outlet *outlet);
/* Finds the whole frames that the reader hasn't released, as far as is known, as one or two pieces in the
 * ring. Closes the open frame. Returns their size. */
uint32_t outlet_unread(struct outlet *outlet, struct iovec pieces[2]);
/* Goes on in another ring, with the same session: numbers and positions aren't touched. */
void outlet_move(struct outlet *outlet, const struct ring_writer *writer);
/* Whether there is room for a frame of `size` bytes. 1: there is; 0: there isn't, and `wanted` records it; or
 * an error. */
static inline int outlet_has_room(struct outlet *outlet, uint32_t size)
{
	int space = ring_writer_space(&outlet->writer, size);

	if (space < 0 || (uint32_t)space >= size)
		return space < 0 ? space : 1;
	if (outlet->wanted < size)
		outlet->wanted = size;
	return 0;
}
/* Writes a whole frame that isn't DATA, for which there is room. */
void outlet_put(struct outlet *outlet, const struct frame_header *header, const void *payload);
/* Writes one that is no part of the session: it has no number and no position. */
void outlet_put_aside(struct outlet *outlet, const struct frame_header *header, const void *payload);
/* Writes bytes of `end`'s stream, a chunk at most. Returns how many, 0 if there is no room, or an error. */
int outlet_write(struct outlet *outlet, struct channel_end *end, struct outgoing *data);
/* Returns how many bytes may be appended to the open frame before one has to ask again; 0: none, also no
 * empty piece: it isn't `end`'s, is full, or is to be seen. So many were appended since outlet_count(). */
uint32_t outlet_room(struct outlet *outlet, const struct channel_end *end, uint32_t uncounted);
/* Whether another piece can be appended behind those that were: frames have padding only at their end. */
static inline bool outlet_is_even(const struct outlet *outlet)
{
	return !(outlet->filling_length & 7);
}
/* Appends a short piece for which there is room. Behind the last one, outlet_count() is called. */
static inline void outlet_append(struct outlet *outlet, const void *data, uint32_t length)
{
	ring_writer_put(&outlet->writer, data, length);
	outlet->filling_length += length;
}
/* Counts bytes that were appended, and messages that end there. */
void outlet_count(struct outlet *outlet, uint32_t length, uint32_t messages);
/* Whether so much has been written that the reader should see it: on two CPUs it works on the first chunk
 * while we copy the second. */
bool outlet_is_due(const struct outlet *outlet);
/* Takes back what was put into the open frame last, and wasn't to be. */
void outlet_take_back(struct outlet *outlet, uint32_t length, uint32_t messages);
/* Closes the open frame. Returns whether there is something that the reader doesn't see yet. */
bool outlet_close(struct outlet *outlet);
/* Whether something was written that the reader doesn't see yet. */
static inline bool outlet_is_ahead(const struct outlet *outlet)
{
	return ring_writer_is_ahead(&outlet->writer);
}
/* Closes the open frame, and lets the reader see everything. True: the reader asks to be notified. */
bool outlet_publish(struct outlet *outlet);
/* Asks to be notified of room for `wanted` bytes, or of as much as is worth a wake-up. 1: there is room
 * already; or an error. */
int outlet_ask_for_room(struct outlet *outlet, uint32_t wanted);
/* Whether there is as much room as outlet_ask_for_room() would ask for. */
bool outlet_has_ample_room(struct outlet *outlet);
/* Returns 1 if more has been taken since outlet_see_taken(); else 0, or an error. */
int outlet_has_taken(struct outlet *outlet);
/* Asks to be notified when more is taken. 1: more has been taken already; or an error. */
int outlet_ask_for_taken(struct outlet *outlet);
/* Notes what the reader has released by now. 0 or an error. */
int outlet_see_taken(struct outlet *outlet);
/* Finds the word of the stream at `offset`, as it lies in the ring. -EALREADY: it was released; -ENOENT: it
 * isn't there as one word; or an error. */
int outlet_find_word(struct outlet *outlet, struct channel_end *end, uint64_t offset, uint32_t **word);
/* Finds how far the end's stream was released, even since the last outlet_see_taken(). 0 in *offset: unknown.
 * 0 or an error. */
int outlet_find_released(struct outlet *outlet, const struct channel_end *end, uint64_t *offset);
/* Forgets the end, which is about to go. Returns how many entries it had in the ledger. */
uint32_t outlet_forget(struct outlet *outlet, struct channel_end *end);

/* Returns how many unread bytes of DATA the ring may have. */
static inline uint32_t outlet_limit(const struct outlet *outlet)
{
	uint32_t size = outlet->writer.ring.size;

	return outlet->pace.most && outlet->pace.most < size ? outlet->pace.most : size;
}

#endif
