/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A link's session that has lost its vchan and goes on over another one, and when it ends instead.
 */
#include "tests/unit/resume_rig.h"

#include <errno.h>
#include <stdlib.h>

#include "base/quota.h"
#include "wire/bytes.h"

TEST(what_the_peer_has_not_processed_comes_again_with_its_number)
{
	struct scene scene;

	for (int heard = 0; heard < 2; heard++) {
		up_to_resume(&scene);
		open_channel(&scene);
		if (heard) {
			expect(&scene, FRAME_OPEN);
			session.received += frame_size(scene.peer.header.length);
		}
		leave(&scene);
		assert_int_equal(info_of(&scene).channels, 1);
		meet_again(&scene);
		prove(&scene);
		go_on(&scene);
		if (!heard)
			expect(&scene, FRAME_OPEN); /* hear() has compared the numbers */
		expect(&scene, FRAME_PING);
		expect_silence(&scene);
		assert_int_equal(info_of(&scene).resumes, 1);
		/* And the peer's frames go on, too. */
		say_u64(&scene, FRAME_PONG, 0);
		say_u64(&scene, FRAME_PING, 7);
		expect(&scene, FRAME_PONG);
		expect_state(&scene, LINK_UP);
		forget_program_channel(&scene);
		scene_stop(&scene);
	}
}

/* Its daemon may be an older or a newer one by then. */
TEST(what_the_peer_can_is_what_it_has_said_last)
{
	struct scene scene;

	scene_start(&scene);
	scene.peer_flags = HELLO_IDLES | HELLO_ASKS;
	begin_to_resume(&scene);
	assert_int_equal(info_of(&scene).flags, HELLO_IDLES | HELLO_ASKS);
	assert_string_equal(info_of(&scene).version, "1.1");
	leave(&scene);
	scene.peer_flags = HELLO_RELAYS;
	meet_again(&scene);
	assert_int_equal(info_of(&scene).flags, HELLO_IDLES | HELLO_ASKS);
	prove(&scene);
	go_on(&scene);
	assert_int_equal(info_of(&scene).flags, HELLO_RELAYS);
	assert_string_equal(info_of(&scene).version, "1.2");
	expect(&scene, FRAME_PING);
	scene_stop(&scene);
}

TEST(what_was_sent_again_and_lost_again_comes_again)
{
	struct scene scene;

	up_to_resume(&scene);
	open_channel(&scene);
	for (int times = 0; times < 3; times++) {
		struct frame_prove ours, theirs;

		leave(&scene);
		meet_again(&scene);
		if (times != 1) {
			prove(&scene);
			go_on(&scene);
			continue;
		}
		/* It leaves before it has read our RESUME, behind which OPEN lies. */
		hear_prove(&scene, &ours);
		theirs = good_prove(session.epoch);
		say_prove(&scene, &theirs);
		say_resume(&scene, session.received, ++session.epoch);
		expect_state(&scene, LINK_UP);
	}
	expect(&scene, FRAME_OPEN);
	expect(&scene, FRAME_PING);
	forget_program_channel(&scene);
	scene_stop(&scene);
}

/* Such as the answer to a ping that was relayed. */
TEST(what_is_sent_aside_of_channels_while_away_goes_out_later)
{
	static const uint8_t none[16];
	struct scene scene;

	for (int has_session = 0; has_session < 2; has_session++) {
		up_to_resume(&scene);
		leave(&scene);
		assert_int_equal(links_send(scene.links, peer_domain(7), FRAME_PONG, "1234567812345678", 16),
				 0);
		if (has_session) {
			meet_again(&scene);
			prove(&scene);
			go_on(&scene);
			expect(&scene, FRAME_PONG);
			assert_int_equal(scene.peer.header.length, 16);
		} else { /* to another session it means nothing */
			bring_vchan(&scene);
			hear_hello(&scene, HELLO_RESUME);
			hello_of_peer(&scene, HELLO_BEGIN, none, peer_instance);
			expect_state(&scene, LINK_UP);
			say_u64(&scene, FRAME_PING, 7);
			expect(&scene, FRAME_PONG);
			assert_int_equal(scene.peer.header.length, 8);
		}
		scene_stop(&scene);
	}
}

TEST(session_frames_right_behind_resume_count)
{
	struct frame_resume resume;
	uint8_t payload[FRAME_SMALL_MAX];
	struct scene scene;

	away(&scene);
	prove(&scene);
	resume = (struct frame_resume){.received = session.received, .epoch = ++session.epoch};
	put(&scene, FRAME_RESUME, 0, payload, frame_resume_encode(&resume, payload));
	scene.peer.unnumbered = false;
	scene.peer.sequence = session.sequence;
	scene.peer.heard_sequence = session.heard_sequence;
	say_u64(&scene, FRAME_PING, 9);
	expect_state(&scene, LINK_UP);
	expect(&scene, FRAME_PING);
	expect(&scene, FRAME_PONG);
	scene_stop(&scene);
}

