/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A link's session of which a domain was restored under another domid. */
#include "tests/unit/resume_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/link/link_internal.h"

/* The peer's domain comes back as domain 9. */
static void come_back(struct scene *scene)
{
	scene->was = session.domid;
	scene->peer.domid = session.domid = 9;
	memcpy(scene->instances[9], peer_instance, sizeof(peer_instance));
	meet_again(scene);
}

static bool is_there(struct scene *scene, uint32_t domid, struct link_info *info)
{
	settle(scene);
	return links_info(scene->links, peer_domain(domid), info);
}

static void expect_state_of(struct scene *scene, uint32_t domid, enum link_state state)
{
	struct link_info info;

	assert_true(is_there(scene, domid, &info));
	assert_int_equal(info.state, state);
}

TEST(session_goes_on_under_another_domid)
{
	struct link_info info;
	struct scene scene;

	for (int shape = 0; shape < 4; shape++) {
		bool opens = shape == 1 || shape == 3;
		struct channel *later = NULL;

		up_to_resume(&scene);
		open_channel(&scene);
		scene.is_up = shape != 0;
		if (shape == 2) /* it comes back before anybody has seen it go */
			say_u64(&scene, FRAME_PONG, 0);
		else
			leave(&scene);
		if (shape == 2) {
			session.sequence = scene.peer.sequence;
			session.heard_sequence = scene.peer.heard_sequence;
			session.old = scene.peer.vchan;
			scene.peer.vchan = NULL;
		}
		come_back(&scene);
		scene.is_up = true;
		if (opens) { /* what a program opens meanwhile waits */
			struct frame_identity identity = {.domid = OWN};
			int error = 0;

			assert_int_equal(channel_new(&scene.program, 2,
						     shape == 1 ? CHANNEL_MESSAGE : CHANNEL_CALL, &identity,
						     &later),
					 0);
			assert_int_equal(channel_accept(later,
							links_want(scene.links, peer_domain(9), NULL, &error),
							"x"),
					 0);
		}
		if (shape == 3) { /* and gives up */
			const struct frame_reset reset = {.error = ETIMEDOUT};

			assert_int_equal(channel_reset(&later->opener, &reset), 0);
			relay_pass(&scene.relay);
		}
		prove(&scene);
		assert_int_equal(scene.moves, 0);
		go_on(&scene);
		assert_int_equal(scene.moves, 1);
		assert_false(is_there(&scene, 7, &info));
		assert_int_equal(info_of(&scene).resumes, 1);
		assert_int_equal(info_of(&scene).channels, shape == 1 ? 2 : 1);
		expect(&scene, FRAME_OPEN);
		expect(&scene, FRAME_PING);
		if (shape == 1)
			expect(&scene, FRAME_OPEN);
		expect_silence(&scene);
		links_free(scene.links);
		scene.links = NULL;
		forget_program_channel(&scene);
		if (shape == 2) {
			assert_true(session.old->closed && session.old->left);
			free(session.old);
		}
		scene_stop(&scene);
	}
}

/* The peer's session is up yet, so nothing says since when it is away. */
TEST(who_comes_while_its_number_waits_for_domain_0s_word_goes_on)
{
	struct scene scene;
	struct peer zero;
	int error = 0;

	scene_start_with(&scene, 0);
	scene.peer_flags = HELLO_RELAYS;
	greet(&scene);
	zero = scene.peer;
	scene.peer = (struct peer){.domid = 7};
	begin_to_resume(&scene);
	say_u64(&scene, FRAME_PONG, 0);
	scene.other = scene.zero_tells = 9;
	assert_non_null(links_want(scene.links, peer_domain(9), NULL, &error));
	links_failed(scene.links, peer_domain(9), -EHOSTDOWN, "it isn't there yet");
	expect_state_of(&scene, 9, LINK_CONNECTING);
	session.sequence = scene.peer.sequence;
	session.heard_sequence = scene.peer.heard_sequence;
	session.old = scene.peer.vchan;
	scene.peer.vchan = NULL;
	come_back(&scene);
	pass(&scene, 600);
	prove(&scene);
	go_on(&scene);
	assert_int_equal(scene.moves, 1);
	scene.other = 0;
	links_free(scene.links);
	scene.links = NULL;
	free(session.old);
	free(zero.vchan);
	scene_stop(&scene);
}

