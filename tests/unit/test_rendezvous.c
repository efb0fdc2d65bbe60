/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * How a daemon finds together with another one, where XenStore answers in an order that a simulated host
 * doesn't show: what each request reads, and when, is the test's choice.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <utlist.h>

#include "base/clock.h"
#include "daemon/peers/peers_lookups.h"
#include "daemon/xen/vchan.h"
#include "tests/unit/rendezvous_rig.h"
#include "wire/address.h"

/* oxenstored may tell of the nodes of a transaction when the second one isn't visible yet, and tells nothing
 * more then. */
TEST(second_node_is_looked_for_though_nothing_tells_of_it)
{
	struct scene scene;

	for (int hello_too = 0; hello_too < 2; hello_too++) {
		scene_start(&scene);
		fake_write(&scene.store, node_path(&scene, "ring-ref"), "9");
		fire(&scene, node_path(&scene, "ring-ref"));
		event_base_loop(scene.base, EVLOOP_NONBLOCK);
		fire(&scene, node_path(&scene, "event-channel"));
		/* Two answers; both are asked for again, since both have changed meanwhile. */
		fake_store_step(&scene.store);
		fake_store_step(&scene.store);
		event_base_loop(scene.base, EVLOOP_NONBLOCK);
		if (hello_too) /* it is being read when the last answers come */
			fire(&scene, THEIRS "/to/1/hello");
		settle(&scene);
		assert_null(scene.vchan);
		fake_write(&scene.store, node_path(&scene, "event-channel"), "17");
		await_vchan(&scene);
		scene_stop(&scene);
	}
}

/* Its domain ends while its nodes are being read, and are to be read once more. */
TEST(nodes_of_an_attempt_that_is_over_are_not_looked_for)
{
	struct scene scene;

	scene_start(&scene);
	fake_remove(&scene.store, THEIRS "/presence");
	fake_remove(&scene.store, THEIRS "/to/1/hello");
	fake_remove(&scene.store, THEIRS "/to/1/endpoints");
	fire(&scene, node_path(&scene, "ring-ref"));
	fire(&scene, THEIRS "/presence");
	fire(&scene, THEIRS "/to/1/hello");
	fire(&scene, THEIRS "/to/1/endpoints");
	event_base_loop(scene.base, EVLOOP_NONBLOCK);
	fire(&scene, node_path(&scene, "event-channel"));
	for (int i = 0; i < 10; i++) /* all answers come at once */
		fake_store_step(&scene.store);
	settle(&scene);
	assert_false(peers_is_up(scene.peers, 2));
	scene_stop(&scene);
}

/* The peer has answered another hello of ours meanwhile, with a new one; the nodes are read before the word
 * of that comes. */
TEST(nodes_belong_to_the_hello_that_stands_there_by_then)
{
	struct scene scene;

	scene_start(&scene);
	fake_write(&scene.store, THEIRS "/to/1/hello", "1 " INSTANCE " 89abcdef 1");
	fake_write(&scene.store, node_path(&scene, "ring-ref"), "9");
	fake_write(&scene.store, node_path(&scene, "event-channel"), "17");
	fire(&scene, node_path(&scene, "event-channel"));
	await_vchan(&scene);
	fire(&scene, THEIRS "/to/1/hello");
	settle(&scene);
	assert_int_equal(scene.losses, 0);
	scene_stop(&scene);
}

/* The peer's daemon was restarted, and nothing tells of that but its new hello, or not even that: domain 0's
 * daemon, which tells of changes, was restarted too. */
TEST(restarted_peer_is_found_though_its_presence_is_not_told)
{
	struct scene scene;

	for (int is_told = 0; is_told < 2; is_told++) {
		scene_start(&scene);
		fake_remove(&scene.store, THEIRS "/to/1/hello");
		fire(&scene, THEIRS "/to/1/hello");
		settle(&scene);
		fake_write(&scene.store, THEIRS "/presence", "1 " OTHER_INSTANCE);
		fake_write(&scene.store, THEIRS "/to/1/hello", "1 " OTHER_INSTANCE " 89abcdef 1");
		if (is_told)
			fire(&scene, THEIRS "/to/1/hello");
		settle(&scene);
		fake_write(&scene.store, node_path(&scene, "ring-ref"), "9");
		fake_write(&scene.store, node_path(&scene, "event-channel"), "17");
		await_vchan(&scene);
		scene_stop(&scene);
	}
}

