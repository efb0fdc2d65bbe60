/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * How a daemon finds together with another one, where XenStore answers in an order that a simulated host
 * doesn't show: what each request reads, and when, is the test's choice.
 */
#include "tests/unit/unit.h"

#include <sys/time.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/timer.h"
#include "daemon/peers/peers_internal.h"
#include "tests/unit/rendezvous_rig.h"
#include "wire/address.h"
#include "wire/ut.h"

/* oxenstored may tell of the nodes of a transaction when the second one isn't visible yet, and tells nothing
 * more then. */
SCENE_TEST_EACH(second_node_is_looked_for_though_nothing_tells_of_it, scene_start, hello_too, 2)
{
	fake_write(&scene->store, node_path(scene, "ring-ref"), "9");
	fire(scene, node_path(scene, "ring-ref"));
	event_base_loop(scene->base, EVLOOP_NONBLOCK);
	fire(scene, node_path(scene, "event-channel"));
	/* Two answers; both are asked for again, since both have changed meanwhile. */
	fake_store_step(&scene->store);
	fake_store_step(&scene->store);
	event_base_loop(scene->base, EVLOOP_NONBLOCK);
	if (hello_too) /* it is being read when the last answers come */
		fire(scene, THEIRS "/to/1/hello");
	settle(scene);
	assert_null(scene->vchan);
	fake_write(&scene->store, node_path(scene, "event-channel"), "17");
	await_vchan(scene);
}

/* Its domain ends while its nodes are being read, and are to be read once more. */
SCENE_TEST(nodes_of_an_attempt_that_is_over_are_not_looked_for, scene_start)
{
	fake_remove(&scene->store, THEIRS "/presence");
	fake_remove(&scene->store, THEIRS "/to/1/hello");
	fake_remove(&scene->store, THEIRS "/to/1/endpoints");
	fire(scene, node_path(scene, "ring-ref"));
	fire(scene, THEIRS "/presence");
	fire(scene, THEIRS "/to/1/hello");
	fire(scene, THEIRS "/to/1/endpoints");
	event_base_loop(scene->base, EVLOOP_NONBLOCK);
	fire(scene, node_path(scene, "event-channel"));
	for (int i = 0; i < 10; i++) /* all answers come at once */
		fake_store_step(&scene->store);
	settle(scene);
	assert_false(peers_is_up(scene->peers, 2));
}

/* The peer has answered another hello of ours meanwhile, with a new one; the nodes are read before the word
 * of that comes. */
SCENE_TEST(nodes_belong_to_the_hello_that_stands_there_by_then, scene_start)
{
	fake_write(&scene->store, THEIRS "/to/1/hello", "1 " INSTANCE " 89abcdef 1");
	write_nodes(scene);
	fire(scene, node_path(scene, "event-channel"));
	await_vchan(scene);
	fire(scene, THEIRS "/to/1/hello");
	settle(scene);
	assert_int_equal(scene->losses, 0);
}

static void expect_another_nonce(struct scene *scene)
{
	const char *hello = value_at(scene, OURS "/to/2/hello");
	char before[9];

	memcpy(before, scene->nonce, sizeof(before));
	assert_non_null(hello);
	assert_int_equal(sscanf(hello, "1 " INSTANCE " %8s", scene->nonce), 1);
	assert_string_not_equal(scene->nonce, before);
}

static void await_another_nonce(struct scene *scene)
{
	for (int i = 0; i < PATIENCE_MS && strstr(value_at(scene, OURS "/to/2/hello"), scene->nonce); i++)
		pass_time(scene, 1);
	expect_another_nonce(scene);
}

/* The peer's daemon was restarted, and nothing tells of that but its new hello, or not even that: domain 0's
 * daemon, which tells of changes, was restarted too. */
SCENE_TEST_EACH(restarted_peer_is_found_though_its_presence_is_not_told, scene_start, is_told, 2)
{
	change(scene, THEIRS "/to/1/hello", NULL);
	fake_write(&scene->store, THEIRS "/presence", "1 " OTHER_INSTANCE);
	fake_write(&scene->store, THEIRS "/to/1/hello", "1 " OTHER_INSTANCE " 89abcdef 1");
	if (is_told)
		fire(scene, THEIRS "/to/1/hello");
	else
		await_another_nonce(scene);
	settle(scene);
	write_nodes(scene);
	await_vchan(scene);
}

static void start_with_20000_bytes(struct scene *scene)
{
	held.room = 20000;
	start_as_granter(scene);
}

