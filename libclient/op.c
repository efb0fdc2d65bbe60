/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/op.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/properties.h"
#include "xenmsg.h"

#define FIRST_SIZE (offsetof(struct xenmsg_options, flags) + sizeof(unsigned)) /* of version 0.2 */

/* Members of a later version, which this one doesn't know, may be there, but not be used. */
static bool uses_more(const struct xenmsg_options *options)
{
	const char *bytes = (const char *)options;

	for (size_t i = sizeof(*options); i < options->size; i++)
		if (bytes[i])
			return true;
	return false;
}

int options_read_given(struct op_options *opts, const struct xenmsg_options *options, unsigned flags)
{
	if (options->size < FIRST_SIZE || uses_more(options) ||
	    (options->flags & (~flags | OP_TRACE | OP_KEY | OP_KEYS | OP_QUEUE)))
		return -EINVAL;
	if (options->size >= offsetof(struct xenmsg_options, trace) + sizeof(options->trace))
		opts->trace = options->trace;
	if (options->size >= offsetof(struct xenmsg_options, keys) + sizeof(options->keys)) {
		opts->key = options->key;
		opts->keys = options->keys;
	}
	if (options->size >= offsetof(struct xenmsg_options, queue) + sizeof(options->queue))
		opts->queue = options->queue;
	if ((opts->keys && !(flags & OP_KEYS)) || (opts->queue && !(flags & OP_QUEUE)) ||
	    (opts->key &&
	     (!(flags & OP_KEY) || !trace_is_valid(opts->key, strnlen(opts->key, TRACE_MAX + 1)))))
		return -EINVAL;
	if (opts->trace &&
	    (!(flags & OP_TRACE) || !trace_is_valid(opts->trace, strnlen(opts->trace, TRACE_MAX + 1))))
		return -EINVAL;
	opts->flags = options->flags;
	if (options->timeout_ms != XENMSG_USUAL_MS)
		opts->timeout_ms = options->timeout_ms < 0 ? FOR_EVER : options->timeout_ms;
	return 0;
}

void *circular_grow(void *list, size_t each, uint32_t head, uint32_t count, uint32_t *capacity)
{
	uint32_t larger = *capacity ? *capacity * 2 : 64, first = head & (*capacity - 1),
		 to_end = *capacity - first;
	uint8_t *grown = malloc(larger * each);

	if (!grown)
		return NULL;
	if (to_end > count)
		to_end = count;
	if (count) {
		memcpy(grown, (uint8_t *)list + first * each, to_end * each);
		memcpy(grown + to_end * each, list, (count - to_end) * each);
	}
	free(list);
	*capacity = larger;
	return grown;
}

int settled_grow(struct settled_queue *queue)
{
	void *list =
		circular_grow(queue->list, sizeof(*queue->list), queue->head, queue->count, &queue->capacity);

	if (!list)
		return -ENOMEM;
	queue->list = list;
	queue->head = 0;
	return 0;
}
