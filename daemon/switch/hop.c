/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Making, attaching, detaching and freeing a hop. */

#include <errno.h>
#include <stdlib.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "base/cost.h"
#include "base/quota.h"
#include "base/timer.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/channel_internal.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_internal.h"
#include "daemon/switch/inner.h"
#include "daemon/switch/traits.h"
#include "wire/ut.h"

#define AT_ONCE 64u /* ends that turn out to have no frame */

int hop_init(struct hop *hop, struct switchboard *board, enum hop_kind kind,
	     const struct hop_callbacks *callbacks, void *owner, uint32_t parity, uint32_t channels_max)
{
	*hop = (struct hop){
		.board = board,
		.traits = &hop_traits[kind],
		.callbacks = callbacks,
		.owner = owner,
		.taken.poll_ms = HOP_POLL_FIRST_MS,
		.waiting.stuck = true, /* while detached, nothing may wait for it */
		.image_number = HOP_NOT_IN_IMAGE,
	};
	channel_table_init(&hop->channels, parity, channels_max);
	task_init(&hop->input, &board->turns, NULL, hop_on_turn);
	hop->waiting.stuck_timer = evtimer_new(board->base, hop_on_stuck, hop);
	hop->taken.timer = evtimer_new(board->base, hop_on_poll, hop);
	if (hop->waiting.stuck_timer && hop->taken.timer)
		return 0;
	hop_cleanup(hop);
	return -ENOMEM;
}

struct hop *hop_new(struct switchboard *board, enum hop_kind kind, const struct hop_callbacks *callbacks,
		    void *owner, uint32_t parity, uint32_t channels_max)
{
	struct hop *hop = malloc(sizeof(*hop));

	if (hop && hop_init(hop, board, kind, callbacks, owner, parity, channels_max) < 0) {
		free(hop);
		hop = NULL;
	}
	return hop;
}

void hop_set_kind(struct hop *hop, enum hop_kind kind)
{
	hop->traits = &hop_traits[kind];
}

void hop_set_domid(struct hop *hop, uint32_t domid)
{
	uint8_t payload[4];

	if (!hop->who.is_known || hop->who.identity.domid == domid)
		return;
	hop->who.identity.domid = domid;
	/* A program that doesn't read its answers is cut off anyway when it asks something. */
	hop_send(hop, FRAME_SELF, 0, 0, payload, frame_u32_encode(domid, payload));
}

void hop_set_account(struct hop *hop, struct account *account)
{
	hop->account = account;
	task_init(&hop->input, &hop->board->turns, account_line(account), hop_on_turn);
}

/* `has_seen`: what was taken is still to be counted. */
static void hop_begin(struct hop *hop, bool has_seen)
{
	if (hop->traits->is_paced)
		outlet_pace(&hop->out[hop->traits->accepted_outlet]);
	hop->waiting.stuck = false;
	hop->taken.pending = has_seen;
	hop_change(hop, HOP_IS_ATTACHED);
	if (hop_is_marked(hop, MARK_FAILED)) /* of what its owner is still to be told */
		hop_change(hop, HOP_IS_FAILING);
	hop_mark(hop, MARK_DIRTY);
}

int hop_attach(struct hop *hop, const struct hop_rings *rings)
{
	int r;

	hop->in = (struct inlet){.missing = 1};
	hop->sure = 0;
	r = ring_reader_init(&hop->in.reader, &rings->in, rings->adopt);
	for (unsigned i = 0; i < hop->traits->outlets && r == 0; i++)
		r = outlet_attach(&hop->out[i], &rings->out[i], hop->traits, &hop->tx, rings->adopt);
	if (r == 0 && hop->keeps_copy)
		r = outlet_keep_copy(&hop->out[OUTLET_MAIN]);
	if (r < 0)
		return r;
	hop_begin(hop, false);
	return 0;
}