static void start_with_1000_bytes(struct scene *scene)
{
	held.room = 1000; /* too few for the smallest */
	start_as_granter(scene);
}

SCENE_TEST(where_pages_are_short_the_largest_rings_that_fit_are_granted, start_with_20000_bytes)
{
	assert_int_equal(held.granted, 1);
	assert_int_equal(held.size, 16384);
}

SCENE_TEST(pages_go_to_those_who_came_first, start_with_1000_bytes)
{
	assert_int_equal(held.granted, 0);
	assert_int_equal(peers_waiting(scene->peers), 1);
	held.room = 0; /* nothing tells of that */
	change(scene, "/local/domain/3/data/xenmsg/presence", "1 " OTHER_INSTANCE);
	connect_to(scene, 3, NULL);
	change(scene, "/local/domain/3/data/xenmsg/to/1/hello", "1 " OTHER_INSTANCE " 76543210 1");
	while (held.granted < 2) {
		event_base_loop(scene->base, EVLOOP_ONCE);
		settle(scene);
	}
	assert_int_equal(held.domids[0], 2);
	assert_int_equal(held.domids[1], 3);
}

/* What there is, once the writes that are gathered for a moment have been made. */
static void advertise(struct scene *scene, const char *const *names, unsigned count)
{
	peers_advertise(scene->peers, names, NULL, count);
	pass_time(scene, 20);
}

/* Each write would fire a watch of the peer's. */
SCENE_TEST(what_a_peer_may_not_see_writes_nothing_for_it, scene_start)
{
	const char *all[] = {"inbox", "hidden-1", "hidden-2", "hidden-3"};

	advertise(scene, all, 1);
	assert_string_equal(value_at(scene, OURS "/to/2/endpoints"), "inbox");
	writes = 0;
	for (unsigned i = 2; i <= 4; i++)
		advertise(scene, all, i);
	advertise(scene, all, 1);
	/* It has another name now, which changes nothing for it. */
	registry_set_name(scene->registry, registry_get(scene->registry, 2), "another", 7);
	advertise(scene, all, 1);
	assert_int_equal(writes, 0);
	advertise(scene, all + 1, 3);
	assert_int_equal(writes, 1);
	assert_string_equal(value_at(scene, OURS "/to/2/endpoints"), "");
	/* A new daemon there is answered, since it waits for that to learn who is here. */
	change(scene, THEIRS "/presence", "1 11111111-89ab-cdef-0123-456789abcdef");
	assert_int_equal(writes, 2);
}

