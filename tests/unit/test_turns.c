/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Turns: the time of the daemon goes to accounts in equal parts, however many tasks one has and however dear
 * each is, and nobody waits for longer than turns.h says. */
#include "tests/unit/unit.h"

#include <event2/event.h>

#include "base/turns.h"

#define LINES 4
#define TASKS 60 /* at most, of a line */

struct worker {
	struct task task;
	struct scene *scene;
	uint64_t cost;	   /* units of each turn */
	uint64_t to_do;	   /* turns */
	uint64_t measured; /* units for each time, beside what it costs */
	uint64_t done;
};

struct scene {
	struct event_base *base;
	struct turns turns;
	struct line lines[LINES];
	struct worker workers[LINES][TASKS];
	unsigned passes;
};

static void work(struct task *task)
{
	struct worker *worker = (struct worker *)task;

	turns_spend(&worker->scene->turns, task->line, worker->cost);
	turns_spend_measured(&worker->scene->turns, task->line, worker->measured);
	worker->done++;
	if (worker->done < worker->to_do)
		task_due(task);
}

static bool pass(void *userdata)
{
	struct scene *scene = userdata;

	scene->passes++;
	while (turns_run(&scene->turns))
		;
	return false;
}

static void scene_start(struct scene *scene)
{
	scene->base = event_base_new();
	assert_int_equal(turns_init(&scene->turns, scene->base, pass, scene), 0);
}

static void scene_stop(struct scene *scene)
{
	for (unsigned i = 0; i < LINES * TASKS; i++)
		task_cancel(&scene->workers[i / TASKS][i % TASKS].task);
	for (unsigned i = 0; i < LINES; i++)
		line_end(&scene->lines[i]);
	turns_cleanup(&scene->turns);
	event_base_free(scene->base);
}

static struct worker *add(struct scene *scene, unsigned line, unsigned number, uint64_t cost, uint64_t to_do)
{
	struct worker *worker = &scene->workers[line][number];

	worker->scene = scene;
	worker->cost = cost;
	worker->to_do = to_do;
	task_init(&worker->task, &scene->turns, &scene->lines[line], work);
	task_due(&worker->task);
	return worker;
}

static void one_pass(struct scene *scene)
{
	assert_int_not_equal(event_base_loop(scene->base, EVLOOP_ONCE | EVLOOP_NONBLOCK), -1);
}

SCENE_TEST(a_task_runs_once_however_often_it_became_due, scene_start)
{
	struct worker *worker = add(scene, 0, 0, 1, 1);

	task_due(&worker->task);
	task_due(&worker->task);
	one_pass(scene);
	assert_int_equal(worker->done, 1);
	one_pass(scene);
	assert_int_equal(worker->done, 1);
	assert_int_equal(scene->turns.due, 0);
}

SCENE_TEST(sixty_tasks_of_one_account_have_the_time_of_one_of_another, scene_start)
{
	struct worker *other;

	for (unsigned i = 0; i < TASKS; i++)
		add(scene, 0, i, 1000, UINT64_MAX);
	other = add(scene, 1, 0, 1000, UINT64_MAX);
	for (unsigned i = 0; i < 40; i++)
		one_pass(scene);
	assert_in_range(other->done * 1000 + TURNS_QUANTUM + 1000, scene->lines[0].spent,
			scene->lines[0].spent + 2 * (TURNS_QUANTUM + 1000));
	for (unsigned i = 1; i < TASKS; i++)
		assert_in_range(scene->workers[0][i].done + 1, scene->workers[0][0].done,
				scene->workers[0][0].done + 2);
}

/* Its work is another line's. */
static void work_for_another(struct task *task)
{
	struct worker *worker = (struct worker *)task;

	turns_spend(&worker->scene->turns, &worker->scene->lines[2], worker->cost);
	turns_yield(&worker->scene->turns, task->line);
	worker->done++;
	task_due(task);
}

SCENE_TEST(who_works_at_the_cost_of_others_has_turns_like_them, scene_start)
{
	struct worker *busy = add(scene, 0, 0, 1000, UINT64_MAX), *other = add(scene, 1, 0, 1, 100);

	task_cancel(&busy->task);
	task_init(&busy->task, &scene->turns, &scene->lines[0], work_for_another);
	task_due(&busy->task);
	one_pass(scene);
	assert_int_equal(other->done, 100);
	assert_in_range(scene->lines[1].longest_wait, 0, 2 * (TURNS_QUANTUM + 1000));
	assert_in_range(busy->done, 2, UINT64_MAX);
}

