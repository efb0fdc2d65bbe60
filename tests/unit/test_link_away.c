/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What else happens while a session is away, is being resumed, or moves: each case of the walk in
 * resume_step.h. */
#include "tests/unit/resume_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/link/link_internal.h"
#include "daemon/link/vchan_transport.h"
#include "daemon/relay/channel.h"
#include "wire/bytes.h"

static void expect_reset(struct scene *scene, uint32_t channel, int error)
{
	struct frame_reset reset;

	expect(scene, FRAME_RESET);
	assert_int_equal(scene->peer.header.channel, channel);
	assert_int_equal(frame_reset_decode(scene->peer.payload, scene->peer.header.length, &reset), 0);
	assert_int_equal(reset.error, error);
}

static void answer_reset(struct scene *scene, uint32_t channel)
{
	const struct frame_reset reset = {.error = ECONNRESET};
	uint8_t payload[FRAME_SMALL_MAX];

	put(scene, FRAME_RESET, channel, payload, frame_reset_encode(&reset, payload));
	notify(scene);
	assert_int_equal(info_of(scene).channels, 0);
}

/* The peer's channel 2 to an endpoint of the program. */
static struct channel *accept_channel(struct scene *scene)
{
	struct channel *channel;
	int error = 0;

	assert_int_equal(channel_new(links_want(scene->links, peer_domain(7), NULL, &error), 2,
				     CHANNEL_MESSAGE, &(struct frame_identity){.domid = 7}, &channel),
			 0);
	assert_int_equal(channel_accept(channel, &scene->program, "inbox"), 0);
	return channel;
}

/* --- a program ends ------------------------------------------------------------------------------- */

TEST(program_that_ends_while_the_peer_is_away_has_ended_then)
{
	enum { OPENED_BEFORE, OPENED_MEANWHILE, ACCEPTED, SHAPES };
	struct scene scene;

	for (int shape = 0; shape < SHAPES; shape++) {
		for (int twice = 0; twice < 2; twice++) { /* lost once more before the peer has read of it */
			uint32_t number = shape == ACCEPTED ? 2 : 1;

			up_to_resume(&scene);
			if (shape == OPENED_BEFORE)
				number = open_channel(&scene)->acceptor.number;
			if (shape == ACCEPTED)
				accept_channel(&scene);
			leave(&scene);
			if (shape == OPENED_MEANWHILE)
				number = open_channel(&scene)->acceptor.number;
			forget_program_channel(&scene);
			assert_int_equal(scene.program.channels.count, 0);
			meet_again(&scene);
			prove(&scene);
			go_on(&scene);
			if (twice) {
				leave(&scene);
				meet_again(&scene);
				prove(&scene);
				go_on(&scene);
			}
			if (shape == OPENED_BEFORE)
				expect(&scene, FRAME_OPEN);
			expect(&scene, FRAME_PING);
			if (shape == OPENED_MEANWHILE)
				expect(&scene, FRAME_OPEN);
			expect_reset(&scene, number, shape == ACCEPTED ? ENOENT : ECONNRESET);
			if (twice)
				expect(&scene, FRAME_PING);
			expect_silence(&scene);
			answer_reset(&scene, number);
			scene_stop(&scene);
		}
	}
}

TEST(program_that_ends_before_there_is_a_link_leaves_nothing)
{
	struct scene scene;

	for (int shape = 0; shape < 2; shape++) {
		uint32_t number;

		scene_start(&scene);
		number = open_channel(&scene)->acceptor.number;
		expect_state(&scene, LINK_CONNECTING);
		forget_program_channel(&scene);
		if (shape == 0) {
			links_failed(scene.links, peer_domain(7), -EHOSTUNREACH, "it isn't willing");
			expect_state(&scene, LINK_IDLE);
			assert_int_equal(info_of(&scene).channels, 0);
			scene_stop(&scene);
			continue;
		}
		/* It may have sent something. */
		begin_to_resume(&scene);
		expect(&scene, FRAME_OPEN);
		expect_reset(&scene, number, ECONNRESET);
		expect_silence(&scene);
		answer_reset(&scene, number);
		scene_stop(&scene);
	}
}

