/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/cancel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <uthash.h>

#include "daemon/channel.h"
#include "daemon/clock.h"
#include "daemon/cost.h"
#include "daemon/hop.h"
#include "daemon/timer.h"

#define CANCELS_MAX 4096 /* of a channel, not yet answered */

struct channel_cancel {
	uint64_t offset;
	uint64_t deadline_ms;
	bool released; /* the program has let go of it: it was taken unless a RESET comes */
	UT_hash_handle hh;
};

/* Called while a frame of another hop is dealt with: what goes wrong here is this end's fault alone. */
static void answer_cancel(struct channel_end *end, uint64_t offset, int result)
{
	struct frame_cancelled cancelled = {.offset = offset, .result = (uint32_t)result};
	uint8_t payload[FRAME_SMALL_MAX];
	int r;

	if (!end->hop || channel_is_reset(end))
		return;
	r = hop_send(end->hop, FRAME_CANCELLED, 0, end->number, payload, frame_cancelled_encode(&cancelled, payload));
	if (r < 0)
		hop_fail(end->hop, r, "answers to its CANCELs pile up");
}

static void settle(struct channel *channel, struct channel_cancel *cancel, int result)
{
	HASH_DEL(channel->cancels, cancel);
	answer_cancel(&channel->opener, cancel->offset, result);
	free(cancel);
}

void cancels_taken(struct channel *channel, uint64_t taken)
{
	struct channel_cancel *cancel, *next;

	HASH_ITER (hh, channel->cancels, cancel, next)
		if (cancel->released && cancel->offset < taken)
			settle(channel, cancel, 0);
}

/* What the next hop doesn't say in time, nobody knows. */
static void on_settle_timeout(int fd, short what, void *userdata)
{
	struct channel *channel = userdata;
	struct channel_cancel *cancel, *next;
	uint64_t now = clock_ms();

	(void)fd;
	(void)what;
	HASH_ITER (hh, channel->cancels, cancel, next) {
		if (cancel->deadline_ms > now) {
			timer_set(channel->cancel_timer, cancel->deadline_ms - now);
			break;
		}
		settle(channel, cancel, ECONNRESET);
	}
}

/* Waits for an answer about the message. NULL: too many wait already, or no memory. Asked twice, it is answered once. */
static struct channel_cancel *await_answer(struct channel *channel, uint64_t offset)
{
	uint32_t ms = channel->relay->cancel_ms;
	struct channel_cancel *cancel;

	if (HASH_COUNT(channel->cancels) >= CANCELS_MAX)
		return NULL;
	if (!channel->cancel_timer)
		channel->cancel_timer = evtimer_new(channel->relay->base, on_settle_timeout, channel);
	cancel = channel->cancel_timer ? calloc(1, sizeof(*cancel)) : NULL;
	if (!cancel)
		return NULL;
	cancel->offset = offset;
	cancel->deadline_ms = clock_ms() + ms;
	HASH_ADD(hh, channel->cancels, offset, sizeof(cancel->offset), cancel);
	timer_start(channel->cancel_timer, ms + 1);
	return cancel;
}

static int cancel_word(uint32_t *word)
{
	uint32_t expected = MESSAGE_SENT;

	if (__atomic_compare_exchange_n(word, &expected, MESSAGE_CANCELLED, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return ECANCELED;
	return expected == MESSAGE_CANCELLED ? ECANCELED : 0;
}

/* The word may lie across two pieces of the queue. */
static int cancel_queued(struct channel_end *out, uint64_t position)
{
	struct evbuffer_iovec pieces[sizeof(uint32_t)];
	uint32_t state = MESSAGE_CANCELLED;
	const uint8_t *from = (const uint8_t *)&state;
	size_t left = sizeof(state);
	struct evbuffer_ptr at;

	if (!out->queue || evbuffer_ptr_set(out->queue, &at, position, EVBUFFER_PTR_SET) < 0 ||
	    evbuffer_peek(out->queue, (ev_ssize_t)left, &at, pieces, sizeof(uint32_t)) < 1)
		return ECONNRESET;
	for (unsigned i = 0; left > 0; i++) {
		size_t size = pieces[i].iov_len < left ? pieces[i].iov_len : left;

		memcpy(pieces[i].iov_base, from, size);
		from += size;
		left -= size;
	}
	return ECANCELED;
}

/* The state lies on the other side of the acceptor's hop. */
static void cancel_beyond(struct channel *channel, uint64_t offset)
{
	struct channel_end *out = &channel->acceptor;
	struct channel_cancel *cancel;
	uint32_t *word = NULL;
	uint8_t payload[8];
	int r = -EINPROGRESS;

	HASH_FIND(hh, channel->cancels, &offset, sizeof(offset), cancel);
	if (cancel)
		return;
	if (out->hop->release_means_taken)
		r = hop_handed_word(out->hop, out, offset, &word);
	if (r == 0) {
		answer_cancel(&channel->opener, offset, cancel_word(word));
		return;
	}
	cancel = r == -ENOENT ? NULL : await_answer(channel, offset);
	if (!cancel) {
		answer_cancel(&channel->opener, offset, ECONNRESET);
		return;
	}
	cancel->released = r == -EALREADY;
	if (cancel->released)
		return;
	r = hop_send(out->hop, FRAME_CANCEL, 0, out->number, payload, frame_u64_encode(offset, payload));
	if (r < 0)
		settle(channel, cancel, ECONNRESET);
}

int channel_cancel(struct channel_end *end, uint64_t offset)
{
	struct channel_end *out = channel_other(end);

	relay_spend(end->channel->relay, end->hop->account, COST_CANCEL);
	if (channel_is_reset(end) || !out->hop)
		return 0;
	if (!end->is_opener || (offset & 7) || offset > end->received ||
	    end->received - offset < MESSAGE_TRAILER_SIZE)
		return -EPROTO;
	if (offset < out->consumed)
		answer_cancel(end, offset, 0);
	else if (offset >= out->sent)
		answer_cancel(end, offset, cancel_queued(out, offset - out->sent));
	else if (out->sent - offset < MESSAGE_TRAILER_SIZE)
		answer_cancel(end, offset, ECONNRESET); /* torn in two, by who sends half words */
	else
		cancel_beyond(end->channel, offset);
	return 0;
}

int channel_cancelled(struct channel_end *end, const struct frame_cancelled *cancelled)
{
	struct channel *channel = end->channel;
	struct channel_cancel *cancel;
	int result = cancelled->result == 0 || cancelled->result == ECANCELED ? (int)cancelled->result : ECONNRESET;

	if (end->is_opener)
		return -EPROTO;
	HASH_FIND(hh, channel->cancels, &cancelled->offset, sizeof(cancelled->offset), cancel);
	/* Else we have answered already that nobody knows. */
	if (cancel && !cancel->released)
		settle(channel, cancel, result);
	return 0;
}

void cancels_free(struct channel *channel)
{
	struct channel_cancel *cancel, *next;

	HASH_ITER (hh, channel->cancels, cancel, next) {
		HASH_DEL(channel->cancels, cancel);
		free(cancel);
	}
	if (channel->cancel_timer)
		event_free(channel->cancel_timer);
}
