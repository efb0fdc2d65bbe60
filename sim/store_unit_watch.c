/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which events are sent, with which paths, and to whom. */
#include "sim/store_unit.h"

#include <stdio.h>

static void a_watch_fires_once_when_it_is_set(void **state)
{
	struct unit_fixture *f = *state;

	assert_int_equal(unit_watch(f->one, "data", "t"), 0);
	unit_expect_event(f->one, "data", "t");
	unit_expect_silence(f->one);
	/* A watch can be set where there is nothing, or nothing readable. */
	unit_watch_quietly(f->one, "data/missing/node", "t");
	unit_watch_quietly(f->one, "/local/domain/2/data", "t");
	unit_watch_quietly(f->one, "@releaseDomain", "t");
	unit_expect_silence(f->one);
	unit_expect_silence(f->two);
}

static void events_name_the_path_as_it_was_registered(void **state)
{
	struct unit_fixture *f = *state;

	unit_watch_quietly(f->one, "data", "relative");
	unit_watch_quietly(f->one, "/local/domain/1/data", "absolute");
	unit_watch_quietly(f->dom0, "/local/domain", "above");
	assert_int_equal(unit_write(f->one, 0, "data/a", "x"), 0);
	unit_expect_event(f->one, "/local/domain/1/data/a", "absolute"); /* the newest first */
	unit_expect_event(f->one, "data/a", "relative");
	unit_expect_event(f->dom0, "/local/domain/1/data/a", "above");
	assert_int_equal(unit_write(f->one, 0, "data", "x"), 0);
	unit_expect_event(f->one, "/local/domain/1/data", "absolute");
	unit_expect_event(f->one, "data", "relative");
	unit_expect_event(f->dom0, "/local/domain/1/data", "above");
	/* A name that only begins the same is another node. */
	assert_int_equal(unit_write(f->dom0, 0, "/local/domain/1/database", "x"), 0);
	unit_expect_event(f->dom0, "/local/domain/1/database", "above");
	unit_expect_silence(f->one);
}

static void each_kind_of_change_fires(void **state)
{
	struct unit_fixture *f = *state;

	unit_watch_quietly(f->one, "data", "t");
	assert_int_equal(unit_simple(f->one, XS_MKDIR, 0, "data/a"), 0);
	unit_expect_event(f->one, "data/a", "t");
	assert_int_equal(unit_simple(f->one, XS_MKDIR, 0, "data/a"), 0);
	unit_expect_silence(f->one); /* nothing changed */
	assert_int_equal(unit_write(f->one, 0, "data/a", "x"), 0);
	unit_expect_event(f->one, "data/a", "t");
	assert_int_equal(unit_write(f->one, 0, "data/a", "x"), 0);
	unit_expect_event(f->one, "data/a", "t"); /* the same value again is a change, too */
	assert_int_equal(unit_set_perms(f->one, 0, "data/a", "r1"), 0);
	unit_expect_event(f->one, "data/a", "t");
	assert_int_equal(unit_simple(f->one, XS_RM, 0, "data/a"), 0);
	unit_expect_event(f->one, "data/a", "t");
	assert_int_equal(unit_simple(f->one, XS_RM, 0, "data/a"), 0);
	unit_expect_silence(f->one);
	/* The directories made on the way to a node are no events of their own. */
	assert_int_equal(unit_write(f->one, 0, "data/b/c/d", "x"), 0);
	unit_expect_event(f->one, "data/b/c/d", "t");
	unit_expect_silence(f->one);
	assert_null(unit_read(f->one, 0, "data/missing"));
	assert_int_equal(unit_write(f->two, 0, "/local/domain/1/data/x", "x"), -EACCES);
	unit_expect_silence(f->one);
}

