/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_RING_H
#define XENMSG_WIRE_RING_H

/*
 * One direction of bytes through memory that is shared with an untrusted peer.
 *
 * The same code serves the link (a vchan's ring in granted pages, xen/io/libxenvchan.h) and the local hop (a
 * ring in a sealed memfd): a `ring_view` says where the parts are. Each end keeps its own index in private
 * memory and stores it to the shared one for the other end to see, but never reads it back; the other end's
 * index is copied once, checked, and only then used. An impossible one is -EPROTO, and the caller ends the
 * session. The bytes in the ring may change at any time: copy them out with ring_reader_copy() before looking
 * at them.
 *
 * Nothing here sleeps, notifies or allocates. ring_writer_publish() and ring_reader_release() return whether
 * the other end sleeps and asked for a notification. Before an end sleeps, it calls ring_*_arm(), which sets
 * the request, fences and looks again, so that no wake-up is lost: the other end may have moved between our
 * last look and our request.
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
	/* bits that `consumer` never has, since whole frames are consumed; 0: any number is possible */
	uint8_t unaligned;
};

/* What a ring needs besides its data if both of its ends are in one process. All zero is a valid start. */
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
	uint32_t head;	    /* next byte to write */
	uint32_t published; /* what the reader may see: `head` as of the last publish */
	uint32_t tail;	    /* the reader's index as it was last seen and checked */
};

struct ring_reader {
	struct ring_view ring;
	uint32_t tail;	   /* next byte to read */
	uint32_t released; /* what the writer may overwrite: `tail` as of the last release */
	uint32_t head;	   /* the writer's index as it was last seen and checked */
};

/* Initializes an end. Both ends start at zero, or, with `adopt`, at the indices in the shared memory (of a
 * ring that the other end has made and may have used), which are only checked for being possible. Returns 0,
 * -EPROTO if they aren't possible, or -EINVAL for a bad size. */
int ring_writer_init(struct ring_writer *writer, const struct ring_view *view, bool adopt);
int ring_reader_init(struct ring_reader *reader, const struct ring_view *view, bool adopt);

/* Returns how many bytes can be written now, or -EPROTO. Reads the shared index only if the cached one
 * promises less than `want`. */
static inline int ring_writer_space(struct ring_writer *writer, uint32_t want);
/* Copies `size` bytes behind those written before. The caller has checked that there is space. */
static inline void ring_writer_put(struct ring_writer *writer, const void *data, uint32_t size);
/* Finds the next `size` bytes of space, as one or two pieces, for the caller to fill in place before it calls
 * ring_writer_advance(). Returns the number of pieces. */
static inline int ring_writer_reserve(const struct ring_writer *writer, uint32_t size,
				      struct iovec pieces[2]);
/* Returns the same space if it is one piece, else NULL. */
static inline uint8_t *ring_writer_room(const struct ring_writer *writer, uint32_t size);
static inline void ring_writer_advance(struct ring_writer *writer, uint32_t size);
/* Overwrites bytes that were written but not yet published. `position` is the value that `head` had when they
 * were written. */
static inline void ring_writer_patch(struct ring_writer *writer, uint32_t position, const void *data,
				     uint32_t size);
/* Lets the reader see what was written. Returns true if the reader asked for a notification: the caller sends
 * it. */
static inline bool ring_writer_publish(struct ring_writer *writer);
/* Returns whether there is something to publish. */
static inline bool ring_writer_is_ahead(const struct ring_writer *writer);
/* Returns whether the reader is asking for a notification. */
static inline bool ring_writer_is_awaited(const struct ring_writer *writer);
/* Asks for a notification when the reader frees space. Returns 0: the caller may sleep; 1: `want` bytes are
 * free already, so it must not; or -EPROTO. */
static inline int ring_writer_arm(struct ring_writer *writer, uint32_t want);
/* Withdraws that request. The caller will look anyway, and arm again before it sleeps. */
static inline void ring_writer_disarm(struct ring_writer *writer);
/* Returns how many published bytes the reader hasn't released yet, from a fresh look at its index; or
 * -EPROTO. */
static inline int ring_writer_unread(struct ring_writer *writer);
/* Returns the 4-byte word at a published position, for an atomic operation shared with the reader. The
 * position is a multiple of 4, so the word doesn't wrap. */
static inline uint32_t *ring_writer_word(const struct ring_writer *writer, uint32_t position);

/* Returns how many bytes can be read now, or -EPROTO. Reads the shared index only if the cached one promises
 * less than `want`. */
static inline int ring_reader_ready(struct ring_reader *reader, uint32_t want);
/* Copies out `size` bytes, starting `offset` bytes behind what was consumed. The caller has checked that they
 * are there. */
static inline void ring_reader_copy(const struct ring_reader *reader, uint32_t offset, void *data,
				    uint32_t size);
/* Finds the same bytes in place, as one or two pieces. They may only be passed on unread. Returns the number
 * of pieces. */
static inline int ring_reader_peek(const struct ring_reader *reader, uint32_t offset, uint32_t size,
				   struct iovec pieces[2]);
/* Returns their start if they are one piece, else NULL. */
static inline const uint8_t *ring_reader_piece(const struct ring_reader *reader, uint32_t size);
static inline uint32_t *ring_reader_word(const struct ring_reader *reader, uint32_t offset);
static inline void ring_reader_consume(struct ring_reader *reader, uint32_t size);
/* Gives consumed bytes back to the writer. Returns true if the writer asked for a notification: the caller
 * sends it. */
static inline bool ring_reader_release(struct ring_reader *reader);
/* Does the same without checking for a request, for a reader that will release again before it sleeps. */
static inline void ring_reader_release_quietly(struct ring_reader *reader);
/* Does the same up to a position that was consumed and not released: what lies behind it stays. */
static inline void ring_reader_release_up_to(struct ring_reader *reader, uint32_t position);
/* Takes the writer's request for space, as a release would, for a caller that is about to notify the writer
 * of something else: the writer then looks at all its rings and asks again if it has to. Returns true if
 * there was a request. */
static inline bool ring_reader_take_request(struct ring_reader *reader);
/* Asks for a notification when data arrives. Returns 0: the caller may sleep; 1: `want` bytes are there
 * already, so it must not; or -EPROTO. */
static inline int ring_reader_arm(struct ring_reader *reader, uint32_t want);
/* Withdraws that request, as ring_writer_disarm() does. */
static inline void ring_reader_disarm(struct ring_reader *reader);

#include "wire/ring_inline.h"

#endif
