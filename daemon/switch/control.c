/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Frames that aren't DATA: those of the session itself, which may have to wait, and what all output needs.
 * And marks of what is to be done for a hop and its channels in the phases of a pass (switch.c). */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "base/cost.h"
#include "base/timer.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_internal.h"
#include "wire/ut.h"

#define CONTROL_MAX 4194304u /* bytes of session frames that may wait for a reader */
#define MUCH	    8192     /* bytes */
#define STUCK_MS    10
#define STUCK_BYTES 16384u /* fewer bytes than this in that time: stuck */

void hop_outlet_failed(struct hop *hop, int error)
{
	hop_fail(hop, error, error == -ENOMEM ? "out of memory" : "impossible consumer index in the ring");
}

/* Looks before positions are given out, when everything that has them is in the ring: from here on this
 * domain and an image of it do the same. False: the hop has failed. */
static bool may_give_out(struct hop *hop)
{
	if (!outlet_close(&hop->out[OUTLET_MAIN]))
		return true;
	if (!hop_is_sound(hop)) {
		hop_fail(hop, -ENOLINK, "this domain was restored");
		return false;
	}
	hop->sure = hop_sent(hop);
	return true;
}

void hop_publish(struct hop *hop)
{
	bool wanted = false;

	if (hop->guarded && !may_give_out(hop))
		return;
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		wanted |= outlet_is_ahead(&hop->out[i]) && outlet_publish(&hop->out[i]);
	if (wanted)
		hop_notify(hop);
}

void hop_put_frame(struct hop *hop, struct account *account, const struct frame_header *header,
		   const void *payload)
{
	switch_spend(hop->board, account, COST_CONTROL + COST_BYTES(header->length));
	outlet_put(&hop->out[OUTLET_MAIN], header, payload);
}

/* Charges for a queue that grows to `size` bytes. -ENOBUFS. */
static int charge_queue(struct hop *hop, size_t size)
{
	if (size <= HOP_CONTROL_FREE + hop->queued.held[QUOTA_BYTES])
		return 0;
	if (!hop->queued.account)
		charge_init(&hop->queued, hop->account);
	return charge_add(&hop->queued, QUOTA_BYTES, HOP_CONTROL_FREE);
}

void hop_drop_unsent(struct hop *hop)
{
	if (hop->control)
		evbuffer_free(hop->control);
	hop->control = NULL;
}

static bool can_put(struct hop *hop, uint32_t length)
{
	return hop_has_rings(hop) && !hop_has_unsent(hop) && !hop_is_held(hop) &&
	       hop_has_room(hop, frame_size(length));
}

/* Queues a frame as a whole, or not at all. */
static bool enqueue(struct hop *hop, const struct frame_header *header, const void *payload)
{
	struct evbuffer_iovec room;
	uint8_t *frame;

	if (!hop->control)
		hop->control = evbuffer_new();
	if (!hop->control || evbuffer_reserve_space(hop->control, frame_size(header->length), &room, 1) < 1)
		return false;
	frame = room.iov_base;
	memcpy(frame + FRAME_HEADER_SIZE, payload, header->length);
	room.iov_len = frame_wrap(frame, header);
	return evbuffer_commit_space(hop->control, &room, 1) == 0;
}

static int queue(struct hop *hop, const struct frame_header *header, const void *payload)
{
	if (!enqueue(hop, header, payload)) {
		if (!can_put(hop, header->length))
			return -ENOMEM;
		hop_put_frame(hop, hop->account, header, payload);
	}
	hop_mark(hop, MARK_DIRTY);
	return 0;
}

int hop_send(struct hop *hop, uint8_t type, uint8_t flags, uint32_t channel, const void *payload,
	     uint32_t length)
{
	struct frame_header header = {.length = length, .type = type, .flags = flags, .channel = channel};

	if (hop_is_retired(hop))
		return 0;
	/* A frame for a link waits only if there is no room, and every 64 KiB from the link need an ACK: in a
	 * busy stream the queue would allocate memory for each. A program's answers always go through the
	 * queue, so that it shows whether the program reads them. */
	if (hop->traits->is_daemon && can_put(hop, length)) {
		hop_put_frame(hop, hop->account, &header, payload);
		hop_mark(hop, MARK_DIRTY);
		return 0;
	}
	if (hop_unsent(hop) > CONTROL_MAX || charge_queue(hop, hop_unsent(hop) + frame_size(length)) < 0)
		return -ENOBUFS;
	return queue(hop, &header, payload);
}

