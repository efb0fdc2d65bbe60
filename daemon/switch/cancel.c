/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/cancel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "base/clock.h"
#include "base/cost.h"
#include "base/image.h"
#include "base/quota.h"
#include "base/timer.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_internal.h"
#include "daemon/switch/latency.h"
#include "daemon/switch/sharing.h"
#include "daemon/switch/steps.h"
#include "wire/ut.h"

#define AT_ONCE	  64	/* cancellations given up in one turn */
#define WALK_COST 2u	/* for each entry looked at */
#define ERROR_MAX 4095u /* of errno */

/* In which list a cancellation is. The frames are made when there is room for them: in the queue of a link
 * that is away they would pile up, which all who use the link share. */
enum cancel_list {
	RELEASED, /* the program has released it: it was taken unless a RESET comes */
	UNASKED,  /* CANCEL is to be sent */
	ASKED,
	ANSWERED, /* CANCELLED is to be sent */
	LISTS,
};

struct channel_cancel {
	uint64_t offset;
	uint64_t deadline_ms;
	enum cancel_list list;
	int result; /* if ANSWERED: 0 or a negative errno */
	struct channel_cancel *prev, *next;
	UT_hash_handle hh;
};

struct channel_cancels {
	struct channel *channel;
	struct channel_cancel *all; /* but those that are answered: by offset, and oldest first */
	struct channel_cancel *lists[LISTS];
	uint32_t count;	     /* in all lists */
	uint64_t lowest;     /* lowest offset in `RELEASED` */
	struct event *timer; /* until the oldest one's deadline */
	struct task overdue;
};

static uint32_t make_cancelled(uint64_t offset, int result, uint8_t payload[FRAME_SMALL_MAX])
{
	const struct frame_cancelled cancelled = {.offset = offset, .result = (uint32_t)-result};

	return frame_cancelled_encode(&cancelled, payload);
}

/* A CANCEL of the message whose state lies at this offset has this result. */
static void cancel_note_result(struct channel *channel, uint64_t offset, int result)
{
	if (result == -ECANCELED)
		latency_cancelled(channel, offset + MESSAGE_TRAILER_SIZE);
	steps_note_cancelled(channel, offset + MESSAGE_TRAILER_SIZE, result);
}

/* Answers at once, with 0 or a negative errno, a CANCEL of the opener's that is being handled. An asker that
 * doesn't read ends only its own session. */
static void answer_cancel(struct channel_end *end, uint64_t offset, int result)
{
	uint8_t payload[FRAME_SMALL_MAX];
	int r = hop_answer(end->hop, FRAME_CANCELLED, end->number, payload,
			   make_cancelled(offset, result, payload));

	cancel_note_result(end->channel, offset, result);
	if (r < 0)
		hop_fail(end->hop, r, "answers to its CANCELs pile up");
}

static void cancel_put(struct channel_cancels *cancels, struct channel_cancel *cancel, enum cancel_list list)
{
	cancel->list = list;
	DL_APPEND(cancels->lists[list], cancel);
}

static void cancel_forget(struct channel_cancels *cancels, struct channel_cancel *cancel)
{
	DL_DELETE(cancels->lists[cancel->list], cancel);
	cancels->count--;
	charge_release(&cancels->channel->charge, QUOTA_BYTES, CANCEL_COST);
	free(cancel);
}

/* Lets the opener be answered with 0 or a negative errno, and pay until that is sent. */
static void cancel_settle(struct channel_cancels *cancels, struct channel_cancel *cancel, int result)
{
	struct channel_end *opener = &cancels->channel->opener;

	HASH_DEL(cancels->all, cancel);
	cancel_note_result(cancels->channel, cancel->offset, result);
	if (!opener->hop || channel_is_reset(opener)) { /* a RESET tells */
		cancel_forget(cancels, cancel);
		return;
	}
	DL_DELETE(cancels->lists[cancel->list], cancel);
	cancel->result = result;
	cancel_put(cancels, cancel, ANSWERED);
	channel_mark_urgent(opener);
}

bool cancels_answer(const struct channel_end *end)
{
	return end->is_opener && end->channel->cancels && end->channel->cancels->lists[ANSWERED];
}