static void one_watch_above_finds_every_readable_node(void **state)
{
	struct unit_fixture *f = *state;

	unit_watch_quietly(f->two, "/local/domain", "t");
	assert_int_equal(unit_write(f->one, 0, "data/xenmsg/presence", "1"), 0);
	unit_expect_silence(f->two);
	assert_int_equal(unit_set_perms(f->one, 0, "data/xenmsg/presence", "r1"), 0);
	unit_expect_event(f->two, "/local/domain/1/data/xenmsg/presence", "t");
	assert_int_equal(unit_write(f->one, 0, "data/xenmsg/presence", "2"), 0);
	unit_expect_event(f->two, "/local/domain/1/data/xenmsg/presence", "t");
	assert_int_equal(unit_write(f->one, 0, "data/xenmsg/to/3", "secret"), 0);
	unit_expect_silence(f->two);
	/* A domain that loses the right to read gets one event for that, and then no more. */
	assert_int_equal(unit_set_perms(f->one, 0, "data/xenmsg/presence", "n1"), 0);
	unit_expect_event(f->two, "/local/domain/1/data/xenmsg/presence", "t");
	assert_int_equal(unit_write(f->one, 0, "data/xenmsg/presence", "3"), 0);
	unit_expect_silence(f->two);
	assert_int_equal(unit_set_perms(f->one, 0, "data/xenmsg/presence", "n1 r2"), 0);
	unit_expect_event(f->two, "/local/domain/1/data/xenmsg/presence", "t");
	assert_int_equal(unit_simple(f->one, XS_RM, 0, "data/xenmsg/presence"), 0);
	unit_expect_event(f->two, "/local/domain/1/data/xenmsg/presence", "t");
	unit_expect_silence(f->two);
}

static void a_readable_parent_tells_of_unreadable_children(void **state)
{
	struct unit_fixture *f = *state;

	assert_int_equal(unit_simple(f->one, XS_MKDIR, 0, "data/open"), 0);
	assert_int_equal(unit_set_perms(f->one, 0, "data/open", "r1"), 0);
	assert_int_equal(unit_write(f->one, 0, "data/open/leaf", "x"), 0);
	assert_int_equal(unit_set_perms(f->one, 0, "data/open/leaf", "n1"), 0);
	unit_watch_quietly(f->two, "/local/domain", "t");
	assert_int_equal(unit_write(f->one, 0, "data/open/leaf", "y"), 0);
	unit_expect_event(f->two, "/local/domain/1/data/open/leaf", "t");
}

static void a_removed_subtree_is_one_event_above_and_one_at_each_watch_within(void **state)
{
	struct unit_fixture *f = *state;

	assert_int_equal(unit_write(f->one, 0, "data/a/b/c", "x"), 0);
	assert_int_equal(unit_write(f->one, 0, "data/a/b/d", "x"), 0);
	unit_watch_quietly(f->one, "data", "above");
	unit_watch_quietly(f->one, "data/a/b/c", "within");
	unit_watch_quietly(f->one, "data/a/b/c/missing", "deeper");
	assert_int_equal(unit_simple(f->one, XS_RM, 0, "data/a"), 0);
	unit_expect_event(f->one, "data/a", "above");
	unit_expect_event(f->one, "data/a/b/c", "within");
	unit_expect_event(f->one, "data/a/b/c/missing", "deeper");
	unit_expect_silence(f->one);
}

static void a_removed_home_is_heard_of_at_the_readable_leaf_only(void **state)
{
	struct unit_fixture *f = *state;

	assert_int_equal(unit_write(f->one, 0, "data/xenmsg/presence", "1"), 0);
	assert_int_equal(unit_set_perms(f->one, 0, "data/xenmsg/presence", "r1"), 0);
	unit_watch_quietly(f->two, "/local/domain", "above");
	unit_watch_quietly(f->two, "/local/domain/1/data/xenmsg/presence", "leaf");
	assert_int_equal(sim_store_rm(f->host->store, "/local/domain/1"), 0);
	/* Others can't read the top that was removed, and a removal below it is no event to a watch above. */
	unit_expect_event(f->two, "/local/domain/1/data/xenmsg/presence", "leaf");
	unit_expect_silence(f->two);
}