TEST(where_pages_are_short_the_largest_rings_that_fit_are_granted)
{
	struct scene scene;

	held.room = 20000;
	scene_start_with(&scene, false);
	assert_int_equal(held.granted, 1);
	assert_int_equal(held.size, 16384);
	scene_stop(&scene);
	held.room = 1000; /* too few for the smallest */
	scene_start_with(&scene, false);
	assert_int_equal(held.granted, 0);
	assert_int_equal(peers_waiting(scene.peers), 1);
	scene_stop(&scene);
	held.room = 0;
}

TEST(pages_go_to_those_who_came_first)
{
	struct scene scene;

	held.room = 1000;
	scene_start_with(&scene, false);
	assert_int_equal(peers_waiting(scene.peers), 1);
	held.room = 0; /* nothing tells of that */
	fake_write(&scene.store, "/local/domain/3/data/xenmsg/presence", "1 " OTHER_INSTANCE);
	fire(&scene, "/local/domain/3/data/xenmsg/presence");
	settle(&scene);
	assert_int_equal(peers_connect(scene.peers, 3, NULL), 0);
	settle(&scene);
	fake_write(&scene.store, "/local/domain/3/data/xenmsg/to/1/hello", "1 " OTHER_INSTANCE " 76543210 1");
	fire(&scene, "/local/domain/3/data/xenmsg/to/1/hello");
	settle(&scene);
	while (held.granted < 2) {
		event_base_loop(scene.base, EVLOOP_ONCE);
		settle(&scene);
	}
	assert_int_equal(held.domids[0], 2);
	assert_int_equal(held.domids[1], 3);
	scene_stop(&scene);
}

/* What there is, once the writes that are gathered for a moment have been made. */
static void advertise(struct scene *scene, const char *const *names, unsigned count)
{
	struct timeval pause = {.tv_usec = 20000};

	peers_advertise(scene->peers, names, NULL, count);
	event_base_loopexit(scene->base, &pause);
	event_base_dispatch(scene->base);
	settle(scene);
}

static const char *advertised(struct scene *scene)
{
	struct fake_node *node = fake_find(&scene->store, OURS "/to/2/endpoints");

	return node ? node->value : NULL;
}

/* Each write would fire a watch of the peer's. */
TEST(what_a_peer_may_not_see_writes_nothing_for_it)
{
	const char *all[] = {"inbox", "hidden-1", "hidden-2", "hidden-3"};
	struct scene scene;

	scene_start(&scene);
	advertise(&scene, all, 1);
	assert_string_equal(advertised(&scene), "inbox");
	writes = 0;
	for (unsigned i = 2; i <= 4; i++)
		advertise(&scene, all, i);
	advertise(&scene, all, 1);
	known_set_name(scene.known, known_get(scene.known, 2), "another",
		       7); /* it has another name now, which changes nothing for it */
	advertise(&scene, all, 1);
	assert_int_equal(writes, 0);
	advertise(&scene, all + 1, 3);
	assert_int_equal(writes, 1);
	assert_string_equal(advertised(&scene), "");
	/* A new daemon there is answered, since it waits for that to learn who is here. */
	fake_write(&scene.store, THEIRS "/presence", "1 11111111-89ab-cdef-0123-456789abcdef");
	fire(&scene, THEIRS "/presence");
	settle(&scene);
	assert_int_equal(writes, 2);
	scene_stop(&scene);
}

TEST(under_another_number_we_are_shown_anew_and_as_before_nowhere)
{
	const char *all[] = {"inbox"};
	struct scene scene;

	scene_start(&scene);
	advertise(&scene, all, 1);
	assert_non_null(fake_find(&scene.store, OURS "/presence"));
	assert_non_null(fake_find(&scene.store, OURS "/to/2/hello"));
	peers_stop(scene.peers);
	assert_null(fake_find(&scene.store, OURS "/presence"));
	assert_null(fake_find(&scene.store, OURS "/to/2/hello"));
	assert_null(advertised(&scene));
	assert_int_equal(fake_watches(&scene.store), 0);
	assert_false(peers_is_up(scene.peers, 2));
	scene.self.domid = 3;
	assert_int_equal(peers_start(scene.peers), 0);
	peers_want_all(scene.peers);
	settle(&scene);
	assert_string_equal(fake_find(&scene.store, "/local/domain/3/data/xenmsg/presence")->value,
			    "1 " INSTANCE " 3");
	fire(&scene, THEIRS "/presence");
	settle(&scene);
	assert_true(peers_is_up(scene.peers, 2));
	assert_int_equal(scene.ups, 2);
	advertise(&scene, all, 1);
	assert_string_equal(fake_find(&scene.store, "/local/domain/3/data/xenmsg/to/2/endpoints")->value,
			    "inbox");
	assert_null(fake_find(&scene.store, OURS "/presence"));
	scene_stop(&scene);
}