TEST(peer_that_has_no_session_gets_a_new_one_over_the_same_vchan)
{
	static const uint8_t none[16], other[16] = "another instance";
	struct scene scene;

	for (int shape = 0; shape < 2; shape++) {
		up_to_resume(&scene);
		open_channel(&scene);
		leave(&scene);
		bring_vchan(&scene);
		hear_hello(&scene, HELLO_RESUME);
		/* What it sends behind its HELLO belongs to the new session already. */
		hello_of_peer(&scene, shape ? HELLO_RESUME : HELLO_BEGIN, shape ? session.token : none,
			      shape ? other : peer_instance);
		expect_state(&scene, LINK_UP);
		assert_int_equal(info_of(&scene).channels, 0);
		assert_int_equal(scene.ups, 2);
		assert_int_equal(scene.downs, 1);
		say_u64(&scene, FRAME_PING, 7);
		expect(&scene, FRAME_PONG);
		assert_int_equal(info_of(&scene).resumes, 0);
		forget_program_channel(&scene);
		scene_stop(&scene);
	}
}

/* It has been told by somebody else that he is we. */
TEST(peer_that_means_another_session_ends_none)
{
	static const uint8_t unknown[16] = "another session ";
	struct scene scene;

	up_to_resume(&scene);
	open_channel(&scene);
	leave(&scene);
	bring_vchan(&scene);
	scene.peer.unnumbered = true;
	hear_hello(&scene, HELLO_RESUME);
	hello_of_peer(&scene, HELLO_RESUME, unknown, peer_instance);
	expect_silence(&scene);
	assert_true(scene.peer.vchan->left);
	expect_state(&scene, LINK_AWAY);
	pass(&scene, AGAIN_MS);
	meet_again(&scene);
	prove(&scene);
	go_on(&scene);
	assert_int_equal(info_of(&scene).channels, 1);
	end_scene(&scene);
}

/* What still runs until the image is made may connect another vchan, of which the peer has to hear that it
 * was left. */
TEST(what_is_connected_during_a_hand_over_is_left)
{
	struct scene scene;

	up_to_resume(&scene);
	open_channel(&scene);
	leave(&scene);
	links_hand_over(scene.links, keeps_all, NULL);
	bring_vchan(&scene);
	assert_false(scene.peer.vchan->closed);
	links_leave_attempts(scene.links);
	assert_true(scene.peer.vchan->left);
	links_take_up(scene.links); /* as the next daemon does */
	pass(&scene, AGAIN_MS);
	meet_again(&scene);
	prove(&scene);
	go_on(&scene);
	assert_int_equal(info_of(&scene).channels, 1);
	end_scene(&scene);
}

/* The peers would go on to take it for what connects the two, if there can be no image. */
TEST(attempt_that_a_hand_over_leaves_has_ended_for_the_peers)
{
	struct scene scene;

	for (unsigned channels = 0; channels < 2; channels++) {
		reach(&scene, GREETING, channels);
		links_hand_over(scene.links, keeps_all, NULL);
		assert_true(scene.peer.vchan->left);
		assert_false(scene.is_connected);
		end_scene(&scene);
	}
	up_to_resume(&scene);
	leave(&scene);
	bring_vchan(&scene);
	links_hand_over(scene.links, keeps_all, NULL);
	assert_true(scene.peer.vchan->left);
	assert_false(scene.is_connected);
	end_scene(&scene);
}

/* For the peer, which may be away, a vchan that is closed is the end of the session. */
TEST(vchan_that_is_lost_while_the_old_one_is_read_is_left)
{
	struct scene scene;
	struct vchan *old;

	up_to_resume(&scene);
	old = scene.peer.vchan;
	scene.peer.vchan = NULL;
	bring_vchan(&scene);
	links_lost(scene.links, peer_domain(7), false, "it seems to have gone");
	assert_true(scene.peer.vchan->closed);
	assert_true(scene.peer.vchan->left);
	settle(&scene);
	expect_state(&scene, LINK_AWAY);
	assert_true(old->left);
	free(old);
	end_scene(&scene);
}