/* --- a restore before the last one is over ---------------------------------------------------------- */

/* The peer's domain has another number: only its claim is there yet. */
static void come_as(struct scene *scene, uint32_t domid)
{
	scene->peer.domid = session.domid = domid;
	memcpy(scene->instances[domid], peer_instance, sizeof(peer_instance));
	meet_again(scene);
}

TEST(peer_saved_again_before_its_proof_comes_back_once_more)
{
	enum { GREETED, PROVING, RESUMING, STAGES };
	enum { SAVED, LOST, LEFT, SILENT, WAYS };
	struct frame_prove ours;
	struct link_info info;
	struct vchan *before;
	struct scene scene;

	for (int stage = 0; stage < STAGES; stage++) {
		for (int way = 0; way < WAYS; way++) {
			up_to_resume(&scene);
			open_channel(&scene);
			leave(&scene);
			scene.was = 7;
			scene.other = 9;
			if (stage == GREETED) {
				scene.peer.domid = session.domid = 9;
				memcpy(scene.instances[9], peer_instance, sizeof(peer_instance));
				bring_vchan(&scene);
				scene.peer.unnumbered = true;
				hear_hello(&scene, HELLO_RESUME);
			} else {
				come_as(&scene, 9);
				if (stage == PROVING)
					hear_prove(&scene, &ours);
				else
					prove(&scene);
			}
			if (way == SAVED) /* domain 0 sees that: an attempt has nothing that would be lost */
				links_saved(scene.links, 9);
			if (way == LEFT) {
				scene.peer.vchan->state = VCHAN_CLOSED;
				scene.peer.vchan->was_left = true;
				notify(&scene);
			} else if (way == SILENT) {
				for (unsigned ms = 0; ms < DEAD_AFTER_MS + HEARTBEAT_MS; ms += HEARTBEAT_MS)
					pass(&scene, HEARTBEAT_MS);
			} else {
				links_lost(scene.links, peer_domain(9), false, "it has gone");
			}
			settle(&scene);
			assert_true(scene.peer.vchan->closed);
			/* The session is away, wherever it is. */
			assert_true(links_info(scene.links, peer_domain(stage == RESUMING ? 9 : 7), &info));
			assert_int_equal(info.state, LINK_AWAY);
			assert_int_equal(info.channels, 1);
			before = scene.peer.vchan;
			scene.peer.vchan = NULL;
			come_as(&scene, 11);
			prove(&scene);
			go_on(&scene);
			assert_int_equal(scene.moves, 1); /* from 7 to 11 at once */
			assert_int_equal(info_of(&scene).channels, 1);
			expect(&scene, FRAME_OPEN);
			expect(&scene, FRAME_PING);
			expect_silence(&scene);
			end_scene(&scene);
			free(before);
		}
	}
}

TEST(domain_restored_again_before_it_found_its_peer_finds_it)
{
	enum { AT_ONCE, AFTER_GOING_ON, PROVING, RESUMING, STAGES };
	struct frame_prove ours;
	struct link_info info;
	struct scene scene;

	for (int stage = 0; stage < STAGES; stage++) {
		struct vchan *before = NULL;

		up_to_resume(&scene);
		open_channel(&scene);
		leave(&scene);
		memcpy(scene.instances[7], peer_instance, sizeof(peer_instance));
		links_restart(scene.links);
		if (stage != AT_ONCE)
			links_go_on(scene.links);
		if (stage >= PROVING) {
			meet_again(&scene);
			if (stage == PROVING)
				hear_prove(&scene, &ours);
			else
				prove(&scene);
			before = scene.peer.vchan;
			scene.peer.vchan = NULL;
		}
		scene.connects = 0;
		links_restart(scene.links);
		if (before)
			assert_true(before->closed);
		pass(&scene, AGAIN_MS);
		assert_int_equal(scene.connects, 0);
		/* No number has two sessions, nor one none. */
		assert_int_equal(links_count(scene.links), 1);
		assert_true(links_next(scene.links, NULL, &info));
		assert_int_equal(info.peer.number, 7);
		assert_int_equal(info.state, LINK_AWAY);
		assert_int_equal(info.channels, 1);
		links_go_on(scene.links);
		assert_int_equal(scene.connects, 1);
		meet_again(&scene);
		prove(&scene);
		go_on(&scene);
		assert_int_equal(links_count(scene.links), 1);
		assert_int_equal(info_of(&scene).channels, 1);
		expect(&scene, FRAME_OPEN);
		expect(&scene, FRAME_PING);
		expect_silence(&scene);
		end_scene(&scene);
		free(before);
	}
}