static unsigned requests(struct scene *scene)
{
	struct store_request *request;
	unsigned count;

	DL_COUNT(scene->store.requests, request, count);
	return count;
}

static void turn(struct scene *scene)
{
	for (int i = 0; i < 10; i++)
		event_base_loop(scene->base, EVLOOP_NONBLOCK);
}

/* What a stranger wrote for us is being read when somebody wants it, or wants all: the rest must be read,
 * too, before the peer is known. It doesn't write it again. */
TEST(stranger_that_is_wanted_is_read_as_a_whole)
{
	struct peer_info info;
	struct scene scene;

	for (int all = 0; all < 2; all++) {
		scene_begin(&scene, true);
		fake_write(&scene.store, THEIRS "/presence", "1 " OTHER_INSTANCE " 3");
		fake_write(&scene.store, THEIRS "/to/1/endpoints", "");
		fire(&scene, THEIRS "/to/1/endpoints");
		turn(&scene);
		assert_int_equal(requests(&scene), 1);
		if (all)
			peers_want_all(scene.peers);
		else
			assert_int_equal(peers_connect(scene.peers, 2, scene.user), 0);
		settle(&scene);
		assert_true(peers_next(scene.peers, -1, &info));
		assert_true(info.up);
		assert_string_equal(info.instance, OTHER_INSTANCE);
		scene_stop(&scene);
	}
}

/* Who looks up many domains waits for itself, pays for it, and is stopped at its limit; others come in
 * between. */
TEST(look_ups_wait_in_the_line_of_who_asks_and_are_charged)
{
	unsigned asked = 0, steps = 0, users;
	struct scene scene;
	int r;

	scene_start(&scene);
	scene.failures = 0;
	while ((r = peers_connect(scene.peers, 1000 + asked, scene.user)) == 0)
		asked++;
	assert_int_equal(r, -ENOBUFS);
	assert_int_equal(asked, 100);
	assert_int_equal(account_usage(scene.user, QUOTA_BYTES).used, 100 * LOOKUP_BYTES);
	turn(&scene);
	assert_int_equal(requests(&scene), LOOKUPS_AT_ONCE * 3);
	/* The same one as somebody else, and another one. */
	assert_int_equal(peers_connect(scene.peers, 1000 + asked - 1, scene.other), 0);
	assert_int_equal(peers_connect(scene.peers, 3000, scene.other), 0);
	turn(&scene);
	assert_int_equal(requests(&scene), 2 * LOOKUPS_AT_ONCE * 3);
	while (account_usage(scene.other, QUOTA_BYTES).used) {
		assert_true(fake_store_step(&scene.store));
		turn(&scene);
		steps++;
	}
	users = (unsigned)(account_usage(scene.user, QUOTA_BYTES).used / LOOKUP_BYTES);
	print_message("%u requests to XenStore, and %u look-ups of the other user are still to come\n", steps,
		      users);
	assert_true(steps <= 4 * LOOKUPS_AT_ONCE * 3 && users > 90);
	for (unsigned i = 0; i < 1000 && scene.failures < asked + 1; i++)
		settle(&scene);
	assert_int_equal(scene.failures, asked + 1);
	assert_int_equal(peers_lookups(scene.peers), 0);
	assert_int_equal(account_usage(scene.user, QUOTA_BYTES).used, 0);
	scene_stop(&scene);
}