int hop_attach_again(struct hop *hop, const struct hop_rings *rings)
{
	struct ring_reader *reader = &hop->in.reader;
	uint32_t tail = reader->tail;
	int r = ring_reader_init(reader, &rings->in, rings->adopt);

	if (r == 0 && !rings->adopt) {
		reader->tail = reader->released = reader->head = tail;
		r = ring_reader_ready(reader, UINT32_MAX);
	}
	for (unsigned i = 0; i < hop->traits->outlets && r >= 0; i++)
		r = outlet_attach_again(&hop->out[i], &rings->out[i], hop->traits, &hop->tx, rings->adopt);
	if (r < 0)
		return r;
	if (rings->adopt) /* positions in the rings are others now */
		hop->taken.pending = false;
	hop_begin(hop, hop->taken.pending);
	return 0;
}

void hop_guard(struct hop *hop, bool guarded, bool keeps_copy)
{
	hop->guarded = guarded;
	hop->keeps_copy = keeps_copy;
}

void hop_attach_begun(struct hop *hop, const struct ring_reader *in, const struct ring_writer *out)
{
	struct outlet *outlet = &hop->out[OUTLET_MAIN];

	hop->in = (struct inlet){.missing = 1, .reader = *in, .sequence = 1, .position = in->tail};
	hop->sure = out->head; /* our HELLO was given out already */
	*outlet =
		(struct outlet){.traits = hop->traits, .tx = &hop->tx, .sequence = 1, .position = out->head};
	hop_begin(hop, false);
	hop_move_outlet(hop, out);
}

/* Takes the rings away, but leaves what is the session's. */
static void leave_rings(struct hop *hop, enum hop_change change)
{
	hop_change(hop, change);
	hop_unmark(hop, MARK_FAILED); /* what failed is over */
	hop->moving = (struct moving){0};
	hop->is_to_notify = false;
	hop->guarded = hop->keeps_copy = false;
	hop->waiting.stuck = true;
	hop_stop_waiting(hop);
	hop_unmark(hop, MARK_TO_NOTIFY);
	task_cancel(&hop->input);
	hop_unmark(hop, MARK_AWAKE);
	evtimer_del(hop->taken.timer);
	hop_release_waiters(hop);
}

void hop_detach(struct hop *hop)
{
	if (!hop_has_rings(hop) && hop->life != HOP_PAUSED)
		return;
	leave_rings(hop, HOP_IS_DETACHED);
	hop->holds_input = hop->is_silent = false;
	hop->sure = 0;
	hop_drop_replay(hop);
	refused_clear(&hop->refused);
	for (unsigned i = 0; i < hop->traits->outlets; i++)
		outlet_detach(&hop->out[i]);
	hop_drop_unsent(hop);
	charge_end(&hop->queued);
	hop->beyond = 0;
}

/* --- a session without rings ------------------------------------------------------------------ */

int hop_pause(struct hop *hop)
{
	int r;

	if (!hop_has_rings(hop))
		return 0;
	r = hop_keep_for_replay(hop);
	if (r < 0) {
		hop_detach(hop);
		return r;
	}
	if (hop_is_sound(hop))
		hop->sure = hop_sent(hop);
	leave_rings(hop, HOP_IS_PAUSED);
	return 0;
}

uint64_t hop_given_out(const struct hop *hop)
{
	return hop->sure;
}

uint64_t hop_acked(const struct hop *hop)
{
	return hop_sent(hop) - (hop->replay.size - hop->replay.written);
}

uint64_t hop_received(const struct hop *hop)
{
	return hop->in.position;
}

void hop_resume(struct hop *hop, const struct ring_reader *in, const struct ring_writer *out,
		uint64_t received)
{
	hop->in = (struct inlet){
		.missing = 1,
		.reader = *in,
		.progress = hop->in.progress,
		.sequence = hop->in.sequence,
		.position = hop->in.position,
	};
	hop->replay.written += (uint32_t)(received - hop_acked(hop));
	if (hop->replay.written == hop->replay.size)
		hop_drop_replay(hop);
	hop_begin(hop, false);
	hop_move_outlet(hop, out);
}