/* An image and its original: both know the secret. The second one proves it while the first one is being
 * resumed. */
TEST(of_two_that_prove_the_same_session_one_goes_on)
{
	struct frame_prove ours;
	struct scene scene;

	for (int mapped = 0; mapped < 2; mapped++) {
		struct resumed_session first, second;
		struct peer original, image;
		struct vchan *old;

		maps = mapped;
		up_to_resume(&scene);
		open_channel(&scene);
		leave(&scene);
		old = scene.peer.vchan;
		scene.peer.vchan = NULL;
		scene.was = 7;
		come_as(&scene, 9);
		hear_prove(&scene, &ours);
		original = scene.peer;
		first = session;
		scene.other = 9;
		scene.peer = (struct peer){.domid = 11};
		come_as(&scene, 11);
		hear_prove(&scene, &ours);
		ours = good_prove(1);
		say_prove(&scene, &ours);
		expect(&scene, FRAME_RESUME);
		image = scene.peer;
		second = session;

		/* The original proves itself, too. Who maps has begun an epoch, of which that one knows
		 * nothing. */
		scene.other = 11;
		scene.peer = original;
		session = first;
		ours = good_prove(1);
		say_prove(&scene, &ours);
		if (mapped) {
			expect_silence(&scene);
			assert_true(original.vchan->closed && original.vchan->left);
			scene.other = 9;
			scene.peer = image;
			session = second;
		} else {
			expect(&scene, FRAME_RESUME);
			assert_true(image.vchan->closed && image.vchan->left);
		}
		go_on(&scene);
		assert_int_equal(scene.moves, 1);
		assert_int_equal(info_of(&scene).resumes, 1);
		expect(&scene, FRAME_OPEN);
		expect(&scene, FRAME_PING);
		expect_silence(&scene);
		end_scene(&scene);
		free(mapped ? original.vchan : image.vchan);
		free(old);
	}
	maps = false;
}

/* --- accounts ------------------------------------------------------------------------------------- */

static uint64_t bytes_of(struct quota *quota, uint32_t domid)
{
	struct account *account = quota_account(quota, QUOTA_PEER, domid);
	uint64_t used = account_usage(account, QUOTA_BYTES).used;

	account_unref(account);
	return used;
}

static void fill(struct quota *quota, uint32_t domid, struct charge *charge)
{
	struct account *account = quota_account(quota, QUOTA_PEER, domid);

	charge_init(charge, account);
	while (charge_add(charge, QUOTA_BYTES, 1) == 0)
		;
	account_unref(account);
}

/* What was kept for it is still sent, and given back; nothing else is let wait for it meanwhile. */
TEST(peer_whose_account_is_full_comes_back_to_all_that_was_kept)
{
	const struct quota_limits limits = {
		.pool = {[QUOTA_BYTES] = 1u << 20},
		.max = {[QUOTA_PEER] = {[QUOTA_BYTES] = 1000}},
	};

	for (int shape = 0; shape < 2; shape++) { /* under its number, or another one */
		struct quota *quota = quota_new(&limits);
		struct charge before;
		struct scene scene;
		uint64_t kept;

		scene_start(&scene);
		scene.relay.quota = quota;
		begin_to_resume(&scene);
		open_channel(&scene);
		leave(&scene);
		kept = bytes_of(quota, 7);
		assert_true(kept > 0);
		fill(quota, 7, &before);
		assert_int_equal(bytes_of(quota, 7), 1000);
		if (shape) {
			scene.was = 7;
			come_as(&scene, 9);
		} else {
			meet_again(&scene);
		}
		prove(&scene);
		go_on(&scene);
		expect(&scene, FRAME_OPEN);
		expect(&scene, FRAME_PING);
		expect_silence(&scene);
		assert_int_equal(bytes_of(quota, scene.peer.domid), 1000 - kept);
		charge_end(&before);
		links_free(scene.links);
		scene.links = NULL;
		assert_int_equal(bytes_of(quota, 7) + bytes_of(quota, 9), 0);
		forget_program_channel(&scene);
		scene_stop(&scene);
		quota_free(quota);
	}
}

