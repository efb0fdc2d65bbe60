/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A link's session that has lost its vchan and goes on over another one, and when it ends instead.
 */
#include "tests/unit/resume_rig.h"

#include "wire/bytes.h"

SCENE_TEST_EACH(what_the_peer_has_not_processed_comes_again_with_its_number, up_to_resume, heard, 2)
{
	open_channel(scene);
	if (heard) {
		expect(scene, FRAME_OPEN);
		count_heard(scene);
	}
	leave(scene);
	assert_int_equal(info_of(scene).channels, 1);
	resume(scene);
	if (!heard)
		expect(scene, FRAME_OPEN); /* hear() has compared the numbers */
	expect(scene, FRAME_PING);
	expect_silence(scene);
	assert_int_equal(info_of(scene).resumes, 1);
	/* And the peer's frames go on, too. */
	say_u64(scene, FRAME_PONG, 0);
	say_u64(scene, FRAME_PING, 7);
	expect(scene, FRAME_PONG);
	expect_state(scene, LINK_UP);
}

/* Its daemon may have other settings by then. */
SCENE_TEST(what_the_peer_can_is_what_it_has_said_last, scene_start)
{
	scene->peer_flags = HELLO_OBEYS;
	begin_to_resume(scene);
	assert_int_equal(info_of(scene).flags, HELLO_OBEYS | HELLO_RESUMES);
	assert_string_equal(info_of(scene).version, "1.1");
	leave(scene);
	scene->peer_flags = HELLO_RELAYS;
	meet_again(scene);
	assert_int_equal(info_of(scene).flags, HELLO_OBEYS | HELLO_RESUMES);
	prove(scene);
	go_on(scene);
	assert_int_equal(info_of(scene).flags, HELLO_RELAYS | HELLO_RESUMES);
	assert_string_equal(info_of(scene).version, "1.2");
	expect(scene, FRAME_PING);
}

SCENE_TEST(what_was_sent_again_and_lost_again_comes_again, up_to_resume)
{
	open_channel(scene);
	for (int times = 0; times < 3; times++) {
		leave(scene);
		meet_again(scene);
		if (times != 1) {
			prove(scene);
			go_on(scene);
			continue;
		}
		/* It leaves before it has read our RESUME, behind which OPEN lies. */
		hear_prove(scene);
		say_prove(scene, good_prove(session.epoch));
		say_resume(scene, session.received, ++session.epoch);
		expect_state(scene, LINK_UP);
	}
	expect(scene, FRAME_OPEN);
	expect(scene, FRAME_PING);
}

/* Such as the answer to a ping that was relayed. */
SCENE_TEST_EACH(what_is_sent_aside_of_channels_while_away_goes_out_later, up_to_resume, has_session, 2)
{
	leave(scene);
	assert_int_equal(links_send(scene->links, peer_domain(7), FRAME_PONG, "1234567812345678", 16), 0);
	if (has_session) {
		resume(scene);
		expect(scene, FRAME_PONG);
		assert_int_equal(scene->peer.header.length, 16);
	} else { /* to another session it means nothing */
		begin_anew(scene, NAMES_SESSION);
		say_u64(scene, FRAME_PING, 7);
		expect(scene, FRAME_PONG);
		assert_int_equal(scene->peer.header.length, 8);
	}
}

SCENE_TEST(session_frames_right_behind_resume_count, away)
{
	prove(scene);
	put_resume(scene);
	say_u64(scene, FRAME_PING, 9);
	expect_state(scene, LINK_UP);
	expect(scene, FRAME_PING);
	expect(scene, FRAME_PONG);
}

SCENE_TEST_EACH(peer_that_has_no_session_gets_a_new_one_over_the_same_vchan, up_to_resume, shape, 2)
{
	static const uint8_t other[16] = "another instance";

	open_channel(scene);
	leave(scene);
	bring_vchan(scene);
	hear_hello(scene, NAMES_SESSION);
	/* What it sends behind its HELLO belongs to the new session already. */
	hello_of_peer(scene, shape ? NAMES_SESSION : NAMES_NONE, shape ? other : peer_instance);
	expect_state(scene, LINK_UP);
	assert_int_equal(info_of(scene).channels, 0);
	assert_int_equal(scene->ups, 2);
	assert_int_equal(scene->downs, 1);
	say_u64(scene, FRAME_PING, 7);
	expect(scene, FRAME_PONG);
	assert_int_equal(info_of(scene).resumes, 0);
}

/* What still runs until the image is made may connect another vchan, of which the peer has to hear that it
 * was left. */