/* --- the end ---------------------------------------------------------------------------------- */

bool hop_is_unsure(const struct hop *hop)
{
	return !hop->said_goodbye || (hop->error && hop->error != -ECONNRESET);
}

static void lose_channel(struct hop *hop, struct channel_end *end, int error)
{
	channel_lost(end, error, hop_is_unsure(hop) ? end->sent : end->consumed);
}

void hop_reset_channels(struct hop *hop, int error)
{
	struct channel_end *end;
	uint32_t number = 0;

	hop_spend(hop, hop->channels.count * COST_CHANNEL_END);
	while ((end = channel_table_next(&hop->channels, &number)))
		lose_channel(hop, end, error);
}

static void free_retired(struct hop *hop)
{
	hop_unmark(hop, MARK_RETIRED);
	hop_cleanup(hop);
	free(hop);
}

static void end_some_channels(struct task *task)
{
	struct hop *hop = (struct hop *)((char *)task - offsetof(struct hop, input));
	uint64_t from = hop->board->turns.spent;
	struct channel_end *end;

	while (hop->board->turns.spent - from < HOP_PIECE_UNITS &&
	       (end = channel_table_next(&hop->channels, &hop->retired.number))) {
		hop_spend(hop, COST_CHANNEL_END);
		lose_channel(hop, end, hop->retired.error);
	}
	if (hop->channels.count)
		task_due(task);
	else
		free_retired(hop);
}

void hop_retire(struct hop *hop, int error)
{
	static const struct hop_callbacks none;

	hop->image_number = HOP_NOT_IN_IMAGE;
	hop->retired = (struct retired){.error = error};
	hop_detach(hop);
	hop_unmark(hop, MARK_FAILED);
	hop->guarded = false;
	hop->callbacks = &none;
	hop->owner = NULL;
	task_cancel(&hop->input);
	task_init(&hop->input, &hop->board->turns, account_line(hop->account), end_some_channels);
	hop_change(hop, HOP_IS_RETIRED);
	hop_mark(hop, MARK_RETIRED);
	if (hop->channels.count)
		task_due(&hop->input);
	else
		free_retired(hop);
}

void hop_free_retired(struct switchboard *board)
{
	struct hop *hop;

	while ((hop = board->marked[MARK_RETIRED])) {
		hop_reset_channels(hop, hop->retired.error);
		free_retired(hop);
	}
}

void hop_set_parity(struct hop *hop, uint32_t parity)
{
	if (!hop->channels.count)
		hop->channels.parity = hop->channels.next = parity;
}

void hop_cleanup(struct hop *hop)
{
	hop_detach(hop);
	hop_reset_channels(hop, ECONNRESET);
	hop_unmark(hop, MARK_DIRTY);
	hop_unmark(hop, MARK_FAILED);
	hop_drop_unsent(hop);
	free_event(hop->waiting.stuck_timer);
	free_event(hop->taken.timer);
	channel_table_free(&hop->channels);
	refused_clear(&hop->refused);
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		outlet_detach(&hop->out[i]); /* an image may have filled one that was never attached */
	hop_drop_replay(hop);		     /* likewise */
	charge_end(&hop->queued);
	task_cancel(&hop->input);
	account_unref(hop->account);
	hop->account = NULL;
	hop->waiting.stuck_timer = hop->taken.timer = NULL;
}

uint32_t hop_unacknowledged(struct hop *hop)
{
	int unread = hop_has_rings(hop) ? ring_writer_unread(&hop->out[OUTLET_MAIN].writer) : 0;

	return (unread < 0 ? 0 : (uint32_t)unread) + hop->replay.size - hop->replay.written;
}

/* --- traits ----------------------------------------------------------------------------------- */

