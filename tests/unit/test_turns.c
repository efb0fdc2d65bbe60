/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Turns: the time of the daemon goes to accounts in equal parts, however many tasks one has and however dear
 * each is, and nobody waits for longer than turns.h says. */
#include "tests/unit/unit.h"

#include <stdlib.h>

#include <event2/event.h>

#include "base/turns.h"

#define LINES 4
#define TASKS 60 /* at most, of a line */

struct worker {
	struct task task;
	struct world *world;
	uint64_t cost;	   /* units of each turn */
	uint64_t to_do;	   /* turns */
	uint64_t measured; /* units for each time, beside what it costs */
	uint64_t done;
};

struct world {
	struct event_base *base;
	struct turns turns;
	struct line lines[LINES];
	struct worker workers[LINES][TASKS];
	unsigned passes;
};

static void work(struct task *task)
{
	struct worker *worker = (struct worker *)task;

	turns_spend(&worker->world->turns, task->line, worker->cost);
	turns_spend_measured(&worker->world->turns, task->line, worker->measured);
	worker->done++;
	if (worker->done < worker->to_do)
		task_due(task);
}

static bool pass(void *userdata)
{
	struct world *world = userdata;

	world->passes++;
	while (turns_run(&world->turns))
		;
	return false;
}

static int set_up(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	world->base = event_base_new();
	assert_int_equal(turns_init(&world->turns, world->base, pass, world), 0);
	*state = world;
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;

	for (unsigned i = 0; i < LINES; i++)
		line_end(&world->lines[i]);
	turns_cleanup(&world->turns);
	event_base_free(world->base);
	free(world);
	return 0;
}

static struct worker *add(struct world *world, unsigned line, unsigned number, uint64_t cost, uint64_t to_do)
{
	struct worker *worker = &world->workers[line][number];

	worker->world = world;
	worker->cost = cost;
	worker->to_do = to_do;
	task_init(&worker->task, &world->turns, &world->lines[line], work);
	task_due(&worker->task);
	return worker;
}

static void one_pass(struct world *world)
{
	assert_int_not_equal(event_base_loop(world->base, EVLOOP_ONCE | EVLOOP_NONBLOCK), -1);
}

TEST_WITH(a_task_runs_once_however_often_it_became_due, set_up, tear_down)
{
	struct world *world = *state;
	struct worker *worker = add(world, 0, 0, 1, 1);

	task_due(&worker->task);
	task_due(&worker->task);
	one_pass(world);
	assert_int_equal(worker->done, 1);
	one_pass(world);
	assert_int_equal(worker->done, 1);
	assert_int_equal(world->turns.due, 0);
}

TEST_WITH(sixty_tasks_of_one_account_have_the_time_of_one_of_another, set_up, tear_down)
{
	struct world *world = *state;
	struct worker *other;

	for (unsigned i = 0; i < TASKS; i++)
		add(world, 0, i, 1000, UINT64_MAX);
	other = add(world, 1, 0, 1000, UINT64_MAX);
	for (unsigned i = 0; i < 40; i++)
		one_pass(world);
	assert_in_range(other->done * 1000 + TURNS_QUANTUM + 1000, world->lines[0].spent,
			world->lines[0].spent + 2 * (TURNS_QUANTUM + 1000));
	for (unsigned i = 1; i < TASKS; i++)
		assert_in_range(world->workers[0][i].done + 1, world->workers[0][0].done,
				world->workers[0][0].done + 2);
	for (unsigned i = 0; i < TASKS; i++)
		task_cancel(&world->workers[0][i].task);
	task_cancel(&other->task);
}

/* Its work is another line's. */
static void work_for_another(struct task *task)
{
	struct worker *worker = (struct worker *)task;

	turns_spend(&worker->world->turns, &worker->world->lines[2], worker->cost);
	turns_yield(&worker->world->turns, task->line);
	worker->done++;
	task_due(task);
}

TEST_WITH(who_works_at_the_cost_of_others_has_turns_like_them, set_up, tear_down)
{
	struct world *world = *state;
	struct worker *busy = add(world, 0, 0, 1000, UINT64_MAX), *other = add(world, 1, 0, 1, 100);

	task_cancel(&busy->task);
	task_init(&busy->task, &world->turns, &world->lines[0], work_for_another);
	task_due(&busy->task);
	one_pass(world);
	assert_int_equal(other->done, 100);
	assert_in_range(world->lines[1].longest_wait, 0, 2 * (TURNS_QUANTUM + 1000));
	assert_in_range(busy->done, 2, UINT64_MAX);
	task_cancel(&busy->task);
}