static void domains_come_and_go_for_dom0_and_for_whom_it_allows(void **state)
{
	struct unit_fixture *f = *state;

	unit_watch_quietly(f->dom0, "@introduceDomain", "in");
	unit_watch_quietly(f->dom0, "@releaseDomain", "out");
	unit_watch_quietly(f->one, "@releaseDomain", "out");
	sim_store_introduce(f->host->store, 9);
	unit_expect_event(f->dom0, "@introduceDomain", "in");
	sim_store_release(f->host->store, 9);
	unit_expect_event(f->dom0, "@releaseDomain", "out");
	unit_expect_silence(f->one);
	assert_int_equal(unit_set_perms(f->one, 0, "@releaseDomain", "r1"), -EACCES);
	assert_int_equal(unit_set_perms(f->dom0, 0, "@releaseDomain", "n0 r1"), 0);
	sim_store_introduce(f->host->store, 9);
	unit_expect_event(f->dom0, "@introduceDomain", "in");
	sim_store_release(f->host->store, 9);
	unit_expect_event(f->dom0, "@releaseDomain", "out");
	unit_expect_event(f->one, "@releaseDomain", "out");
	unit_expect_silence(f->one);
	/* The toolstack may do the same over the wire. */
	assert_int_equal(unit_ask(f->dom0, XS_INTRODUCE, 0,
				  "9\0"
				  "0\0"
				  "0",
				  6),
			 0);
	unit_expect_event(f->dom0, "@introduceDomain", "in");
	assert_int_equal(unit_ask(f->dom0, XS_INTRODUCE, 0,
				  "9\0"
				  "0\0"
				  "0",
				  6),
			 0);
	unit_expect_silence(f->dom0);
	assert_int_equal(unit_simple(f->dom0, XS_RELEASE, 0, "9"), 0);
	unit_expect_event(f->dom0, "@releaseDomain", "out");
	unit_expect_event(f->one, "@releaseDomain", "out");
}

static void the_same_watch_twice(void **state)
{
	struct unit_fixture *f = *state;

	/* On xenstored's own socket a second watch is refused, and the other spelling of the path is the same
	 * watch. */
	unit_watch_quietly(f->dom0, "data", "t");
	assert_int_equal(unit_watch(f->dom0, "data", "t"), -EEXIST);
	assert_int_equal(unit_watch(f->dom0, "/local/domain/0/data", "t"), -EEXIST);
	unit_watch_quietly(f->dom0, "data", "u");
	/* A guest's kernel gives each a token of its own. */
	unit_watch_quietly(f->one, "data", "t");
	unit_watch_quietly(f->one, "data", "t");
	assert_int_equal(unit_write(f->one, 0, "data/x", "x"), 0);
	unit_expect_event(f->one, "data/x", "t");
	unit_expect_event(f->one, "data/x", "t");
	unit_expect_silence(f->one);
}

static void an_unwatched_path_is_silent(void **state)
{
	struct unit_fixture *f = *state;

	unit_watch_quietly(f->one, "data", "t");
	unit_watch_quietly(f->one, "data", "u");
	assert_int_equal(unit_unwatch(f->one, "data", "t"), 0);
	assert_int_equal(unit_write(f->one, 0, "data/x", "x"), 0);
	unit_expect_event(f->one, "data/x", "u");
	unit_expect_silence(f->one);
	assert_int_equal(unit_unwatch(f->one, "data", "t"), 0); /* the kernel answers, and never says no */
	assert_int_equal(unit_unwatch(f->dom0, "data", "t"), -ENOENT);
	assert_int_equal(unit_simple(f->one, XS_RESET_WATCHES, 0, ""), 0);
	assert_int_equal(unit_write(f->one, 0, "data/x", "x"), 0);
	unit_expect_silence(f->one);
}