TEST(absence_is_believed_for_a_moment_unless_something_appears)
{
	struct scene scene;

	scene_start(&scene);
	scene.failures = 0;
	assert_int_equal(peers_connect(scene.peers, 3, scene.user), 0);
	settle(&scene);
	assert_int_equal(scene.failures, 1);
	assert_int_equal(peers_connect(scene.peers, 3, scene.user), -EHOSTDOWN);
	assert_int_equal(peers_connect(scene.peers, DOMID_MAX + 1, scene.user), -EHOSTDOWN);
	assert_int_equal(requests(&scene), 0);
	fake_write(&scene.store, "/local/domain/3/data/xenmsg/presence", "1 " INSTANCE);
	fire(&scene, "/local/domain/3/data/xenmsg/presence");
	assert_int_equal(peers_connect(scene.peers, 3, scene.user), 0);
	settle(&scene);
	assert_non_null(fake_find(&scene.store, OURS "/to/3/hello"));
	assert_int_equal(account_usage(scene.user, QUOTA_BYTES).used, 0);
	scene_stop(&scene);
}

TEST(what_there_is_no_memory_to_ask_for_is_asked_later)
{
	struct scene scene;

	scene_start(&scene);
	scene.store.out_of_memory = true;
	fake_write(&scene.store, "/local/domain/3/data/xenmsg/presence", "1 " INSTANCE);
	fire(&scene, "/local/domain/3/data/xenmsg/presence");
	settle(&scene);
	assert_false(peers_is_up(scene.peers, 3));
	scene.store.out_of_memory = false;
	for (int i = 0; i < PATIENCE_MS && !peers_is_up(scene.peers, 3); i++) {
		struct timeval pause = {.tv_usec = 1000};

		event_base_loopexit(scene.base, &pause);
		event_base_dispatch(scene.base);
		settle(&scene);
	}
	assert_true(peers_is_up(scene.peers, 3));
	scene_stop(&scene);
}

/* A link is given up, with the reason, when there is no memory to write for it. */
TEST(link_without_memory_for_its_hello_fails)
{
	struct scene scene;

	scene_start(&scene);
	fake_write(&scene.store, "/local/domain/3/data/xenmsg/presence", "1 " INSTANCE);
	fire(&scene, "/local/domain/3/data/xenmsg/presence");
	settle(&scene);
	scene.failures = 0;
	scene.store.out_of_memory = true;
	assert_int_equal(peers_connect(scene.peers, 3, NULL), 0);
	settle(&scene);
	assert_int_equal(scene.failures, 1);
	scene.store.out_of_memory = false;
	assert_int_equal(peers_connect(scene.peers, 3, NULL), 0);
	settle(&scene);
	assert_non_null(fake_find(&scene.store, OURS "/to/3/hello"));
	scene_stop(&scene);
}

/* What a peer does costs its own account, however often it does it. */
TEST(peer_pays_for_what_it_writes)
{
	struct account *peer;
	struct scene scene;
	uint64_t spent;

	scene_start(&scene);
	peer = quota_account(scene.quota, QUOTA_PEER, 2);
	spent = account_line(peer)->spent;
	for (int i = 0; i < 1000; i++)
		fire(&scene, THEIRS "/presence");
	turn(&scene);
	assert_int_equal(requests(&scene), 1); /* of each leaf one at a time */
	assert_true(account_line(peer)->spent > spent);
	account_unref(peer);
	scene_stop(&scene);
}

/* Whether that leads to another state or not: a new nonce has pages granted again, a rewritten ring-ref has
 * them mapped. */
TEST(peer_pays_for_what_is_granted_and_mapped_for_it)
{
	const uint64_t cost = 20000, rounds = 20;
	struct scene scene;

	for (int maps = 0; maps < 2; maps++) {
		struct account *peer;
		uint64_t spent;

		scene_start_with(&scene, maps);
		held.peer_is_gone = maps;
		if (maps)
			fake_write(&scene.store, node_path(&scene, "event-channel"), "17");
		peer = quota_account(scene.quota, QUOTA_PEER, 2);
		spent = account_line(peer)->spent;
		for (unsigned i = 0; i < rounds; i++) {
			char hello[80];

			snprintf(hello, sizeof(hello), "1 " INSTANCE " %08x 1", i);
			if (maps)
				fake_write(&scene.store, node_path(&scene, "ring-ref"), "9");
			else
				fake_write(&scene.store, THEIRS "/to/1/hello", hello);
			fire(&scene, maps ? node_path(&scene, "ring-ref") : THEIRS "/to/1/hello");
			settle(&scene);
		}
		assert_true(account_line(peer)->spent - spent >= rounds * cost);
		held.peer_is_gone = false;
		account_unref(peer);
		scene_stop(&scene);
	}
}