TEST_WITH(dear_things_get_no_more_units_than_cheap_ones, set_up, tear_down)
{
	struct world *world = *state;

	add(world, 0, 0, 20 * TURNS_QUANTUM, UINT64_MAX);
	add(world, 1, 0, 10, UINT64_MAX);
	for (unsigned i = 0; i < 100; i++)
		one_pass(world);
	assert_in_range(world->lines[0].spent, world->lines[1].spent / 2,
			world->lines[1].spent + 21 * TURNS_QUANTUM);
	task_cancel(&world->workers[0][0].task);
	task_cancel(&world->workers[1][0].task);
}

TEST_WITH(lines_that_become_one_have_the_time_of_one, set_up, tear_down)
{
	struct world *world = *state;
	struct line *into = &world->lines[1];

	/* Tasks of the one are due when it becomes a part of the other, and ever after. */
	for (unsigned i = 0; i < 3; i++)
		add(world, 0, i, 1000, UINT64_MAX);
	line_merge(&world->lines[0], into);
	line_merge(&world->lines[0], into);
	add(world, 0, 3, 1000, UINT64_MAX);
	add(world, 1, 0, 1000, UINT64_MAX);
	add(world, 2, 0, 1000, UINT64_MAX);
	for (unsigned i = 0; i < 40; i++)
		one_pass(world);
	assert_int_equal(world->lines[0].spent, 0);
	assert_in_range(into->spent, world->lines[2].spent - 2 * (TURNS_QUANTUM + 1000),
			world->lines[2].spent + 2 * (TURNS_QUANTUM + 1000));
	for (unsigned i = 0; i < 4; i++) {
		assert_in_range(world->workers[0][i].done + 1, world->workers[1][0].done,
				world->workers[1][0].done + 2);
		task_cancel(&world->workers[0][i].task);
	}
	task_cancel(&world->workers[1][0].task);
	task_cancel(&world->workers[2][0].task);
	one_pass(world);
	assert_null(world->turns.lines);
}

TEST_WITH(a_line_that_joins_another_brings_its_debt_and_what_was_spent, set_up, tear_down)
{
	struct world *world = *state;
	struct worker *worker = add(world, 0, 0, 10 * TURNS_QUANTUM, 2);

	add(world, 1, 0, 10, UINT64_MAX);
	one_pass(world);
	task_cancel(&world->workers[1][0].task);
	add(world, 2, 0, 10, UINT64_MAX);
	turns_spend(&world->turns, &world->lines[0], 20 * TURNS_QUANTUM);
	task_due(&worker->task);
	line_merge(&world->lines[0], &world->lines[3]);
	assert_in_range(world->lines[3].spent, 30 * TURNS_QUANTUM, UINT64_MAX);
	assert_true(world->lines[3].credit < -15 * (int64_t)TURNS_QUANTUM);
	task_cancel(&worker->task);
	task_cancel(&world->workers[2][0].task);
}

TEST_WITH(nobody_waits_longer_than_promised, set_up, tear_down)
{
	struct world *world = *state;
	const uint64_t largest = 3 * TURNS_QUANTUM;

	for (unsigned i = 0; i < TASKS; i++) {
		add(world, 0, i, largest, UINT64_MAX);
		add(world, 1, i, 100, UINT64_MAX);
	}
	for (unsigned i = 0; i < 200; i++) {
		add(world, 2, 0, 50, i + 1);
		one_pass(world);
	}
	assert_int_not_equal(world->lines[2].longest_wait, 0);
	assert_in_range(world->lines[2].longest_wait, 1, 3 * (TURNS_QUANTUM + largest));
	for (unsigned i = 0; i < TASKS; i++) {
		task_cancel(&world->workers[0][i].task);
		task_cancel(&world->workers[1][i].task);
	}
	task_cancel(&world->workers[2][0].task);
}

TEST_WITH(a_pass_is_bounded_and_the_rest_goes_on_in_the_next_one, set_up, tear_down)
{
	struct world *world = *state;
	struct worker *worker = add(world, 0, 0, 1000, 10 * TURNS_PASS / 1000);

	one_pass(world);
	assert_int_equal(worker->done, TURNS_PASS / 1000 + 1);
	while (worker->done < worker->to_do) {
		unsigned passes = world->passes;

		one_pass(world);
		assert_in_range(world->passes, passes, passes + 1);
	}
	assert_in_range(world->turns.longest_pass, TURNS_PASS, TURNS_PASS + 1000);
}

TEST_WITH(what_is_measured_is_paid_for_and_not_a_part_of_the_bounds, set_up, tear_down)
{
	struct world *world = *state;
	struct worker *dear = add(world, 0, 0, 10, UINT64_MAX), *other = add(world, 1, 0, 10, UINT64_MAX);

	dear->measured = 100 * TURNS_QUANTUM;
	for (unsigned i = 0; i < 100; i++)
		one_pass(world);
	assert_int_equal(world->lines[0].spent, dear->done * (10 + 100 * TURNS_QUANTUM));
	assert_in_range(other->done, 50 * dear->done, UINT64_MAX);
	assert_in_range(world->turns.longest_pass, 1, TURNS_PASS + 10);
	assert_in_range(world->lines[1].longest_wait, 10, 20);
	task_cancel(&dear->task);
	task_cancel(&other->task);
}

