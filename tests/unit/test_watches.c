/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a watch is told: what is there, then each change in what its pattern means and its program may learn
 * of.
 */
#include "tests/unit/watches_rig.h"

#include <errno.h>
#include <string.h>

#include <event2/event.h>

#include "daemon/serve/watches_internal.h"

SCENE_TEST(what_is_there_is_told_first_and_then_each_change, scene_start)
{
	come_up(scene, "inbox print");
	add_watch(scene, &scene->a, 1, "7");
	expect(scene, &scene->a, "1+7(work) 1+7:inbox(work) 1+7:print(work) ");
	registry_set_endpoint(scene->registry, 7, "scan", true);
	expect(scene, &scene->a, "1+7:scan(work) ");
	registry_set_endpoint(scene->registry, 7, "print", false);
	expect(scene, &scene->a, "1-7:print(work) ");
	/* A domain goes behind all that it had. */
	registry_set_up(scene->registry, 7, false);
	expect(scene, &scene->a, "1-7:inbox(work) 1-7:scan(work) 1-7(work) ");
	registry_set_up(scene->registry, 7, true);
	expect(scene, &scene->a, "1+7(work) ");
}

SCENE_TEST(domain_whose_link_is_away_is_told_as_away_and_then_up, scene_start)
{
	registry_set_away(scene->registry, 9, true); /* nothing is known of it */
	come_up(scene, "inbox");
	add_watch(scene, &scene->a, 1, "7");
	add_watch(scene, &scene->a, 2, "7:inbox");
	expect(scene, &scene->a, "1+7(work) 1+7:inbox(work) 2+7:inbox(work) ");
	for (int i = 0; i < 2; i++) {
		registry_set_away(scene->registry, 7, true);
		expect(scene, &scene->a, i ? "" : "1~7(work) ");
	}
	/* Who watches only now. */
	add_watch(scene, &scene->b, 3, "7");
	expect(scene, &scene->b, "3+7:inbox(work) 3+7(work) 3~7(work) ");
	for (int i = 0; i < 2; i++) {
		registry_set_away(scene->registry, 7, false);
		expect(scene, &scene->a, i ? "" : "1+7(work) ");
		expect(scene, &scene->b, i ? "" : "3+7(work) ");
	}
	/* It isn't away any more when it comes again. */
	registry_set_away(scene->registry, 7, true);
	expect(scene, &scene->a, "1~7(work) ");
	registry_set_up(scene->registry, 7, false);
	expect(scene, &scene->a, "1-7:inbox(work) 2-7:inbox(work) 1-7(work) ");
	registry_set_up(scene->registry, 7, true);
	expect(scene, &scene->a, "1+7(work) ");
	/* Of what was over before it could be told, the end is told. */
	registry_set_away(scene->registry, 7, true);
	registry_set_away(scene->registry, 7, false);
	expect(scene, &scene->a, "1+7(work) ");
}

SCENE_TEST(endpoint_that_goes_and_comes_while_the_link_is_away_is_told, scene_start)
{
	come_up(scene, "inbox");
	add_watch(scene, &scene->a, 1, "7");
	expect(scene, &scene->a, "1+7(work) 1+7:inbox(work) ");
	registry_set_away(scene->registry, 7, true);
	expect(scene, &scene->a, "1~7(work) ");
	for (int i = 0; i < 2; i++) {
		registry_set_endpoint(scene->registry, 7, "inbox", false);
		expect(scene, &scene->a, "1-7:inbox(work) ");
		registry_set_endpoint(scene->registry, 7, "inbox", true);
		expect(scene, &scene->a, "1+7:inbox(work) ");
	}
	registry_set_away(scene->registry, 7, false);
	expect(scene, &scene->a, "1+7(work) ");
	/* Likewise behind a new name, of which the program hasn't heard yet. */
	rename_domain(scene, 7, "play");
	registry_set_endpoint(scene->registry, 7, "inbox", false);
	registry_set_endpoint(scene->registry, 7, "inbox", true);
	expect(scene, &scene->a, "1+7(play) 1-7:inbox(play) 1+7:inbox(play) ");
	registry_set_endpoint(scene->registry, 7, "inbox", false);
	registry_set_endpoint(scene->registry, 7, "inbox", true);
	rename_domain(scene, 7, "work");
	expect(scene, &scene->a, "1+7(work) 1-7:inbox(work) 1+7:inbox(work) ");
}

