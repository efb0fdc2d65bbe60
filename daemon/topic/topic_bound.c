/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/topic/topic_bound.h"

void topic_bound_restart(struct topic_bound *bound)
{
	bound->taken = bound->sent;
	bound->end = 0;
	bound->mark_count = 0;
}

static struct topic_mark *mark_at(struct topic_bound *bound, unsigned number)
{
	return &bound->marks[(bound->first_mark + number) % TOPIC_BOUND_MARKS];
}

void topic_bound_sent(struct topic_bound *bound, uint64_t end)
{
	uint64_t marked;

	if (!bound->most)
		return;
	bound->sent++;
	bound->end = end;
	marked = bound->mark_count ? mark_at(bound, bound->mark_count - 1)->sent : bound->taken;
	if (bound->mark_count < TOPIC_BOUND_MARKS &&
	    bound->sent - marked >= (bound->most + TOPIC_BOUND_MARKS - 1) / TOPIC_BOUND_MARKS)
		*mark_at(bound, bound->mark_count++) = (struct topic_mark){bound->sent, end};
}

void topic_bound_taken(struct topic_bound *bound, uint64_t offset)
{
	while (bound->mark_count && mark_at(bound, 0)->end <= offset) {
		bound->taken = mark_at(bound, 0)->sent;
		bound->first_mark = (bound->first_mark + 1) % TOPIC_BOUND_MARKS;
		bound->mark_count--;
	}
	if (bound->end <= offset)
		bound->taken = bound->sent;
}

/* Moves on up to the entry `to`, or to the topic's last state, if that is before it. */
static void move_on(const struct topic_log *log, struct topic_position *position, uint64_t to)
{
	if (position->index < log->said && log->said - 1 < to)
		to = log->said - 1;
	if (position->index < to)
		position->index = to;
}

static void lose_newest(struct topic_bound *bound, const struct topic_log *log,
			struct topic_position *position)
{
	uint64_t room = topic_bound_room(bound), waiting = topic_log_waiting(log, position->index);

	if (!bound->is_cut && waiting > room) {
		bound->is_cut = true;
		bound->cut = topic_log_find(log, log->messages - waiting + room);
	}
	if (topic_bound_reads_on(bound, position))
		return;
	bound->is_cut = false;
	move_on(log, position, log->next);
}

void topic_bound_apply(struct topic_bound *bound, const struct topic_log *log,
		       struct topic_position *position)
{
	if (!bound->most || topic_log_owes_state(log, position->index)) /* which he reads first */
		return;
	if (position->index < log->first) {
		position->index = log->first;
		bound->is_cut &= bound->cut > log->first; /* else none of what was to be kept is there */
	}
	if (bound->keeps_oldest)
		lose_newest(bound, log, position);
	else if (topic_log_waiting(log, position->index) > bound->most)
		move_on(log, position, topic_log_find(log, log->messages - bound->most));
}
