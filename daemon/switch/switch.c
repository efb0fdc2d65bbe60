/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The hops of one event loop together: the phases of a pass, and the freeing of ended channels. */

#include <sched.h>

#include <event2/event.h>

#include "daemon/switch/channel.h"
#include "daemon/switch/program_socket.h"
#include "base/carried_memory.h"
#include "base/cost.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_internal.h"
#include "daemon/switch/orphans.h"
#include "daemon/switch/private_ring.h"
#include "wire/ut.h"

#define CANCEL_MS	   2000
#define LAST_PASSES	   100	   /* when the daemon stops */
#define YIELD_NS	   500000u /* less than a slice of a scheduler, and more than an answer takes */
#define YIELDS_SKIPPED_MAX 64u

/* --- a pass ----------------------------------------------------------------------------------- */

/* Writes a piece of each dirty hop's output, one after the other, up to what a task may do in a turn. A hop
 * that has more to write, or isn't reached, writes after the next input. */
static void write_output(struct switchboard *board)
{
	struct hop *hop, *first = board->marked[MARK_DIRTY],
			 *last = first ? first->marks[MARK_DIRTY].prev : NULL;
	uint64_t from = board->turns.spent;

	while ((hop = board->marked[MARK_DIRTY]) && !turns_are_over(&board->turns) &&
	       board->turns.spent - from < TURNS_PIECE) {
		hop_unmark(hop, MARK_DIRTY);
		hop_emit(hop);
		if (hop == last)
			break;
	}
}

static void tell_of_failures(struct switchboard *board)
{
	struct hop *hop;

	while ((hop = board->marked[MARK_FAILED]) && !turns_are_over(&board->turns)) {
		hop_unmark(hop, MARK_FAILED);
		hop_spend(hop, COST_CONNECTION);
		hop->callbacks->failed(hop->owner, hop->error, hop->why);
	}
}

/* Whether a program may be notified later in this pass, since there may be more for it: it is told of less
 * than half a ring, of bytes or of room. Otherwise it would wake up for each piece, and sleep again. */
static bool may_be_notified_later(const struct switchboard *board, struct hop *hop)
{
	const struct ring_reader *in = &hop->in.reader;

	if (!board->turns.due || !hop_has_rings(hop) ||
	    board->turns.spent - hop->to_notify_since >= TURNS_PIECE)
		return false;
	if (hop->has_made_room && in->head - in->released <= in->ring.size / 2)
		return false;
	for (unsigned i = 0; i < hop->traits->outlets; i++)
		if (ring_writer_unread(&hop->out[i].writer) >= (int)(outlet_limit(&hop->out[i]) / 2))
			return false;
	return true;
}

static void notify_programs(struct switchboard *board)
{
	struct hop *hop;

	/* Those behind one that may wait do so, too: to look at all of them after each turn takes long. */
	while ((hop = board->marked[MARK_TO_NOTIFY]) && !turns_are_over(&board->turns) &&
	       !may_be_notified_later(board, hop)) {
		hop_unmark(hop, MARK_TO_NOTIFY);
		if (hop->calls.is_long) {
			hop->is_to_notify = true; /* when its account can pay */
			hop_due(hop);
			continue;
		}
		hop_notify_now(hop);
		hop_let_go_on(hop);
	}
}

/* Whether the hop's program, which was let go on, has sent or taken something. */
static bool has_gone_on(struct hop *hop)
{
	return hop->in.was_woken && (hop_has_input(hop) || hop_has_taken(hop));
}

/* Makes those due that have gone on. Returns whether any has. */
static bool take_gone_on(const struct switchboard *board)
{
	struct hop *hop;
	bool found = false;

	DL_FOREACH2(board->marked[MARK_AWAKE], hop, marks[MARK_AWAKE].next)
		if (has_gone_on(hop)) {
			hop_due(hop);
			found = true;
		}
	return found;
}

/* Notes whether it was worth it to yield, which it isn't where others have the CPU for long. Where it was in
 * vain it is tried less and less. */
static void note_yield(struct switchboard *board, bool was_worth_it)
{
	board->yields_skipped = 0;
	if (was_worth_it)
		board->yields_to_skip = 0;
	else if (board->yields_to_skip < YIELDS_SKIPPED_MAX)
		board->yields_to_skip = board->yields_to_skip ? 2 * board->yields_to_skip : 1;
}