int hop_answer(struct hop *hop, uint8_t type, uint32_t channel, const void *payload, uint32_t length)
{
	struct frame_header header = {.length = length, .type = type, .channel = channel};
	int r = hop_send(hop, type, 0, channel, payload, length);

	if (r != -ENOBUFS || !hop->traits->is_daemon || hop->beyond + frame_size(length) > HOP_CONTROL_FREE)
		return r;
	hop->beyond += frame_size(length);
	return queue(hop, &header, payload);
}

bool hop_fall_silent(struct hop *hop, uint8_t type, const void *payload, uint32_t length)
{
	struct frame_header header = {.length = length, .type = type};

	if (!hop_is_up(hop) || hop->urgent || hop_has_backlog(hop) || hop_has_unsent(hop) ||
	    hop_is_held(hop) || !hop_has_room(hop, frame_size(length)))
		return false;
	hop_put_frame(hop, hop->account, &header, payload);
	hop->is_silent = true;
	hop_mark(hop, MARK_DIRTY);
	return true;
}

void hop_speak(struct hop *hop)
{
	hop->is_silent = false;
	hop_mark(hop, MARK_DIRTY);
}

bool hop_emit_control(struct hop *hop)
{
	uint8_t encoded[FRAME_HEADER_SIZE], payload[FRAME_PAYLOAD_MAX + 8];
	struct frame_header header;

	if (!hop_has_unsent(hop))
		return true;
	while (hop_unsent(hop)) {
		uint32_t padded;

		if (hop_emit_is_over(hop))
			return false;

		evbuffer_copyout(hop->control, encoded, FRAME_HEADER_SIZE);
		if (frame_header_decode(encoded, &header) < 0) {
			hop_fail(hop, -EIO, "internal: bad frame in the queue");
			return false;
		}
		if (!hop_has_room(hop, frame_size(header.length)))
			return false;
		padded = frame_size(header.length) - FRAME_HEADER_SIZE;
		evbuffer_drain(hop->control, FRAME_HEADER_SIZE);
		evbuffer_remove(hop->control, payload, padded);
		hop_put_frame(hop, hop->account, &header, payload);
	}
	hop_drop_unsent(hop);
	charge_end(&hop->queued);
	hop->beyond = 0;
	return true;
}

int hop_handed_word(struct hop *hop, struct channel_end *end, uint64_t offset, uint32_t **word)
{
	int r;

	if (!hop_is_readable(hop))
		return -ENOENT;
	r = outlet_find_word(hop_outlet(hop, end), end, offset, word);
	if (r != -EPROTO)
		return r;
	hop_outlet_failed(hop, r);
	return -ENOENT;
}

int hop_find_released(struct hop *hop, const struct channel_end *end, uint64_t *offset, uint32_t *mark)
{
	int r = outlet_find_released(hop_outlet(hop, end), end, offset);

	if (r < 0)
		hop_outlet_failed(hop, r);
	else
		r = hop_mark_input(hop, mark);
	return r;
}

int hop_mark_input(struct hop *hop, uint32_t *mark)
{
	/* Reads the producer index only now: a RESET was sent before the release that we have just seen. */
	int r = ring_reader_ready(&hop->in.reader, UINT32_MAX);

	if (r < 0)
		hop_fail(hop, -EPROTO, "impossible producer index in the ring");
	*mark = hop->in.reader.head;
	return r < 0 ? r : 0;
}

void hop_reported(struct channel_end *end, uint64_t bytes)
{
	if (outlet_reported(hop_outlet(end->hop, end), end, bytes) && end->hop->backlogs[OUTLET_DELIVERIES])
		hop_mark(end->hop, MARK_DIRTY);
}

