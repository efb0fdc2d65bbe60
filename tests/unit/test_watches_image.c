/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Watches that are handed over: the next daemon tells them of what has changed, and of nothing else, as soon
 * as it knows what is there; and so does the one behind that, also if nobody knew everything in between.
 */
#include "tests/unit/image_bytes.h"
#include "tests/unit/watches_rig.h"

#include <stdlib.h>

#include <event2/event.h>

#include "daemon/local/watches.h"
#include "daemon/local/watches_internal.h"
#include "daemon/switch/hop_image.h"

/* `scene` hands over to the one that is made in its place, which knows nobody's endpoints yet. Until then
 * both programs are told this. */
static void hand_over_telling(struct scene *scene, const char *a, const char *b)
{
	size_t size;
	uint8_t *bytes = write_image(scene, &size);

	image_write_seed("watches", bytes, size);
	assert_string_equal(scene->a.heard, a);
	assert_string_equal(scene->b.heard, b);
	scene_stop(scene);
	scene_start(scene);
	assert_int_equal(read_image(scene, bytes, size), 0);
	free(bytes);
	watches_go_on(scene->watches, scene->base);
	settle(scene);
}

static void hand_over(struct scene *scene)
{
	hand_over_telling(scene, "", "");
}

/* The time is over in which others are found again. */
static void time_is_over(struct scene *scene)
{
	assert_non_null(scene->watches->settle);
	event_active(scene->watches->settle, EV_TIMEOUT, 0);
	settle(scene);
}

/* So long it is there, with these endpoints of others. NULL: it finds nobody again. */
static void go_on(struct scene *scene, unsigned ms, const char *list)
{
	if (list)
		come_up(scene, list);
	assert_true(scene->watches->began_ms > ms);
	scene->watches->began_ms -= ms;
}

static void start(struct scene *scene)
{
	scene_start(scene);
	come_up(scene, "inbox print");
	add_watch(scene, &scene->a, 1, "7");
	expect(scene, &scene->a, "1+7(work) 1+7:inbox(work) 1+7:print(work) ");
}

SCENE_TEST(a_watch_hears_nothing_where_nothing_has_changed, start)
{
	hand_over(scene);
	come_up(scene, "print inbox");
	time_is_over(scene);
	expect(scene, &scene->a, "");
}

SCENE_TEST(a_link_that_was_away_is_told_as_up_again, start)
{
	registry_set_away(scene->registry, 7, true);
	expect(scene, &scene->a, "1~7(work) ");
	hand_over(scene);
	come_up(scene, "inbox print");
	time_is_over(scene);
	expect(scene, &scene->a, "1+7(work) ");
}

/* The daemon in between hands over before it would have compared. */
SCENE_TEST(a_link_that_goes_away_between_hand_overs_is_told_once, start)
{
	hand_over(scene);
	go_on(scene, 10, "inbox print");
	registry_set_away(scene->registry, 7, true);
	hand_over_telling(scene, "1~7(work) ", "");
	go_on(scene, 10, "inbox print");
	registry_set_away(scene->registry, 7, true);
	hand_over(scene);
	go_on(scene, 10, "inbox print");
	hand_over_telling(scene, "1+7(work) ", "");
	come_up(scene, "inbox print");
	time_is_over(scene);
	expect(scene, &scene->a, "");
}

static void offer_many(struct scene *scene)
{
	char name[16];

	registry_set_up(scene->registry, 7, true);
	for (unsigned i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "e%u", i);
		registry_set_endpoint(scene->registry, 7, name, true);
	}
}

SCENE_TEST(what_changes_while_it_is_compared_in_turns_is_told, scene_start)
{
	struct watcher *watcher;
	uint64_t cost;

	offer_many(scene);
	scene->a.counts = true;
	add_watch(scene, &scene->a, 1, "7");
	settle(scene);
	hand_over(scene);
	scene->a.counts = false;
	offer_many(scene);
	settle(scene);
	event_free(scene->watches->settle);
	scene->watches->settle = NULL;
	watcher = watcher_get(scene->watches, &scene->a);
	do {
		cost = 0;
		assert_false(watcher_hear(watcher, &cost));
	} while (!watcher->list->compared);
	registry_set_endpoint(scene->registry, 7, "e0", false);
	registry_set_endpoint(scene->registry, 7, "e1499", false);
	expect(scene, &scene->a, "1-7:e0(work) 1-7:e1499(work) ");
}