SCENE_TEST(what_has_not_changed_is_not_told, scene_start)
{
	add_watch(scene, &scene->a, 1, "*");
	expect(scene, &scene->a, "");
	for (int i = 0; i < 2; i++) {
		come_up(scene, "inbox print");
		registry_set_endpoint(scene->registry, 7, "inbox", true);
		expect(scene, &scene->a, i ? "" : "1+7(work) 1+7:inbox(work) 1+7:print(work) ");
	}
	for (int i = 0; i < 2; i++) {
		registry_set_endpoint(scene->registry, 7, "print", false);
		expect(scene, &scene->a, i ? "" : "1-7:print(work) ");
	}
	for (int i = 0; i < 2; i++) {
		registry_set_up(scene->registry, 7, false);
		registry_set_endpoint(scene->registry, 7, "inbox", false);
		expect(scene, &scene->a, i ? "" : "1-7:inbox(work) 1-7(work) ");
	}
}

SCENE_TEST(list_of_endpoints_is_told_as_what_changed_in_it, scene_start)
{
	add_watch(scene, &scene->a, 1, "7:*");
	endpoints(scene, 7, "one two three");
	expect(scene, &scene->a, "1+7:one(work) 1+7:two(work) 1+7:three(work) ");
	endpoints(scene, 7, "three four one");
	expect(scene, &scene->a, "1+7:four(work) 1-7:two(work) ");
	endpoints(scene, 7, "");
	expect(scene, &scene->a, "1-7:one(work) 1-7:three(work) 1-7:four(work) ");
	endpoints(scene, 7, "one");
	expect(scene, &scene->a, "1+7:one(work) ");
}

static const struct {
	const char *pattern, *told;
} patterns[] = {
	{"7", "1+7(work) 1+7:inbox(work) 1+7:print(work) "},
	{"work", "1+7(work) 1+7:inbox(work) 1+7:print(work) "},
	{"w?rk", "1+7(work) 1+7:inbox(work) 1+7:print(work) "},
	{"self", "1+5(home) 1+5:inbox(home) "},
	{"home", "1+5(home) 1+5:inbox(home) "},
	{"[78]:inbox", "1+7:inbox(work) 1+8:inbox() "},
	{"*:inbox", "1+5:inbox(home) 1+7:inbox(work) 1+8:inbox() "},
	{"*:pr*", "1+7:print(work) "},
	{"self:*", "1+5:inbox(home) "},
	{"7:nothing", ""},
	{"77", ""},
	{"wor", ""},
	{"play", ""},
	{"7:Inbox", ""},
};

SCENE_TEST_EACH(pattern_means_what_it_says, scene_start, number, 2 * ROWS(patterns))
{
	const char *pattern = patterns[number / 2].pattern;
	bool is_late = number % 2; /* it isn't there before the watch */

	if (is_late)
		add_watch(scene, &scene->a, 1, pattern);
	registry_set_up(scene->registry, OWN, true);
	endpoints(scene, OWN, "inbox");
	come_up(scene, "inbox print");
	endpoints(scene, 8, "inbox"); /* known before it is up; without a name */
	if (!is_late)
		add_watch(scene, &scene->a, 1, pattern);
	expect(scene, &scene->a, patterns[number / 2].told);
}

SCENE_TEST(what_is_no_pattern_is_refused, scene_start)
{
	char name[DOMAIN_NAME_MAX + 2], endpoint[2 * ENDPOINT_NAME_MAX + 8] = "7:";
	static const char *const bad[] = {"",	":",	    ":inbox", "7:",	"7:a:b",    "7:a.b",
					  "7 ", "7:in box", "7\n",    "7:\x7f", "\xc3\xa4", "7:_*"};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(watch(scene, &scene->a, 1, bad[i]), EINVAL);
	/* The longest, and one more. */
	memset(name, 'x', sizeof(name));
	name[DOMAIN_NAME_MAX + 1] = '\0';
	assert_int_equal(watch(scene, &scene->a, 1, name), EINVAL);
	name[DOMAIN_NAME_MAX] = '\0';
	add_watch(scene, &scene->a, 1, name);
	memset(endpoint + 2, 'x', 2 * ENDPOINT_NAME_MAX + 1);
	assert_int_equal(watch(scene, &scene->a, 2, endpoint), EINVAL);
	endpoint[2 + 2 * ENDPOINT_NAME_MAX] = '\0';
	add_watch(scene, &scene->a, 2, endpoint);
	/* Those that were refused watch nothing. */
	registry_set_up(scene->registry, 7, true);
	expect(scene, &scene->a, "");
}