SCENE_TEST(what_is_connected_during_a_hand_over_is_left, up_to_resume)
{
	open_channel(scene);
	leave(scene);
	hand_over(scene);
	bring_vchan(scene);
	assert_false(scene->peer.vchan->closed);
	links_leave_attempts(scene->links);
	assert_true(scene->peer.vchan->left);
	links_take_up(scene->links); /* as the next daemon does */
	pass(scene, AGAIN_MS);
	resume(scene);
	assert_int_equal(info_of(scene).channels, 1);
}

SCENE_TEST(all_links_that_a_hand_over_has_left_are_asked_for, up_to_resume)
{
	static const uint8_t other[16] = "another instance";

	scene->was = 7;
	scene->peer = (struct peer){.domid = 8};
	connect_peer(scene);
	hear_hello(scene, NAMES_NONE);
	hello_of_peer(scene, NAMES_NONE, other);
	expect_state_of(scene, 8, LINK_UP);
	hand_over(scene);
	expect_state_of(scene, 7, LINK_AWAY);
	expect_state_of(scene, 8, LINK_AWAY);
	scene->connects = 0;
	links_take_up(scene->links); /* as the next daemon does */
	assert_int_equal(scene->connects, 2);
}

/* The peers would go on to take it for what connects the two, if there can be no image. */
enum { GREETS, GREETS_WITH_CHANNEL, RESUMES, ATTEMPTS };

SCENE_TEST_EACH(attempt_that_a_hand_over_leaves_has_ended_for_the_peers, scene_start, attempt, ATTEMPTS)
{
	if (attempt == RESUMES) {
		begin_to_resume(scene);
		leave(scene);
		bring_vchan(scene);
	} else {
		reach(scene, GREETING, attempt == GREETS_WITH_CHANNEL);
	}
	hand_over(scene);
	assert_true(scene->peer.vchan->left);
	assert_false(scene->is_connected);
}

/* For the peer, which may be away, a vchan that is closed is the end of the session. */
SCENE_TEST(vchan_that_is_lost_while_the_old_one_is_read_is_left, up_to_resume)
{
	struct vchan *old = scene->peer.vchan;

	bring_vchan(scene);
	links_lost(scene->links, peer_domain(7), false, "it seems to have gone");
	assert_true(scene->peer.vchan->closed);
	assert_true(scene->peer.vchan->left);
	settle(scene);
	expect_state(scene, LINK_AWAY);
	assert_true(old->left);
}

/* Nor is anything resumed where XenStore, or domain 0, says it first. */
SCENE_TEST_EACH(dead_daemons_session_ends_though_its_leaves_go_first, up_to_resume, is_dead, 2)
{
	scene->peer.vchan->has_died = is_dead;
	if (is_dead)
		scene->peer.vchan->state = VCHAN_CLOSED; /* no event has told it yet */
	links_lost(scene->links, peer_domain(7), false, "it seems to have gone");
	settle(scene);
	expect_state(scene, is_dead ? LINK_IDLE : LINK_AWAY);
}

SCENE_TEST_EACH(dead_daemons_session_ends_at_once, up_to_resume, is_away, 2)
{
	if (is_away) {
		leave(scene);
		meet_again(scene);
	}
	close_by_peer(scene);
	expect_ended(scene);
}

SCENE_TEST(session_with_who_was_away_ends_when_another_daemon_runs, away)
{
	lose(scene, true);
	expect_ended(scene);
}

/* Who hides its presence shows itself by its hello alone, and writes none for a moment between two
 * attempts. */
SCENE_TEST(peer_that_seems_gone_for_a_moment_is_only_away, up_to_resume)
{
	leave(scene);
	for (int i = 0; i < 2; i++) {
		links_failed(scene->links, peer_domain(7), -EHOSTDOWN, "it isn't there");
		expect_state(scene, LINK_AWAY);
		pass(scene, AGAIN_MS);
	}
	meet_again(scene);
	lose(scene, false);
	expect_state(scene, LINK_AWAY);
}

SCENE_TEST(goodbye_ends_the_session, up_to_resume)
{
	say(scene, FRAME_GOODBYE, "\0\0\0\0", 4);
	assert_int_equal(scene->anews, 0);
	expect_ended(scene);
}

/* It had the epoch, or was about to have it, and then found that it is the older end: its number says
 * nothing. */
