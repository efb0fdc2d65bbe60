/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_GATEWAY_STREAM_H
#define XENMSG_GATEWAY_STREAM_H

/* The socket of a conversation, whose other end is the daemon's, and the bytes that wait for the daemon to take them. The
 * conversation's window bounds how many those are. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct event_base;
struct stream;

struct stream_callbacks {
	/* There are bytes, or the daemon has closed it. */
	void (*readable)(void *userdata);
	/* The daemon has taken bytes. */
	void (*written)(void *userdata, struct stream *stream, size_t size);
};

/* `fd` is the stream's from now on, even if NULL is returned: out of memory. It isn't read yet. */
struct stream *stream_new(struct event_base *base, int fd, const struct stream_callbacks *callbacks,
			  void *userdata);
void stream_free(struct stream *stream);

/* Whether readable() is called. */
void stream_read(struct stream *stream, bool is_read);
/* Takes at most `size` bytes from the daemon. 0: it has closed the stream; -EAGAIN: nothing is there; else a negative
 * errno. */
ssize_t stream_take(struct stream *stream, uint8_t *data, size_t size);
/* Gives bytes to the daemon, and keeps what it doesn't take now. stream_write() tells of them. */
void stream_put(struct stream *stream, const uint8_t *data, size_t size);
/* Gives it what was kept, as far as it takes that; the rest goes when it does. Calls written(). */
void stream_write(struct stream *stream);
/* Nothing more comes. Returns whether it may be freed: all bytes have gone, or none will. */
bool stream_end(struct stream *stream);

#endif