bool cancels_next_frame(struct channel_end *end, struct channel_frame *frame)
{
	struct channel_cancels *cancels = end->channel->cancels;
	struct channel_cancel *cancel = NULL;

	if (cancels)
		cancel = cancels->lists[end->is_opener ? ANSWERED : UNASKED];
	if (!cancel)
		return false;
	if (end->is_opener) {
		frame->header.type = FRAME_CANCELLED;
		frame->header.length = make_cancelled(cancel->offset, cancel->result, frame->payload);
		cancel_forget(cancels, cancel);
	} else {
		frame->header.type = FRAME_CANCEL;
		frame->header.length = frame_u64_encode(
			cancel->offset - sharing_base_to(end->channel->sharing), frame->payload);
		DL_DELETE(cancels->lists[UNASKED], cancel);
		cancel_put(cancels, cancel, ASKED);
	}
	return true;
}

/* Called whenever part of the stream is taken, so it walks the list only when there is something to
 * settle. */
void cancels_taken(struct channel *channel, uint64_t taken)
{
	struct channel_cancels *cancels = channel->cancels;
	struct channel_cancel *cancel, *next;
	uint64_t lowest = UINT64_MAX, walked = 0;

	if (!cancels->lists[RELEASED] || taken <= cancels->lowest)
		return;
	DL_FOREACH_SAFE(cancels->lists[RELEASED], cancel, next) {
		walked++;
		if (cancel->offset < taken)
			cancel_settle(cancels, cancel, 0);
		else if (cancel->offset < lowest)
			lowest = cancel->offset;
	}
	cancels->lowest = lowest;
	switch_spend(channel->board, channel->charge.account, walked * WALK_COST);
}

/* Gives up cancellations that the next hop hasn't answered in time: nobody knows their outcome. If we stood
 * still ourselves, the answers may lie there unread: for reading them there is as much time again. */
static void give_up_some(struct task *task)
{
	struct channel_cancels *cancels =
		(struct channel_cancels *)((char *)task - offsetof(struct channel_cancels, overdue));
	struct channel *channel = cancels->channel;
	struct hop *next = channel->acceptor.hop;
	uint64_t now = clock_ms(), until,
		 more_ms = next && hop_has_input(next) ? channel->board->cancel_ms : 0;

	for (unsigned i = 0; i < AT_ONCE && cancels->all && cancels->all->deadline_ms + more_ms <= now; i++) {
		switch_spend(channel->board, channel->charge.account, COST_CANCEL);
		cancel_settle(cancels, cancels->all, -ECONNRESET);
	}
	if (!cancels->all)
		return;
	until = cancels->all->deadline_ms;
	if (until <= now)
		until += more_ms;
	if (until <= now)
		task_due(task);
	else
		timer_set(cancels->timer, until - now);
}

static void cancel_on_deadline(int fd, short what, void *userdata)
{
	struct channel_cancels *cancels = userdata;

	task_due(&cancels->overdue);
}

static struct channel_cancels *cancels_of(struct channel *channel)
{
	struct channel_cancels *cancels = channel->cancels;

	if (cancels)
		return cancels;
	cancels = calloc(1, sizeof(*cancels));
	if (!cancels)
		return NULL;
	cancels->channel = channel;
	cancels->timer = evtimer_new(channel->board->base, cancel_on_deadline, cancels);
	if (!cancels->timer) {
		free(cancels);
		return NULL;
	}
	task_init(&cancels->overdue, &channel->board->turns, account_line(channel->charge.account),
		  give_up_some);
	return channel->cancels = cancels;
}

static struct channel_cancel *find_cancel(const struct channel *channel, uint64_t offset)
{
	struct channel_cancel *cancel = NULL;

	if (channel->cancels)
		HASH_FIND(hh, channel->cancels->all, &offset, sizeof(offset), cancel);
	return cancel;
}

/* Enters one into the list that it names. False: there is no memory. */
static bool cancel_enter(struct channel_cancels *cancels, struct channel_cancel *cancel)
{
	if (cancel->list != ANSWERED) {
		HASH_ADD(hh, cancels->all, offset, sizeof(cancel->offset), cancel);
		if (!HASH_ADDED(cancel))
			return false;
	}
	cancels->count++;
	cancel->deadline_ms = clock_ms() + cancels->channel->board->cancel_ms;
	if (cancel->list == RELEASED && (!cancels->lists[RELEASED] || cancel->offset < cancels->lowest))
		cancels->lowest = cancel->offset;
	cancel_put(cancels, cancel, cancel->list);
	return true;
}