/* On domain 0's connection, which goes on. */
static void malformed_watches_are_refused(void **state)
{
	struct unit_fixture *f = *state;

	assert_int_equal(unit_watch(f->dom0, "", "t"), -EINVAL);
	assert_int_equal(unit_watch(f->dom0, "data/", "t"), -EINVAL);
	assert_int_equal(unit_watch(f->dom0, "/a b", "t"), -EINVAL);
	assert_int_equal(unit_ask(f->dom0, XS_WATCH, 0, "data", 5), -EINVAL);
	assert_int_equal(unit_ask(f->dom0, XS_WATCH, 0, "data\0t", 6), -EINVAL);
	assert_int_equal(unit_ask(f->dom0, XS_WATCH, 0, "data\0t\0u", 9), -EINVAL);
	unit_expect_silence(f->dom0);
}

static void a_closed_connection_takes_its_watches_along(void **state)
{
	struct unit_fixture *f = *state;
	struct unit_client *second = unit_connect(f->host, 1);
	struct sim_store_stats stats;

	unit_watch_quietly(f->one, "data", "t");
	unit_watch_quietly(second, "data", "t");
	sim_store_stats(f->host->store, 1, &stats);
	assert_int_equal(stats.watches, 2);
	assert_int_equal(stats.connections, 2);
	unit_close(second);
	sim_store_stats(f->host->store, 1, &stats);
	assert_int_equal(stats.watches, 1);
	assert_int_equal(stats.connections, 1);
	assert_int_equal(unit_write(f->one, 0, "data/x", "x"), 0);
	unit_expect_event(f->one, "data/x", "t");
}

static void after_a_restore_every_watch_fires_and_relative_paths_mean_the_new_home(void **state)
{
	struct unit_fixture *f = *state;
	const struct sim_perm owner = {7, SIM_PERM_NONE};
	struct sim_store *store = f->host->store;

	unit_watch_quietly(f->one, "domid", "a");
	unit_watch_quietly(f->one, "/local/domain", "b");
	assert_int_equal(sim_store_write(store, "/local/domain/7/data", "", &owner, 1), 0);
	sim_store_introduce(store, 7);
	assert_int_equal(sim_store_rename_domain(store, 1, 2), -EEXIST);
	assert_int_equal(sim_store_rename_domain(store, 99, 8), -ENOENT);
	assert_int_equal(sim_store_rename_domain(store, 1, 7), 0);
	unit_expect_event(f->one, "domid", "a");
	unit_expect_event(f->one, "/local/domain", "b");
	sim_store_rm(store, "/local/domain/1");
	sim_store_release(store, 1);
	assert_int_equal(sim_store_write(store, "/local/domain/7/domid", "7",
					 (struct sim_perm[]){{0, 0}, {7, SIM_PERM_READ}}, 2),
			 0);
	unit_expect_event(f->one, "/local/domain/7/domid", "b");
	unit_expect_event(f->one, "domid", "a");
	assert_string_equal(unit_read(f->one, 0, "domid"), "7");
	assert_int_equal(unit_write(f->one, 0, "data/x", "x"), 0);
	unit_expect_event(f->one, "/local/domain/7/data/x", "b");
	assert_true(sim_store_exists(store, "/local/domain/7/data/x"));
	unit_expect_silence(f->one);
	assert_int_equal(sim_store_rename_domain(store, 7, 7), 0);
	unit_expect_event(f->one, "domid", "a");
	unit_expect_event(f->one, "/local/domain", "b");
	unit_expect_silence(f->one);
}

static void a_node_written_with_permissions_is_never_seen_without(void **state)
{
	struct unit_fixture *f = *state;
	const struct sim_perm secret = {1, SIM_PERM_NONE};

	assert_int_equal(unit_simple(f->one, XS_MKDIR, 0, "data/open"), 0);
	assert_int_equal(unit_set_perms(f->one, 0, "data/open", "n1"), 0);
	unit_watch_quietly(f->two, "/local/domain", "t");
	assert_int_equal(sim_store_write(f->host->store, "/local/domain/1/data/open/x", "s", &secret, 1), 0);
	unit_expect_silence(f->two);
	assert_int_equal(sim_store_write(f->host->store, "relative", "s", NULL, 0), -EINVAL);
	assert_int_equal(sim_store_write(f->host->store, "/local/domain/1/data/open/x", "t", NULL, 0), 0);
	assert_string_equal(unit_get_perms(f->one, "data/open/x"), "n1");
}

