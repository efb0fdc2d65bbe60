/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/ring.h"

#include <errno.h>

static bool size_is_possible(uint32_t size)
{
	return size >= 8 && size <= (1u << 30) && !(size & (size - 1));
}

int ring_writer_init(struct ring_writer *writer, const struct ring_view *view, bool adopt)
{
	if (!size_is_possible(view->size))
		return -EINVAL;
	*writer = (struct ring_writer){.ring = *view};
	if (adopt) {
		writer->head = writer->published = ring_load(view->producer);
		writer->tail = ring_load(view->consumer);
		if (writer->head - writer->tail > view->size)
			return -EPROTO;
	}
	return 0;
}

int ring_reader_init(struct ring_reader *reader, const struct ring_view *view, bool adopt)
{
	if (!size_is_possible(view->size))
		return -EINVAL;
	*reader = (struct ring_reader){.ring = *view};
	if (adopt) {
		reader->tail = reader->released = ring_load(view->consumer);
		reader->head = ring_load(view->producer);
		if (reader->head - reader->tail > view->size)
			return -EPROTO;
	}
	return 0;
}