SCENE_TEST(each_watch_is_told_under_its_own_number, scene_start)
{
	add_watch(scene, &scene->a, 3, "7");
	add_watch(scene, &scene->a, 9, "*:inbox");
	add_watch(scene, &scene->b, 3, "work");
	registry_set_up(scene->registry, 7, true);
	registry_set_endpoint(scene->registry, 7, "inbox", true);
	expect(scene, &scene->a, "3+7(work) 3+7:inbox(work) 9+7:inbox(work) ");
	expect(scene, &scene->b, "3+7(work) 3+7:inbox(work) ");
}

SCENE_TEST(watch_that_has_ended_is_silent, scene_start)
{
	add_watch(scene, &scene->a, 1, "*");
	add_watch(scene, &scene->a, 2, "*");
	add_watch(scene, &scene->b, 1, "*");
	assert_true(unwatch(scene, &scene->a, 1));
	registry_set_up(scene->registry, 7, true);
	expect(scene, &scene->a, "2+7(work) ");
	expect(scene, &scene->b, "1+7(work) ");
	unwatch_all(scene, &scene->a);
	registry_set_up(scene->registry, 7, false);
	expect(scene, &scene->a, "");
	expect(scene, &scene->b, "1-7(work) ");
}

SCENE_TEST(program_may_have_64_watches, scene_start)
{
	for (uint32_t i = 0; i < 64; i++)
		add_watch(scene, &scene->a, i, "7");
	assert_int_equal(watch(scene, &scene->a, 64, "7"), ENOBUFS);
	add_watch(scene, &scene->b, 0, "7"); /* others have theirs */
	assert_true(unwatch(scene, &scene->a, 5));
	add_watch(scene, &scene->a, 64, "7");
}

/* Of what came and went meanwhile it needn't hear. */
SCENE_TEST(program_that_is_behind_is_told_when_it_has_read, scene_start)
{
	add_watch(scene, &scene->a, 1, "*");
	settle(scene);
	scene->a.is_behind = true;
	registry_set_up(scene->registry, 7, true);
	expect(scene, &scene->a, "");
	registry_set_endpoint(scene->registry, 7, "inbox", true);
	registry_set_endpoint(scene->registry, 7, "inbox", false);
	scene->a.is_behind = false;
	watches_heard(scene->watches, &scene->a);
	expect(scene, &scene->a, "1+7(work) ");
}

/* What one of its watches wasn't sent ends with that, and nobody tells that it was sent. */
SCENE_TEST(program_that_ends_the_watch_that_is_behind_hears_of_others, scene_start)
{
	add_watch(scene, &scene->a, 1, "*");
	add_watch(scene, &scene->a, 2, "*");
	settle(scene);
	scene->a.is_behind = true;
	registry_set_up(scene->registry, 7, true);
	expect(scene, &scene->a, "");
	scene->a.is_behind = false;
	assert_true(unwatch(scene, &scene->a, 1));
	expect(scene, &scene->a, "2+7(work) ");
}

SCENE_TEST(program_that_lacks_memory_is_cut_off_and_others_are_told, scene_start)
{
	add_watch(scene, &scene->a, 1, "*");
	add_watch(scene, &scene->b, 1, "*");
	scene->a.full = true;
	registry_set_up(scene->registry, 7, true);
	settle(scene);
	assert_int_equal(scene->a.cut_off, -ENOMEM);
	assert_int_equal(scene->b.cut_off, 0);
	expect(scene, &scene->b, "1+7(work) ");
}

SCENE_TEST(renamed_domain_goes_by_its_old_name_and_comes_by_its_new_one, scene_start)
{
	come_up(scene, "inbox");
	add_watch(scene, &scene->a, 1, "work");
	add_watch(scene, &scene->a, 2, "play");
	add_watch(scene, &scene->a, 3, "work:*");
	add_watch(scene, &scene->a, 4, "play:inbox");
	add_watch(scene, &scene->b, 5, "7");
	add_watch(scene, &scene->b, 6, "7:*");
	expect(scene, &scene->a, "1+7(work) 1+7:inbox(work) 3+7:inbox(work) ");
	expect(scene, &scene->b, "5+7(work) 5+7:inbox(work) 6+7:inbox(work) ");
	rename_domain(scene, 7, "play");
	expect(scene, &scene->a,
	       "1-7:inbox(work) 3-7:inbox(work) 1-7(work) 2+7(play) 2+7:inbox(play) 4+7:inbox(play) ");
	expect(scene, &scene->b, "5+7(play) ");
	/* The same name again, or one of a domain that nobody knows, is nothing new. */
	rename_domain(scene, 7, "play");
	rename_domain(scene, 9, "work");
	expect(scene, &scene->a, "");
	expect(scene, &scene->b, "");
	/* No name any more. */
	rename_domain(scene, 7, "");
	expect(scene, &scene->a, "2-7:inbox(play) 4-7:inbox(play) 2-7(play) ");
	expect(scene, &scene->b, "");
	rename_domain(scene, 7, "work");
	expect(scene, &scene->a, "1+7(work) 1+7:inbox(work) 3+7:inbox(work) ");
	expect(scene, &scene->b, "5+7(work) ");
}