TEST(dead_daemons_session_ends_at_once)
{
	struct scene scene;

	up_to_resume(&scene);
	scene.peer.vchan->state = VCHAN_CLOSED;
	notify(&scene);
	expect_ended(&scene);
	away(&scene);
	scene.peer.vchan->state = VCHAN_CLOSED;
	notify(&scene);
	expect_ended(&scene);
	up_to_resume(&scene);
	leave(&scene);
	links_failed(scene.links, peer_domain(7), -EHOSTDOWN, "it isn't there"); /* it may have been saved */
	expect_state(&scene, LINK_AWAY);
	scene_stop(&scene);
	away(&scene);
	links_lost(scene.links, peer_domain(7), true, "its daemon was restarted");
	expect_ended(&scene);
}

/* Who hides its presence shows itself by its hello alone, and writes none for a moment between two
 * attempts. */
TEST(peer_that_seems_gone_for_a_moment_is_only_away)
{
	struct scene scene;

	up_to_resume(&scene);
	leave(&scene);
	for (int i = 0; i < 2; i++) {
		links_failed(scene.links, peer_domain(7), -EHOSTDOWN, "it isn't there");
		expect_state(&scene, LINK_AWAY);
		pass(&scene, AGAIN_MS);
	}
	meet_again(&scene);
	links_lost(scene.links, peer_domain(7), false, "the peer has withdrawn its hello");
	expect_state(&scene, LINK_AWAY);
	scene_stop(&scene);
}

