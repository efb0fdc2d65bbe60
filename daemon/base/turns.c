/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/base/turns.h"

#include <errno.h>

#include <event2/event.h>
#include <utlist.h>

#include "daemon/base/timer.h"

/* --- lines ------------------------------------------------------------------------------------ */

/* Returns the line that this one is by now. */
static struct line *present(struct line *line)
{
	while (line->into)
		line = line->into;
	return line;
}

static void line_enter(struct turns *turns, struct line *line)
{
	if (line->turns)
		return;
	line->turns = turns;
	/* Credit isn't kept, nor a debt from before an idle moment, when nobody was kept waiting by it. */
	if (line->credit > 0 || line->idle != turns->idle)
		line->credit = 0;
	line->credit += TURNS_QUANTUM;
	DL_APPEND(turns->lines, line);
}

static void line_leave(struct line *line)
{
	struct turns *turns = line->turns;

	DL_DELETE(turns->lines, line);
	line->turns = NULL;
	line->idle = turns->idle;
	if (!turns->lines)
		turns->idle++;
}

void line_end(struct line *line)
{
	if (line->turns)
		line_leave(line);
}

void line_merge(struct line *from, struct line *to)
{
	struct task *task, *next;

	from = present(from);
	to = present(to);
	if (from == to)
		return;
	to->spent += from->spent;
	if (from->longest_wait > to->longest_wait)
		to->longest_wait = from->longest_wait;
	if (from->turns)
		line_enter(from->turns, to);
	if (from->turns && from->credit < 0)
		to->credit += from->credit;
	DL_FOREACH_SAFE(from->due, task, next) {
		DL_DELETE(from->due, task);
		task->line = to;
		task->due_at += from->spent - to->spent; /* it has waited for as long as before */
		DL_APPEND(to->due, task);
	}
	line_end(from);
	from->into = to;
}

/* Brings the next line that has something to do, and credit for it, to the front, and returns it; NULL:
 * none. */
static struct line *next_line(struct turns *turns)
{
	struct line *line;

	while ((line = turns->lines)) {
		if (!line->due) {
			line_leave(line);
		} else if (line->credit <= 0) {
			line->credit += TURNS_QUANTUM;
			DL_DELETE(turns->lines, line);
			DL_APPEND(turns->lines, line);
		} else {
			break;
		}
	}
	return line;
}

bool turns_run(struct turns *turns)
{
	struct line *line;
	struct task *task;
	uint64_t waited;

	if (turns->left <= 0)
		return false;
	line = next_line(turns);
	if (!line)
		return false;
	task = line->due;
	DL_DELETE(line->due, task);
	task->is_due = false;
	turns->due--;
	waited = turns->spent - line->spent - task->due_at;
	if (waited > line->longest_wait)
		line->longest_wait = waited;
	task->run(task);
	return true;
}

void turns_spend(struct turns *turns, struct line *line, uint64_t units)
{
	line = line ? present(line) : &turns->own;
	line->credit -= (int64_t)units;
	line->spent += units;
	turns->spent += units;
	turns->left -= (int64_t)units;
}

/* --- passes ----------------------------------------------------------------------------------- */

void turns_pass(struct turns *turns)
{
	uint64_t before = turns->spent;

	if (turns->asked)
		event_del(turns->event);
	turns->asked = false;
	turns->left = TURNS_PASS;
	turns->in_pass = true;
	turns->passes++;
	turns->asked = turns->pass(turns->userdata) || turns->due > 0;
	turns->in_pass = false;
	if (turns->spent - before > turns->longest_pass)
		turns->longest_pass = turns->spent - before;
	while (!turns->due && turns->lines)
		line_leave(turns->lines);
	/* A timer lets the loop look at all descriptors before the next pass. */
	if (turns->asked)
		timer_set(turns->event, 0);
}

static void on_pass(int fd, short what, void *userdata)
{
	turns_pass(userdata);
}

int turns_init(struct turns *turns, struct event_base *base, bool (*pass)(void *userdata), void *userdata)
{
	*turns = (struct turns){.pass = pass, .userdata = userdata, .left = TURNS_PASS};
	turns->event = evtimer_new(base, on_pass, turns);
	return turns->event ? 0 : -ENOMEM;
}

void turns_cleanup(struct turns *turns)
{
	free_event(turns->event);
	turns->event = NULL;
}

void turns_want(struct turns *turns)
{
	if (turns->asked || turns->in_pass)
		return;
	turns->asked = true;
	/* The pass comes after the events that wait already. */
	event_active(turns->event, EV_TIMEOUT, 0);
}

bool turns_are_over(const struct turns *turns)
{
	return turns->left <= 0;
}

/* --- tasks ------------------------------------------------------------------------------------ */

void task_init(struct task *task, struct turns *turns, struct line *line, void (*run)(struct task *task))
{
	*task = (struct task){.turns = turns, .line = line ? line : &turns->own, .run = run};
}

void task_due(struct task *task)
{
	struct turns *turns = task->turns;

	if (task->is_due)
		return;
	task->is_due = true;
	task->line = present(task->line);
	task->due_at = turns->spent - task->line->spent;
	line_enter(turns, task->line);
	DL_APPEND(task->line->due, task);
	turns->due++;
	turns_want(turns);
}

void task_cancel(struct task *task)
{
	if (!task->is_due)
		return;
	task->is_due = false;
	task->turns->due--;
	DL_DELETE(task->line->due, task);
}
