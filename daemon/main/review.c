/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/main/review.h"

#include <stddef.h>

#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"

#define COST_LOOK   4u		      /* at a channel, beside what look() spends. Measured: 40 ns */
#define PIECE_UNITS (TURNS_PIECE / 2) /* before others have their turns */

static void begin_walk(struct review *review)
{
	review->now = review->next;
	review->next = 0;
	review->begun++;
	review->board->to_review = review->board->channels;
}

static void end_walk(struct review *review)
{
	review->now = 0;
	if (review->next)
		task_due(&review->task);
	review->over(review->userdata, review->begun);
}

static void on_turn(struct task *task)
{
	struct review *review = (struct review *)((char *)task - offsetof(struct review, task));
	struct switchboard *board = review->board;
	uint64_t until = board->turns.spent + PIECE_UNITS;
	struct channel *channel;

	if (!review->now)
		begin_walk(review);
	while (board->turns.spent < until && (channel = board->to_review)) {
		board->to_review = channel->next;
		switch_spend(board, NULL, COST_LOOK);
		review->look(review->userdata, channel, review->now);
	}
	if (board->to_review)
		task_due(task);
	else
		end_walk(review);
}

void review_init(struct review *review, struct switchboard *board)
{
	review->board = board;
	task_init(&review->task, &board->turns, NULL, on_turn);
}

uint64_t review_begin(struct review *review, uint8_t what)
{
	review->next |= what;
	task_due(&review->task);
	return review->begun + 1;
}

void review_cancel(struct review *review)
{
	task_cancel(&review->task);
	review->now = review->next = 0;
	review->board->to_review = NULL;
}