/* Adds a cancellation that waits for its answer. NULL: too many wait already, for this or for its way to the
 * opener, at this channel or at its opener's cost; or there is no memory. */
static struct channel_cancel *cancels_await_answer(struct channel *channel, uint64_t offset,
						   enum cancel_list list)
{
	struct channel_cancels *cancels = cancels_of(channel);
	struct channel_cancel *cancel;

	if (!cancels || cancels->count >= CANCELS_MAX ||
	    charge_add(&channel->charge, QUOTA_BYTES, CANCEL_COST) < 0)
		return NULL;
	cancel = malloc(sizeof(*cancel));
	if (cancel)
		*cancel = (struct channel_cancel){.offset = offset, .list = list};
	if (!cancel || !cancel_enter(cancels, cancel)) {
		free(cancel);
		charge_release(&channel->charge, QUOTA_BYTES, CANCEL_COST);
		return NULL;
	}
	if (!cancels->overdue.is_due)
		timer_start(cancels->timer, channel->board->cancel_ms + 1);
	return cancel;
}

/*
 * The receiver takes it by such an exchange, too (libclient/inbox.c), so one of the two comes first. It finds
 * MESSAGE_SENT there, which was stored before the index that it saw; and it releases the room after its
 * exchange, so that the next bytes are stored there when all is decided (tests/model/order/cancel.litmus).
 */
static int cancel_word(uint32_t *word)
{
	uint32_t expected = MESSAGE_SENT;

	if (__atomic_compare_exchange_n(word, &expected, MESSAGE_CANCELLED, false, __ATOMIC_SEQ_CST,
					__ATOMIC_SEQ_CST))
		return -ECANCELED;
	return expected == MESSAGE_CANCELLED ? -ECANCELED : 0;
}

/* Marks a message in a buffer as cancelled. Its state word may lie across two pieces of that. A copy may end
 * before it, as there was no memory for more. */
static int cancel_in(struct evbuffer *buffer, uint64_t position)
{
	struct evbuffer_iovec pieces[sizeof(uint32_t)];
	uint32_t state = MESSAGE_CANCELLED;
	const uint8_t *from = (const uint8_t *)&state;
	size_t left = sizeof(state);
	struct evbuffer_ptr at;

	if (!buffer || evbuffer_get_length(buffer) < position + left ||
	    evbuffer_ptr_set(buffer, &at, position, EVBUFFER_PTR_SET) < 0 ||
	    evbuffer_peek(buffer, (ev_ssize_t)left, &at, pieces, sizeof(uint32_t)) < 1)
		return -ECONNRESET;
	for (unsigned i = 0; left > 0; i++) {
		size_t size = pieces[i].iov_len < left ? pieces[i].iov_len : left;

		memcpy(pieces[i].iov_base, from, size);
		from += size;
		left -= size;
	}
	return -ECANCELED;
}

int channel_cancel_queued(struct channel_end *out, uint64_t offset)
{
	return cancel_in(out->queue, offset - out->sent);
}

/* Marks a message that was cancelled where its program has it, so that no other one gets it. */
static void cancel_in_copy(const struct channel *channel, uint64_t offset)
{
	const struct sharing *sharing = channel->sharing;

	if (sharing && offset >= sharing->from)
		cancel_in(sharing->copy, offset - sharing->from);
}

/* Cancels a message whose state word lies on the other side of the acceptor's hop. */
static void cancel_beyond(struct channel *channel, uint64_t offset)
{
	struct channel_end *out = &channel->acceptor;
	struct channel_cancel *cancel;
	uint32_t *word = NULL;
	int r = -EINPROGRESS;

	if (find_cancel(channel, offset)) /* a second request gets no second answer */
		return;
	if (out->hop->traits->release_means_taken)
		r = hop_handed_word(out->hop, out, offset, &word);
	if (r == 0) {
		r = cancel_word(word);
		if (r == -ECANCELED)
			cancel_in_copy(channel, offset);
		answer_cancel(&channel->opener, offset, r);
		return;
	}
	cancel = r == -ENOENT ? NULL
			      : cancels_await_answer(channel, offset, r == -EALREADY ? RELEASED : UNASKED);
	if (!cancel)
		answer_cancel(&channel->opener, offset, -ECONNRESET);
	else if (cancel->list == UNASKED)
		channel_mark_urgent(out);
}