SCENE_TEST(dear_things_get_no_more_units_than_cheap_ones, scene_start)
{
	add(scene, 0, 0, 20 * TURNS_QUANTUM, UINT64_MAX);
	add(scene, 1, 0, 10, UINT64_MAX);
	for (unsigned i = 0; i < 100; i++)
		one_pass(scene);
	assert_in_range(scene->lines[0].spent, scene->lines[1].spent / 2,
			scene->lines[1].spent + 21 * TURNS_QUANTUM);
}

SCENE_TEST(lines_that_become_one_have_the_time_of_one, scene_start)
{
	struct line *into = &scene->lines[1];

	/* Tasks of the one are due when it becomes a part of the other, and ever after. */
	for (unsigned i = 0; i < 3; i++)
		add(scene, 0, i, 1000, UINT64_MAX);
	line_merge(&scene->lines[0], into);
	line_merge(&scene->lines[0], into);
	add(scene, 0, 3, 1000, UINT64_MAX);
	add(scene, 1, 0, 1000, UINT64_MAX);
	add(scene, 2, 0, 1000, UINT64_MAX);
	for (unsigned i = 0; i < 40; i++)
		one_pass(scene);
	assert_int_equal(scene->lines[0].spent, 0);
	assert_in_range(into->spent, scene->lines[2].spent - 2 * (TURNS_QUANTUM + 1000),
			scene->lines[2].spent + 2 * (TURNS_QUANTUM + 1000));
	for (unsigned i = 0; i < 4; i++) {
		assert_in_range(scene->workers[0][i].done + 1, scene->workers[1][0].done,
				scene->workers[1][0].done + 2);
		task_cancel(&scene->workers[0][i].task);
	}
	task_cancel(&scene->workers[1][0].task);
	task_cancel(&scene->workers[2][0].task);
	one_pass(scene);
	assert_null(scene->turns.lines);
}

SCENE_TEST(a_line_that_joins_another_brings_its_debt_and_what_was_spent, scene_start)
{
	struct worker *worker = add(scene, 0, 0, 10 * TURNS_QUANTUM, 2);

	add(scene, 1, 0, 10, UINT64_MAX);
	one_pass(scene);
	task_cancel(&scene->workers[1][0].task);
	add(scene, 2, 0, 10, UINT64_MAX);
	turns_spend(&scene->turns, &scene->lines[0], 20 * TURNS_QUANTUM);
	task_due(&worker->task);
	line_merge(&scene->lines[0], &scene->lines[3]);
	assert_in_range(scene->lines[3].spent, 30 * TURNS_QUANTUM, UINT64_MAX);
	assert_true(scene->lines[3].credit < -15 * (int64_t)TURNS_QUANTUM);
}

SCENE_TEST(nobody_waits_longer_than_promised, scene_start)
{
	const uint64_t largest = 3 * TURNS_QUANTUM;

	for (unsigned i = 0; i < TASKS; i++) {
		add(scene, 0, i, largest, UINT64_MAX);
		add(scene, 1, i, 100, UINT64_MAX);
	}
	for (unsigned i = 0; i < 200; i++) {
		add(scene, 2, 0, 50, i + 1);
		one_pass(scene);
	}
	assert_int_not_equal(scene->lines[2].longest_wait, 0);
	assert_in_range(scene->lines[2].longest_wait, 1, 3 * (TURNS_QUANTUM + largest));
}

SCENE_TEST(a_pass_is_bounded_and_the_rest_goes_on_in_the_next_one, scene_start)
{
	struct worker *worker = add(scene, 0, 0, 1000, 10 * TURNS_PASS / 1000);

	one_pass(scene);
	assert_int_equal(worker->done, TURNS_PASS / 1000 + 1);
	while (worker->done < worker->to_do) {
		unsigned passes = scene->passes;

		one_pass(scene);
		assert_in_range(scene->passes, passes, passes + 1);
	}
	assert_in_range(scene->turns.longest_pass, TURNS_PASS, TURNS_PASS + 1000);
}

SCENE_TEST(passes_that_are_driven_come_behind_a_round_of_the_loop, scene_start)
{
	struct worker *worker = add(scene, 0, 0, 1, 2);

	turns_drive(&scene->turns, true);
	one_pass(scene);
	assert_true(turns_are_asked(&scene->turns) && !worker->done);
	turns_go(&scene->turns);
	turns_go(&scene->turns);
	assert_true(worker->done == 2 && scene->passes == 1);
	task_due(&worker->task);
	turns_drive(&scene->turns, false);
	one_pass(scene);
	assert_int_equal(worker->done, 3);
}

