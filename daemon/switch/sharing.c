/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/sharing.h"

#include <errno.h>
#include <stdlib.h>

#include <event2/buffer.h>

#include "daemon/switch/channel.h"
#include "wire/bytes.h"

struct worker *worker_new(void)
{
	struct worker *worker = calloc(1, sizeof(*worker));

	if (worker)
		worker->references = 1;
	return worker;
}

void worker_unref(struct worker *worker)
{
	if (worker && --worker->references == 0)
		free(worker);
}

bool worker_is_freer(const struct worker *a, const struct worker *b)
{
	if (a->given != b->given)
		return a->given < b->given;
	if (a->channels != b->channels)
		return a->channels < b->channels;
	return a->turn < b->turn;
}

int sharing_begin(struct channel *channel)
{
	struct sharing *sharing = calloc(1, sizeof(*sharing));

	if (!sharing)
		return -ENOMEM;
	sharing->copy = evbuffer_new();
	if (!sharing->copy) {
		free(sharing);
		return -ENOMEM;
	}
	channel->sharing = sharing;
	return 0;
}

void sharing_give(struct channel *channel, struct worker *worker)
{
	struct sharing *sharing = channel->sharing;

	if (sharing->worker) {
		sharing->worker->channels--;
		worker_unref(sharing->worker);
	}
	sharing->worker = worker;
	if (worker) {
		worker->references++;
		worker->channels++;
		worker->given++;
	}
}

int sharing_drains(struct channel *channel)
{
	struct worker *worker = worker_new();

	if (!worker)
		return -ENOMEM;
	worker->drains = true;
	sharing_give(channel, worker);
	worker_unref(worker);
	return 0;
}

void sharing_free(struct channel *channel)
{
	if (!channel->sharing)
		return;
	sharing_give(channel, NULL);
	evbuffer_free(channel->sharing->copy);
	free(channel->sharing);
	channel->sharing = NULL;
}

static void sharing_drop(struct sharing *sharing, uint64_t size)
{
	evbuffer_drain(sharing->copy, size);
	sharing->from += size;
}

/* Drops what no other program needs: messages that were taken, and those that are torn. */
static void trim(struct channel *channel)
{
	const struct channel_end *end = &channel->acceptor;
	struct sharing *sharing = channel->sharing;
	uint8_t head[MESSAGE_HEAD_SIZE];

	for (;;) {
		size_t size = evbuffer_get_length(sharing->copy);
		uint64_t span;

		if (sharing->from < sharing->torn) {
			sharing_drop(sharing, size < sharing->torn - sharing->from
						      ? size
						      : sharing->torn - sharing->from);
			if (sharing->from < sharing->torn)
				return;
			continue;
		}
		if (evbuffer_copyout(sharing->copy, head, sizeof(head)) < (ev_ssize_t)sizeof(head))
			return;
		span = message_span(get_u32(head));
		if (span <= size && sharing->from + span <= end->consumed)
			sharing_drop(sharing, span);
		else if (size > end->window && sharing->from < end->consumed)
			sharing->torn = sharing->from + span;
		else
			return;
	}
}

void sharing_sent(struct channel *channel, const struct iovec *pieces, uint32_t length)
{
	struct sharing *sharing = channel->sharing;

	for (; length > 0 && !sharing->broken; pieces++) {
		uint32_t size = pieces->iov_len < length ? (uint32_t)pieces->iov_len : length;

		sharing->broken = evbuffer_add(sharing->copy, pieces->iov_base, size) != 0;
		length -= size;
	}
	trim(channel);
}

void sharing_taken(struct channel *channel, uint64_t consumed)
{
	struct sharing *sharing = channel->sharing;

	sharing->moves = 0;
	if (sharing->worker)
		sharing->worker->given = 0;
	if (consumed > sharing->from)
		trim(channel);
}

struct evbuffer *sharing_take_copy(struct sharing *sharing, uint64_t from)
{
	struct evbuffer *fresh = evbuffer_new(), *copy = sharing->copy;

	if (!fresh)
		return NULL;
	evbuffer_drain(copy, from - sharing->from);
	sharing->from = sharing->torn = from;
	sharing->copy = fresh;
	return copy;
}