const struct hop_traits hop_traits[HOP_KINDS] = {
	[HOP_LINK] =
		{
			.outlets = 1,
			.first_chunk = 8192, /* waking it up takes longer than filling the rest */
			.numbers_frames = true,
			.whole_frames = true,
			.is_daemon = true,
		},
	[HOP_SHARED] =
		{
			.outlets = 2,
			.accepted_outlet = OUTLET_DELIVERIES,
			.first_chunk = HOP_CHUNK,
			.asks = true,
			.whole_frames = true,
			.release_means_taken = true,
			.is_paced = true,
		},
	[HOP_SOCKET] =
		{
			.outlets = 1,
			.first_chunk = HOP_CHUNK,
			.asks = true,
		},
	[HOP_REPORTING] =
		{
			.outlets = 1,
			.first_chunk = HOP_CHUNK,
			.asks = true,
			.is_paced = true,
		},
	[HOP_MUX] =
		{
			.outlets = 1,
			.first_chunk = HOP_CHUNK,
			.asks = true,
			.whole_frames = true,
			.tells_late = true,
		},
	[HOP_STREAM] =
		{
			.outlets = 2,
			.accepted_outlet = OUTLET_DELIVERIES,
			.opened_outlet = OUTLET_DELIVERIES,
			.first_chunk = HOP_CHUNK,
			.whole_frames = true,
		},
	[HOP_WAITING_ROOM] =
		{
			.outlets = 1,
			.first_chunk = HOP_CHUNK,
			.is_waiting_room = true,
		},
	[HOP_TOPIC] =
		{
			.outlets = 1,
			.first_chunk = HOP_CHUNK,
			.is_inner = true,
			.is_topic = true,
		},
	[HOP_DAEMON] =
		{
			.outlets = 1,
			.first_chunk = HOP_CHUNK,
			.is_inner = true,
		},
};

/* --- inner hops ------------------------------------------------------------------------------- */

bool inner_next_frame(struct hop *hop, struct channel_end **out, struct channel_frame *frame)
{
	struct channel_end *end;

	for (unsigned i = 0; i < AT_ONCE && (end = hop->urgent); i++) {
		switch_spend(hop->board, end->channel->charge.account, COST_CONTROL);
		if (channel_next_control(end, frame)) {
			*out = end;
			return true;
		}
		DL_DELETE2(hop->urgent, end, urgent_prev, urgent_next);
		end->in_urgent = false;
		channel_check_ended(end);
	}
	return false;
}

void inner_wait_for_data(struct channel_end *end)
{
	if (!end->in_backlog)
		return;
	end->in_backlog = false;
	DL_DELETE2(*hop_backlog(end->hop, end), end, backlog_prev, backlog_next);
}

void inner_taken(struct channel_end *end, size_t length)
{
	switch_spend(end->hop->board, end->channel->charge.account, COST_BYTES(length));
	inner_taken_over(end, length);
}

void inner_taken_over(struct channel_end *end, size_t length)
{
	switch_spend(end->hop->board, end->channel->charge.account, COST_FRAME);
	end->sent += length;
	channel_taken(end, end->sent);
	hop_had_turn(end);
	inner_wait_for_data(end);
	if (channel_has_backlog(end))
		channel_mark_backlog(end); /* behind the others: it may have more for ever */
	else
		channel_backlog_gone(end);
}

void inner_fin(struct channel_end *end)
{
	if (end->in == IN_OPEN)
		channel_fin(end, end->received);
}

void inner_reset(struct channel_end *end, int error)
{
	const struct frame_reset reset = {.error = (uint32_t)error,
					  .consumed = end->consumed,
					  .unsure = end->begun > end->consumed ? end->begun : end->consumed};

	if (end->hop && end->in != IN_RESET)
		channel_reset(end, &reset);
}

void inner_has(struct channel_end *end)
{
	if (end->out == OUT_NEW)
		channel_move(end, OPEN_SENT);
}

int inner_open(struct hop *hop, enum channel_kind kind, const struct frame_identity *identity,
	       struct channel **channel)
{
	uint32_t number;
	int r = channel_table_number(&hop->channels, &number);

	if (r == 0)
		r = channel_new(hop, number, kind, identity, channel);
	return r;
}