/* Whether a message's state word, which its opener has sent whole, can be there. */
static bool can_be_state(const struct channel *channel, uint64_t offset)
{
	uint64_t received = channel->opener.received;

	return channel->kind != CHANNEL_STREAM && !(offset & 7) && offset <= received &&
	       received - offset >= MESSAGE_TRAILER_SIZE;
}

int channel_cancel(struct channel_end *end, uint64_t offset)
{
	struct channel_end *out = channel_other(end);

	switch_spend(end->channel->board, end->hop->account, COST_CANCEL);
	if (channel_is_reset(end) || !out->hop || hop_is_retired(out->hop)) /* a RESET tells */
		return 0;
	if (!end->is_opener || !can_be_state(end->channel, offset))
		return -EPROTO;
	if (offset < out->consumed)
		answer_cancel(end, offset, 0);
	else if (offset >= out->sent)
		answer_cancel(end, offset, offset < out->begun ? 0 : channel_cancel_queued(out, offset));
	else if (offset < sharing_base_to(end->channel->sharing)) /* with a program that is gone */
		answer_cancel(end, offset, -ECONNRESET);
	else
		cancel_beyond(end->channel, offset);
	return 0;
}

int channel_cancelled(struct channel_end *end, const struct frame_cancelled *cancelled)
{
	struct channel *channel = end->channel;
	struct channel_cancel *cancel;
	int result = cancelled->result == 0 || cancelled->result == ECANCELED ? -(int)cancelled->result
									      : -ECONNRESET;

	if (end->is_opener)
		return -EPROTO;
	cancel = find_cancel(channel, sharing_base_to(channel->sharing) + cancelled->offset);
	/* Otherwise we have already answered that the outcome is unknown. */
	if (!cancel || cancel->list == RELEASED)
		return 0;
	if (result == -ECANCELED)
		cancel_in_copy(channel, cancel->offset);
	cancel_settle(channel->cancels, cancel, result);
	return 0;
}

void cancels_left(struct channel *channel, uint64_t begin)
{
	struct channel_cancel *cancel, *next;

	if (!channel->cancels)
		return;
	HASH_ITER(hh, channel->cancels->all, cancel, next) {
		switch_spend(channel->board, channel->charge.account, WALK_COST);
		cancel_settle(channel->cancels, cancel,
			      cancel->offset < begin
				      ? -ECONNRESET
				      : channel_cancel_queued(&channel->acceptor, cancel->offset));
	}
}

/* Takes one that was read into the channel's, which has paid for it. */
static void cancel_take(struct image *image, struct channel *channel, const struct channel_cancel *read)
{
	struct channel_cancels *cancels = cancels_of(channel);
	struct channel_cancel *cancel = cancels ? malloc(sizeof(*cancel)) : NULL;

	if (cancel)
		*cancel = *read;
	if (!cancel || !cancel_enter(cancels, cancel)) {
		free(cancel);
		image_fail(image, -ENOMEM);
	}
}

/* Whether somebody is there to be asked, or answered: else a RESET tells, and the next daemon has no need of
 * it. */
static bool goes_over(const struct channel *channel, unsigned list)
{
	return list == ANSWERED ? channel->opener.hop != NULL : channel->acceptor.hop != NULL;
}

static void cancel_image(struct image *image, struct channel *channel, struct channel_cancel *cancel)
{
	uint32_t list = cancel->list, error = (uint32_t)-cancel->result;

	image_u64(image, &cancel->offset);
	image_upto(image, &list, LISTS - 1);
	image_upto(image, &error, ERROR_MAX);
	if (!image->is_read)
		return;
	cancel->list = (enum cancel_list)list;
	cancel->result = -(int)error;
	image_expect(image, can_be_state(channel, cancel->offset) && goes_over(channel, list) &&
				    (list == ANSWERED || !find_cancel(channel, cancel->offset)));
	if (!image->error)
		cancel_take(image, channel, cancel);
}

