/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_FIFO_H
#define XENMSG_LIBCLIENT_FIFO_H

/* A queue of bytes in private memory that grows with its content. All zero is an empty queue. */

#include <stddef.h>
#include <stdint.h>

struct fifo {
	uint8_t *data;
	size_t start, end, capacity;
};

static inline size_t fifo_size(const struct fifo *fifo)
{
	return fifo->end - fifo->start;
}

/* Returns the oldest byte, or NULL; the others follow it. Valid until the next append. */
static inline uint8_t *fifo_front(const struct fifo *fifo)
{
	return fifo->data ? fifo->data + fifo->start : NULL;
}

void fifo_free(struct fifo *fifo);
/* Makes room, so that appending `size` more bytes can't fail. Returns 0 or -ENOMEM. */
int fifo_reserve(struct fifo *fifo, size_t size);
int fifo_append(struct fifo *fifo, const void *data, size_t size);
/* Appends `size` bytes, for which room was reserved, and returns where the caller writes them. */
static inline uint8_t *fifo_extend(struct fifo *fifo, size_t size)
{
	fifo->end += size;
	return fifo->data + fifo->end - size;
}
/* Removes the oldest `size` bytes. */
void fifo_drop(struct fifo *fifo, size_t size);
/* Removes the newest `size` bytes. */
void fifo_truncate(struct fifo *fifo, size_t size);

#endif