SCENE_TEST(what_is_measured_is_paid_for_and_not_a_part_of_the_bounds, scene_start)
{
	struct worker *dear = add(scene, 0, 0, 10, UINT64_MAX), *other = add(scene, 1, 0, 10, UINT64_MAX);

	dear->measured = 100 * TURNS_QUANTUM;
	for (unsigned i = 0; i < 100; i++)
		one_pass(scene);
	assert_int_equal(scene->lines[0].spent, dear->done * (10 + 100 * TURNS_QUANTUM));
	assert_in_range(other->done, 50 * dear->done, UINT64_MAX);
	assert_in_range(scene->turns.longest_pass, 1, TURNS_PASS + 10);
	assert_in_range(scene->lines[1].longest_wait, 10, 20);
}

SCENE_TEST(a_debt_is_forgotten_when_nobody_waits_for_it, scene_start)
{
	struct worker *worker = add(scene, 0, 0, 100 * TURNS_QUANTUM, 1);

	one_pass(scene);
	one_pass(scene);
	worker->to_do = 2;
	worker->cost = 1;
	task_due(&worker->task);
	assert_int_equal(scene->lines[0].credit, TURNS_QUANTUM);
	one_pass(scene);
	assert_int_equal(worker->done, 2);
}

SCENE_TEST(a_debt_is_kept_by_who_leaves_and_comes_again, scene_start)
{
	struct worker *dear = add(scene, 0, 0, 4 * TURNS_QUANTUM, 1);
	uint64_t before;

	add(scene, 1, 0, 100, UINT64_MAX);
	one_pass(scene);
	assert_int_equal(dear->done, 1);
	before = scene->lines[1].spent;
	dear->to_do = 2;
	task_due(&dear->task);
	while (dear->done < 2)
		one_pass(scene);
	assert_in_range(scene->lines[1].spent - before, TURNS_QUANTUM, UINT32_MAX);
	assert_true(scene->lines[1].spent >= 3 * TURNS_QUANTUM);
}

SCENE_TEST(a_cancelled_task_does_not_run, scene_start)
{
	struct worker *first = add(scene, 0, 0, 1, 1), *second = add(scene, 0, 1, 1, 1);

	task_cancel(&first->task);
	task_cancel(&first->task);
	one_pass(scene);
	assert_int_equal(first->done, 0);
	assert_int_equal(second->done, 1);
}

SCENE_TEST(a_line_that_rests_has_no_turn_until_its_rest_is_over, scene_start)
{
	struct worker *cancelled = add(scene, 0, 0, 10, 1), *waiting, *other, *late;
	unsigned wakeups = 0;

	waiting = add(scene, 0, 1, 10, 1);
	other = add(scene, 1, 0, 10, 1);
	turns_rest(&scene->turns, &scene->lines[0], 20000000);
	late = add(scene, 0, 2, 10, 1);
	task_cancel(&cancelled->task);
	one_pass(scene);
	assert_int_equal(waiting->done + late->done, 0);
	assert_int_equal(other->done, 1);
	assert_int_equal(scene->turns.due, 0); /* the loop sleeps */
	for (; !late->done; wakeups++)
		assert_int_not_equal(event_base_loop(scene->base, EVLOOP_ONCE), -1);
	assert_in_range(wakeups, 1,
			10); /* it wakes when the rest is over, and doesn't look again and again */
	assert_int_equal(waiting->done, 1);
	assert_int_equal(cancelled->done, 0);
	assert_int_equal(scene->turns.due, 0);
}

SCENE_TEST(what_waits_has_waited_as_long_when_a_line_joins_it, scene_start)
{
	struct worker *other = add(scene, 0, 0, 1000, 50), *waiting;

	while (!other->done)
		one_pass(scene);
	waiting = add(scene, 1, 0, 10, 1);
	add(scene, 0, 0, 1000, 1);
	line_merge(&scene->lines[0], &scene->lines[1]);
	while (!waiting->done)
		one_pass(scene);
	assert_in_range(scene->lines[1].longest_wait, 0, 50 * 1000);
}

SCENE_TEST(a_rest_goes_on_in_the_line_that_a_line_becomes_part_of, scene_start)
{
	struct worker *first = add(scene, 0, 0, 10, 1), *second = add(scene, 1, 0, 10, 1);
	uint64_t until;

	turns_rest(&scene->turns, &scene->lines[0], 20000000);
	until = scene->lines[0].rests_until;
	line_merge(&scene->lines[0], &scene->lines[1]);
	assert_true(scene->lines[1].rests_until == until);
	assert_int_equal(scene->lines[1].rests, 1);
	assert_int_equal(scene->turns.due, 0);
	one_pass(scene);
	assert_int_equal(first->done + second->done, 0);
	turns_rest(&scene->turns, &scene->lines[1], 0); /* which ends no longer one */
	assert_true(scene->lines[1].rests_until == until);
	while (!first->done || !second->done)
		assert_int_not_equal(event_base_loop(scene->base, EVLOOP_ONCE), -1);
	assert_int_equal(scene->turns.due, 0);
}