/* Nobody is served meanwhile, so it can't last as long as anybody's watches want. */
SCENE_TEST(only_who_has_more_to_hear_is_cut_off_where_time_is_over, scene_start)
{
	offer_many(scene);
	scene->a.counts = scene->b.counts = true;
	add_watch(scene, &scene->a, 1, "7");
	settle(scene);
	add_watch(scene, &scene->b, 2, "7");
	watches_hold_until(scene->watches, 0);
	assert_false(watcher_get(scene->watches, &scene->a)->is_cut_off);
	assert_true(watcher_get(scene->watches, &scene->b)->is_cut_off);
}

/* While the last frames are sent on. */
SCENE_TEST(a_watch_of_the_last_passes_is_told_by_the_next_daemon, start)
{
	watches_hold(scene->watches);
	add_watch(scene, &scene->b, 2, "7");
	hand_over(scene);
	come_up(scene, "inbox print");
	expect(scene, &scene->b, "2+7(work) 2+7:inbox(work) 2+7:print(work) ");
}

/* Of what changes in the last passes nobody is told here: not that it went and came, nor of another name. */
SCENE_TEST(what_goes_in_the_last_passes_is_told_by_the_next_daemon, start)
{
	watches_hold(scene->watches);
	registry_set_endpoint(scene->registry, 7, "inbox", false);
	registry_set_endpoint(scene->registry, 7, "inbox", true);
	rename_domain(scene, 7, "play");
	hand_over(scene);
	come_up(scene, "print");
	time_is_over(scene);
	expect(scene, &scene->a, "1-7:inbox(work) ");
}

/* What another watch was told earlier, and the daemon in between doesn't know yet. */
SCENE_TEST(a_watch_of_between_two_hand_overs_is_told_all, start)
{
	registry_set_away(scene->registry, 7, true);
	expect(scene, &scene->a, "1~7(work) ");
	hand_over(scene);
	add_watch(scene, &scene->b, 2, "7");
	hand_over_telling(scene, "", "2+7:inbox(work) 2+7:print(work) 2+7(work) 2~7(work) ");
	come_up(scene, "print scan");
	expect(scene, &scene->b, "2+7:scan(work) ");
	time_is_over(scene);
	expect(scene, &scene->b, "2-7:inbox(work) 2+7(work) ");
}

SCENE_TEST(what_has_gone_is_told_though_no_daemon_stays_for_long, start)
{
	for (unsigned i = 0; i < 3; i++) {
		hand_over(scene);
		go_on(scene, 900, "print");
	}
	hand_over_telling(scene, "1-7:inbox(work) ", "");
	come_up(scene, "print inbox");
	expect(scene, &scene->a, "1+7:inbox(work) ");
	time_is_over(scene);
	expect(scene, &scene->a, "");
}

SCENE_TEST(what_is_found_again_or_could_not_be_found_yet_is_not_missed, start)
{
	for (unsigned i = 0; i < 6; i++) {
		hand_over(scene);
		scene->asks_all = i >= 3;
		go_on(scene, 1500, i == 1 ? "inbox print" : NULL);
	}
	hand_over(scene);
}

SCENE_TEST(another_name_is_told_before_the_next_hand_over, start)
{
	add_watch(scene, &scene->b, 2, "work");
	expect(scene, &scene->b, "2+7(work) 2+7:inbox(work) 2+7:print(work) ");
	hand_over(scene);
	come_up(scene, "inbox print");
	rename_domain(scene, 7, "play");
	hand_over_telling(
		scene, "1-7(work) 1+7(play) 1-7:inbox(work) 1+7:inbox(play) 1-7:print(work) 1+7:print(play) ",
		"2-7(work) 2-7:inbox(work) 2-7:print(work) ");
}