void cancels_image(struct image *image, struct channel *channel)
{
	struct channel_cancels *cancels = channel->cancels;
	struct channel_cancel *cancel, read;
	uint32_t count = 0;

	for (unsigned i = 0; cancels && i < LISTS; i++)
		if (goes_over(channel, i))
			DL_FOREACH(cancels->lists[i], cancel)
				count++;
	image_upto(image, &count, CANCELS_MAX);
	image_expect(image, (uint64_t)count * CANCEL_COST <= channel->charge.held[QUOTA_BYTES]);
	for (unsigned i = 0; cancels && i < LISTS; i++)
		if (goes_over(channel, i))
			DL_FOREACH(cancels->lists[i], cancel)
				cancel_image(image, channel, cancel);
	for (; image->is_read && !image->error && count; count--) {
		read = (struct channel_cancel){0};
		cancel_image(image, channel, &read);
	}
	if (image->is_read && channel->cancels)
		timer_start(channel->cancels->timer, channel->board->cancel_ms + 1);
}

void cancels_free(struct channel *channel)
{
	struct channel_cancels *cancels = channel->cancels;
	struct channel_cancel *cancel, *next;

	if (!cancels)
		return;
	HASH_CLEAR(hh, cancels->all);
	for (unsigned i = 0; i < LISTS; i++)
		DL_FOREACH_SAFE(cancels->lists[i], cancel, next)
			free(cancel);
	task_cancel(&cancels->overdue);
	event_free(cancels->timer);
	free(cancels);
	channel->cancels = NULL;
}

/* --- withdrawals ------------------------------------------------------------------------------ */

struct channel_withdrawals {
	uint32_t first, count;
	uint32_t numbers[WITHDRAWALS_MAX]; /* a circular buffer */
};

/* Returns the channel's, made at first use. NULL: the opener's account has no room, or there is no memory. */
static struct channel_withdrawals *withdrawals_of(struct channel *channel)
{
	if (channel->withdrawals ||
	    charge_add(&channel->charge, QUOTA_BYTES, sizeof(struct channel_withdrawals)) < 0)
		return channel->withdrawals;
	channel->withdrawals = calloc(1, sizeof(struct channel_withdrawals));
	if (!channel->withdrawals)
		charge_release(&channel->charge, QUOTA_BYTES, sizeof(struct channel_withdrawals));
	return channel->withdrawals;
}

int channel_withdraw(struct channel_end *end, uint32_t number)
{
	struct channel *channel = end->channel;
	struct channel_end *out = channel_other(end);
	struct channel_withdrawals *withdrawals;

	if (channel_is_reset(end))
		return 0;
	if (!end->is_opener || channel->kind != CHANNEL_CALL)
		return -EPROTO;
	if (!out->hop || hop_is_retired(out->hop) || channel_is_reset(out)) /* a RESET tells */
		return 0;
	latency_withdrawn(channel, number);
	withdrawals = withdrawals_of(channel);
	if (!withdrawals || withdrawals->count == WITHDRAWALS_MAX)
		return 0;
	withdrawals->numbers[(withdrawals->first + withdrawals->count++) % WITHDRAWALS_MAX] = number;
	channel_mark_urgent(out);
	return 0;
}

bool withdrawals_next_frame(struct channel_end *end, struct channel_frame *frame)
{
	struct channel_withdrawals *withdrawals = end->is_opener ? NULL : end->channel->withdrawals;

	if (!withdrawals)
		return false;
	frame->header.type = FRAME_WITHDRAW;
	frame->header.length = frame_u32_encode(withdrawals->numbers[withdrawals->first++ % WITHDRAWALS_MAX],
						frame->payload);
	if (--withdrawals->count == 0)
		withdrawals_free(end->channel);
	return true;
}

void withdrawals_free(struct channel *channel)
{
	if (!channel->withdrawals)
		return;
	charge_release(&channel->charge, QUOTA_BYTES, sizeof(struct channel_withdrawals));
	free(channel->withdrawals);
	channel->withdrawals = NULL;
}