/* The peer may have mapped it already, and would take a vchan that is merely closed for the end of our
 * daemon. */
TEST(what_was_granted_in_vain_is_left_unless_it_was_for_good)
{
	struct scene scene;

	for (int for_good = 0; for_good < 2; for_good++) {
		scene_start_with(&scene, false);
		assert_int_equal(held.granted, 1);
		held.left = 0;
		if (!for_good) {
			fake_write(&scene.store, THEIRS "/to/1/hello", "1 " INSTANCE " 01234567 1");
			fire(&scene, THEIRS "/to/1/hello");
			settle(&scene);
			assert_int_equal(held.left, 1);
			assert_int_equal(held.granted, 1); /* for the new hello */
			peers_disconnect(scene.peers, 2);
			assert_int_equal(held.left, 2);
			assert_int_equal(held.granted, 0);
		}
		scene_stop(&scene);
		assert_int_equal(held.left, for_good ? 0 : 2);
	}
}

/* What has become of one of our own nodes. */
static bool stands(struct scene *scene, const char *path, const char *value)
{
	struct fake_node *node = fake_find(&scene->store, path);

	return node && !strcmp(node->value, value);
}

/* Others remove each of our own nodes, or change it, and the watch tells of it, or of a directory above
 * it. */
static void mend_each(struct scene *scene, const char *const *paths)
{
	enum { REMOVED, CHANGED, REMOVED_ABOVE, WAYS };

	for (; *paths; paths++) {
		struct fake_node *node = fake_find(&scene->store, *paths);
		char *value;

		if (!node)
			fail_msg("%s isn't there", *paths);
		value = strdup(node->value);
		for (int how = 0; how < WAYS; how++) {
			if (how == CHANGED)
				fake_write(&scene->store, *paths, "something else");
			else
				fake_remove(&scene->store, *paths);
			fire_own(scene, how == REMOVED_ABOVE && strstr(*paths, "/to/") ? OURS "/to" : *paths);
			settle(scene);
			if (!stands(scene, *paths, value))
				fail_msg("%s isn't written again (%d)", *paths, how);
		}
		free(value);
	}
}

TEST(own_nodes_that_others_change_are_written_again_in_any_state)
{
	static const char *const leaves[] = {OURS "/presence", OURS "/endpoints", OURS "/to/2/endpoints",
					     OURS "/to/2/hello", NULL};
	static const char *const nodes[] = {OURS "/to/2/76543210/ring-ref",
					    OURS "/to/2/76543210/event-channel", NULL};
	const char *all[] = {"inbox", "public"};
	struct scene scene;

	for (int granted = 0; granted < 2; granted++) {
		scene_start_with(&scene, !granted);
		advertise(&scene, all, 2);
		mend_each(&scene, granted ? nodes : leaves); /* GRANTED and AWAIT */
		if (granted) {
			scene_stop(&scene);
			continue;
		}
		fake_write(&scene.store, node_path(&scene, "ring-ref"), "9");
		fake_write(&scene.store, node_path(&scene, "event-channel"), "17");
		await_vchan(&scene);
		mend_each(&scene, leaves + 3); /* CONNECTED */
		scene_stop(&scene);
	}
	scene_begin(&scene, true);
	fake_write(&scene.store, THEIRS "/presence", "1 " INSTANCE);
	assert_int_equal(peers_connect(scene.peers, 2, NULL), 0);
	settle(&scene);
	mend_each(&scene, leaves + 3); /* HELLO */
	peers_disconnect(scene.peers, 2);
	settle(&scene);
	fire_own(&scene, OURS "/to/2/hello");
	settle(&scene);
	assert_null(fake_find(&scene.store, OURS "/to/2/hello")); /* we have taken it back ourselves */
	scene_stop(&scene);
}

