/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Watches that hear late of what came and went: in the end each knows what is there, and who has no time
 * costs nobody else any.
 */
#include "tests/unit/watches_rig.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/serve/watches.h"

#define SEEDS 20u

/* --- who is late ------------------------------------------------------------------------------ */

SCENE_TEST(what_came_and_went_before_it_was_told_is_not_told, scene_start)
{
	add_watch(scene, &scene->a, 1, "7");
	come_up(scene, "inbox print");
	endpoints(scene, 7, "print");
	endpoints(scene, 7, "print scan");
	endpoints(scene, 7, "scan");
	expect(scene, &scene->a, "1+7(work) 1+7:scan(work) ");
	/* What it knows and what goes and comes may be another one. */
	endpoints(scene, 7, "");
	endpoints(scene, 7, "scan");
	registry_set_up(scene->registry, 7, false);
	come_up(scene, "scan");
	expect(scene, &scene->a, "1-7(work) 1+7(work) 1-7:scan(work) 1+7:scan(work) ");
	/* And what it knows, and is gone in the end, goes once. */
	registry_set_up(scene->registry, 7, false);
	registry_set_up(scene->registry, 7, true);
	registry_set_up(scene->registry, 7, false);
	expect(scene, &scene->a, "1-7:scan(work) 1-7(work) ");
}

SCENE_TEST(who_is_late_hears_of_two_names_how_it_ended, scene_start)
{
	come_up(scene, "inbox");
	for (uint32_t i = 1; i <= 3; i++)
		add_watch(scene, &scene->a, i, i == 1 ? "work" : i == 2 ? "rest" : "7");
	expect(scene, &scene->a, "1+7(work) 3+7(work) 1+7:inbox(work) 3+7:inbox(work) ");
	rename_domain(scene, 7, "play");
	rename_domain(scene, 7, "rest");
	expect(scene, &scene->a, "1-7:inbox(work) 1-7(work) 2+7(rest) 3+7(rest) 2+7:inbox(rest) ");
	/* What goes under the new name was known under the old one. */
	rename_domain(scene, 7, "work");
	registry_set_endpoint(scene->registry, 7, "inbox", false);
	expect(scene, &scene->a, "2-7:inbox(rest) 2-7(rest) 1+7(work) 3+7(work) 3-7:inbox(work) ");
	/* A watch that comes after all that hears what is there. */
	add_watch(scene, &scene->b, 9, "*");
	expect(scene, &scene->b, "9+7(work) ");
}

#define CROWD	 250
#define PATTERNS 64
#define NAMES	 680

static void leaf(struct scene *scene, unsigned first, unsigned count)
{
	static char texts[NAMES][16];
	static char *names[NAMES];

	for (unsigned i = 0; i < count; i++) {
		snprintf(texts[i], sizeof(texts[i]), "n%u", first + i);
		names[i] = texts[i];
	}
	registry_set_endpoints(scene->registry, 7, &(struct offered){.list = names, .count = count}, 1);
}

/* One user's 16,000 patterns and a peer's 680 names cost that user's time: another one hears of all of them
 * after a bounded part of it. */
SCENE_TEST(crowd_of_one_user_waits_for_itself_and_others_do_not, scene_start_with_users)
{
	static struct session crowd[CROWD];
	struct account *other = scene->a.hop.account;
	uint64_t before, own, all;
	char pattern[32];

	registry_set_up(scene->registry, 7, true);
	memset(crowd, 0, sizeof(crowd));
	for (unsigned i = 0; i < CROWD; i++) {
		crowd[i].counts = true;
		crowd[i].hop.account = scene->b.hop.account;
		for (uint32_t j = 0; j < PATTERNS; j++) {
			snprintf(pattern, sizeof(pattern), j ? "7:*x%u" : "7:*", j);
			add_watch(scene, &crowd[i], j, pattern);
		}
	}
	scene->a.counts = true;
	add_watch(scene, &scene->a, 1, "7:*");
	settle(scene);

	before = scene->turns.spent;
	own = account_time(other)->spent;
	leaf(scene, 0, NAMES);
	assert_int_equal(scene->turns.spent, before); /* whoever brings the news doesn't pay for it */
	for (unsigned i = 0; scene->a.up < NAMES; i++) {
		assert_true(i < 100);
		one_pass(scene);
	}
	own = account_time(other)->spent - own;
	all = scene->turns.spent - before;
	/* two lines: an equal part, and the rest of a pass */
	assert_true(all < 2 * own + 2 * TURNS_QUANTUM + TURNS_PASS);
	settle(scene);
	print_message("%lu units when the bystander had heard all, of %lu\n", (unsigned long)all,
		      (unsigned long)(scene->turns.spent - before));
	assert_true(scene->turns.spent - before > 20 * all);
	assert_true(scene->turns.longest_pass < TURNS_PASS + TURNS_PIECE);
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(crowd[i].up, NAMES);

	/* A new watch of the crowd's is told what is there in the crowd's time, too. */
	own = account_time(other)->spent;
	for (unsigned i = 0; i < CROWD; i++) {
		assert_true(unwatch(scene, &crowd[i], 1));
		add_watch(scene, &crowd[i], 100, "7:*");
	}
	leaf(scene, 0, NAMES - 1);
	while (scene->a.up == NAMES)
		one_pass(scene);
	settle(scene);
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(crowd[i].up, 2 * (NAMES - 1));
	for (unsigned i = 0; i < CROWD; i++)
		unwatch_all(scene, &crowd[i]);
}