/*
 * On one CPU a program has been interrupted by its own notification. If we asked for the next one at once, it
 * would be interrupted again by its next message, and so on. So we let it go on until it has nothing more to
 * send or no room, and look a second time before we ask. Measured: 64-byte messages 5.9 -> 11.2 M/s through
 * the whole chain.
 *
 * A program that we have notified is let go on, too: its answer is found when we look again, and neither has
 * to notify the other. Measured: round trips of 32 bytes 11.7 -> 10.1 us. Where it has nothing to send, or
 * runs on another CPU, that is a system call in vain.
 */
static void let_programs_go_on(struct switchboard *board)
{
	struct hop *hop;
	bool found = take_gone_on(board);

	board->woken = false;
	if (!found && board->yields_skipped < board->yields_to_skip) {
		board->yields_skipped++;
		board->skipped_yield = true;
		return;
	}
	if (!found) {
		uint64_t before = switch_now(board); /* mostly since it was notified */

		sched_yield();
		board->now_ns = clock_ns();
		note_yield(board, take_gone_on(board) && board->now_ns - before < YIELD_NS);
	}
	DL_FOREACH2(board->marked[MARK_AWAKE], hop, marks[MARK_AWAKE].next)
		hop->in.was_woken = false;
}

static void switch_ask(struct hop *hop)
{
	if (!hop_is_up(hop) || hop->input.is_due || hop_is_marked(hop, MARK_DIRTY))
		return; /* it gets a turn anyway */
	if (hop_ask_for_input(hop))
		hop_due(hop);
	hop_ask_for_output(hop);
}

/* Asks for notifications before the loop looks elsewhere, and perhaps sleeps. A hop that has moved meanwhile
 * is made due again. */
static void ask_for_notifications(struct switchboard *board)
{
	struct hop *hop;

	while ((hop = board->marked[MARK_AWAKE])) {
		hop_unmark(hop, MARK_AWAKE);
		hop->in.was_woken = false;
		switch_ask(hop);
	}
	board->woken = false;
}

static void free_ended(struct switchboard *board)
{
	struct channel *channel;

	while ((channel = board->ended)) {
		board->ended = channel->ended_next;
		channel_free(channel);
	}
}

bool switch_is_busy(const struct switchboard *board)
{
	return board->turns.due || board->marked[MARK_DIRTY] || board->marked[MARK_FAILED] ||
	       board->marked[MARK_TO_NOTIFY] || board->marked[MARK_AWAKE];
}

/* Runs the phases once. False: no task is due, or it waits for the next pass. */
static bool take_turn(struct switchboard *board)
{
	bool took_input = turns_run(&board->turns);

	write_output(board);
	tell_of_failures(board);
	notify_programs(board);
	return took_input && board->turns.due && !turns_are_over(&board->turns);
}

static bool pass(void *userdata)
{
	struct switchboard *board = userdata;
	bool is_busy;

	board->now_ns = 0;
	board->skipped_yield = false;
	do {
		while (take_turn(board))
			;
		if (board->woken && !turns_are_over(&board->turns))
			let_programs_go_on(board);
		else
			ask_for_notifications(board);
		is_busy = switch_is_busy(board);
	} while (is_busy && !turns_are_over(&board->turns));
	free_ended(board);
	switch_check(board);
	return is_busy;
}

void switch_pass(struct switchboard *board)
{
	turns_pass(&board->turns);
}

void switch_run(struct switchboard *board, unsigned passes)
{
	turns_wake_all(&board->turns);
	do
		switch_pass(board);
	while (switch_is_busy(board) && --passes);
}

/* --- life ------------------------------------------------------------------------------------- */

int switch_init(struct switchboard *board, struct event_base *base, uint64_t max_message)
{
	int r;

	*board = (struct switchboard){.base = base,
				      .max_message = max_message,
				      .cancel_ms = CANCEL_MS,
				      .orphans_patience_ms = ORPHANS_PATIENCE_MS};
	r = carried_new(&board->rings, sizeof(struct private_rings));
	if (r == 0)
		r = turns_init(&board->turns, base, pass, board);
	if (r < 0)
		carried_free(board->rings);
	else
		program_sockets_begin();
	return r;
}

void switch_cleanup(struct switchboard *board)
{
	turns_wake_all(&board->turns);
	hop_free_retired(board);
	/* The owners of what ends now are told, and it is freed. Work that others have left there is
	 * dropped. */
	for (int passes = 0; passes < LAST_PASSES && (passes == 0 || switch_is_busy(board)); passes++)
		switch_pass(board);
	turns_cleanup(&board->turns);
	carried_free(board->rings);
	program_sockets_end();
}