SCENE_TEST_EACH(goodbye_of_the_older_end_ends_the_session, away, has_epoch, 2)
{
	prove(scene);
	if (has_epoch)
		go_on(scene);
	scene->peer.unnumbered = true;
	say(scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
	expect_ended(scene);
}

SCENE_TEST_EACH(resume_for_ends_it, up_to_resume, shape, 2)
{
	leave(scene);
	if (shape) /* in the midst of an attempt */
		meet_again(scene);
	for (uint64_t ms = 0; ms < RESUME_FOR_MS - AGAIN_MS; ms += AGAIN_MS / 2) {
		assert_int_not_equal(info_of(scene).state, LINK_IDLE);
		pass(scene, AGAIN_MS / 2);
	}
	assert_int_equal(info_of(scene).state, LINK_AWAY);
	pass(scene, AGAIN_MS + 50);
	expect_last_error(scene, "resume-for");
	assert_int_equal(scene->anews, 1);
	expect_ended(scene);
}

SCENE_TEST_EACH(peer_that_came_back_while_we_stood_still_is_resumed, up_to_resume, is_back, 2)
{
	leave(scene);
	pass(scene, RESUME_FOR_MS + 5000);
	expect_state(scene, LINK_AWAY);
	if (is_back) {
		resume(scene);
		return;
	}
	pass(scene, AGAIN_MS);
	expect_last_error(scene, "resume-for");
	expect_ended(scene);
}

SCENE_TEST(another_vchan_is_asked_for_again_and_again, up_to_resume)
{
	unsigned connects;

	leave(scene);
	for (int i = 0; i < 3; i++) {
		connects = scene->connects;
		links_failed(scene->links, peer_domain(7), -EHOSTUNREACH, "XenStore did not answer");
		expect_state(scene, LINK_AWAY);
		pass(scene, AGAIN_MS);
		assert_int_equal(scene->connects, connects + 1);
	}
	resume(scene);
}

SCENE_TEST_EACH(daemon_that_stops_while_the_peer_is_away_leaves_nothing, up_to_resume, shape, 2)
{
	open_channel(scene);
	leave(scene);
	if (shape)
		meet_again(scene);
	stop_links(scene);
	assert_true(scene->peer.vchan->closed);
}

/* It is no more than was in the ring, which is given back. */
SCENE_TEST_EACH(what_is_kept_may_be_more_than_its_domain_may_let_wait, scene_start, is_more, 2)
{
	struct charge charge;
	uint64_t used;

	set_limits(scene, 500, 0);
	begin_to_resume(scene);
	open_channel(scene);
	charge_to(&charge, scene, 7);
	assert_int_equal(charge_add(&charge, QUOTA_BYTES, is_more ? 490 : 400), 0);
	leave(scene);
	used = used_by(scene, 7, QUOTA_BYTES);
	assert_true(is_more ? used > 500 : used > 400);
	assert_int_equal(charge_add(&charge, QUOTA_BYTES, 1), is_more ? -ENOBUFS : 0);
	stop_links(scene);
	charge_end(&charge);
	assert_int_equal(used_by(scene, 7, QUOTA_BYTES), 0);
}

static int no_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	return -EPROTO;
}

/* A vchan is lost before what the one before it had left was sent again. */
SCENE_TEST(what_is_kept_a_second_time_is_paid_for_once, scene_start)
{
	static const struct hop_callbacks callbacks = {.control = no_control};
	struct private_ring *rings = calloc(4, sizeof(*rings));
	struct ring_view in = private_ring_view(&rings[0]), out = private_ring_view(&rings[1]);
	struct hop_rings first = {.in = in, .out = {[OUTLET_MAIN] = out}};
	struct ring_reader reader;
	struct ring_writer writer;
	uint8_t payload[8];
	struct hop hop;
	uint64_t used;

	set_limits(scene, 500, 0);
	assert_int_equal(hop_init(&hop, &scene->board, HOP_LINK, &callbacks, &hop, 0, 16), 0);
	hop_set_account(&hop, quota_account(scene->quota, QUOTA_PEER, 7));
	assert_int_equal(hop_attach(&hop, &first), 0);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(hop_send(&hop, FRAME_PING, 0, 0, payload, frame_u64_encode(i, payload)), 0);
	settle(scene);
	assert_int_equal(hop_pause(&hop), 0);
	used = used_by(scene, 7, QUOTA_BYTES);
	assert_int_equal(used, hop_sent(&hop));
	assert_true(used > 250); /* or it could be paid for twice */
	in = private_ring_view(&rings[2]);
	out = private_ring_view(&rings[3]);
	assert_int_equal(ring_reader_init(&reader, &in, false), 0);
	assert_int_equal(ring_writer_init(&writer, &out, false), 0);
	hop_resume(&hop, &reader, &writer, 0);
	assert_int_equal(hop_pause(&hop), 0);
	assert_int_equal(used_by(scene, 7, QUOTA_BYTES), used);
	assert_int_equal(hop_acked(&hop), 0);
	hop_cleanup(&hop);
	assert_int_equal(used_by(scene, 7, QUOTA_BYTES), 0);
	free(rings);
}