SCENE_TEST(under_another_number_we_are_shown_anew_and_as_before_nowhere, scene_start)
{
	const char *all[] = {"inbox"};

	advertise(scene, all, 1);
	assert_non_null(value_at(scene, OURS "/presence"));
	assert_non_null(value_at(scene, OURS "/to/2/hello"));
	peers_stop(scene->peers);
	assert_null(value_at(scene, OURS "/presence"));
	assert_null(value_at(scene, OURS "/to/2/hello"));
	assert_null(value_at(scene, OURS "/to/2/endpoints"));
	assert_int_equal(fake_watches(&scene->store), 0);
	assert_false(peers_is_up(scene->peers, 2));
	scene->self.domid = 3;
	assert_int_equal(peers_start(scene->peers), 0);
	peers_want_all(scene->peers);
	settle(scene);
	assert_string_equal(value_at(scene, "/local/domain/3/data/xenmsg/presence"), "1 " INSTANCE);
	fire(scene, THEIRS "/presence");
	settle(scene);
	assert_true(peers_is_up(scene->peers, 2));
	assert_int_equal(scene->ups, 2);
	advertise(scene, all, 1);
	assert_string_equal(value_at(scene, "/local/domain/3/data/xenmsg/to/2/endpoints"), "inbox");
	assert_null(value_at(scene, OURS "/presence"));
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
SCENE_TEST_EACH(stranger_that_is_wanted_is_read_as_a_whole, begin_as_mapper, all, 2)
{
	struct peer_info info;

	fake_write(&scene->store, THEIRS "/presence", "1 " OTHER_INSTANCE);
	fake_write(&scene->store, THEIRS "/to/1/endpoints", "");
	fire(scene, THEIRS "/to/1/endpoints");
	turn(scene);
	assert_int_equal(requests(scene), 1);
	if (all)
		peers_want_all(scene->peers);
	else
		connect_to(scene, 2, scene->user);
	settle(scene);
	assert_true(peers_next(scene->peers, -1, &info));
	assert_true(info.up);
	assert_string_equal(info.instance, OTHER_INSTANCE);
}

/* Who looks up many domains waits for itself, pays for it, and is stopped at its limit; others come in
 * between. */
SCENE_TEST(look_ups_wait_in_the_line_of_who_asks_and_are_charged, scene_start)
{
	unsigned asked = 0, steps = 0, users;
	int r;

	scene->failures = 0;
	while ((r = peers_connect(scene->peers, 1000 + asked, scene->user)) == 0)
		asked++;
	assert_int_equal(r, -ENOBUFS);
	assert_int_equal(asked, 100);
	assert_int_equal(account_usage(scene->user, QUOTA_BYTES).used, 100 * LOOKUP_BYTES);
	turn(scene);
	assert_int_equal(requests(scene), LOOKUPS_AT_ONCE * 3);
	/* The same one as somebody else, and another one. */
	assert_int_equal(peers_connect(scene->peers, 1000 + asked - 1, scene->other), 0);
	assert_int_equal(peers_connect(scene->peers, 3000, scene->other), 0);
	turn(scene);
	assert_int_equal(requests(scene), 2 * LOOKUPS_AT_ONCE * 3);
	while (account_usage(scene->other, QUOTA_BYTES).used) {
		assert_true(fake_store_step(&scene->store));
		turn(scene);
		steps++;
	}
	users = (unsigned)(account_usage(scene->user, QUOTA_BYTES).used / LOOKUP_BYTES);
	print_message("%u requests to XenStore, and %u look-ups of the other user are still to come\n", steps,
		      users);
	assert_true(steps <= 4 * LOOKUPS_AT_ONCE * 3 && users > 90);
	for (unsigned i = 0; i < 1000 && scene->failures < asked + 1; i++)
		settle(scene);
	assert_int_equal(scene->failures, asked + 1);
	assert_int_equal(peers_lookups(scene->peers), 0);
	assert_int_equal(account_usage(scene->user, QUOTA_BYTES).used, 0);
}

SCENE_TEST(absence_is_believed_for_a_moment_unless_something_appears, scene_start)
{
	scene->failures = 0;
	connect_to(scene, 3, scene->user);
	assert_int_equal(scene->failures, 1);
	assert_int_equal(peers_connect(scene->peers, 3, scene->user), -EHOSTDOWN);
	assert_int_equal(peers_connect(scene->peers, DOMID_MAX + 1, scene->user), -EHOSTDOWN);
	assert_int_equal(requests(scene), 0);
	fake_write(&scene->store, "/local/domain/3/data/xenmsg/presence", "1 " INSTANCE);
	fire(scene, "/local/domain/3/data/xenmsg/presence");
	connect_to(scene, 3, scene->user);
	assert_non_null(value_at(scene, OURS "/to/3/hello"));
	assert_int_equal(account_usage(scene->user, QUOTA_BYTES).used, 0);
}

SCENE_TEST(what_there_is_no_memory_to_ask_for_is_asked_later, scene_start)
{
	scene->store.out_of_memory = true;
	change(scene, "/local/domain/3/data/xenmsg/presence", "1 " INSTANCE);
	assert_false(peers_is_up(scene->peers, 3));
	scene->store.out_of_memory = false;
	for (int i = 0; i < PATIENCE_MS && !peers_is_up(scene->peers, 3); i++)
		pass_time(scene, 1);
	assert_true(peers_is_up(scene->peers, 3));
}

/* A link is given up, with the reason, when there is no memory to write for it. */
SCENE_TEST(link_without_memory_for_its_hello_fails, scene_start)
{
	change(scene, "/local/domain/3/data/xenmsg/presence", "1 " INSTANCE);
	scene->failures = 0;
	scene->store.out_of_memory = true;
	connect_to(scene, 3, NULL);
	assert_int_equal(scene->failures, 1);
	scene->store.out_of_memory = false;
	connect_to(scene, 3, NULL);
	assert_non_null(value_at(scene, OURS "/to/3/hello"));
}

/* What a peer does costs its own account, however often it does it. */
SCENE_TEST(peer_pays_for_what_it_writes, scene_start)
{
	struct account *peer = quota_account(scene->quota, QUOTA_PEER, 2);
	uint64_t spent = account_time(peer)->spent;

	for (int i = 0; i < 1000; i++)
		fire(scene, THEIRS "/presence");
	turn(scene);
	assert_int_equal(requests(scene), 1); /* of each leaf one at a time */
	assert_true(account_time(peer)->spent > spent);
	account_unref(peer);
}

/* Whether that leads to another state or not: a new nonce has pages granted again, a rewritten ring-ref has
 * them mapped. */
enum { ROUNDS = 20, COST = 20000 };

SCENE_TEST(peer_pays_for_what_is_granted_for_it, start_as_granter)
{
	struct account *peer = quota_account(scene->quota, QUOTA_PEER, 2);
	uint64_t spent = account_time(peer)->spent;

	for (unsigned i = 0; i < ROUNDS; i++) {
		char hello[80];

		snprintf(hello, sizeof(hello), "1 " INSTANCE " %08x 1", i);
		change(scene, THEIRS "/to/1/hello", hello);
	}
	assert_true(account_time(peer)->spent - spent >= ROUNDS * COST);
	account_unref(peer);
}

SCENE_TEST(peer_pays_for_what_is_mapped_for_it, scene_start)
{
	struct account *peer = quota_account(scene->quota, QUOTA_PEER, 2);
	uint64_t spent = account_time(peer)->spent;

	held.peer_is_gone = true;
	for (unsigned i = 0; i < ROUNDS; i++) {
		fake_write(&scene->store, node_path(scene, "event-channel"), "17");
		change(scene, node_path(scene, "ring-ref"), "9");
		expect_another_nonce(scene);
	}
	assert_true(account_time(peer)->spent - spent >= ROUNDS * COST);
	account_unref(peer);
}

/* The peer may have mapped it already, and would take a vchan that is merely closed for the end of our
 * daemon. */
SCENE_TEST(what_was_granted_in_vain_is_left, start_as_granter)
{
	assert_int_equal(held.granted, 1);
	held.left = 0;
	change(scene, THEIRS "/to/1/hello", "1 " INSTANCE " 01234567 1");
	assert_int_equal(held.left, 1);
	assert_int_equal(held.granted, 1); /* for the new hello */
	peers_disconnect(scene->peers, 2);
	assert_int_equal(held.left, 2);
	assert_int_equal(held.granted, 0);
}

/* The word of the client, and that its hello has gone, come before the peer's turn. */
SCENE_TEST(client_that_has_taken_back_its_hello_is_left, start_as_granter)
{
	held.left = 0;
	fake_remove(&scene->store, THEIRS "/to/1/hello");
	fire(scene, THEIRS "/to/1/hello");
	event_base_loop(scene->base, EVLOOP_NONBLOCK);
	fake_store_step(&scene->store);
	client_comes();
	settle(scene);
	assert_null(scene->vchan);
	assert_int_equal(held.left, 1);
}

/* The time is up before the peer's turn. */
SCENE_TEST(client_that_came_and_went_leaves_the_attempt_its_time, start_as_granter)
{
	struct rendezvous *rendezvous = &peer_find(scene->peers, 2)->rendezvous;

	event_del(rendezvous->deadline.timer);
	event_active(rendezvous->deadline.timer, EV_TIMEOUT, 0);
	close_granted(scene);
	assert_int_not_equal(rendezvous->state, RENDEZVOUS_IDLE);
	assert_true(event_pending(rendezvous->deadline.timer, EV_TIMEOUT, NULL));
}

TEST(what_was_granted_is_closed_if_we_stop_for_good)
{
	struct scene scene;

	start_as_granter(&scene);
	assert_int_equal(held.granted, 1);
	held.left = 0;
	scene_stop(&scene);
	assert_int_equal(held.left, 0);
}

/* Others remove each of our own nodes, or change it, and the watch tells of it, or of a directory above
 * it. */
static void mend_each(struct scene *scene, const char *const *paths)
{
	enum { REMOVED, CHANGED, REMOVED_ABOVE, WAYS };

	for (; *paths; paths++) {
		char *value;

		if (!value_at(scene, *paths))
			fail_msg("%s isn't there", *paths);
		value = strdup(value_at(scene, *paths));
		for (int how = 0; how < WAYS; how++) {
			if (how == CHANGED)
				fake_write(&scene->store, *paths, "something else");
			else
				fake_remove(&scene->store, *paths);
			fire_own(scene, how == REMOVED_ABOVE && strstr(*paths, "/to/") ? OURS "/to" : *paths);
			settle(scene);
			if (!value_at(scene, *paths) || strcmp(value_at(scene, *paths), value) != 0)
				fail_msg("%s isn't written again (%d)", *paths, how);
		}
		free(value);
	}
}

static const char *const own_hello[] = {OURS "/to/2/hello", NULL};

SCENE_TEST(own_nodes_that_others_change_are_written_again, start_as_granter)
{
	static const char *const nodes[] = {OURS "/to/2/76543210/ring-ref",
					    OURS "/to/2/76543210/event-channel", NULL};

	mend_each(scene, nodes);
}

SCENE_TEST(own_leaves_that_others_change_are_written_again, scene_start)
{
	static const char *const leaves[] = {OURS "/presence", OURS "/endpoints", OURS "/to/2/endpoints",
					     NULL};
	const char *all[] = {"inbox", "public"};

	advertise(scene, all, 2);
	mend_each(scene, leaves);
	mend_each(scene, own_hello);
	write_nodes(scene);
	await_vchan(scene);
	mend_each(scene, own_hello);
}

SCENE_TEST(own_hello_is_written_again_until_it_is_taken_back, begin_as_mapper)
{
	fake_write(&scene->store, THEIRS "/presence", "1 " INSTANCE);
	connect_to(scene, 2, NULL);
	mend_each(scene, own_hello);
	peers_disconnect(scene->peers, 2);
	settle(scene);
	fire_own(scene, OURS "/to/2/hello");
	settle(scene);
	assert_null(value_at(scene, OURS "/to/2/hello")); /* we have taken it back ourselves */
}

SCENE_TEST(own_hello_that_xenstore_refuses_is_written_later, scene_start)
{
	write_nodes(scene);
	await_vchan(scene);
	scene->store.refused = 1;
	fake_remove(&scene->store, *own_hello);
	fire_own(scene, *own_hello);
	settle(scene);
	assert_null(value_at(scene, *own_hello));
	for (int i = 0; i < PATIENCE_MS && !value_at(scene, *own_hello); i++)
		pass_time(scene, 1);
	assert_non_null(value_at(scene, *own_hello));
}

/* Else a migration to the same number would go unnoticed: there our nodes aren't. */
SCENE_TEST(own_leaf_that_goes_with_its_whole_tree_is_for_its_owner, scene_start)
{
	fake_remove(&scene->store, OURS "/presence");
	fire_own(scene, OURS);
	settle(scene);
	assert_int_equal(scene->own_leaf_gone, 1);
	assert_null(value_at(scene, OURS "/presence"));
}

/* The kernel sets all watches again after a restore: this one may be the first that fires. */
SCENE_TEST(own_leaf_that_has_gone_is_missed_before_it_is_written_again, scene_start)
{
	fire(scene, "/local/domain"); /* as it does when it is set */
	settle(scene);
	fake_remove(&scene->store, OURS "/presence");
	fire(scene, "/local/domain");
	settle(scene);
	assert_int_equal(scene->own_leaf_gone, 1);
	assert_null(value_at(scene, OURS "/presence"));
}

/* The owner begins anew each time: it can't know that it was no migration. */
SCENE_TEST(who_removes_the_whole_tree_again_and_again_is_not_fought, begin_as_mapper)
{
	unsigned times = 0;

	do {
		times = scene->own_leaf_gone;
		fake_remove(&scene->store, OURS "/presence");
		fire_own(scene, OURS);
		settle(scene);
		if (scene->own_leaf_gone == times)
			break;
		peers_stop(scene->peers);
		assert_int_equal(peers_start(scene->peers), 0);
		settle(scene);
	} while (times < 1000);
	assert_in_range(times, 5, 100);
	for (int i = 0; i < PATIENCE_MS && scene->own_leaf_gone == times; i++)
		pass_time(scene, 1);
	assert_int_equal(scene->own_leaf_gone, times + 1);
}

SCENE_TEST(who_removes_a_node_again_and_again_is_not_fought, scene_start)
{
	unsigned times = 0;

	do {
		fake_remove(&scene->store, OURS "/to/2/hello");
		fire_own(scene, OURS "/to/2/hello");
		settle(scene);
	} while (value_at(scene, OURS "/to/2/hello") && ++times < 1000);
	assert_in_range(times, 5, 100);
	for (int i = 0; i < PATIENCE_MS && !value_at(scene, OURS "/to/2/hello"); i++)
		pass_time(scene, 1);
	assert_non_null(value_at(scene, OURS "/to/2/hello"));
}

/* A daemon that only answers had answered this nonce, and taken its own hello back when it vanished. */
SCENE_TEST(hello_that_comes_back_is_answered_again, begin_as_mapper)
{
	fake_write(&scene->store, THEIRS "/presence", "1 " INSTANCE);
	for (int i = 0; i < 3; i++) {
		change(scene, THEIRS "/to/1/hello", "1 " INSTANCE " 76543210 1");
		assert_non_null(value_at(scene, OURS "/to/2/hello"));
		change(scene, THEIRS "/to/1/hello", NULL);
		assert_null(value_at(scene, OURS "/to/2/hello"));
	}
}

/* It has failed to map all of it; or that was an earlier daemon of the peer, whose process ended late. Who
 * does so on purpose pays for it. */
SCENE_TEST(who_lets_go_without_having_connected_is_granted_others, begin_as_granter)
{
	struct account *peer = quota_account(scene->quota, QUOTA_PEER, 2);
	uint64_t spent;

	fake_write(&scene->store, THEIRS "/presence", "1 " INSTANCE);
	change(scene, THEIRS "/to/1/hello", "1 " INSTANCE " 76543210 1");
	spent = account_time(peer)->spent;
	for (unsigned i = 1; i <= ROUNDS; i++) {
		assert_int_equal(held.grants, i);
		assert_non_null(value_at(scene, OURS "/to/2/76543210/ring-ref"));
		close_granted(scene);
	}
	assert_true(account_time(peer)->spent - spent >= ROUNDS * COST);
	account_unref(peer);
}

/* The peer has seen us connect, and waits for the next nonce. */
SCENE_TEST(who_has_mapped_rings_that_were_given_up_takes_another_nonce, scene_start)
{
	held.peer_is_gone = true;
	write_nodes(scene);
	fire(scene, node_path(scene, "ring-ref"));
	settle(scene);
	expect_another_nonce(scene);
	held.peer_is_gone = false;
	write_nodes(scene);
	await_vchan(scene);
}

/* The peer may have answered the last one, and have given up, before we saw that. */
SCENE_TEST(hello_that_nobody_answers_has_another_nonce_each_time, scene_start)
{
	change(scene, THEIRS "/to/1/hello", NULL);
	await_another_nonce(scene);
}

/* Nothing tells of the peer's next nonce. */
SCENE_TEST(who_waits_for_a_client_looks_for_its_hello, start_as_granter)
{
	fake_write(&scene->store, THEIRS "/to/1/hello", "1 " INSTANCE " 76543211 1");
	for (int i = 0; i < PATIENCE_MS && held.grants < 2; i++)
		pass_time(scene, 1);
	assert_non_null(value_at(scene, OURS "/to/2/76543211/ring-ref"));
}

SCENE_TEST_EACH(rings_that_cannot_be_mapped_yet_are_mapped_later, scene_start, never, 2)
{
	held.unmappable = never ? 1000 : 2;
	write_nodes(scene);
	fire(scene, node_path(scene, "ring-ref"));
	if (!never)
		await_vchan(scene);
	while (!scene->vchan && !scene->failures)
		pass_time(scene, 10);
	assert_int_equal(scene->failures, never);
	assert_in_range(held.maps, 3, 100);
}

/* Begins an attempt, and lets three requests for it time out. Returns false if the machine stood still for so
 * long meanwhile that the attempt has ended, as it may after ten. */
static bool let_requests_time_out(struct scene *scene)
{
	const uint64_t begun_ms = clock_ms();

	connect_to(scene, 2, NULL);
	for (unsigned i = 1; i <= 3; i++) {
		while (scene->failures < i)
			pass_time(scene, 10);
		if (clock_ms() - begun_ms >= 10 * (uint64_t)rendezvous_config.setup_timeout_ms)
			return false;
		assert_non_null(value_at(scene, OURS "/to/2/hello"));
		assert_int_equal(peers_connect(scene->peers, 2, NULL), 0);
	}
	return true;
}

/* XenStore is slow: the peer hears of our hello when the request is over. */
SCENE_TEST_EACH(attempt_goes_on_after_the_request_for_it_has_timed_out, begin_impatient, answered, 2)
{
	while (!let_requests_time_out(scene)) {
		scene_stop(scene);
		begin_impatient(scene);
	}
	if (answered) {
		expect_another_nonce(scene);
		fake_write(&scene->store, THEIRS "/to/1/hello", "1 " INSTANCE " 76543210 1");
		write_nodes(scene);
		fire(scene, THEIRS "/to/1/hello");
		await_vchan(scene);
	} else {
		while (value_at(scene, OURS "/to/2/hello"))
			pass_time(scene, 10); /* but not for ever */
	}
}

SCENE_TEST(attempt_has_as_long_again_if_nobody_ran_when_its_time_was_up, begin_impatient)
{
	uint64_t begun_ms = clock_ms();

	connect_to(scene, 2, NULL);
	later_ms += 1000; /* the timer comes later by that */
	begun_ms += 1000;
	while (!scene->failures)
		pass_time(scene, 10);
	assert_true(clock_ms() - begun_ms >= 2 * rendezvous_config.setup_timeout_ms - 50);
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
	assert_non_null(strstr(value_at(scene, OURS "/to/2/hello"), hello));
}

static void start_forbidden(struct scene *scene)
{
	held.forbidden = true;
	start_as_granter(scene);
	expect_forbidden(scene, " 0 1");
	held.forbidden = false;
}

/* Another daemon there, or another domain: perhaps it is allowed now. */
SCENE_TEST(what_xen_forbids_to_grant_is_tried_with_another_daemon, start_forbidden)
{
	fake_write(&scene->store, THEIRS "/to/1/hello", "1 " OTHER_INSTANCE " 76543211 1");
	fake_write(&scene->store, THEIRS "/presence", "1 " OTHER_INSTANCE);
	fire(scene, THEIRS "/to/1/hello");
	fire(scene, THEIRS "/presence");
	settle(scene);
	assert_false(peers_is_forbidden(scene->peers, 2));
	connect_to(scene, 2, scene->user);
	assert_int_equal(held.granted, 1);
	assert_null(strstr(value_at(scene, OURS "/to/2/hello"), " 0 1"));
}

SCENE_TEST_EACH(what_xen_forbids_is_tried_again_after_a_while, start_forbidden, peer_begins, 2)
{
	later_ms += 11 * 60 * 1000;
	if (!peer_begins)
		assert_int_equal(peers_connect(scene->peers, 2, scene->user), 0);
	else
		fake_write(&scene->store, THEIRS "/to/1/hello", "1 " INSTANCE " 76543213 1");
	fire(scene, THEIRS "/to/1/hello");
	settle(scene);
	assert_int_equal(held.granted, 1);
	assert_false(peers_is_forbidden(scene->peers, 2));
	assert_null(strstr(value_at(scene, OURS "/to/2/hello"), " 0 1"));
}

SCENE_TEST(what_xen_forbids_to_map_is_told_to_the_peer, scene_start)
{
	held.forbidden = true;
	write_nodes(scene);
	fire(scene, node_path(scene, "event-channel"));
	settle(scene);
	expect_forbidden(scene, " 0 1");
}

SCENE_TEST(peer_that_finds_that_xen_forbids_it_is_believed, scene_start)
{
	change(scene, THEIRS "/to/1/hello", "1 " INSTANCE " 76543210 0 1");
	expect_forbidden(scene, " 1");
	/* It tries again. */
	change(scene, THEIRS "/to/1/hello", "1 " INSTANCE " 76543212 1");
	assert_false(peers_is_forbidden(scene->peers, 2));
}

SCENE_TEST(who_waits_for_xenstore_does_not_watch_all, begin_slowly)
{
	struct timeval slow = {.tv_usec = 700000}; /* it waits 500 ms for domain 0 */

	event_base_loopexit(scene->base, &slow);
	event_base_dispatch(scene->base);
	settle(scene);
	assert_true(is_watched(scene, "/local/domain/0/data/xenmsg"));
	assert_false(is_watched(scene, "/local/domain"));
	for (unsigned i = 0; i < 100 && !is_watched(scene, "/local/domain"); i++)
		pass_time(scene, 100);
	assert_true(is_watched(scene, "/local/domain")); /* now domain 0 is late */
}

/* N guests that start at once and watch all have N² events; but domain 0 may hang rather than be behind. */
SCENE_TEST_EACH(who_waits_for_domain_0_waits_as_its_hello_took, begin_slowly, how, 3)
{
	static const struct {
		uint32_t hello_took_ms;
		unsigned waits;
	} each[] = {{10, 1}, {40, 7}, {1000, 8}};
	unsigned waits = 0;

	settle(scene);
	connect_to(scene, 0, NULL);
	peer_find(scene->peers, 0)->rendezvous.hello_took_ms = each[how].hello_took_ms;
	for (; waits < 20 && !is_watched(scene, "/local/domain"); waits++) {
		event_active(scene->peers->zero.deadline.timer, EV_TIMEOUT, 0);
		settle(scene);
	}
	assert_int_equal(waits, each[how].waits + 1);
}

/* In how many milliseconds all is said again to the peer: about, since libevent tells a time of the day, and
 * time passes. */
static int64_t says_again_in_ms(struct scene *scene, uint32_t domid)
{
	struct timeval when, now, left;

	assert_true(event_pending(peer_find(scene->peers, domid)->rendezvous.again, EV_TIMEOUT, &when));
	gettimeofday(&now, NULL);
	timersub(&when, &now, &left);
	return (int64_t)left.tv_sec * 1000 + left.tv_usec / 1000;
}

static struct peer *connect_and_wait_long(struct scene *scene)
{
	struct peer *peer;

	change(scene, THEIRS "/presence", "1 " INSTANCE);
	connect_to(scene, 2, NULL);
	peer = peer_find(scene->peers, 2);
	rendezvous_again_later(peer, UINT32_MAX);
	assert_in_range(says_again_in_ms(scene, 2), 39000, 61000);
	return peer;
}

SCENE_TEST(domain_0_has_longer_to_answer_than_a_guest, begin_as_granter)
{
	for (uint32_t domid = 0; domid <= 2; domid += 2) {
		change(scene, domid ? THEIRS "/presence" : "/local/domain/0/data/xenmsg/presence",
		       "1 " INSTANCE);
		connect_to(scene, domid, NULL);
	}
	assert_in_range(says_again_in_ms(scene, 0), 1000, 5000);
	assert_in_range(says_again_in_ms(scene, 2), 0, 999);
	peer_find(scene->peers, 0)->rendezvous.hello_took_ms = 600000;
	rendezvous_again_later(peer_find(scene->peers, 0), 0);
	assert_in_range(says_again_in_ms(scene, 0), 39000, 61000);
}

SCENE_TEST(guests_say_again_to_domain_0_at_different_times, begin_as_granter)
{
	int64_t left[2];

	change(scene, "/local/domain/0/data/xenmsg/presence", "1 " INSTANCE);
	connect_to(scene, 0, NULL);
	for (unsigned i = 0; i < 2; i++) {
		scene->self.domid = 1 + i;
		rendezvous_again_later(peer_find(scene->peers, 0), UINT32_MAX);
		left[i] = says_again_in_ms(scene, 0);
	}
	assert_in_range(left[0] - left[1], 500, 2000); /* of a minute */
}

SCENE_TEST(slow_xenstore_gives_a_peer_longer, begin_as_mapper)
{
	rendezvous_write_again(connect_and_wait_long(scene), LEAF_OUR_HELLO);
	later_ms += 60000; /* until it is confirmed */
	settle(scene);
	assert_in_range(says_again_in_ms(scene, 2), 120000, 481000);
}

SCENE_TEST(what_was_said_last_has_its_whole_pause, begin_as_granter)
{
	struct peer *peer = connect_and_wait_long(scene);

	timer_set(peer->rendezvous.again, 20000); /* most of it is over */
	change(scene, THEIRS "/to/1/hello", "1 " INSTANCE " 76543210 1");
	assert_int_equal(held.granted, 1);
	assert_in_range(says_again_in_ms(scene, 2), 39000, 61000);
}

/* The first refusal may be the first sign that this is another domain by now. */
SCENE_TEST(only_the_second_refusal_in_a_row_ends_an_attempt, begin_as_mapper)
{
	struct peer *peer;

	change(scene, THEIRS "/presence", "1 " INSTANCE);
	for (unsigned refused = 1; refused <= 2; refused++) {
		scene->own_leaf_gone = 0;
		scene->store.refused = refused;
		connect_to(scene, 2, NULL);
		peer = peer_find(scene->peers, 2);
		settle(scene);
		assert_int_equal(scene->own_leaf_gone, 1);
		assert_int_equal(scene->failures, 0);
		rendezvous_write_again(peer, LEAF_OUR_HELLO);
		settle(scene);
		assert_int_equal(scene->failures, refused - 1);
		assert_int_equal(scene->own_leaf_gone, 1);
		if (refused == 1)
			rendezvous_withdraw(peer);
	}
}