/* Else a migration to the same number would go unnoticed: there our nodes aren't. */
TEST(own_leaf_that_goes_with_its_whole_tree_is_for_its_owner)
{
	struct scene scene;

	scene_start(&scene);
	fake_remove(&scene.store, OURS "/presence");
	fire_own(&scene, OURS);
	settle(&scene);
	assert_int_equal(scene.own_leaf_gone, 1);
	assert_null(fake_find(&scene.store, OURS "/presence"));
	scene_stop(&scene);
}

/* The kernel sets all watches again after a restore: this one may be the first that fires. */
TEST(own_leaf_that_has_gone_is_missed_before_it_is_written_again)
{
	struct scene scene;

	scene_start(&scene);
	fire(&scene, "/local/domain"); /* as it does when it is set */
	settle(&scene);
	fake_remove(&scene.store, OURS "/presence");
	fire(&scene, "/local/domain");
	settle(&scene);
	assert_int_equal(scene.own_leaf_gone, 1);
	assert_null(fake_find(&scene.store, OURS "/presence"));
	scene_stop(&scene);
}

/* The owner begins anew each time: it can't know that it was no migration. */
TEST(who_removes_the_whole_tree_again_and_again_is_not_fought)
{
	struct scene scene;
	unsigned times = 0;

	scene_begin(&scene, true);
	do {
		times = scene.own_leaf_gone;
		fake_remove(&scene.store, OURS "/presence");
		fire_own(&scene, OURS);
		settle(&scene);
		if (scene.own_leaf_gone == times)
			break;
		peers_stop(scene.peers);
		assert_int_equal(peers_start(scene.peers), 0);
		settle(&scene);
	} while (times < 1000);
	assert_in_range(times, 5, 100);
	for (int i = 0; i < PATIENCE_MS && scene.own_leaf_gone == times; i++) {
		struct timeval pause = {.tv_usec = 1000};

		event_base_loopexit(scene.base, &pause);
		event_base_dispatch(scene.base);
		settle(&scene);
	}
	assert_int_equal(scene.own_leaf_gone, times + 1);
	scene_stop(&scene);
}

TEST(who_removes_a_node_again_and_again_is_not_fought)
{
	struct scene scene;
	unsigned times = 0;

	scene_start(&scene);
	do {
		fake_remove(&scene.store, OURS "/to/2/hello");
		fire_own(&scene, OURS "/to/2/hello");
		settle(&scene);
	} while (fake_find(&scene.store, OURS "/to/2/hello") && ++times < 1000);
	assert_in_range(times, 5, 100);
	for (int i = 0; i < PATIENCE_MS && !fake_find(&scene.store, OURS "/to/2/hello"); i++) {
		struct timeval pause = {.tv_usec = 1000};

		event_base_loopexit(scene.base, &pause);
		event_base_dispatch(scene.base);
		settle(&scene);
	}
	assert_non_null(fake_find(&scene.store, OURS "/to/2/hello"));
	scene_stop(&scene);
}

/* A daemon that only answers had answered this nonce, and taken its own hello back when it vanished. */
TEST(hello_that_comes_back_is_answered_again)
{
	struct scene scene;

	scene_begin(&scene, true);
	fake_write(&scene.store, THEIRS "/presence", "1 " INSTANCE);
	for (int i = 0; i < 3; i++) {
		fake_write(&scene.store, THEIRS "/to/1/hello", "1 " INSTANCE " 76543210 1");
		fire(&scene, THEIRS "/to/1/hello");
		settle(&scene);
		assert_non_null(fake_find(&scene.store, OURS "/to/2/hello"));
		fake_remove(&scene.store, THEIRS "/to/1/hello");
		fire(&scene, THEIRS "/to/1/hello");
		settle(&scene);
		assert_null(fake_find(&scene.store, OURS "/to/2/hello"));
	}
	scene_stop(&scene);
}

static void pass_time(struct scene *scene, unsigned ms)
{
	struct timeval pause = {.tv_usec = (suseconds_t)ms * 1000};

	event_base_loopexit(scene->base, &pause);
	event_base_dispatch(scene->base);
	settle(scene);
}