TEST(who_only_claims_to_be_the_peer_gets_and_disturbs_nothing)
{
	struct frame_prove ours, theirs;
	struct link_info info;
	struct scene scene;

	for (int shape = 0; shape < 4; shape++) {
		up_to_resume(&scene);
		leave(&scene);
		come_back(&scene);
		hear_prove(&scene, &ours);
		theirs = good_prove(1);
		theirs.proof[7] ^= 1;
		if (shape == 0)
			say_prove(&scene, &theirs);
		else if (shape == 1)
			say(&scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
		else if (shape == 2)
			links_lost(scene.links, peer_domain(9), false, "it has gone");
		else
			links_lost(scene.links, peer_domain(9), true, "it was restarted");
		expect_silence(&scene);
		assert_true(scene.peer.vchan->closed);
		expect_state(&scene, LINK_IDLE);
		assert_true(is_there(&scene, 7, &info));
		assert_int_equal(info.state, LINK_AWAY);
		/* The right one comes. */
		scene.peer.domid = session.domid = 7;
		pass(&scene, AGAIN_MS);
		meet_again(&scene);
		prove(&scene);
		go_on(&scene);
		assert_int_equal(scene.moves, 0);
		scene_stop(&scene);
	}
}

TEST(who_claims_to_be_the_peer_without_a_session_gets_its_own)
{
	static const uint8_t none[16];
	struct link_info info;
	struct scene scene;

	up_to_resume(&scene);
	leave(&scene);
	scene.was = 7;
	scene.peer.domid = 9;
	memcpy(scene.instances[9], peer_instance, sizeof(peer_instance));
	bring_vchan(&scene);
	hear_hello(&scene, HELLO_RESUME);
	hello_of_peer(&scene, HELLO_BEGIN, none, peer_instance);
	expect_state(&scene, LINK_UP);
	assert_true(is_there(&scene, 7, &info));
	assert_int_equal(info.state, LINK_AWAY);
	say_u64(&scene, FRAME_PING, 7);
	expect(&scene, FRAME_PONG);
	scene_stop(&scene);
}

/* Domain 3 had said that it is the same instance. */
static void start_with_a_liar(struct scene *scene, struct peer *liar)
{
	scene_start_with(scene, 3);
	scene->other = 3;
	begin_to_resume(scene);
	leave(scene);
	*liar = scene->peer;
	scene->peer = (struct peer){.domid = 7};
	begin_to_resume(scene);
	open_channel(scene);
	leave(scene);
}

TEST(peer_names_one_session_among_several_of_its_instance)
{
	struct resumed_session right;
	struct link_info info;
	struct scene scene;
	struct peer liar;

	start_with_a_liar(&scene, &liar);
	right = session;
	/* It comes as domain 9. */
	scene.was = 7;
	scene.peer.domid = session.domid = right.domid = 9;
	memcpy(scene.instances[9], peer_instance, sizeof(peer_instance));
	bring_vchan(&scene);
	scene.peer.unnumbered = true;
	expect(&scene, FRAME_HELLO); /* with the token of either */
	hello_of_peer(&scene, HELLO_RESUME, right.token, peer_instance);
	settle(&scene);
	if (scene.peer.vchan->closed) { /* of the liar's, so nothing began over it, and none has ended */
		assert_true(scene.peer.vchan->left);
		expect_silence(&scene);
		expect_state(&scene, LINK_IDLE);
		assert_true(is_there(&scene, 3, &info));
		assert_int_equal(info.state, LINK_AWAY);
		assert_true(is_there(&scene, 7, &info));
		assert_int_equal(info.state, LINK_AWAY);
		/* Now it is known. */
		meet_again(&scene);
	}
	prove(&scene);
	go_on(&scene);
	assert_int_equal(scene.moves, 1);
	assert_int_equal(info_of(&scene).channels, 1);
	expect(&scene, FRAME_OPEN);
	expect(&scene, FRAME_PING);
	end_scene(&scene);
	free(liar.vchan);
}

/* Both ends have been lied to. */
TEST(all_sessions_of_the_instance_are_tried_if_none_is_named)
{
	static const uint8_t unknown[16] = "a liar's at it, ";
	struct frame_hello_link hello;
	struct scene scene;
	struct peer liar;
	unsigned tries = 0;

	start_with_a_liar(&scene, &liar);
	scene.was = 7;
	scene.peer.domid = session.domid = 9;
	memcpy(scene.instances[9], peer_instance, sizeof(peer_instance));
	do {
		assert_true(tries++ < 2);
		bring_vchan(&scene);
		scene.peer.unnumbered = true;
		expect(&scene, FRAME_HELLO);
		assert_int_equal(
			frame_hello_link_decode(scene.peer.payload, scene.peer.header.length, &hello), 0);
		assert_int_equal(hello.purpose, HELLO_RESUME);
		hello_of_peer(&scene, HELLO_RESUME, unknown, peer_instance);
		expect_state(&scene, LINK_IDLE);
		assert_true(scene.peer.vchan->left);
	} while (memcmp(hello.token, session.token, sizeof(session.token)) != 0);
	/* From that it knows. */
	end_scene(&scene);
	free(liar.vchan);
}

TEST(session_that_goes_on_elsewhere_waits_until_its_end_is_heard)
{
	struct frame_prove ours, theirs;
	struct link_info info;
	struct scene scene;
	struct vchan *first;

	away(&scene);
	prove(&scene);
	go_on(&scene);
	first = scene.peer.vchan;
	scene.peer.vchan = NULL;
	come_back(&scene);
	hear_prove(&scene, &ours);
	theirs = good_prove(2);
	say_prove(&scene, &theirs);
	expect_state(&scene, LINK_IDLE);
	assert_true(is_there(&scene, 7, &info));
	assert_int_equal(info.state, LINK_UP);
	links_free(scene.links);
	scene.links = NULL;
	assert_true(first->closed);
	free(first);
	scene_stop(&scene);
}

static void pass_resume_for(struct scene *scene)
{
	for (uint64_t ms = 0; ms < RESUME_FOR_MS + AGAIN_MS; ms += AGAIN_MS)
		pass(scene, AGAIN_MS);
}

#define WORK_UUID "01234567-89ab-4def-8123-456789abcdef"

static void expect_way(struct scene *scene, const char *domain, int64_t to)
{
	struct peer_id peer;
	int error = 0, r = links_resolve(scene->links, domain, &peer);

	assert_int_equal(r < 0 ? r : (int64_t)peer.number, to);
	if (r == 0)
		assert_non_null(links_want(scene->links, peer, NULL, &error));
}

TEST(who_was_saved_is_known_by_all_names_until_resume_for_is_over)
{
	struct scene scene;
	int error = 0;

	for (int shape = 0; shape < 2; shape++) {
		up_to_resume(&scene);
		scene.other = 9;
		scene.name = "work";
		scene.uuid = WORK_UUID;
		note_name(&scene, 7);
		scene.name = shape ? "work--migratedaway" : "";
		note_name(&scene, 7);
		leave(&scene);
		scene.is_up = false;
		scene.name = scene.uuid = NULL;
		expect_way(&scene, "work", 7);
		expect_way(&scene, "01234567-89AB-4def-8123-456789abcdef", 7);
		expect_way(&scene, "7", 7);
		expect_way(&scene, "other", -EHOSTDOWN);
		expect_way(&scene, "", -EHOSTDOWN);
		/* It was restored, and its daemon hasn't noticed. */
		scene.found = 9;
		scene.uuid = WORK_UUID;
		expect_way(&scene, "work", 7);
		expect_way(&scene, "9", 7);
		scene.uuid = "fedcba98-89ab-4def-8123-456789abcdef"; /* it is another one */
		expect_way(&scene, "work", 9);
		scene.uuid = NULL;
		scene.found = 0;
		pass_resume_for(&scene);
		scene.connect_error = -EHOSTDOWN;
		assert_null(links_want(scene.links, peer_domain(7), NULL, &error));
		assert_int_equal(error, -EHOSTDOWN);
		scene_stop(&scene);
	}
}

/* The daemon of before may have been stopped before it knew of the restore. */
TEST(a_look_shows_whether_the_restored_domain_has_another_daemon)
{
	struct channel *channel;
	struct scene scene;
	int error = 0;

	up_to_resume(&scene);
	scene.other = 9;
	scene.name = "work";
	scene.uuid = WORK_UUID;
	note_name(&scene, 7);
	leave(&scene);
	scene.is_up = false;
	scene.is_unseen = true;
	scene.found = 9;
	expect_way(&scene, "work", 9);
	expect_way(&scene, "9", 9);
	scene.peer.domid = 9;
	channel = open_channel(&scene);
	assert_ptr_equal(channel->acceptor.hop, links_want(scene.links, peer_domain(9), NULL, &error));
	/* There is none, so it may come back: what was opened waits for that. */
	scene.is_unseen = false;
	links_failed(scene.links, peer_domain(9), -EHOSTDOWN, "there is no domain 9, or no daemon in it");
	assert_ptr_equal(channel->acceptor.hop, links_want(scene.links, peer_domain(7), NULL, &error));
	expect_way(&scene, "9", 7);
	scene.uuid = NULL;
	scene.peer.domid = 7;
	scene_stop(&scene);
}

TEST(old_number_leads_to_the_session_until_resume_for_is_over)
{
	struct scene scene;

	up_to_resume(&scene);
	leave(&scene);
	come_back(&scene);
	prove(&scene);
	scene.uuid = WORK_UUID;
	go_on(&scene);
	scene.is_up = false;
	assert_true(peer_is_domain(links_meant(scene.links, 7), 9));
	scene.uuid = "fedcba98-89ab-4def-8123-456789abcdef"; /* it is another one, without a daemon yet */
	assert_true(peer_is_domain(links_meant(scene.links, 7), 7));
	scene.uuid = NULL; /* it isn't known */
	assert_true(peer_is_domain(links_meant(scene.links, 7), 9));
	scene.is_up = true; /* another domain has it now */
	assert_true(peer_is_domain(links_meant(scene.links, 7), 7));
	scene.is_up = false;
	time_passed_ms += RESUME_FOR_MS;
	assert_true(peer_is_domain(links_meant(scene.links, 7), 7));
	scene_stop(&scene);
}

TEST(restored_domain_keeps_the_sessions_that_it_can_resume)
{
	struct scene scene;

	for (int shape = 0; shape < 3; shape++) {
		up_to_resume(&scene);
		open_channel(&scene);
		if (shape)
			leave(&scene);
		else
			session.heard_sequence = scene.peer.heard_sequence,
			session.sequence = scene.peer.sequence;
		if (shape == 2)
			meet_again(&scene);
		scene.connects = 0;
		memcpy(scene.instances[7], peer_instance, sizeof(peer_instance));
		links_restart(scene.links);
		assert_true(scene.peer.vchan->closed);
		expect_state(&scene, LINK_AWAY);
		pass(&scene, AGAIN_MS);
		assert_int_equal(scene.connects, 0);
		links_go_on(scene.links);
		assert_int_equal(scene.connects, 1);
		meet_again(&scene);
		prove(&scene);
		go_on(&scene);
		expect(&scene, FRAME_OPEN);
		expect(&scene, FRAME_PING);
		end_scene(&scene);
	}
}

/* For a guest's daemon, that of another host is no instance that it could become. */
TEST(session_with_another_host_is_not_claimed_by_a_domain)
{
	static const uint8_t none[16];
	struct link *link;
	struct scene scene;

	up_to_resume(&scene);
	leave(&scene);
	link = link_find_domain(scene.links, 7);
	link->peer = peer_host(HOST_FIRST);
	scene.was = 7;
	scene.peer.domid = 9;
	memcpy(scene.instances[9], peer_instance, sizeof(peer_instance));
	assert_int_equal(links_least_ring(scene.links, 9), 0);
	bring_vchan(&scene);
	hear_hello(&scene, HELLO_BEGIN);
	hello_of_peer(&scene, HELLO_BEGIN, none, peer_instance);
	expect_state(&scene, LINK_UP);
	assert_int_equal(link->state, LINK_AWAY);
	link->peer = peer_domain(7); /* there are no hosts to be told of its end */
	scene_stop(&scene);
}

static uint64_t channels_of(struct quota *quota, uint32_t domid)
{
	struct account *account = quota_account(quota, QUOTA_PEER, domid);
	uint64_t used = account_usage(account, QUOTA_CHANNELS).used;

	account_unref(account);
	return used;
}

TEST(peer_pays_under_its_new_number_for_what_it_opened_before)
{
	const struct quota_limits limits = {
		.pool = {[QUOTA_BYTES] = 1u << 20, [QUOTA_CHANNELS] = 100},
		.max = {[QUOTA_PEER] = {[QUOTA_BYTES] = 1u << 20, [QUOTA_CHANNELS] = 100}},
	};
	struct quota *quota = quota_new(&limits);
	struct link_info info;
	struct channel *channel;
	struct scene scene;
	int error;

	scene_start(&scene);
	scene.relay.quota = quota;
	begin_to_resume(&scene);
	assert_true(is_there(&scene, 7, &info));
	assert_int_equal(channel_new(links_want(scene.links, peer_domain(7), NULL, &error), 2,
				     CHANNEL_MESSAGE, &(struct frame_identity){.domid = 7}, &channel),
			 0);
	assert_int_equal(channel_accept(channel, &scene.program, "inbox"), 0);
	assert_int_equal(channels_of(quota, 7), 1);
	leave(&scene);
	come_back(&scene);
	assert_int_equal(channels_of(quota, 9), 0);
	prove(&scene);
	go_on(&scene);
	assert_int_equal(channels_of(quota, 7), 0);
	assert_int_equal(channels_of(quota, 9), 1);
	info = info_of(&scene);
	assert_int_equal(account_id(info.account), 9);
	links_free(scene.links);
	scene.links = NULL;
	forget_program_channel(&scene);
	assert_int_equal(channels_of(quota, 9), 0);
	scene_stop(&scene);
	quota_free(quota);
}

/* Domain 7 has told domain 9 its secret, and both are there. */
TEST(two_domains_with_one_secret_hold_no_more_than_one_may)
{
	const struct quota_limits limits = {
		.pool = {[QUOTA_BYTES] = 64u << 20, [QUOTA_CHANNELS] = 1000},
		.max = {[QUOTA_PEER] = {[QUOTA_BYTES] = 1u << 20, [QUOTA_CHANNELS] = 100}},
	};
	struct quota *quota = quota_new(&limits);
	struct account *account;
	struct charge before, later;
	struct link_info info;
	struct scene scene;

	scene_start(&scene);
	scene.relay.quota = quota;
	begin_to_resume(&scene);
	account = quota_account(quota, QUOTA_PEER, 7);
	charge_init(&before, account);
	account_unref(account);
	assert_int_equal(charge_add(&before, QUOTA_CHANNELS, 60), 0);
	account = quota_account(quota, QUOTA_PEER, 9);
	charge_init(&later, account); /* from a session that it has taken already */
	account_unref(account);
	assert_int_equal(charge_add(&later, QUOTA_CHANNELS, 41), 0);
	leave(&scene);
	come_back(&scene);
	for (int shape = 0; shape < 2; shape++) {
		struct frame_prove ours, theirs = good_prove(1);

		hear_prove(&scene, &ours);
		say_prove(&scene, &theirs);
		if (shape == 0) {
			expect_silence(&scene);
			assert_true(scene.peer.vchan->closed);
			expect_last_error(&scene, "under both numbers");
			assert_true(is_there(&scene, 7, &info));
			assert_int_equal(info.state, LINK_AWAY);
			assert_int_equal(channels_of(quota, 7), 60);
			assert_int_equal(channels_of(quota, 9), 41);
			/* It isn't lost: there is room now. */
			charge_release(&before, QUOTA_CHANNELS, 1);
			meet_again(&scene);
		}
	}
	expect(&scene, FRAME_RESUME);
	go_on(&scene);
	assert_int_equal(channels_of(quota, 9), 100);
	assert_int_equal(channels_of(quota, 7), 0);
	/* What was begun under the old number has the new one's turns. */
	assert_ptr_equal(account_line(before.account), account_line(later.account));
	charge_end(&before);
	charge_end(&later);
	links_free(scene.links);
	scene.links = NULL;
	scene_stop(&scene);
	quota_free(quota);
}

/* By the peer's number there is another domain, on another host. */
TEST(what_waits_for_a_link_waits_on_when_this_domain_is_restored)
{
	struct scene scene;

	for (int shape = 0; shape < 4; shape++) {
		uint32_t domid = shape == 3 ? 0 : 7;
		struct frame_identity identity = {.domid = OWN};
		struct channel *channel;
		int error = 0;

		scene_start_with(&scene, domid);
		assert_int_equal(channel_new(&scene.program, 0, CHANNEL_MESSAGE, &identity, &channel), 0);
		assert_int_equal(channel_accept(channel,
						links_want(scene.links, peer_domain(domid), NULL, &error),
						"x"),
				 0);
		memcpy(scene.instances[domid], peer_instance, sizeof(peer_instance));
		scene.connects = 0;
		links_restart(scene.links);
		scene.self.domid = shape == 2 ? 7 : 12; /* above the peer's, with other numbers of channels */
		if (shape == 1)
			scene.instances[domid][0] ^= 1;
		links_go_on(scene.links);
		if (shape == 2) { /* the peer's number is ours */
			assert_int_equal(scene.connects, 0);
			assert_int_equal(info_of(&scene).channels, 0);
			scene_stop(&scene);
			continue;
		}
		assert_int_equal(scene.connects, 1);
		greet(&scene);
		if (shape == 1) { /* it is another daemon's */
			expect_silence(&scene);
			assert_int_equal(info_of(&scene).channels, 0);
		} else {
			expect(&scene, FRAME_OPEN);
			assert_int_equal(scene.peer.header.channel % 2, 1);
		}
		end_scene(&scene);
	}
}

TEST(stranger_under_the_old_number_gets_its_own_session)
{
	static const uint8_t none[16], stranger[16] = "another instance";
	struct frame_identity identity = {.domid = OWN};
	struct channel *later;
	struct link_info info;
	struct vchan *others;
	struct scene scene;

	for (int shape = 0; shape < 4; shape++) {
		int error = 0;

		up_to_resume(&scene);
		open_channel(&scene);
		leave(&scene);
		memcpy(scene.instances[7], stranger, sizeof(stranger));
		scene.connects = 0;
		links_restart(scene.links);
		links_go_on(scene.links);
		assert_int_equal(scene.connects, 0);
		assert_int_equal(links_count(scene.links), 1);
		expect_state(&scene, LINK_AWAY);
		/* What is opened to the number now is for the stranger. */
		assert_int_equal(channel_new(&scene.program, 2, CHANNEL_MESSAGE, &identity, &later), 0);
		assert_int_equal(
			channel_accept(later, links_want(scene.links, peer_domain(7), NULL, &error), "x"), 0);
		bring_vchan(&scene);
		expect(&scene, FRAME_HELLO);
		hello_of_peer(&scene, HELLO_BEGIN, none, stranger);
		expect_state(&scene, LINK_UP);
		assert_int_equal(info_of(&scene).channels, 1);
		assert_int_equal(links_count(scene.links), 1);
		assert_false(links_next(scene.links, &(struct peer_id){PEER_DOMAIN, 7}, &info));
		expect(&scene, FRAME_OPEN);
		expect_silence(&scene);
		if (shape == 1)
			say(&scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
		if (shape == 2) {
			scene.peer.vchan->state = VCHAN_CLOSED;
			notify(&scene);
		}
		if (shape == 3)
			links_lost(scene.links, peer_domain(7), true, "it was restarted");
		settle(&scene);
		assert_int_equal(scene.program.channels.count, 2);
		others = scene.peer.vchan;
		scene.peer.vchan = NULL;
		/* The right one comes. */
		come_back(&scene);
		prove(&scene);
		go_on(&scene);
		expect(&scene, FRAME_OPEN);
		expect(&scene, FRAME_PING);
		expect_silence(&scene);
		assert_int_equal(scene.moves, 1);
		end_scene(&scene);
		assert_true(others->closed);
		free(others);
	}
}

TEST(session_without_a_number_ends_with_resume_for)
{
	struct link_info info;
	struct scene scene;

	up_to_resume(&scene);
	open_channel(&scene);
	links_restart(scene.links);
	links_go_on(scene.links);
	pass_resume_for(&scene);
	assert_true(links_info(scene.links, peer_domain(7), &info));
	assert_int_equal(info.state, LINK_IDLE);
	assert_int_equal(info.channels, 0);
	for (uint64_t ms = 0; ms < DEAD_AFTER_MS + HEARTBEAT_MS + IDLE_CLOSE_MS; ms += HEARTBEAT_MS)
		pass(&scene, HEARTBEAT_MS);
	assert_int_equal(links_count(scene.links), 0);
	forget_program_channel(&scene);
	scene_stop(&scene);
}

TEST(rings_are_large_enough_for_what_is_sent_again)
{
	static const uint32_t sizes[][2] = {
		{4096, 4096}, {65536, 65536}, {131072, 131072}, {1u << 20, 131072}};
	struct scene scene;

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		up_to_resume(&scene);
		scene.links->links->ring_bytes = sizes[i][0];
		assert_int_equal(links_least_ring(scene.links, 7), 0); /* it isn't known who that is */
		leave(&scene);
		memcpy(scene.instances[7], peer_instance, sizeof(peer_instance));
		memcpy(scene.instances[9], peer_instance, sizeof(peer_instance));
		assert_int_equal(links_least_ring(scene.links, 7), sizes[i][1]);
		assert_int_equal(links_least_ring(scene.links, 9), sizes[i][1]);
		assert_int_equal(links_least_ring(scene.links, 8), 0);
		for (uint64_t ms = 0; ms < RESUME_FOR_MS + AGAIN_MS; ms += AGAIN_MS)
			pass(&scene, AGAIN_MS);
		expect_state(&scene, LINK_IDLE);
		assert_int_equal(links_least_ring(scene.links, 7), 0);
		scene_stop(&scene);
	}
}