/* Whatever comes, goes and is renamed, and however it falls into the turns: in the end each watch knows what
 * is there. */
SCENE_TEST_EACH(in_the_end_each_watch_knows_what_is_there, scene_start, before_seed, SEEDS)
{
	static const char *const domains[] = {"7", "work", "play", "[wr]*"}, *const endpoints_meant[] = {
										     NULL, "*", "n1*",
										     "*[02468]"};
	static const char *const names[] = {"work", "play", "rest", ""};
	static unsigned char model[MODEL_WATCHES * (MODEL_NAMES + 1)];
	unsigned char there[MODEL_NAMES + 1] = {0};
	unsigned seed = 1 + (unsigned)before_seed;
	char text[32];

	memset(model, 0, sizeof(model));
	scene->a.model = model;
	for (uint32_t i = 0; i < MODEL_WATCHES / 2; i++) {
		snprintf(text, sizeof(text), i & 1 ? "%s:*" : "%s", domains[i]);
		add_watch(scene, &scene->a, i, text);
	}
	for (unsigned round = 0; round < 20000; round++) {
		unsigned what = (unsigned)rand_r(&seed) % 1000,
			 which = (unsigned)rand_r(&seed) % MODEL_NAMES + 1;

		if (what < 300) { /* a piece of work */
			scene->turns.over = scene->turns.spent + 1;
			turns_run(&scene->turns);
		} else if (what < 990) {
			there[which] = !there[which];
			snprintf(text, sizeof(text), "n%u", which - 1);
			registry_set_endpoint(scene->registry, 7, text, there[which]);
		} else if (what < 993) {
			there[0] = !there[0];
			if (!there[0])
				memset(there, 0, sizeof(there));
			registry_set_up(scene->registry, 7, there[0]);
		} else if (what < 996) {
			rename_domain(scene, 7, names[which % 4]);
		} else { /* a new watch in another one's place */
			uint32_t number = which % MODEL_WATCHES;
			const char *endpoint = endpoints_meant[(which / 64) % 4];

			unwatch(scene, &scene->a, number);
			memset(model + number * (MODEL_NAMES + 1), 0, MODEL_NAMES + 1);
			snprintf(text, sizeof(text), endpoint ? "%s:%s" : "%s", domains[number % 4],
				 endpoint);
			add_watch(scene, &scene->a, number, text);
			snprintf(scene->patterns[number], sizeof(scene->patterns[number]), "%s", text);
		}
		if (round % 500 != 499)
			continue;
		settle(scene);
		for (unsigned i = 0; i < MODEL_WATCHES; i++) {
			char pattern[32], *endpoint;
			bool meant;

			snprintf(pattern, sizeof(pattern), "%s", scene->patterns[i]);
			if (!pattern[0])
				continue;
			endpoint = strchr(pattern, ':');
			if (endpoint)
				*endpoint++ = '\0';
			meant = !fnmatch(pattern, "7", 0) ||
				(*registry_name(scene->registry, 7) &&
				 !fnmatch(pattern, registry_name(scene->registry, 7), 0));
			for (unsigned j = 0; j <= MODEL_NAMES; j++) {
				snprintf(text, sizeof(text), "n%u", j - 1);
				assert_int_equal(model[i * (MODEL_NAMES + 1) + j],
						 meant && there[j] &&
							 (j == 0 ? !endpoint
								 : !endpoint || !fnmatch(endpoint, text, 0)));
			}
		}
	}
}

static void run_hog(struct task *task)
{
	turns_spend(task->turns, task->line, 1000);
	task_due(task);
}

/* What has gone is kept for who hasn't heard of it, but not without end. */
SCENE_TEST(who_is_too_late_is_cut_off_and_nobody_else, scene_start_with_users)
{
	struct line line = {0};
	struct task hog;
	unsigned first = 0;

	scene->a.counts = scene->b.counts = true;
	add_watch(scene, &scene->a, 1, "*:*");
	add_watch(scene, &scene->b, 1, "*:*");
	leaf(scene, first, NAMES);
	settle(scene);
	/* Its user has no time for it, and somebody else always something to do. */
	task_init(&hog, &scene->turns, &line, run_hog);
	task_due(&hog);
	leaf(scene, first, NAMES - 1);
	turns_spend(&scene->turns, account_line(scene->a.hop.account), UINT32_MAX);
	for (; first < 20 * WATCHES_GONE_MAX && !scene->a.cut_off; first += NAMES) {
		leaf(scene, first, NAMES);
		for (int i = 0; i < 10; i++)
			one_pass(scene);
	}
	assert_int_equal(scene->a.cut_off, -ENOBUFS);
	assert_true(first >= WATCHES_GONE_MAX);
	assert_int_equal(scene->b.cut_off, 0);
	assert_int_equal(scene->b.up, NAMES);
	task_cancel(&hog);
	line_end(&line);
}