/* The watches of a change are found from the root downwards, as oxenstored finds them; those of one path, and
 * what is below a removed one, are all found, whoever watches, and none twice. */
static void a_change_finds_the_watches_above_and_a_removal_those_below(void **state)
{
	struct unit_fixture *f = *state;

	assert_int_equal(unit_write(f->one, 0, "data/a/b/c", "x"), 0);
	unit_watch_quietly(f->one, "data/a/b/c", "deep");
	unit_watch_quietly(f->one, "data/a", "shallow");
	unit_watch_quietly(f->one, "data/a", "again");
	unit_watch_quietly(f->one, "data/ab", "beside");
	unit_watch_quietly(f->dom0, "/", "all");
	assert_int_equal(unit_write(f->one, 0, "data/a/b", "x"), 0);
	unit_expect_event(f->one, "data/a/b", "again");
	unit_expect_event(f->one, "data/a/b", "shallow");
	unit_expect_event(f->dom0, "/local/domain/1/data/a/b", "all");
	assert_int_equal(unit_simple(f->one, XS_RM, 0, "data/a/b"), 0);
	unit_expect_event(f->one, "data/a/b", "again");
	unit_expect_event(f->one, "data/a/b", "shallow");
	unit_expect_event(f->one, "data/a/b/c", "deep");
	unit_expect_event(f->dom0, "/local/domain/1/data/a/b", "all");
	unit_expect_silence(f->one);
	/* A watch that has gone is found no more, and the others of its path still are. */
	assert_int_equal(unit_unwatch(f->one, "data/a", "shallow"), 0);
	assert_int_equal(unit_unwatch(f->one, "data/a/b/c", "deep"), 0);
	assert_int_equal(unit_write(f->one, 0, "data/a/b/c", "x"), 0);
	unit_expect_event(f->one, "data/a/b/c", "again");
	unit_expect_silence(f->one);
}

static void requests_and_events_are_counted_by_domain(void **state)
{
	struct unit_fixture *f = *state;
	struct sim_store_stats one, two;

	unit_watch_quietly(f->two, "/local/domain", "t");
	sim_store_stats(f->host->store, 2, &two);
	assert_int_equal(two.requests, 1);
	assert_int_equal(two.writes, 0);
	assert_int_equal(two.events, 1);
	assert_int_equal(unit_write(f->one, 0, "data/x", "1"), 0);
	assert_int_equal(unit_write(f->one, 0, "data/x", "2"), 0);
	assert_int_equal(unit_set_perms(f->one, 0, "data/x", "r1"), 0);
	unit_expect_event(f->two, "/local/domain/1/data/x", "t");
	sim_store_stats(f->host->store, 1, &one);
	assert_int_equal(one.requests, 3);
	assert_int_equal(one.writes, 2);
	assert_int_equal(one.events, 0);
	sim_store_stats(f->host->store, 2, &two);
	assert_int_equal(two.requests, 1);
	assert_int_equal(two.events, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit_case(a_watch_fires_once_when_it_is_set),
		unit_case(events_name_the_path_as_it_was_registered),
		unit_case(each_kind_of_change_fires),
		unit_case(one_watch_above_finds_every_readable_node),
		unit_case(a_readable_parent_tells_of_unreadable_children),
		unit_case(a_removed_subtree_is_one_event_above_and_one_at_each_watch_within),
		unit_case(a_removed_home_is_heard_of_at_the_readable_leaf_only),
		unit_case(domains_come_and_go_for_dom0_and_for_whom_it_allows),
		unit_case(the_same_watch_twice),
		unit_case(an_unwatched_path_is_silent),
		unit_case(malformed_watches_are_refused),
		unit_case(a_closed_connection_takes_its_watches_along),
		unit_case(a_change_finds_the_watches_above_and_a_removal_those_below),
		unit_case(requests_and_events_are_counted_by_domain),
		unit_case(after_a_restore_every_watch_fires_and_relative_paths_mean_the_new_home),
		unit_case(a_node_written_with_permissions_is_never_seen_without),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