void hop_forget_end(struct hop *hop, struct channel_end *end)
{
	if (end->flight)
		hop_reported(end, end->flight);
	for (unsigned i = 0; i < hop->traits->outlets; i++)
		hop_spend(hop, outlet_forget(&hop->out[i], end));
}

/* --- marks ------------------------------------------------------------------------------------ */

void hop_mark_anew(struct hop *hop, enum hop_mark mark)
{
	hop->marks[mark].is_set = true;
	DL_APPEND2(hop->board->marked[mark], hop, marks[mark].prev, marks[mark].next);
	turns_want(&hop->board->turns);
}

void hop_unmark(struct hop *hop, enum hop_mark mark)
{
	if (!hop_is_marked(hop, mark))
		return;
	hop->marks[mark].is_set = false;
	DL_DELETE2(hop->board->marked[mark], hop, marks[mark].prev, marks[mark].next);
}

void channel_mark_urgent(struct channel_end *end)
{
	if (!end->hop)
		return;
	if (!end->in_urgent) {
		end->in_urgent = true;
		DL_APPEND2(end->hop->urgent, end, urgent_prev, urgent_next);
	}
	hop_mark(end->hop, MARK_DIRTY);
}

/* Returns the next turn of the account: behind its others, and in the first round that isn't over. So an
 * account with many channels has no more turns than one with a single channel. */
static uint64_t next_turn(struct hop *hop, const struct account *account)
{
	struct hop_last_turn *last = &hop->last_turns[((uintptr_t)account >> 6) % HOP_LAST_TURNS];

	if (!hop_has_backlog(hop)) /* who has waited for nothing in the end has no debts */
		hop->turn = hop->most_turn;
	*last = (struct hop_last_turn){
		.account = account,
		.turn = (last->account == account && last->turn > hop->turn ? last->turn : hop->turn) + 1};
	if (hop->most_turn < last->turn)
		hop->most_turn = last->turn;
	return last->turn;
}

void hop_await_turn(struct channel_end *end)
{
	struct channel_end **backlog = hop_backlog(end->hop, end), *before = *backlog;
	struct account *account = end->channel->charge.account;
	unsigned steps = 0;

	end->in_backlog = true;
	end->turn = next_turn(end->hop, account);
	if (!before || before->backlog_prev->turn <= end->turn) {
		DL_APPEND2(*backlog, end, backlog_prev, backlog_next);
		return;
	}
	for (; before->turn <= end->turn; before = before->backlog_next)
		steps++;
	switch_spend(end->hop->board, account, steps);
	DL_PREPEND_ELEM2(*backlog, before, end, backlog_prev, backlog_next);
}

void channel_mark_backlog(struct channel_end *end)
{
	if (!end->hop)
		return;
	if (!end->in_backlog)
		hop_await_turn(end);
	hop_mark(end->hop, MARK_DIRTY);
}

void hop_fail(struct hop *hop, int error, const char *format, ...)
{
	va_list args;

	if (hop_is_marked(hop, MARK_FAILED) || hop_is_retired(hop))
		return;
	hop->error = error;
	va_start(args, format);
	vsnprintf(hop->why, sizeof(hop->why), format, args);
	va_end(args);
	if (hop_has_rings(hop) && !hop_is_sound(hop)) { /* so the other end has done nothing wrong */
		hop->error = -ENOLINK;
		snprintf(hop->why, sizeof(hop->why), "this domain was restored");
	}
	hop_change(hop, HOP_IS_FAILING);
	hop_mark(hop, MARK_FAILED);
}

/* Whether the program was given so much that it will have taken, or filled, some of it when we look. */
static bool has_been_given_much(struct hop *hop)
{
	if (hop->has_made_room)
		return true;
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		if (ring_writer_unread(&hop->out[i].writer) >= MUCH)
			return true;
	return false;
}