SCENE_TEST(own_domain_with_another_number_goes_and_comes, scene_start)
{
	rename_domain(scene, 9, "home");
	registry_set_up(scene->registry, OWN, true);
	endpoints(scene, OWN, "inbox");
	add_watch(scene, &scene->a, 1, "self");
	add_watch(scene, &scene->a, 2, "5");
	add_watch(scene, &scene->a, 3, "9:*");
	expect(scene, &scene->a, "1+5(home) 2+5(home) 1+5:inbox(home) 2+5:inbox(home) ");
	scene->self.domid = 9;
	registry_restart(scene->registry);
	expect(scene, &scene->a,
	       "1-5:inbox(home) 2-5:inbox(home) 1-5(home) 2-5(home) 1+9(home) 1+9:inbox(home) 3+9:inbox(home) ");
	/* From then on it is known under the new one. */
	registry_set_endpoint(scene->registry, 9, "inbox", false);
	expect(scene, &scene->a, "1-9:inbox(home) 3-9:inbox(home) ");
}

SCENE_TEST(program_is_not_told_of_what_it_may_not_learn_of, scene_start)
{
	scene->keeps_secrets = true;
	registry_set_up(scene->registry, OWN, true);
	endpoints(scene, OWN, "inbox secret");
	add_watch(scene, &scene->a, 1, "self:*");
	add_watch(scene, &scene->b, 1, "self:*");
	expect(scene, &scene->a, "1+5:inbox(home) 1+5:secret(home) ");
	expect(scene, &scene->b, "1+5:inbox(home) ");
	registry_set_endpoint(scene->registry, OWN, "secret2", true);
	registry_set_endpoint(scene->registry, OWN, "secret", false);
	expect(scene, &scene->a, "1+5:secret2(home) 1-5:secret(home) ");
	expect(scene, &scene->b, "");
	/* What other domains tell us of, they tell everybody here. */
	endpoints(scene, 7, "secret");
	add_watch(scene, &scene->b, 2, "7:*");
	expect(scene, &scene->b, "2+7:secret(work) ");
}

/* Who asks from another domain is told only what rules let it see, of domains, too. */
SCENE_TEST(a_stranger_is_told_only_what_it_may_see, scene_start)
{
	scene->keeps_secrets = scene->b.is_strangers = scene->b.hears_lists = true;
	scene->hidden = 8;
	registry_set_up(scene->registry, OWN, true);
	endpoints(scene, OWN, "inbox secret");
	come_up(scene, "print");
	registry_set_up(scene->registry, 8, true);
	registry_set_cut(scene->registry, 7, true); /* which only says how much isn't for it */
	registry_set_cut(scene->registry, 8, true);
	add_watch(scene, &scene->b, 1, "*");
	expect(scene, &scene->b, "1+5(home) 1+5:inbox(home) 1+7(work) 1. ");
	registry_set_up(scene->registry, 8, false);
	registry_set_endpoint(scene->registry, OWN, "secret", false);
	registry_set_endpoint(scene->registry, 7, "print", false);
	registry_set_up(scene->registry, 7, false);
	expect(scene, &scene->b, "1-7(work) ");
}

/* Its channel ends when rules or names are others, or when it can't be told all. */
SCENE_TEST(a_stranger_is_hung_up_on_and_programs_here_are_not, scene_start)
{
	scene->b.is_strangers = true;
	add_watch(scene, &scene->a, 1, "*");
	add_watch(scene, &scene->b, 1, "*");
	add_watch(scene, &scene->b, 2, "7");
	watches_hang_up(scene->watches);
	assert_int_equal(scene->b.hung_up, EAGAIN);
	assert_null(scene->b.questions);
	add_watch(scene, &scene->b, 1, "*");
	scene->b.full = true;
	registry_set_up(scene->registry, 7, true);
	expect(scene, &scene->a, "1+7(work) ");
	assert_int_equal(scene->b.hung_up, ENOBUFS);
	assert_null(scene->b.questions);
	assert_int_equal(scene->a.hung_up, 0);
	assert_int_equal(scene->b.cut_off, 0); /* which is a session's */
}