TEST_WITH(a_debt_is_forgotten_when_nobody_waits_for_it, set_up, tear_down)
{
	struct world *world = *state;
	struct worker *worker = add(world, 0, 0, 100 * TURNS_QUANTUM, 1);

	one_pass(world);
	one_pass(world);
	worker->to_do = 2;
	worker->cost = 1;
	task_due(&worker->task);
	assert_int_equal(world->lines[0].credit, TURNS_QUANTUM);
	one_pass(world);
	assert_int_equal(worker->done, 2);
}

TEST_WITH(a_debt_is_kept_by_who_leaves_and_comes_again, set_up, tear_down)
{
	struct world *world = *state;
	struct worker *dear = add(world, 0, 0, 4 * TURNS_QUANTUM, 1);
	uint64_t before;

	add(world, 1, 0, 100, UINT64_MAX);
	one_pass(world);
	assert_int_equal(dear->done, 1);
	before = world->lines[1].spent;
	dear->to_do = 2;
	task_due(&dear->task);
	while (dear->done < 2)
		one_pass(world);
	assert_in_range(world->lines[1].spent - before, TURNS_QUANTUM, UINT32_MAX);
	assert_true(world->lines[1].spent >= 3 * TURNS_QUANTUM);
	task_cancel(&world->workers[1][0].task);
}

TEST_WITH(a_cancelled_task_does_not_run, set_up, tear_down)
{
	struct world *world = *state;
	struct worker *first = add(world, 0, 0, 1, 1), *second = add(world, 0, 1, 1, 1);

	task_cancel(&first->task);
	task_cancel(&first->task);
	one_pass(world);
	assert_int_equal(first->done, 0);
	assert_int_equal(second->done, 1);
}

TEST_WITH(a_line_that_rests_has_no_turn_until_its_rest_is_over, set_up, tear_down)
{
	struct world *world = *state;
	struct worker *cancelled = add(world, 0, 0, 10, 1), *waiting, *other, *late;
	unsigned wakeups = 0;

	waiting = add(world, 0, 1, 10, 1);
	other = add(world, 1, 0, 10, 1);
	turns_rest(&world->turns, &world->lines[0], 20000000);
	late = add(world, 0, 2, 10, 1);
	task_cancel(&cancelled->task);
	one_pass(world);
	assert_int_equal(waiting->done + late->done, 0);
	assert_int_equal(other->done, 1);
	assert_int_equal(world->turns.due, 0); /* the loop sleeps */
	for (; !late->done; wakeups++)
		assert_int_not_equal(event_base_loop(world->base, EVLOOP_ONCE), -1);
	assert_in_range(wakeups, 1,
			10); /* it wakes when the rest is over, and doesn't look again and again */
	assert_int_equal(waiting->done, 1);
	assert_int_equal(cancelled->done, 0);
	assert_int_equal(world->turns.due, 0);
}

TEST_WITH(what_waits_has_waited_as_long_when_a_line_joins_it, set_up, tear_down)
{
	struct world *world = *state;
	struct worker *other, *waiting;

	other = add(world, 0, 0, 1000, 50);
	while (!other->done)
		one_pass(world);
	waiting = add(world, 1, 0, 10, 1);
	add(world, 0, 0, 1000, 1);
	line_merge(&world->lines[0], &world->lines[1]);
	while (!waiting->done)
		one_pass(world);
	assert_in_range(world->lines[1].longest_wait, 0, 50 * 1000);
}

TEST_WITH(a_rest_goes_on_in_the_line_that_a_line_becomes_part_of, set_up, tear_down)
{
	struct world *world = *state;
	struct worker *first = add(world, 0, 0, 10, 1), *second = add(world, 1, 0, 10, 1);
	uint64_t until;

	turns_rest(&world->turns, &world->lines[0], 20000000);
	until = world->lines[0].rests_until;
	line_merge(&world->lines[0], &world->lines[1]);
	assert_true(world->lines[1].rests_until == until);
	assert_int_equal(world->lines[1].rests, 1);
	assert_int_equal(world->turns.due, 0);
	one_pass(world);
	assert_int_equal(first->done + second->done, 0);
	turns_rest(&world->turns, &world->lines[1], 0); /* which ends no longer one */
	assert_true(world->lines[1].rests_until == until);
	while (!first->done || !second->done)
		assert_int_not_equal(event_base_loop(world->base, EVLOOP_ONCE), -1);
	assert_int_equal(world->turns.due, 0);
}
