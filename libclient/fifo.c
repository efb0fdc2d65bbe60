/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/fifo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEEP_CAPACITY (1u << 20) /* an empty queue keeps this much, so that steady traffic doesn't allocate */

void fifo_free(struct fifo *fifo)
{
	free(fifo->data);
	*fifo = (struct fifo){0};
}

int fifo_reserve(struct fifo *fifo, size_t size)
{
	size_t used = fifo_size(fifo), capacity;
	uint8_t *data;

	if (fifo->capacity - fifo->end >= size)
		return 0;
	/* Moving the rest to the front is cheap only if the rest is the smaller part; else each append might
	 * move all of it. */
	if (fifo->capacity - used >= size && used <= fifo->start) {
		memmove(fifo->data, fifo_front(fifo), used);
		fifo->start = 0;
		fifo->end = used;
		return 0;
	}
	/* The new capacity is twice the content: then the rest is the smaller part whenever the end is
	 * reached, and a queue that never empties needs no more memory once it has found its size. The first
	 * allocation is exact, since it is often the only one, and large. */
	capacity = used ? 2 * (used + size) : size;
	if (capacity < 4096)
		capacity = 4096;
	data = malloc(capacity);
	if (!data)
		return -ENOMEM;
	if (used)
		memcpy(data, fifo_front(fifo), used);
	free(fifo->data);
	*fifo = (struct fifo){.data = data, .end = used, .capacity = capacity};
	return 0;
}

int fifo_append(struct fifo *fifo, const void *data, size_t size)
{
	int r = fifo_reserve(fifo, size);

	if (r < 0 || size == 0)
		return r;
	memcpy(fifo->data + fifo->end, data, size);
	fifo->end += size;
	return 0;
}

static void shrink_if_empty(struct fifo *fifo)
{
	if (fifo_size(fifo) != 0)
		return;
	fifo->start = fifo->end = 0;
	if (fifo->capacity > KEEP_CAPACITY)
		fifo_free(fifo);
}

void fifo_drop(struct fifo *fifo, size_t size)
{
	fifo->start += size;
	shrink_if_empty(fifo);
}

void fifo_truncate(struct fifo *fifo, size_t size)
{
	fifo->end -= size;
	shrink_if_empty(fifo);
}