/* Whose process ends late, after the vchan that it had mapped was granted to the one that runs there now. */
TEST(who_lets_go_late_does_not_cost_the_next_one_its_rings)
{
	struct scene scene;

	for (int late = 0; late < 2; late++) {
		scene_begin(&scene, false);
		held.grants = 0;
		held.had_mapper = late;
		fake_write(&scene.store, THEIRS "/presence", "1 " INSTANCE);
		fake_write(&scene.store, THEIRS "/to/1/hello", "1 " INSTANCE " 76543210 1");
		fire(&scene, THEIRS "/to/1/hello");
		settle(&scene);
		assert_int_equal(held.grants, 1);
		close_granted(&scene);
		assert_int_equal(held.grants, 1 + late);
		assert_int_equal(held.granted, late);
		assert_true(!fake_find(&scene.store, OURS "/to/2/76543210/ring-ref") == !late);
		if (late) /* not for ever: it may do so on purpose */
			close_granted(&scene);
		assert_int_equal(held.granted, 0);
		fake_write(&scene.store, THEIRS "/to/1/hello", "1 " INSTANCE " 76543211 1");
		fire(&scene, THEIRS "/to/1/hello");
		settle(&scene);
		assert_int_equal(held.granted, 1);
		scene_stop(&scene);
	}
	held.had_mapper = false;
}

TEST(rings_that_cannot_be_mapped_yet_are_mapped_later)
{
	struct scene scene;

	for (int never = 0; never < 2; never++) {
		scene_start(&scene);
		held.maps = 0;
		held.unmappable = never ? 1000 : 2;
		fake_write(&scene.store, node_path(&scene, "ring-ref"), "9");
		fake_write(&scene.store, node_path(&scene, "event-channel"), "17");
		fire(&scene, node_path(&scene, "ring-ref"));
		if (!never)
			await_vchan(&scene);
		while (!scene.vchan && !scene.failures)
			pass_time(&scene, 10);
		assert_int_equal(scene.failures, never);
		assert_in_range(held.maps, 3, 100);
		scene_stop(&scene);
	}
	held.unmappable = 0;
}

/* XenStore is slow: the peer hears of our hello when the request is over. */
/* Begins an attempt, and lets three requests for it time out. Returns false if the machine stood still for so
 * long meanwhile that the attempt has ended, as it may after ten. */
static bool let_requests_time_out(struct scene *scene, char hello[80])
{
	const uint64_t begun_ms = clock_ms();

	assert_int_equal(peers_connect(scene->peers, 2, NULL), 0);
	settle(scene);
	snprintf(hello, 80, "%s", fake_find(&scene->store, OURS "/to/2/hello")->value);
	for (unsigned i = 1; i <= 3; i++) {
		const struct fake_node *node;

		while (scene->failures < i)
			pass_time(scene, 10);
		node = fake_find(&scene->store, OURS "/to/2/hello");
		if (clock_ms() - begun_ms >= 10 * (uint64_t)setup_timeout_ms)
			return false;
		assert_non_null(node);
		assert_string_equal(node->value, hello);
		assert_int_equal(peers_connect(scene->peers, 2, NULL), 0);
	}
	return true;
}

TEST(attempt_goes_on_after_the_request_for_it_has_timed_out)
{
	char hello[80];
	struct scene scene;

	setup_timeout_ms = 100;
	for (int answered = 0; answered < 2; answered++) {
		scene_begin(&scene, true);
		fake_write(&scene.store, THEIRS "/presence", "1 " INSTANCE);
		if (!let_requests_time_out(&scene, hello)) {
			answered--; /* once more */
		} else if (answered) {
			assert_int_equal(sscanf(hello, "1 " INSTANCE " %8s", scene.nonce), 1);
			fake_write(&scene.store, THEIRS "/to/1/hello", "1 " INSTANCE " 76543210 1");
			fake_write(&scene.store, node_path(&scene, "ring-ref"), "9");
			fake_write(&scene.store, node_path(&scene, "event-channel"), "17");
			fire(&scene, THEIRS "/to/1/hello");
			await_vchan(&scene);
		} else {
			while (fake_find(&scene.store, OURS "/to/2/hello"))
				pass_time(&scene, 10); /* but not for ever */
		}
		scene_stop(&scene);
	}
	setup_timeout_ms = 2 * PATIENCE_MS;
}

