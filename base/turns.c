/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/turns.h"

#include <errno.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/image.h"
#include "base/timer.h"
#include "wire/ut.h"

#define REST_MAX_NS 1000000000u

/* --- lines ------------------------------------------------------------------------------------ */

/* Returns the units that others had, ever, beside what was measured. */
static uint64_t counted_of_others(const struct turns *turns, const struct line *line)
{
	return turns->spent - turns->measured - (line->spent - line->measured);
}

static void line_enter(struct turns *turns, struct line *line)
{
	if (line->turns || line->resting_in)
		return;
	line->turns = line->home = turns;
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

/* Ends a line's rest. */
static void turns_wake(struct line *line)
{
	struct turns *turns = line->resting_in;
	struct task *task;

	DL_DELETE2(turns->resting, line, rest_prev, rest_next);
	line->resting_in = NULL;
	if (!line->due_tasks)
		return;
	DL_FOREACH(line->due, task)
		task->due_at = counted_of_others(turns, line); /* it hasn't waited for others */
	turns->due += line->due_tasks;
	line_enter(turns, line);
	turns_want(turns);
}

static void rest_until(struct turns *turns, struct line *line, uint64_t until);

/* Tells whoever left a line behind that it is over. */
static void tell_over(struct line *line)
{
	void (*over)(struct line * line) = line->over;

	line->over = NULL;
	if (over)
		over(line);
}

/* Does so, unless it still rests or has a debt while others want their turns. */
static void turns_settle(struct line *line)
{
	struct turns *home = line->home;

	if (!line->over || line->resting_in)
		return;
	if (line->credit < 0 && !line->turns && home && home->lines && line->idle == home->idle) {
		line->turns = home;
		DL_APPEND(home->lines, line);
	}
	if (line->credit < 0 && line->turns)
		return;
	if (line->turns)
		line_leave(line);
	tell_over(line);
}

void line_leave_behind(struct line *line, void (*over)(struct line *line))
{
	line->over = over;
	turns_settle(line);
}

void line_take_back(struct line *line)
{
	line->over = NULL;
}

void line_end(struct line *line)
{
	if (line->resting_in)
		turns_wake(line);
	if (line->turns)
		line_leave(line);
}

void line_merge(struct line *from, struct line *to)
{
	struct task *task, *next;
	struct turns *resting_in;

	from = line_present(from);
	to = line_present(to);
	if (from == to)
		return;
	resting_in = from->resting_in;
	/* A line that has waited continues as if it had from the beginning: what the other line had isn't
	 * others' any more. */
	DL_FOREACH(to->due, task)
		task->due_at -= from->spent - from->measured;
	to->spent += from->spent;
	to->measured += from->measured;
	to->rests += from->rests;
	if (from->longest_wait > to->longest_wait)
		to->longest_wait = from->longest_wait;
	if (from->resting_in)
		turns_wake(from);
	if (from->turns)
		line_enter(from->turns, to);
	if (to->resting_in)
		to->resting_in->due -= from->due_tasks;
	to->due_tasks += from->due_tasks;
	from->due_tasks = 0;
	if (from->turns && from->credit < 0)
		to->credit += from->credit;
	DL_FOREACH_SAFE(from->due, task, next) {
		DL_DELETE(from->due, task);
		task->line = to;
		/* it has waited for as long as before */
		task->due_at += from->spent - from->measured - (to->spent - to->measured);
		DL_APPEND(to->due, task);
	}
	line_end(from);
	from->into = to;
	if (resting_in)
		rest_until(resting_in, to, from->rests_until);
}

/* Brings the next line that has something to do, and credit for it, to the front, and returns it; NULL:
 * none. */
static struct line *next_line(struct turns *turns)
{
	struct line *line;

	while ((line = turns->lines)) {
		if (!line->due && (!line->over || line->credit >= 0)) {
			line_leave(line);
			tell_over(line);
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

	if (turns_are_over(turns))
		return false;
	line = next_line(turns);
	if (!line)
		return false;
	task = line->due;
	DL_DELETE(line->due, task);
	task->is_due = false;
	line->due_tasks--;
	turns->due--;
	waited = counted_of_others(turns, line) - task->due_at;
	if (waited > line->longest_wait)
		line->longest_wait = waited;
	task->run(task);
	return true;
}

void turns_spend_measured(struct turns *turns, struct line *line, uint64_t units)
{
	turns_spend(turns, line, units);
	turns->measured += units;
	(line ? line_present(line) : &turns->own)->measured += units;
}

void turns_yield(struct turns *turns, struct line *line)
{
	line = line ? line_present(line) : &turns->own;
	if (line->credit > 0)
		line->credit = 0;
}

/* --- rests ------------------------------------------------------------------------------------ */

static void set_rest_timer(struct turns *turns)
{
	uint64_t now = clock_ns(), until = now + REST_MAX_NS;
	struct line *line;

	DL_FOREACH2(turns->resting, line, rest_next)
		if (line->rests_until < until)
			until = line->rests_until;
	if (turns->resting)
		timer_set(turns->rest_timer, until > now ? clock_ms_of(until - now) + 1 : 0);
}

static void on_rest_timer(int fd, short what, void *userdata)
{
	struct turns *turns = userdata;
	uint64_t now = clock_ns();
	struct line *line, *next;

	DL_FOREACH_SAFE2(turns->resting, line, next, rest_next)
		if (line->rests_until <= now) {
			turns_wake(line);
			turns_settle(line);
		}
	set_rest_timer(turns);
}

static void rest_until(struct turns *turns, struct line *line, uint64_t until)
{
	if (!line->resting_in || line->rests_until < until)
		line->rests_until = until;
	if (!line->resting_in) {
		line->resting_in = turns;
		DL_APPEND2(turns->resting, line, rest_prev, rest_next);
		turns->due -= line->due_tasks;
		if (line->turns)
			line_leave(line);
	}
	set_rest_timer(turns);
}

void turns_rest(struct turns *turns, struct line *line, uint64_t ns)
{
	if (!line)
		return; /* nobody's work waits for nobody */
	line = line_present(line);
	line->rests += !line->resting_in;
	rest_until(turns, line, clock_ns() + (ns < REST_MAX_NS ? ns : REST_MAX_NS));
}

void turns_wake_all(struct turns *turns)
{
	struct line *line;

	while ((line = turns->resting)) {
		turns_wake(line);
		turns_settle(line);
	}
}

/* --- passes ----------------------------------------------------------------------------------- */

void turns_pass(struct turns *turns)
{
	uint64_t before = turns->spent - turns->measured, counted;
	struct line *line;

	if (turns->asked && !turns->is_driven)
		event_del(turns->event);
	turns->asked = false;
	turns->over = turns->spent + TURNS_PASS;
	turns->in_pass = true;
	turns->passes++;
	turns->asked = turns->pass(turns->userdata) || turns->due > 0;
	turns->in_pass = false;
	counted = turns->spent - turns->measured - before;
	if (counted > turns->longest_pass)
		turns->longest_pass = counted;
	while (!turns->due && (line = turns->lines)) {
		line_leave(line);
		tell_over(line);
	}
	/* A timer lets the loop look at all descriptors before the next pass. */
	if (turns->asked && !turns->is_driven)
		timer_set(turns->event, 0);
}

static void on_pass(int fd, short what, void *userdata)
{
	((struct turns *)userdata)->asked = false; /* the event isn't pending any more */
	turns_pass(userdata);
}

void turns_image(struct image *image, struct turns *turns)
{
	uint64_t spent = turns->spent, passes = turns->passes;

	image_u64(image, &spent);
	image_u64(image, &passes);
	if (!image->is_read)
		return;
	turns->spent += spent;
	turns->measured += spent;
	turns->over += spent;
	turns->passes += passes;
}

int turns_init(struct turns *turns, struct event_base *base, bool (*pass)(void *userdata), void *userdata)
{
	*turns = (struct turns){.pass = pass, .userdata = userdata, .over = TURNS_PASS};
	turns->event = evtimer_new(base, on_pass, turns);
	turns->rest_timer = evtimer_new(base, on_rest_timer, turns);
	return turns->event && turns->rest_timer ? 0 : -ENOMEM;
}

void turns_cleanup(struct turns *turns)
{
	free_event(turns->event);
	free_event(turns->rest_timer);
	turns->event = turns->rest_timer = NULL;
}

void turns_want(struct turns *turns)
{
	if (turns->asked || turns->in_pass)
		return;
	turns->asked = true;
	/* The pass comes after the events that wait already. */
	if (!turns->is_driven)
		event_active(turns->event, EV_TIMEOUT, 0);
}

void turns_drive(struct turns *turns, bool is_driven)
{
	bool asked = turns->asked;

	if (asked && is_driven)
		event_del(turns->event);
	turns->is_driven = is_driven;
	turns->asked = asked && is_driven;
	if (asked && !is_driven)
		turns_want(turns);
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
	task->line = line_present(task->line);
	task->due_at = counted_of_others(turns, task->line);
	line_enter(turns, task->line);
	DL_APPEND(task->line->due, task);
	task->line->due_tasks++;
	if (task->line->resting_in)
		return;
	turns->due++;
	turns_want(turns);
}

void task_cancel(struct task *task)
{
	if (!task->is_due)
		return;
	task->is_due = false;
	task->line->due_tasks--;
	task->turns->due -= !task->line->resting_in;
	DL_DELETE(task->line->due, task);
}
