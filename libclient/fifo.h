/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_FIFO_H
#define XENMSG_LIBCLIENT_FIFO_H

/* Bytes in the order in which they came, in private memory that grows with them. All zero is an empty one. */

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

/* The oldest byte; the others follow. Valid until the next append. */
static inline uint8_t *fifo_front(const struct fifo *fifo)
{
	return fifo->data + fifo->start;
}

void fifo_free(struct fifo *fifo);
/* Makes sure that `size` more bytes can be appended without an error. -ENOMEM. */
int fifo_reserve(struct fifo *fifo, size_t size);
int fifo_append(struct fifo *fifo, const void *data, size_t size);
/* Appends `size` bytes, for which the room was reserved, to be written where it says. */
static inline uint8_t *fifo_extend(struct fifo *fifo, size_t size)
{
	fifo->end += size;
	return fifo->data + fifo->end - size;
}
/* Takes the oldest `size` bytes away. */
void fifo_drop(struct fifo *fifo, size_t size);
/* Takes the newest `size` bytes away. */
void fifo_truncate(struct fifo *fifo, size_t size);

#endif