TEST(attempt_has_as_long_again_if_nobody_ran_when_its_time_was_up)
{
	struct scene scene;
	uint64_t begun_ms;

	setup_timeout_ms = 100;
	scene_begin(&scene, true);
	fake_write(&scene.store, THEIRS "/presence", "1 " INSTANCE);
	begun_ms = clock_ms();
	assert_int_equal(peers_connect(scene.peers, 2, NULL), 0);
	settle(&scene);
	later_ms += 1000; /* the timer comes later by that */
	begun_ms += 1000;
	while (!scene.failures)
		pass_time(&scene, 10);
	assert_true(clock_ms() - begun_ms >= 2 * setup_timeout_ms - 50);
	scene_stop(&scene);
	setup_timeout_ms = 2 * PATIENCE_MS;
}

/* --- what Xen forbids (XSM) -------------------------------------------------------------------- */

static void expect_forbidden(struct scene *scene, const char *hello)
{
	assert_int_equal(scene->failures, 1);
	assert_true(peers_is_forbidden(scene->peers, 2));
	assert_true(peers_is_unlinkable(scene->peers, 2));
	assert_int_equal(peers_connect(scene->peers, 2, scene->user), -ENOLINK);
	settle(scene);
	assert_int_equal(scene->failures, 1);
	assert_non_null(strstr(fake_find(&scene->store, OURS "/to/2/hello")->value, hello));
}

TEST(what_xen_forbids_to_grant_is_told_to_the_peer)
{
	struct scene scene;

	held.forbidden = true;
	scene_start_with(&scene, false);
	expect_forbidden(&scene, " 0 1");
	/* Another daemon there, or another domain: perhaps it is allowed now. */
	held.forbidden = false;
	fake_write(&scene.store, THEIRS "/to/1/hello", "1 " OTHER_INSTANCE " 76543211 1");
	fake_write(&scene.store, THEIRS "/presence", "1 " OTHER_INSTANCE);
	fire(&scene, THEIRS "/to/1/hello");
	fire(&scene, THEIRS "/presence");
	settle(&scene);
	assert_false(peers_is_forbidden(scene.peers, 2));
	assert_int_equal(peers_connect(scene.peers, 2, scene.user), 0);
	settle(&scene);
	assert_int_equal(held.granted, 1);
	assert_null(strstr(fake_find(&scene.store, OURS "/to/2/hello")->value, " 0 1"));
	scene_stop(&scene);
}

TEST(what_xen_forbids_is_tried_again_after_a_while)
{
	struct scene scene;

	for (int peer_begins = 0; peer_begins < 2; peer_begins++) {
		held.forbidden = true;
		scene_start_with(&scene, false);
		expect_forbidden(&scene, " 0 1");
		held.forbidden = false;
		later_ms += 11 * 60 * 1000;
		if (!peer_begins)
			assert_int_equal(peers_connect(scene.peers, 2, scene.user), 0);
		else
			fake_write(&scene.store, THEIRS "/to/1/hello", "1 " INSTANCE " 76543213 1");
		fire(&scene, THEIRS "/to/1/hello");
		settle(&scene);
		assert_int_equal(held.granted, 1);
		assert_false(peers_is_forbidden(scene.peers, 2));
		assert_null(strstr(fake_find(&scene.store, OURS "/to/2/hello")->value, " 0 1"));
		scene_stop(&scene);
	}
}

TEST(what_xen_forbids_to_map_is_told_to_the_peer)
{
	struct scene scene;

	scene_start(&scene);
	held.forbidden = true;
	fake_write(&scene.store, node_path(&scene, "ring-ref"), "9");
	fake_write(&scene.store, node_path(&scene, "event-channel"), "17");
	fire(&scene, node_path(&scene, "event-channel"));
	settle(&scene);
	expect_forbidden(&scene, " 0 1");
	held.forbidden = false;
	scene_stop(&scene);
}

TEST(peer_that_finds_that_xen_forbids_it_is_believed)
{
	struct scene scene;

	scene_start(&scene);
	fake_write(&scene.store, THEIRS "/to/1/hello", "1 " INSTANCE " 76543210 0 1");
	fire(&scene, THEIRS "/to/1/hello");
	settle(&scene);
	expect_forbidden(&scene, " 1");
	/* It tries again. */
	fake_write(&scene.store, THEIRS "/to/1/hello", "1 " INSTANCE " 76543212 1");
	fire(&scene, THEIRS "/to/1/hello");
	settle(&scene);
	assert_false(peers_is_forbidden(scene.peers, 2));
	scene_stop(&scene);
}