void hop_notify_now(struct hop *hop)
{
	/* On one CPU the program runs at once, and takes what it got, and may answer, before we go on. It
	 * needn't notify us, since we look. */
	if (hop->traits->release_means_taken) {
		ring_reader_disarm(&hop->in.reader);
		for (unsigned i = 0; i < HOP_OUTLETS; i++)
			ring_writer_disarm(&hop->out[i].writer);
		hop->in.has_asked = false;
		if (has_been_given_much(hop))
			hop_due(hop);
	}
	hop->has_made_room = false;
	hop->tx.notifications++;
	hop_spend(hop, COST_SYSCALL);
	hop->board->now_ns = 0; /* it may run meanwhile */
	hop->callbacks->notify(hop->owner);
}

void hop_notify(struct hop *hop)
{
	if (hop->traits->is_daemon) {
		hop_notify_now(hop);
		return;
	}
	if (!hop_is_marked(hop, MARK_TO_NOTIFY))
		hop->to_notify_since = hop->board->turns.spent;
	hop_mark(hop, MARK_TO_NOTIFY);
}

/* --- waiting for room in the output of another hop -------------------------------------------- */

static void watch_stuck(struct hop *hop)
{
	if (evtimer_pending(hop->waiting.stuck_timer, NULL))
		return;
	hop->waiting.stuck_from = hop->out[OUTLET_MAIN].position;
	timer_start(hop->waiting.stuck_timer, STUCK_MS);
}

void hop_on_stuck(int fd, short what, void *userdata)
{
	struct hop *hop = userdata;

	if (!hop->waiting.waiters)
		return;
	if (hop->waiting.lacks) {
		hop_release_waiters(hop);
		hop_mark(hop, MARK_DIRTY);
		return;
	}
	if (hop->out[OUTLET_MAIN].position - hop->waiting.stuck_from >= STUCK_BYTES) {
		watch_stuck(hop); /* busy, not stuck */
		return;
	}
	hop->waiting.stuck = true;
	hop_release_waiters(hop);
	hop_mark(hop, MARK_DIRTY);
}

void hop_wait_for(struct hop *hop, struct hop *output)
{
	hop->waiting.blocked_on = output;
	/* A hop that was let go on and found no room stays the first. */
	if (hop->waiting.granted_by == output && !hop->in.has_moved)
		DL_PREPEND2(output->waiting.waiters, hop, waiting.prev, waiting.next);
	else
		DL_APPEND2(output->waiting.waiters, hop, waiting.prev, waiting.next);
	watch_stuck(output);
	hop_mark(output, MARK_DIRTY); /* so that it asks for room */
}

void hop_end_grant(struct hop *hop)
{
	struct hop *output = hop->waiting.granted_by;

	if (!output)
		return;
	hop->waiting.granted_by = output->waiting.granted = NULL;
	hop_mark(output, MARK_DIRTY); /* so that it lets the next one go on */
}

void hop_stop_waiting(struct hop *hop)
{
	hop_end_grant(hop);
	if (!hop->waiting.blocked_on)
		return;
	DL_DELETE2(hop->waiting.blocked_on->waiting.waiters, hop, waiting.prev, waiting.next);
	hop->waiting.blocked_on = NULL;
}

void hop_grant_next(struct hop *hop)
{
	struct hop *waiter = hop->waiting.waiters;

	if (!waiter || hop->waiting.granted)
		return;
	DL_DELETE2(hop->waiting.waiters, waiter, waiting.prev, waiting.next);
	waiter->waiting.blocked_on = NULL;
	waiter->waiting.granted_by = hop;
	hop->waiting.granted = waiter;
	hop_due(waiter);
	if (!hop->waiting.waiters)
		evtimer_del(hop->waiting.stuck_timer);
}

void hop_release_waiters(struct hop *hop)
{
	struct hop *waiter;

	if (hop->waiting.granted)
		hop->waiting.granted->waiting.granted_by = NULL;
	hop->waiting.granted = NULL;
	hop->waiting.lacks = false;
	while ((waiter = hop->waiting.waiters)) {
		DL_DELETE2(hop->waiting.waiters, waiter, waiting.prev, waiting.next);
		waiter->waiting.blocked_on = NULL;
		hop_due(waiter);
	}
	evtimer_del(hop->waiting.stuck_timer);
}
