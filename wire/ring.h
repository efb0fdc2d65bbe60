/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_RING_H
#define XENMSG_WIRE_RING_H

/*
 * One direction of bytes through memory that is shared with somebody who isn't trusted.
 *
 * The same code serves the link (a vchan's ring in granted pages, xen/io/libxenvchan.h) and the local hop (a
 * ring in a sealed memfd): a `ring_view` says where the parts lie. Each end keeps its own index in private
 * memory and stores it to the shared one for the other end to see, but never reads it back; the other end's
 * index is copied once, checked, and only then used. An impossible one is -EPROTO, and the caller ends the
 * session. The bytes in the ring may change at any time: copy them out with ring_reader_copy() before looking
 * at them.
 *
 * Nothing here sleeps, notifies or allocates. ring_writer_publish() and ring_reader_release() say whether the
 * other end sleeps and asked for a notification; who wants to sleep calls ring_*_arm(), which sets the
 * request, fences and looks again (the lost wake-up: the other end may have moved between our last look and
 * our request).
 *
 * Indices run freely modulo 2^32; the size is a power of two, at most 2^30. A ring belongs to one thread at
 * each end.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* Where the parts of a ring are. All pointers but the view itself lead into shared memory. */
struct ring_view {
	uint8_t *data;	      /* `size` bytes */
	uint32_t size;	      /* a power of two */
	uint32_t *producer;   /* stored by the writer: bytes ever written */
	uint32_t *consumer;   /* stored by the reader: bytes ever read */
	uint8_t *wants_data;  /* `wants_data_bit` in it: the reader wants to be notified of data */
	uint8_t *wants_space; /* `wants_space_bit` in it: the writer wants to be notified of space */
	uint8_t wants_data_bit;
	uint8_t wants_space_bit;
};

/* What a ring needs besides its data, where both of its ends are in one process. Zeros are a good
 * beginning. */
struct ring_words {
	uint32_t producer, consumer;
	uint8_t wants_data, wants_space;
};

static inline struct ring_view ring_words_view(struct ring_words *words, uint8_t *data, uint32_t size)
{
	return (struct ring_view){
		.data = data,
		.size = size,
		.producer = &words->producer,
		.consumer = &words->consumer,
		.wants_data = &words->wants_data,
		.wants_space = &words->wants_space,
		.wants_data_bit = 1,
		.wants_space_bit = 1,
	};
}

struct ring_writer {
	struct ring_view ring;
	uint32_t head;	    /* next byte that we write */
	uint32_t published; /* what the reader may see: head as of the last publish */
	uint32_t tail;	    /* the reader's index as last seen and found possible */
};

struct ring_reader {
	struct ring_view ring;
	uint32_t tail;	   /* next byte that we read */
	uint32_t released; /* what the writer may overwrite: tail as of the last release */
	uint32_t head;	   /* the writer's index as last seen and found possible */
};

/* Both ends start at zero, or, with `adopt`, at the indices in the shared memory (a ring that somebody else
 * has made and perhaps used): those are then only checked for being possible. -EPROTO if they aren't, -EINVAL
 * for a bad size. */
int ring_writer_init(struct ring_writer *writer, const struct ring_view *view, bool adopt);
int ring_reader_init(struct ring_reader *reader, const struct ring_view *view, bool adopt);

/* Bytes that can be written now. Looks at the shared index only if the cached one promises less than `want`.
 * -EPROTO. */
static inline int ring_writer_space(struct ring_writer *writer, uint32_t want);
/* Copies `size` bytes in behind what was written before. The caller has seen that the space is there. */
static inline void ring_writer_put(struct ring_writer *writer, const void *data, uint32_t size);
/* The next `size` bytes of space as one or two pieces, to be filled in place before ring_writer_advance().
 * Returns how many pieces. */
static inline int ring_writer_reserve(const struct ring_writer *writer, uint32_t size,
				      struct iovec pieces[2]);
/* The same, if it is one piece; else NULL. */
static inline uint8_t *ring_writer_room(const struct ring_writer *writer, uint32_t size);
static inline void ring_writer_advance(struct ring_writer *writer, uint32_t size);
/* Overwrites bytes that were written but not yet published, `position` being the value of `head` when they
 * were. */
static inline void ring_writer_patch(struct ring_writer *writer, uint32_t position, const void *data,
				     uint32_t size);
/* Lets the reader see what was written. True: the reader asked for a notification, send it. */
static inline bool ring_writer_publish(struct ring_writer *writer);
/* Whether there is something to publish. */
static inline bool ring_writer_is_ahead(const struct ring_writer *writer);
/* Whether the reader asks for a notification just now. */
static inline bool ring_writer_is_awaited(const struct ring_writer *writer);
/* Asks for a notification when the reader makes room, unless `want` bytes are free already: then 1, don't
 * sleep. 0: sleep. -EPROTO. */
static inline int ring_writer_arm(struct ring_writer *writer, uint32_t want);
/* Takes that back: we shall look anyway, and arm again, before we sleep. */
static inline void ring_writer_disarm(struct ring_writer *writer);
/* Bytes published that the reader hasn't released yet, looked up afresh. -EPROTO. */
static inline int ring_writer_unread(struct ring_writer *writer);
/* The 4-byte word at a position that was published, for an atomic operation together with the reader. The
 * position is a multiple of 4, so that the word doesn't wrap. */
static inline uint32_t *ring_writer_word(const struct ring_writer *writer, uint32_t position);

/* Bytes that can be read now. Looks at the shared index only if the cached one promises less than `want`.
 * -EPROTO. */
static inline int ring_reader_ready(struct ring_reader *reader, uint32_t want);
/* Copies `size` bytes out, from `offset` bytes behind what was consumed. The caller has seen that they are
 * there. */
static inline void ring_reader_copy(const struct ring_reader *reader, uint32_t offset, void *data,
				    uint32_t size);
/* The same bytes in place, in one or two pieces: only for handing them on unseen. Returns how many pieces. */
static inline int ring_reader_peek(const struct ring_reader *reader, uint32_t offset, uint32_t size,
				   struct iovec pieces[2]);
/* Their beginning, if they are one piece; else NULL. */
static inline const uint8_t *ring_reader_piece(const struct ring_reader *reader, uint32_t size);
static inline uint32_t *ring_reader_word(const struct ring_reader *reader, uint32_t offset);
static inline void ring_reader_consume(struct ring_reader *reader, uint32_t size);
/* Gives consumed bytes back to the writer. True: the writer asked for a notification, send it. */
static inline bool ring_reader_release(struct ring_reader *reader);
/* The same without looking whether the writer wants to know: for a reader that will release again before it
 * sleeps. */
static inline void ring_reader_release_quietly(struct ring_reader *reader);
/* Takes the writer's request for space, as a release would. For whoever is about to notify the writer of
 * something else: it looks at all its rings then and asks again if it has to. True: there was a request. */
static inline bool ring_reader_take_request(struct ring_reader *reader);
/* Asks for a notification when data comes, unless `want` bytes are there already: then 1, don't sleep. 0:
 * sleep. -EPROTO. */
static inline int ring_reader_arm(struct ring_reader *reader, uint32_t want);
/* As ring_writer_disarm(). */
static inline void ring_reader_disarm(struct ring_reader *reader);

#include "wire/ring_inline.h"

#endif