TEST(goodbye_ends_the_session)
{
	struct scene scene;

	up_to_resume(&scene);
	say(&scene, FRAME_GOODBYE, "\0\0\0\0", 4);
	assert_int_equal(scene.anews, 0);
	expect_ended(&scene);
	/* It had the epoch, and then found that it is the older end: its number says nothing. */
	away(&scene);
	prove(&scene);
	go_on(&scene);
	scene.peer.unnumbered = true;
	say(&scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
	expect_state(&scene, LINK_IDLE);
	scene_stop(&scene);
	/* The same, a moment before. */
	away(&scene);
	prove(&scene);
	say(&scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
	expect_ended(&scene);
}

TEST(resume_for_ends_it)
{
	struct scene scene;

	for (int shape = 0; shape < 2; shape++) {
		up_to_resume(&scene);
		leave(&scene);
		if (shape) /* in the midst of an attempt */
			meet_again(&scene);
		for (uint64_t ms = 0; ms < RESUME_FOR_MS - AGAIN_MS; ms += AGAIN_MS / 2) {
			assert_int_not_equal(info_of(&scene).state, LINK_IDLE);
			pass(&scene, AGAIN_MS / 2);
		}
		assert_int_equal(info_of(&scene).state, LINK_AWAY);
		pass(&scene, AGAIN_MS + 50);
		expect_last_error(&scene, "resume-for");
		assert_int_equal(scene.anews, 1);
		expect_ended(&scene);
	}
}

TEST(peer_that_came_back_while_we_stood_still_is_resumed)
{
	struct scene scene;

	for (int is_back = 0; is_back < 2; is_back++) {
		up_to_resume(&scene);
		leave(&scene);
		pass(&scene, RESUME_FOR_MS + 5000);
		expect_state(&scene, LINK_AWAY);
		if (is_back) {
			meet_again(&scene);
			prove(&scene);
			go_on(&scene);
			scene_stop(&scene);
		} else {
			pass(&scene, AGAIN_MS);
			expect_last_error(&scene, "resume-for");
			expect_ended(&scene);
		}
	}
}

TEST(another_vchan_is_asked_for_again_and_again)
{
	struct scene scene;
	unsigned connects;

	up_to_resume(&scene);
	leave(&scene);
	for (int i = 0; i < 3; i++) {
		connects = scene.connects;
		links_failed(scene.links, peer_domain(7), -EHOSTUNREACH, "XenStore did not answer");
		expect_state(&scene, LINK_AWAY);
		pass(&scene, AGAIN_MS);
		assert_int_equal(scene.connects, connects + 1);
	}
	meet_again(&scene);
	prove(&scene);
	go_on(&scene);
	scene_stop(&scene);
}

TEST(daemon_that_stops_while_the_peer_is_away_leaves_nothing)
{
	struct scene scene;

	for (int shape = 0; shape < 2; shape++) {
		up_to_resume(&scene);
		open_channel(&scene);
		leave(&scene);
		if (shape)
			meet_again(&scene);
		links_free(scene.links);
		scene.links = NULL;
		assert_true(scene.peer.vchan->closed);
		forget_program_channel(&scene);
		scene_stop(&scene);
	}
}

/* It is no more than was in the ring, which is given back. */
TEST(what_is_kept_may_be_more_than_its_domain_may_let_wait)
{
	const struct quota_limits limits = {
		.pool = {[QUOTA_BYTES] = 1000},
		.max = {[QUOTA_PEER] = {[QUOTA_BYTES] = 1000}},
	};
	struct scene scene;

	for (int shape = 0; shape < 2; shape++) {
		struct quota *quota = quota_new(&limits);
		struct account *account = quota_account(quota, QUOTA_PEER, 7);
		struct charge charge;
		uint64_t used;

		scene_start(&scene);
		scene.relay.quota = quota;
		begin_to_resume(&scene);
		open_channel(&scene);
		charge_init(&charge, account);
		assert_int_equal(charge_add(&charge, QUOTA_BYTES, shape ? 490 : 400), 0);
		scene.peer.vchan->state = VCHAN_CLOSED;
		scene.peer.vchan->was_left = true;
		notify(&scene);
		expect_state(&scene, LINK_AWAY);
		used = account_usage(account, QUOTA_BYTES).used;
		assert_true(shape ? used > 500 : used > 400); /* of 500 that one account may have */
		assert_int_equal(charge_add(&charge, QUOTA_BYTES, 1), shape ? -ENOBUFS : 0);
		links_free(scene.links);
		scene.links = NULL;
		charge_end(&charge);
		assert_int_equal(account_usage(account, QUOTA_BYTES).used, 0);
		forget_program_channel(&scene);
		scene_stop(&scene);
		account_unref(account);
		quota_free(quota);
	}
}

static int no_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	return -EPROTO;
}

/* A vchan is lost before what the one before it had left was sent again. */
TEST(what_is_kept_a_second_time_is_paid_for_once)
{
	static const struct hop_callbacks callbacks = {.control = no_control};
	const struct quota_limits limits = {
		.pool = {[QUOTA_BYTES] = 1000},
		.max = {[QUOTA_PEER] = {[QUOTA_BYTES] = 1000}},
	};
	struct quota *quota = quota_new(&limits);
	struct account *account = quota_account(quota, QUOTA_PEER, 7);
	struct private_ring *rings = calloc(4, sizeof(*rings));
	struct ring_view in = private_ring_view(&rings[0]), out = private_ring_view(&rings[1]);
	struct hop_rings first = {.in = in, .out = {[OUTLET_MAIN] = out}};
	struct ring_reader reader;
	struct ring_writer writer;
	struct scene scene;
	uint8_t payload[8];
	struct hop hop;
	uint64_t used;

	scene_start(&scene);
	assert_int_equal(hop_init(&hop, &scene.relay, HOP_LINK, &callbacks, &hop, 0, 16), 0);
	hop_set_account(&hop, account_ref(account));
	assert_int_equal(hop_attach(&hop, &first), 0);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(hop_send(&hop, FRAME_PING, 0, 0, payload, frame_u64_encode(i, payload)), 0);
	settle(&scene);
	assert_int_equal(hop_pause(&hop), 0);
	used = account_usage(account, QUOTA_BYTES).used;
	assert_int_equal(used, hop_sent(&hop));
	assert_true(used > 250); /* of 500 that one account may have */
	in = private_ring_view(&rings[2]);
	out = private_ring_view(&rings[3]);
	assert_int_equal(ring_reader_init(&reader, &in, false), 0);
	assert_int_equal(ring_writer_init(&writer, &out, false), 0);
	hop_resume(&hop, &reader, &writer, 0);
	assert_int_equal(hop_pause(&hop), 0);
	assert_int_equal(account_usage(account, QUOTA_BYTES).used, used);
	assert_int_equal(hop_acked(&hop), 0);
	hop_cleanup(&hop);
	assert_int_equal(account_usage(account, QUOTA_BYTES).used, 0);
	scene_stop(&scene);
	account_unref(account);
	quota_free(quota);
	free(rings);
}

TEST(time_away_is_none_in_which_a_ping_could_be_answered)
{
	struct scene scene;
	uint64_t token;

	up_to_resume(&scene);
	assert_int_equal(links_ping(scene.links, peer_domain(7), NULL, on_pong, &scene, 77), 0);
	expect(&scene, FRAME_PING);
	token = get_u64(scene.peer.payload);
	session.received += frame_size(scene.peer.header.length);
	leave(&scene);
	for (uint64_t ms = 0; ms < DEAD_AFTER_MS; ms += HEARTBEAT_MS)
		pass(&scene, HEARTBEAT_MS);
	expect_state(&scene, LINK_AWAY);
	meet_again(&scene);
	prove(&scene);
	go_on(&scene);
	pass(&scene, HEARTBEAT_MS);
	assert_int_equal(scene.pongs, 0);
	say_u64(&scene, FRAME_PONG, token);
	assert_int_equal(scene.pongs, 1);
	assert_true(scene.pong > 0);
	scene_stop(&scene);
}