/* --- a session that can't be resumed ----------------------------------------------------------------- */

/* Opened before the peer has said that it knows nothing of the session. */
TEST(what_was_never_said_goes_over_the_session_begun_instead)
{
	static const uint8_t none[16];
	struct scene scene;

	up_to_resume(&scene);
	open_channel(&scene);
	expect(&scene, FRAME_OPEN);
	leave(&scene);
	open_channel(&scene);
	assert_int_equal(links_ping(scene.links, peer_domain(7), NULL, on_pong, &scene, 77), 0);
	assert_int_equal(info_of(&scene).channels, 2);
	bring_vchan(&scene);
	hear_hello(&scene, HELLO_RESUME);
	hello_of_peer(&scene, HELLO_BEGIN, none, peer_instance);
	expect_state(&scene, LINK_UP);
	assert_int_equal(info_of(&scene).channels, 1);
	scene.peer.unnumbered = false;
	scene.peer.heard_sequence = 1;
	expect(&scene, FRAME_PING);
	assert_int_equal(scene.pongs, 0);
	expect(&scene, FRAME_OPEN);
	expect_silence(&scene);
	end_scene(&scene);
}

TEST(what_waits_for_who_only_claims_goes_over_the_next_link)
{
	struct frame_prove ours, theirs;
	struct scene scene;

	up_to_resume(&scene);
	leave(&scene);
	scene.was = 7;
	come_as(&scene, 9);
	open_channel(&scene);
	hear_prove(&scene, &ours);
	theirs = good_prove(1);
	theirs.proof[7] ^= 1;
	scene.connects = 0;
	say_prove(&scene, &theirs);
	assert_true(scene.peer.vchan->closed);
	expect_state(&scene, LINK_CONNECTING);
	assert_int_equal(scene.connects, 1);
	assert_int_equal(info_of(&scene).channels, 1);
	memset(scene.instances[9], 1, sizeof(scene.instances[9]));
	greet(&scene);
	expect(&scene, FRAME_OPEN);
	expect_silence(&scene);
	end_scene(&scene);
}

/* By the domain's number, before it was looked whether a daemon is there. */
TEST(what_waits_for_a_session_lost_by_a_save_goes_over_the_next)
{
	enum { SAME, ANOTHER, OTHER_NUMBER, SHAPES };
	static const uint8_t none[16];
	struct scene scene;

	for (int shape = 0; shape < SHAPES; shape++) {
		struct frame_identity identity = {.domid = OWN};
		struct channel *channel;
		int error;

		up_to_resume(&scene);
		memcpy(scene.instances[7], peer_instance, sizeof(peer_instance));
		links_restart(scene.links);
		scene.is_up = false;
		links_go_on(scene.links);
		assert_int_equal(channel_new(&scene.program, 0, CHANNEL_MESSAGE, &identity, &channel), 0);
		assert_int_equal(
			channel_accept(channel,
				       links_want(scene.links, links_meant(scene.links, 7), NULL, &error),
				       "x"),
			0);
		scene.is_up = true;
		if (shape != SAME)
			memset(scene.instances[7], 1, sizeof(scene.instances[7]));
		scene.was = 7;
		if (shape == OTHER_NUMBER)
			scene.peer.domid = 9;
		bring_vchan(&scene);
		hear_hello(&scene, shape == SAME ? HELLO_RESUME : HELLO_BEGIN);
		hello_of_peer(&scene, HELLO_BEGIN, none, shape == ANOTHER ? none : peer_instance);
		expect_state(&scene, LINK_UP);
		scene.peer.unnumbered = false;
		scene.peer.heard_sequence = 1;
		if (shape == SAME)
			expect(&scene, FRAME_OPEN);
		expect_silence(&scene);
		assert_int_equal(info_of(&scene).channels, shape == SAME ? 1 : 0);
		end_scene(&scene);
	}
}