SCENE_TEST(watch_hears_once_that_all_which_was_there_is_told, scene_start)
{
	scene->a.hears_lists = scene->b.hears_lists = true;
	come_up(scene, "inbox");
	add_watch(scene, &scene->a, 1, "7");
	add_watch(scene, &scene->a, 2, "9");
	expect(scene, &scene->a, "1+7(work) 1+7:inbox(work) 1. 2. ");
	registry_set_endpoint(scene->registry, 7, "print", true);
	registry_tell(scene->registry, REGISTRY_ALL, 0);
	expect(scene, &scene->a, "1+7:print(work) ");
	/* Each watch has its own. */
	add_watch(scene, &scene->a, 3, "7:inbox");
	expect(scene, &scene->a, "3+7:inbox(work) 3. ");
	add_watch(scene, &scene->b, 1, "7:none");
	expect(scene, &scene->b, "1. ");
}

SCENE_TEST(list_of_others_ends_when_all_who_run_have_answered, scene_start)
{
	scene->a.hears_lists = scene->asks_all = true;
	registry_set_up(scene->registry, OWN, true);
	registry_set_endpoint(scene->registry, OWN, "log", true);
	registry_set_up(scene->registry, 7, true);
	add_watch(scene, &scene->a, 1, "*");
	add_watch(scene, &scene->a, 2, "self:log");
	expect(scene, &scene->a, "1+5(home) 1+5:log(home) 2+5:log(home) 1+7(work) 2. ");
	endpoints(scene, 7, "inbox");
	expect(scene, &scene->a, "1+7:inbox(work) ");
	/* What comes together with the last answer is told before. */
	endpoints(scene, 7, "inbox print");
	scene->asks_all = false;
	registry_tell(scene->registry, REGISTRY_ALL, 0);
	expect(scene, &scene->a, "1+7:print(work) 1. ");
}

SCENE_TEST(watch_is_told_whether_it_was_told_of_all, scene_start)
{
	scene->a.hears_lists = true;
	come_up(scene, "inbox");
	add_watch(scene, &scene->a, 1, "7");
	add_watch(scene, &scene->a, 2, "9");
	expect(scene, &scene->a, "1+7(work) 1+7:inbox(work) 1. 2. ");
	registry_set_cut(scene->registry, 7, true);
	expect(scene, &scene->a, "1~. ");
	add_watch(scene, &scene->a, 3, "7:print");
	expect(scene, &scene->a, "3~. ");
	registry_set_name(scene->registry, registry_get(scene->registry, 7), "play", 4);
	expect(scene, &scene->a, "1+7(play) ");
	registry_set_cut(scene->registry, 7, false);
	expect(scene, &scene->a, "1. 3. ");
	registry_set_cut(scene->registry, 7, true);
	expect(scene, &scene->a, "1~. 3~. ");
	registry_set_up(scene->registry, 7, false);
	expect(scene, &scene->a, "1-7:inbox(play) 1-7(play) 1. 3. ");
}

/* It may have been told of more by the daemon before this, which others see at the end of its list. So that
 * comes when others had the time to be found; and what has gone and come is told to have gone, too. */
SCENE_TEST(watch_that_is_begun_anew_lists_until_others_were_found, scene_start)
{
	watches_settle(scene->watches, scene->base);
	scene->a.hears_lists = scene->a.has_stood = scene->b.hears_lists = true;
	add_watch(scene, &scene->b, 2, "7");
	expect(scene, &scene->b, "2. ");
	/* All that is here is known at once. */
	add_watch(scene, &scene->a, 3, "self");
	expect(scene, &scene->a, "3. ");
	come_up(scene, "inbox");
	expect(scene, &scene->b, "2+7(work) 2+7:inbox(work) ");
	registry_set_up(scene->registry, 7, false);
	come_up(scene, "inbox");
	registry_set_endpoint(scene->registry, 7, "print", true);
	registry_set_endpoint(scene->registry, 7, "print", false);
	add_watch(scene, &scene->a, 1, "7");
	expect(scene, &scene->a, "1-7(work) 1+7(work) 1-7:inbox(work) 1+7:inbox(work) 1-7:print(work) ");
	event_active(scene->watches->settle, EV_TIMEOUT, 0);
	expect(scene, &scene->a, "1. ");
}
